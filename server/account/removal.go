package account

import (
	"carillon.im/jid"
	"carillon.im/stanza"
)

// errRemoved is what the sessions of a removed account are told (XEP-0077 3.2).
func errRemoved() *stanza.StreamError {
	return stanza.NewStreamError(stanza.StreamNotAuthorized, "the account was removed")
}

// remove forgets an account that is no longer in the store. Contacts elsewhere
// are told, as far as memory knows them; those on this server are told by
// contactRemoved.
func (s *State) remove(fx *effects) {
	for j, c := range s.roster {
		if s.cfg.local(j.Domain()) {
			continue
		}
		if c.To || c.PendingOut {
			s.postPresence(presence{typ: stanza.TypeUnsubscribe}, s.jid, j, fx)
		}
		if c.From || c.PendingIn {
			s.postPresence(presence{typ: stanza.TypeUnsubscribed}, s.jid, j, fx)
		}
	}
	s.load = missing
	s.endAll(errRemoved(), fx)
	s.roster, s.blocked, s.unsure = nil, nil, nil
	s.offline, s.unkept, s.uncleared = 0, nil, 0
	s.dropPushes(func(*pushTarget) bool { return true })
}

// contactRemoved: a contact's account is no more. Its subscriptions, in both
// directions, end with it, so that whoever gets the name later inherits none.
type contactRemoved struct{ contact jid.JID }

func (ev *contactRemoved) apply(s *State, fx *effects) {
	j := ev.contact
	c := s.roster[j]
	if c == nil {
		return
	}
	var told []string
	if c.From || c.PendingIn {
		told = append(told, stanza.TypeUnsubscribe)
	}
	if c.To || c.PendingOut {
		told = append(told, stanza.TypeUnsubscribed)
	}
	nothing := func(*effects, error) {}
	s.changeSubscription(j, c, subscriptionChange{}, nil, fx, nothing, func(push, fx *effects) {
		for _, typ := range told {
			data := presence{typ: typ}.encode(j, s.jid)
			for _, x := range s.sessions {
				if x.available || x.interested(nsRoster) {
					fx.deliver(x, data, tag{})
				}
			}
		}
		fx.list = append(fx.list, push.list...)
	})
}

// endAll ends all sessions of an account that was removed.
func (s *State) endAll(err *stanza.StreamError, fx *effects) {
	for len(s.sessions) > 0 {
		s.end(s.sessions[0], err, fx)
	}
}
