package convo

import (
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// claims are the claims that are known, and the messages that ask for one. Ids
// are keyed with who assigned them, since a room and the account may give the
// same (NOTES M14), and compared as they are (MINE-42, MINE-43).
type claims struct {
	first map[ArchiveID]*item // the first claim in the archive's order
	order []ArchiveID         // keys of first, the oldest first
	asked map[ArchiveID]place // messages with <whose/>
	sent  map[ArchiveID]bool  // own claims that the server has not given back
}

func newClaims() claims {
	return claims{map[ArchiveID]*item{}, nil, map[ArchiveID]place{}, map[ArchiveID]bool{}}
}

// How long after a message's arrival a glance at it counts, and how long it must
// have been there before its dismissal does (MINE-49).
const (
	glance  = 30 * time.Second
	noticed = 3 * time.Second
)

// assigner is who assigns ownership ids in a conversation.
func (e *Engine) assigner(c *conversation) jid.JID {
	return e.assignerOf(c.rec.JID, c.rec.Room)
}

// mines reports whether claims mean something in a conversation: the server, or
// the room, must say so (MINE-7, NOTES M12).
func (e *Engine) mines(c *conversation) bool {
	if c.rec.Room {
		r := e.rooms[c.rec.JID]
		return r != nil && r.Mine
	}
	return e.session.Facts.Mine
}

// readMine reads <whose/> and <mine/> into an entry.
func (e *Engine) readMine(en *Entry, el xmltree.Element, m message) {
	if en.Kind == Claim {
		if en.Claims == nil {
			en.Claims = xep.ParseClaim(el)
			en.ClaimBy = e.assigner(m.c)
		}
		return
	}
	// A forged one is what a server without the extension lets through.
	if en.Own || en.Whose != "" || !e.mines(m.c) {
		return
	}
	if en.Whose = xep.ParseWhose(el); en.Whose != "" {
		en.Owner = Unclaimed
	}
}

// claimable reports whether a claim counts: from the own account, to itself
// (MINE-51), or in a room from anybody there (NOTES M9).
func (e *Engine) claimable(m message) bool {
	if m.c.rec.Room {
		return m.st.From.IsFull() && e.mines(m.c)
	}
	return m.st.From.Bare() == e.cfg.Account && m.st.To.Bare() == e.cfg.Account
}

// claimed takes a claim, each of its ids by itself (MINE-45); what is none was
// left out (MINE-53). The first in the archive's order owns the message, so all
// devices agree on one (MINE-5, MINE-24, MINE-26, MINE-30); others are ignored
// (MINE-25, MINE-27). Claims of
// messages that aren't here do nothing (MINE-29) until such a message comes.
func (e *Engine) claimed(it *item) {
	for _, id := range it.Claims {
		k := ArchiveID{it.ClaimBy, id}
		delete(e.claims.sent, k)
		have := e.claims.first[k]
		if have == it || have != nil && have.Pos <= it.Pos {
			continue
		}
		p, here := e.claims.asked[k]
		if have == nil && here && !e.precedes(it, p) {
			continue
		}
		if have == nil {
			if len(e.claims.order) >= e.lim.Claims {
				delete(e.claims.first, e.claims.order[0])
				e.claims.order = e.claims.order[1:]
			}
			e.claims.order = append(e.claims.order, k)
		}
		e.claims.first[k] = it
		if here {
			e.own(p.c, p.i, it)
		}
	}
}

// claimMoved looks again at the claims before one that the archive has further back
// than it was: which is the first is a matter of their places.
func (e *Engine) claimMoved(c *conversation, it *item) {
	if it.Kind != Claim {
		return
	}
	for _, before := range c.items[:c.index(it.Pos)] {
		if before.Kind == Claim && slices.ContainsFunc(it.Claims, func(id string) bool { return slices.Contains(before.Claims, id) }) {
			e.claimed(before)
		}
	}
}

// precedes reports whether a claim is the one that a message is owned by, or comes
// before it. One that isn't in memory is older than all that are: the store gives
// the newest first, and an archive is asked for older ones when the store has none.
func (e *Engine) precedes(claim *item, of place) bool {
	by := of.i.OwnerBy
	if by == 0 || by == claim.ID {
		return true
	}
	c := e.convs[e.assigner(of.c)]
	if c == nil {
		return false
	}
	have := c.byID[by]
	return have != nil && claim.Pos < have.Pos
}

// ownership notes a message that asks who takes it, and who has.
func (e *Engine) ownership(c *conversation, it *item) {
	if it.Whose == "" {
		return
	}
	k := ArchiveID{e.assigner(c), it.Whose}
	if _, twice := e.claims.asked[k]; !twice {
		e.claims.asked[k] = place{c, it}
	}
	if first := e.claims.first[k]; first != nil && e.precedes(first, place{c, it}) {
		e.own(c, it, first)
	}
}

// claimAgain repeats claims that the last session may have lost.
func (e *Engine) claimAgain(list []*conversation) {
	for _, c := range list {
		var lost []*item
		for _, it := range c.items {
			if it.Owner == Claiming {
				it.Owner = Unclaimed
				lost = append(lost, it)
			}
		}
		if len(lost) > 0 {
			e.claim(c, lost)
		}
	}
}

// own gives a message to who claimed it: Elsewhere marks it as retracted
// (MINE-28).
func (e *Engine) own(c *conversation, it, claim *item) {
	if it.OwnerBy == claim.ID {
		return
	}
	it.Owner, it.OwnerRes, it.OwnerBy = Elsewhere, claim.From.Resource(), claim.ID
	if e.thisDevice(c, claim) {
		it.Owner, it.OwnerRes = Mine, ""
	}
	e.hold(c, claim.From)
	e.save(c, it)
}

// thisDevice reports whether this device sent a claim, in this session or an
// earlier one.
func (e *Engine) thisDevice(c *conversation, claim *item) bool {
	if c.rec.Room {
		return claim.Own // two sessions with one nick can't be told apart (NOTES M13)
	}
	return slices.Contains(e.account.Own, claim.From)
}

// claim claims messages: one claim for those of one type and thread, with all
// their ids (MINE-21, MINE-44), to who assigned them (MINE-17, MINE-35), without
// a body (MINE-19) and whoever else is online (MINE-46).
func (e *Engine) claim(c *conversation, items []*item) {
	if !e.inside(c) || !e.mines(c) {
		return
	}
	type like struct{ typ, thread string }
	batches := map[like][]string{}
	var order []like
	for _, it := range items {
		k := ArchiveID{e.assigner(c), it.Whose}
		if it.Own || it.Owner != Unclaimed || e.claims.sent[k] || len(e.claims.sent) >= e.lim.Claims {
			continue
		}
		e.claims.sent[k] = true
		it.Owner = Claiming
		e.save(c, it)
		b := like{it.Type, it.Thread}
		if it.ThreadMadeUp {
			b.thread = ""
		}
		if batches[b] == nil {
			order = append(order, b)
		}
		batches[b] = append(batches[b], it.Whose)
	}
	for _, b := range order {
		for ids := range slices.Chunk(batches[b], xep.MaxMineIDs) {
			w := xmltree.NewWriter(nil, stanza.NSClient)
			writeThread(w, b.thread, "")                                                                   // MINE-18
			w.Inner(string(xep.AppendClaim(nil, ids)))                                                     // MINE-22: at least one
			st := stanza.Build(stanza.Message, b.typ, e.cfg.NewID(), jid.JID{}, e.assigner(c), w.String()) // MINE-20
			e.do(Send{Stanza: st})
		}
	}
}

// attend are the messages that an act claims. In rooms only what can be meant
// for nothing else does: whoever reads fastest would take all (MINE-50).
func (e *Engine) attend(c *conversation, a Attention) []*item {
	var candidates []*item
	if len(a.Entries) > 0 {
		for _, id := range a.Entries {
			if it := c.byID[id]; it != nil {
				candidates = append(candidates, it)
			}
		}
	} else {
		for i := len(c.items) - 1; i >= 0 && len(candidates) < MaxUnread && (c.items[i].Pos > c.rec.Read || len(candidates) < 50); i-- {
			candidates = append(candidates, c.items[i])
		}
		slices.Reverse(candidates)
	}
	return slices.DeleteFunc(candidates, func(it *item) bool {
		if it.Kind != Text || it.Owner != Unclaimed {
			return true
		}
		age := e.now.Sub(it.At)
		switch a.Act {
		case OpenedNotification, Accepted:
			return false
		case BeganTyping:
			return c.rec.Room || it.Thread != c.rec.Thread
		case Focused, Unlocked:
			return c.rec.Room || age > glance
		case Dismissed:
			return c.rec.Room || age < noticed
		}
		return true
	})
}
