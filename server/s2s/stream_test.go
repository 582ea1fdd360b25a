package s2s

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
)

// TestBothWays: two servers find and trust each other, and what is sent comes, in
// order, and is acknowledged; the way back takes the same stream (XEP-0288).
func TestBothWays(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	var want []string
	for i := range 100 {
		a.send("bob@b.example", fmt.Sprint("m", i, "."), uint64(i+1))
		want = append(want, fmt.Sprint("<body>m", i, ".</body>"))
	}
	b.expect(want...)
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) == 100 })
	b.send("alice@a.example/r", "back", 1)
	a.expect("back")
	waitFor(t, "acknowledgement", func() bool { return len(b.forgotten()) == 1 })
	if got := a.taken()[0]; got != "<message from='alice@b.example/r' to='alice@a.example/r' id='back' type='chat'><body>back</body></message>" {
		t.Errorf("it came as %s", got)
	}
	if a.Metrics.Accepted.Load() != 0 || b.Metrics.Accepted.Load() != 1 {
		t.Errorf("%d and %d connections", a.Metrics.Accepted.Load(), b.Metrics.Accepted.Load())
	}
	if !strings.Contains(a.log.String(), "PKIX EXTERNAL") || !strings.Contains(b.log.String(), "PKIX EXTERNAL") {
		t.Error("not by certificate")
	}
}

