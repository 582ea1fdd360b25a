package account

import (
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Personal events (XEP-0163): the owner of an account keeps what a feature has
// decided and tells whom it concerns, in the account's order; which sessions want
// to hear of it, their own account's owner knows.

// eventArrives tells an account's sessions of a contact's event.
type eventArrives struct {
	node   string
	stanza *stanza.Stanza // without 'to', shared by all that are told
}

// apply passes the event on to the sessions that asked for its node. The user
// must see the contact's presence: who ended that gets no more events.
func (ev *eventArrives) apply(s *State, fx *effects) {
	from := ev.stanza.From
	c := s.roster[from]
	if s.unknown() || c == nil || !c.To || s.blocks(from) || !slices.ContainsFunc(s.sessions, func(x *session) bool { return x.wantsEvent(ev.node) }) {
		return
	}
	s.laterKept(fx, func(fx *effects) { s.deliverEvent(ev, fx) })
}

// deliverEvent tells the sessions that asked for the node.
func (s *State) deliverEvent(ev *eventArrives, fx *effects) {
	for _, x := range s.sessions {
		if x.wantsEvent(ev.node) {
			st := *ev.stanza
			st.To = x.jid
			fx.deliver(x, st.AppendTo(make([]byte, 0, len(st.Inner())+256)), tag{})
		}
	}
}

func (x *session) wantsEvent(node string) bool { return x.available && slices.Contains(x.events, node) }

// tellEvents tells the account's own sessions and its contacts.
func (s *State) tellEvents(changes []feature.EventChange, fx *effects) {
	for i := range changes {
		for k := range changes[i].Notices {
			n := &changes[i].Notices[k]
			ev := &eventArrives{n.Node, stanza.Build(stanza.Message, stanza.TypeHeadline, "", s.jid, jid.JID{}, n.Payload)}
			s.deliverEvent(ev, fx)
			s.tellContacts(&n.To, ev, fx)
		}
	}
}

// tellContacts sends an event to the contacts that it is for and that have a
// subscription.
func (s *State) tellContacts(to *feature.Audience, ev *eventArrives, fx *effects) {
	if !to.All && len(to.Groups)+len(to.Members) == 0 {
		return
	}
	for j, c := range s.roster {
		switch {
		case !c.From || !isFor(to, j, c) || s.blocks(j):
		case s.unsure[j] != nil:
			s.whenSure(j, fx, func(s *State, fx *effects) {
				if c := s.roster[j]; s.watched(j) && isFor(to, j, c) {
					s.postEvent(ev, j, fx)
				}
			})
		default:
			s.postEvent(ev, j, fx)
		}
	}
}

// isFor reports whether a contact is of an audience.
func isFor(to *feature.Audience, j jid.JID, c *contact) bool {
	return to.All || slices.Contains(to.Members, j) || slices.ContainsFunc(c.groups, func(g string) bool { return slices.Contains(to.Groups, g) })
}

func (s *State) postEvent(ev *eventArrives, to jid.JID, fx *effects) {
	if s.cfg.local(to.Domain()) && to.Local() != "" {
		fx.post(to, ev)
	}
}

// eventOps are the operations of changes.
func (s *State) eventOps(ops []store.Op, changes []feature.EventChange) []store.Op {
	for _, c := range changes {
		op := store.EventChange{Account: s.id, Node: c.Node, Was: c.Was, Config: c.Config, Purge: c.Purge, Remove: c.Remove, Keep: c.Keep,
			MaxNodes: c.MaxNodes, MaxBytes: c.MaxBytes}
		for _, it := range c.Put {
			op.Put = append(op.Put, store.EventItem(it))
		}
		ops = append(ops, op)
	}
	return ops
}

// SetEvents says of which nodes the session wants to hear.
func (x *session) SetEvents(ctx context.Context, nodes []string) (added []string, err error) {
	return ask(ctx, x.hub, x.jid.Bare(), func(s *State, _ *effects) (added []string) {
		if s.index(x) < 0 || !x.available {
			return nil
		}
		for _, n := range nodes {
			if !slices.Contains(x.events, n) {
				added = append(added, n)
			}
		}
		x.events = nodes
		return added
	})
}

// Watched are the accounts of this server whose presence the account sees.
func (a *accountRef) Watched(ctx context.Context) ([]jid.JID, error) {
	return ask(ctx, a.hub, a.bare, func(s *State, _ *effects) (list []jid.JID) {
		for j, c := range s.roster {
			if c.To && s.cfg.local(j.Domain()) && j.Local() != "" && !s.blocks(j) {
				list = append(list, j)
			}
		}
		return list
	})
}

// takeAddressed carries out what a message asks of its sender's server and takes it
// out of it. It runs on the connection's goroutine.
func (h *Hub) takeAddressed(ctx context.Context, x *session, st *stanza.Stanza) *stanza.Stanza {
	a, el, ok := h.features.Addressed(st)
	if !ok {
		return st
	}
	if err := a.Handle(ctx, x, st, el); err != nil {
		if _, told := stanza.AsError(err); !told && ctx.Err() == nil {
			h.cfg.Log.Error("request in a message failed", "account", x.jid.Bare(), "element", el.Space(), "error", err)
		}
	}
	// There may be more than one.
	rest := stanza.Build(st.Kind, st.Type, st.ID, st.From, st.To, st.InnerWithout(func(el xmltree.Element) bool { return el.Name() == a.Name }))
	rest.Lang = st.Lang
	return rest
}
