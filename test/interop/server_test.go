package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is one process under test with its data folder, which outlives the process: start, stop and kill may
// alternate. Not safe for concurrent use, except for account.
type server struct {
	kind    serverKind
	dir     string // everything it writes
	ca      *authority
	id      identity
	plain   bool
	c2s     string // host:port, STARTTLS
	direct  string // host:port, TLS from the first byte
	http    string // host:port
	service string // host:port, components
	https   string // host:port, of carillon alone
	turn    string // host:port, of the TURN server that users are told of
	process *exec.Cmd
	ended   <-chan struct{} // closed when process has ended
	mu      sync.Mutex
	names   int // accounts made so far
}

// serverKind is what differs between servers.
type serverKind struct {
	name    string
	missing func() string                          // what is not installed, or ""
	prepare func(*server) error                    // before the first start
	command func(*server) *exec.Cmd                // serves until it is signalled
	account func(s *server, user, pw string) error // creates an account, also while the server runs
}

// account is a user of the server under test.
type account struct {
	bare, password string
}

// run is what all tests of this process share: one folder, one authority, one start of each server.
var run shared

type shared struct {
	once   sync.Once
	err    error
	dir    string
	ca     *authority
	modern *server
	legacy *server // allows PLAIN
}

func kindUnderTest(t *testing.T) serverKind {
	t.Helper()
	if os.Getenv("CARILLON_INTEROP") != "1" {
		t.Skip("needs CARILLON_INTEROP=1 and the clients; `make interop` says what is missing")
	}
	kind := carillon()
	if os.Getenv("CARILLON_INTEROP_SERVER") == "prosody" {
		kind = prosody()
	}
	if what := kind.missing(); what != "" {
		lacking(t, what)
	}
	return kind
}

// serve returns a server with default settings for tests that don't stop it, and legacy the same for clients that know
// no mechanism but PLAIN.
func serve(t *testing.T) *server {
	t.Helper()
	run.start(kindUnderTest(t))
	return run.lend(t, run.modern)
}

func legacy(t *testing.T) *server {
	t.Helper()
	run.start(kindUnderTest(t))
	return run.lend(t, run.legacy)
}

func (r *shared) lend(t *testing.T, s *server) *server {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { s.report(t) })
	return s
}

func (r *shared) start(kind serverKind) {
	r.once.Do(func() { r.err = r.begin(kind) })
}

func (r *shared) begin(kind serverKind) (err error) {
	if r.dir, err = os.MkdirTemp("", "interop-"); err != nil {
		return err
	}
	if r.ca, err = newAuthority(r.dir); err != nil {
		return err
	}
	id, err := r.ca.issue(r.dir, domain)
	if err != nil {
		return err
	}
	if r.modern, err = newServer(kind, filepath.Join(r.dir, "modern"), r.ca, id, false); err != nil {
		return err
	}
	r.legacy, err = newServer(kind, filepath.Join(r.dir, "legacy"), r.ca, id, true)
	return err
}

func (r *shared) shutdown() {
	for _, s := range []*server{r.modern, r.legacy} {
		if s != nil {
			s.stop()
		}
	}
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}

// serveOwn starts a server for one test.
func serveOwn(t *testing.T, ca *authority, id identity) *server {
	t.Helper()
	return serveKind(t, kindUnderTest(t), ca, id, true)
}

func serveKind(t *testing.T, kind serverKind, ca *authority, id identity, plain bool) *server {
	t.Helper()
	s, err := newServer(kind, filepath.Join(t.TempDir(), "server"), ca, id, plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		s.report(t)
	})
	return s
}

