package upload

import (
	"bytes"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"carillon.im/server/store"
)

// FuzzServe: whatever an address, a method and headers are, who was given no slot puts
// nothing and gets nothing, and nothing is written.
func FuzzServe(f *testing.F) {
	s, err := store.Open(f.Context(), store.Options{Path: ":memory:"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	if _, err := s.CreateAccount(f.Context(), alice.Bare(), nil); err != nil {
		f.Fatal(err)
	}
	folder := f.TempDir()
	u, err := New(Options{Store: s, Folder: folder, Secret: bytes.Repeat([]byte("s"), SecretSize), Limits: Limits{File: 1000, Day: 3000, Account: 5000, Keep: time.Hour},
		Domains: []string{"localhost"}, Base: func(string) string { return "" }, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(u.Close)
	f.Add("PUT", "/upload/AAAAAAAAAAAAAAAAAAAAAA/a.txt", "slot=9999999999.AAAA", "text/plain", "12345")
	f.Add("GET", "/upload/../../etc/passwd", "", "", "")
	f.Add("HEAD", "/upload/%2e%2e/x", "slot", "", "")
	f.Add("PATCH", "/upload//", ";&=%zz", "text/plain; charset", "x")
	f.Fuzz(func(t *testing.T, method, path, query, typ, body string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL = method, &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Content-Type", typ)
		w := httptest.NewRecorder()
		u.ServeHTTP(w, r)
		if w.Code < 400 || w.Code >= 500 {
			t.Fatalf("%s %q: %d", method, path, w.Code)
		}
		if list, err := os.ReadDir(folder); err != nil || len(list) > 0 {
			t.Fatalf("%s %q wrote %v (%v)", method, path, list, err)
		}
	})
}
