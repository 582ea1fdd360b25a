package convo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/xep"
)

func about(from, body, extra string) string {
	if body != "" {
		body = "<body>" + body + "</body>"
	}
	return "<message from='" + from + "' to='alice@wonder.example' type='chat' id='" + from + extra2id(extra) + "'>" + body + extra + "</message>"
}

func extra2id(extra string) string {
	return strings.NewReplacer("<", "", ">", "", "'", "", " ", "", "/", "", "=", "", ":", "").Replace(extra)
}

const (
	correctM  = "<replace xmlns='urn:xmpp:message-correct:0' id='m'/>"
	retractM  = "<retract xmlns='urn:xmpp:message-retract:1' id='m'/>"
	reactM    = "<reactions xmlns='urn:xmpp:reactions:0' id='m'><reaction>+</reaction></reactions>"
	originalM = "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='m'><body>hello</body></message>"
)

// TestReferences: what is said about a message counts whether it comes before or
// after it, if it is from somebody who may say it.
func TestReferences(t *testing.T) {
	for _, c := range []struct{ name, ref, want string }{
		{"XEP-0308", about("bob@wonder.example/tv", "goodbye", correctM), "goodbye*"},
		{"XEP-0308 5: by somebody else", about("mallory@evil.example/x", "goodbye", correctM), "hello"},
		{"XEP-0424", about("bob@wonder.example/pc", "", retractM), "-"},
		{"XEP-0424 5: by somebody else", about("mallory@evil.example/x", "", retractM), "hello"},
		{"XEP-0444", about("bob@wonder.example/pc", "", reactM), "hello+"},
		{"XEP-0444, by the own account", "<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat'>" + reactM + "</message>", "hello+"},
	} {
		for _, order := range [][]string{{originalM, c.ref}, {c.ref, originalM}} {
			r := newRun(t, NG)
			for _, xml := range order {
				r.in(xml)
			}
			if got := r.folded(); got != c.want {
				t.Errorf("%s: %q, want %q (first %.60s)", c.name, got, c.want, order[0])
			}
		}
	}
}

// folded is bob's first message as it is shown.
func (r *run) folded() string {
	v, _ := r.e.Conversation(bob, 0)
	if len(v.Entries) == 0 {
		return "nothing"
	}
	en := v.Entries[0]
	got := en.Body
	if en.Edited {
		got += "*"
	}
	if en.Retracted {
		got += "-"
	}
	for _, x := range en.Reactions {
		got += strings.Join(x.Emoji, "")
	}
	return got
}

// TestLastCorrection: the last one counts, also of a client that names the
// correction before it, and nothing changes what was retracted.
func TestLastCorrection(t *testing.T) {
	r := newRun(t, NG)
	r.in(originalM)
	for _, c := range [][3]string{{"c1", "m", "two"}, {"c2", "c1", "three"}, {"c3", "m", "four"}} {
		r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='" + c[0] + "'><body>" + c[2] + "</body><replace xmlns='urn:xmpp:message-correct:0' id='" + c[1] + "'/></message>")
		if got := r.folded(); got != c[2]+"*" {
			t.Fatalf("%s: %q", c[0], got)
		}
	}
	if v := r.view(bob); len(v.Entries) != 1 || v.Unread != 1 {
		t.Errorf("%d entries, %d unread", len(v.Entries), v.Unread)
	}
	r.in(about("bob@wonder.example/pc", "", retractM))
	r.in(about("bob@wonder.example/pc", "five", correctM))
	if got := r.folded(); got != "-" {
		t.Errorf("after a retraction: %q", got)
	}
}

