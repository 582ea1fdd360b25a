package crash

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// TestKillFederation kills one of two servers under load, in turns. What the sender's
// server had acknowledged, and not refused before because too much waited for the one
// that was killed, comes to the other one's archive; what comes twice is the
// end of what had come when the server was killed, once for each kill.
// CARILLON_CRASH_KILLS says how often.
func TestKillFederation(t *testing.T) {
	kills := 2
	if n, err := strconv.Atoi(os.Getenv("CARILLON_CRASH_KILLS")); err == nil && n > 0 {
		kills = n
	}
	servers := federation(t, "a.example", "b.example")
	a, b := servers[0], servers[1]
	a.addUser("alice")
	b.addUser("bob")
	a.start()
	b.start()
	defer func() { a.kill(); b.kill() }()
	o := &oneWay{acked: map[int]bool{}, refused: map[int]bool{}}
	for k := range kills {
		var running sync.WaitGroup
		stop := make(chan struct{})
		running.Go(func() { o.send(a, stop) })
		a.waitFor("acknowledgement", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.acked) > 0 })
		time.Sleep(time.Duration(200+mrand.IntN(300)) * time.Millisecond) // the moment is what is random about a crash
		killed := b
		if k%2 == 1 {
			killed = a
		}
		killed.kill()
		close(stop)
		running.Wait()
		killed.start()
	}
	c, err := a.login("alice", "last", nil)
	if err != nil {
		a.fatal(err)
	}
	defer c.Cut()
	if err := c.Send("<message to='bob@b.example' type='chat' id='last'><body>last</body></message>"); err != nil {
		t.Fatal(err)
	}
	var came []int
	after, done := "", false
	for deadline := time.Now().Add(time.Minute); !done; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d came, and no more\n%s\n%s", len(came), o.n, &a.log, &b.log)
		}
		if after, err = b.archive("bob", after, func(_ string, m xmltree.Element) {
			n, err := strconv.Atoi(m.Attr("id"))
			if done = done || m.Attr("id") == "last"; err == nil {
				came = append(came, n)
			}
		}); err != nil {
			b.fatal(err)
		}
	}
	o.check(t, came, kills)
	t.Logf("kills %d, sent %d, acknowledged %d, refused %d, came twice %d", kills, o.n, len(o.acked), len(o.refused), o.twice)
}

// oneWay is what is sent from one server to the other one: numbers, in their order.
type oneWay struct {
	mu      sync.Mutex
	n       int // sent so far
	acked   map[int]bool
	refused map[int]bool // with an error, before the acknowledgement
	late    int          // the same behind it
	twice   int
}

// hear notes what was refused.
func (o *oneWay) hear(ev *stream.Event) {
	if ev.Stanza == nil || ev.Stanza.Type != stanza.TypeError {
		return
	}
	id, err := strconv.Atoi(ev.Stanza.ID)
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.acked[id] {
		o.late++
	}
	o.refused[id] = true
}

// send sends until it is told to stop, or its server is killed.
func (o *oneWay) send(p *process, stop chan struct{}) {
	c, err := p.login("alice", "pen", o.hear)
	if err != nil {
		return // killed before
	}
	defer c.Cut()
	var order []int
	room := make(chan struct{}, window)
	c.OnAcked(func(n int) {
		o.mu.Lock()
		for _, id := range order[:n] {
			o.acked[id] = true
		}
		order = order[n:]
		o.mu.Unlock()
		for range n {
			<-room
		}
	})
	if c.EnableSM(false) != nil {
		return
	}
	dead := make(chan struct{})
	go func() {
		c.Next(context.Background())
		close(dead)
	}()
	for {
		select {
		case room <- struct{}{}:
		case <-stop:
			return
		case <-dead:
			return
		}
		o.mu.Lock()
		id := o.n
		o.n++
		order = append(order, id)
		o.mu.Unlock()
		if c.Send(fmt.Sprintf("<message to='bob@b.example' type='chat' id='%d'><body>All the world's a stage.</body></message>", id)) != nil {
			return
		}
		if id%10 == 9 && c.RequestAck() != nil {
			return
		}
	}
}

// check compares what came with what was acknowledged.
func (o *oneWay) check(t *testing.T, came []int, kills int) {
	seen := map[int]bool{}
	last, back := -1, 0
	for _, id := range came {
		if id <= last {
			back++ // behind a kill it goes on where the acknowledged ends
		}
		if seen[id] {
			o.twice++
		}
		seen[id], last = true, id
	}
	missing := 0
	for id := range o.acked {
		if !seen[id] && !o.refused[id] {
			missing++
		}
	}
	for id := range o.refused {
		if seen[id] {
			t.Errorf("%d was refused, and came", id)
		}
	}
	if o.late > 0 {
		t.Errorf("%d were refused after they had been acknowledged", o.late)
	}
	if missing > 0 {
		t.Errorf("acknowledged and missing: %d", missing)
	}
	if len(o.acked) == 0 {
		t.Error("no message was ever acknowledged")
	}
	if back > kills {
		t.Errorf("%d times something came again, behind %d kills", back, kills)
	}
}

// federation is servers that find and trust each other.
func federation(t *testing.T, domains ...string) []*process {
	dir := t.TempDir()
	root, rootKey := issue(t, dir, "authority", nil, nil)
	port := map[string]string{}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var list []*process
	for _, domain := range domains {
		issue(t, dir, domain, root, rootKey)
		p := newProcess(t, t.TempDir())
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		p.domain, port[domain] = domain, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		p.args = []string{"--s2s", addr, "--s2s-tls", "off", "--cert", filepath.Join(dir, domain+".crt"), "--key", filepath.Join(dir, domain+".key"),
			"--set", "federation.resolver=" + pc.LocalAddr().String(), "--set", "federation.authorities=" + filepath.Join(dir, "authority.crt")}
		list = append(list, p)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name, record := q.Question[0].Name, ""
		domain, isSRV := strings.CutPrefix(strings.TrimSuffix(name, "."), "_xmpp-server._tcp.")
		switch {
		case isSRV && q.Question[0].Qtype == dns.TypeSRV && port[domain] != "":
			record = name + " 1 IN SRV 0 0 " + port[domain] + " host.example."
		case q.Question[0].Qtype == dns.TypeA && name == "host.example.":
			record = name + " 1 IN A 127.0.0.1"
		case name != "host.example.":
			m.Rcode = dns.RcodeNameError
		}
		if rr, err := dns.NewRR(record); err == nil && rr != nil {
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return list
}

// issue makes a certificate and its files; without an authority it is one.
func issue(t *testing.T, dir, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true, DNSNames: []string{name}}
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
