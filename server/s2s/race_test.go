package s2s

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestStreamTooMany: a stream that was made while the peer's took the queue over
// ends at once, and doesn't keep the way from making another one.
func TestStreamTooMany(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	w.add("b.example", nil)
	p := pair{"a.example", "b.example"}
	road := &way{srv: a.Server, pair: p, connecting: true, used: time.Now()}
	c, err := a.connect(t.Context(), p, road)
	if err != nil {
		t.Fatal(err)
	}
	road.link = newConn(a.Server, c.raw) // that of the peer
	over := make(chan struct{})
	go func() {
		a.carry(c, road, func() {})
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(patience):
		c.raw.Close()
		t.Fatal("the stream stays, and the way waits for it")
	}
	if road.again() || road.connecting {
		t.Error("another one is made")
	}
}

// TestLateWriter: the writer of a stream that broke takes nothing from a queue that
// another stream writes.
func TestLateWriter(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	near, far := net.Pipe()
	defer far.Close()
	near.Close()
	old := newConn(a.Server, near)
	road := &way{srv: a.Server, pair: pair{"a.example", "b.example"}, link: newConn(a.Server, near)}
	old.carries = road
	road.queue.push(item{data: a.message("u@b.example", "x").AppendTo(nil), id: 1})
	var buf []byte
	if old.writeBatch(&buf); road.queue.waiting() != 1 {
		t.Error("it took what it can't write")
	}
}

// TestFailureBeside: that a stream of our own can't be had returns nothing that the
// peer's stream carries.
func TestFailureBeside(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	near, far := net.Pipe()
	defer far.Close()
	defer near.Close()
	road := &way{srv: a.Server, pair: pair{"a.example", "b.example"}, link: newConn(a.Server, near), connecting: true}
	road.queue.push(item{data: a.message("u@b.example", "x").AppendTo(nil), id: 0})
	if road.failed(net.ErrClosed); road.queue.waiting() != 1 || len(a.taken()) != 0 {
		t.Errorf("it went back: %v", a.taken())
	}
}

// TestFinishOnce: reader and writer may both find that the stream is at its end.
func TestFinishOnce(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	near, far := net.Pipe()
	c := newConn(a.Server, near)
	c.header = true
	c.end(nil)
	go func() {
		c.finish()
		c.finish()
		near.Close()
	}()
	if got := (&raw{t, far}).rest(); got != "</stream:stream>" {
		t.Errorf("it wrote %s", got)
	}
}

// TestReach: that a domain is gone is said once, after the time for which a stream
// could be resumed, or at once where DNS knows no server; and that it is back.
func TestReach(t *testing.T) {
	w := newWorld(t)
	said := make(chan string, 100)
	a := w.add("a.example", nil, func(c *Config) {
		c.Limits.Resume = 100 * time.Millisecond
		c.Reach = func(gone, back []string) { said <- fmt.Sprint(gone, back) }
	})
	b := w.add("b.example", nil)
	r := newRelay(t, b.addr)
	w.locate("b.example", r.addr, false)
	next := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("nobody said %s", want)
		}
	}
	r.cut(true)
	a.send("bob@b.example", "waits", 1)
	next("[b.example] []")
	r.cut(false)
	next("[] [b.example]")
	b.expect("waits")
	a.send("p@nowhere.example", "x", 2)
	next("[nowhere.example] []")
}

// TestAbsent: how many domains are remembered as gone is bounded.
func TestAbsent(t *testing.T) {
	w := newWorld(t)
	told := 0
	a := w.make("a.example", nil, func(c *Config) {
		c.Limits.Ways = 3
		c.Reach = func(gone, _ []string) { told += len(gone) }
	})
	for i := range 10 {
		one := &way{srv: a.Server, pair: pair{"a.example", fmt.Sprintf("d%d.example", i)}, failures: 1}
		a.tellReach(time.Now(), []*way{one})
	}
	a.Server.mu.Lock()
	defer a.Server.mu.Unlock()
	if told != 10 || len(a.absent.lost) != 3 {
		t.Errorf("%d told, %d remembered", told, len(a.absent.lost))
	}
}

// TestSessionHeld: while the way back still has a stream that broke, who resumes it
// waits for that, and isn't refused.
func TestSessionHeld(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	cert := w.ca.sign(t, nil, "a.example")
	p := b.dial()
	p.bidi("a.example", "b.example", cert)
	p.write("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	p.until("<enabled xmlns='urn:xmpp:sm:3' id='")
	id := strings.TrimSuffix(p.until("'"), "'")
	var road *way
	waitFor(t, "the way back", func() bool {
		b.Server.mu.Lock()
		defer b.Server.mu.Unlock()
		road = b.ways[pair{"b.example", "a.example"}]
		return road != nil
	})
	waitFor(t, "its stream", func() bool {
		road.mu.Lock()
		defer road.mu.Unlock()
		return road.link != nil
	})
	road.mu.Lock() // the stream can't be taken from it
	old := road.link
	p.Close()
	waitFor(t, "the end", func() bool { return errors.Is(old.raw.SetDeadline(time.Time{}), net.ErrClosed) })
	again := b.dial()
	again.bidi("a.example", "b.example", cert)
	again.write("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
	waits := func() bool {
		b.Server.mu.Lock()
		defer b.Server.mu.Unlock()
		x := b.Server.sessions[id]
		return x != nil && x.conn != nil && x.conn != old
	}
	for deadline := time.Now().Add(patience); !waits() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b.Server.mu.Lock()
		if x := b.Server.sessions[id]; x == nil || x.conn == nil {
			t.Error("the session was nobody's while the way had its stream")
			deadline = time.Time{}
		}
		b.Server.mu.Unlock()
	}
	road.mu.Unlock()
	again.until("<resumed xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>")
}
