package account

import "carillon.im/jid"

// What an account and a contact may see of each other is in memory before it is
// on disk. Until then nothing is shown on the strength of it, and nothing is
// kept back: presence to and from such a contact waits for the commit, and is
// then decided on what is so.

// watched reports whether a contact may see the account's presence.
func (s *State) watched(j jid.JID) bool {
	c := s.roster[j]
	return c != nil && c.From && !s.blocks(j)
}

// doubt notes that who sees whom, between the account and j, is certain once e
// is committed. If it isn't, the account is read anew, and certain again.
func (s *State) doubt(j jid.JID, e *entry) {
	if s.unsure == nil {
		s.unsure = map[jid.JID]*entry{}
	}
	s.unsure[j] = e
	e.settles = append(e.settles, j)
}

// settled ends the doubts that a committed entry was the reason for.
func (s *State) settled(e *entry) {
	for _, j := range e.settles {
		if s.unsure[j] == e {
			delete(s.unsure, j)
		}
	}
}

// whenSure runs f when it is certain what the account and j may see of each
// other: now, mostly. It is given the state, which may be another one by then.
func (s *State) whenSure(j jid.JID, fx *effects, f func(*State, *effects)) {
	if s.unsure[j] == nil {
		f(s, fx)
		return
	}
	s.later(fx, func(fx *effects) { fx.post(s.jid, &onceSure{j, f}) })
}

// onceSure is whenSure as an event.
type onceSure struct {
	contact jid.JID
	f       func(*State, *effects)
}

func (ev *onceSure) apply(s *State, fx *effects) { s.whenSure(ev.contact, fx, ev.f) }
