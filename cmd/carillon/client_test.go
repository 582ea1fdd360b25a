package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// clientWorld is a server with accounts, and the flags with which the client's commands reach it.
type clientWorld struct {
	*running
	data  string
	flags []string
}

func newClientWorld(t *testing.T, names ...string) *clientWorld {
	t.Helper()
	return newClientWorldOn(t, nil, names...)
}

// newClientWorldOn is newClientWorld on a server with more flags.
func newClientWorldOn(t *testing.T, serve []string, names ...string) *clientWorld {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	data := filepath.Join(t.TempDir(), "server")
	s := startServer(t, data, serve...)
	for _, name := range names {
		must(t, "secret", "user", "add", name+"@localhost", "--password-stdin", "--data", data)
	}
	sha := regexp.MustCompile(`SHA-256 (\S+)`).FindStringSubmatch(s.welcome)
	if sha == nil {
		t.Fatalf("no fingerprint: %s", s.welcome)
	}
	return &clientWorld{s, data, []string{"--server", s.addrs["c2s"], "--trust", sha[1], "--data", t.TempDir()}}
}

// as are the flags of an account.
func (w *clientWorld) as(name string, more ...string) []string {
	return append(append([]string{"--account", name + "@localhost"}, w.flags...), more...)
}

// lines runs "listen" and gives its lines until the test ends.
func (w *clientWorld) listen(t *testing.T, args ...string) (next func() map[string]any, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var stderr strings.Builder
	go func() {
		defer close(done)
		p := &program{stdin: stdin, stdout: in, stderr: &stderr, name: "carillon"}
		if code := p.run(ctx, append([]string{"listen", "--json"}, args...)); code != 0 {
			t.Errorf("listen: code %d, %s", code, &stderr)
		}
		in.Close()
	}()
	stop = func() {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, out) }()
		<-done
		stdin.Close()
	}
	t.Cleanup(stop)
	lines := bufio.NewScanner(out)
	return func() map[string]any {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("listen ended: %s", &stderr)
		}
		var m map[string]any
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		return m
	}, stop
}

// TestSendAndListen: what send was told arrives, once, also what was sent while nobody listened; the password is needed once.
func TestSendAndListen(t *testing.T) {
	w := newClientWorld(t, "romeo", "juliet")
	must(t, "secret", append([]string{"send", "juliet@localhost", "before anybody listened"}, w.as("romeo", "--password-stdin")...)...)
	refuse(t, "standard input is none", "", append([]string{"listen"}, w.as("juliet")...)...)
	// The first run is for the token, and for what is the past.
	first, stop := w.listenFirst(t)
	must(t, "one\ntwo\n", append([]string{"send", "juliet@localhost"}, w.as("romeo")...)...)
	m := first()
	if m["event"] != "message" || m["body"] != "one\ntwo" || m["own"] != false || m["conversation"] != "romeo@localhost" || m["id"] == "" || m["thread"] == "" {
		t.Errorf("line: %v", m)
	}
	if at, err := time.Parse(time.RFC3339, m["time"].(string)); err != nil || time.Since(at) > time.Hour {
		t.Errorf("time: %v", m["time"])
	}
	stop()
	must(t, "", append([]string{"send", "juliet@localhost", "while away"}, w.as("romeo")...)...)
	again, stop := w.listen(t, w.as("juliet")...)
	if m := again(); m["event"] != "message" || m["body"] != "while away" {
		t.Errorf("line: %v", m)
	}
	refuse(t, "another carillon runs as the device listen of juliet@localhost: choose", "", append([]string{"listen"}, w.as("juliet")...)...)
	// What the account itself says on another device is heard too.
	must(t, "secret", append([]string{"send", "romeo@localhost", "mine"}, w.as("juliet", "--password-stdin")...)...)
	if m := again(); m["body"] != "mine" || m["own"] != true || m["conversation"] != "romeo@localhost" {
		t.Errorf("line: %v", m)
	}
	// Several recipients, of which one isn't there; a thread goes on from one run to the next.
	for _, text := range []string{"disk full", "disk empty"} {
		code, _, stderr := carillon(t, "", append([]string{"send", "nobody@localhost", text, "--also", "juliet@localhost", "--thread", "disks"}, w.as("romeo")...)...)
		if code != 1 || !strings.Contains(stderr, "nobody@localhost didn't get") || strings.Contains(stderr, "juliet@localhost didn't") {
			t.Errorf("code %d: %s", code, stderr)
		}
		if m := again(); m["body"] != text || m["thread"] != "disks" {
			t.Errorf("line: %v", m)
		}
	}
	stop()
	for _, file := range []string{"romeo@localhost/send/romeo@localhost.json", "juliet@localhost/listen/history.db", "juliet@localhost/server.pem"} {
		if i, err := os.Stat(filepath.Join(w.flags[5], file)); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, i, err)
		}
	}
}