// TestReferring: the person corrects, retracts, reacts and replies.
func TestReferring(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("hello\nyou", "a1", ""))
	theirs := r.last(bob)
	r.do(SendText{Conversation: bob, Body: "hi"})
	first, own := r.out(), r.last(bob)
	r.do(Correct{Conversation: bob, Entry: own.ID, Body: "hey"})
	if got := r.out().Child(xep.NSCorrect, "replace").Attr("id"); got != first.ID {
		t.Errorf("corrects %q", got)
	}
	if en, _ := r.e.Entry(bob, own.ID); en.Body != "hey" || !en.Edited {
		t.Errorf("%+v", en)
	}
	r.do(React{Conversation: bob, Entry: theirs.ID, Emoji: []string{"+", "+", "x"}})
	if st := r.out(); st.Child(xep.NSReactions, "reactions").Attr("id") != theirs.MessageID {
		t.Errorf("reacts to %s", st.Inner())
	}
	if en, _ := r.e.Entry(bob, theirs.ID); len(en.Reactions) != 1 || !slices.Equal(en.Reactions[0].Emoji, []string{"+", "x"}) {
		t.Errorf("%+v", en.Reactions)
	}
	r.do(React{Conversation: bob, Entry: theirs.ID})
	if en, _ := r.e.Entry(bob, theirs.ID); len(en.Reactions) != 0 {
		t.Errorf("%+v", en.Reactions)
	}
	r.do(Retract{Conversation: bob, Entry: own.ID})
	if en, _ := r.e.Entry(bob, own.ID); !en.Retracted || en.Body != "" {
		t.Errorf("%+v", en)
	}
	n := len(r.sent)
	r.do(Correct{Conversation: bob, Entry: theirs.ID, Body: "no"})
	r.do(Retract{Conversation: bob, Entry: theirs.ID})
	if len(r.sent) != n {
		t.Error("somebody else's message was corrected or retracted")
	}

	// A reply comes back as what was written (XEP-0461 3.2, XEP-0428 3).
	r.do(Reply{Conversation: bob, To: theirs.ID, Body: "so"})
	st := r.out()
	if got := st.Child(stanza.NSClient, "body").Text(); got != "> hello\n> you\nso" {
		t.Errorf("body %q", got)
	}
	other := newRun(t, NG)
	reflected := *st
	reflected.From = desk
	other.in(fromBob("hello\nyou", "a1", ""))
	other.in(string(reflected.AppendTo(nil, stanzaID("a2"))))
	if en := other.last(bob); en.Body != "so" || en.ReplyTo != other.view(bob).Entries[0].ID || en.Thread != st.Thread() {
		t.Errorf("%+v", en)
	}
}

// TestFallback: positions count code points, and those that are none cut nothing.
func TestFallback(t *testing.T) {
	for _, c := range []struct{ attrs, want string }{
		{"start='0' end='4'", "b"}, {"start='0' end='3'", "éb"}, {"start='0' end='99'", ""}, {"", ""},
		{"start='-1' end='2'", "> éb"}, {"start='3' end='2'", "> éb"}, {"start='x' end='2'", "> éb"}, {"start='99' end='100'", "> éb"},
	} {
		st := parse(t, "<message><body>&gt;  éb</body><fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body "+c.attrs+"/></fallback></message>")
		want := strings.Replace(c.want, "> ", ">  ", 1)
		if got := withoutFallback(st, st.Child(stanza.NSClient, "body").Text(), xep.NSReply); got != want {
			t.Errorf("%s: %q, want %q", c.attrs, got, want)
		}
	}
}

// TestRoomReferences: in a room the room's ids count, and only the same occupant
// retracts.
func TestRoomReferences(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true, RoomFacts: RoomFacts{IDs: true}})
	room := func(nick, inner string) {
		r.in("<message from='hall@rooms.example/" + nick + "' to='alice@wonder.example/phone' type='groupchat' id='m'>" + inner + "</message>")
	}
	const id = "<stanza-id xmlns='urn:xmpp:sid:0' by='hall@rooms.example' id='s1'/>"
	room("bo", "<body>hello</body>"+id)
	room("cy", "<retract xmlns='urn:xmpp:message-retract:1' id='s1'/>")
	room("cy", "<reactions xmlns='urn:xmpp:reactions:0' id='s1'><reaction>+</reaction></reactions>")
	if en := r.last(hall); en.Retracted || len(en.Reactions) != 1 {
		t.Fatalf("%+v", en)
	}
	r.do(React{Conversation: hall, Entry: r.last(hall).ID, Emoji: []string{"x"}})
	if got := r.out().Child(xep.NSReactions, "reactions").Attr("id"); got != "s1" {
		t.Errorf("reacts to %q", got)
	}
	room("bo", "<retract xmlns='urn:xmpp:message-retract:1' id='s1'/>")
	if en := r.last(hall); !en.Retracted {
		t.Errorf("%+v", en)
	}
}

// TestReceipts: XEP-0184 and XEP-0333, asked for and answered, before and after.
func TestReceipts(t *testing.T) {
	r := newRun(t, Carbons)
	r.do(SendText{Conversation: bob, Body: "one"})
	r.do(Acked{r.out().ID})
	r.do(SendText{Conversation: bob, Body: "two"})
	st := r.out()
	r.do(Acked{st.ID})
	if st.Child(xep.NSReceipts, "request").IsZero() || st.Child(xep.NSMarkers, "markable").IsZero() {
		t.Error("nothing is asked for")
	}
	r.in(about("mallory@evil.example/x", "", "<received xmlns='urn:xmpp:receipts' id='"+st.ID+"'/>"))
	if r.last(bob).Delivered {
		t.Error("a stranger's receipt counts")
	}
	r.in(about("bob@wonder.example/pc", "", "<received xmlns='urn:xmpp:receipts' id='"+st.ID+"'/>"))
	if en := r.last(bob); !en.Delivered || en.Displayed {
		t.Errorf("%+v", en)
	}
	r.in(about("bob@wonder.example/pc", "", "<displayed xmlns='urn:xmpp:chat-markers:0' id='"+st.ID+"'/>"))
	for _, en := range r.view(bob).Entries {
		if !en.Displayed {
			t.Errorf("%+v", en)
		}
	}
	// Before the message: the archive tells of it later.
	other := newRun(t, NG)
	other.in(fromBob("x", "a0", ""))
	other.in(about("bob@wonder.example/pc", "", "<received xmlns='urn:xmpp:receipts' id='later'/>"))
	other.in("<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat' id='later'><body>hi</body></message>")
	if en := other.last(bob); !en.Delivered {
		t.Errorf("%+v", en)
	}
}

