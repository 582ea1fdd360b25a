package routing

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
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
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

// identity is what all servers of the test have and none changes.
type identity struct {
	cert, key string // files
	tls       *tls.Config
	keys      []sasl.Keys // of the password "secret"
	cache     *xmppclient.Cache
}

var theIdentity = sync.OnceValues(func() (*identity, error) {
	dir, err := os.MkdirTemp("", "carillon-routing-")
	if err != nil {
		return nil, err
	}
	id := &identity{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), cache: &xmppclient.Cache{}}
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
	id.tls = &tls.Config{ServerName: "localhost", RootCAs: roots, CurvePreferences: []tls.CurveID{tls.X25519}}
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		k, err := sasl.DeriveKeys(h, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			return nil, err
		}
		id.keys = append(id.keys, k)
	}
	return id, errors.Join(
		os.WriteFile(id.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(id.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
})

func TestMain(m *testing.M) {
	code := m.Run()
	if id, err := theIdentity(); err == nil {
		os.RemoveAll(filepath.Dir(id.cert))
	}
	os.Exit(code)
}

// world is a running server.
type world struct {
	t        *testing.T
	id       *identity
	log      logged
	srv      *server.Server
	stop     context.CancelFunc
	done     chan error
	accounts map[string]store.AccountID
	mu       sync.Mutex
	open     []*xmppclient.Client
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

// newWorld starts a server, in a bubble. Its bounds are wide: a batch is larger than what people send in a moment.
func newWorld(t *testing.T, change ...func(*config.Config)) *world {
	id, err := theIdentity()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, id: id, done: make(chan error, 1), accounts: map[string]store.AccountID{}}
	cfg := config.Default()
	cfg.Data = ":memory:"
	cfg.C2S, cfg.C2STLS, cfg.HTTP = config.Off, config.Off, config.Off
	cfg.Cert, cfg.Key = id.cert, id.key
	cfg.Auth.Plain = true
	cfg.Auth.Iterations = sasl.MinIterations
	cfg.Limits.OfflineMessages = 100_000
	cfg.Limits.OutboxBytes = 256 << 20
	for _, f := range change {
		f(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.srv, err = server.NewWith(ctx, cfg, slog.New(slog.NewTextHandler(&w.log, nil)), server.Options{Path: ":memory:", Release: "test"})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	go func() { w.done <- w.srv.Run(ctx) }()
	<-w.srv.Ready()
	return w
}

// end stops the server and holds it to having no bug.
func (w *world) end() {
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
	for _, c := range w.open {
		c.Cut()
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if text := w.log.b.String(); strings.Contains(text, "panic") {
		w.t.Errorf("the server recovered from a panic: %s", text)
	}
}

// settle returns when nobody has anything left to do. The pause is of the bubble's clock, and more than the server
// waits on purpose, for commits to gather.
func settle() {
	synctest.Wait()
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
}

// account makes an account, with the password "secret".
func (w *world) account(bare string) *account {
	n, err := w.srv.Host().Store.CreateAccount(w.t.Context(), jid.MustParse(bare), w.id.keys)
	if err != nil {
		w.t.Fatal(err)
	}
	w.accounts[bare] = n
	return &account{bare: bare}
}

// befriend makes two accounts contacts of each other.
func (w *world) befriend(a, b *account) {
	for _, pair := range [][2]*account{{a, b}, {b, a}} {
		done := make(chan error, 1)
		w.srv.Host().Store.Submit(store.Unit{Done: func(err error) { done <- err }, Ops: []store.Op{store.RosterPut{
			Account: w.accounts[pair[0].bare], Version: 1, Item: store.RosterItem{JID: jid.MustParse(pair[1].bare), Subscription: "both"}}}})
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
		pair[0].shows = append(pair[0].shows, pair[1])
	}
}

// dial authenticates a connection.
func (w *world) dial(bare string) (*xmppclient.Client, error) {
	near, far := net.Pipe()
	w.srv.ServeConn(far, true)
	c, err := xmppclient.Login(near, xmppclient.Config{Account: jid.MustParse(bare), Password: "secret", TLS: w.id.tls, Direct: true, Keys: w.id.cache})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bare, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, c)
	return c, nil
}

// connect logs a session in, with nothing enabled.
func (w *world) connect(bare, resource string) *xmppclient.Client {
	c, err := w.dial(bare)
	if err == nil {
		err = c.Bind(resource)
	}
	if err != nil {
		w.t.Fatalf("%s/%s: %v", bare, resource, err)
	}
	return c
}

// connectV2 logs a session in with XMPP 2.0's session request, in one write. The resource is the server's choice.
func (w *world) connectV2(d *device, request string) (*xmppclient.Client, error) {
	near, far := net.Pipe()
	w.srv.ServeConn(far, true)
	account := jid.MustParse(d.account.bare)
	c, err := xmppclient.Open(near, xmppclient.Config{Account: account, TLS: w.id.tls, Direct: true}, true)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.open = append(w.open, c)
	w.mu.Unlock()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + account.Local() + "\x00secret"))
	if err := c.SendRaw([]byte("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
		"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>" + plain + "</initial-response>" +
		"<bind xmlns='urn:xmpp:bind:0'>" + request + "</bind></authenticate>")); err != nil {
		return nil, err
	}
	for {
		ev, err := c.Next(w.t.Context())
		if err != nil {
			return nil, err
		}
		el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{})
		switch {
		case err != nil:
			return nil, err
		case el.Is("urn:xmpp:sasl:2", "failure"):
			return nil, errors.New(el.Raw())
		case el.Is("urn:xmpp:sasl:2", "success"):
			full, err := jid.Parse(el.Child("urn:xmpp:sasl:2", "authorization-identifier").Text())
			d.name = full.Resource()
			return c, err
		}
	}
}

