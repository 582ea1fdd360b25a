package account

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/server/route"
)

// survivor is one of bob's devices over restarts of the server.
type survivor struct {
	*client
	name    string
	profile route.Profile
	gone    bool   // it has no connection
	kept    bool   // its session must be there when it resumes
	count   uint32 // stanzas of the session that it got
	have    []string
	ones    []string // exclusive messages
}

var stanzaIDOfBob = regexp.MustCompile(`<stanza-id xmlns='urn:xmpp:sid:0' by='bob@h.example' id='([^']*)'/>`)

// read takes what is there.
func (d *survivor) read() {
	for _, st := range d.take() {
		if strings.HasPrefix(st, "<r ") || strings.HasPrefix(st, "<a ") {
			continue
		}
		d.count++
		if m := stanzaIDOfBob.FindStringSubmatch(st); m != nil {
			d.have = append(d.have, m[1])
		} else if body := bodyOf(st); body != "" {
			d.ones = append(d.ones, body)
		}
	}
}

func (d *survivor) acknowledge() {
	if err := d.Ack(d.count); err != nil {
		d.w.t.Fatal(err)
	}
}

// begin binds anew; what it missed it has from the archive.
func (d *survivor) begin(t *testing.T) {
	d.client = d.w.bind("bob/" + d.name)
	if err := d.SetProfile(context.Background(), d.profile); err != nil {
		t.Fatal(err)
	}
	d.send("<presence/>")
	d.w.settle()
	d.take()
	d.EnableSM(true, 0)
	d.have, d.count, d.gone, d.kept = archiveIDs(t, d.w), 0, false, false
}

// back resumes, or begins anew where that is refused and may be.
func (d *survivor) back(t *testing.T) {
	n, _, err := d.w.resume(d.client, d.count)
	var refused *ResumeError
	switch {
	case err == nil:
		d.client, d.gone, d.kept = n, false, false
	case !errors.As(err, &refused) || d.kept:
		t.Fatalf("%s can't be resumed: %v", d.name, err)
	default:
		d.begin(t)
	}
}

// TestOutlivesAnything drives devices of all profiles through lost connections,
// quiet times, stops and kills: what must be resumable is, and each device ends
// with the archive's exact sequence.
func TestOutlivesAnything(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { outliveAnything(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func outliveAnything(t *testing.T, r *rand.Rand) {
	w := newDiskWorld(t, "alice bob", func(c *Config) { c.Limits.ResumeWindow = 24 * time.Hour })
	w.befriend("alice", "bob")
	a := w.bind("alice/a online")
	var devices []*survivor
	for i, p := range []route.Profile{route.Carbons, route.Carbons, route.NG, route.V2} {
		d := &survivor{client: &client{w: w}, name: fmt.Sprint("d", i), profile: p}
		d.begin(t)
		devices = append(devices, d)
	}
	sent := 0
	for range 60 {
		d := devices[r.IntN(len(devices))]
		switch n := r.IntN(100); {
		case n < 45:
			sent++
			body := fmt.Sprint("m", sent)
			switch r.IntN(5) {
			case 0:
				a.say(bob+"/"+d.name, body)
			case 1:
				if !d.gone && d.profile.Modern() { // the others aren't told what they say themselves
					d.say(alice, body)
				}
			case 2:
				a.send("<message type='chat' to='bob@h.example/" + d.name + "'><body>" + body + "</body><private xmlns='urn:xmpp:carbons:2'/></message>")
			case 3:
				a.send("<presence><status>" + body + "</status></presence>")
			default:
				a.say(bob, body)
			}
		case n < 65:
			if !d.gone {
				d.read()
				if r.IntN(3) > 0 {
					d.acknowledge()
				}
			}
		case n < 75:
			if !d.gone {
				if r.IntN(2) > 0 {
					w.settle()
				}
				d.detach()
				d.gone, d.kept = true, true
			}
		case n < 85:
			if d.gone {
				d.back(t)
			}
		case n < 90: // they are quiet
			for _, d := range devices {
				if !d.gone {
					w.settle()
					d.read()
					d.acknowledge()
				}
			}
			for range 3 {
				w.pass(40 * time.Second)
			}
		default:
			w.settle()
			orderly := r.IntN(2) == 0
			for _, d := range devices {
				d.kept = d.kept || orderly && !d.gone
			}
			w.restart(orderly, time.Second)
			a = w.bind("alice/a online")
			for _, d := range devices {
				if !d.gone {
					d.gone = true
				}
				if r.IntN(2) == 0 {
					d.back(t)
				}
			}
		}
	}
	w.settle()
	for _, d := range devices {
		if d.gone {
			d.back(t)
		}
		d.read()
		if want := archiveIDs(t, w); !slices.Equal(d.have, want) {
			t.Errorf("%s (%v) has\n%v\nthe archive\n%v", d.name, d.profile, d.have, want)
		}
		slices.Sort(d.ones)
		if n := len(d.ones); len(slices.Compact(d.ones)) != n {
			t.Errorf("%s got an exclusive message twice: %v", d.name, d.ones)
		}
	}
}
