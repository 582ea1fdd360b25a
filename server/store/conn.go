package store

import (
	"fmt"

	"carillon.im/server/store/sqlite"
)

// conn is a connection with its prepared statements by query text.
type conn struct {
	*sqlite.Conn
	stmts map[string]*sqlite.Stmt
}

func newConn(c *sqlite.Conn) *conn { return &conn{Conn: c, stmts: make(map[string]*sqlite.Stmt)} }

// stmt prepares a query at its first use.
func (c *conn) stmt(query string) (*sqlite.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c.stmts[query] = s
	return s, nil
}

// run runs a statement without parameters.
func (c *conn) run(query string) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	return s.Run()
}

func (c *conn) close() error { return c.Close() }

// bind sets the parameters of a statement in order.
func bind(s *sqlite.Stmt, args ...any) {
	for i, arg := range args {
		switch v := arg.(type) {
		case AccountID:
			s.Int(i+1, int64(v))
		case ArchiveID:
			s.Int(i+1, int64(v))
		case int64:
			s.Int(i+1, v)
		case int:
			s.Int(i+1, int64(v))
		case bool:
			s.Bool(i+1, v)
		case string:
			s.Text(i+1, v)
		case []byte:
			s.Blob(i+1, v)
		default:
			panic(fmt.Sprintf("store: cannot bind %T", arg))
		}
	}
}

// connect opens the database file, with a page cache of cache KiB, and makes sure that the settings that durability rests on took.
func (s *Store) connect(cache int) (*conn, error) {
	if err := s.fault("open"); err != nil {
		return nil, err
	}
	if s.memory != nil && s.memory.db != nil {
		return s.memory.db, nil
	}
	c, err := sqlite.Open(s.file)
	if err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", s.file, diskError(err))
	}
	fail := func(err error) (*conn, error) {
		if e := c.Close(); e != nil {
			s.log.Warn("store: closing a connection", "error", e)
		}
		return nil, fmt.Errorf("store: opening %s: %w", s.file, diskError(err))
	}
	setup := fmt.Sprintf(`PRAGMA busy_timeout = 10000; PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
		PRAGMA foreign_keys = ON; PRAGMA cache_size = -%d; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %d; PRAGMA temp_store = MEMORY;
		PRAGMA trusted_schema = OFF`, cache, walKeep)
	if err := c.Exec(setup); err != nil {
		return fail(err)
	}
	want := map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "wal_autocheckpoint": "0"}
	if s.memory != nil {
		want = map[string]string{"journal_mode": "memory", "foreign_keys": "1"}
	}
	for pragma, value := range want {
		got, err := c.QueryText("PRAGMA " + pragma)
		if err != nil {
			return fail(err)
		}
		if got != value {
			return fail(fmt.Errorf("%s is %q, not %q as it must be", pragma, got, value))
		}
	}
	return newConn(c), nil
}
