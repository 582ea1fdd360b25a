package account

import (
	"context"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
)

// Keeper is a Border to a service of this server, such as its rooms, which keeps
// messages. What it is sent stays within the server and bears no tag (R-GW-1), and
// the sender hears that a message was taken when it is kept.
type Keeper interface {
	Border
	// Keep is Send of a message. taken is called once what becomes of the message is
	// on disk, and behind whatever the service answers, by any goroutine; never if
	// an error is returned.
	Keep(st *stanza.Stanza, taken func()) *stanza.Error
}

// keeper is the service that keeps what is sent to a domain, nil if none does.
func (c *Config) keeper(domain string) Keeper {
	if c.local(domain) {
		return nil
	}
	k, _ := c.border(domain).(Keeper)
	return k
}

// counted is that a message which a service keeps has been taken.
type counted struct {
	session *session
	number  uint64
}

func (ev *counted) apply(s *State, fx *effects) {
	s.later(fx, func(fx *effects) { fx.handled(ev.session, ev.number) })
}

// burst is what a service says to one session at once.
type burst struct{ list []*stanza.Stanza }

// burstOf is from how many stanzas on it is worth an event of its own.
const burstOf = 8

func (ev *burst) apply(s *State, fx *effects) {
	if i := s.addressed(ev.list[0].To); i >= 0 {
		x := s.sessions[i]
		s.later(fx, func(fx *effects) { fx.call(x.cork) })
		defer s.later(fx, func(fx *effects) { fx.call(x.uncork) })
	}
	for _, st := range ev.list {
		said(st, nil).apply(s, fx)
	}
}

// said is newArrive for what a service says. What it said before, if it was the same
// to somebody else, has been looked at already.
func said(st *stanza.Stanza, before *arrive) *arrive {
	if before == nil || st.Kind != stanza.Message || !sameBut(st, before.stanza) {
		before = newArrive(st)
	}
	return &arrive{stanza: st, msg: before.msg, intent: before.intent, many: st.Type == stanza.TypeGroupchat}
}

// sameBut: two messages with the same payload, apart from whom they are for.
func sameBut(a, b *stanza.Stanza) bool {
	return b.Kind == a.Kind && a.Type == b.Type && a.From == b.From && a.To.IsFull() == b.To.IsFull() && a.Payload() == b.Payload()
}

// Deliver takes what a service of this server says, in order, to accounts, the
// server or another domain. It never blocks: a service does nothing by itself, so
// what bounds its senders bounds what it says. It may be called concurrently.
func (h *Hub) Deliver(list []*stanza.Stanza) {
	var before *arrive
	for len(list) > 0 {
		st, n := list[0], 1
		to := st.To
		for n < len(list) && list[n].To == to {
			n++
		}
		if n >= burstOf && to.IsFull() && h.cfg.local(to.Domain()) {
			h.post(to.Bare(), &burst{list[:n:n]})
			list = list[n:]
			continue
		}
		list = list[1:]
		switch {
		case !h.cfg.local(to.Domain()):
			h.passOn(st)
		case to.Local() == "":
			// The server asks no service.
		case st.Kind == stanza.IQ && to.IsBare():
			h.read(func() { h.receiveRequest(h.ctx, st) })
		default:
			before = said(st, before)
			h.post(to.Bare(), before)
		}
	}
}

// keep hands a message of a local session to a service in its turn.
func (l *loop) keep(k Keeper, a *arrive) {
	if e := k.Keep(a.stanza, a.taken); e != nil {
		l.bounce(a, e)
		a.taken()
	}
}

// whenTaken is what a service calls for a message of a session.
func (s *State) whenTaken(x *session, number uint64) func() {
	hub, bare := s.cfg.hub, s.jid
	return func() { hub.post(bare, &counted{x, number}) }
}

// Stream sends a session stanzas of a service, complete, behind what Deliver took
// for it, waiting while its queue is half full and for a client that lost its
// connection. It may be called concurrently. The error is the context's, the store's
// or ErrEnded.
func (h *Hub) Stream(ctx context.Context, to jid.JID, list [][]byte) error {
	owner := &accountRef{h, to.Bare()}
	if _, err := owner.Settled(ctx); err != nil {
		return err
	}
	x, err := ask(ctx, h, owner.bare, func(s *State, _ *effects) *session {
		if i := s.addressed(to); i >= 0 {
			return s.sessions[i]
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case x == nil:
		return ErrEnded
	}
	batch := make([]sm.Entry[tag], 0, len(list))
	for _, data := range list {
		batch = append(batch, sm.Entry[tag]{Data: data})
	}
	return x.sendBatch(ctx, batch)
}