// newServer prepares and starts a server. plain: it offers SASL PLAIN besides SCRAM.
func newServer(kind serverKind, dir string, ca *authority, id identity, plain bool) (*server, error) {
	s := &server{kind: kind, dir: dir, ca: ca, id: id, plain: plain}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := freePorts()
	if err != nil {
		return nil, err
	}
	s.c2s, s.direct, s.http, s.service, s.https, s.turn = ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]
	if err := kind.prepare(s); err != nil {
		return nil, fmt.Errorf("preparing %s: %w", kind.name, err)
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

func freePorts() (addrs [6]string, err error) {
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return addrs, err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}

func (s *server) logFile() string { return filepath.Join(s.dir, "output.log") }

// start starts the process and returns when it answers a stream header on both ports.
func (s *server) start() error {
	cmd := s.kind.command(s)
	ended, err := background(cmd, s.logFile())
	if err != nil {
		return fmt.Errorf("starting %s: %w", s.kind.name, err)
	}
	s.process, s.ended = cmd, ended
	deadline := time.Now().Add(patience)
	for {
		err := greet(s.c2s)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended at its start:\n%s", s.kind.name, s.tail())
		default:
		}
		if time.Now().After(deadline) {
			s.kill()
			return fmt.Errorf("%s does not answer: %w\n%s", s.kind.name, err, s.tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// greet opens a stream and waits for the features.
func greet(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "+
		"xmlns:stream='http://etherx.jabber.org/streams'>", domain); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for {
		part, err := r.ReadString('>')
		if err != nil {
			return fmt.Errorf("no stream features: %w", err)
		}
		if strings.Contains(part, "</stream:features") || strings.Contains(part, "</features") {
			_, err := io.WriteString(conn, "</stream:stream>")
			return err
		}
	}
}

// stop asks the server to end and waits until it has.
func (s *server) stop() { s.signal(syscall.SIGTERM) }

// kill ends the server without asking.
func (s *server) kill() { s.signal(syscall.SIGKILL) }

func (s *server) signal(sig os.Signal) {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(sig)
	awaitEnd(s.process.Process, s.ended)
	s.process = nil
}

// account creates a user whose name starts with role; no two tests share one.
func (s *server) account(t *testing.T, role string) account {
	t.Helper()
	s.mu.Lock()
	s.names++
	user := fmt.Sprintf("%s%d", role, s.names)
	s.mu.Unlock()
	a := account{user + "@" + domain, "sésame-" + user}
	if err := s.kind.account(s, user, a.password); err != nil {
		t.Fatalf("creating %s: %v", a.bare, err)
	}
	return a
}

func (s *server) tail() string { return tail(s.logFile(), 8<<10) }

// report shows the end of the server's log when the test has failed.
func (s *server) report(t *testing.T) {
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", s.kind.name, s.tail())
	}
}

func tail(file string, n int64) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, end-n), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}

// carillon is the server of this repository, built once per run.
func carillon() serverKind {
	config := func(s *server) string { return filepath.Join(s.dir, "carillon.toml") }
	data := func(s *server) string { return filepath.Join(s.dir, "data") }
	return serverKind{
		name: "carillon",
		missing: func() string {
			if _, err := os.Stat("../../cmd/carillon"); err != nil && os.Getenv("CARILLON_BIN") == "" {
				return "cmd/carillon"
			}
			return ""
		},
		prepare: func(s *server) error {
			// All clients come from one address, and some fail to log in on purpose.
			text := fmt.Sprintf("component = %q\nhttps = %q\n[auth]\nplain = %t\n[invites]\nwho = \"users\"\n[limits]\nlogin_failures_per_address = 0\n[components.%q]\nsecret = %q\n"+
				"[[services]]\ntype = \"turn\"\nhost = \"127.0.0.1\"\nport = %d\ntransport = \"udp\"\nsecret = %q\nhours = 1\n",
				s.service, s.https, s.plain, service, serviceSecret, port(s.turn), turnSecret)
			if err := os.WriteFile(config(s), []byte(text), 0o600); err != nil {
				return err
			}
			_, err := binary()
			return err
		},
		command: func(s *server) *exec.Cmd {
			bin, _ := binary() // prepare has built it
			cmd := exec.Command(bin, "serve", "--config", config(s), "--data", data(s), "--domain", domain,
				"--c2s", s.c2s, "--c2s-tls", s.direct, "--http", s.http, "--cert", s.id.cert, "--key", s.id.key,
				"--log-level", "debug", "--log-format", "json")
			cmd.Dir = s.dir
			return cmd
		},
		account: func(s *server, user, password string) error {
			bin, _ := binary()
			cmd := exec.Command(bin, "user", "add", user+"@"+domain, "--password-stdin", "--data", data(s))
			cmd.Dir = s.dir
			cmd.Stdin = strings.NewReader(password + "\n")
			_, err := output(cmd)
			return err
		},
	}
}

