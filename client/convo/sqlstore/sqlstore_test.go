package sqlstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/client/convo/storetest"
	"carillon.im/jid"
)

func TestContract(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "history.db")
	storetest.Run(t, false, func(t *testing.T) convo.Store {
		s, err := sqlstore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestOneProcess: two engines on one file would write over one another.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	s, err := sqlstore.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := sqlstore.Open(path); err == nil {
		second.Close()
		t.Error("opened twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = sqlstore.Open(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history is readable for others: %v (%v)", info.Mode(), err)
	}
}

// TestAllOrNothing: a write that fails leaves nothing of the others.
func TestAllOrNothing(t *testing.T) {
	s, err := sqlstore.Open(filepath.Join(t.TempDir(), "history.db"))
	if err != nil {
		t.Fatal(err)
	}
	bob := jid.MustParse("bob@wonder.example")
	unwritable := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // JSON has no such year
	err = s.Write([]convo.Write{{Conversation: &convo.Record{JID: bob}}, {Conversation: &convo.Record{JID: bob, Changed: unwritable}}})
	if err == nil {
		t.Fatal("the write didn't fail")
	}
	if snap, err := s.Load(1); err != nil || len(snap.Conversations) != 0 {
		t.Errorf("half of it is there: %+v (%v)", snap, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write([]convo.Write{{Account: &convo.Account{LastEntry: 1}}}); err == nil {
		t.Error("a closed store took a write")
	}
}
