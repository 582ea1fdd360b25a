package account

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// presence is a presence stanza's content, without addresses, as it is
// broadcast to many.
type presence struct {
	typ   string
	id    string
	lang  string
	inner string // canonical payload
}

func (p presence) encode(from, to jid.JID) []byte {
	st := stanza.Stanza{Kind: stanza.Presence, Type: p.typ, ID: p.id, From: from, To: to, Lang: p.lang}
	return st.AppendWith(make([]byte, 0, 128+len(p.inner)), p.inner)
}

// presenceArrives is presence for an account, or for one of its resources.
type presenceArrives struct {
	presence
	from, to jid.JID
}

func (ev *presenceArrives) apply(s *State, fx *effects) { s.receivePresence(ev, fx) }

// probeArrives asks for the account's presence (RFC 6121 4.3).
type probeArrives struct{ from jid.JID }

func (ev *probeArrives) apply(s *State, fx *effects) { s.answerProbe(ev.from, fx) }

// sendPresence is presence from one of the account's sessions.
func (s *State) sendPresence(ev *inbound, fx *effects) {
	st := ev.stanza
	switch st.Type {
	case stanza.TypeAvailable, stanza.TypeUnavailable:
		switch {
		case st.To.IsZero():
			s.broadcast(ev.session, st, fx)
		default:
			s.direct(ev.session, st, fx)
		}
	case stanza.TypeSubscribe, stanza.TypeSubscribed, stanza.TypeUnsubscribe, stanza.TypeUnsubscribed:
		s.sendSubscription(ev, fx)
	case stanza.TypeError:
		if !st.To.IsZero() && !s.blocks(st.To) {
			fx.route(&arrive{stanza: st})
		}
	case stanza.TypeProbe:
		// RFC 6121 4.3: probes are the servers' own; a client's is answered by
		// what its server already sends it.
	}
	s.later(fx, func(fx *effects) { fx.handled(ev.session, ev.number) })
}

func presenceOf(st *stanza.Stanza, inner string) presence {
	// The payload outlives the stanza: a copy keeps the parse tree from
	// staying with it.
	return presence{typ: st.Type, id: st.ID, lang: st.Lang, inner: strings.Clone(inner)}
}

// broadcast is initial, subsequent or unavailable presence (RFC 6121 4.2, 4.4, 4.5).
func (s *State) broadcast(x *Session, st *stanza.Stanza, fx *effects) {
	if st.Type == stanza.TypeUnavailable {
		s.goUnavailable(x, presenceOf(st, st.Inner()), fx)
		return
	}
	p := presenceOf(st, s.withAvatar(st))
	initial := !x.available
	x.available, x.presence = true, p
	x.priority = priorityOf(st)
	x.caps = capsOf(st)
	s.sendToWatchers(p, x.jid, fx)
	if initial {
		s.initialPresence(x, fx)
	}
	if x.priority >= 0 && s.offline > 0 {
		s.flushOffline(x, fx)
	}
	for _, observe := range s.cfg.presenceObservers {
		fx.call(func() { observe(x, st) })
	}
}

func priorityOf(st *stanza.Stanza) int8 {
	// RFC 6121 4.7.2.3: an integer from -128 to 127; what isn't counts as 0.
	text := strings.TrimSpace(st.Child(stanza.NSClient, "priority").Text())
	n, neg := 0, strings.HasPrefix(text, "-")
	for _, r := range strings.TrimPrefix(strings.TrimPrefix(text, "+"), "-") {
		if r < '0' || r > '9' || n > 128 {
			return 0
		}
		n = n*10 + int(r-'0')
	}
	switch {
	case neg && n <= 128:
		return int8(-n)
	case !neg && n <= 127:
		return int8(n)
	}
	return 0
}

func capsOf(st *stanza.Stanza) string {
	if c := st.Child("http://jabber.org/protocol/caps", "c"); !c.IsZero() {
		return c.Attr("node") + "#" + c.Attr("ver")
	}
	return ""
}

const nsVCardUpdate = "vcard-temp:x:update"

// withAvatar puts the hash of the account's avatar into a presence whose
// client doesn't know it (XEP-0153 3.1, XEP-0398 5).
func (s *State) withAvatar(st *stanza.Stanza) string {
	if !s.avatarKnown {
		return st.Inner()
	}
	inner := st.InnerWithout(func(el xmltree.Element) bool { return el.Is(nsVCardUpdate, "x") })
	return inner + avatarElement(s.avatarHash)
}

