package room

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Fields of muc#register; the second is ours, for the form of XEP-0045's example
// names nobody.
const (
	fieldNick     = "muc#register_roomnick"
	fieldWho      = "muc#register_jid"
	fieldRegister = "muc#register_allow"
)

// Bounds of registration: requests that wait for an admin, and admins who are asked.
const (
	maxApplicants = 100
	maxAsked      = 20
)

// register is XEP-0045 7.10: who registers has a nick that nobody else gets, and is a
// member. Where membership gives something, an admin approves it.
func (s *State) register(st *stanza.Stanza, get bool, fx *effects) {
	user := st.From.Bare()
	m := s.members[user]
	switch {
	case s.affiliation(user) == outcast:
		s.refuse(st, stanza.NewError(stanza.NotAllowed, "you are banned from this room"), fx)
		return
	case get:
		result(st, s.registrationForm(m), fx)
		return
	case !st.Payload().Child(xep.NSRegister, "remove").IsZero():
		s.unregister(st, m, fx)
		return
	}
	form, err := xep.ParseForm(st.Payload().Child(xep.NSForm, "x"))
	if err != nil || form.FormType() != xep.NSMUCRegister {
		s.refuse(st, stanza.NewError(stanza.BadRequest, "the form is not "+xep.NSMUCRegister), fx)
		return
	}
	wish, _ := form.Value(fieldNick)
	nick, e := s.mayRegister(user, wish)
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	if (s.opt.MembersOnly || s.opt.Moderated) && s.affiliation(user) < member {
		s.askAdmins(st, nick, fx)
		return
	}
	now := membership{affiliation: member}
	if m != nil {
		now = *m
	}
	now.nick = nick
	s.putMember(st, kept(user), now, fx)
}

func (s *State) registrationForm(m *membership) []byte {
	b := []byte("<query xmlns='" + xep.NSRegister + "'>")
	if m != nil && m.nick != "" {
		b = append(b, "<registered/><username>"...)
		b = append(xmltree.AppendText(b, m.nick), "</username>"...)
	} else {
		b = append(b, "<instructions>Choose the nick that is to be yours in this room.</instructions>"...)
		b = xep.AppendForm(b, "form", xep.NSMUCRegister, "Registration with "+s.jid.String(),
			[]xep.FormField{{Var: fieldNick, Type: "text-single", Label: "Nick"}})
	}
	return append(b, "</query>"...)
}

// mayRegister judges a nick that somebody wants for his own, and prepares it.
func (s *State) mayRegister(user jid.JID, wish string) (nick string, e *stanza.Error) {
	full, err := s.jid.WithResource(wish)
	switch {
	case err != nil:
		return "", stanza.NewError(stanza.NotAcceptable, "this can't be a nick")
	case s.nickTaken(full.Resource(), user):
		return "", stanza.NewError(stanza.Conflict, "somebody else has this nick, or one that looks like it")
	case s.members[user] == nil && len(s.members) >= s.cfg.Limits.Affiliations:
		return "", stanza.NewError(stanza.ResourceConstraint, "the room's lists are full")
	}
	return strings.Clone(full.Resource()), checkNick(full.Resource())
}

// askAdmins asks the admins, wherever they are, to make somebody a member (XEP-0045 9.9).
func (s *State) askAdmins(st *stanza.Stanza, nick string, fx *effects) {
	user := kept(st.From.Bare())
	if s.applicants[user] || len(s.applicants) >= maxApplicants {
		e := stanza.NewError(stanza.PolicyViolation, "the room's admins have been asked")
		e.Type = stanza.Wait
		s.refuse(st, e, fx)
		return
	}
	if s.applicants == nil {
		s.applicants = map[jid.JID]bool{}
	}
	s.applicants[user] = true
	fields := []xep.FormField{
		{Var: fieldWho, Type: "jid-single", Label: "Address", Values: []string{user.String()}},
		{Var: fieldNick, Type: "text-single", Label: "Desired nick", Values: []string{nick}},
		{Var: fieldRegister, Type: "boolean", Label: "Allow this person to register with the room?", Values: []string{"0"}},
	}
	var admins []jid.JID
	for _, text := range append(s.having(owner), s.having(admin)...) {
		if admins = append(admins, jid.MustParse(text)); len(admins) == maxAsked {
			break
		}
	}
	result(st, nil, fx)
	fx.fan(build(stanza.Message, stanza.TypeNormal, "", s.jid, xep.AppendForm(nil, "form", xep.NSMUCRegister, "Registration request", fields)), admins)
}

// approve is an admin's answer to a request. He may make members without one, and so
// the form is believed.
func (s *State) approve(st *stanza.Stanza, form xep.Form, fx *effects) {
	who, _ := form.Value(fieldWho)
	wish, _ := form.Value(fieldNick)
	allow, _ := form.Value(fieldRegister)
	user, err := jid.Parse(who)
	yes, ok := parseBool(allow)
	user = user.Bare()
	switch {
	case s.affiliation(st.From) < admin:
		s.refuse(st, stanza.NewError(stanza.Forbidden, "only admins and owners make members"), fx)
		return
	case err != nil || user.Local() == "" || !ok:
		s.refuse(st, stanza.NewError(stanza.BadRequest, "the form says nobody's name, or neither yes nor no"), fx)
		return
	}
	delete(s.applicants, user)
	if !yes || s.affiliation(user) != none {
		return // somebody else has decided meanwhile
	}
	nick, e := s.mayRegister(user, wish)
	if e != nil {
		s.refuse(st, e, fx)
		return
	}
	user, now := kept(user), membership{affiliation: member, nick: nick}
	s.commit(st, []store.Op{s.memberOp(user, now)}, fx, func(fx *effects) {
		here := s.isHere(user)
		s.setAffiliation(user, now, "", fx)
		if !here { // XEP-0045 18.1
			x := xep.AppendMUCUser(nil, &xep.MUCItem{Affiliation: member.String(), Role: noRole.String()}, "", 101)
			fx.to(build(stanza.Message, stanza.TypeNormal, "", s.jid, x), user)
		}
	})
}

// unregister gives a nick back, and membership that stood for nothing else stays: an
// admin may have given it.
func (s *State) unregister(st *stanza.Stanza, m *membership, fx *effects) {
	if m == nil || m.nick == "" {
		s.refuse(st, stanza.NewError(stanza.RegistrationRequired, "you aren't registered"), fx)
		return
	}
	now := *m
	now.nick = ""
	s.putMember(st, kept(st.From.Bare()), now, fx)
}

func (s *State) putMember(st *stanza.Stanza, user jid.JID, m membership, fx *effects) {
	s.commit(st, []store.Op{s.memberOp(user, m)}, fx, func(fx *effects) {
		result(st, nil, fx)
		s.setAffiliation(user, m, "", fx)
	})
}
