// Package store keeps accounts, rosters, archives and key-value data in an SQLite database.
//
// One goroutine writes. Whoever changes something submits a Unit, a list of Ops that become durable together or not at all; the writer takes what
// has gathered, commits it as one transaction (write-ahead log, synchronous=FULL) and then calls each unit's Done in the order of submission.
// Nothing that a reader can see is not on disk. Readers have connections of their own and wait for nobody. Archive entries are first written as one
// row per transaction to the tail table, kept in memory beside it, and moved in larger runs to the archive table, clustered by account; readers see
// one archive. A fault (full disk, I/O error) fails the units of its transaction and nothing else; the next transaction starts with a fresh
// connection. See DESIGN.md.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"carillon.im/server/store/sqlite"
)

// Errors that callers act upon; they come wrapped.
var (
	ErrBusy     = errors.New("store: too much is waiting to be written")
	ErrFull     = errors.New("store: disk full")
	ErrNotFound = errors.New("store: not found")
	ErrExists   = errors.New("store: exists already")
	ErrClosed   = errors.New("store: closed")
	ErrTooBig   = errors.New("store: too big")
	ErrInvalid  = errors.New("store: invalid value")
	ErrLocked   = errors.New("store: in use by another process")
	ErrReplayed = errors.New("store: token count used before")
	ErrChanged  = errors.New("store: changed meanwhile")
	ErrLimit    = errors.New("store: beyond the account's bounds")
)

// Defaults and bounds; sizes were chosen by measurement (DESIGN.md).
const (
	defaultCommitMax   = 512
	defaultCommitDelay = 3 * time.Millisecond
	defaultReaders     = 2
	defaultMaxUnits    = 16384
	defaultMaxBytes    = 32 << 20

	maxUnitBytes  = 8 << 20 // of one unit
	maxBatchBytes = 1 << 20 // of one transaction, unless its only unit is larger

	tailRows  = 4096    // so many entries, or
	tailBytes = 2 << 20 // so many bytes in the tail start a round of moving
	moveRows  = 128     // moved per transaction, at least

	writerCache     = 8 << 10 // KiB of page cache
	readerCache     = 2 << 10
	checkpointCache = 64
	checkpointPages = 1000     // pages written to the log between checkpoints
	walKeep         = 64 << 20 // a log that grew longer is cut to this when it starts over
)

// Options configure a Store. The zero value of every field but Path means a good default.
type Options struct {
	Path string // directory, made if missing; ":memory:" for a store of its own that is gone after Close
	// Memory, if not nil, is used in place of Path: a database in memory that is there again when it is opened again.
	Memory *Memory
	Log    *slog.Logger
	Now    func() time.Time

	CommitMax int // units per transaction
	// CommitDelay is the most that a transaction's start is put off behind that of the last, so that units gather: the whole of it under load, less
	// the fewer units the last one had; a unit that comes after a silence is committed at once. Negative: none.
	CommitDelay time.Duration
	Readers     int // connections for reading

	MaxQueuedUnits int // over either of them Submit answers ErrBusy
	MaxQueuedBytes int64

	// Fault is nil in production. A test lets it fail the next step at a point: "open" and "read" (connections), "begin", "exec" (each unit) and
	// "commit" (the writer). It is called concurrently.
	Fault func(point string) error
}

// Unit is a set of changes that become durable together or not at all. Done, if not nil, is called exactly once: with nil after the commit, or with
// the failure; by the writer's goroutine and in submission order, except that a unit refused with ErrBusy, ErrTooBig or ErrClosed is told so before
// Submit returns. Done must not block, and must not call Close or any method of the store that waits for a commit; it may call Submit.
type Unit struct {
	Ops  []Op
	Done func(error)
}

// Store is an open database. All methods may be called concurrently.
type Store struct {
	opt    Options
	log    *slog.Logger
	file   string
	lock   io.Closer
	memory *Memory // not nil: one connection for everything
	ctx    context.Context
	stop   context.CancelFunc

	queue   *queue
	tail    *tail
	reading chan struct{} // one for each more that may read: Options.Readers at rest
	readers []*conn       // under mu: the open ones that nobody reads with
	pages   sync.Pool     // *page

	bulk  bulkState
	house chan struct{} // wakes the housekeeper
	done  sync.WaitGroup
	wrote chan struct{} // closed when the writer has ended
	write *writer

	starts uint64

	mu    sync.Mutex
	stats Stats
	last  error // of the last transaction
}

