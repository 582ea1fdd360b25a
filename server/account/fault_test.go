package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestCommitFails: senders get an error before any <a/>, nothing is delivered,
// memory doesn't run ahead of the disk, and all goes on when the fault is gone.
func TestCommitFails(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{{errors.New("I/O"), "internal-server-error"}, {store.ErrFull, "resource-constraint"}} {
		t.Run(tc.want, func(t *testing.T) {
			w := newWorld(t, "alice bob")
			a, b := w.bind("alice/a sm roster online"), w.bind("bob/b roster online")
			h := a.h()
			w.failCommits(tc.err)
			a.send("<message type='chat' id='m' to='bob@h.example'><body>x</body></message>")
			a.AckRequest()
			a.expect("id='m' type='error' … "+tc.want, fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", h+1))
			b.expect()
			a.send("<message type='chat' id='note'><body>x</body></message>")
			a.expect("id='note' type='error' … " + tc.want)
			a.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='x@x.example'/></query></iq>")
			a.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver=''/></iq>")
			w.settle()
			got := a.take()
			if !matchPattern(got[0], "id='s' type='error' … "+tc.want) || len(got) != 2 || strings.Contains(got[1], "x@x.example") {
				t.Errorf("roster: %v", got)
			}
			a.send("<presence type='subscribe' id='sub' to='bob@h.example'/>")
			a.expect("<presence … id='sub' type='error' … " + tc.want)
			b.expect()
			if err := a.Owner().Update(context.Background(), feature.Update{Block: []jid.JID{jid.MustParse(bob)}}); err == nil {
				t.Error("an update that failed has no error")
			}
			w.settle()
			w.failCommits(nil)

			a.take()
			a.say(bob, "again")
			b.expect("again")
			a.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver=''/></iq>")
			a.expect("id='g' type='result'><query xmlns='jabber:iq:roster' ver='0'/>")
			if rel, _ := a.Owner().Relation(context.Background(), jid.MustParse(bob)); rel.Blocked {
				t.Error("blocked, though that was not kept")
			}
			if got := w.archive("bob"); !slices.Equal(got, []string{"again"}) {
				t.Errorf("archive %v", got)
			}
			if got := w.archive("alice"); !slices.Equal(got, []string{"again"}) {
				t.Errorf("archive %v", got)
			}
		})
	}
}

// TestFailureAmongPending: what was decided on a change that fails later isn't
// told, what was committed is.
func TestFailureAmongPending(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a sm roster"), w.bind("bob/b online")
	if err := w.store.Commit(context.Background()); err != nil { // nothing else is on its way
		t.Fatal(err)
	}
	var n atomic.Int32
	gate := make(chan struct{})
	w.setFault(func(point string) error {
		if point == "commit" {
			count := n.Add(1)
			<-gate
			if count == 2 { // the first unit alone is in the first transaction
				return errors.New("I/O")
			}
		}
		return nil
	})
	set := func(j string) {
		a.send("<iq type='set' id='" + j + "'><query xmlns='jabber:iq:roster'><item jid='" + j + "@x.example'/></query></iq>")
	}
	set("one")
	waitFor(t, func() bool { return n.Load() == 1 })
	set("two")
	a.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver=''/></iq>")
	a.send("<presence/>")
	a.send("<message type='chat' to='bob@h.example' id='m'><body>m</body></message>")
	waitFor(t, func() bool { return w.pendingEntries("alice") >= 7 })
	close(gate)
	w.settle()
	w.setFault(nil)
	got := a.take()
	text := strings.Join(got, "\n")
	if !matchPattern(text, "one@x.example … id='one' type='result' … id='two' type='error' … id='g' type='error'") || strings.Contains(text, "two@x.example") {
		t.Errorf("got %s", text)
	}
	set("three")
	a.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver=''/></iq>")
	w.settle()
	text = strings.Join(a.take(), "\n")
	if !matchPattern(text, "id='g' type='result' … ver='2'><item jid='one@x.example' subscription='none'/><item jid='three@x.example' subscription='none'/></query>") {
		t.Errorf("got %s", text)
	}
	b.take()
}

// TestOfflineCountAfterFailure: a message that wasn't kept takes no place.
func TestOfflineCountAfterFailure(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	w.failCommits(errors.New("I/O"))
	for range 5 {
		a.say(bob, "x")
	}
	w.failCommits(nil)
	a.take()
	w.state("bob", func(s *State) {
		if s.offline != 0 {
			t.Errorf("%d counted", s.offline)
		}
	})
}

// TestBrokenRequest: who is told of a request in the next connection of the session is told whether to ask again.
func TestBrokenRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	failure := errors.New("I/O")
	set, err := feature.NewSet(feature.Feature{IQs: []feature.IQ{{Scope: feature.Server, Type: stanza.TypeGet, Name: xmltree.Name{Space: "urn:test", Local: "q"},
		Handle: func(context.Context, *feature.Query) (string, error) { return "", failure }}}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "alice", func(c *Config) { c.Features = set })
	a := w.bind("alice/a")
	ask := func(id, want string) {
		t.Helper()
		st, err := stanza.ParseBytes([]byte("<iq type='get' id='"+id+"' to='h.example'><q xmlns='urn:test'/></iq>"), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		st.From = a.JID()
		if err := a.Receive(ctx, st, 100); err != nil {
			t.Fatal(err)
		}
		w.settle()
		a.expect("id='" + id + "' type='error' … " + want)
	}
	ask("1", "<error type='cancel'><internal-server-error")
	cancel()
	failure = ctx.Err()
	ask("2", "<error type='wait'><resource-constraint")
}

func TestLoadFails(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a sm")
	w.setFault(func(point string) error {
		if point == "read" {
			return errors.New("I/O")
		}
		return nil
	})
	a.say(bob, "x")
	a.expect("id='x' type='error' … internal-server-error")
	a.send("<presence type='subscribe' id='p' to='bob@h.example'/>")
	w.settle()
	a.take()
	if _, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(bob), Transport: a}); err == nil {
		t.Error("bound to an account that can't be read")
	}
	w.setFault(nil)
	a.say(bob, "y")
	a.expect()
	if got := w.offline("bob"); !slices.Equal(got, []string{"y"}) {
		t.Errorf("kept %v", got)
	}
	if w.hub.Counters().LoadErrors == 0 {
		t.Error("not counted")
	}
}

