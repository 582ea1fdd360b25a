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
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

func newDiskWorld(t *testing.T, accounts string, change ...func(*Config)) *world {
	return newWorldAt(t, t.TempDir(), accounts, change...)
}

// saved is what is on disk of an account's sessions.
func (w *world) saved(name string) []store.SavedSession {
	w.t.Helper()
	list, err := w.store.SessionsOf(context.Background(), w.id(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// mustResume continues a session of before the restart.
func (w *world) mustResume(c *client, h uint32) *client {
	w.t.Helper()
	n, _, err := w.resume(c, h)
	if err != nil {
		w.t.Fatalf("%s can't be resumed: %v", c.JID(), err)
	}
	return n
}

// fails checks that a session can't be resumed, and that the client is told so
// honestly: without an h.
func (w *world) fails(c *client, h uint32) {
	w.t.Helper()
	var refused *ResumeError
	if _, _, err := w.resume(c, h); !errors.As(err, &refused) || refused.Err.Condition != stanza.ItemNotFound || refused.Known {
		w.t.Errorf("%s: %v", c.JID(), err)
	}
}

// TestOutlivesOrderlyStop is S-11: whatever a session was owed when the server was
// stopped in order it gets when it is resumed, once, and its contacts don't see
// it come and go.
func TestOutlivesOrderlyStop(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a sm online"), w.bind("bob/b sm roster online")
	other := w.bind("bob/other")
	a.take()
	b.take()
	counted := b.sentCount()
	a.say(bob, "1")
	a.say(bob, "2")
	b.take() // it handles the first of the two, and nobody hears of it
	a.say(bob, "3")
	a.send("<message type='chat' to='bob@h.example/b'><body>only you</body><private xmlns='urn:xmpp:carbons:2'/></message>")
	a.send("<iq type='get' id='q' to='bob@h.example/b'><query xmlns='jabber:iq:version'/></iq>")
	w.settle()
	other.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='c@x.example'/></query></iq>")
	w.settle()
	h := a.handledCount()
	a.detach()
	sent := a.sentCount()
	w.restart(true, time.Minute)

	w.state("bob", func(s *State) {
		if len(s.sessions) != 1 || !s.sessions[0].available || s.sessions[0].presence.typ != "" {
			t.Errorf("bob has %d sessions", len(s.sessions))
		}
	})
	c := w.bind("alice/c")
	c.say(bob, "4")
	n, res, err := w.resume(b, counted+1)
	if err != nil || res.H != b.handledCount() {
		t.Fatal(res, err)
	}
	n.expect("2", "3", "only you", "id='q'", "jabber:iq:roster … c@x.example", "4")
	if got := w.saved("bob"); len(got) != 0 {
		t.Errorf("on disk after the resumption: %+v", got)
	}
	n.send("<iq type='result' id='q' to='alice@h.example/a'/>")
	n.send("<message type='chat' to='alice@h.example'><body>back</body></message>")
	w.settle()
	m, res, err := w.resume(a, sent)
	if err != nil || res.H != h {
		t.Fatal(res, h, err)
	}
	m.expect("id='q' … type='result'", "back") // and no presence
	if got := w.archive("bob"); !slices.Equal(got, []string{"1", "2", "3", "4", "back"}) {
		t.Errorf("archive %v", got)
	}
	// As if nothing had been: acknowledged, resumed once more.
	m.detach()
	n.say(alice, "5")
	w.mustResume(m, sent+2).expect("5")
}

// sentCount is how many stanzas the client was sent.
func (c *client) sentCount() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	return c.out.Acked() + uint32(c.out.Unacked())
}

// TestOutlivesKill: a session that is away when the server is killed is resumed
// with all that its profile gets, each form of it, once and in the order of the
// archive.
func TestOutlivesKill(t *testing.T) {
	for _, p := range []route.Profile{route.Classic, route.Carbons, route.NG, route.V2} {
		t.Run(p.String(), func(t *testing.T) {
			w := newDiskWorld(t, "alice bob")
			w.befriend("alice", "bob")
			a, other := w.bind("alice/a"), w.bind("bob/other carbons online")
			b := w.bind("bob/b sm online")
			if err := b.SetProfile(context.Background(), p); err != nil {
				t.Fatal(err)
			}
			w.settle()
			b.take()
			sent := b.sentCount()
			a.say(bob, "sent")
			b.expect("sent")
			a.say(bob, "queued")
			b.detach()
			a.say(bob, "away")
			a.say(bob+"/other", "elsewhere")
			a.say(bob+"/b", "here")
			other.say(alice, "mine")
			a.send("<message type='chat' to='bob@h.example/b'><body>only you</body><private xmlns='urn:xmpp:carbons:2'/></message>")
			other.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='c@x.example'/></query></iq>")
			a.say(bob, "last")
			want := map[route.Profile][]string{
				route.Classic: {"sent", "queued", "away", "here", "only you", "last"},
				route.Carbons: {"sent", "queued", "away", "received … elsewhere", "here", "sent … mine", "only you", "last"},
				route.NG:      {"sent", "queued", "away", "to='bob@h.example' … elsewhere", "here", "mine", "only you … im-ng", "last"},
				route.V2:      {"sent", "queued", "xmpp-1", "to='bob@h.example' … elsewhere … xmpp-1", "to='bob@h.example/b' … here", "mine", "only you", "last"},
			}[p]
			w.restart(false, 9*time.Minute)
			c := w.bind("alice/c")
			c.say(bob, "after")
			n := w.mustResume(b, sent)
			w.settle()
			var got []string
			for _, st := range n.take() {
				if !strings.HasPrefix(st, "<presence") {
					got = append(got, st)
				}
			}
			want = append(want, "after")
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || !matchPattern(got[i], want[i]) {
					t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
				}
			}
			// The other one was busy: it has to begin anew.
			w.fails(other, 0)
			n.say(alice, "done")
			c.expect()
		})
	}
}

// TestOutlivesKillQuiet: a connected session over which nothing passes is saved
// too, and forgotten, durably, before anything passes.
func TestOutlivesKillQuiet(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	b := w.bind("bob/b sm online")
	h := b.sentCount()
	if err := b.Ack(h); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.pass(quietFor - time.Second)
	if len(w.saved("bob")) != 0 {
		t.Error("saved too early")
	}
	w.pass(2 * time.Second)
	if len(w.saved("bob")) != 1 {
		t.Fatalf("%+v", w.saved("bob"))
	}
	w.restart(false, time.Hour) // the whole window begins with the start
	a := w.bind("alice/a")
	a.say(bob, "1")
	b = w.mustResume(b, h)
	b.expect("1")

	// Something comes for it, or from it: first it is forgotten.
	quiet := func() {
		t.Helper()
		if err := b.Ack(b.sentCount()); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			w.pass(2 * quietFor)
		}
		if len(w.saved("bob")) != 1 {
			t.Fatal("it isn't quiet")
		}
	}
	for _, tc := range []struct {
		name string
		do   func()
		want string
	}{
		{"a message", func() { a.send("<message type='chat' to='bob@h.example'><body>x</body></message>") }, "<body>x"},
		{"an IQ", func() { a.send("<iq type='get' id='q' to='bob@h.example/b'><x xmlns='u'/></iq>") }, "service-unavailable"},
		{"directed presence", func() { a.send("<presence to='bob@h.example/b'/>") }, "<presence"},
	} {
		quiet()
		if tc.name == "an IQ" {
			a.send("<presence to='bob@h.example/b' type='unavailable'/>")
			w.settle()
			b.take()
			quiet()
			tc.want = "id='q'"
		}
		release := w.holdCommits()
		tc.do()
		waitFor(t, func() bool { return w.pendingEntries("bob") > 0 })
		if got := b.take(); len(got) != 0 {
			t.Errorf("%s passes before that: %v", tc.name, got)
		}
		release()
		w.settle()
		if got := b.take(); len(got) != 1 || !strings.Contains(got[0], tc.want) {
			t.Errorf("%s: %v", tc.name, got)
		}
		if len(w.saved("bob")) != 0 {
			t.Errorf("%s: it is on disk still", tc.name)
		}
	}
	quiet()
	before := b.handledCount()
	b.send("<message type='chat' to='alice@h.example'><body>y</body></message>")
	w.settle()
	if len(w.saved("bob")) != 0 || b.handledCount() != before+1 {
		t.Error("its own stanza passes while it is on disk")
	}
	// One whose connection is lost while it is quiet is on disk as it is.
	quiet()
	h = b.sentCount()
	b.detach()
	a.say(bob, "2")
	w.restart(false, 0)
	w.mustResume(b, h).expect("2")
}

