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
