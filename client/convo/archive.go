package convo

import (
	"carillon.im/jid"
	"carillon.im/xep"
)

// query is an archive query that is under way.
type query struct {
	Query
	conversation jid.JID // of a page back
	back         bool
	anchor       *item // before which a page back goes; nil: the end
	end          int64 // where the end was when it was asked for
	limited      bool  // back only as far as something known
	results      []*item
}

// catchup is what happens between a new session and the moment when nothing
// is missing any more.
type catchup struct {
	streamed bool   // the server sends it by itself (session request)
	query    string // or the engine asks page by page
	live     string // archive id of the newest live message meanwhile
	pages    int
}

func (e *Engine) ask(q *query) {
	q.ID = e.cfg.NewID()
	if len(e.queries) >= maxQueries {
		return
	}
	e.queries[q.ID] = q
	e.do(q.Query)
}

// beginCatchup asks for what was missed: behind the cursor, or the newest page
// of an archive that is new to this device.
func (e *Engine) beginCatchup(streamed bool) {
	behind := e.account.Behind && e.Cursor() != ""
	e.account.Behind = true
	e.catchup = &catchup{streamed: streamed}
	e.record = true
	for _, c := range e.inOrder() {
		c.begun, c.chain = 1, nil
		if last := c.last(); last != nil {
			c.begun = last.Pos
		}
		if !behind {
			e.caughtUpTo(c)
		}
	}
	if !streamed {
		e.nextPage()
	}
}

// caughtUpTo makes the beginning of the session the place behind which the
// catch-up's results go, and marks what an unfinished one has left open.
func (e *Engine) caughtUpTo(c *conversation) {
	if c.rec.Caught > 1 {
		e.markGap(c)
	}
	c.rec.Caught = c.begun
	e.saveRecord(c)
}

func (e *Engine) nextPage() {
	q := &query{Query: Query{By: e.cfg.Account, After: e.Cursor(), Max: e.lim.Page}}
	q.Last = q.After == ""
	e.ask(q)
	e.catchup.query = q.ID
}

// endCatchup closes the catch-up. missing: something between what was known and
// what was sent is not there.
func (e *Engine) endCatchup(missing bool) {
	up := e.catchup
	e.catchup, e.account.Behind = nil, false
	if up.live != "" {
		e.account.Cursors[e.cfg.Account.String()] = up.live
	}
	for _, c := range e.convs {
		if missing {
			e.markGap(c)
		}
		if c.rec.Caught != 0 || missing {
			c.rec.Caught = 0
			e.saveRecord(c)
		}
		c.chain = nil
	}
	e.record = true
	e.resendLost(!missing)
}

// markGap marks that something is missing behind what was known.
func (e *Engine) markGap(c *conversation) {
	if c.rec.Caught <= 1 {
		if len(c.items) > 0 {
			c.rec.Complete = false
		}
		return
	}
	at := c.index(c.rec.Caught + 1)
	if at == len(c.items) {
		c.rec.GapNext = true
		return
	}
	c.items[at].Gap = true
	e.save(c, c.items[at])
}

// synced ends what a session request streams.
func (e *Engine) synced(s xep.Synced) {
	if e.catchup == nil || !e.catchup.streamed || !s.Room.IsZero() {
		return
	}
	if s.Last != "" {
		e.account.Cursors[e.cfg.Account.String()] = clip(s.Last, maxID)
	}
	e.endCatchup(!s.Complete)
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
			e.settle(q, done)
		}
		return
	}
	if e.catchup == nil || e.catchup.query != q.ID {
		return
	}
	if !done.Failed && done.Last != "" {
		e.account.Cursors[e.cfg.Account.String()] = clip(done.Last, maxID)
		e.record = true
	}
	switch {
	case done.Failed && done.Unknown && q.After != "":
		// The archive has forgotten the place: begin with the newest page.
		delete(e.account.Cursors, e.cfg.Account.String())
		for _, c := range e.inOrder() {
			c.chain = nil
			e.caughtUpTo(c)
		}
		e.nextPage()
		e.catchup.pages = -1
	case done.Failed:
		e.catchup.query = "" // tried again in the next session
		e.endCatchup(true)
	case q.Last:
		e.endCatchup(!done.Complete || e.catchup.pages < 0)
	case done.Complete || done.Last == "":
		e.endCatchup(false)
	default:
		e.catchup.pages++
		e.nextPage()
	}
}

// page asks for older messages of a conversation: in the store, then in the
// archive. A conversation that isn't known may be in either.
func (e *Engine) page(p Page) {
	c := e.open(p.Conversation)
	if c == nil || c.paging != "" || c.loading {
		return
	}
	anchor := c.byID[p.Before]
	if anchor == nil && len(c.items) > 0 {
		anchor = c.items[0]
	}
	if p.Newest && c.rec.GapNext {
		anchor = nil
	} else {
		p.Newest = false
	}
	if c.more && !p.Newest && (anchor == nil || anchor == c.items[0] && !anchor.Gap) {
		before := WaitingPos
		if anchor != nil {
			before = anchor.Pos
		}
		c.loading = true
		e.touch(c, 0)
		e.do(LoadHistory{Conversation: c.rec.JID, Before: before, Max: e.lim.Page})
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
		if a := c.items[at].Archive; a.By == q.By {
			q.Before = a.ID
			break
		}
	}
	e.ask(q)
	c.paging = q.ID
	e.touch(c, 0)
}

func anchorPos(it *item) int64 {
	if it == nil {
		return WaitingPos
	}
	return it.Pos
}

// pageable reports whether there is an archive to ask.
func (e *Engine) pageable(c *conversation) bool { return c.rec.Room || e.session.Facts.Archive }

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
}
