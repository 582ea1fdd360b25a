package xep

import (
	"time"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// NSDelay is XEP-0203's namespace.
const NSDelay = "urn:xmpp:delay"

// AppendDelay appends <delay/> (XEP-0203 2); from is who held the stanza back,
// zero to leave it out.
func AppendDelay(dst []byte, from jid.JID, stamp time.Time) []byte {
	dst = append(dst, "<delay xmlns='"+NSDelay+"'"...)
	dst = appendOptAttr(dst, "from", from.String())
	dst = AppendDateTime(append(dst, " stamp='"...), stamp)
	return append(dst, "'/>"...)
}

// ParseDelay reads <delay/>; ok is false for another element and for a stamp
// that is none.
func ParseDelay(el xmltree.Element) (from jid.JID, stamp time.Time, ok bool) {
	if !el.Is(NSDelay, "delay") {
		return jid.JID{}, time.Time{}, false
	}
	stamp, err := ParseDateTime(el.Attr("stamp"))
	if err != nil {
		return jid.JID{}, time.Time{}, false
	}
	from, _ = jid.Parse(el.Attr("from"))
	return from, stamp, true
}
