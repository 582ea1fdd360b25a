package convo

import (
	"slices"

	"carillon.im/jid"
)

// place puts an entry, new or known, where its message says, and reports
// whether it moved. Live messages are at the end; results of the catch-up follow
// one another behind what was known before; pages of older messages are put in
// when they are complete.
func (e *Engine) place(m message, it *item) bool {
	c := m.c
	placed := c.holds(it)
	if m.way != archive {
		if !placed {
			e.append(c, it)
		}
		return !placed
	}
	if m.query != nil && m.query.back {
		m.query.results = append(m.query.results, it)
		return false // settle does it
	}
	switch {
	case placed && !m.strays && (c.chain == nil || c.chain == it || it.Pos > c.chain.Pos):
		e.follows(c, it)
		return false
	case placed: // the archive has it behind what it has just told, or directly behind it
		e.remove(c, it)
	}
	at := len(c.items)
	switch {
	case m.atEnd:
	case c.chain != nil && c.holds(c.chain):
		at = c.index(c.chain.Pos) + 1
	case c.rec.Caught > 0:
		at = c.index(c.rec.Caught + 1)
		for m.query != nil && m.query.Last && at < len(c.items) && c.items[at].Astray && !m.query.has(c.items[at].Archive) {
			at++ // it was kept before the newest page was made, and isn't in it: it is older
		}
	}
	if at == len(c.items) {
		e.append(c, it)
	} else {
		e.insert(c, at, it)
		if c.rec.GapNext {
			c.rec.GapNext, it.Gap = false, true
		}
		if behind := c.items[at+1]; behind.Gap && c.chain == nil {
			// What is missing came before the catch-up: also before its first result.
			behind.Gap, it.Gap = false, true
			e.save(c, behind)
		}
	}
	e.follows(c, it)
	if placed && it.Kind == Claim {
		e.claimed(it)
		e.claimMoved(c, it)
	}
	return true
}

// follows notes the newest result of the catch-up.
func (e *Engine) follows(c *conversation, it *item) {
	if c.chain == nil {
		c.met = it.Pos <= c.begun
	} else if c.chain != it {
		e.together(c, c.chain, it)
	}
	c.chain = it
	if it.Pos > c.rec.Caught {
		c.rec.Caught = it.Pos
		e.saveRecord(c)
	}
}

// holds reports whether an entry has its place already.
func (c *conversation) holds(it *item) bool {
	at := c.index(it.Pos)
	if it.Pos == 0 {
		return false
	}
	return at < len(c.items) && c.items[at] == it
}

// enter makes a new entry known: by its ids, in its thread, with what refers to
// it and what it refers to.
func (e *Engine) enter(c *conversation, it *item) {
	e.register(c, it)
	if it.Kind == Claim {
		if it.Pos != 0 {
			e.claimed(it)
		}
		return
	}
	e.refer(c, it)
	if it.Kind != Text {
		return
	}
	e.early(c, it)
	if it.Pos != 0 {
		e.enterPlaced(c, it)
	}
	e.ownership(c, it)
	e.shownAt(c, it.At)
}

// enterPlaced is what an entry's place decides.
func (e *Engine) enterPlaced(c *conversation, it *item) {
	if it.Kind != Text {
		return
	}
	if it.Own && c.last() == it && it.Pos > c.rec.Read {
		c.rec.Read = it.Pos // who answers has read
		e.saveRecord(c)
	}
	e.threaded(c, it)
}

// settle puts a page of older messages in its place: in the archive's order,
// before the entry from which the page went back.
func (e *Engine) settle(q *query, done QueryDone) {
	c := e.convs[q.conversation]
	if c == nil {
		return
	}
	next := q.anchor
	if next != nil && (next.Astray || slices.Contains(q.results, next)) { // it had no place in the archive when the page was asked for
		next = q.from
	}
	end := q.end
	if n := len(q.results); n > 0 && c.holds(q.results[n-1]) {
		end = max(end, q.results[n-1].Pos)
	}
	if next == nil || !c.holds(next) || q.Before == "" && end > q.end {
		// The end, as it was: what came since and isn't in the page is behind it, or
		// before it where the page ends with what came since.
		next = nil
		for _, it := range c.items[c.index(end+1):] {
			if !slices.Contains(q.results, it) {
				next = it
				break
			}
		}
	}
	if q.anchor == nil && next != nil && next.Gap {
		q.anchor = next // which has taken the mark over
	}
	for _, it := range slices.Backward(q.results) {
		if c.holds(it) && (next == nil || it.Pos < next.Pos) {
			switch {
			case next != nil:
				e.together(c, it, next)
			case q.Before == "": // the archive has nothing behind it: what stands there was kept, and is older
				e.together(c, it, c.last())
			}
			if next == nil {
				c.rec.GapNext = false
			}
			next = it
			continue
		}
		moves := c.holds(it)
		if moves {
			e.remove(c, it)
		}
		at := len(c.items)
		if next != nil {
			at = c.index(next.Pos)
		}
		e.insertBefore(c, at, it)
		if moves {
			e.claimMoved(c, it)
		}
		switch {
		case next != nil && next.Gap:
			next.Gap, it.Gap = false, true
			e.save(c, next)
		case next == nil && c.rec.GapNext:
			c.rec.GapNext, it.Gap = false, true
		}
		next = it
		e.enterPlaced(c, it)
		if it.Kind == Claim {
			e.claimed(it)
		}
		e.save(c, it)
	}
	if done.Complete {
		// The archive has nothing before the page.
		for _, it := range [...]*item{next, q.anchor} {
			if it != nil && it.Gap && c.holds(it) {
				it.Gap = false
				e.save(c, it)
			}
		}
		if next == nil {
			c.rec.GapNext = false
		}
		c.rec.Complete = true
	}
	e.saveRecord(c)
	c.changedAll = true
	e.trim(c)
}

// together takes the marks of missing messages off between two entries of which
// the archive says that one follows the other.
func (e *Engine) together(c *conversation, a, b *item) {
	for i := c.index(b.Pos); i > 0 && c.items[i] != a; i-- {
		if c.items[i].Gap {
			c.items[i].Gap = false
			e.save(c, c.items[i])
		}
	}
}

// intern gives one copy of an address for all entries, which doesn't hold on to
// the stanza that it came in.
func (e *Engine) intern(j jid.JID) jid.JID {
	if have, ok := e.names[j]; ok {
		return have
	}
	if len(e.names) >= 4096 {
		clear(e.names)
	}
	own := detach(j)
	e.names[own] = own
	return own
}

// detach copies an address out of the stanza that it came in.
func detach(j jid.JID) jid.JID {
	var own jid.JID
	text, _ := j.MarshalText()
	if own.UnmarshalText(text) != nil {
		return j
	}
	return own
}
