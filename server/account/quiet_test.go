package account

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/server/store"
	"carillon.im/stanza"
)

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
