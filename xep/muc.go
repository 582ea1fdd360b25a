package xep

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// XEP-0045's namespaces; the last ones are the types of its forms and the node of
// 6.1 and 7.12.
const (
	NSMUC           = "http://jabber.org/protocol/muc"
	NSMUCUser       = "http://jabber.org/protocol/muc#user"
	NSMUCAdmin      = "http://jabber.org/protocol/muc#admin"
	NSMUCOwner      = "http://jabber.org/protocol/muc#owner"
	NSMUCRequest    = "http://jabber.org/protocol/muc#request"
	NSMUCRegister   = "http://jabber.org/protocol/muc#register"
	NSMUCRoomConfig = "http://jabber.org/protocol/muc#roomconfig"
	NSMUCRoomInfo   = "http://jabber.org/protocol/muc#roominfo"
	MUCRoomUserItem = "x-roomuser-item"                          // the node of 7.12
	MUCTraffic      = "http://jabber.org/protocol/muc#traffic"   // the node of 18.1.1
	NSMUCStableID   = "http://jabber.org/protocol/muc#stable_id" // 7.4
	NSMUCUnique     = "http://jabber.org/protocol/muc#unique"    // XEP-0307
	MUCActivity     = "{urn:xmpp:muc-activity}message-activity"  // XEP-0502's field
)

// NSConference is XEP-0249's namespace; NSSelfPing is XEP-0410's feature (3.3).
const (
	NSConference = "jabber:x:conference"
	NSSelfPing   = "http://jabber.org/protocol/muc#self-ping-optimization"
)

// Namespaces of what is said about messages in rooms: XEP-0421, 0424 (with the
// feature of its tombstones) and 0425.
const (
	NSOccupantID        = "urn:xmpp:occupant-id:0"
	NSRetract           = "urn:xmpp:message-retract:1"
	NSRetractTombstones = "urn:xmpp:message-retract:1#tombstone"
	NSModerate          = "urn:xmpp:message-moderate:1"
)

// MUCJoin is what <x/> in presence to a room asks for (XEP-0045 7.2).
type MUCJoin struct {
	Password string
	History  MUCHistory
}

// MUCHistory limits the history that a new occupant gets (XEP-0045 7.2.14); -1 and
// the zero time are no limit.
type MUCHistory struct {
	MaxChars, MaxStanzas, Seconds int
	Since                         time.Time
}

// ParseMUCJoin reads <x/>. A limit that is no number is passed over, as if it
// weren't there.
func ParseMUCJoin(el xmltree.Element) MUCJoin {
	j := MUCJoin{Password: el.Child(NSMUC, "password").Text(), History: MUCHistory{-1, -1, -1, time.Time{}}}
	h := el.Child(NSMUC, "history")
	for attr, into := range map[string]*int{"maxchars": &j.History.MaxChars, "maxstanzas": &j.History.MaxStanzas, "seconds": &j.History.Seconds} {
		if n, err := strconv.ParseUint(h.Attr(attr), 10, 31); err == nil {
			*into = int(n)
		}
	}
	if t, err := ParseDateTime(h.Attr("since")); err == nil {
		j.History.Since = t
	}
	return j
}

// MUCItem is an <item/> of muc#user and muc#admin (XEP-0045 8 to 10). What isn't
// there is empty.
type MUCItem struct {
	Affiliation, Role string
	JID               jid.JID
	Nick, Reason      string
	Actor             string // the nick of who did it
	NoNick            bool   // 'nick' is there and empty: a reserved one is given back (9.5)
}

// Bounds of a request: items in it, invitations in a message, bytes of a text in
// them.
const (
	MaxMUCItems   = 500
	MaxMUCInvites = 20
	MaxMUCText    = 1024
)

// ParseMUCAdmin reads the items of a muc#admin query. An address that is none is
// jid-malformed, too many items are policy-violation.
func ParseMUCAdmin(el xmltree.Element) ([]MUCItem, error) {
	var items []MUCItem
	for c := range el.Children() {
		if !c.Is(NSMUCAdmin, "item") {
			continue
		}
		if len(items) == MaxMUCItems {
			return nil, stanza.NewError(stanza.PolicyViolation, "too many items in one request")
		}
		it := MUCItem{Affiliation: c.Attr("affiliation"), Role: c.Attr("role"), Nick: c.Attr("nick"), Reason: CutText(c.Child(NSMUCAdmin, "reason").Text())}
		if nick, there := c.LookupAttr("", "nick"); there && nick == "" {
			it.NoNick = true
		}
		if s := c.Attr("jid"); s != "" {
			j, err := jid.Parse(s)
			if err != nil {
				return nil, stanza.NewError(stanza.JIDMalformed, "an item's address is none")
			}
			it.JID = j
		}
		items = append(items, it)
	}
	if len(items) == 0 {
		return nil, badRequest("there is no item in the request")
	}
	return items, nil
}

