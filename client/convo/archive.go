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
	if e.catchup == nil && !e.account.Behind {
		for _, c := range e.convs {
			c.rec.Caught = 1
			if last := c.last(); last != nil {
				c.rec.Caught = last.Pos
			}
			c.recordDirty = true
			e.touch(c, 0)
		}
	}
	for _, c := range e.convs {
		c.chain = nil
	}
	e.account.Behind = true
	e.catchup = &catchup{streamed: streamed}
	e.record = true
	if !streamed {
		e.nextPage()
	}
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
	e.resendLost()
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
// archive.
func (e *Engine) page(p Page) {
	c := e.convs[p.Conversation]
	if c == nil || c.paging != "" || c.loading {
		return
	}
	anchor := c.byID[p.Before]
	if anchor == nil && len(c.items) > 0 {
		anchor = c.items[0]
	}
	if c.more && (anchor == nil || anchor == c.items[0] && !anchor.Gap) {
		before := pendingPos
		if anchor != nil {
			before = anchor.Pos
		}
		c.loading = true
		e.touch(c, 0)
		e.do(LoadHistory{Conversation: c.rec.JID, Before: before, Max: e.lim.Page})
		return
	}
	if !e.online || !e.pageable(c) || c.rec.Complete && (anchor == nil || !anchor.Gap) {
		return
	}
	by := e.cfg.Account
	q := &query{conversation: c.rec.JID, back: true, anchor: anchor}
	q.Query = Query{By: by, With: c.rec.JID, Last: true, Max: e.lim.Page}
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
		return pendingPos
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
