package s2s

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// twins are two servers of two domains each, a and a2, b and b2, at a relay each that
// a test can cut.
type twins struct {
	w      *world
	a, b   *host
	ra, rb *relay
}

func newTwins(t *testing.T, change ...func(*Config)) *twins {
	t.Helper()
	w := newWorld(t)
	add := func(one, two string) *host {
		cert := w.ca.sign(t, nil, one, two)
		return w.add(one, cert, append([]func(*Config){func(c *Config) { c.Domains = []string{one, two} }}, change...)...)
	}
	v := &twins{w: w, a: add("a.example", "a2.example"), b: add("b.example", "b2.example")}
	v.ra, v.rb = newRelay(t, v.a.addr), newRelay(t, v.b.addr)
	for _, d := range []string{"a.example", "a2.example"} {
		w.locate(d, v.ra.addr, false)
	}
	for _, d := range []string{"b.example", "b2.example"} {
		w.locate(d, v.rb.addr, false)
	}
	return v
}

// post sends a message of the outbox between two domains.
func (h *host) post(from, to, body string, id uint64) {
	h.SendKept(stanza.Build(stanza.Message, stanza.TypeChat, body, jid.MustParse("u@"+from), jid.MustParse("u@"+to), "<body>"+body+"</body>"), id, 0)
}

// sent posts a message and waits until it is acknowledged.
func (h *host) sent(from, to, body string, id uint64) {
	h.w.t.Helper()
	h.post(from, to, body, id)
	waitFor(h.w.t, "acknowledgement of "+body, func() bool { return slices.Contains(h.forgotten(), id) })
}

// on is by which streams pairs go out.
func (h *host) on() map[string]uint64 {
	streams := map[string]uint64{}
	for _, s := range h.Streams() {
		if !s.Incoming {
			streams[s.For+" "+s.Domain] = s.Stream
		}
	}
	return streams
}

// TestShare: all pairs of the domains of two servers go over one stream, both ways
// (XEP-0220 2.6, XEP-0288 2.2), and an operator sees that.
func TestShare(t *testing.T) {
	v := newTwins(t)
	pairs := [][2]string{{"a.example", "b.example"}, {"a2.example", "b.example"}, {"a.example", "b2.example"}, {"a2.example", "b2.example"}}
	id := uint64(0)
	for range 2 {
		for _, p := range pairs {
			id++
			v.a.sent(p[0], p[1], fmt.Sprint("there", id, "."), id)
			v.b.sent(p[1], p[0], fmt.Sprint("back", id, "."), id)
		}
	}
	if n := v.a.Metrics.Accepted.Load() + v.b.Metrics.Accepted.Load(); n != 1 {
		t.Errorf("%d connections:\n%s\n%s", n, v.a.log, v.b.log)
	}
	if strings.Contains(v.a.log.String(), "stream from another server") {
		t.Error("b asked for the way back of what a had proved")
	}
	if len(v.b.taken()) != 8 || len(v.a.taken()) != 8 {
		t.Errorf("%d and %d came", len(v.b.taken()), len(v.a.taken()))
	}
	for _, h := range []*host{v.a, v.b} {
		on := h.on()
		if len(on) != 4 {
			t.Errorf("%s: %v", h.domain, on)
		}
		for p, n := range on {
			if n == 0 || n != on[h.Streams()[0].For+" "+h.Streams()[0].Domain] {
				t.Errorf("%s: %s goes by %d: %v", h.domain, p, n, on)
			}
		}
	}
	for _, s := range v.a.Streams() {
		want := "[TLS dialback]"
		switch {
		case s.For == "a.example" && s.Domain == "b.example":
			want = "[TLS PKIX EXTERNAL]"
		case s.Domain == "b.example":
			want = "[TLS PKIX dialback]"
		}
		if s.Security != want || !s.Both || s.Waiting+s.Unacked+s.Bytes != 0 {
			t.Errorf("%+v, want %s", s, want)
		}
	}
}

