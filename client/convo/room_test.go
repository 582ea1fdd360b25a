package convo

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
)

// facts are those of a room of today.
var facts = RoomFacts{Archive: true, Occupants: true, Sync: true, Occupant: "o-al"}

// said is what somebody says in the hall, with his occupant id and, if it has one, the
// place in its archive.
func said(nick, body, archive, extra string) string {
	if body != "" {
		extra = "<body>" + body + "</body>" + extra
	}
	if archive != "" {
		extra += "<stanza-id xmlns='urn:xmpp:sid:0' by='hall@rooms.example' id='" + archive + "'/>"
	}
	return "<message from='hall@rooms.example/" + nick + "' to='alice@wonder.example/phone' type='groupchat' id='m-" + body + "'>" +
		extra + "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o-" + nick + "'/></message>"
}

// kept is a message as the hall's archive tells it.
func kept(queryID, id, message string) string {
	return strings.ReplaceAll(result(queryID, id, message), "from='alice@wonder.example'", "from='hall@rooms.example'")
}

// enter has the hall let the device in, and gives what it is asked.
func (r *run) enter(streamed bool, f RoomFacts) Query {
	r.t.Helper()
	n := len(r.asked)
	r.do(Room{JID: hall, Nick: "al", Joined: true, Streamed: streamed, RoomFacts: f})
	if len(r.asked) == n {
		return Query{}
	}
	return r.asked[len(r.asked)-1]
}

// away ends the session and begins another one.
func (r *run) away(p Profile) {
	r.do(Disconnected{})
	r.connect(p)
}

