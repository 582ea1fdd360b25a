package room

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// realOpen is how the element with a sender's real address begins, which stands
// last in each archive entry (XEP-0313 6.1.2).
const realOpen = "<x xmlns='" + xep.NSMUCUser + "'>"

func realAddress(real jid.JID) string {
	return string(xep.AppendMUCUser(nil, &xep.MUCItem{JID: real}, ""))
}

// withoutReal is an entry for who may not see real addresses. No client can put
// such an element where the room does: they are taken off what comes in.
func withoutReal(entry []byte) []byte {
	i := bytes.LastIndex(entry, []byte(realOpen))
	const end = "</message>"
	if i < 0 || bytes.Index(entry[i:], []byte("</x>")) != len(entry)-i-len("</x>"+end) {
		return entry
	}
	return append(entry[:i:i], end...)
}

// archiveIQ is a request to the archive (XEP-0313, X2-8).
func (s *State) archiveIQ(st *stanza.Stanza, get bool, name string, fx *effects) {
	who := s.standing(st.From)
	v := s.visits[st.From]
	// XEP-0313 6.1.2: who may enter may read.
	if who.affiliation == outcast || s.opt.MembersOnly && who.affiliation < member || s.opt.Password != "" && v == nil && who.affiliation < member {
		s.refuse(st, stanza.NewError(stanza.Forbidden, ""), fx)
		return
	}
	switch {
	case name == "query" && get:
		result(st, []byte(xep.MAMForm), fx)
	case name == "query":
		s.query(st, s.opt.Whois == whoisAnyone || who.role == moderator, fx)
	case name == "metadata" && get:
		account := s.id
		fx.task(func(h *Hub) { h.answer(st, func() []*stanza.Stanza { return h.metadata(st, account) }) })
	default:
		s.refuse(st, stanza.NewError(stanza.ServiceUnavailable, ""), fx)
	}
}

// query sends a page of the archive as it is now: everything in it is committed.
func (s *State) query(st *stanza.Stanza, real bool, fx *effects) {
	req, err := xep.ParseMAMQuery(st.Payload())
	if err != nil {
		s.refuse(st, malformed(err), fx)
		return
	}
	p := &page{st: st, req: req, real: real, q: store.ArchiveQuery{Account: s.id, UpTo: max(s.lastID, 1), With: req.With, Start: req.Start, End: req.End, Thread: req.Thread}}
	fx.task(func(h *Hub) {
		h.answer(st, func() []*stanza.Stanza {
			list, err := p.read(h)
			if err == nil {
				return list
			}
			e := storeError(err)
			if e.Condition == stanza.InternalServerError && h.ctx.Err() == nil {
				h.cfg.Log.Error("a room's archive can't be read", "room", st.To, "error", err)
			}
			return []*stanza.Stanza{st.ErrorReply(e)}
		})
	})
}

// A page ends where it is this big, whatever number of messages was asked for: it
// waits in memory for its reader.
const (
	pageBytes = 256 << 10
	pageBatch = 32
	pageSize  = 50 // for who names no number
)

// page is one answer out of an archive.
type page struct {
	st   *stanza.Stanza
	req  xep.MAMQuery
	real bool
	q    store.ArchiveQuery
}

type pageEntry struct {
	id   store.ArchiveID
	data []byte
}

// read makes all of the answer.
func (p *page) read(h *Hub) ([]*stanza.Stanza, error) {
	size := p.req.Page.Max
	if size < 0 {
		size = pageSize
	}
	if err := p.selection(h.ctx, h.cfg.Store); err != nil {
		return nil, err
	}
	if size == 0 {
		n, err := h.cfg.Store.ArchiveCount(h.ctx, p.q)
		return []*stanza.Stanza{p.st.Reply(string(xep.AppendMAMFin(nil, n == 0, "", "", n)))}, err
	}
	entries, more, err := p.entries(h.ctx, h.cfg.Store, min(size, h.cfg.Limits.Page))
	if err != nil {
		return nil, err
	}
	first, last := "", ""
	if n := len(entries); n > 0 {
		first, last = entries[0].id.String(), entries[n-1].id.String()
	}
	if p.req.Flip {
		slices.Reverse(entries)
	}
	head := xep.NewMAMResult(p.st.To, p.st.From, p.req.ID)
	list := make([]*stanza.Stanza, 0, len(entries)+1)
	var b []byte
	for _, e := range entries {
		data := e.data
		if !p.real {
			data = withoutReal(data)
		}
		b = head.Append(b[:0], e.id.Append(nil), e.id.Time(), data)
		if st := parseOwn(b); st != nil {
			list = append(list, st)
		}
	}
	count := -1
	if !more && p.req.Page.After == "" && p.req.Page.Before == "" {
		count = len(entries)
	}
	return append(list, p.st.Reply(string(xep.AppendMAMFin(nil, !more, first, last, count)))), nil
}

