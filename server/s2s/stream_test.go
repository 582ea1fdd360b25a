package s2s

import (
	"fmt"
	"strings"
	"testing"
)

// TestBothWays: two servers find and trust each other, and what is sent comes, in
// order, and is acknowledged.
func TestBothWays(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	var want []string
	for i := range 100 {
		a.send("bob@b.example", fmt.Sprint("m", i, "."), uint64(i+1))
		want = append(want, fmt.Sprint("<body>m", i, ".</body>"))
	}
	b.expect(want...)
	waitFor(t, "acknowledgements", func() bool { return len(a.forgotten()) == 100 })
	b.send("alice@a.example/r", "back", 1)
	a.expect("back")
	waitFor(t, "acknowledgement", func() bool { return len(b.forgotten()) == 1 })
	if got := a.taken()[0]; got != "<message from='alice@b.example/r' to='alice@a.example/r' id='back' type='chat'><body>back</body></message>" {
		t.Errorf("it came as %s", got)
	}
	for _, h := range []*host{a, b} {
		if !strings.Contains(h.log.String(), "EXTERNAL") {
			t.Errorf("%s: no certificate was used", h.domain)
		}
	}
}
