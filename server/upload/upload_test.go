package upload

import (
	"bytes"
	"context"
	"crypto/rand"
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
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// world is a service over a real store with alice's account, and a clock that tests
// set.
type world struct {
	*Service
	t      *testing.T
	store  *store.Store
	folder string
	mu     sync.Mutex
	now    time.Time
	web    *httptest.Server
	got    chan *stanza.Stanza
}

var (
	alice = jid.MustParse("alice@localhost/x")
	files = jid.MustParse("upload.localhost")
)

func newWorld(t *testing.T, change func(*Limits)) *world {
	t.Helper()
	w := &world{t: t, folder: filepath.Join(t.TempDir(), "files"), now: time.Unix(1e9, 0).UTC(), got: make(chan *stanza.Stanza, 10)}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	if w.store, err = store.Open(t.Context(), store.Options{Path: ":memory:", Log: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.CreateAccount(t.Context(), alice.Bare(), nil); err != nil {
		t.Fatal(err)
	}
	w.web = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.ServeHTTP(rw, r) }))
	lim := Limits{File: 1000, Day: 3000, Account: 5000, Keep: 10 * 24 * time.Hour}
	if change != nil {
		change(&lim)
	}
	w.start(lim)
	t.Cleanup(func() {
		w.web.Close()
		w.Close()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start makes the service, as a start of the server does.
func (w *world) start(lim Limits) {
	s, err := New(Options{Store: w.store, Folder: w.folder, Secret: bytes.Repeat([]byte("s"), SecretSize), Limits: lim, Domains: []string{"localhost"},
		Base: func(string) string { return w.web.URL }, Now: w.time, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Receive: func(_ context.Context, st *stanza.Stanza) error { w.got <- st; return nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = s
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// ask sends a request to the service.
func (w *world) ask(from jid.JID, payload string) *stanza.Stanza {
	w.t.Helper()
	el, err := xmltree.Parse([]byte("<iq type='get' id='1'>"+payload+"</iq>"), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := stanza.Parse(el)
	if err != nil {
		w.t.Fatal(err)
	}
	st.From, st.To = from, files
	if e := w.Send(st); e != nil {
		return st.ErrorReply(e)
	}
	return <-w.got
}

func request(name, typ string, size int) string {
	return fmt.Sprintf("<request xmlns='%s' filename='%s' size='%d' content-type='%s'/>", xep.NSUpload, name, size, typ)
}

// slot asks for a slot that has to be given.
func (w *world) slot(name, typ string, size int) (put, get string) {
	w.t.Helper()
	st := w.ask(alice, request(name, typ, size))
	s := st.Payload()
	if st.Type != stanza.TypeResult {
		w.t.Fatalf("no slot: %s", st.AppendTo(nil))
	}
	return s.Child(xep.NSUpload, "put").Attr("url"), s.Child(xep.NSUpload, "get").Attr("url")
}

func (w *world) do(method, url, typ string, body io.Reader, header ...string) (*http.Response, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if typ != "" {
		r.Header.Set("Content-Type", typ)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(b)
}

func (w *world) status(want int, method, url, typ, body string) {
	w.t.Helper()
	if resp, text := w.do(method, url, typ, strings.NewReader(body)); resp.StatusCode != want {
		w.t.Errorf("%s %s: %s %q instead of %d", method, url, resp.Status, text, want)
	}
}

// left lists what is on the disk.
func (w *world) left() (list []string) {
	err := filepath.Walk(w.folder, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			list = append(list, path)
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return list
}

func TestUpload(t *testing.T) {
	w := newWorld(t, nil)
	put, get := w.slot("très cool.jpg", "image/jpeg", 10)
	w.status(http.StatusNotFound, "GET", get, "", "")
	w.status(http.StatusCreated, "PUT", put, "image/jpeg", "0123456789")
	resp, body := w.do("GET", get, "", nil)
	for name, want := range map[string]string{
		"Content-Type": "image/jpeg", "Content-Length": "10", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox", "Accept-Ranges": "bytes",
		"Content-Disposition": "inline; filename*=utf-8''tr%C3%A8s%20cool.jpg",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q instead of %q", name, got, want)
		}
	}
	if body != "0123456789" {
		t.Error(body)
	}
	if resp, body := w.do("GET", get, "", nil, "Range", "bytes=3-5"); resp.StatusCode != http.StatusPartialContent || body != "345" {
		t.Errorf("a range: %s %q", resp.Status, body)
	}
	if resp, _ := w.do("GET", get, "", nil, "Range", "bytes=20-"); resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a range behind the end: %s", resp.Status)
	}
	if resp, body := w.do("HEAD", get, "", nil); resp.ContentLength != 10 || body != "" {
		t.Errorf("HEAD: %d bytes", resp.ContentLength)
	}
	w.status(http.StatusConflict, "PUT", put, "image/jpeg", "9876543210") // once
	w.start(w.opt.Limits)                                                 // and after a restart
	if _, body := w.do("GET", get, "", nil); body != "0123456789" {
		t.Errorf("after a restart: %q", body)
	}
	w.status(http.StatusMethodNotAllowed, "DELETE", put, "", "")
	put, get = w.slot("page.svg", "image/svg+xml", 3)
	w.status(http.StatusCreated, "PUT", put, "image/svg+xml", "svg")
	if resp, _ := w.do("GET", get, "", nil); !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment") {
		t.Error("a picture with scripts is shown")
	}
}

// TestSlotIsHeldTo: what is put is what was declared, and only who got the slot puts.
func TestSlotIsHeldTo(t *testing.T) {
	w := newWorld(t, nil)
	put, get := w.slot("a", "text/plain", 5)
	w.status(http.StatusRequestEntityTooLarge, "PUT", put, "text/plain", "123456")
	w.status(http.StatusBadRequest, "PUT", put, "text/plain", "1234")
	w.status(http.StatusUnsupportedMediaType, "PUT", put, "text/html", "12345")
	w.status(http.StatusUnsupportedMediaType, "PUT", put, "", "12345")
	w.status(http.StatusForbidden, "PUT", get, "text/plain", "12345")
	w.status(http.StatusForbidden, "PUT", get+"?slot=9999999999.AAAA", "text/plain", "12345")
	w.status(http.StatusForbidden, "PUT", strings.Replace(put, "?slot=1", "?slot=2", 1), "text/plain", "12345") // a later time
	w.status(http.StatusForbidden, "PUT", put+"A", "text/plain", "12345")
	other, _ := w.slot("a", "text/plain", 5)
	w.status(http.StatusForbidden, "PUT", get+other[strings.Index(other, "?"):], "text/plain", "12345")
	w.status(http.StatusNotFound, "PUT", strings.Replace(put, "/a?", "/b?", 1), "text/plain", "12345")
	if resp, _ := w.do("PUT", put, "text/plain", io.MultiReader(strings.NewReader("12345"))); resp.StatusCode != http.StatusLengthRequired {
		t.Errorf("without a length: %s", resp.Status)
	}
	for _, head := range [][]string{{"Content-Encoding", "gzip"}, {"Content-Range", "bytes 0-4/9"}} {
		if resp, _ := w.do("PUT", put, "text/plain", strings.NewReader("12345"), head...); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("with %s: %s", head, resp.Status)
		}
	}
	if left := w.left(); len(left) != 0 {
		t.Errorf("on the disk: %v", left)
	}
	w.pass(slotTime + time.Second)
	w.status(http.StatusForbidden, "PUT", put, "text/plain", "12345") // expired
}

// TestBrokenPut: a body that ends early leaves nothing, and the slot is still good.
func TestBrokenPut(t *testing.T) {
	w := newWorld(t, nil)
	put, get := w.slot("a", "text/plain", 500)
	r, err := http.NewRequest("PUT", put, io.MultiReader(strings.NewReader("123"), brokenReader{}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 500
	r.Header.Set("Content-Type", "text/plain")
	if resp, err := http.DefaultTransport.RoundTrip(r); err == nil {
		resp.Body.Close()
		t.Errorf("taken: %s", resp.Status)
	}
	w.web.CloseClientConnections()
	body := strings.Repeat("x", 500)
	for { // until the broken one is over
		resp, _ := w.do("PUT", put, "text/plain", strings.NewReader(body))
		if resp.StatusCode == http.StatusCreated {
			break
		}
		if resp.StatusCode != http.StatusConflict {
			t.Fatal(resp.Status)
		}
	}
	if _, got := w.do("GET", get, "", nil); got != body {
		t.Errorf("%d bytes", len(got))
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// connected is what an answer is written to, over a connection that a request's body comes on.
type connected struct {
	*httptest.ResponseRecorder
	net.Conn
}

func (c connected) Write(b []byte) (int, error) { return c.ResponseRecorder.Write(b) }

// TestStalledPut: a body may come slowly, but not stop.
func TestStalledPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.web.Close() // in the bubble there is no network
		put, _ := w.slot("a", "", 5)
		client, server := net.Pipe()
		r := httptest.NewRequest("PUT", put, server)
		r.ContentLength = 5
		go func() {
			for range 4 {
				client.Write([]byte("x"))
				time.Sleep(stallTime - time.Second)
			}
		}()
		begin, answer := time.Now(), httptest.NewRecorder()
		w.ServeHTTP(connected{answer, server}, r)
		if took, want := time.Since(begin), 3*(stallTime-time.Second)+stallTime; answer.Code != http.StatusBadRequest || took != want {
			t.Errorf("%d after %v, want %v", answer.Code, took, want)
		}
		if left := w.left(); len(left) != 0 {
			t.Errorf("on the disk: %v", left)
		}
	})
}

// TestParallelPuts: of many who put one file, one does.
func TestParallelPuts(t *testing.T) {
	w := newWorld(t, nil)
	put, get := w.slot("a", "text/plain", 1000)
	var created, refused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			resp, _ := w.do("PUT", put, "text/plain", strings.NewReader(strings.Repeat(string(rune('a'+i)), 1000)))
			mu.Lock()
			defer mu.Unlock()
			switch resp.StatusCode {
			case http.StatusCreated:
				created++
			case http.StatusConflict:
				refused++
			}
		})
	}
	wg.Wait()
	if created != 1 || refused != 15 {
		t.Errorf("%d created it, %d were refused", created, refused)
	}
	if _, body := w.do("GET", get, "", nil); len(body) != 1000 || strings.Trim(body, body[:1]) != "" {
		t.Errorf("mixed: %q", body)
	}
	if left := w.left(); len(left) != 1 {
		t.Errorf("on the disk: %v", left)
	}
}

// TestPathTricks: an address is an id and the file's name, nothing else.
func TestPathTricks(t *testing.T) {
	w := newWorld(t, nil)
	put, get := w.slot("a.txt", "text/plain", 5)
	w.status(http.StatusCreated, "PUT", put, "text/plain", "12345")
	secret := filepath.Join(filepath.Dir(w.folder), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSuffix(get, "/a.txt")
	for _, url := range []string{
		w.web.URL + "/upload/", w.web.URL + "/upload/1", w.web.URL + "/upload/1/", w.web.URL + "/upload/..%2f..%2fsecret/a.txt", w.web.URL + "/upload/../secret",
		id, id + "/", id + "/a.txt/", id + "/../a.txt", id + "/..%2fa.txt", id + "/b.txt", id + "/a.txt%00", id + "=/a.txt", id + "A/a.txt", id + "//a.txt",
		id[:len(id)-2] + "AA/a.txt", id[:len(id)-1] + alias(id[len(id)-1]) + "/a.txt",
	} {
		if resp, body := w.do("GET", url, "", nil); resp.StatusCode/100 == 2 || strings.Contains(body, "secret") || strings.Contains(body, "12345") {
			t.Errorf("%s: %s %q", url, resp.Status, body)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "../a", `a\b`, "a&#xA;b", strings.Repeat("x", 256), "a&#x202E;gpj.exe"} {
		if st := w.ask(alice, request(name, "", 5)); st.Type != stanza.TypeError {
			t.Errorf("%q is a name", name)
		}
	}
}

// alias is another letter that a lenient decoder takes for the last of 16 bytes in base64.
func alias(last byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(letters[strings.IndexByte(letters, last)^1])
}

// TestManyAtOnce: while so many requests are being answered, one more is refused.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	for range maxAsking {
		w.asking <- struct{}{}
	}
	if e := w.ask(alice, request("a", "text/plain", 5)).ParseError(); e == nil || e.Condition != stanza.ResourceConstraint {
		t.Errorf("%v", e)
	}
	for range maxAsking {
		<-w.asking
	}
	w.slot("a", "text/plain", 5)
}

// TestRefused: who gets no slot, and why.
func TestRefused(t *testing.T) {
	w := newWorld(t, func(l *Limits) { l.Types = []string{"image/*", "text/plain"} })
	for name, c := range map[string]struct {
		from    jid.JID
		payload string
		want    stanza.Condition
		app     string
	}{
		"too large":  {alice, request("a", "text/plain", 1001), stanza.NotAcceptable, "<max-file-size>1000</max-file-size>"},
		"type":       {alice, request("a", "video/ogg", 5), stanza.NotAcceptable, ""},
		"no type":    {alice, request("a", "", 5), stanza.NotAcceptable, ""},
		"bad type":   {alice, request("a", "image", 5), stanza.BadRequest, ""},
		"no size":    {alice, request("a", "image/png", 0), stanza.BadRequest, ""},
		"elsewhere":  {jid.MustParse("a@other.example/x"), request("a", "image/png", 5), stanza.Forbidden, ""},
		"no account": {jid.MustParse("nobody@localhost/x"), request("a", "image/png", 5), stanza.Forbidden, ""},
		"unknown":    {alice, "<what xmlns='urn:what'/>", stanza.ServiceUnavailable, ""},
	} {
		st := w.ask(c.from, c.payload)
		got := string(st.AppendTo(nil))
		if st.Type != stanza.TypeError || !strings.Contains(got, "<"+string(c.want)+" ") || !strings.Contains(got, c.app) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := string(w.ask(alice, "<query xmlns='"+xep.NSDiscoInfo+"'/>").AppendTo(nil)); !strings.Contains(got, "<value>1000</value>") || !strings.Contains(got, "category='store' type='file'") {
		t.Error(got)
	}
}

// TestQuota: slots count from when they are given, as long as they are good, and
// files as long as they are there.
func TestQuota(t *testing.T) {
	w := newWorld(t, nil)
	day := func() (given int) {
		for {
			st := w.ask(alice, request("a", "text/plain", 1000))
			if st.Type == stanza.TypeError {
				if got := string(st.AppendTo(nil)); !strings.Contains(got, "<resource-constraint ") || !strings.Contains(got, "<retry xmlns='urn:xmpp:http:upload:0' stamp='2001-") {
					t.Fatal(got)
				}
				return given
			}
			given++
			w.status(http.StatusCreated, "PUT", st.Payload().Child(xep.NSUpload, "put").Attr("url"), "text/plain", strings.Repeat("x", 1000))
		}
	}
	for i, want := range []int{3, 2, 0} {
		if got := day(); got != want {
			t.Errorf("day %d: %d files", i, got)
		}
		w.pass(24 * time.Hour)
	}
	w.pass(9 * 24 * time.Hour)
	if err := w.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := w.left(); len(left) != 0 {
		t.Errorf("on the disk: %v", left)
	}
	for range 3 {
		w.slot("a", "text/plain", 1000)
	}
	if st := w.ask(alice, request("a", "text/plain", 1)); st.Type != stanza.TypeError {
		t.Error("slots that aren't used don't count")
	}
	w.pass(slotTime + time.Second)
	w.slot("a", "text/plain", 1000)
}

// unhurried is a store that lets others go first once it has told what there is.
type unhurried struct{ *store.Store }

func (s unhurried) KVList(ctx context.Context, id store.AccountID, space string) ([]store.KV, error) {
	list, err := s.Store.KVList(ctx, id, space)
	for range 1000 {
		runtime.Gosched()
	}
	return list, err
}

// TestParallelGrants: of many who ask at once, no more get slots than the quota has room for.
func TestParallelGrants(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Store = unhurried{w.store}
	var given atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if w.ask(alice, request("a", "", 1000)).Type == stanza.TypeResult {
				given.Add(1)
			}
		})
	}
	if wg.Wait(); given.Load() != 3 {
		t.Errorf("%d slots", given.Load())
	}
}

// TestMaxFiles: however small they are, an account has so many files.
func TestMaxFiles(t *testing.T) {
	w := newWorld(t, nil)
	value, err := json.Marshal(row{Name: "a", Size: 1, Created: w.now, Done: true})
	if err != nil {
		t.Fatal(err)
	}
	account, err := w.store.Account(t.Context(), alice.Bare())
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for i := range maxFiles - 1 {
		ops = append(ops, store.KVPut{Account: account.ID, Space: space, Key: fmt.Sprintf("%016x", i), Value: value})
	}
	if err := w.store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	w.slot("a", "", 1)
	if e := w.ask(alice, request("a", "", 1)).ParseError(); e == nil || e.Condition != stanza.ResourceConstraint {
		t.Errorf("one file too many: %v", e)
	}
}

// TestClean deletes what is over, what a crash left, and what an account that is
// gone had, and nothing else.
func TestClean(t *testing.T) {
	w := newWorld(t, nil)
	put, old := w.slot("old", "", 3)
	w.status(http.StatusCreated, "PUT", put, "", "old")
	w.pass(9 * 24 * time.Hour)
	put, young := w.slot("young", "", 5)
	w.status(http.StatusCreated, "PUT", put, "", "young")
	stray := filepath.Join(filepath.Dir(w.left()[0]), "0123456789abcdef.part")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * 24 * time.Hour)
	w.status(http.StatusNotFound, "GET", old, "", "") // before it is deleted, too
	if err := w.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := w.left(); len(left) != 1 {
		t.Errorf("on the disk: %v", left)
	}
	w.status(http.StatusOK, "GET", young, "", "")
	if err := w.store.RemoveAccount(t.Context(), alice.Bare()); err != nil {
		t.Fatal(err)
	}
	w.status(http.StatusNotFound, "GET", young, "", "")
	if err := w.Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := w.left(); len(left) != 0 {
		t.Errorf("of a removed account: %v", left)
	}
}
