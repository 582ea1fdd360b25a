package account

import (
	"context"
	"errors"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// bindAs binds a session of one of bob's installations, with stream management.
func (w *world) bindAs(id, resource string) *client {
	w.t.Helper()
	c := &client{w: w}
	s, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(bob), Resource: resource, Client: id, Transport: c})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Session = s
	s.EnableSM(true, 0)
	w.settle()
	return c
}

// TestEndClient: whose access is revoked is connected no more, has nothing to resume
// or to catch up from, and no token; others keep what they have (XEP-0494 3.2).
func TestEndClient(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		away func(w *world, c *client) *client
	}{
		{"connected", func(_ *world, c *client) *client { return c }},
		{"waiting to be resumed", func(_ *world, c *client) *client { c.detach(); return c }},
		{"saved before the start", func(w *world, c *client) *client { c.detach(); w.restart(true, time.Second); return c }},
		{"quiet", func(w *world, c *client) *client { w.pass(time.Second); w.pass(time.Minute); return c }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newDiskWorld(t, "bob")
			w.knowClient("phone")
			w.knowClient("laptop")
			id := w.id("bob")
			until := w.Now().Add(time.Hour)
			for _, c := range []string{"phone", "laptop"} {
				if err := w.store.Commit(ctx, store.TokenPut{Account: id, Client: c, Token: store.Token{Mechanism: "M", Value: []byte(c), Expires: until}}); err != nil {
					t.Fatal(err)
				}
			}
			phone, laptop := w.bindAs("phone", "p"), w.bindAs("laptop", "l")
			laptop.detach()
			phone = tt.away(w, phone)
			broken := errors.New("I/O")
			w.failCommits(broken)
			if err := w.hub.EndClient(ctx, jid.MustParse(bob), "phone"); !errors.Is(err, broken) {
				t.Error("the store fails:", err)
			}
			if _, ended := phone.streamError(); ended && tt.name == "connected" {
				t.Error("ended although its access stays")
			}
			w.failCommits(nil)
			w.tick()
			if err := w.hub.EndClient(ctx, jid.MustParse(bob), "phone"); err != nil {
				t.Fatal(err)
			}
			if condition, ended := phone.streamError(); ended != (tt.name == "connected" || tt.name == "quiet") || ended && condition != stanza.StreamNotAuthorized {
				t.Error("its stream:", condition, ended)
			}
			w.settle()
			for _, x := range w.saved("bob") {
				if x.Client == "phone" {
					t.Error("a session of it is still saved")
				}
			}
			if _, err := w.store.Client(ctx, id, "phone"); !errors.Is(err, store.ErrNotFound) {
				t.Error("still known:", err)
			}
			if _, _, err := w.store.Tokens(ctx, jid.MustParse(bob), "phone"); !errors.Is(err, store.ErrNotFound) {
				t.Error("it has a token:", err)
			}
			if _, _, err := w.store.Tokens(ctx, jid.MustParse(bob), "laptop"); err != nil {
				t.Error("the other one's token:", err)
			}
			w.fails(phone, 0)
			w.mustResume(laptop, 0)
		})
	}
	w := newWorld(t, "alice")
	if err := w.hub.EndClient(ctx, jid.MustParse(bob), "phone"); err == nil {
		t.Error("of an account that doesn't exist")
	}
	if err := w.hub.EndClient(ctx, jid.MustParse(alice), "never seen"); err != nil {
		t.Error(err)
	}
}

// TestEndClientForgetsTheCursor: an installation that comes back is a new one.
func TestEndClientForgetsTheCursor(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/r")
	w.knowClient("phone")
	d := &syncDevice{w: w, name: "d", client: "phone", wake: make(chan struct{}, 1)}
	a.say(bob, "1")
	d.connect()
	waitFor(t, func() bool { d.read(1<<20, true); return d.synced })
	if d.failed != "" || len(d.have) != 1 {
		t.Fatal(d.failed, d.have)
	}
	if err := w.hub.EndClient(context.Background(), jid.MustParse(bob), "phone"); err != nil {
		t.Fatal(err)
	}
	w.tick()
	w.knowClient("phone")
	w.state("bob", func(s *State) {
		if len(s.cursors) != 0 || len(s.sessions) != 0 {
			t.Errorf("cursors %v, %d sessions", s.cursors, len(s.sessions))
		}
	})
	if c, err := w.store.Client(context.Background(), w.id("bob"), "phone"); err != nil || c.Cursor != 0 {
		t.Errorf("%+v %v", c, err)
	}
}

// TestResumeIsOfOneClient: a session isn't resumed by another installation, whose
// access would then be another's; who named itself to nobody before does so now.
func TestResumeIsOfOneClient(t *testing.T) {
	w := newWorld(t, "bob")
	resume := func(c *client, id string) (*client, error) {
		n := &client{w: w}
		s, _, err := w.hub.Resume(context.Background(), ResumeRequest{Account: jid.MustParse(bob), ID: c.resumption(), Client: id, Transport: n})
		n.Session = s
		return n, err
	}
	phone := w.bindAs("phone", "p")
	phone.detach()
	var refused *ResumeError
	if _, err := resume(phone, "laptop"); !errors.As(err, &refused) || refused.Err.Condition != stanza.ItemNotFound || refused.Known {
		t.Error("another installation's:", err)
	}
	n, err := resume(phone, "")
	if err != nil {
		t.Fatal("by who names none:", err)
	}
	n.detach()
	if _, err = resume(n, "phone"); err != nil {
		t.Fatal("by itself:", err)
	}
	nameless := w.bindAs("", "x")
	nameless.detach()
	if n, err = resume(nameless, "laptop"); err != nil {
		t.Fatal(err)
	}
	if err := w.hub.EndClient(context.Background(), jid.MustParse(bob), "laptop"); err != nil {
		t.Fatal(err)
	}
	if condition, ended := n.streamError(); !ended || condition != stanza.StreamNotAuthorized {
		t.Error("it is the laptop's now:", condition, ended)
	}
}
