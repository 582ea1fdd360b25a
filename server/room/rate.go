package room

import (
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// bucket is how much somebody may still do: a full one has so many seconds' worth.
type bucket struct {
	left float64
	at   time.Time
}

// burst is for how many seconds of its rate a full bucket lasts.
const burst = 10

// take takes one from a bucket that fills at perSecond; false if it is empty. 0 is
// no limit.
func (b *bucket) take(perSecond int, now time.Time) bool { return b.takeAll(1, perSecond, now) }

// takeAll is take for n at once.
func (b *bucket) takeAll(n, perSecond int, now time.Time) bool {
	if perSecond <= 0 {
		return true
	}
	full := float64(perSecond * burst)
	if b.at.IsZero() {
		b.left = full
	} else {
		b.left = min(full, b.left+now.Sub(b.at).Seconds()*float64(perSecond))
	}
	b.at = now
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}

// userMay counts what one person sends to the room.
func (s *State) userMay(st *stanza.Stanza, now time.Time) bool {
	return s.bucketOf(st.From).take(s.cfg.Limits.PerUser, now)
}

// bucketOf is one person's.
func (s *State) bucketOf(who jid.JID) *bucket {
	bare := who.Bare()
	b := s.rates[bare]
	if b == nil {
		if len(s.rates) >= 2*s.cfg.Limits.Occupants {
			// Some of them have done nothing for long. Whoever is forgotten too early
			// has his rate again, and the room's bounds him.
			for j := range s.rates {
				delete(s.rates, j)
				break
			}
		}
		b = &bucket{}
		s.rates[kept(bare)] = b
	}
	return b
}
