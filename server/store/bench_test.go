//go:build unix

package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// CARILLON_BENCH_DIR chooses the file system: a disk shows what commits cost, a tmpfs what they compute.
func benchOpen(b *testing.B, o store.Options) *store.Store {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("CARILLON_BENCH_DIR"), "store")
	if err != nil {
		b.Fatal(err)
	}
	o.Path = dir
	s, err := store.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		os.RemoveAll(dir)
	})
	return s
}

func cpu() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// conversation makes the units of one-to-one messages: an entry for each of two of 50 accounts.
type conversation struct {
	ids  []store.AccountID
	jids []jid.JID
	last []store.ArchiveID
	body []byte
	rnd  *rand.Rand
}

func newConversation(b *testing.B, s *store.Store) *conversation {
	c := &conversation{rnd: rand.New(rand.NewPCG(1, 2))}
	c.body = fmt.Appendf(nil, "<message from='user1@example.org/phone.f00' to='user2@example.org' type='chat' id='0123456789'><body>%0340d</body></message>", 1)
	for i := range 50 {
		bare := fmt.Sprintf("user%d@example.org", i)
		c.ids = append(c.ids, storetest.Account(b, s, bare))
		c.jids = append(c.jids, jid.MustParse(bare+"/phone.f00"))
		c.last = append(c.last, 0)
	}
	return c
}

func (c *conversation) entry(i, peer int) store.Op {
	c.last[i] = store.NextArchiveID(c.last[i], time.Now())
	return store.ArchiveAppend{Account: c.ids[i], ID: c.last[i], Peer: c.jids[peer], Stanza: c.body}
}

func (c *conversation) message() []store.Op {
	i := c.rnd.IntN(50)
	k := (i + 1 + c.rnd.IntN(49)) % 50
	return []store.Op{c.entry(i, k), c.entry(k, i)}
}

// BenchmarkCommit: messages (two rows each) in transactions of a given number; one op is one row.
func BenchmarkCommit(b *testing.B) {
	for _, batch := range []int{1, 4, 16, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := benchOpen(b, store.Options{CommitDelay: -1, CommitMax: batch})
			c := newConversation(b, s)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for rows := 0; rows < b.N; {
				for range batch {
					wg.Add(1)
					s.Submit(store.Unit{Ops: c.message(), Done: func(err error) {
						if err != nil {
							b.Error(err)
						}
						wg.Done()
					}})
					rows += 2
				}
				wg.Wait()
			}
			b.ReportMetric(float64(cpu()-start)/1e3/float64(b.N), "cpu-µs/row")
		})
	}
}

// BenchmarkRate: messages at a steady rate with different delays; one op is one message. It reports CPU per message and the latency of commits.
func BenchmarkRate(b *testing.B) {
	for _, rate := range []int{500, 1000} {
		b.Run(fmt.Sprintf("rate=%d/nothing", rate), func(b *testing.B) { // what the benchmark itself uses
			used, start := cpu(), time.Now()
			for i := range b.N {
				time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			}
			b.ReportMetric(float64(cpu()-used)/1e3/float64(b.N), "cpu-µs/msg")
		})
		for _, delay := range []time.Duration{-1, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond} {
			b.Run(fmt.Sprintf("rate=%d/delay=%s", rate, max(delay, 0)), func(b *testing.B) {
				s := benchOpen(b, store.Options{CommitDelay: delay})
				c := newConversation(b, s)
				took := make([]time.Duration, b.N)
				var wg sync.WaitGroup
				wg.Add(b.N)
				b.ResetTimer()
				used, start := cpu(), time.Now()
				for i := range b.N {
					due := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
					time.Sleep(time.Until(due))
					at := time.Now()
					s.Submit(store.Unit{Ops: c.message(), Done: func(err error) {
						took[i] = time.Since(at)
						wg.Done()
					}})
				}
				wg.Wait()
				b.ReportMetric(float64(cpu()-used)/1e3/float64(b.N), "cpu-µs/msg")
				slices.Sort(took)
				b.ReportMetric(float64(took[b.N/2])/1e3, "p50-µs")
				b.ReportMetric(float64(took[b.N*99/100])/1e3, "p99-µs")
				b.ReportMetric(float64(s.Stats().Commits)/float64(b.N), "commits/msg")
			})
		}
	}
}

