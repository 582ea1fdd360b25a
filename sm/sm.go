// Package sm is the arithmetic of stream management (XEP-0198): what was sent
// and not acknowledged, what was received and is handled, and what a resumption
// has to send again. Both sides of a stream use it.
//
// Counters are the specification's, modulo 2^32 (XEP-0198 4). Nothing here
// locks: a Queue and an Inbound belong to whoever guards them.
package sm

import "fmt"

// NS is the namespace of stream management.
const NS = "urn:xmpp:sm:3"

// Queue is a stream's outgoing side: stanzas that wait to be sent, and, once
// acknowledgements are enabled, those that were sent and are not acknowledged.
// T is what the owner wants to know of an entry when it leaves. The owner
// bounds it by Bytes.
type Queue[T any] struct {
	entries []Entry[T] // from head on: sent ones, then waiting ones
	head    int
	sent    int    // of the entries from head on, how many were sent
	acked   uint32 // the peer's last h
	bytes   int
	enabled bool
}

// Entry is one stanza, encoded.
type Entry[T any] struct {
	Data []byte // shared with other queues: never written to
	Tag  T
}

// keepEntries is how long an array an empty queue keeps.
const keepEntries = 4

// NewQueue is a queue with acknowledgements as it was when somebody asked it for
// Acked, Unacked and Entries, in that order. It keeps entries.
func NewQueue[T any](acked uint32, sent int, entries []Entry[T]) Queue[T] {
	q := Queue[T]{entries: entries, sent: sent, acked: acked, enabled: true}
	for _, e := range entries {
		q.bytes += len(e.Data)
	}
	return q
}

// Push puts a stanza at the end.
func (q *Queue[T]) Push(e Entry[T]) {
	// Only when half of the array is free: moving costs no more than what it
	// saves, however long the queue is.
	if len(q.entries) == cap(q.entries) && q.head > len(q.entries)/2 {
		q.compact()
	}
	q.entries = append(q.entries, e)
	q.bytes += len(e.Data)
}

// compact moves the live entries to the front, so that the array is reused.
func (q *Queue[T]) compact() {
	n := copy(q.entries, q.entries[q.head:])
	clear(q.entries[n:])
	q.entries, q.head = q.entries[:n], 0
}

// Enable starts counting: what is taken from now on waits for its
// acknowledgement (XEP-0198 3).
func (q *Queue[T]) Enable() { q.enabled = true }

// Enabled reports whether acknowledgements are on.
func (q *Queue[T]) Enabled() bool { return q.enabled }

// Take marks the next waiting stanza as sent and returns it. Without
// acknowledgements it leaves the queue.
func (q *Queue[T]) Take() (Entry[T], bool) {
	if q.Waiting() == 0 {
		return Entry[T]{}, false
	}
	e := q.entries[q.head+q.sent]
	if q.enabled {
		q.sent++
	} else {
		q.drop(1, nil)
	}
	return e, true
}

// Waiting is how many stanzas were not sent yet.
func (q *Queue[T]) Waiting() int { return len(q.entries) - q.head - q.sent }

// Unacked is how many stanzas were sent and not acknowledged.
func (q *Queue[T]) Unacked() int { return q.sent }

// Acked is the peer's last h.
func (q *Queue[T]) Acked() uint32 { return q.acked }

// Entries are the stanzas in the queue, oldest first, of which the first Unacked
// were sent. The caller doesn't change the list, and is done with it before the
// queue changes.
func (q *Queue[T]) Entries() []Entry[T] { return q.entries[q.head:] }

// Bytes is the size of all that the queue holds.
func (q *Queue[T]) Bytes() int { return q.bytes }

// TooHighError is an acknowledgement of more than was sent (XEP-0198 4).
type TooHighError struct{ H, SendCount uint32 }

// Error makes *TooHighError a Go error.
func (e *TooHighError) Error() string {
	return fmt.Sprintf("stream management: peer acknowledged %d stanzas, only %d were sent", e.H, e.SendCount)
}

// Ack drops what h acknowledges and calls gone, if not nil, for each stanza
// dropped, oldest first. The error is a *TooHighError; nothing changes then.
func (q *Queue[T]) Ack(h uint32, gone func(T)) error {
	if err := q.Check(h); err != nil {
		return err
	}
	n := int(h - q.acked) // modulo 2^32
	q.acked = h
	q.sent -= n
	q.drop(n, gone)
	return nil
}

// Check is the error that Ack would give for h.
func (q *Queue[T]) Check(h uint32) error {
	if h-q.acked > uint32(q.sent) { // modulo 2^32
		return &TooHighError{H: h, SendCount: q.acked + uint32(q.sent)}
	}
	return nil
}

func (q *Queue[T]) drop(n int, gone func(T)) {
	for i := q.head; i < q.head+n; i++ {
		q.bytes -= len(q.entries[i].Data)
		if gone != nil {
			gone(q.entries[i].Tag)
		}
		q.entries[i] = Entry[T]{}
	}
	q.head += n
	if q.head == len(q.entries) {
		// An idle session keeps no more than it needs for the next few stanzas.
		if cap(q.entries) > keepEntries {
			q.entries = nil
		}
		q.entries, q.head = q.entries[:0], 0
	}
}

// Rewind makes everything unacknowledged wait again, for a resumed stream
// (XEP-0198 5).
func (q *Queue[T]) Rewind() { q.sent = 0 }

// Drain empties the queue and returns what it held, oldest first.
func (q *Queue[T]) Drain() []Entry[T] {
	rest := q.entries[q.head:]
	*q = Queue[T]{enabled: q.enabled, acked: q.acked}
	return rest
}

// Inbound counts a stream's incoming side. A stanza counts as handled once it
// and all before it are done; they may be done in any order, since some wait
// for a commit and others don't.
type Inbound struct {
	received uint64 // stanzas so far
	handled  uint64 // how many of them, from the first on, are done
	base     uint64 // received when acknowledgements were enabled
	done     []bool // of received stanzas behind handled
}

// NewInbound is a side that has handled h stanzas and waits for the next.
func NewInbound(h uint32) Inbound { return Inbound{received: uint64(h), handled: uint64(h)} }

// Receive counts a stanza and returns its number.
func (in *Inbound) Receive() uint64 {
	in.received++
	in.done = append(in.done, false)
	return in.received
}

// Done notes that the stanza with this number is handled and reports whether
// Handled moved.
func (in *Inbound) Done(number uint64) bool {
	i := int(number - in.handled - 1)
	in.done[i] = true
	if i > 0 {
		return false
	}
	n := 0
	for n < len(in.done) && in.done[n] {
		n++
	}
	in.handled += uint64(n)
	if n == len(in.done) {
		in.done = in.done[:0]
		return true
	}
	in.done = append(in.done[:0], in.done[n:]...)
	return true
}

// Enable starts the count that the peer sees (XEP-0198 3).
func (in *Inbound) Enable() { in.base = in.received }

// Received is the number of the newest stanza.
func (in *Inbound) Received() uint64 { return in.received }

// Pending is how many stanzas are received and not handled in order.
func (in *Inbound) Pending() int { return int(in.received - in.handled) }

// Settled reports whether the stanza with this number and all before are done.
func (in *Inbound) Settled(number uint64) bool { return in.handled >= number }

// H is the count to acknowledge: stanzas handled since Enable, modulo 2^32.
func (in *Inbound) H() uint32 {
	if in.handled < in.base {
		return 0
	}
	return uint32(in.handled - in.base)
}
