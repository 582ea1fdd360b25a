package account

import (
	"context"
	"fmt"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

// TestRosterChangesWhileDown: whatever changes in the roster while the server is away, a session that follows it is told of when it is resumed, once,
// in order, and behind what it had been queued; also if the server is killed once more before, and further changes come.
func TestRosterChangesWhileDown(t *testing.T) {
	ctx := context.Background()
	w := newDiskWorld(t, "alice bob")
	w.befriend("alice", "bob")
	other := w.bind("bob/other roster")
	b, plain := w.bind("bob/b sm roster"), w.bind("bob/plain sm")
	sent, plainSent := b.sentCount(), plain.sentCount()
	set := func(who *client, contact, name string) {
		who.send(fmt.Sprintf("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='%s' name='%s'/></query></iq>", contact, name))
		w.settle()
	}
	set(other, "x@x.example", "told")
	b.expect("x@x.example … told")
	b.detach()
	plain.detach()
	set(other, "y@x.example", "queued")
	version := func() (v int64) {
		w.state("bob", func(s *State) { v = s.rosterVersion })
		return v
	}
	at, id := version(), w.id("bob")
	change := func(ops ...store.Op) func() {
		return func() {
			if err := w.store.Commit(ctx, ops...); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.restart(false, time.Second, change(
		store.RosterPut{Account: id, Version: at + 1, Item: store.RosterItem{JID: jid.MustParse("z@x.example"), Name: "meanwhile", Subscription: "none"}},
		store.RosterDelete{Account: id, Version: at + 2, Contact: jid.MustParse("x@x.example")}))
	other = w.bind("bob/other roster")
	set(other, "v@x.example", "after the start")
	w.restart(false, time.Second)
	w.bind("bob/other roster")
	if got := version(); got != at+3 {
		t.Fatal("version", got, "from", at)
	}
	n := w.mustResume(b, sent)
	n.expect("told", "y@x.example … queued", "z@x.example … meanwhile", "x@x.example … remove", "after the start")
	w.mustResume(plain, plainSent).expect()

	// Nothing changed: nothing is pushed.
	sent = n.sentCount()
	n.detach()
	w.restart(true, time.Second)
	n = w.mustResume(n, sent)
	n.expect()

	// More was removed than is remembered.
	n.detach()
	at = version()
	ops := []store.Op{}
	for i := range int64(store.MaxTombstones + 1) {
		j := jid.MustParse(fmt.Sprintf("c%d@x.example", i))
		ops = append(ops, store.RosterPut{Account: id, Version: at + 2*i + 1, Item: store.RosterItem{JID: j, Subscription: "none"}},
			store.RosterDelete{Account: id, Version: at + 2*i + 2, Contact: j})
	}
	w.restart(true, time.Second, change(ops...))
	w.fails(n, sent)
	w.settle()
	for _, x := range w.saved("bob") {
		if x.Resource == "b" {
			t.Error("it is still saved")
		}
	}
}

// TestStillBehind: what a session was not told before the server was killed is owed to it beyond an orderly stop too.
func TestStillBehind(t *testing.T) {
	w := newDiskWorld(t, "alice bob")
	w.befriend("alice", "bob")
	w.bind("alice/a online")
	b := w.bind("bob/b sm online")
	b.take()
	sent := b.sentCount()
	b.detach()
	w.restart(false, time.Second) // alice's device vanishes
	w.state("bob", func(s *State) {
		if len(s.sessions) != 1 || !s.sessions[0].behind {
			t.Error("it is not behind")
		}
	})
	w.restart(true, time.Second)
	n := w.mustResume(b, sent)
	n.expectAny("from='alice@h.example/a' … unavailable", "from='alice@h.example' … unavailable")
}
