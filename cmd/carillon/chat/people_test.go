package chat

import (
	"strings"
	"testing"
	"time"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// hears has the device receive a stanza, a minute after the last.
func (s *screen) hears(kind stanza.Kind, typ, from, payload string) {
	s.now = s.now.Add(time.Minute)
	s.apply(convo.Received{Stanza: stanza.Build(kind, typ, "", jid.MustParse(from), desk, payload)})
	s.refresh()
}

// done fails unless that was done with people since the last time.
func (s *screen) done(want string) {
	s.t.Helper()
	if got := strings.Join(s.did, ", "); got != want {
		s.t.Errorf("done: %s, wanted %s", got, want)
	}
	s.did = nil
}

const invitation = "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='carol@wonder.example'><reason>Tea at \u009bfour</reason></invite><password>sesame</password></x>"

// TestPeople: who asks something gets an answer; contacts are made, removed and blocked.
func TestPeople(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("f4")
	s.has("nobody yet: a adds a contact")
	s.keys("a", "'nonsense", "enter")
	s.has("that is no address")
	s.keys("ctrl+a", "ctrl+k", "'alice@wonder.example", "enter")
	s.has("that is you")
	s.keys("ctrl+a", "ctrl+k", "'hatter@tea.example", "enter")
	s.shows("30-contact-name")
	s.keys("'The Hatter", "enter")
	s.done("add hatter@tea.example The Hatter")
	s.has("hatter@tea.example is asked")
	s.keys("tab")

	s.people.Contacts = append(s.people.Contacts, xep.RosterItem{JID: bob, Subscription: "both"}, xep.RosterItem{JID: jid.MustParse("duchess@wonder.example"), Subscription: "to"},
		xep.RosterItem{JID: jid.MustParse("knave@wonder.example"), Subscription: "from"}, xep.RosterItem{JID: jid.MustParse("gryphon@wonder.example"), Subscription: "none"})
	s.people.Blocked = []jid.JID{jid.MustParse("queen@wonder.example")}
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.gets("stranger@elsewhere.example/pc", "x1", "t2", body("buy this"))
	s.hears(stanza.Presence, stanza.TypeSubscribe, "carol@wonder.example", "<status>It is\u202e me</status>")
	s.has("carol asks to be a contact (F4)")
	s.hears(stanza.Message, "", "cellar@rooms.example", invitation)
	s.has("F4: 2 ask · ● connected")
	s.keys("f4")
	s.shows("31-people")
	s.keys("enter")
	s.done("add carol@wonder.example ")
	s.has("carol@wonder.example is a contact", "carol@wonder.example", "F4: 1 ask")
	s.keys("d")
	s.done("answer carol@wonder.example cellar@rooms.example false")
	s.hears(stanza.Message, "", "cellar@rooms.example", invitation)
	s.keys("up", "up", "up", "up", "up", "up", "up", "up")
	s.shows("32-invited")
	s.keys("b")
	s.has("let nothing of carol@wonder.example through?")
	s.keys("n", "enter") // the password came with it
	s.done("answer carol@wonder.example cellar@rooms.example true")
	s.has("cellar@rooms.example")
	s.hasNot("not in the room", "ask ·")
	if len(s.m.passwords) != 0 {
		t.Error("a password is kept")
	}

	s.hears(stanza.Message, "", "hall@rooms.example", strings.ReplaceAll(invitation, "carol@wonder.example", "hall@rooms.example/Hare"))
	s.has("Hare invites you into hall (F4)")
	s.keys("f4") // who asks is chosen, whoever was before
	s.has("Hare invites you into hall, the room hall@rooms.example: Tea")
	s.keys("d")
	s.done("answer hall@rooms.example/Hare hall@rooms.example false")
	for range 20 {
		s.keys("up")
	}
	s.has("▸ The Hatter")
	s.keys("d")
	s.has("remove this contact?")
	s.keys("n", "d", "y")
	s.done("remove hatter@tea.example")
	s.keys("b", "y", "b")
	s.done("block bob@wonder.example, unblock bob@wonder.example")
	for range 20 {
		s.keys("down")
	}
	s.has("The server lets nothing of queen@wonder.example through.")
	s.keys("b", "d")
	s.done("unblock queen@wonder.example")
	s.has("that is no contact")
	s.keys("a")
	s.has("> stranger@elsewhere.example")
	s.keys("enter", "enter")
	s.done("add stranger@elsewhere.example ")

	s.err = stanza.NewError(stanza.NotAllowed, "")
	s.keys("f4", "b", "y")
	s.has("not done: it is not allowed")
	s.keys("esc")
	s.err = nil
	s.keys("f4", "f4")
	s.hasNot("People of")
}
