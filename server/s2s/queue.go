package s2s

import (
	"fmt"
	"time"

	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// item is a stanza on its way out.
type item struct {
	data []byte // encoded; nil: it was given up, and only keeps its place in the count
	id   uint64 // of the outbox, 0: it is in none
	kind stanza.Kind
	at   time.Time // when it was taken
	ref  trail.Ref // where what becomes of it is noted, 0: nowhere
	load *load     // of its pair
}

// perItem is what a stanza in the queue costs beside its bytes.
const perItem = 96

// load is what a queue holds for one pair, in bytes. By the mu of the queue's way.
type load struct {
	pair  pair
	bytes int
}

// weigh adds n bytes to what an item's pair has in the queue.
func (i *item) weigh(n int) {
	if i.load != nil {
		i.load.bytes += n
	}
}

// stanza reads the item again; nil if it can't be, which nothing in a queue is
// like.
func (i *item) stanza() *stanza.Stanza {
	st, _ := stanza.ParseBytes(i.data, xmltree.Limits{MaxBytes: len(i.data) + 1, MaxDepth: 1 << 14, MaxAttrs: 1 << 16, MaxChildren: 1 << 24, MaxNamespaces: 1 << 20})
	return st
}

// queue is what waits for a domain, and what was sent to it and is not known to
// have come. It differs from sm.Queue in that single stanzas can be given up, and
// in that what it holds outlives streams, resumed or not.
type queue struct {
	list  []item
	sent  int    // of list, from the first on
	acked uint32 // the peer's last h; without acknowledgements, how many left the queue on this stream
}

func (q *queue) push(i item) {
	q.list = append(q.list, i)
	i.weigh(len(i.data) + perItem)
}

// take fills b with stanzas that wait, up to about max bytes.
func (q *queue) take(b []byte, max int) (_ []byte, n int) {
	for q.sent < len(q.list) && len(b) < max {
		b = append(b, q.list[q.sent].data...)
		q.sent++
		n++
	}
	return b, n
}

func (q *queue) waiting() int { return len(q.list) - q.sent }

// done is a message of the outbox that needs to be there no longer.
type done struct {
	id  uint64
	ref trail.Ref
}

// ack drops what h acknowledges and appends the messages of the outbox that were
// among it to list. The error is for an h that was never sent (XEP-0198 4).
func (q *queue) ack(h uint32, list []done) ([]done, error) {
	n := h - q.acked
	if uint64(n) > uint64(q.sent) {
		return list, fmt.Errorf("it acknowledges %d stanzas, %d were sent", h, q.acked+uint32(q.sent))
	}
	for i := range q.list[:n] {
		if id := q.list[i].id; id != 0 {
			list = append(list, done{id, q.list[i].ref})
		}
		q.list[i].weigh(-len(q.list[i].data) - perItem)
		q.list[i] = item{}
	}
	q.list, q.sent, q.acked = q.list[n:], q.sent-int(n), h
	if len(q.list) == 0 {
		q.list = nil
	}
	return list, nil
}

// rewind makes everything that isn't acknowledged wait again, on the same stream
// resumed, or on a new one, whose count begins at 0.
func (q *queue) rewind(resumed bool) {
	kept := q.list[:0]
	for _, i := range q.list {
		if i.data == nil {
			i.weigh(-perItem)
			continue
		}
		kept = append(kept, i)
	}
	clear(q.list[len(kept):])
	q.list, q.sent = kept, 0
	if !resumed {
		q.acked = 0
	}
}

// giveUp takes out those for which out is true, and returns them. One that was
// sent keeps its place in the count.
func (q *queue) giveUp(out func(i *item, sent bool) bool) []item {
	var gone []item
	kept := q.list[:0]
	for n := range q.list {
		i := q.list[n]
		if i.data != nil && out(&i, n < q.sent) {
			gone = append(gone, i)
			i.weigh(-len(i.data))
			if i = (item{load: i.load}); n >= q.sent {
				i.weigh(-perItem)
				continue
			}
		}
		kept = append(kept, i)
	}
	clear(q.list[len(kept):])
	q.list = kept
	return gone
}

// empty reports whether nothing is left to be sent or acknowledged.
func (q *queue) empty() bool {
	for i := range q.list {
		if q.list[i].data != nil {
			return false
		}
	}
	return true
}
