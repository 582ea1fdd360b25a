package pep

import (
	"context"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// maxArrivals is for how many sessions at a time the newest items are looked up.
const maxArrivals = 8

// maxComing is how many of them wait for that. Who comes then is told at his next
// presence.
const maxComing = 10_000

// arriving names a listener; one elsewhere may be the contact of several accounts.
type arriving struct{ owner, listener jid.JID }

// arrival is a listener for whom that is being done.
type arrival struct {
	listener feature.Listener
	nodes    []string
	changed  bool // nodes is newer than what is being done
}

// Notify takes note of which nodes a listener wants to hear of, and has it sent the
// newest item of each that it didn't hear of before: the own account's and those
// of contacts (XEP-0163 4.3.3, 4.3.4). It doesn't block; nodes must not change.
func (s *Service) Notify(l feature.Listener, nodes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	j := arriving{l.Owner().JID(), l.JID()}
	if a := s.coming[j]; a != nil {
		a.listener, a.nodes, a.changed = l, nodes, true
		return
	}
	if len(s.coming) >= maxComing {
		return
	}
	s.coming[j] = &arrival{listener: l, nodes: nodes}
	s.wg.Go(func() { s.arrive(j) })
}

// arrive does what Notify promises, until there is nothing newer to do.
func (s *Service) arrive(j arriving) {
	s.work <- struct{}{}
	defer func() { <-s.work }()
	for {
		s.mu.Lock()
		a := s.coming[j]
		listener, nodes := a.listener, a.nodes
		a.changed = false
		s.mu.Unlock()
		s.welcome(listener, nodes)
		s.mu.Lock()
		if done := !a.changed || s.closed; done {
			delete(s.coming, j)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// welcome does what Notify promises. It knows no errors: the listener or the server is
// at its end then, or the store fails, which whoever writes finds out.
func (s *Service) welcome(l feature.Listener, nodes []string) {
	added, err := l.SetEvents(s.ctx, nodes)
	if err != nil || len(added) == 0 {
		return
	}
	if owners, err := l.Publishers(s.ctx); err == nil {
		s.sendLast(s.ctx, l, owners, added)
	}
	l.EventsTold(s.ctx)
}

// maxRounds is how often items are looked up because some were taken away meanwhile.
const maxRounds = 4

// sendLast sends a listener the newest items of nodes. Since SetEvents it hears of
// what becomes of them besides, and what it heard newer of it isn't sent: so what it
// hears last of a node is its newest item. What is no longer what was read is looked
// up again.
func (s *Service) sendLast(ctx context.Context, l feature.Listener, owners []jid.JID, nodes []string) {
	for range maxRounds {
		last, err := s.opt.Store.EventsLast(ctx, owners, nodes)
		if err != nil {
			return
		}
		var changed []jid.JID
		var relation feature.Relation
		for i := range last {
			// Once what was decided before is told, so that what was read while it was
			// being committed has been heard.
			if i == 0 || last[i].Owner != last[i-1].Owner {
				relation, err = s.opt.Account(last[i].Owner).Shown(ctx, l.JID())
				if ctx.Err() != nil {
					return
				}
				relation.Blocked = relation.Blocked || err != nil // what can't be found out isn't shown
			}
			heard, err := s.sendItem(ctx, l, relation, &last[i])
			if err != nil {
				return
			}
			if heard == feature.HeardChange && (len(changed) == 0 || changed[len(changed)-1] != last[i].Owner) {
				changed = append(changed, last[i].Owner)
			}
		}
		if owners = changed; len(owners) == 0 {
			return
		}
	}
}

// sendItem sends a listener an item, if the node allows it.
func (s *Service) sendItem(ctx context.Context, l feature.Listener, r feature.Relation, last *store.EventLast) (feature.Heard, error) {
	c := decode(last.Config)
	if c.Last != lastPresence || c.Silent || r.Blocked || !r.Sees || !c.allows(l.JID(), r) {
		return feature.HeardItem, nil
	}
	item := xep.PubSubItem{ID: last.ID}
	if !c.Bare {
		item.Payload = string(last.Payload)
	}
	inner := xep.PubSubEvent(xep.AppendPubSubItems(nil, last.Node, []xep.PubSubItem{item})) + string(xep.AppendDelay(nil, last.Owner, last.At))
	return l.TellLast(ctx, last.Node, stanza.Build(stanza.Message, stanza.TypeHeadline, "", last.Owner, l.JID(), inner))
}
