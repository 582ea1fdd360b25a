package c2s

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
)

// maxTracked bounds each generation of a table.
const maxTracked = 1 << 16

// table remembers a time per key: of at least the last max keys, and of at most
// twice as many. When the young generation is full it becomes the old one, and
// the old one is forgotten.
type table[K comparable] struct {
	max        int
	young, old map[K]int64
}

func newTable[K comparable](max int) table[K] { return table[K]{max: max, young: map[K]int64{}} }

func (t *table[K]) get(key K) (int64, bool) {
	v, ok := t.young[key]
	if !ok {
		v, ok = t.old[key]
	}
	return v, ok
}

func (t *table[K]) set(key K, v int64) {
	if _, ok := t.young[key]; !ok && len(t.young) >= t.max {
		t.old, t.young = t.young, make(map[K]int64)
	}
	t.young[key] = v
}

// guard slows down who guesses passwords, per address and per account. An
// account's limit doesn't hold for addresses from which it has been logged in
// to, or else anybody could lock anybody out.
type guard struct {
	perAddress, perAccount, registrations Rate

	mu        sync.Mutex
	addresses table[netip.Addr] // when the debt is paid, in nanoseconds
	accounts  table[jid.JID]    // likewise
	trusted   table[trust]
	registers table[netip.Addr] // when the debt of making accounts is paid
}

// trust is an account and an address that has proved to have its password.
type trust struct {
	account jid.JID
	address netip.Addr
}

func newGuard(lim *Limits, max int) *guard {
	return &guard{
		perAddress: lim.AddressFailures, perAccount: lim.AccountFailures, registrations: lim.Registrations,
		addresses: newTable[netip.Addr](max), accounts: newTable[jid.JID](max), trusted: newTable[trust](max),
		registers: newTable[netip.Addr](max),
	}
}

// owes reports whether somebody with this debt has to wait.
func (r Rate) owes(debt int64, now time.Time) bool {
	return r.Burst > 0 && debt-now.UnixNano() > int64(r.Burst-1)*int64(r.Every)
}

// addressAllowed reports whether the address may try a login now.
func (g *guard) addressAllowed(a netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	debt, _ := g.addresses.get(a)
	return !a.IsValid() || !g.perAddress.owes(debt, now)
}

// accountAllowed reports whether the address may try a login to the account now;
// whether there is such an account makes no difference.
func (g *guard) accountAllowed(account jid.JID, a netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	debt, _ := g.accounts.get(account)
	if !g.perAccount.owes(debt, now) {
		return true
	}
	_, trusted := g.trusted.get(trust{account, a})
	return trusted && a.IsValid()
}

// failed counts a login that failed; account is zero for failures that tell a
// guesser nothing.
func (g *guard) failed(account jid.JID, a netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.IsValid() && g.perAddress.Burst > 0 {
		debt, _ := g.addresses.get(a)
		g.addresses.set(a, max(debt, now.UnixNano())+int64(g.perAddress.Every))
	}
	if !account.IsZero() && g.perAccount.Burst > 0 {
		debt, _ := g.accounts.get(account)
		// The table outlives the connection: it must not hold on to its buffers.
		g.accounts.set(jid.MustParse(strings.Clone(account.String())), max(debt, now.UnixNano())+int64(g.perAccount.Every))
	}
}

// succeeded notes that the address knows the account's password.
func (g *guard) succeeded(account jid.JID, a netip.Addr, now time.Time) {
	if !a.IsValid() || g.perAccount.Burst <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := trust{account, a}
	if _, ok := g.trusted.young[key]; !ok {
		key.account = jid.MustParse(strings.Clone(account.String()))
	}
	g.trusted.set(key, now.UnixNano())
}

// registerAllowed reports whether the address may make an account now, and counts
// it if so.
func (g *guard) registerAllowed(a netip.Addr, now time.Time) bool {
	if !a.IsValid() || g.registrations.Burst <= 0 {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	debt, _ := g.registers.get(a)
	if g.registrations.owes(debt, now) {
		return false
	}
	g.registers.set(a, max(debt, now.UnixNano())+int64(g.registrations.Every))
	return true
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
	key := c.address()
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
	key := c.address()
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
	key := c.address()
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
