package interop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
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

	"carillon.im/jid"
	"carillon.im/test/xmppclient"
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
	ended    chan struct{}
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
	log, err := os.OpenFile(o.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		o.t.Fatal(err)
	}
	defer log.Close()
	cmd := o.command(o)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	ended := make(chan struct{})
	o.process, o.ended = cmd, ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
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
	select {
	case <-o.ended:
	case <-time.After(patience):
		o.process.Process.Kill()
		<-o.ended
	}
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

// login is a client of a user, with presence.
func (o *other) login(user, resource string, carbons bool) *person {
	o.t.Helper()
	user, domain := o.account(user)
	nc, err := net.Dial("tcp", "127.0.0.1:"+o.c2s)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := xmppclient.Login(nc, xmppclient.Config{Account: jid.MustParse(user + "@" + domain), Password: "secret-" + user, Unbound: o.domain == "ejabberd.fed",
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: domain}})
	if err == nil {
		err = c.Bind(resource)
	}
	if err != nil {
		o.t.Fatalf("%s@%s: %v", user, domain, err)
	}
	o.t.Cleanup(func() { c.Cut() })
	p := &person{t: o.t, c: c}
	if carbons {
		p.send("<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
		p.until("id='carbons'")
	}
	p.send("<presence/>")
	return p
}

// person is a client that reads until what it waits for.
type person struct {
	t    *testing.T
	c    *xmppclient.Client
	seen []string
}

func (p *person) send(xml string) {
	p.t.Helper()
	if err := p.c.Send(xml); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to a stanza with all the pieces.
func (p *person) until(pieces ...string) string {
	p.t.Helper()
	xml, err := p.within(patience, pieces...)
	if err != nil {
		p.t.Fatalf("%s: %v while waiting for %q; got\n%s", p.c.JID(), err, pieces, strings.Join(p.seen, "\n"))
	}
	return xml
}

// within is until for a while.
func (p *person) within(d time.Duration, pieces ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		ev, err := p.c.Next(ctx)
		if err != nil {
			return "", err
		}
		xml := strings.ReplaceAll(xmppclient.XML(ev), `"`, "'")
		p.seen = append(p.seen, xml)
		all := true
		for _, piece := range pieces {
			all = all && strings.Contains(xml, piece)
		}
		if all {
			return xml, nil
		}
	}
}

// settled reads what is there up to the answer to a question to the own server.
func (p *person) settled(id string) {
	p.t.Helper()
	p.send("<iq type='get' id='" + id + "'><query xmlns='jabber:iq:roster'/></iq>")
	p.until("id='" + id + "'")
}

// count is how many of the stanzas read have a piece of text.
func (p *person) count(piece string) int {
	n := 0
	for _, xml := range p.seen {
		if strings.Contains(xml, piece) {
			n++
		}
	}
	return n
}

