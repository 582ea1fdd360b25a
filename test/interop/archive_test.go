package interop

import (
	"fmt"
	"slices"
	"testing"
)

// page is one answer of an archive query (XEP-0313, XEP-0059).
type page struct {
	Page []struct {
		Archive, ID, Body, From, To string
		Delayed                     bool
	}
	Complete    bool
	First, Last string
	Count       int // -1: not told
}

func (c *client) archive(a args) page {
	c.t.Helper()
	var p page
	if err := c.call("archive", a, &p); err != nil {
		c.t.Fatalf("%s: archive %v: %v", c.name, a, err)
	}
	return p
}

func (p page) bodies() []string {
	var bodies []string
	for _, m := range p.Page {
		bodies = append(bodies, m.Body)
	}
	return bodies
}

// archivePaging: 25 messages in both directions and three from somebody else, paged forward, backward and by
// correspondent.
func archivePaging(t *testing.T, s *server, l library) {
	alice, bob, carol := s.account(t, "alice"), s.account(t, "bob"), s.account(t, "carol")
	a, b, c := online(t, s, l, alice, "one"), online(t, s, l, bob, "one"), online(t, s, l, carol, "one")
	var want []string // alice's archive, oldest first
	live := map[string]string{}
	for i := range 25 {
		body := fmt.Sprintf("line %d", i)
		want = append(want, body)
		if i%2 == 0 {
			b.send(alice.bare, body)
			live[body] = a.await("message", message(body)).Archive
		} else {
			a.send(bob.bare, body)
			b.await("message", message(body))
		}
	}
	for i := range 3 {
		body := fmt.Sprintf("aside %d", i)
		want = append(want, body)
		c.send(alice.bare, body)
		a.await("message", message(body))
	}

	ids := map[string]string{}
	var forward []string
	for query := (args{"max": 10}); ; {
		p := a.archive(query)
		checkPage(t, p, len(want))
		forward = append(forward, p.bodies()...)
		for _, m := range p.Page {
			ids[m.Body] = m.Archive
		}
		if p.Complete {
			break
		}
		query["after"] = p.Last
	}
	if !slices.Equal(forward, want) {
		t.Errorf("forward: got %q, want %q", forward, want)
	}
	for body, id := range live {
		if ids[body] != id {
			t.Errorf("%q came live with id %q and from the archive with %q", body, id, ids[body])
		}
	}

	var backward []string
	for query := (args{"max": 10, "before": ""}); ; {
		p := a.archive(query)
		checkPage(t, p, len(want))
		backward = append(p.bodies(), backward...) // a page is in order, whichever way one pages
		if p.Complete {
			break
		}
		query["before"] = p.First
	}
	if !slices.Equal(backward, want) {
		t.Errorf("backward: got %q, want %q", backward, want)
	}

	if p := a.archive(args{"max": 50, "peer": carol.bare}); !slices.Equal(p.bodies(), want[25:]) {
		t.Errorf("with carol: got %q, want %q", p.bodies(), want[25:])
	}
	if p := b.archive(args{"max": 50}); !slices.Equal(p.bodies(), want[:25]) {
		t.Errorf("bob's archive: got %q, want %q", p.bodies(), want[:25])
	}
	// XEP-0313 4.3.2: an unknown place is no empty page.
	a.refused("archive", args{"max": 10, "after": "no-such-id"}, "iq", "item-not-found")
}

func checkPage(t *testing.T, p page, total int) {
	t.Helper()
	if p.Count != -1 && p.Count != total {
		t.Errorf("count %d, want %d", p.Count, total)
	}
	if len(p.Page) == 0 {
		t.Fatal("an empty page")
	}
	if p.First != p.Page[0].Archive || p.Last != p.Page[len(p.Page)-1].Archive {
		t.Errorf("page from %q to %q, set says %q to %q", p.Page[0].Archive, p.Page[len(p.Page)-1].Archive, p.First, p.Last)
	}
	for _, m := range p.Page {
		if !m.Delayed {
			t.Errorf("%q bears no time", m.Body)
		}
	}
}
