package account

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// Border is the way to a domain that isn't this server's: a component, another
// server. Its methods don't block and may be called concurrently.
type Border interface {
	// Send takes a stanza that leaves. What it takes it sends in the order of
	// the calls; what it took and then can't send it answers with an error,
	// through Hub.Receive. A stanza that it doesn't take goes back to its sender
	// with the error returned.
	Send(st *stanza.Stanza) *stanza.Error
	// Own reports whether what is behind the border is a service of this server:
	// such a service is no stranger to its accounts (R-EXCL-3).
	Own() bool
}

// Durable is a Border that delivers what it has taken also after a restart: its
// messages are in the store's outbox until it deletes them.
type Durable interface {
	Border
	// Refuses is what the sender of a message is told if it would not be taken now:
	// before it is committed, and so before it is acknowledged. nil: it is taken.
	Refuses(st *stanza.Stanza) *stanza.Error
	// SendKept is Send of a message that was committed to the outbox under an id. It
	// takes every one, also where Refuses has changed its mind in between. What
	// becomes of it is noted at ref.
	SendKept(st *stanza.Stanza, id uint64, ref trail.Ref)
}

// border is the way to a domain, nil if there is none.
func (c *Config) border(domain string) Border {
	if c.Borders == nil {
		return nil
	}
	return c.Borders(domain)
}

// leave takes a stanza to another domain. A message of a local session goes
// when its archive entry is committed and its turn in its sender's order has
// come (R-ARCH-3).
func (l *loop) leave(a *arrive) {
	switch b := l.hub.cfg.border(a.stanza.To.Domain()); {
	case b == nil:
		l.noWay(a)
	case a.origin != nil:
		l.keepOutgoing(b, a)
		a.origin.then = append(a.origin.then, effect{kind: fxLeave, ev: a})
	default:
		l.cross(b, a)
	}
	l.commit(commit{ops: a.ops, entries: [2]*entry{a.origin}})
}

// keepOutgoing puts a message of a local session into the outbox, in the unit of its
// archive entry, if the border is one that keeps what it takes: what was
// acknowledged isn't lost. That somebody is typing is worth nothing later.
func (l *loop) keepOutgoing(b Border, a *arrive) {
	if _, keeps := b.(Durable); !keeps || worthless(&a.msg) {
		return
	}
	a.stanza, a.left = route.Leave(a.stanza, a.intent), true
	a.outbox = l.hub.outboxID.Add(1)
	a.ops = append(a.ops, store.OutboxPut{Message: store.OutboxMessage{ID: store.OutboxID(a.outbox), At: l.hub.cfg.Now(), Stanza: a.stanza.AppendTo(nil)}})
}

// worthless reports whether a message isn't worth being kept until it can leave.
func worthless(m *route.Message) bool {
	return m.Type == route.Error || m.Marks.Any(route.OnlyChatState)
}

// turnedAway refuses a message for which the border has no room, as if it had never
// been sent: nothing of it is kept. It reports whether it did.
func (s *State) turnedAway(ev *inbound, msg *route.Message, fx *effects) bool {
	b, keeps := s.cfg.border(ev.stanza.To.Domain()).(Durable)
	if !keeps || worthless(msg) {
		return false
	}
	e := b.Refuses(ev.stanza)
	if e != nil {
		s.later(fx, func(fx *effects) { s.tellFailure(ev, e, fx) })
	}
	return e != nil
}

// noWay answers a stanza to a domain that this server doesn't talk to.
func (l *loop) noWay(a *arrive) {
	if a.origin != nil {
		a.origin.answered = true
	}
	l.bounce(a, stanza.NewError(stanza.RemoteServerNotFound, "this server doesn't talk to other servers yet"))
}

