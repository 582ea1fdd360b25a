package route

import (
	"testing"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func parse(t testing.TB, typ, to, payload string) *stanza.Stanza {
	t.Helper()
	st, err := stanza.ParseBytes([]byte("<message type='"+typ+"' to='"+to+"'>"+payload+"</message>"), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

const (
	body      = "<body>x</body>"
	composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
	receipt   = "<received xmlns='urn:xmpp:receipts' id='1'/>"
	event     = "<event xmlns='http://jabber.org/protocol/pubsub#event'/>"
	form      = "<x xmlns='jabber:x:data' type='submit'/>"
)

func TestInspect(t *testing.T) {
	for payload, want := range map[string]Marks{
		"":                                 0,
		body:                               Body,
		"<body xmlns='urn:other'>x</body>": 0, // not ours
		body + "<private xmlns='urn:xmpp:carbons:2'/>": Body | Private,
		"<private xmlns='urn:xmpp:carbons:1'/>":        0,
		"<no-copy xmlns='urn:xmpp:hints'/>":            NoCopy,
		"<no-store xmlns='urn:xmpp:hints'/><store xmlns='urn:xmpp:hints'/><no-permanent-store xmlns='urn:xmpp:hints'/>": NoStore | Store | NoPermanentStore,
		composing:                        InstantMessaging | OnlyChatState,
		composing + "<thread>t</thread>": InstantMessaging | OnlyChatState,
		composing + "<no-store xmlns='urn:xmpp:hints'/>": InstantMessaging | OnlyChatState | NoStore,
		composing + body:                       InstantMessaging | Body,
		composing + receipt:                    InstantMessaging,
		composing + "<x xmlns='urn:unknown'/>": InstantMessaging,
		receipt:                                InstantMessaging,
		event:                                  Machine,
		event + form:                           Machine,
		event + "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>": Machine,
		event + body:                       Body,
		event + "<x xmlns='urn:unknown'/>": 0, // unknown is not machine traffic
		event + receipt:                    InstantMessaging,
		"<x xmlns='http://jabber.org/protocol/muc#user'/>" + body:               RoomUser | Body,
		"<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>": RoomUser | Invitation,
		"<x xmlns='jabber:x:conference' jid='r@m'/>":                            Invitation,
		"<encrypted xmlns='eu.siacs.conversations.axolotl'/>":                   Encrypted,
		"<encryption xmlns='urn:xmpp:eme:0' namespace='x'/>":                    0,
	} {
		got := Inspect(parse(t, "chat", "a@b", payload)).Marks &^ (chatState | machine | content)
		if got != want {
			t.Errorf("%s: %b, want %b", payload, got, want)
		}
	}
	for _, tc := range []struct {
		typ, to string
		t       Type
		full    bool
	}{{"chat", "a@b", Chat, false}, {"", "a@b/c", Normal, true}, {"nonsense", "b", Normal, false}, {"groupchat", "b/c", Groupchat, true}, {"headline", "a@b", Headline, false}, {"error", "", Error, false}} {
		got := Inspect(parse(t, tc.typ, tc.to, ""))
		if got.Type != tc.t || got.Full != tc.full {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
}

// TestInspectServerStream: jabber:server's own elements are jabber:client's.
func TestInspectServerStream(t *testing.T) {
	el, err := xmltree.Parse([]byte("<message type='chat' to='a@b/c'>"+body+composing+"</message>"), stanza.NSServer, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := stanza.Parse(el)
	if err != nil {
		t.Fatal(err)
	}
	if m := Inspect(st); !m.Marks.Any(Body) || m.Marks.Any(OnlyChatState) {
		t.Errorf("%b", m.Marks)
	}
}

func BenchmarkInspect(b *testing.B) {
	st := parse(b, "chat", "a@b", body+"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='x'/>")
	b.ReportAllocs()
	for b.Loop() {
		Inspect(st)
	}
}

// TestMachine: R-INT-8. Traffic between programs isn't, as soon as anything in
// it is for the person or about another message, or isn't known.
func TestMachine(t *testing.T) {
	machine := []string{
		"<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AA==</data>",
		event,
		form,
		"<command xmlns='http://jabber.org/protocol/commands' node='n'/>",
		"<x xmlns='http://jabber.org/protocol/rosterx'><item action='add' jid='a@b'/></x>",
	}
	personal := []string{
		body,
		"<subject>x</subject>",
		"<thread>x</thread>",
		"<encrypted xmlns='urn:xmpp:omemo:2'/>",
		"<openpgp xmlns='urn:xmpp:openpgp:0'>AA==</openpgp>",
		"<request xmlns='urn:xmpp:receipts'/>",
		receipt,
		"<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>",
		composing,
		"<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>",
		"<x xmlns='jabber:x:conference' jid='r@m'/>",
		"<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>",
		"<replace xmlns='urn:xmpp:message-correct:0' id='1'/>",
		"<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
		"<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>",
		"<unknown xmlns='urn:unknown'/>",
	}
	neutral := "<origin-id xmlns='urn:xmpp:sid:0' id='1'/><addresses xmlns='http://jabber.org/protocol/address'/><store xmlns='urn:xmpp:hints'/>"
	for _, p := range machine {
		for payload, want := range map[string]bool{p: true, p + neutral: true, p + machine[0]: true} {
			if got := Inspect(parse(t, "normal", "a@b/c", payload)).Marks.Any(Machine); got != want {
				t.Errorf("%s: %v, want %v", payload, got, want)
			}
		}
		for _, q := range personal {
			if Inspect(parse(t, "normal", "a@b/c", p+q)).Marks.Any(Machine) || Inspect(parse(t, "normal", "a@b/c", q+p)).Marks.Any(Machine) {
				t.Errorf("%s with %s is machine traffic", p, q)
			}
		}
	}
	for _, p := range append(personal, neutral, "") {
		if Inspect(parse(t, "normal", "a@b/c", p)).Marks.Any(Machine) {
			t.Errorf("%s is machine traffic", p)
		}
	}
}
