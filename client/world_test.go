package client_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// patience bounds every wait for what must happen; no test that passes spends it.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && flag.Lookup("test.fuzz").Value.String() == "" { // fuzzing has goroutines of its own
		code = leaks()
	}
	if s, err := common(); err == nil {
		os.RemoveAll(s.dir)
	}
	os.Exit(code)
}

// leaks reports goroutines that outlive the tests.
func leaks() int {
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > 1 {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", stacks[:runtime.Stack(stacks, true)])
			return 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

// shared is a certificate for localhost and its files.
type shared struct {
	dir, certFile, keyFile string
	cert                   tls.Certificate
	roots                  *x509.CertPool
}

var common = sync.OnceValues(func() (*shared, error) {
	dir, err := os.MkdirTemp("", "carillon-client-")
	if err != nil {
		return nil, err
	}
	s := &shared{dir: dir, certFile: filepath.Join(dir, "cert.pem"), keyFile: filepath.Join(dir, "key.pem"), roots: x509.NewCertPool()}
	certPEM, keyPEM, err := certificate("localhost")
	if err != nil {
		return nil, err
	}
	if s.cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return nil, err
	}
	s.roots.AppendCertsFromPEM(certPEM)
	return s, errors.Join(os.WriteFile(s.certFile, certPEM, 0o600), os.WriteFile(s.keyFile, keyPEM, 0o600))
})

// certificate makes a self-signed one.
func certificate(name string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// world is a carillon server in this process, and the network to it: a Dialer
// whose connections can be cut.
type world struct {
	srv  *server.Server
	log  logged
	stop context.CancelFunc
	done chan error

	mu     sync.Mutex
	conns  []net.Conn
	dialed []string
	down   error // what dialing gives
}

// logged is what the server logged.
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

// startServer is newWorld for examples, which have no *testing.T.
func startServer(names ...string) (*world, error) { return startServerOn(":memory:", names...) }

// startServerOn is startServer with a store of its own.
func startServerOn(path string, names ...string) (*world, error) {
	sh, err := common()
	if err != nil {
		return nil, err
	}
	cfg := config.Default()
	cfg.Data = ":memory:"
	cfg.C2S, cfg.C2STLS, cfg.HTTP = config.Off, config.Off, config.Off
	cfg.Cert, cfg.Key = sh.certFile, sh.keyFile
	cfg.Auth.Iterations = sasl.MinIterations
	cfg.Rooms.UserPerSecond, cfg.Rooms.RoomPerSecond = 0, 0
	w := &world{done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	if w.srv, err = server.NewWith(ctx, cfg, log, server.Options{Path: path, Release: "test"}); err != nil {
		stop()
		return nil, err
	}
	w.stop = stop
	go func() { w.done <- w.srv.Run(ctx) }()
	<-w.srv.Ready()
	for _, name := range names {
		if _, err := w.srv.Host().Call(ctx, "user add", map[string]string{"jid": name + "@localhost", "password": "secret"}); err != nil {
			return nil, errors.Join(err, w.end())
		}
	}
	return w, nil
}

func (w *world) end() error {
	w.stop()
	return <-w.done
}

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	return newWorldOn(t, ":memory:", names...)
}

func newWorldOn(t *testing.T, path string, names ...string) *world {
	t.Helper()
	w, err := startServerOn(path, names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.end(); err != nil {
			t.Error(err)
		}
		if text := w.log.String(); strings.Contains(text, "msg=panic") || strings.Contains(text, "msg=\"panic") {
			t.Error("the server recovered from a panic")
		}
		if t.Failed() {
			text := w.log.String()
			t.Logf("end of the log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return w
}

// DialContext implements client.Dialer: port 5222 is STARTTLS, every other direct.
func (w *world) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialed = append(w.dialed, address)
	if w.down != nil {
		return nil, w.down
	}
	a, b := net.Pipe()
	w.conns = append(w.conns, a)
	w.srv.ServeConn(b, !strings.HasSuffix(address, ":5222"))
	return a, nil
}

// cut breaks all connections.
func (w *world) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// reachable says whether connections can be made.
func (w *world) reachable(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = nil
	if !yes {
		w.down = errors.New("unreachable")
	}
}

func (w *world) config(name string) client.Config {
	sh, err := common()
	if err != nil {
		panic(err)
	}
	return client.Config{
		Account: jid.MustParse(name + "@localhost"), Password: "secret", RootCAs: sh.roots, Dialer: w,
		Addresses: []client.Address{{Host: "localhost:5223", TLS: true}},
		RetryMin:  5 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
}

// device is a client under test with what it has received.
type device struct {
	*client.Client
	t   *testing.T
	ctx context.Context
}

func dial(t *testing.T, cfg client.Config) *device {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return &device{c, t, ctx}
}

// expect takes events until one of type E that match accepts, nil for any.
func expect[E client.Event](d *device, match func(E) bool) E {
	d.t.Helper()
	for {
		ev, err := d.Next(d.ctx)
		if err != nil {
			d.t.Fatalf("waiting for %T: %v", *new(E), err)
		}
		if e, ok := ev.(E); ok && (match == nil || match(e)) {
			return e
		}
		if end, ok := ev.(*client.Disconnected); ok && end.Final {
			d.t.Fatalf("waiting for %T: %v", *new(E), end.Err)
		}
	}
}

func chat(to, body string) *stanza.Stanza {
	return stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse(to), "<body>"+body+"</body>")
}

func bodyIs(body string) func(*client.Received) bool {
	return func(r *client.Received) bool { return body == r.Stanza.Child(stanza.NSClient, "body").Text() }
}

func (d *device) send(st *stanza.Stanza) *client.Receipt {
	d.t.Helper()
	r, err := d.Send(d.ctx, st)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *device) acknowledged(r *client.Receipt) {
	d.t.Helper()
	if got, err := r.Wait(d.ctx); err != nil || got != client.Acknowledged {
		d.t.Fatalf("delivery: %v, %v", got, err)
	}
}

func TestChat(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice, bob := dial(t, w.config("alice")), dial(t, w.config("bob"))
	on := expect[*client.Connected](alice, nil)
	if !on.Extensible || !on.Management || !on.Resumable || on.Resumed || on.Profile != client.ProfileBest || !on.CatchUp || on.Mechanism != sasl.ScramSHA512Plus {
		t.Errorf("connected: %+v", on)
	}
	if on.JID.Bare() != alice.Account() || alice.JID() != on.JID {
		t.Errorf("address: %v", on.JID)
	}
	expect[*client.Synced](bob, nil)
	r := alice.send(chat("bob@localhost", "hello"))
	alice.acknowledged(r)
	got := expect(bob, bodyIs("hello"))
	if got.Stanza.ID != r.ID() || got.Stanza.From != alice.JID() {
		t.Errorf("received: %s", got.Stanza.AppendTo(nil))
	}
	if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil {
		t.Error(err)
	}
}

func TestResume(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice, bob := dial(t, w.config("alice")), dial(t, w.config("bob"))
	expect[*client.Synced](bob, nil)
	expect[*client.Synced](alice, nil)
	first := bob.JID()
	w.cut()
	alice.acknowledged(alice.send(chat("bob@localhost", "while away")))
	if on := expect[*client.Connected](bob, nil); !on.Resumed || on.JID != first {
		t.Errorf("not resumed: %+v", on)
	}
	expect(bob, bodyIs("while away"))
}

// TestLoginFlows counts round trips: all that a session begins with is in the
// request that logs in (S-2; X2-31, X2-32, X2-33, X2-36).
func TestLoginFlows(t *testing.T) {
	w := newWorld(t, "alice")
	store := &client.MemoryStore{}
	cfg := w.config("alice")
	cfg.Store = store
	for i, want := range []struct {
		mechanism string
		trips     int
	}{{sasl.ScramSHA512Plus, 3}, {sasl.HTSHA256Exporter, 1}, {sasl.HTSHA256Exporter, 1}} {
		d := dial(t, cfg)
		on := expect[*client.Connected](d, nil)
		if on.Mechanism != want.mechanism || on.RoundTrips != want.trips || on.Pipelined != (want.trips == 1) {
			t.Errorf("login %d: %s, %d round trips, pipelined %v", i, on.Mechanism, on.RoundTrips, on.Pipelined)
		}
		d.Close(d.ctx)
	}
	st, _ := store.Load(context.Background(), cfg.Account)
	st.Token = "" // SCRAM without waiting for the features
	store.Save(context.Background(), cfg.Account, st)
	if on := expect[*client.Connected](dial(t, cfg), nil); on.RoundTrips != 2 || !on.Pipelined {
		t.Errorf("SCRAM: %d round trips", on.RoundTrips)
	}
	cfg.Addresses = []client.Address{{Host: "localhost:5222"}}
	if on := expect[*client.Connected](dial(t, cfg), nil); on.Mechanism != sasl.HTSHA256Exporter {
		t.Errorf("STARTTLS: %s", on.Mechanism)
	}
	cfg.Password = "wrong"
	cfg.Store = nil
	var refused *client.AuthError
	if _, err := client.Dial(t.Context(), cfg); !errors.As(err, &refused) || refused.Condition != sasl.NotAuthorized {
		t.Errorf("wrong password: %v", err)
	}
}

func TestArchive(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	for i := range 25 {
		alice.acknowledged(alice.send(chat("bob@localhost", fmt.Sprint(i))))
	}
	bob := dial(t, w.config("bob"))
	n := 0
	for n < 25 {
		if ev := expect[*client.Archived](bob, nil); ev.Message.Child(stanza.NSClient, "body").Text() != fmt.Sprint(n) {
			t.Fatalf("catch-up: %s", ev.Message.AppendTo(nil))
		}
		n++
	}
	if s := expect[*client.Synced](bob, nil); s.Count != 25 || !s.Complete {
		t.Errorf("synced: %+v", s)
	}
	for _, q := range []client.ArchiveQuery{{PageSize: 10}, {PageSize: 10, Newest: true}, {PageSize: 5, With: jid.MustParse("alice@localhost")}} {
		var got []string
		for m, err := range bob.Archive(bob.ctx, q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.Message.Child(stanza.NSClient, "body").Text())
		}
		if first := map[bool]string{false: "0", true: "24"}[q.Newest]; len(got) != 25 || got[0] != first {
			t.Errorf("%+v: %v", q, got)
		}
	}
	for _, err := range bob.Archive(bob.ctx, client.ArchiveQuery{After: "nonsense"}) {
		if e := (*stanza.Error)(nil); !errors.As(err, &e) || e.Condition != stanza.ItemNotFound {
			t.Errorf("unknown id: %v", err)
		}
	}
}

func TestRoster(t *testing.T) {
	w := newWorld(t, "alice")
	cfg := w.config("alice")
	cfg.Store = client.FileStore{Dir: t.TempDir()}
	alice := dial(t, cfg)
	expect(alice, func(r *client.RosterChanged) bool { return r.Item == nil })
	if err := alice.SetContact(alice.ctx, xep.RosterItem{JID: jid.MustParse("bob@localhost"), Name: "Bob", Groups: []string{"friends"}}); err != nil {
		t.Fatal(err)
	}
	if r := expect[*client.RosterChanged](alice, nil); r.Item == nil || r.Item.Name != "Bob" {
		t.Errorf("push: %+v", r.Item)
	}
	alice.Close(alice.ctx)
	alice = dial(t, cfg)
	if list := alice.Roster(); len(list) != 1 || list[0].Groups[0] != "friends" {
		t.Errorf("kept: %+v", list)
	}
	expect(alice, func(r *client.RosterChanged) bool { return r.Item == nil })
	if list := alice.Roster(); len(list) != 1 {
		t.Errorf("unchanged: %+v", list)
	}
	if err := alice.RemoveContact(alice.ctx, jid.MustParse("bob@localhost")); err != nil {
		t.Fatal(err)
	}
	expect(alice, func(r *client.RosterChanged) bool {
		return r.Item != nil && r.Item.Subscription == xep.SubscriptionRemove
	})
	if list := alice.Roster(); len(list) != 0 {
		t.Errorf("removed: %+v", list)
	}
}
