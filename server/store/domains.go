package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"carillon.im/server/store/sqlite"
)

// Domains returns how many accounts live under each domain that has any.
func (s *Store) Domains(ctx context.Context) (counts map[string]int, err error) {
	err = s.read(ctx, func(c *conn) (err error) {
		q, err := c.stmt(qDomains)
		if err != nil {
			return err
		}
		defer q.Reset()
		counts, err = countDomains(q)
		return err
	})
	return counts, err
}

// LookDomains is Domains for a folder whose store isn't open: it neither makes nor migrates a database, nor counts a start. Nil for a folder without
// one, ErrLocked while another process has it open.
func LookDomains(dir string) (counts map[string]int, err error) {
	file := filepath.Join(dir, "store.db")
	if info, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	lock, err := lockFile(filepath.Join(dir, "store.lock"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c, err := sqlite.Open(file)
	if err != nil {
		return nil, fmt.Errorf("store: opening %s: %w", file, diskError(err))
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	q, err := c.Prepare(qDomains)
	if err != nil {
		return nil, fmt.Errorf("store: reading %s: %w", file, diskError(err))
	}
	defer q.Close()
	return countDomains(q)
}

func countDomains(q *sqlite.Stmt) (map[string]int, error) {
	counts := make(map[string]int)
	for {
		row, err := q.Step()
		if err != nil || !row {
			return counts, diskError(err)
		}
		counts[q.ColText(0)] = int(q.ColInt(1))
	}
}
