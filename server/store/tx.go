package store

import (
	"errors"
	"fmt"

	"carillon.im/server/store/sqlite"
)

// tx is the transaction that the writer builds.
type tx struct {
	w       *writer
	touched []*tailAccount
	removed []AccountID // accounts whose part of the tail goes at commit
	data    []byte      // the row for the tail table
	rows    int         // archive entries

	// Of the unit at hand.
	savepoint bool
	stagedBy  []stagedRow

	// What the writer's plan becomes at commit.
	pending []AccountID
	cut     int64
	cutDone bool
}

type stagedRow struct {
	account *tailAccount
	id      ArchiveID
}

func (t *tx) reset(w *writer) {
	t.w = w
	clear(t.touched)
	t.touched, t.removed, t.data, t.rows = t.touched[:0], t.removed[:0], t.data[:0], 0
	if cap(t.data) > 2*maxBatchBytes {
		t.data = nil
	}
	t.pending, t.cut, t.cutDone = w.pending, w.cut, false
	t.savepoint = false
	t.stagedBy = t.stagedBy[:0]
}

// unit runs a unit's ops. The first error is the unit's own, of which nothing remains; the second is a fault that ends the transaction.
func (t *tx) unit(u Unit) (failed, fault error) {
	mark, rows := len(t.data), t.rows
	t.savepoint = false
	clear(t.stagedBy)
	t.stagedBy = t.stagedBy[:0]
	if err := t.w.s.fault("exec"); err != nil {
		return nil, err
	}
	for _, op := range u.Ops {
		if failed = op.exec(t); failed != nil {
			break
		}
	}
	if failed == nil {
		if t.savepoint {
			return nil, t.exec(qRelease)
		}
		return nil, nil
	}
	if failed = unitError(failed); !isUnitError(failed) {
		return nil, failed
	}
	for _, s := range t.stagedBy {
		i, _ := findRow(s.account.staged, s.id)
		s.account.staged = append(s.account.staged[:i], s.account.staged[i+1:]...)
	}
	t.data, t.rows = t.data[:mark], rows
	if t.savepoint {
		if err := t.exec(qRollbackTo); err != nil {
			return nil, err
		}
		if err := t.exec(qRelease); err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// stmt returns a prepared statement for use by an op, and makes sure that its effect can be undone with the op's unit.
func (t *tx) stmt(query string) (*sqlite.Stmt, error) {
	if !t.savepoint {
		if err := t.exec(qSavepoint); err != nil {
			return nil, err
		}
		t.savepoint = true
	}
	return t.w.db.stmt(query)
}

// exec runs a statement that belongs to no unit.
func (t *tx) exec(query string) error { return t.w.db.run(query) }

// run is stmt, bind and run for ops that are not many.
func (t *tx) run(query string, args ...any) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	bind(s, args...)
	return s.Run()
}

// number runs a query for one integer; ok is false if there is no row or NULL.
func (t *tx) number(query string, args ...any) (n int64, ok bool, err error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, false, err
	}
	defer s.Reset()
	bind(s, args...)
	row, err := s.Step()
	if err != nil || !row || s.ColNull(0) {
		return 0, false, err
	}
	return s.ColInt(0), true, nil
}

// blob runs a query for one value; ok is false if there is no row.
func (t *tx) blob(query string, args ...any) (b []byte, ok bool, err error) {
	s, err := t.stmt(query)
	if err != nil {
		return nil, false, err
	}
	defer s.Reset()
	bind(s, args...)
	if ok, err = s.Step(); err != nil || !ok {
		return nil, false, err
	}
	return s.ColBlob(0), true, nil
}

// account returns the tail's record of an account, ErrNotFound if there is no such account.
func (t *tx) account(id AccountID) (*tailAccount, error) {
	a := t.w.tail.accounts[id]
	if a == nil {
		top, err := t.w.db.stmt(qArchiveTop)
		if err != nil {
			return nil, err
		}
		if a, err = lookUp(top, id); err != nil {
			return nil, err
		}
		t.w.tail.mu.Lock()
		t.w.tail.accounts[id] = a
		t.w.tail.mu.Unlock()
	}
	t.touch(a)
	return a, nil
}

func (t *tx) touch(a *tailAccount) {
	if !a.listed {
		a.listed = true
		t.touched = append(t.touched, a)
	}
}

// archive stages an entry for the tail. One that comes late, below what the archive table has, goes there at once (tailAccount's rule).
func (t *tx) archive(o ArchiveAppend) error {
	if o.ID <= 0 {
		return fmt.Errorf("archive id %d: %w", o.ID, ErrInvalid)
	}
	a, err := t.account(o.Account)
	if err != nil {
		return err
	}
	r := tailRow{id: o.ID, peer: o.Peer, thread: newThreadKey(o.Thread), stanza: o.Stanza}
	if o.ID <= a.stored {
		s, err := t.stmt(qArchivePut)
		if err != nil {
			return err
		}
		t.rows++
		return insert(s, o.Account, r)
	}
	if o.ID > a.last() {
		a.staged = append(a.staged, r)
	} else {
		if a.has(o.ID) {
			return fmt.Errorf("archive id %d: %w", o.ID, ErrExists)
		}
		i, _ := findRow(a.staged, o.ID)
		a.staged = append(a.staged, tailRow{})
		copy(a.staged[i+1:], a.staged[i:])
		a.staged[i] = r
	}
	t.stagedBy = append(t.stagedBy, stagedRow{account: a, id: o.ID})
	t.data = appendEntry(t.data, o.Account, r)
	t.rows++
	return nil
}

