package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func TestPresenceBroadcast(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	w.befriend("alice", "bob")
	b, c := w.bind("bob/b online"), w.bind("carol/c online")
	a := w.bind("alice/a")
	a.send("<presence id='p'><show>away</show></presence>")
	a.expectAny("<presence from='alice@h.example/a' to='alice@h.example' id='p'><show>away</show></presence>", "<presence from='bob@h.example/b' to='alice@h.example'")
	b.expect("<presence from='alice@h.example/a' to='bob@h.example' id='p'><show>away</show></presence>")
	a2 := w.bind("alice/a2")
	a2.send("<presence/>")
	a2.expectAny("from='alice@h.example/a2'", "<presence from='alice@h.example/a' … away", "from='bob@h.example/b'")
	a.expectAny("from='alice@h.example/a2'", "from='bob@h.example/b'") // the probe was the account's
	b.expect("from='alice@h.example/a2'")
	a.send("<presence type='unavailable'><status>bye</status></presence>")
	a.expect("<presence from='alice@h.example/a' … type='unavailable'><status>bye</status>") // RFC 6121 4.5.2
	a2.expect("<presence from='alice@h.example/a' … type='unavailable'><status>bye</status>")
	b.expect("<presence from='alice@h.example/a' … type='unavailable'><status>bye</status>")
	a2.Detach(a2) // without stream management: it ends, ungracefully
	b.expect("<presence from='alice@h.example/a2' … type='unavailable'/>")
	c.expect()
	snap, err := w.hub.Account(jid.MustParse(alice)).Snapshot(context.Background())
	if err != nil || !snap.LastUnavailable.Equal(testStart) || snap.LastStatus != "" {
		t.Errorf("%v %v %q", err, snap.LastUnavailable, snap.LastStatus)
	}
}

// TestDirectedPresence is RFC 6121 4.6.3.
func TestDirectedPresence(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	c := w.bind("carol/c")
	a := w.bind("alice/a")
	a.send("<presence to='carol@h.example/c'><show>chat</show></presence>") // before initial presence
	c.expect("<presence from='alice@h.example/a' to='carol@h.example/c'><show>chat</show>")
	a.send("<presence/>")
	a.expect("<presence from='alice@h.example/a'")
	c.expect()
	// Who got directed presence is no stranger (R-EXCL-3).
	c.send("<message type='chat' to='alice@h.example/a'><body>x</body><private xmlns='urn:xmpp:carbons:2'/></message>")
	a.expect("<body>x</body>")
	a.Close(a)
	c.expect("<presence from='alice@h.example/a' to='carol@h.example/c' type='unavailable'/>")

	a = w.bind("alice/a online")
	a.send("<presence to='carol@h.example/c'/>")
	a.send("<presence type='unavailable' to='carol@h.example/c'/>")
	a.Close(a)
	c.expect("from='alice@h.example/a'", "type='unavailable'")

	// Who went away isn't told of the end.
	a = w.bind("alice/a online")
	a.send("<presence to='carol@h.example/c'/>")
	c.send("<presence to='alice@h.example/a'/>")
	w.settle()
	c.take()
	c.send("<presence type='unavailable' to='alice@h.example/a'/>")
	w.settle()
	a.Close(a)
	c.expect()

	a = w.bind("alice/a")
	for i := range 6 {
		a.send(fmt.Sprintf("<presence id='d%d' to='carol@h.example/%d'/>", i, i))
	}
	a.expect("id='d5' type='error' … resource-constraint")
}

