package room

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// iq is a request to the room or an occupant, or an answer to one.
func (s *State) iq(st *stanza.Stanza, fx *effects) {
	request := st.Type == stanza.TypeGet || st.Type == stanza.TypeSet
	switch {
	case st.To.IsFull() && request:
		s.askOccupant(st, fx)
	case st.To.IsFull():
		s.answered(st, fx)
	case !request:
		// The room asks nobody.
	case s.load == missing:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such room"), fx)
	default:
		s.toRoomIQ(st, fx)
	}
}

// toRoomIQ answers a request to the room.
func (s *State) toRoomIQ(st *stanza.Stanza, fx *effects) {
	get := st.Type == stanza.TypeGet
	name := st.Payload().Name()
	if s.locked && s.affiliation(st.From) != owner {
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "the room isn't open yet"), fx)
		return
	}
	switch {
	case get && name == xmltree.Name{Space: xep.NSDiscoInfo, Local: "query"}:
		s.info(st, fx)
	case get && name == xmltree.Name{Space: xep.NSDiscoItems, Local: "query"}:
		s.items(st, fx)
	case get && name == xmltree.Name{Space: xep.NSPing, Local: "ping"}:
		result(st, nil, fx)
	case name == xmltree.Name{Space: xep.NSMUCAdmin, Local: "query"}:
		if get {
			s.adminGet(st, fx)
		} else {
			s.adminSet(st, fx)
		}
	case name == xmltree.Name{Space: xep.NSMUCOwner, Local: "query"}:
		switch {
		case s.affiliation(st.From) != owner:
			s.refuse(st, stanza.NewError(stanza.Forbidden, "only owners do this"), fx)
		case get:
			result(st, []byte(s.form()), fx)
		default:
			s.ownerSet(st, fx)
		}
	case name == xmltree.Name{Space: xep.NSRegister, Local: "query"}:
		s.register(st, get, fx)
	case name.Space == xep.NSMAM:
		s.archiveIQ(st, get, name.Local, fx)
	case !get && name == xmltree.Name{Space: xep.NSModerate, Local: "moderate"}:
		s.moderate(st, fx)
	case !get && name == xmltree.Name{Space: xep.NSCommands, Local: "command"}:
		s.command(st, fx)
	case name == xmltree.Name{Space: xep.NSVCard, Local: "vCard"}:
		s.vcard(st, get, fx)
	default:
		s.refuse(st, stanza.NewError(stanza.ServiceUnavailable, ""), fx) // RFC 6120 8.4
	}
}

