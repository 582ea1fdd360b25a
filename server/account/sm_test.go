package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/stanza"
)

func TestBind(t *testing.T) {
	w := newWorld(t, "alice", func(c *Config) { c.Limits.SessionsPerAccount = 3 })
	bind := func(resource string) (*Session, *client, error) {
		c := &client{w: w}
		s, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(alice), Resource: resource, Transport: c})
		c.Session = s
		return s, c, err
	}
	a := w.bind("alice/a online")
	// RFC 6120 7.7.2.2: the older session gives way.
	again := w.bind("alice/a")
	if c, ended := a.streamError(); !ended || c != stanza.StreamConflict {
		t.Errorf("the old session ended with %q", c)
	}
	a.send("<message to='alice@h.example'><body>late</body></message>") // dropped
	again.expect()
	made, _, err := bind("")
	if err != nil || made.JID().Resource() == "" {
		t.Fatalf("%v, %v", made.JID(), err)
	}
	if _, _, err := bind(strings.Repeat("x", 2000)); err == nil {
		t.Error("a resource that is none was bound")
	}
	sm := w.bind("alice/sm sm")
	if _, _, err := bind("more"); err == nil {
		t.Error("more sessions than the limit")
	}
	sm.detach()
	if _, _, err := bind("more"); err != nil { // the one that waits gives way
		t.Error(err)
	}
	if got := w.hub.Counters().Sessions; got != 3 {
		t.Errorf("%d sessions counted", got)
	}
	list, err := w.hub.Sessions(context.Background(), jid.MustParse(alice))
	if err != nil || len(list) != 3 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestAckAfterCommit: no <a/> before the commit (R-ARCH-3), whatever else is
// answered meanwhile.
func TestAckAfterCommit(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a sm online"), w.bind("bob/b online")
	before := a.h()
	release := w.holdCommits()
	a.send("<message type='chat' to='bob@h.example'><body>x</body></message>")
	a.AckRequest()
	a.send("<iq type='get' id='i'><x xmlns='u'/></iq>")
	a.AckRequest()
	a.AckRequest()
	waitFor(t, func() bool { return len(w.hub.loops) == 2 && w.pendingEntries("bob") > 0 })
	if got := strings.Join(a.take(), ""); strings.Contains(got, "<a ") || !strings.Contains(got, "service-unavailable") {
		t.Errorf("before the commit: %s", got)
	}
	if got := b.take(); len(got) != 0 {
		t.Errorf("delivered before the commit: %v", got)
	}
	release()
	a.expect(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", before+2))
	b.expect("<body>x</body>")
}

func (c *client) h() uint32 {
	c.w.settle()
	return c.handledCount()
}

func (w *world) pendingEntries(name string) (n int) {
	w.state(name, func(s *State) { n = len(s.pending) })
	return n
}

func TestResume(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a online"), w.bind("bob/b sm online")
	if err := b.Ack(1); err != nil { // its own presence
		t.Fatal(err)
	}
	for _, body := range []string{"1", "2", "3"} {
		a.say(bob, body)
	}
	if got := bodies(b.take()); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Fatal(got)
	}
	b.detach()
	a.say(bob, "4")
	n, res, err := w.resume(b, 2) // "1" was handled
	if err != nil {
		t.Fatal(err)
	}
	if got := bodies(n.take()); !slices.Equal(got, []string{"2", "3", "4"}) || res.H != 1 {
		t.Errorf("got %v, h=%d", got, res.H)
	}
	if got := b.take(); len(got) != 0 {
		t.Errorf("the old connection got %v", got)
	}
	// The old connection's late words count nothing.
	b.send("<message type='chat' to='alice@h.example'><body>late</body></message>")
	b.AckRequest()
	if err := b.Ack(0); err != nil {
		t.Error(err)
	}
	b.Detach(b)
	a.expect()
	n.expect()
	if n.handledCount() != res.H {
		t.Error("the old connection's stanza was counted")
	}
	// While it is still connected: the old one ends.
	n2, _, err := w.resume(n, 5)
	if err != nil {
		t.Fatal(err)
	}
	if c, ended := n.streamError(); !ended || c != stanza.StreamConflict {
		t.Errorf("ended with %q", c)
	}
	n2.expect()
	a.say(bob, "5")
	n2.expect("5")
	if got := w.archive("bob"); !slices.Equal(got, []string{"1", "2", "3", "4", "5"}) {
		t.Errorf("archive %v", got)
	}
}

