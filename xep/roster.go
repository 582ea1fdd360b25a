package xep

import (
	"iter"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSRoster is the roster's namespace (RFC 6121 2); RosterVersioning the stream
// feature of RFC 6121 2.6.1, once XEP-0237.
const (
	NSRoster         = "jabber:iq:roster"
	RosterVersioning = "<ver xmlns='urn:xmpp:features:rosterver'/>"
)

// The values of RosterItem.Subscription (RFC 6121 2.1.2.5).
const (
	SubscriptionNone   = "none"
	SubscriptionTo     = "to"
	SubscriptionFrom   = "from"
	SubscriptionBoth   = "both"
	SubscriptionRemove = "remove"
)

// Bounds of what a client may put into an item.
const (
	MaxRosterName   = 1023 // bytes, of a name or a group's name
	MaxRosterGroups = 64
)

// RosterItem is a contact (RFC 6121 2.1.2).
type RosterItem struct {
	JID          jid.JID
	Name         string
	Subscription string
	Ask          bool // ask='subscribe'
	Approved     bool // RFC 6121 3.4
	Groups       []string
}

// RosterVersion is the version in a client's request for its roster; known is
// false where the client doesn't do versioning (RFC 6121 2.6.2).
func RosterVersion(query xmltree.Element) (ver string, known bool) {
	return query.LookupAttr("", "ver")
}

// ParseRosterSet reads the one item of a roster set. Of its subscription only
// "remove" counts: the rest isn't the client's to say (RFC 6121 2.1.5). Errors
// are those of RFC 6121 2.3.3; a roster item for a JID with a resource is
// taken for the bare JID.
func ParseRosterSet(query xmltree.Element) (item RosterItem, err error) {
	n := 0
	var el xmltree.Element
	for c := range query.Children() {
		el = c
		n++
	}
	if n != 1 || !el.Is(NSRoster, "item") {
		return RosterItem{}, badRequest("a roster set has exactly one item")
	}
	s := el.Attr("jid")
	if s == "" {
		return RosterItem{}, badRequest("the item has no address")
	}
	j, err := jid.Parse(s)
	if err != nil {
		return RosterItem{}, stanza.NewError(stanza.JIDMalformed, "the item's 'jid' is not an address")
	}
	item = RosterItem{JID: j.Bare(), Name: el.Attr("name"), Subscription: SubscriptionNone}
	if el.Attr("subscription") == SubscriptionRemove {
		item.Subscription = SubscriptionRemove
		return item, nil
	}
	if len(item.Name) > MaxRosterName {
		return RosterItem{}, stanza.NewError(stanza.NotAcceptable, "the name is too long")
	}
	if item.Groups, err = parseGroups(el); err != nil {
		return RosterItem{}, err
	}
	return item, nil
}

func parseGroups(el xmltree.Element) (groups []string, err error) {
	seen := map[string]bool{}
	for c := range el.Children() {
		if !c.Is(NSRoster, "group") {
			continue
		}
		g := c.Text()
		switch {
		case g == "":
			return nil, stanza.NewError(stanza.NotAcceptable, "a group has no name")
		case len(g) > MaxRosterName:
			return nil, stanza.NewError(stanza.NotAcceptable, "the name of a group is too long")
		case seen[g]:
			return nil, badRequest("a group comes twice")
		case len(groups) == MaxRosterGroups:
			return nil, stanza.NewError(stanza.NotAcceptable, "too many groups")
		}
		seen[g] = true
		groups = append(groups, g)
	}
	return groups, nil
}

// ParseRoster reads a <query/> with items as a server sends it: the version, ""
// for none, and the items with an address, at most max of them; if there are
// more the version is "", as for a roster that must be fetched again.
func ParseRoster(query xmltree.Element, max int) (ver string, items []RosterItem) {
	ver = strings.Clone(query.Attr("ver"))
	for c := range query.Children() {
		j, err := jid.Parse(c.Attr("jid"))
		if !c.Is(NSRoster, "item") || err != nil {
			continue
		}
		if len(items) == max {
			return "", items
		}
		it := RosterItem{JID: j.Bare(), Name: strings.Clone(c.Attr("name")), Subscription: strings.Clone(c.Attr("subscription")), Ask: c.Attr("ask") == "subscribe"}
		if it.Subscription == "" {
			it.Subscription = SubscriptionNone
		}
		it.Approved, _ = ParseBool(c.Attr("approved"))
		for g := range c.Children() {
			if g.Is(NSRoster, "group") && len(it.Groups) < MaxRosterGroups {
				it.Groups = append(it.Groups, strings.Clone(g.Text()))
			}
		}
		items = append(items, it)
	}
	return ver, items
}

// AppendRoster appends a <query/> with items, for an answer or a push; ver ""
// is left out (RFC 6121 2.1.1).
func AppendRoster(dst []byte, ver string, items iter.Seq[RosterItem]) []byte {
	dst = appendOptAttr(append(dst, "<query xmlns='"+NSRoster+"'"...), "ver", ver)
	open := len(dst)
	dst = append(dst, '>')
	for it := range items {
		dst = appendRosterItem(dst, it)
	}
	if len(dst) == open+1 {
		return append(dst[:open], "/>"...)
	}
	return append(dst, "</query>"...)
}

func appendRosterItem(dst []byte, it RosterItem) []byte {
	dst = append(dst, "<item"...)
	if it.Approved {
		dst = append(dst, " approved='true'"...)
	}
	if it.Ask {
		dst = append(dst, " ask='subscribe'"...)
	}
	dst = appendAttr(dst, "jid", it.JID.String())
	dst = appendOptAttr(dst, "name", it.Name)
	dst = appendOptAttr(dst, "subscription", it.Subscription)
	if len(it.Groups) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, g := range it.Groups {
		dst = appendElement(dst, "", "group", g)
	}
	return append(dst, "</item>"...)
}
