package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/server/route"
	"carillon.im/stanza"
	"pgregory.net/rapid"
)

// device is a client in the model: what it has sent, what the server said was
// safe, what it has got. It acts as a real client does: it counts, resumes,
// and sends again what wasn't counted.
type device struct {
	*client
	name    string
	sm      bool
	counted uint32   // stanzas got since stream management was enabled
	sent    []string // message bodies ("" for other stanzas), from the first that is not acknowledged on
	acked   uint32   // stanzas of ours that the server acknowledged
	got     []string // bodies, in this session
	gone    bool     // detached
}

type model struct {
	w       *world
	devices []*device
	next    int
	safe    map[string][2]string // body → accounts, for messages acknowledged
	refused map[string]bool
	sentTo  map[string][2]string
	gotBy   map[string]bool // "account body": some session of the account has read it
	failing bool
}

var modelAccounts = []string{"alice", "bob", "carol"}

func (m *model) read(t *rapid.T, d *device) {
	for _, e := range d.take() {
		switch {
		case strings.HasPrefix(e, "<a "):
			var h uint32
			if _, err := fmt.Sscanf(e, "<a xmlns='urn:xmpp:sm:3' h='%d'/>", &h); err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			m.acknowledged(t, d, h)
		case strings.HasPrefix(e, "<r "):
		default:
			d.counted++
			if strings.Contains(e, "type='error'") {
				_, id, _ := strings.Cut(e, " id='")
				id, _, _ = strings.Cut(id, "'")
				m.refused[id] = true
				continue
			}
			if b := bodyOf(e); b != "" {
				if slices.Contains(d.got, b) {
					t.Fatalf("%s got %s twice", d.name, b)
				}
				d.got = append(d.got, b)
				m.gotBy[d.name+" "+b] = true
			}
		}
	}
}

// acknowledged is the server's word that stanzas are safe. An error that
// belongs to one of them has come before.
func (m *model) acknowledged(t *rapid.T, d *device, h uint32) {
	n := h - d.acked
	if n > uint32(len(d.sent)) {
		t.Fatalf("%s: %d acknowledged, %d were sent", d.name, h, d.acked+uint32(len(d.sent)))
	}
	for _, body := range d.sent[:n] {
		if body != "" && !m.refused[body] {
			m.safe[body] = m.sentTo[body]
		}
	}
	d.sent, d.acked = d.sent[n:], h
}

func (m *model) transmit(d *device, body string) {
	if body == "" {
		d.send("<presence/>")
		return
	}
	to := m.sentTo[body]
	d.send("<message type='chat' id='" + body + "' to='" + to[1] + "@h.example'><body>" + body + "</body></message>")
}

