package account

import (
	"strings"
	"testing"

	"carillon.im/stanza"
)

// rfcStates are the nine states of RFC 6121 A.1 by their names there.
var rfcStates = map[string]subscription{
	"None":                  {},
	"None + Pending Out":    {PendingOut: true},
	"None + Pending In":     {PendingIn: true},
	"None + Pending Out+In": {PendingOut: true, PendingIn: true},
	"To":                    {To: true},
	"To + Pending In":       {To: true, PendingIn: true},
	"From":                  {From: true},
	"From + Pending Out":    {From: true, PendingOut: true},
	"Both":                  {To: true, From: true},
}

// rfcTables are tables 2 to 9 of RFC 6121 appendix A: existing state, routed
// or delivered, new state ("" for no change, "approved" for pre-approval).
var rfcTables = []struct {
	direction, typ string
	rows           string
}{
	{"out", stanza.TypeSubscribe, `
		None                  | MUST | None + Pending Out
		None + Pending Out    | MUST |
		None + Pending In     | MUST | None + Pending Out+In
		None + Pending Out+In | MUST |
		To                    | MUST |
		To + Pending In       | MUST |
		From                  | MUST | From + Pending Out
		From + Pending Out    | MUST |
		Both                  | MUST |`},
	{"out", stanza.TypeUnsubscribe, `
		None                  | MUST |
		None + Pending Out    | MUST | None
		None + Pending In     | MUST |
		None + Pending Out+In | MUST | None + Pending In
		To                    | MUST | None
		To + Pending In       | MUST | None + Pending In
		From                  | MUST |
		From + Pending Out    | MUST | From
		Both                  | MUST | From`},
	{"out", stanza.TypeSubscribed, `
		None                  | M.N. | approved
		None + Pending Out    | M.N. | approved
		None + Pending In     | MUST | From
		None + Pending Out+In | MUST | From + Pending Out
		To                    | M.N. | approved
		To + Pending In       | MUST | Both
		From                  | M.N. |
		From + Pending Out    | M.N. |
		Both                  | M.N. |`},
	{"out", stanza.TypeUnsubscribed, `
		None                  | S.N. |
		None + Pending Out    | S.N. |
		None + Pending In     | MUST | None
		None + Pending Out+In | MUST | None + Pending Out
		To                    | S.N. |
		To + Pending In       | MUST | To
		From                  | MUST | None
		From + Pending Out    | MUST | None + Pending Out
		Both                  | MUST | To`},
	{"in", stanza.TypeSubscribe, `
		None                  | MUST | None + Pending In
		None + Pending Out    | MUST | None + Pending Out+In
		None + Pending In     | S.N. |
		None + Pending Out+In | S.N. |
		To                    | MUST | To + Pending In
		To + Pending In       | S.N. |
		From                  | auto |
		From + Pending Out    | auto |
		Both                  | auto |`},
	{"in", stanza.TypeUnsubscribe, `
		None                  | S.N. |
		None + Pending Out    | S.N. |
		None + Pending In     | MUST | None
		None + Pending Out+In | MUST | None + Pending Out
		To                    | S.N. |
		To + Pending In       | MUST | To
		From                  | MUST | None
		From + Pending Out    | MUST | None + Pending Out
		Both                  | MUST | To`},
	{"in", stanza.TypeSubscribed, `
		None                  | S.N. |
		None + Pending Out    | MUST | To
		None + Pending In     | S.N. |
		None + Pending Out+In | MUST | To + Pending In
		To                    | S.N. |
		To + Pending In       | S.N. |
		From                  | S.N. |
		From + Pending Out    | MUST | Both
		Both                  | S.N. |`},
	{"in", stanza.TypeUnsubscribed, `
		None                  | S.N. |
		None + Pending Out    | MUST | None
		None + Pending In     | S.N. |
		None + Pending Out+In | MUST | None + Pending In
		To                    | MUST | None
		To + Pending In       | MUST | None + Pending In
		From                  | S.N. |
		From + Pending Out    | MUST | From
		Both                  | MUST | From`},
}

// TestSubscriptionTables: the nine states and all stanzas, as RFC 6121
// appendix A has them.
func TestSubscriptionTables(t *testing.T) {
	n := 0
	for _, table := range rfcTables {
		for row := range strings.SplitSeq(strings.TrimSpace(table.rows), "\n") {
			cells := strings.Split(row, "|")
			name, action, next := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
			state, ok := rfcStates[name]
			if !ok {
				t.Fatalf("unknown state %q", name)
			}
			n++
			want := state
			switch next {
			case "":
			case "approved":
				want.Approved = true
			default:
				want = rfcStates[next]
			}
			change := state.inbound(table.typ)
			if table.direction == "out" {
				change = state.outbound(table.typ)
			}
			if change.Next != want {
				t.Errorf("%s %s, %s: becomes %+v, want %+v", table.direction, table.typ, name, change.Next, want)
			}
			if change.Pass != (action == "MUST") {
				t.Errorf("%s %s, %s: passed on %v, want %s", table.direction, table.typ, name, change.Pass, action)
			}
			if (change.Reply == stanza.TypeSubscribed) != (action == "auto") {
				t.Errorf("%s %s, %s: automatic answer %q", table.direction, table.typ, name, change.Reply)
			}
			if change.ShowPresence != (!state.From && want.From) || change.HidePresence != (state.From && !want.From) {
				t.Errorf("%s %s, %s: presence %+v", table.direction, table.typ, name, change)
			}
		}
	}
	if n != 8*9 {
		t.Errorf("%d rows", n)
	}
}

