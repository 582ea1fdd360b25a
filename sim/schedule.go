package sim

import (
	"time"

	"carillon.im/client/convo"
)

// action is something that can happen next, to a server, a connection or a device.
type action struct {
	weight int
	what   what
	server *server
	conn   *conn
	device *device
}

// what happens.
type what uint8

const (
	commits  what = iota // a server's transaction
	starts               // a server
	reads                // what waits for a server's store goes on
	crosses              // a stanza goes over the border
	cuts                 // a device notices that its connection is gone
	loses                // a server does
	goesUp               // an element goes to a server
	goesDown             // to a device
	dials                // a device
	acts                 // a person or the world
)

// actions are all that can happen now, in an order that is always the same, with
// the sum of their weights. They are good until the next call.
func (w *world) actions() (list []action, total int) {
	list = w.list[:0]
	add := func(weight int, a action) {
		a.weight = weight
		list, total = append(list, a), total+weight
	}
	for _, s := range w.servers {
		switch {
		case s.up && s.gate.writes():
			add(8, action{what: commits, server: s})
		case !s.up && s.other().in == nil: // what it has sent is answered
			add(1, action{what: starts, server: s})
		}
		if s.up && s.gate.reads() {
			add(8, action{what: reads, server: s})
		}
		if s.crosses() {
			add(4, action{what: crosses, server: s})
		}
	}
	for _, c := range w.conns {
		switch {
		case c.deviceGone && c.serverGone:
		case c.serverGone && len(c.down) == 0:
			add(2, action{what: cuts, conn: c})
		case c.deviceGone && len(c.up) == 0 && !c.busy.Load():
			add(1, action{what: loses, conn: c})
		}
		if len(c.up) > 0 && !c.busy.Load() && !c.serverGone {
			add(6, action{what: goesUp, conn: c})
		}
		if len(c.down) > 0 && !c.deviceGone {
			add(6, action{what: goesDown, conn: c})
		}
	}
	for _, d := range w.devices {
		if d.conn == nil && (d.wanted || w.resting) && d.user.server.up && d.user.server.closed == nil {
			add(2, action{what: dials, device: d})
		}
	}
	if len(w.ops) > 0 && !w.resting {
		add(10, action{what: acts})
	}
	w.list = list
	return list, total
}

// happen lets an action happen.
func (w *world) happen(a action) {
	switch a.what {
	case commits:
		a.server.gate.commit(nil)
	case starts:
		w.log(a.server.domain, "starts", "")
		a.server.begin()
	case reads:
		a.server.gate.read(nil)
	case crosses:
		a.server.cross()
	case cuts:
		a.conn.cut()
	case loses:
		a.conn.lose()
	case goesUp:
		a.conn.upward()
	case goesDown:
		a.conn.downward()
	case dials:
		a.device.connect()
	case acts:
		o := w.ops[0]
		w.ops = w.ops[1:]
		w.do(o)
	}
}

// upward takes the next element to the server.
func (c *conn) upward() {
	data := c.up[0]
	c.up = c.up[1:]
	w := c.device.w
	w.log(c.device.name, "to server", data)
	data = w.lie(c.device, data)
	c.busy.Store(true)
	c.in <- data
}

// downward takes the next element to the device.
func (c *conn) downward() {
	e := c.down[0]
	c.down = c.down[1:]
	c.device.w.log(c.device.name, "receives", e.data)
	c.device.receive(c, e)
}

// step lets one thing happen, and reports whether there was one.
func (w *world) step() bool {
	w.settle()
	w.tick()
	w.result.Counts.Steps++
	list, total := w.actions()
	if total == 0 {
		return false
	}
	n := w.dice.IntN(total)
	for _, a := range list {
		if n -= a.weight; n < 0 {
			w.happen(a)
			break
		}
	}
	if w.dice.IntN(4) == 0 {
		w.pass(time.Duration(w.dice.IntN(5_000_000)))
	}
	return true
}

// tickEvery is how often time goes by for an engine, as in client/account.
const tickEvery = 5 * time.Second

