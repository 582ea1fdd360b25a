package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"carillon.im/server"
	"carillon.im/server/admin"
	"carillon.im/server/c2s"
	"carillon.im/server/config"
)

// TestMain fails if a test leaves goroutines behind.
func TestMain(m *testing.M) {
	if os.Getenv("CARILLON_TEST_MAIN") != "" { // the terminal tests start this binary as the program
		main()
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+1; runtime.Gosched() { // signal.Notify keeps one
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left:\n%s", stacks[:runtime.Stack(stacks, true)])
			code = 1
			break
		}
	}
	os.Exit(code)
}

// carillon runs a command line with input on standard input and returns what it wrote.
func carillon(t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(input); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var out, errs bytes.Buffer
	p := &program{stdin: r, stdout: &out, stderr: &errs, name: "carillon"}
	code = p.run(t.Context(), args)
	return code, out.String(), errs.String()
}

// must is carillon for what must succeed.
func must(t *testing.T, input string, args ...string) string {
	t.Helper()
	code, stdout, stderr := carillon(t, input, args...)
	if code != 0 {
		t.Fatalf("carillon %s: %s%s", strings.Join(args, " "), stdout, stderr)
	}
	return stdout
}

// refuse is carillon for what must fail, saying want.
func refuse(t *testing.T, want, input string, args ...string) {
	t.Helper()
	code, stdout, stderr := carillon(t, input, args...)
	if code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("carillon %s: code %d, wanted %q, got %s%s", strings.Join(args, " "), code, want, stdout, stderr)
	}
}

// running is a server started with "serve".
type running struct {
	addrs   map[string]string
	welcome string
	log     *bytes.Buffer // only to be read after stop
	stop    func() int    // makes it stop and returns its exit code
	wait    func() int    // the same without making it stop
}

// startServer runs "serve" on free ports and waits until it has said all that it says at start.
func startServer(t *testing.T, data string, args ...string) *running {
	t.Helper()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	return startServerAt(t, stdin, data, args...)
}

// startServerAt is startServer with another standard input.
func startServerAt(t *testing.T, stdin *os.File, data string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	s := &running{log: &bytes.Buffer{}}
	p := &program{stdin: stdin, stdout: in, stderr: s.log, name: "carillon"}
	code := make(chan int, 1)
	go func() {
		c := p.run(ctx, append([]string{"serve", "--data", data, "--c2s", "127.0.0.1:0", "--c2s-tls", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...))
		in.Close()
		code <- c
	}()
	stopped := -1
	s.wait = func() int {
		if stopped < 0 {
			stopped = <-code
		}
		return stopped
	}
	s.stop = func() int {
		cancel()
		return s.wait()
	}
	t.Cleanup(func() { s.stop() })
	var welcome strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		welcome.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			break
		}
	}
	if s.welcome = welcome.String(); !strings.Contains(s.welcome, "Ctrl-C") {
		t.Fatalf("no start: code %d, %s%s", s.stop(), s.welcome, s.log)
	}
	_, status, err := admin.Connect(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	s.addrs = status.Listening
	return s
}

func TestUserWithoutServer(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	refuse(t, "there is no data folder", "", "user", "list", "--data", data)
	must(t, "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data folder: %v %v", info.Mode(), err)
	}
	refuse(t, "exists already", "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	must(t, "other secret", "user", "passwd", "romeo@localhost", "--data", data, "--password-stdin")
	must(t, "x\r\n", "user", "add", "juliet@example.org", "--data", data, "--domain", "example.org", "--password-stdin")
	if got := must(t, "", "user", "list", "localhost", "--data", data); got != "romeo@localhost\n" {
		t.Errorf("list: %q", got)
	}
	var accounts []admin.Account
	if err := json.Unmarshal([]byte(must(t, "", "user", "list", "--json", "--data", data)), &accounts); err != nil || len(accounts) != 2 {
		t.Errorf("list: %v %v", accounts, err)
	}
	must(t, "", "user", "remove", "romeo@localhost", "--data", data)
	if got := must(t, "", "user", "list", "--data", data); got != "juliet@example.org\n" {
		t.Errorf("after removal: %q", got)
	}
}

