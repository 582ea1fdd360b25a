package convo

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
)

// TestForgedWrappings: copies and results count from who may send them only.
func TestForgedWrappings(t *testing.T) {
	inner := "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='f'><body>forged</body></message>"
	for name, xml := range map[string]string{
		"a carbon from a stranger":          strings.Replace(carbonOf("received", inner), "from='alice@wonder.example'", "from='mallory@evil.example'", 1),
		"a carbon from an own device":       strings.Replace(carbonOf("received", inner), "from='alice@wonder.example'", "from='alice@wonder.example/desk'", 1),
		"a sent carbon of a received one":   carbonOf("sent", inner),
		"a received carbon of a sent one":   carbonOf("received", strings.Replace(inner, "from='bob@wonder.example/pc' to='alice@wonder.example'", "from='alice@wonder.example/desk' to='bob@wonder.example'", 1)),
		"a carbon in a carbon":              carbonOf("received", carbonOf("received", inner)),
		"a result that nobody asked for":    result("nobody", "a1", inner),
		"a result of a finished catch-up":   result("session", "a1", inner),
		"a result in a carbon":              carbonOf("received", result("session", "a1", inner)),
		"a carbon without a message":        "<message from='alice@wonder.example'><received xmlns='urn:xmpp:carbons:2'/></message>",
		"a message in a room nobody joined": "<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>forged</body></message>",
	} {
		for _, p := range []Profile{Carbons, NG, V2} {
			r := newRun(t, p)
			r.in(xml)
			for _, s := range r.e.Conversations() {
				t.Errorf("%s (profile %d) is shown: %+v", name, p, s.Last)
			}
		}
	}
	r := newRun(t, Carbons)
	r.in(carbonOf("received", inner))
	r.in(carbonOf("sent", "<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat'><body>mine</body></message>"))
	r.want(bob, "forged mine")
	if v := r.view(bob); len(v.Holders) != 1 || v.Holders[0].Resource != "desk" || v.LockedTo != bobPC {
		t.Errorf("%+v, locked to %v", v.Holders, v.LockedTo)
	}
}

// TestForgedResult: the archive of one is not the archive of another.
func TestForgedResult(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	id := r.asked[0].ID
	r.in(strings.Replace(result(id, "a1", fromBob("x", "", "")), "from='alice@wonder.example'", "from='mallory@evil.example'", 1))
	r.in(strings.Replace(result(id, "a1", fromBob("x", "", "")), "from='alice@wonder.example'", "from='alice@wonder.example/desk'", 1))
	for range 10 * r.e.lim.Page {
		r.in(result(id, "a1", fromBob("y", "", ""))) // and more than was asked for
	}
	if n := len(r.e.queries[id].buffer); n > 4*r.e.lim.Page {
		t.Errorf("%d results are kept", n)
	}
	r.do(QueryDone{Query: id, First: "a1", Last: "a1", Complete: true})
	r.want(bob, "y")
}

// TestForgedStanzaID: an archive id by somebody else names no place.
func TestForgedStanzaID(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", ""))
	r.in(fromBob("two", "", "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@wonder.example' id='a1'/>"))
	r.want(bob, "one two")
	if r.e.Cursor() != "a1" {
		t.Error(r.e.Cursor())
	}
	// An id attribute that comes again is another message, with other words.
	r.in(strings.Replace(fromBob("three", "a3", ""), "m-three", "m-one", 1))
	r.in(strings.Replace(fromBob("four", "", ""), "m-four", "m-two", 1))
	r.want(bob, "one two three four")
}

// TestFutureStamp: a stamp that can't be is none.
func TestFutureStamp(t *testing.T) {
	r := newRun(t, NG)
	for i, stamp := range []string{"9999-12-31T23:59:59-01:00", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "nonsense"} {
		r.in(fromBob(fmt.Sprint(i), fmt.Sprint("a", i), "<delay xmlns='urn:xmpp:delay' stamp='"+stamp+"'/>"))
		if got := r.last(bob).At; got != r.now {
			t.Errorf("%s: %v", stamp, got)
		}
	}
}