func avatarElement(hash string) string {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(nsVCardUpdate, "x").Start(nsVCardUpdate, "photo").Text(hash).End().End()
	return string(w.Bytes())
}

// sendToWatchers sends presence to all who may see it: contacts with a
// subscription, and the account's own resources (RFC 6121 4.2.2).
func (s *State) sendToWatchers(p presence, from jid.JID, fx *effects) {
	for j, c := range s.roster {
		if c.From && !s.blocks(j) {
			s.postPresence(p, from, j, fx)
		}
	}
	s.sendToOwn(p, from, fx)
}

// sendToOwn sends presence to the account's available resources, the sending
// one included (RFC 6121 4.2.2).
func (s *State) sendToOwn(p presence, from jid.JID, fx *effects) {
	var data []byte
	s.later(fx, func(fx *effects) {
		for _, y := range s.sessions {
			if !y.available || p.typ == stanza.TypeUnavailable && y.jid == from {
				continue
			}
			if data == nil {
				data = p.encode(from, s.jid)
			}
			fx.deliver(y, data, tag{idle: true, from: from})
		}
	})
}

func (s *State) postPresence(p presence, from, to jid.JID, fx *effects) {
	if s.cfg.local(to.Domain()) {
		if to.Local() != "" {
			fx.post(to.Bare(), &presenceArrives{presence: p, from: from, to: to})
		}
		return
	}
	st := stanza.Build(stanza.Presence, p.typ, p.id, from, to, p.inner)
	st.Lang = p.lang
	fx.route(&arrive{stanza: st})
}

// initialPresence is what a session's first presence brings it: the presence
// of the other resources and of the contacts, and the subscription requests
// that wait for an answer (RFC 6121 4.2.2, 4.3.1, 3.1.3).
func (s *State) initialPresence(x *Session, fx *effects) {
	for _, y := range s.sessions {
		if y != x && y.available {
			fx.deliver(x, y.presence.encode(y.jid, x.jid), tag{idle: true, from: y.jid})
		}
	}
	for j, c := range s.roster {
		if c.To && !s.blocks(j) {
			s.probe(j, fx)
		}
		if c.PendingIn && !s.blocks(j) {
			fx.deliver(x, c.request, tag{})
		}
	}
}

func (s *State) probe(to jid.JID, fx *effects) {
	if s.cfg.local(to.Domain()) {
		if to.Local() != "" {
			fx.post(to, &probeArrives{from: s.jid})
		}
		return
	}
	fx.route(&arrive{stanza: stanza.Build(stanza.Presence, stanza.TypeProbe, "", s.jid, to, "")})
}

// answerProbe is RFC 6121 4.3.2.
func (s *State) answerProbe(from jid.JID, fx *effects) {
	if s.unknown() {
		return // RFC 6121 8.5.1
	}
	c := s.roster[from.Bare()]
	if from.Bare() != s.jid && (c == nil || !c.From) || s.blocks(from) {
		// Whether the account exists or blocks is not told apart.
		s.postPresence(presence{typ: stanza.TypeUnsubscribed}, s.jid, from.Bare(), fx)
		return
	}
	any := false
	for _, x := range s.sessions {
		if x.available {
			any = true
			s.postPresence(x.presence, x.jid, from, fx)
		}
	}
	if !any {
		s.postPresence(presence{typ: stanza.TypeUnavailable}, s.jid, from, fx)
	}
}

// direct is directed presence (RFC 6121 4.6).
func (s *State) direct(x *Session, st *stanza.Stanza, fx *effects) {
	if s.blocks(st.To) {
		s.later(fx, func(fx *effects) {
			fx.deliver(x, st.ErrorReply(blockedError()).AppendTo(nil), tag{})
		})
		return
	}
	if st.Type == stanza.TypeAvailable {
		if _, known := x.directed[st.To]; !known {
			if len(x.directed) >= s.cfg.Limits.Directed {
				e := stanza.NewError(stanza.ResourceConstraint, "too many addresses have directed presence of this session")
				s.later(fx, func(fx *effects) { fx.deliver(x, st.ErrorReply(e).AppendTo(nil), tag{}) })
				return
			}
			if x.directed == nil {
				x.directed = map[jid.JID]struct{}{}
			}
			x.directed[st.To] = struct{}{}
		}
	} else {
		delete(x.directed, st.To)
	}
	s.postPresence(presenceOf(st, s.withAvatar(st)), x.jid, st.To, fx)
}

