package convo

import (
	"slices"
	"strings"
	"sync"

	"carillon.im/jid"
)

// Memory is a Store that keeps nothing over restarts: for tests, and for
// devices that are to leave no trace.
type Memory struct {
	mu      sync.Mutex
	account Account
	records map[jid.JID]Record
	entries map[jid.JID]map[EntryID]Entry
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{records: map[jid.JID]Record{}, entries: map[jid.JID]map[EntryID]Entry{}}
}

// Load implements Store.
func (s *Memory) Load(tail int) (Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := Snapshot{Account: s.account}
	for j, rec := range s.records {
		entries, _ := s.before(j, WaitingPos, 1<<31)
		keep := max(0, len(entries)-tail)
		for rec.Base > 0 && keep > 0 && entries[keep-1].Pos >= rec.Base {
			keep--
		}
		more := keep > 0
		entries = entries[keep:]
		for _, en := range s.entries[j] {
			if en.Pos >= WaitingPos {
				entries = append(entries, en)
			}
		}
		slices.SortFunc(entries, func(a, b Entry) int { return compare(a.Pos, b.Pos) })
		snap.Conversations = append(snap.Conversations, Stored{Record: rec, Entries: entries, More: more})
	}
	slices.SortFunc(snap.Conversations, func(a, b Stored) int {
		if n := b.Record.Changed.Compare(a.Record.Changed); n != 0 {
			return n
		}
		return strings.Compare(a.Record.JID.String(), b.Record.JID.String())
	})
	return snap, nil
}

// History implements Store.
func (s *Memory) History(conversation jid.JID, before int64, most int) ([]Entry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, more := s.before(conversation, before, most)
	return entries, more, nil
}

func (s *Memory) before(j jid.JID, before int64, most int) (entries []Entry, more bool) {
	for _, en := range s.entries[j] {
		if en.Pos < before {
			entries = append(entries, en)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return compare(a.Pos, b.Pos) })
	if len(entries) > most {
		return entries[len(entries)-most:], true
	}
	return entries, false
}

// Write implements Store.
func (s *Memory) Write(writes []Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range writes {
		switch {
		case w.Entry != nil:
			m := s.entries[w.Entry.Conversation]
			if m == nil {
				m = map[EntryID]Entry{}
				s.entries[w.Entry.Conversation] = m
			}
			m[w.Entry.Entry.ID] = w.Entry.Entry
		case w.Conversation != nil:
			s.records[w.Conversation.JID] = *w.Conversation
		case w.Account != nil:
			s.account = *w.Account
		}
	}
	return nil
}

// Close implements Store.
func (s *Memory) Close() error { return nil }