// TestReloadFails: commits and reads fail, connections come and go, and when
// the fault is gone nothing is stuck.
func TestReloadFails(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, a2 := w.bind("alice/a sm roster online"), w.bind("alice/a2 online")
	w.setFault(func(point string) error {
		if point == "commit" || point == "read" {
			return errors.New("I/O")
		}
		return nil
	})
	a.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='x@x.example'/></query></iq>")
	a.AckRequest()
	waitFor(t, func() bool { return w.hub.Counters().LoadErrors > 0 })
	a2.Detach(a2)
	a.Detach(a)
	a.send("<message type='chat' id='m' to='bob@h.example'><body>m</body></message>")
	w.hub.everywhere(func(l *loop) { l.tick() })
	w.setFault(nil)
	w.tick()
	w.state("alice", func(s *State) {
		if len(s.sessions) != 1 || s.stale != nil || len(s.pending) != 0 {
			t.Errorf("%d sessions, stale %v, %d pending", len(s.sessions), s.stale, len(s.pending))
		}
	})
	n, _, err := w.resume(a, 2)
	if err != nil {
		t.Fatal(err)
	}
	n.take()
	n.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
	n.expect("id='g' type='result'><query xmlns='jabber:iq:roster'/>")
}

// TestWaitingIsBounded: an account whose load hangs holds a bounded number of
// events, and others go on.
func TestWaitingIsBounded(t *testing.T) {
	w := newWorld(t, "alice bob carol", func(c *Config) { c.Loops = 1 })
	a, c := w.bind("alice/a sm"), w.bind("carol/c sm online")
	w.hub.everywhere(func(l *loop) { // as if bob's data were being read
		l.states[jid.MustParse(bob)] = &State{cfg: &w.hub.cfg, jid: jid.MustParse(bob), load: loading}
	})
	for range 2 * maxWaiting {
		w.hub.post(jid.MustParse(bob), &presenceArrives{presence: presence{}, from: a.JID(), to: jid.MustParse(bob)})
	}
	a.send("<message type='chat' id='m' to='bob@h.example'><body>m</body></message>")
	waitFor(t, func() bool { return len(a.peek()) > 0 })
	if got := a.peek(); !matchPattern(got, "id='m' type='error' … resource-constraint") {
		t.Errorf("got %s", got)
	}
	a.send("<message type='chat' to='carol@h.example'><body>hi</body></message>")
	waitFor(t, func() bool { return strings.Contains(c.peek(), "hi") })
	w.hub.everywhere(func(l *loop) {
		s := l.states[jid.MustParse(bob)]
		if len(s.waiting) > maxWaiting {
			t.Errorf("%d wait", len(s.waiting))
		}
		delete(l.states, s.jid)
	})
}

