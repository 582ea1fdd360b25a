package caps

import (
	"container/list"
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/xep"
)

// bounds are of the questions to listeners of one kind. Presence beyond them goes
// unnoticed until the next.
type bounds struct {
	listeners int // that wait for an answer
	company   int // of them, of one domain
	questions int // that are asked, or will be
	line      int // of those that will be, of one domain
	open      int // listeners that are asked
	domain    int // of them, of one domain
	each      int // of them, for one hash
	tries     int // of different clients for one hash
}

// forOthers bounds the questions to clients of other servers: a server whose users
// never answer has its few questions open, and the others have theirs.
func forOthers() bounds {
	return bounds{listeners: 5000, company: 1000, questions: 256, line: 32, open: 32, domain: 4, each: 1, tries: 3}
}

// forSessions bounds the questions to sessions. Those who wait are the only bound for
// most of it: in the end each session is asked or has its answer.
func forSessions(open int) bounds {
	const most = 20_000
	return bounds{listeners: most, company: most, questions: most, line: most, open: open, domain: open, each: 8, tries: most}
}

// desk is the questions to listeners of one kind. The cache's mutex guards it.
type desk struct {
	max       bounds
	waiting   map[who]*waiting
	company   map[string]int       // how many of them, by domain
	questions map[string]*question // by ver
	line      []*question          // the same, in the order in which they are asked
	asked     map[jid.JID]struct{} // listeners that are asked, one question at a time
	domains   map[string]int       // how many of them, by domain
}

// question is for the capabilities that have a hash.
type question struct {
	ver     string
	waiting *list.List // of *waiting, in the order of their coming
	open    int        // how many are asked
	tries   int        // how many were asked in vain
}

// waiting is a listener that waits for what it named last.
type waiting struct {
	feature.Listener
	who      who
	named    xep.Caps
	question *question
	place    *list.Element // in the question's list
}

// who is a listener, which may be the contact of several accounts. A session has no
// owner here.
type who struct{ owner, listener jid.JID }

func newDesk(b bounds) desk {
	return desk{max: b, waiting: map[who]*waiting{}, company: map[string]int{}, questions: map[string]*question{},
		asked: map[jid.JID]struct{}{}, domains: map[string]int{}}
}

// count adds n to what a domain has in m, which keeps none that has nothing.
func count(m map[string]int, domain string, n int) {
	if m[domain] += n; m[domain] == 0 {
		delete(m, domain)
	}
}

// join lets a listener wait for what it named, if there is room.
func (d *desk) join(w *waiting) {
	domain := w.who.listener.Domain()
	if len(d.waiting) >= d.max.listeners || d.company[domain] >= d.max.company {
		return
	}
	q := d.questions[w.named.Ver]
	if q == nil {
		if len(d.questions) >= d.max.questions || len(d.line) >= d.max.line && d.inLine(domain) >= d.max.line {
			return
		}
		q = &question{ver: w.named.Ver, waiting: list.New()}
		d.questions[q.ver] = q
		d.line = append(d.line, q)
	}
	w.question, w.place = q, q.waiting.PushBack(w)
	d.waiting[w.who] = w
	count(d.company, domain, 1)
}

// leave ends a listener's waiting.
func (d *desk) leave(w *waiting) {
	w.question.waiting.Remove(w.place)
	delete(d.waiting, w.who)
	count(d.company, w.who.listener.Domain(), -1)
	d.forget(w.question)
}

// forget drops a question for which nobody waits and nobody is asked.
func (d *desk) forget(q *question) {
	if q.waiting.Len() == 0 && q.open == 0 {
		delete(d.questions, q.ver)
		d.line = slices.DeleteFunc(d.line, func(o *question) bool { return o == q })
	}
}

// all ends the waiting of all who named a hash, and returns them.
func (d *desk) all(ver string) (done []feature.Listener) {
	for q := d.questions[ver]; q != nil && q.waiting.Len() > 0; {
		w := q.waiting.Front().Value.(*waiting)
		done = append(done, w.Listener)
		d.leave(w)
	}
	return done
}

