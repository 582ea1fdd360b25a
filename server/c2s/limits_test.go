package c2s

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

func condition(err *stanza.StreamError) string {
	if err == nil {
		return ""
	}
	return err.Condition
}

// Whatever a client does short of logging in, after EarlyTime it is gone.
func TestEarlyTimeout(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		do         func(t *testing.T, u *user)
	}{
		{"silent", "connection-timeout", func(t *testing.T, u *user) {}},
		{"header", "connection-timeout", func(t *testing.T, u *user) { u.open() }},
		{"trickle", "connection-timeout", func(t *testing.T, u *user) {
			u.open()
			for range 29 {
				u.send(" ")
				time.Sleep(time.Second)
			}
		}},
		{"handshake", "", func(t *testing.T, u *user) {
			u.open()
			u.write(u.mach.StartTLS(nil))
			u.want(stream.StartTLS)
		}},
		{"secure", "connection-timeout", func(t *testing.T, u *user) { u.starttls(); u.open() }},
		{"authenticated", "connection-timeout", func(t *testing.T, u *user) { u.starttls(); u.authenticated("alice") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, nil, func(t *testing.T, w *world) {
				u := newUser(t, w.pipe(false))
				start := time.Now()
				tt.do(t, u)
				if got := condition(u.gone()); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
				// A pipe can't be closed on one side only, so its end comes after Linger.
				if d := time.Since(start); d < 30*time.Second || d > 34*time.Second {
					t.Error("after", d)
				}
				u.conn.Close()
			})
		})
	}
}

func TestEarlyBytes(t *testing.T) {
	in(t, func(c *Config) { c.Limits.EarlyBytes = 5000 }, func(t *testing.T, w *world) {
		u := newUser(t, w.pipe(false))
		u.open()
		go func() {
			for {
				if _, err := u.conn.Write([]byte(strings.Repeat(" ", 1000))); err != nil {
					return
				}
			}
		}()
		if got := condition(u.gone()); got != stanza.StreamPolicyViolation {
			t.Error(got)
		}
		u.conn.Close()
	})
}

func TestConnectionLimits(t *testing.T) {
	refused := func(t *testing.T, c net.Conn) bool {
		t.Helper()
		defer c.Close()
		if _, err := c.Write([]byte("<")); err != nil {
			return true
		}
		return false
	}
	for _, tt := range []struct {
		name   string
		change func(*Limits)
		same   bool // only connections of the same address are refused
	}{
		{"all", func(l *Limits) { l.Unauthenticated = 2 }, false},
		{"per address, early", func(l *Limits) { l.UnauthenticatedPerAddress = 2 }, true},
		{"per address", func(l *Limits) { l.PerAddress = 2 }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(c *Config) { tt.change(&c.Limits) }, func(t *testing.T, w *world) {
				a, b := newUser(t, w.from("2001:db8::1")), newUser(t, w.from("2001:db8::2"))
				a.open()
				b.open()
				if !refused(t, w.from("2001:db8::3")) {
					t.Error("a third of the same /64 was accepted")
				}
				if got := refused(t, w.from("2001:db8:1::1")); got == tt.same {
					t.Error("a third of another address: refused =", got)
				}
				synctest.Wait()
				if tt.name != "per address" { // a login makes room
					a.write(a.mach.StartTLS(nil))
					a.want(stream.StartTLS)
					if err := a.secure(clientTLS); err != nil {
						t.Fatal(err)
					}
					a.authenticated("alice")
					a.bind("x")
				} else { // only the end does
					a.conn.Close()
				}
				synctest.Wait()
				if refused(t, w.from("2001:db8::3")) {
					t.Error("there is room, but it was refused")
				}
				a.conn.Close()
				b.conn.Close()
			})
		})
	}
}

