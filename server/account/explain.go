package account

import (
	"context"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// Explain says what would happen to a message now, on every side of it that is
// this server's, and changes nothing. The message's 'from' says who sends it: a
// session that is there sends with its own profile, else it is a device with the
// profile given that is not connected; or somebody elsewhere. The error is the
// context's or the store's: ErrNotFound if an account of this server sends it
// that doesn't exist.
func (h *Hub) Explain(ctx context.Context, st *stanza.Stanza, p route.Profile) (e trail.Explanation, err error) {
	elsewhere := ""
	if d := st.From.Domain(); !h.cfg.local(d) {
		elsewhere = " (of another domain)"
		if h.cfg.border(d) == nil {
			elsewhere = " (of another domain, which this server doesn't talk to)"
		}
	}
	e.Message = route.ParseType(st.Type).String() + " message from " + st.From.String() + elsewhere + " to " + st.To.String()
	e.Sides = []trail.Record{} // for JSON
	origin := route.FromDomain
	if h.cfg.local(st.From.Domain()) {
		origin = route.FromSession
		if p == route.V2 {
			origin = route.FromV2Session
		}
	}
	add := func(of jid.JID, facts func(*State) route.Facts) (stopped bool, err error) {
		r, err := ask(ctx, h, of.Bare(), func(s *State, fx *effects) (r trail.Record) {
			d := s.consider(facts(s))
			s.considerPush(st, d, fx.now)
			s.describe(&r, st, d, 0, fx.now)
			return r
		})
		r.At, r.ArchiveID = time.Time{}, "" // it didn't happen
		e.Sides = append(e.Sides, r)
		return r.Stopped != 0, err
	}
	if origin != route.FromDomain && st.From.Local() != "" {
		own, err := h.sender(ctx, st, &origin)
		if err != nil {
			return e, err
		}
		entered, msg := route.Enter(st, origin)
		st = entered
		if st.To.Bare() == st.From.Bare() {
			_, err := add(st.From, func(s *State) route.Facts { return s.ownFacts(st, msg, own, h.cfg.Now()) })
			return e, err
		}
		if stopped, err := add(st.From, func(s *State) route.Facts { return s.sendingFacts(st, msg, own, h.cfg.Now()) }); stopped || err != nil {
			return e, err
		}
	}
	if h.cfg.local(st.To.Domain()) && st.To.Local() != "" {
		entered, msg := route.Enter(st, origin)
		st = entered
		_, err := add(st.To, func(s *State) route.Facts { return s.receivingFacts(st, msg) })
		return e, err
	}
	intent := ""
	if len(e.Sides) > 0 {
		intent = e.Sides[0].Intent
	}
	e.Outside = h.explainOutside(st, intent)
	return e, nil
}

// explainOutside says what happens to a message that is for no account here.
func (h *Hub) explainOutside(st *stanza.Stanza, intent string) string {
	domain := st.To.Domain()
	here, known := h.cfg.local(domain), h.cfg.border(domain) != nil
	answered := st.Type != stanza.TypeError && !(here && st.Type == stanza.TypeHeadline) // loop.toServer
	switch {
	case !answered && (here || !known):
		return "dropped without an answer: nobody is there to have it"
	case here:
		return "answered <service-unavailable/>: the server itself takes no messages"
	case !known:
		return "answered <remote-server-not-found/>: this server doesn't talk to " + domain
	}
	leaves := "then it leaves for " + domain + ", where other rules may hold, "
	switch {
	case intent == route.Exclusive.String():
		return leaves + "tagged <xmpp-2/> and marked for one device — R-GW-1"
	case intent == route.Conversation.String() && st.To.IsFull():
		return leaves + "without a tag: it is a message of XMPP 1.0 — R-INT-9"
	default:
		return leaves + "tagged <xmpp-2/> — R-GW-1"
	}
}

// sender finds the session that a message is from, and its origin; a session
// that nobody has if there is none, ErrNotFound if there is no such account.
func (h *Hub) sender(ctx context.Context, st *stanza.Stanza, o *route.Origin) (*session, error) {
	unknown := false
	found, err := ask(ctx, h, st.From.Bare(), func(s *State, _ *effects) *session {
		unknown = s.unknown()
		if x := s.session(st.From.Resource()); x != nil {
			*o = x.origin()
			return x
		}
		return nil
	})
	if err == nil && unknown {
		err = fmt.Errorf("explaining a message from %s: %w", st.From.Bare(), store.ErrNotFound)
	}
	if found == nil {
		found = &session{hub: h, jid: st.From}
	}
	return found, err
}
