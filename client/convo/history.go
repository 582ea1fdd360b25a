package convo

import (
	"slices"
	"sort"
	"time"

	"carillon.im/jid"
)

// Positions. A new entry stands where its id says, far behind all older ones,
// so that what turns up later between them finds room, and so that it is behind
// what only the store has; own entries that wait stand behind WaitingPos.
const (
	firstPos = int64(1) << 40
	farStep  = int64(1) << 28
	nearStep = int64(1) << 12
)

// item is an entry in memory: as stored, with what is said about it.
type item struct {
	Entry
	refs []*item // corrections, retractions, reactions, in no order
	// twins are the entries of its sender under its id, nil where there is no other.
	twins *twins
	// stream is the session that an own entry was handed over to; 0: none yet.
	stream  int
	live    int   // the session in which it came as it was sent
	counted bool  // in its thread
	target  bool  // an entry about another: it has found it
	write   int32 // its place in the step's writes, from 1; 0: it has none
}

// refKey names a message as others do: by its sender and an id. The zero JID
// stands for whoever sent it.
// In a room that tells occupants apart the occupant counts, not the nickname,
// which another may have next (XEP-0421).
type refKey struct {
	from     jid.JID
	occupant string // in place of from
	id       string
}

// conversation is one contact's, room's or occupant's.
type conversation struct {
	rec     Record
	items   []*item // by position
	pending []*item // own ones that wait, in the order of writing
	byID    map[EntryID]*item
	byRef   map[refKey]*item
	orphans map[refKey][]*item
	orphan  int // in orphans
	threads map[string]*thread
	more    bool // the store has older entries
	loading bool
	wanted  *Page  // asked for again when the store has answered, or the catch-up is over
	paging  string // the query that pages back; "" for none
	beyond  beyond
	begun   int64 // position of the last entry when the session began; 1 for none
	met     bool  // the catch-up began with something that was known
	chain   *item // the last result of the catch-up that is under way

	lock     lock
	typing   []typing
	states   chatStates
	sync     *catchup // a room's, that is under way
	away     bool     // a room goes on without this device: something may be missing at the end
	topic    string   // of a room, as it said in this session
	exit     Exit     // of a room that put the account out, until it is entered again
	holders  []Holder
	markers  []early // receipts and markers before their message
	notified int64   // position of the newest marker that was sent

	version     uint64
	changed     []EntryID
	changedAll  bool
	isDirty     bool
	recordDirty bool
}

// beyond is how far the way back from an entry, zero for the end, has come
// without meeting another.
type beyond struct {
	from EntryID
	id   string // in the archive
}

// conversation finds or makes a conversation.
func (e *Engine) conversation(j jid.JID, room bool) *conversation {
	if c := e.convs[j]; c != nil {
		return c
	}
	if len(e.convs) >= e.lim.Conversations {
		e.forgetConversation()
	}
	c := e.newConversation(Record{JID: detach(j), Room: room})
	if c.more = e.forgot; c.more {
		// What the store has is older than all that comes; it was there to be read.
		c.rec.Read = firstPos + int64(e.account.LastEntry)*farStep
	}
	if contact, ok := e.contacts[j]; ok {
		c.rec.Name, c.rec.Trusted = contact.Name, contact.Trusted
	}
	if e.catchup != nil && !room {
		c.rec.Base, c.rec.Caught, c.begun = 1, 1, 1 // all of it is behind what was known
	}
	e.saveRecord(c)
	return c
}

func (e *Engine) newConversation(rec Record) *conversation {
	c := &conversation{rec: rec, byID: map[EntryID]*item{}, byRef: map[refKey]*item{}, threads: map[string]*thread{}}
	e.convs[rec.JID] = c
	return c
}

// forgetConversation drops the conversation that was quiet for longest. The
// store keeps it.
func (e *Engine) forgetConversation() {
	var oldest *conversation
	for _, c := range e.convs {
		if len(c.pending) > 0 || c.rec.JID == e.cfg.Account || e.rooms[c.rec.JID] != nil {
			continue
		}
		if oldest == nil || c.rec.Changed.Before(oldest.rec.Changed) ||
			c.rec.Changed.Equal(oldest.rec.Changed) && c.rec.JID.String() < oldest.rec.JID.String() {
			oldest = c
		}
	}
	if oldest == nil {
		return
	}
	for _, it := range oldest.items {
		e.unindex(oldest, it)
	}
	e.forgot = true
	e.total -= len(oldest.items)
	delete(e.convs, oldest.rec.JID)
	e.dirty = slices.DeleteFunc(e.dirty, func(c *conversation) bool { return c == oldest })
}

