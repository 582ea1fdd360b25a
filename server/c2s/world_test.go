package c2s

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const domain = "wonderland.lit"

// hub is a small server behind c2s: it keeps sessions and lets each talk to
// itself and to the others. It is what an account is, without storage.
type hub struct {
	keys map[jid.JID]map[sasl.Hash]sasl.Keys

	mu       sync.Mutex
	sessions map[jid.JID]*session
	byID     map[string]*session
	lookups  int
	fail     error // of Bind and AddKeys
	requests []BindRequest
	clients  clients
	panics   string
}

func (h *hub) Keys(_ context.Context, bare jid.JID, hash sasl.Hash) (sasl.Keys, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lookups++
	k, ok := h.keys[bare][hash]
	if !ok {
		return sasl.Keys{}, sasl.ErrUnknownUser
	}
	return k, nil
}

func (h *hub) Bind(_ context.Context, req BindRequest) (Session, Bound, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return nil, Bound{}, h.fail
	}
	resource := req.Resource
	if resource == "" {
		resource = "made-up"
	}
	full, err := req.Account.WithResource(resource)
	if err != nil {
		return nil, Bound{}, err
	}
	h.requests = append(h.requests, req)
	if old := h.sessions[full]; old != nil && req.Inline {
		old.t.End(stanza.NewStreamError(stanza.StreamConflict, ""))
	} else if old != nil {
		return nil, Bound{}, stanza.NewError(stanza.Conflict, "")
	}
	s := &session{hub: h, jid: full, t: req.Transport}
	h.sessions[full] = s
	return s, h.inline(s, &req), nil
}

func (h *hub) Resume(_ context.Context, req ResumeRequest) (Session, Resumed, error) {
	h.mu.Lock()
	s := h.byID[req.ID]
	h.mu.Unlock()
	if s == nil || s.jid.Bare() != req.Account {
		return nil, Resumed{}, &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, ""), H: 7, Known: true}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.t
	s.t, s.gone = req.Transport, false
	s.sent = 0
	if old != nil {
		old.End(stanza.NewStreamError(stanza.StreamConflict, ""))
	}
	return s, Resumed{H: s.received}, nil
}

// inline is what Bind 2 is told: of a session request everything works but rooms.
func (h *hub) inline(s *session, req *BindRequest) (b Bound) {
	if !req.Inline {
		return b
	}
	at := time.Date(2020, 4, 20, 14, 34, 21, 0, time.UTC)
	b.Archive = &stream.Archive{Start: xep.MAMEdge{ID: "YWxwaGEg", Stamp: at}, End: xep.MAMEdge{ID: "b21lZ2Eg", Stamp: at}}
	if req.Session == nil {
		return b
	}
	for _, ask := range req.Session.Parts {
		r := xep.SessionResult{Part: ask.Part, Room: ask.RoomText, Err: ask.Err}
		if ask.Part == xep.SessionJoin && r.Err == nil {
			r.Err = stanza.NewError(stanza.ItemNotFound, "")
		}
		b.Results = append(b.Results, r)
	}
	if req.Session.First(xep.SessionSync) != nil {
		s.push([]byte("<message><synced xmlns='" + xep.NSXMPP2 + "'/></message>"))
	}
	return b
}

func (h *hub) AddKeys(_ context.Context, bare jid.JID, k sasl.Keys) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return h.fail
	}
	if _, ok := h.keys[bare][k.Hash]; ok {
		return errors.New("there are keys already")
	}
	h.keys[bare][k.Hash] = k
	return nil
}

func (h *hub) session(full string) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[jid.MustParse(full)]
}

// session answers pings, delivers what is sent to a full address, and gives
// everything else back to its sender.
type session struct {
	hub *hub
	jid jid.JID

	mu       sync.Mutex
	t        Transport
	queue    [][]byte
	sent     int // of the queue
	smID     string
	received uint32
	control  []byte
	gone     bool
	closed   bool
	elements []string

	enabledAt int // sent stanzas at EnableSM
}

func (s *session) JID() jid.JID { return s.jid }

func (s *session) push(b []byte) {
	s.mu.Lock()
	s.queue = append(s.queue, b)
	t := s.t
	s.mu.Unlock()
	if t != nil {
		t.Wake()
	}
}

func (s *session) Receive(_ context.Context, st *stanza.Stanza, size int) error {
	s.mu.Lock()
	s.received++
	s.mu.Unlock()
	switch {
	case s.hub.panics != "" && strings.Contains(st.Inner(), s.hub.panics):
		panic("told to")
	case st.Child("urn:test", "kick").Local() != "":
		return stanza.NewStreamError(stanza.StreamReset, "")
	case st.Child("urn:test", "broken").Local() != "":
		return errors.New("broken")
	case st.Kind == stanza.IQ && (st.Type == stanza.TypeGet || st.Type == stanza.TypeSet):
		s.push(st.Reply("").AppendTo(nil))
	case st.To.IsFull():
		if to := s.hub.session(st.To.String()); to != nil {
			to.push(st.AppendTo(nil))
		}
	default:
		s.push(st.AppendTo(nil))
	}
	return nil
}

func (s *session) Answer(_ context.Context, _ *stanza.Stanza, _ int, reply *stanza.Stanza) error {
	s.mu.Lock()
	s.received++
	s.mu.Unlock()
	if reply != nil {
		s.push(reply.AppendTo(nil))
	}
	return nil
}

