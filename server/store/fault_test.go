package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

var errFault = errors.New("fault")

// ids returns every id of an account's archive.
func ids(t *testing.T, s *store.Store, a store.AccountID) []store.ArchiveID {
	t.Helper()
	list, more := storetest.Page(t, s, store.ArchiveQuery{Account: a, Max: 1 << 20})
	if more {
		t.Fatal("more")
	}
	return list
}

// submitAll submits units that gather in one transaction and returns their results.
func submitAll(s *store.Store, units ...[]store.Op) []error {
	results := make(chan error, len(units))
	for _, ops := range units {
		s.Submit(store.Unit{Ops: ops, Done: func(err error) { results <- err }})
	}
	var all []error
	for range units {
		all = append(all, <-results)
	}
	return all
}

func TestFaults(t *testing.T) {
	for _, where := range []string{"file", ":memory:"} {
		for _, point := range []string{"begin", "exec", "commit", "open", "read"} {
			if where == ":memory:" && point == "open" {
				continue // it is never opened again
			}
			t.Run(where+"/"+point, func(t *testing.T) {
				var failing atomic.Pointer[string]
				fault := func(p string) error {
					// A connection is opened again only after something else failed.
					if f := failing.Load(); f != nil && (*f == p || *f == "open" && p == "commit") {
						return fmt.Errorf("disk gone: %w", errFault)
					}
					return nil
				}
				path := where
				if where == "file" {
					path = t.TempDir()
				}
				s := open(t, store.Options{Path: path, Fault: fault})
				a, b := storetest.Account(t, s, "a@x.example"), storetest.Account(t, s, "b@x.example")
				kv := store.KVPut{Account: a, Space: "s", Key: "k"}
				ok := []store.Op{storetest.Entry(a, 1, "b@x.example"), storetest.Entry(b, 1, "a@x.example"), kv}
				if err := submitAll(s, ok)[0]; err != nil {
					t.Fatal(err)
				}
				failing.Store(&point)
				if point == "read" {
					if _, err := s.KVGet(t.Context(), a, "s", "k"); !errors.Is(err, errFault) {
						t.Errorf("read: %v", err)
					}
					if err := s.Check(t.Context()); !errors.Is(err, errFault) {
						t.Errorf("check: %v", err)
					}
				} else {
					for i, err := range submitAll(s,
						[]store.Op{storetest.Entry(a, 2, "b@x.example"), storetest.Entry(b, 2, "a@x.example"), kv},
						[]store.Op{storetest.Entry(a, 3, "b@x.example")},
					) {
						if !errors.Is(err, errFault) {
							t.Errorf("unit %d: %v", i, err)
						}
					}
					if err := s.Check(t.Context()); !errors.Is(err, errFault) {
						t.Errorf("check: %v", err)
					}
					if got := ids(t, s, a); len(got) != 1 {
						t.Errorf("visible after the fault: %v", got)
					}
				}
				failing.Store(nil)
				if err := s.Check(t.Context()); err != nil {
					t.Errorf("check after the fault: %v", err)
				}
				for _, err := range submitAll(s, []store.Op{storetest.Entry(a, 2, "b@x.example")}, []store.Op{storetest.Entry(a, 4, "b@x.example")}) {
					if err != nil {
						t.Errorf("after the fault: %v", err)
					}
				}
				if got := fmt.Sprint(ids(t, s, a), ids(t, s, b)); got != fmt.Sprint([]store.ArchiveID{1, 2, 4}, []store.ArchiveID{1}) {
					t.Errorf("archives %s", got)
				}
			})
		}
	}
}

