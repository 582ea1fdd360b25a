package s2s

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"carillon.im/jid"
	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// TestMain fails where a test leaves a goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the tool has goroutines of its own
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > 1 && code == 0 {
		os.Stderr.Write(stacks())
		code = 1
	}
	os.Exit(code)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, n: 1}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes a certificate; nil self is a self-signed one.
func (a *authority) sign(t testing.TB, change func(*x509.Certificate), names ...string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if change != nil {
		change(tmpl)
	}
	parent, signer := tmpl, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// withNames gives a certificate other names than of DNS.
func withNames(srv, xmpp string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		var names []asn1.RawValue
		add := func(oid asn1.ObjectIdentifier, value, params string) {
			inner, _ := asn1.MarshalWithParams(value, params)
			id, _ := asn1.Marshal(oid)
			explicit, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(id, explicit...)})
		}
		if srv != "" {
			add(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 7}, srv, "ia5")
		}
		if xmpp != "" {
			add(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5}, xmpp, "utf8")
		}
		value, _ := asn1.Marshal(names)
		c.ExtraExtensions = []pkixExtension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
		c.DNSNames = nil
	}
}

type pkixExtension = pkix.Extension

// world is DNS and an authority for a few servers.
type world struct {
	t     testing.TB
	ca    *authority
	dns   string
	mu    sync.Mutex
	zone  map[string][]string // by "name TYPE"
	asked map[string]int
	ad    bool
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, ca: newAuthority(t), zone: map[string][]string{}, asked: map[string]int{}}
	t.Cleanup(watch(t))
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.dns = pc.LocalAddr().String()
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(w.answer)}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return w
}

// patience bounds every wait for something that must happen; no test that passes spends it.
const patience = 30 * time.Second

// hangs is longer than any test here takes.
const hangs = 3 * time.Minute

// watch ends the run with the state of all goroutines if the test doesn't end by
// itself; the function that it returns ends the watch.
func watch(t testing.TB) func() {
	timer := time.AfterFunc(hangs, func() {
		os.Stderr.Write(stacks())
		panic(t.Name() + " hangs")
	})
	return func() { timer.Stop() }
}

// stacks is what all goroutines are doing.
func stacks() []byte {
	buf := make([]byte, 4<<20)
	return buf[:runtime.Stack(buf, true)]
}

func (w *world) answer(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	w.mu.Lock()
	defer w.mu.Unlock()
	m.AuthenticatedData = w.ad
	name, kind := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
	w.asked[name+" "+kind]++
	list := w.zone[name+" "+kind]
	if len(list) == 0 {
		m.Rcode = dns.RcodeNameError
		for have := range w.zone {
			if strings.HasPrefix(have, name+" ") {
				m.Rcode = dns.RcodeSuccess
			}
		}
	}
	for _, one := range list {
		rr, err := dns.NewRR(name + " 60 IN " + kind + " " + one)
		if err != nil {
			w.t.Error(err)
			continue
		}
		m.Answer = append(m.Answer, rr)
	}
	rw.WriteMsg(m)
}

func (w *world) record(name, kind string, values ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zone[name+". "+kind] = values
}

// locate says where a domain's server is.
func (w *world) locate(domain, addr string, direct bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	label := "_xmpp-server._tcp."
	if direct {
		label = "_xmpps-server._tcp."
	}
	w.record(label+domain, "SRV", "0 0 "+port+" xmpp."+domain+".")
	w.record("xmpp."+domain, "A", host)
}

// host is one server in the world.
type host struct {
	*Server
	w      *world
	domain string
	addr   string
	log    *syncBuffer

	mu       sync.Mutex
	got      []string
	forgot   []uint64
	block    chan struct{}
	onStanza func(*stanza.Stanza)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const testSecret = "s3cr3tf0rd14lb4ck"

// add starts a server for a domain, with a certificate of the world's authority
// unless it is given another one.
func (w *world) add(domain string, cert *tls.Certificate, change ...func(*Config)) *host {
	w.t.Helper()
	h := w.make(domain, cert, change...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	h.addr = l.Addr().String()
	w.locate(domain, h.addr, false)
	go h.Serve(l, false)
	return h
}

func (w *world) make(domain string, cert *tls.Certificate, change ...func(*Config)) *host {
	w.t.Helper()
	h := &host{w: w, domain: domain, log: &syncBuffer{}}
	if cert == nil {
		cert = w.ca.sign(w.t, nil, domain)
	}
	l := DefaultLimits()
	l.EarlyTime, l.ConnectTime, l.Linger, l.RetryMin, l.LivedOn = time.Minute, time.Minute, 2*time.Second, 50*time.Millisecond, time.Second
	cfg := Config{
		Domains: []string{domain}, Policy: Certificate, Receive: h.receive, Settle: func(context.Context) error { return nil },
		Forget: h.forgetRows, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		Roots: w.ca.pool(), Secret: []byte(testSecret), Resolver: lookup.New(w.dns), Limits: l,
		Log: slog.New(slog.NewTextHandler(h.log, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if h.Server, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		h.close()
		if n := h.Metrics.Panics.Load(); n != 0 {
			w.t.Errorf("%s: %d panics\n%s", domain, n, h.log)
		}
		if w.t.Failed() {
			w.t.Logf("%s:\n%s", domain, h.log)
		}
		if strings.Contains(h.log.String(), testSecret) {
			w.t.Error("the secret is in the log")
		}
	})
	return h
}

// close stops the server, once.
func (h *host) close() {
	h.Server.mu.Lock()
	closed := h.Server.closing
	h.Server.mu.Unlock()
	if closed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		h.w.t.Errorf("%s: %v", h.domain, err)
	}
}

func (h *host) receive(ctx context.Context, st *stanza.Stanza) error {
	h.mu.Lock()
	block, f := h.block, h.onStanza
	h.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.mu.Lock()
	h.got = append(h.got, string(st.AppendTo(nil)))
	h.mu.Unlock()
	if f != nil {
		f(st)
	}
	return nil
}

func (h *host) forgetRows(ids []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgot = append(h.forgot, ids...)
}

func (h *host) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.got...)
}

func (h *host) forgotten() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]uint64(nil), h.forgot...)
}

// message is one from a user of the host.
func (h *host) message(to, body string) *stanza.Stanza {
	return stanza.Build(stanza.Message, stanza.TypeChat, body, jid.MustParse("alice@"+h.domain+"/r"), jid.MustParse(to), "<body>"+body+"</body>")
}

func (h *host) send(to, body string, id uint64) {
	h.w.t.Helper()
	if id != 0 {
		h.SendKept(h.message(to, body), id, 0)
	} else if e := h.Send(h.message(to, body)); e != nil {
		h.w.t.Fatalf("%s to %s: %v", body, to, e)
	}
}

func parse(t testing.TB, xml string) *stanza.Stanza {
	t.Helper()
	st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s\n%s", what, stacks())
		}
		time.Sleep(time.Millisecond)
	}
}

// expect waits until exactly the bodies came, in their order.
func (h *host) expect(bodies ...string) {
	h.w.t.Helper()
	waitFor(h.w.t, fmt.Sprint(bodies), func() bool { return len(h.taken()) >= len(bodies) })
	got := h.taken()
	for i, b := range bodies {
		if !strings.Contains(got[i], b) {
			h.w.t.Errorf("%d is %s, want %s", i, got[i], b)
		}
	}
	if len(got) != len(bodies) {
		h.w.t.Errorf("%d came, want %d: %v", len(got), len(bodies), got)
	}
}
