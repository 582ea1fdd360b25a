package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
		_, err = x.person.WriteString(x.answers[0] + "\n")
		x.answers = x.answers[1:]
	}
	return n, err
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
		{"add", []string{"add", "romeo@localhost"}, []string{"secret", "secret"}, 0, "account romeo@localhost made"},
		{"change", []string{"passwd", "romeo@localhost"}, []string{"other", "other"}, 0, "changed"},
		{"no", []string{"remove", "romeo@localhost"}, []string{"n"}, 1, "nothing was changed"},
		{"nothing", []string{"remove", "romeo@localhost"}, []string{""}, 1, "nothing was changed"},
		{"yes", []string{"remove", "romeo@localhost"}, []string{"y"}, 0, "removed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			person, stdin := openTerminal(t)
			var out bytes.Buffer
			seen := &typing{person: person, answers: tt.answers}
			p := &program{stdin: stdin, stdout: &out, stderr: seen, name: "carillon"}
			code := p.run(t.Context(), append(append([]string{"user"}, tt.args...), "--data", data))
			if code != tt.code || !strings.Contains(out.String()+seen.String(), tt.want) || len(seen.answers) > 0 {
				t.Errorf("code %d: %s%s", code, &out, seen)
			}
			if strings.Contains(out.String()+seen.String(), "secret") {
				t.Error("the password was shown")
			}
		})
	}
}
