package interop

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// echo starts a component that answers and returns when the server has let it in; stop ends it.
func echo(t *testing.T, s *server) (stop func()) {
	t.Helper()
	return component(t, s, "py/echo.py", func(string) {})
}

// component starts a component made with slixmpp, and returns when the server has let it in. What it says from then on goes to said, line by line.
func component(t *testing.T, s *server, program string, said func(line string)) (stop func()) {
	t.Helper()
	if what := slixmpp().missing(); what != "" {
		lacking(t, what)
	}
	cmd := exec.Command("/usr/bin/python3", program, service, serviceSecret, strconv.Itoa(port(s.service)))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan bool, 1), make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		ready <- lines.Scan() && lines.Text() == "ready"
		for lines.Scan() {
			said(lines.Text())
		}
		cmd.Wait()
		close(done)
	}()
	stop = func() {
		in.Close()
		awaitEnd(cmd.Process, done)
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("trace of the component:\n%s", tailOf(trace.String(), 6<<10))
		}
	})
	select {
	case ok := <-ready:
		if !ok {
			t.Fatal("the component has ended")
		}
	case <-time.After(patience):
		t.Fatal("the component was not let in")
	}
	return stop
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

// TestComponent: a component made with slixmpp answers clients, is gone, and is back.
func TestComponent(t *testing.T) {
	s := serve(t)
	alice := s.account(t, "alice")
	a := online(t, s, slixmpp(), alice, "one")
	for range 2 {
		stop := echo(t, s)
		for _, to := range []string{"polly@" + service, service, "polly@" + service + "/perch"} {
			text := newID()
			a.send(to, text)
			a.await("echo from "+to, func(e *event) bool {
				return e.Kind == "message" && e.From == to && e.Body == "echo: "+text
			})
		}
		a.do("ping", args{"to": service})
		stop()
		id := a.send("polly@"+service, "still there?")
		a.await("error from the component that is gone", func(e *event) bool { return e.Kind == "message" && e.Type == "error" && e.ID == id })
	}
}
