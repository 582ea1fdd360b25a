package route

import (
	"math/rand/v2"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const (
	private  = "<private xmlns='urn:xmpp:carbons:2'/>"
	noCopy   = "<no-copy xmlns='urn:xmpp:hints'/>"
	noStore  = "<no-store xmlns='urn:xmpp:hints'/>"
	noPerm   = "<no-permanent-store xmlns='urn:xmpp:hints'/>"
	store    = "<store xmlns='urn:xmpp:hints'/>"
	imng     = "<im-ng xmlns='urn:xmpp:im-ng:0'/>"
	xmpp1    = "<xmpp-1 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	xmpp2    = "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	whose    = "<whose xmlns='urn:xmpp:tmp:mine:0' id='x'/>"
	mine     = "<mine xmlns='urn:xmpp:tmp:mine:0'><id>x</id></mine>"
	mucUser  = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
	theError = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
)

// claim is a claim with these children.
func claim(inner string) string {
	return "<mine xmlns='urn:xmpp:tmp:mine:0'>" + inner + "</mine>"
}

// TestLeave: R-GW-1 and R-GW-5, byte for byte.
func TestLeave(t *testing.T) {
	for _, tc := range []struct {
		to      string
		payload string
		intent  Intent
		want    string
	}{
		{"c@d", body, Conversation, body + xmpp2},
		{"c@d", body + private + noStore, Conversation, body + private + noStore + xmpp2},
		{"c@d", "", Conversation, xmpp2},
		{"c@d/e", body, Conversation, body},
		{"c@d/e", body, Exclusive, body + xmpp2 + private + noCopy + noStore},
		{"c@d/e", body + imng, Exclusive, body + imng + xmpp2 + private + noCopy + noStore},
		{"c@d/e", noCopy + body + noPerm, Exclusive, noCopy + body + noPerm + xmpp2 + private + noStore},
		{"c@d/e", private + noCopy + noStore, Exclusive, private + noCopy + noStore + xmpp2},
		{"c@d/e", theError, Feedback, theError + xmpp2},
	} {
		st := parse(t, "chat", tc.to, tc.payload)
		st.Lang = "cy"
		got := Leave(st, tc.intent)
		if got.Inner() != tc.want || got.To != st.To || got.Type != st.Type || got.Lang != st.Lang {
			t.Errorf("%s to %s: %s, want %s", tc.payload, tc.to, got.Inner(), tc.want)
		}
	}
}

// TestGateway: a message that leaves for a server of 2.0 and enters there has
// the same intent as here, and its sender's own hints; at a server of 1.0 an
// exclusive message has all modifiers, each once, and what its sender put on it
// is as it was.
func TestGateway(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{body, composing, receipt, event, form, private, noCopy, noStore, noPerm, store, imng, mucUser, xmpp1, xmpp2,
		"<x xmlns='jabber:x:conference' jid='r@m'/>", "<encrypted xmlns='urn:xmpp:omemo:2'/>", "<x xmlns='urn:unknown'>&lt;</x>",
		"<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'>x</xmpp-2>", theError}
	types := []string{"chat", "normal", "groupchat", "headline", "error"}
	exclusive, tagged := 0, 0
	for range 50000 {
		var payload strings.Builder
		for range random.IntN(5) {
			payload.WriteString(pieces[random.IntN(len(pieces))])
		}
		to := []string{"c@d", "c@d/e"}[random.IntN(2)]
		st := parse(t, types[random.IntN(len(types))], to, payload.String())
		st.From = jid.MustParse("a@b/r")
		profile := Profile(random.IntN(4))
		origin := FromSession
		if profile == V2 {
			origin = FromV2Session
		}
		sent, m := Enter(st, origin)
		here := decide(&Facts{Message: m, Side: Sending, Sessions: []Session{{Profile: profile}}, Addressed: -1})
		left := reparse(t, Leave(sent, here.Intent))
		if !strings.HasPrefix(left.Inner(), sent.Inner()) {
			t.Fatalf("%s: leaves as %s", sent.Inner(), left.Inner())
		}
		for _, modifier := range []string{private, noCopy, noStore} {
			if n := strings.Count(left.Inner(), modifier); here.Intent == Exclusive && n == 0 ||
				n != strings.Count(sent.Inner(), modifier) && (here.Intent != Exclusive || n != 1) {
				t.Fatalf("%v %s: leaves as %s", here.IntentRule, sent.Inner(), left.Inner())
			}
		}
		entered, n := Enter(left, FromDomain)
		there := decide(&Facts{Message: n, Side: Receiving, Sessions: []Session{{Profile: NG}}, Sender: -1, Addressed: -1})
		if here.Intent != there.Intent {
			t.Fatalf("%s to %s: %v (%v) leaves as %s and is %v (%v)", st.Inner(), to, here.Intent, here.IntentRule, left.Inner(), there.Intent, there.IntentRule)
		}
		lost := Marks(0) // R-GW-2
		if n.Marks.Any(Modern) {
			lost, tagged = Private|NoCopy, tagged+1
		}
		if here.Intent == Exclusive {
			lost, exclusive = lost|NoStore, exclusive+1
		}
		// What an error carries is the message that it answers.
		if want := m.Marks &^ (lost | Modern); n.Type != Error && n.Marks&^Modern != want {
			t.Fatalf("%s to %s: left as %s, entered as %s: marks %b, want %b", st.Inner(), to, left.Inner(), entered.Inner(), n.Marks, want)
		}
		if n.Marks.Any(tag1 | tag2 | tag2Bad) {
			t.Fatalf("%s: enters as %s", left.Inner(), entered.Inner())
		}
	}
	if exclusive < 1000 || tagged < 1000 {
		t.Errorf("%d exclusive, %d tagged", exclusive, tagged)
	}
}

func decide(f *Facts) *Decision {
	d := new(Decision)
	Decide(f, d)
	return d
}

// reparse is st as another server reads it.
func reparse(t testing.TB, st *stanza.Stanza) *stanza.Stanza {
	t.Helper()
	out, err := stanza.ParseBytes(st.AppendTo(nil), xmltree.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", st.Inner(), err)
	}
	return out
}

// TestEnterPlain: a message that has nothing of the border on it is not made
// anew.
func TestEnterPlain(t *testing.T) {
	for _, payload := range []string{body, body + private + noStore, "", body + "<x xmlns='urn:unknown'>" + xmpp2 + "</x>"} {
		for origin := FromSession; origin <= FromDomain; origin++ {
			st := parse(t, "chat", "c@d/e", payload)
			got, m := Enter(st, origin)
			want := Inspect(st)
			if origin == FromV2Session {
				want.Marks |= Modern
			}
			if got != st || m != want {
				t.Errorf("%s, %d: %s, %+v, want %+v", payload, origin, got.Inner(), m, want)
			}
		}
	}
}

// TestRoomSpeaks: a message with muc#user from an occupant is private, from the
// room itself (a decline: XEP-0045 7.8.2) it isn't (R-INT-7).
func TestRoomSpeaks(t *testing.T) {
	for from, want := range map[string]Rule{"r@muc/nick": RInt7, "r@muc": RInt9} {
		st := parse(t, "normal", "a@b/c", "<x xmlns='http://jabber.org/protocol/muc#user'><decline from='c@d'/></x>")
		st.From = jid.MustParse(from)
		_, m := Enter(st, FromDomain)
		if d := decide(&Facts{Message: m, Sender: -1, Addressed: -1}); d.IntentRule != want {
			t.Errorf("from %s: %v, want %v", from, d.IntentRule, want)
		}
	}
}

// FuzzEnter: whatever comes, Enter leaves what it would leave again, and says of
// it what Inspect says.
func FuzzEnter(f *testing.F) {
	for _, payload := range []string{body, body + private + noCopy + noStore + xmpp2, xmpp1 + xmpp2 + imng, mine, claim("<id>a</id><id> </id>") + whose,
		theError + mine + composing, "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'>" + xmpp2 + "</xmpp-2>", mucUser + event} {
		for _, to := range []string{"a@b", "a@b/c"} {
			f.Add([]byte("<message type='chat' to='" + to + "'>" + payload + "</message>"))
		}
	}
	f.Add([]byte("<message type='error' to='a@b/c'>" + theError + mine + whose + xmpp2 + composing + "</message>"))
	f.Add([]byte("<message>text" + xmpp2 + "</message>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := stanza.ParseBytes(data, xmltree.Limits{})
		if err != nil || st.Kind != stanza.Message {
			return
		}
		for origin := FromSession; origin <= FromDomain; origin++ {
			one, m := Enter(st, origin)
			modern := m.Marks & Modern
			if want := Inspect(one); m.Marks != want.Marks|modern || m.Type != want.Type || m.Full != want.Full {
				t.Fatalf("%q: left %q with marks %b, which has %b", data, one.Inner(), m.Marks, want.Marks)
			}
			two, n := Enter(reparse(t, one), origin)
			if two.Inner() != reparse(t, one).Inner() || n.Marks != m.Marks&^Modern|n.Marks&Modern {
				t.Fatalf("%q: left %q, then %q; marks %b, then %b", data, one.Inner(), two.Inner(), m.Marks, n.Marks)
			}
			for side := Receiving; side <= Own; side++ {
				decide(&Facts{Message: m, Side: side, Sessions: []Session{{Profile: NG}}, Sender: -1, Addressed: -1, Known: true})
			}
			Leave(one, Exclusive)
		}
	})
}

func BenchmarkEnter(b *testing.B) {
	st := parse(b, "chat", "a@b/c", body+"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='x'/>")
	b.ReportAllocs()
	for b.Loop() {
		Enter(st, FromDomain)
	}
}

func BenchmarkLeave(b *testing.B) {
	st := parse(b, "chat", "a@b/c", body+xep.IMNG)
	b.ReportAllocs()
	for b.Loop() {
		Leave(st, Exclusive)
	}
}
