package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

const (
	senders = 4
	window  = 200 // messages that a sender has under way
)

// recipients are the accounts that messages go to, and how they are there.
var recipients = [...]struct {
	name    string
	devices int
}{{"online", 1}, {"offline", 0}, {"everywhere", 3}}

// ledger is what the clients were told and what they saw.
type ledger struct {
	mu        sync.Mutex
	to        map[string]string // recipient by message id, of all that was sent
	acked     map[string]bool   // the server has acknowledged it
	delivered map[string]bool   // a device got it
	contacts  map[string][]string
	refused   int
}

// TestKill kills the server under load and looks for what it had acknowledged.
// CARILLON_CRASH_KILLS says how often.
func TestKill(t *testing.T) {
	kills := 4
	if testing.Short() {
		kills = 2
	}
	if s := os.Getenv("CARILLON_CRASH_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("CARILLON_CRASH_KILLS=%q", s)
		}
		kills = n
	}
	p := newProcess(t, t.TempDir())
	for i := range senders {
		p.addUser("sender" + strconv.Itoa(i))
	}
	for _, r := range recipients {
		p.addUser(r.name)
	}
	l := &ledger{to: map[string]string{}, acked: map[string]bool{}, delivered: map[string]bool{}, contacts: map[string][]string{}}
	b := newBooks()
	for k := range kills {
		p.start()
		l.round(t, p, k)
		// What was said before the kill must hold after it.
		p.start()
		b.read(t, p)
		l.check(t, p, b, k)
		if k%2 == 0 { // a start after a start, with nothing between
			p.kill()
		} else {
			p.stop()
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("kills %d, sent %d, acknowledged %d, archived %d, delivered %d, roster changes confirmed %d, acknowledged and missing: %d",
		kills, len(l.to), len(l.acked), len(b.entries["online"])+len(b.entries["offline"])+len(b.entries["everywhere"]), len(l.delivered), l.confirmed(), b.missing)
}

func (l *ledger) confirmed() (n int) {
	for _, c := range l.contacts {
		n += len(c)
	}
	return n
}

// round runs the load until the server is killed.
func (l *ledger) round(t *testing.T, p *process, k int) {
	var running sync.WaitGroup
	for _, r := range recipients {
		for d := range r.devices {
			c, err := p.login(r.name, "device"+strconv.Itoa(d), l.see)
			if err != nil {
				p.fatal(err)
			}
			if d > 0 {
				err = c.Send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
			}
			if d != 1 && err == nil { // one device has only carbons
				err = c.Send("<presence/>")
			}
			if err == nil && d != 2 { // and one no stream management
				err = c.EnableSM(true)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Cut()
		}
	}
	for i := range senders {
		running.Go(func() { l.send(t, p, k, i) })
	}
	if k == 2 { // on a slow machine the rounds before may have ended too early
		p.waitFor("acknowledgement", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.acked) > 0 })
	}
	time.Sleep(time.Duration(30+rand.IntN(400)) * time.Millisecond) // the moment is what is random about a crash
	p.kill()
	running.Wait()
}

// see notes what a device gets.
func (l *ledger) see(ev *stream.Event) {
	if ev.Stanza == nil || ev.Stanza.Kind != stanza.Message {
		return
	}
	id := ev.Stanza.ID
	for c := range ev.Stanza.Payloads() {
		if c.Space() == "urn:xmpp:carbons:2" {
			id = c.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message").Attr("id")
		}
	}
	l.mu.Lock()
	l.delivered[id] = true
	l.mu.Unlock()
}

