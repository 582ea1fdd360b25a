package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// resumed reconnects a client after a cut and fails the test if its stream is a new one.
func (c *client) resumed(p *cutter) {
	c.t.Helper()
	c.await("cut connection", func(e *event) bool { return e.Kind == "disconnected" })
	c.reconnect(p)
}

// reconnect is the rest of resumed.
func (c *client) reconnect(p *cutter) {
	c.t.Helper()
	var got struct{ Resumed bool }
	if err := c.call("reconnect", args{"port": port(p.addr())}, &got); err != nil {
		c.t.Fatalf("%s: reconnecting: %v", c.name, err)
	}
	if !got.Resumed {
		c.t.Fatalf("%s: the stream was not resumed", c.name)
	}
}

// bodies returns what a client got from another, in order.
func (c *client) bodies() []string {
	c.t.Helper()
	var got []string
	for _, e := range c.all(func(e *event) bool { return e.Kind == "message" }) {
		got = append(got, e.Body)
	}
	return got
}

// resumeInbound: what was on its way to a client when its connection broke, and what came while it was away, comes
// once and in order after it resumed (XEP-0198 5).
func resumeInbound(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	proxy := newCutter(t, s.c2s)
	a := available(l.loginAt(t, s, alice, "one", proxy.addr(), "starttls"))
	b := online(t, s, l, bob, "one")
	befriend(a, b)

	var want []string
	say := func(n int) {
		for range n {
			body := fmt.Sprintf("line %d", len(want))
			want = append(want, body)
			b.send(alice.bare, body)
		}
		b.do("ping", nil) // the server has them
	}
	say(3)
	a.await("message", message(want[2]))
	proxy.loseFrom(toClient)
	say(5) // these are lost on their way
	proxy.cut()
	say(5) // and these come while nobody is there
	a.resumed(proxy)
	a.await("last message", message(want[12]))
	say(1)
	a.await("message after", message(want[13]))
	if got := a.bodies(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The others noticed nothing: to them alice was there all the time.
	b.none("alice went away", presence(a.jid, "unavailable"))
}

// resumeByToken: a client that has a token logs in and resumes in one step, and the password is needed once
// (XEP-0484, XEP-0198 9.2). Only @xmpp/client can, and of the servers only carillon.
func resumeByToken(t *testing.T, s *server, l library) {
	if l.name != "xmppjs" || s.kind.name == "prosody" {
		t.Skip("FAST is what @xmpp/client and carillon have")
	}
	alice := s.account(t, "alice")
	proxy := newCutter(t, s.c2s)
	a := available(l.loginAt(t, s, alice, "one", proxy.addr(), "starttls"))
	if !strings.HasPrefix(a.jid, alice.bare+"/one/") { // the classic way it would be what was asked for
		t.Errorf("bound as %q, not by Bind 2", a.jid)
	}
	for range 2 {
		proxy.cut()
		a.resumed(proxy)
		a.do("ping", nil)
	}
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(log)) {
		var entry struct {
			Msg, Mechanism, Account string
			Resumed                 bool
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "session begins" && entry.Account == alice.bare {
			got = append(got, fmt.Sprint(entry.Mechanism, " ", entry.Resumed))
		}
	}
	if want := []string{"SCRAM-SHA-1 false", "HT-SHA-256-NONE true", "HT-SHA-256-NONE true"}; !slices.Equal(got, want) {
		t.Errorf("sessions began by %q, want %q", got, want)
	}
}

// resumeOutbound: what a client sent and the server never got is sent again by the client, and arrives once.
func resumeOutbound(t *testing.T, s *server, l library) {
	if l.name == "slixmpp" {
		t.Skip("slixmpp 1.8.3 empties its queue when it asks to resume, so it sends nothing again")
	}
	outbound(t, s, l, toServer)
}

// resumeLostAck: what the server got but could not acknowledge is not sent again, or not delivered again.
func resumeLostAck(t *testing.T, s *server, l library) {
	outbound(t, s, l, toClient)
}

func outbound(t *testing.T, s *server, l library, lost direction) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	proxy := newCutter(t, s.c2s)
	a := available(l.loginAt(t, s, alice, "one", proxy.addr(), "starttls"))
	b := online(t, s, l, bob, "one")

	var want []string
	say := func(n int) {
		for range n {
			body := fmt.Sprintf("line %d", len(want))
			want = append(want, body)
			a.send(bob.bare, body)
		}
	}
	say(3)
	b.await("message", message(want[2]))
	proxy.loseFrom(lost)
	say(5)
	if lost == toClient {
		b.await("message", message(want[7])) // the server has them; alice cannot know
	}
	proxy.cut()
	a.resumed(proxy)
	say(2)
	b.await("last message", message(want[9]))
	if got := b.bodies(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := b.archive(args{"max": 50}).bodies(); !slices.Equal(got, want) {
		t.Errorf("bob's archive: got %q, want %q", got, want)
	}
	if got := a.archive(args{"max": 50}).bodies(); !slices.Equal(got, want) {
		t.Errorf("alice's archive: got %q, want %q", got, want)
	}
}
