package routing

import (
	"strings"
	"testing"
	"testing/synctest"
)

// TestUnknownUser: whatever a stranger gets for an element of Mine, or for a message to one device, tells nothing of
// whether the account or the device exists (R-MINE-3, R-EXCL-3, MINE-39): the answers are the same, byte for byte but for
// the addresses, at all of the stranger's devices.
func TestUnknownUser(t *testing.T) {
	if _, err := identity(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		r := newRound(w, 1<<len(templates())-1, variant{every: true}, newDisagreements())
		nobody := &account{bare: "n" + r.recipient.bare[1:]}
		if len(nobody.bare) != len(r.recipient.bare) {
			t.Fatal("the names differ in length")
		}
		said := 0
		for i := range r.kinds {
			k := &r.kinds[i]
			for _, typ := range []string{"", "chat", "groupchat", "headline"} {
				for _, to := range []*device{nil, r.recipient.devices[0]} {
					m := &message{typ: typ, from: r.stranger.devices[i%len(senders())], to: r.recipient, addressed: to, kind: k}
					if !(k.mine || k.whose || m.exclusive() && m.is("chat", "normal")) {
						continue
					}
					real := r.answers(m, m.address(), r.recipient)
					none := r.answers(m, strings.Replace(m.address(), r.recipient.bare, nobody.bare, 1), nobody)
					if real != none {
						t.Errorf("%s:\n\tthere is the account: %s\n\tthere is none:        %s", m.describe(), real, none)
					}
					said += len(real)
				}
			}
		}
		if said == 0 {
			t.Error("nothing was ever answered")
		}
		for _, d := range r.recipient.devices {
			if list, err := messages(r.clients[d]); err != nil || len(list) > 0 {
				t.Errorf("%s received %d messages (%v), the first %s", d.full(), len(list), err, list[0].Raw())
			}
		}
	})
}

// answers are all that the sender's devices receive because of a message, without what differs from message to message.
func (r *round) answers(m *message, address string, to *account) string {
	m.id = "probe"
	text := strings.Replace(m.xml(), "to='"+m.address()+"'", "to='"+address+"'", 1)
	if err := r.clients[m.from].Send(text); err != nil {
		r.w.t.Fatal(err)
	}
	settle()
	var b strings.Builder
	for _, d := range m.from.account.devices {
		list, err := messages(r.clients[d])
		if err != nil {
			r.w.t.Fatal(err)
		}
		for _, el := range list {
			raw := strings.ReplaceAll(el.Raw(), to.bare, "ADDRESSED")
			id := archiveID(raw, m.from.account.bare)
			b.WriteString(d.kind + " " + strings.ReplaceAll(raw, id, "ID") + "\n")
		}
	}
	return b.String()
}

// archiveID finds the archive's id in a copy; something that isn't there, if there is none.
func archiveID(raw, bare string) string {
	_, rest, ok := strings.Cut(raw, "by='"+bare+"' id='")
	if !ok {
		return "\x00"
	}
	id, _, _ := strings.Cut(rest, "'")
	return id
}
