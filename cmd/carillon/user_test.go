package main

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/server/admin"
)

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
