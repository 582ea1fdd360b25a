package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/feature"
	"carillon.im/server/store"
)

// TestMain fails if a test leaves goroutines behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left:\n%s", stacks[:runtime.Stack(stacks, true)])
			code = 1
			break
		}
	}
	os.Exit(code)
}

// newHost returns a Host on a store in memory, and its log.
func newHost(t *testing.T) (*Host, *strings.Builder) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	log := &strings.Builder{}
	return &Host{
		Store: s, Domains: []string{"localhost", "example.org"}, Iterations: sasl.MinIterations,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}, log
}

func mustCall(t *testing.T, h *Host, name string, args map[string]string) Result {
	t.Helper()
	r, err := h.Call(t.Context(), name, args)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

func TestUserCalls(t *testing.T) {
	h, log := newHost(t)
	ctx, romeo := t.Context(), jid.MustParse("romeo@localhost")
	mustCall(t, h, "user add", map[string]string{"jid": "Romeo@localhost", "password": "first secret"})
	hashes := []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512}
	salts := make(map[string]bool)
	for _, hash := range hashes {
		k, _, err := h.Store.Keys(ctx, romeo, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !k.VerifyPassword("first secret") || k.VerifyPassword("other") || k.Iterations != h.Iterations {
			t.Errorf("%v: the keys are not the password's", hash)
		}
		salts[string(k.Salt)] = true
	}
	if len(salts) != len(hashes) {
		t.Error("hashes share a salt")
	}

	mustCall(t, h, "user passwd", map[string]string{"jid": "romeo@localhost", "password": "second secret"})
	if k, _, err := h.Store.Keys(ctx, romeo, sasl.SHA256); err != nil || !k.VerifyPassword("second secret") || k.VerifyPassword("first secret") {
		t.Errorf("password not changed: %v", err)
	}

	mustCall(t, h, "user add", map[string]string{"jid": "juliet@example.org", "password": "x"})
	if got := mustCall(t, h, "user list", nil).Text; got != "juliet@example.org\nromeo@localhost\n" && got != "romeo@localhost\njuliet@example.org\n" {
		t.Errorf("list: %q", got)
	}
	if got := mustCall(t, h, "user list", map[string]string{"domain": "Example.ORG"}); got.Text != "juliet@example.org\n" || len(got.Data.([]Account)) != 1 {
		t.Errorf("list of a domain: %+v", got)
	}
	if got := mustCall(t, h, "user devices", map[string]string{"jid": "romeo@localhost"}).Text; !strings.Contains(got, "has not logged in yet") {
		t.Errorf("devices: %q", got)
	}

	mustCall(t, h, "user remove", map[string]string{"jid": "romeo@localhost"})
	if _, _, err := h.Store.Keys(ctx, romeo, sasl.SHA256); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), `call="user add"`) {
		t.Errorf("log: %s", log)
	}
}

func TestUserErrors(t *testing.T) {
	h, _ := newHost(t)
	mustCall(t, h, "user add", map[string]string{"jid": "romeo@localhost", "password": "x"})
	for _, tt := range []struct {
		call string
		args map[string]string
		want string
	}{
		{"user add", map[string]string{"jid": "romeo@localhost", "password": "x"}, "exists already"},
		{"user add", map[string]string{"jid": "romeo@elsewhere.example", "password": "x"}, "domains are localhost, example.org"},
		{"user add", map[string]string{"jid": "romeo", "password": "x"}, "wanted name@domain"},
		{"user add", map[string]string{"jid": "romeo@localhost/phone", "password": "x"}, "wanted name@domain"},
		{"user add", map[string]string{"jid": "ro meo@localhost", "password": "x"}, "is no address"},
		{"user add", map[string]string{"jid": "other@localhost", "password": ""}, "not a usable password"},
		{"user add", map[string]string{"jid": "other@localhost"}, "PASSWORD is missing"},
		{"user add", map[string]string{"jid": "other@localhost", "password": "x", "colour": "red"}, "unknown argument"},
		{"user passwd", map[string]string{"jid": "other@localhost", "password": "x"}, "there is no account other@localhost"},
		{"user remove", map[string]string{"jid": "other@localhost"}, "there is no account"},
		{"user devices", map[string]string{"jid": "other@localhost"}, "there is no account"},
		{"user list", map[string]string{"domain": "a@b"}, "is no domain"},
		{"user promote", nil, "no call"},
	} {
		if _, err := h.Call(t.Context(), tt.call, tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %v: got %v, want %s", tt.call, tt.args, err, tt.want)
		}
	}
}