// resume goes on with a session whose connection broke.
func (w *world) resume(d *device, old *xmppclient.Client) (*xmppclient.Client, error) {
	c, err := w.dial(d.account.bare)
	if err != nil {
		return nil, err
	}
	return c, c.Resume(old, old.Handled())
}

// neverArchive sets an account's preferences.
func (w *world) neverArchive(a *account) {
	c := w.connect(a.bare, "preferences")
	if err := c.Send("<iq type='set' id='prefs'><prefs xmlns='urn:xmpp:mam:2' default='never'/></iq>"); err != nil {
		w.t.Fatal(err)
	}
	settle()
	w.forget(c)
	c.Cut()
}

// login brings a device online, with stream management if it is to outlive its connection.
func (w *world) login(d *device, managed bool) *xmppclient.Client {
	var c *xmppclient.Client
	if d.profile == v2 {
		var err error
		if c, err = w.connectV2(d, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'/>"); err != nil {
			w.t.Fatalf("%s: %v", d.account.bare, err)
		}
	} else {
		c = w.connect(d.account.bare, d.name)
	}
	if managed {
		if err := c.EnableSM(true); err != nil {
			w.t.Fatal(err)
		}
	}
	var stanzas []string
	switch d.profile {
	case carbons:
		stanzas = append(stanzas, "<iq type='set' id='profile'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
	case ng:
		stanzas = append(stanzas, "<iq type='set' id='profile'><enable xmlns='urn:xmpp:im-ng:0'/></iq>")
	}
	if d.available {
		stanzas = append(stanzas, fmt.Sprintf("<presence><priority>%d</priority></presence>", d.priority))
	}
	if len(stanzas) > 0 {
		if err := c.Send(stanzas...); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// forget drops what a client received of its login.
func (w *world) forget(c *xmppclient.Client) {
	for ev, _ := c.Take(); ev != nil; ev, _ = c.Take() {
		if ev.Stanza != nil && ev.Stanza.Kind == stanza.IQ && ev.Stanza.Type == stanza.TypeError {
			w.t.Fatalf("refused: %s", xmppclient.XML(ev))
		}
	}
}

// messages takes all messages that a client received.
func messages(c *xmppclient.Client) ([]xmltree.Element, error) {
	var list []xmltree.Element
	for ev, _ := c.Take(); ev != nil; ev, _ = c.Take() {
		switch {
		case ev.Kind == stream.SMEnabled, ev.Kind == stream.SMResumed, ev.Kind == stream.Features:
		case ev.Kind != stream.Stanza && ev.Kind != stream.Answered:
			return nil, fmt.Errorf("received %s", xmppclient.XML(ev))
		case ev.Stanza.Kind == stanza.Message:
			el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{MaxBytes: 1 << 20})
			if err != nil {
				return nil, err
			}
			list = append(list, el)
		}
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("the connection ended: %w", err)
	}
	return list, nil
}

// until takes the messages that a client receives before the one that last recognizes.
func until(ctx context.Context, c *xmppclient.Client, last func(*stanza.Stanza) bool) ([]xmltree.Element, error) {
	var list []xmltree.Element
	for {
		ev, err := c.Next(ctx)
		switch {
		case err != nil:
			return nil, err
		case ev.Stanza == nil:
			continue
		case last(ev.Stanza):
			return list, nil
		case ev.Stanza.Kind != stanza.Message:
			continue
		}
		el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{MaxBytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		list = append(list, el)
	}
}

// archive reads a whole archive, oldest first.
func (w *world) archive(bare string) []xmltree.Element {
	c := w.connect(bare, "reader")
	defer c.Cut()
	var list []xmltree.Element
	after := ""
	for {
		query := "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>250</max>" + after + "</set></query></iq>"
		if err := c.Send(query); err != nil {
			w.t.Fatal(err)
		}
		page, err := until(w.t.Context(), c, func(st *stanza.Stanza) bool { return st.Kind == stanza.IQ && st.ID == "q" })
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, page...)
		if len(page) == 0 {
			return list
		}
		after = "<after>" + page[len(page)-1].Child("urn:xmpp:mam:2", "result").Attr("id") + "</after>"
	}
}
