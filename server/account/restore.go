package account

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
)

// savedSession is a session of before the server's start, read from the store.
type savedSession struct {
	row   store.SavedSession
	jid   jid.JID
	state savedState
	queue []sm.Entry[tag]
	// gone: what the client is owed can't be put together any more. The session
	// comes back to end as any other.
	gone bool
}

// restoreSaved loads the accounts that have saved sessions, so that these are
// seen and can end, then those with devices that have yet to be notified of
// something; whoever is quicker loads his account himself.
func (h *Hub) restoreSaved() {
	h.loadAll(h.cfg.Store.SavedAccounts)
	h.loadAll(h.cfg.Store.PushHeldAccounts)
}

// loadAll loads the accounts of a list that is read page by page.
func (h *Hub) loadAll(next func(ctx context.Context, after store.AccountID, limit int) ([]store.AccountInfo, error)) {
	const page = 100
	for after := store.AccountID(0); ; {
		list, err := next(h.ctx, after, page)
		for _, a := range list {
			if _, err := ask(h.ctx, h, a.JID, func(*State, *effects) struct{} { return struct{}{} }); err != nil && h.ctx.Err() == nil {
				h.cfg.Log.Error("sessions of before the start can't be read yet", "account", a.JID, "error", err)
			}
			after = a.ID
		}
		if err != nil && h.ctx.Err() == nil {
			h.cfg.Log.Error("who has something left of before the start can't be read", "error", err)
		}
		if len(list) < page || h.ctx.Err() != nil {
			return
		}
	}
}

// readSaved reads an account's saved sessions with all that they are owed.
func (h *Hub) readSaved(ctx context.Context, bare jid.JID, id store.AccountID) ([]savedSession, error) {
	rows, err := h.cfg.Store.SessionsOf(ctx, id)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	list := make([]savedSession, 0, len(rows))
	for _, row := range rows {
		x := savedSession{row: row}
		if x.jid, err = bare.WithResource(row.Resource); err != nil {
			continue // rules for addresses became stricter since
		}
		if err := json.Unmarshal(row.State, &x.state); err != nil || x.state.Profile > route.V2 {
			x.gone = true // another build's
		} else if err := h.readOwed(ctx, id, &x); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b savedSession) int { return cmp.Compare(a.state.Serial, b.state.Serial) })
	return list, nil
}

