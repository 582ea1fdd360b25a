package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// archived is a message in an account's archive.
type archived struct {
	id    string
	st    *stanza.Stanza
	kind  convo.Kind
	peer  jid.JID
	whose string
}

// check checks the properties of a world at rest.
func (w *world) check() {
	for _, s := range w.servers {
		s.gate.set(true, false)
	}
	archives := map[*user][]archived{}
	for _, u := range w.users {
		archives[u] = w.archive(u)
		w.result.Counts.Archived += len(archives[u])
	}
	for _, u := range w.users {
		owners := claims(archives[u])
		w.result.Counts.Claims += len(owners)
		for _, d := range u.devices {
			if d.profile >= convo.NG {
				w.sameHistory(d, archives[u])
				w.oneOwner(d, archives[u], owners)
			} else {
				w.noneTwice(d)
			}
		}
	}
	for _, m := range w.order {
		w.nothingLost(m, archives)
	}
}

func (w *world) archive(u *user) (list []archived) {
	s := u.server
	_, err := s.store.Archive(context.Background(), store.ArchiveQuery{Account: s.ids[u.jid], Max: 1 << 20}, func(m store.ArchivedMessage) error {
		st := w.parse(string(m.Stanza))
		a := archived{id: m.ID.String(), st: st, kind: kindOf(st), peer: st.From.Bare()}
		if a.peer == u.jid {
			a.peer = st.To.Bare()
		}
		for el := range st.Payloads() {
			if el.Local() == "whose" {
				a.whose = xep.ParseWhose(el)
			}
		}
		list = append(list, a)
		return nil
	})
	if err != nil {
		w.problem(0, "%s's archive: %v", u.name, err)
	}
	return list
}

// claims are the first claims of each id: by which resource.
func claims(list []archived) map[string]string {
	first := map[string]string{}
	for _, a := range list {
		for el := range a.st.Payloads() {
			if el.Local() != "mine" {
				continue
			}
			for _, id := range xep.ParseClaim(el) {
				if first[id] == "" {
					first[id] = a.st.From.Resource()
				}
			}
		}
	}
	return first
}

// history is what a device shows of a conversation, in a world at rest.
func (d *device) history(peer jid.JID) []convo.Entry {
	if list, ok := d.shows[peer]; ok {
		return list
	}
	v, _ := d.engine.Conversation(peer, 0)
	var list []convo.Entry
	for _, en := range v.Entries {
		if en.Delivery != convo.Failed || en.Archive.ID != "" {
			list = append(list, en)
		}
	}
	d.shows[peer] = list
	return list
}

// sameHistory is property 1: what a device shows is what the archive has, in its
// order; so every device shows the same. What is said about a message is the
// same too.
func (w *world) sameHistory(d *device, list []archived) {
	for _, u := range w.users {
		var want, got []string
		for _, a := range list {
			if a.kind == convo.Text && a.peer == u.jid {
				want = append(want, a.id)
			}
		}
		entries := d.history(u.jid)
		for _, en := range entries {
			id := en.Archive.ID
			if id == "" {
				id = fmt.Sprintf("%s(%v)", en.MessageID, en.Delivery)
			}
			got = append(got, id)
		}
		if !slices.Equal(got, want) {
			w.problem(1, "%s shows with %s\n  %s\nwhere the archive has\n  %s", d.name, u.name, strings.Join(got, " "), strings.Join(want, " "))
			continue
		}
		for _, other := range d.user.devices {
			if other == d {
				break
			}
			if other.profile < convo.NG {
				continue
			}
			for i, en := range other.history(u.jid) {
				if i < len(entries) && !same(en, entries[i]) {
					w.problem(1, "%s shows %s and %s shows %s", d.name, said(entries[i]), other.name, said(en))
				}
			}
			break
		}
	}
}

// same reports whether two entries show the same, as far as it must be so on every device.
func same(a, b convo.Entry) bool {
	return a.Archive.ID == b.Archive.ID && a.Body == b.Body && a.Edited == b.Edited && a.Retracted == b.Retracted && a.Thread == b.Thread &&
		slices.EqualFunc(a.Reactions, b.Reactions, func(x, y convo.Reacted) bool { return x.From == y.From && slices.Equal(x.Emoji, y.Emoji) })
}