// TestDirectTLS: the records of XEP-0368 come first where they say so.
func TestDirectTLS(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.make("b.example", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go b.Serve(l, true)
	w.locate("b.example", l.Addr().String(), true)
	a.send("bob@b.example", "direct", 1)
	b.expect("direct")
}

// TestNames: every kind of name that a certificate may have for a domain.
func TestNames(t *testing.T) {
	ca := newAuthority(t)
	for _, tc := range []struct {
		name string
		cert *tls.Certificate
		ok   bool
	}{
		{"DNS-ID", ca.sign(t, nil, "b.example"), true},
		{"wildcard", ca.sign(t, nil, "*.example"), true},
		{"wildcard too high", ca.sign(t, nil, "*.b.example"), false},
		{"SRV-ID", ca.sign(t, withNames("_xmpp-server.b.example", "")), true},
		{"SRV-ID of clients", ca.sign(t, withNames("_xmpp-client.b.example", "")), false},
		{"SRV-ID of another", ca.sign(t, withNames("_xmpp-server.c.example", "")), false},
		{"XmppAddr", ca.sign(t, withNames("", "b.example")), true},
		{"XmppAddr of an account", ca.sign(t, withNames("", "a@b.example")), false},
		{"another", ca.sign(t, nil, "c.example"), false},
		{"no name", ca.sign(t, nil), false},
		{"common name alone", ca.sign(t, func(c *x509.Certificate) { c.Subject.CommonName = "b.example" }), false},
		{"expired", ca.sign(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "b.example"), false},
		{"not yet", ca.sign(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "b.example"), false},
		{"self-signed", (*authority)(nil).sign(t, nil, "b.example"), false},
		{"another authority", newAuthority(t).sign(t, nil, "b.example"), false},
		{"for clients", ca.sign(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "b.example"), true},
		{"for signing code", ca.sign(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "b.example"), false},
	} {
		err := checkPKIX([]*x509.Certificate{tc.cert.Leaf}, "b.example", nil, ca.pool(), time.Now())
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	host := ca.sign(t, nil, "xmpp.hoster.example")
	if checkPKIX([]*x509.Certificate{host.Leaf}, "b.example", []string{"xmpp.hoster.example"}, ca.pool(), time.Now()) != nil {
		t.Error("a host that DNSSEC names")
	}
	if checkPKIX(nil, "b.example", nil, ca.pool(), time.Now()) == nil {
		t.Error("no certificate")
	}
}

// TestBadCertificates: whose certificate is wrong is neither written to nor heard.
func TestBadCertificates(t *testing.T) {
	for name, cert := range map[string]func(w *world) *tls.Certificate{
		"doesn't name a.example":       func(w *world) *tls.Certificate { return w.ca.sign(t, nil, "evil.example") },
		"is self-signed":               func(*world) *tls.Certificate { return (*authority)(nil).sign(t, nil, "a.example") },
		"authority that isn't trusted": func(*world) *tls.Certificate { return newAuthority(t).sign(t, nil, "a.example") },
		"is valid from": func(w *world) *tls.Certificate {
			return w.ca.sign(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "a.example")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.add("a.example", cert(w)), w.add("b.example", nil)
			if e := a.Send(a.message("bob@b.example", "in")); e != nil {
				t.Fatal(e)
			}
			a.expect("<remote-server-timeout ") // dialback asks a server that has proved nothing
			b.send("alice@a.example", "out", 0)
			b.expect("<remote-server-timeout ")
			if !strings.Contains(b.log.String(), name) {
				t.Errorf("the log doesn't say why:\n%s", b.log)
			}
			if b.Metrics.AuthFailures.Load() == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

// TestDialback: where certificates aren't asked for, the server that DNS names says
// which keys are its own.
func TestDialback(t *testing.T) {
	w := newWorld(t)
	relaxed := func(c *Config) { c.Peers = map[string]Policy{"a.example": Dialback, "b.example": Dialback} }
	a := w.add("a.example", (*authority)(nil).sign(t, nil, "a.example"), relaxed)
	b := w.add("b.example", (*authority)(nil).sign(t, nil, "b.example"), relaxed)
	a.send("bob@b.example", "by dialback", 1)
	b.expect("by dialback")
	waitFor(t, "acknowledgement", func() bool { return len(a.forgotten()) == 1 })
	b.send("alice@a.example", "back", 1)
	a.expect("back")
	if !strings.Contains(b.log.String(), "[TLS dialback]") {
		t.Error(b.log)
	}
}

// TestKey is XEP-0185's example.
func TestKey(t *testing.T) {
	w := newWorld(t)
	a := w.make("a.example", nil)
	const want = "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643"
	if got := a.dialbackKey("example.org", "xmpp.example.com", "D60000229F"); got != want {
		t.Errorf("got %s", got)
	}
}

// TestPolicy: what each policy takes from a server with each proof.
func TestPolicy(t *testing.T) {
	for _, tc := range []struct {
		policy Policy
		takes  string
	}{{Certificate, "PKIX DANE"}, {PKIX, "PKIX"}, {DANE, "DANE"}, {Dialback, "none PKIX DANE"}, {Deny, ""}} {
		var takes []string
		for _, p := range []Proof{NoProof, ByPKIX, ByDANE} {
			if tc.policy.accepts(p) {
				takes = append(takes, cmpOr(string(p), "none"))
			}
		}
		if got := strings.Join(takes, " "); got != tc.takes {
			t.Errorf("%s takes %s", tc.policy, got)
		}
	}
	w := newWorld(t)
	a := w.add("a.example", nil, func(c *Config) { c.Peers = map[string]Policy{"b.example": Deny} })
	b := w.add("b.example", nil)
	if e := a.Refuses(a.message("bob@b.example", "x")); e == nil || e.Condition != stanza.NotAllowed {
		t.Errorf("denied: %v", e)
	}
	a.SendKept(a.message("bob@b.example", "x"), 7, 0) // from when it wasn't denied
	a.expect("<not-allowed ")
	waitFor(t, "it leaves the outbox", func() bool { return slices.Equal(a.forgotten(), []uint64{7}) })
	b.send("alice@a.example", "x", 0)
	b.expect("<remote-server-timeout ")
	if len(a.taken()) != 1 {
		t.Error("a denied domain got in")
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// TestDANE: what DNSSEC vouches for counts, and nothing else does where it does.
func TestDANE(t *testing.T) {
	w := newWorld(t)
	w.ad = true
	cert := (*authority)(nil).sign(t, nil, "somebody.example")
	own := (*authority)(nil).sign(t, nil, "whoever.example")
	a := w.add("a.example", own, func(c *Config) { c.Policy = DANE })
	b := w.add("b.example", cert, func(c *Config) { c.Policy = DANE })
	w.vouch(a, own.Leaf)
	w.vouch(b, cert.Leaf)
	a.send("bob@b.example", "by DANE", 0)
	b.expect("by DANE")
	if !strings.Contains(a.log.String(), "DANE EXTERNAL") || !strings.Contains(b.log.String(), "DANE EXTERNAL") {
		t.Error("not by DANE")
	}
	// A valid certificate is none where DNSSEC vouches for another.
	c := w.add("c.example", nil)
	w.vouch(c, cert.Leaf)
	d := w.add("d.example", nil)
	d.send("carol@c.example", "x", 0)
	d.expect("<remote-server-timeout ")
	if !strings.Contains(d.log.String(), "vouches for another certificate") {
		t.Error("the log doesn't say why")
	}
}

// TestRecords: the usages of RFC 6698 2.1.1.
func TestRecords(t *testing.T) {
	ca := newAuthority(t)
	good, other := ca.sign(t, nil, "b.example"), ca.sign(t, nil, "c.example")
	private := newAuthority(t)
	own, ownOther := private.sign(t, nil, "b.example"), private.sign(t, nil, "c.example")
	for _, tc := range []struct {
		name  string
		usage uint8
		of    *x509.Certificate
		chain []*x509.Certificate
		ok    bool
	}{
		{"PKIX-TA", 0, ca.cert, []*x509.Certificate{good.Leaf}, true},
		{"PKIX-TA, another's certificate", 0, ca.cert, []*x509.Certificate{other.Leaf}, false},
		{"PKIX-TA, not trusted", 0, private.cert, []*x509.Certificate{own.Leaf, private.cert}, false},
		{"PKIX-EE", 1, good.Leaf, []*x509.Certificate{good.Leaf}, true},
		{"PKIX-EE, not trusted", 1, own.Leaf, []*x509.Certificate{own.Leaf}, false},
		{"DANE-TA", 2, private.cert, []*x509.Certificate{own.Leaf, private.cert}, true},
		{"DANE-TA, another's certificate", 2, private.cert, []*x509.Certificate{ownOther.Leaf, private.cert}, false},
		{"DANE-TA, not shown", 2, private.cert, []*x509.Certificate{own.Leaf}, false},
		{"DANE-EE", 3, own.Leaf, []*x509.Certificate{own.Leaf}, true},
		{"DANE-EE, whatever it names", 3, other.Leaf, []*x509.Certificate{other.Leaf}, true},
		{"DANE-EE, another", 3, other.Leaf, []*x509.Certificate{good.Leaf}, false},
		{"no such usage", 4, good.Leaf, []*x509.Certificate{good.Leaf}, false},
	} {
		for selector := range uint8(2) {
			for matching := range uint8(3) {
				hash, err := dns.CertificateToDANE(selector, matching, tc.of)
				if err != nil {
					t.Fatal(err)
				}
				r := &lookup.TLSA{Usage: tc.usage, Selector: selector, MatchingType: matching, Certificate: hash}
				if err := checkDANE(tc.chain, []*lookup.TLSA{r}, "b.example", nil, ca.pool(), time.Now()); (err == nil) != tc.ok {
					t.Errorf("%s %d %d: %v", tc.name, selector, matching, err)
				}
			}
		}
	}
}

// relay is a connection between two servers that a test can cut.
type relay struct {
	addr string
	mu   sync.Mutex
	held []net.Conn
	shut bool
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String()}
	var copying sync.WaitGroup
	copying.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			r.mu.Lock()
			if err != nil || r.shut {
				r.mu.Unlock()
				near.Close()
				if err == nil {
					far.Close()
				}
				continue
			}
			r.held = append(r.held, near, far) // with mu held, or cut doesn't see it
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				copying.Go(func() {
					buf := make([]byte, 4096)
					for {
						n, err := pair[0].Read(buf)
						if n > 0 {
							if _, err := pair[1].Write(buf[:n]); err != nil {
								break
							}
						}
						if err != nil {
							break
						}
					}
					pair[0].Close()
					pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.cut(true)
		copying.Wait()
	})
	return r
}

// cut breaks all connections; with shut, none is made any more.
func (r *relay) cut(shut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = shut
	for _, c := range r.held {
		c.Close()
	}
	r.held = nil
}

// TestResume: a connection that breaks again and again loses nothing and brings
// nothing twice, in neither direction (XEP-0198 5).
func TestResume(t *testing.T) {
	w := newWorld(t)
	patient := func(c *Config) { c.Limits.RetryMin = 10 * time.Second } // it waits for a to resume
	a, b := w.add("a.example", nil), w.add("b.example", nil, patient)
	r := newRelay(t, b.addr)
	w.locate("b.example", r.addr, false)
	b.mu.Lock()
	b.onStanza = func(st *stanza.Stanza) { b.SendKept(b.message("alice@a.example", "re "+st.ID), 1, 0) }
	b.mu.Unlock()
	const n = 2000
	for i := range n {
		a.send("bob@b.example", fmt.Sprint("m", i, "."), uint64(i+1))
		if i%200 == 100 {
			waitFor(t, "some came", func() bool { return len(b.taken()) > i/2 })
			r.cut(false)
		}
	}
	waitFor(t, "all and their answers", func() bool { return len(b.taken()) >= n && len(a.taken()) >= n })
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) >= n })
	for i, got := range b.taken() {
		if !strings.Contains(got, fmt.Sprint("<body>m", i, ".</body>")) {
			t.Fatalf("%d is %s", i, got)
		}
	}
	for i, got := range a.taken() {
		if !strings.Contains(got, fmt.Sprint("<body>re m", i, ".</body>")) {
			t.Fatalf("answer %d is %s", i, got)
		}
	}
	if len(b.taken()) != n || len(a.taken()) != n || len(a.forgotten()) != n {
		t.Errorf("%d came, %d answers, %d forgotten", len(b.taken()), len(a.taken()), len(a.forgotten()))
	}
	if a.Metrics.Resumed.Load() == 0 {
		t.Error("nothing was resumed")
	}
}

// TestAway: messages for a server that can't be reached wait, everything else goes
// back at once; when their time is up they go back too.
func TestAway(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	r := newRelay(t, b.addr)
	w.locate("b.example", r.addr, false)
	r.cut(true)
	a.send("bob@b.example", "waits", 1)
	waitFor(t, "a failure", func() bool { return a.Metrics.ConnectErrors.Load() > 0 })
	if e := a.Send(parse(t, "<iq type='get' id='i' from='alice@a.example/r' to='bob@b.example/r'><ping xmlns='urn:xmpp:ping'/></iq>")); e == nil {
		a.expect("<remote-server-timeout ") // it was being tried again
	} else if e.Condition != stanza.RemoteServerTimeout {
		t.Errorf("at once: %v", e)
	}
	a.send("bob@b.example", "too", 2)
	r.cut(false)
	b.expect("waits", "too")

	c := w.add("c.example", nil, func(c *Config) { c.Limits.GiveUp = 100 * time.Millisecond })
	w.locate("gone.example", "127.0.0.1:1", false)
	c.send("p@gone.example", "m", 5)
	c.expect("<remote-server-timeout ")
	waitFor(t, "forgotten", func() bool { return len(c.forgotten()) == 1 })
	d := w.add("d.example", nil)
	d.send("p@nowhere.example", "m", 6)
	d.expect("<remote-server-not-found ")
	waitFor(t, "forgotten", func() bool { return len(d.forgotten()) == 1 })
}

// TestRestart: an orderly stop loses nothing and brings nothing twice.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	for i := range 50 {
		a.send("bob@b.example", fmt.Sprint("m", i, "."), uint64(i+1))
	}
	waitFor(t, "some", func() bool { return len(b.taken()) > 10 })
	b.close()
	seen := b.taken()
	for i := range 50 {
		a.send("bob@b.example", fmt.Sprint("m", 50+i, "."), uint64(51+i))
	}
	again := w.add("b.example", nil)
	waitFor(t, "the rest", func() bool { return len(seen)+len(again.taken()) >= 100 })
	for i, got := range append(seen, again.taken()...) {
		if !strings.Contains(got, fmt.Sprint("<body>m", i, ".</body>")) {
			t.Fatalf("%d is %s", i, got)
		}
	}
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) == 100 })
}

