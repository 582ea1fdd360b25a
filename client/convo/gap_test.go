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