func TestOversizedStanza(t *testing.T) {
	in(t, func(c *Config) { c.Limits.Stanza.MaxBytes = 10_000 }, func(t *testing.T, w *world) {
		other := w.login(t, "queen", "x")
		u := w.login(t, "alice", "x")
		u.send("<message><body>" + strings.Repeat("x", 9000) + "</body></message>")
		u.want(stream.Stanza)
		go u.conn.Write([]byte("<message><body>" + strings.Repeat("x", 12_000)))
		if got := condition(u.gone()); got != stanza.StreamPolicyViolation {
			t.Error(got)
		}
		u.conn.Close()
		synctest.Wait()
		if w.hub.session("alice@"+domain+"/x") != nil {
			t.Error("the session is still there")
		}
		if n := w.Metrics.Limits.Load(); n != 1 {
			t.Error(n, "limits hit")
		}
		if n := strings.Count(w.log.String(), "stream ended by an error"); n != 1 {
			t.Error("logged", n, "times")
		}
		other.ping()
		other.close()
	})
}

// A client that doesn't read is cut off, and nobody else waits for it.
func TestSlowReader(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		slow, fast := w.login(t, "alice", "x"), w.login(t, "queen", "x")
		for i := range 20 {
			fast.send(fmt.Sprintf("<message to='alice@%s/x'><body>%d %s</body></message>", domain, i, strings.Repeat("x", 1000)))
			fast.ping()
		}
		time.Sleep(29 * time.Second)
		fast.ping()
		if w.hub.session("alice@"+domain+"/x") == nil {
			t.Fatal("cut off already")
		}
		time.Sleep(20 * time.Second)
		if w.hub.session("alice@"+domain+"/x") != nil {
			t.Error("not cut off")
		}
		if n := w.Metrics.WriteTimeouts.Load(); n != 1 {
			t.Error(n, "timeouts")
		}
		fast.ping()
		fast.close()
		slow.conn.Close()
	})
}

// RFC 6120 4.6: a silent client is asked, and closed if it doesn't answer.
func TestIdle(t *testing.T) {
	change := func(c *Config) { c.Limits.Idle, c.Limits.IdleGrace = 5*time.Minute, time.Minute }
	t.Run("ping", func(t *testing.T) {
		in(t, change, func(t *testing.T, w *world) {
			u := w.login(t, "alice", "x")
			for range 3 {
				start := time.Now()
				st := u.want(stream.Stanza).Stanza
				if st.Type != stanza.TypeGet || st.Payload().Space() != "urn:xmpp:ping" || st.From.String() != domain || st.To != u.full {
					t.Fatalf("asked %s", st.AppendTo(nil))
				}
				if d := time.Since(start); d < 5*time.Minute || d > 5*time.Minute+10*time.Second {
					t.Error("after", d)
				}
				u.send("<iq type='result' id='" + st.ID + "' to='" + domain + "'/>")
				if st := u.want(stream.Stanza).Stanza; st.Type != stanza.TypeResult { // the hub's echo
					t.Fatalf("%s", st.AppendTo(nil))
				}
			}
			u.want(stream.Stanza)
			start := time.Now()
			if got := condition(u.gone()); got != stanza.StreamConnectionTimeout {
				t.Error(got)
			}
			if d := time.Since(start); d < time.Minute || d > time.Minute+13*time.Second {
				t.Error("after", d)
			}
			u.conn.Close()
			if n := w.Metrics.IdleTimeouts.Load(); n != 1 {
				t.Error(n, "timeouts")
			}
		})
	})
	t.Run("ack", func(t *testing.T) {
		in(t, change, func(t *testing.T, w *world) {
			u := w.login(t, "alice", "x")
			u.write(u.mach.Enable(nil, true, 0))
			u.want(stream.SMEnabled)
			u.want(stream.SMRequest)
			u.write(stream.AppendAck(nil, 0))
			u.want(stream.SMRequest)
			if got := condition(u.gone()); got != stanza.StreamConnectionTimeout {
				t.Error(got)
			}
			u.conn.Close()
			synctest.Wait()
			if s := w.hub.session("alice@" + domain + "/x"); s == nil {
				t.Error("the session can't be resumed")
			}
		})
	})
	t.Run("white space counts", func(t *testing.T) {
		in(t, change, func(t *testing.T, w *world) {
			u := w.login(t, "alice", "x")
			for range 20 {
				time.Sleep(4 * time.Minute)
				u.send(" ")
			}
			u.ping()
			u.close()
		})
	})
}