// TestResumeWaitsForCommit: what was on its way when the connection broke is
// counted in <resumed/>, so it is neither lost nor archived twice.
func TestResumeWaitsForCommit(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a sm")
	w.pendingEntries("bob") // he is in memory: a store in memory can't be read during a commit
	release := w.holdCommits()
	a.send("<message type='chat' to='bob@h.example'><body>x</body></message>")
	a.Detach(a)
	type answer struct {
		res Resumed
		err error
	}
	done := make(chan answer)
	go func() {
		_, res, err := w.resume(a, 0)
		done <- answer{res, err}
	}()
	waitFor(t, func() bool { return w.pendingEntries("bob") > 0 })
	select {
	case <-done:
		t.Fatal("resumed before the commit")
	default:
	}
	release()
	if got := <-done; got.err != nil || got.res.H != 1 {
		t.Errorf("%+v", got)
	}
}

func TestResumeErrors(t *testing.T) {
	w := newWorld(t, "alice bob")
	b := w.bind("bob/b sm")
	var refused *ResumeError
	if _, _, err := w.resume(w.bind("bob/x"), 0); !errors.As(err, &refused) || refused.Err.Condition != stanza.ItemNotFound {
		t.Errorf("without an id: %v", err)
	}
	n := &client{w: w}
	_, _, err := w.hub.Resume(context.Background(), ResumeRequest{Account: jid.MustParse(alice), ID: b.resumption(), Transport: n})
	if !errors.As(err, &refused) {
		t.Errorf("somebody else's: %v", err)
	}
	var high *stanza.StreamError
	if _, _, err := w.resume(b, 7); !errors.As(err, &high) || !strings.Contains(high.App, "handled-count-too-high xmlns='urn:xmpp:sm:3' h='7' send-count='0'") {
		t.Errorf("h too high: %v", err)
	}
	if _, ended := b.streamError(); ended {
		t.Error("a wrong h took the session from its connection")
	}
	if err := b.Ack(3); !errors.As(err, &high) || high.Condition != stanza.StreamUndefinedCondition {
		t.Errorf("<a/> too high: %v", err)
	}
	b.Close(b)
	w.settle()
	if _, _, err := w.resume(b, 0); !errors.As(err, &refused) {
		t.Errorf("ended: %v", err)
	}
	// A session whose client is gone for too long.
	b = w.bind("bob/b sm online")
	b.detach()
	w.pass(9 * time.Minute)
	w.state("bob", func(s *State) {
		if len(s.sessions) == 0 {
			t.Error("ended too early")
		}
	})
	w.pass(2 * time.Minute)
	if _, _, err := w.resume(b, 0); !errors.As(err, &refused) {
		t.Errorf("expired: %v", err)
	}
}

func TestEnableTwice(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a")
	id, _, window, err := a.EnableSM(true, time.Minute)
	if err != nil || window != time.Minute {
		t.Fatal(window, err)
	}
	again, resumable, window, err := a.EnableSM(true, time.Hour)
	if err != nil || again != id || !resumable || window != time.Minute {
		t.Error(again, resumable, window, err)
	}
	a.Close(a)
	w.settle()
	if _, _, _, err := a.EnableSM(true, 0); err == nil {
		t.Error("an ended session was enabled")
	}
}

// TestRequests: the server asks for acknowledgements, one at a time.
func TestRequests(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b sm online")
	w.tick()
	b.expect("<r xmlns='urn:xmpp:sm:3'/>")
	for i := range 2*requestEvery + 1 {
		a.say(bob, fmt.Sprint(i))
	}
	w.tick()
	if got := strings.Join(b.take(), ""); strings.Contains(got, "<r ") {
		t.Error("asked again without an answer")
	}
	if err := b.Ack(2); err != nil {
		t.Fatal(err)
	}
	b.expect("<r xmlns='urn:xmpp:sm:3'/>")
}

// TestVainRequests: a client whose program doesn't take what came answers that
// nothing is new, and is asked more and more seldom.
func TestVainRequests(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.Tick = time.Hour })
	a, b := w.bind("alice/a"), w.bind("bob/b sm online")
	a.say(bob, "hi")
	asked := func(ticks int, h uint32) (n int) {
		for range ticks {
			w.tick()
			if strings.Contains(strings.Join(b.take(), ""), "<r ") {
				n++
				if err := b.Ack(h); err != nil {
					t.Fatal(err)
				}
			}
		}
		return n
	}
	if n := asked(600, 1); n < 10 || n > 20 {
		t.Errorf("asked %d times in ten minutes", n)
	}
	if n := asked(100, 2); n != 1 {
		t.Errorf("asked %d times for what was acknowledged then", n)
	}
	a.say(bob, "again")
	b.take()
	if n := asked(1, 3); n != 1 {
		t.Error("not asked at once for what is new")
	}
}

