package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// outside is another domain, x.example, as a Border that keeps what it is sent.
type outside struct {
	w      *world
	mu     sync.Mutex
	sent   []string
	refuse *stanza.Error
	gone   bool
	own    bool
}

func (o *outside) Own() bool { return o.own }

func (o *outside) Send(st *stanza.Stanza) *stanza.Error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse == nil {
		o.sent = append(o.sent, string(st.AppendTo(nil)))
	}
	return o.refuse
}

func (o *outside) to(domain string) Border {
	o.mu.Lock()
	defer o.mu.Unlock()
	if domain != "x.example" || o.gone {
		return nil
	}
	return o
}

// set changes what the border does.
func (o *outside) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *outside) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	sent := o.sent
	o.sent = nil
	return sent
}

func (o *outside) expect(patterns ...string) {
	o.w.t.Helper()
	o.w.settle()
	got := o.take()
	ok := len(got) == len(patterns)
	for i := 0; ok && i < len(got); i++ {
		ok = matchPattern(got[i], patterns[i])
	}
	if !ok {
		o.w.t.Fatalf("outside got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(patterns, "\n  "))
	}
}

// enter is a stanza from outside.
func (o *outside) enter(xml string) {
	o.w.t.Helper()
	st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
	if err != nil {
		o.w.t.Fatal(err)
	}
	if err := o.w.hub.Receive(context.Background(), st); err != nil {
		o.w.t.Fatal(err)
	}
}

func newBorder(t *testing.T, accounts string, change ...func(*Config)) (*world, *outside) {
	o := &outside{}
	o.w = newWorld(t, accounts, append(change, func(c *Config) { c.Borders = o.to })...)
	return o.w, o
}

// profile binds a session of a profile.
func (w *world) profile(who string, p route.Profile) *client {
	c := w.bind(who)
	if err := c.SetProfile(context.Background(), p); err != nil {
		w.t.Fatal(err)
	}
	return c
}

const (
	private = "<private xmlns='urn:xmpp:carbons:2'/>"
	noCopy  = "<no-copy xmlns='urn:xmpp:hints'/>"
	noStore = "<no-store xmlns='urn:xmpp:hints'/>"
	xmpp2   = "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	xmpp1   = "<xmpp-1 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	imng    = "<im-ng xmlns='urn:xmpp:im-ng:0'/>"
)

// TestLeaving is R-GW-1 and R-GW-5 for every profile.
func TestLeaving(t *testing.T) {
	w, o := newBorder(t, "alice")
	one := private + noCopy + noStore
	for _, tc := range []struct {
		profile           route.Profile
		to, payload, want string
	}{
		{route.Classic, "p@x.example", "", xmpp2},
		{route.Classic, "p@x.example/r", "", ""}, // R-INT-9: of 1.0, and a tag would say otherwise
		{route.Classic, "p@x.example/r", private, one + xmpp2},
		{route.Classic, "p@x.example/r", noStore + noCopy, noStore + noCopy + xmpp2 + private},
		{route.Carbons, "p@x.example", noStore, noStore + xmpp2},
		{route.Carbons, "p@x.example/r", imng, imng + xmpp2 + one},
		{route.NG, "p@x.example", "", xmpp2},
		{route.NG, "p@x.example", private, private + xmpp2},
		{route.NG, "p@x.example/r", "", ""},
		{route.NG, "p@x.example/r", imng, imng + xmpp2 + one},
		{route.V2, "p@x.example", "", xmpp2},
		{route.V2, "p@x.example/r", "", xmpp2 + one},
		{route.V2, "p@x.example/r", xmpp2 + xmpp1, xmpp2 + one}, // its tags are the border's
		{route.V2, "p@x.example/r", private, private + xmpp2 + noCopy + noStore},
	} {
		a := w.profile("alice/a", tc.profile)
		a.send("<message type='chat' id='m' to='" + tc.to + "'><body>x</body>" + tc.payload + "</message>")
		w.settle()
		got := o.take()
		if len(got) != 1 {
			t.Fatalf("%v to %s %s: %v left", tc.profile, tc.to, tc.payload, got)
		}
		// The order of payloads says nothing.
		inner, ok := strings.CutPrefix(got[0], "<message from='alice@h.example/a' to='"+tc.to+"' id='m' type='chat'><body>x</body>")
		if !ok || sortedElements(strings.TrimSuffix(inner, "</message>")) != sortedElements(tc.want) {
			t.Errorf("%v to %s %s: left as %s", tc.profile, tc.to, tc.payload, got[0])
		}
		a.Close(a)
		w.settle()
	}
	archived := w.archive("alice")
	if len(archived) != 6 {
		t.Errorf("%d archived: want the conversations without hints", len(archived))
	}
}

func sortedElements(s string) string {
	list := strings.SplitAfter(s, ">")
	slices.Sort(list)
	return strings.Join(list, "")
}

// TestEntering is R-GW-2 and R-GW-3: what comes with the tag is 2.0's, what comes
// without is routed by what it is for, and v2 sessions are told.
func TestEntering(t *testing.T) {
	w, o := newBorder(t, "bob", func(c *Config) { c.RefuseStrangers = false })
	v, n, c := w.profile("bob/v", route.V2), w.profile("bob/n", route.NG), w.bind("bob/c online")
	for _, x := range []*client{v, n, c} {
		x.take()
	}
	const from = "<message from='p@x.example/r' type='chat' id='m' to='bob@h.example"
	clean := "!private … !no-copy … !no-store … !xmpp-2 … !xmpp-1 … "

	// Exclusive by 2.0: one device, and nothing of the border is left.
	o.enter(from + "/v'><body>one</body>" + private + noCopy + noStore + xmpp2 + "</message>")
	v.expect(clean + "to='bob@h.example/v' … <body>one</body></message>")
	n.expect()
	c.expect()
	// A conversation by 2.0: all of them, unmarked.
	o.enter(from + "'><body>two</body>" + xmpp2 + "</message>")
	v.expect(clean + "<body>two</body>")
	n.expect(clean + "<body>two</body>")
	c.expect(clean + "<body>two</body>")
	// By 1.0, to a full JID: for the person all the same, and v2 is told.
	o.enter(from + "/c'><body>three</body></message>")
	v.expect("to='bob@h.example' … <body>three</body> … " + xmpp1)
	n.expect("!xmpp-1 … to='bob@h.example' … <body>three</body>")
	c.expect("!xmpp-1 … to='bob@h.example/c' … <body>three</body>")
	// By 1.0 and private: one device, whose modifiers stay.
	o.enter(from + "/c'><body>four</body>" + private + "</message>")
	v.expect()
	n.expect()
	c.expect("<body>four</body>" + private)
	// The mark isn't to be had from outside.
	o.enter(from + "'><body>five</body>" + xmpp1 + xmpp2 + "</message>")
	v.expect("!xmpp-1 … <body>five</body>")
	n.expect("!xmpp-1 … five")
	c.expect("!xmpp-1 … five")
	if got := w.archive("bob"); !slices.Equal(got, []string{"two", "three", "five"}) {
		t.Errorf("archived %v", got)
	}
	o.expect()
}

// TestLeavesWhenCommitted: a message leaves when its archive entry is on disk, in
// the order in which the account decided, with what else leaves.
func TestLeavesWhenCommitted(t *testing.T) {
	w, o := newBorder(t, "alice")
	a := w.bind("alice/a sm online")
	a.Ack(1)
	if err := w.store.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	release := w.holdCommits()
	for i := range 3 {
		a.send(fmt.Sprintf("<message type='chat' to='p@x.example' id='m%d'><body>%d</body></message>", i, i))
		a.send(fmt.Sprintf("<presence to='p@x.example/r' id='p%d'/>", i))
		a.send(fmt.Sprintf("<iq type='get' to='p@x.example/r' id='i%d'><q xmlns='u'/></iq>", i))
	}
	a.AckRequest()
	waitFor(t, func() bool { return w.pendingEntries("alice") > 8 })
	if got := o.take(); len(got) != 0 || a.peek() != "" {
		t.Errorf("before the commit: %v, and alice was told %s", got, a.peek())
	}
	release()
	o.expect("id='m0'", "id='p0'", "id='i0'", "id='m1'", "id='p1'", "id='i1'", "id='m2'", "id='p2'", "id='i2'")
	a.expect("<a xmlns='urn:xmpp:sm:3' h='10'/>")

	w.failCommits(errors.New("I/O"))
	a.send("<message type='chat' to='p@x.example' id='lost'><body>x</body></message>")
	a.expect("id='lost' type='error' … internal-server-error")
	w.failCommits(nil)
	o.expect()
}

// TestBorderRefuses: what can't leave comes back, once.
func TestBorderRefuses(t *testing.T) {
	w, o := newBorder(t, "alice")
	a := w.bind("alice/a")
	const kinds = 3
	send := func(to string) {
		a.send("<message type='chat' to='" + to + "' id='m'><body>x</body></message>")
		a.send("<presence to='" + to + "/r' id='p'/>")
		a.send("<iq type='get' to='" + to + "/r' id='i'><q xmlns='u'/></iq>")
	}
	expect := func(condition string) {
		t.Helper()
		var want []string
		for _, id := range []string{"m", "p", "i"}[:kinds] {
			want = append(want, "id='"+id+"' type='error' … "+condition)
		}
		a.expectAny(want...)
	}
	send("p@y.example")
	expect("remote-server-not-found")
	o.set(func() { o.refuse = stanza.NewError(stanza.RemoteServerTimeout, "") })
	send("p@x.example")
	expect("remote-server-timeout")

	// The way is gone before the message's turn comes.
	o.set(func() { o.refuse = nil })
	release := w.holdCommits()
	a.send("<message type='chat' to='p@x.example' id='m'><body>x</body></message>")
	waitFor(t, func() bool { return w.pendingEntries("alice") > 0 })
	o.set(func() { o.gone = true })
	release()
	a.expect("id='m' type='error' … remote-server-not-found")
	o.set(func() { o.gone = false })
	o.expect()
}

// TestRequestsFromOutside: the server, accounts and resources are asked, and
// all answers leave.
func TestRequestsFromOutside(t *testing.T) {
	w, o := newBorder(t, "bob")
	b := w.bind("bob/b online")
	ask := func(to string) {
		o.enter("<iq type='get' id='q' from='p@x.example/r' to='" + to + "'><q xmlns='u'/></iq>")
	}
	unavailable := "to='p@x.example/r' id='q' type='error' … service-unavailable"
	for _, to := range []string{"h.example", "h.example/r", "bob@h.example", "nobody@h.example", "bob@h.example/gone", "nobody@h.example/r"} {
		ask(to)
		o.expect("from='" + to + "' " + unavailable)
	}
	ask("p@y.example")
	o.expect("remote-server-not-found")
	o.enter("<iq type='set' id='q' from='p@x.example/r' to='bob@h.example'><query xmlns='jabber:iq:roster'><item jid='a@b'/></query></iq>")
	o.expect("<forbidden ")
	ask("bob@h.example/b")
	b.expect("<iq from='p@x.example/r' to='bob@h.example/b' id='q' type='get'><q xmlns='u'/></iq>")
	b.send("<iq type='result' id='q' to='p@x.example/r'><q xmlns='u'/></iq>")
	o.expect("<iq from='bob@h.example/b' to='p@x.example/r' id='q' type='result'><q xmlns='u'/></iq>")
	// Answers to nobody's question, and what isn't answered.
	for _, xml := range []string{"<iq type='result' id='q' from='p@x.example/r' to='h.example'/>", "<iq type='result' id='q' from='p@x.example/r' to='bob@h.example'/>",
		"<presence from='p@x.example/r' to='h.example'/>", "<message type='headline' from='p@x.example/r' to='h.example'/>", "<message type='error' from='p@x.example/r' to='h.example'/>"} {
		o.enter(xml)
	}
	o.expect()
	o.enter("<message id='m' from='p@x.example/r' to='h.example'><body>x</body></message>")
	o.expect("from='h.example' to='p@x.example/r' id='m' type='error' … service-unavailable")
	o.enter("<message id='m' type='chat' from='p@x.example/r' to='nobody@h.example'><body>x</body></message>")
	o.expect("from='nobody@h.example' … type='error' … service-unavailable")
	b.expect()
}

// TestPresenceAcross: subscriptions and presence with somebody outside.
func TestPresenceAcross(t *testing.T) {
	w, o := newBorder(t, "alice")
	a := w.bind("alice/a roster online")
	a.send("<presence type='subscribe' to='p@x.example'/>")
	a.expect("p@x.example … ask='subscribe'")
	o.expect("<presence from='alice@h.example' to='p@x.example' type='subscribe'/>")
	o.enter("<presence type='subscribed' from='p@x.example' to='alice@h.example'/>")
	a.expect("type='subscribed'", "jid='p@x.example' subscription='to'")
	o.enter("<presence from='p@x.example/r' to='alice@h.example'/>")
	a.expect("from='p@x.example/r'")
	o.enter("<presence type='subscribe' from='p@x.example' to='alice@h.example'/>")
	a.expect("type='subscribe'")
	a.send("<presence type='subscribed' to='p@x.example'/>")
	a.expect("subscription='both'")
	o.expect("type='subscribed'", "<presence from='alice@h.example/a' to='p@x.example'/>")
	o.enter("<presence type='probe' from='p@x.example' to='alice@h.example'/>")
	o.expect("<presence from='alice@h.example/a' to='p@x.example'/>")
	w.state("alice", func(s *State) { s.cfg = nil }) // a bug in this account
	w.panics = 1
	a.send("<presence><show>dnd</show></presence>")
	o.expect("<presence from='alice@h.example/a' to='p@x.example' type='unavailable'/>")

	// Removing the account ends it for them.
	w.state("alice", func(*State) {})
	if err := w.store.RemoveAccount(context.Background(), w.jid("alice")); err != nil {
		t.Fatal(err)
	}
	if err := w.hub.AccountRemoved(context.Background(), w.jid("alice")); err != nil {
		t.Fatal(err)
	}
	o.expect("type='unsubscribe'", "type='unsubscribed'")
}

// TestServicesAreNoStrangers is R-EXCL-3 for what is behind an own border.
func TestServicesAreNoStrangers(t *testing.T) {
	w, o := newBorder(t, "bob")
	b := w.bind("bob/b online")
	const xml = "<message type='chat' id='m' from='bot@x.example/r' to='bob@h.example/b'><body>x</body>" + private + "</message>"
	o.enter(xml)
	o.expect("type='error' … service-unavailable")
	b.expect()
	o.set(func() { o.own = true })
	o.enter(xml)
	b.expect("<body>x</body>")
	o.expect()
}

// TestIDsOfAccountsFromOutside: nobody outside gives the ids of this server's accounts (R-ARCH-4).
func TestIDsOfAccountsFromOutside(t *testing.T) {
	w, o := newBorder(t, "bob")
	b := w.bind("bob/b online")
	const theirs = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@x.example' id='theirs'/>"
	o.enter("<message xml:lang='de' type='chat' from='p@x.example/r' to='bob@h.example'><body>x</body>" +
		"<stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example/b' id='forged'/><stanza-id xmlns='urn:xmpp:sid:0' by='Alice@H.example' id='forged'/>" + theirs + "</message>")
	b.expect("!forged … xml:lang='de'><body>x</body>" + theirs + "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example' id='")
	o.expect()
}

// TestEnteringWaits: whoever brings stanzas from outside is held up until they
// are dealt with, and now and then until they are on disk.
func TestEnteringWaits(t *testing.T) {
	w, o := newBorder(t, "bob")
	w.pendingEntries("bob")
	release := w.holdCommits()
	st := func(i int) *stanza.Stanza {
		return stanza.Build(stanza.Message, "chat", "", jid.MustParse("p@x.example/r"), w.jid("bob"), fmt.Sprintf("<body>%d</body>", i))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	n, err := 0, error(nil)
	for ; err == nil; n++ {
		err = w.hub.Receive(ctx, st(n))
	}
	if n != settleEvery || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d were taken, then %v", n, err)
	}
	release()
	w.settle()
	got := w.archive("bob")
	if len(got) != n || !slices.IsSortedFunc(got, func(a, b string) int { return len(a)*1000 - len(b)*1000 + strings.Compare(a, b) }) {
		t.Errorf("archived %v", got)
	}
	o.expect()
	w.hub.closing.Store(true)
	if err := w.hub.Receive(context.Background(), st(0)); err == nil {
		t.Error("taken while the server stops")
	}
}

// keeper is outside as a border that keeps messages in the outbox.
type keeper struct {
	*outside
	kept []uint64
}

func (k *keeper) Refuses(*stanza.Stanza) *stanza.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refuse
}

