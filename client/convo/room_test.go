package convo

import (
	"testing"

	"carillon.im/jid"
)

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
