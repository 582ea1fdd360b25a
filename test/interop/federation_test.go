package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// federation prepares carillon and one other server.
func federation(t *testing.T, kind string, external bool) (own, theirs *other) {
	t.Helper()
	if os.Getenv("CARILLON_INTEROP") != "1" {
		t.Skip("needs CARILLON_INTEROP=1 and Prosody and ejabberd; `make interop` says what is missing")
	}
	n := newInternet(t)
	own, theirs = n.server("carillon", "carillon.fed", external), n.server(kind, map[string]string{"carillon": "other.fed", "prosody": "prosody.fed", "ejabberd": "ejabberd.fed"}[kind], external)
	own.start()
	theirs.start()
	own.register(own, "alice")
	theirs.register(theirs, "bob")
	return own, theirs
}

// TestFederation is a conversation between alice on carillon and bob on another
// server, in both directions, over every way to prove a domain.
func TestFederation(t *testing.T) {
	for _, kind := range []string{"carillon", "prosody", "ejabberd"} {
		for _, external := range []bool{true, false} {
			how := map[bool]string{true: "certificate", false: "dialback"}[external]
			t.Run(kind+" by "+how, func(t *testing.T) {
				own, theirs := federation(t, kind, external)
				converse(t, own, theirs)
				proved(t, own, theirs, kind, external)
			})
		}
	}
}

// proved looks at how the two servers have proved who they are, and whether the one
// stream serves both ways where the other server can do that (XEP-0288).
func proved(t *testing.T, own, theirs *other, kind string, external bool) {
	t.Helper()
	both := false
	for _, s := range own.streams() {
		if s.Domain != theirs.domain || s.State != "up" {
			continue
		}
		both = both || s.Direction == "both"
		if how := map[bool]string{true: "EXTERNAL", false: "dialback"}[external]; !strings.Contains(s.Security, "TLS") || !strings.Contains(s.Security, how) {
			t.Errorf("%s stream: proved by %s, want %s", s.Direction, s.Security, how)
		}
	}
	if both != (kind != "ejabberd") { // 23.01 doesn't do it
		t.Errorf("%s: both ways on one stream: %t", kind, both)
	}
}

