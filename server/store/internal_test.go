package store

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

func TestArchiveID(t *testing.T) {
	stamp := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	for _, id := range []ArchiveID{1, 31, 32, maxArchiveID, NextArchiveID(0, stamp)} {
		s := id.String()
		if len(s) != 13 || string(id.Append(nil)) != s {
			t.Errorf("%d is %q", id, s)
		}
		if got, ok := ParseArchiveID(s); !ok || got != id {
			t.Errorf("%q is %d, %v", s, got, ok)
		}
	}
	for _, bad := range []string{"", "0000000000000", "000000000001", "00000000000001", "000000000000w", "000000000000A", "8000000000000", "g000000000000",
		"vvvvvvvvvvvvv", " 000000000001", "00000000000\x00\x01"} {
		if id, ok := ParseArchiveID(bad); ok {
			t.Errorf("%q is %d", bad, id)
		}
	}
	if got := NextArchiveID(0, stamp).Time(); !got.Equal(stamp) {
		t.Errorf("time %v", got)
	}
	last := NextArchiveID(0, stamp)
	for _, now := range []time.Time{stamp, stamp.Add(-time.Hour), stamp.Add(time.Microsecond)} {
		if got := NextArchiveID(last, now); got != last+1 {
			t.Errorf("at %v: %d after %d", now, got, last)
		}
	}
}

func FuzzArchiveID(f *testing.F) {
	f.Add("0000000000001", int64(5))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		if id, ok := ParseArchiveID(s); ok && (id <= 0 || id.String() != s) {
			t.Errorf("%q is %d is %q", s, id, id.String())
		}
		if n > 0 && n < int64(maxArchiveID) && ArchiveID(n).String() >= ArchiveID(n+1).String() {
			t.Errorf("%d does not sort before its successor", n)
		}
	})
}

func FuzzTailData(f *testing.F) {
	r := tailRow{id: 1 << 50, peer: jid.MustParse("b@x.example/r"), stanza: []byte("<message/>")}
	f.Add(appendEntry(appendEntry(nil, 7, r), 8, r))
	r.thread = newThreadKey("t")
	f.Add(appendEntry(appendEntry(nil, 7, r), 8, r))
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		for len(data) > 0 {
			account, r, rest, err := readEntry(data)
			if err != nil {
				return
			}
			if len(rest) >= len(data) {
				t.Fatal("no progress")
			}
			a2, r2, rest2, err := readEntry(appendEntry(nil, account, r))
			if err != nil || a2 != account || r2.id != r.id || r2.peer != r.peer || r2.thread != r.thread || !bytes.Equal(r2.stanza, r.stanza) || len(rest2) != 0 {
				t.Fatalf("%v %v: %v", r, r2, err)
			}
			data = rest
		}
	})
}

func TestMigrate(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	files := fstest.MapFS{"migrations/0001_a.sql": file("CREATE TABLE a (x); INSERT INTO a VALUES (1);")}
	c, err := sqlite.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	run := func() error {
		steps, err := migrations(files)
		if err != nil {
			return err
		}
		return migrate(t.Context(), c, steps, time.Unix(1, 0))
	}
	wantRows := func(want string) {
		t.Helper()
		if got, err := c.QueryText("SELECT group_concat(x) FROM a"); err != nil || got != want {
			t.Errorf("rows %q, %v; want %q", got, err, want)
		}
	}
	for range 2 {
		if err := run(); err != nil {
			t.Fatal(err)
		}
	}
	wantRows("1")
	files["migrations/0002_b.sql"] = file("INSERT INTO a VALUES (2); INSERT INTO nowhere VALUES (3);")
	if err := run(); err == nil || !strings.Contains(err.Error(), "0002_b") {
		t.Errorf("a step that fails: %v", err)
	}
	wantRows("1")
	files["migrations/0002_b.sql"] = file("INSERT INTO a VALUES (2);")
	if err := run(); err != nil {
		t.Fatal(err)
	}
	wantRows("1,2")
	files["migrations/0001_a.sql"] = file("CREATE TABLE a (y);")
	if err := run(); err == nil {
		t.Error("a step that changed was accepted")
	}
	delete(files, "migrations/0002_b.sql")
	files["migrations/0001_a.sql"] = file("CREATE TABLE a (x); INSERT INTO a VALUES (1);")
	if err := run(); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a database of a newer version: %v", err)
	}
	files["migrations/0003_c.sql"] = file("")
	if err := run(); err == nil {
		t.Error("a gap was accepted")
	}
}

