// Package sqlstore keeps conversations in an SQLite file in the user's data
// folder.
//
// The model: three tables, entries by conversation and position, conversations,
// and the account's one row. What the engine asks for by is a column; the rest
// of a row is JSON, so that a new field needs no migration. One file belongs to
// one account and one process: it is locked while it is open.
package sqlstore

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"modernc.org/sqlite" // the driver
)

// ErrInUse is Open's answer for a file that another process, or another Store,
// has open.
var ErrInUse = errors.New("sqlstore: another program has the file")

// busy is SQLITE_BUSY, the lowest byte of a result code.
const busy = 5

// Store is a convo.Store in a file. It may be used concurrently.
type Store struct{ db *sql.DB }

// version is the schema's, in the file's user_version.
const version = 1

const schema = `
CREATE TABLE account (one INTEGER PRIMARY KEY CHECK (one = 1), data TEXT NOT NULL) STRICT;
CREATE TABLE conversation (jid TEXT PRIMARY KEY, changed INTEGER NOT NULL, base INTEGER NOT NULL, data TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE entry (id INTEGER PRIMARY KEY, conversation TEXT NOT NULL, pos INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
CREATE INDEX entry_pos ON entry (conversation, pos);
PRAGMA user_version = 1;`

// Open opens the file at path, made with its folder if missing, readable for
// its owner only. It fails with ErrInUse if another process has it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // the lock is a connection's
	s := &Store{db}
	if err := s.prepare(); err != nil {
		if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == busy {
			err = ErrInUse
		}
		return nil, errors.Join(fmt.Errorf("sqlstore: opening %s: %w", path, err), db.Close())
	}
	return s, nil
}

func (s *Store) prepare() error {
	if _, err := s.db.Exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 0`); err != nil {
		return err
	}
	var have int
	if err := s.db.QueryRow(`PRAGMA user_version`).Scan(&have); err != nil {
		return err
	}
	switch have {
	case version:
		// The lock is taken with the first write.
		_, err := s.db.Exec(`PRAGMA user_version = 1`)
		return err
	case 0:
		return s.in(func(tx *sql.Tx) error {
			_, err := tx.Exec(schema)
			return err
		})
	}
	return fmt.Errorf("the file is of version %d, this program knows %d", have, version)
}

// in runs a transaction.
func (s *Store) in(do func(*sql.Tx) error) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Write implements convo.Store.
func (s *Store) Write(writes []convo.Write) error {
	err := s.in(func(tx *sql.Tx) error {
		for _, w := range writes {
			if err := put(tx, w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlstore: writing: %w", err)
	}
	return nil
}

func put(tx *sql.Tx, w convo.Write) error {
	var query string
	var args []any
	var value any
	switch {
	case w.Entry != nil:
		query = `INSERT OR REPLACE INTO entry (id, conversation, pos, data) VALUES (?, ?, ?, ?)`
		args, value = []any{int64(w.Entry.Entry.ID), w.Entry.Conversation.String(), w.Entry.Entry.Pos}, w.Entry.Entry
	case w.Conversation != nil:
		query = `INSERT OR REPLACE INTO conversation (jid, changed, base, data) VALUES (?, ?, ?, ?)`
		args, value = []any{w.Conversation.JID.String(), w.Conversation.Changed.UnixMilli(), w.Conversation.Base}, w.Conversation
	case w.Account != nil:
		query = `INSERT OR REPLACE INTO account (one, data) VALUES (1, ?)`
		value = w.Account
	default:
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = tx.Exec(query, append(args, string(data))...)
	return err
}

// Load implements convo.Store.
func (s *Store) Load(tail int) (convo.Snapshot, error) {
	var snap convo.Snapshot
	err := s.in(func(tx *sql.Tx) error {
		var data string
		switch err := tx.QueryRow(`SELECT data FROM account`).Scan(&data); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		default:
			if err := json.Unmarshal([]byte(data), &snap.Account); err != nil {
				return err
			}
		}
		records, err := query[convo.Record](tx, `SELECT data FROM conversation ORDER BY changed DESC`)
		if err != nil {
			return err
		}
		for _, rec := range records {
			stored, err := load(tx, rec, tail)
			if err != nil {
				return err
			}
			snap.Conversations = append(snap.Conversations, stored)
		}
		return nil
	})
	if err != nil {
		return convo.Snapshot{}, fmt.Errorf("sqlstore: loading: %w", err)
	}
	return snap, nil
}

func load(tx *sql.Tx, rec convo.Record, tail int) (convo.Stored, error) {
	stored := convo.Stored{Record: rec}
	var from sql.NullInt64
	err := tx.QueryRow(`SELECT min(pos) FROM (SELECT pos FROM entry WHERE conversation = ? AND pos < ? ORDER BY pos DESC LIMIT ?)`,
		rec.JID.String(), convo.WaitingPos, tail).Scan(&from)
	if err != nil {
		return stored, err
	}
	first := from.Int64
	if rec.Base > 0 {
		first = min(first, rec.Base)
	}
	if stored.Entries, err = query[convo.Entry](tx, `SELECT data FROM entry WHERE conversation = ? AND pos >= ? ORDER BY pos`, rec.JID.String(), first); err != nil {
		return stored, err
	}
	err = tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM entry WHERE conversation = ? AND pos < ?)`, rec.JID.String(), first).Scan(&stored.More)
	return stored, err
}

// History implements convo.Store.
func (s *Store) History(conversation jid.JID, before int64, most int) (entries []convo.Entry, more bool, err error) {
	err = s.in(func(tx *sql.Tx) (err error) {
		entries, err = query[convo.Entry](tx, `SELECT data FROM (SELECT pos, data FROM entry WHERE conversation = ? AND pos < ? ORDER BY pos DESC LIMIT ?) ORDER BY pos`,
			conversation.String(), min(before, convo.WaitingPos), most+1)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("sqlstore: reading history: %w", err)
	}
	if len(entries) > most {
		return entries[1:], true, nil
	}
	return entries, false, nil
}

// query reads the rows of a query whose one column is JSON.
func query[T any](tx *sql.Tx, q string, args ...any) (list []T, err error) {
	rows, err := tx.Query(q, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var data sql.RawBytes
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// Close gives the file free.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("sqlstore: closing: %w", err)
	}
	return nil
}
