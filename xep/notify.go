package xep

import "carillon.im/xmltree"

// NSNotify is XEP-0492's namespace.
const NSNotify = "urn:xmpp:notification-settings:1"

// NotifyWhen is of which messages of a conversation a person wants to be notified
// (XEP-0492 2.1).
type NotifyWhen uint8

// The settings. NotifyDefault is none.
const (
	NotifyDefault NotifyWhen = iota
	NotifyAlways
	NotifyOnMention
	NotifyNever
)

// ParseNotify reads the setting for clients of a category and type, as in "client"
// and "phone", from a bookmark (XEP-0402): the one that names both, or the category,
// or neither (XEP-0492 3).
func ParseNotify(bookmark xmltree.Element, category, typ string) NotifyWhen {
	best, when := -1, NotifyDefault
	for el := range bookmark.Child(NodeBookmarks, "extensions").Child(NSNotify, "notify").Children() {
		setting, known := map[string]NotifyWhen{"always": NotifyAlways, "on-mention": NotifyOnMention, "never": NotifyNever}[el.Local()]
		fits := 0
		switch c, t := el.Attr("identity-category"), el.Attr("identity-type"); {
		case c == category && t == typ:
			fits = 2
		case c == category && t == "":
			fits = 1
		case c != "" || t != "":
			known = false
		}
		if known && el.Space() == NSNotify && fits > best {
			best, when = fits, setting
		}
	}
	return when
}
