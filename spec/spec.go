// Package spec is the register of what the founding documents ask for: each of
// their 170 requirements with what became of it. requirements.txt is the
// register; the tests hold it to the code, which cites the requirements by
// their ids, and docs/conformance.md is made of both.
package spec

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:generate go test -count=1 -run=^TestConformancePage$ -update

//go:embed requirements.txt
var requirements string

// Requirement is one line of the founding documents.
type Requirement struct {
	ID     string // MINE-14
	Level  string // the word of RFC 2119 in capitals, or what stands in its place
	Binds  string // whom
	Status string // one of the statuses
	How    string // the rule, the place, or the part of the client
	What   string // what it is about, in a few words
}

// The statuses of requirements.
const (
	Done          = "done"
	Decided       = "decided" // the documents contradict each other, or are silent
	Goal          = "goal"    // of the text's design
	NotApplicable = "n/a"
)

// Requirements reads the register, in the documents' order.
func Requirements() ([]Requirement, error) {
	var list []Requirement
	for n, line := range strings.Split(requirements, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 6 {
			return nil, fmt.Errorf("requirements.txt:%d: %d fields", n+1, len(f))
		}
		list = append(list, Requirement{f[0], f[1], f[2], f[3], f[4], f[5]})
	}
	return list, nil
}

// Server reports whether the requirement binds the server, on the recipient's
// side, the sender's or the border.
func (r *Requirement) Server() bool {
	switch r.Binds {
	case "server", "sender's server", "gateway", "client+server":
		return true
	}
	return false
}

// Client reports whether the requirement binds clients.
func (r *Requirement) Client() bool {
	switch r.Binds {
	case "client", "sender", "client+server":
		return true
	}
	return false
}

// Document is the prefix of the id.
func (r *Requirement) Document() string {
	doc, _, _ := strings.Cut(r.ID, "-")
	return doc
}