// binary returns the path of carillon: what CARILLON_BIN names, or what is built, once.
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("CARILLON_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	if run.dir == "" {
		return "", errors.New("nothing has been started: serve comes first")
	}
	bin := filepath.Join(run.dir, "carillon")
	_, err := output(exec.Command("go", "build", "-o", bin, "carillon.im/cmd/carillon"))
	return bin, err
})

// prosody is the server that validates the suite itself.
func prosody() serverKind {
	store := func(s *server) string { return filepath.Join(s.dir, "store") }
	return serverKind{
		name: "prosody",
		missing: func() string {
			if _, err := exec.LookPath("prosody"); err != nil {
				return "prosody: apt-get install prosody"
			}
			return ""
		},
		prepare: func(s *server) error {
			_, c2s, _ := strings.Cut(s.c2s, ":")
			_, direct, _ := strings.Cut(s.direct, ":")
			_, components, _ := strings.Cut(s.service, ":")
			plain := ""
			if !s.plain {
				plain = `"PLAIN"`
			}
			config := strings.NewReplacer("@DIR@", s.dir, "@STORE@", store(s), "@C2S@", c2s, "@COMPONENT@", components, "@SERVICE@", service, "@SECRET@", serviceSecret, "@DIRECT@", direct,
				"@CERT@", s.id.cert, "@KEY@", s.id.key, "@DOMAIN@", domain, "@DISABLED@", plain).Replace(prosodyConfig)
			return os.WriteFile(filepath.Join(s.dir, "prosody.cfg.lua"), []byte(config), 0o600)
		},
		command: func(s *server) *exec.Cmd {
			return exec.Command("prosody", "--config", filepath.Join(s.dir, "prosody.cfg.lua"), "-F")
		},
		account: func(s *server, user, password string) error {
			// What prosodyctl would write, without a process per account.
			dir := filepath.Join(store(s), strings.ReplaceAll(domain, ".", "%2e"), "accounts")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, user+".dat"),
				fmt.Appendf(nil, "return { [%q] = %q; };\n", "password", password), 0o600)
		},
	}
}

const prosodyConfig = `
run_as_root = true
pidfile = "@DIR@/prosody.pid"
data_path = "@STORE@"
interfaces = { "127.0.0.1" }
c2s_ports = { @C2S@ }
c2s_direct_tls_ports = { @DIRECT@ }
component_ports = { @COMPONENT@ }
s2s_ports = { }
s2s_direct_tls_ports = { }
http_ports = { }
https_ports = { }
c2s_require_encryption = true
authentication = "internal_plain"
disable_sasl_mechanisms = { "DIGEST-MD5"; @DISABLED@ }
ssl = { certificate = "@CERT@"; key = "@KEY@" }
modules_enabled = {
	"disco"; "roster"; "saslauth"; "tls"; "blocklist"; "carbons"; "pep"; "private"; "smacks"; "offline";
	"vcard_legacy"; "csi_simple"; "ping"; "time"; "uptime"; "version"; "posix"; "mam"; "lastactivity";
}
modules_disabled = { "s2s" }
default_archive_policy = true
mam_smart_enable = false
log = { { levels = { min = "debug" }; to = "file"; filename = "@DIR@/output.log" } }
VirtualHost "@DOMAIN@"
Component "@SERVICE@"
	component_secret = "@SECRET@"
`