// CutText is the start of a text, MaxMUCText bytes at most and whole characters.
func CutText(s string) string {
	if len(s) > MaxMUCText {
		s = strings.ToValidUTF8(s[:MaxMUCText], "")
	}
	return strings.Clone(s)
}

// appendItem appends <item/> in the namespace of the place.
func appendItem(dst []byte, it MUCItem) []byte {
	dst = append(dst, "<item"...)
	dst = appendOptAttr(dst, "affiliation", it.Affiliation)
	dst = appendOptAttr(dst, "role", it.Role)
	dst = appendOptAttr(dst, "jid", it.JID.String())
	dst = append(appendOptAttr(dst, "nick", it.Nick), '>')
	content := len(dst)
	if it.Actor != "" {
		dst = append(appendAttr(append(dst, "<actor"...), "nick", it.Actor), "/>"...)
	}
	if it.Reason != "" {
		dst = appendElement(dst, "", "reason", it.Reason)
	}
	return appendEnd(dst, content, "item")
}

// AppendMUCAdmin appends a list of items as the answer to a request for it.
func AppendMUCAdmin(dst []byte, items []MUCItem) []byte {
	dst = append(dst, "<query xmlns='"+NSMUCAdmin+"'>"...)
	content := len(dst)
	for _, it := range items {
		dst = appendItem(dst, it)
	}
	return appendEnd(dst, content, "query")
}

// AppendMUCUser appends <x/> of muc#user with an item, extra, which is canonical in that namespace, and
// status codes (XEP-0045 12).
func AppendMUCUser(dst []byte, it *MUCItem, extra string, codes ...int) []byte {
	dst = append(dst, "<x xmlns='"+NSMUCUser+"'>"...)
	content := len(dst)
	if it != nil {
		dst = appendItem(dst, *it)
	}
	dst = append(dst, extra...)
	for _, code := range codes {
		dst = append(dst, "<status code='"...)
		dst = strconv.AppendInt(dst, int64(code), 10)
		dst = append(dst, "'/>"...)
	}
	return appendEnd(dst, content, "x")
}

// MUCDestroy is <destroy/> of an owner, and what occupants are told of it (XEP-0045
// 10.9).
type MUCDestroy struct {
	Venue            jid.JID // the room that replaces it, zero for none
	Password, Reason string
}

// ParseMUCDestroy reads <destroy/>.
func ParseMUCDestroy(el xmltree.Element) (MUCDestroy, error) {
	d := MUCDestroy{Password: CutText(el.Child(NSMUCOwner, "password").Text()), Reason: CutText(el.Child(NSMUCOwner, "reason").Text())}
	if s := el.Attr("jid"); s != "" {
		j, err := jid.Parse(s)
		if err != nil {
			return MUCDestroy{}, stanza.NewError(stanza.JIDMalformed, "the alternate venue is no address")
		}
		d.Venue = j
	}
	return d, nil
}

// Append appends <destroy/> in the namespace of the place.
func (d MUCDestroy) Append(dst []byte) []byte {
	dst = append(appendOptAttr(append(dst, "<destroy"...), "jid", d.Venue.String()), '>')
	content := len(dst)
	if d.Password != "" {
		dst = appendElement(dst, "", "password", d.Password)
	}
	if d.Reason != "" {
		dst = appendElement(dst, "", "reason", d.Reason)
	}
	return appendEnd(dst, content, "destroy")
}

// MUCInvite is <invite/> or <decline/> of a mediated invitation (XEP-0045 7.8.2).
type MUCInvite struct {
	Decline  bool
	JID      jid.JID // to whom, or, on the way out, from whom
	Reason   string
	Thread   string
	Continue bool
}

