package caps

import (
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Contacts on other servers come many at a time, mostly with few programs: so one of
// those that name a hash is asked, and all hear what it is. Whoever doesn't answer, or
// not what has the hash, has the next one asked, a few times. A server whose users
// never answer has its few questions open, and the others have theirs.

// Bounds of questions to clients of other servers. Presence beyond them goes
// unnoticed until the next.
const (
	maxQuestions = 256  // open, or waiting to be
	maxOpen      = 32   // of them
	maxDomain    = 4    // of them to one domain
	maxLine      = 32   // of those that wait, of one domain
	maxListeners = 5000 // that wait for an answer
	maxCompany   = 1000 // of them, of one domain
	maxTries     = 3    // of different clients for one hash
)

// outside is the questions to clients of other servers. The cache's mutex guards it.
type outside struct {
	questions map[string]*question // by ver
	line      []*question          // those that wait to be open
	domains   map[string]int       // open ones
	open      int
	company   map[string]int // listeners that wait, by domain
	waiting   int            // all of them
}

// question is what somebody is asked, or will be: the first who waits.
type question struct {
	ver     string
	waiting []waiting
	known   map[who]struct{} // who they are
	tries   int
}

// waiting is a listener with what its presence named.
type waiting struct {
	feature.Listener
	named xep.Caps
}

// who is a listener, which may be the contact of several accounts.
type who struct{ owner, listener jid.JID }

func (q *question) domain() string { return q.waiting[0].JID().Domain() }

// count counts a listener that waits, or no longer.
func (o *outside) count(l feature.Listener, n int) {
	d := l.JID().Domain()
	o.waiting += n
	if o.company[d] += n; o.company[d] == 0 {
		delete(o.company, d)
	}
}

// observeOutside sees available presence of contacts on other servers.
func (c *Cache) observeOutside(l feature.Listener, st *stanza.Stanza) {
	if c.opt.Notify == nil {
		return // nobody else wants to know
	}
	if notify, sure := c.learnOutside(l, capsOf(st)); sure {
		c.opt.Notify(l, notify)
	}
}

// learnOutside is learn for a listener elsewhere.
func (c *Cache) learnOutside(l feature.Listener, named xep.Caps) (notify []string, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, known := c.known.get(named.Ver); known || named.Ver == "" {
		return v.notify, true
	}
	if _, refused := c.refused.get(attempt{l.JID(), named.Ver}); refused {
		return nil, true
	}
	o, domain := &c.outside, l.JID().Domain()
	if c.closed || o.waiting >= maxListeners || o.company[domain] >= maxCompany {
		return nil, false
	}
	q := o.questions[named.Ver]
	if q == nil {
		if len(o.questions) >= maxQuestions || o.inLine(domain) >= maxLine {
			return nil, false
		}
		q = &question{ver: named.Ver, known: map[who]struct{}{}}
		o.questions[named.Ver] = q
		o.line = append(o.line, q)
	}
	w := who{l.Owner().JID(), l.JID()}
	if _, waits := q.known[w]; waits {
		return nil, false
	}
	q.known[w] = struct{}{}
	q.waiting = append(q.waiting, waiting{l, named})
	o.count(l, 1)
	c.next()
	return nil, false
}

// inLine is how many questions to a domain wait.
func (o *outside) inLine(domain string) (n int) {
	for _, q := range o.line {
		if q.domain() == domain {
			n++
		}
	}
	return n
}

// next opens what questions there is room for. mu is held.
func (c *Cache) next() {
	o := &c.outside
	for i := 0; i < len(o.line) && o.open < maxOpen && !c.closed; {
		q := o.line[i]
		if o.domains[q.domain()] >= maxDomain {
			i++
			continue
		}
		o.line = slices.Delete(o.line, i, i+1)
		o.open++
		o.domains[q.domain()]++
		first := q.waiting[0]
		c.wg.Go(func() { c.askOutside(q, first) })
	}
}

// askOutside asks one listener, and tells what it is to all that wait for it.
func (c *Cache) askOutside(q *question, asked waiting) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Timeout)
	v, ok := query(ctx, asked.Listener, asked.named)
	cancel()
	for _, l := range c.answeredOutside(q, asked.JID(), v, ok) {
		c.opt.Notify(l, v.notify)
	}
}

// answeredOutside ends an open question and returns for whom it is answered. Without
// an answer that is whoever was asked, who wants nothing then.
func (c *Cache) answeredOutside(q *question, asked jid.JID, v verified, ok bool) (done []feature.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.outside
	o.open--
	if o.domains[asked.Domain()]--; o.domains[asked.Domain()] == 0 {
		delete(o.domains, asked.Domain())
	}
	if ok {
		c.known.put(q.ver, v)
	} else {
		c.refused.put(attempt{asked, q.ver}, struct{}{})
	}
	q.tries++
	rest := q.waiting[:0]
	for _, l := range q.waiting {
		answered := ok || l.JID() == asked
		if answered {
			done = append(done, l.Listener)
		}
		if answered || q.tries >= maxTries { // who is left is asked at his next presence
			o.count(l, -1)
			delete(q.known, who{l.Owner().JID(), l.JID()})
		} else {
			rest = append(rest, l)
		}
	}
	clear(q.waiting[len(rest):])
	if q.waiting = rest; len(rest) == 0 {
		delete(o.questions, q.ver)
	} else {
		o.line = append(o.line, q)
	}
	c.next()
	if c.closed {
		return nil
	}
	return done
}