// TestShareAtOnce: pairs that all begin at the same time, as after a start, wait for the
// first of them, and not for one that gets nowhere.
func TestShareAtOnce(t *testing.T) {
	w := newWorld(t)
	domains := []string{"a.example"}
	for i := range 20 {
		domains = append(domains, fmt.Sprintf("a%d.example", i))
	}
	a := w.add("a.example", w.ca.sign(t, nil, domains...), func(c *Config) { c.Domains = domains })
	b := w.add("b.example", nil)
	w.locate("dead.example", "127.0.0.1:1", false)
	for i, d := range domains {
		a.post(d, "b.example", "x", uint64(i+1))
		a.post(d, "dead.example", "y", uint64(i+100))
	}
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) == len(domains) })
	if n := b.Metrics.Accepted.Load(); n != 1 || len(b.taken()) != len(domains) {
		t.Errorf("%d connections, %d came\n%s", n, len(b.taken()), a.log)
	}
	waitFor(t, "failures", func() bool { return a.Metrics.ConnectErrors.Load() >= uint64(len(domains)) })
	a.Server.mu.Lock()
	defer a.Server.mu.Unlock()
	if n := len(a.dialing); n > 1 { // the dead one, tried again
		t.Errorf("%d are still being waited for", n)
	}
}

// TestShareKeyed: where the certificate doesn't name the further domain, the server
// that DNS names for it says that the key is its own.
func TestShareKeyed(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", (*authority)(nil).sign(t, nil, "a.example"), func(c *Config) {
		c.Domains, c.Policy = []string{"a.example", "a2.example"}, Dialback
	})
	b := w.add("b.example", (*authority)(nil).sign(t, nil, "b.example"), func(c *Config) {
		c.Domains, c.Policy = []string{"b.example", "b2.example"}, Dialback
	})
	w.locate("a2.example", a.addr, false)
	w.locate("b2.example", b.addr, false)
	a.sent("a.example", "b.example", "one", 1)
	a.sent("a2.example", "b2.example", "two", 2)
	b.expect("one", "two")
	if on := a.on(); len(on) != 2 || on["a.example b.example"] != on["a2.example b2.example"] {
		t.Errorf("%v\n%s", on, a.log)
	}
}

// TestShareRefused: who doesn't let a further pair on a stream gets another one, and
// everything comes.
func TestShareRefused(t *testing.T) {
	v := newTwins(t, func(c *Config) { c.Limits.Pairs = 2 })
	v.b.Server.cfg.Limits.Pairs = 1 // nothing runs there yet
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.sent("a2.example", "b.example", "two", 2)
	v.a.sent("a.example", "b.example", "three", 3)
	v.a.sent("a.example", "b2.example", "four", 4)
	v.b.expect("one", "two", "three", "four")
	on := v.a.on()
	if len(on) != 3 || on["a.example b.example"] == on["a2.example b.example"] || on["a.example b.example"] == on["a.example b2.example"] {
		t.Errorf("%v", on)
	}
	if !strings.Contains(v.a.log.String(), "isn't shared") {
		t.Error("the log doesn't say so")
	}
}

// TestShareBounds: a stream takes so many pairs, and the next one has its own.
func TestShareBounds(t *testing.T) {
	v := newTwins(t)
	v.a.Server.cfg.Limits.Pairs = 2 // nothing runs there yet; b would take more
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.sent("a2.example", "b.example", "two", 2)
	v.a.sent("a.example", "b2.example", "three", 3)
	v.b.expect("one", "two", "three")
	if on := v.a.on(); on["a.example b.example"] != on["a2.example b.example"] || on["a.example b2.example"] == on["a.example b.example"] {
		t.Errorf("%v", on)
	}
}

// TestShareProof: nothing for a domain goes to a server that hasn't proved it, though
// DNS says that it is the same (RFC 7712 4.4.2).
func TestShareProof(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", nil)
	b := w.add("b.example", nil, func(c *Config) { c.Domains = []string{"b.example", "b2.example"} })
	w.locate("b2.example", b.addr, false)
	a.sent("a.example", "b.example", "one", 1)
	a.send("u@b2.example", "two", 0)
	a.expect("<remote-server-timeout ")
	if b.expect("one"); strings.Contains(b.log.String(), "b2.example") {
		t.Errorf("it was asked:\n%s", b.log)
	}
}

// TestShareElsewhere: a domain that is served in another place isn't asked for.
func TestShareElsewhere(t *testing.T) {
	w := newWorld(t)
	cert := w.ca.sign(t, nil, "b.example", "b2.example")
	a, b := w.add("a.example", nil), w.add("b.example", cert, func(c *Config) { c.Domains = []string{"b.example", "b2.example"} })
	b2 := w.add("b2.example", cert)
	a.sent("a.example", "b.example", "one", 1)
	a.sent("a.example", "b2.example", "two", 2)
	b.expect("one")
	b2.expect("two")
}

