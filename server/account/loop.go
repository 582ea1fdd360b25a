package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// loop owns the states of many accounts and applies their events one by one.
//
// Its mailbox is bounded by what posts to it: each session has at most
// maxInFlight stanzas on their way, each call waits for its answer. Presence
// multiplies on its way to contacts; so while a mailbox is longer than
// crowdedAt, no session of the server is read.
type loop struct {
	hub    *Hub
	states map[jid.JID]*State
	events uint64 // applied so far

	mu      sync.Mutex
	box     []mail
	spare   []mail
	wake    chan struct{}
	crowded atomic.Bool
	roomy   bell // rung when the mailbox is taken

	fx effects
	at int // the effect that is being carried out
}

type mail struct {
	to jid.JID // bare; zero: for the loop itself, all its accounts
	ev event
}

// crowdedAt is a mailbox's length at which clients are no longer read.
const crowdedAt = 1 << 16

func newLoop(h *Hub) *loop {
	return &loop{hub: h, states: map[jid.JID]*State{}, wake: make(chan struct{}, 1)}
}

func (l *loop) post(to jid.JID, ev event) {
	l.mu.Lock()
	l.box = append(l.box, mail{to, ev})
	n := len(l.box)
	if n == crowdedAt {
		l.crowded.Store(true)
	}
	l.mu.Unlock()
	if n == 1 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// take swaps the mailbox for an empty one.
func (l *loop) take() []mail {
	l.mu.Lock()
	defer l.mu.Unlock()
	box := l.box
	l.box, l.spare = l.spare[:0], nil
	l.crowded.Store(false)
	l.roomy.ring()
	return box
}

func (l *loop) give(box []mail) {
	clear(box)
	if cap(box) > 4096 {
		return // one burst isn't kept
	}
	l.mu.Lock()
	l.spare = box[:0]
	l.mu.Unlock()
}

// uncrowded waits until no loop's mailbox is too long.
func (h *Hub) uncrowded(ctx context.Context) error {
	for _, l := range h.loops {
		for l.crowded.Load() {
			l.mu.Lock()
			roomy, crowded := l.roomy.next(), l.crowded.Load()
			l.mu.Unlock()
			if !crowded {
				break
			}
			select {
			case <-roomy:
			case <-ctx.Done():
				return ctx.Err()
			case <-h.stopped:
				return errStopped
			}
		}
	}
	return nil
}

const (
	tickEvery  = time.Second
	sweepEvery = 60 // ticks
)

func (l *loop) run(ctx context.Context) {
	ticker := time.NewTicker(cmp.Or(l.hub.cfg.Tick, tickEvery))
	defer ticker.Stop()
	ticks := 0
	for {
		select {
		case <-l.wake:
			box := l.take()
			for _, m := range box {
				l.apply(m.to, m.ev)
			}
			l.give(box)
		case <-ticker.C:
			l.tick()
			if ticks++; ticks%sweepEvery == 0 || len(l.states) > 2*l.hub.cfg.Limits.IdleAccounts {
				l.sweep()
			}
		case <-ctx.Done():
			return
		}
	}
}

// apply applies one event.
func (l *loop) apply(to jid.JID, ev event) {
	if to.IsZero() {
		ev.apply(nil, &l.fx)
		return
	}
	l.events++
	s := l.states[to]
	if s == nil {
		s = &State{cfg: &l.hub.cfg, jid: to}
		l.states[to] = s
	}
	l.applyTo(s, ev)
	if s.load == missing && s.idle() {
		delete(l.states, to)
	}
}

func (l *loop) applyTo(s *State, ev event) {
	defer l.recovered(s, ev)
	l.fx.now, l.at = l.hub.cfg.Now(), 0
	s.apply(ev, &l.fx)
	l.execute()
}

// recovered handles a panic, which is a bug in one account's code: the
// account's sessions end and it is read anew from the store, the others go on.
func (l *loop) recovered(s *State, ev event) {
	r := recover()
	if r == nil {
		return
	}
	l.hub.stats.Panics.Add(1)
	l.hub.cfg.Log.Error("panic in an account's loop: its sessions end, its state is read anew", "account", s.jid,
		"event", fmt.Sprintf("%T", ev), "panic", r, "stack", string(debug.Stack()))
	delete(l.states, s.jid)
	// Who waits for this account must not wait for ever: the senders of
	// messages whose commit was not handed over, and whoever asked something.
	undone := slices.Clone(l.fx.list[min(l.at, len(l.fx.list)):])
	clear(l.fx.list)
	l.fx.list = l.fx.list[:0]
	for _, e := range undone {
		if e.kind == fxCommit || e.kind == fxFail {
			l.hub.tell(e.unit.entries[0], errPanicked)
			l.hub.tell(e.unit.entries[1], errPanicked)
		}
	}
	rest := effects{now: l.fx.now}
	for _, ev := range append(s.waiting, ev) {
		s.fail(ev, &rest, errPanicked)
	}
	for _, e := range rest.list {
		l.carryOut(&e)
	}
	l.abandon(s)
}

var errPanicked = errors.New("account: internal error")

// abandon ends an account's sessions without deciding anything: its state is
// not to be trusted.
func (l *loop) abandon(s *State) {
	gone := presence{typ: stanza.TypeUnavailable}
	for _, x := range s.sessions {
		l.hub.stats.Sessions.Add(-1)
		if tr, _ := x.giveUp(); tr != nil {
			tr.End(stanza.NewStreamError(stanza.StreamInternalServerError, ""))
		}
		if !x.available {
			continue
		}
		for j, c := range s.roster {
			switch {
			case !c.From:
			case !l.hub.cfg.local(j.Domain()):
				l.hub.outside(stanza.Build(stanza.Presence, gone.typ, "", x.jid, j, ""))
			case j.Local() != "":
				l.hub.post(j, &presenceArrives{presence: gone, from: x.jid, to: j})
			}
		}
	}
}

// execute carries out the effects, those that they cause included.
func (l *loop) execute() {
	for ; l.at < len(l.fx.list); l.at++ {
		l.carryOut(&l.fx.list[l.at])
	}
	clear(l.fx.list)
	l.fx.list = l.fx.list[:0]
	if cap(l.fx.list) > 1024 {
		l.fx.list = nil
	}
}

func (l *loop) carryOut(e *effect) {
	switch e.kind {
	case fxDeliver:
		if !e.session.deliver(e.data, e.tag) && e.tag.kind != tagOther {
			l.hub.post(e.session.jid.Bare(), &undelivered{session: e.session, data: e.data, tag: e.tag})
		}
	case fxShow:
		if s := l.states[e.session.jid.Bare()]; s != nil {
			s.showContact(e.session, e.data, e.tag, e.gone)
		}
	case fxHandled:
		e.session.handled(e.number)
	case fxPost:
		l.hub.post(e.to, e.ev)
	case fxRoute:
		l.route(e.ev.(*arrive))
	case fxLeave:
		a := e.ev.(*arrive)
		if b := l.hub.cfg.border(a.stanza.To.Domain()); a.taken != nil {
			l.keep(b.(Keeper), a)
		} else if b != nil {
			l.cross(b, a)
		} else {
			l.noWay(a)
		}
	case fxCommit:
		l.commit(e.unit)
	case fxFail:
		l.hub.tell(e.unit.entries[0], e.err)
	case fxTell:
		if s := l.states[e.to]; s != nil {
			s.tellEvent(e.told, &l.fx)
		}
	case fxDo:
		e.do()
	}
}

// commit hands operations to the store; the entries' owners hear when they are
// on disk. Without operations there is nothing to wait for.
func (l *loop) commit(c commit) {
	h := l.hub
	done := func(err error) {
		h.tell(c.entries[0], err)
		h.tell(c.entries[1], err)
	}
	if len(c.ops) == 0 {
		done(nil)
		return
	}
	h.cfg.Store.Submit(store.Unit{Ops: c.ops, Done: done})
}

// route takes a stanza to whoever answers for its address.
func (l *loop) route(a *arrive) {
	to := a.stanza.To
	switch {
	case l.hub.cfg.local(to.Domain()) && to.Local() != "":
		l.hub.post(to.Bare(), a)
		return
	case l.hub.cfg.local(to.Domain()):
		l.toServer(a)
	default:
		l.leave(a)
		return
	}
	l.commit(commit{ops: a.ops, entries: [2]*entry{a.origin}})
}

// toServer is a stanza to the server itself that no feature answers (RFC 6120
// 10.5.1).
func (l *loop) toServer(a *arrive) {
	if st := a.stanza; st.Kind == stanza.IQ || st.Kind == stanza.Message && st.Type != stanza.TypeHeadline {
		l.bounce(a, stanza.NewError(stanza.ServiceUnavailable, ""))
	}
}

// bounce returns a stanza to a local sender.
func (l *loop) bounce(a *arrive, e *stanza.Error) {
	st := a.stanza
	if st.Kind == stanza.Presence {
		switch st.Type {
		case stanza.TypeUnavailable, stanza.TypeProbe:
			return
		case stanza.TypeAvailable:
			// What is broadcast goes to bare JIDs. To a full one it was directed, as
			// to enter a room, and its sender waits for an answer.
			if !st.To.IsFull() {
				return
			}
		}
	}
	r := st.ErrorReply(e)
	if r == nil || !l.hub.cfg.local(r.To.Domain()) || r.To.Local() == "" {
		return
	}
	l.hub.post(r.To.Bare(), newArrive(r))
}

// tick passes time for every account with sessions, and for those that have
// something to try again.
func (l *loop) tick() {
	for _, s := range inOrder(&l.hub.cfg, l.states) {
		if len(s.sessions)+len(s.waiting)+len(s.unkept)+len(s.unforgotten) > 0 || s.uncleared != 0 || s.pushWaits() {
			l.applyTo(s, tick{})
		}
	}
}

// inOrder are a map's entries, in the order of addresses if a run is to be
// repeatable.
func inOrder[V any](cfg *Config, m map[jid.JID]V) iter.Seq2[jid.JID, V] {
	if !cfg.Repeatable {
		return maps.All(m)
	}
	return func(yield func(jid.JID, V) bool) {
		keys := slices.AppendSeq(make([]jid.JID, 0, len(m)), maps.Keys(m))
		slices.SortFunc(keys, func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			if v, ok := m[k]; ok && !yield(k, v) {
				return
			}
		}
	}
}

// sweep forgets accounts that nobody has used for a while.
func (l *loop) sweep() {
	old := l.hub.cfg.Now().Add(-10 * time.Minute)
	for j, s := range l.states {
		if s.idle() && (s.lastUsed.Before(old) || len(l.states) > l.hub.cfg.Limits.IdleAccounts) {
			delete(l.states, j)
		}
	}
}
