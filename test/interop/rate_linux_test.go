package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/s2s"
	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
)

// seconds is how long is measured.
func seconds(t *testing.T) time.Duration {
	n, err := strconv.Atoi(os.Getenv("CARILLON_FEDERATION"))
	if err != nil {
		t.Skip("needs CARILLON_FEDERATION=seconds (make federation)")
	}
	return time.Duration(n) * time.Second
}

// cpu is the processor time that the server has used.
func (o *other) cpu() time.Duration {
	o.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.process.Process.Pid))
	if err != nil {
		o.t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// anonymous is the memory that the server holds without the files that it has mapped.
func (o *other) anonymous() int {
	o.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.process.Process.Pid))
	if err != nil {
		o.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		o.t.Fatal(err)
	}
	return n << 10
}

// listen is a session that only says what arrives.
func (o *other) listen(user string, observe func(*stream.Event)) *xmppclient.Client {
	o.t.Helper()
	nc, err := net.Dial("tcp", "127.0.0.1:"+o.c2s)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := xmppclient.Login(nc, xmppclient.Config{Account: jid.MustParse(user + "@" + o.domain), Password: "secret-" + user, Observe: observe,
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: o.domain}}) // its certificate is not what is measured
	if err == nil {
		err = c.Bind("bench")
	}
	if err == nil {
		err = c.Send("<presence/>")
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Cut() })
	return c
}

// TestFederationRate measures messages from one server to another, two processes, the
// archive on in both, as fast as they come: each of ten people has twenty under way.
func TestFederationRate(t *testing.T) {
	d := seconds(t)
	for _, kind := range []string{"carillon", "prosody"} {
		t.Run(kind, func(t *testing.T) {
			n := newInternet(t)
			n.quiet = true
			a, b := n.server(kind, "a.fed", true), n.server(kind, "b.fed", true)
			a.start()
			b.start()
			const people, window = 10, 20
			var came atomic.Int64
			stop := make(chan struct{})
			defer close(stop)
			for i := range people {
				from, to := fmt.Sprint("sender", i), fmt.Sprint("reader", i)
				a.register(a, from)
				b.register(b, to)
				room := make(chan struct{}, window)
				b.listen(to, func(ev *stream.Event) {
					if ev.Stanza != nil && ev.Stanza.Kind == stanza.Message {
						came.Add(1)
						<-room
					}
				})
				c := a.listen(from, func(*stream.Event) {})
				message := "<message to='" + to + "@b.fed' type='chat' id='m'><body>" + strings.Repeat("x", 100) + "</body></message>"
				go func() {
					for {
						select {
						case room <- struct{}{}:
						case <-stop:
							return
						}
						if c.Send(message) != nil {
							return
						}
					}
				}()
			}
			time.Sleep(3 * time.Second) // until it runs evenly
			n0, a0, b0, start := came.Load(), a.cpu(), b.cpu(), time.Now()
			time.Sleep(d)
			n1, a1, b1, took := came.Load(), a.cpu(), b.cpu(), time.Since(start)
			count := n1 - n0
			if count == 0 {
				t.Fatal("nothing came")
			}
			per := func(d time.Duration) time.Duration { return (d / time.Duration(count)).Round(time.Microsecond) }
			t.Logf("%s: %.0f messages/s; CPU per message: sender's server %v, recipient's %v, both %v",
				kind, float64(count)/took.Seconds(), per(a1-a0), per(b1-b0), per(a1-a0+b1-b0))
		})
	}
}

// TestIdleDomains measures what a domain costs that was written to and is silent.
func TestIdleDomains(t *testing.T) {
	seconds(t)
	const domains = 1000
	n := newInternet(t)
	n.quiet = true
	a := n.server("carillon", "a.fed", true)
	a.start()
	a.register(a, "alice")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var names []string
	for i := range domains {
		names = append(names, fmt.Sprintf("d%d.fed", i))
		n.names.locate(names[i], port)
	}
	var came atomic.Int64
	far := n.far(t, names, func() { came.Add(1) })
	go far.Serve(l, false)
	alice := a.listen("alice", func(*stream.Event) {})
	time.Sleep(time.Second)
	before := a.anonymous()
	for _, domain := range names {
		if err := alice.Send("<message to='u@" + domain + "' type='chat'><body>x</body></message>"); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(2 * patience); came.Load() < domains; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d came", came.Load(), domains)
		}
	}
	a.delivered()
	most := a.anonymous()
	time.Sleep(150 * time.Second) // the garbage of a thousand handshakes is collected, and given back
	after, up := a.anonymous(), 0
	for _, s := range a.streams() {
		if s.State == "up" {
			up++
		}
	}
	t.Logf("%d domains, %d streams up: %.1f MiB before, %.1f at most, %.1f after: %.1f KB per domain", domains, up,
		float64(before)/(1<<20), float64(most)/(1<<20), float64(after)/(1<<20), float64(after-before)/1000/domains)
}

// far is a server in this process, for many domains.
func (n *internet) far(t *testing.T, domains []string, came func()) *s2s.Server {
	t.Helper()
	certs := map[string]*tls.Certificate{}
	for _, d := range domains {
		id, err := n.ca.issue(n.dir, d)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.LoadX509KeyPair(id.cert, id.key)
		if err != nil {
			t.Fatal(err)
		}
		certs[d] = &c
	}
	limits := s2s.DefaultLimits()
	limits.Unauthenticated = len(domains)
	far, err := s2s.New(s2s.Config{
		Domains: domains, Policy: s2s.Certificate, Roots: n.ca.pool(), Secret: []byte("of the far server"), Resolver: lookup.New(n.names.addr), Limits: limits,
		Receive: func(_ context.Context, st *stanza.Stanza) error {
			if st.Kind == stanza.Message {
				came()
			}
			return nil
		},
		Settle: func(context.Context) error { return nil }, Forget: func([]uint64) {},
		Certificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return certs[hello.ServerName], nil },
		Log:         slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = far.Close(ctx)
	})
	return far
}
