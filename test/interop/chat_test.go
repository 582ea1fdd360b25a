package interop

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serial makes message ids that no other test uses.
var serial atomic.Int64

func newID() string { return fmt.Sprintf("m%d", serial.Add(1)) }

// send sends a chat message and returns its id.
func (c *client) send(to, body string) string {
	c.t.Helper()
	id := newID()
	c.do("message", args{"to": to, "body": body, "id": id})
	return id
}

// online logs in and becomes available.
func online(t *testing.T, s *server, l library, a account, resource string) *client {
	t.Helper()
	return available(l.login(t, s, a, resource))
}

// available does what a client does after login: it asks for the roster, which makes it interested in pushes
// (RFC 6121 2.1.6), and sends presence, which comes back to it (RFC 6121 4.2.2).
func available(c *client) *client {
	c.t.Helper()
	c.do("roster", nil)
	c.do("presence", nil)
	c.await("own presence", presence(c.jid, ""))
	return c
}

// befriend subscribes two available clients to each other (RFC 6121 3.1) and returns when both see the other's
// presence.
func befriend(a, b *client) {
	a.t.Helper()
	a.do("presence", args{"to": b.acct.bare, "type": "subscribe"})
	a.await("push of the request", pushed(b.acct.bare, "none", "subscribe"))
	b.await("request", presence(a.acct.bare, "subscribe"))
	b.do("presence", args{"to": a.acct.bare, "type": "subscribed"})
	b.await("push of the grant", pushed(a.acct.bare, "from", ""))
	a.await("push of the answer", pushed(b.acct.bare, "to", ""))
	a.await("presence of the other", presence(b.jid, ""))
	b.do("presence", args{"to": a.acct.bare, "type": "subscribe"})
	a.await("request back", presence(b.acct.bare, "subscribe"))
	a.do("presence", args{"to": b.acct.bare, "type": "subscribed"})
	a.await("push of both", pushed(b.acct.bare, "both", ""))
	b.await("push of both", pushed(a.acct.bare, "both", ""))
	b.await("presence of the other", presence(a.jid, ""))
}

type item struct{ JID, Subscription, Ask string }

func (c *client) roster() map[string]item {
	c.t.Helper()
	var items []item
	if err := c.call("roster", nil, &items); err != nil {
		c.t.Fatalf("%s: roster: %v", c.name, err)
	}
	byJID := map[string]item{}
	for _, i := range items {
		byJID[i.JID] = i
	}
	return byJID
}

func subscription(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := online(t, s, l, alice, "one"), online(t, s, l, bob, "one")
	befriend(a, b)
	if got := a.roster()[bob.bare].Subscription; got != "both" {
		t.Errorf("alice's roster says %q of bob, want both", got)
	}
	if got := b.roster()[alice.bare].Subscription; got != "both" {
		t.Errorf("bob's roster says %q of alice, want both", got)
	}
	// And out again (RFC 6121 3.2, 3.3).
	a.do("presence", args{"to": bob.bare, "type": "unsubscribed"})
	a.await("push of the cancellation", pushed(bob.bare, "to", ""))
	b.await("push of the cancellation", pushed(alice.bare, "from", ""))
	b.await("alice as unavailable", presence(a.jid, "unavailable"))

	// A request to somebody who is offline waits for him (RFC 6121 3.1.3).
	carol := s.account(t, "carol")
	a.do("presence", args{"to": carol.bare, "type": "subscribe"})
	a.await("push of the request", pushed(carol.bare, "none", "subscribe"))
	c := online(t, s, l, carol, "one")
	c.await("request from before", presence(alice.bare, "subscribe"))
}

func presenceBothWays(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := online(t, s, l, alice, "one"), online(t, s, l, bob, "one")
	befriend(a, b)
	status := func(from, text string) func(*event) bool {
		return func(e *event) bool { return presence(from, "")(e) && e.Status == text }
	}
	a.do("presence", args{"status": "In the orchard"})
	b.await("alice's status", status(a.jid, "In the orchard"))
	b.do("presence", args{"status": "In a mask", "priority": 5})
	a.await("bob's status", status(b.jid, "In a mask"))

	// A second device learns what is there, and is announced (RFC 6121 4.2, 4.3).
	a2 := online(t, s, l, alice, "two")
	a2.await("bob's status", status(b.jid, "In a mask"))
	a2.await("the other device", status(a.jid, "In the orchard"))
	b.await("alice's second device", presence(a2.jid, ""))

	// Going away in order, and by a cut connection.
	a2.do("presence", args{"type": "unavailable"})
	b.await("second device gone", presence(a2.jid, "unavailable"))
	a.do("disconnect", nil)
	b.await("first device gone", presence(a.jid, "unavailable"))
}

