package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestSpansAreBounded: a session that comes and goes doesn't grow, and stays
// known to have been there.
func TestSpansAreBounded(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b")
	for i := range 3 * maxSpans {
		b.send("<presence/>")
		w.settle()
		a.say(bob, fmt.Sprintf("there%d", i))
		b.send("<presence><priority>-1</priority></presence>")
		w.settle()
	}
	w.state("bob", func(s *State) {
		x := s.sessions[0]
		if len(x.reached) != maxSpans {
			t.Errorf("%d spans", len(x.reached))
		}
		if !x.there(s.order) || !x.there(1) {
			t.Errorf("it was not there for the first or the last: %v", x.reached)
		}
	})
}

// TestUnkept: an acknowledged message that nobody has read, and that the store
// can't take when its session ends, is tried until it can.
func TestUnkept(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b sm online")
	a.say(bob, "one")
	a.say(bob, "two")
	w.failCommits(errors.New("I/O"))
	b.Close(b)
	w.settle()
	w.state("bob", func(s *State) {
		if len(s.unkept) != 2 || s.offline != 2 || s.idle() {
			t.Errorf("%d unkept, %d offline, idle %v", len(s.unkept), s.offline, s.idle())
		}
	})
	w.tick() // still not
	w.forget()
	w.failCommits(nil)
	w.tick()
	if got := w.offline("bob"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("kept %v", got)
	}
	w.state("bob", func(s *State) {
		if len(s.unkept) != 0 || s.offline != 2 {
			t.Errorf("%d unkept, %d offline", len(s.unkept), s.offline)
		}
	})
	b = w.bind("bob/b")
	b.send("<presence/>")
	b.expect("from='bob@h.example/b'", "one", "two")
}

// fillRoster puts contacts into the roster until its bound in bytes, and
// returns their number.
func fillRoster(t *testing.T, a *client) int {
	t.Helper()
	groups := ""
	for i := range maxItemGroups {
		groups += fmt.Sprintf("<group>%03d%s</group>", i, strings.Repeat("g", maxItemText-3))
	}
	for i := range 100 {
		xml := fmt.Sprintf("<iq type='set' id='s%d'><query xmlns='jabber:iq:roster'><item jid='c%d@x.example'>%s</item></query></iq>", i, i, groups)
		st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		st.From = a.JID()
		if err := a.Receive(context.Background(), st, len(xml)); err != nil {
			t.Fatal(err)
		}
		a.w.settle()
		if got := a.take(); matchPattern(got[len(got)-1], "type='error' … resource-constraint") {
			return i
		}
	}
	t.Fatal("the roster has no bound in bytes")
	return 0
}

// TestRosterBytes: names and groups of a roster are bounded together, and what
// is within the bound reaches a client whose queue is shorter.
func TestRosterBytes(t *testing.T) {
	w := newWorld(t, "alice", func(c *Config) { c.Limits.OutboxBytes = 128 << 10 })
	a := w.bind("alice/a")
	n := fillRoster(t, a)
	if want := maxRosterBytes / (maxItemGroups * maxItemText); n != want {
		t.Errorf("%d contacts, want %d", n, want)
	}
	// In place of what is there, less is always possible.
	a.send("<iq type='set' id='less'><query xmlns='jabber:iq:roster'><item jid='c0@x.example'/></query></iq>")
	a.expect("id='less' type='result'")
	w.state("alice", func(s *State) {
		if s.rosterBytes(jid.JID{}) > maxRosterBytes {
			t.Errorf("%d bytes", s.rosterBytes(jid.JID{}))
		}
	})
	b := w.bind("alice/b sm")
	b.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
	b.send("<presence/>")
	w.settle()
	if w.hub.Counters().Overflows != 0 {
		t.Fatal("its own roster cost the client its session")
	}
	got := b.take()
	if len(got) != 2 || len(got[0]) < maxRosterBytes*9/10 {
		t.Errorf("%d stanzas", len(got))
	}
}

// TestAnswersWaitForRoom: who asks faster than it reads is read more slowly.
func TestAnswersWaitForRoom(t *testing.T) {
	w := newWorld(t, "alice", func(c *Config) { c.Limits.OutboxBytes = 128 << 10 })
	fillRoster(t, w.bind("alice/a"))
	b := w.bind("alice/b")
	b.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>")
	w.settle()
	for _, payload := range []string{"<query xmlns='jabber:iq:roster'/>", "<query xmlns='urn:unknown'/>"} {
		st := stanza.Build(stanza.IQ, stanza.TypeGet, "more", b.JID(), jid.JID{}, payload)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if err := b.Receive(ctx, st, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s was taken: %v", payload, err)
		}
		cancel()
	}
	done := make(chan error)
	go func() {
		st := stanza.Build(stanza.IQ, stanza.TypeGet, "again", b.JID(), jid.JID{}, "<query xmlns='urn:unknown'/>")
		done <- b.Receive(context.Background(), st, 0)
	}()
	b.take()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.expect("id='again' type='error'")
}

