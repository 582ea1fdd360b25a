package account

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestMain fails the run if a goroutine of the package is left.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftGoroutines(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func leftGoroutines() string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "server/account.(*") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}

// world is a hub on a store in memory, whose faults and time are the test's.
type world struct {
	t     testing.TB
	hub   *Hub
	store *store.Store
	path  string
	cfg   Config

	mu     sync.Mutex
	now    time.Time
	fault  func(point string) error
	panics uint64 // expected
	closed bool
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.tick()
}

// tick passes the loops' time.
func (w *world) tick() {
	w.hub.everywhere(func(l *loop) { l.tick() })
	w.settle()
}

func (w *world) setFault(f func(point string) error) {
	w.mu.Lock()
	w.fault = f
	w.mu.Unlock()
}

// failCommits makes the store refuse to commit until it is called with nil.
func (w *world) failCommits(err error) {
	if err == nil {
		w.setFault(nil)
		return
	}
	w.setFault(func(point string) error {
		if point == "commit" {
			return err
		}
		return nil
	})
}

// holdCommits makes commits wait until the function returned is called.
func (w *world) holdCommits() (release func()) {
	gate := make(chan struct{})
	w.setFault(func(point string) error {
		if point == "commit" {
			<-gate
		}
		return nil
	})
	return func() {
		w.setFault(nil)
		close(gate)
	}
}

type reader struct{ *rand.ChaCha8 }

func (r reader) Read(p []byte) (int, error) { return r.ChaCha8.Read(p) }

type lockedReader struct {
	mu sync.Mutex
	r  reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

var testStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, accounts string, change ...func(*Config)) *world {
	return newWorldAt(t, ":memory:", accounts, change...)
}

