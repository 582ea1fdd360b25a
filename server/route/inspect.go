package route

import (
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Marks is what a message's payload tells routing, a set.
type Marks uint32

// The marks.
const (
	Body             Marks = 1 << iota
	Encrypted              // an encrypted body (XEP-0380, XEP-0384, XEP-0373, XEP-0027)
	Private                // <private/> (XEP-0280 9)
	NoCopy                 // hints of XEP-0334
	NoStore                //
	NoPermanentStore       //
	Store                  //
	RoomUser               // <x/> of muc#user (XEP-0045)
	Invitation             // into a room, direct (XEP-0249) or mediated (XEP-0045)
	InstantMessaging       // receipts, markers, chat states (XEP-0280 6.1)
	Machine                // all payloads are traffic between programs (R-INT-8)
	OnlyChatState          // nothing but a chat state (R-ARCH-2)
	ForOne                 // <im-ng/> (XEP-0409 3.3)
	Whose                  // <whose/> (XEP-0259)
	Mine                   // <mine/> (XEP-0259)
	BadClaim               // with Mine: it isn't a well-formed claim (R-MINE-4)
	Call                   // somebody calls (XEP-0353 3.2)
	// Modern says that the message was sent with the meaning of XMPP 2.0: by a v2 session, by another domain that tagged it so, or by this server
	// itself. It is no payload: Enter sets it.
	Modern

	respelled // whose or mine in the spelling of some copies of XEP-0259 (R-MINE-1)
	tag1      // <xmpp-1/>
	tag2      // <xmpp-2/>, as it should be
	tag2Bad   // <xmpp-2/> with something in it
	chatState // a chat state is there
	machine   // a machine payload is there
	content   // a payload that is neither machine traffic nor neutral is there
)

// Any reports whether one of the marks in set is there.
func (m Marks) Any(set Marks) bool { return m&set != 0 }

// payloads is what is known of payloads, by namespace, then by name; the name
// "" stands for every other element of the namespace. A payload that is not
// listed is content: it may be for the person (R-INT-8: unknown is not machine
// traffic).
var payloads = map[string]map[string]Marks{
	stanza.NSClient: {"body": Body | content, "subject": content, "thread": content, "error": neutral},

	xep.NSCarbons: {"private": Private},
	xep.NSHints:   {xep.HintNoCopy: NoCopy, xep.HintNoStore: NoStore, xep.HintNoPermanentStore: NoPermanentStore, xep.HintStore: Store},

	xep.NSIMNG:    {"im-ng": ForOne},
	xep.NSXMPP2:   {"xmpp-1": tag1, "xmpp-2": tag2},
	xep.NSMine:    {"whose": Whose | content, "mine": Mine | content},
	xep.NSMineOCR: {"whose": Whose | content | respelled, "mine": Mine | content | respelled},

	"http://jabber.org/protocol/chatstates": {"": InstantMessaging | chatState | content},
	"urn:xmpp:receipts":                     {"": InstantMessaging | content},
	"urn:xmpp:chat-markers:0":               {"": InstantMessaging | content},

	"http://jabber.org/protocol/muc#user": {"x": RoomUser | content},
	"jabber:x:conference":                 {"x": Invitation | content},
	"urn:xmpp:jingle-message:0":           {"propose": Call | content},

	"urn:xmpp:omemo:2":               {"encrypted": Encrypted | content},
	"eu.siacs.conversations.axolotl": {"encrypted": Encrypted | content},
	"urn:xmpp:openpgp:0":             {"openpgp": Encrypted | content},
	"jabber:x:encrypted":             {"x": Encrypted | content},
	"urn:xmpp:eme:0":                 {"encryption": content},

	// Machine traffic (R-INT-8).
	"http://jabber.org/protocol/ibb":          {"data": machine},
	"http://jabber.org/protocol/pubsub#event": {"event": machine},
	"jabber:x:data":                           {"x": machine},
	"http://jabber.org/protocol/commands":     {"": machine},
	"http://jabber.org/protocol/rosterx":      {"x": machine},

	// What is said about a message rather than to somebody.
	"urn:xmpp:sid:0":                     {"": neutral},
	"urn:xmpp:delay":                     {"delay": neutral},
	"http://jabber.org/protocol/shim":    {"headers": neutral},
	"http://jabber.org/protocol/amp":     {"amp": neutral},
	"http://jabber.org/protocol/address": {"addresses": neutral},
}

// neutral payloads tell routing nothing.
const neutral Marks = 0

// about are the marks of payloads that say how a message is to be treated
// rather than what it says.
const about = Private | NoCopy | NoStore | NoPermanentStore | Store | ForOne | tag1 | tag2 | tag2Bad

// Inspect reads what routing needs of a message, once per message. Enter does
// it for messages that come from elsewhere.
func Inspect(st *stanza.Stanza) Message {
	m := Message{Type: ParseType(st.Type), Full: st.To.IsFull()}
	claims := 0
	for el := range st.Payloads() {
		mark := markOf(el)
		switch {
		case mark.Any(Mine):
			if claims++; claims > 1 || !goodClaim(el) {
				mark |= BadClaim
			}
		case mark.Any(tag2) && el.Inner() != "":
			mark = tag2Bad
		case mark.Any(RoomUser) && !st.From.IsZero() && !st.From.IsFull():
			mark &^= RoomUser // the room itself speaks, no occupant (R-INT-7)
		}
		m.Marks |= mark
	}
	if m.Marks.Any(Mine) && (m.Marks.Any(Body|Whose) || m.Type == Groupchat) {
		m.Marks |= BadClaim // MINE-19
	}
	switch {
	case m.Marks.Any(content):
		// Only the chat state's own bits and what names the namespace's kind.
		others := m.Marks &^ (chatState | content | InstantMessaging | about)
		// A chat state that its sender wants stored is one to keep (XEP-0334 4.4).
		if m.Marks.Any(chatState) && !m.Marks.Any(Store) && others == 0 && onlyChatStates(st) {
			m.Marks |= OnlyChatState
		}
	case m.Marks.Any(machine):
		m.Marks |= Machine
	}
	return m
}

func markOf(el xmltree.Element) Marks {
	space := el.Space()
	if space == stanza.NSServer {
		space = stanza.NSClient
	}
	names, ok := payloads[space]
	if !ok {
		return content
	}
	mark, ok := names[el.Local()]
	if !ok {
		if mark, ok = names[""]; !ok {
			return content
		}
	}
	if mark.Any(RoomUser) && !el.Child("http://jabber.org/protocol/muc#user", "invite").IsZero() {
		mark |= Invitation // XEP-0045 7.8.2
	}
	return mark
}

// onlyChatStates: every payload with content is a chat state; a thread that
// says which conversation it is about doesn't change that (XEP-0085 5.1).
func onlyChatStates(st *stanza.Stanza) bool {
	for el := range st.Payloads() {
		if markOf(el).Any(content) && el.Space() != "http://jabber.org/protocol/chatstates" && el.Local() != "thread" {
			return false
		}
	}
	return true
}

// MaxClaimIDs is how many messages one claim may name; a client that has more
// to claim sends several.
const MaxClaimIDs = 256

// goodClaim: one to MaxClaimIDs ids and nothing else (MINE-21, MINE-22,
// MINE-53). The ids are not looked up: a claim for an id that nobody knows is
// ignored by who receives it (MINE-29).
func goodClaim(mine xmltree.Element) bool {
	n := 0
	for el := range mine.Children() {
		if n++; n > MaxClaimIDs || !el.Is(mine.Space(), "id") || !xmltree.IsNmtoken(el.Text()) || el.Inner() == "" {
			return false
		}
		for range el.Children() {
			return false
		}
	}
	return n > 0 && !mine.HasText()
}
