package scripts

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
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/test/xmppclient"
)

// shared is what all scripts use and none changes.
type shared struct {
	cert, key string // files
	tls       *tls.Config
	keys      []sasl.Keys // of the password "secret"
	cache     *xmppclient.Cache
}

var common = sync.OnceValues(func() (*shared, error) {
	dir, err := os.MkdirTemp("", "carillon-scripts-")
	if err != nil {
		return nil, err
	}
	s := &shared{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), cache: &xmppclient.Cache{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// The clock of a bubble starts in the year 2000.
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	s.tls = &tls.Config{ServerName: "localhost", RootCAs: roots, CurvePreferences: []tls.CurveID{tls.X25519}}
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		k, err := sasl.DeriveKeys(h, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	return s, errors.Join(
		os.WriteFile(s.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(s.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
})

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := common(); err == nil {
		os.RemoveAll(filepath.Dir(s.cert))
	}
	os.Exit(code)
}

// world is a running server with the clients of a script.
type world struct {
	t      *testing.T
	script *script
	shared *shared
	cfg    config.Config
	path   string // of the store
	log    logged
	srv    *server.Server
	stop   context.CancelFunc
	done   chan error

	fault struct {
		sync.Mutex
		err error
	}
	clients map[string]*client
	vars    bindings
}

// client is a person with a connection, or with what is left of one.
type client struct {
	*person
	conn *xmppclient.Client
}

// logged is what the server logged. Debug lines are logged too, so that what
// they format is run.
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

func newWorld(t *testing.T, s *script, path string) *world {
	sh, err := common()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, script: s, shared: sh, path: path, clients: map[string]*client{}, vars: bindings{}}
	w.cfg = config.Default()
	w.cfg.Data = ":memory:"
	w.cfg.C2S, w.cfg.C2STLS, w.cfg.HTTP = config.Off, config.Off, config.Off
	w.cfg.Cert, w.cfg.Key = sh.cert, sh.key
	w.cfg.Auth.Iterations = sasl.MinIterations
	for _, line := range s.settings {
		if err := config.Set(&w.cfg, line); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	ctx := context.Background()
	accounts := map[jid.JID]store.AccountID{}
	for _, p := range s.clients {
		w.clients[p.name] = &client{person: p}
		if p.resource != "" {
			full, err := p.jid.Bare().WithResource(p.resource)
			if err != nil {
				t.Fatal(err)
			}
			w.vars[p.name] = full.String()
		}
		if p.stranger || accounts[p.jid.Bare()] != 0 {
			continue
		}
		if accounts[p.jid.Bare()], err = w.srv.Host().Store.CreateAccount(ctx, p.jid.Bare(), sh.keys); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range s.contacts {
		done := make(chan error, 1)
		w.srv.Host().Store.Submit(store.Unit{Done: func(err error) { done <- err }, Ops: []store.Op{store.RosterPut{
			Account: accounts[c.of], Version: int64(i + 1), Item: store.RosterItem{JID: c.jid, Subscription: c.subscription}}}})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) start() {
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	ctx, stop := context.WithCancel(context.Background())
	srv, err := server.NewWith(ctx, w.cfg, log, server.Options{Path: w.path, Release: "test", Fault: w.faulty})
	if err != nil {
		stop()
		w.t.Fatal(err)
	}
	w.srv, w.stop, w.done = srv, stop, make(chan error, 1)
	go func() { w.done <- srv.Run(ctx) }()
	<-srv.Ready()
}

// faulty fails the steps of the writer while the script wants it.
func (w *world) faulty(point string) error {
	w.fault.Lock()
	defer w.fault.Unlock()
	if point == "read" || point == "open" {
		return nil
	}
	return w.fault.err
}

func (w *world) fail(kind string) error {
	w.fault.Lock()
	defer w.fault.Unlock()
	switch kind {
	case "":
		w.fault.err = nil
	case "full":
		w.fault.err = fmt.Errorf("told to: %w", store.ErrFull)
	case "io":
		w.fault.err = fmt.Errorf("told to: %w", syscall.EIO)
	default:
		return fmt.Errorf("unknown fault %q", kind)
	}
	return nil
}

// end stops the server and holds it to having no bug.
func (w *world) end() {
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
	for _, c := range w.clients {
		if c.conn != nil {
			c.conn.Cut()
		}
	}
	text := w.log.String()
	if strings.Contains(text, "msg=panic") || strings.Contains(text, "msg=\"panic") {
		w.t.Error("the server recovered from a panic")
	}
	if strings.Contains(strings.ReplaceAll(text, "muc#roomconfig_roomsecret", ""), "secret") {
		w.t.Error("a password is in the log")
	}
	if w.t.Failed() {
		w.t.Logf("log:\n%s", text)
	}
}

// pipe connects to the server.
func (w *world) pipe(direct bool) net.Conn {
	a, b := net.Pipe()
	w.srv.ServeConn(b, direct)
	return a
}

func (w *world) config(c *client) xmppclient.Config {
	return xmppclient.Config{Account: c.jid.Bare(), Password: c.password, TLS: w.shared.tls, Direct: !c.starttls, Keys: w.shared.cache, ShowAcks: c.acks}
}
