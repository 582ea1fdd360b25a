package xep

import (
	"time"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

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

// ParseForwarded reads <forwarded/> with a message in it, and when that was
// sent, the zero time if nothing is said (XEP-0297 3). Whether the one who
// forwards it may is the caller's to judge. ok is false if there is no message
// or it is malformed.
func ParseForwarded(el xmltree.Element) (st *stanza.Stanza, stamp time.Time, ok bool) {
	if !el.Is(NSForward, "forwarded") {
		return nil, time.Time{}, false
	}
	_, stamp, _ = ParseDelay(el.Child(NSDelay, "delay"))
	inner := el.Child(stanza.NSClient, "message")
	if inner.IsZero() {
		return nil, time.Time{}, false
	}
	st, err := stanza.Parse(inner)
	return st, stamp, err == nil
}
