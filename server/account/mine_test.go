package account

import (
	"regexp"
	"testing"

	"carillon.im/jid"
)

var whoseID = regexp.MustCompile(`<whose xmlns='urn:xmpp:tmp:mine:0' id='([a-z0-9._-]+)'/>`)

// TestWhoseIsNeverGivenTwice: not for messages that are kept nowhere, not by a
// clock that stands still or was set back, not over restarts (MINE-12, MINE-40).
func TestWhoseIsNeverGivenTwice(t *testing.T) {
	seen := map[string]bool{}
	for start := range uint64(3) {
		w := newWorld(t, "alice bob", func(c *Config) { c.Start = start + 1 })
		a, b := w.bind("alice/r"), w.bind("bob/r online")
		for range 50 {
			a.send("<message to='bob@h.example' type='chat'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>")
			w.settle()
			for _, got := range b.take() {
				id := whoseID.FindStringSubmatch(got)
				if id == nil || seen[id[1]] {
					t.Fatalf("no id, or one that was there before: %s", got)
				}
				seen[id[1]] = true
				if _, err := jid.New(id[1], "h.example", ""); err != nil {
					t.Errorf("%s: %v", id[1], err)
				}
			}
		}
		w.close()
	}
	if len(seen) != 150 {
		t.Errorf("%d ids", len(seen))
	}
}