// said is what same compares, for a reader.
func said(en convo.Entry) string {
	return fmt.Sprintf("%s %q edited=%v retracted=%v %v thread=%s", en.Archive.ID, en.Body, en.Edited, en.Retracted, en.Reactions, en.Thread)
}

// oneOwner is property 2.
func (w *world) oneOwner(d *device, list []archived, owners map[string]string) {
	if !d.user.server.modern {
		return
	}
	whose := map[string]string{}
	for _, a := range list {
		whose[a.id] = a.whose
	}
	for _, u := range w.users {
		for _, en := range d.history(u.jid) {
			id := whose[en.Archive.ID]
			if id != en.Whose && !en.Own {
				w.problem(2, "%s: %s asks with %q, in the archive with %q", d.name, en.Archive.ID, en.Whose, id)
			}
			if id == "" || en.Own {
				continue
			}
			want, by := convo.Unclaimed, owners[id]
			switch by {
			case "":
			case d.full.Resource():
				want, by = convo.Mine, ""
			default:
				want = convo.Elsewhere
			}
			if en.Owner != want || want == convo.Elsewhere && en.OwnerRes != by {
				w.problem(2, "%s: %s is %d of %q, by the archive %d of %q", d.name, en.Archive.ID, en.Owner, en.OwnerRes, want, by)
			}
		}
	}
}

// noneTwice is property 3 for what a classic device shows.
func (w *world) noneTwice(d *device) {
	for _, u := range w.users {
		seen := map[string]bool{}
		for _, en := range d.history(u.jid) {
			key := en.From.Bare().String() + " " + en.MessageID
			if m := w.sent[en.MessageID]; seen[key] && !(m != nil && w.killedSince(m) && d.user.server != m.from.user.server) {
				w.problem(3, "%s shows %s twice", d.name, key)
			}
			seen[key] = true
		}
	}
}

// nothingLost is property 4, and what property 3 says of delivery: a message that
// was shown as sent is once in each archive that it belongs to, and shown by a
// device of whom it was sent to.
func (w *world) nothingLost(m *sentMessage, archives map[*user][]archived) {
	from, to := m.from.user, w.userOf(m.to)
	if !m.shown || m.from.failed(m) {
		return
	}
	here, there := count(archives[from], m.id), count(archives[to], m.id)
	if here != 1 {
		w.problem(4, "%s, shown as sent by %s, is %d times in the sender's archive", m.id, m.from.name, here)
	}
	// Between domains a message comes again where a server was killed before it
	// knew that the other has it.
	again := from.server != to.server && w.killedSince(m)
	if there != 1 && !(again && there > 1) {
		w.problem(4, "%s, shown as sent by %s, is %d times in %s's archive", m.id, m.from.name, there, to.name)
	}
	if there == 0 {
		return
	}
	shown := false
	for _, d := range to.devices {
		shown = shown || slices.ContainsFunc(d.history(from.jid), func(en convo.Entry) bool { return en.MessageID == m.id })
	}
	// A classic device has no archive: what it was being sent when the server was
	// killed is there and nowhere else, and what is lost on the way to one without
	// acknowledgements is lost.
	if !shown && !w.unread[m.id] && to.server.killed.Before(m.at) {
		w.problem(3, "%s, shown as sent by %s, is shown by no device of %s", m.id, m.from.name, to.name)
	}
}

// killedSince reports whether a server was killed after a message was written.
func (w *world) killedSince(m *sentMessage) bool {
	return !w.servers[0].killed.Before(m.at) || !w.servers[1].killed.Before(m.at)
}

func count(list []archived, id string) (n int) {
	for _, a := range list {
		if a.st.ID == id {
			n++
		}
	}
	return n
}

// failed reports whether the sender was told in the end that it was not sent.
func (d *device) failed(m *sentMessage) bool {
	v, _ := d.engine.Conversation(m.to, 0)
	return slices.ContainsFunc(v.Entries, func(en convo.Entry) bool { return en.MessageID == m.id && en.Delivery == convo.Failed })
}
