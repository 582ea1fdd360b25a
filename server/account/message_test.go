package account

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
)

func TestMessageToBareJID(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, a2 := w.bind("alice/a online"), w.bind("alice/a2 carbons")
	b, b2, b3 := w.bind("bob/b online"), w.bind("bob/b2 carbons -1"), w.bind("bob/b3 -5")
	b.take()
	b2.take()
	a.say(bob, "hello")
	b.expect("<message from='alice@h.example/a' to='bob@h.example' id='hello' type='chat'><body>hello</body><stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example' id='")
	b2.expect("from='bob@h.example' to='bob@h.example/b2' type='chat'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='alice@h.example/a' to='bob@h.example' … by='bob@h.example'")
	b3.expect()
	a.expect()
	a2.expect("from='alice@h.example' to='alice@h.example/a2' … <sent xmlns='urn:xmpp:carbons:2'> … to='bob@h.example' … by='alice@h.example'")
	if got := w.archive("alice"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("alice's archive: %v", got)
	}
	if got := w.archive("bob"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("bob's archive: %v", got)
	}
}

func TestMessageToFullJID(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a online")
	b, b2, b3 := w.bind("bob/b -1"), w.bind("bob/b2 carbons"), w.bind("bob/b3 online")
	b.take()
	a.say(bob+"/b", "one")
	b.expect("to='bob@h.example/b' … one")
	b2.expect("<received … to='bob@h.example/b' … one")
	b3.expect()
	a.say(bob+"/gone", "two") // as to the bare JID
	b3.expect("to='bob@h.example/gone' … two")
	b2.expect("<received … two")
	a.send("<message type='headline' to='bob@h.example/gone'><body>x</body></message>")
	a.expect()
	a.send("<message type='groupchat' id='g' to='bob@h.example'><body>x</body></message>")
	a.expect("type='error' … service-unavailable")
	// To a stranger a full JID's existence isn't told (R-EXCL-3).
	for _, r := range []string{"b", "gone"} {
		a.send("<message type='chat' id='p' to='bob@h.example/" + r + "'><body>x</body><private xmlns='urn:xmpp:carbons:2'/></message>")
		a.expect("id='p' … type='error' … service-unavailable")
	}
	b.expect()
}

func TestNoteToSelf(t *testing.T) {
	w := newWorld(t, "alice")
	a, a2, a3 := w.bind("alice/a online"), w.bind("alice/a2 carbons online"), w.bind("alice/a3 carbons")
	a.take()
	a.say(alice, "note")
	a.expect("<message … note … by='alice@h.example'")
	a2.expect("<message from='alice@h.example/a' … note")
	a3.expect("<received … note")
	a.send("<message type='chat' id='n2'><body>n2</body></message>") // RFC 6121 8.1.1.1
	a.expect("n2")
	if got := w.archive("alice"); !slices.Equal(got, []string{"note", "n2"}) {
		t.Errorf("archive: %v", got)
	}
}

// TestStanzaID: forged ids of the own account go in every spelling, others
// stay (R-ARCH-4); what isn't archived has none.
func TestStanzaID(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a online"), w.bind("bob/b online")
	for _, by := range []string{"bob@h.example", "BOB@H.example", "bob@h.example/x", "Bob@h.example."} {
		a.send("<message type='chat' to='bob@h.example'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='" + by + "' id='forged'/><stanza-id xmlns='urn:xmpp:sid:0' by='room@m.example' id='kept'/></message>")
		b.expect("!forged … <body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='room@m.example' id='kept'/><stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example' id='")
	}
	a.send("<message type='chat' to='bob@h.example'><body>y</body><stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example' id='forged'/><no-store xmlns='urn:xmpp:hints'/></message>")
	b.expect("!stanza-id … y")
	// Kept offline though not archived: an id that the archive doesn't have
	// would be a cursor into nothing.
	if err := b.Owner().Update(context.Background(), feature.Update{Archive: &feature.ArchivePrefs{Default: "never"}}); err != nil {
		t.Fatal(err)
	}
	b.send("<presence type='unavailable'/>")
	w.settle()
	b.take()
	a.say(bob, "z")
	b.send("<presence/>")
	w.settle()
	if got := b.take(); len(bodies(got)) != 1 || strings.Contains(strings.Join(got, ""), "stanza-id") {
		t.Errorf("got %v", got)
	}
}