func TestProbes(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	w.befriend("alice", "bob")
	b := w.bind("bob/b online")
	b.expect()
	probe := func(from, to string) {
		st := stanza.Build(stanza.Presence, stanza.TypeProbe, "", jid.MustParse(from), jid.MustParse(to), "")
		w.hub.post(st.To.Bare(), newArrive(st))
		w.settle()
	}
	probe(bob, alice)
	b.expect("<presence from='alice@h.example' to='bob@h.example' type='unavailable'/>")
	a := w.bind("alice/a online")
	b.expect("from='alice@h.example/a'")
	a.send("<presence type='unavailable'/>")
	b.expect("type='unavailable'")
	probe(bob, alice)
	b.expect("<presence from='alice@h.example' to='bob@h.example' type='unavailable'><delay xmlns='urn:xmpp:delay' stamp='2026-11-01T12:00:00Z'/>")
	a.send("<presence><show>dnd</show></presence>")
	b.expect("dnd")
	probe(bob, alice)
	b.expect("<presence from='alice@h.example/a' … dnd")
	probe(bob, alice+"/a")
	b.expect("<presence from='alice@h.example/a' to='bob@h.example'/>")
	probe(bob, alice+"/gone")
	b.expect("<presence from='alice@h.example/gone' … type='unavailable'/>")
	// A stranger, one without state and an account that isn't there.
	c := w.bind("carol/c roster online")
	probe(carol, alice)
	c.expect()
	c.send("<presence type='subscribe' to='alice@h.example'/>")
	w.settle()
	c.take()
	probe(carol, alice) // not a contact yet: told, and the request ends (RFC 6121 4.3.2)
	c.expect("type='unsubscribed'", "<item jid='alice@h.example' subscription='none'/>")
	// Directed presence is answered, mere and for that resource alone (4.6.6).
	a.send("<presence to='carol@h.example/c'><show>xa</show></presence>")
	c.expect("xa")
	probe(carol+"/c", alice+"/a")
	c.expect("<presence from='alice@h.example/a' to='carol@h.example/c'/>")
}

