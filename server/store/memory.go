package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"carillon.im/server/store/sqlite"
)

// Memory is a database in memory that outlives the Stores over it (Options.Memory), of which there may be one at a time: for tests that close
// a store and open it again, and for those that need a new one so often that making its schema is what takes long. The zero value is a new database.
// Its methods are not to be called while a Store is open over it.
type Memory struct {
	mu   sync.Mutex // held by a transaction or a read
	db   *conn      // nil: not made yet
	find string     // the query that full asks, "" before the first
}

// Empty makes the database what it was when it was new: of what it held nothing is left, ids and starts count from the beginning. After an error it is
// another one, which is new.
func (m *Memory) Empty() error {
	if m.db == nil {
		return nil
	}
	full, err := m.full()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	queries := []string{qBegin}
	for _, name := range full {
		queries = append(queries, `DELETE FROM "`+name+`"`)
	}
	for _, query := range append(queries, qStartsReset, qCommit) {
		if err := m.db.run(query); err != nil {
			return errors.Join(fmt.Errorf("store: emptying: %w", err), m.Close())
		}
	}
	return nil
}

// full are the names of the tables with rows that are data, those that others refer to last.
func (m *Memory) full() ([]string, error) {
	if m.find == "" {
		all, err := m.names(qTables)
		if err != nil {
			return nil, err
		}
		for i, name := range all {
			all[i] = fmt.Sprintf(`SELECT '%[1]s' WHERE EXISTS (SELECT 1 FROM "%[1]s")`, name)
		}
		m.find = strings.Join(all, " UNION ALL ")
	}
	return m.names(m.find)
}

// names are what a query returns.
func (m *Memory) names(query string) (list []string, err error) {
	err = m.db.each(query, func(r *sqlite.Stmt) error {
		list = append(list, r.ColText(0))
		return nil
	})
	return list, err
}

// Close ends the database.
func (m *Memory) Close() error {
	if m.db == nil {
		return nil
	}
	db := m.db
	m.db = nil
	return db.close()
}
