package xep

import (
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSStanzaID is XEP-0359's namespace.
const NSStanzaID = "urn:xmpp:sid:0"

// AppendStanzaID appends <stanza-id/> as given by by (XEP-0359 2.1).
func AppendStanzaID(dst []byte, by jid.JID, id string) []byte {
	dst = append(dst, "<stanza-id xmlns='"+NSStanzaID+"'"...)
	dst = appendAttr(dst, "by", by.String())
	return append(appendAttr(dst, "id", id), "/>"...)
}

// IsStanzaIDBy reports whether el is a <stanza-id/> that claims to be given by
// by: an entity strips these from what it receives before it adds its own
// (XEP-0359 3, rule 2). A 'by' that isn't canonical is the same claim.
func IsStanzaIDBy(el xmltree.Element, by jid.JID) bool {
	if !el.Is(NSStanzaID, "stanza-id") {
		return false
	}
	claim, err := jid.Parse(el.Attr("by"))
	return err == nil && claim == by
}

// OriginID is the id in <origin-id/>, "" where there is none (XEP-0359 2.2).
func OriginID(st *stanza.Stanza) string { return st.Child(NSStanzaID, "origin-id").Attr("id") }
