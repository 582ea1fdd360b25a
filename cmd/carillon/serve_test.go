package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/server/c2s"
	"carillon.im/server/config"
)

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
