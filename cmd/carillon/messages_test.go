package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplainAndTrace run against a server; without one they say so.
func TestExplainAndTrace(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	refuse(t, "no server runs", "", "explain", "--data", data, "--from", "a@localhost", "--to", "b@localhost")
	refuse(t, "no server runs", "", "trace", "a@localhost", "--data", data)
	refuse(t, "explain needs --to", "", "explain", "--data", data, "--from", "a@localhost")
	refuse(t, "trace needs ACCOUNT", "", "trace", "--data", data)

	s := startServer(t, data)
	defer s.stop()
	for _, name := range []string{"romeo", "juliet"} {
		must(t, "secret\n", "user", "add", name+"@localhost", "--password-stdin", "--data", data)
	}
	file := filepath.Join(t.TempDir(), "message.xml")
	request := filepath.Join(t.TempDir(), "iq.xml")
	if err := os.WriteFile(request, []byte("<iq type='get'/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("<message id='m'><im-ng xmlns='urn:xmpp:im-ng:0'/></message>\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, want string }{
		{"--from romeo@localhost/r --to juliet@localhost", "R-CONV-6"},
		{"--from romeo@localhost/r --to juliet@localhost/x " + file, "R-INT-3"},
		{"--from romeo@localhost/r --profile v2 --to juliet@localhost/x", "R-INT-4"},
		{"--from who@elsewhere.example --to juliet@localhost/x --type groupchat", "R-INT-5"},
		{"--from romeo@localhost --to who@elsewhere.example", "remote-server-not-found"},
	} {
		if got := must(t, "", append([]string{"explain", "--data", data}, strings.Fields(tc.args)...)...); !strings.Contains(got, tc.want) {
			t.Errorf("%s: no %q in\n%s", tc.args, tc.want, got)
		}
	}
	got := must(t, "<message type='headline'/>", "explain", "--data", data, "--from", "romeo@localhost", "--to", "juliet@localhost", "--json", "-")
	var e struct {
		Sides []struct {
			Side string
			Type string
			Rule struct{ Rule string } `json:"intent_rule"`
		}
	}
	if err := json.Unmarshal([]byte(got), &e); err != nil || len(e.Sides) != 2 || e.Sides[1].Side != "recipient" || e.Sides[1].Type != "headline" || e.Sides[1].Rule.Rule != "R-INT-2" {
		t.Errorf("%v, %s", err, got)
	}
	for args, want := range map[string]string{
		"--from romeo@@ --to juliet@localhost":                     "--from",
		"--from a@x.example --to b@y.example":                      "neither x.example nor y.example is a domain of this server",
		"--from a@x.example --to b@x.example":                      "carillon: x.example is no domain of this server",
		"--from romeo@localhost --to juliet@localhost --profile x": "a profile is",
		"--from romeo@localhost --to juliet@localhost --type x":    "a message's type is",
		"--from romeo@localhost --to juliet@localhost /dev/null":   "is empty",
		"--from romeo@localhost --to juliet@localhost " + request:  "it is <iq/>",
		"--from rome@localhost --to juliet@localhost":              "there is no account rome@localhost",
	} {
		refuse(t, want, "", append([]string{"explain", "--data", data}, strings.Fields(args)...)...)
	}
	if got := must(t, "", "trace", "juliet@localhost", "--data", data); !strings.Contains(got, "nothing is known of juliet@localhost") {
		t.Errorf("explaining left a trace: %s", got)
	}
	refuse(t, "there is no account julia@localhost", "", "trace", "julia@localhost", "--data", data)
	refuse(t, "there is no account julia@localhost", "", "trace", "julia@localhost", "--data", data, "--follow")
	refuse(t, "elsewhere.example is no domain of this server", "", "trace", "who@elsewhere.example", "--data", data)
	for _, n := range []string{"0", "x"} {
		refuse(t, `--last "`+n+`": a number of messages from 1 on`, "", "trace", "juliet@localhost", "--data", data, "--last", n)
	}
}

// TestTraceFollow: what happens later is told once, a block for each message.
func TestTraceFollow(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--set", "auth.plain=true")
	for _, name := range []string{"romeo", "juliet"} {
		must(t, "secret\n", "user", "add", name+"@localhost", "--password-stdin", "--data", data)
	}
	x := logIn(t, s.addrs["c2s_tls"], "romeo", "secret")
	defer x.Close()
	send := func(id string) {
		t.Helper()
		exchange(t, x, "<message to='juliet@localhost' type='chat' id='"+id+"'><body>secret words</body></message><iq type='get' id='p"+id+"' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
			"id='p"+id+"'")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		p := &program{stdin: os.Stdin, stdout: in, stderr: io.Discard, name: "carillon"}
		code <- p.run(ctx, []string{"trace", "juliet@localhost", "--follow", "--data", data})
		in.Close()
	}()
	var seen strings.Builder
	lines := bufio.NewScanner(out)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			seen.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("no %q in\n%s", want, &seen)
	}
	until("nothing is known")
	send("m1")
	until("id m1")
	until("can be claimed")
	send("m2")
	until("id m2")
	until("can be claimed")
	cancel()
	for lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
	}
	if c := <-code; c != 0 || strings.Count(seen.String(), "id m") != 2 || strings.Count(seen.String(), "\n\n") != 2 || strings.Contains(seen.String(), "secret") {
		t.Errorf("code %d:\n%s", c, &seen)
	}
	s.stop()
	if n := strings.Count(s.log.String(), "call=trace"); n != 1 {
		t.Errorf("who follows is in the log %d times", n)
	}
}
