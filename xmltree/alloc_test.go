//go:build !race

package xmltree

import "testing"

// The race detector makes pools forget at random, so these do not run under it.

// TestAllocations holds the promise that reading a unit allocates only the
// element: document, string, nodes, attributes.
func TestAllocations(t *testing.T) {
	s := NewScanner(Limits{})
	if _, _, err := s.Next([]byte(streamHeader)); err != nil {
		t.Fatal(err)
	}
	doc := []byte(chatMessage)
	n := testing.AllocsPerRun(100, func() {
		if tok, _, err := s.Next(doc); err != nil || tok.Kind != Unit {
			t.Fatal(err)
		}
	})
	if n >= 5 {
		t.Errorf("%v allocations for a message", n)
	}
}

func TestWriterAllocations(t *testing.T) {
	buf := make([]byte, 0, 512)
	n := testing.AllocsPerRun(100, func() {
		w := NewWriter(buf, "jabber:client")
		w.Start("jabber:client", "message").Attr("to", "a").Start("jabber:client", "body").Text("x & y").End().End().Bytes()
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
