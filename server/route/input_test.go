package route

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// input is a message with something wrong or odd in it, what Enter leaves of
// it, what it then is meant for, and what its sender is told.
type input struct {
	from, to string // sessions: a@b/v2, a@b/ng, a@b/old; a@b/gone is none. Everybody else is of another domain
	typ      string
	payload  string
	left     string // payload; same if it is untouched
	intent   Intent
	rule     Rule
	reply    Reply
	stopped  Rule // why it goes no further
}

const same = "same"

func ids(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<id>%d</id>", i)
	}
	return claim(b.String())
}

func badInput() []input {
	imngNested := "<x xmlns='urn:x'>" + imng + "</x>"
	imngFull := "<im-ng xmlns='urn:xmpp:im-ng:0'>no<body xmlns='jabber:client'/></im-ng>"
	imngOther := "<im-ng xmlns='urn:xmpp:im-ng:1'/>"
	wrongWhose, wrongMine := "<whose xmlns='urn:xmpp:mine:0' id='x'/>", "<mine xmlns='jabber:client'><id>x</id></mine>"
	ocrWhose, ocrMine := "<whose xmlns='urn:xmpp:tmp:mime:0' id='x'/>", "<mine xmlns='urn:xmpp:tmp:mime:0'><id>x</id></mine>"
	fullTag, textTag := "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'><x xmlns='urn:x'/></xmpp-2>", "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'> </xmpp-2>"
	wrongTag, attrTag := "<xmpp-2 xmlns='urn:xmpp:xmpp-2:0'/>", "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0' x='y'/>"
	all := private + noCopy + noStore
	return []input{
		// <im-ng/>: to a bare JID it goes; what is in it doesn't count.
		{"c@d/e", "a@b", "chat", body + imng, body, Conversation, RInt2, Silence, RuleNone},
		{"a@b/old", "c@d", "chat", imng + body + imng, body, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b", "error", imng + theError, theError, Feedback, RInt1, Silence, RFeed1},
		{"c@d/e", "a@b/ng", "chat", body + imng + imng, same, Exclusive, RInt3, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + imngFull, same, Exclusive, RInt3, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + imngNested, same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + imngOther, same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/gone", "chat", body + imng, same, Exclusive, RInt3, ServiceUnavailable, RExcl2},
		{"c@d/e", "a@b/gone", "headline", body + imng, same, Exclusive, RInt3, ServiceUnavailable, RExcl2},
		{"c@d/e", "a@b/gone", "headline", body, same, Exclusive, RInt5, Silence, RExcl2},
		{"c@d/e", "a@b/ng", "error", imng + theError, same, Feedback, RInt1, Silence, RuleNone},
		{"c@d/e", "a@b/gone", "error", imng + theError, same, Feedback, RInt1, Silence, RFeed3},

		// <whose/> and <mine/> from somebody else, R-MINE-3.
		{"c@d/e", "a@b", "chat", body + whose, same, Conversation, RInt2, BadRequest, RMine3},
		{"c@d/e", "a@b", "chat", mine, same, Conversation, RInt2, BadRequest, RMine3},
		{"c@d/e", "a@b", "chat", body + whose + whose, same, Conversation, RInt2, BadRequest, RMine3},
		{"c@d/e", "a@b", "groupchat", body + whose, same, Conversation, RInt2, BadRequest, RMine3},
		{"c@d/e", "a@b", "headline", body + ocrWhose, body + "<whose xmlns='urn:xmpp:tmp:mine:0' id='x'/>", Conversation, RInt2, BadRequest, RMine3},
		{"c@d/e", "a@b/ng", "chat", body + whose, same, Conversation, RInt9, BadRequest, RMine3},
		{"c@d/e", "a@b/gone", "chat", mine + imng, same, Exclusive, RInt3, BadRequest, RMine3},
		{"c@d/e", "a@b/ng", "normal", event + mine, same, Conversation, RInt9, BadRequest, RMine3},
		{"c@d/e", "a@b", "chat", body + "<x xmlns='urn:x'>" + whose + mine + "</x>", same, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b", "chat", body + wrongWhose + wrongMine, same, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "error", whose + mine + theError, theError, Feedback, RInt1, Silence, RuleNone},
		{"c@d/e", "a@b", "error", mine + theError, theError, Feedback, RInt1, Silence, RFeed1},
		{"r@muc/n", "a@b/ng", "groupchat", body + whose, same, Exclusive, RInt5, Silence, RuleNone}, // a room asks
		{"r@muc/n", "a@b/ng", "groupchat", mine, same, Exclusive, RInt5, Silence, RuleNone},
		{"r@muc/n", "a@b/gone", "groupchat", mine, same, Exclusive, RInt5, ServiceUnavailable, RExcl2},

		// From the own client.
		{"a@b/ng", "c@d", "chat", body + whose, same, Conversation, RInt2, BadRequest, RMine3},
		{"a@b/ng", "c@d/e", "chat", mine, same, Conversation, RInt9, BadRequest, RMine3},
		{"a@b/v2", "c@d/e", "chat", body + whose + imng, same, Exclusive, RInt3, BadRequest, RMine3},
		{"a@b/ng", "r@muc", "groupchat", mine, same, Conversation, RInt2, Silence, RuleNone}, // a claim in a room
		{"a@b/ng", "a@b", "chat", body + whose, same, Conversation, RInt2, BadRequest, RMine3},
		{"a@b/ng", "a@b/old", "chat", mine, same, Conversation, RInt9, BadRequest, RMine3},
		{"a@b/ng", "c@d", "error", whose + mine + theError, theError, Feedback, RInt1, Silence, RuleNone},

		// Claims, R-MINE-4.
		{"a@b/old", "a@b", "chat", mine, same, Claim, RMine4, Silence, RuleNone},
		{"a@b/ng", "a@b", "chat", ocrMine + "<thread>t</thread>" + store, "<thread>t</thread>" + store + mine, Claim, RMine4, Silence, RuleNone},
		{"a@b/ng", "a@b", "chat", ids(256), same, Claim, RMine4, Silence, RuleNone},
		{"a@b/ng", "a@b", "chat", ids(257), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", ids(10_000), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim(""), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id/>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim(" <id>a</id>\n<id>a</id> "), same, Claim, RMine4, Silence, RuleNone}, // white space around elements is layout
		{"a@b/ng", "a@b", "chat", claim("<id> a </id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id>a b</id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id>a&amp;b</id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id>a:b.c-_é</id>"), same, Claim, RMine4, Silence, RuleNone},
		{"a@b/ng", "a@b", "chat", claim("<id>a<b/></id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("a"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id>a</id>b"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id>a</id><x/>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id xmlns='urn:x'>a</id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim("<id xmlns='urn:xmpp:tmp:mime:0'>a</id>"), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", claim(mine), same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", mine + body, same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", mine + mine, same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", mine + ocrMine, same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "groupchat", mine, same, Claim, RMine4, BadRequest, RMine4},
		{"a@b/ng", "a@b", "chat", mine + whose, same, Claim, RMine4, BadRequest, RMine3},
		{"a@b/ng", "a@b", "chat", mine + imng, mine, Claim, RMine4, Silence, RuleNone},
		{"a@b/ng", "a@b", "chat", wrongMine, same, Conversation, RInt2, Silence, RuleNone},

		// Tags. Only another domain may say <xmpp-2/>, and only like this.
		{"c@d/e", "a@b/ng", "chat", body + xmpp2, body, Exclusive, RInt4, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + xmpp2 + xmpp2, body, Exclusive, RInt4, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + attrTag, body, Exclusive, RInt4, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", xmpp1 + body + xmpp2 + all, body, Exclusive, RInt4, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + xmpp2 + all + noPerm + store, body + noPerm + store, Exclusive, RInt4, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + fullTag, body, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + textTag, body, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + xmpp2 + fullTag + private, body + private, Exclusive, RInt6, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + wrongTag, same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + "<x xmlns='urn:x'>" + xmpp2 + xmpp1 + "</x>", same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", xmpp1 + body + xmpp1, body, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b", "chat", body + xmpp2 + all, body + noStore, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b", "chat", body + fullTag + all, body + all, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "error", xmpp2 + theError, theError, Feedback, RInt1, Silence, RuleNone},
		{"a@b/old", "c@d/e", "chat", body + xmpp2, body, Conversation, RInt9, Silence, RuleNone},
		{"a@b/old", "c@d/e", "chat", body + xmpp2 + private, body + private, Exclusive, RInt6, Silence, RuleNone},
		{"a@b/v2", "c@d/e", "chat", body + xmpp1, body, Exclusive, RInt4, Silence, RuleNone},
		{"a@b/v2", "c@d/e", "chat", body + xmpp2 + all, body + all, Exclusive, RInt4, Silence, RuleNone},

		// Hints where they mean nothing, twice, nested, of another namespace.
		{"c@d/e", "a@b/ng", "chat", body + private + private + noCopy, same, Exclusive, RInt6, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + "<private xmlns='urn:xmpp:carbons:2'>x<y xmlns='urn:x'/></private>", same, Exclusive, RInt6, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + "<x xmlns='urn:x'>" + private + noCopy + "</x>", same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", body + "<private xmlns='urn:xmpp:hints'/><no-copy xmlns='urn:xmpp:carbons:2'/>", same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b", "chat", body + all, same, Conversation, RInt2, Silence, RuleNone},
		{"c@d/e", "a@b", "error", all + theError, same, Feedback, RInt1, Silence, RFeed1},

		// Several rules: the first that matches.
		{"c@d/e", "a@b/ng", "groupchat", body + imng + xmpp2 + private + mucUser, body + imng + mucUser, Exclusive, RInt3, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "headline", body + private + mucUser, same, Exclusive, RInt5, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "normal", event + private + mucUser, same, Exclusive, RInt6, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "normal", event + mucUser, same, Exclusive, RInt7, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "normal", event, same, Exclusive, RInt8, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "chat", event, same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "normal", event + body, same, Conversation, RInt9, Silence, RuleNone},
		{"c@d/e", "a@b/ng", "error", body + imng + xmpp2 + mucUser + theError, body + imng + mucUser + theError, Feedback, RInt1, Silence, RuleNone},
		{"a@b/v2", "a@b/ng", "groupchat", mine + imng, same, Exclusive, RInt3, BadRequest, RMine3},
	}
}

// TestBadInput takes each through Enter, Inspect and Decide.
func TestBadInput(t *testing.T) {
	for _, tc := range badInput() {
		name := tc.from + " to " + tc.to + " " + tc.typ + " " + tc.payload
		if len(name) > 200 {
			name = name[:200]
		}
		st, err := stanza.ParseBytes([]byte("<message from='"+tc.from+"' to='"+tc.to+"' type='"+tc.typ+"'>"+tc.payload+"</message>"), xmltree.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f, origin := facts(st)
		left, m := Enter(st, origin)
		f.Message = m
		d := decide(f)
		want := tc.left
		if want == same {
			want = tc.payload
			if left != st {
				t.Errorf("%s: made anew", name)
			}
		}
		want = parse(t, tc.typ, tc.to, want).Inner() // in the scanner's writing
		if got := left.Inner(); got != want {
			t.Errorf("%s: leaves %s", name, got)
		}
		if left.From != st.From || left.To != st.To || left.Type != st.Type || left.ID != st.ID {
			t.Errorf("%s: the header changed: %+v", name, left)
		}
		if d.Intent != tc.intent || d.IntentRule != tc.rule || d.Reply != tc.reply || d.ReplyRule != tc.stopped {
			t.Errorf("%s: %v (%v), reply %d (%v); want %v (%v), reply %d (%v)", name, d.Intent, d.IntentRule, d.Reply, d.ReplyRule, tc.intent, tc.rule, tc.reply, tc.stopped)
		}
		for _, l := range d.Lines {
			if tc.stopped != RuleNone && l.Form != Nothing {
				t.Errorf("%s: goes on", name)
			}
		}
	}
}

// facts are those of the account a@b, whose sessions are a@b/v2, a@b/ng and
// a@b/old. It lets c@d and r@muc see its presence.
func facts(st *stanza.Stanza) (*Facts, Origin) {
	sessions := []Session{{Profile: V2, Available: true}, {Profile: NG, Available: true}, {Profile: Classic, Available: true}}
	index := map[string]int{"v2": 0, "ng": 1, "old": 2}
	at := func(resource string) int {
		if i, ok := index[resource]; ok {
			return i
		}
		return -1
	}
	f := &Facts{Sessions: sessions, Sender: -1, Addressed: -1}
	own := st.From.Bare()
	toOwn := st.To.Bare().String() == "a@b"
	if toOwn {
		f.Addressed = at(st.To.Resource())
	}
	if own.String() != "a@b" {
		f.Known = true
		return f, FromDomain
	}
	f.Side = Sending
	if toOwn {
		f.Side = Own
	}
	f.Sender = at(st.From.Resource())
	if f.Sender == 0 {
		return f, FromV2Session
	}
	return f, FromSession
}
