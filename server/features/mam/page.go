package mam

import (
	"bytes"
	"context"
	"slices"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/xep"
)

// A page is read, and leaves, in batches, so that its size in memory doesn't
// depend on the page's.
const (
	batchMessages = 64
	// batchBytes of stanzas end a batch, with the stanza that reaches them.
	batchBytes = 64 << 10
	// heldBytes bounds the results that are held because others go first.
	heldBytes = 256 << 10
	// messageGuess is what a result takes mostly, in bytes: the frame and a
	// short message.
	messageGuess = 704
)

// page is one page on its way to the session.
type page struct {
	store   Store
	session feature.SessionRef
	head    xep.MAMResult

	first, last store.ArchiveID // of the page, in archive order; 0 if it is empty
	count       int
	out         [][]byte
	id          [16]byte // room for an id as text
}

// batch is a run of results in archive order.
type batch struct {
	first, last store.ArchiveID
	buf         []byte // the results one behind the other; nil if they are to be read again
	ends        []int  // where in buf each of them ends
}

// send sends the page of at most size messages that q selects, newest first if
// descending (XEP-0313 4.3.4); more reports whether further ones match in the
// direction of paging.
//
// Batches are read in the direction of paging. Where that is also the order of
// sending, each leaves at once. Where it isn't, those that are read last go
// first: the others are held within bounds, and beyond them read again.
func (p *page) send(ctx context.Context, q store.ArchiveQuery, size int, descending bool) (more bool, err error) {
	var held []*batch
	for size > 0 {
		var b *batch
		q.Max, q.Bytes = min(size, batchMessages), batchBytes
		if b, more, err = p.read(ctx, q); err != nil || len(b.ends) == 0 {
			break
		}
		size -= len(b.ends)
		p.note(b)
		if q.Backward == descending {
			err = p.deliver(ctx, b, descending)
		} else {
			held = release(append(held, b))
		}
		if err != nil || !more {
			break
		}
		if q.Backward {
			q.BeforeID = b.first
		} else {
			q.AfterID = b.last
		}
	}
	for _, b := range slices.Backward(held) {
		if err == nil && b.buf == nil {
			again := q
			again.AfterID, again.BeforeID, again.Max, again.Bytes, again.Backward = b.first-1, b.last+1, len(b.ends), 0, false
			b, _, err = p.read(ctx, again)
		}
		if err == nil {
			err = p.deliver(ctx, b, descending)
		}
	}
	return more, err
}

// read makes the results of one query.
func (p *page) read(ctx context.Context, q store.ArchiveQuery) (b *batch, more bool, err error) {
	b = &batch{buf: make([]byte, 0, q.Max*messageGuess), ends: make([]int, 0, q.Max)}
	more, err = p.store.Archive(ctx, q, func(m store.ArchivedMessage) error {
		b.buf = p.head.Append(b.buf, m.ID.Append(p.id[:0]), m.ID.Time(), m.Stanza)
		if b.ends = append(b.ends, len(b.buf)); b.first == 0 {
			b.first = m.ID
		}
		b.last = m.ID
		return nil
	})
	return b, more, err
}

// note counts a batch to the page.
func (p *page) note(b *batch) {
	if p.first == 0 || b.first < p.first {
		p.first = b.first
	}
	p.last = max(p.last, b.last)
	p.count += len(b.ends)
}

// release lets go of results beyond heldBytes, of those that leave last.
func release(held []*batch) []*batch {
	size := 0
	for _, b := range slices.Backward(held) {
		if size += len(b.buf); size > heldBytes && b != held[len(held)-1] {
			b.buf = nil
		}
	}
	return held
}

// deliver hands a batch to the session, and with it the memory.
func (p *page) deliver(ctx context.Context, b *batch, descending bool) error {
	if cap(b.buf) > 2*len(b.buf) {
		b.buf = bytes.Clone(b.buf) // the session may keep it for long
	}
	p.out = p.out[:0]
	start := 0
	for _, end := range b.ends {
		p.out = append(p.out, b.buf[start:end:end])
		start = end
	}
	if descending {
		slices.Reverse(p.out)
	}
	return p.session.SendAll(ctx, p.out)
}
