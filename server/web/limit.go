package web

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Bounds of requests.
const (
	headerTime  = 10 * time.Second
	idleTime    = 60 * time.Second
	headerBytes = 16 << 10
)

// Limit bounds the connections of a http.Server, those that became WebSockets not
// counted: max in all, and perAddress for an address that isn't a proxy, 0 for any
// number. It also sets the bounds of requests. It is called before the server is used.
func (s *Site) Limit(h *http.Server, max, perAddress int) {
	h.ReadHeaderTimeout, h.IdleTimeout, h.MaxHeaderBytes = headerTime, idleTime, headerBytes
	c := &counter{max: max, perAddress: perAddress, counted: map[net.Conn]netip.Addr{}, addresses: map[netip.Addr]int{}}
	h.ConnState = func(nc net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			var from netip.Addr
			if a, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil && !s.isProxy(a.Addr().Unmap()) {
				from = network(a.Addr().Unmap().WithZone(""))
			}
			if !c.enter(nc, from) {
				nc.Close()
			}
		case http.StateHijacked, http.StateClosed:
			c.leave(nc)
		}
	}
}

// Bounds of looking at pages that cost a look into the store: a burst, then one each
// lookEvery, for an address.
const (
	lookBurst = 30
	lookEvery = time.Second
)

// looks counts what addresses look at. A table of at most maxLooks is young, one of
// before is old; who is in neither owes nothing.
type looks struct {
	now func() time.Time

	mu         sync.Mutex
	young, old map[netip.Addr]time.Time // when the debt is paid
}

const maxLooks = 1 << 14

// may counts a look of from, and reports whether it is one too many. Addresses that
// aren't known are those of proxies that don't say for whom they ask: no limit.
func (l *looks) may(from netip.Addr) bool {
	if !from.IsValid() {
		return true
	}
	from = network(from.WithZone(""))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	debt, ok := l.young[from]
	if !ok {
		debt = l.old[from]
	}
	if debt.Before(now) {
		debt = now
	}
	if debt.Sub(now) > (lookBurst-1)*lookEvery {
		return false
	}
	if !ok && len(l.young) >= maxLooks {
		l.old, l.young = l.young, map[netip.Addr]time.Time{}
	}
	l.young[from] = debt.Add(lookEvery)
	return true
}

// slowed lets an address look at h's pages so often and no more.
func (s *Site) slowed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := s.client(r).Addr()
		if s.isProxy(from) {
			from = netip.Addr{}
		}
		if !s.looks.may(from) {
			w.Header().Set("Retry-After", strconv.Itoa(int(lookEvery/time.Second)))
			http.Error(w, "too many requests, try again later", http.StatusTooManyRequests)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// network is what an address is counted by: of IPv6 its /64.
func network(a netip.Addr) netip.Addr {
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// counter counts connections.
type counter struct {
	max, perAddress int

	mu        sync.Mutex
	counted   map[net.Conn]netip.Addr
	addresses map[netip.Addr]int
}

func (c *counter) enter(nc net.Conn, from netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.counted) >= c.max || from.IsValid() && c.perAddress > 0 && c.addresses[from] >= c.perAddress {
		return false
	}
	c.counted[nc] = from
	if from.IsValid() {
		c.addresses[from]++
	}
	return true
}

func (c *counter) leave(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from, ok := c.counted[nc]
	if !ok {
		return
	}
	delete(c.counted, nc)
	if !from.IsValid() {
		return
	}
	if c.addresses[from]--; c.addresses[from] <= 0 {
		delete(c.addresses, from)
	}
}