func (m *model) pick(t *rapid.T, ok func(*device) bool) *device {
	m.reap()
	var list []*device
	for _, d := range m.devices {
		if ok(d) {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		t.Skip()
	}
	return rapid.SampledFrom(list).Draw(t, "device")
}

func here(d *device) bool { return !d.gone }

// turnedAway: what a device sends over a session that is on disk as quiet waits while the store can't forget that; in the end the session is ended,
// and with nothing of it counted the device goes.
func (m *model) turnedAway(rt *rapid.T, d *device) bool {
	x := d.Session.session
	state := func() (asleep, waits bool) {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.asleep, x.waits
	}
	if asleep, _ := state(); !m.failing || !asleep {
		return false
	}
	before, done := d.handledCount(), make(chan struct{})
	go func() {
		d.send("<presence/>")
		close(done)
	}()
	waitFor(m.w.t, func() bool { _, waits := state(); return waits })
	m.w.settle()
	for range 2 * maxRousings { // one that falls into a reading of the account doesn't count
		m.w.tick()
		if _, ended := d.streamError(); ended {
			<-done
			break
		}
	}
	if condition, _ := d.streamError(); condition != stanza.StreamResourceConstraint || d.handledCount() != before {
		rt.Fatalf("%s waited for the store: %q, %d handled, %d before", d.name, condition, d.handledCount(), before)
	}
	m.forget(d)
	return true
}

// reap drops the devices for whose sessions something waited in vain.
func (m *model) reap() {
	m.devices = slices.DeleteFunc(m.devices, func(d *device) bool {
		condition, _ := d.streamError()
		return condition == stanza.StreamResourceConstraint
	})
}

// TestModel: whatever happens in whatever order, nobody gets a message twice
// in a session, sessions get messages in the order of the archive, and what
// was acknowledged is in both archives; what no session has got is in the
// offline store.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{w: newWorld(t, "alice bob carol", func(c *Config) {
			c.Limits.OfflineMessages, c.Limits.SessionsPerAccount = 1000, 50
			c.Tick = time.Hour // only expire and finish let time pass
		}), safe: map[string][2]string{}, refused: map[string]bool{}, sentTo: map[string][2]string{}, gotBy: map[string]bool{}}
		rt.Repeat(map[string]func(*rapid.T){
			"bind": func(rt *rapid.T) {
				if len(m.devices) >= 6 {
					rt.Skip()
				}
				name := rapid.SampledFrom(modelAccounts).Draw(rt, "account")
				d := &device{client: m.w.bind(fmt.Sprintf("%s/d%d", name, m.next)), name: name, sm: rapid.Bool().Draw(rt, "sm")}
				m.next++
				if rapid.Bool().Draw(rt, "carbons") {
					if err := d.SetProfile(context.Background(), route.Carbons); err != nil {
						rt.Fatal(err)
					}
				}
				if d.sm {
					d.EnableSM(true, 0)
				}
				m.devices = append(m.devices, d)
				if rapid.Bool().Draw(rt, "online") {
					d.sent = append(d.sent, "")
					m.transmit(d, "")
				}
			},
			"send": func(rt *rapid.T) {
				d := m.pick(rt, here)
				if m.turnedAway(rt, d) {
					return
				}
				for range rapid.IntRange(1, 4).Draw(rt, "n") {
					m.next++
					body := fmt.Sprintf("m%d", m.next)
					m.sentTo[body] = [2]string{d.name, rapid.SampledFrom(modelAccounts).Draw(rt, "to")}
					d.sent = append(d.sent, body)
					m.transmit(d, body)
				}
				if d.sm {
					d.AckRequest()
				}
			},
			"presence": func(rt *rapid.T) {
				d := m.pick(rt, here)
				if m.turnedAway(rt, d) {
					return
				}
				d.sent = append(d.sent, "")
				d.send(rapid.SampledFrom([]string{"<presence/>", "<presence type='unavailable'/>", "<presence><priority>-1</priority></presence>"}).Draw(rt, "presence"))
			},
			"read": func(rt *rapid.T) {
				d := m.pick(rt, here)
				m.read(rt, d)
				if d.sm && rapid.Bool().Draw(rt, "ack") {
					if err := d.Ack(d.counted); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"cut": func(rt *rapid.T) {
				d := m.pick(rt, here)
				m.lose(rt, d)
			},
			"close": func(rt *rapid.T) {
				d := m.pick(rt, here)
				d.Session.Close(d.client)
				m.forget(d)
			},
			"resume": func(rt *rapid.T) {
				d := m.pick(rt, func(d *device) bool { return d.sm })
				m.resume(rt, d)
			},
			"active": func(rt *rapid.T) { m.pick(rt, here).SetActive(rapid.Bool().Draw(rt, "active")) },
			"wait":   func(*rapid.T) { m.w.settle() },
			"rest": func(rt *rapid.T) {
				m.w.settle()
				m.reap()
				for _, d := range m.devices {
					if !d.gone && d.sm {
						m.read(rt, d)
						if err := d.Ack(d.counted); err != nil {
							rt.Fatal(err)
						}
					}
				}
				m.w.tick()
				m.w.pass(quietFor)
			},
			"expire": func(*rapid.T) {
				m.w.settle() // that they are detached is known
				m.w.pass(11 * time.Minute)
				for _, d := range slices.Clone(m.devices) {
					if d.gone {
						m.forget(d)
					}
				}
			},
			"fault": func(rt *rapid.T) {
				if m.failing = !m.failing; m.failing {
					m.w.failCommits(errors.New("I/O"))
				} else {
					m.w.failCommits(nil)
					m.w.settle()
					m.w.tick() // what is asleep and was asked for wakes with the next
				}
			},
		})
		m.finish(rt)
	})
}