// touch notes that an entry is to be shown anew; zero: the conversation's line.
func (e *Engine) touch(c *conversation, id EntryID) {
	if !c.isDirty {
		c.isDirty = true
		e.dirty = append(e.dirty, c)
	}
	if id == 0 {
		return
	}
	if len(c.changed) >= 256 {
		c.changedAll, c.changed = true, c.changed[:0]
	}
	if !c.changedAll && !slices.Contains(c.changed, id) {
		c.changed = append(c.changed, id)
	}
}

// save notes that an entry is to be stored and shown anew.
func (e *Engine) save(c *conversation, it *item) {
	e.touch(c, it.ID)
	it.twins.each(func(it *item) { e.touch(c, it.ID) }) // which of them is the first may be another now
	if it.Kind != Text && it.Kind != Claim {
		if of := c.target(it, e.cfg.Account); of != nil {
			e.touch(c, of.ID) // it is shown there
		}
	}
	e.put(c, it)
}

// put writes an entry as it is now, once in a step.
func (e *Engine) put(c *conversation, it *item) {
	if it.write > 0 {
		*e.writes[it.write-1].Entry = EntryWrite{c.rec.JID, it.Entry}
		return
	}
	e.writes = append(e.writes, Write{Entry: &EntryWrite{c.rec.JID, it.Entry}})
	it.write = int32(len(e.writes))
	e.saved = append(e.saved, it)
}

// written ends the step's writes.
func (e *Engine) written() {
	for _, it := range e.saved {
		it.write = 0
	}
	clear(e.saved)
	e.saved, e.writes = e.saved[:0], nil
}

// saveRecord notes that the conversation itself is to be stored.
func (e *Engine) saveRecord(c *conversation) {
	e.touch(c, 0)
	c.recordDirty = true
}

// index returns where an item stands in c.items, by its position.
func (c *conversation) index(pos int64) int {
	// Nearly always the last.
	if n := len(c.items); n > 0 && c.items[n-1].Pos < pos {
		return n
	}
	return sort.Search(len(c.items), func(i int) bool { return c.items[i].Pos >= pos })
}

func (c *conversation) last() *item {
	if len(c.items) == 0 {
		return nil
	}
	return c.items[len(c.items)-1]
}

// append puts a new entry at the end.
func (e *Engine) append(c *conversation, it *item) {
	e.insert(c, len(c.items), it)
	if c.rec.GapNext || c.away && len(c.items) > 1 {
		c.rec.GapNext, it.Gap = false, true
	}
	c.away = false
}

// insert puts an entry at an index, with a position between its neighbours'.
func (e *Engine) insert(c *conversation, at int, it *item) {
	if !c.room(at) {
		e.renumber(c)
	}
	switch {
	case at == len(c.items):
		it.Pos = firstPos + int64(it.ID)*farStep
		if at > 0 && it.Pos <= c.items[at-1].Pos {
			it.Pos = c.items[at-1].Pos + nearStep
		}
	case at == 0:
		it.Pos = c.items[0].Pos - nearStep
	default:
		before, behind := c.items[at-1].Pos, c.items[at].Pos
		it.Pos = before + min((behind-before)/2, nearStep)
	}
	c.items = slices.Insert(c.items, at, it)
	e.total++
}

// insertBefore is insert near what is behind rather than near what is before:
// pages that go back fill a gap from its end.
func (e *Engine) insertBefore(c *conversation, at int, it *item) {
	e.insert(c, at, it)
	if at+1 < len(c.items) {
		behind, before := c.items[at+1].Pos, int64(0)
		if at > 0 {
			before = c.items[at-1].Pos
		}
		it.Pos = behind - min((behind-before)/2, nearStep)
	}
}

// room reports whether there is a position between the neighbours.
func (c *conversation) room(at int) bool {
	switch {
	case at == len(c.items):
		return true
	case at == 0:
		return c.items[0].Pos > 2*nearStep
	}
	return c.items[at].Pos-c.items[at-1].Pos >= 2
}

// renumber spreads the entries evenly from the oldest one on, and moves what
// remembers positions.
func (e *Engine) renumber(c *conversation) {
	n := int64(len(c.items))
	low, high := c.items[0].Pos, firstPos+int64(e.account.LastEntry+1)*farStep
	if !c.more {
		low = max(low, firstPos)
	}
	step := max((high-low)/(n+1), 2)
	old := make([]int64, n)
	for i, it := range c.items {
		old[i] = it.Pos
	}
	for _, pos := range [...]*int64{&c.rec.Read, &c.rec.Displayed, &c.rec.Base, &c.rec.Caught, &c.begun, &c.notified} {
		if i := sort.Search(len(old), func(i int) bool { return old[i] > *pos }); i > 0 {
			*pos = low + int64(i-1)*step
		}
	}
	for _, q := range e.queries {
		if i := sort.Search(len(old), func(i int) bool { return old[i] > q.end }); q.conversation == c.rec.JID && i > 0 {
			q.end = low + int64(i-1)*step
		}
	}
	for i, it := range c.items {
		it.Pos = low + int64(i)*step
		e.put(c, it)
	}
	e.saveRecord(c)
	c.changedAll = true
}

