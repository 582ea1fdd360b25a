package sim

import (
	"testing"
)

// TestFlaws: each property can fail. A run that does something wrong is reported
// under the property that it breaks, by one of a few seeds at least; the same
// seeds without the flaw are clean.
func TestFlaws(t *testing.T) {
	for _, c := range []struct {
		name     string
		flaw     Flaw
		property int
	}{
		{"a live message dropped", DropLive, 1},
		{"two live messages swapped", SwapLive, 1},
		{"a live message repeated", RepeatLive, 1},
		{"a claim by somebody else", ForgeClaim, 2},
		{"presence hidden", HidePresence, 3},
		{"a delivery dropped", DropDelivered, 3},
		{"a sent message lost", LoseSent, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := runner(t)
			for seed := uint64(1); seed <= 60; seed++ {
				if r := run(seed, Options{Flaw: c.flaw}); r.fails(c.property) {
					if r := run(seed, Options{}); len(r.Problems) > 0 {
						t.Errorf("seed %d without the flaw: %v", seed, r.Problems[0])
					}
					t.Logf("seed %d: %v", seed, r.Problems[0])
					return
				}
			}
			t.Error("nothing noticed")
		})
	}
}
