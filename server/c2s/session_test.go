package c2s

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
)

func TestElements(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		u.send("<inactive xmlns='urn:xmpp:csi:0'/><active xmlns='urn:xmpp:csi:0'/>")
		u.ping()
		if got := strings.Join(w.hub.session(u.full.String()).elements, " "); got != "inactive active" {
			t.Error(got)
		}
		u.send("<what xmlns='urn:x'/>")
		if got := condition(u.gone()); got != stanza.StreamUnsupportedStanzaType {
			t.Error(got)
		}
		u.conn.Close()
	})
}

func TestSessionErrors(t *testing.T) {
	for payload, want := range map[string]string{"kick": stanza.StreamReset, "broken": stanza.StreamInternalServerError} {
		in(t, nil, func(t *testing.T, w *world) {
			u := w.login(t, "alice", "x")
			u.send("<message><" + payload + " xmlns='urn:test'/></message>")
			if got := condition(u.gone()); got != want {
				t.Errorf("%s: %s", payload, got)
			}
			u.conn.Close()
			synctest.Wait()
			if w.hub.session(u.full.String()) != nil {
				t.Error("the session was not detached")
			}
		})
	}
}

func TestBadStanzaKeepsTheStream(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		u.send("<message to='@' id='1'/>")
		if st := u.want(stream.Stanza).Stanza; st.Type != stanza.TypeError || st.ID != "1" {
			t.Errorf("%s", st.AppendTo(nil))
		}
		u.ping()
		u.send("<message from='queen@" + domain + "'/>")
		if got := condition(u.gone()); got != stanza.StreamInvalidFrom {
			t.Error(got)
		}
		u.conn.Close()
	})
}

func TestBindErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want stanza.Condition
	}{{stanza.NewError(stanza.ResourceConstraint, ""), stanza.ResourceConstraint}, {errors.New("disk on fire"), stanza.InternalServerError}} {
		in(t, nil, func(t *testing.T, w *world) {
			w.hub.fail = tt.err
			u := newUser(t, w.pipe(false))
			u.starttls()
			u.authenticated("alice")
			u.write(u.mach.Bind(nil, "1", "x"))
			if ev := u.want(stream.BindFailure); ev.StanzaErr.Condition != tt.want || strings.Contains(ev.StanzaErr.Text, "fire") {
				t.Error(ev.StanzaErr)
			}
			w.hub.mu.Lock()
			w.hub.fail = nil
			w.hub.mu.Unlock()
			u.bind("x")
			u.ping()
			u.close()
			if own := strings.Contains(w.log.String(), "disk on fire"); own != (tt.want == stanza.InternalServerError) {
				t.Error("logged:", own)
			}
		})
	}
}

// A panic ends one connection.
func TestPanic(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.hub.panics = "boo"
		u, other := w.login(t, "alice", "x"), w.login(t, "queen", "x")
		u.send("<message><body>boo</body></message>")
		if ev, err := u.tryNext(); err == nil {
			t.Error("event", ev.Kind)
		}
		u.conn.Close()
		synctest.Wait()
		if w.hub.session(u.full.String()) != nil {
			t.Error("the session was not detached")
		}
		if n := w.Metrics.Panics.Load(); n != 1 {
			t.Error(n, "panics counted")
		}
		// Nor does one in the way out, or while writing.
		for _, where := range []string{"boo detach", "boo next"} {
			w.hub.panics = where
			u := w.login(t, "alice", where)
			if where == "boo next" {
				u.send("<message><body>x</body></message>")
				synctest.Wait()
			}
			u.raw.Close()
			synctest.Wait()
		}
		if n := w.Metrics.Panics.Load(); n != 3 {
			t.Error(n, "panics counted")
		}
		other.ping()
		other.close()
	})
}

// A client that vanishes leaves a session to resume, one that closes doesn't.
func TestResume(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		u.write(u.mach.Enable(nil, true, 0))
		id := u.want(stream.SMEnabled).Name
		u.send("<message><body>1</body></message>")
		u.want(stream.Stanza)
		u.raw.Close()
		synctest.Wait()
		s := w.hub.session(u.full.String())
		if gone, closed := s.state(); !gone || closed {
			t.Fatal("the cut was not noticed", gone, closed)
		}

		back := newUser(t, w.pipe(false))
		back.starttls()
		back.authenticated("alice")
		back.write(back.mach.Resume(nil, "nonsense", 0))
		if ev := back.want(stream.SMFailed); ev.StanzaErr.Condition != stanza.ItemNotFound || !ev.Known || ev.H != 7 {
			t.Error(ev.StanzaErr, ev.Known, ev.H)
		}
		back.write(back.mach.Resume(nil, id, 0))
		if ev := back.want(stream.SMResumed); ev.Name != id || ev.H != 1 {
			t.Error(ev.Name, ev.H)
		}
		if st := back.want(stream.Stanza).Stanza; !strings.Contains(st.Inner(), "<body>1</body>") {
			t.Error("sent again:", st.Inner())
		}
		back.ping()

		// While the connection is there another one takes the session over.
		third := newUser(t, w.pipe(false))
		third.starttls()
		third.authenticated("alice")
		third.write(third.mach.Resume(nil, id, 0))
		if got := condition(back.gone()); got != stanza.StreamConflict {
			t.Error(got)
		}
		back.conn.Close()
		third.want(stream.SMResumed)
		third.want(stream.Stanza)
		third.want(stream.Stanza)
		third.ping()
		third.close()
		synctest.Wait()
		if w.hub.session(u.full.String()) != nil {
			t.Error("a closed session is still there")
		}
	})
}