// TestRoomCaughtUp: what was said while the device was away comes from the room's archive, behind what is known and before what is said meanwhile.
func TestRoomCaughtUp(t *testing.T) {
	r := newRun(t, NG)
	q := r.enter(false, facts)
	if q.By != hall || !q.Last || q.After != "" || !q.With.IsZero() {
		t.Fatalf("a new room is asked %+v", q)
	}
	r.in(kept(q.ID, "s1", said("bo", "one", "", "")))
	r.do(QueryDone{Query: q.ID, First: "s1", Last: "s1", Complete: true})
	r.in(said("bo", "two", "s2", ""))
	r.away(NG)
	if v := r.view(hall); !v.GapAtEnd || v.CatchingUp {
		t.Errorf("away: gap %t, catching up %t", v.GapAtEnd, v.CatchingUp)
	}
	if q = r.enter(false, facts); q.After != "s2" || q.Last {
		t.Fatalf("asks %+v", q)
	}
	r.in(said("bo", "five", "s5", ""))
	r.in(kept(q.ID, "s3", said("bo", "three", "", "")))
	r.do(QueryDone{Query: q.ID, First: "s3", Last: "s3"})
	if q = r.asked[len(r.asked)-1]; q.After != "s3" || !r.view(hall).CatchingUp {
		t.Fatalf("asks %+v", q)
	}
	for i, m := range []string{"four", "five", "six"} {
		r.in(kept(q.ID, fmt.Sprint("s", i+4), said("bo", m, "", "")))
	}
	r.do(QueryDone{Query: q.ID, First: "s4", Last: "s6", Complete: true})
	r.in(said("bo", "six", "s6", ""))
	r.want(hall, "one two three four five six")
	for _, en := range r.view(hall).Entries[1:] {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
	r.in(said("bo", "", "s7", "<displayed xmlns='urn:xmpp:chat-markers:0' id='s6'/>"))
	again := start(t, Config{}, r.store)
	again.connect(NG)
	if q := again.enter(false, facts); q.After != "s7" {
		t.Errorf("after a restart asks %+v", q)
	}
}

// TestRoomStreamed: a session request brings what was missed, behind the cursor; what a room leaves out is a gap, which paging fills.
func TestRoomStreamed(t *testing.T) {
	const synced = "<message from='hall@rooms.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' room='hall@rooms.example' complete='%t' first='' last='%s' count='0'/></message>"
	r := newRun(t, V2)
	if s := r.e.RoomSync(hall); s.After != "" || s.Max != 100 {
		t.Errorf("a new room: %+v", s)
	}
	r.enter(true, facts)
	r.in(kept("session", "s1", said("bo", "one", "", "")))
	r.in(fmt.Sprintf(synced, true, "s1"))
	r.away(V2)
	if s := r.e.RoomSync(hall); s.After != "s1" || s.Max != 500 {
		t.Errorf("%+v", s)
	}
	r.enter(true, facts)
	r.in(kept("session", "s2", said("bo", "two", "", "")))
	r.in(kept("session", "s3", said("cy", "three", "", "")))
	if !r.view(hall).CatchingUp {
		t.Error("it has ended too soon")
	}
	r.in(fmt.Sprintf(synced, true, "s3"))
	r.in(said("bo", "four", "s4", ""))
	r.want(hall, "one two three four")
	if v := r.view(hall); v.CatchingUp || v.GapAtEnd || v.Entries[1].Gap || v.Entries[3].Gap {
		t.Errorf("%+v", v)
	}
	if len(r.asked) != 0 {
		t.Errorf("asked %+v", r.asked)
	}
	// Cut in the middle, what came is known, and comes again.
	r.away(V2)
	r.enter(true, facts)
	r.in(kept("session", "s5", said("bo", "five", "", "")))
	r.away(V2)
	r.enter(true, facts)
	for i, m := range []string{"five", "six"} {
		r.in(kept("session", fmt.Sprint("s", 5+i), said("bo", m, "", "")))
	}
	r.in(fmt.Sprintf(synced, true, "s6"))
	r.want(hall, "one two three four five six")
	for _, en := range r.view(hall).Entries[1:] {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
	// More was said than the room tells.
	r.away(V2)
	r.enter(true, facts)
	r.in(kept("session", "s9", said("bo", "nine", "", "")))
	r.in(fmt.Sprintf(synced, false, "s9"))
	if en := r.last(hall); !en.Gap {
		t.Fatalf("%+v", en)
	}
	r.do(Page{Conversation: hall, Before: r.last(hall).ID})
	q := r.asked[len(r.asked)-1]
	if q.By != hall || q.Before != "s9" {
		t.Fatalf("asks %+v", q)
	}
	for i, m := range []string{"six", "seven", "eight"} {
		r.in(kept(q.ID, fmt.Sprint("s", 6+i), said("bo", m, "", "")))
	}
	r.do(QueryDone{Query: q.ID, First: "s6", Last: "s8"})
	r.want(hall, "one two three four five six seven eight nine")
	if r.last(hall).Gap {
		t.Error("the gap isn't closed")
	}
}

// TestRoomSilent: a room that was to tell by itself and doesn't is asked.
func TestRoomSilent(t *testing.T) {
	r := newRun(t, V2)
	r.enter(true, facts)
	r.wait(roomSilence / 2)
	r.do(Tick{})
	if len(r.asked) != 0 {
		t.Fatal("it isn't given time")
	}
	r.wait(roomSilence)
	r.do(Tick{})
	if len(r.asked) != 1 || r.asked[0].By != hall {
		t.Fatalf("asked %+v", r.asked)
	}
	r.in(kept(r.asked[0].ID, "s1", said("bo", "one", "", "")))
	r.do(QueryDone{Query: r.asked[0].ID, First: "s1", Last: "s1", Complete: true})
	r.want(hall, "one")
}

// TestRoomRetried: a query that fails is tried again, with longer and longer pauses, and in the end leaves a gap that paging fills.
func TestRoomRetried(t *testing.T) {
	r := newRun(t, NG)
	q := r.enter(false, facts)
	r.do(QueryDone{Query: q.ID, Complete: true})
	r.in(said("bo", "one", "s1", ""))
	r.away(NG)
	q = r.enter(false, facts)
	for n := range maxTries + 1 {
		if q.After != "s1" || !r.view(hall).CatchingUp {
			t.Fatalf("try %d: %+v", n, q)
		}
		r.do(QueryDone{Query: q.ID, Failed: true})
		was := len(r.asked)
		r.do(Tick{})
		if len(r.asked) != was {
			t.Fatal("asked again at once")
		}
		r.wait(rest(n+1, q.ID))
		r.do(Tick{})
		if n < maxTries {
			q = r.asked[was]
		} else if len(r.asked) != was {
			t.Fatal("asked for ever")
		}
	}
	r.in(said("bo", "three", "s3", ""))
	if en := r.last(hall); !en.Gap {
		t.Fatalf("%+v", en)
	}
	r.do(Page{Conversation: hall, Before: r.last(hall).ID})
	if q = r.asked[len(r.asked)-1]; q.By != hall || q.Before != "s3" || !q.With.IsZero() {
		t.Fatalf("%+v", q)
	}
	r.in(kept(q.ID, "s1", said("bo", "one", "", "")))
	r.in(kept(q.ID, "s2", said("bo", "two", "", "")))
	r.do(QueryDone{Query: q.ID, First: "s1", Last: "s2"})
	r.want(hall, "one two three")
}

// TestRoomForgot: an archive that has forgotten the place tells the newest page, behind a gap.
func TestRoomForgot(t *testing.T) {
	r := newRun(t, NG)
	r.do(QueryDone{Query: r.enter(false, facts).ID, Complete: true})
	r.in(said("bo", "one", "s1", ""))
	r.away(NG)
	r.do(QueryDone{Query: r.enter(false, facts).ID, Failed: true, Unknown: true})
	q := r.asked[len(r.asked)-1]
	if !q.Last || q.After != "" {
		t.Fatalf("%+v", q)
	}
	r.in(kept(q.ID, "s8", said("bo", "eight", "", "")))
	r.do(QueryDone{Query: q.ID, First: "s8", Last: "s8", Complete: true})
	r.want(hall, "one eight")
	if !r.last(hall).Gap {
		t.Error("nothing seems to be missing")
	}
}

// TestManyRooms: few rooms are asked at once, each in its turn, and none endlessly.
func TestManyRooms(t *testing.T) {
	r := newRun(t, NG)
	rooms := map[jid.JID]int{}
	for i := range 3 * maxRoomQueries {
		j := jid.MustParse(fmt.Sprintf("r%d@rooms.example", i))
		rooms[j] = 0
		r.do(Room{JID: j, Nick: "al", Joined: true, RoomFacts: facts})
	}
	open := r.asked[1:] // the first is the account's
	for at := 0; at < len(open); at++ {
		if len(open)-at > maxRoomQueries {
			t.Fatalf("%d at once", len(open)-at)
		}
		q, n := open[at], len(r.asked)
		rooms[q.By]++
		r.do(QueryDone{Query: q.ID, First: "f", Last: fmt.Sprint("l", rooms[q.By]), Complete: q.Last})
		open = append(open, r.asked[n:]...)
	}
	for j, n := range rooms {
		if n != 1 || r.view(j).CatchingUp {
			t.Errorf("%v was asked %d times", j, n)
		}
	}
	r.away(NG)
	q := Query{}
	r.do(Room{JID: hall, Nick: "al", Joined: true, RoomFacts: facts})
	r.do(QueryDone{Query: r.asked[len(r.asked)-1].ID, Last: "l0", First: "f", Complete: true})
	r.away(NG)
	n := len(r.asked)
	q = r.enter(false, facts)
	for i := 1; r.view(hall).CatchingUp && i < 1000; i++ {
		r.do(QueryDone{Query: q.ID, First: "f", Last: fmt.Sprint("l", i)})
		q = r.asked[len(r.asked)-1]
	}
	if got := len(r.asked) - n; got != maxRoomPages {
		t.Errorf("%d pages", got)
	}
}

// TestRoomWithoutArchive: where nobody can be asked, it is seen that something may be missing; what the room repeats for who enters is known again.
func TestRoomWithoutArchive(t *testing.T) {
	r := newRun(t, NG)
	r.enter(false, RoomFacts{})
	r.in(said("bo", "one", "", ""))
	r.away(NG)
	if q := r.enter(false, RoomFacts{}); q.By == hall {
		t.Errorf("asked %+v", q)
	}
	r.in(said("bo", "one", "", "<delay xmlns='urn:xmpp:delay' stamp='2026-11-21T08:00:00Z'/>"))
	r.in(said("bo", "two", "", ""))
	r.want(hall, "one two")
	if v := r.view(hall); !v.Entries[1].Gap || v.More || v.CatchingUp {
		t.Errorf("%+v", v)
	}
	// It has one from now on.
	q := r.enter(false, facts)
	if q.By != hall || !q.Last {
		t.Fatalf("asked %+v", q)
	}
	r.in(kept(q.ID, "s2", said("bo", "two", "", "")))
	r.do(QueryDone{Query: q.ID, First: "s2", Last: "s2", Complete: true})
	r.want(hall, "one two")
}

// TestTopic: the subject of a room is what it is about, and no message (XEP-0045 8.1); that of somebody's message is.
func TestTopic(t *testing.T) {
	r := newRun(t, NG)
	hall := jid.MustParse("hall@rooms.example")
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	r.in("<message from='hall@rooms.example' to='alice@wonder.example/phone' type='groupchat'><subject/></message>")
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>hello</body></message>")
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><subject>Tea</subject></message>")
	r.want(hall, "hello")
	if v := r.view(hall); v.Topic != "Tea" || v.Entries[0].Subject != "" {
		t.Errorf("topic %q", v.Topic)
	}
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><subject>More</subject><body>both</body></message>")
	if v := r.view(hall); v.Topic != "Tea" || v.Entries[1].Subject != "More" {
		t.Errorf("topic %q, %+v", v.Topic, v.Entries[1])
	}
}

// TestPageBeforeWaiting: what waits to be sent has no place in an archive; before it is the end.
func TestPageBeforeWaiting(t *testing.T) {
	for _, p := range []Profile{Classic, NG} {
		r := newRun(t, p)
		r.in(fromBob("one", "a1", ""))
		r.do(SendText{Conversation: bob, Body: "two"})
		v := r.view(bob)
		r.do(Page{Conversation: bob, Before: v.Entries[len(v.Entries)-1].ID})
		r.do(Disconnected{}, Page{Conversation: bob, Before: v.Entries[len(v.Entries)-1].ID})
		r.want(bob, "one two")
	}
}

// TestRoomLate: what was written to before it was known to be a room becomes one.
func TestRoomLate(t *testing.T) {
	r := newRun(t, NG)
	hall := jid.MustParse("hall@rooms.example")
	r.do(SendText{Conversation: hall, Body: "too early"})
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	r.do(SendText{Conversation: hall, Body: "to all"})
	if v := r.view(hall); !v.Room || r.sent[len(r.sent)-1].Type != "groupchat" {
		t.Errorf("%+v, sent %s", v.Summary, r.sent[len(r.sent)-1].Type)
	}
	if v := start(t, Config{}, r.store).view(hall); !v.Room {
		t.Error("it is none after a restart")
	}
}
