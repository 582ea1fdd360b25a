// Package sim runs the conversation engine of clients and the accounts and
// routing of servers together, without sockets and without a clock that anybody
// waits for, and checks what must hold whatever happens (docs/design, "client").
//
// The model: a world is two servers, one that speaks 2.0 and one that speaks the
// rules of 1.0, with a border between them, and users with devices of all
// profiles. The servers are account.Hub and store.Store as they are, on SQLite in
// memory; the devices are convo.Engine as it is. What is simulated is everything
// between them: links that lose, streams that break on one side first, the disk
// that takes its time, people, the clock. One step at a time is chosen by a seed,
// and nothing else happens while it is done; so a seed is a run, again and again.
// At the end everything is let go and comes to rest, and four properties are
// checked. See DESIGN.md.
package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"carillon.im/server/store"
)

// Flaw is something that a run is to do wrong, to show that a property notices.
type Flaw uint8

// The flaws. Each happens to the first stanza that it fits.
const (
	None          Flaw = iota
	DropLive           // an ng or v2 device never gets one live conversation message
	SwapLive           // it gets two of them in the wrong order
	RepeatLive         // it gets one twice, the second time with other ids
	ForgeClaim         // it gets a claim as if another device had made it
	LoseSent           // the server acknowledges a message that it never had
	HidePresence       // a classic device doesn't hear of its contacts' presence
	DropDelivered      // a classic device never gets a message that its server delivered
)

// Problem is a property that doesn't hold.
type Problem struct {
	Property int // 1 to 4 as in DESIGN.md; 0: the run itself didn't come to rest
	Text     string
}

func (p Problem) String() string { return fmt.Sprintf("property %d: %s", p.Property, p.Text) }

// Line is an event of a run.
type Line struct {
	At        time.Duration // since the run's start
	Who, What string
	Detail    string
}

func (l Line) String() string {
	return fmt.Sprintf("%9.3fs %-12s %-10s %s", l.At.Seconds(), l.Who, l.What, brief(l.Detail))
}

// brief leaves out of a stanza what a reader doesn't miss.
func brief(xml string) string {
	for {
		before, rest, ok := strings.Cut(xml, " xmlns='")
		_, after, closed := strings.Cut(rest, "'")
		if !ok || !closed {
			break
		}
		xml = before + after
	}
	for _, noise := range [...]string{"<markable/>", "<request/>", "<active/>", "<forwarded>", "</forwarded>", " type='chat'"} {
		xml = strings.ReplaceAll(xml, noise, "")
	}
	if len(xml) > 400 {
		xml = xml[:400] + "…"
	}
	return xml
}

// minor reports whether a line seldom matters: presence, acknowledgements.
func (l Line) minor() bool {
	return strings.HasPrefix(l.Detail, "<presence") || strings.HasPrefix(l.Detail, "<r/>") || strings.HasPrefix(l.Detail, "<a ")
}

// Result is what became of a run.
type Result struct {
	Seed     uint64
	Ops      int // how many things people and the world were to do
	Log      []Line
	Problems []Problem
	Counts   Counts
}

// Counts say what happened in a run, so that it can be seen that it did.
type Counts struct {
	Steps, Messages, Claims, Binds, Resumed, NotResumed, Stops, Kills, Archived int
}

// Hash is a fingerprint of all that happened.
func (r *Result) Hash() uint64 {
	h := fnv.New64a()
	for _, l := range r.Log {
		fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s\n", l.At, l.Who, l.What, l.Detail)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(h, p)
	}
	return h.Sum64()
}

// Options change a run.
type Options struct {
	// Wait returns when every goroutine of the run waits for something that only
	// the run itself can do: synctest.Wait. Run must be called in such a bubble.
	Wait func()
	Flaw Flaw
	// Keep says which of the script's ops are done; nil: all.
	Keep []bool
	// Databases are what the servers keep theirs in; what was in them is deleted. To
	// make them takes longer than a short run.
	Databases *[2]store.Memory
}

// Run runs a seed. The error is of the setting up, not of what is simulated; outside
// a bubble, whose clock begins in 2000, there is no run.
func Run(seed uint64, o Options) (*Result, error) {
	if time.Now().Year() > 2000 {
		return nil, errors.New("sim: outside a bubble, where time is real")
	}
	w := &world{
		seed: seed, opt: o, wait: o.Wait, began: time.Now(),
		plan: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)),
		result: &Result{Seed: seed}, sent: map[string]*sentMessage{}, unread: map[string]bool{},
	}
	if err := w.build(); err != nil {
		return nil, err
	}
	script := w.script()
	w.result.Ops = len(script)
	for i, op := range script {
		if o.Keep == nil || i < len(o.Keep) && o.Keep[i] {
			w.ops = append(w.ops, op)
		}
	}
	if w.plan.IntN(4) > 0 {
		w.gather()
	}
	w.play()
	w.rest()
	w.check()
	w.close()
	return w.result, nil
}
