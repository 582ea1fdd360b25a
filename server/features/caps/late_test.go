package caps

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	if o := &c.own; len(o.waiting) != 0 || len(o.line) != 0 || len(o.questions) != 0 || len(o.asked) != 0 {
		t.Errorf("%d wait, %d in line, %d questions, %d open", len(o.waiting), len(o.line), len(o.questions), len(o.asked))
	}
}

// TestLateBounds: so many wait, each once.
func TestLateBounds(t *testing.T) {
	c := New(Options{Open: 1})
	most := c.own.max.listeners
	first := client("first", infoWith("a"))
	first.answer = func(ctx context.Context) (*stanza.Stanza, error) { <-ctx.Done(); return nil, ctx.Err() }
	c.observe(first, presence("sha-1", "x"))
	for i := range most + 5 {
		s := &session{jid: jid.MustParse(fmt.Sprintf("s%d@x.lit/r", i))}
		c.observe(s, presence("sha-1", "y"))
		c.observe(s, presence("sha-1", "z"))
	}
	if o := &c.own; len(o.waiting) != most || len(o.line) != 2 || len(o.questions) != 2 {
		t.Errorf("%d wait, %d in line, %d questions", len(o.waiting), len(o.line), len(o.questions))
	}
	c.Close()
}

// TestTurns: a hash for which somebody was asked in vain comes behind the others, and who
// is asked is the session that is there, when another of its address has come meanwhile.
func TestTurns(t *testing.T) {
	c := New(Options{Open: 1})
	defer c.Close()
	var asked []string
	gate := make(chan struct{})
	come := func(name, called, ver string) {
		c.observe(&session{jid: jid.MustParse(name + "@x.lit/r"), answer: func(context.Context) (*stanza.Stanza, error) {
			<-gate
			asked = append(asked, called) // one at a time
			return nil, stanza.NewError(stanza.ServiceUnavailable, "")
		}}, presence("sha-1", ver))
	}
	come("a", "a", "x")
	come("b", "b, that was", "x")
	come("c", "c", "y")
	come("b", "b, that is", "x")
	close(gate)
	c.wg.Wait()
	if want := []string{"a", "c", "b, that is"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// TestSilent: clients that don't answer hold up who named the same as they, a few at a time, and nobody else.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listeners
		c := New(Options{Notify: l.notify})
		defer c.Close()
		each := c.own.max.each
		info, other := infoWith("n+notify"), infoWith("m+notify")
		named := presence("sha-1", verOf(t, "sha-1", info))
		for i := range 200 {
			answer := silent
			if i == each+1 {
				answer = telling(info)
			}
			c.observe(outsider(fmt.Sprintf("u%d@x.lit/1", i), "own", answer), named)
		}
		if len(c.own.asked) != each {
			t.Errorf("%d are asked for one hash", len(c.own.asked))
		}
		c.observe(outsider("other@x.lit/1", "own", telling(other)), presence("sha-1", verOf(t, "sha-1", other)))
		synctest.Wait()
		if got := l.take(); !slices.Equal(got, []string{"own other@x.lit/1[m]"}) {
			t.Errorf("beside clients that don't answer, told %q", got)
		}
		time.Sleep(c.opt.Timeout)
		synctest.Wait()
		heard, nothing := 0, 0
		for _, s := range l.take() {
			if strings.HasSuffix(s, "[n]") {
				heard++
			} else {
				nothing++
			}
		}
		if nothing == 0 || nothing > each || heard != 200-nothing {
			t.Errorf("after one round %d hear what they want, %d nothing", heard, nothing)
		}
	})
}

// TestKnownElsewhere: what a client of another server tells answers for sessions, and
// the other way round.
func TestKnownElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listeners
		c := New(Options{Notify: l.notify})
		defer c.Close()
		for node, answers := range map[string][2]bool{"a": {true, false}, "b": {false, true}} {
			info := infoWith(node + "+notify")
			named := presence("sha-1", verOf(t, "sha-1", info))
			answer := func(tells bool) func(context.Context) (*stanza.Stanza, error) {
				if tells {
					return telling(info)
				}
				return silent
			}
			c.observe(outsider("s@x.lit/"+node, "own", answer(answers[0])), named)
			c.observeOutside(outsider("c@a.lit/"+node, "romeo", answer(answers[1])), named)
			synctest.Wait()
			want := []string{fmt.Sprintf("own s@x.lit/%s[%s]", node, node), fmt.Sprintf("romeo c@a.lit/%s[%s]", node, node)}
			if got := l.take(); !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
	})
}
