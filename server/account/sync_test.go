package account

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// syncDevice is one of bob's devices: it asks for all since the last message that it
// has, reads, loses its connection, resumes, and comes back anew.
type syncDevice struct {
	w        *world
	name     string
	r        *rand.Rand
	wake     chan struct{}
	session  *Session
	smID     string
	received uint32   // stanzas, by stream management's count
	have     []string // archive ids in the order in which they came
	kept     int      // how many of them it has acknowledged
	client   string   // its installation's id; then it leaves it to the server where to go on
	plain    bool     // without stream management
	synced   bool     // the catch-up of this session is over
	complete bool     // and nothing was left out
	failed   string
	pause    func(messages int) // until so many more were sent
}

// link is one connection of a device.
type link struct{ d *syncDevice }

func (l *link) Wake() {
	select {
	case l.d.wake <- struct{}{}:
	default:
	}
}
func (l *link) End(*stanza.StreamError) { l.Wake() }

func (d *syncDevice) last() string {
	if len(d.have) == 0 {
		return ""
	}
	return d.have[len(d.have)-1]
}

// connect binds anew and catches up from what the device has.
func (d *syncDevice) connect() {
	want := &xep.Sync{After: d.last()}
	switch {
	case d.client != "":
		// What it didn't acknowledge it doesn't have.
		want.After, d.have = "", d.have[:d.kept]
		if d.kept == 0 {
			want.Max = 1 << 20 // a new device would get the newest only
		}
	case want.After == "":
		want.Start = testStart.Add(-time.Hour) // everything
	}
	d.bind(want)
}

func (d *syncDevice) bind(want *xep.Sync) {
	t := &link{d}
	s, err := d.w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(bob), Resource: d.name, Client: d.client, Transport: t,
		Request: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: want}}}})
	if err != nil {
		d.failed = err.Error()
		return
	}
	id := ""
	if !d.plain {
		id, _, _, _ = s.EnableSM(true, 0)
	}
	d.session, d.smID, d.received, d.synced = s, id, 0, false
	if results := s.Results(); len(results) != 1 || results[0].Err != nil {
		d.failed = fmt.Sprint("session request: ", results)
	}
}

// cut loses the connection.
func (d *syncDevice) cut() { d.session.Detach(d.session.t) }

// resume goes on with the session on a new connection, or connects anew.
func (d *syncDevice) resume() {
	t := &link{d}
	s, _, err := d.w.hub.Resume(context.Background(), ResumeRequest{Account: jid.MustParse(bob), ID: d.smID, H: d.received, Transport: t})
	if err != nil {
		d.connect()
		return
	}
	d.session, d.kept = s, len(d.have) // its h said so
}

// read takes what is there, up to about limit bytes, and acknowledges it or not.
func (d *syncDevice) read(limit int, ack bool) (any bool) {
	buf, _ := d.session.Next(d.session.t, nil, limit)
	if len(buf) == 0 {
		if ack {
			d.acknowledge()
		}
		return false
	}
	doc, err := xmltree.Parse([]byte("<s>"+string(buf)+"</s>"), stanza.NSClient, xmltree.Limits{MaxBytes: 64 << 20, MaxChildren: 1 << 20, MaxDepth: 32, MaxAttrs: 32})
	if err != nil {
		d.failed = err.Error()
		return false
	}
	for el := range doc.Children() {
		if el.Space() != stanza.NSClient {
			continue // <r/>
		}
		d.received++
		d.note(el)
	}
	if ack {
		d.acknowledge()
	}
	return true
}

func (d *syncDevice) acknowledge() {
	if _, gone := d.ended(); gone {
		return // nobody hears it
	}
	if !d.plain {
		if err := d.session.Ack(d.received); err != nil {
			d.failed = err.Error()
		}
	}
	d.kept = len(d.have)
}

func (d *syncDevice) note(el xmltree.Element) {
	id := el.Child(xep.NSMAM, "result").Attr("id")
	if id == "" {
		id = el.Child(xep.NSStanzaID, "stanza-id").Attr("id")
	} else if d.synced {
		d.failed = "an archived message after the end of the catch-up"
	}
	if !el.Child(xep.NSXMPP2, "synced").IsZero() {
		if d.synced {
			d.failed = "synced twice"
		}
		d.synced, d.complete = true, el.Child(xep.NSXMPP2, "synced").Attr("complete") == "true"
		return
	}
	if id == "" {
		d.failed = "a stanza that is no archived message: " + el.Raw()
		return
	}
	d.have = append(d.have, id)
}

