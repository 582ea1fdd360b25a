package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/term"

	"carillon.im/server/admin"
)

// maxSecret bounds what is read for a secret, in bytes; what the server accepts is shorter.
const maxSecret = 4096

// What ends a question without an answer. A signal gives the exit code that shells give for Ctrl-C.
var (
	errInterrupted = errors.New("interrupted: nothing was changed")
	errCancelled   = errors.New("cancelled: nothing was changed")
)

const codeInterrupted = 130

// secret gets a secret argument for the account that who names: from standard input if told so, else from the person at the terminal.
func (p *program) secret(a admin.Arg, who string, fromStdin bool) (string, error) {
	if fromStdin {
		data, err := io.ReadAll(io.LimitReader(p.stdin, maxSecret+1))
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", a.Help, err)
		}
		if len(data) > maxSecret {
			return "", fmt.Errorf("%s on standard input is longer than %d bytes", a.Help, maxSecret)
		}
		// One line break belongs to the line, not to the secret.
		s := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if strings.ContainsAny(s, "\r\n") {
			return "", fmt.Errorf("%s on standard input is more than one line", a.Help)
		}
		return s, nil
	}
	if !term.IsTerminal(int(p.stdin.Fd())) {
		return "", fmt.Errorf("%s is asked for at a terminal, and standard input is none: pipe it in and add --%s-stdin", a.Help, a.Name)
	}
	what := strings.TrimPrefix(a.Help, "the ")
	first, err := p.ask(fmt.Sprintf("%s%s for %s: ", strings.ToUpper(what[:1]), what[1:], who))
	if err != nil || !a.New {
		return first, err
	}
	if first == "" {
		return "", fmt.Errorf("%s can't be empty: nothing was changed", a.Help)
	}
	second, err := p.ask("The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are different: nothing was changed")
	}
	return first, nil
}

// ask reads one line that the terminal doesn't show. However it ends, the terminal is left as it was: a process that dies of a signal would leave it
// without echo, so signals end the question instead.
func (p *program) ask(prompt string) (string, error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	fd := int(p.stdin.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	fmt.Fprint(p.stderr, prompt)
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := readHidden(p.stdin)
		answers <- answer{line, err}
	}()
	var got answer
	select {
	case got = <-answers:
	case <-signals:
		// The reader is left behind: nothing but a key ends its wait, and the process ends now.
		got.err = errInterrupted
	}
	err = term.Restore(fd, before)
	fmt.Fprintln(p.stderr)
	if got.err != nil {
		return "", got.err
	}
	return got.line, err
}

// readHidden reads a line from a terminal in raw mode, in which keys have only the meaning that is given to them here.
func readHidden(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		if n, err := in.Read(b); n == 0 {
			if err == nil || err == io.EOF { // the terminal has gone
				err = errCancelled
			}
			return "", err
		}
		switch b[0] {
		case '\r', '\n':
			return string(line), nil
		case 'C' - '@': // Ctrl-C
			return "", errInterrupted
		case 'D' - '@': // Ctrl-D: the end, where nothing was typed; else nothing, as in a shell
			if len(line) == 0 {
				return "", errCancelled
			}
		case 0x7f, '\b':
			_, last := utf8.DecodeLastRune(line)
			line = line[:len(line)-last]
		case 'U' - '@': // Ctrl-U
			line = line[:0]
		default:
			if len(line) == maxSecret {
				return "", fmt.Errorf("more than %d bytes: nothing was changed", maxSecret)
			}
			line = append(line, b[0])
		}
	}
}

// confirm puts a question to the person at the terminal. Without a terminal there is nobody to ask: a script knows what it does.
func (p *program) confirm(question string) error {
	if !term.IsTerminal(int(p.stdin.Fd())) {
		return nil
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(p.stdin, &answer); err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}
