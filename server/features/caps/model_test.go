package caps

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/stanza"
	"carillon.im/xep"
)

// TestModel: whatever clients name and whenever they answer, in the end each session has
// heard what it named last, or nothing if it can't say what it is; no client hears what it
// hasn't named last, or is asked two things at a time; and nothing is left.
func TestModel(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { playModel(t, rand.New(rand.NewPCG(seed, 1))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func playModel(t *testing.T, rnd *rand.Rand) {
	var l listeners
	c := New(Options{Open: 1 + rnd.IntN(4), Notify: l.notify})
	defer c.Close()
	infos, vers := map[string]xep.DiscoInfo{}, []string{""}
	nodes := map[string]string{"": "[]"}
	for i := range 6 {
		info := infoWith(fmt.Sprintf("n%d+notify", i))
		ver := verOf(t, "sha-1", info)
		infos[ver], nodes[ver] = info, fmt.Sprintf("[n%d]", i)
		vers = append(vers, ver)
	}
	type player struct {
		*contact
		own, honest bool
		named, told string
	}
	players := map[string]*player{}
	var names []string
	for i := range 30 {
		p := &player{own: i%2 == 0, honest: rnd.IntN(3) > 0}
		long, mute, busy := time.Duration(rnd.IntN(20_000))*time.Millisecond, rnd.IntN(2) == 0, false
		p.contact = outsider(fmt.Sprintf("p%d@d%d.lit/1", i, i%3), "own", func(ctx context.Context) (*stanza.Stanza, error) {
			if busy {
				t.Errorf("%s is asked two things", p.jid)
			}
			busy = true
			defer func() { busy = false }()
			_, node, _ := strings.Cut(p.asked[len(p.asked)-1], "http://n#")
			ver, _, _ := strings.Cut(node, "'")
			switch {
			case p.honest:
				time.Sleep(long)
				return telling(infos[ver])(ctx)
			case mute:
				return silent(ctx)
			}
			return nil, errors.New("no")
		})
		names = append(names, p.jid.String())
		players[p.jid.String()] = p
	}
	hear := func() {
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, s := range l.told {
			name, heard, _ := strings.Cut(strings.TrimPrefix(s, "own "), "[")
			p := players[name]
			if p.told = "[" + heard; p.told != nodes[p.named] && (p.honest || p.told != "[]") {
				t.Errorf("%s, which named %s, was told %s", name, nodes[p.named], p.told)
			}
		}
		l.told = nil
	}
	for range 200 {
		hear()
		p := players[names[rnd.IntN(len(names))]]
		p.named, p.told = vers[rnd.IntN(len(vers))], ""
		if named := presence("sha-1", p.named); p.own {
			c.observe(p, named)
		} else {
			c.observeOutside(p, named)
		}
		hear()
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
	}
	c.wg.Wait()
	hear()
	for name, p := range players {
		if p.own && p.told == "" && p.named != "" {
			t.Errorf("%s was told nothing", name)
		}
	}
	for _, d := range []*desk{&c.own, &c.outside} {
		if len(d.waiting)+len(d.company)+len(d.questions)+len(d.line)+len(d.asked)+len(d.domains) != 0 {
			t.Errorf("left: %+v", *d)
		}
	}
}