// TestQueue: what waits for one domain is bounded, and holds up no other one.
func TestQueue(t *testing.T) {
	w := newWorld(t)
	a, b, dead := w.add("a.example", nil, func(c *Config) { c.Limits.QueueBytes = 20_000 }), w.add("b.example", nil), w.add("dead.example", nil)
	dead.block = make(chan struct{})
	var e *stanza.Error
	n := 0
	for ; n < 100_000; n++ {
		m := a.message("p@dead.example", strings.Repeat("x", 1000))
		if e = a.Refuses(m); e != nil {
			break
		}
		a.SendKept(m, uint64(n+1), 0)
	}
	if e == nil || e.Condition != stanza.ResourceConstraint {
		t.Fatalf("%d were taken, then %v", n, e)
	}
	if e := a.Send(a.message("p@dead.example", "x")); e == nil || e.Condition != stanza.ResourceConstraint {
		t.Errorf("one that isn't kept: %v", e)
	}
	a.send("bob@b.example", "meanwhile", 0)
	b.expect("meanwhile")
	close(dead.block)
}

// TestReplayAll: what is in the outbox has been acknowledged, so it is sent however
// much it is.
func TestReplayAll(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil, func(c *Config) { c.Limits.QueueBytes, c.Limits.Ways = 1000, 1 }), w.add("b.example", nil)
	const n = 100
	var want []string
	for i := range n {
		body := fmt.Sprint("m", i, ".")
		want = append(want, body)
		a.Replay(a.message("bob@b.example", body), uint64(i+1), time.Now())
	}
	c := w.add("c.example", nil)
	a.Replay(a.message("bob@c.example", "one way more"), n+1, time.Now())
	b.expect(want...)
	c.expect("one way more")
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) == n+1 })
	if got := a.taken(); len(got) != 0 {
		t.Errorf("went back: %v", got)
	}
}