func (m *model) lose(_ *rapid.T, d *device) {
	d.Session.Detach(d.client)
	if d.gone = true; !d.sm {
		m.forget(d)
	}
}

func (m *model) forget(d *device) {
	m.devices = slices.DeleteFunc(m.devices, func(x *device) bool { return x == d })
}

func (m *model) resume(rt *rapid.T, d *device) {
	n, res, err := m.w.resume(d.client, d.counted)
	if m.failing && err != nil {
		// What is on disk of it can't be forgotten: it waits, and its old
		// connection, if it had one, is gone.
		d.gone = true
		return
	}
	if err != nil {
		rt.Fatalf("%s can't be resumed: %v", d.name, err)
	}
	d.client, d.gone = n, false
	// What the server has is all that need not be sent again. Which of it was
	// refused is said by what comes now, behind <resumed/>.
	m.read(rt, d)
	m.acknowledged(rt, d, res.H)
	for _, body := range d.sent {
		m.transmit(d, body)
	}
}

func (m *model) finish(rt *rapid.T) {
	m.w.failCommits(nil)
	m.failing = false
	m.w.settle()
	m.w.tick() // what could not be kept is kept now
	m.reap()
	for _, d := range slices.Clone(m.devices) {
		if d.gone {
			m.resume(rt, d)
		}
		if d.sm {
			d.AckRequest()
		}
	}
	m.w.settle()
	for _, d := range m.devices {
		d.SetActive(true)
		for range 3 {
			m.read(rt, d)
			m.w.settle()
		}
		if d.sm && len(d.sent) > 0 {
			rt.Errorf("%s: %v not acknowledged", d.name, d.sent)
		}
	}
	archives := map[string][]string{}
	for _, name := range modelAccounts {
		archives[name] = m.w.archive(name)
		if err := twice(archives[name]); err != "" {
			rt.Errorf("%s's archive has %s twice", name, err)
		}
	}
	offline := map[string][]string{}
	for _, name := range modelAccounts {
		offline[name] = m.w.offline(name)
	}
	for body, parties := range m.safe {
		// A note to oneself is at least on the device that sent it.
		if to := parties[1]; to != parties[0] && !m.gotBy[to+" "+body] && !slices.Contains(offline[to], body) {
			rt.Errorf("%s was acknowledged, no session of %s has it, and it isn't kept", body, to)
		}
		for _, name := range parties {
			if !slices.Contains(archives[name], body) {
				rt.Errorf("%s was acknowledged and isn't in %s's archive", body, name)
			}
		}
	}
	for _, d := range m.devices {
		// What it got is in the order of the archive. Messages of the offline
		// store are older than what was got before and start over.
		var place []int
		for _, b := range d.got {
			i := slices.Index(archives[d.name], b)
			if i < 0 {
				rt.Errorf("%s got %s, which isn't in the archive", d.name, b)
			}
			place = append(place, i)
		}
		if !d.offlined() && !slices.IsSorted(place) {
			rt.Errorf("%s/%s got %v, the archive has %v", d.name, d.JID().Resource(), d.got, archives[d.name])
		}
	}
	m.w.checkIdle(rt)
	m.w.close()
}

// offlined reports whether the session was sent messages of the offline store.
func (d *device) offlined() (yes bool) {
	d.w.state(d.name, func(*State) { yes = d.flushedTo != 0 })
	return yes
}

func twice(list []string) string {
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s] {
			return s
		}
		seen[s] = true
	}
	return ""
}

// checkIdle checks that nothing is stuck, and what is counted.
func (w *world) checkIdle(rt *rapid.T) {
	for _, name := range modelAccounts {
		off := w.offline(name)
		if s := twice(off); s != "" {
			rt.Errorf("%s's offline store has %s twice", name, s)
		}
		w.state(name, func(s *State) {
			if len(s.pending) > 0 || len(s.waiting) > 0 || s.stale != nil {
				rt.Errorf("%s: %d pending, %d waiting, stale %v", name, len(s.pending), len(s.waiting), s.stale)
			}
			if s.offline != len(off) {
				rt.Errorf("%s: %d counted, %d in the offline store", name, s.offline, len(off))
			}
		})
	}
}
