package scripts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTraps: the tests that docs/interop-traps.md names exist.
func TestTraps(t *testing.T) {
	page, err := os.ReadFile("../../docs/interop-traps.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{"account": "../../server/account", "c2s": "../../server/c2s", "crash": "../crash", "scripts": "."}
	name := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(cells[1], " ---") || cells[1] == " trap " {
			continue
		}
		rows++
		tests := name.FindAllStringSubmatch(cells[3], -1)
		if len(tests) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, m := range tests {
			pkg, test, ok := strings.Cut(m[1], ".")
			if !ok {
				if _, err := os.Stat(m[1] + ".txt"); err != nil {
					t.Error(err)
				}
				continue
			}
			if !declared(t, folders[pkg], test) {
				t.Errorf("there is no %s", m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows were understood", rows)
	}
}

// declared reports whether a folder's tests have a function of this name.
func declared(t *testing.T, folder, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+test+"(t *testing.T)") {
			return true
		}
	}
	return false
}
