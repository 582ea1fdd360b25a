package interop

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	domain = "carillon.test"

	// service is the domain of the component that the servers let in with serviceSecret.
	service       = "echo." + domain
	serviceSecret = "parrot"

	// patience bounds every wait for something that must happen. It is long because two busy cores may serve a dozen
	// clients at once; no test that passes spends it.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	code := m.Run()
	run.shutdown()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks reports goroutines that outlive the tests.
func leaks() int {
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > 1 {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s\n", stacks[:runtime.Stack(stacks, true)])
			return 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

// need skips the test when a program is not there, or fails it where the suite runs for real.
func need(t *testing.T, program, what string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		lacking(t, what)
	}
}

func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CARILLON_INTEROP") == "1" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// output runs a command to its end and returns what it printed, whether or not it succeeded.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out), err
}
