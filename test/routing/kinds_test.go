package routing

import (
	"fmt"
	"strings"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// kind is what a message contains, and what the model has to know of that. The facts are stated, not found out: the
// model doesn't read XML.
type kind struct {
	name    string
	payload string

	body, imng, private, noCopy bool
	noStore, noPermanent, store bool
	onlyChatState               bool
	im                          bool // what XEP-0280 6.1 calls payload elements typically used in IM
	roomPrivate, invitation     bool
	machine                     bool // nothing but traffic between machines (R-INT-8)
	whose, mine                 bool
	malformed                   bool // a claim that is none

	respelled string // what the server is to make of the payload, if not the same; unspelled is then the payload

	inner, stripped, unspelled string // canonical, set by finish: as delivered, as delivered in an error
}

const (
	body    = "<body>x</body>"
	imng    = "<im-ng xmlns='urn:xmpp:im-ng:0'/>"
	private = "<private xmlns='urn:xmpp:carbons:2'/>"
	noCopy  = "<no-copy xmlns='urn:xmpp:hints'/>"
	noStore = "<no-store xmlns='urn:xmpp:hints'/>"
	whose   = "<whose xmlns='urn:xmpp:tmp:mine:0' id='forged'/>"

	feedbackError = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
)

func claim(ids string) string { return "<mine xmlns='urn:xmpp:tmp:mine:0'>" + ids + "</mine>" }

func machine(name, payload string) kind { return kind{name: name, payload: payload, machine: true} }

// kinds are the contents that messages have in this test.
func kinds() []kind {
	list := []kind{
		{name: "nothing"},
		{name: "body", payload: body, body: true},
		{name: "thread", payload: body + "<thread>t1</thread>", body: true},
		{name: "thread alone", payload: "<thread>t1</thread>"},
		{name: "im-ng", payload: body + imng, body: true, imng: true},
		{name: "im-ng alone", payload: imng, imng: true},
		{name: "im-ng with content", payload: body + "<im-ng xmlns='urn:xmpp:im-ng:0' a='b'>c<d/></im-ng>", body: true, imng: true},
		{name: "im-ng of another namespace", payload: body + "<im-ng xmlns='urn:xmpp:im-ng:1'/>", body: true},
		{name: "im-ng inside", payload: body + "<x xmlns='urn:example:x'>" + imng + "</x>", body: true},
		{name: "private", payload: body + private, body: true, private: true},
		{name: "private of another namespace", payload: body + "<private xmlns='urn:xmpp:carbons:1'/>", body: true},
		{name: "no-copy", payload: body + noCopy, body: true, noCopy: true},
		{name: "no-store", payload: body + noStore, body: true, noStore: true},
		{name: "no-permanent-store", payload: body + "<no-permanent-store xmlns='urn:xmpp:hints'/>", body: true, noPermanent: true},
		{name: "im-ng, private, no-store", payload: body + imng + private + noStore, body: true, imng: true, private: true, noStore: true},
		{name: "chat state", payload: "<composing xmlns='http://jabber.org/protocol/chatstates'/>", im: true, onlyChatState: true},
		{name: "body and chat state", payload: body + "<active xmlns='http://jabber.org/protocol/chatstates'/>", body: true, im: true},
		{name: "receipt", payload: "<received xmlns='urn:xmpp:receipts' id='1'/>", im: true},
		{name: "displayed marker", payload: "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", im: true},
		{name: "a room's private message", payload: body + "<x xmlns='http://jabber.org/protocol/muc#user'/>", body: true, roomPrivate: true},
		{name: "mediated invitation", payload: "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b.example'/></x>", invitation: true},
		{name: "a room's private message, im-ng", payload: body + imng + "<x xmlns='http://jabber.org/protocol/muc#user'/>", body: true, imng: true, roomPrivate: true},
		{name: "a room's private message, private", payload: body + private + "<x xmlns='http://jabber.org/protocol/muc#user'/>", body: true, private: true, roomPrivate: true},
		{name: "direct invitation", payload: "<x xmlns='jabber:x:conference' jid='room@b.example'/>", invitation: true},
		{name: "unknown payload", payload: "<y xmlns='urn:example:y'/>"},
		{name: "encrypted", payload: "<encrypted xmlns='eu.siacs.conversations.axolotl'/>", im: true},
		{name: "ibb and unknown payload", payload: "<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data><y xmlns='urn:example:y'/>"},
		{name: "ibb with a body", payload: body + "<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data>", body: true},
		machine("ibb", "<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data>"),
		machine("pubsub event", "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event>"),
		machine("data form", "<x xmlns='jabber:x:data' type='submit'/>"),
		machine("command", "<command xmlns='http://jabber.org/protocol/commands' node='n'/>"),
		machine("roster exchange", "<x xmlns='http://jabber.org/protocol/rosterx'/>"),
		{name: "forged xmpp-1 and xmpp-2", payload: body + "<xmpp-1 xmlns='urn:xmpp:tmp:xmpp-2:0'/><xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'/>", body: true, respelled: body},
		{name: "im-ng twice", payload: imng + body + imng, body: true, imng: true},
		{name: "private inside", payload: body + "<y xmlns='urn:example:y'>" + private + noCopy + "</y>", body: true},
		{name: "hints of another namespace", payload: body + "<no-store xmlns='urn:example:y'/><no-copy xmlns='urn:example:y'/>", body: true},
		{name: "body of another namespace", payload: "<body xmlns='urn:example:y'>x</body>"},
		{name: "chat state and thread", payload: "<composing xmlns='http://jabber.org/protocol/chatstates'/><thread>t1</thread>", im: true, onlyChatState: true}, // decided: a thread is no payload
		{name: "chat state and store", payload: "<composing xmlns='http://jabber.org/protocol/chatstates'/><store xmlns='urn:xmpp:hints'/>", im: true, store: true},
		{name: "ibb and thread", payload: "<thread>t1</thread><data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data>"},
		{name: "ibb and hint", payload: "<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data>" + noStore, noStore: true, machine: true}, // decided: nor is a hint
		{name: "subject alone", payload: "<subject>x</subject>"},
		{name: "markable", payload: "<markable xmlns='urn:xmpp:chat-markers:0'/>", im: true},
		{name: "receipt request", payload: "<request xmlns='urn:xmpp:receipts'/>", im: true},
		{name: "retraction", payload: "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>"},
		{name: "reaction", payload: "<reactions xmlns='urn:xmpp:reactions:0' id='1'/>"},
		{name: "jingle message", payload: "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>"},
		machine("two of machines", "<data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='0'>AAAA</data><x xmlns='jabber:x:data' type='submit'/>"),
		{name: "forged stanza-id", payload: body + "<stanza-id xmlns='urn:xmpp:sid:0' by='{bare}' id='forged'/><stanza-id xmlns='urn:xmpp:sid:0' by='localhost' id='forged'/>", body: true},
	}
	return finish(append(list, mines()...))
}

// mines are those with an element of Mine in them.
func mines() []kind {
	const mime = "<mine xmlns='urn:xmpp:tmp:mime:0'><id>a</id></mine>"
	return []kind{
		{name: "claim", payload: claim("<id>a</id>"), mine: true},
		{name: "claim of two with a thread", payload: "<thread>t1</thread>" + claim("<id>a</id><id>b-c.d_e</id>"), mine: true},
		{name: "claim in the other spelling", payload: mime, mine: true, respelled: claim("<id>a</id>")},
		{name: "claim, not stored", payload: claim("<id>a</id>") + noStore, mine: true, noStore: true},
		{name: "claim of 256", payload: claim(strings.Repeat("<id>a</id>", 256)), mine: true},
		{name: "claim of 257", payload: claim(strings.Repeat("<id>a</id>", 257)), mine: true, malformed: true},
		{name: "claim with a body", payload: body + claim("<id>a</id>"), mine: true, body: true},
		{name: "claim of nothing", payload: claim(""), mine: true, malformed: true},
		{name: "claim of an empty id", payload: claim("<id/>"), mine: true, malformed: true},
		{name: "claim of what is no NMTOKEN", payload: claim("<id>a</id><id>b c</id>"), mine: true, malformed: true},
		{name: "two claims", payload: claim("<id>a</id>") + claim("<id>b</id>"), mine: true, malformed: true},
		{name: "whose", payload: body + whose, body: true, whose: true},
		{name: "whose in the other spelling", payload: body + "<whose xmlns='urn:xmpp:tmp:mime:0' id='forged'/>", body: true, whose: true},
		{name: "whose and claim", payload: claim("<id>a</id>") + whose, whose: true, mine: true},
		{name: "whose and im-ng", payload: body + whose + imng, body: true, whose: true, imng: true},
		{name: "whose and claim inside", payload: body + "<x xmlns='urn:example:x'>" + whose + claim("<id>a</id>") + "</x>", body: true},
		{name: "whose of another namespace", payload: body + "<whose xmlns='urn:xmpp:tmp:mine:1' id='a'/>", body: true},
	}
}

// added says whether an element is one that the server adds, or takes away if somebody else did.
func added(el xmltree.Element) bool {
	return el.Is("urn:xmpp:sid:0", "stanza-id") || isWhose(el) || el.Is("urn:xmpp:im-ng:0", "im-ng") ||
		el.Space() == "urn:xmpp:tmp:xmpp-2:0" || el.Is("urn:xmpp:delay", "delay")
}

func isWhose(el xmltree.Element) bool {
	return el.Local() == "whose" && (el.Space() == "urn:xmpp:tmp:mine:0" || el.Space() == "urn:xmpp:tmp:mime:0")
}

func isMine(el xmltree.Element) bool {
	return el.Local() == "mine" && (el.Space() == "urn:xmpp:tmp:mine:0" || el.Space() == "urn:xmpp:tmp:mime:0")
}

func finish(list []kind) []kind {
	for i := range list {
		k := &list[i]
		payload := k.payload
		if k.respelled != "" {
			payload = k.respelled
		}
		el, err := xmltree.Parse([]byte("<m xmlns='"+stanza.NSClient+"'>"+payload+"</m>"), "", xmltree.Limits{})
		if err != nil {
			panic(fmt.Sprintf("%s: %v", k.name, err))
		}
		k.inner = inner(el, added)
		if k.respelled != "" {
			k.unspelled = k.payload
		}
		k.stripped = inner(el, func(el xmltree.Element) bool { return added(el) || isMine(el) })
	}
	return list
}

// inner is an element's content without what drop says.
func inner(el xmltree.Element, drop func(xmltree.Element) bool) string {
	var b []byte
	for c := range el.Children() {
		if !drop(c) {
			b = c.AppendTo(b, stanza.NSClient)
		}
	}
	return string(b)
}