func TestArchivePreferences(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	a, b := w.bind("alice/a online"), w.bind("bob/b online")
	carolJID, aliceJID := jid.MustParse(carol), jid.MustParse(alice)
	for i, tc := range []struct {
		prefs feature.ArchivePrefs
		want  bool
	}{
		{feature.ArchivePrefs{Default: "always"}, true},
		{feature.ArchivePrefs{Default: "never"}, false},
		{feature.ArchivePrefs{Default: "roster"}, false},
		{feature.ArchivePrefs{Default: "never", Always: []jid.JID{aliceJID}}, true},
		{feature.ArchivePrefs{Default: "always", Never: []jid.JID{aliceJID}}, false},
		{feature.ArchivePrefs{Default: "always", Never: []jid.JID{carolJID}}, true},
		{feature.ArchivePrefs{Default: "always", Never: []jid.JID{aliceJID}, Always: []jid.JID{aliceJID}}, false},
	} {
		if err := b.Owner().Update(context.Background(), feature.Update{Archive: &tc.prefs}); err != nil {
			t.Fatal(err)
		}
		before := len(w.archive("bob"))
		body := fmt.Sprint("m", i)
		a.say(bob, body)
		b.expect(body)
		if got := len(w.archive("bob")) > before; got != tc.want {
			t.Errorf("%+v: archived %v", tc.prefs, got)
		}
		if own := w.archive("alice"); own[len(own)-1] != body {
			t.Errorf("%+v: not in alice's archive", tc.prefs)
		}
	}
	// "roster": who is in it.
	b.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='alice@h.example'/></query></iq>")
	if err := b.Owner().Update(context.Background(), feature.Update{Archive: &feature.ArchivePrefs{Default: "roster"}}); err != nil {
		t.Fatal(err)
	}
	a.say(bob, "friend")
	if got := w.archive("bob"); got[len(got)-1] != "friend" {
		t.Errorf("archive: %v", got)
	}
}

func TestOfflineFlushInChunks(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes = 8 << 10 })
	a := w.bind("alice/a online")
	var want []string
	for i := range 60 {
		body := fmt.Sprintf("m%02d-%s", i, strings.Repeat("x", 200))
		want = append(want, body)
		a.say(bob, body)
	}
	if got := w.offline("bob"); !slices.Equal(got, want) {
		t.Fatalf("kept %d", len(got))
	}
	// A negative priority and a client that reads the archive get none.
	w.bind("bob/low -1").expect()
	reads := w.bind("bob/reads")
	reads.ReadingArchive()(true)
	reads.send("<presence/>")
	reads.expectAny("from='bob@h.example/reads'", "from='bob@h.example/low'")
	reads.Close(reads)
	w.settle()

	// One that dies on the way loses nothing, and what it had acknowledged
	// doesn't come again.
	b := w.bind("bob/b sm")
	b.send("<presence/>")
	w.settle()
	var got []string
	handled := uint32(0)
	for range 3 {
		part := b.take()
		handled += countStanzas(part)
		got = append(got, bodies(part)...)
		if err := b.Ack(handled); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	acked := len(got)
	b.take()
	b.Close(b)
	w.settle()
	if left := w.offline("bob"); !slices.Equal(left, want[acked:]) {
		t.Fatalf("%d acknowledged, %d left", acked, len(left))
	}

	c := w.bind("bob/c")
	c.send("<presence/>")
	var rest []string
	for range 50 {
		w.settle()
		part := bodies(c.take())
		if len(part) > 0 && !strings.Contains(part[0], "m") {
			t.Fatal("no body")
		}
		rest = append(rest, part...)
	}
	if !slices.Equal(rest, want[acked:]) {
		t.Fatalf("got %d of %d, or in another order", len(rest), len(want)-acked)
	}
	if left := w.offline("bob"); len(left) != 0 {
		t.Fatalf("%d are left", len(left))
	}
	w.state("bob", func(s *State) {
		if s.offline != 0 || s.flushing != nil {
			t.Errorf("offline=%d flushing=%v", s.offline, s.flushing)
		}
	})
}

// countStanzas counts what stream management counts.
func countStanzas(elements []string) (n uint32) {
	for _, e := range elements {
		if strings.HasPrefix(e, "<message") || strings.HasPrefix(e, "<presence") || strings.HasPrefix(e, "<iq") {
			n++
		}
	}
	return n
}

// TestOfflineAfterFailedQuery: who asked the archive and was not told gets what was kept; while it is being told, and afterwards, it doesn't.
func TestOfflineAfterFailedQuery(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.bind("alice/a online").say(bob, "kept")
	b := w.bind("bob/b")
	failing, succeeding := b.ReadingArchive(), b.ReadingArchive()
	b.send("<presence/>")
	b.expect("<presence")
	failing(false)
	b.expect()
	succeeding(true)
	b.ReadingArchive()(false)
	b.expect()
	b.Close(b)
	c := w.bind("bob/c")
	failing = c.ReadingArchive()
	c.send("<presence/>")
	c.expect("<presence")
	failing(false)
	c.expect("kept … <delay ")
	c.ReadingArchive()(false)
	c.expect()
}

