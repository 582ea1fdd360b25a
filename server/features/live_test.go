package features_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/account"
	"carillon.im/server/feature"
	"carillon.im/server/features/blocking"
	"carillon.im/server/features/caps"
	"carillon.im/server/features/carbons"
	"carillon.im/server/features/csi"
	"carillon.im/server/features/disco"
	"carillon.im/server/features/entitytime"
	"carillon.im/server/features/lastactivity"
	"carillon.im/server/features/mam"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/ping"
	"carillon.im/server/features/private"
	"carillon.im/server/features/register"
	"carillon.im/server/features/vcard"
	"carillon.im/server/features/version"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestMain fails where a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			break
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before && code == 0 {
		buf := make([]byte, 1<<20)
		os.Stderr.Write(buf[:runtime.Stack(buf, true)])
		code = 1
	}
	os.Exit(code)
}

const domain = "montague.lit"

// live is a server without sockets: accounts, store and features.
type live struct {
	t     testing.TB
	hub   *account.Hub
	store *store.Store
	set   *feature.Set
	caps  *caps.Cache

	events *pep.Service

	mu   sync.Mutex
	now  time.Time
	held map[string]*holding
}

var limits = account.Limits{OutboxBytes: 64 << 20, SessionsPerAccount: 10, OfflineMessages: 100, RosterItems: 100, BlockItems: 20,
	Directed: 10, ResumeWindow: time.Minute, IdleAccounts: 100}

// eventLimits bound personal events.
var eventLimits = pep.Limits{Nodes: 6, Items: 5, ItemBytes: 1000, Bytes: 3000, Burst: 200}

const (
	vcardBytes   = 2000
	privateItems = 4
	privateBytes = 2000
)

// start makes a server with the accounts romeo, juliet and tybalt. Romeo and
// Juliet see each other's presence; Tybalt is a stranger to both.
func start(t testing.TB, lim account.Limits) *live {
	t.Helper()
	return startAt(t, lim, ":memory:")
}

func startAt(t testing.TB, lim account.Limits, path string) *live {
	t.Helper()
	l := &live{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	var err error
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if l.store, err = store.Open(t.Context(), store.Options{Path: path, Log: log, Now: l.time, Fault: l.wait}); err != nil {
		t.Fatal(err)
	}
	l.events = pep.New(pep.Options{Store: eventStore{l.store, l}, Now: l.time, Account: func(j jid.JID) feature.AccountRef { return l.hub.Account(j) },
		Limits: eventLimits, Photo: vcard.WithPhoto(l.store, vcardBytes), Fragment: private.Fragment(l.store), SetFragment: private.SetFragment})
	l.caps = caps.New(caps.Options{Notify: l.events.Notify})
	fs := []feature.Feature{
		ping.New(), version.New("carillon", "1.0", ""), entitytime.New(l.time), lastactivity.New(l.time, l.now.Add(-123456*time.Second)),
		carbons.New(), csi.New(), blocking.New(limits.BlockItems, l.store, log, l.time), private.New(l.store, private.Limits{Items: privateItems, Bytes: privateBytes}, l.events),
		vcard.New(l.store, vcardBytes, l.events), l.events.Feature(), mam.New(l.store, mam.Options{Page: 50, MaxPage: 250}), register.New(l), l.caps.Feature(),
	}
	fs = append(fs, disco.New("carillon", "https://carillon.im", nil, fs...))
	if l.set, err = feature.NewSet(fs...); err != nil {
		t.Fatal(err)
	}
	l.hub = account.New(account.Config{Domains: []string{domain}, Store: l.store, Features: l.set, Log: log, Now: l.time,
		Rand: rand.Reader, Limits: lim, Loops: 2, ArchiveDefault: "always", RefuseStrangers: true})
	t.Cleanup(func() {
		l.caps.Close()
		l.events.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		l.hub.Close(ctx)
		if n := l.hub.Stats().Panics.Load(); n > 0 {
			t.Errorf("%d recovered panics", n)
		}
		if err := l.store.Close(); err != nil {
			t.Error(err)
		}
	})
	romeo, juliet := l.create("romeo"), l.create("juliet")
	l.create("tybalt")
	l.commit(
		store.RosterPut{Account: romeo, Version: 1, Item: store.RosterItem{JID: bare("juliet"), Subscription: "both"}},
		store.RosterPut{Account: juliet, Version: 1, Item: store.RosterItem{JID: bare("romeo"), Subscription: "both"}},
	)
	return l
}

func bare(name string) jid.JID { return jid.MustParse(name + "@" + domain) }

func (l *live) time() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *live) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

