package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	gosync "sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func archive(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	first, last, err := s.ArchiveBounds(ctx, a, 0)
	want(t, "empty", []any{first, last, err}, []any{store.ArchiveID(0), store.ArchiveID(0), nil})
	for i := store.ArchiveID(1); i <= 10; i++ {
		commit(t, s, Entry(a, i*10, "b@x.example/r"), Entry(b, i*10, "a@x.example"))
	}
	want(t, "last", load(t, s, "a@x.example").LastArchiveID, store.ArchiveID(100))
	for _, c := range []struct {
		q    store.ArchiveQuery
		ids  []store.ArchiveID
		more bool
	}{
		{store.ArchiveQuery{Max: 3}, []store.ArchiveID{10, 20, 30}, true},
		{store.ArchiveQuery{Max: 3, Backward: true}, []store.ArchiveID{80, 90, 100}, true},
		{store.ArchiveQuery{Max: 3, AfterID: 70}, []store.ArchiveID{80, 90, 100}, false},
		{store.ArchiveQuery{Max: 3, BeforeID: 40, Backward: true}, []store.ArchiveID{10, 20, 30}, false},
		{store.ArchiveQuery{Max: 3, BeforeID: 45, Backward: true}, []store.ArchiveID{20, 30, 40}, true},
		{store.ArchiveQuery{Max: 9, AfterID: 20, BeforeID: 50}, []store.ArchiveID{30, 40}, false},
		{store.ArchiveQuery{Max: 9, AfterID: 50, BeforeID: 20}, nil, false},
		{store.ArchiveQuery{Max: 9, UpTo: 20}, []store.ArchiveID{10, 20}, false},
		{store.ArchiveQuery{Max: 1, UpTo: 20, Backward: true}, []store.ArchiveID{20}, true},
		{store.ArchiveQuery{Max: 0}, nil, true},
		{store.ArchiveQuery{Max: 0, AfterID: 100}, nil, false},
		{store.ArchiveQuery{Max: 0, AfterID: 100, Backward: true}, nil, false},
		{store.ArchiveQuery{Max: 5, AfterID: 1 << 62}, nil, false},
		{store.ArchiveQuery{Max: 5, IDs: []store.ArchiveID{30, 10, 30, 15}}, []store.ArchiveID{10, 30}, false},
		{store.ArchiveQuery{Max: 1, IDs: []store.ArchiveID{30, 10}}, []store.ArchiveID{10}, true},
		{store.ArchiveQuery{Max: 1, IDs: []store.ArchiveID{30, 10}, Backward: true}, []store.ArchiveID{30}, true},
		{store.ArchiveQuery{Max: 5, IDs: []store.ArchiveID{}}, nil, false},
		{store.ArchiveQuery{Max: 5, Account: 99}, nil, false},
	} {
		if c.q.Account == 0 {
			c.q.Account = a
		}
		ids, more := Page(t, s, c.q)
		want(t, fmt.Sprintf("%+v", c.q), []any{ids, more}, []any{c.ids, c.more})
	}
	// A page also ends behind the stanza that reaches a number of bytes, and has one at least.
	size := len(Entry(a, 10, "b@x.example/r").Stanza)
	for _, c := range []struct {
		q    store.ArchiveQuery
		ids  []store.ArchiveID
		more bool
	}{
		{store.ArchiveQuery{Max: 9, Bytes: 1}, []store.ArchiveID{10}, true},
		{store.ArchiveQuery{Max: 9, Bytes: 2 * size}, []store.ArchiveID{10, 20}, true},
		{store.ArchiveQuery{Max: 9, Bytes: 2*size + 1, Backward: true}, []store.ArchiveID{80, 90, 100}, true},
		{store.ArchiveQuery{Max: 1, Bytes: 2 * size}, []store.ArchiveID{10}, true},
		{store.ArchiveQuery{Max: 9, Bytes: size, AfterID: 90}, []store.ArchiveID{100}, false},
		{store.ArchiveQuery{Max: 9, Bytes: size, BeforeID: 20, Backward: true}, []store.ArchiveID{10}, false},
		{store.ArchiveQuery{Max: 9, Bytes: size, IDs: []store.ArchiveID{30, 10}}, []store.ArchiveID{10}, true},
		{store.ArchiveQuery{Max: 0, Bytes: 1}, nil, true},
	} {
		c.q.Account = a
		ids, more := Page(t, s, c.q)
		want(t, fmt.Sprintf("%+v", c.q), []any{ids, more}, []any{c.ids, c.more})
	}
	newest := func() {
		t.Helper()
		for _, c := range []struct {
			q     store.ArchiveQuery
			first store.ArchiveID
			more  bool
		}{
			{store.ArchiveQuery{Max: 1}, 100, true},
			{store.ArchiveQuery{Max: 9}, 20, true},
			{store.ArchiveQuery{Max: 10}, 0, false},
			{store.ArchiveQuery{Max: 1 << 20}, 0, false},
			{store.ArchiveQuery{Max: 2, AfterID: 70}, 90, true},
			{store.ArchiveQuery{Max: 3, AfterID: 70}, 0, false},
			{store.ArchiveQuery{Max: 2, UpTo: 45}, 30, true},
			{store.ArchiveQuery{Max: 1, Start: time.UnixMicro(100)}, 0, false},
			{store.ArchiveQuery{Max: 1, Start: time.UnixMicro(90)}, 100, true},
			{store.ArchiveQuery{Max: 1, AfterID: 100}, 0, false},
			{store.ArchiveQuery{Max: 0}, 0, false},
			{store.ArchiveQuery{Max: 1, Account: 99}, 0, false},
		} {
			if c.q.Account == 0 {
				c.q.Account = a
			}
			first, more, err := s.ArchiveNewest(ctx, c.q)
			want(t, fmt.Sprintf("newest %+v", c.q), []any{first, more, err}, []any{c.first, c.more, nil})
		}
	}
	newest()
	first, last, err = s.ArchiveBounds(ctx, a, 0)
	want(t, "bounds", []any{first, last, err}, []any{store.ArchiveID(10), store.ArchiveID(100), nil})
	first, last, err = s.ArchiveBounds(ctx, a, 35)
	want(t, "bounds up to", []any{first, last, err}, []any{store.ArchiveID(10), store.ArchiveID(30), nil})
	for _, c := range []struct {
		ids []store.ArchiveID
		all bool
	}{{nil, true}, {[]store.ArchiveID{10, 100, 50}, true}, {[]store.ArchiveID{10, 11}, false}, {[]store.ArchiveID{11, 10}, false}} {
		got, err := s.ArchiveHas(ctx, a, c.ids...)
		want(t, fmt.Sprint(c.ids), []any{got, err}, []any{c.all, nil})
	}
	wantError(t, "same id", s.Commit(ctx, Entry(a, 50, "b@x.example")), store.ErrExists)
	Settle(t, s) // into the table
	newest()
	commit(t, s, Entry(a, 110, "b@x.example")) // the table's and the tail's
	for n, want := range map[int]store.ArchiveID{1: 110, 2: 100, 10: 20} {
		if first, more, err := s.ArchiveNewest(ctx, store.ArchiveQuery{Account: a, Max: n}); first != want || !more || err != nil {
			t.Errorf("newest %d: %d, %v, %v", n, first, more, err)
		}
	}
}

