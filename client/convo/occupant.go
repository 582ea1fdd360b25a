package convo

import (
	"cmp"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Bounds of who is in a room: occupants that are kept, and what is kept of one,
// in bytes. Hats beyond theirs are left out.
const (
	maxOccupants = 2000
	maxHats      = 8
	maxHat       = 128
)

// Occupant is somebody in a room (XEP-0045 5).
type Occupant struct {
	Nick        string
	Role        string   // moderator, participant or visitor
	Affiliation string   // owner, admin or member; "" for none
	JID         jid.JID  // the real address; zero where the room doesn't tell
	Hats        []string // titles (XEP-0317)
	Own         bool
}

// crowd are the occupants of a room, as its presence says.
type crowd struct {
	list map[string]Occupant // by nickname
	more bool                // some are left out
}

// Occupants are those who are in a room now: who can do most first, then by
// name. more says that there are others beyond the bound.
func (e *Engine) Occupants(room jid.JID) (list []Occupant, more bool) {
	c := e.crowds[room]
	if c == nil {
		return nil, false
	}
	list = make([]Occupant, 0, len(c.list))
	for _, o := range c.list {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Occupant) int {
		return cmp.Or(standing(a)-standing(b), strings.Compare(strings.ToLower(a.Nick), strings.ToLower(b.Nick)), strings.Compare(a.Nick, b.Nick))
	})
	return list, c.more
}

// Exit says why the account was put out of a room.
type Exit struct {
	Why    string // ExitKicked and so on; "" where it wasn't
	Reason string // in the words of who did it
}

// The exits (XEP-0045 8.2, 9.1, 9.4, 10.9).
const (
	ExitKicked  = "kicked"
	ExitBanned  = "banned"
	ExitMembers = "members" // it is for members now, or the account no member any more
	ExitClosed  = "closed"
)

// exit notes that, and why, a room has put the account out.
func (e *Engine) exit(st *stanza.Stanza) {
	c := e.convs[st.From.Bare()]
	if c == nil || !c.rec.Room || st.Type != stanza.TypeUnavailable {
		return
	}
	x := st.Child(xep.NSMUCUser, "x")
	own, out := false, Exit{}
	for el := range x.Children() {
		switch {
		case el.Is(xep.NSMUCUser, "destroy"):
			out = Exit{ExitClosed, reasonOf(el.Child(xep.NSMUCUser, "reason").Text())}
		case el.Is(xep.NSMUCUser, "status"):
			own = own || el.Attr("code") == "110"
			if why := map[string]string{"301": ExitBanned, "307": ExitKicked, "321": ExitMembers, "322": ExitMembers}[el.Attr("code")]; why != "" {
				out = Exit{why, reasonOf(x.Child(xep.NSMUCUser, "item").Child(xep.NSMUCUser, "reason").Text())}
			}
		}
	}
	if own && out.Why != "" {
		c.exit = out
		e.touch(c, 0)
	}
}

// standing orders occupants: owners, admins, moderators, members, the others,
// and last those who may only listen.
func standing(o Occupant) int {
	switch {
	case o.Affiliation == "owner":
		return 0
	case o.Affiliation == "admin":
		return 1
	case o.Role == "moderator":
		return 2
	case o.Role == "visitor":
		return 5
	case o.Affiliation == "member":
		return 3
	}
	return 4
}

// entering begins to listen for who is in a room, which tells that before it
// lets the account in (XEP-0045 7.2.2).
func (e *Engine) entering(j jid.JID) {
	if c := e.convs[j]; c != nil && c.exit.Why != "" {
		c.exit = Exit{}
		e.touch(c, 0)
	}
	if len(e.crowds) < e.lim.Conversations || e.crowds[j] != nil {
		e.crowds[j] = &crowd{list: map[string]Occupant{}}
	}
}

// occupant takes an occupant's presence. It gives false for presence that isn't
// one.
func (e *Engine) occupant(st *stanza.Stanza) bool {
	room := st.From.Bare()
	c := e.crowds[room]
	nick := st.From.Resource()
	if c == nil || nick == "" {
		return c != nil
	}
	if st.Type == stanza.TypeUnavailable {
		delete(c.list, strings.Clone(nick))
	} else if _, known := c.list[nick]; !known && len(c.list) >= maxOccupants {
		c.more = true
		return true
	} else {
		o := readOccupant(st)
		c.list[o.Nick] = o
	}
	if conv := e.convs[room]; conv != nil {
		e.touch(conv, 0)
	}
	return true
}

// readOccupant reads an occupant's presence (XEP-0045 7.2.2).
func readOccupant(st *stanza.Stanza) Occupant {
	x := st.Child(xep.NSMUCUser, "x")
	item := x.Child(xep.NSMUCUser, "item")
	o := Occupant{Nick: strings.Clone(st.From.Resource()), Role: knownWord(item.Attr("role")), Affiliation: knownWord(item.Attr("affiliation"))}
	if real, err := jid.Parse(item.Attr("jid")); err == nil {
		o.JID = detach(real)
	}
	for el := range x.Children() {
		o.Own = o.Own || el.Is(xep.NSMUCUser, "status") && el.Attr("code") == "110"
	}
	for el := range st.Child(xep.NSHats, "hats").Children() {
		if title := clip(el.Attr("title"), maxHat); el.Is(xep.NSHats, "hat") && title != "" && len(o.Hats) < maxHats {
			o.Hats = append(o.Hats, title)
		}
	}
	return o
}

// knownWord is a role or affiliation as a constant; "" for any other word, and
// for the word for none.
func knownWord(s string) string {
	for _, w := range [...]string{"owner", "admin", "member", "moderator", "participant", "visitor"} {
		if s == w {
			return w
		}
	}
	return ""
}