func newWorldAt(t testing.TB, path, accounts string, change ...func(*Config)) *world {
	w := &world{t: t, now: testStart, path: path}
	w.open()
	for name := range strings.FieldsSeq(accounts) {
		if _, err := w.store.CreateAccount(context.Background(), jid.MustParse(name+"@h.example"), nil); err != nil {
			t.Fatal(err)
		}
	}
	set, err := feature.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{Domains: []string{"h.example"}, Features: set, Log: slog.New(slog.DiscardHandler), Now: w.Now,
		Rand: &lockedReader{r: reader{rand.NewChaCha8([32]byte{1})}}, Loops: 2, ArchiveDefault: "always", RefuseStrangers: true,
		Limits: Limits{OutboxBytes: 1 << 20, SessionsPerAccount: 5, OfflineMessages: 100, RosterItems: 50, BlockItems: 20, Directed: 5,
			ResumeWindow: 10 * time.Minute, IdleAccounts: 100}}
	w.cfg.Start = w.store.Starts()
	for _, c := range change {
		c(&w.cfg)
	}
	w.start()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	var err error
	w.store, err = store.Open(context.Background(), store.Options{Path: w.path, Now: w.Now, CommitDelay: -1, Fault: func(point string) error {
		w.mu.Lock()
		f := w.fault
		w.mu.Unlock()
		if f != nil {
			return f(point)
		}
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.cfg.Store = w.store
	w.hub = New(w.cfg)
}

// restart stops the server, in order or as kill -9 does, lets time pass and starts
// it again. What the store was given it has: the crash test kills it too.
func (w *world) restart(orderly bool, down time.Duration, meanwhile ...func()) {
	w.t.Helper()
	if orderly {
		w.hub.Close(context.Background())
	} else {
		w.hub.stop()
		w.hub.done.Wait()
	}
	if n := w.hub.stats.Panics.Load(); n != 0 {
		w.t.Errorf("%d panics recovered", n)
	}
	for _, f := range meanwhile {
		f()
	}
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.now = w.now.Add(down)
	w.mu.Unlock()
	w.open()
	w.cfg.Start = w.store.Starts()
	w.start()
	w.settle()
}

func (w *world) close() {
	if w.closed {
		return
	}
	w.closed = true
	w.setFault(nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.hub.Close(ctx)
	if ctx.Err() != nil {
		w.t.Error("the hub did not stop in time")
	}
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	if n := w.hub.stats.Panics.Load(); n != w.panics {
		w.t.Errorf("%d panics recovered, want %d", n, w.panics)
	}
}

// settle waits until nothing is on its way.
func (w *world) settle() { w.hub.quiet(context.Background(), false) }

// client is a Transport that a test reads, and its session.
type client struct {
	w *world
	*Session

	mu    sync.Mutex
	ended bool
	err   *stanza.StreamError
}

func (c *client) Wake() {}

func (c *client) End(err *stanza.StreamError) {
	c.mu.Lock()
	first := !c.ended
	if first {
		c.ended, c.err = true, err
	}
	c.mu.Unlock()
	if first && err != nil && err.Condition == stanza.StreamSystemShutdown {
		c.Session.Detach(c)
	}
}

// streamError is what ended the stream.
func (c *client) streamError() (condition string, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		condition = c.err.Condition
	}
	return condition, c.ended
}

// bind binds "name/resource words": "carbons", "online", "sm", "roster", or a
// priority.
func (w *world) bind(who string) *client {
	w.t.Helper()
	addr, words, _ := strings.Cut(who, " ")
	name, resource, _ := strings.Cut(addr, "/")
	c := &client{w: w}
	s, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(name + "@h.example"), Resource: resource, Transport: c, Conn: addr})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Session = s
	for word := range strings.FieldsSeq(words) {
		switch word {
		case "carbons":
			if err := s.SetProfile(context.Background(), route.Carbons); err != nil {
				w.t.Fatal(err)
			}
		case "sm":
			if _, ok, _, err := s.EnableSM(true, 0); !ok || err != nil {
				w.t.Fatal("stream management can't be enabled")
			}
		case "roster":
			c.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
		case "online":
			c.send("<presence/>")
		default:
			c.send("<presence><priority>" + word + "</priority></presence>")
		}
	}
	w.settle()
	c.take()
	return c
}

// send is a stanza from the client.
func (c *client) send(xml string) {
	c.w.t.Helper()
	st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
	if err != nil {
		c.w.t.Fatalf("%s: %v", xml, err)
	}
	st.From = c.JID()
	if err := c.Receive(context.Background(), st, len(xml)); err != nil {
		c.w.t.Fatal(err)
	}
}

// say sends a chat message and waits until all is done.
func (c *client) say(to, body string) {
	c.w.t.Helper()
	c.send("<message type='chat' id='" + body + "' to='" + to + "'><body>" + body + "</body></message>")
	c.w.settle()
}

// take reads what is there, one element each.
func (c *client) take() []string {
	c.w.t.Helper()
	buf := []byte("<x xmlns='jabber:client'>")
	for more := true; more; {
		buf, more = c.Next(c, buf, len(buf)+4096)
	}
	el, err := xmltree.Parse(append(buf, "</x>"...), "", xmltree.Limits{MaxBytes: 64 << 20})
	if err != nil {
		c.w.t.Fatalf("what the session says isn't XML: %v\n%s", err, buf)
	}
	var got []string
	for child := range el.Children() {
		got = append(got, string(child.AppendTo(nil, stanza.NSClient)))
	}
	return got
}

// expect checks that what comes is exactly this, each pattern being pieces
// that stand in the element in that order, with " … " between them.
func (c *client) expect(patterns ...string) {
	c.w.t.Helper()
	c.w.settle()
	got := c.take()
	ok := len(got) == len(patterns)
	for i := 0; ok && i < len(got); i++ {
		ok = matchPattern(got[i], patterns[i])
	}
	if !ok {
		c.w.t.Fatalf("%s got\n  %s\nwant\n  %s", c.JID(), strings.Join(got, "\n  "), strings.Join(patterns, "\n  "))
	}
}

// expectAny is expect in any order.
func (c *client) expectAny(patterns ...string) {
	c.w.t.Helper()
	c.w.settle()
	got := c.take()
	left := append([]string(nil), got...)
	for _, p := range patterns {
		i := 0
		for i < len(left) && !matchPattern(left[i], p) {
			i++
		}
		if i == len(left) {
			c.w.t.Fatalf("%s got\n  %s\nnothing like %s", c.JID(), strings.Join(got, "\n  "), p)
		}
		left = append(left[:i], left[i+1:]...)
	}
	if len(left) > 0 {
		c.w.t.Fatalf("%s also got\n  %s", c.JID(), strings.Join(left, "\n  "))
	}
}

func matchPattern(s, pattern string) bool {
	for piece := range strings.SplitSeq(pattern, " … ") {
		negated := strings.HasPrefix(piece, "!")
		i := strings.Index(s, strings.TrimPrefix(piece, "!"))
		if negated {
			if i >= 0 {
				return false
			}
			continue
		}
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return true
}

// detach loses the connection.
func (c *client) detach() {
	c.Session.Detach(c)
	c.w.settle()
}

// resume continues c's session over a new connection.
func (w *world) resume(c *client, h uint32) (*client, Resumed, error) {
	n := &client{w: w}
	s, res, err := w.hub.Resume(context.Background(), ResumeRequest{Account: c.JID().Bare(), ID: c.resumption(), H: h, Transport: n, Conn: "resumed"})
	n.Session = s
	return n, res, err
}

// resumption is the id under which the session can be resumed.
func (x *session) resumption() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.smID
}

// archive is the bodies in an account's archive, in order.
func (w *world) archive(name string) []string {
	w.t.Helper()
	var bodies []string
	_, err := w.store.Archive(context.Background(), store.ArchiveQuery{Account: w.id(name), Max: 10000}, func(m store.ArchivedMessage) error {
		bodies = append(bodies, bodyOf(string(m.Stanza)))
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies
}

// offline is the bodies in an account's offline store.
func (w *world) offline(name string) []string {
	w.t.Helper()
	list, err := w.store.Offline(context.Background(), w.id(name), 0, 10000)
	if err != nil {
		w.t.Fatal(err)
	}
	var bodies []string
	for _, m := range list {
		bodies = append(bodies, bodyOf(string(m.Stanza)))
	}
	return bodies
}

func (w *world) id(name string) store.AccountID {
	w.t.Helper()
	d, err := w.store.LoadAccount(context.Background(), jid.MustParse(name+"@h.example"))
	if err != nil {
		w.t.Fatal(err)
	}
	return d.ID
}

func bodyOf(s string) string {
	_, s, ok := strings.Cut(s, "<body>")
	if !ok {
		return ""
	}
	s, _, _ = strings.Cut(s, "</body>")
	return s
}

func bodies(stanzas []string) (list []string) {
	for _, s := range stanzas {
		if b := bodyOf(s); b != "" {
			list = append(list, b)
		}
	}
	return list
}

// befriend makes two accounts see each other.
func (w *world) befriend(a, b string) {
	w.t.Helper()
	x, y := w.bind(a+"/befriend roster"), w.bind(b+"/befriend roster")
	to := func(name string) string { return name + "@h.example" }
	x.send("<presence type='subscribe' to='" + to(b) + "'/>")
	w.settle()
	y.send("<presence type='subscribed' to='" + to(a) + "'/>")
	y.send("<presence type='subscribe' to='" + to(a) + "'/>")
	w.settle()
	x.send("<presence type='subscribed' to='" + to(b) + "'/>")
	w.settle()
	x.Close(x)
	y.Close(y)
	w.settle()
}

// state looks at an account on its loop.
func (w *world) state(name string, f func(*State)) {
	w.t.Helper()
	_, err := ask(context.Background(), w.hub, jid.MustParse(name+"@h.example"), func(s *State, _ *effects) struct{} {
		f(s)
		return struct{}{}
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

const (
	alice = "alice@h.example"
	bob   = "bob@h.example"
	carol = "carol@h.example"
)

// waitFor waits until something is true that other goroutines bring about.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		runtime.Gosched()
	}
}

func (w *world) jid(name string) jid.JID { return jid.MustParse(name + "@h.example") }
