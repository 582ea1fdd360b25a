// Package portable is accounts and rooms as XML documents (XEP-0227): what a server
// holds, to be read by another one, and what another one has written.
//
// The model: a document is a stream of parts, start tags of containers (server,
// host, user, archive, …), units in them and ends. A Reader makes parts of files,
// following what they include; a Sink makes files of parts. Neither ever holds more
// than a unit, so neither an archive nor a number of users needs memory. Export
// writes a store's accounts into a Sink. Import reads a document twice. The first
// time it only looks: it finds everything that is wrong and says, account by
// account, what would come to be there. The second time, if nothing was wrong, it
// does that, each account in one piece: it is built where nobody sees it, and
// there as a whole or not at all.
//
// The same document imported again changes nothing: ids in archives follow from the
// document alone, and what is there already is compared, not written.
package portable

import (
	"fmt"
	"slices"

	"carillon.im/jid"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// The namespaces of XEP-0227, and ours for what it hasn't got: rooms, and when an
// account and an item were made (docs/ext/export.md).
const (
	nsPIE     = "urn:xmpp:pie:0"
	nsArchive = nsPIE + "#mam"
	nsSCRAM   = nsPIE + "#scram"
	nsOwn     = "urn:xmpp:tmp:export:0"
	nsInclude = "http://www.w3.org/2001/XInclude"
	nsPrivacy = "jabber:iq:privacy"
)

// Bounds of what is read. They are far above what servers let their users keep.
const (
	maxUnit     = 4 << 20  // bytes of a unit
	maxAccount  = 64 << 20 // of an account, without archive and offline messages
	maxIncludes = 8        // documents in documents
	maxProblems = 1000     // that are told
)

// unitLimits are the scanner's.
func unitLimits() xmltree.Limits {
	return xmltree.Limits{MaxBytes: maxUnit, MaxDepth: 100, MaxChildren: 1 << 16}
}

// container reports whether an element is opened where it stands: its children are
// then units of their own. Around are the open ones.
func container(around []xmltree.Name, n xmltree.Name) bool {
	if len(around) == 0 {
		return n == name(nsPIE, "server-data")
	}
	switch within := around[len(around)-1]; within {
	case name(nsPIE, "server-data"):
		return n == name(nsPIE, "host")
	case name(nsPIE, "host"):
		return n == name(nsPIE, "user") || n == name(nsOwn, "room")
	case name(nsPIE, "user"):
		switch n {
		case name(xep.NSRoster, "query"), name(xep.NSPrivate, "query"), name(nsPIE, "offline-messages"),
			name(xep.NSPubSub, "pubsub"), name(xep.NSPubSubOwner, "pubsub"), name(nsArchive, "archive"):
			return true
		}
	case name(nsOwn, "room"):
		return n == name(nsArchive, "archive") || n == name(xep.NSMUCAdmin, "query")
	case name(xep.NSPubSub, "pubsub"):
		return n == name(xep.NSPubSub, "items")
	}
	return false
}

func name(space, local string) xmltree.Name { return xmltree.Name{Space: space, Local: local} }

// Part is a piece of a document: the start of a container, a unit, or the end of the
// container that was opened last.
type Part struct {
	Kind    xmltree.Kind
	Element xmltree.Element // none at an end
	Place   Place
}

// Place is where in which document something stands.
type Place struct {
	File   string
	Offset int64 // bytes before it
}

func (p Place) String() string {
	switch {
	case p.File == "":
		return fmt.Sprintf("byte %d", p.Offset)
	case p.Offset < 0: // no more is known
		return p.File
	}
	return fmt.Sprintf("%s, byte %d", p.File, p.Offset)
}

// Sink takes a document, part by part.
type Sink interface {
	// Open begins a container.
	Open(el xmltree.Element) error
	// Unit writes canonical XML, in the context of the open container's namespace.
	Unit(xml []byte) error
	// End ends the container that was opened last.
	End() error
}

// Copy gives all that a Reader reads to a Sink, as one document. Accounts and rooms
// are marked with the place that they come from.
func Copy(to Sink, from *Reader) error {
	if err := to.Open(element(nsPIE, "server-data")); err != nil {
		return err
	}
	for {
		p, err := from.Next()
		switch {
		case err != nil:
			return err
		case p.Kind == xmltree.None:
			return to.End()
		case p.Element.Is(nsPIE, "server-data") || p.Kind == xmltree.StreamEnd && len(from.around) == 0:
		case p.Kind == xmltree.StreamStart:
			el := p.Element
			if len(from.around) == 3 && p.Place.File != "" {
				el = marked(el, p.Place)
			}
			err = to.Open(el)
		case p.Kind == xmltree.Unit:
			err = to.Unit(p.Element.AppendTo(nil, from.within().Space))
		default:
			err = to.End()
		}
		if err != nil {
			return err
		}
	}
}

func marked(el xmltree.Element, at Place) xmltree.Element {
	attrs := slices.Collect(el.Attrs())
	attrs = slices.DeleteFunc(attrs, func(a xmltree.Attr) bool { return a.Name == name(nsOwn, "place") })
	return element(el.Space(), el.Local(), append(attrs, xmltree.Attr{Name: name(nsOwn, "place"), Value: at.String()})...)
}

// element makes a container's start.
func element(space, local string, attrs ...xmltree.Attr) xmltree.Element {
	w := xmltree.NewWriter(nil, "")
	w.Start(space, local)
	for _, a := range attrs {
		w.AttrNS(a.Name.Space, a.Name.Local, a.Value)
	}
	el, err := xmltree.Parse(w.End().Bytes(), "", xmltree.Limits{})
	if err != nil {
		panic("portable: " + err.Error()) // a Writer made it
	}
	return el
}

func attr(local, value string) xmltree.Attr {
	return xmltree.Attr{Name: name("", local), Value: value}
}

// ownID is the account's or room's <stanza-id/>.
func ownID(el xmltree.Element, of jid.JID) bool { return xep.IsStanzaIDBy(el, of) }
