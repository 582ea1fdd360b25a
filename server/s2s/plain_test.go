package s2s

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

// plainServer is a server without stream management, that a.example connects to:
// it lets anybody in and keeps what it reads, for more domains, too; features are those that it has then. said delivers its connection.
func plainServer(t *testing.T, w *world, domain, features string, more ...string) (said chan *raw) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := append(more, domain)
	for _, name := range names {
		w.locate(name, l.Addr().String(), false)
	}
	cert := w.ca.sign(t, nil, names...)
	said = make(chan *raw, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.SetDeadline(time.Now().Add(patience))
			t.Cleanup(func() { nc.Close() })
			r := &raw{t, nc}
			open := "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' id='x' from='" +
				domain + "' version='1.0'><stream:features>"
			r.until("xml:lang='en'>")
			r.write(open + "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
			r.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
			r.write("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
			r.Conn = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert})
			r.until("xml:lang='en'>")
			r.write(open + "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>")
			r.until("</auth>")
			r.write("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
			r.until("xml:lang='en'>")
			r.write(open + features + "</stream:features>")
			said <- r
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return said
}

// TestWithoutManagement: what a server without XEP-0198 has read is known by the
// answer to a question behind it, whatever the answer, or else by time; and what it
// may have lost comes again.
func TestWithoutManagement(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil, func(c *Config) { c.Limits.LivedOn = time.Minute })
	said := plainServer(t, w, "b.example", "")
	a.send("u@b.example", "one", 1)
	r := <-said
	r.until("<body>one</body></message>")
	r.until("<iq from='a.example' to='b.example' id='")
	id := strings.TrimSuffix(r.until("'"), "'")
	r.until("</iq>")
	if len(a.forgotten()) != 0 {
		t.Error("forgotten before it was known to be read")
	}
	back := a.dial()
	back.login("b.example", "a.example", w.ca.sign(t, nil, "b.example"))
	back.write("<iq type='result' id='another' from='b.example' to='a.example'/>")
	back.write("<iq type='error' id='" + id + "' from='b.example' to='a.example'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	waitFor(t, "it is known", func() bool { return len(a.forgotten()) == 1 })
	a.expect("id='another'")

	// A stream that breaks: again; one that is closed in order: not.
	a.send("u@b.example", "two", 2)
	r.until("<body>two</body></message>")
	r.Close()
	r = <-said
	r.until("<body>two</body></message>")
	r.write("</stream:stream>")
	waitFor(t, "it is closed", func() bool { return len(a.forgotten()) == 2 })
	a.send("u@b.example", "three", 3)
	r = <-said
	if got := r.until("<body>three</body></message>"); strings.Contains(got, "two") {
		t.Errorf("again: %s", got)
	}
}

// TestLivedOn: where the question isn't answered, what was written counts after a while.
func TestLivedOn(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil, func(c *Config) { c.Limits.LivedOn = 1500 * time.Millisecond })
	said := plainServer(t, w, "b.example", "")
	start := time.Now()
	a.send("u@b.example", "one", 1)
	(<-said).until("<body>one</body></message>")
	waitFor(t, "time passes", func() bool { return len(a.forgotten()) == 1 })
	if d := time.Since(start); d < time.Second {
		t.Errorf("it counted after %v", d)
	}
}
