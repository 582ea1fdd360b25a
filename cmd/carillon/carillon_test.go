package main

import (
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/server"
	"carillon.im/server/admin"
)

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