// readOwed puts a session's queue together: what was saved of it, and for one that
// gets every conversation message what was archived since.
func (h *Hub) readOwed(ctx context.Context, id store.AccountID, x *savedSession) error {
	var wanted []store.ArchiveID
	for _, q := range x.row.Queue {
		if q.Entry != 0 && len(q.Stanza) == 0 {
			wanted = append(wanted, q.Entry)
		}
	}
	archived := make(map[store.ArchiveID][]byte, len(wanted))
	keep := func(m store.ArchivedMessage) error {
		archived[m.ID] = slices.Clone(m.Stanza)
		return nil
	}
	if len(wanted) > 0 {
		if _, err := h.cfg.Store.Archive(ctx, store.ArchiveQuery{Account: id, IDs: wanted, Max: len(wanted)}, keep); err != nil {
			return err
		}
	}
	var since []store.ArchiveID // above UpTo, and not in the queue
	if x.state.Profile.Modern() {
		listed := map[store.ArchiveID]bool{}
		for _, q := range x.row.Queue {
			listed[q.Entry] = true
		}
		size := 0
		q := store.ArchiveQuery{Account: id, AfterID: x.row.UpTo, Max: store.MaxSavedQueue, Bytes: h.cfg.Limits.OutboxBytes}
		more, err := h.cfg.Store.Archive(ctx, q, func(m store.ArchivedMessage) error {
			if size += len(m.Stanza); !listed[m.ID] && size <= h.cfg.Limits.OutboxBytes {
				since = append(since, m.ID)
				return keep(m)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if more || size > h.cfg.Limits.OutboxBytes {
			x.gone = true // too much was sent while it was away
			return nil
		}
	}
	x.fill(archived, since)
	return nil
}

// fill makes the queue's stanzas. since, which is above UpTo, stands among what was
// queued later in the archive's order.
func (x *savedSession) fill(archived map[store.ArchiveID][]byte, since []store.ArchiveID) {
	add := func(id store.ArchiveID, t tag) bool {
		data := archived[id]
		if data == nil {
			return false // deleted meanwhile, or never committed
		}
		if data = remake(x.jid, store.ArchivedMessage{ID: id, Stanza: data}, t); data == nil {
			return false
		}
		x.queue = append(x.queue, sm.Entry[tag]{Data: data, Tag: t})
		return true
	}
	addSince := func(before store.ArchiveID) {
		for len(since) > 0 && since[0] < before {
			add(since[0], tag{kind: tagConversation, id: since[0], archived: true, form: formArchived, order: x.state.Order})
			since = since[1:]
		}
	}
	for i, q := range x.row.Queue {
		t, ok := decodeTag(q.Tag)
		if !ok {
			x.gone = true
			return
		}
		if t.id > x.row.UpTo {
			addSince(t.id + 1)
		}
		switch {
		case len(q.Stanza) > 0:
			x.queue = append(x.queue, sm.Entry[tag]{Data: q.Stanza, Tag: t})
		case !add(q.Entry, t) && i < x.row.Sent:
			x.gone = true // it can't be sent again, and the client may not have it
			return
		}
	}
	addSince(math.MaxInt64)
}

// restore brings back the sessions that were saved, when the account is loaded
// for the first time. Those that can't be resumed any more end as any other:
// their contacts see them go, and what they are owed finds its way.
func (s *State) restore(saved []savedSession, rows []store.SessionRow, fx *effects) {
	s.restored = true
	var over []*session
	for i := range saved {
		sv := &saved[i]
		if old := s.session(sv.jid.Resource()); old != nil {
			s.end(old, nil, fx)
			over = slices.DeleteFunc(over, func(x *session) bool { return x == old })
		}
		x := s.revive(sv, fx.now)
		if sv.gone || fx.now.Sub(x.detachedAt) >= x.window || !s.pushMissed(x, sv, fx) {
			over = append(over, x)
		}
	}
	for _, r := range rows {
		if r.Online && s.session(r.Resource) == nil {
			s.vanished = append(s.vanished, r.Resource)
			fx.commit([]store.Op{store.SessionSeen{Account: s.id, Resource: r.Resource, Client: r.Client, Address: r.Address, At: r.At}})
		}
	}
	for _, x := range over {
		s.end(x, nil, fx)
	}
}

// pushMissed queues the roster's changes of while the server was away, such as the
// removal of a contact's account, for a session that follows the roster. It reports
// false where they aren't known.
func (s *State) pushMissed(x *session, sv *savedSession, fx *effects) bool {
	if !x.interested(nsRoster) || sv.state.Roster == s.rosterVersion {
		return true
	}
	seen := sv.state.Roster
	for _, e := range sv.queue {
		seen = max(seen, pushedVersion(e.Data))
	}
	switch {
	case seen == s.rosterVersion:
		return true
	case seen > s.rosterVersion || seen < s.rosterFloor:
		return false
	}
	s.pushSince(x, seen, fx)
	// On disk there is the queue without them: what is added to it from now on would
	// make them look as if they had been queued.
	fx.post(s.jid, &saveDue{x})
	return true
}

// pushedVersion is the version of the roster that a queued push brings, 0 for
// anything else.
func pushedVersion(data []byte) int64 {
	if !bytes.Contains(data, []byte(nsRoster)) {
		return 0
	}
	st := parseOwn(data)
	if st == nil || st.Kind != stanza.IQ || st.Type != stanza.TypeSet || !st.From.IsZero() || !st.Payload().Is(nsRoster, "query") {
		return 0
	}
	v, err := strconv.ParseInt(st.Payload().Attr("ver"), 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// revive makes a session of what was saved of it.
func (s *State) revive(sv *savedSession, now time.Time) *session {
	st := &sv.state
	s.serial++
	s.order, s.lastID = max(s.order, st.Order), max(s.lastID, sv.row.UpTo)
	key := sv.row.Key
	x := &session{hub: s.cfg.hub, jid: sv.jid, since: st.Since, serial: s.serial, client: sv.row.Client, conn: st.Conn, window: sv.row.Window, key: &key,
		inactive: st.Inactive, queried: st.Queried, unbroken: st.Unbroken, cursor: st.Cursor, cursorKept: st.Cursor,
		profile: st.Profile, bind2: st.Bind2, interests: st.Interests, listening: listening{events: st.Events}, in: sm.NewInbound(sv.row.Handled),
		detachedAt: sv.row.Ends.Add(-sv.row.Window), behind: !st.Whole || st.Start+1 != s.cfg.Start}
	if sv.row.Ends.IsZero() {
		x.detachedAt = now
	}
	if p := st.Presence; p != nil {
		x.available, x.presence, x.priority, x.caps = true, p.restored(), p.Priority, p.Caps
		if s.avatarKnown {
			s.refreshPresence(x)
		}
	}
	for _, text := range st.Directed {
		if j, err := jid.Parse(text); err == nil {
			if x.directed == nil {
				x.directed = map[jid.JID]struct{}{}
			}
			x.directed[j] = struct{}{}
		}
	}
	for _, r := range st.Reached {
		x.reached = append(x.reached, span{r[0], r[1]})
	}
	x.out = sm.NewQueue(sv.row.Acked, min(sv.row.Sent, len(sv.queue)), sv.queue)
	x.keptRows = len(sv.row.Queue)
	for _, q := range sv.row.Queue {
		x.keptBytes += len(q.Tag) + len(q.Stanza)
	}
	offline := 0
	for _, e := range sv.queue {
		x.answers += e.Tag.answer
		if e.Tag.offline != 0 {
			offline++
			x.flushedTo = max(x.flushedTo, e.Tag.offline)
		}
	}
	if offline > 0 { // it is being sent the offline messages
		s.flushing, s.flushLeft, s.flushedTo = x, offline, max(s.flushedTo, x.flushedTo)
	}
	s.sessions = append(s.sessions, x)
	s.cfg.stats.Sessions.Add(1)
	s.keeps(x, true)
	s.noteReachable(x)
	return x
}

// vanishedFor is how long after the server's start others are told of resources
// that it broke off from.
func (c *Config) vanishedFor() time.Duration { return 2 * max(c.Limits.ResumeWindow, time.Minute) }

// sendVanished tells that resources are gone that nobody saw go, because the
// server was killed.
func (s *State) sendVanished(to jid.JID, fx *effects) {
	if len(s.vanished) == 0 {
		return
	}
	if fx.now.Sub(s.cfg.hub.started) > s.cfg.vanishedFor() {
		s.vanished = nil
		return
	}
	for _, r := range s.vanished {
		if j, err := s.jid.WithResource(r); err == nil && s.session(r) == nil {
			s.postPresence(presence{typ: stanza.TypeUnavailable}, j, to, fx)
		}
	}
}

// catchUpPresence brings the presence that sessions know up to date, where the
// server broke off since they were saved. The first that is resumed has it done
// for all.
func (s *State) catchUpPresence(x *session, fx *effects) {
	if !x.behind {
		return
	}
	probe := false
	for _, y := range s.sessions {
		if y.behind && y.available {
			s.sendVanished(y.jid, fx)
			s.presenceOfOwn(y, fx)
			probe = true
		}
		y.behind = false
	}
	if probe {
		s.probeAll(fx)
	}
}

// readSessions reads what is known of an account's sessions of before the start.
func (h *Hub) readSessions(ctx context.Context, bare jid.JID, ev *accountLoaded) {
	if ev.saved, ev.err = h.readSaved(ctx, bare, ev.data.ID); ev.err == nil {
		ev.rows, ev.err = h.cfg.Store.Sessions(ctx, ev.data.ID)
	}
}
