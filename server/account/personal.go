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

// told is an event of the account: its stanza without 'to', shared by all that are
// told.
type told struct {
	node   string
	item   bool // it brings the node's newest item
	stanza *stanza.Stanza
	to     *feature.Audience
}

// eventArrives tells an account's sessions of a contact's event.
type eventArrives struct{ *told }

// apply passes the event on to the sessions that asked for its node. The user
// must see the contact's presence: who ended that gets no more events.
func (ev eventArrives) apply(s *State, fx *effects) {
	from := ev.stanza.From
	c := s.roster[from]
	if s.unknown() || c == nil || !c.To || s.blocks(from) || !slices.ContainsFunc(s.sessions, func(x *session) bool { return x.wantsEvent(ev.node) }) {
		return
	}
	s.laterKept(fx, func(fx *effects) {
		for _, x := range s.sessions {
			if x.wantsEvent(ev.node) {
				x.hear(ev.told)
				fx.deliver(x, ev.encode(x.jid), tag{})
			}
		}
	})
}

func (ev *told) encode(to jid.JID) []byte {
	st := *ev.stanza
	st.To = to
	return st.AppendTo(make([]byte, 0, len(st.Inner())+256))
}

func (x *session) wantsEvent(node string) bool { return x.available && x.wants(node) }

// tellEvents tells, when it is its turn, the account's own sessions and its contacts.
// Who they are is decided then: who wants to hear of the node, and says so while the
// commit is under way, finds the event neither on disk nor told before.
func (s *State) tellEvents(changes []feature.EventChange, fx *effects) {
	for i := range changes {
		for k := range changes[i].Notices {
			n := &changes[i].Notices[k]
			st := stanza.Build(stanza.Message, stanza.TypeHeadline, "", s.jid, jid.JID{}, n.Payload)
			fx.tell(s.jid, &told{n.Node, n.Item, st, &n.To})
		}
	}
}

// tellEvent does that for one event. What has to wait goes to fx.
func (s *State) tellEvent(ev *told, fx *effects) {
	if s.unknown() {
		return
	}
	for _, x := range s.sessions {
		if x.wantsEvent(ev.node) {
			x.hear(ev)
			x.deliver(ev.encode(x.jid), tag{})
		}
	}
	if !ev.to.All && len(ev.to.Groups)+len(ev.to.Members) == 0 {
		return
	}
	for j, c := range s.roster {
		switch {
		case !c.From || !isFor(ev.to, j, c) || s.blocks(j):
		case s.unsure[j] != nil:
			s.whenSure(j, fx, func(s *State, _ *effects) {
				if c := s.roster[j]; s.watched(j) && isFor(ev.to, j, c) {
					s.tellContact(j, ev)
				}
			})
		default:
			s.tellContact(j, ev)
		}
	}
}

func (s *State) tellContact(j jid.JID, ev *told) {
	switch {
	case !s.cfg.local(j.Domain()):
		s.tellOutside(j, ev)
	case j.Local() != "":
		s.cfg.hub.post(j, eventArrives{ev})
	}
}

// isFor reports whether a contact is of an audience.
func isFor(to *feature.Audience, j jid.JID, c *contact) bool {
	return to.All || slices.Contains(to.Members, j) || slices.ContainsFunc(c.groups, func(g string) bool { return slices.Contains(to.Groups, g) })
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
