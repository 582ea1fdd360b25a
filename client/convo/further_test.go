package convo

import (
	"fmt"
	"testing"
)

// TestPageOfReceipts: a page back of which nothing is shown is no end; the one
// before it is asked for, at most so many times in a row. Found by sim, seed 839.
func TestPageOfReceipts(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("new", "a9", ""))
	receipt := "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='x'><received xmlns='urn:xmpp:receipts' id='y'/></message>"
	r.do(Page{Conversation: bob})
	q := r.asked[len(r.asked)-1]
	r.in(result(q.ID, "a8", receipt))
	r.do(QueryDone{Query: q.ID, First: "a8", Last: "a8"})
	next := r.asked[len(r.asked)-1]
	if next.ID == q.ID || next.Before != "a8" || next.With != bob {
		t.Fatalf("asked %+v", next)
	}
	r.in(result(next.ID, "a7", fromBob("old", "", "")))
	r.do(QueryDone{Query: next.ID, First: "a7", Last: "a7", Complete: true})
	r.want(bob, "old new")
	if v := r.view(bob); v.More || v.Paging {
		t.Errorf("%+v", v)
	}

	r = newRun(t, NG)
	r.in(fromBob("new", "a9", ""))
	r.do(Page{Conversation: bob})
	before := len(r.asked)
	for n := range 10 * maxEmpty {
		q := r.asked[len(r.asked)-1]
		id := fmt.Sprintf("b%d", n)
		r.in(result(q.ID, id, receipt))
		r.do(QueryDone{Query: q.ID, First: id, Last: id})
	}
	if n := len(r.asked) - before; n != maxEmpty-1 {
		t.Errorf("%d pages more", n)
	}
}
