package account

import (
	"context"
	"errors"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// routeIQ sends an IQ of one of the account's sessions to another entity; the
// server's own have been answered before they reach the loop.
func (s *State) routeIQ(ev *inbound, fx *effects) {
	st := ev.stanza
	if s.blocks(st.To) {
		// An answer to somebody who was blocked meanwhile has no error.
		s.later(fx, func(fx *effects) { s.tellError(ev, blockedError(), fx) })
	} else {
		s.later(fx, func(fx *effects) { fx.route(&arrive{stanza: st}) })
	}
	s.later(fx, func(fx *effects) { fx.handled(ev.session, ev.number) })
}

// receiveIQ is an IQ for one of the account's resources (RFC 6121 8.5.3). A
// resource that isn't there, an account that isn't there and a blocked sender
// are answered alike.
func (s *State) receiveIQ(ev *arrive, fx *effects) {
	st := ev.stanza
	i := s.addressed(st.To)
	if i < 0 || s.blocks(st.From) {
		s.answer(st, stanza.NewError(stanza.ServiceUnavailable, ""), fx)
		return
	}
	t := tag{}
	if st.Type == stanza.TypeGet || st.Type == stanza.TypeSet {
		t.kind = tagRequest
	}
	data := st.AppendTo(nil)
	x := s.sessions[i]
	s.laterKept(fx, func(fx *effects) { fx.deliver(x, data, t) })
}

// apply sorts the session's stanzas.
func (ev *inbound) apply(s *State, fx *effects) {
	if s.index(ev.session) < 0 {
		// The session ended while the stanza was on its way. It is never
		// counted as handled, so it is its sender's to send again.
		return
	}
	if len(s.pushes) > 0 && ev.stanza.Kind != stanza.IQ {
		ev.session.use(fx.now)
	}
	switch ev.stanza.Kind {
	case stanza.Message:
		s.sendMessage(ev, fx)
	case stanza.Presence:
		s.sendPresence(ev, fx)
	case stanza.IQ:
		if to := ev.stanza.To; (to.IsZero() || to == s.jid) && isRoster(ev.stanza) {
			s.rosterIQ(ev, fx)
		} else {
			s.routeIQ(ev, fx)
		}
	}
}

// apply sorts what comes from elsewhere.
func (ev *arrive) apply(s *State, fx *effects) {
	switch ev.stanza.Kind {
	case stanza.Message:
		if ev.stanza.Type == stanza.TypeError && ev.stanza.To.IsBare() && s.outsider(ev.stanza.From) != nil {
			s.forgetOutsider(ev.stanza.From) // an event came back
		}
		s.receiveMessage(ev, fx)
	case stanza.Presence:
		st := ev.stanza
		if st.Type == stanza.TypeProbe {
			(&probeArrives{st.From, st.To}).apply(s, fx)
			return
		}
		// It doesn't outlive this: nothing is copied.
		s.receivePresence(&presenceArrives{presence: presence{typ: st.Type, id: st.ID, lang: st.Lang, inner: st.Inner()},
			from: st.From, to: st.To, stanza: st}, fx)
	case stanza.IQ:
		s.receiveIQ(ev, fx)
	}
}

// answerIQ answers a request to the server, the asker's account or another
// account's bare JID from the feature table. It runs on the asking
// connection's goroutine, so a slow answer holds up its asker alone. x is nil
// for an asker from outside.
func (h *Hub) answerIQ(ctx context.Context, x *session, st *stanza.Stanza, scope feature.Scope) *stanza.Stanza {
	reply, err := h.handleIQ(ctx, x, st, scope)
	if err == nil {
		return st.Reply(reply)
	}
	e, told := stanza.AsError(err)
	switch {
	case told:
	case ctx.Err() != nil:
		e = stanza.NewError(stanza.ResourceConstraint, "the connection broke meanwhile: ask again") // type wait: nothing is wrong with the request
	default:
		e = storeError(err)
		h.cfg.Log.Error("request failed", "account", st.From.Bare(), "stanza", st.ID, "payload", st.Payload().Space(), "error", err)
	}
	return st.ErrorReply(e)
}

func (h *Hub) handleIQ(ctx context.Context, x *session, st *stanza.Stanza, scope feature.Scope) (string, error) {
	if scope == feature.Contact && st.Type == stanza.TypeSet && isRoster(st) {
		// RFC 6121 2.1.5, 2.3.3; a get, for which no error is given there, is
		// answered as what the server doesn't do for strangers. Both before
		// anybody looks whether there is such an account.
		return "", stanza.NewError(stanza.Forbidden, "")
	}
	q := &feature.Query{IQ: st, Payload: st.Payload(), Scope: scope, Owner: &accountRef{h, st.From.Bare()}}
	if x != nil {
		q.Session = x
	}
	if scope == feature.Contact {
		q.Owner = &accountRef{h, st.To.Bare()}
		if err := h.mayAsk(ctx, st.From, st.To.Bare()); err != nil {
			return "", err
		}
	}
	iq, ok := h.features.IQ(scope, st.Type, q.Payload.Name())
	if !ok {
		// RFC 6120 8.4, RFC 6121 8.5.2.1.3
		return "", stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return iq.Handle(ctx, q)
}

// mayAsk refuses a request between accounts of which one blocks the other
// (XEP-0191 3).
func (h *Hub) mayAsk(ctx context.Context, from, to jid.JID) error {
	if h.cfg.local(from.Domain()) {
		own, err := (&accountRef{h, from.Bare()}).Relation(ctx, to)
		if err != nil {
			return err
		}
		if own.Blocked {
			return blockedError()
		}
	}
	their, err := (&accountRef{h, to}).Relation(ctx, from)
	if err != nil {
		return err
	}
	if their.Blocked {
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return nil
}

// storeError is what a peer is told of a failing store: that it may try again
// when there is room, or that it isn't the peer's fault.
func storeError(err error) *stanza.Error {
	if e, ok := stanza.AsError(err); ok {
		return e
	}
	switch {
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrBusy):
		return stanza.NewError(stanza.ResourceConstraint, "the server can't store this now")
	case errors.Is(err, store.ErrNotFound):
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return stanza.NewError(stanza.InternalServerError, "")
}
