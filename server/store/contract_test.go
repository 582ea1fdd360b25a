package store_test

import (
	"testing"

	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	if o.CommitDelay == 0 {
		o.CommitDelay = -1 // tests commit one after the other, which is what the default slows down
	}
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContractFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store {
		o.Path = t.TempDir()
		return open(t, o)
	})
}

func TestContractMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store {
		o.Path = ":memory:"
		return open(t, o)
	})
}

// TestContractEmptied: a database in memory that was used and emptied is as good as a new one.
func TestContractEmptied(t *testing.T) {
	var used []*store.Memory
	storetest.Run(t, func(t *testing.T, o store.Options) *store.Store {
		o.Memory = new(store.Memory)
		if n := len(used); n > 0 {
			o.Memory, used = used[n-1], used[:n-1]
		}
		t.Cleanup(func() { // after the store's end
			if err := o.Memory.Empty(); err != nil {
				t.Error(err)
			}
			if left := o.Memory.Dump(t); left != "" {
				t.Errorf("left: %s", left)
			}
			used = append(used, o.Memory)
		})
		return open(t, o)
	})
	for _, m := range used {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