// listenFirst is listen with the password, when it is ready.
func (w *clientWorld) listenFirst(t *testing.T) (func() map[string]any, func()) {
	t.Helper()
	// A run that only logs in: its context ends when the place is known.
	ctx, cancel := context.WithCancel(t.Context())
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := in.WriteString("secret"); err != nil {
		t.Fatal(err)
	}
	in.Close()
	place := filepath.Join(w.flags[5], "juliet@localhost", "listen", "listened")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(place); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var stdout, stderr strings.Builder
	p := &program{stdin: r, stdout: &stdout, stderr: &stderr, name: "carillon"}
	if code := p.run(ctx, append([]string{"listen", "--json"}, w.as("juliet", "--password-stdin")...)); code != 0 || stdout.String() != "" {
		t.Fatalf("code %d: %s%s", code, &stdout, &stderr)
	}
	return w.listen(t, w.as("juliet")...)
}

// TestClientErrors: what can be wrong with a login says what to do.
func TestClientErrors(t *testing.T) {
	w := newClientWorld(t, "romeo", "juliet")
	send := func(args ...string) []string { return append([]string{"send", "juliet@localhost", "hello"}, args...) }
	refuse(t, "as whom?", "", send()...)
	refuse(t, "wanted name@domain", "", send("--account", "romeo")...)
	refuse(t, "wanted HOST:PORT", "", send("--account", "romeo@localhost", "--server", "localhost")...)
	refuse(t, "64 hexadecimal digits", "", send("--account", "romeo@localhost", "--trust", "12:34")...)
	refuse(t, "there is no text", "", append([]string{"send", "juliet@localhost"}, w.as("romeo")...)...)
	refuse(t, "standard input has the password", "secret", append([]string{"send", "juliet@localhost"}, w.as("romeo", "--password-stdin")...)...)
	refuse(t, "a short name such as desk", "", send(w.as("romeo", "--device", "a/b")...)...)
	refuse(t, "the password is wrong", "wrong", send(w.as("romeo", "--password-stdin")...)...)
	refuse(t, "the password is empty", "\n", send(w.as("romeo", "--password-stdin")...)...)
	refuse(t, "nobody@localhost didn't get the message: no such account, or refused", "secret",
		append([]string{"send", "nobody@localhost", "hello"}, w.as("romeo", "--password-stdin")...)...)
	refuse(t, "send to whom?", "", append([]string{"send"}, w.as("romeo")...)...)
	refuse(t, "quote a text", "", append([]string{"send", "juliet@localhost", "one", "two"}, w.as("romeo")...)...)
	refuse(t, "wanted a word", "", append([]string{"send", "juliet@localhost", "one", "--thread", "two words"}, w.as("romeo")...)...)
	refuse(t, "recipient 'two words': wanted name@domain", "", append([]string{"send", "juliet@localhost", "one", "--also", "two words"}, w.as("romeo")...)...)
	refuse(t, "chat needs a terminal", "", append([]string{"chat", "romeo@localhost"}, w.flags...)...)
	refuse(t, "chat needs a terminal", "", "chat", "--demo")

	sha := w.flags[3]
	untrusted := []string{"--account", "romeo@localhost", "--server", w.addrs["c2s"], "--data", t.TempDir(), "--password-stdin"}
	refuse(t, "--trust "+sha, "secret", send(untrusted...)...)
	other := strings.Repeat("00:", 31) + "00"
	refuse(t, "not the one to trust", "secret", send(append(untrusted, "--trust", other)...)...)
	// Once trusted it is remembered, here with TLS from the first byte; another fingerprint is another order.
	untrusted[3] = "tls://" + w.addrs["c2s_tls"]
	must(t, "secret", send(append(untrusted[:len(untrusted):len(untrusted)], "--trust", strings.ToLower(strings.ReplaceAll(sha, ":", "")))...)...)
	must(t, "secret", send(untrusted...)...)
	refuse(t, "not the one to trust", "secret", send(append(untrusted, "--trust", other)...)...)

	w.stop()
	code, _, stderr := carillon(t, "", send(w.as("romeo", "--password-stdin")...)...)
	if code != 1 { // the password is read first
		t.Errorf("code %d: %s", code, stderr)
	}
	code, _, stderr = carillon(t, "secret", send(w.as("romeo", "--password-stdin")...)...)
	if code != codeTemporary || !strings.Contains(stderr, "can't be used") {
		t.Errorf("code %d: %s", code, stderr)
	}
}

// TestClientConfig: the account, the server and the certificate can stand in the environment or in a file.
func TestClientConfig(t *testing.T) {
	w := newClientWorld(t, "romeo", "juliet")
	file := filepath.Join(t.TempDir(), "client.toml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("account = \"romeo@localhost\"\nserver = \"" + w.addrs["c2s"] + "\"\ntrust = \"" + w.flags[3] + "\"\ndata = \"" + t.TempDir() + "\"\n")
	must(t, "secret", "send", "juliet@localhost", "hello", "--client-config", file, "--password-stdin")
	t.Setenv("CARILLON_ACCOUNT", "nobody@localhost")
	refuse(t, "nobody@localhost: the password is wrong, or there is no such account", "secret", "send", "juliet@localhost", "hello", "--client-config", file, "--password-stdin")
	must(t, "", "send", "juliet@localhost", "hello", "--client-config", file, "--account", "romeo@localhost")
	write("acount = \"romeo@localhost\"\n")
	refuse(t, "keys are account", "", "send", "juliet@localhost", "hello", "--client-config", file)
	refuse(t, "no such file", "", "send", "juliet@localhost", "hello", "--client-config", file+"x")
}
