package cert

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a time that the test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)} }

func open(t *testing.T, c *clock, log *bytes.Buffer, o Options) *Source {
	t.Helper()
	o.Log, o.Now = slog.New(slog.NewTextHandler(log, nil)), c.Now
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shown(t *testing.T, s *Source, name string) *x509.Certificate {
	t.Helper()
	c, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c, log := newClock(), &bytes.Buffer{}
	o := Options{Dir: dir, Domains: []string{"localhost", "bücher.example", "192.0.2.1"}}
	s := open(t, c, log, o)
	leaf := shown(t, s, "localhost")
	for _, name := range []string{"localhost", "xn--bcher-kva.example", "192.0.2.1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range o.Domains {
		if !xmppAddrs(leaf)[name] {
			t.Errorf("no XMPP address %s", name)
		}
	}
	info := s.Info()
	if len(info) != 1 || !info[0].SelfSigned || len(info[0].Missing) != 0 || info[0].SHA256 != Fingerprint(leaf) || len(info[0].SHA256) != 95 {
		t.Errorf("info: %+v", info)
	}
	for name, mode := range map[string]os.FileMode{keyFile: 0o600, certFile: 0o644} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v %v", name, fi.Mode(), err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log)
	}

	again := shown(t, open(t, c, log, o), "localhost")
	if !again.Equal(leaf) {
		t.Error("a second start made another certificate")
	}

	// One for more domains than are served does no harm.
	o.Domains = []string{"localhost"}
	if fewer := shown(t, open(t, c, log, o), "localhost"); !fewer.Equal(leaf) {
		t.Error("fewer domains: another certificate was made")
	}
	if found := Inspect(o); len(found) != 1 || found[0].Made || found[0].Err != nil {
		t.Errorf("inspected: %+v", found)
	}

	// New domains need another one, with the same key: who pinned it notices nothing. It is for those of before too, which may come back.
	o.Domains = []string{"new.example"}
	o.Now = c.Now
	if found := Inspect(o); len(found) != 1 || !found[0].Made || found[0].SHA256 != Fingerprint(leaf) || len(found[0].Missing) != 1 || found[0].Err != nil {
		t.Errorf("inspected: %+v", found)
	}
	more := shown(t, open(t, c, log, o), "new.example")
	if more.Equal(leaf) || !bytes.Equal(more.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("other domains: wanted a new certificate of the same key")
	}
	if named := xmppAddrs(more); len(named) != 4 || !named["localhost"] || !named["new.example"] {
		t.Errorf("the new certificate names %v", named)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "does not name new.example") || !strings.Contains(text, Fingerprint(more)) {
		t.Errorf("of another fingerprint the log says: %s", text)
	}
	if more.Subject.CommonName != "new.example" {
		t.Errorf("the new certificate is called %s", more.Subject.CommonName)
	}

	c.now = more.NotAfter.Add(-WarnBefore + time.Second)
	if found := Inspect(o); len(found) != 1 || !found[0].Made {
		t.Errorf("inspected: %+v", found)
	}
	if late := shown(t, open(t, c, log, o), "localhost"); !late.NotAfter.After(more.NotAfter) {
		t.Error("a certificate about to end was not replaced at start")
	}
	if !strings.Contains(log.String(), "ends on "+more.NotAfter.Format(time.DateOnly)) {
		t.Errorf("of another fingerprint the log says: %s", log)
	}
}

// TestSelfSignedIsBounded: what was served once doesn't make it grow for ever; what is served is in it.
func TestSelfSignedIsBounded(t *testing.T) {
	dir, log := t.TempDir(), &bytes.Buffer{}
	for round := range 3 {
		o := Options{Dir: dir}
		for i := range 60 {
			o.Domains = append(o.Domains, fmt.Sprintf("d%d.r%d.example", i, round))
		}
		leaf := shown(t, open(t, newClock(), log, o), "")
		named := xmppAddrs(leaf)
		if want := min(60*(round+1), maxNames); len(named) != want || len(missing(leaf, o.Domains)) > 0 {
			t.Errorf("round %d: %d names, want %d", round, len(named), want)
		}
	}
}

func TestSelfSignedBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, Domains: []string{"localhost"}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("got %v", err)
	}
}

