package component

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestMain fails where a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > 1 && code == 0 {
		buf := make([]byte, 1<<20)
		os.Stderr.Write(buf[:runtime.Stack(buf, true)])
		code = 1
	}
	os.Exit(code)
}

const (
	domain = "irc.h.example"
	secret = "swordfish"

	// patience bounds every wait for something that must happen; no test that passes spends it.
	patience = 30 * time.Second
)

// world is a server with one component, whose stanzas the test takes.
type world struct {
	t   *testing.T
	srv *Server
	log bytes.Buffer

	mu      sync.Mutex
	entered []string
	block   chan struct{} // not nil: Receive waits for it
	refuse  error
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	w := &world{t: t}
	cfg := Config{
		Secrets: map[string][]byte{domain: []byte(secret), "other.h.example": []byte("x")},
		Receive: w.receive, Log: slog.New(slog.NewTextHandler(&syncWriter{w: &w.log}, nil)),
		Limits: Limits{Stanza: xmltree.Limits{MaxBytes: 20_000}, Early: xmltree.Limits{MaxBytes: 1000}, EarlyTime: time.Minute,
			Unauthenticated: 3, QueueBytes: 10_000, WriteTime: time.Minute, Linger: time.Second},
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.srv, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.srv.Close(ctx); err != nil {
			t.Error(err)
		}
		if n := w.srv.Metrics.Panics.Load(); n != 0 {
			t.Errorf("%d panics", n)
		}
		if strings.Contains(w.log.String(), secret) {
			t.Error("the secret is in the log")
		}
	})
	return w
}

type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (w *world) receive(ctx context.Context, st *stanza.Stanza) error {
	w.mu.Lock()
	block, refuse := w.block, w.refuse
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if refuse != nil {
		return refuse
	}
	w.mu.Lock()
	w.entered = append(w.entered, string(st.AppendTo(nil)))
	w.mu.Unlock()
	return nil
}

func (w *world) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.entered...)
}

// peer is the component's side of a connection.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (w *world) dial() *peer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	l.Close()
	go w.srv.ServeConn(far)
	nc.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { nc.Close() })
	return &peer{w.t, nc, bufio.NewReader(nc)}
}

func (p *peer) write(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to and including a piece of text.
func (p *peer) until(piece string) string {
	p.t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), piece) {
		c, err := p.r.ReadByte()
		if err != nil {
			p.t.Fatalf("read %q and then %v; want %q", b.String(), err, piece)
		}
		b.WriteByte(c)
	}
	return b.String()
}

// rest reads to the end.
func (p *peer) rest() string {
	p.t.Helper()
	b, err := io.ReadAll(p.r)
	if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		p.t.Fatalf("%q: %v", b, err)
	}
	return string(b)
}

func header(to string) string {
	return "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='" + to + "'>"
}

// open does all but the handshake and returns the stream's id.
func (p *peer) open() (id string) {
	p.t.Helper()
	p.write(header(domain))
	got := p.until(" id='")
	if !strings.Contains(got, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='"+domain+"'") {
		p.t.Fatalf("the header is %q", got)
	}
	return strings.TrimSuffix(p.until("'>"), "'>")
}

func proof(id, secret string) string {
	sum := sha1.Sum([]byte(id + secret))
	return hex.EncodeToString(sum[:])
}

// connect is a component that is let in.
func (w *world) connect() *peer {
	w.t.Helper()
	p := w.dial()
	p.write("<handshake>" + proof(p.open(), secret) + "</handshake>")
	p.until("<handshake/>")
	return p
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		time.Sleep(time.Millisecond)
	}
}

// early waits until so many connections have not been let in yet.
func (w *world) early(n int) {
	w.t.Helper()
	waitFor(w.t, func() bool { w.srv.mu.Lock(); defer w.srv.mu.Unlock(); return w.srv.early == n })
}

