package interop

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// other is a server that carillon exchanges messages with, or carillon itself.
type other struct {
	t        *testing.T
	domain   string
	second   string // hosted too; "": none
	dir      string
	id       identity
	ca       *authority
	resolver string // host:port of the test's DNS
	c2s, s2s string // ports on 127.0.0.1
	http     string
	log      string // its level

	command  func(*other) *exec.Cmd
	register func(o *other, user string)
	process  *exec.Cmd
	ended    <-chan struct{}
}

// names is a DNS server for the test's domains, all of them on this machine. They
// aren't under .test, which libunbound answers for itself.
type names struct {
	addr string
	mu   sync.Mutex
	port map[string]string
}

func newNames(t *testing.T) *names {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{addr: pc.LocalAddr().String(), port: map[string]string{}}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(n.answer)}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return n
}

// locate says on which port of this machine a domain's server listens.
func (n *names) locate(domain, port string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.port[domain] = port
}

func (n *names) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	full := q.Question[0].Name
	name := strings.TrimSuffix(strings.ToLower(full), ".")
	n.mu.Lock()
	port := n.port[strings.TrimPrefix(name, "_xmpp-server._tcp.")]
	n.mu.Unlock()
	// Whatever else is asked for exists and has no such record: resolvers ask for the
	// names above, too. ejabberd has the operating system look up addresses.
	if q.Question[0].Qtype == dns.TypeSRV && port != "" && strings.HasPrefix(name, "_xmpp-server.") {
		if rr, err := dns.NewRR(full + " 1 IN SRV 0 0 " + port + " localhost."); err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	w.WriteMsg(m)
}

func (o *other) start() {
	o.t.Helper()
	cmd := o.command(o)
	ended, err := background(cmd, o.logFile())
	if err != nil {
		o.t.Fatal(err)
	}
	o.process, o.ended = cmd, ended
	for deadline := time.Now().Add(patience); ; {
		nc, err := net.Dial("tcp", "127.0.0.1:"+o.s2s)
		if err == nil {
			nc.Close()
			if nc, err = net.Dial("tcp", "127.0.0.1:"+o.c2s); err == nil {
				nc.Close()
				return
			}
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%s does not listen: %v\n%s", o.domain, err, tail(o.logFile(), 8<<10))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (o *other) logFile() string { return filepath.Join(o.dir, "output.log") }

func (o *other) stop() {
	if o.process == nil {
		return
	}
	o.process.Process.Signal(syscall.SIGTERM)
	awaitEnd(o.process.Process, o.ended)
	o.process = nil
}

// domains are those that it hosts.
func (o *other) domains() []string {
	if o.second == "" {
		return []string{o.domain}
	}
	return []string{o.domain, o.second}
}

// account is that of a user, who may be one of the second domain: carol@.
func (o *other) account(user string) (name, domain string) {
	if name, second := strings.CutSuffix(user, "@"); second {
		return name, o.second
	}
	return user, o.domain
}

// internet is servers that find each other and trust one authority.
type internet struct {
	t     *testing.T
	names *names
	ca    *authority
	dir   string
	quiet bool // nothing but warnings in the logs
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	dir := t.TempDir()
	ca, err := newAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &internet{t: t, names: newNames(t), ca: ca, dir: dir}
}

// server makes one, which isn't started; external says that it trusts certificates,
// and otherwise it asks for dialback.
func (n *internet) server(kind, domain string, external bool, second ...string) *other {
	t := n.t
	t.Helper()
	ports, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	port := func(i int) string { _, p, _ := net.SplitHostPort(ports[i]); return p }
	o := &other{t: t, domain: domain, dir: filepath.Join(n.dir, domain), ca: n.ca, resolver: n.names.addr, c2s: port(0), s2s: port(1), http: port(2), log: "debug"}
	if n.quiet {
		o.log = "warn"
	}
	switch kind {
	case "prosody":
		need(t, "prosody", "prosody: apt-get install prosody lua-unbound")
		o.command, o.register = prosodyCommand(external), prosodyRegister
	case "ejabberd":
		need(t, "ejabberdctl", "ejabberd: apt-get install ejabberd")
		o.command, o.register = ejabberdCommand(external), ejabberdRegister
	default:
		o.command, o.register = carillonCommand(external), carillonRegister
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	o.second = strings.Join(second, "") // none or one
	if o.id, err = n.ca.issue(o.dir, domain, second...); err != nil {
		t.Fatal(err)
	}
	for _, d := range o.domains() {
		n.names.locate(d, o.s2s)
	}
	t.Cleanup(func() {
		o.stop()
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", o.domain, tail(o.logFile(), 12<<10))
		}
	})
	return o
}
