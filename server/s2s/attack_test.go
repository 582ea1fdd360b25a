package s2s

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// raw is a peer that says what a test wants.
type raw struct {
	t testing.TB
	net.Conn
}

func (h *host) dial() *raw {
	h.w.t.Helper()
	nc, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.w.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	h.w.t.Cleanup(func() { nc.Close() })
	return &raw{h.w.t, nc}
}

func (r *raw) write(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r, s); err != nil {
		r.t.Fatal(err)
	}
}

// until reads up to and including a piece of text.
func (r *raw) until(piece string) string {
	r.t.Helper()
	var b strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(b.String(), piece) {
		if _, err := io.ReadFull(r, one); err != nil {
			r.t.Fatalf("read %q, then %v; want %q", b.String(), err, piece)
		}
		b.Write(one)
	}
	return b.String()
}

// rest reads to the end.
func (r *raw) rest() string {
	r.t.Helper()
	b, err := io.ReadAll(r)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		r.t.Fatalf("it doesn't end: %q", b)
	}
	return string(b)
}

func streamHeader(from, to string) string {
	return "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams'" +
		" from='" + from + "' to='" + to + "' version='1.0'>"
}

// secure starts TLS, with a certificate or none, and reads the features.
func (r *raw) secure(from, to string, cert *tls.Certificate) (id, features string) {
	r.t.Helper()
	r.write(streamHeader(from, to))
	r.until("</stream:features>")
	r.write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	r.until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	cfg := &tls.Config{InsecureSkipVerify: true}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	t := tls.Client(r.Conn, cfg)
	if err := t.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	r.Conn = t
	r.write(streamHeader(from, to))
	r.until(" id='")
	id = strings.TrimSuffix(r.until("'"), "'")
	return id, r.until("</stream:features>")
}

// login is a peer that is let in.
func (r *raw) login(from, to string, cert *tls.Certificate) {
	r.t.Helper()
	if _, f := r.secure(from, to, cert); !strings.Contains(f, "EXTERNAL") {
		r.t.Fatalf("EXTERNAL isn't offered: %s", f)
	}
	r.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
	r.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
	r.write(streamHeader(from, to))
	r.until("</stream:features>")
}

// loggedOnce looks for the one line that says why a peer was refused.
func (h *host) loggedOnce(t *testing.T, p *raw) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, " addr="+p.LocalAddr().String()) && !strings.Contains(line, "stream from another server") && !strings.Contains(line, "stream with another server ended") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 {
		t.Errorf("logged %d times: %s", len(lines), lines)
	}
}

// failedOnce looks for the one line that says why a domain can't be reached.
func (h *host) failedOnce(domain string) {
	h.w.t.Helper()
	if n := strings.Count(h.log.String(), " domain="+domain+" "); n != 1 {
		h.w.t.Errorf("%s: logged %d times:\n%s", domain, n, h.log)
	}
}

// TestHeaders: what is refused before anything is proved.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil, func(c *Config) { c.Peers = map[string]Policy{"spam.example": Deny} })
	for name, tc := range map[string]struct{ send, want string }{
		"no such host":           {streamHeader("a.example", "c.example"), "host-unknown"},
		"no host":                {strings.Replace(streamHeader("a.example", ""), " to=''", "", 1), "improper-addressing"},
		"us":                     {streamHeader("b.example", "b.example"), "invalid-from"},
		"us in other letters":    {streamHeader("B.Example.", "b.example"), "invalid-from"},
		"an account":             {streamHeader("u@a.example", "b.example"), "invalid-from"},
		"denied":                 {streamHeader("spam.example", "b.example"), "policy-violation"},
		"clients' stream":        {strings.Replace(streamHeader("a.example", "b.example"), "jabber:server'", "jabber:client'", 1), "invalid-namespace"},
		"no stream":              {"<x xmlns='jabber:server' to='b.example'>", "invalid-namespace"},
		"not XML":                {"GET / HTTP/1.1\r\n\r\n", "not-well-formed"},
		"a header without end":   {"<?xml version='1.0'?><stream:stream xmlns='" + strings.Repeat("x", 20_000), "policy-violation"},
		"stanza in the clear":    {streamHeader("a.example", "b.example") + "<message from='u@a.example' to='v@b.example'/>", "policy-violation"},
		"dialback in the clear":  {streamHeader("a.example", "b.example") + "<db:result from='a.example' to='b.example'>x</db:result>", "policy-violation"},
		"EXTERNAL in the clear":  {streamHeader("a.example", "b.example") + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>", "policy-violation"},
		"data behind <starttls>": {streamHeader("a.example", "b.example") + "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message/>", "policy-violation"},
		"a DTD":                  {"<!DOCTYPE x>", "restricted-xml"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.dial()
			p.write(tc.send)
			got := p.rest()
			if !strings.Contains(got, "<stream:error><"+tc.want+" xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>") || !strings.HasPrefix(got, "<?xml") || !strings.HasSuffix(got, "</stream:stream>") {
				t.Errorf("got %q", got)
			}
			b.loggedOnce(t, p)
		})
	}
	if len(b.taken()) != 0 {
		t.Error("something got in")
	}
}

