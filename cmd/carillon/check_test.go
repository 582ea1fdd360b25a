package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/server/config"
)

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
