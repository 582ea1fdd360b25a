package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"carillon.im/jid"
	"carillon.im/server/account"
	"carillon.im/server/config"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// internet is DNS and an authority for servers of a test.
type internet struct {
	t    *testing.T
	dir  string
	dns  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu   sync.Mutex
	port map[string]string // of each domain's server
}

func newInternet(t *testing.T) *internet {
	n := &internet{t: t, dir: t.TempDir(), port: map[string]string{}}
	n.key, n.cert = n.sign("authority", nil)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.dns = pc.LocalAddr().String()
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(n.answer)}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return n
}

// answer answers SRV for servers that are there, and that every name is this
// machine's.
func (n *internet) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	name := strings.TrimSuffix(q.Question[0].Name, ".")
	n.mu.Lock()
	port := n.port[strings.TrimPrefix(name, "_xmpp-server._tcp.")]
	n.mu.Unlock()
	record := ""
	switch {
	case q.Question[0].Qtype == dns.TypeSRV && port != "" && strings.HasPrefix(name, "_xmpp-server."):
		record = name + ". 1 IN SRV 0 0 " + port + " host.example."
	case q.Question[0].Qtype == dns.TypeA && name == "host.example":
		record = name + ". 1 IN A 127.0.0.1"
	case name != "host.example":
		m.Rcode = dns.RcodeNameError
	}
	if record != "" {
		rr, err := dns.NewRR(record)
		if err != nil {
			n.t.Error(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	w.WriteMsg(m)
}

// sign makes a certificate and its files; the authority's is the one without
// parent.
func (n *internet) sign(name string, parent *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true, DNSNames: []string{name, "rooms." + name, "relay." + name}}
	signer := n.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		n.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		n.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		n.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(n.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	return key, cert
}

// node is a server of the internet that can be stopped and started again.
type node struct {
	*Server
	n      *internet
	domain string
	cfg    config.Config
	stop   context.CancelFunc
	ran    chan error
}

func (n *internet) node(domain string, accounts ...string) *node {
	n.t.Helper()
	return n.nodeWith(domain, func(*config.Config) {}, accounts...)
}

// nodeWith is node with a change of its configuration.
func (n *internet) nodeWith(domain string, change func(*config.Config), accounts ...string) *node {
	n.t.Helper()
	n.sign(domain, n.cert)
	cfg := config.Default()
	cfg.Domains, cfg.C2S, cfg.C2STLS, cfg.HTTP, cfg.S2S, cfg.S2STLS = []string{domain}, config.Off, config.Off, config.Off, "127.0.0.1:0", config.Off
	cfg.Cert, cfg.Key = filepath.Join(n.dir, domain+".crt"), filepath.Join(n.dir, domain+".key")
	cfg.Data, cfg.Federation.Resolver, cfg.Federation.Authorities = n.t.TempDir(), n.dns, filepath.Join(n.dir, "authority.crt")
	change(&cfg)
	if err := cfg.Check(); err != nil {
		n.t.Fatal(err)
	}
	d := &node{n: n, domain: domain, cfg: cfg}
	d.start()
	n.t.Cleanup(d.halt)
	for _, name := range accounts {
		if _, err := d.store.CreateAccount(n.t.Context(), jid.MustParse(name+"@"+domain), nil); err != nil {
			n.t.Fatal(err)
		}
	}
	return d
}

func (d *node) start() {
	d.n.t.Helper()
	var err error
	if d.Server, err = New(d.n.t.Context(), d.cfg, slog.New(slog.DiscardHandler)); err != nil {
		d.n.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(d.Addrs()["s2s"])
	d.n.mu.Lock()
	for _, prefix := range []string{"", "rooms.", "relay."} {
		d.n.port[prefix+d.domain] = port
	}
	d.n.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.ran = stop, make(chan error, 1)
	go func(s *Server, ran chan error) { ran <- s.Run(ctx) }(d.Server, d.ran)
}

func (d *node) halt() {
	d.stop()
	if d.ran == nil {
		return
	}
	if err := <-d.ran; err != nil {
		d.n.t.Error(err)
	}
	d.ran = nil
	if n := d.federation.Metrics.Panics.Load(); n != 0 {
		d.n.t.Errorf("%d panics", n)
	}
}

// sever cuts a server off from all others: nothing that it has to say gets out.
func (d *node) sever() {
	d.n.t.Helper()
	ctx, cancel := context.WithTimeout(d.n.t.Context(), 10*time.Second)
	defer cancel()
	if err := d.federation.Close(ctx); err != nil {
		d.n.t.Error(err)
	}
}

func (d *node) device(name, resource string, p route.Profile) *device {
	d.n.t.Helper()
	return bindDevice(d.n.t, d.Server, name+"@"+d.domain, resource, p)
}

// TestFederation is alice and bob on two servers: subscription, presence, chat,
// exclusive messages, questions, and what happens when a server is away.
func TestFederation(t *testing.T) {
	n := newInternet(t)
	a := n.nodeWith("a.example", func(c *config.Config) { c.Contact.Abuse = []string{"mailto:abuse@a.example"} }, "alice")
	b := n.node("b.example", "bob")
	alice, bob, desk := a.device("alice", "v2", route.V2), b.device("bob", "phone", route.V2), b.device("bob", "desk", route.NG)
	for _, d := range []*device{alice, bob, desk} {
		d.send("<presence/>")
	}

	// Subscription, both ways, and presence.
	alice.send("<presence type='subscribe' to='bob@b.example'/>")
	bob.until("<presence from='alice@a.example' to='bob@b.example' type='subscribe'")
	bob.send("<presence type='subscribed' to='alice@a.example'/>")
	alice.until("<presence from='bob@b.example/phone'")
	bob.send("<presence type='subscribe' to='alice@a.example'/>")
	alice.until("type='subscribe'")
	alice.send("<presence type='subscribed' to='bob@b.example'/>")
	bob.until("<presence from='alice@a.example/v2'")
	bob.send("<presence><show>away</show></presence>")
	alice.until("<show>away</show>")

	// Conversation: every device, in both archives; exclusive: one device.
	alice.send("<message type='chat' id='c' to='bob@b.example'><body>for all</body></message>")
	for _, d := range []*device{bob, desk} {
		if got := d.until("for all"); strings.Contains(got, "<xmpp-1 ") || strings.Contains(got, "<xmpp-2 ") {
			t.Errorf("between servers of 2.0 it came as %s", got)
		}
	}
	alice.send("<message type='chat' id='e' to='bob@b.example/phone'><body>for one</body></message>")
	if got := bob.until("for one"); strings.Contains(got, "no-store") || strings.Contains(got, "xmpp-1") {
		t.Errorf("exclusive, it came as %s", got)
	}
	bob.send("<iq type='get' id='v' to='alice@a.example/v2'><ping xmlns='urn:xmpp:ping'/></iq>")
	alice.until("urn:xmpp:ping")
	alice.send("<iq type='result' id='v' to='bob@b.example/phone'/>")
	bob.until("id='v'")
	bob.send("<iq type='get' id='d' to='a.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
	if got := bob.until("category='server'"); !strings.Contains(got, "<field var='abuse-addresses' type='list-multi'><value>mailto:abuse@a.example</value>") { // XEP-0157
		t.Errorf("whom to write to about it isn't said: %s", got)
	}

	// The operator sees it.
	result, err := a.Host().Call(t.Context(), "s2s", nil)
	if err != nil || !strings.Contains(result.Text, "b.example  a.example  both") && !strings.Contains(result.Text, "b.example  a.example  out") || !strings.Contains(result.Text, "TLS PKIX EXTERNAL") {
		t.Errorf("%v:\n%s", err, result.Text)
	}
	seen, err := LookAt(t.Context(), a.cfg, "b.example")
	if err != nil || len(seen) != 1 || seen[0].Proof != "PKIX" {
		t.Errorf("%v: %v", err, seen)
	}

	trace := func(id, want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			got, err := a.Host().Call(t.Context(), "trace", map[string]string{"account": "alice@a.example", "id": id})
			if err == nil && strings.Contains(got.Text, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v: the trace of %s is\n%s", err, id, got.Text)
			}
		}
	}
	trace("c", "; acknowledged after ")

	// Nobody there.
	alice.send("<message type='chat' id='x' to='p@nowhere.example'><body>x</body></message>")
	alice.until("<remote-server-not-found ")
	trace("x", " with <remote-server-not-found/>")

	// bob's server is away while alice writes, and then alice's too.
	b.halt()
	for i := range 5 {
		alice.send(fmt.Sprintf("<message type='chat' id='w%d' to='bob@b.example'><body>while away %d</body></message>", i, i))
	}
	alice.until("id='w4'") // reflected: it is on disk
	a.halt()
	b.start()
	again := b.device("bob", "phone", route.V2)
	again.send("<presence/>")
	a.start()
	for i := range 5 {
		again.until(fmt.Sprintf("<body>while away %d</body>", i))
	}
	rows := func() int {
		list, err := a.store.Outbox(t.Context(), 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for deadline := time.Now().Add(10 * time.Second); rows() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are still in the outbox", rows())
		}
		time.Sleep(time.Millisecond)
	}
	a.halt()
	a.start()
	alice = a.device("alice", "v2", route.V2)
	alice.send("<message type='chat' id='last' to='bob@b.example/phone'><body>last</body></message>")
	if got := again.until("message"); !strings.Contains(got, "<body>last</body>") {
		t.Errorf("something came twice: %s", got)
	}
}

// TestRoomAcross is a room with occupants on two servers: they enter, talk, leave; a
// server that is gone takes its occupants with it.
func TestRoomAcross(t *testing.T) {
	n := newInternet(t)
	a, b := n.node("a.example", "alice"), n.node("b.example", "bob")
	alice, bob, desk := a.device("alice", "v2", route.V2), b.device("bob", "phone", route.V2), b.device("bob", "desk", route.V2)
	const room = "tea@rooms.a.example"
	join := func(d *device, nick string) {
		d.send("<presence to='" + room + "/" + nick + "'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
		d.until("<subject/>")
	}
	join(alice, "Alice")
	alice.send("<iq type='set' id='c' to='" + room + "'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>")
	alice.until("id='c'")
	join(bob, "Bob")
	alice.until("from='" + room + "/Bob'")
	bob.send("<message type='groupchat' id='m1' to='" + room + "'><body>from afar</body></message>")
	alice.until("from afar")
	bob.until("from afar")
	alice.send("<message type='groupchat' id='m2' to='" + room + "'><body>welcome</body></message>")
	bob.until("welcome")
	alice.send("<message type='chat' id='m3' to='" + room + "/Bob'><body>in private</body></message>")
	bob.until("in private")
	join(desk, "Robert")
	desk.send("<presence type='unavailable' to='" + room + "/Robert'/>")
	alice.until("from='" + room + "/Robert' to='alice@a.example/v2' type='unavailable'")

	// A login enters it over the stream between the servers, and is told what it missed;
	// a server that isn't there costs that room alone (X2-37, S-4).
	back := &device{t: t, woken: make(chan struct{}, 1)}
	var err error
	back.session, err = b.hub.Bind(t.Context(), account.BindRequest{Account: jid.MustParse("bob@b.example"), Resource: "back", Transport: back, Request: &xep.SessionRequest{Parts: []xep.SessionAsk{
		{Part: xep.SessionJoin, Room: jid.MustParse("tea@rooms.nowhere.example"), Nick: "Bobby", Sync: &xep.Sync{}},
		{Part: xep.SessionJoin, Room: jid.MustParse(room), Nick: "Bobby", Sync: &xep.Sync{Max: 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := back.until("<synced ")
	if !strings.Contains(got, "room='"+room+"'") || !strings.Contains(got, "count='1'") {
		t.Errorf("it ended with %s", got)
	}
	back.send("<presence type='unavailable' to='" + room + "/Bobby'/>")
	alice.until("from='" + room + "/Bobby' to='alice@a.example/v2' type='unavailable'")

	// A session that is gone without a word: what is sent to it comes back.
	b.sever()
	alice.send("<message type='groupchat' id='m4' to='" + room + "'><body>anybody there?</body></message>")
	alice.until("anybody there?")
	if got := alice.until("code='333'"); !strings.Contains(got, "from='"+room+"/Bob'") {
		t.Errorf("it came as %s", got)
	}
}

// TestAcrossComponent: a component of XMPP 1.0 stands between two servers of 2.0. It
// passes on what it doesn't know, and so a message means the same behind it
// (R-GW-1, R-GW-2), both ways.
func TestAcrossComponent(t *testing.T) {
	n := newInternet(t)
	a := n.nodeWith("a.example", func(c *config.Config) { addComponent(t, c, "relay.a.example") }, "alice")
	b := n.node("b.example", "bob")
	alice, table := a.device("alice", "v2", route.V2), a.device("alice", "table", route.V2)
	bob, desk := b.device("bob", "phone", route.V2), b.device("bob", "desk", route.NG)
	relay := dialComponent(t, a.Server, "relay.a.example")
	// pass takes a message on: whom it is for stands in front of the component's @.
	pass := func(piece string) {
		t.Helper()
		relay.until("<message ")
		st, err := stanza.ParseBytes([]byte("<message "+relay.until("</message>")), xmltree.Limits{})
		if err != nil || !strings.Contains(st.Inner(), piece) {
			t.Fatalf("the component got %v, %v", st, err)
		}
		to := strings.Replace(st.To.Local(), "%", "@", 1)
		if r := st.To.Resource(); r != "" {
			to += "/" + r
		}
		from := strings.Replace(st.From.Bare().String(), "@", "%", 1) + "@relay.a.example"
		if r := st.From.Resource(); r != "" {
			from += "/" + r
		}
		relay.write(string(stanza.Build(stanza.Message, st.Type, st.ID, jid.MustParse(from), jid.MustParse(to), st.Inner()).AppendTo(nil)))
	}
	// Who is written to at one device alone has shown that it is there (R-EXCL-3).
	bob.send("<presence to='alice%a.example@relay.a.example'/>")
	relay.until("<presence ")
	modern := func(got string) {
		t.Helper()
		for _, wrong := range []string{"<xmpp-", "<private", "<no-"} {
			if strings.Contains(got, wrong) {
				t.Errorf("it came as %s", got)
			}
		}
	}
	for _, way := range []struct {
		from, to, other *device
		name            string
	}{{alice, bob, desk, "bob%b.example@relay.a.example/phone"}, {bob, alice, table, "alice%a.example@relay.a.example/v2"}} {
		bare, _, _ := strings.Cut(way.name, "/")
		way.from.send("<message type='chat' id='e' to='" + way.name + "'><body>for one</body></message>")
		pass("for one")
		modern(way.to.until("for one"))
		way.from.send("<message type='chat' id='c' to='" + bare + "'><body>for all</body></message>")
		pass("for all")
		modern(way.to.until("for all"))
		for {
			got := way.other.until("<message")
			if strings.Contains(got, "for one") {
				t.Errorf("the other device got %s", got)
			}
			if strings.Contains(got, "for all") {
				break
			}
		}
	}
	for _, who := range []struct {
		*node
		name string
	}{{a, "alice"}, {b, "bob"}} {
		id, err := who.hub.Account(jid.MustParse(who.name + "@" + who.domain)).StoreID(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := who.store.ArchiveCount(t.Context(), store.ArchiveQuery{Account: store.AccountID(id)}); err != nil || kept != 2 {
			t.Errorf("%s: %d are archived: %v", who.name, kept, err)
		}
	}
}

// TestVanished: contacts on a server that can't be reached are unavailable, and asked
// anew when it is back.
func TestVanished(t *testing.T) {
	n := newInternet(t)
	a, b := n.node("a.example", "alice"), n.node("b.example", "bob")
	alice, bob := a.device("alice", "v2", route.V2), b.device("bob", "phone", route.V2)
	alice.send("<presence/>")
	bob.send("<presence/>")
	alice.send("<presence type='subscribe' to='bob@b.example'/>")
	bob.until("type='subscribe'")
	bob.send("<presence type='subscribed' to='alice@a.example'/>")
	alice.until("<presence from='bob@b.example/phone'")
	a.hub.Reach([]string{"b.example", "c.example"}, nil)
	alice.until("<presence from='bob@b.example' to='alice@a.example' type='unavailable'/>")
	a.hub.Reach(nil, []string{"b.example"})
	alice.until("<presence from='bob@b.example/phone'")
}
