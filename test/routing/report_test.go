package routing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// disagreements collects what server and model disagree on, one line for all messages that differ in the same way.
type disagreements struct {
	mu   sync.Mutex
	seen map[string]*disagreement
}

func newDisagreements() *disagreements {
	return &disagreements{seen: map[string]*disagreement{}}
}

type disagreement struct {
	count   int
	example string
}

// differ notes that a device got something else than the model says; an empty form is nothing.
func (b *disagreements) differ(r *round, at *device, k key, got, want form) {
	b.note(r, at, k, got.String(), want.String())
}

func (b *disagreements) note(r *round, at *device, k key, got, want string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := r.sent[k.id]
	if m == nil {
		b.add(fmt.Sprintf("an unknown message at %s: %s", at.full(), got), "")
		return
	}
	line := fmt.Sprintf("%s\n\t%s's %s\n\tserver: %s\n\tmodel:  %s", m.describe(), at.account.role(m), at.kind, got, want)
	b.add(r.anonymous(m, line), fmt.Sprintf("devices %s, %s sends %s", r.devices(), m.from.full(), m.xml()))
}

func (b *disagreements) add(line, example string) {
	if b.seen[line] == nil {
		b.seen[line] = &disagreement{example: example}
	}
	b.seen[line].count++
}

// anonymous leaves out what differs from round to round.
func (r *round) anonymous(m *message, line string) string {
	if m.addressed != nil {
		line = strings.ReplaceAll(line, m.addressed.full(), "ADDRESSED")
	}
	line = strings.ReplaceAll(line, m.from.full(), "FROM")
	line = strings.ReplaceAll(line, r.recipient.bare, "RECIPIENT")
	return strings.ReplaceAll(line, m.from.account.bare, "SENDER")
}

func (r *round) devices() string {
	var names []string
	for _, d := range r.recipient.devices {
		names = append(names, d.kind)
	}
	return "[" + strings.Join(names, " ") + "]" + r.variant.String()
}

// shown bounds the report: who has broken something wants the first lines, not a thousand.
const shown = 60

// report fails for each way to disagree.
func (b *disagreements) report(t *testing.T) {
	for i, line := range slices.Sorted(maps.Keys(b.seen)) {
		if i == shown {
			t.Errorf("and %d more ways to disagree", len(b.seen)-shown)
			return
		}
		t.Errorf("%d times: %s\n\te.g. %s", b.seen[line].count, line, b.seen[line].example)
	}
}

func (m *message) describe() string {
	typ := m.typ
	if typ == "" {
		typ = "normal"
	}
	to := "the bare JID"
	switch {
	case m.absent:
		to = "an absent full JID"
	case m.addressed != nil:
		to = m.addressed.kind
	}
	relation := "a stranger's"
	switch {
	case m.own():
		relation = "own"
	case m.known():
		relation = "a contact's"
	}
	return fmt.Sprintf("%s (%s) to %s from %s %s", m.kind.name, typ, to, relation, m.from.kind)
}

func (a *account) role(m *message) string {
	if a == m.to {
		return "recipient"
	}
	return "sender"
}

// String is for people; the payload is in the example.
func (f form) String() string {
	if f == (form{}) {
		return "nothing"
	}
	s := f.how + " from " + f.from + " to " + f.to
	for _, flag := range []struct {
		on   bool
		name string
	}{{f.id, "stanza-id"}, {f.whose, "whose"}, {f.imng, "im-ng"}, {f.xmpp1, "xmpp-1"}, {f.reason != "", f.reason}} {
		if flag.on {
			s += " " + flag.name
		}
	}
	return s + " type='" + f.typ + "' " + f.inner
}
