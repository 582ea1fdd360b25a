package route

import (
	"carillon.im/stanza"
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

	"urn:xmpp:carbons:2": {"private": Private},
	"urn:xmpp:hints":     {"no-copy": NoCopy, "no-store": NoStore, "no-permanent-store": NoPermanentStore, "store": Store},

	"http://jabber.org/protocol/chatstates": {"": InstantMessaging | chatState | content},
	"urn:xmpp:receipts":                     {"": InstantMessaging | content},
	"urn:xmpp:chat-markers:0":               {"": InstantMessaging | content},

	"http://jabber.org/protocol/muc#user": {"x": RoomUser | content},
	"jabber:x:conference":                 {"x": Invitation | content},

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

// Inspect reads what routing needs of a message, once per message.
func Inspect(st *stanza.Stanza) Message {
	m := Message{Type: ParseType(st.Type), Full: st.To.IsFull()}
	for el := range st.Payloads() {
		m.Marks |= markOf(el)
	}
	switch {
	case m.Marks.Any(content):
		// Only the chat state's own bits and what names the namespace's kind.
		others := m.Marks &^ (chatState | content | InstantMessaging | Private | NoCopy | NoStore | NoPermanentStore | Store)
		if m.Marks.Any(chatState) && others == 0 && onlyChatStates(st) {
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
