// Package inprocess runs a whole server inside a test, without a port and without a file of its own: its store is in memory unless told otherwise, and
// connections are pipes. An Identity is what all servers of a test package share, for making it takes longer than most tests: a certificate and the keys
// of one password. A Server is one run of a server; a test that stops one and starts it again gives both runs the same configuration and Log.
//
// Nothing here starts a goroutine that outlives Stop, so that a Server may live in a bubble of testing/synctest. An Identity is made outside of it.
package inprocess

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
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/test/xmppclient"
)

// Password is every account's.
const Password = "secret"

// Identity is what all servers of a test package have in common. Nothing changes it, but for the cache, which has a lock.
type Identity struct {
	TLS   *tls.Config // for clients
	Cache *xmppclient.Cache

	dir  string // with cert.pem and key.pem
	keys []sasl.Keys
}

// NewIdentity makes one, with two files in a folder that Remove takes away.
func NewIdentity() (*Identity, error) {
	dir, err := os.MkdirTemp("", "carillon-inprocess-")
	if err != nil {
		return nil, err
	}
	id := &Identity{dir: dir, Cache: &xmppclient.Cache{}}
	if err := errors.Join(id.certify(), id.derive()); err != nil {
		return nil, errors.Join(err, id.Remove())
	}
	return id, nil
}

// Remove takes its files away.
func (id *Identity) Remove() error { return os.RemoveAll(id.dir) }

func (id *Identity) certFile() string { return filepath.Join(id.dir, "cert.pem") }
func (id *Identity) keyFile() string  { return filepath.Join(id.dir, "key.pem") }

func (id *Identity) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	// The clock of a bubble starts in the year 2000.
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	id.TLS = &tls.Config{ServerName: "localhost", RootCAs: roots, CurvePreferences: []tls.CurveID{tls.X25519}}
	return errors.Join(
		os.WriteFile(id.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(id.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
}

func (id *Identity) derive() error {
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		k, err := sasl.DeriveKeys(h, Password, []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			return err
		}
		id.keys = append(id.keys, k)
	}
	return nil
}

// Config returns the defaults of a server that has this identity, listens nowhere and keeps nothing.
func (id *Identity) Config() config.Config {
	c := config.Default()
	c.Data = ":memory:"
	c.C2S, c.C2STLS, c.HTTP = config.Off, config.Off, config.Off
	c.Cert, c.Key = id.certFile(), id.keyFile()
	c.Auth.Iterations = sasl.MinIterations
	return c
}

// Server is one run of a server.
type Server struct {
	*server.Server
	stop context.CancelFunc
	done chan error
}

// Start runs a server and returns when it is ready.
func Start(c config.Config, o server.Options, log *slog.Logger) (*Server, error) {
	o.Release = "test"
	ctx, stop := context.WithCancel(context.Background())
	run, err := server.NewWith(ctx, c, log, o)
	if err != nil {
		stop()
		return nil, err
	}
	s := &Server{Server: run, stop: stop, done: make(chan error, 1)}
	go func() { s.done <- run.Run(ctx) }()
	<-run.Ready()
	return s, nil
}

// Stop ends the run in order and returns what it ended with. It is called once.
func (s *Server) Stop() error {
	s.stop()
	return <-s.done
}

// Pipe opens a connection, with TLS from the first byte if direct.
func (s *Server) Pipe(direct bool) net.Conn {
	near, far := net.Pipe()
	s.ServeConn(far, direct)
	return near
}

// ComponentPipe opens a connection for a component.
func (s *Server) ComponentPipe() net.Conn {
	near, far := net.Pipe()
	go s.ServeComponent(far)
	return near
}

// AddAccount makes an account.
func (s *Server) AddAccount(ctx context.Context, id *Identity, bare jid.JID) (store.AccountID, error) {
	return s.Host().Store.CreateAccount(ctx, bare, id.keys)
}

// PutContact writes a row of an account's roster; version is the roster's with it.
func (s *Server) PutContact(of store.AccountID, version int64, item store.RosterItem) error {
	done := make(chan error, 1)
	s.Host().Store.Submit(store.Unit{Done: func(err error) { done <- err }, Ops: []store.Op{store.RosterPut{Account: of, Version: version, Item: item}}})
	return <-done
}

// Log is what servers logged. It may be written and read concurrently.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Logger returns a logger that writes here, from a level on.
func (l *Log) Logger(from slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: from}))
}

// Write is for loggers.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Check holds the servers to what must never be in a log: a panic, which is a bug, and the password.
func (l *Log) Check() error {
	text := l.String()
	var errs []error
	if strings.Contains(text, "msg=panic") || strings.Contains(text, "msg=\"panic") {
		errs = append(errs, errors.New("the server recovered from a panic"))
	}
	// The name of a room's field holds it, too.
	if strings.Contains(strings.ReplaceAll(text, "muc#roomconfig_roomsecret", ""), Password) {
		errs = append(errs, errors.New("a password is in the log"))
	}
	return errors.Join(errs...)
}