// TestOfflineFailedQueryAway: whose query failed with the connection doesn't keep the messages from who comes meanwhile, and has them when it is back first.
func TestOfflineFailedQueryAway(t *testing.T) {
	for _, back := range []bool{false, true} {
		w := newWorld(t, "alice bob")
		w.bind("alice/a online").say(bob, "kept")
		b := w.bind("bob/b sm")
		failing := b.ReadingArchive()
		b.send("<presence/>")
		b.expect("<presence")
		b.detach()
		failing(false)
		w.settle()
		if back {
			n, _, err := w.resume(b, 1)
			if err != nil {
				t.Fatal(err)
			}
			n.expect("kept … <delay ", "<r xmlns")
			continue
		}
		c := w.bind("bob/c")
		c.send("<presence/>")
		c.expectAny("<presence", "<presence", "kept … <delay ")
		if n, _, err := w.resume(b, 1); err != nil {
			t.Error(err)
		} else {
			n.expect("<presence … from='bob@h.example/c'")
		}
	}
}

func TestOfflineIsDated(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.bind("alice/a online").say(bob, "then")
	w.pass(3600e9)
	b := w.bind("bob/b")
	b.send("<presence/>")
	b.expect("<presence", "then … <delay xmlns='urn:xmpp:delay' from='h.example' stamp='2026-11-01T12:00:00.000Z'/>")
}

func TestOfflineBound(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OfflineMessages = 3 })
	a := w.bind("alice/a online")
	for i := range 5 {
		a.say(bob, fmt.Sprint(i))
	}
	a.expect() // they are in the archive
	if got := w.offline("bob"); len(got) != 3 {
		t.Errorf("kept %v", got)
	}
	w2 := newWorld(t, "alice bob", func(c *Config) { c.Limits.OfflineMessages = 3; c.ArchiveDefault = "never" })
	a = w2.bind("alice/a online")
	for i := range 4 {
		a.say(bob, fmt.Sprint(i))
	}
	a.expect("id='3' … type='error' … service-unavailable")
}

// TestOfflineRace: a message that is decided for the offline store just before
// its recipient comes is not left there.
func TestOfflineRace(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a online"), w.bind("bob/b")
	release := w.holdCommits()
	a.send("<message type='chat' to='bob@h.example'><body>now</body></message>")
	waitFor(t, func() (ok bool) {
		w.state("bob", func(s *State) { ok = s.offline == 1 })
		return ok
	})
	b.send("<presence/>")
	release()
	w.settle()
	if got := bodies(b.take()); !slices.Equal(got, []string{"now"}) {
		t.Errorf("got %v", got)
	}
}

func TestUnknownAndRemote(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a online")
	a.say("nobody@h.example", "x")
	a.expect("from='nobody@h.example' … type='error' … service-unavailable")
	a.send("<message type='headline' to='nobody@h.example'><body>x</body></message>")
	a.expect()
	a.say("bob@other.example", "y")
	a.expect("from='bob@other.example' … type='error' … remote-server-not-found")
	a.say("h.example", "z")
	a.expect("from='h.example' … type='error' … service-unavailable")
	a.send("<presence to='h.example'/>")
	a.send("<presence to='bob@other.example'/>")
	a.send("<presence type='error' to='nobody@h.example'/>")
	a.send("<iq type='get' id='i1' to='nobody@h.example/x'><q xmlns='u'/></iq>")
	a.send("<iq type='get' id='i2' to='nobody@other.example'><q xmlns='u'/></iq>")
	a.send("<iq type='get' id='i3' to='h.example/x'><q xmlns='u'/></iq>")
	a.send("<iq type='get' id='i4' to='nobody@h.example'><q xmlns='u'/></iq>")
	a.send("<iq type='get' id='i5'><q xmlns='u'/></iq>")
	a.send("<iq type='result' id='i6' to='nobody@h.example/x'/>")
	a.send("<iq type='result' id='i7'/>")
	a.expectAny("id='i1' type='error' … service-unavailable", "id='i2' type='error' … remote-server-not-found", "id='i3' type='error' … service-unavailable",
		"id='i4' type='error' … service-unavailable", "id='i5' type='error' … service-unavailable")
	if got := w.archive("alice"); len(got) != 4 {
		t.Errorf("archive: %v", got)
	}
	w.hub.everywhere(func(l *loop) {
		for j := range l.states {
			if j.Local() == "nobody" {
				t.Error("an account that doesn't exist stays in memory")
			}
		}
	})
}