// archived are the pieces that stand in the own archive.
func (p *person) archived(id string, pieces ...string) (found int) {
	p.t.Helper()
	before := len(p.seen)
	p.send("<iq type='set' id='" + id + "'><query xmlns='urn:xmpp:mam:2' queryid='" + id + "'><set xmlns='http://jabber.org/protocol/rsm'><max>200</max></set></query></iq>")
	p.until("id='"+id+"'", "<iq")
	for _, piece := range pieces {
		for _, xml := range p.seen[before:] {
			if strings.Contains(xml, "urn:xmpp:mam:2") && strings.Contains(xml, piece) {
				found++
			}
		}
	}
	return found
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

// federation prepares carillon and one other server.
func federation(t *testing.T, kind string, external bool) (own, theirs *other) {
	t.Helper()
	if os.Getenv("CARILLON_INTEROP") != "1" {
		t.Skip("needs CARILLON_INTEROP=1 and Prosody and ejabberd; `make interop` says what is missing")
	}
	n := newInternet(t)
	own, theirs = n.server("carillon", "carillon.fed", external), n.server(kind, map[string]string{"carillon": "other.fed", "prosody": "prosody.fed", "ejabberd": "ejabberd.fed"}[kind], external)
	own.start()
	theirs.start()
	own.register(own, "alice")
	theirs.register(theirs, "bob")
	return own, theirs
}

func carillonCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		bin, err := federationBinary()
		if err != nil {
			o.t.Fatal(err)
		}
		policy, authorities := "certificate", o.ca.file
		if !external {
			policy, authorities = "dialback", ""
		}
		config := filepath.Join(o.dir, "carillon.toml")
		text := fmt.Sprintf("domains = ['%s']\ns2s = '127.0.0.1:%s'\ns2s_tls = 'off'\nhttp = 'off'\n[limits]\nconnections_per_address = 0\n[federation]\npolicy = %q\nresolver = %q\nauthorities = %q\n", strings.Join(o.domains(), "', '"), o.s2s, policy, o.resolver, authorities)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			o.t.Fatal(err)
		}
		return exec.Command(bin, "serve", "--config", config, "--data", filepath.Join(o.dir, "data"),
			"--c2s", "127.0.0.1:"+o.c2s, "--c2s-tls", "off", "--cert", o.id.cert, "--key", o.id.key, "--log-level", o.log)
	}
}

// federationBinary is carillon, built once.
var federationBinary = sync.OnceValues(func() (string, error) {
	if run.dir == "" {
		var err error
		if run.dir, err = os.MkdirTemp("", "interop-"); err != nil {
			return "", err
		}
	}
	return binary()
})

// streamInfo is what `carillon s2s` says of a stream.
type streamInfo struct {
	Domain, For, Direction, State, Security string
	Stream                                  uint64
	Waiting, Unacked                        int
}

func (o *other) streams() (list []streamInfo) {
	o.t.Helper()
	bin, err := federationBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	text, err := output(exec.Command(bin, "s2s", "--json", "--data", filepath.Join(o.dir, "data")))
	if err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
	return list
}

// delivered waits until nothing that carillon sent is unacknowledged.
func (o *other) delivered() {
	o.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		n := 0
		for _, s := range o.streams() {
			n += s.Waiting + s.Unacked
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%d stanzas are not acknowledged", n)
		}
	}
}

func carillonRegister(o *other, user string) {
	bin, err := federationBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	user, domain := o.account(user)
	cmd := exec.Command(bin, "user", "add", user+"@"+domain, "--password-stdin", "--data", filepath.Join(o.dir, "data"))
	cmd.Stdin = strings.NewReader("secret-" + user + "\n")
	if _, err := output(cmd); err != nil {
		o.t.Fatal(err)
	}
}

func prosodyCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		host, port, _ := net.SplitHostPort(o.resolver)
		disabled := ""
		if !external {
			disabled = `"s2s_auth_certs";`
		}
		config := strings.NewReplacer("@DIR@", o.dir, "@C2S@", o.c2s, "@S2S@", o.s2s, "@CERT@", o.id.cert, "@KEY@", o.id.key, "@CA@", o.ca.file,
			"@HOSTS@", "VirtualHost \""+strings.Join(o.domains(), "\"\nVirtualHost \"")+"\"", "@DNS@", host+"@"+port, "@DISABLED@", disabled, "@SECURE@", fmt.Sprint(external), "@LOG@", o.log).Replace(prosodyFederation)
		file := filepath.Join(o.dir, "prosody.cfg.lua")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			o.t.Fatal(err)
		}
		return exec.Command("prosody", "--config", file, "-F")
	}
}

