package routing

import (
	"slices"
	"strings"
)

// profile is how a session gets messages (routing page, section 1).
type profile string

const (
	classic profile = "classic"
	carbons profile = "carbons"
	ng      profile = "ng"
	v2      profile = "v2"
)

// modern says whether the session gets conversations whatever its presence (R-SESS-2).
func (p profile) modern() bool { return p == ng || p == v2 }

// device is a session as the model sees it.
type device struct {
	kind      string // the template's name
	name      string // the resource
	profile   profile
	available bool
	priority  int
	account   *account
}

// direct says whether messages to the bare JID are for a device of an older profile (R-CONV-2, R-SESS-2).
func (d *device) direct() bool { return !d.profile.modern() && d.available && d.priority >= 0 }

type account struct {
	bare    string
	devices []*device
	shows   []*account // who may see its presence
	never   bool       // it wants no archive (XEP-0313 5)
	service bool       // it is at one of the server's own services, and has no devices here
}

func (d *device) full() string { return d.account.bare + "/" + d.name }

// answered is what an error refers to by its id.
type answered int

const (
	unknown answered = iota
	exclusiveOne
	eligibleOne
)

// message is what a device sends. Of its content the model knows what the row of the table of kinds says.
type message struct {
	id        string
	typ       string // "" is normal
	from      *device
	to        *account
	addressed *device // at a full JID that exists
	absent    bool    // at a full JID that doesn't
	kind      *kind
	answers   answered // of type error
}

func (m *message) bare() bool { return m.addressed == nil && !m.absent }
func (m *message) own() bool  { return m.from.account == m.to }
func (m *message) is(types ...string) bool {
	typ := m.typ
	if typ == "" {
		typ = "normal"
	}
	return slices.Contains(types, typ)
}

// address is the message's 'to' as it is sent.
func (m *message) address() string {
	switch {
	case m.addressed != nil:
		return m.addressed.full()
	case m.absent:
		return m.to.bare + "/absent"
	}
	return m.to.bare
}

// known says whether the sender may see the recipient's presence; the server's own services are no strangers (R-EXCL-3).
func (m *message) known() bool {
	return m.own() || m.from.account.service || slices.Contains(m.to.shows, m.from.account)
}

// form is in which way one device gets a message, or how it is in an archive.
type form struct {
	how    string // "direct" (reflections too), "sent", "received", "error", "archived", "offline"
	typ    string
	from   string // of the message itself, not of what wraps it
	to     string
	inner  string // its payload, without what the server may add
	id     bool   // a <stanza-id/> of the account
	whose  bool
	imng   bool
	xmpp1  bool
	reason string // the error's condition
}

// outcome is all that happens because of one message.
type outcome struct {
	forms    map[*device]form // of what goes on
	errors   map[*device]form // of what comes back
	archives map[*account]form
	offline  *form
}

// form is the message as it is delivered to a device.
func (m *message) form(to string) form {
	return form{how: "direct", typ: m.typ, from: m.from.full(), to: to, inner: m.kind.inner}
}

func newOutcome() *outcome {
	return &outcome{forms: map[*device]form{}, errors: map[*device]form{}, archives: map[*account]form{}}
}

// outcome is the second opinion.
func (m *message) outcome() *outcome {
	out := newOutcome()
	switch {
	case m.is("error"): // R-INT-1
		m.feedback(out)
	case (m.kind.whose || m.kind.mine) && !m.fromRoom():
		m.mine(out)
	case m.exclusive():
		m.one(out)
	default: // R-INT-2, R-INT-9
		m.conversation(out)
	}
	for d, f := range out.forms {
		f.xmpp1 = d.profile == v2 && m.from.profile != v2 // R-GW-3: it enters from outside of this server and its v2 sessions
		out.forms[d] = f
	}
	return out
}

// fromRoom says whether it is what a room elsewhere sends to its occupants, Mine's elements included (R-MINE-6).
func (m *message) fromRoom() bool { return m.from.account.service && m.is("groupchat") && !m.bare() }