func (k *keeper) SendKept(st *stanza.Stanza, id uint64, _ trail.Ref) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, id)
	k.sent = append(k.sent, string(st.AppendTo(nil)))
}

// TestOutbox: a message for a border that keeps what it takes is committed as it
// leaves, together with its archive entry, before it is sent; what need not
// outlive the server isn't.
func TestOutbox(t *testing.T) {
	k := &keeper{outside: &outside{}}
	w := newWorld(t, "alice", func(c *Config) {
		c.Start = 3
		c.Borders = func(domain string) Border {
			if domain != "x.example" {
				return nil
			}
			return k
		}
	})
	k.w = w
	a := w.bind("alice/a online")
	for _, xml := range []string{
		"<message type='chat' id='c' to='p@x.example'><body>one</body></message>",
		"<message type='chat' id='e' to='p@x.example/r'><body>two</body>" + private + "</message>",
		"<message type='chat' id='t' to='p@x.example'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
		"<message type='error' id='f' to='p@x.example'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
		"<iq type='get' id='i' to='p@x.example/r'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<presence to='p@x.example/r'/>",
	} {
		a.send(xml)
	}
	w.settle()
	sent := k.take()
	if len(sent) != 6 || len(k.kept) != 2 {
		t.Fatalf("%d were kept of\n%s", len(k.kept), strings.Join(sent, "\n"))
	}
	rows, err := w.store.Outbox(t.Context(), 0, 10)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	for i, r := range rows {
		if string(r.Stanza) != sent[i] || uint64(r.ID) != k.kept[i] || uint64(r.ID) != 3<<40+uint64(i)+1 {
			t.Errorf("row %d of\n%s\nas\n%s", r.ID, sent[i], r.Stanza)
		}
	}
	if strings.Count(sent[0], xmpp2) != 1 || strings.Count(sent[1], xmpp2) != 1 {
		t.Errorf("tagged: %s\n%s", sent[0], sent[1])
	}
}