func prosodyRegister(o *other, user string) {
	user, domain := o.account(user)
	dir := filepath.Join(o.dir, "store", strings.ReplaceAll(domain, ".", "%2e"), "accounts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, user+".dat"), fmt.Appendf(nil, "return { [%q] = %q; };\n", "password", "secret-"+user), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

const prosodyFederation = `
run_as_root = true
pidfile = "@DIR@/prosody.pid"
data_path = "@DIR@/store"
interfaces = { "127.0.0.1" }
c2s_ports = { @C2S@ }
c2s_direct_tls_ports = { }
s2s_ports = { @S2S@ }
s2s_direct_tls_ports = { }
component_ports = { }
http_ports = { }
https_ports = { }
unbound = { resolvconf = false; hoststxt = false; forward = { "@DNS@" }; options = { ["do-not-query-localhost:"] = "no"; ["module-config:"] = "iterator" } }
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = @SECURE@
authentication = "internal_plain"
ssl = { certificate = "@CERT@"; key = "@KEY@"; cafile = "@CA@" }
modules_enabled = {
	"disco"; "roster"; "saslauth"; "tls"; "dialback"; "s2s_bidi"; "blocklist"; "carbons"; "pep"; "private"; "smacks"; "offline";
	"ping"; "time"; "version"; "posix"; "mam"; "vcard";
}
modules_disabled = { @DISABLED@ }
default_archive_policy = true
mam_smart_enable = false
log = { { levels = { min = "@LOG@" }; to = "file"; filename = "@DIR@/output.log" } }
@HOSTS@
`

func ejabberdCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		_, port, _ := net.SplitHostPort(o.resolver)
		pem := filepath.Join(o.dir, "both.pem")
		var both []byte
		for _, file := range []string{o.id.cert, o.id.key} {
			b, err := os.ReadFile(file)
			if err != nil {
				o.t.Fatal(err)
			}
			both = append(both, b...)
		}
		ca := o.ca.file
		if !external {
			ca = "/etc/ssl/certs/ca-certificates.crt"
		}
		files := map[string]string{
			pem:                            string(both),
			filepath.Join(o.dir, "inetrc"): "{resolv_conf, \"\"}.\n{hosts_file, \"\"}.\n{lookup, [dns]}.\n{nameserver, {127,0,0,1}, " + port + "}.\n",
			filepath.Join(o.dir, "ejabberd.yml"): strings.NewReplacer("@HOSTS@", strings.Join(o.domains(), `", "`), "@PEM@", pem, "@CA@", ca, "@C2S@", o.c2s, "@S2S@", o.s2s).
				Replace(ejabberdFederation),
		}
		for file, text := range files {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				o.t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(o.dir, "store"), 0o700); err != nil {
			o.t.Fatal(err)
		}
		cmd := exec.Command("erl", "-noinput", "-mnesia", "dir", `"`+filepath.Join(o.dir, "store")+`"`, "-s", "ejabberd")
		cmd.Dir = filepath.Join(o.dir, "store")
		cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+filepath.Join(o.dir, "ejabberd.yml"), "EJABBERD_LOG_PATH="+filepath.Join(o.dir, "ejabberd.log"),
			"ERL_INETRC="+filepath.Join(o.dir, "inetrc"), "ERL_LIBS=/usr/lib/x86_64-linux-gnu", "ERL_CRASH_DUMP=/dev/null", "HOME="+o.dir)
		return cmd
	}
}

// ejabberdRegister makes an account in band (XEP-0077).
func ejabberdRegister(o *other, user string) {
	user, domain := o.account(user)
	nc, err := net.Dial("tcp", "127.0.0.1:"+o.c2s)
	if err != nil {
		o.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "<stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"+
		"<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>%s</username><password>secret-%s</password></query></iq>", domain, user, user)
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), "id='reg'") {
		k, err := nc.Read(buf)
		if err != nil {
			o.t.Fatalf("registering: %v after %s", err, got.String())
		}
		got.Write(buf[:k])
	}
	if !strings.Contains(got.String(), "type='result'") {
		o.t.Fatalf("registering: %s", got.String())
	}
}

