package scripts

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"carillon.im/jid"
)

// script is a parsed file.
type script struct {
	name     string
	clients  []*person
	contacts []contact
	settings []string
	steps    []step
	onDisk   bool // the data outlives the server
}

// person is a client of the header.
type person struct {
	name, password, resource string
	jid                      jid.JID
	component                string // its secret; "": it is a person's client
	starttls, stranger, acks bool
}

type contact struct {
	of, jid      jid.JID
	subscription string
}

// step is one line, with what is indented below it.
type step struct {
	line  int
	text  string
	block string
}

func load(path string) (*script, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &script{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	header := true
	for i, line := range strings.Split(string(b), "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if strings.HasPrefix(trimmed, "---") {
			header = false
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case header && indented:
			err = s.option(trimmed)
		case header:
			err = s.heading(trimmed)
		case indented && len(s.steps) == 0:
			err = fmt.Errorf("indented line without a step")
		case indented:
			last := &s.steps[len(s.steps)-1]
			last.block += strings.TrimPrefix(line, "\t") + "\n"
		default:
			s.steps = append(s.steps, step{line: i + 1, text: trimmed})
			s.onDisk = s.onDisk || trimmed == "server restarts" || trimmed == "server stops"
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return s, nil
}

var knows = regexp.MustCompile(`^(\S+) knows (\S+) (none|to|from|both)$`)

func (s *script) heading(line string) error {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
	rest = strings.TrimSpace(rest)
	switch kind {
	case "Client":
		s.clients = append(s.clients, &person{name: rest, password: "secret"})
	case "Account":
		m := knows.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("want: [Account] JID knows JID none|to|from|both")
		}
		s.contacts = append(s.contacts, contact{jid.MustParse(m[1]), jid.MustParse(m[2]), m[3]})
	case "Server":
		s.settings = append(s.settings, rest)
	default:
		return fmt.Errorf("unknown heading %q", kind)
	}
	return nil
}

func (s *script) option(line string) (err error) {
	key, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if len(s.clients) == 0 {
		return fmt.Errorf("an option without a client")
	}
	p := s.clients[len(s.clients)-1]
	switch key {
	case "jid":
		p.jid, err = jid.Parse(value)
	case "password":
		p.password = value
	case "resource":
		p.resource = value
	case "component":
		p.component = value
	case "tls":
		p.starttls = value == "starttls"
	case "acks":
		p.acks = value == "shown"
	case "account":
		p.stranger = value == "no"
	default:
		err = fmt.Errorf("unknown option %q", key)
	}
	return err
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		s, err := load(file)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}
