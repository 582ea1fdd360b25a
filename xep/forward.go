package xep

import "carillon.im/stanza"

// NSForward is XEP-0297's namespace.
const NSForward = "urn:xmpp:forward:0"

// AppendStanza appends a stanza, canonical in the context jabber:client, for
// a place that has another default namespace: its start tag gets the
// declaration (XEP-0297 3). The stanza isn't parsed.
func AppendStanza(dst, st []byte) []byte {
	n := 1
	for n < len(st) && 'a' <= st[n] && st[n] <= 'z' { // message, presence, iq
		n++
	}
	dst = append(dst, st[:n]...)
	dst = append(dst, " xmlns='"+stanza.NSClient+"'"...)
	return append(dst, st[n:]...)
}
