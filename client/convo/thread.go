package convo

import (
	"slices"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// thread is a line of a conversation's index of threads. Ids are opaque and
// compared octet for octet, white space and all (NOTES T1): the same value is
// the same thread in chats, rooms and single messages (THR-11, THR-19, THR-21);
// they carry nothing else (THR-30).
type thread struct {
	id          string
	first, last *item
	parent      *item // the oldest entry that names a parent
	count       int
	madeUp      bool
}

// threaded notes an entry that has its place in its thread.
func (e *Engine) threaded(c *conversation, it *item) {
	if c.last() == it {
		e.follow(c, it)
	}
	if it.Thread == "" {
		return
	}
	t := c.threads[it.Thread]
	if t == nil {
		if len(c.threads) >= e.lim.Threads {
			c.forgetThread()
		}
		t = &thread{id: it.Thread, first: it, last: it, madeUp: it.ThreadMadeUp}
		c.threads[it.Thread] = t
	}
	if !it.counted {
		t.count++
		it.counted = true
	}
	t.madeUp = t.madeUp && it.ThreadMadeUp
	if it.Pos < t.first.Pos {
		t.first = it
	}
	if it.Pos > t.last.Pos {
		t.last = it
	}
	if it.Parent != "" && (t.parent == nil || it.Pos < t.parent.Pos) {
		t.parent = it
	}
}

// forgetThread drops the thread that was quiet for longest from the index; its
// messages stay.
func (c *conversation) forgetThread() {
	var oldest *thread
	for _, t := range c.threads {
		if oldest == nil || t.last.Pos < oldest.last.Pos {
			oldest = t
		}
	}
	delete(c.threads, oldest.id)
}

// follow makes the newest message's thread the one that the person's next
// message is in: a message with a new thread begins a new conversation (THR-12).
// Presence, closed windows and the end of a session change nothing (THR-13 would
// allow it; THR-14, THR-15).
func (e *Engine) follow(c *conversation, it *item) {
	if it.Type != stanza.TypeChat && it.Type != stanza.TypeGroupchat || it.Thread == "" || it.Thread == c.rec.Thread {
		return
	}
	c.rec.Thread, c.rec.Parent = it.Thread, it.Parent
	e.saveRecord(c)
}

// makeUp gives a chat message without a thread one (THR-17), the same for all
// until the contact names one (NOTES T3); what the person answers is in it
// (THR-18). Old messages, paged back to, stay as they are.
func (e *Engine) makeUp(m message, it *item) {
	c := m.c
	if it.Kind != Text || it.Type != stanza.TypeChat || m.query != nil && m.query.back {
		return
	}
	if it.Thread != "" {
		if !it.Own && c.rec.MadeUp != "" && it.Thread != c.rec.MadeUp {
			c.rec.MadeUp = ""
			e.saveRecord(c)
		}
		return
	}
	if c.rec.MadeUp == "" {
		if it.Own {
			return // the other device didn't, and nobody answered yet
		}
		c.rec.MadeUp = e.cfg.NewID()
		e.saveRecord(c)
	}
	it.Thread, it.ThreadMadeUp = c.rec.MadeUp, true
}

// parentOf is the thread that another says it branched off from.
func (t *thread) parentOf() string {
	if t.parent == nil || t.parent.Parent == t.id {
		return ""
	}
	return t.parent.Parent
}

// maxDepth bounds how deep threads are shown below one another.
const maxDepth = 32

// threadIndex is the threads of a conversation, live or from its history, as a
// tree: a child behind its parent, as References does for mail (THR-10, THR-20,
// THR-22, THR-24, THR-25, THR-27, THR-29). It hangs on no window (THR-28).
// Parents are what senders wrote: where they go in a circle the thread that
// began first is a root.
func (c *conversation) threadIndex(read int64) []ThreadView {
	order := make([]*thread, 0, len(c.threads))
	for _, t := range c.threads {
		order = append(order, t)
	}
	slices.SortFunc(order, func(a, b *thread) int {
		if n := compare(a.first.Pos, b.first.Pos); n != 0 {
			return n
		}
		return compare(int64(a.first.ID), int64(b.first.ID))
	})
	at := make(map[string]int, len(order))
	for i, t := range order {
		at[t.id] = i
	}
	parents := acyclic(order, at)
	children := make([][]int, len(order))
	var roots []int
	for i, p := range parents {
		if p < 0 {
			roots = append(roots, i)
		} else {
			children[p] = append(children[p], i)
		}
	}
	unread := c.unreadByThread(read)
	list := make([]ThreadView, 0, len(order))
	type step struct{ t, depth int }
	var stack []step
	for _, r := range slices.Backward(roots) {
		stack = append(stack, step{r, 0})
	}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		t := order[s.t]
		v := ThreadView{ID: t.id, Depth: min(s.depth, maxDepth), First: t.first.ID, Last: t.last.ID, Count: t.count, Unread: unread[t.id], At: t.last.At, MadeUp: t.madeUp}
		if p := parents[s.t]; p >= 0 {
			v.Parent = order[p].id
		} else if up := t.parentOf(); up != "" && !contains(at, up) {
			v.Parent = up // it is elsewhere: in older history
		}
		list = append(list, v)
		for _, child := range slices.Backward(children[s.t]) {
			stack = append(stack, step{child, s.depth + 1})
		}
	}
	return list
}

func contains(m map[string]int, k string) bool { _, ok := m[k]; return ok }

// acyclic gives each thread its parent's index, -1 for roots.
func acyclic(order []*thread, at map[string]int) []int {
	parents := make([]int, len(order))
	for i, t := range order {
		parents[i] = -1
		if p, ok := at[t.parentOf()]; ok {
			parents[i] = p
		}
	}
	const fresh, open, done = 0, 1, 2
	state := make([]byte, len(order))
	for i := range order {
		var path []int
		n := i
		for n >= 0 && state[n] == fresh {
			state[n] = open
			path = append(path, n)
			n = parents[n]
		}
		if n >= 0 && state[n] == open { // a circle: cut it at its oldest
			oldest := n
			for k := parents[n]; k != n; k = parents[k] {
				oldest = min(oldest, k)
			}
			parents[oldest] = -1
		}
		for _, k := range path {
			state[k] = done
		}
	}
	return parents
}

// unreadByThread counts the unread messages of each thread.
func (c *conversation) unreadByThread(read int64) map[string]int {
	n := map[string]int{}
	total := 0
	for i := len(c.items) - 1; i >= 0 && c.items[i].Pos > read && total < MaxUnread; i-- {
		if it := c.items[i]; it.Kind == Text && !it.Own {
			n[it.Thread]++
			total++
		}
	}
	return n
}

// writeThread writes <thread/> exactly as it is: no white space is added, none
// is taken away.
func writeThread(w *xmltree.Writer, id, parent string) {
	if id == "" {
		return
	}
	w.Start(stanza.NSClient, "thread").OptAttr("parent", parent).Text(id).End()
}
