package invite

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
)

// TestTime: an invitation ends, but not under the hands of who has shown it (XEP-0445 4), and two who use one at a moment don't both get an account.
func TestTime(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:", CommitDelay: -1, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var friends atomic.Int64
	v := New(Options{Store: s, Now: clock, Log: slog.New(slog.DiscardHandler), Base: func(string) string { return "https://x.example" },
		Keys:     func(string) ([]sasl.Keys, error) { return nil, nil },
		Befriend: func(context.Context, jid.JID, jid.JID) error { friends.Add(1); return nil }})
	defer v.Close()
	romeo, domain := jid.MustParse("romeo@x.example"), jid.MustParse("x.example")
	token := func() string {
		t.Helper()
		l, err := v.Make(t.Context(), store.Invite{Domain: "x.example", Inviter: romeo, Account: true}, 1)
		if err != nil || !strings.HasPrefix(l.Page, "https://x.example/invite/") {
			t.Fatal(l, err)
		}
		return regexp.MustCompile(`preauth=(\w+);ibr=y$`).FindStringSubmatch(l.URI)[1]
	}
	late := token()
	if _, err := v.Name(t.Context(), domain, late, false); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Name(t.Context(), jid.MustParse("y.example"), late, false); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("at another domain: %v", err)
	}
	now.Add(25 * 3600)
	if _, err := v.Name(t.Context(), domain, late, false); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
	w := httptest.NewRecorder()
	v.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+late, nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("its page: %d", w.Code)
	}
	w = httptest.NewRecorder()
	v.ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path+late, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if _, err := v.Name(t.Context(), domain, late, true); err != nil {
		t.Errorf("shown in time: %v", err)
	}
	if err := v.Accept(t.Context(), late, jid.MustParse("late@x.example"), "p"); err != nil || friends.Load() != 2 {
		t.Errorf("shown in time: %v, %d sides are told", err, friends.Load())
	}

	one := token()
	var wg sync.WaitGroup
	var got atomic.Int64
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			switch err := v.Accept(t.Context(), one, jid.MustParse(name+"@x.example"), "p"); {
			case err == nil:
				got.Add(1)
			case !errors.Is(err, store.ErrNotFound):
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d accounts with one invitation", got.Load())
	}
}
