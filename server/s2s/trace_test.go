package s2s

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"carillon.im/server/trail"
)

// TestTrace: the steps that a message takes are told, also where the other server
// doesn't acknowledge what it takes.
func TestTrace(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var steps []string
	a := w.add("a.example", nil, func(c *Config) {
		c.Limits.LivedOn = time.Second
		c.Trace = func(ref trail.Ref, step trail.Step, condition string, _ time.Time) {
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, fmt.Sprintf("%d %d %s", ref, step, condition))
		}
	})
	b := w.add("b.example", nil)
	said := plainServer(t, w, "plain.example", "")
	for i, to := range []string{"u@b.example", "u@plain.example", "u@nowhere.example"} {
		a.SendKept(a.message(to, "traced"), uint64(i+1), trail.Ref(64*(i+1)))
	}
	a.SendKept(a.message("u@b.example", "untraced"), 9, 0)
	b.expect("traced", "untraced")
	(<-said).until("traced</body></message>")
	waitFor(t, "all leave the outbox", func() bool { return len(a.forgotten()) == 4 })
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(steps)
	want := []string{
		fmt.Sprintf("128 %d ", trail.Written), fmt.Sprintf("128 %d ", trail.LivedOn), fmt.Sprintf("192 %d remote-server-not-found", trail.Returned),
		fmt.Sprintf("64 %d ", trail.Written), fmt.Sprintf("64 %d ", trail.Acknowledged),
	}
	if !slices.Equal(steps, want) {
		t.Errorf("got %q, want %q", steps, want)
	}
}