// TestShareResume: a stream of several pairs that breaks again and again loses nothing
// and brings nothing twice, of no pair, each pair's in order.
func TestShareResume(t *testing.T) {
	v := newTwins(t)
	v.b.Server.cfg.Limits.RetryMin = 10 * time.Second // it waits for a to resume; nothing runs there yet
	v.b.mu.Lock()
	v.b.onStanza = func(st *stanza.Stanza) { v.b.post(st.To.Domain(), st.From.Domain(), "re."+st.ID, 1) }
	v.b.mu.Unlock()
	pairs := [][2]string{{"a.example", "b.example"}, {"a2.example", "b.example"}, {"a2.example", "b2.example"}}
	id := uint64(0)
	for _, p := range pairs {
		id++
		v.a.sent(p[0], p[1], "first.", id)
	}
	waitFor(t, "the answers", func() bool { return len(v.a.taken()) == len(pairs) })
	const n = 1200
	for i := range n {
		p := pairs[i%len(pairs)]
		id++
		v.a.post(p[0], p[1], fmt.Sprint("m", i, "."), id)
		if i%200 == 100 {
			waitFor(t, "some came", func() bool { return len(v.b.taken()) > i/2 })
			v.rb.cut(false)
		}
	}
	all := n + len(pairs)
	waitFor(t, "all and their answers", func() bool { return len(v.b.taken()) >= all && len(v.a.taken()) >= all })
	waitFor(t, "acknowledgements", func() bool { return len(v.a.forgotten()) >= all && len(v.b.forgotten()) >= all })
	if len(v.b.taken()) != all || len(v.a.taken()) != all || len(v.a.forgotten()) != all {
		t.Errorf("%d came, %d answers, %d forgotten, want %d", len(v.b.taken()), len(v.a.taken()), len(v.a.forgotten()), all)
	}
	for k, p := range pairs {
		var there []string
		for _, got := range v.b.taken() {
			if strings.Contains(got, "from='u@"+p[0]+"' to='u@"+p[1]+"'") {
				there = append(there, got)
			}
		}
		for i, got := range there[1:] {
			if want := fmt.Sprint("<body>m", i*len(pairs)+k, ".</body>"); !strings.Contains(got, want) {
				t.Fatalf("%v: %d is %s, want %s", p, i, got, want)
			}
		}
	}
	if v.a.Metrics.Resumed.Load() == 0 {
		t.Error("nothing was resumed")
	}
}

// TestShareAnew: on the stream that goes on with a broken one, a further pair is let
// before it does, so that both stay on it.
func TestShareAnew(t *testing.T) {
	v := newTwins(t)
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.sent("a2.example", "b2.example", "two", 2)
	block := make(chan struct{})
	v.b.mu.Lock()
	v.b.block = block
	v.b.mu.Unlock()
	v.a.post("a2.example", "b2.example", "three", 3)
	v.a.post("a.example", "b.example", "four", 4)
	waitFor(t, "they are written", func() bool {
		for _, s := range v.a.Streams() {
			if s.Unacked != 1 || s.Waiting != 0 {
				return false
			}
		}
		return true
	})
	v.rb.cut(false)
	close(block)
	v.b.mu.Lock()
	v.b.block = nil
	v.b.mu.Unlock()
	waitFor(t, "acknowledgements", func() bool { return len(v.a.forgotten()) == 4 })
	v.b.expect("one", "two", "three", "four")
	if on := v.a.on(); on["a.example b.example"] != on["a2.example b2.example"] || v.a.Metrics.Resumed.Load() != 1 || v.b.Metrics.Accepted.Load() != 2 {
		t.Errorf("%v, %d connections, %d resumed", on, v.b.Metrics.Accepted.Load(), v.a.Metrics.Resumed.Load())
	}
}

// TestShareLost: the stream's end for one pair isn't that of the others: where the
// domain that it was made for is no more, the rest goes another way.
func TestShareLost(t *testing.T) {
	v := newTwins(t)
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.sent("a.example", "b2.example", "two", 2)
	if on := v.a.on(); on["a.example b.example"] != on["a.example b2.example"] {
		t.Fatalf("%v", on)
	}
	v.rb.cut(true)
	v.a.post("a.example", "b2.example", "three", 3)
	v.a.post("a.example", "b.example", "four", 4)
	waitFor(t, "a failure", func() bool { return v.a.Metrics.ConnectErrors.Load() > 0 })
	v.w.record("_xmpp-server._tcp.b.example", "SRV", "0 0 0 .")
	v.rb.cut(false)
	v.a.expect("<remote-server-not-found ")
	waitFor(t, "the other domain's", func() bool { return slices.Contains(v.a.forgotten(), 3) })
	v.b.expect("one", "two", "three")
}

