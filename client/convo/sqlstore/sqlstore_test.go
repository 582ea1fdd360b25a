package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/client/convo/storetest"
	"carillon.im/jid"
	"carillon.im/stanza"
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
	if second, err := sqlstore.Open(path); !errors.Is(err, sqlstore.ErrInUse) {
		t.Errorf("opened twice: %v", err)
		if err == nil {
			second.Close()
		}
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

// TestRestart: an engine that begins with the file shows what the one before
// showed.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	alice, bob := jid.MustParse("alice@wonder.example"), jid.MustParse("bob@wonder.example")
	now, ids := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), 0
	begin := func() (*convo.Engine, *sqlstore.Store) {
		s, err := sqlstore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := s.Load(100)
		if err != nil {
			t.Fatal(err)
		}
		return convo.New(convo.Config{Account: alice, NewID: func() string { ids++; return fmt.Sprint("id", ids) }}, snap), s
	}
	e, s := begin()
	apply := func(ev convo.Event) {
		for _, f := range e.Apply(now, ev) {
			if p, ok := f.(convo.Persist); ok {
				if err := s.Write(p.Writes); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	receive := func(payload, id string) {
		apply(convo.Received{Stanza: stanza.Build(stanza.Message, stanza.TypeChat, id, jid.MustParse("bob@wonder.example/pc"), alice, payload)})
	}
	apply(convo.Connected{JID: jid.MustParse("alice@wonder.example/phone"), Profile: convo.NG, Facts: convo.Facts{Archive: true, Mine: true}})
	receive("<body>hello</body><thread parent=' p'> t\n</thread><stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='a1'/>", "m1")
	receive("<body>hullo</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/>", "m2")
	receive("<reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>+</reaction></reactions>", "m3")
	apply(convo.SendText{Conversation: bob, Body: "hi"})
	apply(convo.Disconnected{})
	before, _ := e.Conversation(bob, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	e, s = begin()
	after, _ := e.Conversation(bob, 0)
	before.Version, after.Version = 0, 0
	if len(after.Entries) != 2 || !reflect.DeepEqual(before, after) {
		t.Errorf("before:\n%+v\nafter:\n%+v", before, after)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
