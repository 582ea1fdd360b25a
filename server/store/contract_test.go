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
