package xep

import (
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// The namespaces of XEP-0060, and the FORM_TYPEs of its forms.
const (
	NSPubSub       = "http://jabber.org/protocol/pubsub"
	NSPubSubOwner  = NSPubSub + "#owner"
	NSEvent        = NSPubSub + "#event"
	NSPubOptions   = NSPubSub + "#publish-options"
	NSPubSubErrors = NSPubSub + "#errors"
	NSNodeConfig   = NSPubSub + "#node_config"
	NSNodeMetadata = NSPubSub + "#meta-data"
)

// Nodes of personal events with a meaning of their own (XEP-0163), and what a
// server that understands them declares. XEP-0490's node is NSDisplayed.
const (
	NodeBookmarks      = "urn:xmpp:bookmarks:1"     // XEP-0402
	NodeAvatarData     = "urn:xmpp:avatar:data"     // XEP-0084
	NodeAvatarMetadata = "urn:xmpp:avatar:metadata" // XEP-0084

	NSStorage          = "storage:bookmarks" // XEP-0048
	NSBookmarksCompat  = NodeBookmarks + "#compat"
	NSAvatarConversion = "urn:xmpp:pep-vcard-conversion:0" // XEP-0398
	NSDisplayedAssist  = "urn:xmpp:mds:server-assist:0"    // XEP-0490
)

// PubSubError is a stanza error with a condition of XEP-0060, such as
// "payload-too-big".
func PubSubError(c stanza.Condition, condition, text string) *stanza.Error {
	e := stanza.NewError(c, text)
	e.App = "<" + condition + " xmlns='" + NSPubSubErrors + "'/>"
	return e
}

// PubSubUnsupported is the error for a feature of XEP-0060 that isn't there.
func PubSubUnsupported(feature string) *stanza.Error {
	e := stanza.NewError(stanza.FeatureNotImplemented, "")
	e.App = string(appendAttr([]byte("<unsupported xmlns='"+NSPubSubErrors+"'"), "feature", feature)) + "/>"
	return e
}

// PubSubItem is an item of a node.
type PubSubItem struct {
	ID      string
	Payload string // canonical in a context without default namespace; "" for none
}

// AppendPubSubItems appends <items/> with its items, in <pubsub/> of a result and
// in <event/> alike.
func AppendPubSubItems(dst []byte, node string, items []PubSubItem) []byte {
	dst = append(appendAttr(append(dst, "<items"...), "node", node), '>')
	content := len(dst)
	for _, it := range items {
		dst = append(appendAttr(append(dst, "<item"...), "id", it.ID), '>')
		inner := len(dst)
		dst = appendEnd(append(dst, it.Payload...), inner, "item")
	}
	return appendEnd(dst, content, "items")
}

// AppendPubSubRetracted is AppendPubSubItems for items that are no more
// (XEP-0060 7.2.2.1).
func AppendPubSubRetracted(dst []byte, node string, ids []string) []byte {
	dst = append(appendAttr(append(dst, "<items"...), "node", node), '>')
	for _, id := range ids {
		dst = append(appendAttr(append(dst, "<retract"...), "id", id), "/>"...)
	}
	return append(dst, "</items>"...)
}

// AppendPubSubNode appends the empty element local that names a node, such as
// <delete node='…'/>.
func AppendPubSubNode(dst []byte, local, node string) []byte {
	return append(appendAttr(append(append(dst, '<'), local...), "node", node), "/>"...)
}

// PubSub wraps content in <pubsub/> of NSPubSub or NSPubSubOwner.
func PubSub(space string, content []byte) string {
	return "<pubsub xmlns='" + space + "'>" + string(content) + "</pubsub>"
}

// PubSubEvent wraps content in <event/>.
func PubSubEvent(content []byte) string {
	return "<event xmlns='" + NSEvent + "'>" + string(content) + "</event>"
}

// ParsePubSubItem reads an <item/> with one payload, which must have a namespace
// of its own (XEP-0060 7.1.3.5, 7.1.3.6); the id may be missing.
func ParsePubSubItem(el xmltree.Element) (PubSubItem, error) {
	it := PubSubItem{ID: el.Attr("id")}
	n := 0
	for p := range el.Children() {
		if n++; n > 1 || p.Space() == "" {
			return it, PubSubError(stanza.BadRequest, "invalid-payload", "an item has one payload, with a namespace")
		}
		it.Payload = string(p.AppendTo(nil, ""))
	}
	if n == 0 {
		return it, PubSubError(stanza.BadRequest, "payload-required", "")
	}
	return it, nil
}