// exclusive is R-INT-3 to R-INT-8; to a bare JID nothing is (R-INT-2).
func (m *message) exclusive() bool {
	k := m.kind
	switch {
	case m.bare():
		return false
	case k.imng, m.from.profile == v2, m.is("groupchat", "headline"), k.private, k.noCopy:
		return true
	case k.roomPrivate: // R-INT-7
		return true
	}
	return m.is("normal") && k.machine // R-INT-8
}

// one delivers to a single device, or refuses (R-EXCL).
func (m *message) one(out *outcome) {
	if m.kind.roomPrivate && !m.own() && m.is("chat", "normal") && !m.kind.imng && m.from.profile != v2 {
		m.copySent(out) // decided: XEP-0280 6.1 wants it of what is said into a room
	}
	switch {
	case !m.known() && m.is("chat", "normal"):
		m.refuse(out, "service-unavailable") // R-EXCL-3
	case m.addressed != nil:
		f := m.form(m.address())
		f.imng = m.kind.imng || m.addressed.profile == ng && !m.meantToBeRead() // R-GW-4
		f.whose = m.kind.whose                                                  // of a room
		if m.from.account.service && m.from.profile == v2 {
			f.inner = strings.ReplaceAll(f.inner, noStore, "") // R-GW-1 put it there, R-GW-2 takes it out
		}
		out.forms[m.addressed] = f
	case m.is("headline") && !m.kind.imng: // R-EXCL-2
	default:
		m.refuse(out, "service-unavailable")
	}
}

// bounce answers a message that was a conversation for the sender's side: the answer is one to all of that side's
// devices (R-FEED-3), and to those with Carbons if the message was eligible (XEP-0280 6.1).
func (m *message) bounce(out *outcome, reason string) {
	m.refuse(out, reason)
	answer := out.errors[m.from]
	general := answer
	general.to = m.from.account.bare
	for _, d := range m.from.account.devices {
		switch {
		case d == m.from:
		case d.profile.modern():
			out.errors[d] = general
		case d.profile == carbons && m.eligible():
			out.errors[d] = wrapped(answer, "received error")
		}
	}
}

// meantToBeRead says that it is exclusive by what older rules make of it, and still content for people. Decided: then
// <im-ng/>, by which a client ignores content (IMNG-23), isn't added.
func (m *message) meantToBeRead() bool { return m.is("groupchat", "headline") || m.kind.roomPrivate }

// copySent gives a message to the sender's other devices with Carbons, and to nobody else.
func (m *message) copySent(out *outcome) {
	for _, d := range m.from.account.devices {
		if d.profile == carbons && d != m.from && m.eligible() {
			out.forms[d] = wrapped(m.form(m.address()), "sent")
		}
	}
}

// refuse answers the sender alone.
func (m *message) refuse(out *outcome, reason string) {
	out.errors[m.from] = form{how: "error", typ: "error", from: m.address(), to: m.from.full(), reason: reason}
}

// eligible is XEP-0280 6.1 for everything but errors.
func (m *message) eligible() bool {
	k := m.kind
	if k.private || k.noCopy || m.is("groupchat") { // XEP-0334 4.3
		return false
	}
	return m.is("chat") || m.is("normal") && k.body || k.im || k.invitation
}

// archived says whether an account keeps a message that is routed (R-ARCH-2).
func (m *message) archived(by *account) bool {
	return !by.never && !m.kind.noStore && !m.kind.noPermanent && (!m.kind.onlyChatState || m.kind.store)
}

