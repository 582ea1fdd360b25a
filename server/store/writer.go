package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"carillon.im/server/store/sqlite"
)

// writer owns the connection that writes. Its goroutine takes what waits in the queue, commits it as one transaction and tells the units.
type writer struct {
	s       *Store
	db      *conn // nil after a fault until it is opened again
	tail    *tail
	seq     int64       // the last row of the tail table
	pending []AccountID // accounts to be moved before the tail table is cut
	cut     int64       // up to which row
	batch   []Unit
	results []error
	tx      tx
	started time.Time // the last transaction
	last    int       // how many units were in it
	logged  bool      // the fault at hand is in the log
	paged   int       // db.PagesWritten at the last checkpoint
}

// run is the writer's goroutine. It ends when the queue is closed and drained.
func (w *writer) run() {
	pace := time.NewTimer(time.Hour)
	defer pace.Stop()
	for {
		waiting, _, closed := w.s.queue.state()
		if waiting == 0 {
			if closed {
				return
			}
			<-w.s.queue.wake
			continue
		}
		w.pace(pace)
		w.batch = w.s.queue.take(w.batch[:0], w.s.opt.CommitMax)
		w.commit()
	}
}

// crowd is how many units in one transaction are so many that gathering more of them for the whole of CommitDelay is worth the wait.
const crowd = 16

// pace waits after the start of the last transaction, so that units gather: for CommitDelay when there are many, less when the last transaction
// found few, for then nobody else is there to share the flush with. A unit that comes after a silence doesn't wait.
func (w *writer) pace(t *time.Timer) {
	wait := w.s.opt.CommitDelay*time.Duration(min(w.last, crowd))/crowd - time.Since(w.started)
	if wait <= 0 {
		return
	}
	t.Reset(wait)
	for {
		if _, hurry, _ := w.s.queue.state(); hurry {
			return
		}
		select {
		case <-t.C:
			return
		case <-w.s.queue.wake:
		}
	}
}

// commit runs the batch as a transaction and calls each unit's Done.
func (w *writer) commit() {
	w.started, w.last = time.Now(), len(w.batch)
	w.results = w.results[:0]
	for range w.batch {
		w.results = append(w.results, nil)
	}
	rows, err := w.transact()
	if err != nil {
		err = diskError(err)
		w.fail(err)
		for i := range w.results {
			// A unit that was at fault itself keeps its own error.
			if w.results[i] == nil {
				w.results[i] = err
			}
		}
	} else {
		w.recovered()
	}
	w.s.counted(w.results, rows, time.Since(w.started), err)
	w.s.queue.done(w.batch)
	for i, u := range w.batch {
		if u.Done != nil {
			u.Done(w.results[i])
		}
	}
	clear(w.batch)
	if w.db != nil {
		w.checkpoint()
	}
}

// transact commits what of the batch can be committed and fills in results; its error is for the whole transaction, of which nothing remains.
func (w *writer) transact() (rows int, err error) {
	if w.db == nil {
		if err := w.open(); err != nil {
			return 0, err
		}
	}
	// Before the lock, so that who holds a transaction up here holds up no reader.
	if err := w.s.fault("begin"); err != nil {
		return 0, err
	}
	if m := w.s.memory; m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
	}
	t := &w.tx
	t.reset(w)
	defer func() {
		if err != nil {
			t.abort()
		}
	}()
	if err := t.exec(qBegin); err != nil {
		return 0, err
	}
	for i, u := range w.batch {
		failed, err := t.unit(u)
		if err != nil {
			return 0, err
		}
		w.results[i] = failed
	}
	if err := t.finish(); err != nil {
		return 0, err
	}
	if err := w.s.fault("commit"); err != nil {
		return 0, err
	}
	if err := t.exec(qCommit); err != nil {
		return 0, err
	}
	t.apply()
	return t.rows, nil
}

// fail notes a fault. The connection is not trusted any more: the next transaction opens another.
func (w *writer) fail(err error) {
	if !w.logged {
		w.s.log.Error("store: a transaction failed, nothing of it was kept", "error", err)
		w.logged = true
	}
	if w.s.memory != nil || w.db == nil {
		return
	}
	if err := w.db.close(); err != nil {
		w.s.log.Warn("store: closing the connection after a fault", "error", err)
	}
	w.db = nil
}

