package account

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// sendSubscription is a subscription stanza from the user (RFC 6121 3).
func (s *State) sendSubscription(ev *inbound, fx *effects) *stanza.Error {
	st := ev.stanza
	if st.To.IsZero() || st.To.Bare() == s.jid {
		return stanza.NewError(stanza.BadRequest, "a subscription needs the address of somebody else")
	}
	to := jid.MustParse(strings.Clone(st.To.Bare().String())) // it outlives the stanza
	grants := st.Type == stanza.TypeSubscribe || st.Type == stanza.TypeSubscribed
	if grants && s.blocks(to) {
		return blockedError()
	}
	c := s.roster[to]
	if c == nil {
		c = &contact{}
		if grants { // else there is nothing to change, but A.2.2 routes it all the same
			if s.rosterFull() {
				return stanza.NewError(stanza.ResourceConstraint, "the roster is full")
			}
			s.roster[to] = c
		}
	}
	change := c.outbound(st.Type)
	p := presenceOf(st, st.Inner())
	failed := func(fx *effects, err error) { s.tellError(ev, storeError(err), fx) }
	s.changeSubscription(to, c, change, nil, fx, failed, func(push, fx *effects) {
		fx.list = append(fx.list, push.list...)
		if change.Pass {
			s.postPresence(p, s.jid, to, fx)
		}
		s.showOrHide(change, to, fx)
	})
	return nil
}

// showOrHide sends the contact the user's presence, or that it is gone.
func (s *State) showOrHide(change subscriptionChange, to jid.JID, fx *effects) {
	if change.ShowPresence {
		fx.post(s.jid, &onceSure{to, func(s *State, fx *effects) { s.showAll(to, fx) }})
		return
	}
	for _, x := range s.sessions {
		if change.HidePresence && x.available {
			s.postPresence(presence{typ: stanza.TypeUnavailable}, x.jid, to, fx)
		}
	}
}

// showAll sends a contact that may see it the presence of all resources.
func (s *State) showAll(to jid.JID, fx *effects) {
	if !s.watched(to) {
		return
	}
	for _, x := range s.sessions {
		if x.available {
			s.postPresence(x.presence, x.jid, to, fx)
		}
	}
}

// maxRequestBytes bounds what a subscription request may say: a line to
// introduce oneself. All requests that are kept for an account fit its
// sessions' queues together.
const maxRequestBytes = 1 << 10

// receiveSubscription is a subscription stanza from a contact (RFC 6121 3).
func (s *State) receiveSubscription(ev *presenceArrives, fx *effects) {
	from := ev.from.Bare()
	if from == s.jid {
		return
	}
	c := s.roster[from]
	if c == nil {
		if ev.typ != stanza.TypeSubscribe {
			return // appendix A.3: no state, nothing to deliver
		}
		c = &contact{}
		from = jid.MustParse(strings.Clone(from.String())) // it outlives the stanza
	}
	change := c.inbound(ev.typ)
	if change.Next.PendingIn && !c.PendingIn && s.requestsFull() {
		ev.refuse(stanza.NewError(stanza.ResourceConstraint, ""), fx)
		return
	}
	s.roster[from] = c
	if ev.typ == stanza.TypeSubscribe && len(ev.inner) > maxRequestBytes {
		ev.inner = "" // it is kept until it is answered, and anybody may ask
	}
	data := ev.encode(from, s.jid)
	if change.Next.PendingIn && !c.PendingIn {
		c.request = data
	}
	p := presence{typ: change.Reply}
	failed := func(fx *effects, err error) {
		if ev.typ == stanza.TypeSubscribe {
			ev.refuse(storeError(err), fx)
		}
	}
	s.changeSubscription(from, c, change, c.request, fx, failed, func(push, fx *effects) {
		if change.Pass {
			for _, x := range s.sessions {
				// A request goes to available resources, the other stanzas to
				// those that asked for the roster, ahead of the push that they
				// explain (RFC 6121 3.1.3, 3.1.6).
				if x.available || x.interested(nsRoster) && ev.typ != stanza.TypeSubscribe {
					fx.deliver(x, data, tag{})
				}
			}
		}
		fx.list = append(fx.list, push.list...)
		if change.Reply != "" {
			s.postPresence(p, s.jid, from, fx)
		}
		s.showOrHide(change, from, fx)
		s.noteToken(ev, from, fx)
	})
}

// changeSubscription commits a change of a contact's state and then does what
// follows: then is given the push that tells the user's clients of it. failed
// is called if it can't be committed.
func (s *State) changeSubscription(j jid.JID, c *contact, change subscriptionChange, request []byte, fx *effects,
	failed func(*effects, error), then func(push, fx *effects)) {
	before, watched := c.subscription, s.watched(j)
	if change.Next == before {
		s.show(fx, failed, func(fx *effects) { then(&effects{}, fx) })
		s.forgetEmpty(j, c)
		return
	}
	c.subscription = change.Next
	var ops []store.Op
	if before.PendingIn != c.PendingIn {
		if c.PendingIn {
			ops = append(ops, store.RequestPut{Account: s.id, From: j, Stanza: request, At: fx.now})
		} else {
			c.request = nil
			ops = append(ops, store.RequestDelete{Account: s.id, From: j})
		}
	}
	// Only what the roster shows is pushed: an inbound request alone isn't in
	// it (RFC 6121 3.1.3).
	shown := before
	shown.PendingIn = c.PendingIn
	push := effects{now: fx.now, held: true}
	if shown != c.subscription {
		item := s.list(j, c)
		ops = append(ops, store.RosterPut{Account: s.id, Item: item, Version: item.Version})
		s.pushRoster(item, false, &push)
	}
	e := s.hold(fx.now, func(fx *effects) { then(&push, fx) })
	e.failed = func(fx *effects, err error) {
		s.distrust(err)
		failed(fx, err)
	}
	s.commit(fx, ops, e, nil)
	s.forgetEmpty(j, c)
	if before.To != c.To || watched != s.watched(j) {
		s.doubt(j, e)
	}
}

// forgetEmpty drops a contact that is neither in the roster nor pending.
func (s *State) forgetEmpty(j jid.JID, c *contact) {
	if !c.listed && !c.PendingIn {
		delete(s.roster, j)
	}
}

func blockedError() *stanza.Error {
	e := stanza.NewError(stanza.NotAcceptable, "")
	e.Type = stanza.Cancel
	e.App = "<blocked xmlns='" + nsBlocking + "'/>"
	return e
}
