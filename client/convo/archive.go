package convo

import (
	"hash/fnv"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/xep"
)

// query is an archive query that is under way.
type query struct {
	Query
	conversation jid.JID // of a page back
	back         bool
	anchor       *item     // before which a page back goes; nil: the end
	from         *item     // the nearest to it with a place in the archive, before which the archive was asked; nil: none
	end          int64     // where the end was when it was asked for
	buffer       []message // results, taken when the page is complete
	results      []*item   // entries of a page back
	again        bool      // the newest page, asked for a second time
	empty        int       // pages in a row without an entry, before this one
}

// has reports whether a message is in a page that is complete.
func (q *query) has(id ArchiveID) bool {
	return slices.ContainsFunc(q.buffer, func(m message) bool { return m.archive == id })
}

// catchup is what happens between a new session and the moment when nothing
// is missing any more.
type catchup struct {
	room     *conversation // whose archive it is; nil: the account's
	streamed bool          // the server sends it by itself (session request)
	behind   bool          // one before has not come to its end
	query    string        // or the engine asks page by page
	live     string        // archive id of the newest live message meanwhile
	others   bool          // a live message came meanwhile
	pages    int
	twice    bool      // the newest page is asked for a second time
	tries    int       // pages in a row that failed
	again    time.Time // with no query under way: when the page is asked for again
	overlaps bool      // what is streamed may have been known already
	buffer   []message // and waits until it is complete

	// Of a room's.
	heard time.Time // when the room last told something
}

func (e *Engine) ask(q *query) {
	q.ID = e.cfg.NewID()
	if len(e.queries) >= maxQueries {
		return
	}
	e.queries[q.ID] = q
	e.do(q.Query)
}

// SyncFrom is what a session request asks to catch up from: behind the cursor or,
// for an engine without one, max messages of the whole archive, 0 for all. Never
// what the server takes for this device's cursor, which has moved over what was
// acknowledged, though a catch-up that ended in the middle kept none of it, or the
// history was lost since.
func SyncFrom(cursor string, max int) *xep.Sync {
	if cursor != "" {
		return &xep.Sync{After: cursor}
	}
	return &xep.Sync{Start: time.Unix(0, 0), Max: max}
}

// beginCatchup asks for what was missed: behind the cursor, or the newest page
// of an archive that is new to this device.
func (e *Engine) beginCatchup(streamed bool) {
	e.catchup = &catchup{streamed: streamed, behind: e.account.Behind}
	e.account.Behind = true
	e.record = true
	e.begin(e.catchup)
}

// begin notes where the results of a catch-up go, and asks for the first of them.
func (e *Engine) begin(up *catchup) {
	// What is asked for begins where the last one stopped; what is streamed may
	// leave something out between the two.
	behind := up.behind && e.cursor(up) != "" && !up.streamed
	up.overlaps = up.streamed && (up.behind || e.cursor(up) == "" || up.room != nil) // a room may leave out the first, and says so in the end
	for _, c := range e.covers(up) {
		c.begun, c.chain = 1, nil
		if last := c.last(); last != nil {
			c.begun = last.Pos
		}
		switch {
		case c.rec.Caught == 0: // nothing came since the cursor
			c.rec.Base, c.rec.Caught = c.begun, c.begun
			e.saveRecord(c)
		case !behind:
			e.caughtUpTo(c)
		}
	}
	if !up.streamed {
		e.nextPage(up)
	}
}

// caughtUpTo makes the beginning of the session the place behind which the
// catch-up's results go, and marks what an unfinished one has left open: before
// what it brought and behind it. The cursor is where it was, and so is the base.
func (e *Engine) caughtUpTo(c *conversation) {
	e.markGap(c, c.rec.Base)
	if e.markGap(c, c.rec.Caught); c.rec.Room {
		e.markBehind(c) // what is told by itself need not begin there
	}
	c.rec.Caught = c.begun
	e.saveRecord(c)
}

func (e *Engine) nextPage(up *catchup) {
	if up.query = ""; up.room != nil {
		e.askRooms()
		return
	}
	e.askPage(up)
}

func (e *Engine) askPage(up *catchup) {
	q := &query{Query: Query{By: e.archiveOwner(up), After: e.cursor(up), Max: e.lim.Page}, again: up.twice}
	q.Last = q.After == ""
	if e.ask(q); e.queries[q.ID] != nil {
		up.query, up.twice = q.ID, false
	}
}