// tick tells the engines that time goes by.
func (w *world) tick() {
	if time.Since(w.ticked) < tickEvery {
		return
	}
	w.ticked = time.Now()
	for _, d := range w.devices {
		d.event(convo.Tick{})
	}
}

// settle waits until everybody waits, and collects what they have written.
func (w *world) settle() {
	for again := true; again; {
		w.wait()
		again = false
		for _, c := range w.conns {
			again = c.collect() || again // what was taken may let somebody go on
		}
		for _, c := range w.conns {
			again = c.finish() || again
		}
	}
	alive := w.conns[:0]
	for _, c := range w.conns {
		if !c.deviceGone || !c.serverGone {
			alive = append(alive, c)
		}
	}
	clear(w.conns[len(alive):])
	w.conns = alive
	for _, s := range w.servers {
		s.passed()
		if s.look() {
			w.settle()
			return
		}
	}
}

// Timers that go off at one instant have no order. So everything that sets some
// has instants of its own in each millisecond: steps, the servers' ticks, their
// stops.
const (
	stepPhase = 300 * time.Microsecond
	tickPhase = 500 * time.Microsecond // and the second server 100 µs later
	stopPhase = 700 * time.Microsecond // likewise
)

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.phase(d, stepPhase) }

// phase lets time pass to an instant of a phase.
func (w *world) phase(d, phase time.Duration) {
	now := time.Since(w.began)
	then := (now + d).Truncate(time.Millisecond) + phase
	if then <= now && d > 0 || then < now {
		then += time.Millisecond
	}
	time.Sleep(then - now)
}

// gather lets everybody log in before anything happens.
func (w *world) gather() {
	for range 2000 {
		idle := true
		for _, d := range w.devices {
			idle = idle && d.online
		}
		if idle || !w.stepWithout() {
			return
		}
	}
}

// stepWithout is step without the script.
func (w *world) stepWithout() bool {
	ops := w.ops
	w.ops = nil
	did := w.step()
	w.ops = ops
	return did
}

// play runs the script.
func (w *world) play() {
	for len(w.ops) > 0 {
		if !w.step() {
			w.pass(50 * time.Millisecond)
		}
	}
}

// mostSteps is more than a run ever needs.
const mostSteps = 100_000

// rest lets everything go on without faults until nothing is left to happen.
func (w *world) rest() {
	w.resting = true
	w.log("world", "rests", "")
	for _, d := range w.devices {
		d.wanted = true
	}
	quiet := 0
	for w.result.Counts.Steps < mostSteps {
		if w.step() {
			quiet = 0
			continue
		}
		// Acknowledgements that are asked for, sessions that end, need some time.
		if quiet++; quiet < 4 {
			w.pass(time.Second)
			continue
		}
		if w.asked() {
			quiet = 0
			continue
		}
		if quiet > 5 {
			return
		}
		w.pass(resumeWindow) // twice, for what its end sets off
	}
	w.problem(0, "never comes to rest")
}

// asked has devices with an archive fetch what they know to be missing, and
// reports whether any did.
func (w *world) asked() bool {
	some := false
	for _, d := range w.devices {
		if d.profile == convo.Classic || !d.online {
			continue
		}
		for _, u := range w.users {
			if d.pageBack(u) {
				some = true
			}
		}
	}
	return some
}

func (d *device) pageBack(u *user) bool {
	before := len(d.queries)
	v, known := d.engine.Conversation(u.jid, 0)
	if !known { // to a new device nobody tells more than the newest
		d.event(convo.Page{Conversation: u.jid})
		return len(d.queries) > before
	}
	for _, en := range v.Entries {
		if en.Gap {
			d.event(convo.Page{Conversation: u.jid, Before: en.ID})
			return len(d.queries) > before
		}
	}
	if v.GapAtEnd {
		d.event(convo.Page{Conversation: u.jid, Newest: true})
	} else if v.More {
		d.event(convo.Page{Conversation: u.jid})
	}
	return len(d.queries) > before
}