// step does something at random.
func (d *syncDevice) step() {
	switch n := d.r.IntN(100); {
	case n < 4:
		d.cut()
		d.resume()
	case n < 10:
		d.cut()
		d.connect() // the old session, of the same resource, gives way
	case n < 14:
		d.pause(100)
	case n < 40:
		d.read(1<<uint(d.r.IntN(16)), d.r.IntN(3) > 0)
	default:
		d.read(64<<10, true)
	}
}

// TestNoGapNoOverlap is S-1 and IMNG-3: whatever devices do while many write, each ends
// with the archive's exact sequence. CARILLON_SOAK is the number of messages.
func TestNoGapNoOverlap(t *testing.T) {
	messages := 4000
	if n, err := strconv.Atoi(os.Getenv("CARILLON_SOAK")); err == nil {
		messages = n
	} else if testing.Short() {
		messages = 500
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { noGap(t, seed, messages, 16, 8) })
	}
}

func noGap(t *testing.T, seed uint64, messages, senders, devices int) {
	names := []string{"bob"}
	for i := range senders {
		names = append(names, "s"+strconv.Itoa(i))
	}
	w := newWorld(t, strings.Join(names, " "), func(c *Config) {
		// Small enough that what is held while catching up is let go now and then.
		c.Limits.SessionsPerAccount, c.Limits.OutboxBytes, c.Now = 40, 16<<10, time.Now
	})
	// A disk that takes its time, so that much is decided and not yet committed.
	w.setFault(func(point string) error {
		if point == "commit" {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	ctx := context.Background()
	var sending sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(messages))
	clients := make([]*client, senders)
	for i := range clients {
		if clients[i] = w.bind("s" + strconv.Itoa(i) + "/r"); i%4 == 0 {
			clients[i] = w.bind("bob/own" + strconv.Itoa(i)) // bob himself writes as well
		}
	}
	for i, c := range clients {
		sending.Go(func() {
			for n := 0; left.Add(-1) >= 0; n++ {
				xml := fmt.Sprintf("<message to='%s' type='chat' id='%d-%d'><body>%s</body></message>", bob, i, n, strings.Repeat("x", n%400))
				if n%17 == 0 && i%4 != 0 {
					xml = strings.Replace(xml, "to='"+bob, "to='"+bob+"/d3", 1) // as a client that locks does
				}
				st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
				if err != nil {
					panic(err)
				}
				st.From = c.JID()
				if err := c.Receive(ctx, st, 0); err != nil {
					panic(err)
				}
				c.Next(c, nil, 1<<20) // errors and notes to oneself
				for c.inFlight() > 4 {
					runtime.Gosched()
				}
			}
		})
	}
	list := make([]*syncDevice, devices)
	var running sync.WaitGroup
	var over atomic.Bool
	for i := range list {
		d := &syncDevice{w: w, name: "d" + strconv.Itoa(i), r: rand.New(rand.NewPCG(seed, uint64(i))), wake: make(chan struct{}, 1)}
		d.pause = func(messages int) {
			for until := left.Load() - int64(messages); left.Load() > max(until, 0); {
				runtime.Gosched()
			}
		}
		if i%2 == 1 {
			d.client = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
			w.knowClient(d.client)
		}
		list[i] = d
		running.Go(func() {
			d.connect()
			for !over.Load() && d.failed == "" {
				d.step()
			}
		})
	}
	sending.Wait()
	w.settle()
	over.Store(true)
	running.Wait()
	want := archiveIDs(t, w)
	for _, d := range list {
		d.finish(t, want)
	}
	t.Logf("%d messages, %d devices", len(want), devices)
}

// finish reads all that the device is owed, which must be all that want has.
func (d *syncDevice) finish(t *testing.T, want []string) {
	t.Helper()
	for d.failed == "" && (!d.synced || d.last() != want[len(want)-1]) {
		if !d.read(1<<20, true) {
			if _, gone := d.ended(); gone {
				d.connect()
				continue
			}
			select {
			case <-d.wake:
			case <-time.After(10 * time.Second):
				d.failed = "nothing more comes"
			}
		}
	}
	if d.failed != "" {
		t.Fatalf("%s: %s; it has %d of %d messages", d.name, d.failed, len(d.have), len(want))
	}
	if !slices.Equal(d.have, want) {
		i := 0
		for i < min(len(d.have), len(want)) && d.have[i] == want[i] {
			i++
		}
		t.Fatalf("%s has %d messages, the archive %d; they differ from the %dth on", d.name, len(d.have), len(want), i)
	}
}

func (x *session) inFlight() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.in.Pending()
}

func (d *syncDevice) ended() (string, bool) {
	d.session.mu.Lock()
	defer d.session.mu.Unlock()
	return "", !d.session.current() || d.session.overflow
}

func archiveIDs(t *testing.T, w *world) (ids []string) {
	t.Helper()
	_, err := w.store.Archive(context.Background(), store.ArchiveQuery{Account: w.id("bob"), Max: 1 << 30}, func(m store.ArchivedMessage) error {
		ids = append(ids, m.ID.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// knowClient makes one of bob's installations known, as its login does.
func (w *world) knowClient(id string) {
	w.t.Helper()
	if err := w.store.Commit(context.Background(), store.ClientSeen{Account: w.id("bob"), ID: id, At: w.Now()}); err != nil {
		w.t.Fatal(err)
	}
}

// TestCursor is S-10: a device that names nothing goes on behind what it
// acknowledged, over restarts of the account; what it never had stays missing
// until it had it, whatever came live in between.
func TestCursor(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/r")
	d := &syncDevice{w: w, name: "d", client: "00000000-0000-4000-8000-000000000001", wake: make(chan struct{}, 1)}
	w.knowClient(d.client)
	say := func(n int) {
		for i := range n {
			a.send(fmt.Sprintf("<message to='%s' type='chat' id='%d'><body>x</body></message>", bob, i))
		}
		w.settle()
	}
	stored := func() store.ArchiveID { return w.cursor(d.client) }
	readAll := func(ack bool) {
		waitFor(t, func() bool { d.read(1<<20, ack); return d.synced })
		for d.read(1<<20, ack) {
		}
		if d.failed != "" {
			t.Fatal(d.failed)
		}
	}
	say(10)
	d.connect()
	readAll(true)
	ids := archiveIDs(t, w)
	if len(d.have) != 10 || stored().String() != ids[9] {
		t.Fatalf("it has %d, its cursor is %v of %v", len(d.have), stored(), ids)
	}
	d.session.Close(d.session.t)
	w.settle()
	say(5)
	d.connect()
	readAll(false)
	if len(d.have) != 15 || stored().String() != ids[9] {
		t.Fatalf("unacknowledged: it has %d, its cursor is %v", len(d.have), stored())
	}
	d.session.Close(d.session.t)
	w.settle()

	// Without stream management nobody says what has arrived.
	d.plain = true
	d.bind(&xep.Sync{})
	readAll(true)
	if !d.complete || stored().String() != ids[9] {
		t.Fatalf("without stream management: complete %v, its cursor is %v", d.complete, stored())
	}
	d.session.Close(d.session.t)
	w.settle()
	d.plain = false

	// From a time on: whether the device has what is older, the server can't know.
	d.have = nil
	d.bind(&xep.Sync{Start: w.Now().Add(time.Hour)})
	readAll(true)
	say(1)
	readAll(true)
	if len(d.have) != 1 || !d.complete || stored().String() != ids[9] {
		t.Fatalf("from a time on: it has %d, complete %v, its cursor is %v", len(d.have), d.complete, stored())
	}
	d.session.Close(d.session.t)
	w.settle()

	// The newest two only: a hole, which neither they nor what is live closes.
	d.have = nil
	d.bind(&xep.Sync{Max: 2})
	readAll(true)
	say(1)
	readAll(true)
	if len(d.have) != 3 || d.complete || stored().String() != ids[9] {
		t.Fatalf("with a hole: it has %d, complete %v, its cursor is %v", len(d.have), d.complete, stored())
	}
	d.session.Close(d.session.t)
	w.settle()
	d.kept = 0
	d.connect()
	readAll(true)
	if len(d.have) != 7 || !d.complete || stored().String() != archiveIDs(t, w)[16] {
		t.Fatalf("after the hole: it has %d, complete %v, its cursor is %v", len(d.have), d.complete, stored())
	}
}

// TestCatchUpIsBounded is S-3: what the server keeps for a device that catches up
// doesn't depend on how much it missed or on how fast it reads, and what comes
// meanwhile is bounded as well.
func TestCatchUpIsBounded(t *testing.T) {
	const bound, missed = 16 << 10, 600
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes = bound })
	a := w.bind("alice/r")
	size := 0
	say := func(n int) {
		for i := range n {
			xml := fmt.Sprintf("<message to='%s' type='chat' id='%d'><body>%s</body></message>", bob, i, strings.Repeat("x", 300))
			size = max(size, 2*len(xml)) // with what the archive wraps it in
			a.send(xml)
		}
		w.settle()
	}
	d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
	// most is what is kept at this moment: queued, and held behind the catch-up.
	most := 0
	kept := func() int {
		d.session.mu.Lock()
		defer d.session.mu.Unlock()
		n := d.session.out.Bytes()
		most = max(most, n)
		if c := d.session.catchUp; c != nil {
			if c.size > bound && !c.spilled {
				t.Errorf("%d bytes are held", c.size)
			}
			n += c.size
		}
		return n
	}
	say(missed)
	d.bind(&xep.Sync{Start: testStart.Add(-time.Hour)})
	waitFor(t, func() bool { return kept() >= bound/2 })
	say(200) // more than may be held
	if n := kept(); n > bound/2+size {
		t.Fatalf("%d bytes are kept for a device that doesn't read", n)
	}
	other := w.bind("bob/other")
	other.send("<presence/>")
	w.settle()
	other.take()
	say(1)
	if got := strings.Join(other.take(), ""); !strings.Contains(got, "<body>") {
		t.Errorf("another device got %q", got)
	}
	waitFor(t, func() bool {
		d.read(1<<10, true)
		kept()
		return d.synced || d.failed != ""
	})
	if d.failed != "" || most > bound/2+size {
		t.Fatalf("%s; %d bytes were queued, the bound is %d", d.failed, most, bound/2)
	}
	for d.read(1<<20, true) {
	}
	if want := archiveIDs(t, w); !slices.Equal(d.have, want) {
		t.Errorf("it has %d messages of %d", len(d.have), len(want))
	}
}

// TestCatchUpReadsLittle: however large the archive's messages are, and whatever
// limit the client names, no more of them is in memory than there is room for.
func TestCatchUpReadsLittle(t *testing.T) {
	const messages, bound = 100, 128 << 10
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes = bound })
	a := w.bind("alice/r")
	xml := "<message to='" + bob + "' type='chat'><body>" + strings.Repeat("x", 60<<10) + "</body></message>"
	for range messages {
		a.send(xml)
	}
	w.settle()
	for _, want := range []xep.Sync{{Start: testStart.Add(-time.Hour)}, {Max: xep.MaxSyncMessages}, {Max: messages - 1}} {
		d := &syncDevice{w: w, name: "d", wake: make(chan struct{}, 1)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d.bind(&want)
		waitFor(t, func() bool { // it waits for the client
			d.session.mu.Lock()
			defer d.session.mu.Unlock()
			return d.session.room != nil
		})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > messages*(60<<10)/2 { // whatever else the process does meanwhile
			t.Errorf("%+v: %d KiB were used for a client that doesn't read", want, n>>10)
		}
		waitFor(t, func() bool { d.read(1<<20, true); return d.synced })
		n := messages
		if want.Max > 0 {
			n = min(n, want.Max)
		}
		if d.failed != "" || len(d.have) != n || d.complete != (n == messages) {
			t.Errorf("%+v: %s, it has %d of %d, complete %v", want, d.failed, len(d.have), n, d.complete)
		}
		d.session.Close(d.session.t)
		w.settle()
	}
}

// TestManyCatchUps: a hundred devices of one account that ask for all at once are
// owed what fits their queues, and get all of it.
func TestManyCatchUps(t *testing.T) {
	const devices, messages, bound, size = 100, 60, 64 << 10, 20 << 10
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.OutboxBytes, c.Limits.SessionsPerAccount = bound, devices })
	a := w.bind("alice/r")
	for range messages {
		a.send("<message to='" + bob + "' type='chat'><body>" + strings.Repeat("x", size) + "</body></message>")
	}
	w.settle()
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	list := make([]*syncDevice, devices)
	for i := range list {
		list[i] = &syncDevice{w: w, name: "d" + strconv.Itoa(i), wake: make(chan struct{}, 1)}
		list[i].bind(&xep.Sync{Start: testStart.Add(-time.Hour)})
	}
	for _, d := range list {
		waitFor(t, func() bool { // for the client
			d.session.mu.Lock()
			defer d.session.mu.Unlock()
			return d.session.room != nil
		})
	}
	// Half a queue, a batch that waits for room, and a message beyond each.
	if used := (heap() - before) / devices; used > bound/2+syncBytes+3*size {
		t.Errorf("%d KiB for each device that doesn't read", used>>10)
	}
	want := archiveIDs(t, w)
	for _, d := range list {
		d.finish(t, want)
	}
}
