package store

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"carillon.im/server/store/sqlite"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered, forward-only step of the schema. Its text never changes once released: the checksum of what was applied is kept and
// compared at every start.
type migration struct {
	number int
	name   string
	text   string
	sum    string
}

// migrations reads NNNN_name.sql files; the numbers must run from 1 without a gap.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, path := range names { // Glob sorts
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		digits, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(digits); err != nil || n != i+1 {
			return nil, fmt.Errorf("store: migration %s should have number %d", name, i+1)
		}
		sum := sha256.Sum256(text)
		all = append(all, migration{number: i + 1, name: name, text: string(text), sum: hex.EncodeToString(sum[:])})
	}
	return all, nil
}

// migrate brings the schema up to date, each step in a transaction of its own, and refuses a database that a newer or different program made.
func migrate(ctx context.Context, c *sqlite.Conn, steps []migration, now time.Time) error {
	err := c.Exec(`CREATE TABLE IF NOT EXISTS migration (
		number INTEGER PRIMARY KEY, name TEXT NOT NULL, sum TEXT NOT NULL, at INTEGER NOT NULL) STRICT`)
	if err != nil {
		return fmt.Errorf("store: preparing for migrations: %w", err)
	}
	done, err := checkApplied(c, steps)
	if err != nil {
		return err
	}
	for _, m := range steps[done:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := applyMigration(c, m, now); err != nil {
			return fmt.Errorf("store: migration %s: %w", m.name, err)
		}
	}
	return nil
}

// checkApplied returns how many steps the database has, after comparing them with ours.
func checkApplied(c *sqlite.Conn, steps []migration) (int, error) {
	s, err := c.Prepare(`SELECT number, name, sum FROM migration ORDER BY number`)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	done := 0
	for {
		row, err := s.Step()
		if err != nil {
			return 0, fmt.Errorf("store: reading migrations: %w", err)
		}
		if !row {
			return done, nil
		}
		switch number, name := int(s.ColInt(0)), s.ColText(1); {
		case number > len(steps):
			return 0, fmt.Errorf("store: the database has migration %s: a newer carillon made it", name)
		case number != done+1 || steps[done].name != name || steps[done].sum != s.ColText(2):
			return 0, fmt.Errorf("store: migration %s in the database is not the one this carillon knows", name)
		}
		done++
	}
}

func applyMigration(c *sqlite.Conn, m migration, now time.Time) error {
	if err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := c.Exec(m.text)
	if err == nil {
		err = c.Exec(fmt.Sprintf("INSERT INTO migration VALUES (%d, '%s', '%s', %d)", m.number, m.name, m.sum, now.UnixMicro()))
	}
	if err == nil {
		err = c.Exec("COMMIT")
	}
	if err != nil && c.InTransaction() {
		if undo := c.Exec("ROLLBACK"); undo != nil {
			return fmt.Errorf("%w, and undoing it: %w", err, undo)
		}
	}
	return err
}
