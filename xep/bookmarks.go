package xep

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// Bookmark is a room that somebody wants to find again (XEP-0402 3).
type Bookmark struct {
	Room           jid.JID // bare
	Nick, Password string  // "" for none
	Autojoin       bool
}

// ParseBookmark reads the payload of a bookmark's item. It gives false for what is no
// bookmark of a room.
func ParseBookmark(id string, el xmltree.Element) (Bookmark, bool) {
	room, err := jid.Parse(strings.Clone(id))
	if err != nil || !room.IsBare() || room.Local() == "" || !el.Is(NodeBookmarks, "conference") {
		return Bookmark{}, false
	}
	b := Bookmark{Room: room, Password: el.Child(NodeBookmarks, "password").Text()}
	if full, err := room.WithResource(el.Child(NodeBookmarks, "nick").Text()); err == nil {
		b.Nick = strings.Clone(full.Resource())
	}
	auto := el.Attr("autojoin")
	b.Autojoin = auto == "true" || auto == "1"
	return b, true
}
