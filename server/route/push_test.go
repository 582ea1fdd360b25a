package route

import (
	"testing"
	"time"
)

// pushWanted is docs/push.md's list in words of its own: the reference that all
// combinations of facts are held to.
func pushWanted(f *PushFacts) PushDecision {
	call := f.Message.Marks&Call != 0
	text := f.Message.Marks&(Body|Encrypted|Invitation) != 0
	person := f.Intent == Conversation || f.Intent == Exclusive
	if f.Own {
		return PushDecision{NoPush, RPush1}
	}
	if !f.Found || f.Refused {
		return PushDecision{NoPush, RPush2}
	}
	if !person || !call && !text || f.Message.Type == Headline || f.Message.Type == Error {
		return PushDecision{NoPush, RPush3}
	}
	for _, never := range []struct {
		is   bool
		rule Rule
	}{{f.Muted, RPush4}, {f.Live, RPush5}, {f.Seen, RPush6}, {f.Off, RPush7}} {
		if never.is {
			return PushDecision{NoPush, never.rule}
		}
	}
	switch {
	case f.Busy:
		return PushDecision{PushHeld, RPush8}
	case call:
		return PushDecision{PushNow, RPush9}
	case !f.Active:
		return PushDecision{PushNow, RPush12}
	case f.Waited:
		return PushDecision{PushNow, RPush11}
	}
	return PushDecision{PushHeld, RPush10}
}

// TestDecidePush goes through every combination of the facts, with every type,
// intent and kind of payload: half a million. Each rule is reached.
func TestDecidePush(t *testing.T) {
	marks := []Marks{0, Body, Encrypted, Invitation | RoomUser, Call, Call | Body, Body | NoStore, InstantMessaging, InstantMessaging | OnlyChatState, Machine, Mine, Body | Whose}
	reached, n := map[Rule]int{}, 0
	start := time.Now()
	for bits := range 1 << 10 {
		b := func(i int) bool { return bits>>i&1 != 0 }
		f := PushFacts{Own: b(0), Refused: b(1), Found: b(2), Muted: b(3), Live: b(4), Seen: b(5), Off: b(6), Busy: b(7), Active: b(8), Waited: b(9)}
		for typ := Normal; typ <= Error; typ++ {
			for intent := Conversation; intent <= Claim; intent++ {
				for _, m := range marks {
					for _, full := range []bool{false, true} {
						f.Message, f.Intent = Message{Type: typ, Full: full, Marks: m}, intent
						n++
						got, want := DecidePush(&f), pushWanted(&f)
						if got != want {
							t.Fatalf("%+v: %v by %v, want %v by %v", f, got.Verdict, got.Rule, want.Verdict, want.Rule)
						}
						reached[got.Rule]++
						// What must hold whatever the rules are.
						if got.Verdict != NoPush && (f.Own || f.Live || f.Muted || f.Seen || f.Off || f.Refused || !f.Message.Noticed()) {
							t.Fatalf("%+v: %v", f, got)
						}
					}
				}
			}
		}
	}
	for r := range PushRules() {
		if reached[r] == 0 {
			t.Errorf("%v is reached by nothing", r)
		}
		if r.Says() == "" {
			t.Errorf("%v says nothing", r)
		}
	}
	t.Logf("%d combinations in %v", n, time.Since(start))
}

// TestNoticed: what is worth waking a device, as it comes over the wire.
func TestNoticed(t *testing.T) {
	for payload, want := range map[string]bool{
		body:                   true,
		body + composing:       true,
		composing:              false,
		receipt:                false,
		mine:                   false,
		event:                  false,
		"<subject>x</subject>": false,
		"<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>":                                                           false,
		"<encrypted xmlns='urn:xmpp:omemo:2'/>":                                                                         true,
		"<encrypted xmlns='eu.siacs.conversations.axolotl'/>":                                                           true,
		"<x xmlns='jabber:x:conference' jid='r@m'/>":                                                                    true,
		"<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>":                                       true,
		"<propose xmlns='urn:xmpp:jingle-message:0' id='1'><description xmlns='urn:xmpp:jingle:apps:rtp:1'/></propose>": true,
		"<proceed xmlns='urn:xmpp:jingle-message:0' id='1'/>":                                                           false,
		"<ringing xmlns='urn:xmpp:jingle-message:0' id='1'/>":                                                           false,
	} {
		m := Inspect(parse(t, "chat", "a@b", payload))
		if got := m.Noticed(); got != want {
			t.Errorf("%s: %v", payload, got)
		}
	}
}

// TestPushAllocations: a decision allocates nothing.
func TestPushAllocations(t *testing.T) {
	f := PushFacts{Intent: Conversation, Message: Message{Type: Chat, Marks: Body}, Found: true}
	if n := testing.AllocsPerRun(100, func() { DecidePush(&f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
