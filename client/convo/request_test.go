package convo

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
)

const (
	subscribe = "<presence from='%s' to='alice@wonder.example' type='subscribe'><status>It is me</status></presence>"
	// XEP-0249's and XEP-0045's, with an archive id.
	directInvite   = "<message from='bob@wonder.example/pc' to='alice@wonder.example'><x xmlns='jabber:x:conference' jid='%s' password='s3' reason='Tea?'/>%s</message>"
	mediatedInvite = "<message from='%s' to='alice@wonder.example'><x xmlns='http://jabber.org/protocol/muc#user'><invite from='bob@wonder.example/pc'><reason>Tea?</reason></invite>" +
		"<password>s3</password></x><body>bob invites you</body>%s</message>"
)

// waiting are the requests, in a word or two each.
func (r *run) waiting() string {
	var list []string
	for _, q := range r.e.Requests() {
		list = append(list, strings.TrimSpace(q.From.Local()+" "+q.Room.Local()))
	}
	return strings.Join(list, ", ")
}

// TestSubscriptionRequests: who wants to see the presence waits for an answer, here or on another device.
func TestSubscriptionRequests(t *testing.T) {
	r := newRun(t, NG)
	told := false
	for _, ef := range r.in(fmt.Sprintf(subscribe, "bob@wonder.example/pc")) {
		_, is := ef.(Requested)
		told = told || is
	}
	r.in(fmt.Sprintf(subscribe, "bob@wonder.example"))
	r.in(fmt.Sprintf(subscribe, "alice@wonder.example/desk"))
	r.do(Contact{JID: jid.MustParse("carol@wonder.example"), Trusted: true})
	r.in(fmt.Sprintf(subscribe, "carol@wonder.example"))
	if r.waiting() != "bob" || !told || r.e.Requests()[0].Reason != "It is me" {
		t.Errorf("waiting: %q, told %v", r.waiting(), told)
	}
	r.do(Contact{JID: bob})
	if r.waiting() != "bob" {
		t.Error("a change of the name answers it")
	}
	r.do(Contact{JID: bob, Trusted: true})
	if r.waiting() != "" {
		t.Error("approved elsewhere, and waiting")
	}
	r.do(Contact{JID: bob})
	r.in(fmt.Sprintf(subscribe, "bob@wonder.example"))
	n := len(r.sent)
	r.do(Answered{From: bob})
	if r.waiting() != "" || len(r.sent) != n {
		t.Errorf("answered, and waiting: %q", r.waiting())
	}
	r.in(fmt.Sprintf(subscribe, "bob@wonder.example"))
	r.do(Disconnected{}, Connected{JID: phone, Profile: NG, Facts: all})
	if r.waiting() != "" {
		t.Error("a new session knows before the server says it again")
	}
}

