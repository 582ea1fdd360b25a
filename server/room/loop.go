package room

import (
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// loop owns the states of many rooms and applies their events one by one. Its
// mailbox takes at most maxMail stanzas; the store's answers always fit, for each
// room waits for maxTalk at most.
type loop struct {
	hub    *Hub
	rooms  map[jid.JID]*State
	closed chan struct{}
	fx     effects

	mu   sync.Mutex
	box  []mail
	wake chan struct{}
}

// mail is an event for a room, or something for the loop itself to do; true ends it.
type mail struct {
	room jid.JID
	ev   event
	own  func(*loop) bool
}

// maxMail bounds the stanzas that wait for one loop.
const maxMail = 1 << 15

func newLoop(h *Hub) *loop {
	return &loop{hub: h, rooms: map[jid.JID]*State{}, wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

// post queues an event. False: it is bounded, and there is no room.
func (l *loop) post(room jid.JID, ev event, bounded bool) bool {
	l.mu.Lock()
	n := len(l.box)
	if bounded && n >= maxMail {
		l.mu.Unlock()
		return false
	}
	l.box = append(l.box, mail{room: room, ev: ev})
	l.mu.Unlock()
	l.ring(n)
	return true
}

// tell has the loop itself do something.
func (l *loop) tell(own func(*loop) bool) {
	l.mu.Lock()
	n := len(l.box)
	l.box = append(l.box, mail{own: own})
	l.mu.Unlock()
	l.ring(n)
}

// ring wakes the loop if its mailbox was empty.
func (l *loop) ring(n int) {
	if n > 0 {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loop) take() []mail {
	l.mu.Lock()
	defer l.mu.Unlock()
	box := l.box
	l.box = nil
	return box
}

// forgetAfter is how long a room in which nobody is stays in memory: it is asked
// for once, mostly, and then again right away.
const (
	forgetAfter = 30 * time.Second
	sweepEvery  = 10 * time.Second
)

func (l *loop) run() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.wake:
			for _, m := range l.take() {
				if m.own == nil {
					l.apply(m)
				} else if m.own(l) {
					close(l.closed)
					return
				}
			}
		case <-ticker.C:
			l.sweep(l.hub.cfg.Now())
		case <-l.hub.ctx.Done():
			close(l.closed)
			return
		}
	}
}

// apply applies one event and carries out what follows.
func (l *loop) apply(m mail) {
	s := l.rooms[m.room]
	if s == nil {
		s = newState(&l.hub.cfg, kept(m.room))
		l.rooms[s.jid] = s
		l.hub.stats.Loaded.Add(1)
	}
	defer l.recovered(s, m.ev)
	l.fx.now = l.hub.cfg.Now()
	m.ev.apply(s, &l.fx)
	l.execute()
	if s.load == missing && s.idle() {
		l.drop(s)
	}
}

// execute carries out the effects: first what is said, then what is asked, then
// who waits is told.
func (l *loop) execute() {
	fx := l.fx
	l.fx = effects{}
	if len(fx.send) > 0 {
		l.hub.deliver(fx.send)
	}
	for _, task := range fx.tasks {
		task(l.hub)
	}
	for _, taken := range fx.done {
		taken()
	}
}

func (l *loop) drop(s *State) {
	delete(l.rooms, s.jid)
	l.hub.stats.Loaded.Add(-1)
}

// recovered handles a panic, which is a bug in one room's code: who is in the room
// is told that he no longer is, and it is read anew; the others go on.
func (l *loop) recovered(s *State, ev event) {
	r := recover()
	if r == nil {
		return
	}
	l.hub.stats.Panics.Add(1)
	l.hub.cfg.Log.Error("panic in a room's loop: its occupants are out, it is read anew", "room", s.jid,
		"event", fmt.Sprintf("%T", ev), "panic", r, "stack", string(debug.Stack()))
	told := l.fx.done
	l.fx = effects{}
	l.drop(s)
	for _, c := range s.busy {
		told = append(told, c.taken)
	}
	waiting := s.wait
	if a, ok := ev.(*arrive); ok {
		waiting = append(waiting, a)
	}
	list := s.farewell(333)
	for _, a := range waiting {
		if r := a.stanza.ErrorReply(stanza.NewError(stanza.InternalServerError, "")); r != nil {
			list = append(list, r)
		}
		told = append(told, a.taken)
	}
	l.hub.deliver(list)
	for _, taken := range told {
		if taken != nil {
			taken()
		}
	}
}

// farewell is what everybody in the room gets when it goes away.
func (s *State) farewell(code int) []*stanza.Stanza {
	var list []*stanza.Stanza
	for _, o := range s.occupants {
		for _, v := range o.visits {
			x := xep.AppendMUCUser(nil, &xep.MUCItem{Affiliation: s.affiliation(o.user).String(), Role: "none"}, "", code, 110)
			st := build(stanza.Presence, stanza.TypeUnavailable, "", o.jid, x)
			st.To = v.jid
			list = append(list, st)
		}
	}
	return list
}

// sweep forgets rooms in which nobody is.
func (l *loop) sweep(now time.Time) {
	before := len(l.rooms)
	for _, s := range l.rooms {
		if s.idle() && now.Sub(s.used) >= forgetAfter {
			l.drop(s)
		}
	}
	if len(l.rooms) < before/2 {
		// A map never shrinks.
		l.rooms = maps.Collect(maps.All(l.rooms))
	}
}

// goAway is XEP-0045 11.2: nobody is in any room any more.
func (l *loop) goAway() {
	for _, s := range l.rooms {
		if list := s.farewell(332); len(list) > 0 {
			l.hub.deliver(list)
			s.occupants = nil
			clear(s.nicks)
			clear(s.visits)
		}
	}
}