func TestIQRouting(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b")
	a.send("<iq type='get' id='q' to='bob@h.example/b'><q xmlns='u'/></iq>")
	b.expect("<iq from='alice@h.example/a' to='bob@h.example/b' id='q' type='get'>")
	b.send("<iq type='result' id='q' to='alice@h.example/a'/>")
	a.expect("<iq from='bob@h.example/b' … id='q' type='result'/>")
	// A request to somebody who leaves without an answer is answered.
	a.send("<iq type='get' id='q2' to='bob@h.example/b'><q xmlns='u'/></iq>")
	w.settle()
	b.Close(b)
	a.expect("id='q2' type='error' … service-unavailable")
}

func TestBlocking(t *testing.T) {
	w := newWorld(t, "alice bob carol")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a roster online"), w.bind("bob/b roster online")
	a.take()
	b.send("<presence to='carol@h.example/c'/>")
	c := w.bind("carol/c")
	b.send("<presence to='carol@h.example/c'/>")
	w.settle()
	c.take()
	block := func(u feature.Update) {
		t.Helper()
		if err := b.Owner().Update(context.Background(), u); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	u := feature.Update{Block: []jid.JID{jid.MustParse(alice), jid.MustParse(carol)}}
	block(u)
	a.expect("<presence from='bob@h.example/b' … type='unavailable'")
	c.expect("<presence from='bob@h.example/b' to='carol@h.example/c' type='unavailable'")
	b.take()

	a.say(bob, "in")
	a.expect("from='bob@h.example' … type='error' … service-unavailable")
	a.send("<iq type='get' id='q' to='bob@h.example/b'><q xmlns='u'/></iq>")
	a.send("<iq type='get' id='q2' to='bob@h.example'><q xmlns='u'/></iq>")
	a.expectAny("id='q' type='error' … service-unavailable", "id='q2' type='error' … service-unavailable")
	// Somebody blocked who logs in keeps his subscription, and learns nothing.
	a.send("<presence type='unavailable'/>")
	a.send("<presence/>")
	a.expect("unavailable", "<presence from='alice@h.example/a'")
	a.send("<presence type='subscribe' to='bob@h.example'/>")
	a.expect()
	b.expect()

	b.say(alice, "out")
	b.expect("type='error' … not-acceptable … <blocked xmlns='urn:xmpp:blocking:errors'/>")
	b.send("<presence to='alice@h.example/a'/>")
	b.expect("type='error' … not-acceptable … <blocked")
	b.send("<iq type='set' id='q' to='alice@h.example/a'><q xmlns='u'/></iq>")
	b.expect("type='error' … not-acceptable … <blocked")
	b.send("<presence type='subscribe' to='alice@h.example'/>")
	b.expect("type='error' … not-acceptable … <blocked")
	a.expect()

	block(feature.Update{UnblockAll: true})
	a.expect("<presence from='bob@h.example/b'")
	b.expect("<presence from='alice@h.example/a'")
	if snap, _ := b.Owner().Snapshot(context.Background()); len(snap.Blocked) != 0 {
		t.Error(snap.Blocked)
	}
}

func TestBlockListBound(t *testing.T) {
	w := newWorld(t, "bob", func(c *Config) { c.Limits.BlockItems = 2 })
	b := w.bind("bob/b")
	err := b.Owner().Update(context.Background(), feature.Update{Block: []jid.JID{jid.MustParse("a@x"), jid.MustParse("b@x"), jid.MustParse("c@x")}})
	if err == nil || !strings.Contains(err.Error(), "resource-constraint") {
		t.Errorf("got %v", err)
	}
}

// TestOneTransactionForBoth: what two local users say to each other is in both archives by one commit.
func TestOneTransactionForBoth(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	w.bind("bob/b online")
	a.say(bob, "first") // behind which all that logging in writes is committed
	before := w.store.Stats().Commits
	const messages = 20
	for i := range messages {
		a.say(bob, fmt.Sprint(i))
		w.settle()
	}
	if got := w.store.Stats().Commits - before; got != messages {
		t.Errorf("%d commits for %d messages", got, messages)
	}
	if x, y := len(w.archive("alice")), len(w.archive("bob")); x != messages+1 || y != messages+1 {
		t.Errorf("alice's archive has %d, bob's %d", x, y)
	}
}

// TestLogOfARoutedMessage: the debug log says by which rules a message went where, under the names by which operators look for it.
func TestLogOfARoutedMessage(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, "alice bob", func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	a := w.bind("alice/a")
	w.bind("bob/b online")
	a.send("<message to='bob@h.example' id='m1' type='chat'><body>unsaid</body></message>")
	w.settle()
	w.hub.Close(t.Context())
	text := log.String()
	for _, want := range []string{"account=alice@h.example", "account=bob@h.example stanza=m1", "rule=R-INT-2", "archive_rule=R-ARCH-1", "b.form=direct b.rule=R-CONV-2"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the log", want)
		}
	}
	if strings.Contains(text, "unsaid") {
		t.Error("the log has what was said")
	}
	if t.Failed() {
		t.Log(text)
	}
}
