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
	deadline := time.Now().Add(patience)
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

// background starts a process that adds what it says to a file. The channel is closed when it has ended.
func background(cmd *exec.Cmd, logFile string) (ended <-chan struct{}, err error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	return done, nil
}

// awaitEnd waits until a process that was asked to end has done so, and kills one that doesn't.
func awaitEnd(process *os.Process, ended <-chan struct{}) {
	select {
	case <-ended:
	case <-time.After(patience):
		process.Kill()
		<-ended
	}
}

// output runs a command to its end and returns what it printed, whether or not it succeeded.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out), err
}
