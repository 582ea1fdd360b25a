package route

import (
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// The border between XMPP 2.0 and 1.0 (docs/routing.md section 6), as pure
// functions on messages. Inside, between this server and its v2 sessions,
// nothing is tagged (X2-10); Enter and Leave are what happens on the way in and out,
// and tagRules say what single sessions see.

// Origin is where a message comes from.
type Origin uint8

// The origins.
const (
	FromSession   Origin = iota // one of this server's, of any profile but V2
	FromV2Session               // a V2 session
	FromDomain                  // another domain, a component included
)

// Enter reads a message that comes into the server and takes off what only
// the border may put on: the tags of XMPP 2.0 (R-GW-2, R-GW-3), and with a
// valid tag from another domain the modifiers that came with it (X2-15, X2-16). A message
// that carries none of that is returned as it is.
//
// What a message is marked with that has no place in it goes too: <im-ng/> on
// the way to a bare JID, so that no device ignores what the others show, and
// in an error the elements of XEP-0259 that its sender copied from what it
// answers.
func Enter(st *stanza.Stanza, o Origin) (*stanza.Stanza, Message) {
	m := Inspect(st)
	drop := m.Marks & (tag1 | tag2 | tag2Bad)
	if o == FromDomain && m.Marks.Any(tag2) && !m.Marks.Any(tag2Bad) {
		drop |= m.Marks & (Private | NoCopy)
		if m.Full {
			drop |= m.Marks & NoStore // R-GW-1 puts it on with the others; on a message to a bare JID it is its sender's wish
		}
		m.Marks |= Modern
	}
	if o == FromV2Session {
		m.Marks |= Modern
	}
	if !m.Full {
		drop |= m.Marks & ForOne
	}
	if m.Type == Error {
		drop |= m.Marks & (Whose | Mine)
	}
	other := m.Marks.Any(respelled) && !m.Marks.Any(BadClaim)
	if drop == 0 && !other {
		return st, m
	}
	if st = without(st, drop); other {
		st = respell(st)
	}
	modern := m.Marks & Modern
	m = Inspect(st)
	m.Marks |= modern
	return st, m
}

// respell puts the elements of XEP-0259 into its namespace, from that which
// copies of the text in circulation have in places (R-MINE-1). What isn't well
// formed is refused anyway.
func respell(st *stanza.Stanza) *stanza.Stanza {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	for el := range st.Payloads() {
		if !markOf(el).Any(respelled) {
			continue
		}
		w.Start(xep.NSMine, el.Local())
		if id, ok := el.LookupAttr("", "id"); ok {
			w.Attr("id", id)
		}
		for id := range el.Children() {
			w.Start(xep.NSMine, "id").Text(id.Text()).End()
		}
		w.End()
	}
	return rebuilt(st, st.InnerWithout(func(el xmltree.Element) bool { return markOf(el).Any(respelled) })+string(w.Bytes()))
}

// Leave makes what another domain gets of a message (R-GW-1, X2-12, X2-14,
// X2-13 by no-store). What the
// sender's client put on itself stays (R-GW-5).
//
// A conversation message to a full JID is one of XMPP 1.0 (R-INT-9) and leaves
// without a tag: with it a server of 2.0 would take it for exclusive (R-INT-4),
// without it every server comes to the same intent as this one.
func Leave(st *stanza.Stanza, i Intent) *stanza.Stanza {
	if i == Conversation && st.To.IsFull() {
		return st
	}
	add := xep.XMPP2
	if i == Exclusive {
		var has Marks
		for el := range st.Payloads() {
			has |= markOf(el)
		}
		for _, modifier := range modifiers {
			if !has.Any(modifier.mark) {
				add += modifier.element
			}
		}
	}
	return rebuilt(st, st.Inner()+add)
}

// modifiers are how a server of XMPP 1.0 is told that a message is for one
// device, and no archive.
var modifiers = [...]struct {
	mark    Marks
	element string
}{
	{Private, "<private xmlns='" + xep.NSCarbons + "'/>"},
	{NoCopy, "<no-copy xmlns='" + xep.NSHints + "'/>"},
	{NoStore, "<no-store xmlns='" + xep.NSHints + "'/>"},
}

// without is st without the payloads that have one of the marks.
func without(st *stanza.Stanza, marks Marks) *stanza.Stanza {
	if marks.Any(tag2Bad) {
		marks |= tag2
	}
	return rebuilt(st, st.InnerWithout(func(el xmltree.Element) bool { return markOf(el).Any(marks) }))
}

func rebuilt(st *stanza.Stanza, inner string) *stanza.Stanza {
	out := stanza.Build(st.Kind, st.Type, st.ID, st.From, st.To, inner)
	out.Lang = st.Lang
	return out
}