// TestOutboxFull: a message for which the border has no room is refused before it is
// acknowledged, and as if it had never been sent; what was taken before still leaves.
func TestOutboxFull(t *testing.T) {
	k := &keeper{outside: &outside{}}
	w := newWorld(t, "alice", func(c *Config) { c.Borders = func(string) Border { return k } })
	k.w = w
	a, other := w.bind("alice/a online sm"), w.bind("alice/b online carbons")
	message := func(id string) string {
		return "<message type='chat' id='" + id + "' to='p@x.example'><body>x</body></message>"
	}
	before := a.h()
	release := w.holdCommits()
	a.send(message("yes"))
	waitFor(t, func() bool { return w.pendingEntries("alice") > 0 })
	a.take()
	k.set(func() { k.refuse = stanza.NewError(stanza.ResourceConstraint, "") })
	a.send(message("no"))
	a.AckRequest()
	release()
	w.settle()
	a.expect("<message from='p@x.example' to='alice@h.example/a' id='no' type='error'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
		fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", before+2))
	k.expect("<message from='alice@h.example/a' to='p@x.example' id='yes' type='chat'><body>x</body>" + xmpp2 + "</message>")
	if got := w.archive("alice"); len(got) != 1 {
		t.Errorf("archived %v", got)
	}
	if rows, err := w.store.Outbox(t.Context(), 0, 10); err != nil || len(rows) != 1 {
		t.Errorf("outbox: %v, %v", rows, err)
	}
	for _, s := range other.take() {
		if strings.Contains(s, "id='no'") {
			t.Errorf("a copy of what was refused: %s", s)
		}
	}
}
