package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a pseudo terminal: what a person sees and types, and what the program has as standard input.
func openTerminal(t *testing.T) (person, stdin *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	stdin, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	t.Cleanup(func() { stdin.Close() })
	return person, stdin
}

// typing is a standard error on which a person sees a prompt and answers it.
type typing struct {
	bytes.Buffer
	person  *os.File
	answers []string
}

func (x *typing) Write(b []byte) (int, error) {
	n, err := x.Buffer.Write(b)
	if s := string(b); len(x.answers) > 0 && (strings.HasSuffix(s, ": ") || strings.HasSuffix(s, "] ")) {
		answer := x.answers[0]
		x.answers = x.answers[1:]
		if signal, ok := signalNamed(answer); ok {
			return n, syscall.Kill(os.Getpid(), signal)
		}
		if strings.IndexFunc(answer, unicode.IsControl) < 0 { // which ends the answer itself
			answer += "\n"
		}
		_, err = x.person.WriteString(answer)
	}
	return n, err
}

// signalNamed returns the signal that an answer stands for.
func signalNamed(answer string) (syscall.Signal, bool) {
	s, ok := map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP}[answer]
	return s, ok
}

func TestPrompt(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, tt := range []struct {
		name    string
		args    []string
		answers []string
		code    int
		want    string
	}{
		{"two different", []string{"add", "romeo@localhost"}, []string{"secret", "secert"}, 1, "the two are different"},
		{"Ctrl-C", []string{"add", "romeo@localhost"}, []string{"\x03"}, 130, "interrupted: nothing was changed"},
		{"Ctrl-C at the second", []string{"add", "romeo@localhost"}, []string{"secret", "sec\x03"}, 130, "interrupted: nothing was changed"},
		{"Ctrl-D", []string{"add", "romeo@localhost"}, []string{"\x04"}, 1, "cancelled: nothing was changed"},
		{"SIGINT", []string{"add", "romeo@localhost"}, []string{"SIGINT"}, 130, "interrupted: nothing was changed"},
		{"SIGTERM", []string{"add", "romeo@localhost"}, []string{"SIGTERM"}, 130, "interrupted: nothing was changed"},
		{"SIGHUP", []string{"add", "romeo@localhost"}, []string{"secret", "SIGHUP"}, 130, "interrupted: nothing was changed"},
		{"empty", []string{"add", "romeo@localhost"}, []string{""}, 1, "the password can't be empty"},
		// Nobody is asked for the password of what can't be.
		{"no address", []string{"add", "romeo"}, nil, 1, "wanted name@domain"},
		{"not served", []string{"add", "romeo@elsewhere.example"}, nil, 1, "domains are localhost"},
		{"nobody", []string{"passwd", "romeo@localhost"}, nil, 1, "there is no data folder"},
		{"add", []string{"add", "romeo@localhost"}, []string{"secret", "secret"}, 0, "account romeo@localhost made"},
		{"there already", []string{"add", "romeo@localhost"}, nil, 1, "exists already"},
		{"change of nobody", []string{"passwd", "juliet@localhost"}, nil, 1, "there is no account juliet@localhost"},
		{"remove nobody", []string{"remove", "juliet@localhost"}, nil, 1, "there is no account juliet@localhost"},
		{"the prompt names the account", []string{"passwd", "romeo@localhost"}, []string{"\x04"}, 1, "New password for romeo@localhost: "},
		{"change", []string{"passwd", "romeo@localhost"}, []string{"other", "other"}, 0, "changed"},
		{"no", []string{"remove", "romeo@localhost"}, []string{"n"}, 1, "nothing was changed"},
		{"nothing", []string{"remove", "romeo@localhost"}, []string{""}, 1, "nothing was changed"},
		{"yes", []string{"remove", "romeo@localhost"}, []string{"y"}, 0, "removed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			person, stdin := openTerminal(t)
			var out bytes.Buffer
			before, err := unix.IoctlGetTermios(int(stdin.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			seen := &typing{person: person, answers: tt.answers}
			p := &program{stdin: stdin, stdout: &out, stderr: seen, name: "carillon"}
			code := p.run(t.Context(), append(append([]string{"user"}, tt.args...), "--data", data))
			if code != tt.code || !strings.Contains(out.String()+seen.String(), tt.want) || len(seen.answers) > 0 {
				t.Errorf("code %d: %s%s", code, &out, seen)
			}
			if strings.Contains(out.String()+seen.String(), "secret") {
				t.Error("the password was shown")
			}
			// However it ended, the terminal is as it was.
			if after, err := unix.IoctlGetTermios(int(stdin.Fd()), unix.TCGETS); err != nil || *after != *before || after.Lflag&unix.ECHO == 0 {
				t.Errorf("the terminal was %+v and is %+v, %v", before, after, err)
			}
			// What still waits for a key after a signal ends with the process; here with this one.
			if _, err := person.WriteString("\r"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTerminalGone: a server that a person started stops when the terminal is closed, of which SIGHUP tells when it has gone already.
func TestTerminalGone(t *testing.T) {
	person, stdin := openTerminal(t)
	s := startServerAt(t, stdin, filepath.Join(t.TempDir(), "data"))
	if err := person.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// One that doesn't stop for it is made to.
	otherwise := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGTERM) })
	defer otherwise.Stop()
	if code := s.wait(); code != 0 || !strings.Contains(s.log.String(), "signal=hangup") {
		t.Errorf("code %d: %s", code, s.log)
	}
}

// TestPasswordAgain: who mistypes the password is asked again, a few times.
func TestPasswordAgain(t *testing.T) {
	w := newClientWorld(t, "romeo", "juliet")
	for _, tt := range []struct {
		answers []string
		code    int
		want    string
	}{
		{[]string{"secert", "secret"}, 0, "The password is wrong."},
		{[]string{"a", "b", "c"}, 1, "juliet@localhost: the password is wrong, or there is no such account"},
	} {
		person, stdin := openTerminal(t)
		var out bytes.Buffer
		seen := &typing{person: person, answers: tt.answers}
		p := &program{stdin: stdin, stdout: &out, stderr: seen, name: "carillon"}
		name := "romeo"
		if tt.code != 0 {
			name = "juliet"
		}
		if code := p.run(t.Context(), append([]string{"send", "romeo@localhost", "hello"}, w.as(name)...)); code != tt.code || !strings.Contains(seen.String(), tt.want) || len(seen.answers) > 0 {
			t.Errorf("code %d: %s", code, seen)
		}
	}
}

// TestTrust: a person is asked whether to trust a certificate that nobody vouches for, once.
func TestTrust(t *testing.T) {
	w := newClientWorld(t, "romeo")
	args := []string{"send", "romeo@localhost", "hello", "--account", "romeo@localhost", "--server", w.addrs["c2s"], "--data", t.TempDir()}
	for _, tt := range []struct {
		answers []string
		code    int
		want    string
	}{
		{[]string{"secret", "n"}, 1, "isn't trusted"},
		{[]string{"secret", "y"}, 0, w.flags[3] + "\n"},
		{nil, 0, ""},
	} {
		person, stdin := openTerminal(t)
		var out bytes.Buffer
		seen := &typing{person: person, answers: tt.answers}
		p := &program{stdin: stdin, stdout: &out, stderr: seen, name: "carillon"}
		if code := p.run(t.Context(), args); code != tt.code || !strings.Contains(seen.String(), tt.want) || len(seen.answers) > 0 {
			t.Errorf("code %d: %s", code, seen)
		}
	}
}
