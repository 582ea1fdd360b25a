package account

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// TestSyncFrom: each way to say where a catch-up begins, and how much may come. What
// comes is the newest of what was asked for, and complete says whether that is all.
func TestSyncFrom(t *testing.T) {
	const messages = 2*seekStep + newDevice
	w := newWorld(t, "bob")
	first := store.NextArchiveID(0, testStart.Add(-time.Minute))
	var ops []store.Op
	for i := range messages { // with gaps between their ids
		ops = append(ops, store.ArchiveAppend{Account: w.id("bob"), ID: first + 2*store.ArchiveID(i), Peer: jid.MustParse(alice),
			Stanza: []byte("<message from='" + alice + "/a' to='" + bob + "' type='chat'><body>x</body></message>")})
	}
	if err := w.store.Commit(context.Background(), ops...); err != nil {
		t.Fatal(err)
	}
	ids := archiveIDs(t, w)
	for _, tt := range []struct {
		want     xep.Sync
		n        int
		complete bool
	}{
		{xep.Sync{}, newDevice, false}, // a device without a cursor
		{xep.Sync{Max: messages}, messages, true},
		{xep.Sync{Max: messages - 1}, messages - 1, false},
		{xep.Sync{Max: seekStep + 1}, seekStep + 1, false},
		{xep.Sync{Max: 3}, 3, false},
		{xep.Sync{After: "nonsense"}, newDevice, false},
		{xep.Sync{After: "nonsense", Max: 3}, 3, false},
		{xep.Sync{After: (first + 1).String()}, newDevice, false}, // as one that has expired
		{xep.Sync{After: (first + 1).String(), Max: newDevice + 1}, newDevice + 1, false},
		{xep.Sync{After: (first + 2*messages).String()}, newDevice, false},
		{xep.Sync{After: ids[0]}, messages - 1, true},
		{xep.Sync{After: ids[0], Max: messages - 1}, messages - 1, true},
		{xep.Sync{After: ids[0], Max: messages - 2}, messages - 2, false},
		{xep.Sync{After: ids[messages-1]}, 0, true},
		{xep.Sync{Start: testStart.Add(-time.Hour)}, messages, true},
		{xep.Sync{Start: testStart.Add(-time.Hour), Max: 3}, 3, false},
		{xep.Sync{Start: w.Now().Add(time.Hour)}, 0, true},
		{xep.Sync{Last: 365 * 24 * time.Hour}, messages, true},
		{xep.Sync{Last: time.Second}, 0, true},
	} {
		d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
		d.bind(&tt.want)
		waitFor(t, func() bool { d.read(1<<20, true); return d.synced || d.failed != "" })
		if d.failed != "" || d.complete != tt.complete || !slices.Equal(d.have, ids[messages-tt.n:]) {
			t.Errorf("%+v: %s, it has %d, complete %v; want %d, %v", tt.want, d.failed, len(d.have), d.complete, tt.n, tt.complete)
		}
		d.session.Close(d.session.t)
		w.settle()
	}
}

// TestSyncedIsThere: a session of 2.0 gets conversation messages from its first moment
// on, without presence, and so nothing that it got is kept for others.
func TestSyncedIsThere(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b sm online")
	d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
	d.bind(&xep.Sync{})
	a.say(bob, "seen")
	waitFor(t, func() bool { d.read(1<<20, true); return len(d.have) == 1 || d.failed != "" })
	b.Close(b) // it has acknowledged nothing
	w.settle()
	if got := w.offline("bob"); d.failed != "" || len(got) != 0 {
		t.Errorf("%s; kept %v", d.failed, got)
	}
}

// TestCatchUpCannotRead: where the archive can't be read the stream ends, or live
// messages would hide what is missing. The device then gets it as if nothing had been.
func TestCatchUpCannotRead(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	a.say(bob, "missed")
	w.setFault(func(point string) error {
		if point == "read" {
			return errors.New("the disk is broken")
		}
		return nil
	})
	c := &client{w: w}
	var err error
	c.Session, err = w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(bob), Resource: "d", Transport: c,
		Request: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: &xep.Sync{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	a.say(bob, "live")
	waitFor(t, func() bool { _, ended := c.streamError(); return ended })
	if condition, _ := c.streamError(); condition != stanza.StreamInternalServerError {
		t.Errorf("ended with %q", condition)
	}
	if got := c.take(); len(got) != 0 {
		t.Errorf("it got %v", got)
	}
	w.setFault(nil)
	d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
	d.bind(&xep.Sync{})
	d.finish(t, archiveIDs(t, w))
	if len(d.have) != 2 || !d.complete {
		t.Errorf("afterwards it has %d, complete %v", len(d.have), d.complete)
	}
}

// cursor is what is on disk of where one of bob's devices is.
func (w *world) cursor(client string) store.ArchiveID {
	w.t.Helper()
	w.tick()
	if err := w.store.Commit(context.Background()); err != nil { // the cursor's unit is before it
		w.t.Fatal(err)
	}
	c, err := w.store.Client(context.Background(), w.id("bob"), client)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Cursor
}

// TestCursorOutlives: a session that is resumed after the server was away moves its
// device's cursor if it did before, and no other does.
func TestCursorOutlives(t *testing.T) {
	for limit, holes := range map[int]int{0: 0, 1: 1} {
		w := newDiskWorld(t, "alice bob")
		a := w.bind("alice/a")
		a.say(bob, "1")
		a.say(bob, "2")
		d := &syncDevice{w: w, name: "d", client: "00000000-0000-4000-8000-000000000001", wake: make(chan struct{}, 1)}
		w.knowClient(d.client)
		d.bind(&xep.Sync{Max: limit})
		waitFor(t, func() bool { d.read(1<<20, true); return d.synced || d.failed != "" })
		want := archiveIDs(t, w)[1]
		if holes > 0 {
			want = store.ArchiveID(0).String()
		}
		if got := w.cursor(d.client).String(); d.failed != "" || d.complete != (holes == 0) || got != want {
			t.Fatalf("limit %d: %s, complete %v, its cursor is %s, want %s", limit, d.failed, d.complete, got, want)
		}
		d.cut()
		w.settle()
		w.restart(true, time.Minute)
		a = w.bind("alice/a")
		if d.resume(); !d.synced { // it connected anew
			t.Fatal("not resumed")
		}
		a.say(bob, "3")
		for d.read(1<<20, true) {
		}
		if holes == 0 {
			want = archiveIDs(t, w)[2]
		}
		if got := w.cursor(d.client).String(); d.failed != "" || len(d.have) != 3-holes || got != want {
			t.Errorf("limit %d: %s, it has %d, its cursor is %s, want %s", limit, d.failed, len(d.have), got, want)
		}
	}
}

// TestResumedIsActive: a stream begins active, whatever the last one was (XEP-0352 4.1).
func TestResumedIsActive(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	b := w.bind("bob/b sm online")
	b.take()
	b.SetActive(false)
	b.detach()
	n := w.mustResume(b, b.sentCount())
	w.bind("alice/a online")
	n.expect("<presence from='alice@h.example/a'")
}
