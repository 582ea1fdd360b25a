package store

import "testing"

// Dump is what a database in memory holds beyond what a new one does: how many rows, by table.
func (m *Memory) Dump(t *testing.T) (text string) {
	t.Helper()
	names, err := m.names(`SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'migration'`)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		n, err := m.db.QueryText(`SELECT count(*) FROM "` + name + `"`)
		if name == "starts" {
			n, err = m.db.QueryText(`SELECT CASE WHEN count(*) = 1 AND sum(n) = 0 THEN '0' ELSE 'not 0' END FROM starts`)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n != "0" {
			text += name + ": " + n + "\n"
		}
	}
	return text
}