// twoDevices: chats both ways, two devices on each side. What one device sends, its sibling sees as a sent carbon; what
// comes to the bare address reaches both; what comes to one device, its sibling sees as a received carbon (XEP-0280).
func twoDevices(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a1, a2 := online(t, s, l, alice, "one"), online(t, s, l, alice, "two")
	b1, b2 := online(t, s, l, bob, "one"), online(t, s, l, bob, "two")
	for _, c := range []*client{a1, a2, b1, b2} {
		c.do("carbons", nil)
	}

	a1.send(bob.bare, "to both")
	archived := b1.await("message", message("to both")).Archive
	if archived == "" {
		t.Error("the message bears no stanza-id (XEP-0359)")
	}
	if got := b2.await("message", message("to both")).Archive; got != archived {
		t.Errorf("two devices got one message with the archive ids %q and %q", archived, got)
	}
	sent := a2.await("sent carbon", carbon("sent", "to both"))
	if sent.To != bob.bare || sent.From != a1.jid {
		t.Errorf("sent carbon from %q to %q, want from %q to %q", sent.From, sent.To, a1.jid, bob.bare)
	}

	b2.send(a1.jid, "to one")
	a1.await("message", message("to one"))
	a2.await("received carbon", carbon("received", "to one"))
	b1.await("sent carbon", carbon("sent", "to one"))

	// Everybody saw each message once, in one form.
	for _, c := range []*client{a1, a2, b1, b2} {
		for _, body := range []string{"to both", "to one"} {
			copies := c.all(func(e *event) bool { return e.Body == body })
			want := 1
			if (c == a1 && body == "to both") || (c == b2 && body == "to one") {
				want = 0 // the sender
			}
			if len(copies) != want {
				t.Errorf("%s saw %q %d times, want %d", c.name, body, len(copies), want)
			}
		}
	}
}

func receipts(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := online(t, s, l, alice, "one"), online(t, s, l, bob, "one")
	id := newID()
	a.do("message", args{"to": bob.bare, "body": "Have you got this?", "id": id, "receipt": true})
	b.await("message", message("Have you got this?"))
	got := a.await("receipt", func(e *event) bool { return e.Kind == "receipt" && e.Receipt == id })
	if got.From != b.jid {
		t.Errorf("receipt from %q, want %q", got.From, b.jid)
	}
}

// offline: what is sent to somebody without a session comes when he becomes available, once, in order, with the time
// (XEP-0160, XEP-0203), or is in the archive for who binds by Bind 2.
func offline(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a := online(t, s, l, alice, "one")
	for i := range 3 {
		a.send(bob.bare, fmt.Sprintf("while you were away %d", i))
	}
	for deadline := time.Now().Add(patience); len(a.archive(args{"max": 10}).Page) < 3; { // the answer to a ping may overtake the disk
		if time.Now().After(deadline) {
			t.Fatal("the messages aren't kept")
		}
	}
	b := online(t, s, l, bob, "one")
	if l.name == "xmppjs" && s.kind.name != "prosody" {
		// It binds by Bind 2: what it missed is the archive's to tell (XEP-0386 3, R-CONV-6).
		b.none("offline messages came beside the archive", func(e *event) bool { return e.Kind == "message" })
		if got, want := b.archive(args{"max": 10}).bodies(), []string{"while you were away 0", "while you were away 1", "while you were away 2"}; !slices.Equal(got, want) {
			t.Errorf("the archive has %q", got)
		}
		return
	}
	for i := range 3 {
		e := b.await("message from before", func(e *event) bool { return e.Kind == "message" })
		if want := fmt.Sprintf("while you were away %d", i); e.Body != want {
			t.Errorf("got %q, want %q", e.Body, want)
		}
		if !e.Delayed {
			t.Errorf("%q bears no delay", e.Body)
		}
	}
	b.do("ping", nil) // the server asked for an acknowledgement with the messages, so it has it now
	b.do("disconnect", nil)
	b = online(t, s, l, bob, "one")
	b.none("offline messages came twice", func(e *event) bool { return e.Kind == "message" })
}

// stranger: somebody who is no contact can write, and learns nothing about presence.
func stranger(t *testing.T, s *server, l library) {
	alice, mallory := s.account(t, "alice"), s.account(t, "mallory")
	a, m := online(t, s, l, alice, "secret-resource"), online(t, s, l, mallory, "one")
	m.send(alice.bare, "You do not know me")
	if e := a.await("message", message("You do not know me")); e.From != m.jid {
		t.Errorf("from %q, want %q", e.From, m.jid)
	}
	// RFC 6121 4.3.2: a probe from a stranger is answered as one for nobody would be.
	m.do("presence", args{"to": alice.bare, "type": "probe"})
	m.do("presence", args{"to": "nobody@" + domain, "type": "probe"})
	m.do("presence", args{"to": alice.bare, "type": "subscribe"})
	a.await("request", presence(mallory.bare, "subscribe"))
	a.do("presence", args{"status": "still here"})
	a.do("ping", nil)
	m.none("presence of somebody who granted nothing", func(e *event) bool {
		return presence(alice.bare, "")(e) || (e.Kind == "presence" && strings.Contains(e.From, "secret-resource"))
	})
	// RFC 6121 8.5.1: nobody is there.
	id := m.send("nobody@"+domain, "anybody?")
	if e := m.await("error", bounce(id)); e.Condition != "service-unavailable" {
		t.Errorf("a message to nobody: %q, want service-unavailable", e.Condition)
	}
}

// restart: accounts, rosters and the archive outlive the process.
func restart(t *testing.T, _ *server, l library) {
	ca, id := newIdentity(t, domain)
	s := serveOwn(t, ca, id)
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := online(t, s, l, alice, "one"), online(t, s, l, bob, "one")
	befriend(a, b)
	a.send(bob.bare, "before")
	before := b.await("message", message("before")).Archive
	s.stop()
	a.await("end of the stream", func(e *event) bool { return e.Kind == "disconnected" })
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	b = online(t, s, l, bob, "two")
	if got := b.roster()[alice.bare].Subscription; got != "both" {
		t.Errorf("after a restart bob's roster says %q of alice, want both", got)
	}
	page := b.archive(args{"max": 10})
	if len(page.Page) != 1 || page.Page[0].Body != "before" || page.Page[0].Archive != before {
		t.Errorf("after a restart the archive holds %+v, want one message %q with id %q", page.Page, "before", before)
	}
}
