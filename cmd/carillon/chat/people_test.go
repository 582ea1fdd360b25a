package chat

import (
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

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
	s.keys("enter") // the password came with it
	s.done("answer carol@wonder.example cellar@rooms.example true")
	s.has("cellar@rooms.example")
	s.hasNot("not in the room", "ask ·")
	if len(s.m.passwords) != 0 {
		t.Error("a password is kept")
	}

	s.keys("f4")
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
	s.m.cfg.NoColor = true
	s.keys("f4", "f4")
	s.hasNot("People of")
}

// TestOccupants: who is in the room, and inviting somebody there.
func TestOccupants(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("f5")
	s.has("this is no room")
	s.keys("ctrl+o", "'hall@rooms.example", "enter")
	s.refresh()
	s.keys("f5")
	s.has("0 people in hall@rooms.example")
	here := func(nick, affiliation, role, jid, extra string) {
		s.hears(stanza.Presence, "", "hall@rooms.example/"+nick, "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='"+affiliation+"' role='"+role+"'"+jid+"/>"+extra)
	}
	here("White Rabbit", "none", "participant", " jid='rabbit@wonder.example/hole'", "</x>")
	here("alice", "owner", "moderator", "", "<status code='110'/></x>")
	here("Dormouse", "none", "visitor", "", "</x>")
	here("Hatter", "member", "participant", "", "</x><hats xmlns='urn:xmpp:hats:0'><hat title='In this style 10/6' uri='u'/></hats>")
	here("Hare", "none", "moderator", "", "</x>")
	s.keys("down", "down")
	s.shows("33-occupants")
	s.hears(stanza.Presence, stanza.TypeUnavailable, "hall@rooms.example/Hare", "")
	s.has("4 people")
	s.keys("enter")
	s.has("the room doesn't say who that is")
	s.keys("up", "up", "up", "up", "up", "enter")
	s.has("that is you")
	s.keys("i", "'knave@wonder.example", "enter")
	s.done("invite knave@wonder.example")
	s.has("knave@wonder.example is invited", "4 here")
	for _, tt := range []struct {
		err  stanza.Condition
		want string
	}{{stanza.Forbidden, "only who runs the room"}, {stanza.NotAcceptable, "you are not in the room"}, {stanza.RemoteServerNotFound, "its server was not found"}} {
		s.err = stanza.NewError(tt.err, "")
		s.keys("f5", "i", "'knave@wonder.example", "enter")
		s.has("not invited: " + tt.want)
	}
	s.err = nil
	s.keys("f5", "down", "down")
	s.tell(tea.WindowSizeMsg{Width: 40, Height: 12})
	s.shows("34-occupants-narrow")
	s.keys("enter")
	s.has("rabbit@wonder.example")
	s.keys("f4")
	s.shows("35-people-narrow")
}

// TestKeptOut: a refused join says why and what to do; a password is asked for until it is right.
func TestKeptOut(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("ctrl+o", "'members@rooms.example", "enter")
	s.has("not in the room: members only: ask to be invited")
	s.keys("ctrl+o", "'banned@rooms.example", "enter")
	s.has("not in the room: you are banned: ask who owns it")
	s.keys("ctrl+o", "'cellar@rooms.example", "enter", "'open")
	s.shows("36-password")
	s.hasNot("open")
	s.keys("enter")
	s.has("that was wrong; the room's password:")
	s.keys("esc")
	s.has("not in the room: it has a password: ^O tries again")
	s.keys("ctrl+o", "'cellar@rooms.example", "enter")
	s.tell(tea.PasteMsg{Content: "sesame"})
	s.keys("enter")
	s.hasNot("not in the room", "password")
	if len(s.m.secret) != 0 {
		t.Error("the password is kept")
	}
	for c := range map[stanza.Condition]bool{stanza.Conflict: true, stanza.NotAcceptable: true, stanza.JIDMalformed: true, stanza.ServiceUnavailable: true, stanza.ItemNotFound: true,
		stanza.NotAllowed: true, stanza.Gone: true, stanza.ResourceConstraint: true} {
		if text := keptOut(stanza.NewError(c, "")); text == "" || len("not in the room: ")+len(text) > 53 {
			t.Errorf("%s: %q", c, text)
		}
	}
}
