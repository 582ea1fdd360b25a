package account

import (
	"context"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Befriend does for the owner of an account what he would do to have a contact with
// a subscription both ways: with may see his presence, now or as soon as it asks, and
// is asked for its own (XEP-0379 3.5). An account that doesn't exist is
// item-not-found; a full roster, and one that blocks the other, is what a client
// would be told.
func (h *Hub) Befriend(ctx context.Context, owner, with jid.JID) error {
	with = jid.MustParse(strings.Clone(with.Bare().String()))
	refused, err := ask(ctx, h, owner, func(s *State, fx *effects) *stanza.Error {
		switch {
		case s.unknown():
			return stanza.NewError(stanza.ItemNotFound, "")
		case with == s.jid:
			return stanza.NewError(stanza.BadRequest, "nobody is his own contact")
		case s.blocks(with):
			return blockedError()
		case s.roster[with] == nil && s.rosterFull():
			return stanza.NewError(stanza.ResourceConstraint, "the roster is full")
		}
		s.befriend(with, stanza.TypeSubscribed, fx)
		if c := s.roster[with]; c == nil || !c.To {
			s.befriend(with, stanza.TypeSubscribe, fx)
		}
		return nil
	})
	if err == nil && refused != nil {
		return refused
	}
	return err
}

// befriend is a subscription stanza that no session has sent.
func (s *State) befriend(with jid.JID, typ string, fx *effects) {
	c := s.roster[with]
	if c == nil {
		c = &contact{}
		s.roster[with] = c
	}
	change := c.outbound(typ)
	failed := func(_ *effects, err error) {
		s.cfg.Log.Error("a contact could not be kept", "account", s.jid, "error", err)
	}
	s.changeSubscription(with, c, change, nil, fx, failed, func(push, fx *effects) {
		fx.list = append(fx.list, push.list...)
		if change.Pass {
			s.postPresence(presence{typ: typ}, s.jid, with, fx)
		}
		s.showOrHide(change, with, fx)
	})
}

// noteToken tells of a request for a subscription that brings a token (XEP-0379 3.4).
func (s *State) noteToken(ev *presenceArrives, from jid.JID, fx *effects) {
	if s.cfg.Invited == nil || ev.typ != stanza.TypeSubscribe || !strings.Contains(ev.inner, xep.NSPARS) {
		return
	}
	el, err := xmltree.Parse([]byte("<presence xmlns='"+stanza.NSClient+"'>"+ev.inner+"</presence>"), "", xmltree.Limits{})
	if err != nil {
		return
	}
	if token := strings.Clone(el.Child(xep.NSPARS, "preauth").Attr("token")); token != "" {
		owner := s.jid
		fx.call(func() { s.cfg.Invited(owner, from, token) })
	}
}
