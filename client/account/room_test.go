package account_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
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
	alice.until(hall, "what was said meanwhile", func(v convo.View) bool {
		return bodies(v) == "one|two|three|four" && !v.CatchingUp && v.Entries[3].Delivery == convo.Archived && !v.Entries[2].Gap && !v.Entries[3].Gap && !v.GapAtEnd
	})

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

// kept is a configuration whose history is in a file.
func (w *world) kept(t *testing.T, name, device, file string) account.Config {
	t.Helper()
	cfg := w.config(name, device)
	store, err := sqlstore.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store = store
	return cfg
}

// whole reports whether a room's history is what was said in it, without a gap.
func whole(want []string) func(convo.View) bool {
	return func(v convo.View) bool {
		for _, e := range v.Entries {
			if e.Gap && e.Body != want[0] {
				return false
			}
		}
		return !v.CatchingUp && !v.GapAtEnd && bodies(v) == strings.Join(want, "|")
	}
}

// TestRoomCaughtUp: whatever the session, who was away is told what was said in a room, in its order and once, also while others go on talking; after a lost
// connection, and after a restart of the program.
func TestRoomCaughtUp(t *testing.T) {
	for name, profile := range map[string]client.Profile{"2.0": client.ProfileBest, "im-ng": client.ProfileIMNG, "carbons": client.ProfileCarbons, "classic": client.ProfileClassic} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "alice", "bob")
			file := filepath.Join(t.TempDir(), "history.db")
			open := func() *device {
				cfg := w.kept(t, "alice", "desk", file)
				cfg.Client.Profile = profile
				d := start(t, cfg)
				d.online()
				return d
			}
			alice, bob := open(), start(t, w.config("bob", "pc"))
			bob.online()
			must(t, alice.Enter(t.Context(), hall, "al", ""))
			must(t, bob.Enter(t.Context(), hall, "bo", ""))
			var all []string
			say := func(n int) {
				for range n {
					all = append(all, fmt.Sprint("m", len(all)))
					bob.do(convo.SendText{Conversation: hall, Body: all[len(all)-1]})
				}
			}
			said := func() {
				last := all[len(all)-1]
				bob.last(hall, func(e convo.Entry) bool { return e.Body == last && e.Delivery == convo.Archived })
			}
			say(3)
			alice.until(hall, "live", whole(all))
			must(t, alice.Close(t.Context()))
			say(150) // more than a page
			said()
			alice = open()
			say(20)
			alice.until(hall, "what was missed", whole(all))
			w.cut()
			say(20)
			said()
			alice.until(hall, "after a lost connection", whole(all))
			must(t, alice.Close(t.Context()))
			alice = open()
			alice.until(hall, "nothing missed", whole(all))
			must(t, alice.Close(t.Context()))
		})
	}
}

// TestRoomPages: a device that is new gets the newest of a room and pages back to the first.
func TestRoomPages(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	bob := start(t, w.config("bob", "pc"))
	bob.online()
	must(t, bob.Enter(t.Context(), hall, "bo", ""))
	var all []string
	for n := range 190 {
		all = append(all, fmt.Sprint("m", n))
		bob.do(convo.SendText{Conversation: hall, Body: all[n]})
	}
	bob.last(hall, func(e convo.Entry) bool { return e.Body == "m189" && e.Delivery == convo.Archived })
	alice := start(t, w.config("alice", "desk"))
	alice.online()
	must(t, alice.Enter(t.Context(), hall, "al", ""))
	alice.until(hall, "the newest", func(v convo.View) bool { return bodies(v) == strings.Join(all[90:], "|") && !v.CatchingUp })
	alice.do(convo.Page{Conversation: hall})
	alice.until(hall, "everything", func(v convo.View) bool { return bodies(v) == strings.Join(all, "|") && !v.Paging && !v.More })
}

// TestRoomGone: a room that has ended meanwhile, for nobody was in it, is made again by who wants to be in it.
func TestRoomGone(t *testing.T) {
	w := newWorld(t, "alice")
	file := filepath.Join(t.TempDir(), "history.db")
	alice := start(t, w.kept(t, "alice", "desk", file))
	alice.online()
	must(t, alice.Enter(t.Context(), hall, "al", ""))
	alice.do(convo.SendText{Conversation: hall, Body: "anybody?"})
	alice.last(hall, func(e convo.Entry) bool { return e.Delivery == convo.Archived })
	destroy := "<query xmlns='" + xep.NSMUCOwner + "'><destroy/></query>"
	must(t, alice.Close(t.Context()))
	phone := start(t, w.config("alice", "phone"))
	phone.online()
	must(t, phone.Enter(t.Context(), hall, "al", ""))
	_, err := phone.Client().IQ(t.Context(), stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, hall, destroy))
	must(t, err)
	alice = start(t, w.kept(t, "alice", "desk", file))
	alice.online()
	alice.do(convo.SendText{Conversation: hall, Body: "still nobody?"})
	alice.until(hall, "an answer", func(v convo.View) bool {
		return bodies(v) == "anybody?|still nobody?" && v.Entries[1].Delivery == convo.Archived
	})
}

// TestRoomOfOldStore: a file of a version that knew neither what rooms offer nor where they were left is opened, and its rooms caught up.
func TestRoomOfOldStore(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	file := filepath.Join(t.TempDir(), "history.db")
	alice, bob := start(t, w.kept(t, "alice", "desk", file)), start(t, w.config("bob", "pc"))
	alice.online()
	bob.online()
	must(t, alice.Enter(t.Context(), hall, "al", ""))
	must(t, bob.Enter(t.Context(), hall, "bo", ""))
	bob.do(convo.SendText{Conversation: hall, Body: "one"})
	alice.until(hall, "one", has("one"))
	must(t, alice.Close(t.Context()))
	db, err := sql.Open("sqlite", file)
	must(t, err)
	for _, q := range []string{
		`UPDATE account SET data = json_set(data, '$.Rooms', json('{"hall@rooms.localhost":{"Nick":"al","Mine":false}}'))`,
		`UPDATE conversation SET data = json_remove(data, '$.Cursor')`,
		`UPDATE entry SET data = json_remove(data, '$.Occupant', '$.Moderator', '$.Reason')`,
	} {
		_, err := db.Exec(q)
		must(t, err)
	}
	must(t, db.Close())
	bob.do(convo.SendText{Conversation: hall, Body: "two"})
	bob.last(hall, func(e convo.Entry) bool { return e.Body == "two" && e.Delivery == convo.Archived })
	alice = start(t, w.kept(t, "alice", "desk", file))
	alice.until(hall, "both", whole([]string{"one", "two"}))
	alice.do(convo.SendText{Conversation: hall, Body: "three"})
	alice.until(hall, "all", whole([]string{"one", "two", "three"}))
}
