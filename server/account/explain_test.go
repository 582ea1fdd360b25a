package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestExplainIsWhatHappens: what is explained of a message is what becomes of it
// when it is sent right after, and explaining changes nothing.
func TestExplainIsWhatHappens(t *testing.T) {
	for _, message := range []string{
		"<message to='bob@h.example' type='chat' id='m'><body>x</body></message>",
		"<message to='bob@h.example/desk' type='chat' id='m'><body>x</body></message>",
		"<message to='bob@h.example/gone' type='chat' id='m'><body>x</body></message>",
		"<message to='bob@h.example/desk' id='m'><im-ng xmlns='urn:xmpp:im-ng:0'/><body>x</body></message>",
		"<message to='bob@h.example' type='headline' id='m'><body>x</body></message>",
		"<message to='nobody@h.example' type='chat' id='m'><body>x</body></message>",
		"<message to='alice@h.example' id='m'><body>note</body></message>",
		"<message to='alice@h.example' id='m'><mine xmlns='urn:xmpp:tmp:mine:0'><id>a</id></mine></message>",
		"<message to='alice@h.example' id='m'><mine xmlns='urn:xmpp:tmp:mine:0'/></message>",
	} {
		w := newWorld(t, "alice bob")
		w.befriend("alice", "bob")
		a := w.bind("alice/r online")
		other := w.bind("alice/phone carbons online")
		desk, tablet := w.bind("bob/desk online"), w.bind("bob/tablet sm")
		if err := tablet.SetProfile(context.Background(), route.NG); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*client{a, other, desk, tablet} {
			c.take()
		}
		st, err := stanza.ParseBytes([]byte(message), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		st.From = a.JID()
		said, err := w.hub.Explain(context.Background(), st, route.Classic)
		if err != nil {
			t.Fatal(err)
		}
		if text := said.Text(); strings.Contains(text, "written") || strings.Contains(text, "acknowledged") {
			t.Errorf("what didn't happen has a time:\n%s", text)
		}
		w.settle()
		for _, c := range []*client{a, other, desk, tablet} {
			if got := c.take(); len(got) > 0 {
				t.Fatalf("%s: explaining sent %v", message, got)
			}
		}
		a.send(message)
		w.settle()
		tablet.take()
		var happened []trail.Record
		for _, name := range []string{"alice", "bob", "nobody"} {
			for _, r := range w.hub.Trail().Find(trail.Query{Account: name + "@h.example", ID: "m"}) {
				if r.Type != "error" {
					happened = append(happened, r)
				}
			}
		}
		if len(said.Sides) != len(happened) {
			t.Fatalf("%s: %d sides explained, %d happened", message, len(said.Sides), len(happened))
		}
		for i, r := range happened {
			if r.ArchiveID == "" == r.Archived {
				t.Errorf("%s: archived %v under %q", message, r.Archived, r.ArchiveID)
			}
			if got, want := decided(&r), decided(&said.Sides[i]); got != want {
				t.Errorf("%s: happened\n%swas explained\n%s", message, got, want)
			}
		}
	}
}

// decided is a record without times and numbers.
func decided(r *trail.Record) string {
	c := *r
	c.Seq, c.ArchiveID, c.At = 0, "", time.Time{}
	_, text, _ := strings.Cut(c.Text(), "\n")
	return text
}

// TestTrailFollowsDelivery: written and acknowledged per device.
func TestTrailFollowsDelivery(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b, c := w.bind("alice/r"), w.bind("bob/b sm online"), w.bind("bob/c sm online")
	a.send("<message to='bob@h.example' type='chat' id='m'><body>secret words</body></message>")
	w.settle()
	w.pass(1e9)
	b.take()
	w.pass(1e9)
	b.session.mu.Lock()
	n := b.out.Unacked()
	b.session.mu.Unlock()
	if err := b.Ack(uint32(n)); err != nil {
		t.Fatal(err)
	}
	r := w.hub.Trail().Find(trail.Query{Account: bob, ID: "m"})
	if len(r) != 1 || len(r[0].Devices) != 2 {
		t.Fatalf("%+v", r)
	}
	text := r[0].Text()
	for _, want := range []string{"b (classic): gets it directly", "acknowledged after 2s", "c (classic): gets it directly", "not written yet"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("the body is in it")
	}
	_ = c
}

// TestExplainOutside: what happens at the borders.
func TestExplainOutside(t *testing.T) {
	w := newWorld(t, "alice")
	st := stanza.Build(stanza.Message, "chat", "", jid.MustParse(alice), jid.MustParse("b@elsewhere.example"), "<body>x</body>")
	e, err := w.hub.Explain(context.Background(), st, route.V2)
	if err != nil || len(e.Sides) != 1 || !strings.Contains(e.Text(), "remote-server-not-found") {
		t.Errorf("%v, %v", e.Text(), err)
	}

	// What leaves bears the tags that it leaves with, and who is elsewhere is called so.
	w, _ = newBorder(t, "alice bob")
	w.profile("bob/b online", route.NG)
	for _, tc := range []struct {
		from, to, typ string
		profile       route.Profile
		want          string
	}{
		{alice, "p@x.example", "chat", route.NG, "leaves for x.example, where other rules may hold, tagged <xmpp-2/> — R-GW-1"},
		{alice, "p@x.example/r", "chat", route.NG, "leaves for x.example, where other rules may hold, without a tag: it is a message of XMPP 1.0 — R-INT-9"},
		{alice, "p@x.example/r", "chat", route.V2, "leaves for x.example, where other rules may hold, tagged <xmpp-2/> and marked for one device — R-GW-1"},
		{alice, "h.example", "chat", route.NG, "answered <service-unavailable/>"},
		{alice, "h.example", "headline", route.NG, "dropped without an answer"},
		{alice, "p@y.example", "error", route.NG, "dropped without an answer"},
		{"p@x.example/r", bob, "chat", route.NG, "message from p@x.example/r (of another domain) to bob@h.example"},
		{"p@y.example/r", bob, "chat", route.NG, "message from p@y.example/r (of another domain, which this server doesn't talk to) to bob@h.example"},
	} {
		st := stanza.Build(stanza.Message, tc.typ, "", jid.MustParse(tc.from), jid.MustParse(tc.to), "<body>x</body>")
		e, err := w.hub.Explain(context.Background(), st, tc.profile)
		if err != nil || !strings.Contains(e.Text(), tc.want) {
			t.Errorf("%s to %s: no %q in\n%s%v", tc.from, tc.to, tc.want, e.Text(), err)
		}
	}
	// Nobody sends as who isn't there.
	st = stanza.Build(stanza.Message, "chat", "", jid.MustParse("nobody@h.example"), jid.MustParse(bob), "<body>x</body>")
	if e, err := w.hub.Explain(context.Background(), st, route.V2); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v\n%s", err, e.Text())
	}
}