// TestPreApproval is RFC 6121 3.4.
func TestPreApproval(t *testing.T) {
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a roster online"), w.bind("bob/b roster online")
	b.send("<presence type='subscribed' to='alice@h.example'/>")
	b.expect("<item jid='alice@h.example' subscription='none' approved='true'/>")
	a.expect()
	// A probe's "unsubscribed" and being refused don't cancel it; "unsubscribed" does.
	b.send("<presence type='unsubscribed' to='alice@h.example'/>")
	b.expect("<item jid='alice@h.example' subscription='none'/>")
	b.send("<presence type='subscribed' to='alice@h.example'/>")
	b.expect("approved='true'")
	a.send("<presence type='subscribe' to='bob@h.example'/>")
	a.expect("<item jid='bob@h.example' subscription='none' ask='subscribe'/>",
		"<presence from='bob@h.example' to='alice@h.example' type='subscribed'/>",
		"<item jid='bob@h.example' subscription='to'/>",
		"<presence from='bob@h.example/b' to='alice@h.example'")
	b.expect("<item jid='alice@h.example' subscription='from'/>")
}

// TestSubscriptionHandshake is RFC 6121 3.1, with the order of 3.1.6.
func TestSubscriptionHandshake(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a roster online")
	a.send("<presence type='subscribe' id='s1' to='bob@h.example/x'><status>it is me</status></presence>")
	a.expect("<item jid='bob@h.example' subscription='none' ask='subscribe'/>")
	a.send("<presence type='subscribe' id='s2' to='bob@h.example'/>") // again: nothing new
	a.expect()
	// Each login gets the request until it is answered, also after a restart of the account.
	request := "<presence from='alice@h.example' to='bob@h.example' id='s1' type='subscribe'><status>it is me</status></presence>"
	for i := range 3 {
		b := w.bind("bob/b roster")
		b.send("<presence/>")
		b.expectAny("<presence from='bob@h.example/b'", request)
		b.Close(b)
		w.settle()
		if i == 1 {
			w.forget()
		}
	}
	b := w.bind("bob/b roster online")
	b2 := w.bind("bob/b2 roster")
	b.send("<presence type='subscribed' to='alice@h.example'/>")
	a.expect("<presence from='bob@h.example' to='alice@h.example' type='subscribed'/>", "<item jid='bob@h.example' subscription='to'/>", "<presence from='bob@h.example/b'")
	b.expect("<item jid='alice@h.example' subscription='from'/>")
	b2.expect("<item jid='alice@h.example' subscription='from'/>")
	b3 := w.bind("bob/b3")
	b3.send("<presence/>")
	b3.expectAny("from='bob@h.example/b3'", "from='bob@h.example/b'")
	a.expect("from='bob@h.example/b3'")

	b.take()
	b.send("<presence type='unsubscribed' to='alice@h.example'/>")
	a.expectAny("<presence from='bob@h.example' to='alice@h.example' type='unsubscribed'/>", "<item jid='bob@h.example' subscription='none'/>",
		"from='bob@h.example/b' … type='unavailable'", "from='bob@h.example/b3' … type='unavailable'")
	b.expect("<item jid='alice@h.example' subscription='none'/>")
}

// forget drops what no session needs from memory.
func (w *world) forget() {
	w.hub.everywhere(func(l *loop) {
		for j, s := range l.states {
			if s.idle() {
				delete(l.states, j)
			}
		}
	})
}

func TestSubscriptionErrors(t *testing.T) {
	w := newWorld(t, "alice bob", func(c *Config) { c.Limits.RosterItems = 2 })
	a := w.bind("alice/a roster")
	for _, to := range []string{"", " to='alice@h.example'", " to='alice@h.example/x'"} {
		a.send("<presence type='subscribe' id='e'" + to + "/>")
		a.expect("id='e' type='error' … bad-request")
	}
	a.send("<presence type='subscribe' to='nobody@h.example'/>")
	a.expect("nobody@h.example … ask='subscribe'")
	a.send("<presence type='subscribe' to='bob@elsewhere.example'/>")
	a.expect("bob@elsewhere.example … ask='subscribe'")
	a.send("<presence type='subscribe' id='full' to='bob@h.example'/>")
	a.expect("id='full' type='error' … resource-constraint")
	a.send("<presence type='probe' to='bob@h.example'/>")
	a.expect()
	a.send("<presence/>")
	w.settle()
	a.take()
	a.send("<presence type='subscribe' to='bob@elsewhere.example'/>")
	a.expect("from='bob@elsewhere.example' … type='error' … remote-server-not-found")
}
