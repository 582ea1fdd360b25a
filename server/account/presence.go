package account

import (
	"strconv"
	"strings"
	"time"

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
	stanza   *stanza.Stanza // of presence from another server; it doesn't outlive the event
}

func (ev *presenceArrives) apply(s *State, fx *effects) { s.receivePresence(ev, fx) }

// refuse returns an error to whoever asked for a subscription.
func (ev *presenceArrives) refuse(e *stanza.Error, fx *effects) {
	st := stanza.Build(stanza.Presence, ev.typ, ev.id, ev.from, ev.to, "")
	fx.route(newArrive(st.ErrorReply(e)))
}

// probeArrives asks for the account's presence (RFC 6121 4.3), or for that of
// one of its resources.
type probeArrives struct{ from, to jid.JID }

func (ev *probeArrives) apply(s *State, fx *effects) {
	s.whenSure(ev.from.Bare(), fx, func(s *State, fx *effects) { s.answerProbe(ev.from, ev.to, fx) })
}

// sendPresence is presence from one of the account's sessions.
func (s *State) sendPresence(ev *inbound, fx *effects) {
	st := ev.stanza
	switch st.Type {
	case stanza.TypeAvailable, stanza.TypeUnavailable:
		if st.To.IsZero() {
			s.broadcast(ev.session, st, fx)
		} else {
			s.direct(ev, fx)
		}
	case stanza.TypeSubscribe, stanza.TypeSubscribed, stanza.TypeUnsubscribe, stanza.TypeUnsubscribed:
		if err := s.sendSubscription(ev, fx); err != nil {
			s.later(fx, func(fx *effects) { s.tellError(ev, err, fx) })
		}
	case stanza.TypeError:
		if !st.To.IsZero() && !s.blocks(st.To) {
			s.later(fx, func(fx *effects) { fx.route(&arrive{stanza: st}) })
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
func (s *State) broadcast(x *session, st *stanza.Stanza, fx *effects) {
	if st.Type == stanza.TypeUnavailable {
		s.goUnavailable(x, presenceOf(st, st.Inner()), true, fx)
		return
	}
	p := presenceOf(st, s.withAvatar(st))
	initial := !x.available
	x.available, x.presence = true, p
	x.priority = priorityOf(st)
	x.caps = capsOf(st)
	s.noteReachable(x)
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
	n, err := strconv.ParseInt(strings.TrimSpace(st.Child(stanza.NSClient, "priority").Text()), 10, 8)
	if err != nil {
		return 0
	}
	return int8(n)
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
	s.sendToContacts(p, from, fx)
	s.sendToOwn(p, from, fx)
}

// sendToContacts sends presence to the contacts that have a subscription.
func (s *State) sendToContacts(p presence, from jid.JID, fx *effects) {
	for j, c := range inOrder(s.cfg, s.roster) {
		if c.From && s.unsure[j] == nil && !s.blocks(j) {
			s.postPresence(p, from, j, fx)
		}
	}
	for j := range inOrder(s.cfg, s.unsure) {
		s.whenSure(j, fx, func(s *State, fx *effects) {
			// What is so by then, for newer presence may have gone out meanwhile.
			now := p
			if x := s.session(from.Resource()); x != nil && x.available {
				now = x.presence
			} else if p.typ != stanza.TypeUnavailable {
				return // and that was told as it happened
			}
			if s.watched(j) {
				s.postPresence(now, from, j, fx)
			}
		})
	}
}

// sendToOwn sends presence to the account's available resources, the sending
// one included (RFC 6121 4.2.2).
func (s *State) sendToOwn(p presence, from jid.JID, fx *effects) {
	var data []byte
	s.later(fx, func(fx *effects) {
		for _, y := range s.sessions {
			if !y.available {
				continue
			}
			if data == nil {
				data = p.encode(from, s.jid)
			}
			fx.deliver(y, data, tag{wait: waitPresence, from: from})
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
	// In the order in which the user sent it and messages (RFC 6120 10.1).
	s.later(fx, func(fx *effects) { fx.route(&arrive{stanza: st}) })
}

// initialPresence is what a session's first presence brings it: the presence
// of the other resources and of the contacts, and the subscription requests
// that wait for an answer (RFC 6121 4.2.2, 4.3.1, 3.1.3).
func (s *State) initialPresence(x *session, fx *effects) {
	s.presenceOfOwn(x, fx)
	s.probeAll(fx)
}

// presenceOfOwn sends a session the presence of the account's other resources, and
// the subscription requests that wait.
func (s *State) presenceOfOwn(x *session, fx *effects) {
	again := func(fx *effects, _ error) { // once the account is read anew
		fx.post(s.jid, &onceSure{s.jid, func(s *State, fx *effects) {
			if s.index(x) >= 0 && x.available {
				s.presenceOfOwn(x, fx)
			}
		}})
	}
	s.show(fx, again, func(fx *effects) {
		for _, y := range s.sessions {
			if y != x && y.available {
				fx.deliver(x, y.presence.encode(y.jid, x.jid), tag{wait: waitPresence, from: y.jid})
			}
		}
		for j, c := range inOrder(s.cfg, s.roster) {
			if c.PendingIn && !s.blocks(j) {
				fx.deliver(x, c.request, tag{})
			}
		}
	})
}

// probeAll asks for the presence of the contacts.
func (s *State) probeAll(fx *effects) {
	ask := func(s *State, j jid.JID, fx *effects) {
		if c := s.roster[j]; c != nil && c.To && !s.blocks(j) {
			s.probe(j, fx)
		}
	}
	for j := range inOrder(s.cfg, s.roster) {
		if s.unsure[j] == nil {
			ask(s, j, fx)
		}
	}
	for j := range inOrder(s.cfg, s.unsure) {
		s.whenSure(j, fx, func(s *State, fx *effects) { ask(s, j, fx) })
	}
}

func (s *State) probe(to jid.JID, fx *effects) {
	if s.cfg.local(to.Domain()) {
		if to.Local() != "" {
			fx.post(to, &probeArrives{from: s.jid, to: to})
		}
		return
	}
	st := stanza.Build(stanza.Presence, stanza.TypeProbe, "", s.jid, to, "")
	s.later(fx, func(fx *effects) { fx.route(&arrive{stanza: st}) })
}

// answerProbe is RFC 6121 4.3.2. Somebody blocked gets no answer (XEP-0191
// 3.3): "unsubscribed" would end his subscription for good.
func (s *State) answerProbe(from, to jid.JID, fx *effects) {
	if s.blocks(from) {
		return
	}
	c := s.roster[from.Bare()]
	if from.Bare() != s.jid && (c == nil || !c.From) {
		if !s.answerDirected(from, to, fx) {
			s.postPresence(presence{typ: stanza.TypeUnsubscribed}, s.jid, from.Bare(), fx)
		}
		return
	}
	if to.IsFull() { // of that resource no more than that it is there
		typ := stanza.TypeUnavailable
		if i := s.addressed(to); i >= 0 && s.sessions[i].available {
			typ = stanza.TypeAvailable
		}
		s.postPresence(presence{typ: typ}, to, from, fx)
		return
	}
	s.sendVanished(from, fx)
	any := false
	for _, x := range s.sessions {
		if x.available {
			any = true
			s.postPresence(x.presence, x.jid, from, fx)
		}
	}
	if !any {
		s.postPresence(s.lastPresence(), s.jid, from, fx)
	}
}

// answerDirected answers a probe of somebody who was sent directed presence
// (RFC 6121 4.6.6).
func (s *State) answerDirected(from, to jid.JID, fx *effects) bool {
	i := s.addressed(to)
	if i < 0 {
		return false
	}
	x := s.sessions[i]
	if _, directed := x.directed[from]; !directed {
		return false
	}
	s.postPresence(presence{}, x.jid, from, fx)
	return true
}

// lastPresence says that nobody is there, and since when.
func (s *State) lastPresence() presence {
	p := presence{typ: stanza.TypeUnavailable}
	if !s.lastSeen.IsZero() {
		w := xmltree.NewWriter(nil, stanza.NSClient)
		w.Start(nsDelay, "delay").Attr("stamp", s.lastSeen.UTC().Format(time.RFC3339)).End()
		p.inner = string(w.Bytes())
	}
	return p
}

// direct is directed presence (RFC 6121 4.6).
func (s *State) direct(ev *inbound, fx *effects) {
	x, st := ev.session, ev.stanza
	if s.blocks(st.To) {
		s.later(fx, func(fx *effects) { s.tellError(ev, blockedError(), fx) })
		return
	}
	if st.Type == stanza.TypeAvailable {
		if _, known := x.directed[st.To]; !known {
			if len(x.directed) >= s.cfg.Limits.Directed {
				e := stanza.NewError(stanza.ResourceConstraint, "too many addresses have directed presence of this session")
				s.later(fx, func(fx *effects) { s.tellError(ev, e, fx) })
				return
			}
			if x.directed == nil {
				x.directed = map[jid.JID]struct{}{}
			}
			// The address outlives the stanza that it came in.
			x.directed[jid.MustParse(strings.Clone(st.To.String()))] = struct{}{}
		}
	} else {
		delete(x.directed, st.To)
	}
	s.postPresence(presenceOf(st, s.withAvatar(st)), x.jid, st.To, fx)
}

// goUnavailable is unavailable presence of a session, its own if asked, or the
// server's (RFC 6121 4.5). Whoever had directed presence of it is told too
// (4.6.3).
func (s *State) goUnavailable(x *session, p presence, asked bool, fx *effects) {
	for j := range inOrder(s.cfg, x.directed) {
		told := x.available && s.watched(j.Bare()) && s.unsure[j.Bare()] == nil
		if !told && !s.blocks(j) {
			s.postPresence(p, x.jid, j, fx)
		}
	}
	x.directed = nil
	if !x.available {
		return
	}
	x.available, x.presence, x.priority, x.caps = false, presence{}, 0, ""
	x.listening = listening{}
	s.noteReachable(x)
	s.sendToContacts(p, x.jid, fx)
	if asked { // RFC 6121 4.5.2: also to the resource itself
		data := p.encode(x.jid, s.jid)
		s.later(fx, func(fx *effects) { fx.deliver(x, data, tag{}) })
	}
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
	if s.unknown() || s.blocks(ev.from) {
		return // RFC 6121 8.5.1, XEP-0191 3.3
	}
	switch ev.typ {
	case stanza.TypeAvailable, stanza.TypeUnavailable:
		if !s.cfg.local(ev.from.Domain()) {
			s.notice(ev, fx)
		}
		if ev.typ == stanza.TypeUnavailable {
			s.forgetDirected(ev.from)
		}
		s.deliverPresence(ev, ev.to.Resource() == "", fx)
	case stanza.TypeError:
		// An error to the account answers what the account sent: a subscription
		// stanza, or a probe.
		s.forgetOutsider(ev.from)
		c := s.roster[ev.from.Bare()]
		s.deliverPresence(ev, ev.to.Resource() == "" && c != nil, fx)
	default:
		s.receiveSubscription(ev, fx)
	}
}

// deliverPresence hands presence to the session with the resource that it is
// addressed to, or to all available ones.
func (s *State) deliverPresence(ev *presenceArrives, all bool, fx *effects) {
	data := ev.encode(ev.from, ev.to)
	t := tag{from: ev.from}
	if ev.typ != stanza.TypeError {
		t.wait = waitPresence
	}
	if !all && s.cfg.keeper(ev.from.Domain()) != nil {
		// Who enters a room is told of everybody in it at once.
		t.answer, t.room = len(data), true
	}
	c := s.roster[ev.from.Bare()]
	again := all && c != nil && c.To && ev.typ != stanza.TypeError // it answers probes
	s.later(fx, func(fx *effects) {
		for _, x := range s.sessions {
			switch {
			case !(all && x.available || ev.to == x.jid):
			case again:
				fx.show(x, data, t, ev.typ == stanza.TypeUnavailable)
			default:
				fx.deliver(x, data, t)
			}
		}
	})
}

// forgetDirected: somebody who went away need not be told when this session
// does (RFC 6121 4.6.3).
func (s *State) forgetDirected(from jid.JID) {
	for _, x := range s.sessions {
		delete(x.directed, from)
	}
}