func TestPriorities(t *testing.T) {
	for text, want := range map[string]int8{"": 0, "5": 5, " 7 ": 7, "+3": 3, "-1": -1, "127": 127, "-128": -128, "128": 0, "-129": 0, "x": 0, "1.5": 0, "--1": 0, "+-1": 0,
		"99999999999999999999999999": 0} {
		st, err := stanza.ParseBytes([]byte("<presence><priority>"+text+"</priority></presence>"), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := priorityOf(st); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestAvatarInPresence(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	b := w.bind("bob/b online")
	a := w.bind("alice/a online")
	b.take()
	hash := "abc123"
	if err := a.Owner().Update(context.Background(), feature.Update{AvatarHash: &hash, Put: []feature.KeyValue{{Space: "vcard", Key: "x", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	b.expect("<x xmlns='vcard-temp:x:update'><photo>abc123</photo></x>")
	a.send("<presence><x xmlns='vcard-temp:x:update'><photo>wrong</photo></x></presence>")
	b.expect("!wrong … <photo>abc123</photo>")
	// An update that isn't kept isn't told, nor remembered.
	w.failCommits(context.DeadlineExceeded)
	other := "never"
	if err := a.Owner().Update(context.Background(), feature.Update{AvatarHash: &other}); err == nil {
		t.Fatal("no error")
	}
	w.failCommits(nil)
	a.send("<presence/>")
	b.expect("<photo>abc123</photo>")
}

func TestPush(t *testing.T) {
	w := newWorld(t, "alice")
	a, a2 := w.bind("alice/a"), w.bind("alice/a2")
	if err := a.SetInterest(context.Background(), "urn:i"); err != nil {
		t.Fatal(err)
	}
	if err := a2.Owner().Update(context.Background(), feature.Update{Push: feature.Push{Interest: "urn:i", Payload: "<x xmlns='urn:i'/>"}}); err != nil {
		t.Fatal(err)
	}
	a.expect("<iq to='alice@h.example/a' id='")
	a2.expect()
	for i := range 2 * maxInterests {
		if err := a.SetInterest(context.Background(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.interests) > maxInterests {
		t.Error("interests grow without bound")
	}
}

func TestRoster(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, a2 := w.bind("alice/a roster"), w.bind("alice/a2")
	set := func(id, item string) {
		a.send("<iq type='set' id='" + id + "'><query xmlns='jabber:iq:roster'>" + item + "</query></iq>")
	}
	set("s1", "<item jid='bob@h.example/x' name='Bob'><group>Friends</group><group>Work</group></item>")
	a.expect("<iq to='alice@h.example/a' … type='set'><query xmlns='jabber:iq:roster' ver='1'><item jid='bob@h.example' name='Bob' subscription='none'><group>Friends</group><group>Work</group></item></query></iq>",
		"<iq to='alice@h.example/a' id='s1' type='result'/>")
	a2.expect() // not interested
	a.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver=''/></iq>")
	a.expect("id='g' type='result'><query xmlns='jabber:iq:roster' ver='1'><item jid='bob@h.example'")
	set("s2", "<item jid='carol@h.example'/>")
	set("s3", "<item jid='carol@h.example' subscription='remove'/>")
	a.expect("ver='2' … carol", "s2", "ver='3'><item jid='carol@h.example' subscription='remove'/>", "s3")

	for ver, want := range map[string][]string{
		"3":   {"id='v' type='result'/>"},
		"2":   {"id='v' type='result'/>", "ver='3' … subscription='remove'"},
		"0":   {"id='v' type='result'/>", "ver='1' … bob@h.example", "ver='3' … subscription='remove'"},
		"99":  {"id='v' type='result'><query xmlns='jabber:iq:roster' ver='3'><item jid='bob"},
		"-1":  {"ver='3'><item jid='bob"},
		"abc": {"ver='3'><item jid='bob"},
	} {
		a2.send("<iq type='get' id='v' to='alice@h.example'><query xmlns='jabber:iq:roster' ver='" + ver + "'/></iq>")
		a2.expect(want...)
	}
	// Removed and back again: one change, not two.
	set("s4", "<item jid='carol@h.example' name='C'/>")
	w.settle()
	a2.take()
	a2.send("<iq type='get' id='v'><query xmlns='jabber:iq:roster' ver='2'/></iq>")
	a2.expect("id='v' type='result'/>", "ver='4'><item jid='carol@h.example' name='C'")

	for item, want := range map[string]string{
		"": "bad-request",
		"<item jid='a@x.example'/><item jid='b@x.example'/>": "bad-request",
		"<x xmlns='u'/>":                "bad-request",
		"<item/>":                       "jid-malformed",
		"<item jid='@'/>":               "jid-malformed",
		"<item jid='alice@h.example'/>": "not-allowed",
		"<item jid='x@x.example' subscription='remove'/>":                                 "item-not-found",
		"<item jid='x@x.example'><group/></item>":                                         "not-acceptable",
		"<item jid='x@x.example'><group>a</group><group>a</group></item>":                 "bad-request",
		"<item jid='x@x.example' name='" + strings.Repeat("x", 1024) + "'/>":              "not-acceptable",
		"<item jid='x@x.example'><group>" + strings.Repeat("x", 1024) + "</group></item>": "not-acceptable",
	} {
		w.settle()
		a.take()
		set("bad", item)
		a.expect("id='bad' type='error' … " + want)
	}
	// Somebody else's roster: whether there is such an account makes no difference.
	for _, to := range []string{bob, "nobody@h.example"} {
		a.send("<iq type='get' id='o' to='" + to + "'><query xmlns='jabber:iq:roster'/></iq>")
		a.expect("from='" + to + "' … id='o' type='error' … service-unavailable")
		a.send("<iq type='set' id='o' to='" + to + "'><query xmlns='jabber:iq:roster'><item jid='x@x.example'/></query></iq>")
		a.expect("from='" + to + "' … id='o' type='error' … <forbidden xmlns") // RFC 6121 2.3.3
	}
	w.forget()
	a.Close(a)
	a2.Close(a2)
	w.settle()
	w.forget()
	b := w.bind("alice/b")
	b.send("<iq type='get' id='again'><query xmlns='jabber:iq:roster' ver='2'/></iq>")
	b.expect("id='again' type='result'/>", "ver='4' … carol")
}

func TestRosterBounds(t *testing.T) {
	w := newWorld(t, "alice bob "+names(8), func(c *Config) { c.Limits.RosterItems = 4 })
	b := w.bind("bob/b roster")
	// Strangers' requests have their own bound and leave the user's places free.
	for i := range 8 {
		s := w.bind(fmt.Sprintf("s%d/x online", i))
		s.send("<presence type='subscribe' id='r' to='bob@h.example'/>")
		w.settle()
		if got := strings.Join(s.take(), ""); strings.Contains(got, "resource-constraint") != (i >= 4) {
			t.Errorf("request %d: %s", i, got)
		}
	}
	for i := range 5 {
		b.send(fmt.Sprintf("<iq type='set' id='i'><query xmlns='jabber:iq:roster'><item jid='x%d@x.example'/></query></iq>", i))
		w.settle()
		if got := strings.Join(b.take(), ""); strings.Contains(got, "resource-constraint") != (i >= 4) {
			t.Errorf("item %d: %s", i, got)
		}
	}
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " s%d", i)
	}
	return b.String()
}

// TestRosterRemove is RFC 6121 2.5.2: both subscriptions end.
func TestRosterRemove(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a roster online"), w.bind("bob/b roster online")
	a.take()
	a.send("<iq type='set' id='rm'><query xmlns='jabber:iq:roster'><item jid='bob@h.example' subscription='remove'/></query></iq>")
	a.expectAny("subscription='remove'", "id='rm' type='result'", "from='bob@h.example/b' … type='unavailable'")
	b.expectAny("from='alice@h.example' … type='unsubscribe'", "from='alice@h.example' … type='unsubscribed'", "from='alice@h.example/a' … type='unavailable'",
		"<item jid='alice@h.example' subscription='to'/>", "<item jid='alice@h.example' subscription='none'/>")
}

func TestTombstones(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a")
	for i := range 130 {
		a.send(fmt.Sprintf("<iq type='set' id='a'><query xmlns='jabber:iq:roster'><item jid='x%d@x.example'/></query></iq>", i))
		a.send(fmt.Sprintf("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='x%d@x.example' subscription='remove'/></query></iq>", i))
	}
	w.settle()
	var before []int64
	w.state("alice", func(s *State) {
		for _, it := range s.removed {
			before = append(before, it.Version)
		}
		if len(s.removed) != 100 || s.rosterFloor != 60 {
			t.Errorf("%d tombstones, floor %d", len(s.removed), s.rosterFloor)
		}
	})
	a.Close(a)
	w.settle()
	w.forget()
	w.state("alice", func(s *State) {
		var after []int64
		for _, it := range s.removed {
			after = append(after, it.Version)
		}
		if !slices.Equal(before, after) || s.rosterFloor != 60 || s.rosterVersion != 260 {
			t.Errorf("the disk says otherwise: %d, floor %d", len(after), s.rosterFloor)
		}
	})
}

// TestAccountRemoved: whoever gets the name later inherits no subscription.
func TestAccountRemoved(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a online"), w.bind("bob/b roster online")
	if err := w.store.RemoveAccount(context.Background(), jid.MustParse(alice)); err != nil {
		t.Fatal(err)
	}
	if err := w.hub.AccountRemoved(context.Background(), jid.MustParse(alice)); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if c, _ := a.streamError(); c != stanza.StreamNotAuthorized {
		t.Errorf("ended with %q", c)
	}
	w.state("bob", func(s *State) {
		if c := s.roster[jid.MustParse(alice)]; c == nil || c.To || c.From {
			t.Errorf("bob still has %+v", c)
		}
	})
	b.take()
	b.say(alice, "x")
	b.expect("type='error' … service-unavailable")
	if _, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(alice), Transport: a}); err == nil {
		t.Error("an account that is gone got a session")
	}
}
