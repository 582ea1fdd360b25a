package server

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/store"
)

// TestPurge: what is older than keep_days goes, however much it is, what is younger stays, and 0 keeps everything.
func TestPurge(t *testing.T) {
	st, err := store.Open(t.Context(), store.Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	now := time.Now()
	peer := jid.MustParse("juliet@capulet.example")
	var accounts []store.AccountID
	old := 2*purgeChunk + 7 // of each
	for _, bare := range []string{"romeo@montague.example", "benvolio@montague.example"} {
		id, err := st.CreateAccount(t.Context(), jid.MustParse(bare), nil)
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, id)
		var ops []store.Op
		put := func(at time.Time) {
			ops = append(ops, store.ArchiveAppend{Account: id, ID: store.ArchiveID(at.UnixMicro()), Peer: peer, Stanza: []byte("<message/>")})
		}
		for i := range old {
			put(now.Add(-7*24*time.Hour - time.Hour + time.Duration(i)*time.Second))
		}
		put(now.Add(-7*24*time.Hour + time.Hour))
		put(now)
		if err := st.Commit(t.Context(), ops...); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() (n []int) {
		for _, id := range accounts {
			c, err := st.ArchiveCount(t.Context(), store.ArchiveQuery{Account: id})
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, c)
		}
		return n
	}
	for _, c := range []struct{ keepDays, want int }{{0, old + 2}, {8, old + 2}, {7, 2}, {7, 2}} {
		s := &Server{cfg: config.Config{Archive: config.Archive{KeepDays: c.keepDays}}, store: st, log: slog.New(slog.DiscardHandler)}
		s.purge(t.Context())
		if got := counts(); !slices.Equal(got, []int{c.want, c.want}) {
			t.Errorf("keep_days %d leaves %v, want %d each", c.keepDays, got, c.want)
		}
	}
}