// TestCannotBeRoused: while the store can't forget a quiet session, what is to pass over it waits, but not for ever: the session ends, its client gets
// another one, and what is on disk goes when the store works again. One for which nothing waits stays.
func TestCannotBeRoused(t *testing.T) {
	for _, fromClient := range []bool{true, false} {
		t.Run(fmt.Sprint("from client ", fromClient), func(t *testing.T) {
			w := newDiskWorld(t, "alice bob")
			w.befriend("alice", "bob")
			a := w.bind("alice/a online")
			b, idle := w.bind("bob/b sm online"), w.bind("bob/idle sm")
			for _, c := range []*client{b, idle} {
				c.take()
				if err := c.Ack(c.sentCount()); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(time.Second)
			w.pass(quietFor)
			if len(w.saved("bob")) != 2 {
				t.Fatal("they aren't quiet")
			}
			w.failCommits(errors.New("I/O"))
			a.say(bob+"/idle", "is refused and waits for nothing")
			before, returned := b.handledCount(), make(chan struct{})
			if fromClient {
				go func() {
					b.send("<message type='chat' to='alice@h.example'><body>x</body></message>")
					close(returned)
				}()
				waitFor(t, func() bool {
					b.session.mu.Lock()
					defer b.session.mu.Unlock()
					return b.waits
				})
			} else {
				close(returned)
				a.send("<presence><show>away</show></presence>")
			}
			w.settle()
			for range maxRousings - 1 {
				w.tick()
				if _, ended := b.streamError(); ended || len(b.take()) != 0 {
					t.Fatal("it did not wait, or something passed")
				}
			}
			w.tick()
			if condition, _ := b.streamError(); condition != stanza.StreamResourceConstraint {
				t.Fatalf("its stream: %q", condition)
			}
			<-returned
			if got := b.handledCount(); got != before {
				t.Errorf("%d stanzas handled, %d before", got, before)
			}
			w.fails(b, 0)
			if _, ended := idle.streamError(); ended {
				t.Error("the other one ended too")
			}
			// A new one works, as far as anything does.
			n := w.bind("bob/b sm")
			n.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
			n.expect("id='r' type='result'")

			w.failCommits(nil)
			w.tick()
			w.settle()
			if got := w.saved("bob"); len(got) != 0 {
				t.Errorf("on disk still: %+v", got)
			}
			idle.say(alice, "goes on")
			if got := w.archive("alice"); !slices.Equal(got, []string{"goes on"}) {
				t.Errorf("archive %v", got)
			}
		})
	}
}

// TestKilledWhileBusy: what was in use has no trace on disk, and is refused.
func TestKilledWhileBusy(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a sm online"), w.bind("bob/b sm online")
	w.settle()
	a.take()
	h := a.sentCount()
	a.detach()
	w.restart(false, 0)
	w.fails(b, 1)
	// Who is back is told that the other is not.
	n := w.mustResume(a, h)
	w.settle()
	if got := strings.Join(n.take(), ""); !strings.Contains(got, "from='bob@h.example/b'") || !strings.Contains(got, "type='unavailable'") {
		t.Errorf("alice is told %s", got)
	}
}

// TestOutlivedItsTime: who didn't come back in time ends after the start as he
// would have before.
func TestOutlivedItsTime(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a sm online"), w.bind("bob/b sm online")
	w.settle()
	a.take()
	h := a.sentCount()
	b.detach()
	a.say(bob, "unread")
	a.send("<message type='chat' id='one' to='bob@h.example/b'><body>only you</body><private xmlns='urn:xmpp:carbons:2'/></message>")
	w.settle()
	w.restart(true, 11*time.Minute)
	w.fails(b, 1)
	// Alice was connected when the server stopped: she has the whole time.
	w.mustResume(a, h).expectAny("from='bob@h.example/b' … type='unavailable'", "id='one' … service-unavailable")
	if got := w.offline("bob"); !slices.Equal(got, []string{"unread"}) {
		t.Errorf("kept offline: %v", got)
	}
	if got := w.saved("bob"); len(got) != 0 {
		t.Errorf("on disk: %+v", got)
	}
}

// TestOutlivesNot: what can't be put together again is refused.
func TestOutlivesNot(t *testing.T) {
	setup := func(t *testing.T) (w *world, a, b *client) {
		w = newDiskWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes = 8 << 10 })
		a, b = w.bind("alice/a"), w.bind("bob/b sm online")
		return w, a, b
	}
	t.Run("removed", func(t *testing.T) {
		w, _, b := setup(t)
		b.detach()
		w.restart(true, 0, func() {
			if err := w.store.RemoveAccount(context.Background(), jid.MustParse(bob)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.store.CreateAccount(context.Background(), jid.MustParse(bob), nil); err != nil {
				t.Fatal(err)
			}
		})
		w.fails(b, 1)
	})
	t.Run("too much while away", func(t *testing.T) {
		w, _, b := setup(t)
		if err := b.SetProfile(context.Background(), route.NG); err != nil {
			t.Fatal(err)
		}
		b.detach()
		w.restart(false, 0)
		a := w.bind("alice/a")
		for i := range 20 {
			a.say(bob, fmt.Sprint(i, strings.Repeat("x", 800)))
		}
		var refused *ResumeError
		if _, _, err := w.resume(b, 1); !errors.As(err, &refused) || !refused.Known {
			t.Errorf("%v", err)
		}
		w.settle()
		w.restart(false, 0)
		w.fails(b, 1)
	})
	t.Run("too much in the archive", func(t *testing.T) {
		w, _, b := setup(t)
		if err := b.SetProfile(context.Background(), route.NG); err != nil {
			t.Fatal(err)
		}
		b.detach()
		w.restart(false, 0, func() {
			for i := range 20 {
				err := w.store.Commit(context.Background(), store.ArchiveAppend{Account: w.id("bob"), ID: store.ArchiveID(w.Now().UnixMicro() + int64(i)), Peer: jid.MustParse(alice),
					Stanza: []byte("<message from='alice@h.example/a' to='bob@h.example'><body>" + strings.Repeat("x", 800) + "</body></message>")})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
		w.fails(b, 1)
	})
	t.Run("h too high", func(t *testing.T) {
		w, a, b := setup(t)
		b.detach()
		a.say(bob, "unread")
		w.restart(true, 0)
		var high *stanza.StreamError
		if _, _, err := w.resume(b, 2); !errors.As(err, &high) || !strings.Contains(high.App, "h='2' send-count='1'") {
			t.Errorf("%v", err)
		}
		w.mustResume(b, 1).expect("unread")
	})
	t.Run("deleted from the archive", func(t *testing.T) {
		w, a, b := setup(t)
		a.say(bob, "sent")
		b.expect("sent")
		b.detach()
		w.restart(true, 0, func() {
			if _, err := w.store.ArchivePurge(context.Background(), w.Now().Add(time.Hour), 100); err != nil {
				t.Fatal(err)
			}
		})
		w.fails(b, 1)
	})
	t.Run("catching up", func(t *testing.T) {
		w, a, _ := setup(t)
		for i := range 20 {
			a.say(bob, fmt.Sprint(i, strings.Repeat("x", 800)))
		}
		d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
		d.connect()
		d.cut()
		w.settle()
		if got := w.saved("bob"); slices.ContainsFunc(got, func(x store.SavedSession) bool { return x.Resource == "d" }) {
			t.Error("saved in the middle of its catch-up")
		}
		w.restart(true, 0)
		if _, _, err := w.hub.Resume(context.Background(), ResumeRequest{Account: jid.MustParse(bob), ID: d.smID, H: d.received, Transport: &link{d}}); err == nil {
			t.Error("resumed in the middle of its catch-up")
		}
		d.connect()
		waitFor(t, func() bool { d.read(1<<20, true); return d.synced })
		if d.failed != "" || len(d.have) != 20 {
			t.Errorf("%d messages, %s", len(d.have), d.failed)
		}
	})
}

// TestForgottenFirst: a client isn't told that it is resumed before what was
// saved is gone from the disk, and is refused if that can't be.
func TestForgottenFirst(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	b := w.bind("bob/b sm online")
	b.detach()
	if len(w.saved("bob")) != 1 {
		t.Fatal("it isn't saved")
	}
	w.failCommits(errors.New("I/O"))
	if _, _, err := w.resume(b, 1); err == nil {
		t.Error("resumed with what was saved still there")
	}
	w.failCommits(nil)
	w.tick()
	if len(w.saved("bob")) != 1 {
		t.Error("it isn't saved again")
	}
	release := w.holdCommits()
	done := make(chan error)
	go func() {
		_, _, err := w.resume(b, 1)
		done <- err
	}()
	waitFor(t, func() bool { return w.pendingEntries("bob") > 0 })
	select {
	case <-done:
		t.Error("resumed before the commit")
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// What has ended has no trace, also if the store could not take that at first.
	n := w.bind("bob/c sm")
	n.detach()
	w.failCommits(errors.New("I/O"))
	w.pass(11 * time.Minute)
	w.failCommits(nil)
	w.tick()
	if got := w.saved("bob"); slices.ContainsFunc(got, func(x store.SavedSession) bool { return x.Resource == "c" }) {
		t.Errorf("%+v", got)
	}
}

// TestTagOutlives: what a queue knows of a stanza is what was saved of it.
func TestTagOutlives(t *testing.T) {
	for _, want := range []tag{{}, {kind: tagRequest, failure: true, answer: 1 << 20}, {kind: tagCarbon, id: 1 << 60, archived: true, form: formReceived, order: 7},
		{kind: tagConversation, id: 3, offline: 3, form: formResult, mark: route.TagOld}} {
		b := encodeTag(want)
		if got, ok := decodeTag(b); !ok || got != want {
			t.Errorf("%+v became %+v", want, got)
		}
		for n := range b {
			if _, ok := decodeTag(b[:n]); ok {
				t.Errorf("%d bytes of %x are a tag", n, b)
			}
		}
	}
	if _, ok := decodeTag([]byte{9, 0, 0, 0, 0, 0, 0, 0}); ok {
		t.Error("an unknown kind")
	}
}

// TestBind2Offline is R-CONV-6 and XEP-0386: messages that were kept are dropped
// where the archive has them, and delivered where it has not.
func TestBind2Offline(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	a, c := w.bind("alice/a"), w.bind("carol/c")
	b := w.bind("bob/prefs")
	if err := b.Owner().Update(context.Background(), prefsNever(carol)); err != nil {
		t.Fatal(err)
	}
	b.Close(b)
	w.settle()
	for i := range 3 {
		a.say(bob, fmt.Sprint("archived", i))
		c.say(bob, fmt.Sprint("not", i))
	}
	a.say(bob, "archived3")
	bind := func() *client {
		t.Helper()
		n := &client{w: w}
		s, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(bob), Transport: n, Bind2: true, Profile: route.Carbons})
		if err != nil {
			t.Fatal(err)
		}
		n.Session = s
		s.EnableSM(true, 0)
		return n
	}
	n := bind()
	n.expect("not0", "not1", "not2", "<r ")
	if err := n.Ack(1); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if got := w.offline("bob"); !slices.Equal(got, []string{"archived1", "not1", "archived2", "not2", "archived3"}) {
		t.Errorf("the first is acknowledged: %v", got)
	}
	n.Close(n)
	w.settle()
	n = bind()
	n.expect("not1", "not2", "<r ")
	if err := n.Ack(2); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if got := w.offline("bob"); len(got) != 0 {
		t.Errorf("all is acknowledged: %v", got)
	}
	w.state("bob", func(s *State) {
		if s.offline != 0 || s.flushing != nil {
			t.Errorf("%d counted, flushing %v", s.offline, s.flushing)
		}
	})
	n.Close(n)
	w.settle()
	a.say(bob, "more") // all of it archived
	n = bind()
	n.expect()
	if got := w.offline("bob"); len(got) != 0 {
		t.Errorf("nobody needs %v", got)
	}
	n.Close(n)
}

func prefsNever(who string) feature.Update {
	return feature.Update{Archive: &feature.ArchivePrefs{Default: "always", Never: []jid.JID{jid.MustParse(who)}}}
}