func converse(t *testing.T, own, theirs *other) {
	alice, bob, desk := own.login("alice", "phone", true), theirs.login("bob", "phone", true), theirs.login("bob", "desk", true)
	a, b := "alice@"+own.domain, "bob@"+theirs.domain

	// Subscriptions and presence.
	acquaint(alice, bob)
	bob.send("<presence><show>away</show></presence>")
	alice.until("<show>away</show>")
	alice.send("<presence><show>dnd</show></presence>")
	bob.until("<show>dnd</show>")

	// Conversation, both ways, and questions.
	alice.send("<message type='chat' id='m1' to='" + b + "'><body>to the bare address</body></message>")
	bob.until("to the bare address")
	desk.until("to the bare address")
	alice.send("<message type='chat' id='m2' to='" + b + "/phone'><body>to one with a copy</body></message>")
	bob.until("to one with a copy")
	desk.until("to one with a copy")
	bob.send("<message type='chat' id='m3' to='" + a + "'><body>and back</body></message>")
	alice.until("and back")
	alice.send("<iq type='get' id='v1' to='" + theirs.domain + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
	alice.until("id='v1'", "type='result'")
	bob.send("<iq type='get' id='v2' to='" + a + "/phone'><query xmlns='jabber:iq:version'/></iq>")
	got := alice.until("jabber:iq:version", "id='v2'")
	if !strings.Contains(got, b+"/phone") {
		t.Errorf("the question came as %s", got)
	}
	alice.send("<iq type='result' id='v2' to='" + b + "/phone'><query xmlns='jabber:iq:version'><name>n</name><version>1</version></query></iq>")
	bob.until("id='v2'", "<name>n</name>")
	bob.send("<iq type='get' id='v3' to='" + own.domain + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	bob.until("id='v3'", "type='result'")

	// Directed presence, and what both say of themselves (XEP-0054).
	stranger := theirs.login("bob", "third", false)
	stranger.send("<presence to='" + a + "/phone'><status>only for you</status></presence>")
	alice.until("<status>only for you</status>", b+"/third")
	stranger.send("<presence type='unavailable' to='" + a + "/phone'/>")
	alice.until("type='unavailable'", b+"/third")
	stranger.c.Cut()
	bob.send("<iq type='set' id='c1'><vCard xmlns='vcard-temp'><NICKNAME>bobby</NICKNAME></vCard></iq>")
	bob.until("id='c1'", "type='result'")
	alice.send("<iq type='get' id='c2' to='" + b + "'><vCard xmlns='vcard-temp'/></iq>")
	alice.until("id='c2'", "bobby")
	alice.send("<iq type='set' id='c3'><vCard xmlns='vcard-temp'><NICKNAME>ally</NICKNAME></vCard></iq>")
	alice.until("id='c3'", "type='result'")
	bob.send("<iq type='get' id='c4' to='" + a + "'><vCard xmlns='vcard-temp'/></iq>")
	bob.until("id='c4'", "ally")

	// What is for one device is neither copied nor archived there (R-GW-1).
	alice.send("<message type='chat' id='e1' to='" + b + "/phone'><body>for one alone</body><private xmlns='urn:xmpp:carbons:2'/></message>")
	bob.until("for one alone")
	alice.send("<message type='chat' id='m4' to='" + b + "'><body>and then for all</body></message>")
	for _, p := range []*person{bob, desk} {
		p.until("and then for all")
	}
	if desk.count("for one alone") != 0 {
		t.Error("an exclusive message was copied")
	}
	if n := bob.archived("mam1", "for one alone"); n != 0 {
		t.Error("an exclusive message was archived")
	}
	if n := bob.archived("mam2", "to the bare address", "to one with a copy", "and back", "and then for all"); n != 4 {
		t.Errorf("%d of 4 are in their archive", n)
	}
	if n := alice.archived("mam3", "to the bare address", "to one with a copy", "and back", "and then for all"); n != 4 {
		t.Errorf("%d of 4 are in our archive", n)
	}

	// What ejabberd has read is known once it has answered a question behind it.
	alice.settled("s0")
	own.delivered()

	// Their server away, and then ours: nothing is lost, nothing comes twice.
	theirs.stop()
	for i := range 5 {
		alice.send(fmt.Sprintf("<message type='chat' id='w%d' to='%s'><body>while away %d.</body></message>", i, b, i))
	}
	alice.settled("s1")
	own.stop()
	theirs.start()
	bob = theirs.login("bob", "phone", true)
	own.start()
	for i := range 5 {
		bob.until(fmt.Sprintf("while away %d.", i))
	}
	alice = own.login("alice", "phone", true)
	alice.send("<message type='chat' id='m5' to='" + b + "/phone'><body>after all</body></message>")
	bob.until("after all")
	for i := range 5 {
		if n := bob.count(fmt.Sprintf("while away %d.", i)); n != 1 {
			t.Errorf("%d came %d times", i, n)
		}
	}
	if n := bob.count("to the bare address") + bob.count("and then for all"); n != 0 {
		t.Errorf("%d old messages came again", n)
	}
	// ejabberd has asked for alice's presence while she was away. It returns everything for a second or so after that, and drops
	// what comes as it stops doing so.
	for i, deadline := 0, time.Now().Add(patience); ; i++ {
		bob.send(fmt.Sprintf("<iq type='get' id='p%d' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", i, own.domain))
		if _, err := bob.within(300*time.Millisecond, "<iq", "type='result'", "id='p"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%s isn't reached again: %v", own.domain, err)
		}
	}
	bob.send("<message type='chat' id='m6' to='" + a + "'><body>good</body></message>")
	alice.until("good")
}