// How often a page of a catch-up is asked for again by itself, and how long after
// it has failed: twice as long each time, and a share less, so that those who lost a
// server together don't come back together.
const (
	maxTries   = 8
	firstRest  = 2 * time.Second
	longerRest = 2 * time.Minute
)

// pageFailed lets the catch-up rest. After some tries it rests until somebody asks
// for more or the connection is another; and all the time the next session would go
// on where it is. What failed with the connection is not the archive's fault. A
// room's then leaves a gap, which is shown and paged into.
func (e *Engine) pageFailed(up *catchup, q *query) {
	up.query = ""
	if !e.online {
		return
	}
	if up.tries++; !up.givenUp() {
		up.again = e.now.Add(rest(up.tries, q.ID))
	} else if up.room != nil {
		e.endCatchup(up, stops)
	}
}

// givenUp reports whether no page is asked for any more.
func (up *catchup) givenUp() bool { return up.tries > maxTries }

// rest is how long to wait after a try, the first being 1. There is no randomness
// here; the id of the query is some.
func rest(try int, id string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	whole := min(firstRest<<(try-1), longerRest)
	return whole - time.Duration(h.Sum32()%1000)*whole/2000
}

// goOn tries a catch-up that was given up once more.
func (e *Engine) goOn() {
	if up := e.catchup; up != nil && up.givenUp() && up.query == "" {
		up.tries = maxTries
		e.nextPage(up)
	}
}

// pageAgain asks for the page that failed, when it is time.
func (e *Engine) pageAgain() {
	if up := e.catchup; e.online && up != nil && !up.streamed && up.query == "" && !up.givenUp() && !e.now.Before(up.again) {
		e.nextPage(up)
	}
}

// ending is how a catch-up ends.
type ending uint8

const (
	whole  ending = iota // nothing is missing
	begins               // something is missing before what it brought
	stops                // something is missing behind what it brought
)

// endCatchup closes the catch-up.
func (e *Engine) endCatchup(up *catchup, how ending) {
	if up.room != nil {
		up.room.sync = nil
	} else {
		e.catchup, e.account.Behind, e.record = nil, false, true
	}
	if up.live != "" {
		e.setCursor(up, up.live)
	}
	covered := e.covers(up)
	for _, c := range covered {
		switch how {
		case whole:
			if up.room != nil && c.chain != nil && c.chain == c.last() {
				c.rec.GapNext = false
			}
		case begins:
			if c.chain == nil || !c.met {
				e.markGap(c, c.begun)
			}
		case stops:
			e.markBehind(c)
		}
		if c.rec.Caught != 0 {
			c.rec.Base, c.rec.Caught = 0, 0
			e.saveRecord(c)
		}
		c.chain = nil
	}
	e.resendLost(covered, how == whole)
	for _, c := range covered {
		e.pageWanted(c)
	}
}

// pageWanted asks for the page that had to wait.
func (e *Engine) pageWanted(c *conversation) {
	if p := c.wanted; p != nil {
		c.wanted = nil
		e.page(*p)
	}
}

// markBehind marks what may be missing behind what a catch-up has brought: before and
// behind all that came live meanwhile, which may have been in several sessions.
func (e *Engine) markBehind(c *conversation) {
	e.markGap(c, c.rec.Caught)
	if c.rec.Caught == 0 {
		return
	}
	live := 0 // the session of the one before; 0: not known
	for _, it := range c.items[c.index(c.rec.Caught+1):] {
		if !it.Gap && (live == 0 || it.live != live) {
			it.Gap = true
			e.save(c, it)
		}
		live = it.live
	}
	if last := c.last(); last != nil && last.Pos > c.rec.Caught && last.live != e.stream {
		e.markGap(c, last.Pos)
	}
}

// markGap marks that something is missing behind a position.
func (e *Engine) markGap(c *conversation, pos int64) {
	if pos <= 1 {
		if pos == 1 && c.rec.Complete { // it was, before something came
			c.rec.Complete = false
			e.saveRecord(c)
		}
		return
	}
	at := c.index(pos + 1)
	if at == len(c.items) {
		c.rec.GapNext = true
		e.saveRecord(c)
		return
	}
	if !c.items[at].Gap {
		c.items[at].Gap = true
		e.save(c, c.items[at])
	}
}

