package account

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// Presence of contacts comes in bursts: a login with a large roster, a server's
// restart. It can be had again, unlike everything else that a session is owed.
// So while much waits for a session already, whose presence it missed is
// noted instead of the presence, and the contact is asked again, a few at a
// time, as the client reads.

// maxMissed bounds the addresses noted for one session; presence beyond it
// counts against the queue like everything else.
const maxMissed = 10_000

// missed is whose presence a session has to be told yet.
type missed struct {
	from    map[jid.JID]owed     // by full JID
	asked   map[jid.JID]struct{} // bare JIDs that were asked and didn't answer yet
	waiting bool                 // for room in the queue
}

// owed is the presence that there was no room for.
type owed struct {
	bytes int
	gone  bool // it was unavailable: nothing need be asked
}

// full reports whether presence that can be had again is not to be queued.
func (x *session) full() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.backlog() > x.hub.cfg.Limits.OutboxBytes/4
}

// backlog is what counts against the queue's bound. mu is held.
func (x *session) backlog() int { return x.out.Bytes() - x.answers + x.heldBytes }

// showContact hands a session the presence of a contact, or notes that it
// missed it.
func (s *State) showContact(x *session, data []byte, t tag, gone bool) {
	m := s.missed[x]
	if m != nil {
		delete(m.from, t.from)
		delete(m.asked, t.from.Bare())
	}
	if s.index(x) >= 0 && (m == nil || len(m.from) < maxMissed) && x.full() {
		if m == nil {
			m = &missed{from: map[jid.JID]owed{}, asked: map[jid.JID]struct{}{}}
			if s.missed == nil {
				s.missed = map[*session]*missed{}
			}
			s.missed[x] = m
		}
		m.from[jid.MustParse(strings.Clone(t.from.String()))] = owed{len(data), gone}
	} else {
		x.deliver(data, t)
	}
	if m != nil {
		s.makeUp(x, m)
	}
}

// makeUp goes on with what a session missed, once there is room for it and those
// who were asked have answered.
func (s *State) makeUp(x *session, m *missed) {
	switch {
	case len(m.asked) > 0 || m.waiting:
	case len(m.from) == 0:
		delete(s.missed, x)
	default:
		m.waiting = true
		s.cfg.hub.whenRoomy(x)
	}
}

// whenRoomy posts roomy when the session's queue has shrunk.
func (h *Hub) whenRoomy(x *session) {
	h.done.Go(func() {
		err := x.awaitRoom(h.ctx, func() (done bool, err error) {
			return x.ended || x.backlog() <= h.cfg.Limits.OutboxBytes/4, nil
		})
		if err == nil {
			h.post(x.jid.Bare(), &roomy{x})
		}
	})
}

// roomy: a session that missed presence can take some.
type roomy struct{ session *session }

func (ev *roomy) apply(s *State, fx *effects) {
	x := ev.session
	m := s.missed[x]
	if m == nil {
		return
	}
	m.waiting = false
	room := s.cfg.Limits.OutboxBytes / 4
	for j, o := range m.from {
		if room < 0 {
			break
		}
		delete(m.from, j)
		if o.gone {
			p := presence{typ: stanza.TypeUnavailable}
			data := p.encode(j, s.jid)
			room -= len(data)
			x.deliver(data, tag{wait: waitPresence, from: j})
			continue
		}
		room -= o.bytes
		if _, known := m.asked[j.Bare()]; !known {
			m.asked[j.Bare()] = struct{}{}
			s.probe(j.Bare(), fx)
		}
	}
	s.makeUp(x, m)
}

// makeUpAll goes on without those who don't answer. The loop calls it on its tick.
func (s *State) makeUpAll() {
	for x, m := range s.missed {
		clear(m.asked)
		s.makeUp(x, m)
	}
}