// entries are the page's, oldest first.
func (p *page) entries(ctx context.Context, s *store.Store, size int) (list []pageEntry, more bool, err error) {
	q, bytes := p.q, 0
	q.Backward = p.req.Page.Last
	for size > 0 && bytes < pageBytes {
		var batch []pageEntry
		q.Max = min(size, pageBatch)
		more, err = s.Archive(ctx, q, func(m store.ArchivedMessage) error {
			batch = append(batch, pageEntry{m.ID, slices.Clone(m.Stanza)})
			return nil
		})
		if err != nil || len(batch) == 0 {
			return list, false, err
		}
		size -= len(batch)
		for i, e := range batch {
			if q.Backward {
				e = batch[len(batch)-1-i]
			}
			if bytes += len(e.data); bytes > pageBytes && len(list) > 0 {
				more = true
				break
			}
			list = append(list, e)
		}
		if !more {
			break
		}
		if q.Backward {
			q.BeforeID = batch[0].id
		} else {
			q.AfterID = batch[len(batch)-1].id
		}
	}
	if q.Backward {
		slices.Reverse(list)
	}
	return list, more, nil
}

// selection takes the request's ids into the query. One that isn't in the archive is
// item-not-found (XEP-0313 4.1.3, 4.3.2).
func (p *page) selection(ctx context.Context, s *store.Store) error {
	var named []store.ArchiveID
	ok := true
	id := func(text string) store.ArchiveID {
		if text == "" {
			return 0
		}
		id, valid := store.ParseArchiveID(text)
		ok = ok && valid
		named = append(named, id)
		return id
	}
	p.q.AfterID = max(id(p.req.AfterID), id(p.req.Page.After))
	p.q.BeforeID = id(p.req.BeforeID)
	if b := id(p.req.Page.Before); b != 0 && (p.q.BeforeID == 0 || b < p.q.BeforeID) {
		p.q.BeforeID = b
	}
	if p.req.IDs != nil {
		p.q.IDs = []store.ArchiveID{}
		for _, text := range p.req.IDs {
			ok = ok && text != ""
			p.q.IDs = append(p.q.IDs, id(text))
		}
	}
	if ok && len(named) > 0 {
		var err error
		if ok, err = s.ArchiveHas(ctx, p.q.Account, named...); err != nil {
			return err
		}
	}
	if !ok {
		return stanza.NewError(stanza.ItemNotFound, "an id is not in the archive")
	}
	return nil
}

// metadata is XEP-0313 5.
func (h *Hub) metadata(st *stanza.Stanza, account store.AccountID) []*stanza.Stanza {
	first, last, err := h.cfg.Store.ArchiveBounds(h.ctx, account, 0)
	if err != nil {
		return []*stanza.Stanza{st.ErrorReply(storeError(err))}
	}
	var start, end xep.MAMEdge
	if first != 0 {
		start, end = xep.MAMEdge{ID: first.String(), Stamp: first.Time()}, xep.MAMEdge{ID: last.String(), Stamp: last.Time()}
	}
	return []*stanza.Stanza{st.Reply(string(xep.AppendMAMMetadata(nil, start, end)))}
}

// findEntry reads one entry of the archive; then gets nil if there is none.
func (s *State) findEntry(st *stanza.Stanza, text string, fx *effects, then func(fx *effects, id store.ArchiveID, entry *stanza.Stanza)) {
	id, ok := store.ParseArchiveID(text)
	if !ok {
		then(fx, 0, nil)
		return
	}
	account := s.id
	s.await(st, fx, func(h *Hub, tell func(any, error)) {
		h.read(func() {
			var entry *stanza.Stanza
			_, err := h.cfg.Store.Archive(h.ctx, store.ArchiveQuery{Account: account, IDs: []store.ArchiveID{id}, Max: 1}, func(m store.ArchivedMessage) error {
				entry = parseOwn(m.Stanza)
				return nil
			})
			tell(entry, err)
		})
	}, func(fx *effects, answer any) { then(fx, id, answer.(*stanza.Stanza)) })
}