// TestPlans: the statements on the hot paths search by key.
func TestPlans(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for query, use := range map[string]string{
		qPageUp: "PRIMARY KEY (account=? AND id>? AND id<?)", qPageDown: "PRIMARY KEY (account=? AND id>? AND id<?)",
		qPageUpBare: "archive_peer (account=? AND peer_hash=? AND id>? AND id<?)", qPageDownFull: "archive_peer (account=? AND peer_hash=? AND id>? AND id<?)",
		qCount: "COVERING INDEX archive_peer (account=?", qCountWith: "COVERING INDEX archive_peer (account=? AND peer_hash=? AND id>? AND id<?)",
		qThreadUp: "archive_thread (account=? AND thread=? AND id>? AND id<?)", qThreadDownBare: "archive_thread (account=? AND thread=? AND id>? AND id<?)",
		qCountThread: "COVERING INDEX archive_thread (account=? AND thread=? AND id>? AND id<?)", qArchiveWalk: "PRIMARY KEY ((account,id)>(?,?))",
		qClientCount: "PRIMARY KEY (account=?)", qClientGet: "PRIMARY KEY (account=? AND id=?)", qTokenGet: "PRIMARY KEY (account=? AND client=?)",
		qQueueAll: "PRIMARY KEY (account=? AND key=?)", qSavedAll: "PRIMARY KEY (account=?)", qSavedAccounts: "PRIMARY KEY (account=?)",
		qHas: "PRIMARY KEY (account=? AND id=?)", qArchiveTop: "PRIMARY KEY (account=?)", qKeys: "PRIMARY KEY (account=? AND hash=?)",
		qAccountHead: "PRIMARY KEY (account=?)", qBounds: "PRIMARY KEY (account=? AND id<?)", qPurgeable: "PRIMARY KEY (account=?)",
		qAccountsOf: "account_domain (domain=? AND jid>?)", qOfflinePage: "PRIMARY KEY (account=? AND id>?)",
	} {
		var plan []string
		err := s.read(t.Context(), func(c *conn) error {
			return c.each("EXPLAIN QUERY PLAN "+query, func(r *sqlite.Stmt) error {
				plan = append(plan, r.ColText(3))
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "; ")
		scans := slices.ContainsFunc(plan, func(line string) bool {
			return strings.HasPrefix(line, "SCAN") && line != "SCAN CONSTANT ROW" || strings.Contains(line, "TEMP B-TREE")
		})
		if scans || !strings.Contains(text, use) {
			t.Errorf("%s\n\t%s", query, text)
		}
	}
}

// TestTailBounds: what the tail keeps in memory is bounded, in rows, bytes and accounts.
func TestTailBounds(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: ":memory:", CommitDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.CreateAccount(t.Context(), jid.MustParse("a@x.example"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, 10_000} {
		next := ArchiveID(size * 1_000_000)
		for range 120 {
			var ops []Op
			for range 50 {
				next++
				ops = append(ops, ArchiveAppend{Account: a, ID: next, Peer: jid.MustParse("b@x.example"), Stanza: make([]byte, size)})
			}
			if err := s.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			s.tail.mu.RLock()
			rows, bytes := s.tail.count, s.tail.bytes
			s.tail.mu.RUnlock()
			if rows > 2*tailRows || bytes > 2*tailBytes {
				t.Fatalf("%d rows, %d bytes", rows, bytes)
			}
		}
	}
	accounts := map[AccountID]*tailAccount{}
	small := tail{accounts: accounts}
	for id := range AccountID(tailKeep + 100) {
		accounts[id] = &tailAccount{id: id}
		small.forget(accounts[id])
	}
	if len(accounts) > tailKeep {
		t.Errorf("%d accounts remembered", len(accounts))
	}
}

// TestQueueInBytes: a unit that is too long is refused, and what is committed together is bounded in bytes, but for a unit that is longer by itself.
func TestQueueInBytes(t *testing.T) {
	unit := func(bytes int) Unit {
		return Unit{Ops: []Op{ArchiveAppend{Stanza: make([]byte, bytes-opOverhead)}}}
	}
	q := newQueue(100, 64<<20, 10)
	if err := q.put(unit(maxUnitBytes + 1)); err != ErrTooBig {
		t.Errorf("one byte too many: %v", err)
	}
	for _, bytes := range []int{maxUnitBytes, maxBatchBytes / 2, maxBatchBytes / 2, maxBatchBytes / 2} {
		if err := q.put(unit(bytes)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{1, 2, 1} {
		batch := q.take(nil, 100)
		if len(batch) != want {
			t.Errorf("%d units together, want %d", len(batch), want)
		}
		q.done(batch)
	}
}
