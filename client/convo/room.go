package convo

import (
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// roomState is a room that the account is in.
type roomState struct {
	Room
	entered int // the session in which the room said so; 0: none
}

func (r *roomState) fact() RoomFact { return RoomFact{r.Nick, r.RoomFacts} }

// Bounds of what is asked of rooms.
const (
	maxRoomQueries = 4           // catch-ups that ask at once; the others wait
	maxRoomPages   = 20          // of one catch-up; what is behind them is a gap
	maxRoomStream  = 5           // pages that a room tells by itself, which wait until it has told all
	roomSilence    = time.Minute // until a room that was to tell by itself is asked
)

// room notes that the account is in a room or has left it, and begins to catch up
// with what was missed.
func (e *Engine) room(ev Room) {
	ev.JID = ev.JID.Bare()
	old := e.rooms[ev.JID]
	if !ev.Joined {
		delete(e.crowds, ev.JID)
		if old != nil {
			e.leave(old)
		}
		return
	}
	if old == nil && len(e.rooms) >= max(1, e.lim.Conversations/2) {
		return
	}
	e.record = true
	ev.JID, ev.Nick, ev.Occupant = detach(ev.JID), clip(ev.Nick, maxID), clip(ev.Occupant, maxID)
	r := &roomState{Room: ev}
	if old != nil && (old.Archive || !ev.Archive) { // an archive that it has only now is asked
		r.entered = old.entered
	}
	e.rooms[ev.JID] = r
	e.forget(func(r Request) bool { return r.Room == ev.JID })
	c := e.conversation(ev.JID, true)
	if !c.rec.Room { // somebody wrote to it before it was known to be one
		c.rec.Room = true
		e.abandon(c)
	}
	e.touch(c, 0)
	switch {
	case ev.Away:
		r.entered = 0
		e.goesOn(c)
	case e.online && r.entered != e.stream:
		r.entered = e.stream
		e.entered(c, r)
	}
}

// leave forgets that the account is in a room. What is still to be said there isn't.
func (e *Engine) leave(r *roomState) {
	delete(e.rooms, r.JID)
	e.record = true
	c := e.convs[r.JID]
	if c == nil {
		return
	}
	e.goesOn(c)
	for _, it := range c.pending {
		if it.Delivery == Pending && it.stream == 0 {
			it.Delivery, it.Error = Failed, ""
			e.save(c, it)
		}
	}
}

// goesOn notes that a room goes on without this device. A catch-up that is under way
// is taken up when the device is there again.
func (e *Engine) goesOn(c *conversation) {
	c.sync, c.chain, c.away = nil, nil, true
	e.touch(c, 0)
}

// abandon gives up what is open of a catch-up, where nobody is to be asked, and marks
// what is missing.
func (e *Engine) abandon(c *conversation) {
	e.markGap(c, c.rec.Base)
	e.markBehind(c)
	c.rec.Base, c.rec.Caught, c.sync, c.chain = 0, 0, nil, nil
	e.awayGap(c)
	e.saveRecord(c)
}

// awayGap marks that something may be missing at the end.
func (e *Engine) awayGap(c *conversation) {
	if c.away && len(c.items) > 0 {
		c.rec.GapNext = true
		e.saveRecord(c)
	}
	c.away = false
}

// entered catches up with a room that the device has just entered, and says what
// waits to be said there.
func (e *Engine) entered(c *conversation, r *roomState) {
	if !r.Archive && !r.Streamed {
		e.abandon(c)
		e.resendLost([]*conversation{c}, false)
	} else {
		e.catchUpRoom(c, r.Streamed)
	}
	e.sendWaitingIn(c)
}

func (e *Engine) catchUpRoom(c *conversation, streamed bool) {
	c.sync = &catchup{room: c, streamed: streamed, behind: c.rec.Caught != 0, heard: e.now}
	if c.rec.Cursor == "" {
		e.awayGap(c)
	}
	c.away = false // what is behind the cursor comes
	e.begin(c.sync)
	if !streamed {
		e.fromCursor(c)
	}
}

// fromCursor says that what comes follows on the message at the cursor.
func (e *Engine) fromCursor(c *conversation) {
	if p, ok := e.archived[ArchiveID{c.rec.JID, c.rec.Cursor}]; ok && c.chain == nil && c.holds(p.i) {
		c.chain, c.met = p.i, true
	}
}

// inside reports whether something can be said in a conversation: for that of a room,
// or of somebody in it, once the room has let the device in.
func (e *Engine) inside(c *conversation) bool {
	r := e.rooms[c.rec.JID.Bare()]
	return e.online && (r == nil || r.entered == e.stream)
}

// inRooms are the rooms' conversations, in an order that doesn't change from run to
// run.
func (e *Engine) inRooms() []*conversation {
	list := make([]*conversation, 0, len(e.rooms))
	for j := range e.rooms {
		if c := e.convs[j]; c != nil {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *conversation) int { return strings.Compare(a.rec.JID.String(), b.rec.JID.String()) })
	return list
}

// askRooms asks the archives of rooms for what was missed, of a few rooms at once.
func (e *Engine) askRooms() {
	if !e.online {
		return
	}
	list, asked := e.inRooms(), 0
	for _, c := range list {
		if c.sync != nil && c.sync.query != "" {
			asked++
		}
	}
	for _, c := range list {
		up := c.sync
		if up == nil || up.streamed || up.query != "" || e.now.Before(up.again) {
			continue
		}
		if asked++; asked > maxRoomQueries {
			return
		}
		e.askPage(up)
	}
}

// tickRooms asks again, and asks rooms that don't tell what they were to tell.
func (e *Engine) tickRooms() {
	for _, c := range e.inRooms() {
		up, r := c.sync, e.rooms[c.rec.JID]
		if up == nil || !up.streamed || !e.inside(c) || e.now.Sub(up.heard) < roomSilence {
			continue
		}
		if r.Archive {
			e.catchUpRoom(c, false)
		} else {
			e.abandon(c)
		}
	}
	e.askRooms()
}

// RoomSync is what a session request asks to catch up from in a room: behind the
// newest message up to which nothing is missing, or the newest of a room that is new to
// the store. Beyond a bound the newest come, and a gap is left.
func (e *Engine) RoomSync(room jid.JID) *xep.Sync {
	if c := e.convs[room]; c != nil && c.rec.Cursor != "" {
		return &xep.Sync{After: c.rec.Cursor, Max: maxRoomStream * e.lim.Page}
	}
	return &xep.Sync{Max: e.lim.Page}
}

// restoreRoom takes up what the store knows of a room. Stores of before had no cursor:
// it is the newest message with a place in the archive, for a session's messages and
// pages leave no gap behind it that isn't marked.
func (e *Engine) restoreRoom(c *conversation) {
	if f, ok := e.account.Rooms[c.rec.JID.String()]; ok {
		e.rooms[c.rec.JID] = &roomState{Room: Room{JID: c.rec.JID, Nick: f.Nick, Joined: true, RoomFacts: f.RoomFacts}}
	}
	if c.rec.Cursor != "" || c.rec.Caught != 0 {
		return
	}
	for _, it := range slices.Backward(c.items) {
		if it.Archive.By == c.rec.JID {
			c.rec.Cursor = it.Archive.ID
			return
		}
	}
}

// inRoom sorts a message of a room out: its occupant, and whether the own account
// sent it. The room says so by the occupant id; of what is said just now, by the
// nickname; of what was said before, by a real address or not at all, for others may
// have had the nickname then.
func (e *Engine) inRoom(m *message, r *roomState) {
	st := m.st
	if r.Occupants {
		m.occupant = e.internText(clip(st.Child(xep.NSOccupantID, "occupant-id").Attr("id"), maxID))
	}
	switch {
	case m.occupant != "" && r.Occupant != "":
		m.own = m.occupant == r.Occupant
	case m.way == direct && st.Child(xep.NSDelay, "delay").IsZero():
		m.own = st.From.Resource() == r.Nick
	default:
		m.own = realAddress(st).Bare() == e.cfg.Account
	}
}

// realAddress is whom a room's archive says that somebody is, to who may know
// (XEP-0313 6.1.2).
func realAddress(st *stanza.Stanza) jid.JID {
	real, _ := jid.Parse(st.Child(xep.NSMUCUser, "x").Child(xep.NSMUCUser, "item").Attr("jid"))
	return real
}

// known finds an own message that waits for its place, under whatever nickname it was
// written.
func (c *conversation) known(m message, kind Kind) *item {
	if !c.rec.Room || !m.own {
		return nil
	}
	origin := xep.OriginID(m.st)
	for _, it := range c.pending {
		if it.Kind == kind && (origin != "" && it.OriginID == origin || origin == "" && it.MessageID == m.st.ID) {
			return it
		}
	}
	return nil
}

// identify notes whose an entry is as the room says it, by which it is known from
// then on: of an own one the nickname may be another than it was written under.
func (e *Engine) identify(c *conversation, it *item, m message) bool {
	named := it.Occupant == "" && m.occupant != ""
	renamed := it.Own && it.Archive.ID == "" && it.From != m.st.From
	if !c.rec.Room || !named && !renamed {
		return false
	}
	e.unname(c, it)
	it.unpair()
	if it.From = e.intern(m.st.From); named {
		it.Occupant = m.occupant
	}
	e.register(c, it)
	return true
}

// internText gives one copy of a short text for all entries.
func (e *Engine) internText(s string) string {
	if have, ok := e.texts[s]; ok {
		return have
	}
	if len(e.texts) >= 4096 {
		clear(e.texts)
	}
	e.texts[s] = s
	return s
}

// syncedBy is the catch-up that a <synced/> ends; nil for one by somebody else.
func (e *Engine) syncedBy(st *stanza.Stanza, s xep.Synced) *catchup {
	switch {
	case s.Room.IsZero() && e.fromAccount(st):
		return e.catchup
	case !s.Room.IsZero() && st.From == s.Room && e.convs[s.Room] != nil:
		return e.convs[s.Room].sync
	}
	return nil
}

// streams reports whether an archive tells by itself what was missed: the result of
// one that doesn't is forged. The room's own address says it, not an occupant's.
func (e *Engine) streams(st *stanza.Stanza, by jid.JID) bool {
	up := e.catchup
	if by != e.cfg.Account {
		c := e.convs[by]
		if c == nil || c.sync == nil || !st.From.IsBare() {
			return false
		}
		c.sync.heard = e.now
		up = c.sync
	} else if !e.fromAccount(st) {
		return false
	}
	return up != nil && up.streamed
}

// of is the catch-up of a conversation that is under way, nil for none.
func (e *Engine) of(c *conversation) *catchup {
	if c.rec.Room {
		return c.sync
	}
	return e.catchup
}

// archiveOwner is whose archive a catch-up is of.
func (e *Engine) archiveOwner(up *catchup) jid.JID {
	if up.room != nil {
		return up.room.rec.JID
	}
	return e.cfg.Account
}

// covers are the conversations that a catch-up brings messages of.
func (e *Engine) covers(up *catchup) []*conversation {
	if up.room != nil {
		return []*conversation{up.room}
	}
	return slices.DeleteFunc(e.inOrder(), func(c *conversation) bool { return c.rec.Room })
}

// cursor is the id up to which nothing is missing in the archive.
func (e *Engine) cursor(up *catchup) string {
	if up.room != nil {
		return up.room.rec.Cursor
	}
	return e.Cursor()
}

func (e *Engine) setCursor(up *catchup, id string) {
	if up.room != nil {
		up.room.rec.Cursor = id
		e.saveRecord(up.room)
		return
	}
	e.record = true
	if id == "" {
		delete(e.account.Cursors, e.cfg.Account.String())
		return
	}
	e.account.Cursors[e.cfg.Account.String()] = id
}

// upOf is the catch-up that an archive result of a conversation belongs to.
func (e *Engine) upOf(key jid.JID, room bool) *catchup {
	if !room {
		return e.catchup
	}
	if c := e.convs[key]; c != nil {
		return c.sync
	}
	return nil
}

// assignerOf is whose archive keeps a conversation.
func (e *Engine) assignerOf(key jid.JID, room bool) jid.JID {
	if room {
		return key
	}
	return e.cfg.Account
}

// moveRoomCursor moves a room's cursor behind a live message, over no gap.
func (e *Engine) moveRoomCursor(m message) {
	c := m.c
	switch {
	case !m.live || m.archive.ID == "" || !c.rec.Room || !e.inside(c) || c.rec.GapNext:
	case c.sync != nil:
		c.sync.live = m.archive.ID
	case c.rec.Cursor != m.archive.ID:
		c.rec.Cursor = m.archive.ID
		e.saveRecord(c)
	}
}
