package c2s

import (
	"net/netip"
	"sync"
	"time"
)

// maxTracked bounds each generation of a failures table.
const maxTracked = 1 << 16

// failures counts what went wrong per key, for a Rate. It remembers at least
// the last max keys and at most twice as many: when the young generation is full
// it becomes the old one, and the old one is forgotten.
type failures[K comparable] struct {
	rate Rate
	max  int

	mu         sync.Mutex
	young, old map[K]int64 // when the key's debt is paid, in nanoseconds
}

func newFailures[K comparable](rate Rate, max int) *failures[K] {
	return &failures[K]{rate: rate, max: max, young: map[K]int64{}}
}

// allowed reports whether the key may try again at the time now.
func (f *failures[K]) allowed(key K, now time.Time) bool {
	if f.rate.Burst <= 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.debt(key)-now.UnixNano() <= int64(f.rate.Burst-1)*int64(f.rate.Every)
}

func (f *failures[K]) debt(key K) int64 {
	if t, ok := f.young[key]; ok {
		return t
	}
	return f.old[key]
}

// add counts one failure.
func (f *failures[K]) add(key K, now time.Time) {
	if f.rate.Burst <= 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := max(f.debt(key), now.UnixNano()) + int64(f.rate.Every)
	if _, ok := f.young[key]; !ok && len(f.young) >= f.max {
		f.old, f.young = f.young, make(map[K]int64)
	}
	f.young[key] = t
}

// addressKey is what limits per address count by: an IPv4 address, or the /64 of
// an IPv6 address, which is what one customer gets. It is the zero Addr, which
// isn't limited, for connections without an IP address.
func addressKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// addressCount is the connections of one address.
type addressCount struct{ all, early int }

// admit registers a connection if no limit is against it.
func (s *Server) admit(c *conn) bool {
	lim := &s.cfg.Limits
	key := addressKey(c.addr.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	over := func(n, limit int) bool { return limit > 0 && n >= limit }
	a := s.addresses[key]
	if s.closing || over(s.early, lim.Unauthenticated) ||
		key.IsValid() && (over(a.early, lim.UnauthenticatedPerAddress) || over(a.all, lim.PerAddress)) {
		return false
	}
	s.early++
	a.early++
	a.all++
	if key.IsValid() {
		s.addresses[key] = a
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.Metrics.Unauthenticated.Add(1)
	s.Metrics.Open.Add(1)
	return true
}

// promoted counts the connection no longer as unauthenticated.
func (s *Server) promoted(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveEarly(c)
}

func (s *Server) leaveEarly(c *conn) {
	if c.promoted {
		return
	}
	c.promoted = true
	s.early--
	s.Metrics.Unauthenticated.Add(-1)
	key := addressKey(c.addr.Addr())
	if a, ok := s.addresses[key]; ok {
		a.early--
		s.addresses[key] = a
	}
}

// dismiss forgets a connection.
func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveEarly(c)
	delete(s.conns, c)
	key := addressKey(c.addr.Addr())
	if a, ok := s.addresses[key]; ok {
		if a.all--; a.all <= 0 {
			delete(s.addresses, key)
		} else {
			s.addresses[key] = a
		}
	}
	s.Metrics.Open.Add(-1)
	s.running.Done()
}