// TestServedDomains: while no server runs, commands know the domains that it
// served.
func TestServedDomains(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	if code := startServer(t, data, "--domain", "shop.test").stop(); code != 0 {
		t.Fatal("serve ended with", code)
	}
	refuse(t, "domains are shop.test; to serve localhost too, add --domain shop.test --domain localhost to this command, and to", "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	must(t, "secret\n", "user", "add", "romeo@shop.test", "--data", data, "--password-stdin")
	refuse(t, "localhost is no domain of this server (it serves shop.test)", "", "user", "list", "localhost", "--data", data)

	// An account whose domain is no longer served is shown to who looks for it, and by check; with the server running and without.
	check := []string{"check", "--data", data, "--c2s", "off", "--c2s-tls", "off", "--http", "off"}
	if got := must(t, "", check...); !strings.Contains(got, "1 account under shop.test\n") || !strings.Contains(got, "for shop.test\n") {
		t.Errorf("check of what was served:\n%s", got)
	}
	gone := func() {
		t.Helper()
		got := must(t, "", append(check, "--domain", "localhost")...)
		if !strings.Contains(got, "warning  accounts       1 account under shop.test, which is not among domains") {
			t.Errorf("check:\n%s", got)
		}
		if strings.Count(got, "certificate ") != 1 || strings.Contains(got, "ERROR") {
			t.Errorf("check contradicts itself about the certificate:\n%s", got)
		}
	}
	gone()
	s := startServer(t, data, "--domain", "localhost")
	if !strings.Contains(s.welcome, "Make an account") {
		t.Errorf("an account that can't be used counts:\n%s", s.welcome)
	}
	refuse(t, "domains are localhost; to serve example.net too, start it again with --domain localhost --domain example.net, or", "x", "user", "add", "a@example.net", "--data", data, "--password-stdin")
	if got := must(t, "", "user", "list", "shop.test", "--data", data); got != "romeo@shop.test\n" {
		t.Errorf("list: %s", got)
	}
	if got := must(t, "", "user", "domains", "--data", data); got != "localhost: no account\nshop.test: 1 account, not served\n" {
		t.Errorf("domains: %s", got)
	}
	got := must(t, "", append(check, "--domain", "localhost")...)
	if !strings.Contains(got, "1 account under shop.test, which is not among domains") || !strings.Contains(got, "self-signed.crt for localhost, until") {
		t.Errorf("check of a running server:\n%s", got)
	}
}

// TestFailedStart leaves the certificate alone.
func TestFailedStart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	startServer(t, data).stop()
	file := filepath.Join(data, "self-signed.crt")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	refuse(t, "another program listens there", "", "serve", "--data", data, "--domain", "example.org", "--c2s", taken.Addr().String(), "--c2s-tls", "off", "--http", "off")
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("another certificate after a start that failed: %v", err)
	}
}