// TestWays: how many domains are written to is bounded.
func TestWays(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil, func(c *Config) { c.Limits.Ways = 3 })
	for i := range 5 {
		e := a.Send(a.message(fmt.Sprintf("p@d%d.example", i), "x"))
		if (e != nil) != (i >= 3) || e != nil && e.Condition != stanza.ResourceConstraint {
			t.Errorf("%d: %v", i, e)
		}
	}
	a.expect("<remote-server-not-found ", "<remote-server-not-found ", "<remote-server-not-found ")
}

// TestIdle: a stream without stanzas is closed, and the next stanza makes another.
func TestIdle(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil, func(c *Config) { c.Limits.Idle = 200 * time.Millisecond }), w.add("b.example", nil)
	a.send("bob@b.example", "one", 1)
	b.expect("one")
	waitFor(t, "the end", func() bool { return a.Metrics.Outgoing.Load() == 0 && b.Metrics.Incoming.Load() == 0 })
	a.send("bob@b.example", "two", 2)
	b.expect("one", "two")
}

// TestHappyEyeballs: an address that doesn't answer costs a moment only.
func TestHappyEyeballs(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	// The discard prefix (RFC 6666): nobody answers there, if anything leads there.
	w.record("xmpp.b.example", "AAAA", "100::1")
	a.send("bob@b.example", "x", 0)
	b.expect("x")
	if _, err := dial(t.Context(), nil, 1); err == nil {
		t.Error("no address")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	addrs, err := lookup.New(w.dns).Addresses(t.Context(), "xmpp.b.example")
	if err != nil || len(addrs) != 2 {
		t.Fatal(addrs, err)
	}
	if _, err := dial(ctx, addrs, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBothDial: where both sides make streams anew at the same time, they ask each
// other what has come: nothing is lost and nothing comes twice.
func TestBothDial(t *testing.T) {
	w := newWorld(t)
	hasty := func(c *Config) { c.Limits.RetryMin = time.Millisecond }
	a, b := w.add("a.example", nil, hasty), w.add("b.example", nil, hasty)
	ra, rb := newRelay(t, a.addr), newRelay(t, b.addr)
	w.locate("a.example", ra.addr, false)
	w.locate("b.example", rb.addr, false)
	b.mu.Lock()
	b.onStanza = func(st *stanza.Stanza) {
		b.SendKept(b.message("alice@a.example", "re "+st.ID), 1, 0)
	}
	b.mu.Unlock()
	seen := func(h *host) map[string]bool {
		m := map[string]bool{}
		for _, got := range h.taken() {
			m[got] = true
		}
		return m
	}
	const n = 1000
	for i := range n {
		a.send("bob@b.example", fmt.Sprint("m", i, "."), uint64(i+1))
		if i%50 == 25 {
			waitFor(t, "some came", func() bool { return len(seen(b)) > i/2 })
			ra.cut(false)
			rb.cut(false)
		}
	}
	waitFor(t, "all and their answers", func() bool { return len(seen(b)) >= n && len(seen(a)) >= n })
	if len(b.taken()) != n || len(a.taken()) != n {
		t.Errorf("%d came, %d answers, want %d", len(b.taken()), len(a.taken()), n)
	}
}