const ejabberdFederation = `
hosts: ["@HOSTS@"]
loglevel: debug
log_rotate_count: 0
certfiles: ["@PEM@"]
ca_file: "@CA@"
s2s_use_starttls: required
s2s_max_retry_delay: 1
listen:
  -
    port: @C2S@
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: all
    starttls: true
  -
    port: @S2S@
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_mam: {assume_mam_usage: true, default: always}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_pubsub: {access_createnode: all, plugins: [flat, pep]}
  mod_register: {access: all, ip_access: all}
  mod_roster: {}
  mod_s2s_dialback: {}
  mod_stream_mgmt: {}
  mod_vcard: {search: false}
  mod_version: {}
`

// TestFederation is a conversation between alice on carillon and bob on another
// server, in both directions, over every way to prove a domain.
func TestFederation(t *testing.T) {
	for _, kind := range []string{"carillon", "prosody", "ejabberd"} {
		for _, external := range []bool{true, false} {
			how := map[bool]string{true: "certificate", false: "dialback"}[external]
			t.Run(kind+" by "+how, func(t *testing.T) {
				own, theirs := federation(t, kind, external)
				converse(t, own, theirs)
				proved(t, own, theirs, kind, external)
			})
		}
	}
}

// proved looks at how the two servers have proved who they are, and whether the one
// stream serves both ways where the other server can do that (XEP-0288).
func proved(t *testing.T, own, theirs *other, kind string, external bool) {
	t.Helper()
	both := false
	for _, s := range own.streams() {
		if s.Domain != theirs.domain || s.State != "up" {
			continue
		}
		both = both || s.Direction == "both"
		if how := map[bool]string{true: "EXTERNAL", false: "dialback"}[external]; !strings.Contains(s.Security, "TLS") || !strings.Contains(s.Security, how) {
			t.Errorf("%s stream: proved by %s, want %s", s.Direction, s.Security, how)
		}
	}
	if both != (kind != "ejabberd") { // 23.01 doesn't do it
		t.Errorf("%s: both ways on one stream: %t", kind, both)
	}
}

