package room

import (
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// message is a message to the room or an occupant.
func (s *State) message(st *stanza.Stanza, fx *effects) {
	v := s.visits[st.From]
	switch {
	case st.Type == stanza.TypeError:
		if v != nil && vanished(st) {
			s.dropped(v, fx)
		}
	case s.load == missing:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such room"), fx)
	case s.locked && v == nil:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "the room isn't open yet"), fx) // XEP-0045 17.2
	case st.To.IsFull():
		s.private(v, st, fx)
	case st.Type == stanza.TypeGroupchat:
		if v == nil {
			s.refuse(st, notInRoom(), fx)
			return
		}
		s.toAll(v, st, fx)
	default:
		s.toRoom(v, st, fx)
	}
}

// toRoom is a message to the room itself: an invitation, a decline, a request for
// voice or the answer to one.
func (s *State) toRoom(v *visit, st *stanza.Stanza, fx *effects) {
	if form, err := xep.ParseForm(st.Child(xep.NSForm, "x")); err == nil {
		switch {
		case form.FormType() == xep.NSMUCRequest:
			s.voice(v, st, form, fx)
			return
		case form.FormType() == xep.NSMUCRegister && form.Type == "submit":
			s.approve(st, form, fx)
			return
		case form.Type == "cancel":
			return
		}
	}
	list, err := xep.ParseMUCInvites(st.Child(xep.NSMUCUser, "x"))
	switch {
	case err != nil:
		e, _ := stanza.AsError(err)
		s.refuse(st, e, fx)
	case len(list) == 0:
		if st.Type != stanza.TypeHeadline {
			s.refuse(st, stanza.NewError(stanza.BadRequest, "a message to the room is of type groupchat"), fx)
		}
	case !s.bucketOf(st.From).takeAll(len(list)-1, s.cfg.Limits.PerUser, fx.now):
		e := stanza.NewError(stanza.PolicyViolation, "so many invitations are more than the room takes from one person")
		e.Type = stanza.Wait
		s.refuse(st, e, fx)
	default:
		s.invitations(v, st, list, fx)
	}
}

// clean reads a message as it enters from another domain (R-GW-2), and takes off it what
// only the room says: ids, who sent it, and what a claim would name.
func (s *State) clean(st *stanza.Stanza) (inner string, m route.Message) {
	probe := *st
	if probe.Type == stanza.TypeGroupchat {
		probe.Type = stanza.TypeChat // for routing a claim in a room is no claim on an account
	}
	in, m := route.Enter(&probe, route.FromDomain)
	inner = in.InnerWithout(func(el xmltree.Element) bool {
		switch el.Space() {
		case xep.NSMUCUser, xep.NSOccupantID:
			return true
		case xep.NSStanzaID:
			return xep.IsStanzaIDBy(el, s.jid)
		}
		return false
	})
	return inner, m
}

// said is a message to all on its way.
type said struct {
	inner   string
	marks   route.Marks
	subject bool
	retract string // the id of the message that it retracts
}

// toAll is a message to everybody (XEP-0045 7.4, 8.1).
func (s *State) toAll(v *visit, st *stanza.Stanza, fx *effects) {
	var m said
	var msg route.Message
	m.inner, msg = s.clean(st)
	m.marks = msg.Marks
	m.subject = !st.Child(stanza.NSClient, "subject").IsZero() && !m.marks.Any(route.Body) && st.Child(stanza.NSClient, "thread").IsZero()
	m.retract = st.Child(xep.NSRetract, "retract").Attr("id")
	if e := s.maySay(v.who, &m, fx.now); e != nil {
		s.refuse(st, e, fx)
		return
	}
	if m.retract != "" {
		s.retract(v, st, m, fx)
		return
	}
	n := len(s.busy)
	if s.say(v, st, m, nil, fx); len(s.busy) > n {
		s.busy[n].talk = !m.subject
	}
}

// maySay judges a message to all.
func (s *State) maySay(o *occupant, m *said, now time.Time) *stanza.Error {
	switch {
	case m.subject && len(m.inner) > maxSubject:
		return stanza.NewError(stanza.PolicyViolation, "so long a subject is more than a room takes") // everybody who enters gets it
	case m.subject && o.role < moderator && !(s.opt.ChangeTopic && o.role == participant):
		return stanza.NewError(stanza.Forbidden, "you can't change the subject") // XEP-0045 8.1
	case !speaks(o.role):
		return stanza.NewError(stanza.Forbidden, "you have no voice") // XEP-0045 7.4
	case m.marks.Any(route.Whose), m.marks.Any(route.Mine) && m.marks.Any(route.BadClaim):
		return stanza.NewError(stanza.BadRequest, "this isn't how a message is claimed (XEP-0259)") // R-MINE-3, R-MINE-4
	case m.marks.Any(route.Mine) && !s.opt.Mine:
		return stanza.NewError(stanza.NotAllowed, "messages aren't claimed in this room") // R-MINE-6
	case !s.rate.take(s.cfg.Limits.PerRoom, now):
		e := stanza.NewError(stanza.PolicyViolation, "so many messages are more than the room takes")
		e.Type = stanza.Wait
		return e
	}
	return nil
}