func TestCallsAreComplete(t *testing.T) {
	for _, c := range Calls() {
		if c.Help == "" || c.Long == "" || c.Example == "" || c.run == nil {
			t.Errorf("%s lacks something", c.Name)
		}
		optional := false
		for _, a := range c.Args {
			if a.Help == "" || optional && !a.Optional {
				t.Errorf("%s: argument %s", c.Name, a.Name)
			}
			optional = a.Optional
		}
	}
}

func TestDeviceTable(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	devices := mergeDevices(
		[]feature.SessionInfo{
			{JID: jid.MustParse("romeo@localhost/phone"), Available: true, Priority: 5, Resumable: true, Since: at, Address: "192.0.2.1:4711", Queued: 12},
			{JID: jid.MustParse("romeo@localhost/desk"), Since: at},
			{JID: jid.MustParse("romeo@localhost/old"), Available: true, Detached: true, Resumable: true, Since: at},
		},
		[]store.SessionRow{
			{Resource: "phone", Client: "Phony\x1b[2J", Address: "192.0.2.1:1", At: at},
			{Resource: "gone", Client: "Gajim", Address: "192.0.2.2:1", At: at.Add(-time.Hour), Online: true},
			{Resource: "later", At: at.Add(-time.Minute)},
		})
	var got []string
	for _, d := range devices {
		got = append(got, d.Resource+" "+d.State)
	}
	if want := "desk connected, old waiting, phone online, later last seen, gone last seen"; strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	table := deviceTable(devices)
	if strings.Contains(table, "\x1b") || !strings.Contains(table, "Phony\uFFFD[2J") || strings.Count(table, "\n") != 6 {
		t.Errorf("table:\n%s", table)
	}
}

func openControl(t *testing.T, dir string) *Host {
	t.Helper()
	h, _ := newHost(t)
	c, err := OpenControl(dir, h, func() Status {
		return Status{PID: os.Getpid(), Version: "test", Listening: map[string]string{"c2s": "127.0.0.1:5222"}}
	}, h.Log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, controlSocket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket left behind: %v", err)
		}
	})
	return h
}

func TestControl(t *testing.T) {
	dir := t.TempDir()
	// What a server that was killed leaves behind.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, controlSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if _, _, err := Connect(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dead socket: %v", err)
	}

	h := openControl(t, dir)
	info, err := os.Stat(filepath.Join(dir, controlSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("more than the socket is left: %v %v", files, err)
	}
	c, status, err := Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if status.PID != os.Getpid() || status.Listening["c2s"] != "127.0.0.1:5222" {
		t.Errorf("status %+v", status)
	}
	r, err := c.Call(t.Context(), "user add", map[string]string{"jid": "romeo@localhost", "password": "x"})
	if err != nil || r.Text != "account romeo@localhost made\n" {
		t.Errorf("%+v, %v", r, err)
	}
	if k, _, err := h.Store.Keys(t.Context(), jid.MustParse("romeo@localhost"), sasl.SHA1); err != nil || !k.VerifyPassword("x") {
		t.Error("not in the server's store")
	}
	if _, err := c.Call(t.Context(), "user add", map[string]string{"jid": "romeo@localhost", "password": "x"}); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("the second time: %v", err)
	}
	r, err = c.Call(t.Context(), "user list", nil)
	if err != nil || len(r.Data.([]any)) != 1 {
		t.Errorf("list: %+v, %v", r, err)
	}
	if _, err := c.Call(t.Context(), "user add", map[string]string{"jid": "other@localhost", "password": strings.Repeat("x", maxRequest)}); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a request beyond the bound: %v", err)
	}
}

// TestExplainedMessageIsBounded: as a client's stanza is.
func TestExplainedMessageIsBounded(t *testing.T) {
	args := map[string]string{"from": "romeo@localhost", "to": "juliet@localhost"}
	for _, tt := range []struct {
		bytes int
		ok    bool
	}{{100, true}, {maxExplained, true}, {maxExplained + 1, false}} {
		const around = len("<message><body></body></message>")
		args["xml"] = "<message><body>" + strings.Repeat("x", tt.bytes-around) + "</body></message>"
		if _, err := explainedMessage(args); (err == nil) != tt.ok {
			t.Errorf("a message of %d bytes: %v", tt.bytes, err)
		}
	}
}

func TestControlLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" {
		_, err := listenControl(dir)
		if err == nil || !strings.Contains(err.Error(), "--data") {
			t.Errorf("got %v", err)
		}
		return
	}
	openControl(t, dir)
	if _, _, err := Connect(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

func TestConnectNothing(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/nowhere"} {
		if _, _, err := Connect(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func get(t *testing.T, h http.Handler, path, from string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

const here, elsewhere = "127.0.0.1:40000", "192.0.2.1:40000"

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fault error
		asked := 0
		h, err := Handler(Pages{Health: func(context.Context) error { asked++; return fault }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, h, "/healthz", elsewhere); code != http.StatusOK || body != "ok\n" {
			t.Errorf("%d %q", code, body)
		}
		fault = store.ErrFull
		if code, _ := get(t, h, "/healthz", elsewhere); code != http.StatusOK || asked != 1 {
			t.Errorf("asked %d times within a second", asked)
		}
		time.Sleep(healthFresh)
		if code, body := get(t, h, "/healthz", elsewhere); code != http.StatusServiceUnavailable || !strings.Contains(body, "disk full") {
			t.Errorf("%d %q", code, body)
		}
		fault = nil
		time.Sleep(healthFresh)
		if code, _ := get(t, h, "/healthz", elsewhere); code != http.StatusOK {
			t.Errorf("not well again: %d", code)
		}
	})
}

func TestHealthOfStore(t *testing.T) {
	h, _ := newHost(t)
	pages, err := Handler(Pages{Health: h.Store.Check, Sources: []Source{{Prefix: "carillon_store", Read: func() any { return h.Store.Stats() }}}, Log: h.Log})
	if err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, pages, "/healthz", here); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	mustCall(t, h, "user add", map[string]string{"jid": "romeo@localhost", "password": "x"})
	_, body := get(t, pages, "/metrics", here)
	for _, want := range []string{"\ncarillon_store_commits_total ", "\ncarillon_store_queued 0\n", "\ncarillon_store_last_commit_seconds ", "\ngo_goroutines "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestProfiling(t *testing.T) {
	for _, tt := range []struct {
		on   bool
		from string
		want int
	}{{false, here, http.StatusNotFound}, {true, here, http.StatusOK}, {true, "[::1]:1", http.StatusOK}, {true, elsewhere, http.StatusForbidden}} {
		h, err := Handler(Pages{Profiling: tt.on, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if code, _ := get(t, h, "/debug/pprof/goroutine?debug=1", tt.from); code != tt.want {
			t.Errorf("%+v: %d", tt, code)
		}
	}
}

func TestMetrics(t *testing.T) {
	type counters struct {
		StanzasIn     uint64
		TLSHandshakes atomic.Uint64
		BytesOut      atomic.Int64
		Open          atomic.Int64
		Sessions      int
		LastCommit    time.Duration
		Load          float64
		Failures      map[string]uint64 `label:"reason" help:"Logins that failed."`
		Name          string
		hidden        uint64
	}
	c := &counters{StanzasIn: 3, Sessions: 2, LastCommit: 1500 * time.Millisecond, Load: 0.5, Failures: map[string]uint64{"not-authorized": 7}, hidden: 1}
	c.TLSHandshakes.Store(4)
	c.BytesOut.Store(5)
	c.Open.Store(6)
	h, err := Handler(Pages{Sources: []Source{{Prefix: "x", Read: func() any { return c }, Gauges: []string{"Open"}}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	_, body := get(t, h, "/metrics", elsewhere)
	var got []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "x_") || strings.HasPrefix(line, "# TYPE x_") || strings.HasPrefix(line, "# HELP x_failures") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		"# TYPE x_bytes_out_total counter", "x_bytes_out_total 5",
		"# HELP x_failures_total Logins that failed.", "# TYPE x_failures_total counter", `x_failures_total{reason="not-authorized"} 7`,
		"# TYPE x_last_commit_seconds gauge", "x_last_commit_seconds 1.5",
		"# TYPE x_load gauge", "x_load 0.5",
		"# TYPE x_open gauge", "x_open 6",
		"# TYPE x_sessions gauge", "x_sessions 2",
		"# TYPE x_stanzas_in_total counter", "x_stanzas_in_total 3",
		"# TYPE x_tls_handshakes_total counter", "x_tls_handshakes_total 4",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestResultJSON(t *testing.T) {
	b, err := json.Marshal(callAnswer{Result: Result{Text: "a"}})
	if err != nil || string(b) != `{"text":"a"}` {
		t.Errorf("%s %v", b, err)
	}
}

func BenchmarkDeriveKeys(b *testing.B) {
	h := &Host{Iterations: 10000}
	for b.Loop() {
		if _, err := h.DeriveKeys("correct horse battery staple"); err != nil {
			b.Fatal(err)
		}
	}
}