// hold makes whatever comes to a point wait there until release is called: "commit"
// of the store, "look" before newest items are read, "found" after. reached is
// closed when something has come.
func (l *live) hold(point string) (reached <-chan struct{}, release func()) {
	h := &holding{reached: make(chan struct{}), gate: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*holding{}
	}
	l.held[point] = h
	return h.reached, func() {
		l.mu.Lock()
		delete(l.held, point)
		l.mu.Unlock()
		close(h.gate)
	}
}

type holding struct {
	once          sync.Once
	reached, gate chan struct{}
}

func (l *live) wait(point string) error {
	l.mu.Lock()
	h := l.held[point]
	l.mu.Unlock()
	if h != nil {
		h.once.Do(func() { close(h.reached) })
		<-h.gate
	}
	return nil
}

// eventStore is a store whose newest items can be held.
type eventStore struct {
	*store.Store
	live *live
}

func (s eventStore) EventsLast(ctx context.Context, owners []jid.JID, nodes []string) ([]store.EventLast, error) {
	s.live.wait("look")
	list, err := s.Store.EventsLast(ctx, owners, nodes)
	s.live.wait("found")
	return list, err
}

func (l *live) create(name string) store.AccountID {
	l.t.Helper()
	id, err := l.store.CreateAccount(l.t.Context(), bare(name), keys("secret"))
	if err != nil {
		l.t.Fatal(err)
	}
	return id
}

func (l *live) commit(ops ...store.Op) {
	l.t.Helper()
	if err := l.store.Commit(l.t.Context(), ops...); err != nil {
		l.t.Fatal(err)
	}
}

// keys stands in for what the server derives; the password is found again in
// the salt.
func keys(password string) []sasl.Keys {
	return []sasl.Keys{{Hash: sasl.SHA256, Iterations: 4096, Salt: []byte(password), StoredKey: []byte("stored"), ServerKey: []byte("server")}}
}

func (l *live) Create(ctx context.Context, bare jid.JID, password string) error {
	if strings.Contains(password, "\t") {
		return register.ErrPassword
	}
	_, err := l.store.CreateAccount(ctx, bare, keys(password))
	return err
}

func (l *live) SetPassword(ctx context.Context, by jid.JID, password string) error {
	if strings.Contains(password, "\t") {
		return register.ErrPassword
	}
	return l.store.SetKeys(ctx, by.Bare(), keys(password), "")
}

func (l *live) Remove(ctx context.Context, bare jid.JID) error {
	return l.store.RemoveAccount(ctx, bare)
}

func (l *live) End(ctx context.Context, bare jid.JID) error { return l.hub.AccountRemoved(ctx, bare) }

// client is a session and the far end of its connection.
type client struct {
	t       testing.TB
	session *account.Session
	woken   chan struct{}
	ended   chan *stanza.StreamError
	inbox   []xmltree.Element // read and not asked for yet
	nextID  int
}

func (c *client) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

func (c *client) End(e *stanza.StreamError) {
	c.ended <- e
	c.session.Detach(c) // the connection is gone with the stream
}

