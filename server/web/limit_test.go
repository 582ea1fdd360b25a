package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// TestLooks: an address may look at so many invitations at once, and then at one each
// second; others aren't touched, and how many there are costs no more than two tables.
func TestLooks(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := New(Options{Domains: []string{"x.example"}, Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Now: func() time.Time { return now },
		Invite: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	get := func(from, forwarded string) int {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, InvitePath+"token", nil)
		if r.RemoteAddr = from; forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		w := httptest.NewRecorder()
		s.Public().ServeHTTP(w, r)
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "1" {
			t.Errorf("retry after %q", w.Header().Get("Retry-After"))
		}
		return w.Code
	}
	for _, who := range []struct{ from, forwarded, same, other string }{
		{from: "203.0.113.7:1000", same: "203.0.113.7:2000", other: "203.0.113.8:1000"},
		{from: "[2001:db8::1]:1", same: "[2001:db8::ffff]:1", other: "[2001:db8:0:1::1]:1"},
	} {
		for i := range lookBurst {
			if code := get(who.from, ""); code != http.StatusOK {
				t.Fatalf("%s, %d: %d", who.from, i, code)
			}
		}
		for from, want := range map[string]int{who.from: 429, who.same: 429, who.other: 200} {
			if code := get(from, ""); code != want {
				t.Errorf("%s: %d", from, code)
			}
		}
	}
	// Behind a proxy it is who asks the proxy that counts; who isn't told isn't counted.
	for range lookBurst {
		get("192.0.2.1:1", "198.51.100.1")
	}
	if code := get("192.0.2.1:1", "198.51.100.1"); code != http.StatusTooManyRequests {
		t.Errorf("by a proxy: %d", code)
	}
	for i := range 2 * lookBurst {
		if code := get("192.0.2.1:1", ""); code != http.StatusOK {
			t.Fatalf("a proxy itself, %d: %d", i, code)
		}
	}
	now = now.Add(2 * lookEvery)
	for i, want := range []int{200, 200, 429} {
		if code := get("203.0.113.7:1000", ""); code != want {
			t.Errorf("two seconds later, %d: %d", i, code)
		}
	}
	for i := range 3 * maxLooks {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String() + ":" + strconv.Itoa(1)
		if code := get(from, ""); code != http.StatusOK {
			t.Fatalf("%s: %d", from, code)
		}
	}
	if n := len(s.looks.young) + len(s.looks.old); n > 2*maxLooks {
		t.Errorf("%d addresses are remembered", n)
	}
}
