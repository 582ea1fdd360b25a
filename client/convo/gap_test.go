package convo

import "testing"

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