// TestProofs: what is refused under TLS to who hasn't proved, or can't prove, whom
// it speaks for.
func TestProofs(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	w.add("c.example", nil) // is there, with a valid certificate, and knows nothing of all this
	good := w.ca.sign(t, nil, "a.example")
	auth := func(text string) string {
		return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>" + text + "</auth>"
	}
	result := func(from, to string) string {
		return "<db:result from='" + from + "' to='" + to + "'>0123</db:result>"
	}
	for name, tc := range map[string]struct {
		from     string
		cert     *tls.Certificate
		external bool
		send     string
		want     []string
	}{
		"another's name":         {"a.example", w.ca.sign(t, nil, "evil.example"), false, auth("="), []string{"<not-authorized/></failure>", "<not-authorized "}},
		"self-signed":            {"a.example", (*authority)(nil).sign(t, nil, "a.example"), false, auth("="), []string{"<not-authorized/></failure>"}},
		"no certificate":         {"a.example", nil, false, auth("="), []string{"<not-authorized/></failure>"}},
		"another's authzid":      {"a.example", good, true, auth(base64.StdEncoding.EncodeToString([]byte("c.example"))), []string{"<invalid-authzid/></failure>"}},
		"our authzid":            {"a.example", good, true, auth(base64.StdEncoding.EncodeToString([]byte("b.example"))), []string{"<invalid-authzid/></failure>"}},
		"no base64":              {"a.example", good, true, auth("?"), []string{"<incorrect-encoding/></failure>"}},
		"another mechanism":      {"a.example", good, true, strings.Replace(auth("="), "EXTERNAL", "PLAIN", 1), []string{"<invalid-mechanism/></failure>"}},
		"stanza":                 {"a.example", good, true, "<message from='u@a.example' to='v@b.example'/>", []string{"<not-authorized "}},
		"acknowledgements":       {"a.example", good, true, "<enable xmlns='urn:xmpp:sm:3'/><x/>", []string{"<failed xmlns='urn:xmpp:sm:3'><unexpected-request "}},
		"resumption":             {"a.example", good, true, "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/><x/>", []string{"<failed xmlns='urn:xmpp:sm:3'><unexpected-request "}},
		"forged key":             {"c.example", nil, false, result("c.example", "b.example"), []string{"<db:result from='b.example' to='c.example' type='invalid'/>", "<not-authorized "}},
		"forged key for another": {"a.example", good, true, result("c.example", "b.example"), []string{"<db:result from='b.example' to='c.example' type='invalid'/>"}},
		"dialback as us":         {"a.example", good, true, result("b.example", "b.example"), []string{"type='error'", "<not-allowed ", "<invalid-from "}},
		"dialback to nobody":     {"a.example", good, true, result("a.example", "x.example") + "<x/>", []string{"<db:result from='x.example' to='a.example' type='error'><error type='cancel'><item-not-found "}},
		"dialback from nowhere":  {"a.example", good, true, result("nowhere.example", "b.example") + "<x/>", []string{"type='error'", "<remote-server-not-found "}},
		"a result unasked":       {"a.example", good, true, "<db:result from='a.example' to='b.example' type='valid'/>", []string{"<policy-violation "}},
		"a verdict unasked":      {"a.example", good, true, "<db:verify from='a.example' to='b.example' id='x' type='valid'/>", []string{"<policy-violation "}},
		"a key that isn't ours":  {"a.example", nil, false, "<db:verify from='a.example' to='b.example' id='x'>0123</db:verify><x/>", []string{"<db:verify from='b.example' to='a.example' id='x' type='invalid'/>"}},
		"a key for nobody":       {"a.example", nil, false, "<db:verify from='a.example' to='x.example' id='x'>0123</db:verify><x/>", []string{"<db:verify from='x.example' to='a.example' id='x' type='error'><error type='cancel'><item-not-found "}},
		"dialback by an account": {"a.example", good, true, result("u@a.example", "b.example"), []string{"<improper-addressing "}},
		"an unknown element":     {"a.example", good, true, "<x/>", []string{"<unsupported-stanza-type "}},
		"too long":               {"a.example", good, true, "<message>" + strings.Repeat("x", 20_000), []string{"<policy-violation "}},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.dial()
			_, features := p.secure(tc.from, "b.example", tc.cert)
			if strings.Contains(features, "EXTERNAL") != tc.external {
				t.Errorf("offered: %s", features)
			}
			p.write(tc.send)
			got := p.rest()
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %s", got, want)
				}
			}
			if !strings.HasSuffix(got, "</stream:stream>") {
				t.Errorf("the end is %q", got)
			}
			if !strings.HasSuffix(tc.send, "<x/>") { // which is another fault
				b.loggedOnce(t, p)
			}
		})
	}
	if len(b.taken()) != 0 {
		t.Errorf("something got in: %v", b.taken())
	}
	// The key of a stream is good for that stream alone, whoever shows it.
	p := b.dial()
	p.secure("a.example", "b.example", nil)
	p.write("<db:verify from='c.example' to='b.example' id='s1'>" + b.dialbackKey("b.example", "c.example", "s1") + "</db:verify>")
	p.until("type='valid'/>")
	p.write("<db:verify from='c.example' to='b.example' id='s2'>" + b.dialbackKey("b.example", "c.example", "s1") + "</db:verify>")
	p.until("type='invalid'/>")
}