// conversation delivers to all devices that conversations are for.
func (m *message) conversation(out *outcome) {
	if m.is("groupchat") && !slices.ContainsFunc(m.to.devices, func(d *device) bool { return d.profile.modern() }) {
		m.bounce(out, "service-unavailable") // R-CONV-7
		return
	}
	archived := m.archived(m.to)
	copied := m.form(m.address())
	copied.id, copied.whose = archived, !m.own() // R-ARCH-4, R-MINE-2
	general := copied                            // as if sent to the bare JID
	general.to = m.to.bare
	for _, d := range m.to.devices {
		switch {
		case d == m.addressed, !m.is("groupchat") && m.addressed == nil && d.direct():
			out.forms[d] = copied // R-CONV-2, R-CONV-3
		case d.profile.modern():
			out.forms[d] = general // R-CONV-1, R-CONV-3
		case d.profile == carbons && m.eligible() && d != m.from: // decided: who sent it needs no copy (XEP-0280 8)
			out.forms[d] = wrapped(copied, "received") // R-CONV-4
		}
	}
	if archived {
		out.archives[m.to] = wrapped(general, "archived")
	}
	if len(out.forms) == 0 && m.is("chat", "normal") && !m.kind.noStore && !m.kind.onlyChatState { // R-CONV-6, XEP-0160 3, XEP-0334 4.2
		f := wrapped(copied, "offline")
		if f.inner == "" && !f.id && !f.whose {
			f.how = "direct" // decided: an empty message isn't dated
		}
		out.offline = &f
	}
	if !m.own() && !m.is("groupchat") {
		m.reflect(out)
	}
}

// reflect is the sender's side.
func (m *message) reflect(out *outcome) {
	archived := m.archived(m.from.account)
	f := m.form(m.address())
	f.id = archived
	for _, d := range m.from.account.devices {
		switch {
		case d.profile.modern():
			out.forms[d] = f // R-REFL-1
		case d.profile == carbons && d != m.from && m.eligible():
			out.forms[d] = wrapped(f, "sent") // R-REFL-2
		}
	}
	if archived {
		out.archives[m.from.account] = wrapped(f, "archived")
	}
}

func wrapped(f form, how string) form {
	f.how = how
	return f
}

// feedback is a message of type error (R-FEED).
func (m *message) feedback(out *outcome) {
	f := m.form(m.address())
	f.inner, f.imng = m.kind.stripped+feedbackError, m.kind.imng
	general := f
	general.to = m.to.bare // decided: like conversations (R-CONV-3)
	switch {
	case m.bare(): // R-FEED-1
	case m.kind.imng || m.answers == exclusiveOne: // R-FEED-2
		if m.addressed != nil {
			out.forms[m.addressed] = f
		}
	default: // R-FEED-3
		for _, d := range m.to.devices {
			switch {
			case d == m.addressed:
				out.forms[d] = f
			case d.profile.modern():
				out.forms[d] = general
			case d.profile == carbons && m.answers == eligibleOne:
				out.forms[d] = wrapped(f, "received")
			}
		}
	}
}

// mine is a message with one of Mine's elements (R-MINE-3, R-MINE-4). What the own side can judge, it refuses whoever is
// addressed, so that the answer tells nothing of him.
func (m *message) mine(out *outcome) {
	switch {
	case m.kind.whose, !m.bare():
		m.refuse(out, "bad-request")
	case !m.own(): // a claim as rooms get them (R-MINE-6), but this is nobody's room
		m.outside(out)
	case m.kind.body || m.kind.malformed || m.is("groupchat"): // decided: of rooms' type
		m.refuse(out, "bad-request")
	default:
		m.claim(out)
	}
}

// outside is a claim to another account: a conversation for the sender's side, refused by the recipient's.
func (m *message) outside(out *outcome) {
	if !m.is("groupchat") {
		m.reflect(out)
	}
	switch {
	case m.known():
		m.bounce(out, "bad-request")
	case !m.is("headline"): // RFC 6121 8.5.1: for a name that nobody has, a headline is ignored
		m.bounce(out, "service-unavailable")
	}
}

func (m *message) claim(out *outcome) {
	f := m.form(m.to.bare)
	f.id = m.archived(m.to)
	for _, d := range m.to.devices {
		if d == m.from || d.profile.modern() || d.direct() {
			out.forms[d] = f
		}
	}
	if m.archived(m.to) {
		out.archives[m.to] = wrapped(f, "archived")
	}
}
