package s2s

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// vouch has DNS vouch for a key at a host's port (RFC 6698).
func (w *world) vouch(h *host, leaf *x509.Certificate) {
	w.t.Helper()
	hash, err := dns.CertificateToDANE(1, 1, leaf)
	if err != nil {
		w.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(h.addr)
	w.record("_"+port+"._tcp.xmpp."+h.domain, "TLSA", "3 1 1 "+hash)
}

// TestRequire: what passes to and from a server by each policy for it, whatever it has
// for a proof (RFC 6120 13.7, RFC 7673). Who connects to us isn't held to records that
// are about its own port, unless the policy wants that.
func TestRequire(t *testing.T) {
	t.Parallel()
	const fitting, another = "fitting", "another"
	for _, tc := range []struct {
		name    string
		self    bool   // signed
		records string // in DNS
		ad      bool   // and vouched for by DNSSEC
		out, in string // policies with which something passes
	}{
		{"of an authority", false, "", true, "certificate pkix", "certificate pkix"},
		{"of an authority, with records", false, fitting, true, "certificate pkix dane", "certificate pkix dane"},
		{"of an authority, with records of another", false, another, true, "pkix", "certificate pkix"},
		{"of an authority, with records that nobody vouches for", false, another, false, "certificate pkix", "certificate pkix"},
		{"self-signed, with records", true, fitting, true, "certificate dane", "certificate dane"},
		{"self-signed, with records that nobody vouches for", true, fitting, false, "", ""},
		{"self-signed, with records of another", true, another, true, "", ""},
		{"self-signed", true, "", true, "", ""},
	} {
		for _, policy := range []Policy{Certificate, PKIX, DANE} {
			t.Run(tc.name+" "+string(policy), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.ad = tc.ad
				ca := w.ca
				if tc.self {
					ca = nil
				}
				cert := ca.sign(t, nil, "b.example")
				a := w.add("a.example", nil, func(c *Config) { c.Peers = map[string]Policy{"b.example": policy} })
				b := w.add("b.example", cert)
				switch tc.records {
				case fitting:
					w.vouch(b, cert.Leaf)
				case another:
					w.vouch(b, w.ca.sign(t, nil, "b.example").Leaf)
				}
				passes := func(from, to *host, policies string) {
					t.Helper()
					was, back := len(to.taken()), len(from.taken())
					from.send("u@"+to.domain, "x", 0)
					waitFor(t, "an outcome", func() bool { return len(to.taken()) > was || len(from.taken()) > back })
					got := len(to.taken()) > was
					if want := strings.Contains(policies, string(policy)); got != want {
						t.Errorf("%s to %s: passed %t", from.domain, to.domain, got)
					}
					if !got && !strings.Contains(from.taken()[back], "<remote-server-timeout ") {
						t.Errorf("it went back as %s", from.taken()[back])
					}
				}
				passes(b, a, tc.in)
				for _, h := range []*host{a, b} { // or the stream that there is would be used
					h.Server.mu.Lock()
					for c := range h.conns {
						c.end(nil)
					}
					h.Server.mu.Unlock()
				}
				waitFor(t, "the end", func() bool {
					return a.Metrics.Incoming.Load()+a.Metrics.Outgoing.Load()+b.Metrics.Incoming.Load()+b.Metrics.Outgoing.Load() == 0
				})
				passes(a, b, tc.out)
			})
		}
	}
}

// TestDelegated: a certificate of the host that SRV records name stands for the domain
// if DNSSEC vouches for those (RFC 7712 5), and not otherwise.
func TestDelegated(t *testing.T) {
	for _, ad := range []bool{true, false} {
		w := newWorld(t)
		w.ad = ad
		a, b := w.add("a.example", nil), w.add("b.example", w.ca.sign(t, nil, "xmpp.b.example"))
		a.send("u@b.example", "x", 0)
		if ad {
			b.expect("x")
		} else {
			a.expect("<remote-server-timeout ")
		}
	}
}

// TestBackOff: the pauses between tries double from the shortest to the longest, with
// some chance in them, and begin anew with a stream.
func TestBackOff(t *testing.T) {
	w := newWorld(t)
	a := w.make("a.example", nil, func(c *Config) { c.Limits.RetryMin, c.Limits.RetryMax = 5*time.Second, 10*time.Minute })
	road := a.newWay(pair{"a.example", "b.example"})
	pause := 5 * time.Second
	for range 12 {
		before := time.Now()
		road.failed(errors.New("refused"))
		if got := road.retry.Sub(before); got < pause || got > pause*5/4+time.Since(before) {
			t.Errorf("a pause of %v, want %v", got, pause)
		}
		pause = min(2*pause, 10*time.Minute)
	}
	w.add("b.example", nil)
	road.connecting = true
	c, err := a.connect(t.Context(), road.pair, road)
	if err != nil {
		t.Fatal(err)
	}
	if !road.attach(c, true) || road.failures != 0 {
		t.Errorf("%d failures are remembered", road.failures)
	}
	c.end(nil)
	c.run()
	before := time.Now()
	if road.failed(errors.New("refused")); road.retry.Sub(before) > 7*time.Second+time.Since(before) {
		t.Errorf("it begins with %v", road.retry.Sub(before))
	}
}