// TestStreamErrors: what a component does wrong before it is let in.
func TestStreamErrors(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		send, want string
		opened     bool
	}{
		"unknown host":    {header("nobody.h.example"), "host-unknown", false},
		"an account":      {header("a@" + domain), "host-unknown", false},
		"no to":           {strings.Replace(header(""), " to=''", "", 1), "host-unknown", false},
		"clients' stream": {strings.Replace(header(domain), "component:accept", "client", 1), "invalid-namespace", false},
		"no stream":       {"<x xmlns='jabber:component:accept' to='" + domain + "'>", "invalid-namespace", false},
		"not XML":         {"GET / HTTP/1.1\r\n\r\n", "not-well-formed", false},
		"wrong secret":    {"<handshake>" + proof("x", secret) + "</handshake>", "not-authorized", true},
		"empty handshake": {"<handshake/>", "not-authorized", true},
		"other element":   {"<message from='a@" + domain + "' to='b@h.example'/>", "not-authorized", true},
		"foreign":         {"<handshake xmlns='urn:x'/>", "not-authorized", true},
		"too long":        {"<handshake>" + strings.Repeat("a", 2000), "policy-violation", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.dial()
			if tc.opened {
				p.open()
			}
			p.write(tc.send)
			got := p.rest()
			if !strings.Contains(got, "<stream:error><"+tc.want+" xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>") || !strings.HasSuffix(got, "</stream:stream>") {
				t.Errorf("got %q", got)
			}
			if !tc.opened && !strings.HasPrefix(got, "<?xml version='1.0'?><stream:stream xmlns=") {
				t.Errorf("no header: %q", got)
			}
			p.Close()
			w.early(0) // or the next ones are too many
		})
	}
	if len(w.taken()) != 0 {
		t.Error("something got in")
	}
	if w.srv.Metrics.Failures.Load() != 4 {
		t.Errorf("%d handshakes failed", w.srv.Metrics.Failures.Load())
	}
}

// TestStanzas: what a component sends, right and wrong.
func TestStanzas(t *testing.T) {
	for name, tc := range map[string]struct{ send, enters, answer, fails string }{
		"message": {"<message from='a@irc.h.example/r' to='bob@h.example' type='chat'><body>x</body><f xmlns='urn:f'><body/></f></message>",
			"<message from='a@irc.h.example/r' to='bob@h.example' type='chat'><body>x</body><f xmlns='urn:f'><body/></f></message>", "", ""},
		"from the domain": {"<presence from='irc.h.example' to='bob@h.example'/>", "<presence from='irc.h.example' to='bob@h.example'/>", "", ""},
		"iq":              {"<iq from='irc.h.example' to='h.example' id='1' type='get'><q xmlns='u'/></iq>", "<iq from='irc.h.example' to='h.example' id='1' type='get'><q xmlns='u'/></iq>", "", ""},
		"iq without id":   {"<iq from='irc.h.example' to='h.example' type='get'><q xmlns='u'/></iq>", "", "type='error'><error type='modify'><bad-request", ""},
		"bad to":          {"<iq from='irc.h.example' to='@' type='get' id='1'><q xmlns='u'/></iq>", "", "<jid-malformed", ""},
		"another's from":  {"<message from='alice@h.example' to='bob@h.example'/>", "", "", "invalid-from"},
		"sub domain":      {"<message from='a@b.irc.h.example' to='bob@h.example'/>", "", "", "invalid-from"},
		"malformed from":  {"<message from='@' to='bob@h.example'/>", "", "", "invalid-from"},
		"no from":         {"<message to='bob@h.example'/>", "", "", "improper-addressing"},
		"no to":           {"<message from='irc.h.example'/>", "", "", "improper-addressing"},
		"no stanza":       {"<foo from='irc.h.example' to='bob@h.example'/>", "", "", "unsupported-stanza-type"},
		"clients' stanza": {"<message xmlns='jabber:client' from='irc.h.example' to='bob@h.example'/>", "", "", "unsupported-stanza-type"},
		"too long":        {"<message from='irc.h.example' to='bob@h.example'><body>" + strings.Repeat("x", 30_000), "", "", "policy-violation"},
		"entity":          {"<message from='irc.h.example' to='bob@h.example'><body>&foo;", "", "", "restricted-xml"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.connect()
			p.write(tc.send)
			switch {
			case tc.fails != "":
				if got := p.rest(); !strings.Contains(got, "<stream:error><"+tc.fails+" ") {
					t.Errorf("got %q", got)
				}
			case tc.answer != "":
				p.until(tc.answer)
			default:
				waitFor(t, func() bool { return len(w.taken()) == 1 })
				if got := w.taken()[0]; got != tc.enters {
					t.Errorf("entered %s", got)
				}
			}
			if tc.enters == "" && len(w.taken()) != 0 {
				t.Errorf("entered %v", w.taken())
			}
		})
	}
}