// bind opens a session.
func (l *live) bind(name, resource string) *client {
	l.t.Helper()
	c := &client{t: l.t, woken: make(chan struct{}, 1), ended: make(chan *stanza.StreamError, 1)}
	var err error
	c.session, err = l.hub.Bind(l.t.Context(), account.BindRequest{Account: bare(name), Resource: resource, Transport: c, Conn: name})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// online is bind with initial presence.
func (l *live) online(name, resource string) *client {
	l.t.Helper()
	c := l.bind(name, resource)
	c.send("<presence/>")
	c.ask("get", "", "<ping xmlns='urn:xmpp:ping'/>")
	c.inbox = nil
	return c
}

// send is what the client writes.
func (c *client) send(xml string) {
	c.t.Helper()
	st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
	if err != nil {
		c.t.Fatalf("%s: %v", xml, err)
	}
	st.From = c.session.JID()
	if err := c.session.Receive(c.t.Context(), st, len(xml)); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next stanza that the client reads and that match wants; the ones
// before it stay to be read.
func (c *client) next(match func(xmltree.Element) bool) xmltree.Element {
	c.t.Helper()
	seen := 0
	for {
		for ; seen < len(c.inbox); seen++ {
			if el := c.inbox[seen]; match(el) {
				c.inbox = append(c.inbox[:seen:seen], c.inbox[seen+1:]...)
				return el
			}
		}
		more := true
		for more {
			var b []byte
			b, more = c.session.Next(c, nil, 1<<20)
			if len(b) == 0 {
				break
			}
			doc, err := xmltree.Parse([]byte("<s>"+string(b)+"</s>"), stanza.NSClient, xmltree.Limits{MaxBytes: 64 << 20, MaxChildren: 1 << 20})
			if err != nil {
				c.t.Fatalf("%v in %s", err, b)
			}
			for el := range doc.Children() {
				c.inbox = append(c.inbox, el)
			}
		}
		if seen < len(c.inbox) {
			continue
		}
		select {
		case <-c.woken:
		case <-c.t.Context().Done():
			c.t.Fatal("the test ended while the client waited")
		case <-time.After(20 * time.Second):
			c.t.Fatal("nothing came")
		}
	}
}

// ask sends an IQ and returns what came with the answer: the payload of a
// result, "condition type" of an error.
func (c *client) ask(typ, to, payload string) string {
	c.t.Helper()
	c.nextID++
	id := c.session.JID().Resource() + strings.Repeat("i", c.nextID)
	attr := ""
	if to != "" {
		attr = " to='" + to + "'"
	}
	c.send("<iq type='" + typ + "' id='" + id + "'" + attr + ">" + payload + "</iq>")
	el := c.next(func(el xmltree.Element) bool {
		return el.Is(stanza.NSClient, "iq") && el.Attr("id") == id && (el.Attr("type") == "result" || el.Attr("type") == "error")
	})
	st, err := stanza.Parse(el)
	if err != nil {
		c.t.Fatal(err)
	}
	if to != "" && st.From.String() != to {
		c.t.Errorf("the answer is from %s, not %s", st.From, to)
	}
	if e := st.ParseError(); e != nil {
		return string(e.Condition) + " " + string(e.Type)
	}
	return st.Inner()
}

// expect is ask with the answer known.
func (c *client) expect(typ, to, payload, want string) {
	c.t.Helper()
	if got := c.ask(typ, to, payload); got != want {
		c.t.Errorf("%s to %q: %s\n got %s\nwant %s", typ, to, payload, got, want)
	}
}

// pushed is the next IQ set that the client reads, its payload.
func (c *client) pushed() string {
	c.t.Helper()
	el := c.next(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "iq") && el.Attr("type") == "set" })
	return el.Inner()
}

// nothingElse proves with a round trip that no stanza is left that match wants.
func (c *client) nothingElse(match func(xmltree.Element) bool) {
	c.t.Helper()
	c.ask("get", "", "<ping xmlns='urn:xmpp:ping'/>")
	for _, el := range c.inbox {
		if match(el) {
			c.t.Errorf("unexpected: %s", el.Raw())
		}
	}
}

// close ends the stream and waits until the account knows.
func (l *live) close(c *client) {
	l.t.Helper()
	c.session.Close(c)
	if _, err := l.hub.Account(c.session.JID()).Snapshot(l.t.Context()); err != nil && !errors.Is(err, store.ErrNotFound) {
		l.t.Fatal(err)
	}
}