// maxSubject bounds what sets the subject, in bytes; voiceEvery is how often somebody may
// ask for voice.
const (
	maxSubject = 8 << 10
	voiceEvery = time.Minute
)

// archives reports whether a message to all is archived: as an account would
// (R-ARCH-2).
func (s *State) archives(m *said) bool {
	return s.opt.Archive && (m.subject || !m.marks.Any(route.NoStore|route.NoPermanentStore|route.OnlyChatState))
}

// say archives a message and sends it to everybody: decided, committed, told.
// before is what is committed with it.
func (s *State) say(v *visit, st *stanza.Stanza, m said, before []store.Op, fx *effects) {
	o, now := v.who, fx.now
	b := append(make([]byte, 0, len(m.inner)+256), m.inner...)
	b = xep.AppendOccupantID(b, o.id)
	var id store.ArchiveID
	ops := before
	archived := s.archives(&m)
	asks := s.opt.Mine && m.marks.Any(route.Body|route.Encrypted)
	if archived || asks {
		id = s.nextID(now)
	}
	if archived {
		b = xep.AppendStanzaID(b, s.jid, id.String())
	}
	if asks { // R-MINE-2, R-MINE-6, MINE-31, MINE-33, MINE-34
		b = append(append(append(b, "<whose xmlns='"+xep.NSMine+"' id='"...), id.String()...), "'/>"...)
	}
	// It outlives the stanza that it came in.
	out := build(stanza.Message, stanza.TypeGroupchat, strings.Clone(st.ID), o.jid, b)
	out.Lang = strings.Clone(st.Lang)
	topic := out
	if m.subject {
		topic = s.topicOf(out, now)
		ops = append(ops, store.RoomPut{Room: s.id, Data: s.opt.data(topic.AppendTo(nil))})
	}
	if archived {
		ops = append(ops, s.entry(out, id, v.jid))
	}
	s.commit(st, ops, fx, func(fx *effects) {
		s.lastID = max(s.lastID, id)
		if m.subject {
			s.topic = topic
		} else if archived || !s.opt.Archive && m.marks.Any(route.Body|route.Encrypted) {
			s.remember(out, id, now)
		}
		if archived {
			fx.fan(out, s.hearing())
		} else {
			fx.fan(out, s.everybody())
		}
	})
}

// topicOf is the subject as who enters later gets it: with the time at which it was
// set (XEP-0045 7.2.15).
func (s *State) topicOf(st *stanza.Stanza, at time.Time) *stanza.Stanza {
	return build(stanza.Message, stanza.TypeGroupchat, st.ID, st.From, xep.AppendDelay([]byte(st.Inner()), s.jid, at))
}

// entry is a message's entry in the room's archive: at its end the sender's real
// address, for who may see it (XEP-0313 6.1.2).
func (s *State) entry(st *stanza.Stanza, id store.ArchiveID, real jid.JID) store.Op {
	return store.ArchiveAppend{Account: s.id, ID: id, Peer: st.From, Thread: st.Thread(), Stanza: st.AppendTo(nil, realAddress(real))}
}

// private is a message to one occupant (XEP-0045 7.5). It is exclusive, in no
// archive (XEP-0313 6.1.2), and from the occupant's session that hears it last.
func (s *State) private(v *visit, st *stanza.Stanza, fx *effects) {
	to := s.nicks[st.To.Resource()]
	var e *stanza.Error
	switch {
	case v == nil:
		e = notInRoom()
	case st.Type == stanza.TypeGroupchat:
		e = stanza.NewError(stanza.BadRequest, "a message to one occupant isn't of type groupchat")
	case to == nil:
		e = stanza.NewError(stanza.ItemNotFound, "there is no such occupant")
	case !s.opt.maySendPrivate(v.who.role):
		e = stanza.NewError(stanza.Forbidden, "private messages aren't allowed here")
	}
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	inner, m := s.clean(st)
	if m.Marks.Any(route.Whose | route.Mine) {
		s.refuse(st, stanza.NewError(stanza.BadRequest, "a claim is for everybody"), fx)
		return
	}
	b := xep.AppendOccupantID([]byte(inner), v.who.id)
	out := build(stanza.Message, st.Type, st.ID, v.who.jid, append(b, roomUser("")...))
	out.Lang = st.Lang
	var list []jid.JID
	for _, w := range to.visits {
		list = append(list, w.jid)
	}
	fx.fan(out, list)
}