// Open opens the database in a directory, making it where there is none, and brings its schema up to date. Only one process at a time has it open:
// ErrLocked. It writes at least the count of starts, so a disk must have room: ErrFull.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{opt: withDefaults(o), house: make(chan struct{}, 1), wrote: make(chan struct{})}
	s.log = s.opt.Log
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.queue = newQueue(s.opt.MaxQueuedUnits, s.opt.MaxQueuedBytes, s.opt.CommitMax)
	s.tail = &tail{}
	s.pages.New = func() any { return new(page) }
	if o.Path == ":memory:" || o.Memory != nil {
		s.file, s.memory = ":memory:", cmp.Or(o.Memory, new(Memory))
	} else {
		if err := os.MkdirAll(o.Path, 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		lock, err := lockFile(filepath.Join(o.Path, "store.lock"))
		if err != nil {
			return nil, err
		}
		s.lock = lock
		s.file = filepath.Join(o.Path, "store.db")
		// SQLite would make the file readable for everybody; the log's files take its mode.
		f, err := os.OpenFile(s.file, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("store: %w", err), s.unlock())
		}
		if err := f.Close(); err != nil {
			return nil, errors.Join(fmt.Errorf("store: %w", err), s.unlock())
		}
	}
	if err := s.start(ctx); err != nil {
		if s.write != nil {
			err = errors.Join(err, s.disconnect())
		}
		return nil, errors.Join(err, s.unlock())
	}
	return s, nil
}

func withDefaults(o Options) Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CommitMax <= 0 {
		o.CommitMax = defaultCommitMax
	}
	if o.CommitDelay == 0 {
		o.CommitDelay = defaultCommitDelay
	}
	if o.Readers <= 0 {
		o.Readers = defaultReaders
	}
	if o.MaxQueuedUnits <= 0 {
		o.MaxQueuedUnits = defaultMaxUnits
	}
	if o.MaxQueuedBytes <= 0 {
		o.MaxQueuedBytes = defaultMaxBytes
	}
	return o
}

// start migrates, opens the writer's connection and starts the goroutines.
func (s *Store) start(ctx context.Context) error {
	steps, err := migrations(migrationFiles)
	if err != nil {
		return err
	}
	s.write = &writer{s: s, tail: s.tail}
	if s.write.db, err = s.connect(writerCache); err != nil {
		return err
	}
	if s.memory != nil {
		s.memory.db = s.write.db
	}
	if err := migrate(ctx, s.write.db.Conn, steps, s.opt.Now()); err != nil {
		return err
	}
	if err := s.count(); err != nil {
		return diskError(err)
	}
	if err := s.write.loadTail(); err != nil {
		return err
	}
	if err := s.upkeep(ctx); err != nil {
		return err
	}
	readers := s.opt.Readers
	if s.memory != nil {
		s.readers, readers = []*conn{s.write.db}, 1
	}
	s.reading = make(chan struct{}, readers)
	for range readers {
		s.reading <- struct{}{}
	}
	go func() {
		defer close(s.wrote)
		s.write.run()
	}()
	s.done.Go(s.keepHouse)
	s.wakeHousekeeper()
	return nil
}

// count counts this start, durably. Imports that were not finished go. Sessions that were connected when the process ended have all of their time from now on.
func (s *Store) count() error {
	db := s.write.db
	err := errors.Join(db.run(qBegin), db.run(qStart), db.each(qSavedStart, noRow, s.opt.Now().UnixMicro()),
		db.run(qImportsNote), db.run(qImportsDel))
	if err == nil {
		err = db.run(qCommit)
	}
	if err != nil {
		return fmt.Errorf("store: counting the start: %w", err)
	}
	return db.each(qStarts, func(r *sqlite.Stmt) error {
		s.starts = uint64(r.ColInt(0))
		return nil
	})
}

// Starts is how many times the database was opened, this time included: 1 for a new one. Every Open counts before it returns, so no two ever see the
// same number, also where the process was killed right after; ids made of it and of a counter in memory are never given twice. (A folder that was
// put back from a copy counts on from the copy's number.)
func (s *Store) Starts() uint64 { return s.starts }

// Close waits until everything submitted is committed or has failed, and closes the database. Later calls wait for the first.
func (s *Store) Close() error {
	first := s.queue.close()
	<-s.wrote
	s.stop()
	s.done.Wait()
	if !first {
		return nil
	}
	var err error
	for range cap(s.reading) {
		<-s.reading
	}
	close(s.reading)
	if s.memory == nil {
		for _, c := range s.readers {
			err = errors.Join(err, c.close())
		}
	}
	// The last connection to close copies the write-ahead log into the database file and deletes it.
	err = errors.Join(err, s.disconnect())
	return errors.Join(err, s.unlock())
}

// disconnect closes the writer's connection, except one that outlives the store.
func (s *Store) disconnect() error {
	if s.write.db == nil || s.opt.Memory != nil {
		return nil
	}
	return s.write.db.close()
}

