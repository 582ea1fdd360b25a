package account

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// gates hold whoever reads the store or commits to it, until they are let through one
// by one: between two of them all else comes to rest, so that the seed decides what
// happens before what.
type gates struct {
	mu      sync.Mutex
	waiting []chan struct{}
	open    bool
}

func (g *gates) pass(point string) error {
	if point != "read" && point != "commit" {
		return nil
	}
	g.mu.Lock()
	if g.open {
		g.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	g.waiting = append(g.waiting, ch)
	g.mu.Unlock()
	<-ch
	return nil
}

// let lets one of those through who wait, and reports how many waited.
func (g *gates) let(r *rand.Rand) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.waiting)
	if n > 0 {
		i := r.IntN(n)
		close(g.waiting[i])
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	return n
}

func (g *gates) letAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	for _, ch := range g.waiting {
		close(ch)
	}
	g.waiting = nil
}

// TestNoGapNoOverlapSeeded is S-1 with a seed for the scheduler: it chooses who writes,
// which device does something and which read or commit goes on. There is one processor,
// so that a seed that fails does so again, as a rule.
func TestNoGapNoOverlapSeeded(t *testing.T) {
	messages, seeds := 300, 5
	if n, err := strconv.Atoi(os.Getenv("CARILLON_SOAK")); err == nil {
		messages = n / seeds
	} else if testing.Short() {
		messages, seeds = 100, 2
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { noGapSeeded(t, seed, messages, 16, 8) })
		})
	}
}

func noGapSeeded(t *testing.T, seed uint64, messages, senders, devices int) {
	names := []string{"bob"}
	for i := range senders {
		names = append(names, "s"+strconv.Itoa(i))
	}
	// On disk: in memory a reader waits for the writer's lock, which nobody sees.
	w := newDiskWorld(t, strings.Join(names, " "), func(c *Config) {
		c.Limits.SessionsPerAccount, c.Limits.OutboxBytes, c.Loops, c.Tick = 40, 16<<10, 1, time.Hour
	})
	clients := make([]*client, senders)
	for i := range clients {
		if clients[i] = w.bind("s" + strconv.Itoa(i) + "/r"); i%4 == 0 {
			clients[i] = w.bind("bob/own" + strconv.Itoa(i))
		}
	}
	list := make([]*syncDevice, devices)
	busy := make([]bool, devices)
	for i := range list {
		d := &syncDevice{w: w, name: "d" + strconv.Itoa(i), r: rand.New(rand.NewPCG(seed, uint64(i))), wake: make(chan struct{}, 1), pause: func(int) {}}
		if i%2 == 1 {
			d.client = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
			w.knowClient(d.client)
		}
		list[i] = d
	}
	w.settle()
	g, r, trace := &gates{}, rand.New(rand.NewPCG(seed, 1<<32)), fnv.New64a()
	w.setFault(g.pass)
	ctx := context.Background()
	for sent := 0; sent < messages; {
		action, n := r.IntN(100), 0
		switch {
		case action < 35:
			c := clients[r.IntN(senders)]
			if n = c.inFlight(); n > 4 {
				break
			}
			xml := fmt.Sprintf("<message to='%s' type='chat' id='%d'><body>%s</body></message>", bob, sent, strings.Repeat("x", r.IntN(400)))
			if r.IntN(17) == 0 && c.JID().Local() != "bob" {
				xml = strings.Replace(xml, "to='"+bob, "to='"+bob+"/d3", 1)
			}
			st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			st.From = c.JID()
			if err := c.Receive(ctx, st, 0); err != nil {
				t.Fatal(err)
			}
			c.Next(c, nil, 1<<20)
			sent++
		case action < 65:
			i := r.IntN(devices)
			d := list[i]
			if busy[i] || d.failed != "" {
				break
			}
			busy[i] = true
			go func() { // it may wait for the store
				if d.session == nil {
					d.connect()
				} else {
					d.step()
				}
				busy[i] = false
			}()
		default:
			n = g.let(r)
		}
		synctest.Wait()
		if _, err := fmt.Fprintln(trace, action, n); err != nil {
			t.Fatal(err)
		}
		if sent%50 == 0 {
			go w.hub.everywhere(func(l *loop) { l.tick() })
		}
	}
	g.letAll()
	synctest.Wait()
	w.settle()
	want := archiveIDs(t, w)
	for _, d := range list {
		if d.session == nil {
			d.connect()
		}
		d.finish(t, want)
	}
	t.Logf("%d messages, %d devices, trace %x", len(want), devices, trace.Sum64())
}
