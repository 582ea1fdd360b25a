package account_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/jid"
	"carillon.im/stanza"
)

var hall = jid.MustParse("hall@rooms.localhost")

// TestRoom: a room is made and entered, its messages are a conversation, what was missed comes from its archive, and a restart enters it again.
func TestRoom(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	file := filepath.Join(t.TempDir(), "history.db")
	config := func() account.Config {
		cfg := w.config("alice", "desk")
		store, err := sqlstore.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Store = store
		return cfg
	}
	alice, bob := start(t, config()), start(t, w.config("bob", "pc"))
	alice.online()
	bob.online()
	if err := alice.Enter(t.Context(), jid.MustParse("bob@localhost"), "al", ""); !errors.Is(err, account.ErrNoRoom) {
		t.Errorf("a contact: %v", err)
	}
	if err := alice.Enter(t.Context(), hall, "al", ""); err != nil {
		t.Fatal(err)
	}
	if err := alice.Enter(t.Context(), hall, "al", ""); err != nil {
		t.Errorf("again: %v", err)
	}
	var refused *stanza.Error
	if err := bob.Enter(t.Context(), hall, "al", ""); !errors.As(err, &refused) || refused.Condition != stanza.Conflict {
		t.Errorf("the same nickname: %v", err)
	}
	if err := bob.Enter(t.Context(), hall, "bo", ""); err != nil {
		t.Fatal(err)
	}
	alice.do(convo.SendText{Conversation: hall, Body: "one"})
	bob.last(hall, func(e convo.Entry) bool { return e.Body == "one" && e.From.Resource() == "al" && !e.Own })
	bob.do(convo.SendText{Conversation: hall, Body: "two"})
	alice.last(hall, func(e convo.Entry) bool { return e.Body == "two" && e.From.Resource() == "bo" && !e.Own })
	alice.last(hall, func(e convo.Entry) bool { return e.Delivery == convo.Archived || !e.Own })
	if err := alice.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	bob.do(convo.SendText{Conversation: hall, Body: "three"})
	bob.last(hall, func(e convo.Entry) bool { return e.Body == "three" && e.Delivery == convo.Archived })
	alice = start(t, config())
	alice.online()
	alice.do(convo.SendText{Conversation: hall, Body: "four"})
	bob.last(hall, func(e convo.Entry) bool { return e.Body == "four" && e.From.Resource() == "al" })
	v := alice.until(hall, "four", func(v convo.View) bool {
		return bodies(v) == "one|two|four" && v.Entries[2].Delivery == convo.Archived
	})
	if !v.Entries[2].Gap {
		t.Error("nothing seems to be missing")
	}
	alice.do(convo.Page{Conversation: hall, Before: v.Entries[2].ID})
	alice.until(hall, "all four", func(v convo.View) bool { return bodies(v) == "one|two|three|four" })

	if err := alice.Leave(t.Context(), hall); err != nil {
		t.Fatal(err)
	}
	if err := bob.Leave(t.Context(), hall); err != nil {
		t.Fatal(err)
	}
	if err := alice.Enter(t.Context(), hall, "bo", ""); err != nil {
		t.Errorf("a nickname that is free again: %v", err)
	}
	if err := alice.Enter(t.Context(), hall, strings.Repeat("x", 1024), ""); err == nil {
		t.Error("any nickname will do")
	}
	if err := bob.Enter(t.Context(), hall, "", ""); err != nil {
		t.Errorf("the account's own name: %v", err)
	}
	alice.nicks("bo=owner bob=")
	if err := alice.Enter(t.Context(), hall, "", ""); err != nil {
		t.Errorf("the nickname that it has: %v", err)
	}
}