// filled is a store with 50 accounts of n entries each, in the archive table.
func filled(b *testing.B, n int) (*store.Store, *conversation) {
	s := benchOpen(b, store.Options{CommitDelay: -1})
	c := newConversation(b, s)
	for range n * 50 / 2 / 200 {
		var ops []store.Op
		for range 200 {
			ops = append(ops, c.message()...)
		}
		if err := s.Commit(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	storetest.Settle(b, s)
	return s, c
}

// BenchmarkPage: pages of 50 messages; one op is one row.
func BenchmarkPage(b *testing.B) {
	s, c := filled(b, 2000)
	for name, q := range map[string]store.ArchiveQuery{
		"newest": {Backward: true}, "middle": {AfterID: c.last[0] - 500_000}, "with": {With: jid.MustParse("user7@example.org")},
	} {
		b.Run(name, func(b *testing.B) {
			q.Max = 50
			b.ReportAllocs()
			b.ResetTimer()
			rows, bytes := 0, 0
			for i := 0; rows < b.N; i++ {
				q.Account = c.ids[i%7]
				n := rows
				if _, err := s.Archive(context.Background(), q, func(m store.ArchivedMessage) error {
					rows++
					bytes += len(m.Stanza)
					return nil
				}); err != nil || rows == n {
					b.Fatal(rows, err)
				}
			}
		})
	}
	b.Run("count", func(b *testing.B) {
		for i := range b.N {
			if _, err := s.ArchiveCount(context.Background(), store.ArchiveQuery{Account: c.ids[i%50]}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkThread: a thread of ten messages out of a large archive; one op is one page.
func BenchmarkThread(b *testing.B) {
	const entries = 200_000
	s := benchOpen(b, store.Options{CommitDelay: -1})
	c := newConversation(b, s)
	for n := 0; n < entries; {
		var ops []store.Op
		for range 1000 {
			op := c.entry(0, 1).(store.ArchiveAppend)
			if n%(entries/10) == 0 {
				op.Thread = "e0ffe42b28561960c6b12b944a092794b9683a38"
			}
			ops = append(ops, op)
			n++
		}
		if err := s.Commit(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	storetest.Settle(b, s)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		rows := 0
		q := store.ArchiveQuery{Account: c.ids[0], Thread: "e0ffe42b28561960c6b12b944a092794b9683a38", Max: 50}
		if _, err := s.Archive(b.Context(), q, func(store.ArchivedMessage) error { rows++; return nil }); err != nil || rows != 10 {
			b.Fatal(rows, err)
		}
	}
}

// BenchmarkLogin: what a login reads, in a store of 2000 accounts with rosters of 20.
func BenchmarkLogin(b *testing.B) {
	s := benchOpen(b, store.Options{CommitDelay: -1})
	var ops []store.Op
	for i := range 2000 {
		id := storetest.Account(b, s, fmt.Sprintf("user%d@example.org", i))
		for k := range 20 {
			ops = append(ops, store.RosterPut{Account: id, Version: int64(k), Item: store.RosterItem{
				JID: jid.MustParse(fmt.Sprintf("user%d@example.org", i+k+1)), Name: "Some Body", Subscription: "both", Groups: []string{"Friends"},
			}})
		}
	}
	if err := s.Commit(b.Context(), ops...); err != nil {
		b.Fatal(err)
	}
	bares := make([]jid.JID, 2000)
	for i := range bares {
		bares[i] = jid.MustParse(fmt.Sprintf("user%d@example.org", i))
	}
	b.Run("keys", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, _, err := s.Keys(context.Background(), bares[i%2000], sasl.SHA256); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("account", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, err := s.LoadAccount(context.Background(), bares[i%2000]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen opens a store of 3000 accounts and 60,000 entries, some thousand of them in the tail, reads one account and closes it.
func BenchmarkOpen(b *testing.B) {
	dir, err := os.MkdirTemp(os.Getenv("CARILLON_BENCH_DIR"), "store")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(b.Context(), store.Options{Path: dir, CommitDelay: -1})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 3000 {
		storetest.Account(b, s, fmt.Sprintf("user%d@example.org", i))
	}
	for i := range store.ArchiveID(21) {
		var ops []store.Op
		for a := range store.AccountID(3000) {
			ops = append(ops, storetest.Entry(a+1, i+1, "b@x.example"))
		}
		if err := s.Commit(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for range b.N {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if s, err = store.Open(b.Context(), store.Options{Path: dir}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.LoadAccount(b.Context(), jid.MustParse("user1@example.org")); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(s.Stats().Tail), "rows-in-tail")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