func message(to, body string) *stanza.Stanza {
	return stanza.Build(stanza.Message, stanza.TypeChat, body, jid.MustParse("bob@h.example/r"), jid.MustParse(to), "<body>"+body+"</body><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></f>")
}

// TestSend: what leaves comes in order; where nobody is, the sender is told; a
// second connection is refused and the first one goes on.
func TestSend(t *testing.T) {
	w := newWorld(t)
	c := w.srv.Component(domain)
	if e := c.Send(message(domain, "x")); e == nil || e.Condition != stanza.RemoteServerTimeout || e.Type != stanza.Wait {
		t.Errorf("not connected: %v", e)
	}
	if w.srv.Component("h.example") != nil {
		t.Error("a component that isn't configured")
	}
	p := w.connect()
	second := w.dial()
	second.write("<handshake>" + proof(second.open(), secret) + "</handshake>")
	if got := second.rest(); !strings.Contains(got, "<conflict ") {
		t.Errorf("the second connection got %q", got)
	}
	for i := range 100 {
		if e := c.Send(message(domain, fmt.Sprint("m", i))); e != nil {
			waitFor(t, func() bool { return c.Send(message(domain, fmt.Sprint("m", i))) == nil })
		}
	}
	for i := range 100 {
		got := p.until("</message>")
		if !strings.HasPrefix(got, fmt.Sprintf("<message from='bob@h.example/r' to='irc.h.example' id='m%d' type='chat'><body>m%d</body>", i, i)) {
			t.Fatalf("%d: %s", i, got)
		}
		if !strings.HasSuffix(got, "<f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></f></message>") {
			t.Fatalf("%d: %s", i, got)
		}
	}
	// In good order.
	p.write("</stream:stream>")
	if got := p.rest(); got != "</stream:stream>" {
		t.Errorf("the end is %q", got)
	}
	if e := c.Send(message(domain, "x")); e == nil || e.Condition != stanza.RemoteServerTimeout {
		t.Errorf("after the end: %v", e)
	}
	w.connect() // at once
}

// TestQueue: what waits is bounded in bytes, and goes back when the connection is
// lost before it is written.
func TestQueue(t *testing.T) {
	w := newWorld(t)
	near, far := net.Pipe() // without a buffer
	go w.srv.ServeConn(far)
	t.Cleanup(func() { near.Close() })
	p := &peer{t, near, bufio.NewReader(near)}
	p.write("<?xml version='1.0'?>")
	p.write(header(domain))
	p.until(" id='")
	id := strings.TrimSuffix(p.until("'>"), "'>")
	p.write("<handshake>" + proof(id, secret) + "</handshake>")
	p.until("<handshake/>")
	c := w.srv.Component(domain)
	n := 0
	var e *stanza.Error
	for e == nil && n < 1000 {
		if e = c.Send(message(domain, strings.Repeat("x", 1000))); e == nil {
			n++
		}
	}
	if e == nil || e.Condition != stanza.ResourceConstraint || n < 5 || n > 30 {
		t.Fatalf("%d were taken, then %v", n, e)
	}
	near.Close()
	waitFor(t, func() bool { return len(w.taken()) == n })
	for _, got := range w.taken() {
		if !strings.HasPrefix(got, "<message from='irc.h.example' to='bob@h.example/r'") || !strings.Contains(got, "<error type='wait'><remote-server-timeout ") {
			t.Errorf("returned %s", got)
		}
	}
}