// ParseMUCInvites reads the invitations and declines of a message's <x/>. An address that is none, or
// is missing, is jid-malformed; more than MaxMUCInvites are policy-violation.
func ParseMUCInvites(el xmltree.Element) ([]MUCInvite, error) {
	var list []MUCInvite
	for c := range el.Children() {
		if c.Space() != NSMUCUser || c.Local() != "invite" && c.Local() != "decline" {
			continue
		}
		to, err := jid.Parse(c.Attr("to"))
		if err != nil {
			return nil, stanza.NewError(stanza.JIDMalformed, "an invitation has no address")
		}
		if len(list) == MaxMUCInvites {
			return nil, stanza.NewError(stanza.PolicyViolation, "too many invitations in one message")
		}
		cont := c.Child(NSMUCUser, "continue")
		list = append(list, MUCInvite{Decline: c.Local() == "decline", JID: to, Reason: CutText(c.Child(NSMUCUser, "reason").Text()),
			Continue: !cont.IsZero(), Thread: CutText(cont.Attr("thread"))})
	}
	return list, nil
}

// Append appends the element with JID as its sender, in the namespace of the place.
func (i MUCInvite) Append(dst []byte) []byte {
	name := "invite"
	if i.Decline {
		name = "decline"
	}
	dst = append(appendAttr(append(append(dst, '<'), name...), "from", i.JID.String()), '>')
	content := len(dst)
	if i.Reason != "" {
		dst = appendElement(dst, "", "reason", i.Reason)
	}
	if i.Continue {
		dst = append(appendOptAttr(append(dst, "<continue"...), "thread", i.Thread), "/>"...)
	}
	return appendEnd(dst, content, name)
}

// AppendOccupantID appends <occupant-id/> (XEP-0421 3).
func AppendOccupantID(dst []byte, id string) []byte {
	return append(appendAttr(append(dst, "<occupant-id xmlns='"+NSOccupantID+"'"...), "id", id), "/>"...)
}

// Retracted is a retraction, or what is left of a message that was retracted
// (XEP-0424 3 and 4), by a moderator where By is set (XEP-0425 3 and 4).
type Retracted struct {
	ID     string    // of the message that is retracted; in a tombstone, of the one that retracted it
	Stamp  time.Time // of a tombstone
	By     jid.JID   // the moderator, by his address in the room
	ByID   string    // his occupant-id
	Reason string
}

// AppendRetract appends <retract/>, or for a tombstone <retracted/>.
func AppendRetract(dst []byte, r Retracted) []byte {
	name := "retract"
	if !r.Stamp.IsZero() {
		name = "retracted"
	}
	dst = append(append(append(dst, '<'), name...), " xmlns='"+NSRetract+"'"...)
	dst = appendOptAttr(dst, "id", r.ID)
	if !r.Stamp.IsZero() {
		dst = append(AppendDateTime(append(dst, " stamp='"...), r.Stamp), '\'')
	}
	dst = append(dst, '>')
	content := len(dst)
	if !r.By.IsZero() {
		dst = append(appendAttr(append(dst, "<moderated xmlns='"+NSModerate+"'"...), "by", r.By.String()), '>')
		dst = append(AppendOccupantID(dst, r.ByID), "</moderated>"...)
	}
	if r.Reason != "" {
		dst = appendElement(dst, "", "reason", r.Reason)
	}
	return appendEnd(dst, content, name)
}

// FormField is a field of a form that is written (XEP-0004 3).
type FormField struct {
	Var, Type, Label string
	Values           []string
	Options          []string // of a list, each its own label
	Required         bool
}

// AppendForm appends <x/> of a type, "form" or "result", with its FORM_TYPE.
func AppendForm(dst []byte, typ, formType, title string, fields []FormField) []byte {
	dst = append(appendAttr(append(dst, "<x xmlns='"+NSForm+"'"...), "type", typ), '>')
	if title != "" {
		dst = appendElement(dst, "", "title", title)
	}
	all := append([]FormField{{Var: formTypeField, Type: "hidden", Values: []string{formType}}}, fields...)
	for _, f := range all {
		dst = appendOptAttr(appendAttr(append(dst, "<field"...), "var", f.Var), "type", f.Type)
		dst = append(appendOptAttr(dst, "label", f.Label), '>')
		content := len(dst)
		if f.Required {
			dst = append(dst, "<required/>"...)
		}
		for _, v := range f.Values {
			dst = appendElement(dst, "", "value", v)
		}
		for _, o := range f.Options {
			dst = append(appendAttr(append(dst, "<option"...), "label", o), "><value>"...)
			dst = append(xmltree.AppendText(dst, o), "</value></option>"...)
		}
		dst = appendEnd(dst, content, "field")
	}
	return append(dst, "</x>"...)
}

// Value is the first value of a field and whether the form has the field.
func (f Form) Value(name string) (string, bool) {
	for _, field := range f.Fields {
		if field.Var == name {
			if len(field.Values) == 0 {
				return "", true
			}
			return field.Values[0], true
		}
	}
	return "", false
}
