package s2s

import (
	"errors"
	"time"

	"carillon.im/server/s2s/lookup"
)

// absent is which domains nobody gets at. What changes is told once in a while, all
// of it at once, since it costs a look at everybody's contacts.
type absent struct {
	lost map[string]bool // told that they are gone; at most as many as there may be ways
	back []string        // of them those that were reached since; to be told
}

// reached notes that there is a stream with a domain.
func (s *Server) reached(remote string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.absent.lost[remote] {
		delete(s.absent.lost, remote)
		s.absent.back = append(s.absent.back, remote)
	}
}

// tellReach tells who can't be reached any more and who can be again.
func (s *Server) tellReach(now time.Time, ways []*way) {
	var gone []string
	for _, w := range ways {
		gone = append(gone, w.vanished(now)...)
	}
	s.mu.Lock()
	back := s.absent.back
	s.absent.back = nil
	fresh := gone[:0]
	for _, remote := range gone {
		if s.absent.lost[remote] {
			continue // it was on the way from another domain of ours
		}
		for other := range s.absent.lost {
			if len(s.absent.lost) < s.cfg.Limits.Ways {
				break
			}
			delete(s.absent.lost, other) // its users will ask when it is back
		}
		s.absent.lost[remote] = true
		fresh = append(fresh, remote)
	}
	s.mu.Unlock()
	if s.cfg.Reach != nil && len(fresh)+len(back) > 0 {
		s.cfg.Reach(fresh, back)
	}
}

// vanished are, once, the way's domain and those of its guests if they can't be
// reached: for as long as a stream can be resumed, or because there is no such server.
func (w *way) vanished(now time.Time) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil || w.failures == 0 || w.away || now.Sub(w.failing) < w.srv.cfg.Limits.Resume && !errors.Is(w.lastErr, lookup.ErrNoService) {
		return nil
	}
	w.away = true
	gone := []string{w.pair.remote}
	for p := range w.guests {
		gone = append(gone, p.remote)
	}
	return gone
}
