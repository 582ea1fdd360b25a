package sqlite

import (
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// arenaKeep bounds the memory that a statement keeps between uses for its text and blob parameters.
const arenaKeep = 64 << 10

// Stmt is a prepared statement. Parameters count from 1 and columns from 0, as in SQLite. The first failure of a bind is kept and returned by Step.
type Stmt struct {
	c   *Conn
	p   uintptr
	err error

	arena      uintptr // memory for bound text and blobs
	cap, used  int
	spill      []uintptr // what didn't fit into the arena
	spillBytes int
}

// Close finalizes the statement.
func (s *Stmt) Close() {
	if s.p == 0 {
		return
	}
	lib.Xsqlite3_finalize(s.c.tls, s.p)
	s.p = 0
	s.freeSpill()
	libc.Xfree(s.c.tls, s.arena)
	s.arena, s.cap = 0, 0
	delete(s.c.stmts, s)
}

// Int binds an integer.
func (s *Stmt) Int(i int, v int64) { s.note(lib.Xsqlite3_bind_int64(s.c.tls, s.p, int32(i), v)) }

// Bool binds 0 or 1.
func (s *Stmt) Bool(i int, v bool) {
	var n int64
	if v {
		n = 1
	}
	s.Int(i, n)
}

// Null binds NULL.
func (s *Stmt) Null(i int) { s.note(lib.Xsqlite3_bind_null(s.c.tls, s.p, int32(i))) }

// Text binds a copy of a string.
func (s *Stmt) Text(i int, v string) {
	p := s.copy(unsafe.Slice(unsafe.StringData(v), len(v)))
	if p != 0 {
		s.note(lib.Xsqlite3_bind_text(s.c.tls, s.p, int32(i), p, int32(len(v)), 0))
	}
}

// Blob binds a copy of bytes; nil and empty alike are the empty blob, never NULL.
func (s *Stmt) Blob(i int, v []byte) {
	if p := s.copy(v); p != 0 {
		s.note(lib.Xsqlite3_bind_blob(s.c.tls, s.p, int32(i), p, int32(len(v)), 0))
	}
}

// copy moves bytes into the library's memory, where they stay until Reset. It returns 0 after an error.
func (s *Stmt) copy(v []byte) uintptr {
	n := max(len(v), 1) // the address of an empty value must not be 0, which would bind NULL
	if n > 1<<30 {
		s.note(lib.SQLITE_TOOBIG)
		return 0
	}
	var p uintptr
	if s.cap-s.used >= n {
		p = s.arena + uintptr(s.used)
		s.used += n
	} else {
		if p = libc.Xmalloc(s.c.tls, libc.Tsize_t(n)); p == 0 {
			s.note(lib.SQLITE_NOMEM)
			return 0
		}
		s.spill = append(s.spill, p)
		s.spillBytes += n
	}
	copy(unsafe.Slice((*byte)(pointer(p)), n), v)
	return p
}

func (s *Stmt) note(rc int32) {
	if rc != lib.SQLITE_OK && s.err == nil {
		s.err = &Error{Code: int(rc), Msg: libc.GoString(lib.Xsqlite3_errstr(s.c.tls, rc))}
	}
}

// Step runs the statement up to its next row, or to its end: then it returns false. After an error the statement must be reset.
func (s *Stmt) Step() (row bool, err error) {
	if s.err != nil {
		return false, s.err
	}
	switch rc := lib.Xsqlite3_step(s.c.tls, s.p); rc {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.error(rc)
	}
}

// Run runs the statement to its end and resets it.
func (s *Stmt) Run() error {
	for {
		row, err := s.Step()
		if err != nil || !row {
			s.Reset()
			return err
		}
	}
}

// Reset ends a run and forgets the parameters. Column values are invalid afterwards.
func (s *Stmt) Reset() {
	lib.Xsqlite3_reset(s.c.tls, s.p)
	lib.Xsqlite3_clear_bindings(s.c.tls, s.p)
	s.err = nil
	want := s.used + s.spillBytes
	s.freeSpill()
	if want > s.cap && s.cap < arenaKeep {
		libc.Xfree(s.c.tls, s.arena)
		s.cap = 0
		if s.arena = libc.Xmalloc(s.c.tls, libc.Tsize_t(min(2*want, arenaKeep))); s.arena != 0 {
			s.cap = min(2*want, arenaKeep)
		}
	}
	s.used = 0
}

func (s *Stmt) freeSpill() {
	for _, p := range s.spill {
		libc.Xfree(s.c.tls, p)
	}
	s.spill, s.spillBytes = s.spill[:0], 0
}

// ColInt returns a column of the current row as an integer.
func (s *Stmt) ColInt(i int) int64 { return lib.Xsqlite3_column_int64(s.c.tls, s.p, int32(i)) }

// ColNull reports whether a column of the current row is NULL.
func (s *Stmt) ColNull(i int) bool {
	return lib.Xsqlite3_column_type(s.c.tls, s.p, int32(i)) == lib.SQLITE_NULL
}

// ColRaw returns a column's bytes in the library's memory: valid until the next Step, Reset or Close, and read-only.
func (s *Stmt) ColRaw(i int) []byte {
	p := lib.Xsqlite3_column_blob(s.c.tls, s.p, int32(i))
	n := lib.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i))
	if p == 0 || n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(p)), int(n))
}

// ColText returns a copy of a column's text.
func (s *Stmt) ColText(i int) string { return string(s.ColRaw(i)) }

// ColBlob returns a copy of a column's bytes; it is not nil unless the column is NULL.
func (s *Stmt) ColBlob(i int) []byte {
	if s.ColNull(i) {
		return nil
	}
	return append([]byte{}, s.ColRaw(i)...)
}