// goUnavailable is unavailable presence of a session, its own or the server's
// (RFC 6121 4.5). Whoever had directed presence of it is told too (4.6.3).
func (s *State) goUnavailable(x *Session, p presence, fx *effects) {
	told := map[jid.JID]bool{}
	if x.available {
		for j, c := range s.roster {
			if c.From && !s.blocks(j) {
				told[j] = true
				s.postPresence(p, x.jid, j, fx)
			}
		}
	}
	for j := range x.directed {
		if !told[j] && !told[j.Bare()] && !s.blocks(j) {
			s.postPresence(p, x.jid, j, fx)
		}
	}
	x.directed = nil
	if !x.available {
		return
	}
	x.available, x.presence, x.priority, x.caps = false, presence{}, 0, ""
	s.sendToOwn(p, x.jid, fx)
	s.noteLastSeen(p, fx)
}

// noteLastSeen keeps when and how the last resource became unavailable
// (XEP-0012 3).
func (s *State) noteLastSeen(p presence, fx *effects) {
	for _, y := range s.sessions {
		if y.available {
			return
		}
	}
	s.lastSeen, s.lastStatus = fx.now, ""
	if p.inner != "" {
		st := stanza.Build(stanza.Presence, p.typ, "", s.jid, jid.JID{}, p.inner)
		s.lastStatus = st.Child(stanza.NSClient, "status").Text()
	}
	fx.commit([]store.Op{store.KVPut{Account: s.id, Space: "last", Key: "unavailable", Value: encodeLast(s.lastSeen, s.lastStatus)}})
}

// receivePresence is presence from elsewhere (RFC 6121 8.5.2.1.2, 8.5.3).
func (s *State) receivePresence(ev *presenceArrives, fx *effects) {
	switch ev.typ {
	case stanza.TypeAvailable, stanza.TypeUnavailable, stanza.TypeError:
		if s.unknown() || s.blocks(ev.from) {
			return
		}
		if ev.typ == stanza.TypeUnavailable {
			s.forgetDirected(ev.from)
		}
		data := ev.encode(ev.from, ev.to)
		t := tag{idle: ev.typ != stanza.TypeError, from: ev.from}
		s.later(fx, func(fx *effects) {
			for _, x := range s.sessions {
				if ev.to.Resource() == "" && x.available && ev.typ != stanza.TypeError || ev.to == x.jid {
					fx.deliver(x, data, t)
				}
			}
		})
	default:
		s.receiveSubscription(ev, fx)
	}
}

// forgetDirected: somebody who went away need not be told when this session
// does (RFC 6121 4.6.3).
func (s *State) forgetDirected(from jid.JID) {
	for _, x := range s.sessions {
		delete(x.directed, from)
	}
}

// sendSubscription is a subscription stanza from the user (RFC 6121 3).
func (s *State) sendSubscription(ev *inbound, fx *effects) {
	st := ev.stanza
	to := st.To.Bare()
	if to.IsZero() || to == s.jid {
		s.later(fx, func(fx *effects) {
			fx.deliver(ev.session, st.ErrorReply(stanza.NewError(stanza.BadRequest, "a subscription needs the address of somebody else")).AppendTo(nil), tag{})
		})
		return
	}
	if s.blocks(to) && (st.Type == stanza.TypeSubscribe || st.Type == stanza.TypeSubscribed) {
		s.later(fx, func(fx *effects) { fx.deliver(ev.session, st.ErrorReply(blockedError()).AppendTo(nil), tag{}) })
		return
	}
	c := s.roster[to]
	if c == nil {
		if st.Type == stanza.TypeUnsubscribe || st.Type == stanza.TypeUnsubscribed {
			c = &contact{} // nothing to change, but A.2.2 still routes it
		} else if s.rosterFull() {
			s.later(fx, func(fx *effects) {
				fx.deliver(ev.session, st.ErrorReply(stanza.NewError(stanza.ResourceConstraint, "the roster is full")).AppendTo(nil), tag{})
			})
			return
		} else {
			c = &contact{}
			s.roster[to] = c
		}
	}
	change := c.outbound(st.Type)
	p := presenceOf(st, st.Inner())
	s.changeSubscription(to, c, change, nil, fx, func(fx *effects) {
		if change.Pass {
			s.postPresence(p, s.jid, to, fx)
		}
		s.showOrHide(change, to, fx)
	})
}

// showOrHide sends the contact the user's presence, or that it is gone.
func (s *State) showOrHide(change subscriptionChange, to jid.JID, fx *effects) {
	for _, x := range s.sessions {
		switch {
		case !x.available:
		case change.ShowPresence:
			s.postPresence(x.presence, x.jid, to, fx)
		case change.HidePresence:
			s.postPresence(presence{typ: stanza.TypeUnavailable}, x.jid, to, fx)
		}
	}
}

// receiveSubscription is a subscription stanza from a contact (RFC 6121 3).
func (s *State) receiveSubscription(ev *presenceArrives, fx *effects) {
	from := ev.from.Bare()
	if s.unknown() || s.blocks(ev.from) || from == s.jid {
		return // RFC 6121 8.5.1, XEP-0191 3
	}
	c := s.roster[from]
	if c == nil {
		if ev.typ != stanza.TypeSubscribe {
			return // appendix A.3: no state, nothing to deliver
		}
		if s.rosterFull() {
			return
		}
		c = &contact{}
		s.roster[from] = c
	}
	change := c.inbound(ev.typ)
	data := ev.encode(from, s.jid)
	if change.Next.PendingIn && !c.PendingIn {
		c.request = data
	}
	p := presence{typ: change.Reply}
	s.changeSubscription(from, c, change, c.request, fx, func(fx *effects) {
		if change.Pass {
			for _, x := range s.sessions {
				// A request goes to available resources, the other stanzas to
				// those that asked for the roster (RFC 6121 3.1.3, 3.1.6).
				if x.available || x.interested(nsRoster) && ev.typ != stanza.TypeSubscribe {
					fx.deliver(x, data, tag{})
				}
			}
		}
		if change.Reply != "" {
			s.postPresence(p, s.jid, from, fx)
		}
		s.showOrHide(change, from, fx)
	})
}

// changeSubscription commits a change of a contact's state, pushes it, and
// then does what follows.
func (s *State) changeSubscription(j jid.JID, c *contact, change subscriptionChange, request []byte, fx *effects, then func(*effects)) {
	before := c.subscription
	if change.Next == before {
		s.later(fx, then)
		s.forgetEmpty(j, c)
		return
	}
	c.subscription = change.Next
	var ops []store.Op
	if before.PendingIn != c.PendingIn {
		if c.PendingIn {
			ops = append(ops, store.RequestPut{Account: s.id, From: j, Stanza: request, At: fx.now})
		} else {
			c.request = nil
			ops = append(ops, store.RequestDelete{Account: s.id, From: j})
		}
	}
	// Only what the roster shows is pushed: an inbound request alone isn't in
	// it (RFC 6121 3.1.3).
	shown := before
	shown.PendingIn = c.PendingIn
	push := shown != c.subscription
	if push {
		c.listed = true
		s.rosterVersion++
		c.version = s.rosterVersion
		ops = append(ops, store.RosterPut{Account: s.id, Item: c.item(j), Version: c.version})
	}
	item := c.item(j)
	e := s.hold(fx.now, func(fx *effects) {
		if push {
			s.pushRoster(item, false, fx)
		}
		then(fx)
	})
	e.failed = func(fx *effects, _ error) { s.reload(fx) }
	fx.commit(ops, e)
	s.forgetEmpty(j, c)
}

// forgetEmpty drops a contact that is neither in the roster nor pending.
func (s *State) forgetEmpty(j jid.JID, c *contact) {
	if !c.listed && !c.PendingIn {
		delete(s.roster, j)
	}
}

func blockedError() *stanza.Error {
	e := stanza.NewError(stanza.NotAcceptable, "")
	e.Type = stanza.Cancel
	e.App = "<blocked xmlns='" + nsBlocking + "'/>"
	return e
}