func (s *Store) unlock() error {
	s.stop()
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Submit queues a unit and returns at once. The caller must not change what the unit points to until Done, and archived stanzas never.
func (s *Store) Submit(u Unit) {
	err := s.queue.put(u)
	if err == nil {
		return
	}
	if errors.Is(err, ErrBusy) {
		s.mu.Lock()
		s.stats.Busy++
		s.mu.Unlock()
	}
	if u.Done != nil {
		u.Done(err)
	}
}

// Commit submits ops as one unit and waits for its end. If ctx ends first the unit may still be committed.
func (s *Store) Commit(ctx context.Context, ops ...Op) error {
	done := make(chan error, 1)
	s.Submit(Unit{Ops: ops, Done: func(err error) { done <- err }})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	units, bytes := s.queue.usage()
	s.tail.mu.RLock()
	tail := s.tail.count
	s.tail.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Queued, st.QueuedBytes, st.Tail = units, bytes, tail
	return st
}

func (s *Store) counted(results []error, rows int, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = err
	s.stats.LastCommit = took
	if err == nil {
		s.stats.Commits++
		s.stats.Rows += uint64(rows)
	}
	for _, r := range results {
		if r != nil {
			s.stats.Failures++
		} else {
			s.stats.Units++
		}
	}
}

func (s *Store) reopened() {
	s.mu.Lock()
	s.stats.Reopens++
	s.mu.Unlock()
}

// Check reports whether the database reads and, after a failed transaction, whether it writes again: for health checks.
func (s *Store) Check(ctx context.Context) error {
	err := s.read(ctx, func(c *conn) error {
		_, err := c.QueryText("SELECT 1")
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	failed := s.last != nil
	s.mu.Unlock()
	if failed {
		return s.Commit(ctx, probe{})
	}
	return nil
}

// fault asks the test's hook, if there is one.
func (s *Store) fault(point string) error {
	if s.opt.Fault == nil {
		return nil
	}
	return s.opt.Fault(point)
}

// reader waits until one more may read, and returns the connection that was used last, or nil if one is to be opened. Each has a page cache of its
// own: were they used in turn, who reads much would fill them all.
func (s *Store) reader(ctx context.Context) (*conn, error) {
	select {
	case _, open := <-s.reading:
		if !open {
			return nil, ErrClosed
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.readers)
	if n == 0 {
		return nil, nil
	}
	c := s.readers[n-1]
	s.readers = s.readers[:n-1]
	return c, nil
}

// release takes a reader's connection back; nil if it has none any more.
func (s *Store) release(c *conn) {
	if c != nil {
		s.mu.Lock()
		s.readers = append(s.readers, c)
		s.mu.Unlock()
	}
	s.reading <- struct{}{}
}

// read runs fn with a reading connection. After an error other than ErrNotFound the connection is replaced.
func (s *Store) read(ctx context.Context, fn func(*conn) error) (err error) {
	c, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { s.release(c) }()
	if err := s.fault("read"); err != nil {
		return diskError(err)
	}
	if s.memory != nil {
		s.memory.mu.Lock()
		defer s.memory.mu.Unlock()
		return fn(c)
	}
	if c == nil {
		if c, err = s.connect(readerCache); err != nil {
			return err
		}
	}
	if err = fn(c); err != nil && !errors.Is(err, ErrNotFound) {
		if e := c.close(); e != nil {
			s.log.Warn("store: closing a reader after an error", "error", e)
		}
		c = nil
	}
	return diskError(err)
}

func (s *Store) wakeHousekeeper() {
	select {
	case s.house <- struct{}{}:
	default:
	}
}

// keepHouse does what must not hold up commits: it copies the write-ahead log and deletes the archives of removed accounts that a former process
// left behind.
func (s *Store) keepHouse() {
	if err := s.finishRemovals(s.ctx); err != nil && s.ctx.Err() == nil {
		s.log.Warn("store: deleting archives of removed accounts", "error", err)
	}
	var c *conn
	defer func() {
		if c != nil {
			if err := c.close(); err != nil {
				s.log.Warn("store: closing the housekeeper's connection", "error", err)
			}
		}
	}()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.house:
		}
		if s.bulk.Load() != bulkWanted {
			continue
		}
		var err error
		if c == nil {
			c, err = s.connect(checkpointCache)
		}
		if err == nil {
			_, _, err = c.Checkpoint()
		}
		if err != nil && sqlite.Code(err)&0xff != sqlite.Busy {
			s.log.Warn("store: checkpoint", "error", err)
			if c != nil {
				err = c.close()
				c = nil
				s.log.Debug("store: housekeeper's connection closed", "error", err)
			}
		}
		s.mu.Lock()
		s.stats.Checkpoints++
		s.mu.Unlock()
		s.bulk.Store(bulkDone)
	}
}