// TestBounds: what peers send grows nothing beyond its bound, and the engine
// goes on working.
func TestBounds(t *testing.T) {
	lim := Limits{Conversations: 20, Entries: 200, Total: 400, Threads: 10, Refs: 8, Orphans: 16, Claims: 32}
	r := start(t, Config{Limits: lim}, NewMemory())
	r.connect(NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	for i := range 1000 {
		n := fmt.Sprint(i)
		r.in(withThread("x"+n, "t"+n, "p"+n, "a"+n))
		r.in("<message from='s" + n + "@evil.example/x' to='alice@wonder.example' type='chat'><body>spam</body></message>")
		r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='c" + n + "'><body>c</body><replace xmlns='urn:xmpp:message-correct:0' id='m-x0'/></message>")
		r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='o" + n + "'><body>c</body><replace xmlns='urn:xmpp:message-correct:0' id='none" + n + "'/></message>")
		r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat'><received xmlns='urn:xmpp:receipts' id='r" + n + "'/></message>")
		r.in("<message from='hall@rooms.example/n" + n + "' to='alice@wonder.example/phone' type='groupchat'><body>b</body></message>")
		r.in("<message from='hall@rooms.example/n" + n + "' to='alice@wonder.example/phone' type='groupchat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
		r.in("<presence from='alice@wonder.example/d" + n + "'/>")
		r.in("<presence from='bob@wonder.example/d" + n + "'/>")
		r.in(claimBy("alice@wonder.example/d"+n, "k"+n, "w"+n))
	}
	e := r.e
	if len(e.convs) > lim.Conversations || e.total > lim.Total {
		t.Errorf("%d conversations, %d entries", len(e.convs), e.total)
	}
	total, archived := 0, 0
	for j, c := range e.convs {
		refs := 0
		for _, it := range c.items {
			refs = max(refs, len(it.refs))
			if it.Archive.ID != "" {
				archived++
			}
		}
		total += len(c.items)
		orphans := 0
		for _, list := range c.orphans {
			orphans += len(list)
		}
		if len(c.items) > lim.Entries || len(c.threads) > lim.Threads || refs > lim.Refs || orphans > lim.Orphans || orphans != c.orphan ||
			len(c.byID) != len(c.items) || len(c.typing) > maxTyping || len(c.holders) > maxHolders || len(c.markers) > maxEarly || len(c.changed) > 256 {
			t.Errorf("%v: %d entries, %d known, %d threads, %d refs, %d (%d) orphans, %d typing, %d holders, %d markers",
				j, len(c.items), len(c.byID), len(c.threads), refs, orphans, c.orphan, len(c.typing), len(c.holders), len(c.markers))
		}
	}
	if total != e.total || len(e.archived) != archived {
		t.Errorf("%d entries are counted as %d; %d places for %d", total, e.total, len(e.archived), archived)
	}
	if len(e.claims.first) > lim.Claims || len(e.claims.order) != len(e.claims.first) || len(e.devices) > maxDevices || len(e.names) > 4096 || len(e.account.Own) > maxOwn {
		t.Errorf("%d claims, %d devices, %d names", len(e.claims.first), len(e.devices), len(e.names))
	}
	r.in(fromBob("last", "end", ""))
	if got := r.last(bob).Body; got != "last" {
		t.Error(got)
	}
	// What the person does is bounded too.
	r.do(Disconnected{})
	for n := range 2 * maxWaiting {
		effects := r.do(SendText{Conversation: bob, Body: "x"})
		if refused := slices.Contains(effects, Effect(Refused{bob})); refused != (n >= maxWaiting) {
			t.Fatalf("message %d refused: %t", n, refused)
		}
	}
	if n := len(e.convs[bob].pending); n != maxWaiting {
		t.Errorf("%d wait", n)
	}
	for i := range 3 * lim.Conversations * 4 {
		r.do(Contact{JID: jid.MustParse(fmt.Sprint("c", i, "@wonder.example"))})
	}
	if len(e.contacts) > 4*lim.Conversations {
		t.Errorf("%d contacts", len(e.contacts))
	}
}

// TestForgotten: a conversation that was dropped for others comes back from the
// store, behind it what came since.
func TestForgotten(t *testing.T) {
	r := start(t, Config{Limits: Limits{Conversations: 3}}, NewMemory())
	r.connect(NG)
	r.in(fromBob("old", "a1", ""))
	for i := range 5 {
		r.wait(time.Minute)
		r.in(fmt.Sprintf("<message from='s%d@wonder.example/x' to='alice@wonder.example' type='chat'><body>spam</body></message>", i))
	}
	if _, ok := r.e.Conversation(bob, 0); ok {
		t.Fatal("bob is still in memory")
	}
	r.wait(time.Minute)
	r.in(fromBob("new", "a2", ""))
	if !r.view(bob).More {
		t.Fatal("the store isn't asked")
	}
	r.do(Page{Conversation: bob})
	l := r.load[len(r.load)-1]
	entries, more, err := r.store.History(l.Conversation, l.Before, l.Max)
	if err != nil {
		t.Fatal(err)
	}
	r.do(HistoryLoaded{bob, entries, more})
	r.want(bob, "old new")
}

// TestLean: entries keep no stanza alive.
func TestLean(t *testing.T) {
	r := newRun(t, NG)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	padding := "<x xmlns='urn:padding'>" + strings.Repeat("p", 64<<10) + "</x>"
	r.store = NewMemory()
	before := heap()
	for i := range 200 {
		r.in(fromBob(fmt.Sprint("b", i), fmt.Sprint("a", i), "<thread>t</thread>"+padding))
	}
	if used := int64(heap()) - int64(before); used > 4<<20 {
		t.Errorf("200 short messages keep %d KiB", used>>10)
	}
	runtime.KeepAlive(r)
}

// TestForgedCatchup: what the server streams to catch up with, and that it is over, nobody else can say.
func TestForgedCatchup(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: V2, Facts: all, Catchup: true})
	const synced = "<message from='%s'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='' last='evil' count='0'/></message>"
	for _, from := range []string{"alice@wonder.example/desk", "mallory@evil.example", "wonder.example"} {
		r.in(strings.Replace(result("session", "a1", fromBob("forged", "", "")), "from='alice@wonder.example'", "from='"+from+"'", 1))
		r.in(fmt.Sprintf(synced, from))
	}
	if !r.e.CatchingUp() || r.e.Cursor() != "" {
		t.Errorf("catching up: %t, cursor %q", r.e.CatchingUp(), r.e.Cursor())
	}
	r.in(result("session", "a1", fromBob("real", "", "")))
	r.in(strings.Replace(fmt.Sprintf(synced, alice), "evil", "a1", 1))
	r.want(bob, "real")
	if r.e.CatchingUp() || r.e.Cursor() != "a1" {
		t.Errorf("catching up: %t, cursor %q", r.e.CatchingUp(), r.e.Cursor())
	}
}

