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
