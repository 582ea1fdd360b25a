package sqlite

import (
	"testing"

	lib "modernc.org/sqlite/lib"
)

// TestPlanKept: a statement is compiled once, whatever is bound to it.
func TestPlanKept(t *testing.T) {
	c, err := Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.Exec("CREATE TABLE v (i INTEGER PRIMARY KEY, t TEXT); INSERT INTO v VALUES (1, 'a'), (2, 'b'), (3, 'c')"); err != nil {
		t.Fatal(err)
	}
	s, err := c.Prepare("SELECT t FROM v WHERE i > ?1 AND i <= ?2 ORDER BY i LIMIT ?3 OFFSET ?4")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(5) {
		s.Int(1, i)
		s.Int(2, 3)
		s.Int(3, i+1)
		s.Int(4, i%2)
		if err := s.Run(); err != nil {
			t.Fatal(err)
		}
	}
	if n := lib.Xsqlite3_stmt_status(c.tls, s.p, lib.SQLITE_STMTSTATUS_REPREPARE, 0); n != 0 {
		t.Errorf("compiled again %d times", n)
	}
}