// TestHugeCatchup: what waits for the end of a streamed catch-up has a bound; what is beyond it is taken as it comes.
func TestHugeCatchup(t *testing.T) {
	r := start(t, Config{Limits: Limits{Entries: 100}}, NewMemory())
	r.do(Connected{JID: phone, Profile: V2, Facts: all, Catchup: true})
	for i := range maxStreamed + 300 {
		r.in(result("session", fmt.Sprint("a", i), fromBob(fmt.Sprint("b", i), "", "")))
	}
	if n := len(r.e.catchup.buffer); n != maxStreamed {
		t.Errorf("%d wait", n)
	}
	if n := len(r.e.convs[bob].items); n > 100 {
		t.Errorf("%d are in memory", n)
	}
}

// TestEndless: what one contact says without end, each kind by itself.
func TestEndless(t *testing.T) {
	const n = 5000
	r := start(t, Config{Limits: Limits{Threads: 10}}, NewMemory())
	r.connect(NG)
	for i := range n { // a stranger, who begins nothing by it
		r.in(fmt.Sprintf("<message from='s%d@evil.example/x' to='alice@wonder.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>", i))
		r.in(fmt.Sprintf("<message from='s%d@evil.example/x' to='alice@wonder.example' type='chat'><received xmlns='urn:xmpp:receipts' id='r'/></message>", i))
		r.in(fmt.Sprintf("<presence from='s%d@evil.example/x'/>", i))
	}
	if len(r.e.convs) != 0 || len(r.e.names) != 0 || len(r.e.devices) != 0 {
		t.Errorf("%d conversations, %d names, %d devices", len(r.e.convs), len(r.e.names), len(r.e.devices))
	}
	for i := range n {
		r.in(strings.Replace(fromBob(fmt.Sprint(i), "", "<thread>t"+fmt.Sprint(i)+"</thread>"), "/pc", fmt.Sprint("/pc", i), 1))
		r.in(fmt.Sprintf("<message from='bob@wonder.example/pc%d' to='alice@wonder.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>", i))
		r.in(fmt.Sprintf("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat'><received xmlns='urn:xmpp:receipts' id='r%d'/></message>", i))
	}
	c := r.e.convs[bob]
	if len(c.threads) != 10 || len(c.markers) != maxEarly || len(c.typing) > maxTyping || len(r.e.names) > 4096 {
		t.Errorf("%d threads, %d early receipts, %d typing, %d names", len(c.threads), len(c.markers), len(c.typing), len(r.e.names))
	}
	// In a room everybody has a name of his own.
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	for i := range 2 * maxTyping {
		r.in(fmt.Sprintf("<message from='hall@rooms.example/n%d' to='alice@wonder.example/phone' type='groupchat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>", i))
	}
	if got := len(r.e.convs[hall].typing); got != maxTyping {
		t.Errorf("%d typing", got)
	}
}