func filters(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a := Account(t, s, "a@x.example")
	base := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	peers := []string{"b@x.example", "b@x.example/r", "b@x.example/r2", "bb@x.example", "x.example", "x.example/r", "b@x.example0", "ü@x.example/ü"}
	at := func(i int) store.ArchiveID {
		return store.ArchiveID(base.Add(time.Duration(i) * time.Second).UnixMicro())
	}
	for i, p := range peers {
		commit(t, s, Entry(a, at(i), p))
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			q     store.ArchiveQuery
			which []int
		}{
			{store.ArchiveQuery{With: jid.MustParse("b@x.example")}, []int{0, 1, 2}},
			{store.ArchiveQuery{With: jid.MustParse("b@x.example/r")}, []int{1}},
			{store.ArchiveQuery{With: jid.MustParse("x.example")}, []int{4, 5}},
			{store.ArchiveQuery{With: jid.MustParse("ü@x.example")}, []int{7}},
			{store.ArchiveQuery{With: jid.MustParse("c@x.example")}, nil},
			{store.ArchiveQuery{With: jid.MustParse("b@x.example"), Backward: true}, []int{0, 1, 2}},
			{store.ArchiveQuery{With: jid.MustParse("b@x.example/r2"), Backward: true}, []int{2}},
			{store.ArchiveQuery{With: jid.MustParse("b@x.example"), IDs: []store.ArchiveID{at(1), at(3)}}, []int{1}},
			{store.ArchiveQuery{Start: base.Add(6 * time.Second)}, []int{6, 7}},
			{store.ArchiveQuery{Start: base.Add(6*time.Second + 1)}, []int{7}},
			{store.ArchiveQuery{End: base.Add(time.Second)}, []int{0, 1}},
			{store.ArchiveQuery{End: base.Add(time.Second - 1)}, []int{0}},
			{store.ArchiveQuery{Start: base.Add(time.Second), End: base.Add(time.Second)}, []int{1}},
			{store.ArchiveQuery{Start: base.Add(time.Second), End: base}, nil},
			{store.ArchiveQuery{With: jid.MustParse("b@x.example"), Start: base.Add(time.Second), AfterID: at(1)}, []int{2}},
		} {
			var ids []store.ArchiveID
			for _, i := range c.which {
				ids = append(ids, at(i))
			}
			c.q.Account, c.q.Max = a, 10
			got, more := Page(t, s, c.q)
			want(t, fmt.Sprintf("%+v", c.q), []any{got, more}, []any{ids, false})
			n, err := s.ArchiveCount(t.Context(), c.q)
			want(t, fmt.Sprintf("count %+v", c.q), []any{n, err}, []any{len(ids), nil})
		}
	}
	check()
	Settle(t, s)
	check()
}