// info is XEP-0045 6.4.
func (s *State) info(st *stanza.Stanza, fx *effects) {
	switch node := st.Payload().Attr("node"); node {
	case "":
	case xep.MUCRoomUserItem: // 7.12
		s.reservedNick(st, fx)
		return
	case xep.MUCTraffic: // 18.1.1: all of it passes
		s.refuse(st, stanza.NewError(stanza.ServiceUnavailable, ""), fx)
		return
	default:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such node"), fx)
		return
	}
	o := &s.opt
	either := func(is bool, yes, no string) string {
		if is {
			return yes
		}
		return no
	}
	info := xep.DiscoInfo{
		Identities: []xep.Identity{{Category: "conference", Type: "text", Name: o.Name}},
		Features: append(features(),
			either(o.Public, "muc_public", "muc_hidden"), either(o.Persistent, "muc_persistent", "muc_temporary"),
			either(o.MembersOnly, "muc_membersonly", "muc_open"), either(o.Moderated, "muc_moderated", "muc_unmoderated"),
			either(o.Password != "", "muc_passwordprotected", "muc_unsecured"), either(o.Whois == whoisAnyone, "muc_nonanonymous", "muc_semianonymous")),
	}
	if o.Archive {
		info.Features = append(info.Features, xep.NSMAM, xep.NSMAMExtended, xep.NSThread, xep.NSXMPP2)
	}
	if o.Mine {
		info.Features = append(info.Features, xep.NSMine) // R-MINE-6, MINE-32
	}
	subject := ""
	if s.topic != nil {
		subject = s.topic.Child(stanza.NSClient, "subject").Text()
	}
	fields := []xep.FormField{
		{Var: "muc#roominfo_description", Type: "text-single", Values: []string{o.Description}},
		{Var: "muc#roominfo_lang", Type: "text-single", Values: []string{o.Lang}},
		{Var: "muc#roominfo_occupants", Type: "text-single", Values: []string{strconv.Itoa(len(s.occupants))}},
		{Var: "muc#roominfo_subject", Type: "text-single", Values: []string{subject}},
		{Var: "muc#roominfo_subjectmod", Type: "boolean", Values: []string{boolText(o.ChangeTopic)}},
		{Var: "muc#maxhistoryfetch", Type: "text-single", Values: []string{strconv.Itoa(o.History)}},
		{Var: "muc#roomconfig_roomname", Type: "text-single", Values: []string{o.Name}},
		{Var: "muc#roominfo_avatarhash", Type: "text-multi", Values: nonEmpty(o.AvatarHash)},
		{Var: "muc#roomconfig_changesubject", Type: "boolean", Values: []string{boolText(o.ChangeTopic)}},
	}
	if o.PubSub != "" {
		fields = append(fields, xep.FormField{Var: "muc#roominfo_pubsub", Type: "text-single", Values: []string{o.PubSub}})
	}
	if len(o.Hats) > 0 {
		fields = append(fields, xep.FormField{Var: xep.HatHash, Type: "text-single", Values: []string{s.hatsHash()}})
	}
	if rate, ok := s.activity(fx.now); ok {
		fields = append(fields, xep.FormField{Var: xep.MUCActivity, Type: "text-single", Label: "Messages per hour", Values: []string{rate}})
	}
	form, err := xmltree.Parse(xep.AppendForm(nil, "result", xep.NSMUCRoomInfo, "", fields), stanza.NSClient, xmltree.Limits{})
	if err == nil {
		info.Forms = []xmltree.Element{form}
	}
	result(st, xep.AppendDiscoInfo(nil, "", info), fx)
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// features are those that every room has.
func features() []string {
	return []string{xep.NSMUC, xep.NSDiscoInfo, xep.NSDiscoItems, xep.NSPing, xep.NSSelfPing, xep.NSRegister, xep.NSVCard, xep.NSStanzaID,
		xep.NSMUCStableID, xep.NSOccupantID, xep.NSModerate, xep.NSRetract, xep.NSRetractTombstones,
		xep.NSMUCRequest, xep.NSMUCRegister, xep.NSMUCRoomConfig, xep.NSMUCRoomInfo, xep.NSHats, xep.NSCommands}
}

// reservedNick is XEP-0045 7.12.
func (s *State) reservedNick(st *stanza.Stanza, fx *effects) {
	info := xep.DiscoInfo{}
	if m := s.members[st.From.Bare()]; m != nil && m.nick != "" {
		info.Identities = []xep.Identity{{Category: "conference", Type: "text", Name: m.nick}}
	}
	result(st, xep.AppendDiscoInfo(nil, xep.MUCRoomUserItem, info), fx)
}

// items are the occupants, for who is one (XEP-0045 6.5).
func (s *State) items(st *stanza.Stanza, fx *effects) {
	var list []xep.DiscoItem
	if node := st.Payload().Attr("node"); node == xep.NSCommands {
		if s.affiliation(st.From) >= admin || s.visits[st.From] != nil {
			list = s.commandItems()
		}
		result(st, xep.AppendDiscoItems(nil, node, list), fx)
		return
	}
	if s.visits[st.From] != nil {
		for _, o := range s.occupants {
			list = append(list, xep.DiscoItem{JID: o.jid})
		}
	}
	result(st, xep.AppendDiscoItems(nil, st.Payload().Attr("node"), list), fx)
}

// maxRequests bounds the IQs between occupants that wait for an answer.
const maxRequests = 1000

// askOccupant passes a request on to an occupant (XEP-0045 17.4 of old: a room hides
// addresses, and so stands between). A ping to oneself is answered here (XEP-0410
// 3.3).
func (s *State) askOccupant(st *stanza.Stanza, fx *effects) {
	v, to := s.visits[st.From], s.nicks[st.To.Resource()]
	space := st.Payload().Space()
	switch {
	case v == nil && (space == xep.NSDiscoInfo || space == xep.NSDiscoItems):
		s.refuse(st, stanza.NewError(stanza.BadRequest, "you are not in the room"), fx) // XEP-0045 6.6
		return
	case v == nil:
		s.refuse(st, notInRoom(), fx)
		return
	case v.who == to && st.Payload().Is(xep.NSPing, "ping"):
		result(st, nil, fx)
		return
	case to == nil:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such occupant"), fx)
		return
	}
	s.giveUp(fx)
	real := to.visits[len(to.visits)-1].jid
	if space == xep.NSVCard || space == xep.NSPubSub {
		real = real.Bare() // the account has it, not the device
	}
	s.asked++
	id := requestID(s.asked)
	s.requests[id] = request{asker: v.jid, to: real, id: strings.Clone(st.ID), shown: to.jid}
	fx.to(build(stanza.IQ, st.Type, id, v.who.jid, []byte(st.Inner())), real)
}

func requestID(n uint64) string { return "room-" + strconv.FormatUint(n, 36) }

// giveUp answers the oldest requests where too many wait: there are devices that
// never answer.
func (s *State) giveUp(fx *effects) {
	for len(s.requests) >= maxRequests {
		s.answers++
		id := requestID(s.answers)
		if r, ok := s.requests[id]; ok {
			delete(s.requests, id)
			e := stanza.NewError(stanza.RemoteServerTimeout, "nobody has answered")
			fx.to(build(stanza.IQ, stanza.TypeError, r.id, r.shown, e.AppendTo(nil)), r.asker)
		}
	}
}

// answered passes an answer on to who asked.
func (s *State) answered(st *stanza.Stanza, fx *effects) {
	r, ok := s.requests[st.ID]
	if !ok || r.to != st.From {
		return
	}
	delete(s.requests, st.ID)
	fx.to(build(stanza.IQ, st.Type, r.id, r.shown, []byte(st.Inner())), r.asker)
}

// vcard is the room's own, for its avatar (XEP-0486).
func (s *State) vcard(st *stanza.Stanza, get bool, fx *effects) {
	if get {
		account := s.id
		s.await(st, fx, func(h *Hub, tell func(any, error)) {
			h.read(func() {
				b, err := h.value(account, vcardSpace, vcardKey)
				tell(b, err)
			})
		}, func(fx *effects, answer any) {
			b := answer.([]byte)
			if len(b) == 0 {
				b = []byte(xep.EmptyVCard)
			}
			result(st, b, fx)
		})
		return
	}
	hash, err := xep.PhotoHash(st.Payload())
	raw := st.Payload().AppendTo(nil, stanza.NSClient)
	switch {
	case s.affiliation(st.From) != owner:
		s.refuse(st, stanza.NewError(stanza.Forbidden, "only owners do this"), fx)
		return
	case err != nil:
		s.refuse(st, malformed(err), fx)
		return
	case len(raw) > maxVCard:
		s.refuse(st, stanza.NewError(stanza.PolicyViolation, "the vCard is too big"), fx)
		return
	}
	opt := s.opt
	opt.AvatarHash = hash
	ops := []store.Op{store.KVPut{Account: s.id, Space: vcardSpace, Key: vcardKey, Value: raw}, s.put(&opt)}
	s.commit(st, ops, fx, func(fx *effects) {
		s.opt = opt
		result(st, nil, fx)
		if len(s.occupants) == 0 {
			return
		}
		fx.fan(build(stanza.Message, stanza.TypeGroupchat, "", s.jid, roomUser("", 104)), s.everybody()) // XEP-0486 3.3
		fx.fan(build(stanza.Presence, "", "", s.jid, xep.AppendVCardUpdate(nil, hash)), s.everybody())
	})
}

const (
	vcardSpace, vcardKey = "room", "vcard"
	maxVCard             = 192 << 10
)

// activity is about how many messages an hour are said (XEP-0502), from what is kept
// for who enters; where anybody may know it.
func (s *State) activity(now time.Time) (rate string, ok bool) {
	o := &s.opt
	if !o.Persistent || !o.Public || o.MembersOnly || o.Password != "" {
		return "", false
	}
	n, since := 0, now.Add(-activitySpan)
	if s.forgot {
		since = later(since, s.history[0].at)
	}
	for i := range s.history {
		m := s.history[i].from
		if s.history[i].at.After(since) && !m.Child(stanza.NSClient, "body").IsZero() && m.Child(xep.NSCorrect, "replace").IsZero() {
			n++
		}
	}
	hours := max(now.Sub(since).Hours(), 1.0/60)
	return strconv.FormatFloat(float64(n)/hours, 'f', 2, 64), true
}

// activitySpan is over how long messages are counted at most.
const activitySpan = 24 * time.Hour

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
