package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// TestStarts: every Open has a number of its own; one that is refused counts nothing.
func TestStarts(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want <= 3; want++ {
		s, err := store.Open(t.Context(), store.Options{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Starts(); got != want {
			t.Errorf("start %d is %d", want, got)
		}
		if _, err := store.Open(t.Context(), store.Options{Path: dir}); !errors.Is(err, store.ErrLocked) {
			t.Errorf("got %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := open(t, store.Options{Path: ":memory:"}).Starts(); got != 1 {
		t.Errorf("in memory: %d", got)
	}
}

// TestMemoryAgain: a database in memory is there when it is opened again, with the entries that were in the tail; Empty ends that, and Close.
func TestMemoryAgain(t *testing.T) {
	var m store.Memory
	for start, empty := range []func() error{nil, m.Empty, m.Close} {
		if empty != nil {
			if err := empty(); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 2 {
			s, err := store.Open(t.Context(), store.Options{Memory: &m, CommitDelay: -1})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Starts(); got != uint64(round+1) {
				t.Errorf("%d: start %d is %d", start, round+1, got)
			}
			if round == 0 {
				id := storetest.Account(t, s, "a@x.example")
				if err := s.Commit(t.Context(), storetest.Entry(id, 5, "b@x.example")); err != nil {
					t.Error(err)
				}
			} else if a, err := s.LoadAccount(t.Context(), jid.MustParse("a@x.example")); err != nil || a.LastArchiveID != 5 {
				t.Errorf("%d: %+v, %v", start, a, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSavedSessionsAfterRestart: a session that was away keeps its time, one that was connected when the process ended has all of it from then on.
func TestSavedSessionsAfterRestart(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	ends := now.Add(3 * time.Minute)
	s, err := store.Open(t.Context(), store.Options{Path: dir, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	a := storetest.Account(t, s, "a@x.example")
	queue := []store.QueuedStanza{{Entry: 7, Tag: []byte("t")}}
	away := store.SavedSession{Key: store.NewResumeKey("away"), Ends: ends, Window: 5 * time.Minute, Queue: queue}
	here := store.SavedSession{Key: store.NewResumeKey("here"), Window: 5 * time.Minute, Queue: queue}
	if err := s.Commit(t.Context(), store.SessionSave{Account: a, Session: away}, store.SessionSave{Account: a, Session: here}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the time doesn't start over a second time
		now = now.Add(time.Minute)
		if s, err = store.Open(t.Context(), store.Options{Path: dir, Now: clock}); err != nil {
			t.Fatal(err)
		}
		list, err := s.SessionsOf(t.Context(), a)
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		if len(list) != 2 {
			t.Fatalf("%d sessions", len(list))
		}
		for _, x := range list {
			want := ends
			if x.Key == here.Key {
				want = ends.Add(3 * time.Minute)
			}
			if !x.Ends.Equal(want) || len(x.Queue) != 1 || x.Queue[0].Entry != 7 {
				t.Errorf("%+v, want it to end at %v", x, want)
			}
		}
	}
}

// TestIDsAfterPurge: when nothing is left of an archive, also none of its ids is given again, whatever the clock says.
func TestIDsAfterPurge(t *testing.T) {
	ahead := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) // the clock was wrong for a while
	bare := jid.MustParse("a@x.example")
	for name, empty := range map[string]func(*store.Store, store.AccountID) (given store.ArchiveID, err error){
		"purge": func(s *store.Store, _ store.AccountID) (store.ArchiveID, error) {
			n, err := s.ArchivePurge(t.Context(), ahead.AddDate(1, 0, 0), 1000)
			if err == nil && n != 10 {
				err = fmt.Errorf("%d entries purged", n)
			}
			return 0, err
		},
		"offline messages handed out": func(s *store.Store, a store.AccountID) (store.ArchiveID, error) {
			if _, err := s.ArchivePurge(t.Context(), ahead.AddDate(1, 0, 0), 1000); err != nil {
				return 0, err
			}
			next := store.NextArchiveID(last(t, s, bare), ahead)
			return next, errors.Join(s.Commit(t.Context(), store.OfflineAppend{Account: a, ID: next}), s.Commit(t.Context(), store.OfflineClear{Account: a, UpTo: next}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := store.Open(t.Context(), store.Options{Path: dir, CommitDelay: -1})
			if err != nil {
				t.Fatal(err)
			}
			a := storetest.Account(t, s, "a@x.example")
			given := store.ArchiveID(0)
			for range 10 {
				given = store.NextArchiveID(given, ahead)
				if err := s.Commit(t.Context(), storetest.Entry(a, given, "b@x.example")); err != nil {
					t.Fatal(err)
				}
			}
			later, err := empty(s, a)
			if err != nil {
				t.Fatal(err)
			}
			given = max(given, later)
			for range 3 { // the second time nothing is in the tail, and the account is new to the writer
				if got := last(t, s, bare); got != given {
					t.Fatalf("the last id is %d, not %d", got, given)
				}
				if n := len(ids(t, s, a)); n != 0 {
					t.Fatalf("%d entries left", n)
				}
				if next := store.NextArchiveID(last(t, s, bare), ahead.AddDate(-4, 0, 0)); next <= given {
					t.Fatalf("%d is given after %d", next, given)
				}
				if _, err := s.ArchivePurge(t.Context(), ahead.AddDate(1, 0, 0), 1000); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = store.Open(t.Context(), store.Options{Path: dir}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func last(t *testing.T, s *store.Store, bare jid.JID) store.ArchiveID {
	t.Helper()
	d, err := s.LoadAccount(t.Context(), bare)
	if err != nil {
		t.Fatal(err)
	}
	return d.LastArchiveID
}