// cross hands a stanza to the border, a message in the form that it has
// outside (R-GW-1).
func (l *loop) cross(b Border, a *arrive) {
	st := a.stanza
	if st.Kind == stanza.Message && a.intent != 0 && !a.left {
		st = route.Leave(st, a.intent)
	}
	if a.outbox != 0 {
		l.hub.trail.Left(a.trail, trail.Queued, "", l.hub.cfg.Now())
		b.(Durable).SendKept(st, a.outbox, a.trail)
	} else if e := b.Send(st); e != nil {
		l.bounce(a, e)
	}
}

// settleEvery is after how many stanzas from outside the one that brings the
// next waits until all that its recipient has got is on disk.
const settleEvery = 64

// Receive takes a stanza that enters from another domain, for whose 'from' the
// border answers; st is the accounts' from then on. It returns when the stanza
// has been dealt with, and now and then only when that is on disk: so a border
// that calls it for one stanza after the other keeps their order, and can't
// bring more than the server handles. Whatever is wrong with a stanza is
// answered through the border. The error is the context's, or says that the
// server is stopping.
func (h *Hub) Receive(ctx context.Context, st *stanza.Stanza) error {
	if err := h.uncrowded(ctx); err != nil {
		return err
	}
	if h.closing.Load() {
		return errStopped
	}
	to := st.To
	switch {
	case !h.cfg.local(to.Domain()):
		h.passOn(st)
		return nil
	case to.Local() == "" && st.Kind != stanza.IQ:
		if st.Type != stanza.TypeHeadline {
			h.answerOutside(st, stanza.NewError(stanza.ServiceUnavailable, "")) // as loop.toServer
		}
		return nil
	case st.Kind == stanza.IQ && (to.Local() == "" || to.IsBare()):
		return h.receiveRequest(ctx, st)
	}
	a := &arrive{stanza: st}
	if st.Kind == stanza.Message {
		a.stanza, a.msg = route.Enter(h.cfg.unforged(st), route.FromDomain) // R-GW-2, R-GW-3
	}
	h.post(to.Bare(), a)
	return h.dealtWith(ctx, &accountRef{h, to.Bare()})
}

// receiveRequest answers an IQ from outside to the server or to an account.
func (h *Hub) receiveRequest(ctx context.Context, st *stanza.Stanza) error {
	switch {
	case st.Type != stanza.TypeGet && st.Type != stanza.TypeSet:
		if st.To.IsDomain() {
			h.serviceAnswers(st)
		} else {
			h.accountAnswered(st)
		}
	case st.To.IsDomain():
		h.outside(h.answerIQ(ctx, nil, st, feature.Server))
	case st.To.Local() != "":
		h.outside(h.answerIQ(ctx, nil, st, feature.Contact))
	default: // a resource of the server, of which there are none
		h.answerOutside(st, stanza.NewError(stanza.ServiceUnavailable, ""))
	}
	return ctx.Err()
}

// dealtWith waits for what was posted to an account.
func (h *Hub) dealtWith(ctx context.Context, a *accountRef) error {
	var err error
	if h.entered.Add(1)%settleEvery == 0 {
		_, err = a.Settled(ctx)
	} else {
		_, err = ask(ctx, h, a.bare, func(*State, *effects) struct{} { return struct{}{} })
	}
	if ctx.Err() != nil || err == errStopped {
		return err
	}
	return nil // an account that can't be read has answered
}

// passOn takes a stanza from one border to another.
func (h *Hub) passOn(st *stanza.Stanza) {
	e := stanza.NewError(stanza.RemoteServerNotFound, "")
	if b := h.cfg.border(st.To.Domain()); b != nil {
		e = b.Send(st)
	}
	if e != nil {
		h.answerOutside(st, e)
	}
}

// answerOutside returns an error for a stanza that came from outside.
func (h *Hub) answerOutside(st *stanza.Stanza, e *stanza.Error) {
	if r := st.ErrorReply(e); r != nil && st.Kind != stanza.Presence {
		h.outside(r)
	}
}

// outside sends what the server itself has to say to somebody outside, who
// need not be there.
func (h *Hub) outside(st *stanza.Stanza) {
	if b := h.cfg.border(st.To.Domain()); b != nil {
		b.Send(st)
	}
}