// send sends messages until the connection breaks.
func (l *ledger) send(t *testing.T, p *process, k, i int) {
	name := "sender" + strconv.Itoa(i)
	var order []string // of the stanzas sent; "" is no message
	room := make(chan struct{}, window)
	refused := map[string]bool{}
	c, err := p.login(name, "pen", func(ev *stream.Event) {
		if ev.Stanza == nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		switch id := ev.Stanza.ID; {
		case ev.Stanza.Type == stanza.TypeError && ev.Stanza.Kind == stanza.Message:
			l.refused++
			refused[id] = true
		case ev.Stanza.Type == stanza.TypeResult && strings.HasPrefix(id, "contact"):
			l.contacts[name] = append(l.contacts[name], id+"@localhost")
		}
	})
	if err != nil {
		return // killed before
	}
	defer c.Cut()
	c.OnAcked(func(n int) {
		l.mu.Lock()
		for _, id := range order[:n] {
			if id != "" && !refused[id] {
				l.acked[id] = true
			}
		}
		order = order[n:]
		l.mu.Unlock()
		for range n {
			<-room
		}
	})
	if c.EnableSM(i%2 == 0) != nil {
		return
	}
	dead := make(chan struct{})
	go func() { // the observer sees no end: wait for it here
		c.Next(context.Background())
		close(dead)
	}()
	padding := strings.Repeat("All the world's a stage. ", 1+i*8)
	for n := 0; ; n++ {
		select {
		case room <- struct{}{}:
		case <-dead:
			return
		}
		id, st := fmt.Sprintf("m-%d-%d-%06d", k, i, n), ""
		l.mu.Lock()
		if n%25 == 24 {
			contact := fmt.Sprintf("contact-%d-%d-%d", k, i, n)
			st = "<iq type='set' id='" + contact + "'><query xmlns='jabber:iq:roster'><item jid='" + contact + "@localhost'/></query></iq>"
			id = ""
		} else {
			to := recipients[n%len(recipients)].name
			l.to[id] = to
			st = "<message to='" + to + "@localhost' type='chat' id='" + id + "'><body>" + padding + "</body></message>"
		}
		order = append(order, id)
		l.mu.Unlock()
		if c.Send(st) != nil {
			return
		}
		if n%10 == 9 && c.RequestAck() != nil {
			return
		}
	}
}

// books are the archives as read so far.
type books struct {
	entries map[string]map[string]int // per account: how often each message id is there
	last    map[string]string         // the archive id that was read last
	missing int
}

func newBooks() *books {
	return &books{entries: map[string]map[string]int{}, last: map[string]string{}}
}

// read reads on in all archives, and holds their order to that of each sender.
func (b *books) read(t *testing.T, p *process) {
	var names []string
	for i := range senders {
		names = append(names, "sender"+strconv.Itoa(i))
	}
	for _, r := range recipients {
		names = append(names, r.name)
	}
	for _, name := range names {
		if b.entries[name] == nil {
			b.entries[name] = map[string]int{}
		}
		newest := map[string]string{} // message id by sender and round
		var err error
		b.last[name], err = p.archive(name, b.last[name], func(_ string, m xmltree.Element) {
			id := m.Attr("id")
			b.entries[name][id]++
			from := id[:strings.LastIndex(id, "-")]
			if id <= newest[from] {
				t.Errorf("%s: %s comes after %s", name, id, newest[from])
			}
			newest[from] = id
		})
		if err != nil {
			p.fatal(err)
		}
	}
}

// check compares what was told with what is there.
func (l *ledger) check(t *testing.T, p *process, b *books, k int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	prefix := fmt.Sprintf("m-%d-", k)
	for id, to := range l.to {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		from := "sender" + strings.Split(id, "-")[2]
		in, out := b.entries[to][id], b.entries[from][id]
		switch {
		case in != out:
			t.Errorf("%s: %d times in the sender's archive, %d times in the recipient's", id, out, in)
		case in > 1:
			t.Errorf("%s: archived %d times", id, in)
		case in == 0 && l.acked[id]:
			b.missing++
			t.Errorf("%s: acknowledged and missing", id)
		case in == 0 && l.delivered[id]:
			t.Errorf("%s: delivered and not archived", id)
		}
	}
	if len(l.acked) == 0 && k > 1 {
		t.Error("no message was ever acknowledged")
	}
	if l.refused > 0 {
		t.Errorf("%d messages were refused", l.refused)
	}
	for name, want := range l.contacts {
		have, err := p.roster(name)
		if err != nil {
			p.fatal(err)
		}
		for _, j := range want {
			if !have[j] {
				t.Errorf("%s: the confirmed contact %s is missing", name, j)
			}
		}
	}
}
