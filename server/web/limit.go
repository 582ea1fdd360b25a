package web

import (
	"net"
	"net/http"
	"net/netip"
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
