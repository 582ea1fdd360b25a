package room

import (
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// adminGet answers a request for a list (XEP-0045 8.5, 9.2, 9.5, 9.8, 10.5, 10.8).
func (s *State) adminGet(st *stanza.Stanza, fx *effects) {
	items, err := xep.ParseMUCAdmin(st.Payload())
	if err != nil || len(items) != 1 {
		s.refuse(st, malformed(err), fx)
		return
	}
	who := s.standing(st.From)
	var list []xep.MUCItem
	a, isAffiliation := parseAffiliation(items[0].Affiliation)
	r, isRole := parseRole(items[0].Role)
	switch {
	case isAffiliation && a != none:
		if e := mayList(who, a, &s.opt); e != nil {
			s.refuse(st, e, fx)
			return
		}
		for _, text := range s.having(a) {
			j := jid.MustParse(text)
			m := s.members[j]
			list = append(list, xep.MUCItem{Affiliation: a.String(), JID: j, Nick: m.nick, Reason: m.reason})
		}
	case isRole && r != noRole:
		if who.role != moderator {
			s.refuse(st, stanza.NewError(stanza.Forbidden, ""), fx)
			return
		}
		for _, o := range s.occupants {
			if o.role == r {
				list = append(list, xep.MUCItem{Affiliation: s.affiliation(o.user).String(), Role: r.String(), JID: o.visits[len(o.visits)-1].jid, Nick: o.nick})
			}
		}
	default:
		s.refuse(st, stanza.NewError(stanza.BadRequest, "there is no such list"), fx)
		return
	}
	result(st, xep.AppendMUCAdmin(nil, list), fx)
}

func malformed(err error) *stanza.Error {
	if e, ok := stanza.AsError(err); ok {
		return e
	}
	return stanza.NewError(stanza.BadRequest, "the request is not one item")
}

// order is one change that an admin asks for: of a role or of an affiliation.
type order struct {
	item        xep.MUCItem
	who         *occupant // of a role
	role        role
	user        jid.JID // of an affiliation, bare or a domain
	affiliation affiliation
	isRole      bool
}

// adminSet changes roles and affiliations: all that the request asks for, or
// nothing (XEP-0045 8.2 to 8.5, 9.1 to 9.8, 10.3 to 10.8).
func (s *State) adminSet(st *stanza.Stanza, fx *effects) {
	items, err := xep.ParseMUCAdmin(st.Payload())
	if err != nil {
		s.refuse(st, malformed(err), fx)
		return
	}
	orders := make([]order, 0, len(items))
	var ops []store.Op
	for _, it := range items {
		o, e := s.judge(st.From, it)
		if e != nil {
			s.refuse(st, e, fx)
			return
		}
		orders = append(orders, o)
		if !o.isRole {
			ops = append(ops, s.memberOp(o.user, s.membershipAfter(&o)))
		}
	}
	if e := s.checkOrders(orders); e != nil {
		s.refuse(st, e, fx)
		return
	}
	actor := ""
	if v := s.visits[st.From]; v != nil {
		actor = v.who.nick
	}
	s.commit(st, ops, fx, func(fx *effects) {
		result(st, nil, fx)
		for i := range orders {
			if o := &orders[i]; o.isRole {
				s.setRole(o.who, o.role, actor, o.item.Reason, fx)
			} else {
				s.setAffiliation(o.user, s.membershipAfter(o), actor, fx)
			}
		}
		s.afterLeave(fx)
	})
}

// judge reads one item and asks the rules.
func (s *State) judge(from jid.JID, it xep.MUCItem) (order, *stanza.Error) {
	o := order{item: it}
	actor := s.standing(from)
	if it.Role != "" && it.Affiliation == "" {
		var ok bool
		if o.role, ok = parseRole(it.Role); !ok {
			return o, stanza.NewError(stanza.BadRequest, "there is no such role")
		}
		if o.who = s.nicks[it.Nick]; o.who == nil {
			return o, stanza.NewError(stanza.ItemNotFound, "there is no such occupant")
		}
		o.isRole = true
		return o, mayChangeRole(actor, standing{s.affiliation(o.who.user), o.who.role}, o.role)
	}
	var ok bool
	if o.affiliation, ok = parseAffiliation(it.Affiliation); !ok || it.Role != "" {
		return o, stanza.NewError(stanza.BadRequest, "an item names either a role or an affiliation")
	}
	switch occupant := s.nicks[it.Nick]; {
	case !it.JID.IsZero():
		o.user = kept(it.JID.Bare())
	case occupant != nil:
		o.user = occupant.user
	default:
		return o, stanza.NewError(stanza.ItemNotFound, "there is no such person")
	}
	was := none
	if m := s.members[o.user]; m != nil {
		was = m.affiliation
	}
	if o.user.Local() == "" && o.affiliation > none && o.affiliation != member {
		return o, stanza.NewError(stanza.NotAcceptable, "a whole domain can be banned or be a member, nothing else")
	}
	return o, mayChangeAffiliation(actor.affiliation, was, o.affiliation, o.user == from.Bare())
}

// checkOrders judges what a request would leave: an owner (XEP-0045 10.4), and no
// longer lists than the server takes.
func (s *State) checkOrders(orders []order) *stanza.Error {
	owners, count := 0, len(s.members)
	after := map[jid.JID]affiliation{}
	for _, o := range orders {
		if o.isRole {
			continue
		}
		if _, twice := after[o.user]; twice {
			return stanza.NewError(stanza.BadRequest, "one person is there twice")
		}
		after[o.user] = o.affiliation
		switch has := s.members[o.user] != nil; {
		case !has && o.affiliation != none:
			count++
		case has && o.affiliation == none:
			count--
		}
		if o.affiliation == owner {
			owners++
		}
	}
	for j, m := range s.members {
		if _, changes := after[j]; !changes && m.affiliation == owner {
			owners++
		}
	}
	switch {
	case len(after) > 0 && owners == 0:
		return stanza.NewError(stanza.Conflict, "a room has an owner")
	case len(after) > 0 && count > s.cfg.Limits.Affiliations:
		return stanza.NewError(stanza.ResourceConstraint, "the room's lists are full")
	}
	return nil
}

// membershipAfter is what an order makes of somebody; a member keeps the nick that
// he has reserved.
func (s *State) membershipAfter(o *order) membership {
	m := membership{affiliation: o.affiliation, reason: o.item.Reason}
	if was := s.members[o.user]; was != nil && o.affiliation >= member {
		m.nick = was.nick
	}
	if o.affiliation >= member && o.item.Nick != "" && !o.item.JID.IsZero() && checkNick(o.item.Nick) == nil && !s.nickTaken(o.item.Nick, o.user) {
		m.nick = strings.Clone(o.item.Nick) // XEP-0045 9.3
	}
	if o.item.NoNick {
		m.nick = "" // XEP-0045 9.5
	}
	return m
}

func (s *State) memberOp(user jid.JID, m membership) store.Op {
	if m.affiliation == none {
		return store.RoomMemberDelete{Room: s.id, JID: user}
	}
	return store.RoomMemberPut{Room: s.id, Member: store.RoomMember{JID: user, Affiliation: m.affiliation.String(), Nick: m.nick, Reason: m.reason}}
}

func (s *State) setMember(user jid.JID, m membership) {
	if m.affiliation == none {
		delete(s.members, user)
	} else {
		if m.like = ""; m.nick != "" {
			m.like = skeleton(m.nick)
		}
		s.members[user] = &m
	}
}

// setRole changes an occupant's role and tells everybody; none is a kick (XEP-0045
// 8.2).
func (s *State) setRole(o *occupant, r role, actor, reason string, fx *effects) {
	if s.nicks[o.nick] != o {
		return // he has left by an earlier item
	}
	if r == noRole {
		s.expel(o, notice{actor: actor, reason: reason, codes: []int{307}}, fx)
		return
	}
	was := s.seesReal(o)
	o.role = r
	s.rememberVoice(o)
	o.changed()
	s.announce(o, notice{actor: actor, reason: reason}, fx)
	s.reveal(o, was, fx)
}

// reveal shows the others anew to an occupant who may see their addresses now
// (XEP-0045 9.6).
func (s *State) reveal(o *occupant, was bool, fx *effects) {
	if was || !s.seesReal(o) {
		return
	}
	for _, other := range s.occupants {
		if other == o || !s.opt.shows(other.role) {
			continue
		}
		st := s.presenceOf(other, true)
		for _, v := range o.visits {
			fx.to(st, v.jid)
		}
	}
}

// setAffiliation changes what somebody is to the room, which is on disk, and what
// follows for who is in it.
func (s *State) setAffiliation(user jid.JID, m membership, actor string, fx *effects) {
	before := map[*occupant]standing{}
	for _, o := range s.occupants {
		before[o] = standing{s.affiliation(o.user), o.role}
	}
	s.setMember(user, m)
	delete(s.voices, user)
	here := false
	for _, o := range slices.Clone(s.occupants) {
		was, is := before[o], s.affiliation(o.user)
		if o.user == user {
			here = true
		}
		if was.affiliation == is {
			continue
		}
		o.changed()
		n := notice{actor: actor, reason: m.reason}
		switch {
		case is == outcast:
			n.codes = []int{301} // XEP-0045 9.1
			s.expel(o, n, fx)
		case s.opt.MembersOnly && is < member:
			n.codes = []int{321} // XEP-0045 9.4
			s.expel(o, n, fx)
		default:
			saw := s.seesReal(o)
			o.role = roleAfter(was, is, s.opt.Moderated)
			s.announce(o, n, fx)
			s.reveal(o, saw, fx)
		}
	}
	if !here {
		s.tellAbsent(user, m.affiliation, fx)
	}
}

// tellAbsent tells of the new affiliation of somebody who isn't there, who may see
// addresses (XEP-0045 9.3).
func (s *State) tellAbsent(user jid.JID, a affiliation, fx *effects) {
	var list []jid.JID
	for _, o := range s.occupants {
		if s.seesReal(o) {
			for _, v := range o.visits {
				list = append(list, v.jid)
			}
		}
	}
	if len(list) > 0 {
		x := xep.AppendMUCUser(nil, &xep.MUCItem{Affiliation: a.String(), Role: "none", JID: user}, "")
		fx.fan(build(stanza.Message, stanza.TypeNormal, "", s.jid, x), list)
	}
}

// ownerSet configures the room, or destroys it (XEP-0045 10.1, 10.2, 10.9).
func (s *State) ownerSet(st *stanza.Stanza, fx *effects) {
	if d := st.Payload().Child(xep.NSMUCOwner, "destroy"); !d.IsZero() {
		how, err := xep.ParseMUCDestroy(d)
		if err != nil {
			s.refuse(st, malformed(err), fx)
			return
		}
		s.destroy(st, how, fx)
		return
	}
	form, err := xep.ParseForm(st.Payload().Child(xep.NSForm, "x"))
	switch {
	case err != nil:
		s.refuse(st, malformed(err), fx)
	case form.Type == "cancel":
		result(st, nil, fx)
		if s.locked { // XEP-0045 10.1.3: the room isn't made
			s.destroy(nil, xep.MUCDestroy{}, fx)
		}
	case form.Type != "submit":
		s.refuse(st, stanza.NewError(stanza.BadRequest, "the form is not a submission"), fx)
	default:
		s.configure(st, form, fx)
	}
}

// destroy removes the room, then tells everybody, and st, if there is one, that it
// is done (XEP-0045 10.9).
func (s *State) destroy(st *stanza.Stanza, how xep.MUCDestroy, fx *effects) {
	extra := string(how.Append(nil))
	s.remove(st, fx, func(fx *effects) {
		for _, o := range slices.Clone(s.occupants) {
			for _, v := range o.visits {
				x := xep.AppendMUCUser(nil, &xep.MUCItem{Affiliation: "none", Role: "none"}, extra)
				fx.to(build(stanza.Presence, stanza.TypeUnavailable, "", o.jid, x), v.jid)
			}
		}
		if st != nil {
			result(st, nil, fx)
		}
	})
}

// configure takes a new configuration (XEP-0045 10.1.3, 10.2).
func (s *State) configure(st *stanza.Stanza, form xep.Form, fx *effects) {
	opt, owners, admins, e := s.submit(form)
	var orders []order
	if e == nil {
		orders = s.listed(owners, owner)
		orders = append(orders, s.listed(admins, admin)...)
		e = s.checkOrders(orders)
	}
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	ops := []store.Op{s.put(&opt)}
	for i := range orders {
		ops = append(ops, s.memberOp(orders[i].user, s.membershipAfter(&orders[i])))
	}
	s.commit(st, ops, fx, func(fx *effects) {
		was := s.opt
		s.opt, s.locked = opt, false
		result(st, nil, fx)
		for i := range orders {
			s.setAffiliation(orders[i].user, s.membershipAfter(&orders[i]), "", fx)
		}
		s.reconfigured(&was, fx)
		s.afterLeave(fx)
	})
}

// listed turns a full list of owners or admins into the changes that make it so; nil
// is no list.
func (s *State) listed(want []jid.JID, a affiliation) []order {
	if want == nil {
		return nil
	}
	var orders []order
	for j, m := range s.members {
		if m.affiliation == a && !slices.Contains(want, j) {
			orders = append(orders, order{user: j, affiliation: none})
		}
	}
	for _, j := range want {
		if m := s.members[j]; m == nil || m.affiliation < a {
			orders = append(orders, order{user: j, affiliation: a})
		}
	}
	slices.SortFunc(orders, func(a, b order) int { return strings.Compare(a.user.String(), b.user.String()) })
	return orders
}

// reconfigured does what follows from a new configuration for who is in the room.
func (s *State) reconfigured(was *Options, fx *effects) {
	if codes := configCodes(was, &s.opt); len(codes) > 0 && len(s.occupants) > 0 {
		fx.fan(build(stanza.Message, stanza.TypeGroupchat, "", s.jid, roomUser("", codes...)), s.everybody())
	}
	if was.Moderated != s.opt.Moderated {
		clear(s.voices)
	}
	for _, o := range slices.Clone(s.occupants) {
		a := s.affiliation(o.user)
		o.changed()
		switch {
		case s.opt.MembersOnly && a < member:
			s.expel(o, notice{codes: []int{322}}, fx) // XEP-0045 9.4
		case was.Moderated != s.opt.Moderated && a == none && o.role < moderator && o.role != firstRole(a, s.opt.Moderated):
			o.role = firstRole(a, s.opt.Moderated)
			s.announce(o, notice{}, fx)
		}
	}
}

// put keeps the configuration, beside the subject.
func (s *State) put(opt *Options) store.Op {
	subject := []byte(nil)
	if s.topic != nil {
		subject = s.topic.AppendTo(nil)
	}
	return store.RoomPut{Room: s.id, Data: opt.data(subject)}
}

// rememberVoice keeps what a moderator has said of somebody's voice while the room is
// in memory: leaving and entering again neither gives nor takes it (XEP-0045 5.1).
func (s *State) rememberVoice(o *occupant) {
	a := s.affiliation(o.user)
	if o.role == firstRole(a, s.opt.Moderated) || o.role == moderator || a >= admin {
		delete(s.voices, o.user)
		return
	}
	if s.voices == nil {
		s.voices = map[jid.JID]role{}
	}
	if len(s.voices) >= 2*s.cfg.Limits.Occupants {
		for j := range s.voices {
			delete(s.voices, j)
			break
		}
	}
	s.voices[o.user] = o.role
}
