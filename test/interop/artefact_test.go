package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keep writes what a person may want to look at after the test, such as a screen, to the folder that
// CARILLON_ARTEFACTS names; without it to one of the test, which goes with the test unless -artifacts is given.
func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	dir := os.Getenv("CARILLON_ARTEFACTS")
	if dir == "" {
		dir = t.ArtifactDir()
	}
	file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-"+name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("kept %s", file)
}
