package convo

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestGapBeforeCatchup: a mark of what is missing stands before all that a catch-up from behind it brings, also where a live message came first and took
// it over. Found by sim, seeds 540579, 542643 and 558162.
func TestGapBeforeCatchup(t *testing.T) {
	r := newRun(t, NG)
	asked := func() Query { return r.asked[len(r.asked)-1] }
	r.in(fromBob("one", "a1", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	r.in("<message from='carol@wonder.example/x' to='alice@wonder.example' type='chat' id='c'><body>hi</body>" + stanzaID("a5") + "</message>")
	r.do(QueryDone{Query: asked().ID, First: "a1", Last: "a1"}) // the archive gives no more, and has more
	if !r.view(bob).GapAtEnd {
		t.Fatal("what may be missing isn't marked")
	}
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	q := asked()
	if q.After != "a5" {
		t.Fatalf("%+v", q)
	}
	r.in(fromBob("nine", "a9", ""))
	r.in(result(q.ID, "a7", fromBob("seven", "", "")))
	r.in(result(q.ID, "a9", fromBob("nine", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a7", Last: "a9", Complete: true})
	r.want(bob, "one seven nine")
	v := r.view(bob)
	for i, gap := range []bool{false, true, false} {
		if v.Entries[i].Gap != gap {
			t.Errorf("a gap before %s: %v", v.Entries[i].Body, !gap)
		}
	}
	r.do(Page{Conversation: bob, Before: v.Entries[1].ID})
	if q = asked(); q.Before != "a7" || q.With != bob {
		t.Fatalf("%+v", q)
	}
	r.in(result(q.ID, "a1", fromBob("one", "", "")))
	r.in(result(q.ID, "a3", fromBob("three", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a3"})
	r.want(bob, "one three seven nine")
	if v := r.view(bob); v.GapAtEnd || v.Entries[1].Gap || v.Entries[2].Gap {
		t.Errorf("%+v", v.Entries)
	}
}

// TestPageBeforeOwn: an own message that has no place in the archive, as far as is known, comes with the page that goes back from it. What is missing before
// it is still missing then, and what the page has behind it is behind it.
func TestPageBeforeOwn(t *testing.T) {
	for _, behind := range []string{"", "five"} {
		r := newRun(t, NG)
		asked := func() Query { return r.asked[len(r.asked)-1] }
		r.in(fromBob("one", "a1", ""))
		r.do(SendText{Conversation: bob, Body: "mine"})
		own := *r.out()
		own.From = phone
		r.do(Acked{own.ID})
		r.do(Disconnected{}) // before it comes back
		r.do(Connected{JID: phone, Profile: NG, Facts: all})
		r.in("<message from='carol@wonder.example/x' to='alice@wonder.example' type='chat' id='c'><body>hi</body>" + stanzaID("a9") + "</message>")
		r.do(QueryDone{Query: asked().ID, First: "a1", Last: "a1"}) // the archive gives no more, and has more
		r.do(Disconnected{})
		r.do(Connected{JID: phone, Profile: NG, Facts: all})
		r.do(QueryDone{Query: asked().ID, Complete: true})
		r.want(bob, "one mine")
		mine := r.last(bob)
		if !mine.Gap {
			t.Fatal("what may be missing isn't marked")
		}
		r.do(Page{Conversation: bob, Before: mine.ID})
		q, last, shown := asked(), "a4", "mine"
		r.in(result(q.ID, "a4", string(own.AppendTo(nil))))
		if behind != "" {
			r.in(result(q.ID, "a5", fromBob(behind, "", "")))
			last, shown = "a5", "mine five"
		}
		r.do(QueryDone{Query: q.ID, First: "a4", Last: last})
		r.want(bob, "one "+shown)
		if v := r.view(bob); !v.Entries[1].Gap || v.GapAtEnd || r.last(bob).Gap != (behind == "") || v.Entries[1].Delivery != Archived {
			t.Fatalf("%+v", v)
		}
		r.do(Page{Conversation: bob, Before: mine.ID})
		if q = asked(); q.Before != "a4" {
			t.Fatalf("%+v", q)
		}
		r.in(result(q.ID, "a1", fromBob("one", "", "")))
		r.in(result(q.ID, "a2", fromBob("two", "", "")))
		r.do(QueryDone{Query: q.ID, First: "a1", Last: "a2"})
		r.want(bob, "one two "+shown)
		if v := r.view(bob); v.Entries[2].Gap || v.GapAtEnd {
			t.Errorf("%+v", v)
		}
	}
}

// TestBehindOverStarts: that a catch-up is unfinished is known over any number of starts, also where something was written between two: it goes on where it was,
// and nothing seems to be missing.
func TestBehindOverStarts(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	r.in(fromBob("four", "a4", "")) // and the program ends
	r = start(t, Config{}, r.store)
	r.do(Attention{Conversation: bob, Act: Seen}, SendText{Conversation: bob, Body: "mine"})
	r = start(t, Config{}, r.store)
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	q := r.asked[len(r.asked)-1]
	if q.After != "a1" {
		t.Fatalf("%+v", q)
	}
	r.in(result(q.ID, "a2", fromBob("two", "", "")))
	r.want(bob, "one two four mine")
	r.in(result(q.ID, "a4", fromBob("four", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a2", Last: "a4", Complete: true})
	r.want(bob, "one two four mine")
	for _, en := range r.view(bob).Entries {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
}

// TestSentOverStart: an own message that the server has acknowledged, and that no catch-up brings, gets its place also if the program was started anew meanwhile;
// it doesn't stay behind all that comes.
func TestSentOverStart(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", ""))
	r.do(SendText{Conversation: bob, Body: "mine"})
	r.do(Acked{r.out().ID})
	r = start(t, Config{}, r.store)
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	r.do(QueryDone{Query: r.asked[len(r.asked)-1].ID, Complete: true})
	r.in(fromBob("two", "a5", ""))
	r.want(bob, "one mine two")
}

// TestGapBetweenSessions: a catch-up that goes on over sessions and then gives up leaves a mark wherever one of them ended; one that comes to its end leaves none.
func TestGapBetweenSessions(t *testing.T) {
	for _, whole := range []bool{false, true} {
		r := newRun(t, NG)
		r.in(fromBob("one", "a1", ""))
		for _, body := range []string{"three", "five"} { // a2 and a4 came meanwhile
			r = start(t, Config{}, r.store)
			r.do(Connected{JID: phone, Profile: NG, Facts: all})
			r.in(fromBob(body, map[string]string{"three": "a3", "five": "a5"}[body], ""))
		}
		q := r.asked[len(r.asked)-1]
		if q.After != "a1" {
			t.Fatalf("%+v", q)
		}
		if whole { // as it was before a5
			r.in(result(q.ID, "a3", fromBob("three", "", "")))
			r.do(QueryDone{Query: q.ID, First: "a3", Last: "a3", Complete: true})
		} else {
			r.do(QueryDone{Query: q.ID, First: "a1", Last: "a1"})
		}
		r.want(bob, "one three five")
		if v := r.view(bob); v.Entries[2].Gap == whole || !whole && !v.Entries[1].Gap {
			t.Errorf("whole %v: %+v", whole, v.Entries)
		}
	}
}

// TestCatchupOverStarts: what a catch-up has brought that didn't come to its end is known when the next one brings it again, over any number of starts, however
// little of the history is in memory. Found by the model.
func TestCatchupOverStarts(t *testing.T) {
	for _, profile := range []Profile{NG, V2} {
		r := newRun(t, profile)
		r.in(fromBob("one", "a1", ""))
		r.do(Disconnected{})
		session := func() string {
			r.do(Connected{JID: phone, Profile: profile, Facts: all, Catchup: profile == V2})
			if r.e.Cursor() != "a1" {
				t.Fatalf("the cursor is at %q", r.e.Cursor())
			}
			if profile == V2 {
				return "session"
			}
			return r.asked[len(r.asked)-1].ID
		}
		q := session()
		r.in(result(q, "a2", fromBob("two", "", "")))
		r.in(result(q, "a3", fromBob("three", "", "")))
		r.in(fromBob("four", "a4", ""))
		r.restart(1)
		session()
		r.in(fromBob("five", "a5", ""))
		r.restart(1)
		q = session()
		for i, body := range []string{"two", "three", "four", "five"} {
			r.in(result(q, fmt.Sprintf("a%d", i+2), fromBob(body, "", "")))
		}
		if profile == V2 {
			r.in("<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='a2' last='a5' count='4'/></message>")
		} else {
			r.do(QueryDone{Query: q, First: "a2", Last: "a5", Complete: true})
		}
		r.want(bob, "one two three four five")
		for _, en := range r.view(bob).Entries {
			if en.Gap && profile == NG { // what was streamed in part has marks, which a page takes off
				t.Errorf("a gap before %s", en.Body)
			}
		}
	}
}

// TestPageMeetsStored: a page that goes back over a gap knows again what is in the store behind own messages that have no place in the archive, as far as is known.
// Found by the model.
func TestPageMeetsStored(t *testing.T) {
	r := newRun(t, V2)
	r.in(fromBob("one", "a1", ""))
	for _, body := range []string{"mine", "more"} {
		r.do(SendText{Conversation: bob, Body: body})
		r.do(Acked{r.out().ID})
	}
	for _, first := range []string{"a1", "a4"} { // the second leaves something out
		r.restart(1)
		r.do(Connected{JID: phone, Profile: V2, Facts: all, Catchup: true})
		if first == "a4" {
			r.in(result("session", "a4", fromBob("four", "", "")))
		}
		r.in(fmt.Sprintf("<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='%t' first='%s' last='%s' count='1'/></message>", first == "a1", first, first))
	}
	r.want(bob, "more four")
	four := r.last(bob)
	if !four.Gap {
		t.Fatal("what was left out isn't marked")
	}
	page := func(before EntryID) {
		r.do(Page{Conversation: bob, Before: before})
		for ; len(r.load) > 0; r.load = r.load[1:] {
			l := r.load[0]
			entries, more, _ := r.store.History(l.Conversation, l.Before, l.Max)
			r.do(HistoryLoaded{l.Conversation, entries, more})
		}
	}
	page(four.ID)
	q := r.asked[len(r.asked)-1]
	r.in(result(q.ID, "a1", fromBob("one", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a1", Complete: true})
	for range 3 {
		page(0) // all that the store has
	}
	if got := r.bodies(bob); strings.Count(got, "one") != 1 {
		t.Fatalf("shown %q", got)
	}
}

// TestOwnMeetsNothing: an own message that had no place in the archive, as far as was known, doesn't close the gap when a page brings it: what is missing before it
// in the archive isn't where it stood.
func TestOwnMeetsNothing(t *testing.T) {
	r := newRun(t, V2)
	r.in(fromBob("one", "a1", ""))
	r.do(SendText{Conversation: bob, Body: "mine"})
	own := *r.out()
	own.From = phone
	r.do(Acked{own.ID})
	r.do(Disconnected{})
	r.connect(V2) // the archive doesn't tell it, and is slow
	r.want(bob, "one mine")
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: V2, Facts: all, Catchup: true})
	r.in(result("session", "a6", fromBob("six", "", "")))
	r.in("<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='false' first='a6' last='a6' count='1'/></message>")
	r.do(Page{Conversation: bob, Before: r.last(bob).ID})
	q := r.asked[len(r.asked)-1]
	r.in(result(q.ID, "a4", fromBob("four", "", "")))
	r.in(result(q.ID, "a5", string(own.AppendTo(nil))))
	r.do(QueryDone{Query: q.ID, First: "a4", Last: "a5"})
	r.want(bob, "one four mine six")
	if v := r.view(bob); !v.Entries[1].Gap || v.Entries[2].Gap || v.Entries[3].Gap {
		t.Errorf("%+v", v.Entries)
	}
}

// TestPageEndsWithLive: a page of the end that the archive made later, and that begins behind the first of what came live meanwhile, leaves that where it is; also
// where all that is known has no place in the archive. Found by the model.
func TestPageEndsWithLive(t *testing.T) {
	r := newRun(t, V2)
	r.do(SendText{Conversation: bob, Body: "mine"})
	r.do(Acked{r.out().ID})
	r.restart(1)
	r.connect(V2)
	r.want(bob, "mine")
	r.do(Page{Conversation: bob})
	q := r.asked[len(r.asked)-1]
	if q.Before != "" || !q.Last {
		t.Fatalf("%+v", q)
	}
	for i, body := range []string{"five", "six", "seven"} {
		r.in(fromBob(body, fmt.Sprintf("a%d", i+5), ""))
	}
	r.in(result(q.ID, "a6", fromBob("six", "", ""))) // and seven came behind it
	r.do(QueryDone{Query: q.ID, First: "a6", Last: "a6"})
	r.want(bob, "mine five six seven")
}

// TestPageBeforeUnplaced: a mark before the last message, which has no place in the archive, goes when the newest page meets what is before it.
func TestPageBeforeUnplaced(t *testing.T) {
	r := newRun(t, V2)
	r.in(fromBob("one", "a1", ""))
	r.do(SendText{Conversation: bob, Body: "mine"})
	r.do(Acked{r.out().ID})
	for _, complete := range []bool{false, true} { // first it isn't told whether there was something before
		r.do(Disconnected{})
		r.do(Connected{JID: phone, Profile: V2, Facts: all, Catchup: true})
		r.in(fmt.Sprintf("<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='%t' first='' last='' count='0'/></message>", complete))
	}
	mine := r.last(bob)
	if r.want(bob, "one mine"); !mine.Gap {
		t.Fatal("what may be missing isn't marked")
	}
	r.do(Page{Conversation: bob, Before: mine.ID})
	q := r.asked[len(r.asked)-1]
	r.in(result(q.ID, "a1", fromBob("one", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a1"})
	if r.want(bob, "one mine"); r.last(bob).Gap {
		t.Error("the mark is still there")
	}
}

// TestMeetsBound: history from a time without an archive isn't loaded as a whole before a gap is closed.
func TestMeetsBound(t *testing.T) {
	c := &conversation{}
	for n := range maxWaiting + 1 {
		if c.meets(nil, 1) {
			t.Fatalf("enough with %d entries, none of them archived", n)
		}
		c.items = append(c.items, &item{Entry: Entry{Pos: int64(n + 1)}})
	}
	if !c.meets(nil, 1) {
		t.Error("goes on for ever")
	}
	if c.items[2].Archive.ID = "a"; !c.meets(c.items[3], 1) || c.meets(c.items[3], 2) {
		t.Error("what is archived is counted")
	}
}

// TestKeptMessages: what a server has kept for want of a device says nothing of what came before it and behind it. Where the newest page, asked for late, begins
// behind it, what is between the two can be paged into; what the archive has then is in its order. Found by sim, seed 220961.
func TestKeptMessages(t *testing.T) {
	r := newRun(t, Carbons)
	asked := func() Query { return r.asked[len(r.asked)-1] }
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	r.do(QueryDone{Query: asked().ID, Failed: true})
	r.in(delayed("wonder.example", fromBob("four", "a4", "")))
	r.in(fromBob("seven", "a7", ""))
	r.wait(time.Minute)
	r.do(Tick{})
	q := asked()
	r.in(result(q.ID, "a7", fromBob("seven", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a7", Last: "a7"})
	r.want(bob, "four seven")
	v := r.view(bob)
	if !v.More {
		t.Fatal("nothing says that there is more")
	}
	r.do(Page{Conversation: bob, Before: v.Entries[0].ID})
	if q = asked(); q.Before != "a7" || q.With != bob {
		t.Fatalf("%+v", q)
	}
	for i, body := range []string{"three", "four", "five"} {
		r.in(result(q.ID, fmt.Sprint("a", 3+i), fromBob(body, "", "")))
	}
	r.do(QueryDone{Query: q.ID, First: "a3", Last: "a5", Complete: true})
	r.want(bob, "three four five seven")
	if v := r.view(bob); v.More || v.Entries[1].Gap || v.Entries[2].Gap || v.Entries[3].Gap {
		t.Errorf("%+v", v)
	}
	// The cursor doesn't go back to what was kept; somebody else's word that a message is old changes nothing.
	for _, c := range [][2]string{{"wonder.example", "a7"}, {"elsewhere.example", "b-elsewhere.example"}} {
		r.in(delayed(c[0], fromBob("at "+c[0], "b-"+c[0], "")))
		if got := r.e.Cursor(); got != c[1] {
			t.Errorf("the cursor is %q behind what %s says", got, c[0])
		}
	}
}

// TestKeptOverRestart: what was kept is known again after a restart by its place in the archive, whatever other ids it has: shown once, taken back, and read where
// another device has read it.
func TestKeptOverRestart(t *testing.T) {
	anonymous := strings.Replace(fromBob("four", "", ""), " id='m-four'", "", 1)
	for name, told := range map[string]string{
		"without an id": anonymous,
		"taken back":    strings.Replace(anonymous, "<body>four</body>", "<retracted xmlns='urn:xmpp:message-retract:1' stamp='2026-01-02T00:00:00Z'/>", 1),
	} {
		r := newRun(t, Carbons)
		r.do(Disconnected{})
		r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
		r.in(delayed("wonder.example", strings.Replace(anonymous, "</message>", stanzaID("a4")+"</message>", 1)))
		r.restart(100)
		r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
		r.in("<message from='alice@wonder.example' to='alice@wonder.example/phone' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:mds:displayed:0'>" +
			"<item id='bob@wonder.example'><displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' id='a4' by='alice@wonder.example'/></displayed></item></items></event></message>")
		if n := r.view(bob).Unread; n != 0 {
			t.Errorf("%s: %d unread", name, n)
		}
		q := r.asked[len(r.asked)-1]
		r.in(result(q.ID, "a3", fromBob("three", "", "")))
		r.in(result(q.ID, "a4", told))
		r.in(result(q.ID, "a5", fromBob("five", "", "")))
		r.do(QueryDone{Query: q.ID, First: "a3", Last: "a5", Complete: true})
		want := "three four five"
		if name == "taken back" {
			want = "three  five"
		}
		r.want(bob, want)
		r.restart(100)
		r.want(bob, want)
		if en := r.view(bob).Entries[1]; en.Archive.ID != "a4" || en.Retracted != (name == "taken back") {
			t.Errorf("%s: %+v", name, en)
		}
		holds(t, r.e)
	}
}

// TestKeptAndPaged: more than a page was kept. While older pages come, what they have stands behind what they haven't, before what they went back from.
func TestKeptAndPaged(t *testing.T) {
	for _, gap := range []bool{false, true} {
		r := start(t, Config{Limits: Limits{Page: 2}}, NewMemory())
		first := ""
		if gap { // behind something that is known
			first = "zero "
			r.connect(Carbons)
			r.in(fromBob("zero", "a0", ""))
		}
		r.do(Disconnected{})
		r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
		asked := func() Query { return r.asked[len(r.asked)-1] }
		page := func(ids ...int) {
			t.Helper()
			q := asked()
			for _, id := range ids {
				r.in(result(q.ID, fmt.Sprint("a", id), fromBob(fmt.Sprint(id), "", "")))
			}
			r.do(QueryDone{Query: q.ID, First: fmt.Sprint("a", ids[0]), Last: fmt.Sprint("a", ids[len(ids)-1]), Complete: ids[0] == 0})
		}
		if gap {
			r.do(QueryDone{Query: asked().ID, Failed: true, Unknown: true}) // the archive was begun anew
		}
		for i := 1; i <= 6; i++ {
			r.in(delayed("wonder.example", fromBob(fmt.Sprint(i), fmt.Sprint("a", i), "")))
		}
		page(5, 6)
		for _, next := range [][]int{{3, 4}, {1, 2}} {
			r.want(bob, first+"1 2 3 4 5 6")
			before := EntryID(0)
			for _, en := range r.view(bob).Entries {
				if en.Gap {
					before = en.ID
				}
			}
			r.do(Page{Conversation: bob, Before: before})
			page(next...)
		}
		r.want(bob, first+"1 2 3 4 5 6")
		for _, it := range r.e.convs[bob].items {
			if it.Astray {
				t.Errorf("%s is astray", it.Body)
			}
		}
		if v := r.view(bob); gap != v.Entries[min(1, len(v.Entries))].Gap {
			t.Errorf("%+v", v.Entries)
		}
	}
}

// TestKeptAndExpired: what was kept and isn't in the archive any more stays where it came, and nothing is asked for again and again.
func TestKeptAndExpired(t *testing.T) {
	r := newRun(t, Carbons)
	r.in(fromBob("zero", "a0", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	asked := func() Query { return r.asked[len(r.asked)-1] }
	r.do(QueryDone{Query: asked().ID, Failed: true, Unknown: true})
	r.in(delayed("wonder.example", fromBob("one", "a1", "")))
	r.in(result(asked().ID, "a6", fromBob("six", "", "")))
	r.do(QueryDone{Query: asked().ID, First: "a6", Last: "a6"})
	r.want(bob, "zero one six") // it is older than the newest page
	for n := 0; ; n++ {
		v := r.view(bob)
		gap := EntryID(0)
		for _, en := range v.Entries {
			if en.Gap {
				gap = en.ID
			}
		}
		if gap == 0 && !v.GapAtEnd {
			break
		}
		if n == 3 {
			t.Fatalf("%+v", v.Entries)
		}
		r.do(Page{Conversation: bob, Before: gap})
		r.in(result(asked().ID, "a5", fromBob("five", "", "")))
		r.do(QueryDone{Query: asked().ID, First: "a5", Last: "a5", Complete: true})
	}
	r.want(bob, "zero one five six")
}

// TestKeptBehindLive: what was kept and comes behind live messages stands before them when the newest page says so, though they are newer than that page.
func TestKeptBehindLive(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	q := r.asked[len(r.asked)-1]
	for i := 4; i <= 6; i++ { // the page was made behind the fourth
		r.in(fromBob(fmt.Sprint(i), fmt.Sprint("a", i), ""))
	}
	r.in(delayed("wonder.example", fromBob("2", "a2", "")))
	for i := 1; i <= 4; i++ {
		r.in(result(q.ID, fmt.Sprint("a", i), fromBob(fmt.Sprint(i), "", "")))
	}
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a4"})
	r.want(bob, "1 2 3 4 5 6")
}

// TestKeptAtEnd: a gap before what was kept is closed when the newest page of the archive is known to stand before it.
func TestKeptAtEnd(t *testing.T) {
	r := start(t, Config{Limits: Limits{Page: 1}}, NewMemory())
	r.connect(Carbons)
	r.in(fromBob("1", "a1", ""))
	r.in(fromBob("3", "a3", ""))
	c := r.e.convs[bob]
	r.in(delayed("wonder.example", fromBob("2", "a2", "")))
	c.last().Gap, c.items[1].Gap = true, true // as a catch-up leaves it that stopped twice
	for n, next := range []string{"3", "2", "1"} {
		gap := EntryID(0)
		for _, en := range r.view(bob).Entries {
			if en.Gap {
				gap = en.ID
			}
		}
		if gap == 0 && n < 2 {
			t.Fatalf("no gap before page %d: %s", n, r.bodies(bob))
		}
		r.do(Page{Conversation: bob, Before: gap})
		q := r.asked[len(r.asked)-1]
		r.in(result(q.ID, "a"+next, fromBob(next, "", "")))
		r.do(QueryDone{Query: q.ID, First: "a" + next, Last: "a" + next})
	}
	r.want(bob, "1 2 3")
	for _, en := range r.view(bob).Entries {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
}
