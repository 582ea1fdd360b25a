package account

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// loop owns the states of many accounts and applies their events one by one.
// Its mailbox is bounded by what posts to it: each session has at most
// maxInFlight stanzas on their way, each call waits for its answer.
type loop struct {
	hub    *Hub
	states map[jid.JID]*State

	mu    sync.Mutex
	box   []mail
	spare []mail
	wake  chan struct{}

	fx effects
}

type mail struct {
	to jid.JID // bare; zero: for the loop itself, all its accounts
	ev event
}

func newLoop(h *Hub) *loop {
	return &loop{hub: h, states: map[jid.JID]*State{}, wake: make(chan struct{}, 1)}
}

func (l *loop) post(to jid.JID, ev event) {
	l.mu.Lock()
	l.box = append(l.box, mail{to, ev})
	first := len(l.box) == 1
	l.mu.Unlock()
	if first {
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

const (
	tickEvery  = time.Second
	sweepEvery = 60 // ticks
)

func (l *loop) run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
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

// apply applies one event. A panic is a bug in one account's code: the account
// is rebuilt from the store, the others go on.
func (l *loop) apply(to jid.JID, ev event) {
	if to.IsZero() {
		ev.apply(nil, &l.fx)
		return
	}
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
	l.fx.now = l.hub.cfg.Now()
	s.apply(ev, &l.fx)
	l.execute()
}

func (l *loop) recovered(s *State, ev event) {
	r := recover()
	if r == nil {
		return
	}
	l.hub.stats.Panics.Add(1)
	l.hub.cfg.Log.Error("panic in an account's loop: its sessions end, its state is read anew", "account", s.jid,
		"event", fmt.Sprintf("%T", ev), "panic", r, "stack", string(debug.Stack()))
	l.fx.list = l.fx.list[:0]
	for _, x := range s.sessions {
		if tr, _ := x.giveUp(true); tr != nil {
			tr.End(stanza.NewStreamError(stanza.StreamInternalServerError, ""))
		}
	}
	delete(l.states, s.jid)
}

// execute carries out the effects, those that they cause included.
func (l *loop) execute() {
	for i := 0; i < len(l.fx.list); i++ {
		e := &l.fx.list[i]
		switch e.kind {
		case fxDeliver:
			e.session.deliver(e.data, e.tag)
		case fxHandled:
			e.session.handled(e.number)
		case fxPost:
			l.hub.post(e.to, e.ev)
		case fxRoute:
			l.route(e.ev.(*arrive))
		case fxCommit:
			l.commit(e.unit)
		case fxDo:
			e.do()
		}
	}
	clear(l.fx.list)
	l.fx.list = l.fx.list[:0]
	if cap(l.fx.list) > 1024 {
		l.fx.list = nil
	}
}

// commit hands operations to the store; the entries' owners hear when they are
// on disk. Without operations there is nothing to wait for.
func (l *loop) commit(c commit) {
	if len(c.ops) == 0 {
		l.hub.tell(c.entries, nil)
		return
	}
	h := l.hub
	h.cfg.Store.Submit(store.Unit{Ops: c.ops, Done: func(err error) { h.tell(c.entries, err) }})
}

func (h *Hub) tell(entries [2]*entry, err error) {
	for _, e := range entries {
		if e != nil {
			h.post(e.owner, &committed{entry: e, err: err})
		}
	}
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
		l.bounce(a, stanza.NewError(stanza.RemoteServerNotFound, "this server doesn't talk to other servers yet"))
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
	if st.Kind == stanza.Presence && (st.Type == stanza.TypeAvailable || st.Type == stanza.TypeUnavailable || st.Type == stanza.TypeProbe) {
		return
	}
	r := st.ErrorReply(e)
	if r == nil || !l.hub.cfg.local(r.To.Domain()) || r.To.Local() == "" {
		return
	}
	l.hub.post(r.To.Bare(), newArrive(r))
}

// tick passes time for every account with sessions.
func (l *loop) tick() {
	sessions := 0
	for _, s := range l.states {
		if len(s.sessions) > 0 {
			sessions += len(s.sessions)
			l.applyTo(s, tick{})
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

// settle ends all sessions for the server's stop and waits until what was
// received is committed.
func (l *loop) settle(ctx context.Context) {
	err := stanza.NewStreamError(stanza.StreamSystemShutdown, "")
	done := make(chan struct{})
	l.post(jid.JID{}, loopCall(func() {
		for _, s := range l.states {
			for _, x := range s.sessions {
				x.mu.Lock()
				tr := x.transport
				x.mu.Unlock()
				if tr != nil {
					tr.End(err)
				}
			}
		}
		close(done)
	}))
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// loopCall runs on the loop, for all its accounts.
type loopCall func()

func (f loopCall) apply(*State, *effects) { f() }