// synced ends what a session request streams.
func (e *Engine) synced(up *catchup, s xep.Synced) {
	if up == nil || !up.streamed {
		return
	}
	if up.room != nil && s.Complete {
		e.fromCursor(up.room)
	}
	for _, m := range up.buffer {
		e.message(m)
	}
	if last := clip(s.Last, maxID); last != "" {
		e.setCursor(up, last)
	}
	if s.Complete {
		e.endCatchup(up, whole)
	} else {
		e.endCatchup(up, begins)
	}
}

// queryDone closes a query, and goes on with the next page of a catch-up.
func (e *Engine) queryDone(done QueryDone) {
	q := e.queries[done.Query]
	if q == nil {
		return
	}
	delete(e.queries, done.Query)
	if q.back {
		if c := e.convs[q.conversation]; c != nil && c.paging == q.ID {
			c.paging = ""
			e.touch(c, 0)
		}
		if !done.Failed {
			for _, m := range q.buffer {
				e.message(m)
			}
			e.settle(q, done)
			e.further(q, done)
		}
		return
	}
	up := e.catchup
	if c := e.convs[q.By]; c != nil && c.rec.Room {
		up = c.sync
	}
	if up == nil || up.query != q.ID {
		return
	}
	e.pageDone(up, q, done)
	if up.room != nil {
		e.askRooms() // it was another's turn
	}
}

// pageDone goes on behind a page of a catch-up.
func (e *Engine) pageDone(up *catchup, q *query, done QueryDone) {
	if !done.Failed {
		up.tries = 0
	}
	if !done.Failed && q.Last && !e.newest(up, q) {
		return
	}
	if last := clip(done.Last, maxID); !done.Failed && last != "" {
		e.setCursor(up, last)
	}
	switch {
	case done.Failed && done.Unknown && q.After != "":
		// The archive has forgotten the place: begin with the newest page.
		e.setCursor(up, "")
		for _, c := range e.covers(up) {
			c.chain = nil
			e.caughtUpTo(c)
		}
		up.pages = -1
		e.nextPage(up)
	case done.Failed:
		e.pageFailed(up, q)
	case q.Last && (!done.Complete || up.pages < 0):
		e.endCatchup(up, begins)
	case q.Last || done.Complete || done.Last == "":
		e.endCatchup(up, whole)
	case done.Last == q.After:
		e.endCatchup(up, stops) // it gives the same again, and would for ever
	case up.room != nil && up.pages+1 >= maxRoomPages:
		e.endCatchup(up, stops)
	default:
		up.pages++
		e.nextPage(up)
	}
}

// maxEmpty bounds the pages without an entry that one Page goes through.
const maxEmpty = 20

// further goes on behind a page that had no entry, as one of receipts has none:
// there is nothing in it from which the next could go back.
func (e *Engine) further(q *query, done QueryDone) {
	c := e.convs[q.conversation]
	if c == nil {
		return
	}
	c.beyond = beyond{}
	if len(q.results) > 0 || done.Complete || done.First == "" || done.First == q.Before {
		return
	}
	from := EntryID(0)
	if q.anchor != nil {
		from = q.anchor.ID
	}
	c.beyond = beyond{from, clip(done.First, maxID)}
	if q.empty+1 < maxEmpty && e.online {
		next := &query{Query: q.Query, conversation: q.conversation, back: true, anchor: q.anchor, from: q.from, end: q.end, empty: q.empty + 1}
		next.Before = c.beyond.id
		e.askBack(c, next)
	}
}

func (e *Engine) askBack(c *conversation, q *query) {
	if e.ask(q); e.queries[q.ID] != nil {
		c.paging = q.ID
		e.touch(c, 0)
	}
}

// newest takes the newest page of an archive in, and reports false if it had to
// be asked for once more. Live messages came meanwhile: if the page has one of
// them, what is before it is older than they are, and what is behind it newer.
// If it has none they may have come after the page was made; one made now that
// has none either is newer than all of them.
func (e *Engine) newest(up *catchup, q *query) bool {
	meets := -1
	for i, m := range q.buffer {
		if p, ok := e.archived[m.archive]; ok && p.i.live == e.stream {
			meets = i
			break
		}
	}
	if up.others && meets < 0 && !q.again {
		up.twice = true
		e.nextPage(up)
		return false
	}
	for i, m := range q.buffer {
		m.atEnd = up.others && (meets < 0 || i > meets)
		e.message(m)
	}
	return true
}

