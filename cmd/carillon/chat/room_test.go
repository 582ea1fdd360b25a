package chat

import (
	"context"
	"fmt"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// TestRoomLate: what is to be sent waits until it is known whether the address is a room's.
func TestRoomLate(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("n", "'hall@rooms.example", "enter")
	for _, tt := range []struct {
		err  error
		sent int
	}{{nil, 1}, {account.ErrNoRoom, 2}, {context.DeadlineExceeded, 2}, {stanza.NewError(stanza.Forbidden, ""), 2}} {
		s.m.entering = s.m.open
		s.keys("ctrl+a", "ctrl+k", "'hello", "enter")
		s.has("> hello")
		s.tell(enteredMsg{room: s.m.open, err: tt.err})
		if n := len(s.m.snap.view.Entries); n != tt.sent {
			t.Errorf("%v: %d messages", tt.err, n)
		}
	}
	s.has("not in the room: you are banned: ask who owns it", "> hello")
	s.keys("enter")
	s.hasNot("> hello")
}

// TestRoom: a room is entered, says who writes and what it is about, and is left.
func TestRoom(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.keys("n", "'bob@wonder.example", "enter")
	s.hasNot("room")
	s.m.cfg.Nick = "taken"
	s.keys("ctrl+o", "'hall@rooms.example", "enter")
	s.has("by which name in this room?")
	s.keys("'alice", "enter")
	s.hasNot("not in the room")
	said := 0
	says := func(who, text string) {
		s.now = s.now.Add(time.Minute)
		said++
		text += fmt.Sprintf("<stanza-id xmlns='urn:xmpp:sid:0' by='hall@rooms.example' id='r%d'/>", said)
		st := stanza.Build(stanza.Message, stanza.TypeGroupchat, "", jid.MustParse("hall@rooms.example"+who), alice, text)
		s.apply(convo.Received{Stanza: st})
		s.refresh()
	}
	says("", "<subject>Tea, at \u009b2J four</subject>")
	says("/The White Rabbit", body("I'm late."))
	s.keys("'Good afternoon.", "enter")
	mine := s.m.snap.view.Entries[1].MessageID
	says("/alice", body("Good afternoon.")+"<origin-id xmlns='urn:xmpp:sid:0' id='"+mine+"'/>")
	says("/Dormouse", body("Twinkle, twinkle."))
	s.shows("27-room")
	s.keys("tab")
	s.has("l leave the room")
	s.keys("l", "n", "l", "y")
	s.keys("tab", "'anybody?", "enter")
	if len(s.e.Conversations()) != 2 {
		t.Errorf("%d conversations", len(s.e.Conversations()))
	}
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
	s.keys("i", "'rabbit@wonder.example", "enter")
	s.has("rabbit@wonder.example is in the room")
	s.keys("ctrl+a", "ctrl+k", "'knave@wonder.example", "enter")
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

// TestDeclined: who invited learns who won't come, in the place of what was said before but not of a question.
func TestDeclined(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("ctrl+o", "'hall@rooms.example", "enter")
	s.refresh()
	s.keys("f5", "i", "'knave@wonder.example", "enter")
	s.has("knave@wonder.example is invited")
	declines := func(who, reason string) {
		s.now = s.now.Add(time.Minute)
		s.apply(convo.Received{Stanza: stanza.Build(stanza.Message, stanza.TypeNormal, "", jid.MustParse("hall@rooms.example"), desk,
			"<x xmlns='http://jabber.org/protocol/muc#user'><decline"+who+">"+reason+"</decline></x><body>declined</body>")})
	}
	declines(" from='knave@wonder.example'", "<reason>Busy\nat \u009bfour</reason>")
	s.refresh()
	s.shows("37-declined")
	s.keys("up")
	s.refresh()
	s.hasNot("won't come")
	s.keys("tab", "l")
	declines(" from='hall@rooms.example/Hare'", "")
	declines("", "")
	s.refresh()
	s.has("leave this room?")
	s.hasNot("won't come")
	s.keys("n")
	s.refresh()
	s.has("Hare won't come into hall; somebody won't come into hall")
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
	s.hears(stanza.Presence, stanza.TypeUnavailable, "cellar@rooms.example/alice", "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='none'>"+
		"<reason>off \u202ewith you</reason></item><status code='307'/><status code='110'/></x>")
	s.has("not in the room: you were put out: off")
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

// TestRefusedLater: a new session that a room refuses says so, where the room is open; a room that was left isn't entered again by itself.
func TestRefusedLater(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("ctrl+o", "'cellar@rooms.example", "enter", "'sesame", "enter")
	s.refresh()
	s.hears(stanza.Presence, "", "cellar@rooms.example/alice", "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' role='participant'/><status code='110'/></x>")
	s.hasNot("not in the room")
	again := func() {
		s.apply(convo.Disconnected{})
		s.status.Online = false
		s.refresh()
		s.online()
	}
	again()
	s.has("not in the room: it has a password", "the room's password:")
	s.keys("'sesame", "enter", "tab", "l", "y")
	s.refresh()
	again()
	s.hasNot("password")
}
