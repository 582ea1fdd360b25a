package account

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
)

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