func threads(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	long := strings.Repeat("x", store.MaxThread)
	entries := []struct{ peer, thread string }{
		{"b@x.example/r", "t"}, {"b@x.example", ""}, {"c@x.example", "t"}, {"b@x.example", "T"}, {"b@x.example/r2", "t"}, {"b@x.example", " t"},
		{"b@x.example", long}, {"b@x.example", long + "x"}, {"b@x.example", "t"},
	}
	for i, e := range entries {
		entry := Entry(a, store.ArchiveID(i+11), e.peer)
		entry.Thread = e.thread
		other := Entry(b, store.ArchiveID(i+11), e.peer)
		other.Thread = "another account's"
		commit(t, s, entry, other)
	}
	bare, full := jid.MustParse("b@x.example"), jid.MustParse("b@x.example/r")
	check := func() {
		t.Helper()
		for _, c := range []struct {
			q     store.ArchiveQuery
			ids   []store.ArchiveID
			more  bool
			count int
		}{
			{store.ArchiveQuery{Thread: "t", Max: 9}, []store.ArchiveID{11, 13, 15, 19}, false, 4},
			{store.ArchiveQuery{Thread: "t", Max: 9, Backward: true}, []store.ArchiveID{11, 13, 15, 19}, false, 4},
			{store.ArchiveQuery{Thread: "t", Max: 2}, []store.ArchiveID{11, 13}, true, 4},
			{store.ArchiveQuery{Thread: "t", Max: 2, Backward: true}, []store.ArchiveID{15, 19}, true, 4},
			{store.ArchiveQuery{Thread: "t", Max: 2, AfterID: 13}, []store.ArchiveID{15, 19}, false, 2},
			{store.ArchiveQuery{Thread: "t", Max: 2, BeforeID: 15, Backward: true}, []store.ArchiveID{11, 13}, false, 2},
			{store.ArchiveQuery{Thread: "t", Max: 9, UpTo: 15}, []store.ArchiveID{11, 13, 15}, false, 3},
			{store.ArchiveQuery{Thread: "t", Max: 9, Start: time.UnixMicro(12), End: time.UnixMicro(15)}, []store.ArchiveID{13, 15}, false, 2},
			{store.ArchiveQuery{Thread: "t", Max: 9, With: bare}, []store.ArchiveID{11, 15, 19}, false, 3},
			{store.ArchiveQuery{Thread: "t", Max: 2, With: bare, Backward: true}, []store.ArchiveID{15, 19}, true, 3},
			{store.ArchiveQuery{Thread: "t", Max: 9, With: full}, []store.ArchiveID{11}, false, 1},
			{store.ArchiveQuery{Thread: "t", Max: 9, With: full, Backward: true}, []store.ArchiveID{11}, false, 1},
			{store.ArchiveQuery{Thread: "t", Max: 9, IDs: []store.ArchiveID{19, 18, 14, 12, 11}}, []store.ArchiveID{11, 19}, false, 2},
			{store.ArchiveQuery{Thread: "t", Max: 9, With: full, IDs: []store.ArchiveID{19, 11}}, []store.ArchiveID{11}, false, 1},
			{store.ArchiveQuery{Thread: "T", Max: 9}, []store.ArchiveID{14}, false, 1},
			{store.ArchiveQuery{Thread: " t", Max: 9}, []store.ArchiveID{16}, false, 1},
			{store.ArchiveQuery{Thread: "t ", Max: 9}, nil, false, 0},
			{store.ArchiveQuery{Thread: long, Max: 9}, []store.ArchiveID{17}, false, 1},
			{store.ArchiveQuery{Thread: "another account's", Max: 9}, nil, false, 0},
			{store.ArchiveQuery{Max: 9}, []store.ArchiveID{11, 12, 13, 14, 15, 16, 17, 18, 19}, false, 9},
		} {
			c.q.Account = a
			got, more := Page(t, s, c.q)
			want(t, fmt.Sprintf("%+v", c.q), []any{got, more}, []any{c.ids, c.more})
			n, err := s.ArchiveCount(t.Context(), c.q)
			want(t, fmt.Sprintf("count %+v", c.q), []any{n, err}, []any{c.count, nil})
		}
		_, err := s.Archive(t.Context(), store.ArchiveQuery{Account: a, Thread: long + "x", Max: 1}, nil)
		wantError(t, "too long", err, store.ErrInvalid)
		_, err = s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: a, Thread: long + "x"})
		wantError(t, "too long", err, store.ErrInvalid)
	}
	check()
	Settle(t, s)
	check()
	n, err := s.ArchivePurge(t.Context(), time.UnixMicro(14), 100)
	want(t, "purge", []any{n, err}, []any{6, nil})
	got, _ := Page(t, s, store.ArchiveQuery{Account: a, Thread: "t", Max: 9})
	want(t, "after the purge", got, []store.ArchiveID{15, 19})
	late := Entry(a, 12, "b@x.example") // goes to the table at once
	late.Thread = "t"
	commit(t, s, late)
	got, _ = Page(t, s, store.ArchiveQuery{Account: a, Thread: "t", Max: 9})
	want(t, "with a late one", got, []store.ArchiveID{12, 15, 19})
}