// TestShareMoved: a domain that is somewhere else by the time the stream goes on isn't
// sent to where it was.
func TestShareMoved(t *testing.T) {
	v := newTwins(t)
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.sent("a.example", "b2.example", "two", 2)
	v.rb.cut(true)
	v.a.post("a.example", "b2.example", "three", 3)
	v.a.post("a.example", "b.example", "four", 4)
	waitFor(t, "a failure", func() bool { return v.a.Metrics.ConnectErrors.Load() > 0 })
	moved := v.w.add("b2.example", nil)
	v.rb.cut(false)
	moved.expect("three")
	v.b.expect("one", "two", "four")
	waitFor(t, "acknowledgements", func() bool { return len(v.a.forgotten()) == 4 })
}

// TestShareRefusedLater: who doesn't let a further pair on the next stream gets another
// one for it, and what waited for the pair comes there.
func TestShareRefusedLater(t *testing.T) {
	w := newWorld(t)
	a := w.add("a.example", w.ca.sign(t, nil, "a.example", "a2.example"), func(c *Config) {
		c.Domains, c.Limits.LivedOn = []string{"a.example", "a2.example"}, time.Minute
	})
	said := plainServer(t, w, "b.example", "<dialback xmlns='urn:xmpp:features:dialback'/>")
	const result = "<db:result from='b.example' to='a2.example' type='"
	a.post("a.example", "b.example", "one", 1)
	first := <-said
	first.until("<body>one</body></message>")
	a.post("a2.example", "b.example", "two", 2)
	first.until("</db:result>")
	first.write(result + "valid'/>")
	first.until("<body>two</body></message>")
	first.Close()
	second := <-said
	second.until("<db:result from='a2.example' to='b.example'>")
	second.until("</db:result>")
	second.write(result + "invalid'/>")
	if got := second.until("<body>one</body></message>"); strings.Contains(got, "two") {
		t.Errorf("it goes there all the same: %s", got)
	}
	third := <-said
	third.until("<message from='u@a2.example' to='u@b.example' id='two'")
	for _, r := range []*raw{second, third} {
		r.write("</stream:stream>")
	}
	waitFor(t, "both came", func() bool { return len(a.forgotten()) == 2 })
}

// TestShareOffered: who hasn't dialback is asked for nothing, and who doesn't say that it
// understands its errors not for another domain of its own (XEP-0220 2.6.2).
func TestShareOffered(t *testing.T) {
	for features, asked := range map[string]string{
		"": "", "<dialback xmlns='urn:xmpp:features:dialback'/>": "a2.example b.example",
		"<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>": "a2.example b.example, a.example b2.example",
	} {
		w := newWorld(t)
		a := w.add("a.example", w.ca.sign(t, nil, "a.example", "a2.example"), func(c *Config) {
			c.Domains, c.Limits.LivedOn, c.Limits.Ask = []string{"a.example", "a2.example"}, time.Minute, 200*time.Millisecond
		})
		said := plainServer(t, w, "b.example", features, "b2.example")
		a.post("a.example", "b.example", "one", 1)
		first := <-said
		first.until("<body>one</body></message>")
		var others []*raw
		for i, p := range []pair{{"a2.example", "b.example"}, {"a.example", "b2.example"}} {
			a.post(p.local, p.remote, "further", uint64(2+i))
			other := <-said
			other.until("<message from='u@" + p.local + "' to='u@" + p.remote + "'")
			others = append(others, other)
		}
		first.write("</stream:stream>")
		got := first.rest()
		for _, p := range []pair{{"a2.example", "b.example"}, {"a.example", "b2.example"}} {
			if want := strings.Contains(asked, p.local+" "+p.remote); strings.Contains(got, "<db:result from='"+p.local+"' to='"+p.remote+"'>") != want {
				t.Errorf("%s: %v asked for %t, want %t", features, p, !want, want)
			}
		}
		for _, r := range others {
			r.write("</stream:stream>")
		}
		waitFor(t, "all came", func() bool { return len(a.forgotten()) == 3 })
	}
}

// TestShareTooLong: what waited for a further pair and is too long for the stream that
// takes it goes back (XEP-0478 4).
func TestShareTooLong(t *testing.T) {
	v := newTwins(t, func(c *Config) { c.Limits.Stanza.MaxBytes = 20_000 })
	v.a.sent("a.example", "b.example", "one", 1)
	v.a.post("a2.example", "b.example", strings.Repeat("x", 30_000), 2)
	v.a.sent("a2.example", "b.example", "two", 3)
	v.a.expect("<policy-violation ")
	v.b.expect("one", "two")
}

