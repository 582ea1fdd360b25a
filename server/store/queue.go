package store

import "sync"

// queue holds the units that wait for the writer, bounded in units and bytes.
type queue struct {
	maxUnits int
	maxBytes int64
	enough   int // at so many units a waiting writer is woken early

	mu     sync.Mutex
	units  []Unit
	bytes  int64 // of waiting units and of those being committed
	flying int   // units being committed
	closed bool

	wake chan struct{} // capacity 1
}

func newQueue(maxUnits int, maxBytes int64, enough int) *queue {
	return &queue{maxUnits: maxUnits, maxBytes: maxBytes, enough: enough, wake: make(chan struct{}, 1)}
}

func (u Unit) size() int {
	n := 0
	for _, op := range u.Ops {
		n += op.size()
	}
	return n
}

// put appends a unit or says why not.
func (q *queue) put(u Unit) error {
	size := int64(u.size())
	if size > maxUnitBytes {
		return ErrTooBig
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case len(q.units)+q.flying >= q.maxUnits || q.bytes+size > q.maxBytes:
		return ErrBusy
	}
	q.units = append(q.units, u)
	q.bytes += size
	if n := len(q.units); n == 1 || n == q.enough {
		q.signal()
	}
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close makes put refuse; what waits is still to be taken.
func (q *queue) close() (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first = !q.closed
	q.closed = true
	q.signal()
	return first
}

// state returns how many units wait, and whether the writer should go on without waiting for more.
func (q *queue) state() (waiting int, hurry, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.units), len(q.units) >= q.enough || q.closed, q.closed
}

// take moves units into batch, up to its capacity of units and maxBatchBytes; an exclusive unit is taken alone.
func (q *queue) take(batch []Unit, max int) []Unit {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.units) && n < max {
		u := q.units[n]
		if exclusive := isExclusive(u); exclusive && n > 0 {
			break
		} else if bytes += u.size(); bytes > maxBatchBytes && n > 0 {
			break
		} else if n++; exclusive {
			break
		}
	}
	batch = append(batch, q.units[:n]...)
	rest := copy(q.units, q.units[n:])
	clear(q.units[rest:])
	q.units = q.units[:rest]
	if rest == 0 && cap(q.units) > 4*q.enough {
		q.units = nil
	}
	q.flying = n
	return batch
}

// done releases the bytes of a batch.
func (q *queue) done(batch []Unit) {
	var bytes int64
	for _, u := range batch {
		bytes += int64(u.size())
	}
	q.mu.Lock()
	q.bytes -= bytes
	q.flying = 0
	q.mu.Unlock()
}

func (q *queue) usage() (units int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.units) + q.flying, q.bytes
}
