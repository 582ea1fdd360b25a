//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSignals(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	// A process hears of pending signals in the order of their numbers: SIGHUP is 1, SIGTERM 15.
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			t.Fatal(err)
		}
	}
	if code := s.wait(); code != 0 || !strings.Contains(s.log.String(), "reading certificates again") || strings.Count(s.log.String(), "stopping") != 1 {
		t.Errorf("code %d: %s", code, s.log)
	}
}