// TestShareLent: a stream that a peer lends for a pair isn't that of the way on which the
// pair rides: nothing of the others goes there.
func TestShareLent(t *testing.T) {
	w := newWorld(t)
	b := w.add("b.example", nil)
	first, second := pair{"b.example", "a.example"}, pair{"b.example", "a2.example"}
	b.Server.mu.Lock()
	road := b.newWay(first)
	road.retry = time.Now().Add(time.Hour)
	road.guests = map[pair]*load{second: {pair: second}}
	b.ways[first], b.ways[second] = road, road
	b.Server.mu.Unlock()
	b.post("b.example", "a.example", "for a", 1)
	p := b.dial()
	p.bidi("a2.example", "b.example", w.ca.sign(t, nil, "a2.example"))
	p.write("<enable xmlns='urn:xmpp:sm:3'/><message from='u@a2.example' to='v@b.example'/><r xmlns='urn:xmpp:sm:3'/>")
	if got := p.until("<a xmlns='urn:xmpp:sm:3' h='1'/>"); strings.Contains(got, "for a") {
		t.Errorf("it got %s", got)
	}
	road.mu.Lock()
	defer road.mu.Unlock()
	if road.link != nil {
		t.Error("the stream carries another pair's way")
	}
}

// TestLoad: what a queue holds for a pair is what was put in and hasn't left it, by
// whatever way.
func TestLoad(t *testing.T) {
	one, two := &load{}, &load{}
	var q queue
	for _, l := range []*load{one, two, one, two, one} {
		q.push(item{data: make([]byte, 10), id: 1, load: l})
	}
	if one.bytes != 3*(10+perItem) || two.bytes != 2*(10+perItem) {
		t.Errorf("%d and %d", one.bytes, two.bytes)
	}
	q.take(nil, 25) // three of them
	if gone := q.giveUp(func(i *item, _ bool) bool { return i.load == one }); len(gone) != 3 || one.bytes != 2*perItem {
		t.Errorf("%d gone, %d left for those that keep their places", len(gone), one.bytes)
	}
	if _, err := q.ack(1, nil); err != nil || one.bytes != perItem {
		t.Errorf("%v, %d", err, one.bytes)
	}
	q.rewind(false)
	if one.bytes != 0 || two.bytes != 2*(10+perItem) || len(q.list) != 2 {
		t.Errorf("%d and %d for %d", one.bytes, two.bytes, len(q.list))
	}
}

// TestShareUnknown: what other servers may answer to a further pair, or not at all,
// costs no message.
func TestShareUnknown(t *testing.T) {
	const result = "<db:result from='b.example' to='a2.example' type='"
	for name, answer := range map[string]string{
		"invalid":        result + "invalid'/>",
		"error":          result + "error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>",
		"silence":        "",
		"a stream error": "<stream:error><unsupported-stanza-type xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
		"the end":        "</stream:stream>",
		"for another":    "<db:result from='b.example' to='a.example' type='valid'/>",
		"twice":          result + "invalid'/>" + result + "valid'/>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			violation := name == "twice" || name == "for another" // a verdict that nobody asked for
			w := newWorld(t)
			a := w.add("a.example", w.ca.sign(t, nil, "a.example", "a2.example"), func(c *Config) {
				c.Domains, c.Limits.LivedOn = []string{"a.example", "a2.example"}, 300*time.Millisecond
				if name == "silence" {
					c.Limits.Ask = 300 * time.Millisecond
				} else {
					c.Limits.Ask = time.Minute
				}
			})
			said := plainServer(t, w, "b.example", "<dialback xmlns='urn:xmpp:features:dialback'/>")
			a.post("a.example", "b.example", "one", 1)
			first := <-said
			first.until("<body>one</body></message>")
			if violation || name == "a stream error" { // where the first stream breaks, what doesn't count by then comes again
				waitFor(t, "the first counts", func() bool { return len(a.forgotten()) == 1 })
			}
			a.post("a2.example", "b.example", "two", 2)
			first.until("<db:result from='a2.example' to='b.example'>")
			first.until("</db:result>")
			first.write(answer)
			second := <-said
			if got := second.until("</message>"); !strings.Contains(got, "<message from='u@a2.example' ") {
				t.Errorf("the other stream begins with %s", got)
			}
			if violation {
				if got := first.rest(); !strings.Contains(got, "<policy-violation ") || strings.Contains(got, "two") {
					t.Errorf("the first one ends with %s", got)
				}
			}
			waitFor(t, "both count as delivered", func() bool { return len(a.forgotten()) == 2 })
		})
	}
}
