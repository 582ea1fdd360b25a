// Package storetest is the contract of convo.Store: what every implementation
// must do, as a test.
package storetest

import (
	"reflect"
	"testing"
	"time"

	"carillon.im/client/convo"
	"carillon.im/jid"
)

// Run tests a store. open opens the same one again each time it is called,
// after the one before was closed; forgets says that nothing is left then.
func Run(t *testing.T, forgets bool, open func(t *testing.T) convo.Store) {
	s := open(t)
	bob, carol := jid.MustParse("bob@wonder.example"), jid.MustParse("carol@wonder.example")
	if snap, err := s.Load(10); err != nil || len(snap.Conversations) != 0 || snap.Account.LastEntry != 0 {
		t.Fatalf("an empty store has %+v (%v)", snap, err)
	}
	account := convo.Account{
		LastEntry: 8, Cursors: map[string]string{"alice@wonder.example": "a7"}, Behind: true,
		Own: []jid.JID{jid.MustParse("alice@wonder.example/phone")}, Rooms: map[string]convo.RoomFact{"hall@rooms.example": {Nick: "al", RoomFacts: convo.RoomFacts{Mine: true}}},
		Requests: []convo.Request{{From: bob, Room: jid.MustParse("tea@rooms.example"), Reason: "Tea?", Mediated: true, At: time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)}},
	}
	rec := convo.Record{JID: bob, Name: "Bob", Thread: " t\n", Read: 30, Trusted: true, Changed: time.Date(2026, 11, 21, 8, 0, 0, 1000, time.UTC)}
	other := convo.Record{JID: carol, Changed: rec.Changed.Add(-time.Hour), Base: 20}
	var writes []convo.Write
	var entries []convo.Entry
	for i := int64(1); i <= 6; i++ {
		en := convo.Entry{ID: convo.EntryID(i), Pos: 10 * i, From: bob, Type: "chat", At: rec.Changed, Body: "b", Thread: " t\n", MessageID: "m",
			Archive: convo.ArchiveID{By: bob, ID: string(rune('a' + i))}}
		if i == 6 {
			en = convo.Entry{ID: 6, Pos: convo.WaitingPos + 6, Own: true, Delivery: convo.Pending, At: rec.Changed, Emoji: []string{"x"}, Claims: []string{"c"}}
		}
		entries = append(entries, en)
		writes = append(writes, convo.Write{Entry: &convo.EntryWrite{Conversation: bob, Entry: en}},
			convo.Write{Entry: &convo.EntryWrite{Conversation: carol, Entry: convo.Entry{ID: convo.EntryID(i + 100), Pos: 10 * i, At: rec.Changed}}})
	}
	writes = append(writes, convo.Write{Account: &account}, convo.Write{Conversation: &rec}, convo.Write{Conversation: &other})
	check(t, s.Write(writes))

	if !forgets {
		check(t, s.Close())
		s = open(t)
	}
	snap, err := s.Load(2)
	check(t, err)
	equal(t, "account", snap.Account, account)
	if len(snap.Conversations) != 2 {
		t.Fatalf("%d conversations", len(snap.Conversations))
	}
	first, second := snap.Conversations[0], snap.Conversations[1]
	if first.Record.JID != bob {
		first, second = second, first
	}
	equal(t, "record", first.Record, rec)
	equal(t, "the newest two and what waits", first.Entries, entries[3:])
	if !first.More {
		t.Error("the store doesn't say that it has older ones")
	}
	if len(second.Entries) != 5 { // 20 to 60: all from Base on
		t.Errorf("from Base on there are %d entries", len(second.Entries))
	}
	older, more, err := s.History(bob, 40, 2)
	check(t, err)
	equal(t, "history", older, entries[1:3])
	if !more {
		t.Error("history has more")
	}
	if older, more, err = s.History(bob, 20, 5); err != nil || more || len(older) != 1 || older[0].ID != 1 {
		t.Errorf("the beginning: %+v, more %t (%v)", older, more, err)
	}

	// An entry is put again, elsewhere.
	moved := entries[0]
	moved.Pos, moved.Gap = 35, true
	check(t, s.Write([]convo.Write{{Entry: &convo.EntryWrite{Conversation: bob, Entry: moved}}}))
	older, _, err = s.History(bob, 40, 2)
	check(t, err)
	equal(t, "moved", older, []convo.Entry{entries[2], moved})
	check(t, s.Close())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n%+v, want\n%+v", what, got, want)
	}
}