// TestExplainKnowsTheDevice: a session that is there sends as what it is, whatever profile is given; one that isn't as the profile given.
func TestExplainKnowsTheDevice(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	w.profile("alice/new online", route.V2)
	w.profile("alice/old online", route.NG)
	w.bind("bob/b online")
	for _, tc := range []struct {
		from string
		p    route.Profile
		want string
	}{{"new", route.NG, "R-INT-4"}, {"old", route.V2, "R-INT-9"}, {"gone", route.V2, "R-INT-4"}, {"gone", route.Classic, "R-INT-9"}} {
		st := stanza.Build(stanza.Message, "chat", "", jid.MustParse(alice+"/"+tc.from), jid.MustParse(bob+"/b"), "<body>x</body>")
		e, err := w.hub.Explain(context.Background(), st, tc.p)
		if err != nil || len(e.Sides) != 2 || !strings.Contains(e.Text(), tc.want) {
			t.Errorf("%s, %v: no %s in\n%s%v", tc.from, tc.p, tc.want, e.Text(), err)
		}
	}
}

// TestTraceOfErrors: the record of an error says which it is, if RFC 6120 knows it.
func TestTraceOfErrors(t *testing.T) {
	w, o := newBorder(t, "bob")
	w.profile("bob/b online", route.NG)
	for id, tc := range map[string]struct{ error, want string }{
		"e1": {"<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>", "error message (gone) from p@x.example to bob@h.example/b, id e1"},
		"e2": {"<made-up xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>", "error message from p@x.example to bob@h.example/b, id e2"},
		"e3": {"", "error message from p@x.example to bob@h.example/b, id e3"},
	} {
		o.enter("<message type='error' id='" + id + "' from='p@x.example' to='bob@h.example/b'><error type='cancel'>" + tc.error + "</error></message>")
		w.settle()
		r := w.hub.Trail().Find(trail.Query{Account: bob, ID: id})
		if len(r) != 1 || !strings.Contains(r[0].Text(), tc.want) {
			t.Errorf("%v", r)
		}
	}
}

// TestPushExplained: what would happen is said, and doesn't happen; what happens is counted.
func TestPushExplained(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	st, err := stanza.ParseBytes([]byte("<message type='chat' from='alice@h.example/a' to='"+bob+"'><body>x</body></message>"), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	explained := func(want string) {
		t.Helper()
		e, err := p.hub.Explain(context.Background(), st, route.Classic)
		if err != nil || !strings.Contains(e.Text(), "    "+want+" ") {
			t.Errorf("%q is missing: %v\n%s", want, err, e.Text())
		}
	}
	explained("phone is not notified, by x.example — R-PUSH-5:")
	p.phone.detach()
	p.desk.send("<presence/>")
	explained("phone is not notified yet, by x.example — R-PUSH-10:")
	p.idle()
	explained("phone is to be notified, by x.example — R-PUSH-12:")
	p.notified("")
	if got := p.heldRows(); len(got) != 0 {
		t.Errorf("held %v", got)
	}
	p.say("1")
	p.notified("forbidden", 1)
	p.desk.send("<presence/>")
	again := p.bindAs("p", "phone")
	p.on(again, "n1")
	again.detach()
	p.say("2")
	p.desk.say("alice@h.example", "yes")
	p.pass(time.Minute)
	c := p.hub.Counters()
	if got := [4]uint64{c.Pushes, c.PushErrors, c.PushesHeld, c.PushesDropped}; got != [4]uint64{1, 1, 1, 2} {
		t.Errorf("sent, failed, held, dropped: %v", got)
	}
}

// TestPushAtTheStop: the server's own stop wakes no device that was there.
// TestPushOfARemovedAccount: nobody is notified of what waited for an account that is
// no more, and nothing of it stays in memory.