// TestBackPressure: a component isn't read while its stanza is being dealt with.
func TestBackPressure(t *testing.T) {
	w := newWorld(t)
	w.block = make(chan struct{})
	p := w.connect()
	const st = "<message from='irc.h.example' to='bob@h.example'><body>x</body></message>"
	p.write(st)
	waitFor(t, func() bool { return w.srv.Metrics.StanzasIn.Load() == 1 })
	p.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	sent, err := 0, error(nil)
	for err == nil && sent < 256<<20 {
		n := 0
		n, err = io.WriteString(p, strings.Repeat(st, 1000))
		sent += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were read: %v", sent, err)
	}
	if w.srv.Metrics.StanzasIn.Load() != 1 {
		t.Errorf("%d stanzas were taken", w.srv.Metrics.StanzasIn.Load())
	}
	close(w.block)
}

// TestEarly: connections before their handshake are bounded in number and time.
func TestEarly(t *testing.T) {
	w := newWorld(t)
	w.dial()
	w.dial().open()
	w.dial().open()
	w.early(3)
	p := w.dial()
	if got := p.rest(); got != "" {
		t.Errorf("one too many got %q", got)
	}
	hasty := newWorld(t, func(c *Config) { c.Limits.EarlyTime = 300 * time.Millisecond })
	if got := hasty.dial().rest(); !strings.Contains(got, "<connection-timeout ") || !strings.HasPrefix(got, "<?xml") {
		t.Errorf("a silent one got %q", got)
	}
}

// TestClose: what waits is written before the end, and a component that doesn't
// close its side is cut off.
func TestClose(t *testing.T) {
	w := newWorld(t)
	p := w.connect()
	if e := w.srv.Component(domain).Send(message(domain, "last")); e != nil {
		t.Fatal(e)
	}
	done := make(chan error)
	go func() { done <- w.srv.Close(context.Background()) }()
	got := p.rest()
	if !strings.Contains(got, "<body>last</body>") || !strings.HasSuffix(got, "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>") {
		t.Errorf("got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p := w.dial(); p.rest() != "" {
		t.Error("a connection after the end")
	}
}

// TestStopping: when the accounts take nothing any more the stream ends.
func TestStopping(t *testing.T) {
	w := newWorld(t)
	w.refuse = errors.New("stopped")
	p := w.connect()
	p.write("<message from='irc.h.example' to='bob@h.example'/>")
	if got := p.rest(); !strings.Contains(got, "<system-shutdown ") {
		t.Errorf("got %q", got)
	}
}

// TestThrottle: a component is read as fast as it may send.
func TestThrottle(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.BytesPerSecond = map[string]int{domain: 1000} })
	p := w.connect()
	st := "<message from='irc.h.example' to='bob@h.example'><body>" + strings.Repeat("x", 1000) + "</body></message>"
	start := time.Now()
	p.write(st)
	waitFor(t, func() bool { return len(w.taken()) == 1 })
	p.write(st)
	waitFor(t, func() bool { return len(w.taken()) == 2 })
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("two seconds' worth took %v", d)
	}
}

func TestConfig(t *testing.T) {
	ok := Config{Receive: func(context.Context, *stanza.Stanza) error { return nil }, Log: slog.New(slog.DiscardHandler)}
	for name, secrets := range map[string]map[string][]byte{
		"no secret": {domain: nil}, "not prepared": {"IRC.h.example": []byte("x")}, "no domain": {"a@b": []byte("x")},
	} {
		cfg := ok
		cfg.Secrets = secrets
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("nothing configured, and no error")
	}
}

// TestGoesOnBehindTheEnd: a component that goes on after the end of its stream is read for a while, so that it learns why, but not for ever.
func TestGoesOnBehindTheEnd(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Linger = time.Minute })
	near, far := net.Pipe()
	go w.srv.ServeConn(far)
	p := &peer{t, near, bufio.NewReader(near)}
	p.SetDeadline(time.Now().Add(patience))
	p.write("<wrong/>")
	p.until("</stream:stream>")
	sent := 0
	for chunk := make([]byte, 16<<10); sent < 4*maxDropped; sent += len(chunk) {
		if _, err := p.Write(chunk); err != nil {
			break
		}
	}
	if sent < maxDropped/2 || sent > 2*maxDropped {
		t.Errorf("%d bytes were read behind the end", sent)
	}
	p.Close()
}