func (s *session) Element(_ context.Context, el xmltree.Element) error {
	if el.Space() != "urn:xmpp:csi:0" {
		return stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, "")
	}
	s.mu.Lock()
	s.elements = append(s.elements, el.Local())
	s.mu.Unlock()
	return nil
}

func (s *session) EnableSM(resume bool, max time.Duration) (string, bool, time.Duration, *stanza.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.smID = "sm-" + s.jid.String()
	s.hub.mu.Lock()
	s.hub.byID[s.smID] = s
	s.hub.mu.Unlock()
	s.received, s.enabledAt = 0, s.sent
	if max == 0 {
		max = 10 * time.Minute
	}
	return s.smID, resume, max, nil
}

func (s *session) Ack(h uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(h) > s.sent {
		return stanza.NewStreamError(stanza.StreamUndefinedCondition, "")
	}
	return nil
}

func (s *session) AckRequest() {
	s.mu.Lock()
	s.control = stream.AppendAck(s.control, s.received)
	t := s.t
	s.mu.Unlock()
	t.Wake()
}

func (s *session) Detach(t Transport) { s.leave(t, false) }
func (s *session) Close(t Transport)  { s.leave(t, true) }

func (s *session) leave(t Transport, closed bool) {
	if s.hub.panics == "boo detach" && s.jid.Resource() == s.hub.panics {
		panic("told to")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.t != t {
		return
	}
	s.t, s.gone, s.closed = nil, true, closed
	if closed || s.smID == "" {
		s.hub.mu.Lock()
		delete(s.hub.sessions, s.jid)
		delete(s.hub.byID, s.smID)
		s.hub.mu.Unlock()
	}
}

func (s *session) Next(t Transport, dst []byte, max int) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent < len(s.queue) && s.hub.panics == "boo next" && s.jid.Resource() == s.hub.panics {
		panic("told to")
	}
	if s.t != nil && s.t != t {
		return dst, false
	}
	dst = append(dst, s.control...)
	s.control = nil
	for s.sent < len(s.queue) && len(dst) < max {
		dst = append(dst, s.queue[s.sent]...)
		s.sent++
	}
	return dst, s.sent < len(s.queue)
}

// state is what the session knows, for tests to look at.
func (s *session) state() (gone, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone, s.closed
}

// world is a server with the accounts alice and queen, password "rabbit".
type world struct {
	*Server
	hub *hub
	log *logged
}

// logged is what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// quiet is a log without a transcript.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

var testCertificate = sync.OnceValue(func() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: domain}, DNSNames: []string{domain},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

var testKeys = sync.OnceValue(func() map[sasl.Hash]sasl.Keys {
	m := map[sasl.Hash]sasl.Keys{}
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		k, err := sasl.DeriveKeys(h, "rabbit", []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			panic(err)
		}
		m[h] = k
	}
	return m
})

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	h := &hub{sessions: map[jid.JID]*session{}, byID: map[string]*session{}, keys: map[jid.JID]map[sasl.Hash]sasl.Keys{
		jid.MustParse("alice@" + domain): maps.Clone(testKeys()),
		jid.MustParse("queen@" + domain): maps.Clone(testKeys()),
	}}
	w := &world{hub: h, log: &logged{}}
	cfg := Config{
		Domains:     []jid.JID{jid.MustParse(domain)},
		Accounts:    h,
		Credentials: h,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return testCertificate(), nil },
		DummySecret: []byte("0123456789abcdef0123456789abcdef"),
		Iterations:  sasl.MinIterations,
		Features:    []byte("<csi xmlns='urn:xmpp:csi:0'/>"),
		Limits:      DefaultLimits(),
		Log:         slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: LevelTrace})),
		Rand:        rand.Reader,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// end closes the world and holds it to having no bug and no leftovers.
func (w *world) end(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if t.Failed() {
		t.Logf("log:\n%s", w.log)
	}
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
	if w.hub.panics == "" && w.Metrics.Panics.Load() != 0 {
		t.Errorf("panics were recovered:\n%s", w.log)
	}
	if n, e := w.Metrics.Open.Load(), w.Metrics.Unauthenticated.Load(); n != 0 || e != 0 {
		t.Errorf("%d connections left, %d unauthenticated", n, e)
	}
	for _, secret := range []string{"rabbit", "cmFiYml0"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log contains %q", secret)
		}
	}
	if len(w.addresses) != 0 || len(w.conns) != 0 {
		t.Errorf("left over: %d addresses, %d connections", len(w.addresses), len(w.conns))
	}
}

// left waits until a resource of alice's has no session any more.
func (w *world) left(t testing.TB, resource string) {
	t.Helper()
	for by := time.Now().Add(20 * time.Second); w.hub.session("alice@"+domain+"/"+resource) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(by) {
			t.Fatalf("the session of %s doesn't end", resource)
		}
	}
}

// pipe connects over net.Pipe.
func (w *world) pipe(direct bool) net.Conn {
	a, b := net.Pipe()
	w.ServeConn(b, direct)
	return a
}

func TestMain(m *testing.M) {
	if arg := os.Getenv(idleClients); arg != "" {
		runIdleClients(arg)
		return
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	for range 100 { // goroutines of the testing package end a little later
		if runtime.NumGoroutine() <= before {
			break
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
	fuzzing := flag.Lookup("test.fuzz").Value.String() != "" // then the testing package listens to signals
	if n := runtime.NumGoroutine(); n > before && code == 0 && !fuzzing {
		buf := make([]byte, 1<<20)
		println("goroutines left:", n-before, "\n", string(buf[:runtime.Stack(buf, true)]))
		code = 1
	}
	os.Exit(code)
}