// page asks for older messages of a conversation: in the store, then in the
// archive. A conversation that isn't known may be in either.
func (e *Engine) page(p Page) {
	c := e.open(p.Conversation)
	if c == nil || c.paging != "" || c.loading {
		return
	}
	anchor := c.byID[p.Before]
	if anchor != nil && anchor.Pos >= WaitingPos { // before what waits is the end
		anchor, p.Newest = nil, true
	}
	if anchor == nil && len(c.items) > 0 {
		anchor = c.items[0]
	}
	asked, newest := p, p.Newest
	if p.Newest = newest && c.rec.GapNext; p.Newest {
		anchor = nil
	} else if newest && c.gapAtEnd() {
		anchor = c.gapped(len(c.items))
	} else if anchor != nil {
		if g := c.gapped(c.index(anchor.Pos) + 1); g != nil {
			anchor = g
		}
	}
	gap := p.Newest || anchor != nil && anchor.Gap
	if c.more && (!gap && (anchor == nil || anchor == c.items[0]) || gap && !c.meets(anchor, e.lim.Page)) {
		// Also before a gap is closed: what its page meets must be known again.
		before := WaitingPos
		if len(c.items) > 0 {
			before = c.items[0].Pos
		}
		c.loading = true
		if gap {
			c.wanted = &asked
		}
		e.touch(c, 0)
		e.do(LoadHistory{Conversation: c.rec.JID, Before: before, Max: e.lim.Page})
		return
	}
	if anchor == nil && e.of(c) != nil && e.online {
		// The end is about to come by itself; what is there then can be told apart.
		if c.wanted = &asked; !c.rec.Room {
			e.goOn()
		}
		return
	}
	if !e.online || !e.pageable(c) || c.rec.Complete && !p.Newest && (anchor == nil || !anchor.Gap) {
		return
	}
	by := e.cfg.Account
	q := &query{conversation: c.rec.JID, back: true, anchor: anchor}
	q.Query = Query{By: by, With: c.rec.JID, Last: true, Max: e.lim.Page}
	if last := c.last(); last != nil {
		q.end = last.Pos
	}
	if c.rec.Room {
		q.By, q.With = c.rec.JID, jid.JID{}
	}
	// From the nearest entry that has a place in this archive.
	for at := c.index(anchorPos(anchor)); at < len(c.items); at++ {
		if it := c.items[at]; it.Archive.By == q.By && !it.Astray {
			q.Before, q.from = it.Archive.ID, it
			break
		}
	}
	if b := c.beyond; b.id != "" && (anchor == nil && b.from == 0 || anchor != nil && b.from == anchor.ID) {
		q.Before = b.id
	}
	e.askBack(c, q)
}

// meets reports whether all is in memory that a page of the archive from before an
// entry can bring again. Entries without a place in it don't count: theirs may be
// farther back than where they stand. More of them than can wait at once come from
// a time without an archive.
func (c *conversation) meets(anchor *item, page int) bool {
	end := c.index(anchorPos(anchor))
	for i := end - 1; i >= 0 && page > 0 && end-i <= maxWaiting; i-- {
		if it := c.items[i]; it.Archive.ID != "" && !it.Astray {
			page--
		}
	}
	return page == 0 || end > maxWaiting
}

// gapped finds the entry with a gap that the shown one before an index stands
// for: itself, or one between it and the shown one before, which nobody sees.
func (c *conversation) gapped(end int) *item {
	for i := end - 1; i >= 0 && (i == end-1 || c.items[i].Kind != Text); i-- {
		if c.items[i].Gap {
			return c.items[i]
		}
	}
	return nil
}

// gapAtEnd reports whether something may be missing behind the last entry shown.
func (c *conversation) gapAtEnd() bool {
	if c.rec.GapNext || c.away && len(c.items) > 0 {
		return true
	}
	for i := len(c.items) - 1; i >= 0 && c.items[i].Kind != Text; i-- {
		if c.items[i].Gap {
			return true
		}
	}
	return false
}

func anchorPos(it *item) int64 {
	if it == nil {
		return WaitingPos
	}
	return it.Pos
}

// pageable reports whether there is an archive to ask.
func (e *Engine) pageable(c *conversation) bool {
	if c.rec.Room {
		r := e.rooms[c.rec.JID]
		return r != nil && r.Archive && e.inside(c)
	}
	return e.session.Facts.Archive
}

// historyLoaded takes older entries from the store in.
func (e *Engine) historyLoaded(h HistoryLoaded) {
	c := e.convs[h.Conversation]
	if c == nil || !c.loading {
		return
	}
	c.loading, c.more = false, h.More
	e.load(c, h.Entries)
	c.changedAll = true
	e.touch(c, 0)
	e.pageWanted(c)
}