func converse(t *testing.T, own, theirs *other) {
	alice, bob, desk := own.login("alice", "phone", true), theirs.login("bob", "phone", true), theirs.login("bob", "desk", true)
	a, b := "alice@"+own.domain, "bob@"+theirs.domain

	// Subscriptions and presence.
	alice.send("<presence type='subscribe' to='" + b + "'/>")
	bob.until("type='subscribe'", a)
	bob.send("<presence type='subscribed' to='" + a + "'/>")
	alice.until("<presence", b+"/phone")
	bob.send("<presence type='subscribe' to='" + a + "'/>")
	alice.until("type='subscribe'", b)
	alice.send("<presence type='subscribed' to='" + b + "'/>")
	bob.until("<presence", a+"/phone")
	bob.send("<presence><show>away</show></presence>")
	alice.until("<show>away</show>")
	alice.send("<presence><show>dnd</show></presence>")
	bob.until("<show>dnd</show>")

	// Conversation, both ways, and questions.
	alice.send("<message type='chat' id='m1' to='" + b + "'><body>to the bare address</body></message>")
	bob.until("to the bare address")
	desk.until("to the bare address")
	alice.send("<message type='chat' id='m2' to='" + b + "/phone'><body>to one with a copy</body></message>")
	bob.until("to one with a copy")
	desk.until("to one with a copy")
	bob.send("<message type='chat' id='m3' to='" + a + "'><body>and back</body></message>")
	alice.until("and back")
	alice.send("<iq type='get' id='v1' to='" + theirs.domain + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
	alice.until("id='v1'", "type='result'")
	bob.send("<iq type='get' id='v2' to='" + a + "/phone'><query xmlns='jabber:iq:version'/></iq>")
	got := alice.until("jabber:iq:version", "id='v2'")
	if !strings.Contains(got, b+"/phone") {
		t.Errorf("the question came as %s", got)
	}
	alice.send("<iq type='result' id='v2' to='" + b + "/phone'><query xmlns='jabber:iq:version'><name>n</name><version>1</version></query></iq>")
	bob.until("id='v2'", "<name>n</name>")
	bob.send("<iq type='get' id='v3' to='" + own.domain + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	bob.until("id='v3'", "type='result'")

	// Directed presence, and what both say of themselves (XEP-0054).
	stranger := theirs.login("bob", "third", false)
	stranger.send("<presence to='" + a + "/phone'><status>only for you</status></presence>")
	alice.until("<status>only for you</status>", b+"/third")
	stranger.send("<presence type='unavailable' to='" + a + "/phone'/>")
	alice.until("type='unavailable'", b+"/third")
	stranger.c.Cut()
	bob.send("<iq type='set' id='c1'><vCard xmlns='vcard-temp'><NICKNAME>bobby</NICKNAME></vCard></iq>")
	bob.until("id='c1'", "type='result'")
	alice.send("<iq type='get' id='c2' to='" + b + "'><vCard xmlns='vcard-temp'/></iq>")
	alice.until("id='c2'", "bobby")
	alice.send("<iq type='set' id='c3'><vCard xmlns='vcard-temp'><NICKNAME>ally</NICKNAME></vCard></iq>")
	alice.until("id='c3'", "type='result'")
	bob.send("<iq type='get' id='c4' to='" + a + "'><vCard xmlns='vcard-temp'/></iq>")
	bob.until("id='c4'", "ally")

	// What is for one device is neither copied nor archived there (R-GW-1).
	alice.send("<message type='chat' id='e1' to='" + b + "/phone'><body>for one alone</body><private xmlns='urn:xmpp:carbons:2'/></message>")
	bob.until("for one alone")
	alice.send("<message type='chat' id='m4' to='" + b + "'><body>and then for all</body></message>")
	for _, p := range []*person{bob, desk} {
		p.until("and then for all")
	}
	if desk.count("for one alone") != 0 {
		t.Error("an exclusive message was copied")
	}
	if n := bob.archived("mam1", "for one alone"); n != 0 {
		t.Error("an exclusive message was archived")
	}
	if n := bob.archived("mam2", "to the bare address", "to one with a copy", "and back", "and then for all"); n != 4 {
		t.Errorf("%d of 4 are in their archive", n)
	}
	if n := alice.archived("mam3", "to the bare address", "to one with a copy", "and back", "and then for all"); n != 4 {
		t.Errorf("%d of 4 are in our archive", n)
	}

	// What ejabberd has read is known once it has answered a question behind it.
	alice.settled("s0")
	own.delivered()

	// Their server away, and then ours: nothing is lost, nothing comes twice.
	theirs.stop()
	for i := range 5 {
		alice.send(fmt.Sprintf("<message type='chat' id='w%d' to='%s'><body>while away %d.</body></message>", i, b, i))
	}
	alice.settled("s1")
	own.stop()
	theirs.start()
	bob = theirs.login("bob", "phone", true)
	own.start()
	for i := range 5 {
		bob.until(fmt.Sprintf("while away %d.", i))
	}
	alice = own.login("alice", "phone", true)
	alice.send("<message type='chat' id='m5' to='" + b + "/phone'><body>after all</body></message>")
	bob.until("after all")
	for i := range 5 {
		if n := bob.count(fmt.Sprintf("while away %d.", i)); n != 1 {
			t.Errorf("%d came %d times", i, n)
		}
	}
	if n := bob.count("to the bare address") + bob.count("and then for all"); n != 0 {
		t.Errorf("%d old messages came again", n)
	}
	// ejabberd has asked for alice's presence while she was away. It returns everything for a second or so after that, and drops
	// what comes as it stops doing so.
	for i, deadline := 0, time.Now().Add(patience); ; i++ {
		bob.send(fmt.Sprintf("<iq type='get' id='p%d' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", i, own.domain))
		if _, err := bob.within(300*time.Millisecond, "<iq", "type='result'", "id='p"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%s isn't reached again: %v", own.domain, err)
		}
	}
	bob.send("<message type='chat' id='m6' to='" + a + "'><body>good</body></message>")
	alice.until("good")
}