func TestThrottle(t *testing.T) {
	in(t, func(c *Config) { c.Limits.BytesPerSecond = 1000 }, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		start := time.Now()
		for range 20 {
			u.send("<message><body>" + strings.Repeat("x", 970) + "</body></message>")
			u.want(stream.Stanza)
		}
		if d := time.Since(start); d < 18*time.Second || d > 22*time.Second {
			t.Error("20 kB took", d)
		}
		u.close()
	})
}

func TestShutdown(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		bound, early, plain := w.login(t, "alice", "x"), w.offered(t), newUser(t, w.pipe(false))
		shaking := newUser(t, w.pipe(false))
		shaking.open()
		shaking.write(shaking.mach.StartTLS(nil))
		shaking.want(stream.StartTLS)
		plain.open()
		s := w.hub.session("alice@" + domain + "/x")
		s.mu.Lock()
		for range 40 { // more than one write
			s.queue = append(s.queue, []byte("<message><body>"+strings.Repeat("x", 1000)+"</body></message>"))
		}
		s.mu.Unlock()
		closed := make(chan error)
		go func() { closed <- w.Close(context.Background()) }()
		for range 40 { // what was queued comes first
			bound.want(stream.Stanza)
		}
		for _, u := range []*user{bound, early, plain} {
			if got := condition(u.gone()); got != stanza.StreamSystemShutdown {
				t.Error(got)
			}
			u.conn.Close()
		}
		if n, err := shaking.conn.Read(shaking.buf[:]); err == nil && shaking.buf[0] != 21 {
			t.Errorf("in the handshake: %q", shaking.buf[:n])
		}
		shaking.conn.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		w.ServeConn(plain.raw, false)
		if w.Metrics.Refused.Load() != 1 {
			t.Error("accepted after Close")
		}
		w.Server = reopened(t, w) // for the end of the test
	})
}

// reopened is a server in place of one that was closed.
func reopened(t *testing.T, w *world) *Server {
	t.Helper()
	s, err := New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A client that neither reads nor closes doesn't keep the server from closing.
func TestShutdownStalled(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Error("took", d)
		}
		if _, err := io.ReadAll(u.raw); err != nil {
			t.Error(err)
		}
		u.conn.Close()
		w.Server = reopened(t, w)
	})
}

// A client that goes on after the end of its stream is read for a while, so that it learns why, but not for ever.
func TestGoesOnBehindTheEnd(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		u.send("<oops")
		u.send("></wrong>")
		for ev := u.next(); ev.Kind != stream.PeerError; ev = u.next() {
		}
		start, sent := time.Now(), 0
		for chunk := make([]byte, 16<<10); sent < 4*maxDropped; sent += len(chunk) {
			if _, err := u.conn.Write(chunk); err != nil {
				break
			}
		}
		if sent < maxDropped/2 || sent > 2*maxDropped || time.Since(start) >= w.cfg.Limits.Linger {
			t.Errorf("%d bytes in %v were read behind the end", sent, time.Since(start))
		}
		u.conn.Close()
	})
}

// inviting has invitations, none of which is known.
type inviting struct{ registrar }

func (inviting) Invites() bool { return true }

// TestGuessedInvitations: who shows invitations that nobody knows is held off as one
// who guesses passwords, on whatever connection; others aren't.
func TestGuessedInvitations(t *testing.T) {
	in(t, func(c *Config) {
		c.Registrar, c.Limits.AddressFailures = inviting{}, Rate{Burst: 3, Every: time.Hour}
	}, func(t *testing.T, w *world) {
		show := func(from string) (got []stanza.Condition) {
			t.Helper()
			u := newUser(t, w.from(from))
			defer u.conn.Close()
			u.starttls()
			u.open()
			for range 2 {
				u.send("<iq type='set' id='p'><preauth xmlns='" + xep.NSPARS + "' token='GUESSED'/></iq>")
				got = append(got, u.want(stream.Stanza).Stanza.ParseError().Condition)
			}
			return got
		}
		for i, want := range [][]stanza.Condition{{stanza.ItemNotFound, stanza.ItemNotFound}, {stanza.ItemNotFound, stanza.ResourceConstraint}} {
			if got := show("192.0.2.1"); !slices.Equal(got, want) {
				t.Errorf("connection %d: %v", i, got)
			}
		}
		if got := show("192.0.2.2"); got[0] != stanza.ItemNotFound {
			t.Errorf("another address: %v", got)
		}
	})
}