// TestOneAnswerBesideTheBound: what a client asked for may be longer than its queue, but only one answer at a time; the next counts.
func TestOneAnswerBesideTheBound(t *testing.T) {
	const limit = 8 << 10
	w := newWorld(t, "alice", func(c *Config) { c.Limits.OutboxBytes = limit })
	a := w.bind("alice/a")
	long := []byte("<iq type='result' id='1'><x xmlns='urn:x'>" + strings.Repeat("x", 2*limit) + "</x></iq>")
	for n := range uint64(2) {
		a.deliver(long, tag{answer: len(long)})
		w.settle()
		if got := w.hub.Counters().Overflows; got != n {
			t.Errorf("after %d answers: %d overflows, want %d", n+1, got, n)
		}
	}
}

// TestMissedIsBounded: a session that reads nothing costs a bounded number of addresses, however many contacts it has.
func TestMissedIsBounded(t *testing.T) {
	w := newWorld(t, "alice")
	a := w.bind("alice/a online")
	a.deliver([]byte("<message><body>"+strings.Repeat("x", w.hub.cfg.Limits.OutboxBytes/3)+"</body></message>"), tag{})
	noted := 0
	w.state("alice", func(s *State) {
		for i := range maxMissed + 10 {
			s.showContact(a.session, []byte("<presence/>"), tag{wait: waitPresence, from: jid.MustParse(fmt.Sprintf("c%d@x.example/r", i))}, false)
		}
		if m := s.missed[a.session]; m != nil {
			noted = len(m.from)
		}
	})
	if noted != maxMissed {
		t.Errorf("%d addresses are noted, want %d", noted, maxMissed)
	}
}

// TestSentIsBounded: of what an account sent, the latest are remembered.
func TestSentIsBounded(t *testing.T) {
	var l sentLog
	for i := range uint64(3 * maxSent) {
		l.add(sentMessage{key: i})
	}
	known := func(key uint64) bool { return l.find(key, func(*sentMessage) bool { return true }) != nil }
	if len(l.list) != maxSent || !known(3*maxSent-1) || !known(2*maxSent) || known(2*maxSent-1) {
		t.Errorf("%d messages are remembered, and not the latest", len(l.list))
	}
}

// TestIdleAccountsAreForgotten: an account without sessions stays in memory only as long as few others do.
func TestIdleAccountsAreForgotten(t *testing.T) {
	w := newWorld(t, "alice bob carol dave", func(c *Config) { c.Loops, c.Limits.IdleAccounts = 1, 2 })
	w.bind("alice/a")
	for _, name := range []string{"bob", "carol", "dave"} {
		w.state(name, func(*State) {})
	}
	loaded := make(chan [2]int, 1)
	w.hub.everywhere(func(l *loop) {
		before := len(l.states)
		l.sweep()
		loaded <- [2]int{before, len(l.states)}
	})
	if got := <-loaded; got != [2]int{4, 2} {
		t.Errorf("accounts in memory before and after: %v", got)
	}
	here := 0
	w.state("alice", func(s *State) { here = len(s.sessions) })
	if here != 1 {
		t.Error("an account with a session was forgotten")
	}
}

// TestHeardIsBounded: of so many nodes a listener that is told newest items remembers
// what it heard; of what it doesn't remember it is told again.
func TestHeardIsBounded(t *testing.T) {
	var l listening
	l.want([]string{"n"})
	from := func(i int) jid.JID { return jid.MustParse(fmt.Sprintf("u%d@h.example", i)) }
	for i := range maxHeard + 1 {
		l.note(heardOf{from(i), "n"}, false)
	}
	l.note(heardOf{from(0), "n"}, true) // one that it knows
	if len(l.heard) != maxHeard {
		t.Errorf("it remembers %d", len(l.heard))
	}
	for i, want := range map[int]feature.Heard{0: feature.HeardItem, 1: feature.HeardChange, maxHeard: feature.HeardNothing} {
		if got := l.hasHeard(from(i), "n"); got != want {
			t.Errorf("of node %d it heard %d, want %d", i, got, want)
		}
	}
}