// TestForeign: stanzas with addresses that an authenticated stream doesn't speak
// for end it, and no other one.
func TestForeign(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil, func(c *Config) { c.Domains = []string{"b.example", "b2.example"} })
	cert := w.ca.sign(t, nil, "a.example")
	other := b.dial()
	other.login("a.example", "b.example", cert)
	for name, tc := range map[string]struct{ send, want string }{
		"from another":         {"<message from='u@c.example' to='v@b.example'/>", "invalid-from"},
		"from a subdomain":     {"<message from='u@x.a.example' to='v@b.example'/>", "invalid-from"},
		"from us":              {"<message from='u@b.example' to='v@b.example'/>", "invalid-from"},
		"to nobody":            {"<message from='u@a.example' to='v@c.example'/>", "host-unknown"},
		"to another of ours":   {"<message from='u@a.example' to='v@b2.example'/>", "invalid-from"},
		"without from":         {"<message to='v@b.example'/>", "improper-addressing"},
		"without to":           {"<message from='u@a.example'/>", "improper-addressing"},
		"with a bad address":   {"<message from='@' to='v@b.example'/>", "improper-addressing"},
		"no stanza":            {"<note from='u@a.example' to='v@b.example'/>", "unsupported-stanza-type"},
		"a second login":       {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>", "policy-violation"},
		"a resource's session": {"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", "unsupported-stanza-type"},
		"too long":             {"<message from='u@a.example' to='v@b.example'><body>" + strings.Repeat("x", 300<<10), "policy-violation"},
		"a count of nothing":   {"<enable xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='7'/><x/>", "unsupported-stanza-type"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.dial()
			p.login("a.example", "b.example", cert)
			p.write(tc.send)
			if got := p.rest(); !strings.Contains(got, "<stream:error><"+tc.want+" ") {
				t.Errorf("got %q", got)
			}
			b.loggedOnce(t, p)
		})
	}
	if len(b.taken()) != 0 {
		t.Errorf("something got in: %v", b.taken())
	}
	other.write("<message from='u@a.example' to='v@b.example'><body>fine</body></message><iq type='get' from='u@a.example' to='v@b.example'/>")
	b.expect("fine")
}

