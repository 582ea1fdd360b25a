package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"carillon.im/server/admin"
)

// maxSecret bounds what is read for a secret; what the server accepts is shorter.
const maxSecret = 4096

// secret gets a secret argument: from standard input if told so, else from the person at the terminal.
func (p *program) secret(a admin.Arg, fromStdin bool) (string, error) {
	fd := int(p.stdin.Fd())
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
	if !term.IsTerminal(fd) {
		return "", fmt.Errorf("%s is asked for at a terminal, and standard input is none: pipe it in and add --%s-stdin", a.Help, a.Name)
	}
	first, err := p.ask(fd, a.Help)
	if err != nil || !a.New {
		return first, err
	}
	second, err := p.ask(fd, a.Help+" again")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are different: nothing was changed")
	}
	return first, nil
}

// ask reads one line that the terminal doesn't show.
func (p *program) ask(fd int, what string) (string, error) {
	fmt.Fprintf(p.stderr, "%s%s: ", strings.ToUpper(what[:1]), what[1:])
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(p.stderr)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	return string(line), nil
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
