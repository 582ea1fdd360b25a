package xep

import (
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// The namespaces of XEP-0191.
const (
	NSBlocking       = "urn:xmpp:blocking"
	NSBlockingErrors = "urn:xmpp:blocking:errors"
)

// Blocked is the application-specific condition of an error that answers a
// stanza to somebody whom its sender has blocked (XEP-0191 3.3).
const Blocked = "<blocked xmlns='" + NSBlockingErrors + "'/>"

// ParseBlockItems reads the items of <block/> or <unblock/>, each address once.
// An item without an address is bad-request, a malformed one jid-malformed and
// more than maxItems policy-violation.
func ParseBlockItems(el xmltree.Element, maxItems int) ([]jid.JID, error) {
	var items []jid.JID
	seen := map[jid.JID]bool{}
	for c := range el.Children() {
		if !c.Is(NSBlocking, "item") {
			continue
		}
		s := c.Attr("jid")
		if s == "" {
			return nil, badRequest("an item has no address")
		}
		j, err := jid.Parse(s)
		if err != nil {
			return nil, stanza.NewError(stanza.JIDMalformed, "an item's 'jid' is not an address")
		}
		if seen[j] {
			continue
		}
		seen[j] = true
		if items = append(items, j); len(items) > maxItems {
			return nil, stanza.NewError(stanza.PolicyViolation, "too many items")
		}
	}
	return items, nil
}

// AppendBlockItems appends <block/>, <unblock/> or <blocklist/>, whichever
// local names, with its items.
func AppendBlockItems(dst []byte, local string, items []jid.JID) []byte {
	dst = append(append(dst, '<'), local...)
	dst = append(dst, " xmlns='"+NSBlocking+"'"...)
	if len(items) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, j := range items {
		dst = append(appendAttr(append(dst, "<item"...), "jid", j.String()), "/>"...)
	}
	return append(append(append(dst, "</"...), local...), '>')
}