// TestRelease: every way to ask for the version gives the same one.
func TestRelease(t *testing.T) {
	said := must(t, "", "version")
	if got := must(t, "", "--version"); got != said {
		t.Errorf("--version says %q, version %q", got, said)
	}
	release := strings.Fields(said)[1]
	if release != server.Release() {
		t.Errorf("version says %q, the server says %q", release, server.Release())
	}
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--set", "auth.plain=true")
	if got := must(t, "", "check", "--data", data, "--c2s", "off", "--c2s-tls", "off", "--http", "off"); !strings.Contains(got, "carillon "+release+" runs on") || strings.Contains(got, "is not\n") {
		t.Errorf("check says\n%s", got)
	}
	must(t, "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	x := logIn(t, s.addrs["c2s_tls"], "romeo", "secret")
	defer x.Close()
	if got := exchange(t, x, "<iq type='get' id='v' to='localhost'><query xmlns='jabber:iq:version'/></iq>", "</iq>"); !strings.Contains(got, "<version>"+release+"</version>") {
		t.Errorf("XEP-0092: %s", got)
	}
}

func TestUserErrors(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, tt := range []struct {
		want, input string
		args        []string
	}{
		{"needs JID", "", []string{"user", "add"}},
		{"passwords are never given on the command line", "", []string{"user", "add", "romeo@localhost", "secret"}},
		{"--password-stdin", "secret\n", []string{"user", "add", "romeo@localhost", "--data", data}},
		{"more than one line", "a\nb\n", []string{"user", "add", "romeo@localhost", "--data", data, "--password-stdin"}},
		{"longer than", strings.Repeat("x", maxSecret+1), []string{"user", "add", "romeo@localhost", "--data", data, "--password-stdin"}},
		{"not a usable password", "\n", []string{"user", "add", "romeo@localhost", "--data", data, "--password-stdin"}},
		{"domains are localhost", "x", []string{"user", "add", "romeo@example.org", "--data", data, "--password-stdin"}},
		{"wanted name@domain", "x", []string{"user", "add", "romeo", "--data", data, "--password-stdin"}},
		{"unknown command \"usr\": did you mean \"carillon user\"?", "", []string{"usr"}},
		{"did you mean \"carillon serve\"?", "", []string{"start"}},
		{"did you mean \"carillon user passwd\"?", "", []string{"user", "paswd"}},
		{"did you mean \"carillon user add\"?", "", []string{"add", "romeo@localhost"}},
		{"\"carillon --help\" lists all", "", []string{"preposterous"}},
		{"unknown flag --port: \"carillon serve --help\" lists all", "", []string{"serve", "--port", "1"}},
		{"unknown flag --confg: did you mean --config?", "", []string{"serve", "--confg=x.toml"}},
		{"unknown flag --passwordstdin: did you mean --password-stdin?", "", []string{"user", "add", "romeo@localhost", "--passwordstdin"}},
		{"unknown flag -config: did you mean --config?", "", []string{"serve", "-config", "x.toml"}},
		{"unknown flag -x: \"carillon serve --help\" lists all", "", []string{"serve", "-x"}},
		{"unknown flag --demmo: did you mean --demo?", "", []string{"chat", "--demmo"}},
		{"unknown flag --versoin: did you mean --version?", "", []string{"--versoin"}},
		{"flag needs an argument: --config", "", []string{"serve", "--config"}},
		{"did you mean \"carillon listen\"?", "", []string{"lisen"}},
		{"no such file", "", []string{"serve", "--config", "/nowhere.toml"}},
		{"log_level: \"loud\" is none of", "", []string{"serve", "--data", data, "--log-level", "loud"}},
		{"did you mean \"limits.depth\"?", "", []string{"serve", "--data", data, "--set", "limits.dept=1"}},
	} {
		refuse(t, tt.want, tt.input, tt.args...)
	}
	for password, address := range map[string]string{"\n": "romeo@localhost", "x": "ro meo@localhost"} {
		if _, _, stderr := carillon(t, password, "user", "add", address, "--data", data, "--password-stdin"); strings.Contains(stderr, "sasl") || strings.Contains(stderr, "jid:") {
			t.Errorf("a package's name: %s", stderr)
		}
	}
	if code, stdout, stderr := carillon(t, "", "user", "add", "romeo@localhost", "hunter2"); strings.Contains(stdout+stderr, "hunter2") || code != 1 {
		t.Errorf("a password is repeated: %s%s", stdout, stderr)
	}
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "carillon.toml")
	if err := os.WriteFile(file, []byte("data = \"x\"\n\nc2s_tlss = \":1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, file+`:3: unknown key "c2s_tlss": did you mean "c2s_tls"?`, "", "serve", "--config", file)

	text := must(t, "", "config")
	if text != config.DefaultFile() {
		t.Error("config prints something else than the default file")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// A flag overrides the file.
	must(t, "x", "user", "add", "romeo@example.org", "--config", file, "--data", filepath.Join(dir, "data"), "--domain", "example.org", "--password-stdin")
}

// TestFlags: what scripts give as flags can be written into the file as well, and a flag overrides it.
func TestFlags(t *testing.T) {
	flags := []string{"--data", "x", "--domain", "a.test", "--domain", "b.test", "--c2s", ":1", "--c2s-tls", "off", "--http", ":2", "--cert", "c", "--key", "k",
		"--log-level", "debug", "--log-format", "json"}
	const same = "data = 'x'\ndomains = ['a.test', 'b.test']\nc2s = ':1'\nc2s_tls = 'off'\nhttp = ':2'\ncert = 'c'\nkey = 'k'\nlog_level = 'debug'\nlog_format = 'json'\n"
	const other = "data = 'y'\ndomains = ['c.test']\nc2s = ':3'\nc2s_tls = ':4'\nhttp = 'off'\ncert = 'd'\nkey = 'l'\nlog_level = 'error'\nlog_format = 'text'\n"
	load := func(text string, flags []string) config.Config {
		t.Helper()
		file := filepath.Join(t.TempDir(), "carillon.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := &cobra.Command{}
		o := addOptions(cmd, true)
		if err := cmd.ParseFlags(append([]string{"--config", file}, flags...)); err != nil {
			t.Fatal(err)
		}
		c, err := o.load()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := load(same, nil)
	if reflect.DeepEqual(want, load(other, nil)) {
		t.Error("the file has no effect")
	}
	for name, text := range map[string]string{"no file": "", "another file": other} {
		if got := load(text, flags); !reflect.DeepEqual(got, want) {
			t.Errorf("flags with %s give %+v, the file %+v", name, got, want)
		}
	}
}

func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--set", "auth.plain=true")
	for _, want := range []string{
		"carillon serves localhost", s.addrs["c2s"], s.addrs["c2s_tls"], s.addrs["http"], "SHA-256",
		"carillon user add romeo@localhost --data " + data, "port " + portOf(s.addrs["c2s"]),
	} {
		if want == "" || !strings.Contains(s.welcome, want) {
			t.Errorf("the welcome lacks %q:\n%s", want, s.welcome)
		}
	}
	if info, err := os.Stat(filepath.Join(data, "control.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v", err)
	}
	for path, want := range map[string]string{"/healthz": "ok\n", "/metrics": "carillon_store_commits_total"} {
		resp, err := http.Get("http://" + s.addrs["http"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v %s", path, err, body)
		}
	}
	refuse(t, fmt.Sprintf("runs on the data folder %s already, as process %d", data, os.Getpid()), "", "serve", "--data", data)
	refuse(t, "--c2s ", "", "serve", "--data", data+"2", "--c2s", s.addrs["c2s"], "--http", "off", "--c2s-tls", "off")

	must(t, "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	x := logIn(t, s.addrs["c2s_tls"], "romeo", "secret")
	if got := must(t, "", "user", "devices", "romeo@localhost", "--data", data); !strings.Contains(got, "phone") || !strings.Contains(got, "online") {
		t.Errorf("devices: %s", got)
	}
	must(t, "", "user", "remove", "romeo@localhost", "--data", data)
	x.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(x); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the session of a removed account did not end: %v", err)
	}
	x.Close()

	must(t, "secret\n", "user", "add", "juliet@localhost", "--data", data, "--password-stdin")
	if code := s.stop(); code != 0 {
		t.Errorf("code %d: %s", code, s.log)
	}
	if strings.Contains(s.log.String(), "secret") {
		t.Errorf("a password is in the log: %s", s.log)
	}

	if n := strings.Count(s.log.String(), "stopping"); n > 1 {
		t.Errorf("the end is logged %d times: %s", n, s.log)
	}

	// The same data, a second time.
	again := startServer(t, data)
	if !strings.Contains(again.welcome, "There are accounts") || strings.Contains(again.welcome, "Make an account") ||
		strings.Count(again.welcome, "\n") > strings.Count(s.welcome, "\n")-3 {
		t.Errorf("the welcome of a server with accounts:\n%s", again.welcome)
	}
	if fingerprint := s.welcome[strings.Index(s.welcome, "SHA-256"):][:120]; !strings.Contains(again.welcome, fingerprint) {
		t.Error("another certificate after a restart")
	}
	if got := must(t, "", "user", "list", "--data", data); got != "juliet@localhost\n" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestSystemd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	l.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 100)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("%q %v", b[:n], err)
	}
	s.stop()
}

func TestLogLevels(t *testing.T) {
	c := config.Default()
	c.LogLevel = "trace"
	for _, c.LogFormat = range []string{"text", "json"} {
		var b bytes.Buffer
		(&program{stderr: &b}).newLogger(c).Log(t.Context(), c2s.LevelTrace, "hello")
		if !strings.Contains(b.String(), "TRACE") {
			t.Errorf("%s: %s", c.LogFormat, &b)
		}
	}
	c.LogLevel = "warn"
	if (&program{stderr: io.Discard}).newLogger(c).Enabled(t.Context(), slog.LevelInfo) {
		t.Error("level warn logs info")
	}
}

// logIn logs in with direct TLS and PLAIN, binds the resource phone and sends presence.
func logIn(t *testing.T, addr, user, password string) net.Conn {
	t.Helper()
	x, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"}})
	if err != nil {
		t.Fatal(err)
	}
	x.SetDeadline(time.Now().Add(20 * time.Second))
	const header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>"
	auth := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	for _, step := range []struct{ send, until string }{
		{header, "</stream:features>"},
		{"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + auth + "</auth>", "<success"},
		{header, "</stream:features>"},
		{"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>phone</resource></bind></iq>", "</iq>"},
		// The answer to the ping shows that the presence has been handled.
		{"<presence/><iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "id='p'"},
	} {
		exchange(t, x, step.send, step.until)
	}
	return x
}

// exchange sends something and returns what came until the end that is waited for.
func exchange(t *testing.T, x net.Conn, send, until string) string {
	t.Helper()
	if _, err := io.WriteString(x, send); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 4096); !bytes.Contains(got, []byte(until)) && !bytes.Contains(got, []byte(strings.ReplaceAll(until, "'", `"`))); {
		n, err := x.Read(b)
		if err != nil {
			t.Fatalf("waiting for %s after %s: %v", until, got, err)
		}
		got = append(got, b[:n]...)
	}
	return string(got)
}

// TestDevices: a client is seen and ended while the server runs and while it doesn't.
func TestDevices(t *testing.T) {
	const phone, laptop = "d4565fa7-4d72-4749-b3d3-740edbf87770", "e4565fa7-4d72-4749-b3d3-740edbf87771"
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--set", "auth.plain=true")
	must(t, "secret\n", "user", "add", "romeo@localhost", "--data", data, "--password-stdin")
	logInAs := func(addr, client string) net.Conn {
		x, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"}})
		if err != nil {
			t.Fatal(err)
		}
		x.SetDeadline(time.Now().Add(20 * time.Second))
		exchange(t, x, "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>"+
			"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>"+base64.StdEncoding.EncodeToString([]byte("\x00romeo\x00secret"))+
			"</initial-response><user-agent id='"+client+"'><software>Rabbit</software></user-agent><bind xmlns='urn:xmpp:bind:0'>"+
			"<enable xmlns='urn:xmpp:sm:3' resume='true'/></bind></authenticate>", "</success>")
		return x
	}
	devices := func() (d admin.Devices) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, "", "user", "devices", "romeo@localhost", "--data", data, "--json")), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	x, y := logInAs(s.addrs["c2s_tls"], phone), logInAs(s.addrs["c2s_tls"], laptop)
	defer y.Close()
	// A login doesn't wait until it is written down which client it was.
	d := devices()
	for deadline := time.Now().Add(10 * time.Second); len(d.Clients) < 2 && time.Now().Before(deadline); d = devices() {
	}
	if len(d.Clients) != 2 || d.Clients[0].State != "connected" || d.Clients[0].Software != "Rabbit" || len(d.Sessions) != 2 || d.Sessions[0].Client == "" {
		t.Errorf("%+v", d)
	}
	refuse(t, "no client", "", "user", "devices", "romeo@localhost", "--data", data, "--end", "tablet")
	if got := must(t, "", "user", "devices", "romeo@localhost", "--data", data, "--end", phone); !strings.Contains(got, phone+" of romeo@localhost ended") {
		t.Error(got)
	}
	if rest, err := io.ReadAll(x); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(string(rest), "not-authorized") {
		t.Errorf("%s %v", rest, err)
	}
	x.Close()
	if code := s.stop(); code != 0 {
		t.Errorf("code %d: %s", code, s.log)
	}
	if d := devices(); len(d.Clients) != 1 || d.Clients[0].ID != laptop || d.Clients[0].State != "away" {
		t.Errorf("%+v", d)
	}
	must(t, "", "user", "devices", "romeo@localhost", "--data", data, "--end", laptop[:8])
	if d := devices(); len(d.Clients) != 0 {
		t.Errorf("%+v", d)
	}
	if got := must(t, "", "user", "devices", "--help"); !strings.Contains(got, "--end ID") || !strings.Contains(got, "carillon user devices romeo@localhost --end") {
		t.Error(got)
	}
}

func TestCheck(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"check", "--data", data, "--c2s", "127.0.0.1:0", "--c2s-tls", "127.0.0.1:0", "--http", "off"}
	if got := must(t, "", args...); !strings.Contains(got, "will be made at the first start") {
		t.Errorf("before the first start:\n%s", got)
	}
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Error("check made the data folder")
	}

	s := startServer(t, data)
	args = []string{"check", "--data", data, "--c2s", s.addrs["c2s"], "--c2s-tls", "off", "--http", s.addrs["http"]}
	got := must(t, "", args...)
	for _, want := range []string{" runs on " + data + " as process", s.addrs["c2s"] + " is the running server's", "self-signed"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}

	// The server's own ports are not taken, whatever it has them for.
	got = must(t, "", "check", "--data", data, "--c2s", s.addrs["c2s_tls"], "--c2s-tls", "off", "--http", s.addrs["http"])
	if want := "warning  c2s            the running server has " + s.addrs["c2s_tls"] + " for c2s_tls"; !strings.Contains(got, want) {
		t.Errorf("no %q in:\n%s", want, got)
	}

	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := os.Chmod(data, 0o755); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(data, "self-signed.crt")
	code, got, _ := carillon(t, "", "check", "--data", data, "--c2s", other.Addr().String(), "--c2s-tls", "127.0.0.1:0", "--http", "off",
		"--domain", "other.test", "--cert", self, "--key", filepath.Join(data, "self-signed.key"))
	for _, want := range []string{"ERROR    c2s ", "does not name other.test", "chmod 700", "-> "} {
		if code != 1 || !strings.Contains(got, want) {
			t.Errorf("code %d, no %q in:\n%s", code, want, got)
		}
	}
	_, got, _ = carillon(t, "", "check", "--data", data, "--s2s", "127.0.0.1:0", "--cert", self, "--key", filepath.Join(data, "self-signed.key"))
	if want := "does not name rooms.localhost: users of other servers may not get into the rooms there"; !strings.Contains(got, want) {
		t.Errorf("no %q in:\n%s", want, got)
	}
	code, got, _ = carillon(t, "", "check", "--data", data, "--cert", self, "--key", self)
	if code != 1 || !strings.Contains(got, "which must belong together") {
		t.Errorf("code %d:\n%s", code, got)
	}

	// Components: the listener, and the files with their secrets.
	dir := t.TempDir()
	open, empty := filepath.Join(dir, "open"), filepath.Join(dir, "empty")
	file := filepath.Join(dir, "carillon.toml")
	text := fmt.Sprintf("component = %q\n[components.\"a.test\"]\nsecret_file = %q\n[components.\"b.test\"]\nsecret_file = %q\n[components.\"c.test\"]\nsecret_file = %q\n",
		other.Addr(), open, empty, filepath.Join(dir, "gone"))
	for name, content := range map[string]string{file: text, open: "parrot\n", empty: "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, got, _ = carillon(t, "", append(args, "--config", file)...)
	for _, want := range []string{"ERROR    component      listen tcp", "warning  component      others may read the secret " + open, "ERROR    component      b.test: " + empty + " is empty",
		"ERROR    component      c.test: "} {
		if code != 1 || !strings.Contains(got, want) {
			t.Errorf("code %d, no %q in:\n%s", code, want, got)
		}
	}
	if strings.Contains(got, "parrot") {
		t.Error("the secret is told")
	}
	code, got, _ = carillon(t, "", "check", "--log-level", "x", "--set", "limits.depth=0")
	if code != 1 || strings.Count(got, "ERROR    configuration") != 2 {
		t.Errorf("code %d:\n%s", code, got)
	}
}

func TestPublicDomain(t *testing.T) {
	for domain, want := range map[string]bool{
		"example.org": true, "localhost": false, "a.localhost": false, "server": false, "host.local": false, "192.0.2.1": false, "[2001:db8::1]": false,
	} {
		if config.Public(domain) != want {
			t.Errorf("%s: want %v", domain, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"user"}, {"help", "serve"}, {"user", "add", "--help"}, {"version"}, {"completion", "bash"}} {
		if got := must(t, "", args...); len(got) < 20 {
			t.Errorf("%v: %q", args, got)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"a/b": "a/b", "": "''", "a b": "'a b'", "it's": `'it'\''s'`} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// TestEveryCallIsACommand, under the words of its name.
func TestEveryCallIsACommand(t *testing.T) {
	for _, call := range admin.Calls() {
		if got := must(t, "", append(strings.Fields(call.Name), "--help")...); !strings.Contains(got, "carillon "+call.Name+" ") {
			t.Errorf("%s: its help is\n%s", call.Name, got)
		}
	}
}
