package chat

import (
	"strings"
	"testing"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// threadsSeen checks that of three messages shown the first and the third have one thread's number and the second another's: the column before the bar.
func (s *screen) threadsSeen(what string, bodies ...string) {
	s.t.Helper()
	numbers, last := []string{}, ""
	for line := range strings.Lines(s.text()) {
		for _, body := range bodies {
			before, _, shown := strings.Cut(line, body)
			if !shown || !strings.Contains(before, ":") { // not the list's or the index's line
				continue
			}
			cells := strings.Split(before, "│") // the list's edge, the gutter, the message
			if n := strings.TrimSpace(cells[len(cells)-2]); n != "" {
				last = n
			}
			numbers = append(numbers, last)
		}
	}
	if strings.Join(numbers, " ") != "1 2 1" {
		s.t.Errorf("%s: the threads shown are %q in\n%s", what, numbers, s.text())
	}
}

// TestThreadsSeen: THR-20, THR-22, THR-24: messages show their thread in rooms, as single messages of type normal, and in history.
func TestThreadsSeen(t *testing.T) {
	hall := jid.MustParse("hall@rooms.example")
	for what, c := range map[string]struct {
		typ, from string
		with      jid.JID
	}{
		"a room (THR-20)":        {stanza.TypeGroupchat, "hall@rooms.example/bob", hall},
		"type normal (THR-22)":   {stanza.TypeNormal, "bob@wonder.example/pc", bob},
		"a chat, for comparison": {stanza.TypeChat, "bob@wonder.example/pc", bob},
	} {
		s := newScreen(t, 100, 24)
		s.online()
		if c.with == hall {
			s.apply(convo.Room{JID: hall, Nick: "al", Joined: true})
		}
		for i, thread := range []string{"red", "blue", "red"} {
			id := string(rune('a' + i))
			payload := "<thread>" + thread + "</thread>" + body("words "+id) + "<stanza-id xmlns='urn:xmpp:sid:0' by='" + alice.String() + "' id='x" + id + "'/>"
			s.apply(convo.Received{Stanza: stanza.Build(stanza.Message, c.typ, id, jid.MustParse(c.from), alice, payload)})
		}
		s.refresh()
		s.keys("down", "enter")
		s.threadsSeen(what, "words a", "words b", "words c")

		// The same as history, of a program that is started later (THR-24).
		later := newScreen(t, 100, 24)
		snap, err := s.store.Load(100)
		if err != nil {
			t.Fatal(err)
		}
		later.e = convo.New(convo.Config{Account: alice, NewID: func() string { return "id" }}, snap)
		later.refresh()
		later.keys("down", "enter")
		later.threadsSeen(what+", as history", "words a", "words b", "words c")
	}
}

// TestTakenIsMarked: MINE-28: a message that another device has taken says so.
func TestTakenIsMarked(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("who takes the dog out?")+whose)
	s.keys("down", "enter")
	if text := s.text(); strings.Contains(text, "taken on phone") {
		t.Errorf("nobody has taken it:\n%s", text)
	}
	s.gets("alice@wonder.example/phone~x9", "p1", "t1", "<mine xmlns='urn:xmpp:tmp:mine:0'><id>w1</id></mine>")
	if text := s.text(); !strings.Contains(text, "taken on phone") {
		t.Errorf("not marked:\n%s", text)
	}
}
