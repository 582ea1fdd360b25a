package caps

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
)

// TestLate: when more sessions come at once than questions may be open, as after a start, all hear what they want in the end, and who names what others told
// meanwhile isn't asked.
func TestLate(t *testing.T) {
	var mu sync.Mutex
	told := map[string][]string{}
	c := New(Options{Open: 2, Notify: func(l feature.Listener, nodes []string) {
		mu.Lock()
		defer mu.Unlock()
		told[l.JID().Local()] = append(told[l.JID().Local()], fmt.Sprint(nodes))
	}})
	defer c.Close()
	common, rare := infoWith("a+notify"), infoWith("b+notify")
	ver, rareVer := verOf(t, "sha-1", common), verOf(t, "sha-1", rare)
	gate := make(chan struct{})
	asked := map[string]*session{}
	come := func(name string, s *session, ver string) {
		asked[name] = s
		answer := s.answer
		s.answer = func(ctx context.Context) (*stanza.Stanza, error) { <-gate; return answer(ctx) }
		c.observe(s, presence("sha-1", ver))
	}
	for i := range 40 {
		name := fmt.Sprint("s", i)
		come(name, client(name, common), ver)
	}
	come("rare", client("rare", rare), rareVer)
	come("liar", client("liar", common), "invented")
	come("mind", client("mind", common), rareVer)
	c.observe(asked["mind"], presence("sha-1", ver)) // the last counts
	come("none", client("none", common), rareVer)
	c.observe(asked["none"], presence("sha-1", "")) // known at once, and not told again
	close(gate)
	c.wg.Wait()

	for name, s := range asked {
		want := "[a]"
		switch name {
		case "rare":
			want = "[b]"
		case "liar", "none":
			want = "[]"
		}
		if !slices.Equal(told[name], []string{want}) {
			t.Errorf("%s was told %v, not %s", name, told[name], want)
		}
		if asked := len(s.asked) == 1; asked != (name == "s0" || name == "s1" || name == "rare" || name == "liar") {
			t.Errorf("%s was asked: %v", name, asked)
		}
	}
	if len(c.late) != 0 || len(c.line) != 0 || len(c.open) != 0 {
		t.Errorf("%d wait, %d in line, %d open", len(c.late), len(c.line), len(c.open))
	}
}

// TestLateBounds: so many wait, each once.
func TestLateBounds(t *testing.T) {
	c := New(Options{Open: 1})
	first := client("first", infoWith("a"))
	first.answer = func(ctx context.Context) (*stanza.Stanza, error) { <-ctx.Done(); return nil, ctx.Err() }
	c.observe(first, presence("sha-1", "x"))
	for i := range maxLate + 5 {
		s := &session{jid: jid.MustParse(fmt.Sprintf("s%d@x.lit/r", i))}
		c.observe(s, presence("sha-1", "y"))
		c.observe(s, presence("sha-1", "z"))
	}
	if len(c.late) != maxLate || len(c.line) != maxLate {
		t.Errorf("%d wait, %d in line", len(c.late), len(c.line))
	}
	c.Close()
}