// failed ends the waiting of who was asked in vain, and returns him, as often as he is
// somebody's contact. After some tries it ends that of the others too, who are asked
// at their next presence.
func (d *desk) failed(q *question, asked jid.JID) (done []feature.Listener) {
	q.tries++
	for el := q.waiting.Front(); el != nil; {
		w := el.Value.(*waiting)
		el = el.Next()
		if w.who.listener == asked {
			done = append(done, w.Listener)
		}
		if w.who.listener == asked || q.tries >= d.max.tries {
			d.leave(w)
		}
	}
	if i := slices.Index(d.line, q); i >= 0 { // behind the others
		d.line = append(slices.Delete(d.line, i, i+1), q)
	}
	return done
}

// inLine is how many questions to a domain will be asked.
func (d *desk) inLine(domain string) (n int) {
	for _, q := range d.line {
		if q.open == 0 && q.waiting.Front().Value.(*waiting).who.listener.Domain() == domain {
			n++
		}
	}
	return n
}

// next is who is to be asked, nil if nobody is now.
func (d *desk) next() *waiting {
	if len(d.asked) >= d.max.open {
		return nil
	}
	for _, q := range d.line {
		if q.open >= d.max.each {
			continue
		}
		if w := d.first(q); w != nil && d.domains[w.who.listener.Domain()] < d.max.domain {
			return w
		}
	}
	return nil
}

// first is the first who waits and isn't asked anything, nil if there is none.
func (d *desk) first(q *question) *waiting {
	for el := q.waiting.Front(); el != nil; el = el.Next() {
		w := el.Value.(*waiting)
		if _, busy := d.asked[w.who.listener]; !busy {
			return w
		}
	}
	return nil
}

// learn finds what a listener is by what its presence names; sure is false if that
// isn't known, or not yet.
func (c *Cache) learn(d *desk, w who, l feature.Listener, named xep.Caps) (notify []string, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := d.waiting[w]; was != nil {
		if was.named.Ver == named.Ver {
			was.Listener, was.named = l, named
			return nil, false
		}
		d.leave(was) // what it names last counts
	}
	if v, known := c.known.get(named.Ver); known || named.Ver == "" {
		return v.notify, true
	}
	if _, refused := c.refused.get(attempt{w.listener, named.Ver}); refused {
		return nil, true
	}
	if !c.closed {
		d.join(&waiting{Listener: l, who: w, named: named})
		c.askNext(d)
	}
	return nil, false
}

// askNext opens what questions there is room for. mu is held.
func (c *Cache) askNext(d *desk) {
	for w := d.next(); w != nil && !c.closed; w = d.next() {
		w.question.open++
		d.asked[w.who.listener] = struct{}{}
		count(d.domains, w.who.listener.Domain(), 1)
		q, l, named := w.question, w.Listener, w.named
		c.wg.Go(func() { c.ask(d, q, l, named) })
	}
}

// ask asks one listener, and tells what it is to all that wait for it.
func (c *Cache) ask(d *desk, q *question, l feature.Listener, named xep.Caps) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Timeout)
	v, ok := query(ctx, l, named)
	cancel()
	for _, l := range c.answered(d, q, l.JID(), v, ok) {
		if c.opt.Notify != nil {
			c.opt.Notify(l, v.notify)
		}
	}
}

// answered ends an open question and returns for whom it is answered. Without an
// answer that is whoever was asked, who wants nothing then.
func (c *Cache) answered(d *desk, q *question, asked jid.JID, v verified, ok bool) (done []feature.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q.open--
	delete(d.asked, asked)
	count(d.domains, asked.Domain(), -1)
	switch {
	case c.closed:
		return nil
	case ok:
		c.known.put(q.ver, v)
		done = append(c.own.all(q.ver), c.outside.all(q.ver)...)
	default:
		c.refused.put(attempt{asked, q.ver}, struct{}{})
		done = d.failed(q, asked)
	}
	d.forget(q)
	c.askNext(d)
	return done
}