func insert(s *sqlite.Stmt, id AccountID, r tailRow) error {
	s.Int(1, int64(id))
	s.Int(2, int64(r.id))
	s.Int(3, peerHash(r.peer))
	s.Text(4, r.peer.String())
	s.Blob(5, r.stanza)
	if r.thread != (threadKey{}) { // else NULL, as Reset left it
		s.Blob(6, r.thread[:])
	}
	return s.Run()
}

// finish writes the tail table's row and moves a part of what is due to the archive table.
func (t *tx) finish() error {
	if len(t.data) > 0 {
		s, err := t.w.db.stmt(qTailInsert)
		if err != nil {
			return err
		}
		s.Int(1, t.w.seq+1)
		s.Blob(2, t.data)
		if err := s.Run(); err != nil {
			return err
		}
	}
	w := t.w
	if w.cut == 0 && (w.tail.count >= tailRows || w.tail.bytes >= tailBytes) {
		w.plan()
		t.pending, t.cut = w.pending, w.cut
	}
	// Moving keeps ahead of what arrives, so the tail stays near its bound, and no transaction gets much longer by it.
	return t.move(max(moveRows, 2*t.rows), 2*len(t.data))
}

// move inserts rows of the planned accounts into the archive table, lowest ids first, until it has moved so many rows and so many bytes, and cuts
// the tail table when all are done.
func (t *tx) move(rows, bytes int) error {
	if t.cut == 0 {
		return nil
	}
	put, err := t.w.db.stmt(qArchiveMove)
	if err != nil {
		return err
	}
	for (rows > 0 || bytes > 0) && len(t.pending) > 0 {
		a := t.w.tail.accounts[t.pending[0]]
		if a == nil || len(a.rows) == a.moving {
			t.pending = t.pending[1:]
			continue
		}
		n := 0
		for ; n < len(a.rows) && (rows > 0 || bytes > 0); n++ {
			rows--
			bytes -= len(a.rows[n].stanza) + tailRowOverhead
		}
		if len(a.staged) > 0 && a.staged[0].id < a.rows[n-1].id {
			// A late entry of this transaction belongs between these rows: leave the account for the next one.
			return nil
		}
		for _, r := range a.rows[:n] {
			if err := insert(put, a.id, r); err != nil {
				return fmt.Errorf("moving an entry of account %d: %w", a.id, err)
			}
		}
		a.moving = n
		t.touch(a)
		if n < len(a.rows) {
			return nil
		}
		t.pending = t.pending[1:]
	}
	if len(t.pending) > 0 {
		return nil
	}
	s, err := t.w.db.stmt(qTailDelete)
	if err != nil {
		return err
	}
	s.Int(1, t.cut)
	t.cutDone = true
	return s.Run()
}

// moveAll empties the tail for an exclusive op.
func (t *tx) moveAll() error {
	t.w.plan()
	t.pending, t.cut = t.w.pending, t.w.cut
	return t.move(t.w.tail.count+1, 0)
}

// apply makes the committed transaction visible to readers.
func (t *tx) apply() {
	w := t.w
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	if len(t.data) > 0 {
		w.seq++
	}
	w.pending, w.cut = t.pending, t.cut
	if t.cutDone {
		w.pending, w.cut = nil, 0
	}
	for _, a := range t.touched {
		w.tail.drop(a, a.moving)
		w.tail.add(a, a.staged)
		a.clear()
		w.tail.forget(a)
	}
	for _, id := range t.removed {
		w.tail.remove(id)
	}
}

// abort undoes everything, in memory for certain and on the connection as far as it still answers.
func (t *tx) abort() {
	for _, a := range t.touched {
		a.clear()
	}
	if t.w.db.InTransaction() {
		if err := t.exec(qRollback); err != nil {
			t.w.s.log.Debug("store: rollback after a fault", "error", err)
		}
	}
}

func (a *tailAccount) clear() {
	clear(a.staged)
	a.staged, a.moving, a.listed = a.staged[:0], 0, false
}

// unitError gives an op's error the name that callers act upon.
func unitError(err error) error {
	code := sqlite.Code(err)
	switch {
	case code == sqlite.ConstraintForeignKey:
		return fmt.Errorf("account: %w", ErrNotFound)
	case code == sqlite.ConstraintUnique || code == sqlite.ConstraintPrimaryKey:
		return fmt.Errorf("%w (%w)", ErrExists, err)
	case code&0xff == sqlite.Constraint:
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case code&0xff == sqlite.TooBig:
		return fmt.Errorf("%w (%w)", ErrTooBig, err)
	}
	return err
}

// isUnitError tells an error that a unit brought upon itself from a fault of the database.
func isUnitError(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, ErrTooBig) || errors.Is(err, ErrInvalid) ||
		errors.Is(err, ErrReplayed) || errors.Is(err, ErrChanged) || errors.Is(err, ErrLimit)
}

// diskError makes a full disk recognisable.
func diskError(err error) error {
	if sqlite.Code(err)&0xff == sqlite.Full {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}
