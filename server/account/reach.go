package account

import (
	"slices"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// Reach tells the accounts which domains can't be reached any more, and which can be
// again. Contacts there are unavailable then, as somebody is of whom a probe finds
// nobody; and afterwards they are asked and told anew (RFC 6121 4.2, 4.3). It doesn't
// block and may be called concurrently; it costs a look at every contact of who is
// there.
func (h *Hub) Reach(gone, back []string) {
	domains := map[string]bool{}
	for _, d := range gone {
		domains[d] = false
	}
	for _, d := range back {
		domains[d] = true
	}
	for _, l := range h.loops {
		l.post(jid.JID{}, &reached{l, domains})
	}
}

// reached is for a loop, contactsReached for one of its accounts. The domains say
// whether they are back.
type (
	reached struct {
		loop    *loop
		domains map[string]bool
	}
	contactsReached struct{ domains map[string]bool }
)

// apply gives each account that it concerns an event of its own, so that others come
// between them.
func (ev *reached) apply(*State, *effects) {
	for bare, s := range inOrder(&ev.loop.hub.cfg, ev.loop.states) {
		for j := range s.roster {
			if _, concerned := ev.domains[j.Domain()]; concerned && len(s.sessions)+s.outsiders > 0 {
				ev.loop.post(bare, &contactsReached{ev.domains})
				break
			}
		}
	}
}

func (ev *contactsReached) apply(s *State, fx *effects) {
	for j, c := range inOrder(s.cfg, s.roster) {
		back, concerned := ev.domains[j.Domain()]
		if concerned && !back {
			s.forgetOutsider(j)
		}
		switch {
		case !concerned || s.unsure[j] != nil || s.blocks(j):
		case back:
			s.greet(j, c, fx)
		case c.To:
			s.receivePresence(&presenceArrives{presence: presence{typ: stanza.TypeUnavailable}, from: j, to: s.jid}, fx)
		}
	}
}

// greet tells a contact who of the account is there, and asks who is there of him.
func (s *State) greet(j jid.JID, c *contact, fx *effects) {
	if !slices.ContainsFunc(s.sessions, func(x *session) bool { return x.available }) {
		return
	}
	for _, x := range s.sessions {
		if x.available && c.From {
			s.postPresence(x.presence, x.jid, j, fx)
		}
	}
	if c.To {
		s.probe(j, fx)
	}
}
