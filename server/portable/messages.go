package portable

import (
	"bytes"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// A batch of messages is written when it has so many, or so many bytes.
const (
	batchMessages = 256
	batchBytes    = 1 << 20
)

// entry is a message on its way into an archive.
type entry struct {
	at time.Time
	st *stanza.Stanza
}

// future reports whether something claims to be from tomorrow: ids follow the clock,
// and all that comes later would have to be behind it.
func (a *account) future(at time.Time) bool { return at.After(a.Now().Add(24 * time.Hour)) }

// archived takes a message of the archive (XEP-0227 4.11).
func (a *account) archived(p Part) error {
	if !p.Element.Is(xep.NSMAM, "result") {
		a.unknown(p.Element)
		return nil
	}
	st, at, ok := xep.ParseForwarded(p.Element.Child("urn:xmpp:forward:0", "forwarded"))
	switch {
	case !ok || st.Kind != stanza.Message:
		a.problem(p.Place, "a message of the archive can't be read")
		return nil
	case at.IsZero():
		a.problem(p.Place, "a message of the archive has no time")
		return nil
	case a.future(at):
		a.problem(p.Place, "a message of the archive is from the future, "+stamp(at))
		return nil
	}
	if st.From.IsZero() {
		st.From = a.jid
	}
	if st.To.IsZero() && !a.room {
		st.To = a.jid
	}
	a.batch = append(a.batch, entry{at, st})
	a.waiting += len(p.Element.Raw())
	if len(a.batch) < batchMessages && a.waiting < batchBytes {
		return nil
	}
	return a.flush()
}

// idFor is the id of an archive's entry, which follows from the document alone: its
// time to the microsecond, or the next one that is free.
func idFor(last store.ArchiveID, at time.Time) store.ArchiveID {
	return store.NextArchiveID(last, at)
}

// flush writes what is in the batch, or counts it.
func (a *account) flush() error {
	list := a.batch
	a.batch, a.waiting = a.batch[:0], 0
	if len(list) == 0 || len(a.problems) > 0 || a.exists && a.Existing == Skip {
		return nil
	}
	var ops []store.Op
	if !a.exists {
		for _, e := range list {
			a.lastID = idFor(a.lastID, e.at)
			if a.begun {
				ops = append(ops, a.appending(e.st, a.lastID))
			}
		}
		a.count("messages", len(list))
	} else {
		had, err := a.lookUp(list)
		if err != nil {
			return err
		}
		for _, e := range list {
			a.lastID = idFor(a.lastID, e.at)
			op, there, err := a.missing(e.st, had)
			if err != nil {
				return err
			}
			if !there {
				ops = append(ops, op)
			}
		}
		a.count("messages", len(ops))
	}
	if a.dry || a.exists && a.Existing != Merge || len(ops) == 0 {
		return nil
	}
	return a.Store.Commit(a.ctx, ops...)
}

// lookUp reads what an archive has under the ids that a batch will have, most likely.
func (a *account) lookUp(list []entry) (map[store.ArchiveID][]byte, error) {
	ids := make([]store.ArchiveID, 0, len(list))
	last := a.lastID
	for _, e := range list {
		last = idFor(last, e.at)
		ids = append(ids, last)
	}
	had := make(map[store.ArchiveID][]byte, len(list))
	for _, id := range ids {
		had[id] = nil
	}
	_, err := a.Store.Archive(a.ctx, store.ArchiveQuery{Account: a.id, IDs: ids, Max: len(ids)}, func(m store.ArchivedMessage) error {
		had[m.ID] = bytes.Clone(m.Stanza)
		return nil
	})
	return had, err
}

// missing finds whether a message is in the archive under its id, or under one
// behind it, where the id is another message's; if not it says how it gets there.
func (a *account) missing(st *stanza.Stanza, had map[store.ArchiveID][]byte) (op store.ArchiveAppend, there bool, err error) {
	for ; ; a.lastID++ {
		in, known := had[a.lastID]
		if !known {
			_, err = a.Store.Archive(a.ctx, store.ArchiveQuery{Account: a.id, IDs: []store.ArchiveID{a.lastID}, Max: 1}, func(m store.ArchivedMessage) error {
				in = bytes.Clone(m.Stanza)
				return nil
			})
			if err != nil {
				return op, false, err
			}
		}
		if in == nil {
			return a.appending(st, a.lastID), false, nil
		}
		if op = a.appending(st, a.lastID); bytes.Equal(in, op.Stanza) {
			return op, true, nil
		}
	}
}

func (a *account) appending(st *stanza.Stanza, id store.ArchiveID) store.ArchiveAppend {
	peer := st.From
	if peer.Bare() == a.jid && !a.room {
		peer = st.To
	}
	return store.ArchiveAppend{Account: a.id, ID: id, Peer: peer, Thread: st.Thread(), Stanza: a.withID(st, id, !a.room)}
}

// withID is a message with the archive's own <stanza-id/> and no other that claims to
// be; without must, only if it has one.
func (a *account) withID(st *stanza.Stanza, id store.ArchiveID, must bool) []byte {
	n, right := 0, false
	for el := range st.Payloads() {
		if ownID(el, a.jid) {
			n++
			right = el.Attr("id") == id.String() && el.Attr("by") == a.jid.String()
		}
		if isArchived(el, a.jid) {
			n += 2
		}
	}
	if n == 1 && right || n == 0 && !must {
		return st.AppendTo(nil)
	}
	inner := st.InnerWithout(func(el xmltree.Element) bool { return ownID(el, a.jid) || isArchived(el, a.jid) })
	if !must && !right {
		return st.AppendWith(nil, inner)
	}
	return st.AppendWith(nil, inner, string(xep.AppendStanzaID(nil, a.jid, id.String())))
}

// isArchived is what stood in the place of <stanza-id/> once; ejabberd still writes it.
func isArchived(el xmltree.Element, by jid.JID) bool {
	return el.Is("urn:xmpp:mam:tmp", "archived") && el.Attr("by") == by.String()
}

// unread takes a message of the offline store (XEP-0227 4.5).
func (a *account) unread(p Part) error {
	st, err := stanza.Parse(p.Element)
	if err != nil || st.Kind != stanza.Message {
		a.problem(p.Place, "an offline message can't be read")
		return nil
	}
	if st.To.IsZero() {
		st.To = a.jid
	}
	at, st := a.keptAt(st)
	if a.future(at) {
		a.problem(p.Place, "an offline message is from the future, "+stamp(at))
		return nil
	}
	if a.offline++; a.offline > a.Limits.Offline {
		a.leave(fmt.Sprintf("offline messages beyond the first %d, which limits.offline_messages allows", a.Limits.Offline))
		return nil
	}
	if len(a.problems) > 0 || a.exists && a.Existing == Skip {
		return nil
	}
	a.lastKept = idFor(a.lastKept, at)
	stored := a.withID(st, a.lastKept, false)
	if a.exists {
		if a.has.offline[string(stored)] {
			return nil
		}
		for a.has.offlineIDs[a.lastKept] {
			a.lastKept++
		}
	}
	a.count("offline messages", 1)
	if a.dry || a.exists && a.Existing != Merge {
		return nil
	}
	return a.Store.Commit(a.ctx, store.OfflineAppend{Account: a.id, ID: a.lastKept, Stanza: stored})
}

// keptAt is when a message came into the offline store, and the message without what
// says so: the last delay of the account's domain.
func (a *account) keptAt(st *stanza.Stanza) (time.Time, *stanza.Stanza) {
	at := a.Now()
	var said xmltree.Element
	for el := range st.Payloads() {
		if from, stamp, ok := xep.ParseDelay(el); ok && (from == a.jid || from.IsDomain() && from.Domain() == a.jid.Domain()) {
			at, said = stamp, el
		}
	}
	if said.IsZero() {
		a.leave("when offline messages came, of which nothing is said")
		return at, st
	}
	inner := st.InnerWithout(func(el xmltree.Element) bool { return el == said })
	out := stanza.Build(st.Kind, st.Type, st.ID, st.From, st.To, inner)
	out.Lang = st.Lang
	return at, out
}
