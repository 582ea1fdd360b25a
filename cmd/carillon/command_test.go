package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"carillon.im/server/admin"
)

// TestMain fails if a test leaves goroutines behind.
func TestMain(m *testing.M) {
	if os.Getenv("CARILLON_TEST_MAIN") != "" { // the terminal tests start this binary as the program
		main()
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before+1; runtime.Gosched() { // signal.Notify keeps one
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
