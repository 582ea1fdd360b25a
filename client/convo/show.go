package convo

import (
	"slices"
	"strings"

	"carillon.im/jid"
)

// Conversations is the list of conversations, the one that changed last first.
func (e *Engine) Conversations() []Summary {
	list := make([]Summary, 0, len(e.convs))
	for _, c := range e.convs {
		if c.visible() {
			list = append(list, e.summary(c))
		}
	}
	slices.SortFunc(list, func(a, b Summary) int {
		if n := b.Changed.Compare(a.Changed); n != 0 {
			return n
		}
		return strings.Compare(a.JID.String(), b.JID.String())
	})
	return list
}

// visible reports whether there is anything to show.
func (c *conversation) visible() bool {
	return c.rec.Room || !c.rec.Changed.IsZero() || len(c.pending) > 0
}

func (e *Engine) summary(c *conversation) Summary {
	s := Summary{JID: c.rec.JID, Name: c.rec.Name, Room: c.rec.Room, Changed: c.rec.Changed, Version: c.version}
	for i := len(c.items) - 1; i >= 0 && c.items[i].Pos > c.rec.Read && s.Unread < MaxUnread; i-- {
		if it := c.items[i]; it.Kind == Text && !it.Own {
			s.Unread++
		}
	}
	for _, t := range c.typing {
		s.Typing = append(s.Typing, t.from)
	}
	for _, list := range [...][]*item{c.pending, c.items} {
		for _, it := range slices.Backward(list) {
			if it.Kind == Text {
				s.Last = e.entry(c, it)
				return s
			}
		}
	}
	return s
}

// Conversation is one conversation with its newest entries, at most limit of
// them, all that are in memory for zero. ok is false where there is none.
func (e *Engine) Conversation(j jid.JID, limit int) (v View, ok bool) {
	c := e.convs[j]
	if c == nil {
		return View{}, false
	}
	v.Summary = e.summary(c)
	v.Topic, v.Exit = c.topic, c.exit
	if in := e.crowds[j]; in != nil {
		v.People = len(in.list)
	}
	v.Current, v.Paging = c.rec.Thread, c.loading || c.paging != ""
	v.More = c.more || e.online && e.pageable(c) && !c.rec.Complete
	v.GapAtEnd = c.gapAtEnd()
	v.CatchingUp = e.online && e.of(c) != nil && !e.of(c).givenUp()
	if to := e.address(c, "chat"); to != c.rec.JID {
		v.LockedTo = to
	}
	if n := len(c.pending) + len(c.items); limit > 0 {
		v.Entries = make([]Entry, 0, min(n, limit))
	} else {
		v.Entries = make([]Entry, 0, n)
	}
	for _, list := range [...][]*item{c.pending, c.items} {
		for _, it := range slices.Backward(list) {
			n := len(v.Entries)
			if it.Kind != Text {
				// A gap before something that isn't shown is before what is.
				if it.Gap && n > 0 && v.Entries[n-1].Pos < WaitingPos {
					v.Entries[n-1].Gap = true
				}
				continue
			}
			if limit > 0 && n == limit {
				v.More = true
				break
			}
			v.Entries = append(v.Entries, e.entry(c, it))
		}
	}
	slices.Reverse(v.Entries)
	v.Threads = c.threadIndex(c.rec.Read)
	for _, h := range c.heldBy(v.Entries) {
		h.This = h.Resource == e.session.JID.Resource()
		h.Online = h.This && e.online || slices.ContainsFunc(e.devices, func(d Device) bool { return d.Resource == h.Resource && d.Online })
		v.Holders = append(v.Holders, h)
	}
	return v, true
}

// heldBy are the own devices that did something in a conversation, the latest
// first: those that were seen doing it, and those that wrote or took what is shown, for
// they may have done so before this device was there.
func (c *conversation) heldBy(shown []Entry) []Holder {
	holders := slices.Clone(c.holders)
	for _, en := range slices.Backward(shown) {
		if len(holders) >= maxHolders {
			break
		}
		if resource := en.doneBy(); resource != "" && !c.rec.Room && !slices.ContainsFunc(holders, func(h Holder) bool { return h.Resource == resource }) {
			holders = append(holders, Holder{Resource: resource, At: en.At})
		}
	}
	slices.SortStableFunc(holders, func(a, b Holder) int { return b.At.Compare(a.At) })
	return holders
}

// doneBy is the own resource that wrote an entry, or another that took it; "" for neither.
func (en *Entry) doneBy() string {
	switch {
	case en.Own:
		return en.From.Resource()
	case en.Owner == Elsewhere:
		return en.OwnerRes
	}
	return ""
}

// Entry is one entry as it is shown now. ok is false for one that isn't in
// memory, or is never shown by itself.
func (e *Engine) Entry(j jid.JID, id EntryID) (Entry, bool) {
	c := e.convs[j]
	if c == nil || c.byID[id] == nil || c.byID[id].Kind != Text {
		return Entry{}, false
	}
	return e.entry(c, c.byID[id]), true
}

func (e *Engine) entry(c *conversation, it *item) Entry {
	en := c.shown(it)
	if en.Own && en.Pos <= c.rec.Displayed {
		en.Delivered, en.Displayed = true, true
	}
	return en
}

// Devices are the account's other sessions that are known.
func (e *Engine) Devices() []Device { return slices.Clone(e.devices) }

// CatchingUp reports whether something that was missed of the account's conversations
// is still to come; of rooms their Views say it.
func (e *Engine) CatchingUp() bool { return e.catchup != nil && !e.catchup.givenUp() && e.online }

// restore takes a conversation from the store in.
func (e *Engine) restore(s Stored) {
	c := e.newConversation(s.Record)
	c.more = s.More
	e.load(c, s.Entries)
	if c.rec.Room {
		e.restoreRoom(c)
	}
}

// load takes entries from the store in, older ones than those in memory.
func (e *Engine) load(c *conversation, entries []Entry) {
	fresh := make([]*item, 0, len(entries))
	for _, en := range entries {
		if c.byID[en.ID] != nil {
			continue
		}
		it := &item{Entry: en, stream: e.stream}
		if en.Pos >= WaitingPos {
			it.stream = -1 // some earlier session had it, or none
			c.pending = append(c.pending, it)
		} else {
			fresh = append(fresh, it)
		}
	}
	slices.SortFunc(fresh, func(a, b *item) int { return compare(a.Pos, b.Pos) })
	c.items = append(fresh, c.items...)
	e.total += len(fresh)
	if !slices.IsSortedFunc(c.items, func(a, b *item) int { return compare(a.Pos, b.Pos) }) {
		slices.SortFunc(c.items, func(a, b *item) int { return compare(a.Pos, b.Pos) })
	}
	current := c.rec.Thread
	parent := c.rec.Parent
	for _, it := range append(fresh, c.pending...) {
		if c.byID[it.ID] != nil {
			continue
		}
		e.register(c, it)
		if it.Kind == Claim {
			e.claimed(it)
			continue
		}
		e.refer(c, it)
		if it.Kind == Text {
			if it.Pos < WaitingPos {
				e.threaded(c, it)
			}
			e.ownership(c, it)
		}
	}
	c.rec.Thread, c.rec.Parent = current, parent
}