// Settle brings the store to its state after long use: everything that it keeps in memory for a while is where it ends up.
func Settle(t testing.TB, s *store.Store) {
	t.Helper()
	if _, err := s.ArchivePurge(t.Context(), time.UnixMicro(2), 1); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().Tail; n != 0 {
		t.Fatalf("%d entries left in the tail", n)
	}
}

// late: ids of an account may be committed out of order, before and after what was settled.
func late(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a := Account(t, s, "a@x.example")
	commit(t, s, Entry(a, 20, "b@x.example"), Entry(a, 10, "b@x.example"), Entry(a, 15, "b@x.example"))
	commit(t, s, Entry(a, 12, "b@x.example"))
	Settle(t, s)
	commit(t, s, Entry(a, 40, "b@x.example"))
	commit(t, s, Entry(a, 11, "b@x.example"), Entry(a, 30, "b@x.example"), Entry(a, 50, "b@x.example"))
	for _, id := range []store.ArchiveID{10, 11, 40, 30} {
		wantError(t, "twice", s.Commit(t.Context(), Entry(a, 60, "b@x.example"), Entry(a, id, "b@x.example")), store.ErrExists)
	}
	all := []store.ArchiveID{10, 11, 12, 15, 20, 30, 40, 50}
	ids, _ := Page(t, s, store.ArchiveQuery{Account: a, Max: 99})
	want(t, "before", ids, all)
	Settle(t, s)
	ids, _ = Page(t, s, store.ArchiveQuery{Account: a, Max: 99})
	want(t, "after", ids, all)
}