// TestRequestsAreBounded: a client that asks and doesn't read costs nothing.
func TestRequestsAreBounded(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a sm")
	for range 10000 {
		a.AckRequest()
	}
	a.expect("<a xmlns='urn:xmpp:sm:3' h='0'/>")
}

// TestSessionEndKeepsUnacknowledged: what no device has got is kept, exclusive
// messages are answered.
func TestSessionEndKeepsUnacknowledged(t *testing.T) {
	for _, how := range []string{"close", "expire", "conflict"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, "alice bob")
			w.befriend("alice", "bob")
			a, b := w.bind("alice/a online"), w.bind("bob/b sm online")
			a.take()
			a.say(bob, "got")
			if err := b.Ack(countStanzas(b.take()) + 2); err != nil { // two presences were taken before
				t.Fatal(err)
			}
			a.say(bob, "lost")
			a.send("<message type='chat' id='ex' to='bob@h.example/b'><body>ex</body><private xmlns='urn:xmpp:carbons:2'/></message>")
			a.send("<message type='chat' to='bob@h.example'><body>fleeting</body><no-store xmlns='urn:xmpp:hints'/></message>")
			w.settle()
			b.take()
			switch how {
			case "close":
				b.Close(b)
			case "expire":
				b.detach()
				w.pass(time.Hour)
			case "conflict":
				w.bind("bob/b")
			}
			a.expectAny("id='ex' type='error' … service-unavailable", "from='bob@h.example/b' … type='unavailable'")
			if got := w.offline("bob"); !slices.Equal(got, []string{"lost"}) {
				t.Errorf("kept %v", got)
			}
			n := w.bind("bob/n")
			n.send("<presence/>")
			w.settle()
			if got := bodies(n.take()); !slices.Equal(got, []string{"lost"}) {
				t.Errorf("the next session got %v", got)
			}
		})
	}
}

// TestUnacknowledgedGoesToWhoCameLater: a session that came after a message
// was sent to another doesn't have it, and gets it when the other ends.
func TestUnacknowledgedGoesToWhoCameLater(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.ArchiveDefault = "never" })
	a, b := w.bind("alice/a"), w.bind("bob/b sm online")
	old := w.bind("bob/carbons carbons sm")
	b.detach()
	a.say(bob, "both")
	old.expect("<received … both")
	old.Ack(1)
	old.Close(old)
	w.settle()
	old = w.bind("bob/c carbons sm")
	a.say(bob, "carbon too")
	late := w.bind("bob/late")
	late.send("<presence/>")
	late.expectAny("from='bob@h.example/late'", "from='bob@h.example/b'")
	w.settle()
	b.Close(&client{}) // not its connection
	w.pass(time.Hour)
	// "carbon too" is in the queue of another session yet; "both" is nowhere.
	if got := bodies(late.take()); !slices.Equal(got, []string{"both"}) {
		t.Errorf("got %v", got)
	}
	old.Close(old)
	w.settle()
	if got := late.take(); !slices.Equal(bodies(got), []string{"carbon too"}) || strings.Contains(got[0], "received") {
		t.Errorf("got %v", got)
	}
	if got := w.offline("bob"); len(got) != 2 { // not yet taken into account: late reads on Next
		w.settle()
		if got = w.offline("bob"); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
	}
}

// TestLateForSession: a session ends between the decision and the commit.
func TestLateForSession(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.ArchiveDefault = "never" })
	a, b := w.bind("alice/a"), w.bind("bob/b online")
	release := w.holdCommits()
	// Without an archive entry there is nothing to commit: something else is.
	if err := func() error {
		a.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='x@x.example'/></query></iq>")
		return nil
	}(); err != nil {
		t.Fatal(err)
	}
	b.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='x@x.example'/></query></iq>")
	waitFor(t, func() bool { return w.pendingEntries("bob") > 0 })
	a.send("<message type='chat' to='bob@h.example'><body>late</body></message>")
	waitFor(t, func() bool { return w.pendingEntries("bob") > 1 })
	b.Close(b)
	waitFor(t, func() (gone bool) {
		w.state("bob", func(s *State) { gone = len(s.sessions) == 0 })
		return gone
	})
	release()
	w.settle()
	if got := w.offline("bob"); !slices.Equal(got, []string{"late"}) {
		t.Errorf("kept %v", got)
	}
}