// remove takes an entry out of the order.
func (e *Engine) remove(c *conversation, it *item) {
	if at := c.index(it.Pos); at < len(c.items) && c.items[at] == it {
		c.items = slices.Delete(c.items, at, at+1)
		e.total--
		if it.Gap { // stays where it is
			it.Gap = false
			if at == len(c.items) {
				c.rec.GapNext = true
				e.saveRecord(c)
			} else {
				c.items[at].Gap = true
				e.save(c, c.items[at])
			}
		}
	}
}

// sender is whom others mean when they speak of an entry's sender.
func (c *conversation) sender(from jid.JID) jid.JID {
	if c.rec.Room || c.rec.JID.IsFull() {
		return from
	}
	return from.Bare()
}

// register makes an entry known by its ids, and gives it what was said about it
// before it came.
func (e *Engine) register(c *conversation, it *item) {
	c.byID[it.ID] = it
	if it.Archive.ID != "" {
		e.archived[it.Archive] = place{c, it}
	}
	e.name(c, c.key(it, it.MessageID), it)
	if it.OriginID != it.MessageID {
		e.name(c, c.key(it, it.OriginID), it)
	}
	if c.rec.Room && it.Archive.ID != "" {
		e.name(c, refKey{from: c.rec.JID, id: it.Archive.ID}, it)
	}
}

func (e *Engine) name(c *conversation, k refKey, it *item) {
	if k.id == "" {
		return
	}
	switch have := c.byRef[k]; {
	case have == nil:
		c.byRef[k] = it
	case have != it:
		e.pair(c, have, it)
	}
	if c.orphan == 0 {
		return
	}
	for _, k := range [...]refKey{k, {id: k.id}} {
		waiting := c.orphans[k]
		if waiting == nil {
			continue
		}
		delete(c.orphans, k)
		c.orphan -= len(waiting)
		for _, w := range waiting {
			e.refer(c, w)
		}
	}
}

// unindex makes an entry unknown.
func (e *Engine) unindex(c *conversation, it *item) {
	delete(c.byID, it.ID)
	if it.Archive.ID != "" {
		delete(e.archived, it.Archive)
	}
	if it.Whose != "" {
		delete(e.claims.asked, ArchiveID{e.assigner(c), it.Whose})
	}
	e.unname(c, it)
	it.unpair()
}

// unname takes an entry's names away.
func (e *Engine) unname(c *conversation, it *item) {
	for _, k := range [...]refKey{c.key(it, it.MessageID), c.key(it, it.OriginID), {from: c.rec.JID, id: it.Archive.ID}} {
		if c.byRef[k] == it {
			delete(c.byRef, k)
			if heir := it.twins.heir(); heir != nil && (k.id == heir.MessageID || k.id == heir.OriginID) {
				c.byRef[k] = heir
			}
		}
	}
}

// key is the name by which others know an entry of its sender's.
func (c *conversation) key(it *item, id string) refKey { return c.keyOf(it.From, it.Occupant, id) }

func (c *conversation) keyOf(from jid.JID, occupant, id string) refKey {
	if occupant != "" {
		return refKey{occupant: occupant, id: id}
	}
	return refKey{from: c.sender(from), id: id}
}

// trim keeps the number of entries in memory within the bounds: the oldest go,
// an eighth at a time, and are loaded again from the store when asked for.
func (e *Engine) trim(c *conversation) {
	most := e.lim.Entries
	if e.total > e.lim.Total {
		for _, other := range e.convs {
			if len(other.items) > len(c.items) || len(other.items) == len(c.items) && other.rec.JID.String() < c.rec.JID.String() {
				c = other
			}
		}
		most = min(most, len(c.items)-1)
	}
	if len(c.items) <= most {
		return
	}
	n := len(c.items) - most + most/8
	for _, it := range c.items[:n] {
		e.unindex(c, it)
	}
	c.items = slices.Delete(c.items, 0, n)
	e.total -= n
	c.more, c.changedAll = true, true
	e.touch(c, 0)
}

// shownAt is when an entry moves its conversation up in the list.
func (e *Engine) shownAt(c *conversation, at time.Time) {
	if at.After(c.rec.Changed) {
		c.rec.Changed = at
		e.saveRecord(c)
	}
}