func purge(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	var accounts []store.AccountID
	for i := range 70 {
		accounts = append(accounts, Account(t, s, fmt.Sprintf("u%d@x.example", i)))
	}
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for day := range 5 {
		var ops []store.Op
		for _, a := range accounts {
			for i := range 4 {
				at := base.AddDate(0, 0, day).Add(time.Duration(i) * time.Minute)
				ops = append(ops, Entry(a, store.ArchiveID(at.UnixMicro()), "b@x.example"))
			}
		}
		commit(t, s, ops...)
	}
	count := func(a store.AccountID) int {
		n, err := s.ArchiveCount(ctx, store.ArchiveQuery{Account: a})
		want(t, "error", err, nil)
		return n
	}
	n, err := s.ArchivePurge(ctx, base, 1000)
	want(t, "nothing so old", []any{n, err}, []any{0, nil})
	n, err = s.ArchivePurge(ctx, base.AddDate(0, 0, 2), 100)
	want(t, "a piece", []any{n, err}, []any{100, nil})
	n, err = s.ArchivePurge(ctx, base.AddDate(0, 0, 2), 10000)
	want(t, "the rest", []any{n, err}, []any{70*8 - 100, nil})
	for _, a := range accounts {
		if got := count(a); got != 12 {
			t.Fatalf("account %d has %d entries", a, got)
		}
	}
	last := load(t, s, "u0@x.example").LastArchiveID
	n, err = s.ArchivePurge(ctx, base.AddDate(1, 0, 0), 10000)
	want(t, "all", []any{n, err}, []any{70 * 12, nil})
	want(t, "none left", count(accounts[0]), 0)
	want(t, "last is remembered", load(t, s, "u0@x.example").LastArchiveID, last)
}

func remove(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	aj := jid.MustParse("a@x.example")
	for i := range 3 {
		var ops []store.Op
		for k := range 1000 {
			id := store.ArchiveID(i*1000 + k + 1)
			ops = append(ops, Entry(a, id, "b@x.example"), Entry(b, id, "a@x.example"))
		}
		commit(t, s, ops...)
		if i == 1 {
			Settle(t, s)
		}
	}
	commit(t, s, store.KVPut{Account: a, Space: "s", Key: "k"}, store.BlockPut{Account: a, JID: aj},
		store.OfflineAppend{Account: a, ID: 4000}, store.SessionSeen{Account: a, Resource: "r"})
	want(t, "remove", s.RemoveAccount(ctx, aj), nil)
	_, err := s.LoadAccount(ctx, aj)
	wantError(t, "load", err, store.ErrNotFound)
	_, err = s.KVGet(ctx, a, "s", "k")
	wantError(t, "kv", err, store.ErrNotFound)
	wantError(t, "append", s.Commit(ctx, Entry(a, 5000, "b@x.example")), store.ErrNotFound)
	for account, n := range map[store.AccountID]int{a: 0, b: 3000} {
		got, err := s.ArchiveCount(ctx, store.ArchiveQuery{Account: account})
		want(t, fmt.Sprintf("archive of %d", account), []any{got, err}, []any{n, nil})
	}
	if again := Account(t, s, "a@x.example"); again == a {
		t.Error("an id was given twice")
	}
	d := load(t, s, "a@x.example")
	want(t, "fresh", []any{len(d.Blocked), d.Offline, d.LastArchiveID}, []any{0, 0, store.ArchiveID(0)})
}

// concurrent: whoever reads while entries are written and moved sees each committed one once.
func concurrent(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a := Account(t, s, "a@x.example")
	const n = 6_000
	var told gosync.Int64
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			for told.Load() < n && !t.Failed() {
				before := told.Load()
				next := store.ArchiveID(1)
				if i == 0 {
					next = max(1, store.ArchiveID(before)-200)
				}
				q := store.ArchiveQuery{Account: a, AfterID: next - 1, Max: 1 << 20, Backward: i == 1}
				if _, err := s.Archive(t.Context(), q, func(m store.ArchivedMessage) error {
					if m.ID != next {
						return fmt.Errorf("%d comes instead of %d", m.ID, next)
					}
					next++
					return nil
				}); err != nil {
					t.Error(err)
				}
				if int64(next) <= before {
					t.Errorf("the last is %d, but %d was committed", next-1, before)
				}
				count, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: a})
				if err != nil || int64(count) < before {
					t.Errorf("%d were committed, the count is %d, %v", before, count, err)
				}
				d, err := s.LoadAccount(t.Context(), jid.MustParse("a@x.example"))
				if err != nil || int64(d.LastArchiveID) < before {
					t.Errorf("%d were committed, the last id is %d, %v", before, d.LastArchiveID, err)
				}
			}
		})
	}
	slots := make(chan struct{}, 50)
	for id := store.ArchiveID(1); id <= n; id++ {
		slots <- struct{}{}
		s.Submit(store.Unit{Ops: []store.Op{Entry(a, id, "b@x.example")}, Done: func(err error) {
			if err != nil {
				t.Error(err)
			}
			told.Store(int64(id))
			<-slots
		}})
	}
	readers.Wait()
}