// TestAnswers: who gets a receipt.
func TestAnswers(t *testing.T) {
	const request = "<request xmlns='urn:xmpp:receipts'/>"
	for _, c := range []struct {
		name    string
		trusted bool
		silent  bool
		xml     string
		want    int
	}{
		{"a contact", true, false, about("bob@wonder.example/pc", "b", request), 1},
		{"a stranger", false, false, about("bob@wonder.example/pc", "b", request), 0},
		{"nobody, by the person's wish", true, true, about("bob@wonder.example/pc", "b", request), 0},
		{"a copy (XEP-0280 11)", true, false, carbonOf("received", about("bob@wonder.example/pc", "b", request)), 0},
		{"without an id", true, false, "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat'><body>b</body>" + request + "</message>", 0},
		{"a headline", true, false, "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='headline' id='1'><body>b</body>" + request + "</message>", 0},
	} {
		r := start(t, Config{Silent: c.silent}, NewMemory())
		r.connect(Carbons)
		r.do(Contact{JID: bob, Trusted: c.trusted})
		r.in(c.xml)
		if got := len(r.sent); got != c.want {
			t.Errorf("%s: %d receipts", c.name, got)
		} else if got == 1 && r.out().To != bobPC {
			t.Errorf("%s: to %v", c.name, r.out().To)
		}
	}
}

func carbonOf(kind, message string) string {
	return "<message from='alice@wonder.example' to='alice@wonder.example/phone'><" + kind + " xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>" +
		strings.Replace(message, "<message", "<message xmlns='jabber:client'", 1) + "</forwarded></" + kind + "></message>"
}

// TestRead: reading tells the contact (XEP-0333) and the other devices
// (XEP-0490), once; and they tell this one.
func TestRead(t *testing.T) {
	r := newRun(t, NG)
	r.do(Contact{JID: bob, Trusted: true})
	r.in(fromBob("one", "a1", ""))
	r.in(fromBob("two", "a2", "<markable xmlns='urn:xmpp:chat-markers:0'/>"))
	if r.view(bob).Unread != 2 {
		t.Fatal(r.view(bob).Unread)
	}
	r.do(Attention{Conversation: bob, Act: Seen})
	if r.view(bob).Unread != 0 || len(r.sent) != 2 {
		t.Fatalf("%d unread, %d sent", r.view(bob).Unread, len(r.sent))
	}
	if st := r.sent[0]; st.Child(xep.NSMarkers, "displayed").Attr("id") != "m-two" || st.To != bob {
		t.Error(st.Inner())
	}
	if st := r.sent[1]; st.Kind != stanza.IQ || !strings.Contains(st.Inner(), "id='a2'") || !st.To.IsBare() {
		t.Error(st.Inner())
	}
	r.do(Attention{Conversation: bob, Act: Seen})
	if len(r.sent) != 2 {
		t.Error("told twice")
	}
	r.in(fromBob("three", "a3", ""))
	event := func(from string) string {
		return "<message from='" + from + "' to='alice@wonder.example/phone' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:mds:displayed:0'><item id='bob@wonder.example'>" +
			"<displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' id='a3' by='alice@wonder.example'/></displayed></item></items></event></message>"
	}
	r.in(event("mallory@evil.example"))
	if r.view(bob).Unread != 1 {
		t.Error("a stranger marks as read")
	}
	r.in(event("alice@wonder.example"))
	if r.view(bob).Unread != 0 {
		t.Error("what another device has shown is unread here")
	}
}