func (w *writer) recovered() {
	if w.logged {
		w.s.log.Log(w.s.ctx, slog.LevelInfo, "store: writing works again")
		w.logged = false
	}
}

// open opens the connection and reads the tail.
func (w *writer) open() error {
	db, err := w.s.connect(writerCache)
	if err != nil {
		return err
	}
	w.db = db
	if err := w.loadTail(); err != nil {
		w.db = nil
		return errors.Join(err, db.close())
	}
	w.paged = 0
	w.s.reopened()
	return nil
}

// loadTail reads the tail table into memory. An entry that the archive table has already, because the server died before the tail table was cut,
// is known by its id: moves go upwards, so it is not above the highest id there. Entries of accounts that are gone are dropped.
func (w *writer) loadTail() error {
	t := &tail{accounts: make(map[AccountID]*tailAccount)}
	w.seq, w.cut, w.pending = 0, 0, nil
	top, err := w.db.stmt(qArchiveTop)
	if err != nil {
		return err
	}
	all, err := w.db.stmt(qTailAll)
	if err != nil {
		return err
	}
	defer all.Reset()
	gone := make(map[AccountID]bool)
	moved := false
	for {
		row, err := all.Step()
		if err != nil {
			return fmt.Errorf("store: reading the tail: %w", err)
		}
		if !row {
			break
		}
		w.seq = all.ColInt(0)
		data := all.ColBlob(1) // the rows keep parts of it
		for len(data) > 0 {
			var id AccountID
			var r tailRow
			if id, r, data, err = readEntry(data); err != nil {
				return err
			}
			a := t.accounts[id]
			if a == nil && !gone[id] {
				if a, err = lookUp(top, id); errors.Is(err, ErrNotFound) {
					gone[id] = true
				} else if err != nil {
					return err
				} else {
					t.accounts[id] = a
				}
			}
			if a == nil || r.id <= a.stored {
				moved = true
				continue
			}
			t.add(a, []tailRow{r})
		}
	}
	w.tail.mu.Lock()
	w.tail.accounts, w.tail.count, w.tail.bytes = t.accounts, t.count, t.bytes
	w.tail.mu.Unlock()
	if moved {
		w.plan()
	}
	return nil
}

// lookUp makes the tail's record of an account.
func lookUp(top *sqlite.Stmt, id AccountID) (*tailAccount, error) {
	defer top.Reset()
	top.Int(1, int64(id))
	row, err := top.Step()
	if err != nil {
		return nil, err
	}
	if !row {
		return nil, fmt.Errorf("account %d: %w", id, ErrNotFound)
	}
	return &tailAccount{id: id, stored: ArchiveID(top.ColInt(0))}, nil
}

// plan starts a round of moving: every account that now has rows in the tail, and then the cut of the tail table where it now ends.
func (w *writer) plan() {
	w.cut = w.seq
	w.pending = w.pending[:0]
	for id, a := range w.tail.accounts {
		if len(a.rows) > 0 {
			w.pending = append(w.pending, id)
		}
	}
}

// checkpoint keeps the write-ahead log short. The housekeeper copies the bulk of it on its own connection while commits go on; the remainder,
// what was committed meanwhile, is copied here, where nothing can be added to it, so that the log starts over.
func (w *writer) checkpoint() {
	if w.s.memory != nil {
		return
	}
	switch w.s.bulk.Load() {
	case bulkIdle:
		if pages := w.db.PagesWritten(); pages-w.paged >= checkpointPages {
			w.paged = pages
			w.s.bulk.Store(bulkWanted)
			w.s.wakeHousekeeper()
		}
	case bulkDone:
		if _, _, err := w.db.Checkpoint(); err != nil && sqlite.Code(err)&0xff != sqlite.Busy {
			w.s.log.Warn("store: checkpoint", "error", err)
		}
		w.s.bulk.Store(bulkIdle)
	}
}

// States of the housekeeper's copying of the write-ahead log.
const (
	bulkIdle int32 = iota
	bulkWanted
	bulkDone
)

type bulkState = atomic.Int32
