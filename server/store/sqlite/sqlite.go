// Package sqlite is a thin binding to SQLite as translated to Go by modernc.org/sqlite: connections, prepared statements, errors.
//
// database/sql and the driver above the same library cost 8 allocations per row written and one per column read; the store's writer runs one
// statement per archived message and its readers copy rows into buffers of their own, so it calls the library directly. This is the only package
// of the store that uses unsafe, and it keeps two rules. No pointer to Go memory is ever given to the library: values are copied into an arena of
// the statement's own that the library's allocator made, because a goroutine's stack may move during a call. No pointer to the library's memory
// outlives the call that the documentation of a column accessor names.
//
// A Conn and its statements are used by one goroutine at a time.
package sqlite

import (
	"errors"
	"fmt"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Primary result codes that callers tell apart (https://sqlite.org/rescode.html).
const (
	Busy       = lib.SQLITE_BUSY
	Full       = lib.SQLITE_FULL
	Constraint = lib.SQLITE_CONSTRAINT
	TooBig     = lib.SQLITE_TOOBIG
)

// Extended result codes that callers tell apart.
const (
	ConstraintForeignKey = lib.SQLITE_CONSTRAINT_FOREIGNKEY
	ConstraintUnique     = lib.SQLITE_CONSTRAINT_UNIQUE
	ConstraintPrimaryKey = lib.SQLITE_CONSTRAINT_PRIMARYKEY
)

// Error is a result code of the library other than success.
type Error struct {
	Code int // extended result code; the primary code is its low byte
	Msg  string
}

// Error returns the library's message and the code.
func (e *Error) Error() string { return fmt.Sprintf("sqlite: %s (%d)", e.Msg, e.Code) }

// Primary returns the primary result code.
func (e *Error) Primary() int { return e.Code & 0xff }

// Code returns the extended result code in err's chain, 0 if there is none.
func Code(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Conn is a connection to a database.
type Conn struct {
	tls   *libc.TLS
	db    uintptr
	out   uintptr // a pointer's worth of memory for results
	stmts map[*Stmt]struct{}
}

// Open opens the database file at path, or a new database in memory for ":memory:". The file is made if missing.
func Open(path string) (*Conn, error) {
	c := &Conn{tls: libc.NewTLS(), stmts: make(map[*Stmt]struct{})}
	if c.out = libc.Xcalloc(c.tls, 1, 8); c.out == 0 {
		c.tls.Close()
		return nil, errors.New("sqlite: out of memory")
	}
	name, err := libc.CString(path)
	if err != nil {
		libc.Xfree(c.tls, c.out)
		c.tls.Close()
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	defer libc.Xfree(c.tls, name)
	const flags = lib.SQLITE_OPEN_READWRITE | lib.SQLITE_OPEN_CREATE | lib.SQLITE_OPEN_NOMUTEX | lib.SQLITE_OPEN_EXRESCODE
	rc := lib.Xsqlite3_open_v2(c.tls, name, c.out, flags, 0)
	c.db = *(*uintptr)(pointer(c.out))
	if rc != lib.SQLITE_OK {
		err := c.error(rc)
		return nil, errors.Join(err, c.Close())
	}
	if err := c.keepPlans(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// keepPlans turns the query planner stability guarantee on. Without it a statement with LIMIT ? is compiled again at every use, for SQLite looks at what
// is bound to plan better; that takes longer than the reading of a page.
func (c *Conn) keepPlans() error {
	args := libc.NewVaList(int32(1), uintptr(0))
	if args == 0 {
		return errors.New("sqlite: out of memory")
	}
	defer libc.Xfree(c.tls, args)
	if rc := lib.Xsqlite3_db_config(c.tls, c.db, lib.SQLITE_DBCONFIG_ENABLE_QPSG, args); rc != lib.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// Close finalizes the statements and closes the connection. The Conn is unusable afterwards, also after an error.
func (c *Conn) Close() error {
	for s := range c.stmts {
		s.Close()
	}
	var err error
	if rc := lib.Xsqlite3_close_v2(c.tls, c.db); rc != lib.SQLITE_OK {
		err = c.error(rc)
	}
	c.db = 0
	libc.Xfree(c.tls, c.out)
	c.tls.Close()
	return err
}

// Exec runs the statements of script; rows that they return are dropped.
func (c *Conn) Exec(script string) error {
	text, err := libc.CString(script)
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer libc.Xfree(c.tls, text)
	if rc := lib.Xsqlite3_exec(c.tls, c.db, text, 0, 0, 0); rc != lib.SQLITE_OK {
		return c.error(rc)
	}
	return nil
}

// QueryText runs a statement and returns the first column of its first row as text, "" if there is no row.
func (c *Conn) QueryText(query string) (string, error) {
	s, err := c.Prepare(query)
	if err != nil {
		return "", err
	}
	defer s.Close()
	row, err := s.Step()
	if err != nil || !row {
		return "", err
	}
	return s.ColText(0), nil
}

// Prepare compiles one statement that is going to be used often.
func (c *Conn) Prepare(query string) (*Stmt, error) {
	text, err := libc.CString(query)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	defer libc.Xfree(c.tls, text)
	if rc := lib.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, lib.SQLITE_PREPARE_PERSISTENT, c.out, 0); rc != lib.SQLITE_OK {
		return nil, fmt.Errorf("preparing %q: %w", query, c.error(rc))
	}
	s := &Stmt{c: c, p: *(*uintptr)(pointer(c.out))}
	if s.p == 0 {
		return nil, fmt.Errorf("sqlite: no statement in %q", query)
	}
	c.stmts[s] = struct{}{}
	return s, nil
}

// Changes returns how many rows the last completed INSERT, UPDATE or DELETE touched.
func (c *Conn) Changes() int { return int(lib.Xsqlite3_changes(c.tls, c.db)) }

// LastInsertID returns the rowid of the last row inserted.
func (c *Conn) LastInsertID() int64 { return lib.Xsqlite3_last_insert_rowid(c.tls, c.db) }

// InTransaction reports whether a transaction is open.
func (c *Conn) InTransaction() bool { return lib.Xsqlite3_get_autocommit(c.tls, c.db) == 0 }

// PagesWritten returns how many pages the connection wrote to disk so far: with a write-ahead log, the frames that it appended.
func (c *Conn) PagesWritten() int {
	now, high := c.out, c.out+4
	if lib.Xsqlite3_db_status(c.tls, c.db, lib.SQLITE_DBSTATUS_CACHE_WRITE, now, high, 0) != lib.SQLITE_OK {
		return 0
	}
	return int(*(*int32)(pointer(now)))
}

// Checkpoint copies what the write-ahead log holds into the database file, as far as neither readers nor the writer are in the way (PASSIVE). It
// returns how many frames the log has and how many of them are copied, both -1 if the database has no log.
func (c *Conn) Checkpoint() (log, done int, err error) {
	frames := libc.Xcalloc(c.tls, 2, 4)
	if frames == 0 {
		return -1, -1, errors.New("sqlite: out of memory")
	}
	defer libc.Xfree(c.tls, frames)
	rc := lib.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, lib.SQLITE_CHECKPOINT_PASSIVE, frames, frames+4)
	log, done = int(*(*int32)(pointer(frames))), int(*(*int32)(pointer(frames + 4)))
	if rc != lib.SQLITE_OK {
		return log, done, c.error(rc)
	}
	return log, done, nil
}

func (c *Conn) error(rc int32) error {
	return &Error{Code: int(rc), Msg: libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))}
}

// pointer turns an address of the library's memory, which Go's collector neither moves nor frees, into a pointer.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }
