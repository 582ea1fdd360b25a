package interop

import (
	"slices"
	"testing"
)

// blocking: XEP-0191, between two who are subscribed to each other.
func blocking(t *testing.T, s *server, l library) {
	alice, bob, mallory := s.account(t, "alice"), s.account(t, "bob"), s.account(t, "mallory")
	a1, a2 := online(t, s, l, alice, "one"), online(t, s, l, alice, "two")
	b, m := online(t, s, l, bob, "one"), online(t, s, l, mallory, "one")
	befriend(a1, m)
	a1.do("blocked", nil) // XEP-0191 3.3: who asked for the list gets the pushes
	a2.do("blocked", nil)
	m.await("alice's second device", presence(a2.jid, ""))

	a1.do("block", args{"jid": mallory.bare})
	isPush := func(kind string) func(*event) bool {
		return func(e *event) bool { return e.Kind == kind && slices.Equal(e.JIDs, []string{mallory.bare}) }
	}
	a2.await("push of the block", isPush("block"))
	m.await("alice as unavailable", presence(a1.jid, "unavailable"))
	var list []string
	if err := a2.call("blocked", nil, &list); err != nil || !slices.Equal(list, []string{mallory.bare}) {
		t.Errorf("block list is %q (%v), want %q", list, err, mallory.bare)
	}

	// Nothing comes in, and mallory is told what somebody who is not there would tell.
	id := m.send(alice.bare, "let me in")
	if e := m.await("error", bounce(id)); e.Condition != "service-unavailable" {
		t.Errorf("a message to who blocked: %q, want service-unavailable", e.Condition)
	}
	// Nothing goes out either.
	id = a1.send(mallory.bare, "get out")
	if e := a1.await("error", bounce(id)); e.Condition != "not-acceptable" {
		t.Errorf("a message to the blocked: %q, want not-acceptable", e.Condition)
	}
	a1.do("presence", args{"status": "hidden"})
	// Others are as before.
	b.send(alice.bare, "I am not blocked")
	a1.await("message", message("I am not blocked"))
	a1.none("a message from the blocked", message("let me in"))
	a2.none("a message from the blocked", message("let me in"))
	m.none("presence of who blocked", func(e *event) bool { return e.Kind == "presence" && e.Status == "hidden" })
	m.none("a message of who blocked", message("get out"))

	a1.do("unblock", args{"jid": mallory.bare})
	a2.await("push of the unblock", isPush("unblock"))
	m.await("alice again", func(e *event) bool { return presence(a1.jid, "")(e) && e.Status == "hidden" })
	m.send(alice.bare, "and now?")
	a1.await("message", message("and now?"))
}