// TestInvitations: one in a room that isn't entered waits, over a restart too, but no password is kept; it is no message, and the cursor is behind it.
func TestInvitations(t *testing.T) {
	r := newRun(t, NG)
	r.in(fmt.Sprintf(directInvite, "hall@rooms.example", stanzaID("a1")))
	r.in(fmt.Sprintf(mediatedInvite, "attic@rooms.example", stanzaID("a2")))
	r.in(fmt.Sprintf(mediatedInvite, "attic@rooms.example", ""))
	r.in(strings.Replace(fmt.Sprintf(mediatedInvite, "cellar@rooms.example/bob", ""), "<body>bob invites you</body>", "", 1)) // an occupant is no room
	r.in(fmt.Sprintf(directInvite, "hall@rooms.example/al", ""))
	r.in(fmt.Sprintf(directInvite, "@", ""))
	if r.waiting() != "bob hall, bob attic" {
		t.Fatalf("waiting: %q", r.waiting())
	}
	for _, q := range r.e.Requests() {
		if q.Password != "s3" || q.Reason != "Tea?" || q.From.Bare() != bob || q.Mediated != (q.Room.Local() == "attic") || q.At != r.now {
			t.Errorf("%+v", q)
		}
	}
	for _, s := range r.e.Conversations() {
		if s.JID.Domain() == "rooms.example" && s.JID.IsBare() {
			t.Errorf("a conversation with %s", s.JID)
		}
	}
	if r.e.Cursor() != "a2" {
		t.Errorf("cursor %q", r.e.Cursor())
	}
	again := start(t, Config{}, r.store)
	if again.waiting() != "bob hall, bob attic" || again.e.Requests()[0].Password != "" {
		t.Errorf("after a restart: %q", again.waiting())
	}
	n := len(r.sent)
	r.do(Answered{From: bobPC, Room: jid.MustParse("attic@rooms.example")})
	if len(r.sent) != n+1 || r.sent[n].To.String() != "attic@rooms.example" || !strings.Contains(r.sent[n].Inner(), `<decline to="bob@wonder.example/pc"`) &&
		!strings.Contains(r.sent[n].Inner(), `<decline to='bob@wonder.example/pc'`) {
		t.Errorf("sent %v", r.sent[n:])
	}
	r.do(Answered{From: bob, Room: hall}) // there is no refusal on the wire
	if r.waiting() != "" || len(r.sent) != n+1 {
		t.Errorf("waiting: %q", r.waiting())
	}
	r.in(fmt.Sprintf(mediatedInvite, "attic@rooms.example", ""))
	r.in(fmt.Sprintf(directInvite, "hall@rooms.example", ""))
	r.in("<message from='alice@wonder.example/desk' to='attic@rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'><decline to='bob@wonder.example'/></x></message>")
	if r.waiting() != "bob hall" {
		t.Errorf("refused on another device: %q", r.waiting())
	}
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	r.in(fmt.Sprintf(directInvite, "hall@rooms.example", ""))
	if r.waiting() != "" {
		t.Errorf("in the room: %q", r.waiting())
	}
}

// TestInvitationsMissed: what came while the device was away counts; what the archive tells of older times doesn't.
func TestInvitationsMissed(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	tell := func(id string) {
		q := r.asked[len(r.asked)-1]
		r.in(result(q.ID, id, fmt.Sprintf(directInvite, "hall@rooms.example", "")))
		r.do(QueryDone{Query: q.ID, First: id, Last: id, Complete: true})
	}
	tell("a1")
	if r.waiting() != "" {
		t.Errorf("an old one: %q", r.waiting())
	}
	r.in(fromBob("hello", "a2", ""))
	r.do(Disconnected{}, Connected{JID: phone, Profile: NG, Facts: all})
	tell("a3")
	if r.waiting() != "bob hall" {
		t.Errorf("a missed one: %q", r.waiting())
	}
}

// decline is that bob won't come, as a room tells it: XEP-0045's, with the text that some rooms add.
const decline = "<message from='%s' to='alice@wonder.example/desk'><x xmlns='http://jabber.org/protocol/muc#user'><decline%s><reason>%s</reason></decline></x>" +
	"<body>bob declined</body>%s</message>"

// declines are who won't come where, and why.
func (r *run) declines() string {
	var list []string
	for _, d := range r.e.Declines() {
		list = append(list, d.From.String()+" "+d.Room.Local()+" "+d.Reason)
	}
	return strings.Join(list, ", ")
}

