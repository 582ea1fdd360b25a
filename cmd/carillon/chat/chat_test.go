package chat

import (
	"testing"
)

const whose = "<whose xmlns='urn:xmpp:tmp:mine:0' id='w1'/>"

// TestConversation is a conversation from the first message to a claim on another device, as a person sees it.
func TestConversation(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.shows("01-connecting")
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("Wherefore art thou?"))
	s.gets("carol@wonder.example/x", "c1", "c", body("Tea at four?"))
	s.shows("02-list")
	s.keys("down", "enter")
	s.shows("03-open")
	s.keys("'Under the balcony, as every evening. Mind the nurse and the dog.")
	s.shows("04-writing")
	s.keys("enter")
	s.shows("05-sending")
	s.reflect()
	s.gets("bob@wonder.example/pc", "b2", "t1", "<received xmlns='urn:xmpp:receipts' id='"+s.m.snap.view.Entries[1].MessageID+"'/>")
	s.has("delivered")
	s.keys("ctrl+n", "'Lunch tomorrow?", "enter")
	s.reflect()
	lunch := s.m.snap.view.Current
	s.gets("bob@wonder.example/pc", "b3", lunch, body("A question from elsewhere: who takes the dog out tonight?")+whose)
	s.shows("06-threads")
	s.keys("up", "up", "r")
	s.shows("07-reply")
	s.keys("'At one.", "enter")
	s.reflect()
	s.keys("up", "up", "b", "'And where?", "enter")
	s.reflect()
	s.shows("08-branch")
	s.gets("alice@wonder.example/phone~x9", "p1", lunch, "<mine xmlns='urn:xmpp:tmp:mine:0'><id>w1</id></mine>")
	s.shows("09-taken-on-phone")
	s.keys("up", "up", "e")
	s.keys("' sharp", "enter")
	s.reflect()
	s.keys("up", "+")
	s.shows("10-react")
	s.keys("1")
	s.reflect()
	s.keys("esc", "up", "up", "up", "up", "x")
	s.keys("y")
	s.reflect()
	s.shows("11-changed")
	s.keys("ctrl+t")
	s.shows("12-index")
	s.keys("esc", "f1")
	s.shows("13-help")
}
