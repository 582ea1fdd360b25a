package convo

import (
	"testing"

	"carillon.im/stanza"
)

// TestCursorWaitsForOwn: without IM-NG own messages don't come back with their
// place. A live message mustn't carry the cursor past one that isn't
// acknowledged: the next catch-up would not tell that the server has it, and it
// would be said twice. Found by sim, seed 9.
func TestCursorWaitsForOwn(t *testing.T) {
	r := newRun(t, Carbons)
	r.in(fromBob("one", "a1", ""))
	r.do(SendText{Conversation: bob, Body: "mine"})
	st := r.out()
	r.in(fromBob("two", "a3", "")) // behind a2, which is mine
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	q := r.asked[len(r.asked)-1]
	if q.After != "a1" {
		t.Fatalf("the catch-up begins behind %q", q.After)
	}
	sent := len(r.sent)
	own := *st
	own.From = phone
	r.in(result(q.ID, "a2", string(own.AppendTo(nil))))
	r.in(result(q.ID, "a3", fromBob("two", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a2", Last: "a3", Complete: true})
	r.want(bob, "one mine two")
	for _, again := range r.sent[sent:] {
		if again.Kind == stanza.Message && again.ID == st.ID {
			t.Error("said twice")
		}
	}
	if r.e.Cursor() != "a3" {
		t.Errorf("the cursor is at %q", r.e.Cursor())
	}
}