// TestResumeOfAnother: nobody goes on with another domain's session.
func TestResumeOfAnother(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	p := b.dial()
	p.login("a.example", "b.example", w.ca.sign(t, nil, "a.example"))
	p.write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	p.until("<enabled xmlns='urn:xmpp:sm:3' id='")
	id := strings.TrimSuffix(p.until("'"), "'")
	p.write("<message from='u@a.example' to='v@b.example'><body>m</body></message><r xmlns='urn:xmpp:sm:3'/>")
	p.until("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	evil := b.dial()
	evil.login("evil.example", "b.example", w.ca.sign(t, nil, "evil.example"))
	evil.write("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
	if got := evil.until("</failed>"); strings.Contains(got, " h=") || !strings.Contains(got, "item-not-found") {
		t.Errorf("another got %s", got)
	}
	// The domain itself does, also before the server knows that the old stream broke.
	again := b.dial()
	again.login("a.example", "b.example", w.ca.sign(t, nil, "a.example"))
	again.write("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
	again.until("<resumed xmlns='urn:xmpp:sm:3' previd='" + id + "' h='1'/>")
}

// downgrade is a man in the middle that takes the offer of TLS away.
func TestDowngrade(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, answer := range []string{
		"<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
		"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
		"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features><proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features/>",
	} {
		domain := "m" + xmltreeID(answer) + ".example"
		w.locate(domain, l.Addr().String(), false)
		heard := make(chan string, 1)
		go func() {
			nc, err := l.Accept()
			if err != nil {
				heard <- err.Error()
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			io.WriteString(nc, "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='x' version='1.0'>"+answer)
			b, _ := io.ReadAll(nc)
			heard <- string(b)
		}()
		before := len(a.taken())
		a.send("p@"+domain, "secret", 0)
		waitFor(t, "the error", func() bool { return len(a.taken()) > before })
		if got := <-heard; strings.Contains(got, "secret") || strings.Contains(got, "db:result") || strings.Contains(got, "<auth") {
			t.Errorf("in the clear went %s", got)
		}
		a.failedOnce(domain)
	}
}

// TestOldTLS: nothing older than TLS 1.2 is spoken, on either port (RFC 9325 3.1.1).
func TestOldTLS(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go b.Serve(l, true)
	for _, direct := range []bool{true, false} {
		var p *raw
		if direct {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			p = &raw{t, nc}
		} else {
			p = b.dial()
			p.write(streamHeader("a.example", "b.example"))
			p.until("</stream:features>")
			p.write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
			p.until("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		}
		old := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err := old.Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("direct %t: %v", direct, err)
		}
		waitFor(t, "the end", func() bool { return b.Metrics.Incoming.Load() == 0 })
		b.loggedOnce(t, p)
	}
}

func xmltreeID(s string) string {
	n := 0
	for _, c := range s {
		n = (n*31 + int(c)) % 9973
	}
	return string(rune('a'+n%26)) + string(rune('a'+n/26%26))
}

// TestFloods: streams that prove nothing are bounded in number and time, one that
// is let in in bytes per second, and one that ended in what it still sends.
func TestFloods(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil, func(c *Config) { c.Limits.Unauthenticated = 3 })
	for range 3 {
		b.dial()
	}
	waitFor(t, "three", func() bool { return b.Metrics.Incoming.Load() == 3 })
	if got := b.dial().rest(); got != "" {
		t.Errorf("one too many got %q", got)
	}

	b = w.add("b2.example", nil, func(c *Config) { c.Limits.EarlyTime = 500 * time.Millisecond })
	silent, half, slow := b.dial(), b.dial(), b.dial()
	half.write("<?xml version='1.0'?><stream:stream xmlns='jabber:server")
	slow.write(streamHeader("a.example", "b2.example"))
	for _, p := range []*raw{silent, half, slow} {
		if got := p.rest(); !strings.Contains(got, "<connection-timeout ") || !strings.HasPrefix(got, "<?xml") {
			t.Errorf("got %q", got)
		}
		b.loggedOnce(t, p)
	}
	waitFor(t, "room", func() bool { return b.Metrics.Incoming.Load() == 0 })

	b = w.add("b3.example", nil, func(c *Config) { c.Limits.BytesPerSecond = 2000 })
	p := b.dial()
	p.login("a.example", "b3.example", w.ca.sign(t, nil, "a.example"))
	st := "<message from='u@a.example' to='v@b3.example'><body>" + strings.Repeat("x", 2000) + "</body></message>"
	start := time.Now()
	p.write(st + st + st)
	waitFor(t, "three stanzas", func() bool { return len(b.taken()) == 3 })
	if d := time.Since(start); d < 500*time.Millisecond {
		t.Errorf("three seconds' worth took %v", d)
	}
}

// TestBackPressure: a stream isn't read while its stanza is being dealt with.
func TestBackPressure(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	b.block = make(chan struct{})
	p := b.dial()
	p.login("a.example", "b.example", w.ca.sign(t, nil, "a.example"))
	p.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	sent, err := 0, error(nil)
	for err == nil && sent < 256<<20 {
		n := 0
		n, err = io.WriteString(p, strings.Repeat("<message from='u@a.example' to='v@b.example'><body>x</body></message>", 1000))
		sent += n
	}
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("%d bytes were read: %v", sent, err)
	}
	close(b.block)
}

// TestMultiplex: one stream speaks for several pairs, each proved (XEP-0220 2.6).
func TestMultiplex(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil, func(c *Config) { c.Domains = []string{"b.example", "b2.example"}; c.Limits.Pairs = 3 })
	p := b.dial()
	p.login("a.example", "b.example", w.ca.sign(t, nil, "a.example", "rooms.a.example"))
	for _, pair := range [][2]string{{"a.example", "b2.example"}, {"rooms.a.example", "b.example"}} {
		p.write("<db:result from='" + pair[0] + "' to='" + pair[1] + "'>whatever</db:result>")
		p.until("<db:result from='" + pair[1] + "' to='" + pair[0] + "' type='valid'/>")
		p.write("<message from='" + pair[0] + "' to='u@" + pair[1] + "'><body>m</body></message>")
	}
	b.expect("<message from='a.example' to='u@b2.example'>", "<message from='rooms.a.example' to='u@b.example'>")
	p.write("<db:result from='rooms.a.example' to='b2.example'>x</db:result>")
	p.until("<resource-constraint ")
}

// TestPoison: a message that the other server ends its streams for goes back, and
// what waits behind it comes, once.
func TestPoison(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", (*authority)(nil).sign(t, nil, "a.example")) // by dialback, where limits that are announced don't count
	b := w.add("b.example", nil, func(c *Config) {
		c.Policy, c.Limits.Stanza = Dialback, xmltree.Limits{MaxBytes: 20_000}
	})
	a.send("p@b.example", "before", 1)
	b.expect("before")
	a.send("p@b.example", strings.Repeat("x", 30_000), 2)
	for i := range 20 {
		a.send("p@b.example", fmt.Sprint("behind", i, "."), uint64(3+i))
	}
	a.expect("<not-acceptable ")
	waitFor(t, "all", func() bool { return len(a.forgotten()) == 22 })
	got := b.taken()
	for i := range 20 {
		if len(got) != 21 || !strings.Contains(got[i+1], fmt.Sprint("behind", i, ".")) {
			t.Fatalf("%d came: %v", len(got), got)
		}
	}
}

// TestTooLong: what is longer than the other server says that it takes isn't sent to
// it, and ends no stream (XEP-0478 4).
func TestTooLong(t *testing.T) {
	w := newWorld(t)
	small := func(c *Config) { c.Limits.Stanza.MaxBytes = 20_000 }
	a, b := w.add("a.example", nil, small), w.add("b.example", nil, small)
	a.send("p@b.example", strings.Repeat("x", 30_000), 1) // before there is a stream
	a.send("p@b.example", "short", 2)
	b.expect("short")
	a.send("p@b.example", strings.Repeat("y", 30_000), 3)
	long := a.message("p@b.example", strings.Repeat("z", 30_000))
	if e := a.Send(long); e == nil || e.Condition != stanza.PolicyViolation {
		t.Errorf("not kept: %v", e)
	}
	a.expect("<policy-violation ", "<policy-violation ")
	b.send("u@a.example", strings.Repeat("x", 30_000), 1) // on a's stream (XEP-0288)
	b.send("u@a.example", "back", 2)
	b.expect("short", "<policy-violation ")
	a.expect("<policy-violation ", "<policy-violation ", "back")
	waitFor(t, "all leave the outbox", func() bool { return len(a.forgotten()) == 3 && len(b.forgotten()) == 2 })
	if n := a.Metrics.Outgoing.Load() + b.Metrics.Outgoing.Load(); n != 1 {
		t.Errorf("%d streams", n)
	}
}

// bidi is a peer that lends its stream.
func (r *raw) bidi(from, to string, cert *tls.Certificate) {
	r.t.Helper()
	r.secure(from, to, cert)
	r.write("<bidi xmlns='urn:xmpp:bidi'/><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
	r.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
	r.write(streamHeader(from, to))
	r.until("</stream:features>")
}

// TestLent: over a stream that a peer lends goes what is for the domain that it has
// proved, and it can't acknowledge what was never sent.
func TestLent(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	p := b.dial()
	p.bidi("a.example", "b.example", w.ca.sign(t, nil, "a.example"))
	p.write("<enable xmlns='urn:xmpp:sm:3'/><message from='u@a.example' to='v@b.example'/>")
	p.until("<enabled xmlns='urn:xmpp:sm:3'/>")
	b.expect("<message ")
	b.send("u@a.example", "lent", 1)
	p.until("<body>lent</body></message><r xmlns='urn:xmpp:sm:3'/>")
	p.write("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	waitFor(t, "acknowledgement", func() bool { return len(b.forgotten()) == 1 })
	p.write("<a xmlns='urn:xmpp:sm:3' h='5'/>")
	if got := p.rest(); !strings.Contains(got, "<undefined-condition ") || !strings.Contains(got, "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='5' send-count='1'/>") {
		t.Errorf("got %q", got)
	}

	// Who says to be a bank and proves to be somebody else gets nothing of the bank's.
	w.locate("bank.example", "127.0.0.1:1", false)
	evil := b.dial()
	evil.secure("bank.example", "b.example", w.ca.sign(t, nil, "evil.example"))
	evil.write("<bidi xmlns='urn:xmpp:bidi'/><db:result from='evil.example' to='b.example'>x</db:result>")
	evil.until("<db:result from='b.example' to='evil.example' type='valid'/>")
	evil.write("<enable xmlns='urn:xmpp:sm:3'/><message from='u@evil.example' to='v@b.example'/>")
	evil.until("<enabled xmlns='urn:xmpp:sm:3'/>")
	waitFor(t, "its message", func() bool { return len(b.taken()) == 2 })
	b.send("u@bank.example", "for the bank", 2)
	waitFor(t, "a try", func() bool { return b.Metrics.ConnectErrors.Load() > 0 })
	evil.write("<r xmlns='urn:xmpp:sm:3'/>")
	if got := evil.until("<a xmlns='urn:xmpp:sm:3' h='1'/>"); strings.Contains(got, "bank") {
		t.Errorf("it got %q", got)
	}
}

// TestHostileServers: who says nothing, or too much, when it is connected to costs
// the time for a connection and no more.
func TestHostileServers(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil, func(c *Config) { c.Limits.ConnectTime = 500 * time.Millisecond })
	const open = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='x' version='1.0'>"
	for i, says := range []string{
		"", open, "<?xml version='1.0'?><stream:stream a='" + strings.Repeat("x", 100_000), open + "<stream:features>" + strings.Repeat("<x/>", 100_000),
		strings.Replace(open, "version", "v", 1), strings.Replace(open, "jabber:server", "jabber:client", 1), open + "<db:result xmlns:db='jabber:server:dialback'/>",
		open + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", open + "</stream:stream>", "HTTP/1.1 400 Bad Request\r\n",
		open + "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features><proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			io.WriteString(nc, says)
			io.Copy(io.Discard, nc)
		}()
		domain := fmt.Sprintf("h%d.example", i)
		w.locate(domain, l.Addr().String(), false)
		a.send("p@"+domain, "x", 0)
		waitFor(t, says, func() bool { return len(a.taken()) == i+1 })
		l.Close() // it may never have been connected to
		<-ended
		if got := a.taken()[i]; !strings.Contains(got, "<remote-server-timeout ") {
			t.Errorf("%.100s: %s", says, got)
		}
		a.failedOnce(domain)
	}
}