// peek is what there is to read, now; of a session with stream management,
// whose queue keeps what is read.
func (c *client) peek() string {
	c.Session.session.mu.Lock()
	defer c.Session.session.mu.Unlock()
	var b strings.Builder
	q := c.out
	for {
		e, ok := q.Take()
		if !ok {
			return b.String()
		}
		b.Write(e.Data)
	}
}

// TestPanic: a bug in one account's code ends its sessions and nothing else.
func TestPanic(t *testing.T) {
	w := newWorld(t, "alice bob carol", func(c *Config) { c.Loops = 1 })
	w.panics = 2
	w.befriend("bob", "carol")
	a, b, c := w.bind("alice/a sm"), w.bind("bob/b online"), w.bind("carol/c online")
	b.take()
	w.state("bob", func(s *State) { s.cfg = nil }) // any use of it panics
	a.send("<message type='chat' id='m' to='bob@h.example'><body>m</body></message>")
	a.AckRequest()
	a.expect("id='m' type='error' … internal-server-error", "<a xmlns='urn:xmpp:sm:3' h='1'/>")
	if cond, ended := b.streamError(); !ended || cond != stanza.StreamInternalServerError {
		t.Errorf("bob's stream ended with %q", cond)
	}
	if _, ended := a.streamError(); ended {
		t.Error("alice's ended too")
	}
	c.expect("<presence from='bob@h.example/b' to='carol@h.example' type='unavailable'/>")
	b = w.bind("bob/b")
	a.say(bob+"/b", "again")
	b.expect("again")

	// In the middle of the effects: whoever waits for the rest is answered.
	var told error
	var place *entry
	w.state("alice", func(s *State) {
		place = s.hold(w.Now(), func(*effects) {})
		place.failed = func(_ *effects, err error) { told = err }
	})
	_, err := ask(context.Background(), w.hub, jid.MustParse(bob), func(s *State, fx *effects) struct{} {
		fx.call(func() { panic("bug") })
		fx.commit(nil, place)
		return struct{}{}
	})
	w.settle()
	if !errors.Is(err, errPanicked) || !errors.Is(told, errPanicked) {
		t.Errorf("the asker got %v, the sender's account %v", err, told)
	}
	if _, ended := b.streamError(); !ended || w.hub.Counters().Sessions != 2 {
		t.Errorf("%d sessions counted", w.hub.Counters().Sessions)
	}
}

// TestSettled: an archive query bounded by it can't skip an entry.
func TestSettled(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b")
	release := w.holdCommits()
	a.send("<message type='chat' to='bob@h.example'><body>x</body></message>")
	waitFor(t, func() bool { return w.pendingEntries("bob") > 0 })
	for _, c := range []*client{a, b} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if _, err := c.Owner().Settled(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settled before the commit: %v", err)
		}
		cancel()
	}
	release()
	for _, name := range []string{"alice", "bob"} {
		upTo, err := w.hub.Account(jid.MustParse(name + "@h.example")).Settled(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		ok, err := w.store.ArchiveHas(context.Background(), w.id(name), store.ArchiveID(upTo))
		if !ok || err != nil {
			t.Errorf("%s: %v is not in the archive", name, upTo)
		}
	}
}

// TestBackPressure: a client isn't read while too many of its stanzas wait.
func TestBackPressure(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	w.pendingEntries("bob")
	release := w.holdCommits()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	n, err := 0, error(nil)
	for ; err == nil; n++ {
		st := stanza.Build(stanza.Message, "chat", "", a.JID(), jid.MustParse(bob), "<body>x</body>")
		err = a.Receive(ctx, st, 0)
	}
	if n-1 != maxInFlight || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d were taken, then %v", n-1, err)
	}
	release()
	w.settle()
	if got := len(w.archive("bob")); got != maxInFlight {
		t.Errorf("%d in the archive", got)
	}
}