// Counting begins exactly behind <enabled/>, however busy the session is.
func TestEnableUnderLoad(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Log = quiet() })
	defer w.end(t)
	for i := range 20 {
		u := w.login(t, "alice", strconv.Itoa(i))
		s := w.hub.session(u.full.String())
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					s.push([]byte("<message id='" + strconv.Itoa(n) + "'/>"))
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
		for range 3 {
			u.want(stream.Stanza)
		}
		u.write(u.mach.Enable(nil, true, 0))
		first := ""
		for enabled := false; first == ""; {
			switch ev := u.next(); ev.Kind {
			case stream.SMEnabled:
				enabled = true
			case stream.Stanza:
				if enabled {
					first = ev.Stanza.ID
				}
			default:
				t.Fatal(ev.Kind)
			}
		}
		close(stop)
		wg.Wait()
		s.mu.Lock()
		if want := strconv.Itoa(s.enabledAt); first != want {
			t.Errorf("the first stanza behind <enabled/> is %s, counted was from %s", first, want)
		}
		s.mu.Unlock()
		u.conn.Close()
	}
}

// Many stanzas are one write.
func TestCoalescing(t *testing.T) {
	in(t, func(c *Config) { c.Log = quiet() }, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "x")
		synctest.Wait()
		s := w.hub.session(u.full.String())
		before := w.Metrics.Writes.Load()
		s.mu.Lock()
		for i := range 1000 {
			s.queue = append(s.queue, fmt.Appendf(nil, "<message id='%d'><body>%s</body></message>", i, strings.Repeat("x", 60)))
		}
		s.mu.Unlock()
		s.push([]byte("<message id='1000'/>"))
		for i := range 1001 {
			if st := u.want(stream.Stanza).Stanza; st.ID != strconv.Itoa(i) {
				t.Fatalf("%s, want %d", st.ID, i)
			}
		}
		if n := w.Metrics.Writes.Load() - before; n > 8 {
			t.Errorf("100 kB in %d writes", n)
		}
		u.close()
	})
}

// Over TCP, where reading is polled: many clients, big stanzas in both
// directions, and readers that are sent to rest in between.
func TestTCPTraffic(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Log = quiet() })
	defer w.end(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Serve(ctx, l, true); err != nil {
			t.Error(err)
		}
	})
	var users []*user
	for i := range 6 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		u := newUser(t, conn)
		if err := u.secure(clientTLS); err != nil {
			t.Fatal(err)
		}
		u.authenticated("alice")
		u.bind(strconv.Itoa(i))
		users = append(users, u)
	}
	const rounds = 60
	var talk sync.WaitGroup
	for i, u := range users {
		to := users[(i+1)%len(users)].full
		talk.Go(func() {
			for n := range rounds {
				fmt.Fprintf(u.conn, "<message to='%s' id='%d'><body>%s</body></message>", to, n, strings.Repeat("y", 1+n*n*20))
			}
		})
		talk.Go(func() {
			for n := range rounds {
				ev, err := u.tryNext()
				if err != nil || ev.Kind != stream.Stanza || ev.Stanza.ID != strconv.Itoa(n) || len(ev.Stanza.Inner()) != len("<body></body>")+1+n*n*20 {
					t.Errorf("message %d: %v %v", n, ev.Kind, err)
					return
				}
			}
		})
		if i == 3 {
			w.interruptReaders()
		}
	}
	talk.Wait()
	w.interruptReaders()
	for _, u := range users {
		u.ping()
		u.close()
	}
	cancel()
	wg.Wait()
}

// interruptReaders does what the patrol does when readers have been silent.
func (w *world) interruptReaders() {
	w.mu.Lock()
	conns := w.snapshot()
	w.mu.Unlock()
	for _, c := range conns {
		c.sock.SetReadDeadline(time.Unix(1, 0))
	}
}

// The patrol sends silent readers to rest, once for each silence.
func TestRest(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.WriteTime = 0 })
	defer w.end(t)
	w.patrolling = true // by this test
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go w.Serve(ctx, l, false)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t, conn)
	u.starttls()
	u.authenticated("alice")
	u.bind("x")
	u.ping()
	w.mu.Lock()
	c := w.snapshot()[0]
	w.mu.Unlock()
	for _, at := range []time.Duration{time.Minute, 2 * time.Minute} {
		c.inspect(at)
		if c.rest != int64(time.Minute) {
			t.Error("rested at", time.Duration(c.rest))
		}
		u.ping()
	}
	c.lastRead.Store(int64(3 * time.Minute))
	c.inspect(4 * time.Minute)
	if c.rest != int64(4*time.Minute) {
		t.Error("rested at", time.Duration(c.rest))
	}
	c.lastRead.Store(0)
	u.ping()
	u.close()
}

// A client may write everything it has to say at once, and close (S-2 for
// those who know what they want).
func TestPipelined(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := newUser(t, w.pipe(false))
		u.starttls()
		u.authenticated("alice")
		out := u.mach.Bind(nil, "b", "x")
		out = u.mach.Enable(out, true, 0)
		out = append(out, "<presence/><message id='m'><body>bye</body></message><r xmlns='urn:xmpp:sm:3'/></stream:stream>"...)
		u.write(out)
		u.want(stream.Bind)
		u.want(stream.SMEnabled)
		stanzas, acks := 0, 0
		for range 3 {
			switch ev := u.next(); ev.Kind {
			case stream.Stanza:
				stanzas++
			case stream.SMAck:
				if acks++; ev.H != 2 {
					t.Error("acknowledged", ev.H)
				}
			}
		}
		if stanzas != 2 || acks != 1 {
			t.Error(stanzas, "stanzas", acks, "acks")
		}
		u.want(stream.Closed)
		u.conn.Close()
	})
}
