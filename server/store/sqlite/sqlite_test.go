package sqlite_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/server/store/sqlite"
)

func open(t *testing.T, path string) *sqlite.Conn {
	t.Helper()
	c, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestValues(t *testing.T) {
	c := open(t, ":memory:")
	if err := c.Exec("CREATE TABLE v (i, t, b, n)"); err != nil {
		t.Fatal(err)
	}
	put, err := c.Prepare("INSERT INTO v VALUES (?, ?, ?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	get, err := c.Prepare("SELECT i, t, b, n, typeof(i), typeof(t), typeof(b), typeof(n) FROM v")
	if err != nil {
		t.Fatal(err)
	}
	// Sizes around the arena's, growing and shrinking.
	for i, size := range []int{0, 1, 100, 10, 1000, 64 << 10, 64<<10 + 1, 1 << 20, 5, 0} {
		text, blob := strings.Repeat("ü", size/2), bytes.Repeat([]byte{0, 255}, size/2)
		put.Int(1, int64(-i)<<40)
		put.Text(2, text)
		put.Blob(3, blob)
		put.Null(4)
		if err := put.Run(); err != nil {
			t.Fatal(err)
		}
		row, err := get.Step()
		if err != nil || !row {
			t.Fatal(row, err)
		}
		if get.ColInt(0) != int64(-i)<<40 || get.ColText(1) != text || !bytes.Equal(get.ColBlob(2), blob) || !get.ColNull(3) || get.ColBlob(3) != nil {
			t.Errorf("size %d came back different", size)
		}
		if types := get.ColText(4) + get.ColText(5) + get.ColText(6) + get.ColText(7); types != "integertextblobnull" {
			t.Errorf("types %s", types)
		}
		if row, err := get.Step(); row || err != nil {
			t.Fatal(row, err)
		}
		get.Reset()
		if err := c.Exec("DELETE FROM v"); err != nil || c.Changes() != 1 {
			t.Fatal(err)
		}
	}
}

func TestErrors(t *testing.T) {
	c := open(t, ":memory:")
	if err := c.Exec("CREATE TABLE v (i INTEGER PRIMARY KEY) WITHOUT ROWID; INSERT INTO v VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prepare("SELECT nothing FROM v"); err == nil {
		t.Error("no such column")
	}
	if _, err := c.Prepare("-- nothing"); err == nil {
		t.Error("no statement")
	}
	s, err := c.Prepare("INSERT INTO v VALUES (?)")
	if err != nil {
		t.Fatal(err)
	}
	s.Int(1, 1)
	if err := s.Run(); sqlite.Code(err) != sqlite.ConstraintPrimaryKey {
		t.Errorf("got %v", err)
	}
	s.Int(2, 1) // out of range: Step tells
	if err := s.Run(); err == nil {
		t.Error("bad parameter")
	}
	s.Int(1, 2)
	if err := s.Run(); err != nil {
		t.Errorf("after errors: %v", err)
	}
	if _, err := sqlite.Open(filepath.Join(t.TempDir(), "no", "such.db")); err == nil {
		t.Error("opened a file in no folder")
	}
	if got, err := c.QueryText("SELECT i FROM v WHERE i > 5"); got != "" || err != nil {
		t.Error(got, err)
	}
}

func TestTransaction(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "x.db"))
	if err := c.Exec("PRAGMA journal_mode = WAL; CREATE TABLE v (i); BEGIN; INSERT INTO v VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	if !c.InTransaction() || c.LastInsertID() != 1 {
		t.Error("not in a transaction")
	}
	if err := c.Exec("ROLLBACK"); err != nil || c.InTransaction() {
		t.Error(err)
	}
	if got, err := c.QueryText("SELECT count(*) FROM v"); got != "0" || err != nil {
		t.Error(got, err)
	}
	if c.PagesWritten() == 0 {
		t.Error("no pages written")
	}
	log, done, err := c.Checkpoint()
	if log == 0 || log != done || err != nil {
		t.Error(log, done, err)
	}
}
