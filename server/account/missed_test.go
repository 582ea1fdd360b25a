package account

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"carillon.im/server/store"
)

// TestLargeRoster: a login to more presence than a queue holds costs nobody the
// session, and in the end the client knows all of it.
func TestLargeRoster(t *testing.T) {
	for _, sm := range []string{"", " sm"} {
		t.Run("with"+sm, func(t *testing.T) {
			const contacts = 1200
			var all strings.Builder
			for i := range contacts {
				fmt.Fprintf(&all, " c%d", i)
			}
			w := newWorld(t, "alice"+all.String(), func(c *Config) { c.Limits.RosterItems, c.Limits.OutboxBytes = 2*contacts, 256<<10 })
			var ops []store.Op
			alice := w.id("alice")
			for i := range contacts {
				name := fmt.Sprintf("c%d", i)
				ops = append(ops, store.RosterPut{Account: alice, Version: int64(i + 1), Item: store.RosterItem{JID: w.jid(name), Subscription: "to"}},
					store.RosterPut{Account: w.id(name), Version: 1, Item: store.RosterItem{JID: w.jid("alice"), Subscription: "from"}})
			}
			if err := w.store.Commit(context.Background(), ops...); err != nil {
				t.Fatal(err)
			}
			online := make([]*client, contacts)
			long := "<presence><status>" + strings.Repeat("x", 1000) + "</status></presence>"
			for i := range contacts {
				c := &client{w: w}
				s, err := w.hub.Bind(context.Background(), BindRequest{Account: w.jid(fmt.Sprintf("c%d", i)), Resource: "r", Transport: c})
				if err != nil {
					t.Fatal(err)
				}
				c.Session = s
				c.send(long)
				online[i] = c
			}
			w.settle()
			a := w.bind("alice/a" + sm)
			a.send("<presence/>")
			w.settle()
			if w.hub.Counters().Overflows != 0 {
				t.Fatal("the session was lost")
			}
			for i := range 50 { // while alice reads nothing
				online[i].send("<presence type='unavailable'/>")
				online[contacts-1-i].send("<presence><status>new</status></presence>")
			}
			w.settle()
			w.state("alice", func(s *State) {
				if m := s.missed[a.session]; m == nil || len(m.from) < contacts/2 {
					t.Error("all of it is queued")
				}
			})
			seen := map[string]string{}
			read := uint32(0)
			waitFor(t, func() bool {
				for _, el := range a.take() {
					from, _, _ := strings.Cut(strings.TrimPrefix(el, "<presence from='"), "'")
					if strings.HasPrefix(el, "<presence") {
						read++
						seen[from] = el
					}
				}
				if sm != "" {
					a.Ack(read)
				}
				w.settle()
				left := 0
				w.state("alice", func(s *State) { left = len(s.missed) })
				return left == 0 && a.info().Queued == 0
			})
			if len(seen) != contacts+1 {
				t.Errorf("alice saw %d", len(seen))
			}
			for i := range contacts {
				got := seen[fmt.Sprintf("c%d@h.example/r", i)]
				want := "<status>xx"
				if i < 50 {
					want = "type='unavailable'"
				} else if i >= contacts-50 {
					want = "<status>new<"
				}
				if !strings.Contains(got, want) {
					t.Fatalf("of c%d alice saw last %.200s", i, got)
				}
			}
			if w.hub.Counters().Overflows != 0 {
				t.Error("the session was lost")
			}
		})
	}
}