// invitations is mediated invitations, and declines of such (XEP-0045 7.8.2).
func (s *State) invitations(v *visit, st *stanza.Stanza, list []xep.MUCInvite, fx *effects) {
	who := s.standing(st.From)
	var ops []store.Op
	var members []jid.JID
	for _, i := range list {
		if i.Decline {
			continue
		}
		if e := s.mayInvite(v, who, i); e != nil {
			s.refuse(st, e, fx)
			return
		}
		if bare := i.JID.Bare(); s.opt.MembersOnly && s.affiliation(bare) == none {
			// XEP-0045 7.8.2: an invitation into a members-only room makes a member.
			bare = kept(bare)
			members = append(members, bare)
			ops = append(ops, store.RoomMemberPut{Room: s.id, Member: store.RoomMember{JID: bare, Affiliation: member.String()}})
		}
	}
	from := st.From.Bare()
	if v != nil {
		from = v.who.jid
	}
	s.commit(st, ops, fx, func(fx *effects) {
		for _, j := range members {
			s.setMember(j, membership{affiliation: member})
			s.tellAbsent(j, member, fx)
		}
		for _, i := range list {
			s.invite(i, from, fx)
		}
	})
}

func (s *State) mayInvite(v *visit, who standing, i xep.MUCInvite) *stanza.Error {
	switch {
	case v == nil && who.affiliation < admin:
		return notInRoom()
	case s.locked:
		return stanza.NewError(stanza.NotAllowed, "the room isn't open yet")
	case s.opt.MembersOnly && who.affiliation < admin && !(s.opt.Invites && who.affiliation == member):
		return stanza.NewError(stanza.Forbidden, "only admins invite into this room")
	case s.affiliation(i.JID) == outcast:
		return stanza.NewError(stanza.Forbidden, "that person is banned from this room")
	case s.opt.MembersOnly && len(s.members) >= s.cfg.Limits.Affiliations:
		return stanza.NewError(stanza.ResourceConstraint, "the room has too many members")
	}
	return nil
}

// invite passes an invitation on, or a decline to who had invited.
func (s *State) invite(i xep.MUCInvite, from jid.JID, fx *effects) {
	to := i.JID
	if i.Decline {
		// To an occupant, by his nick; a real address only if he is here.
		if o := s.nicks[to.Resource()]; to.Bare() == s.jid && o != nil {
			to = o.visits[len(o.visits)-1].jid
		} else if !s.isHere(to) {
			return
		}
	}
	i.JID = from
	extra := i.Append(nil)
	if s.opt.Password != "" && !i.Decline {
		extra = append(extra, "<password>"...)
		extra = append(xmltree.AppendText(extra, s.opt.Password), "</password>"...)
	}
	b := roomUser(string(extra))
	if !i.Decline { // XEP-0249, for clients that know that alone
		b = append(b, "<x xmlns='"+xep.NSConference+"' jid='"...)
		b = append(xmltree.AppendAttrValue(b, s.jid.String()), "'/>"...)
	}
	fx.to(build(stanza.Message, stanza.TypeNormal, "", s.jid, b), to)
}

// isHere: a person has a session in the room.
func (s *State) isHere(who jid.JID) bool {
	for _, o := range s.occupants {
		if o.user == who.Bare() {
			return true
		}
	}
	return false
}

// voice is a visitor's request for voice (XEP-0045 7.13), or a moderator's answer
// (8.6).
func (s *State) voice(v *visit, st *stanza.Stanza, form xep.Form, fx *effects) {
	if v == nil {
		s.refuse(st, notInRoom(), fx)
		return
	}
	allow, answered := form.Value("muc#request_allow")
	switch {
	case answered && v.who.role == moderator:
		nick, _ := form.Value("muc#roomnick")
		if yes, _ := parseBool(allow); yes {
			if o := s.nicks[nick]; o != nil && o.role == visitor {
				s.setRole(o, participant, v.who.nick, "", fx)
			}
		}
	case v.who.role != visitor || !s.opt.Moderated:
		s.refuse(st, stanza.NewError(stanza.BadRequest, "you have voice, or the room gives none"), fx)
	case fx.now.Sub(v.who.asked) < voiceEvery:
		e := stanza.NewError(stanza.PolicyViolation, "the moderators have been asked")
		e.Type = stanza.Wait
		s.refuse(st, e, fx)
	default:
		v.who.asked = fx.now
		s.requestVoice(v, fx)
	}
}

// requestVoice shows a request to the moderators (XEP-0045 8.6).
func (s *State) requestVoice(v *visit, fx *effects) {
	fields := []xep.FormField{
		{Var: "muc#role", Type: "list-single", Label: "Requested role", Values: []string{"participant"}, Options: []string{"participant"}},
		{Var: "muc#jid", Type: "jid-single", Label: "Address", Values: []string{v.jid.String()}},
		{Var: "muc#roomnick", Type: "text-single", Label: "Nick", Values: []string{v.who.nick}},
		{Var: "muc#request_allow", Type: "boolean", Label: "Grant voice to this person?", Values: []string{"false"}},
	}
	b := xep.AppendForm(nil, "form", xep.NSMUCRequest, "Request for voice", fields)
	fx.fan(build(stanza.Message, stanza.TypeNormal, "", s.jid, b), s.sessionsOf(moderator))
}

// sessionsOf is the real addresses of the sessions of occupants with a role.
func (s *State) sessionsOf(r role) []jid.JID {
	var list []jid.JID
	for _, o := range s.occupants {
		if o.role == r {
			for _, v := range o.visits {
				list = append(list, v.jid)
			}
		}
	}
	return list
}