// TestOverflow: a client that stops reading costs a bounded number of bytes,
// nobody else notices, and the archive has everything.
func TestOverflow(t *testing.T) {
	for _, words := range []string{"sm online", "online"} {
		t.Run(words, func(t *testing.T) {
			const limit = 20 << 10
			w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes = limit; c.Limits.OfflineMessages = 1000 })
			a, other := w.bind("alice/a"), w.bind("bob/other online")
			b := w.bind("bob/b " + words)
			other.take()
			var want []string
			most := 0
			for i := range 100 {
				body := fmt.Sprintf("m%02d %s", i, strings.Repeat("x", 500))
				want = append(want, body)
				a.say(bob, body)
				b.Session.session.mu.Lock()
				most = max(most, b.out.Bytes()+b.heldBytes)
				b.Session.session.mu.Unlock()
				if got := bodies(other.take()); !slices.Contains(got, body) {
					t.Fatalf("the other device got %v", got)
				}
			}
			if most > limit+1024 {
				t.Errorf("%d bytes were owed", most)
			}
			if c, ended := b.streamError(); !ended || c != stanza.StreamPolicyViolation {
				t.Errorf("ended with %q", c)
			}
			if got := w.archive("bob"); !slices.Equal(got, want) {
				t.Errorf("%d in the archive", len(got))
			}
			if w.hub.Counters().Overflows != 1 {
				t.Error("not counted, or more than once")
			}
			if strings.HasPrefix(words, "sm") {
				var refused *ResumeError
				if _, _, err := w.resume(b, 0); !errors.As(err, &refused) || !refused.Known || refused.H != 1 {
					t.Errorf("resumed: %v", err)
				}
			}
			w.state("bob", func(s *State) {
				if len(s.sessions) != 1 || s.offline != 0 {
					t.Errorf("%d sessions, %d offline", len(s.sessions), s.offline)
				}
			})
			if err := b.Send(context.Background(), []byte("<message/>")); !errors.Is(err, ErrEnded) {
				t.Error(err)
			}
		})
	}
}

// TestOverflowAlone: with no other device and no archive, what passes the
// bound is in the offline store.
func TestOverflowAlone(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) {
		c.Limits.OutboxBytes = 8 << 10
		c.Limits.OfflineMessages = 1000
		c.ArchiveDefault = "never"
	})
	a, b := w.bind("alice/a"), w.bind("bob/b carbons sm online")
	var want []string
	for i := range 50 {
		body := fmt.Sprintf("m%02d %s", i, strings.Repeat("x", 500))
		want = append(want, body)
		a.send("<message type='chat' to='bob@h.example'><body>" + body + "</body></message>")
	}
	w.settle()
	got := append(bodies(b.take()), w.offline("bob")...)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d of %d are somewhere", len(got), len(want))
	}
}

func TestInactiveClient(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a online"), w.bind("bob/b sm online")
	b.SetActive(false)
	for range 3 {
		a.send("<presence><show>away</show></presence>")
		a.send("<presence><show>dnd</show></presence>")
		a.send("<message type='chat' to='bob@h.example'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
		a.send("<message type='chat' to='bob@h.example'><paused xmlns='http://jabber.org/protocol/chatstates'/></message>")
	}
	b.expect()
	a.say(bob, "real") // never held back, and behind what was
	b.expect("dnd", "paused", "real")
	a.send("<presence/>")
	b.expect()
	b.SetActive(true)
	b.expect("from='alice@h.example/a'")
	b.SetActive(false)
	a.send("<presence/>")
	w.settle()
	b.detach()
	n, _, err := w.resume(b, 6)
	if err != nil {
		t.Fatal(err)
	}
	n.expect("from='alice@h.example/a'") // a resumed stream starts active
	n.SetActive(false)
	for i := range maxHeld + 1 {
		n.deliver([]byte("<presence/>"), tag{wait: waitPresence, from: jid.MustParse(fmt.Sprintf("x%d@x.example", i))})
	}
	if len(n.held) > maxHeld {
		t.Error("what is held back grows without bound")
	}
}

func TestProfiles(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a")
	for _, tc := range []struct {
		p    route.Profile
		fail bool
	}{{route.Carbons, false}, {route.Carbons, false}, {route.NG, true}, {route.Classic, false}, {route.NG, false}, {route.Carbons, true}} {
		err := a.SetProfile(context.Background(), tc.p)
		if (err != nil) != tc.fail {
			t.Errorf("%v: %v", tc.p, err)
		}
	}
}