// TestSelfSignedTrusted shows that a client which was told to trust the certificate accepts it: Go's and, if it is installed, OpenSSL's verification.
func TestSelfSignedTrusted(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir, Domains: []string{"localhost"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(shown(t, s, ""))
	here, there := net.Pipe()
	server := tls.Server(here, &tls.Config{GetCertificate: s.GetCertificate})
	result := make(chan error, 1)
	go func() { result <- server.Handshake() }()
	client := tls.Client(there, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err := client.Handshake(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	here.Close()
	there.Close()

	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	file := filepath.Join(dir, certFile)
	if out, err := exec.Command(openssl, "verify", "-purpose", "sslserver", "-verify_hostname", "localhost", "-CAfile", file, file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// makePair writes a pair of files for a domain.
func makePair(t *testing.T, dir, domain string) Pair {
	t.Helper()
	if err := ensureSelfSigned(dir, []string{domain}, newClock().now, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return selfSignedPair(dir)
}

func TestReload(t *testing.T) {
	root := t.TempDir()
	c, log := newClock(), &bytes.Buffer{}
	p := makePair(t, filepath.Join(root, "a"), "a.example")
	next := makePair(t, filepath.Join(root, "b"), "a.example")
	s := open(t, c, log, Options{Domains: []string{"a.example"}, Default: p})
	old := shown(t, s, "a.example")

	copyFile(t, next.Cert, p.Cert)
	if !shown(t, s, "a.example").Equal(old) {
		t.Error("looked again at once")
	}
	// The certificate without its key: the old pair stays and the log says so once, however many connect.
	for range 3 {
		c.now = c.now.Add(lookEvery)
		if !shown(t, s, "a.example").Equal(old) {
			t.Error("a certificate without its key is shown")
		}
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), p.Cert) {
		t.Errorf("Reload: %v", err)
	}

	copyFile(t, next.Key, p.Key)
	c.now = c.now.Add(lookEvery)
	if got := shown(t, s, "a.example"); got.Equal(old) {
		t.Error("the new pair is not shown")
	}

	// Gone altogether: the one in memory stays.
	log.Reset()
	for _, name := range []string{p.Cert, p.Key} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		c.now = c.now.Add(lookEvery)
		shown(t, s, "a.example")
	}
	if n := strings.Count(log.String(), "the old one stays"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}

	// Reload does not wait for the next look.
	copyFile(t, next.Cert, p.Cert)
	copyFile(t, next.Key, p.Key)
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
}

// copyFile puts a copy of from in the place of to by renaming, as certificate tools do.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+".tmp", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".tmp", to); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	root := t.TempDir()
	log := &bytes.Buffer{}
	a := makePair(t, filepath.Join(root, "a"), "a.example")
	b := makePair(t, filepath.Join(root, "b"), "bücher.example")
	s := open(t, newClock(), log, Options{
		Domains: []string{"bücher.example", "a.example", "c.example"},
		Default: a,
		Pairs:   map[string]Pair{"bücher.example": b},
	})
	for name, want := range map[string]string{
		"":                       "bücher.example", // the first domain's
		"xn--bcher-kva.example":  "bücher.example",
		"XN--BCHER-KVA.example.": "bücher.example",
		"a.example":              "a.example",
		"elsewhere.example":      "a.example",
	} {
		if !xmppAddrs(shown(t, s, name))[want] {
			t.Errorf("%q: not the certificate of %s", name, want)
		}
	}
	if !strings.Contains(log.String(), "missing=[c.example]") {
		t.Errorf("no word about c.example: %s", log)
	}
}

func TestWarnings(t *testing.T) {
	c, log := newClock(), &bytes.Buffer{}
	p := makePair(t, t.TempDir(), "a.example")
	s := open(t, c, log, Options{Domains: []string{"a.example"}, Default: p})
	end := shown(t, s, "").NotAfter
	for _, step := range []struct {
		at   time.Time
		soon int // warnings in all
		over int
	}{
		{end.Add(-WarnBefore - time.Hour), 0, 0},
		{end.Add(-WarnBefore + time.Hour), 1, 0},
		{end.Add(-WarnBefore + 2*time.Hour), 1, 0},
		{end.Add(-WarnBefore + 26*time.Hour), 2, 0},
		{end.Add(time.Hour), 2, 1},
	} {
		c.now = step.at
		shown(t, s, "")
		if soon, over := strings.Count(log.String(), "ends soon"), strings.Count(log.String(), "has ended"); soon != step.soon || over != step.over {
			t.Errorf("%v: %d and %d warnings, want %d and %d", step.at, soon, over, step.soon, step.over)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	a, b := makePair(t, t.TempDir(), "a.example"), makePair(t, t.TempDir(), "a.example")
	for name, p := range map[string]Pair{
		"missing":        {"/nowhere/x.crt", "/nowhere/x.key"},
		"another's key":  {a.Cert, b.Key},
		"key as a chain": {a.Key, a.Key},
	} {
		_, err := Open(Options{Domains: []string{"a.example"}, Default: p, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), p.Cert) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Domains: []string{"localhost"}}
	before := Inspect(o)
	if len(before) != 1 || before[0].SHA256 != "" || !before[0].SelfSigned || before[0].Err != nil {
		t.Errorf("before the first start: %+v", before)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("Inspect made %v %v", files, err)
	}
	makePair(t, dir, "localhost")
	after := Inspect(o)
	if len(after) != 1 || after[0].SHA256 == "" || after[0].Err != nil || after[0].Trust == nil {
		t.Errorf("after it: %+v", after)
	}
	o.Domains = []string{"localhost", "a.example", "b.example"}
	o.Pairs = map[string]Pair{"a.example": {"/nowhere.crt", "/nowhere.key"}}
	got := Inspect(o)
	if len(got) != 2 || got[0].Err == nil || len(got[1].Missing) != 1 || got[1].Missing[0] != "b.example" {
		t.Errorf("several: %+v", got)
	}
}

func BenchmarkGetCertificate(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(Options{Dir: dir, Domains: []string{"localhost"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	hello := &tls.ClientHelloInfo{ServerName: "localhost"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
}