// TestChatStates: LOCK-14, XEP-0085: shown while they hold, sent to who knows them.
func TestChatStates(t *testing.T) {
	const composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
	r := newRun(t, NG)
	r.in(fromBob("hi", "a1", ""))
	r.do(Contact{JID: bob, Trusted: true})
	r.do(Typing{Conversation: bob, State: Composing})
	if len(r.sent) != 0 {
		t.Error("told somebody who doesn't know chat states")
	}
	r.in(about("bob@wonder.example/pc", "", composing))
	if v := r.view(bob); len(v.Typing) != 1 || v.Typing[0] != bob || len(v.Entries) != 1 {
		t.Errorf("%+v", v)
	}
	r.do(Typing{Conversation: bob, State: Composing})
	r.do(Typing{Conversation: bob, State: Composing})
	if len(r.sent) != 1 || r.out().Child(xep.NSChatStates, "composing").IsZero() {
		t.Errorf("%d states", len(r.sent))
	}
	r.wait(maxComposing + time.Second)
	r.do(Tick{})
	if v := r.view(bob); len(v.Typing) != 0 {
		t.Error("still typing")
	}
	r.in(about("bob@wonder.example/pc", "", composing))
	r.in(fromBob("there", "a2", "<active xmlns='http://jabber.org/protocol/chatstates'/>"))
	if v := r.view(bob); len(v.Typing) != 0 {
		t.Error("typing what is there")
	}
	r.in("<message from='mallory@evil.example/x' to='alice@wonder.example' type='chat'>" + composing + "</message>")
	if len(r.e.Conversations()) != 1 {
		t.Error("a chat state begins a conversation")
	}
}

// TestTwins: of two messages under one id, as a server of another domain leaves them that was killed before it knew that the first had arrived, the older
// one is meant, whichever came first and over restarts. (Found by simulation: seed 30916 of commit 249132a.)
func TestTwins(t *testing.T) {
	original := func(id string) string { return strings.Replace(originalM, "</message>", stanzaID(id)+"</message>", 1) }
	corrected := about("bob@wonder.example/pc", "goodbye", correctM+stanzaID("a3"))
	for name, deliver := range map[string]func(*run){
		"in order": func(r *run) {
			r.connect(NG)
			r.in(original("a1"))
			r.in(original("a2"))
			r.in(corrected)
		},
		"the newer live, the older by catch-up": func(r *run) {
			r.do(Connected{JID: phone, Profile: NG, Facts: all})
			q := r.asked[len(r.asked)-1]
			r.in(original("a2"))
			r.in(result(q.ID, "a1", originalM))
			r.in(result(q.ID, "a2", originalM))
			r.do(QueryDone{Query: q.ID, First: "a1", Last: "a2", Complete: true})
			r.in(corrected)
		},
		"corrected before the older came": func(r *run) {
			r.do(Connected{JID: phone, Profile: NG, Facts: all})
			q := r.asked[len(r.asked)-1]
			r.in(original("a2"))
			r.in(corrected)
			r.in(result(q.ID, "a1", originalM))
			r.in(result(q.ID, "a2", originalM))
			r.do(QueryDone{Query: q.ID, First: "a1", Last: "a2", Complete: true})
		},
	} {
		r := start(t, Config{}, NewMemory())
		deliver(r)
		if got := r.bodies(bob); got != "goodbye hello" {
			t.Errorf("%s: %q", name, got)
		}
		if got := start(t, Config{}, r.store).bodies(bob); got != "goodbye hello" {
			t.Errorf("%s, after a restart: %q", name, got)
		}
	}
	// However many there are.
	r := newRun(t, NG)
	for n := range 100 {
		r.in(original(fmt.Sprintf("a%03d", n)))
	}
	r.in(corrected)
	if got := r.view(bob).Entries; len(got) != 100 || got[0].Body != "goodbye" || got[99].Body != "hello" {
		t.Errorf("%d entries: %s", len(got), r.bodies(bob))
	}
}

// TestTwinsTrimmed: what was said stays in memory when the one that it was shown with leaves it, and is where it was when that one is back.
func TestTwinsTrimmed(t *testing.T) {
	r := start(t, Config{Limits: Limits{Entries: 7}}, NewMemory())
	r.connect(NG)
	original := func(id string) string { return strings.Replace(originalM, "</message>", stanzaID(id)+"</message>", 1) }
	r.in(original("a1"))
	r.in(original("a2"))
	r.in(about("bob@wonder.example/pc", "goodbye", correctM+stanzaID("a3")))
	for n := range 5 {
		r.in(fromBob(fmt.Sprint("n", n), fmt.Sprint("b", n), ""))
	}
	r.want(bob, "goodbye n0 n1 n2 n3 n4")
	r.do(Page{Conversation: bob})
	load := r.load[len(r.load)-1]
	entries, more, err := r.store.History(bob, load.Before, load.Max)
	if err != nil {
		t.Fatal(err)
	}
	r.do(HistoryLoaded{Conversation: bob, Entries: entries, More: more})
	r.want(bob, "goodbye hello n0 n1 n2 n3 n4")
}