// TestFullIsRecognisable, also that a unit that is at fault itself keeps its own error when the transaction fails too.
func TestFullIsRecognisable(t *testing.T) {
	var failing atomic.Bool
	s := open(t, store.Options{Path: t.TempDir(), Fault: func(p string) error {
		if failing.Load() && p == "commit" {
			return store.ErrFull
		}
		return nil
	}})
	a := storetest.Account(t, s, "a@x.example")
	failing.Store(true)
	if err := s.Commit(t.Context(), storetest.Entry(a, 1, "b@x.example")); !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
	if err := s.Commit(t.Context(), storetest.Entry(99, 1, "b@x.example")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestDiskFull fills a small file system: what was committed stays, what was not is nowhere, and writing goes on when there is room again.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a file system of limited size")
	}
	dir := t.TempDir()
	if err := mount(dir, "6m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Path: dir, CommitDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	a, b := storetest.Account(t, s, "a@x.example"), storetest.Account(t, s, "b@x.example")
	filler := bytes.Repeat([]byte("x"), 4000)
	entry := func(account store.AccountID, id store.ArchiveID) store.Op {
		return store.ArchiveAppend{Account: account, ID: id, Peer: jid.MustParse("c@x.example"), Stanza: filler}
	}
	var good []store.ArchiveID
	next := store.ArchiveID(1)
	for ; ; next++ {
		err := s.Commit(t.Context(), entry(a, next), entry(b, next))
		if errors.Is(err, store.ErrFull) {
			break
		} else if err != nil {
			t.Fatalf("unit %d: %v", next, err)
		}
		good = append(good, next)
	}
	for range 3 {
		next++
		if err := s.Commit(t.Context(), entry(a, next), entry(b, next)); err == nil {
			good = append(good, next) // what the failed transaction gave up may be room enough for another
		} else if !errors.Is(err, store.ErrFull) {
			t.Fatal(err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	next++
	if err := s.Commit(t.Context(), entry(a, next), entry(b, next)); err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	good = append(good, next)
	check := func() {
		t.Helper()
		for _, account := range []store.AccountID{a, b} {
			var got []store.ArchiveID
			_, err := s.Archive(t.Context(), store.ArchiveQuery{Account: account, Max: 1 << 20}, func(m store.ArchivedMessage) error {
				got = append(got, m.ID)
				return nil
			})
			if err != nil || fmt.Sprint(got) != fmt.Sprint(good) {
				t.Errorf("account %d: %d entries, committed %d, %v", account, len(got), len(good), err)
			}
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(t.Context(), store.Options{Path: dir}); err != nil {
		t.Fatal(err)
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBusy(t *testing.T) {
	release := make(chan struct{})
	var hold atomic.Bool
	s := open(t, store.Options{Path: t.TempDir(), MaxQueuedUnits: 10, MaxQueuedBytes: 100_000, Fault: func(p string) error {
		if p == "begin" && hold.Load() {
			<-release
		}
		return nil
	}})
	a := storetest.Account(t, s, "a@x.example")
	hold.Store(true)
	results := make(chan error, 100)
	submit := func(n int) {
		s.Submit(store.Unit{Ops: []store.Op{store.KVPut{Account: a, Space: "s", Key: "k", Value: make([]byte, n)}}, Done: func(err error) { results <- err }})
	}
	for range 10 {
		submit(1)
	}
	submit(1)
	if err := <-results; !errors.Is(err, store.ErrBusy) { // told at once, the others wait
		t.Fatalf("eleventh unit: %v", err)
	}
	if st := s.Stats(); st.Queued != 10 || st.Busy != 1 {
		t.Errorf("stats %+v", st)
	}
	hold.Store(false)
	close(release)
	for range 10 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	submit(100_000)
	if err := <-results; !errors.Is(err, store.ErrBusy) {
		t.Errorf("too many bytes: %v", err)
	}
	submit(1)
	if err := <-results; err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Queued != 0 || st.QueuedBytes != 0 {
		t.Errorf("stats %+v", st)
	}
}

// starting begins the victim's line that says which start of the store this is.
const starting = "start"

const victimDir = "CARILLON_STORE_TEST_DIR"

// victim commits until it is killed, and prints what it was told is committed.
func victim(dir string) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: dir})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	bare := jid.MustParse("a@x.example")
	d, err := s.LoadAccount(ctx, bare)
	if errors.Is(err, store.ErrNotFound) {
		d.ID, err = s.CreateAccount(ctx, bare, nil)
	}
	if err != nil {
		fmt.Println("account:", err)
		os.Exit(1)
	}
	fmt.Println(starting, s.Starts()) // a line of its own, before the ids
	out := make(chan store.ArchiveID, 1<<20)
	go func() {
		w := bufio.NewWriter(os.Stdout)
		for id := range out {
			fmt.Fprintln(w, int64(id))
			if len(out) == 0 {
				w.Flush()
			}
		}
	}()
	slots := make(chan struct{}, 200)
	for id := d.LastArchiveID + 1; ; id++ {
		slots <- struct{}{}
		s.Submit(store.Unit{
			Ops: []store.Op{storetest.Entry(d.ID, id, "b@x.example"), store.KVPut{Account: d.ID, Space: "n", Key: "n", Value: strconv.AppendInt(nil, int64(id), 10)}},
			Done: func(err error) {
				if err != nil {
					fmt.Println("commit:", err)
					os.Exit(1)
				}
				out <- id
				<-slots
			},
		})
	}
}

// TestKill kills a committing process at random moments: all that it said was committed is there, and no unit is there in part.
func TestKill(t *testing.T) {
	kills := 10
	if n, err := strconv.Atoi(os.Getenv("CARILLON_KILLS")); err == nil {
		kills = n
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	told := store.ArchiveID(0)
	for i := range kills {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		lines.Scan()
		if want := fmt.Sprint(starting, " ", 2*i+1); lines.Text() != want { // one by the victim and one by us each time
			t.Fatalf("the victim said %q, want %q", lines.Text(), want)
		}
		// At different loads: right after Open as well as after rounds of moving.
		for n := 0; n < (i%10)*(i%10)*150 && lines.Scan(); n++ {
			told = parseID(t, lines.Text())
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			told = parseID(t, lines.Text())
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the victim ended by itself")
		}
		func() {
			s, err := store.Open(t.Context(), store.Options{Path: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if n := s.Starts(); n != uint64(2*i+2) {
				t.Fatalf("start %d after %d kills", n, i+1)
			}
			d, err := s.LoadAccount(t.Context(), jid.MustParse("a@x.example"))
			if err != nil {
				t.Fatal(err)
			}
			all := ids(t, s, d.ID)
			for i, id := range all {
				if id != store.ArchiveID(i+1) {
					t.Fatalf("entry %d is %d", i, id)
				}
			}
			last := store.ArchiveID(len(all))
			if last < told {
				t.Fatalf("told %d, found %d", told, last)
			}
			kv, err := s.KVGet(t.Context(), d.ID, "n", "n")
			if len(all) == 0 && errors.Is(err, store.ErrNotFound) {
				kv, err = []byte("0"), nil
			}
			if err != nil || string(kv) != strconv.Itoa(len(all)) {
				t.Fatalf("a unit in part: value %s, %d entries, %v", kv, len(all), err)
			}
			if d.LastArchiveID != last {
				t.Errorf("last id %d, not %d", d.LastArchiveID, last)
			}
			told = last
		}()
	}
	t.Logf("%d kills, %d messages, none lost", kills, told)
}

func parseID(t *testing.T, line string) store.ArchiveID {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatalf("the victim said %q", line)
	}
	return store.ArchiveID(n)
}

// TestReopen: the tail survives an orderly stop, and what was half moved is neither doubled nor lost.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	next := store.ArchiveID(1)
	for round := range 6 {
		s, err := store.Open(t.Context(), store.Options{Path: dir, CommitDelay: -1})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			for i := range 5 {
				storetest.Account(t, s, fmt.Sprintf("u%d@x.example", i))
			}
		}
		for id := range store.AccountID(5) {
			if got := len(ids(t, s, id+1)); got != int(next)-1 {
				t.Fatalf("round %d: account %d has %d entries, not %d", round, id+1, got, next-1)
			}
		}
		for range 517 {
			var ops []store.Op
			for id := range store.AccountID(5) {
				ops = append(ops, storetest.Entry(id+1, next, "b@x.example"))
			}
			next++
			if err := s.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemovalResumes: an archive whose removal was cut short is deleted by the next Open.
func TestRemovalResumes(t *testing.T) {
	dir := t.TempDir()
	var cut atomic.Int32
	s, err := store.Open(t.Context(), store.Options{Path: dir, CommitDelay: -1, Fault: func(p string) error {
		if p == "commit" && cut.Load() > 0 && cut.Add(-1) == 0 {
			cut.Store(1)
			return errFault
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := storetest.Account(t, s, "a@x.example")
	var ops []store.Op
	for i := range store.ArchiveID(2500) {
		ops = append(ops, storetest.Entry(a, i+1, "b@x.example"))
	}
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	cut.Store(3) // the account and 1000 entries go
	if err := s.RemoveAccount(t.Context(), jid.MustParse("a@x.example")); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, store.Options{Path: dir})
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: a})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d entries left", n)
		}
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, store.Options{Path: dir})
	if _, err := store.Open(t.Context(), store.Options{Path: dir}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("got %v", err)
	}
}

// TestPrivate: nobody else reads the keys in the database, whatever the folder's mode.
func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, store.Options{Path: dir})
	storetest.Account(t, s, "a@x.example")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Errorf("only %d files", len(files))
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

// TestReaderIsUsedAgain: who reads one thing after the other has one connection,
// and one page cache; another is opened for who reads beside it, and not again.
func TestReaderIsUsedAgain(t *testing.T) {
	var opened atomic.Int32
	var together atomic.Pointer[chan struct{}] // not nil: two reads meet there
	s, err := store.Open(t.Context(), store.Options{Path: t.TempDir(), Readers: 4, Fault: func(point string) error {
		switch meet := together.Load(); {
		case point == "open":
			opened.Add(1)
		case point == "read" && meet != nil:
			select {
			case *meet <- struct{}{}:
			case <-*meet:
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := storetest.Account(t, s, "a@x.example")
	opened.Store(0)
	for range 8 {
		ids(t, s, a)
	}
	if n := opened.Load(); n > 1 {
		t.Errorf("one reader opened %d connections", n)
	}
	opened.Store(0)
	meet := make(chan struct{})
	together.Store(&meet)
	for range 3 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Archive(context.Background(), store.ArchiveQuery{Account: a, Max: 1}, func(store.ArchivedMessage) error { return nil })
		}()
		ids(t, s, a)
		<-done
	}
	if n := opened.Load(); n > 1 { // none, if the housekeeper has read beside somebody before
		t.Errorf("a second reader beside the first opened %d connections", n)
	}
}
