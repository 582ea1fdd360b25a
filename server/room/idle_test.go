package room

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"carillon.im/server/store"
)

// heap is what is in use, and how many goroutines there are.
func heap() (bytes int64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}

// TestIdleRooms: rooms in which nobody is are rows of the store. In memory they cost nothing, and no
// goroutine; with one quiet occupant each they cost some 2.5 KB. CARILLON_IDLE_ROOMS says how many.
func TestIdleRooms(t *testing.T) {
	rooms := 1000
	if n, err := strconv.Atoi(os.Getenv("CARILLON_IDLE_ROOMS")); err == nil {
		rooms = n
	}
	ahead := time.Duration(0)
	disk, err := store.Open(t.Context(), store.Options{Path: t.TempDir(), CommitDelay: -1}) // in memory it would be counted too
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	w := newWorld(t, func(c *Config) { c.Limits.Rooms, c.Store = rooms+1, disk })
	w.now = func() time.Time { return time.Now().Add(ahead) }
	sweep := func() {
		done := make(chan struct{})
		w.hub.loops[0].tell(func(l *loop) bool {
			ahead += 2 * forgetAfter
			l.sweep(w.now())
			close(done)
			return false
		})
		<-done
	}
	each := func(f func(name string)) {
		for i := range rooms {
			f(fmt.Sprintf("r%d", i))
		}
		w.forgetAll()
	}
	w.join("o@example/0", "warm", "Owner") // what is made once
	w.open("o@example/0", "warm")
	w.send("o@example/0", "<presence type='unavailable' to='warm@rooms.example/Owner'/>")
	sweep()
	w.forgetAll()
	before, goroutines := heap()
	each(func(name string) {
		w.join("o@example/0", name, "Owner")
		w.open("o@example/0", name, "persistentroom", "1")
	})
	full, n := heap()
	t.Logf("%d rooms with one quiet occupant: %d bytes each", rooms, (full-before)/int64(rooms))
	if each := (full - before) / int64(rooms); each > 6<<10 {
		t.Errorf("a quiet room takes %d bytes", each)
	}
	if n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	each(func(name string) {
		w.send("o@example/0", "<presence type='unavailable' to='"+name+"@rooms.example/Owner'/>")
	})
	sweep()
	empty, n := heap()
	t.Logf("%d rooms in which nobody is: %d bytes each", rooms, (empty-before)/int64(rooms))
	if each := (empty - before) / int64(rooms); each > 64 { // the store's own memory is in the sum
		t.Errorf("a room in which nobody is takes %d bytes", each)
	}
	if n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if loaded := w.hub.Stats().Loaded.Load(); loaded != 0 {
		t.Errorf("%d rooms are in memory", loaded)
	}
	w.join("o@example/0", "r7", "Owner")
	if got := w.take("o@example/0"); len(got) != 2 { // himself, and the subject: the room is as it was
		t.Errorf("who comes back is told %d stanzas", len(got))
	}
}
