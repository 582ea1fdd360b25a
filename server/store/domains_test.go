package store_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// TestDomains: the same counts with the store open and without; without, nothing is made, migrated or counted.
func TestDomains(t *testing.T) {
	dir := t.TempDir()
	if counts, err := store.LookDomains(dir); counts != nil || err != nil {
		t.Errorf("an empty folder: %v, %v", counts, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("looking made %v, %v", left, err)
	}
	s, err := store.Open(t.Context(), store.Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, jid := range []string{"a@x.example", "b@x.example", "a@y.example"} {
		storetest.Account(t, s, jid)
	}
	want := map[string]int{"x.example": 2, "y.example": 1}
	if counts, err := s.Domains(t.Context()); err != nil || !maps.Equal(counts, want) {
		t.Errorf("got %v, %v", counts, err)
	}
	if _, err := store.LookDomains(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("an open store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if counts, err := store.LookDomains(dir); err != nil || !maps.Equal(counts, want) {
		t.Errorf("got %v, %v", counts, err)
	}
	again := open(t, store.Options{Path: dir})
	if again.Starts() != 2 {
		t.Errorf("looking counted a start: %d", again.Starts())
	}

	// No database of ours.
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "store.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if counts, err := store.LookDomains(other); err == nil {
		t.Errorf("got %v", counts)
	}
}