// TestDeclines: who won't come is said once by the room in which the account is, and by nobody else; it is no message.
func TestDeclines(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	told := false
	byBob := " from='bob@wonder.example'"
	for _, ef := range r.in(fmt.Sprintf(decline, "hall@rooms.example", byBob, "Busy", stanzaID("a1"))) {
		_, is := ef.(Requested)
		told = told || is
	}
	const want = "bob@wonder.example hall Busy"
	if r.declines() != want || !told || r.e.Declines()[0].At != r.now || r.e.Cursor() != "a1" {
		t.Errorf("%q, told %v, cursor %q", r.declines(), told, r.e.Cursor())
	}
	r.in(carbonOf("received", fmt.Sprintf(decline, "hall@rooms.example", byBob, "Busy", stanzaID("a1")))) // once more, in another form
	// From a room in which the account isn't, from an occupant, from somebody who isn't a room, as an error, and in a carbon or a result of somebody else's.
	r.in(fmt.Sprintf(decline, "attic@rooms.example", byBob, "forged", ""))
	r.in(fmt.Sprintf(decline, "hall@rooms.example/eve", byBob, "forged", ""))
	r.in(fmt.Sprintf(decline, "bob@wonder.example/pc", byBob, "forged", ""))
	r.in(fmt.Sprintf(decline, "rooms.example", byBob, "forged", ""))
	r.in(strings.Replace(fmt.Sprintf(decline, "hall@rooms.example", byBob, "forged", ""), "<message", "<message type='error'", 1))
	r.in(strings.Replace(carbonOf("received", fmt.Sprintf(decline, "hall@rooms.example", byBob, "forged", "")), "from='alice@wonder.example'", "from='eve@wonder.example'", 1))
	r.in(strings.Replace(result("none", "b1", fmt.Sprintf(decline, "hall@rooms.example", byBob, "forged", "")), "from='alice@wonder.example'", "from='eve@wonder.example'", 1))
	if r.declines() != want {
		t.Errorf("declined: %q", r.declines())
	}
	r.in(fmt.Sprintf(decline, "hall@rooms.example", byBob, "Again", stanzaID("a2")))
	r.in(fmt.Sprintf(decline, "hall@rooms.example", " from='@'", "Tired", ""))
	r.in(fmt.Sprintf(decline, "hall@rooms.example", " from='hall@rooms.example/hare'", "", ""))
	if got := r.declines(); got != want+", bob@wonder.example hall Again, hall@rooms.example hall Tired, hall@rooms.example/hare hall " {
		t.Errorf("declined: %q", got)
	}
	for _, s := range r.e.Conversations() {
		if (s.JID == hall || s.JID.Local() == "attic") && !s.Last.At.IsZero() {
			t.Errorf("a message in %s: %+v", s.JID, s.Last)
		}
	}
}

// TestDeclinesMissed: what came while the device was away counts, once; what the archive tells of older times doesn't.
func TestDeclinesMissed(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	tell := func(id, reason string, live bool) {
		r.do(Disconnected{}, Connected{JID: phone, Profile: NG, Facts: all})
		message := fmt.Sprintf(decline, "hall@rooms.example", " from='bob@wonder.example'", reason, "")
		if live {
			r.in(strings.Replace(message, "</message>", stanzaID(id)+"</message>", 1))
		}
		q := r.asked[len(r.asked)-1]
		r.in(result(q.ID, id, message))
		r.do(QueryDone{Query: q.ID, First: id, Last: id, Complete: true})
	}
	tell("a1", "old", false)
	if r.declines() != "" {
		t.Errorf("an old one: %q", r.declines())
	}
	tell("a2", "missed", false)
	tell("a3", "live", true)
	if got := r.declines(); got != "bob@wonder.example hall missed, bob@wonder.example hall live" {
		t.Errorf("missed: %q", got)
	}
	if again := start(t, Config{}, r.store); again.declines() != "" {
		t.Errorf("after a restart: %q", again.declines())
	}
}

// TestRequestsBound: nobody fills the memory by asking.
func TestRequestsBound(t *testing.T) {
	r := newRun(t, NG)
	for i := range maxRequests + 20 {
		r.in(fmt.Sprintf(subscribe, fmt.Sprintf("u%d@wonder.example", i)))
		r.in(fmt.Sprintf(directInvite, fmt.Sprintf("r%d@rooms.example", i), ""))
	}
	r.in(strings.Replace(fmt.Sprintf(directInvite, "r1@rooms.example", ""), "Tea?", strings.Repeat("é", 5000), 1))
	if n := len(r.e.Requests()); n != 2*maxRequests {
		t.Errorf("%d requests", n)
	}
	for _, q := range r.e.Requests() {
		if len(q.Reason) > maxReason {
			t.Errorf("a reason of %d bytes", len(q.Reason))
		}
	}
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	for i := range maxDeclines + 5 {
		r.in(fmt.Sprintf(decline, "hall@rooms.example", fmt.Sprintf(" from='u%d@wonder.example'", i), strings.Repeat("é", 5000), ""))
	}
	list := r.e.Declines()
	if n := len(list); n != maxDeclines || list[n-1].From.Local() != "u20" || len(list[0].Reason) > maxReason {
		t.Errorf("%d declines, the last of %s, %d bytes of why", n, list[n-1].From, len(list[0].Reason))
	}
}
