package chat

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// bodies are what is said in a long history: mostly short, some long, some of it in other scripts.
func said(i int) string {
	switch {
	case i%50 == 0:
		return "A longer message, as people write them when they have something to explain: it takes several lines, of which the last is short. " +
			"It goes on for a while, for that is what explanations do, and then it ends."
	case i%17 == 0:
		return "wide 日本語 and 👍🏽 with the rest"
	}
	return fmt.Sprint("message number ", i, ", of no importance")
}

// history is a store with so many messages of one conversation, in threads of forty, and a hundred other conversations.
func history(b *testing.B, n int) string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "history.db")
	store, err := sqlstore.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	var writes []convo.Write
	put := func(j jid.JID, i int, thread string) {
		at = at.Add(time.Minute)
		from := j
		if i%3 == 0 {
			from = desk
		}
		writes = append(writes, convo.Write{Entry: &convo.EntryWrite{Conversation: j, Entry: convo.Entry{ID: convo.EntryID(len(writes) + 1), Pos: int64(i+1) << 20, Kind: convo.Text,
			From: from, Own: i%3 == 0, Type: stanza.TypeChat, At: at, Body: said(i), Thread: thread, MessageID: fmt.Sprint(j.Local(), i), Delivery: convo.Archived,
			Archive: convo.ArchiveID{By: alice, ID: fmt.Sprint(j.Local(), i)}}}})
	}
	for c := range 100 {
		j := jid.MustParse(fmt.Sprintf("friend%d@wonder.example", c))
		for i := range 10 {
			put(j, i, "t")
		}
		writes = append(writes, convo.Write{Conversation: &convo.Record{JID: j, Complete: true, Changed: at}})
	}
	for i := range n {
		put(bob, i, fmt.Sprint("t", i/40))
	}
	writes = append(writes, convo.Write{Conversation: &convo.Record{JID: bob, Complete: true, Trusted: true, Read: int64(n+1) << 20, Changed: at}},
		convo.Write{Account: &convo.Account{LastEntry: convo.EntryID(len(writes)), Cursors: map[string]string{alice.String(): "c"}}})
	if err := store.Write(writes); err != nil {
		b.Fatal(err)
	}
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	return file
}

// open is a screen of 80 by 24 with bob's conversation open, on a store that the caller closes.
func open(b *testing.B, file string) (*screen, *sqlstore.Store) {
	b.Helper()
	store, err := sqlstore.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	snap, err := store.Load(200)
	if err != nil {
		b.Fatal(err)
	}
	d := newFakeOn(b, store, snap)
	s := &screen{fake: d, m: New(Config{Context: b.Context(), Device: d, Account: alice, Name: "desk", Contact: bob, Now: d.now})}
	s.run(s.m.Init())
	s.tell(tea.WindowSizeMsg{Width: 80, Height: 24})
	return s, store
}

// long is a screen of 80 by 24 with bob's conversation open, on a store of n messages of which the person has gone back to as many.
func long(b *testing.B, n, back int) *screen {
	b.Helper()
	s, store := open(b, history(b, n))
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	s.online()
	s.back(b, back)
	return s
}

// back goes back until so many messages are open.
func (s *screen) back(b *testing.B, n int) {
	b.Helper()
	for len(s.m.snap.view.Entries) < n {
		before := len(s.m.snap.view.Entries)
		s.m.anchor, s.m.skip = s.m.snap.view.Entries[min(40, before-1)].ID, 0
		for range 40 {
			s.keys("pgup")
		}
		if len(s.m.snap.view.Entries) == before {
			b.Fatalf("%d messages are all that there are", before)
		}
	}
}

// BenchmarkLong is the time of a key press with its frame, and of a message that comes with its frame, in a conversation of which 10,000 messages are open,
// on a store of 100,000.
func BenchmarkLong(b *testing.B) {
	for _, size := range []struct{ stored, back int }{{1000, 200}, {10_000, 10_000}, {100_000, 10_000}} {
		b.Run(fmt.Sprintf("stored=%d/open=%d", size.stored, size.back), func(b *testing.B) {
			s := long(b, size.stored, size.back)
			frame := func() { _, _ = s.m.screen() }
			middle := func() {
				s.back(b, size.back)
				s.m.anchor, s.m.skip = s.m.snap.view.Entries[len(s.m.snap.view.Entries)/2].ID, 0
			}
			newest := func() { s.m.anchor, s.m.skip = 0, 0; s.keys("esc") }
			for _, what := range []struct {
				name string
				set  func()
				do   func(i int)
			}{
				{"letter", newest, func(i int) {
					if i%50 == 0 {
						s.keys("ctrl+u")
					}
					s.keys("x")
				}},
				{"frame", newest, func(int) {}},
				{"frame-middle", middle, func(int) {}},
				{"pages-middle", middle, func(i int) { s.keys([]string{"pgup", "pgdown"}[i%2]) }},
				{"choose-middle", func() { middle(); s.keys("ctrl+u", "up") }, func(i int) { s.keys([]string{"up", "down"}[i%2]) }},
				{"arrives-middle", middle, func(i int) {
					s.gets("bob@wonder.example/pc", fmt.Sprint("newer", b.Name(), i, s.now), "t1", body("one more"))
				}},
				{"elsewhere-middle", middle, func(i int) {
					s.gets("carol@wonder.example/pc", fmt.Sprint("other", b.Name(), i, s.now), "t1", body("one more"))
				}},
				{"arrives", newest, func(i int) {
					s.gets("bob@wonder.example/pc", fmt.Sprint("new", b.Name(), i, s.now), "t1", body("one more"))
				}},
			} {
				b.Run(what.name, func(b *testing.B) {
					what.set()
					i := 0
					for b.Loop() {
						what.do(i)
						frame()
						i++
					}
				})
			}
		})
	}
}

// BenchmarkFirst is the time from opening a store of 100,000 messages to the first frame.
func BenchmarkFirst(b *testing.B) {
	file := history(b, 100_000)
	for b.Loop() {
		s, store := open(b, file)
		if _, _ = s.m.screen(); len(s.m.snap.view.Entries) != 200 {
			b.Fatalf("%d messages", len(s.m.snap.view.Entries))
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
