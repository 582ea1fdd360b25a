package pep

import (
	"bytes"
	"context"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// maxArrivals is for how many sessions at a time the newest items are looked up.
const maxArrivals = 8

// arrival is a session for which that is being done.
type arrival struct {
	session feature.SessionRef
	nodes   []string
	changed bool // nodes is newer than what is being done
}

// Notify takes note of which nodes a session wants to hear of, and has it sent the
// newest item of each that it didn't hear of before: the own account's and those
// of contacts (XEP-0163 4.3.3, 4.3.4). It doesn't block; nodes must not change.
func (s *Service) Notify(session feature.SessionRef, nodes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	j := session.JID()
	if a := s.coming[j]; a != nil {
		a.session, a.nodes, a.changed = session, nodes, true
		return
	}
	s.coming[j] = &arrival{session: session, nodes: nodes}
	s.wg.Go(func() { s.arrive(j) })
}

// arrive does what Notify promises, until there is nothing newer to do.
func (s *Service) arrive(j jid.JID) {
	s.work <- struct{}{}
	defer func() { <-s.work }()
	for {
		s.mu.Lock()
		a := s.coming[j]
		session, nodes := a.session, a.nodes
		a.changed = false
		s.mu.Unlock()
		// An error means that the session or the server is at its end, or that the
		// store fails, which whoever writes finds out.
		if added, err := session.SetEvents(s.ctx, nodes); err == nil && len(added) > 0 {
			s.sendLast(s.ctx, session, added)
		}
		s.mu.Lock()
		if done := !a.changed || s.closed; done {
			delete(s.coming, j)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// maxRounds is how often items are looked up again because newer ones came.
const maxRounds = 4

// sendLast sends a session the newest items of nodes. They are looked up again
// once they are sent: what is published later is announced after that, and if
// something was before, the session is sent it once more. So what it hears last of
// a node is its newest item.
func (s *Service) sendLast(ctx context.Context, session feature.SessionRef, nodes []string) {
	owners, err := session.Owner().Watched(ctx)
	if err != nil {
		return
	}
	owners = append(owners, session.JID().Bare())
	type key struct {
		owner jid.JID
		node  string
	}
	sent := map[key]store.EventLast{}
	for range maxRounds {
		last, err := s.opt.Store.EventsLast(ctx, owners, nodes)
		if err != nil {
			return
		}
		news := false
		for _, l := range last {
			k := key{l.Owner, l.Node}
			before, again := sent[k]
			if again && before.ID == l.ID && before.At.Equal(l.At) && bytes.Equal(before.Payload, l.Payload) {
				continue
			}
			sent[k], news = l, true
			if err := s.sendItem(ctx, session, &l); err != nil {
				return
			}
		}
		if !news {
			return
		}
	}
}

// sendItem sends a session an item, if the node allows it.
func (s *Service) sendItem(ctx context.Context, session feature.SessionRef, l *store.EventLast) error {
	c := decode(l.Config)
	if c.Last != lastPresence || c.Silent {
		return nil
	}
	r, err := s.opt.Account(l.Owner).Relation(ctx, session.JID())
	if err != nil || r.Blocked || !r.Sees || !c.allows(session.JID(), r) {
		return ctx.Err()
	}
	item := xep.PubSubItem{ID: l.ID}
	if !c.Bare {
		item.Payload = string(l.Payload)
	}
	inner := xep.PubSubEvent(xep.AppendPubSubItems(nil, l.Node, []xep.PubSubItem{item})) + string(xep.AppendDelay(nil, l.Owner, l.At))
	return session.Send(ctx, stanza.Build(stanza.Message, stanza.TypeHeadline, "", l.Owner, session.JID(), inner).AppendTo(nil))
}