// model: many random changes and queries against a plain slice. There are enough entries that rounds of moving out of the tail run meanwhile.
func model(t *testing.T, open Open) {
	s := open(t, store.Options{CommitDelay: -1})
	rnd := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		id     store.ArchiveID
		peer   jid.JID
		thread string
	}
	const accounts = 4
	var ids [accounts]store.AccountID
	var archives [accounts][]entry
	for i := range ids {
		ids[i] = Account(t, s, fmt.Sprintf("u%d@x.example", i))
	}
	peers := []string{"b@x.example/1", "b@x.example/2", "c@x.example", "d@x.example/r"}
	names := []string{"", "", "", "t1", "t2"}
	next := store.ArchiveID(1000)
	for round := range 100 {
		var ops []store.Op
		for range rnd.IntN(160) {
			i := rnd.IntN(accounts)
			next += store.ArchiveID(1 + rnd.IntN(3))
			id := next
			if rnd.IntN(50) == 0 {
				id = store.ArchiveID(1 + rnd.IntN(int(next))) // late
			}
			at, taken := slices.BinarySearchFunc(archives[i], id, func(e entry, id store.ArchiveID) int { return int(e.id - id) })
			if taken {
				continue
			}
			e := Entry(ids[i], id, peers[rnd.IntN(len(peers))])
			e.Thread = names[rnd.IntN(len(names))]
			archives[i] = slices.Insert(archives[i], at, entry{id, e.Peer, e.Thread})
			ops = append(ops, e)
		}
		commit(t, s, ops...)
		if round == 60 {
			before := next / 3
			n, err := s.ArchivePurge(t.Context(), before.Time(), 1<<30)
			want(t, "error", err, nil)
			for i := range archives {
				at, _ := slices.BinarySearchFunc(archives[i], before, func(e entry, id store.ArchiveID) int { return int(e.id - id) })
				n -= at
				archives[i] = archives[i][at:]
			}
			want(t, "purged too many", n, 0)
		}
		for range 5 {
			i := rnd.IntN(accounts)
			q := store.ArchiveQuery{Account: ids[i], Max: rnd.IntN(60), Backward: rnd.IntN(2) == 0}
			some := func() store.ArchiveID { return store.ArchiveID(rnd.IntN(int(next) + 10)) }
			if rnd.IntN(2) == 0 {
				q.AfterID = some()
			}
			if rnd.IntN(2) == 0 {
				q.BeforeID = some()
			}
			if rnd.IntN(3) == 0 {
				q.UpTo = some()
			}
			switch rnd.IntN(4) {
			case 0:
				q.With = jid.MustParse(peers[rnd.IntN(len(peers))])
			case 1:
				q.With = jid.MustParse(peers[rnd.IntN(len(peers))]).Bare()
			}
			if rnd.IntN(3) == 0 {
				q.Thread = names[rnd.IntN(len(names))]
			}
			var match []store.ArchiveID
			for _, e := range archives[i] {
				if e.id > q.AfterID && (q.BeforeID == 0 || e.id < q.BeforeID) && (q.UpTo == 0 || e.id <= q.UpTo) &&
					(q.With.IsZero() || e.peer == q.With || q.With.IsBare() && e.peer.Bare() == q.With) && (q.Thread == "" || e.thread == q.Thread) {
					match = append(match, e.id)
				}
			}
			n, err := s.ArchiveCount(t.Context(), q)
			want(t, fmt.Sprintf("count %+v", q), []any{n, err}, []any{len(match), nil})
			more := len(match) > q.Max
			if more && q.Backward {
				match = match[len(match)-q.Max:]
			} else if more {
				match = match[:q.Max]
			}
			got, gotMore := Page(t, s, q)
			want(t, fmt.Sprintf("round %d %+v", round, q), []any{got, gotMore}, []any{match, more})
			if t.Failed() {
				return
			}
		}
	}
	if moved := 100*80 - s.Stats().Tail; moved < 2000 {
		t.Errorf("only %d entries were moved", moved)
	}
}
