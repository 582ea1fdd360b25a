package mam

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
	"carillon.im/xep"
)

// reader is a session that takes all it is sent, and a store that notes how much is
// read at once.
type reader struct {
	feature.SessionRef
	*store.Store
	most int // bytes of one read
	got  []string
}

func (r *reader) Archive(ctx context.Context, q store.ArchiveQuery, fn func(store.ArchivedMessage) error) (bool, error) {
	size := 0
	defer func() { r.most = max(r.most, size) }()
	return r.Store.Archive(ctx, q, func(m store.ArchivedMessage) error {
		size += len(m.Stanza)
		return fn(m)
	})
}

func (r *reader) SendAll(_ context.Context, list [][]byte) error {
	for _, b := range list {
		_, id, _ := strings.Cut(string(b), " id='")
		id, _, _ = strings.Cut(id, "'")
		r.got = append(r.got, id)
	}
	return nil
}

// TestLargeMessages: a page of large messages is the same page, in batches that are
// bounded in bytes as well.
func TestLargeMessages(t *testing.T) {
	const messages, size = 30, 30 << 10
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	account := storetest.Account(t, s, "a@x.example")
	var ids []string
	for i := range store.ArchiveID(messages) {
		e := storetest.Entry(account, i+1, "b@x.example")
		e.Stanza = []byte("<message><body>" + strings.Repeat("x", size) + "</body></message>")
		if err := s.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, (i + 1).String())
	}
	bob := jid.MustParse("a@x.example")
	for _, backward := range []bool{false, true} {
		for _, descending := range []bool{false, true} {
			for _, n := range []int{7, messages, 100} {
				r := &reader{Store: s}
				p := &page{store: r, session: r, head: xep.NewMAMResult(bob, bob, "q")}
				more, err := p.send(t.Context(), store.ArchiveQuery{Account: account, Backward: backward}, n, descending)
				want := slices.Clone(ids[:min(n, messages)])
				if backward {
					want = slices.Clone(ids[messages-min(n, messages):])
				}
				if descending {
					slices.Reverse(want)
				}
				what := fmt.Sprint(n, " backward ", backward, " descending ", descending)
				if err != nil || more != (n < messages) || !slices.Equal(r.got, want) {
					t.Errorf("%s: %v, more %v\n%v\n%v", what, err, more, r.got, want)
				}
				// Batches that were held and let go are read again as they were.
				if r.most > batchBytes+size+100 {
					t.Errorf("%s: %d bytes at once", what, r.most)
				}
			}
		}
	}
}
