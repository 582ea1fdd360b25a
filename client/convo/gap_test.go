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
