package chat

import (
	"fmt"
	"testing"

	"carillon.im/client/convo"
	"carillon.im/jid"
)

// TestBack: who has gone back carries older messages along until he is at the newest again, and what changes elsewhere is seen all the same.
func TestBack(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	for i := range 2 * pageEntries {
		s.gets("bob@wonder.example/pc", fmt.Sprint("b", i), fmt.Sprint("t", i/100), body(fmt.Sprint("number ", i)))
	}
	s.keys("enter")
	for s.m.limit == pageEntries {
		s.keys("pgup")
	}
	if n := len(s.m.snap.view.Entries); n <= pageEntries {
		t.Fatalf("%d messages", n)
	}
	s.gets("carol@wonder.example/pc", "c1", "tc", body("over here"))
	s.has("carol             1", "older messages")
	s.gets("bob@wonder.example/pc", "b-late", "t1", body("and one more"))
	s.has("bob               1")
	s.keys("esc")
	s.has("and one more")
	s.refresh()
	if n := len(s.m.snap.view.Entries); n != pageEntries || s.m.limit != pageEntries {
		t.Errorf("%d messages at the newest, of %d that are looked at", n, s.m.limit)
	}
	// Between a conversation and the picture of the next there is none of its threads.
	s.m.openConversation(jid.MustParse("carol@wonder.example"))
	s.hasNot("number")
	s.keys("ctrl+t")
}

// TestStill: a picture is good as long as its conversation, what is looked at, and what may be asked for are the same.
func TestStill(t *testing.T) {
	have := snapshot{of: bob, ok: true, limit: 200, online: true, view: convo.View{Summary: convo.Summary{JID: bob, Version: 3}}}
	list := []convo.Summary{{JID: alice, Version: 9}, {JID: bob, Version: 3}}
	if !have.still(bob, 200, true, list) {
		t.Error("nothing has changed")
	}
	paging, none := have, snapshot{of: bob, limit: 200, online: true}
	paging.view.Paging = true
	for what, still := range map[string]bool{
		"another conversation": have.still(alice, 200, true, list), "more entries": have.still(bob, 400, true, list), "offline": have.still(bob, 200, false, list),
		"a new version": have.still(bob, 200, true, []convo.Summary{{JID: bob, Version: 4}}), "gone": have.still(bob, 200, true, nil),
		"a page under way": paging.still(bob, 200, true, list), "no picture": none.still(bob, 200, true, list),
	} {
		if still {
			t.Errorf("%s: the old picture", what)
		}
	}
}
