package room

import (
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// presence is a stanza of presence to the room or an occupant.
func (s *State) presence(st *stanza.Stanza, fx *effects) {
	v := s.visits[st.From]
	switch st.Type {
	case stanza.TypeAvailable:
		s.available(v, st, fx)
	case stanza.TypeUnavailable:
		if v != nil {
			status := shown(st)
			if len(status) > maxPresence {
				status = "" // he is gone all the same
			}
			s.leave(v, status, notice{typ: stanza.TypeUnavailable}, fx)
			s.afterLeave(fx)
		}
	case stanza.TypeError:
		if v != nil && vanished(st) {
			s.dropped(v, fx)
		}
	case stanza.TypeProbe:
		// XEP-0045 says nothing; who asks learns that he is known.
	default:
		// A room has no subscriptions.
		if st.Type == stanza.TypeSubscribe {
			fx.to(build(stanza.Presence, stanza.TypeUnsubscribed, st.ID, st.To, nil), st.From)
		}
	}
}

// shown is what of somebody's presence others get: what the room itself says
// isn't taken from him.
func shown(st *stanza.Stanza) string {
	return strings.Clone(st.InnerWithout(func(el xmltree.Element) bool {
		switch el.Space() {
		case xep.NSMUC, xep.NSMUCUser, xep.NSOccupantID, xep.NSXMPP2, xep.NSHats:
			return true
		}
		return false
	}))
}

// available: somebody enters, changes his nick, or his presence.
func (s *State) available(v *visit, st *stanza.Stanza, fx *effects) {
	join := st.Child(xep.NSMUC, "x")
	nick := st.To.Resource()
	switch {
	case nick == "" && v == nil:
		s.refuse(st, stanza.NewError(stanza.JIDMalformed, "a nick is needed to enter"), fx) // XEP-0045 7.2.1
	case v == nil && join.IsZero():
		// XEP-0045 7.2.18: a client that takes itself for an occupant.
		if s.load == missing {
			s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such room"), fx)
			return
		}
		x := xep.AppendMUCUser(nil, &xep.MUCItem{Affiliation: s.affiliation(st.From).String(), Role: "none"}, "", 110, 333)
		fx.to(build(stanza.Presence, stanza.TypeUnavailable, st.ID, st.To, x), st.From)
	case v == nil && s.load == missing && st.Child(xep.NSXMPP2, "join").IsZero():
		s.create(st, xep.ParseMUCJoin(join), fx)
	case v == nil && s.load == missing:
		// Whoever logs in enters rooms that he knows, and makes none anew that is gone.
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such room"), fx)
	case v == nil:
		s.enter(st, xep.ParseMUCJoin(join), fx)
	case nick == "" || nick == v.who.nick:
		how, e := xep.ParseRoomJoin(st)
		if e != nil {
			s.refuse(st, e, fx)
			return
		}
		if !s.short(st, fx) {
			return
		}
		v.payload = shown(st)
		s.moveLast(v)
		if !join.IsZero() { // it has lost track of the room
			s.admit(v, xep.ParseMUCJoin(join), how, fx)
			return
		}
		s.announce(v.who, notice{}, fx)
	default:
		s.changeNick(v, st, fx)
	}
}

// short refuses presence that is too long to be kept and sent to everybody.
func (s *State) short(st *stanza.Stanza, fx *effects) bool {
	if len(st.Inner()) > maxPresence {
		s.refuse(st, stanza.NewError(stanza.PolicyViolation, "so much presence is more than a room takes"), fx)
		return false
	}
	return true
}

// maxPresence bounds what an occupant says of himself, in bytes.
const maxPresence = 16 << 10

// moveLast makes a visit the one whose presence is shown.
func (s *State) moveLast(v *visit) {
	o := v.who
	i := slices.Index(o.visits, v)
	o.visits = append(slices.Delete(o.visits, i, i+1), v)
	o.changed()
}

// create makes the room that somebody enters who is the first (XEP-0045 10.1).
func (s *State) create(st *stanza.Stanza, join xep.MUCJoin, fx *effects) {
	if e := checkNick(st.To.Resource()); e != nil {
		s.refuse(st, e, fx)
		return
	}
	if !s.short(st, fx) {
		return
	}
	if !s.cfg.MayCreate(st.From) {
		s.refuse(st, stanza.NewError(stanza.NotAllowed, "you can't make rooms here"), fx)
		return
	}
	creator := kept(st.From.Bare())
	opt := defaultOptions(s.cfg.History)
	id := new(store.AccountID)
	op := store.RoomCreate{JID: kept(s.jid), At: fx.now, Creator: creator, Room: opt.data(nil), ID: id,
		Members:  []store.RoomMember{{JID: creator, Affiliation: owner.String()}},
		MaxRooms: s.cfg.Limits.Rooms, MaxOwn: s.cfg.Limits.RoomsPerUser}
	s.commit(st, []store.Op{op}, fx, func(fx *effects) {
		s.load, s.id, s.opt, s.locked = ready, *id, opt, true
		s.members[creator] = &membership{affiliation: owner}
		v := s.seat(st)
		s.welcome(v, join.History, []int{201}, fx)
	})
}

// mayEnter judges who wants to enter with a nick (XEP-0045 7.2.5 to 7.2.11).
func (s *State) mayEnter(st *stanza.Stanza, join xep.MUCJoin) *stanza.Error {
	a := s.affiliation(st.From)
	nick := st.To.Resource()
	if e := checkNick(nick); e != nil {
		return e
	}
	switch {
	case a == outcast:
		return stanza.NewError(stanza.Forbidden, "you are banned from this room")
	case s.locked && a != owner:
		return stanza.NewError(stanza.ItemNotFound, "the room isn't open yet")
	case s.opt.MembersOnly && a < member:
		return stanza.NewError(stanza.RegistrationRequired, "only members may enter")
	case s.opt.Password != "" && join.Password != s.opt.Password && a < owner:
		return stanza.NewError(stanza.NotAuthorized, "the password is missing or wrong")
	case s.nickTaken(nick, st.From.Bare()):
		return stanza.NewError(stanza.Conflict, "somebody else has this nick, or one that looks like it")
	case s.nicks[nick] == nil && len(s.occupants) >= s.maxOccupants() && a < admin, len(s.visits) >= 2*s.cfg.Limits.Occupants:
		e := stanza.NewError(stanza.ServiceUnavailable, "the room is full")
		e.Type = stanza.Wait
		return e
	case s.nicks[nick] != nil && len(s.nicks[nick].visits) >= maxVisits:
		return stanza.NewError(stanza.ResourceConstraint, "too many of your sessions are in the room")
	}
	return nil
}

// maxVisits bounds the sessions of one occupant.
const maxVisits = 50

// nickTaken: the nick, or one that looks like it, belongs to somebody else, who is
// there or has reserved it (XEP-0045 7.2.8).
func (s *State) nickTaken(nick string, user jid.JID) bool {
	like := skeleton(nick)
	for _, o := range s.occupants {
		if o.user != user && o.like == like {
			return true
		}
	}
	for j, m := range s.members {
		if m.nick != "" && j != user && m.affiliation > outcast && m.like == like {
			return true
		}
	}
	return false
}

// enter lets somebody in (XEP-0045 7.2).
func (s *State) enter(st *stanza.Stanza, join xep.MUCJoin, fx *effects) {
	if e := s.mayEnter(st, join); e != nil {
		s.refuse(st, e, fx)
		return
	}
	if !s.short(st, fx) {
		return
	}
	how, e := xep.ParseRoomJoin(st)
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	s.admit(s.seat(st), join, how, fx)
}

// admit tells a session of the room, and what it missed if it asks for that.
func (s *State) admit(v *visit, join xep.MUCJoin, how *xep.RoomJoin, fx *effects) {
	s.welcome(v, s.joinHistory(join, how), nil, fx)
	if how != nil && how.Sync != nil {
		s.beginSync(v, how.Sync, fx)
	}
}

// seat gives a session its place in the room.
func (s *State) seat(st *stanza.Stanza) *visit {
	to, from := kept(st.To), kept(st.From)
	o := s.nicks[to.Resource()]
	if o == nil {
		o = &occupant{nick: to.Resource(), like: skeleton(to.Resource()), jid: to, user: from.Bare(), id: s.occupantID(from)}
		o.role = firstRole(s.affiliation(from), s.opt.Moderated)
		if r, said := s.voices[o.user]; said {
			o.role = r
		}
		s.occupants = append(s.occupants, o)
		s.nicks[o.nick] = o
	}
	v := &visit{jid: from, who: o, payload: shown(st)}
	o.visits = append(o.visits, v)
	o.changed()
	s.visits[from] = v
	return v
}

// welcome tells a session of the room and the room of the session, in XEP-0045
// 7.1's order: the others' presence, its own, the history, the subject.
func (s *State) welcome(v *visit, h xep.MUCHistory, codes []int, fx *effects) {
	real := s.seesReal(v.who)
	for _, o := range s.occupants {
		if o != v.who && s.opt.shows(o.role) {
			fx.to(s.presenceOf(o, real), v.jid)
		}
	}
	if s.opt.Whois == whoisAnyone {
		codes = append(codes, 100)
	}
	if s.opt.Archive {
		codes = append(codes, 170)
	}
	s.announce(v.who, notice{entering: v, enterCodes: codes}, fx)
	s.sendAvatar(v.jid, fx)
	s.sendHistory(v, h, fx)
	s.sendSubject(v, fx)
}

// seesReal: an occupant sees real addresses.
func (s *State) seesReal(o *occupant) bool {
	return s.opt.Whois == whoisAnyone || o.role == moderator
}

// changed: the occupant's presence must be written anew.
func (o *occupant) changed() { o.forms = [2]*stanza.Stanza{} }

// presenceOf is an occupant's presence as others get it when they enter, written
// once however many do.
func (s *State) presenceOf(o *occupant, real bool) *stanza.Stanza {
	i := 0
	if real {
		i = 1
	}
	if o.forms[i] == nil {
		o.forms[i] = s.encode(o, o.visits[len(o.visits)-1], &notice{}, real, false)
	}
	return o.forms[i]
}

// notice is what an occupant's presence says besides what he says himself.
type notice struct {
	typ      string
	payload  *string // in place of his own
	nick     string  // the new one
	actor    string
	reason   string
	codes    []int  // to all
	extra    string // canonical in muc#user
	gone     bool   // he has no role any more
	entering *visit // whose own presence has further codes
	// enterCodes are those.
	enterCodes []int
}

// encode writes an occupant's presence.
func (s *State) encode(o *occupant, v *visit, n *notice, real, self bool, codes ...int) *stanza.Stanza {
	it := xep.MUCItem{Affiliation: s.affiliation(o.user).String(), Role: o.role.String(), Nick: n.nick, Actor: n.actor, Reason: n.reason}
	if n.gone {
		it.Role = noRole.String()
	}
	if real || self {
		it.JID = v.jid
	}
	payload := v.payload
	if n.payload != nil {
		payload = *n.payload
	}
	codes = append(codes, n.codes...)
	if self {
		codes = append(codes, 110)
	}
	b := append(make([]byte, 0, len(payload)+256), payload...)
	b = xep.AppendHats(xep.AppendOccupantID(b, o.id), s.hatsOf(o.user))
	return build(stanza.Presence, n.typ, "", o.jid, xep.AppendMUCUser(b, &it, n.extra, codes...))
}

// announce tells everybody in the room of an occupant's presence, himself last
// (XEP-0045 7.1, 7.2.2). A role whose presence isn't broadcast is told to itself
// alone.
func (s *State) announce(o *occupant, n notice, fx *effects) {
	v := o.visits[len(o.visits)-1]
	if s.opt.shows(o.role) {
		var see, others []jid.JID
		for _, other := range s.occupants {
			for _, w := range other.visits {
				switch {
				case other == o:
				case s.seesReal(other):
					see = append(see, w.jid)
				default:
					others = append(others, w.jid)
				}
			}
		}
		if len(see) > 0 {
			fx.fan(s.encode(o, v, &n, true, false), see)
		}
		if len(others) > 0 {
			fx.fan(s.encode(o, v, &n, false, false), others)
		}
	}
	var own *stanza.Stanza
	for _, w := range o.visits {
		if w == n.entering {
			continue
		}
		if own == nil {
			own = s.encode(o, v, &n, true, true)
		}
		fx.to(own, w.jid)
	}
	if n.entering != nil {
		fx.to(s.encode(o, v, &n, true, true, n.enterCodes...), n.entering.jid)
	}
}

// leave takes a session out of the room. The last one takes the occupant with it.
func (s *State) leave(v *visit, payload string, n notice, fx *effects) {
	o := v.who
	n.gone, n.payload, n.typ = true, &payload, stanza.TypeUnavailable
	delete(s.visits, v.jid)
	if len(o.visits) > 1 {
		// The others of the person are still there: only this session leaves.
		fx.to(s.encode(o, v, &n, true, true), v.jid)
		last := o.visits[len(o.visits)-1] == v
		o.visits = slices.DeleteFunc(o.visits, func(w *visit) bool { return w == v })
		o.changed()
		if last {
			s.announce(o, notice{}, fx)
		}
		return
	}
	if s.locked && len(s.occupants) == 1 {
		n.extra = string(xep.MUCDestroy{}.Append(nil)) // XEP-0045 10.1.3
	}
	s.announce(o, n, fx)
	s.unseat(o)
}

// unseat forgets an occupant.
func (s *State) unseat(o *occupant) {
	for _, v := range o.visits {
		delete(s.visits, v.jid)
	}
	delete(s.nicks, o.nick)
	s.occupants = slices.DeleteFunc(s.occupants, func(p *occupant) bool { return p == o })
}

// expel takes an occupant with all his sessions out of the room.
func (s *State) expel(o *occupant, n notice, fx *effects) {
	empty := ""
	n.gone, n.payload, n.typ = true, &empty, stanza.TypeUnavailable
	s.announce(o, n, fx)
	s.unseat(o)
}

// afterLeave ends a temporary room in which nobody is left (XEP-0045 4.2).
func (s *State) afterLeave(fx *effects) {
	if len(s.occupants) > 0 {
		return
	}
	clear(s.requests)
	if s.opt.Persistent || len(s.busy) > 0 || s.load != ready {
		return
	}
	s.remove(nil, fx, func(*effects) {})
}

// remove deletes the room.
func (s *State) remove(st *stanza.Stanza, fx *effects, then func(fx *effects)) {
	room := kept(s.jid)
	s.await(st, fx, func(h *Hub, tell func(any, error)) {
		h.read(func() { tell(nil, h.cfg.Store.RemoveRoom(h.ctx, room)) })
	}, func(fx *effects, _ any) {
		then(fx)
		waiting := s.wait
		*s = *newState(s.cfg, s.jid)
		s.load, s.wait = missing, waiting
	})
}

// vanished: an error that says that its sender isn't there any more (XEP-0045
// 11.1).
func vanished(st *stanza.Stanza) bool {
	e := st.ParseError()
	if e == nil {
		return false
	}
	switch e.Condition {
	case stanza.Gone, stanza.ItemNotFound, stanza.RecipientUnavailable, stanza.Redirect, stanza.RemoteServerNotFound, stanza.RemoteServerTimeout,
		stanza.ServiceUnavailable, stanza.JIDMalformed:
		return true
	}
	return false
}

// dropped: what was sent to a session came back.
func (s *State) dropped(v *visit, fx *effects) {
	s.leave(v, "", notice{codes: []int{333}}, fx)
	s.afterLeave(fx)
}

// changeNick is XEP-0045 7.6. All sessions of the occupant go with it.
func (s *State) changeNick(v *visit, st *stanza.Stanza, fx *effects) {
	o, nick := v.who, strings.Clone(st.To.Resource())
	e := checkNick(nick)
	if e == nil && (s.nickTaken(nick, o.user) || s.nicks[nick] != nil) {
		e = stanza.NewError(stanza.Conflict, "somebody else has this nick, or one that looks like it")
	}
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	if !s.short(st, fx) {
		return
	}
	empty := ""
	s.announce(o, notice{typ: stanza.TypeUnavailable, payload: &empty, nick: nick, codes: []int{303}}, fx)
	delete(s.nicks, o.nick)
	o.nick, o.like, o.jid = nick, skeleton(nick), kept(st.To)
	s.nicks[nick] = o
	v.payload = shown(st)
	s.moveLast(v)
	s.announce(o, notice{}, fx)
}

// remember keeps a message for who enters later.
func (s *State) remember(st *stanza.Stanza, id store.ArchiveID, at time.Time) {
	p := past{id: id, at: at, from: st, size: len(st.Inner()) + 256}
	s.history = append(s.history, p)
	s.kept += p.size
	for len(s.history) > maxHistory || s.kept > maxHistoryBytes && len(s.history) > 1 {
		s.kept -= s.history[0].size
		s.history[0], s.forgot = past{}, true
		s.history = s.history[1:]
	}
}

// maxHistoryBytes bounds the messages kept in memory for who enters.
const maxHistoryBytes = 128 << 10

// sendHistory is XEP-0045 7.2.13 and 7.2.14.
func (s *State) sendHistory(v *visit, h xep.MUCHistory, fx *effects) {
	since := h.Since
	if h.Seconds >= 0 {
		if t := fx.now.Add(-time.Duration(h.Seconds) * time.Second); t.After(since) {
			since = t
		}
	}
	n := s.opt.History
	if h.MaxStanzas >= 0 {
		n = min(n, h.MaxStanzas)
	}
	first, chars := len(s.history), 0
	for first > 0 && n > 0 && !s.history[first-1].at.Before(since) {
		p := &s.history[first-1]
		if chars += p.size; h.MaxChars >= 0 && chars > h.MaxChars {
			break
		}
		first--
		n--
	}
	for _, p := range s.history[first:] {
		b := xep.AppendDelay([]byte(p.from.Inner()), s.jid, p.at)
		st := build(stanza.Message, stanza.TypeGroupchat, p.from.ID, p.from.From, b)
		st.Lang = p.from.Lang
		fx.to(st, v.jid)
	}
}

// sendSubject is XEP-0045 7.2.15: there is always one, be it empty.
func (s *State) sendSubject(v *visit, fx *effects) {
	st := s.topic
	if st == nil {
		st = build(stanza.Message, stanza.TypeGroupchat, "", s.jid, []byte("<subject/>"))
	}
	fx.to(st, v.jid)
}

// sendAvatar tells of the room's avatar (XEP-0486 3.2).
func (s *State) sendAvatar(to jid.JID, fx *effects) {
	if s.opt.AvatarHash != "" {
		fx.to(build(stanza.Presence, "", "", s.jid, xep.AppendVCardUpdate(nil, s.opt.AvatarHash)), to)
	}
}

// parseOwn parses what the room itself has stored.
func parseOwn(b []byte) *stanza.Stanza {
	lim := xmltree.Limits{MaxBytes: len(b) + 1, MaxDepth: 1 << 10, MaxAttrs: 1 << 10, MaxChildren: 1 << 24}
	st, err := stanza.ParseBytes(slices.Clone(b), lim)
	if err != nil {
		return nil
	}
	return st
}