// TestCrowded: no client is read while a loop's mailbox is too long.
func TestCrowded(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	l := w.hub.loop(jid.MustParse(bob))
	gate, in := make(chan struct{}), make(chan struct{})
	l.post(jid.JID{}, loopCall(func() { close(in); <-gate }))
	<-in
	for range crowdedAt {
		l.post(jid.MustParse(bob), tick{})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	st := stanza.Build(stanza.Presence, "", "", a.JID(), jid.JID{}, "")
	if err := a.Receive(ctx, st, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	cancel()
	done := make(chan error)
	go func() { done <- a.Receive(context.Background(), st, 0) }()
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestBindAbandoned: a connection that gives up while its account is read
// leaves no session behind.
func TestBindAbandoned(t *testing.T) {
	w := newWorld(t, "alice")
	gate := make(chan struct{})
	w.setFault(func(point string) error {
		if point == "read" {
			<-gate
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.hub.Bind(ctx, BindRequest{Account: jid.MustParse(alice), Transport: &client{w: w}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(gate)
	w.state("alice", func(s *State) {
		if len(s.sessions) != 0 {
			t.Error("a session is left")
		}
	})
}

// TestClose: what was received is committed and answered, what comes later is
// dropped and never acknowledged, what is owed is kept: with its session where that
// can be resumed.
func TestClose(t *testing.T) {
	w := newWorld(t, "alice bob carol", func(c *Config) { c.ArchiveDefault = "never" })
	a, b := w.bind("alice/a sm"), w.bind("bob/b sm online")
	b.Ack(1)
	w.pendingEntries("carol")
	release := w.holdCommits()
	a.send("<message type='chat' to='carol@h.example'><body>kept</body></message>")
	a.send("<message type='chat' to='bob@h.example'><body>unread</body></message>")
	a.AckRequest()
	waitFor(t, func() bool { return w.pendingEntries("carol") > 0 })
	closed := make(chan struct{})
	go func() {
		w.hub.Close(context.Background())
		close(closed)
	}()
	waitFor(t, w.hub.closing.Load)
	a.send("<message type='chat' to='carol@h.example'><body>too late</body></message>")
	if _, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(alice), Transport: a}); err == nil {
		t.Error("bound while stopping")
	}
	a.Detach(a) // its connection may say so itself; what it is owed waits
	release()
	<-closed
	if _, ended := b.streamError(); !ended {
		t.Error("bob's stream goes on")
	}
	if a.handledCount() != 2 {
		t.Errorf("%d handled", a.handledCount())
	}
	if got := w.offline("carol"); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("carol: %v", got)
	}
	saved, err := w.store.SessionsOf(context.Background(), w.id("bob"))
	if err != nil || len(saved) != 1 || len(saved[0].Queue) != 1 || bodyOf(string(saved[0].Queue[0].Stanza)) != "unread" {
		t.Errorf("bob: %+v, %v", saved, err)
	}
	if _, err := a.Owner().Snapshot(context.Background()); !errors.Is(err, errStopped) {
		t.Errorf("a call after the end: %v", err)
	}
}

// TestCloseOnDeadDisk: what waits for a store that never answers again keeps a stop waiting as long as its context lasts, and no longer. (Found by
// simulation: seed 4742 of commit f20e625 killed a server that was stopping, and then waited for the stop.)
func TestCloseOnDeadDisk(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.Loops = 1 })
	w.setFault(func(string) error { return errors.New("dead") })
	defer w.setFault(nil)
	w.hub.post(jid.MustParse(bob), &presenceArrives{presence: presence{typ: stanza.TypeUnsubscribed}, from: jid.MustParse(alice), to: jid.MustParse(bob)})
	waitFor(t, func() bool {
		busy := make(chan bool, 1)
		w.hub.everywhere(func(l *loop) {
			s := l.states[jid.MustParse(bob)]
			busy <- s != nil && len(s.waiting) > 0 && s.load == notLoaded && l.busy(false)
		})
		return <-busy
	})
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan struct{})
	go func() {
		w.hub.Close(ctx)
		close(closed)
	}()
	waitFor(t, w.hub.closing.Load)
	cancel()
	<-closed
}

// TestFailedThenAgain: a message whose commit failed was never sent: its client, which
// lost its connection before it heard of that, sends it again, and it counts (R-DUP-1).
func TestFailedThenAgain(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a online sm")
	message := "<message type='chat' id='m' to='bob@h.example'><body>once</body></message>"
	w.failCommits(store.ErrFull)
	a.send(message)
	w.settle()
	a.detach()
	w.failCommits(nil)
	again := w.bind("alice/again online sm")
	again.send(message)
	w.settle()
	for _, who := range []string{"alice", "bob"} {
		if got := w.archive(who); !slices.Equal(got, []string{"once"}) {
			t.Errorf("%s's archive has %v", who, got)
		}
	}
}