// moderate is a moderator's retraction of somebody's message (XEP-0425).
func (s *State) moderate(st *stanza.Stanza, fx *effects) {
	el := st.Payload()
	v := s.visits[st.From]
	switch {
	case s.standing(st.From).role != moderator:
		s.refuse(st, stanza.NewError(stanza.Forbidden, "only moderators do this"), fx)
		return
	case el.Child(xep.NSRetract, "retract").IsZero():
		s.refuse(st, stanza.NewError(stanza.FeatureNotImplemented, "messages can be retracted, nothing else"), fx)
		return
	}
	r := xep.Retracted{ID: strings.Clone(el.Attr("id")), By: s.jid, ByID: s.occupantID(st.From), Reason: xep.CutText(el.Child(xep.NSModerate, "reason").Text())}
	if v != nil {
		r.By = v.who.jid
	}
	s.findEntry(st, r.ID, fx, func(fx *effects, id store.ArchiveID, entry *stanza.Stanza) {
		if entry == nil || isTombstone(entry) {
			s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such message"), fx)
			return
		}
		note := s.nextID(fx.now)
		inner := xep.AppendStanzaID(xep.AppendRetract(nil, r), s.jid, note.String())
		out := build(stanza.Message, stanza.TypeGroupchat, "moderation-"+note.String(), s.jid, inner)
		tomb := r
		tomb.ID, tomb.Stamp = out.ID, fx.now
		ops := []store.Op{store.ArchiveReplace{Account: s.id, ID: id, Stanza: tombstone(entry, tomb)},
			store.ArchiveAppend{Account: s.id, ID: note, Peer: s.jid, Stanza: out.AppendTo(nil)}}
		s.commit(st, ops, fx, func(fx *effects) {
			s.lastID = note
			s.forget(id)
			s.remember(out, note, fx.now)
			fx.fan(out, s.hearing())
			result(st, nil, fx)
		})
	})
}

// retract is somebody's retraction of what he himself has said (XEP-0424 5): the
// archive keeps a tombstone.
func (s *State) retract(v *visit, st *stanza.Stanza, m said, fx *effects) {
	text := strings.Clone(m.retract)
	s.findEntry(st, text, fx, func(fx *effects, id store.ArchiveID, entry *stanza.Stanza) {
		switch {
		case entry == nil || isTombstone(entry):
			s.say(v, st, m, nil, fx) // clients know it by another id, or had it before
		case entry.Child(xep.NSOccupantID, "occupant-id").Attr("id") != v.who.id:
			s.refuse(st, stanza.NewError(stanza.Forbidden, "somebody else has said this"), fx)
		default:
			tomb := tombstone(entry, xep.Retracted{ID: st.ID, Stamp: fx.now})
			s.say(v, st, m, []store.Op{store.ArchiveReplace{Account: s.id, ID: id, Stanza: tomb}}, fx)
			s.onCommit(func() { s.forget(id) })
		}
	})
}

// onCommit adds to what happens when the change at hand, which is alone, is on disk.
func (s *State) onCommit(also func()) {
	c := s.busy[0]
	then := c.done
	c.done = func(fx *effects, answer any, err error) {
		if err == nil {
			also()
		}
		then(fx, answer, err)
	}
}

// tombstone is what an entry becomes whose message was retracted: who said it and
// when, not what (XEP-0424 4, XEP-0425 4).
func tombstone(entry *stanza.Stanza, r xep.Retracted) []byte {
	inner := entry.InnerWithout(func(el xmltree.Element) bool { return el.Space() != xep.NSOccupantID && el.Space() != xep.NSStanzaID })
	real := entry.Child(xep.NSMUCUser, "x")
	b := xep.AppendRetract([]byte(inner), r)
	return entry.AppendWith(nil, string(real.AppendTo(b, stanza.NSClient)))
}

func isTombstone(entry *stanza.Stanza) bool { return !entry.Child(xep.NSRetract, "retracted").IsZero() }

// forget takes a retracted message out of what who enters is shown (XEP-0424 5).
func (s *State) forget(id store.ArchiveID) {
	s.history = slices.DeleteFunc(s.history, func(p past) bool {
		if p.id == id {
			s.kept -= p.size
		}
		return p.id == id
	})
}
