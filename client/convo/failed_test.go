package convo

import (
	"slices"
	"testing"

	"carillon.im/stanza"
)

// TestFailedCorrection: a correction that was lost isn't shown, for nobody else has
// it; and the entry that it was of is said to have changed. Found by sim, seed
// 205761.
func TestFailedCorrection(t *testing.T) {
	r := newRun(t, NG)
	r.do(SendText{Conversation: bob, Body: "teh"})
	own := *r.out()
	own.From = phone
	r.in(string(own.AppendTo(nil, stanzaID("a1"))))
	en := r.last(bob)
	r.do(Correct{Conversation: bob, Entry: en.ID, Body: "the"})
	if en := r.last(bob); en.Body != "the" || !en.Edited {
		t.Fatalf("not shown while it is on its way: %+v", en)
	}
	id := r.out().ID
	effects := r.do(Received{stanza.Build(stanza.Message, stanza.TypeError, id, bob, phone, "<error type='cancel'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")})
	if en := r.last(bob); en.Body != "teh" || en.Edited {
		t.Errorf("shown though it failed: %+v", en)
	}
	told := false
	for _, f := range effects {
		if c, ok := f.(Changed); ok {
			told = told || slices.Contains(c.Entries, en.ID)
		}
	}
	if !told {
		t.Errorf("the view isn't told: %+v", effects)
	}
}
