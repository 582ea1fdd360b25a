package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/server/store"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "the seed that TestSeed replays")
	seedsFlag = flag.Int("seeds", 0, "how many seeds TestSeeds runs; 0: 200")
	firstFlag = flag.Uint64("first", 1, "the first of them")
	twiceFlag = flag.Int("twice", 30, "how many seeds TestReplay runs twice")
)

// TestMain lets one goroutine run at a time, so that of those that go on at once
// the order is always the same (DESIGN.md).
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// runner gives what runs a seed, each in a bubble of its own, all with the same databases.
func runner(t *testing.T) func(seed uint64, o Options) *Result {
	t.Helper()
	var dbs [2]store.Memory
	t.Cleanup(func() {
		for i := range dbs {
			if err := dbs[i].Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return func(seed uint64, o Options) (r *Result) {
		synctest.Test(t, func(t *testing.T) {
			o.Wait, o.Databases = synctest.Wait, &dbs
			var err error
			if r, err = Run(seed, o); err != nil {
				t.Fatal(err)
			}
		})
		return r
	}
}

// TestSeed replays one seed: go test ./sim -run TestSeed -seed=N -v. If it fails,
// its script is made as short as it gets, and what happened is printed.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("no -seed")
	}
	run := runner(t)
	r := run(*seedFlag, Options{})
	if len(r.Problems) > 0 {
		explain(t, r, run)
	}
	t.Logf("%+v", r.Counts)
}

// explain minimises a failing run and prints it.
func explain(t *testing.T, r *Result, run func(uint64, Options) *Result) {
	t.Helper()
	small, kept := minimise(r, func(keep []bool) *Result { return run(r.Seed, Options{Keep: keep}) })
	for _, l := range small.Log {
		if !l.minor() {
			fmt.Println(l)
		}
	}
	for _, p := range small.Problems {
		fmt.Println(p)
	}
	t.Errorf("seed %d: %s\n(%d of %d ops are enough; replay with go test ./sim -run 'TestSeed$' -seed=%d -v)", r.Seed, r.Problems[0], kept, r.Ops, r.Seed)
}

// TestSeeds runs many seeds: some, or as many as -seeds says. The first that fails is
// explained, of the others it is said how to replay them.
func TestSeeds(t *testing.T) {
	n := *seedsFlag
	if n == 0 {
		n = 200
	}
	var done, failed atomic.Uint64
	var sum Counts
	began := time.Now()
	stop := make(chan struct{})
	defer close(stop)
	if *seedsFlag > 0 {
		go progress(n, began, &done, &failed, stop)
	}
	run := runner(t)
	for i := range uint64(n) {
		r := run(*firstFlag+i, Options{})
		done.Add(1)
		sum.add(r.Counts)
		if len(r.Problems) == 0 {
			continue
		}
		switch n := failed.Add(1); {
		case n == 1:
			explain(t, r, run)
		case n <= 20:
			t.Errorf("seed %d: %s\n(replay with go test ./sim -run 'TestSeed$' -seed=%d -v)", r.Seed, r.Problems[0], r.Seed)
		}
	}
	took := time.Since(began)
	t.Logf("%d seeds, %d failed, %.0f seeds/s: %+v", n, failed.Load(), float64(n)/took.Seconds(), sum)
}

// stuck is how long a seed may take: it takes milliseconds, and in a bubble whose
// goroutines wait for one another for ever nothing else would end it.
const stuck = 5 * time.Minute

// progress says how far it is, and ends what doesn't.
func progress(n int, began time.Time, done, failed *atomic.Uint64, stop chan struct{}) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	last, since := uint64(0), began
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			d := done.Load()
			if d != last {
				last, since = d, time.Now()
			} else if time.Since(since) > stuck {
				panic(fmt.Sprintf("seed %d doesn't end", *firstFlag+d))
			}
			fmt.Printf("sim: from %d on %d of %d seeds, %d failed, %.0f seeds/s\n", *firstFlag, d, n, failed.Load(), float64(d)/time.Since(began).Seconds())
		}
	}
}

// TestNoWallClock: there is no run by real time.
func TestNoWallClock(t *testing.T) {
	if _, err := Run(1, Options{Wait: func() {}}); err == nil {
		t.Error("it ran")
	}
}

// TestReplay: a seed is a run. All that happened is the same the second time, also with databases that nothing was ever in.
func TestReplay(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector shuffles goroutines")
	}
	run := runner(t)
	for seed := *firstFlag; seed < *firstFlag+uint64(*twiceFlag); seed++ {
		a, b := run(seed, Options{}), runner(t)(seed, Options{})
		if a.Hash() == b.Hash() {
			continue
		}
		for i := range a.Log {
			if i >= len(b.Log) || a.Log[i] != b.Log[i] {
				from := max(0, i-5)
				t.Fatalf("seed %d: differs at %d:\n%s\n--\n%s", seed, i, lines(a.Log[from:min(i+2, len(a.Log))]), lines(b.Log[from:min(i+2, len(b.Log))]))
			}
		}
		t.Fatalf("seed %d: the second run is longer", seed)
	}
}

func lines(list []Line) string {
	var b strings.Builder
	for _, l := range list {
		b.WriteString(l.String() + "\n")
	}
	return b.String()
}
