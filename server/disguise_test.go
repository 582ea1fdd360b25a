package server

import (
	"fmt"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/store"
)

// TestDisguise: names that nobody has show the counts that accounts have, in
// their proportions, each name the same one for as long as those don't move,
// and never back to the old one while accounts go over to a new one.
func TestDisguise(t *testing.T) {
	d := disguise{secret: []byte("0123456789abcdef"), without: 7000}
	name := func(i int) jid.JID { return jid.MustParse(fmt.Sprintf("n%d@x.example", i)) }
	counts := func(list ...store.IterationCount) { d.counts.Store(&list) }
	counts()
	if got := d.iterations(name(0)); got != 7000 {
		t.Errorf("without accounts %d", got)
	}
	const names = 2000
	last := map[int]int{}
	for moved := 0; moved <= 10; moved++ {
		counts(store.IterationCount{Iterations: 4096, Keys: 3 * (10 - moved)}, store.IterationCount{Iterations: 10000, Keys: 3 * moved})
		over := 0
		for i := range names {
			n := d.iterations(name(i))
			if n != d.iterations(name(i)) || n < last[i] {
				t.Fatalf("%v had %d, has %d", name(i), last[i], n)
			}
			if last[i] = n; n == 10000 {
				over++
			}
		}
		if want := names * moved / 10; over < want-100 || over > want+100 {
			t.Errorf("%d of %d, want about %d", over, names, want)
		}
	}
}
