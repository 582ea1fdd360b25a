package account

import (
	"context"
	"errors"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// A session that asked for a catch-up (XMPP 2.0's session request) is part of
// the account from the first moment: each archived message is either older than
// the moment, and read from the archive, or newer, and held back until what is
// older has left. The moment is a place in the account's order, so there is
// neither a gap nor an overlap (S-1), whoever writes meanwhile. What is held is
// bounded; beyond the bound it is let go, for it is in the archive, and reading
// goes on up to a later moment.
type catchUp struct {
	upTo    store.ArchiveID // the moment: what is newer is held
	held    []sm.Entry[tag]
	size    int
	spilled bool // something newer was let go
}

// syncBatch and syncBytes bound how many archived messages are read at once, so that
// what a catch-up takes in memory doesn't depend on how much was missed (S-3).
const (
	syncBatch = 64
	syncBytes = 64 << 10 // and a message
)

// seekStep is how many messages are passed over at once where a limit is far back:
// others who wait for the store get their turn in between.
const seekStep = 4096

// A catch-up that sends more than newDevice messages rests three times as long as each
// batch took to read, maxRest at most: reading and writing could otherwise keep two
// processors busy for seconds, and where there are no more nobody would look
// whether other connections have something to read.
const maxRest = 10 * time.Millisecond

// newDevice is how many messages a device gets at most that has no cursor and
// names no limit: the latest, and the archive has the rest.
const newDevice = 500

// take holds an archived message back until it is its turn. bound is in bytes.
func (c *catchUp) take(data []byte, t tag, bound int) {
	if t.id <= c.upTo || c.spilled {
		return // it is read from the archive
	}
	if c.size += len(data); c.size > bound {
		c.held, c.size, c.spilled = nil, 0, true
		return
	}
	c.held = append(c.held, sm.Entry[tag]{Data: data, Tag: t})
}

// syncPlan is what a catch-up reads.
type syncPlan struct {
	account  store.AccountID
	want     *xep.Sync // nil: nothing, the session is live at once
	after    store.ArchiveID
	start    time.Time
	max      int
	complete bool
	// contiguous: it begins where the device stopped, by its own word or the
	// server's cursor.
	contiguous bool
}

// begin carries out an XMPP 2.0 session request (X2-31, X2-39, X2-40, X2-43) for a
// session that has just been
// bound: from now on it gets what a v2 session gets. It says what became of each
// part; the parts' data follows in the session's stream.
func (s *State) begin(x *session, r *xep.SessionRequest, cursor store.ArchiveID, rooms *entrances, fx *effects) (plan syncPlan, results []xep.SessionResult) {
	x.profile = route.V2
	s.noteReachable(x)
	results = []xep.SessionResult{} // also of a request without parts
	for i := range r.Parts {
		part := &r.Parts[i]
		result := xep.SessionResult{Part: part.Part, Room: part.RoomText, Err: part.Err}
		if part.Part == xep.SessionAutojoin && part.Err == nil {
			result.Err, result.Rooms = rooms.err, rooms.bookmarked
		}
		results = append(results, result)
	}
	if part := r.First(xep.SessionRoster); part != nil {
		query := string(xmltree.AppendAttrValue([]byte("<query xmlns='"+nsRoster+"' ver='"), part.Ver)) + "'/>"
		s.rosterIQ(&inbound{session: x, stanza: stanza.Build(stanza.IQ, stanza.TypeGet, xep.SyncQueryID, x.jid, s.jid, query)}, fx)
	}
	cursor = max(cursor, s.cursors[x.client])
	x.cursorKept = cursor
	if part := r.First(xep.SessionSync); part != nil {
		plan = s.planSync(cursor, part.Sync, fx.now)
		x.mu.Lock()
		x.catchUp = &catchUp{upTo: s.lastID}
		x.mu.Unlock()
	}
	if part := r.First(xep.SessionPresence); part != nil {
		st := *part.Presence
		st.From = x.jid
		s.sendPresence(&inbound{session: x, stanza: &st}, fx)
	}
	for _, e := range rooms.list { // X2-37
		payload := string(xep.AppendRoomJoin(nil, e.password, xep.RoomJoin{Sync: e.sync}))
		s.direct(&inbound{session: x, stanza: stanza.Build(stanza.Presence, "", xep.SyncQueryID, x.jid, e.to, payload)}, fx)
	}
	return plan, results
}

// planSync decides where a catch-up starts (session.md, "The request").
func (s *State) planSync(cursor store.ArchiveID, want *xep.Sync, now time.Time) syncPlan {
	p := syncPlan{account: s.id, want: want, start: want.Start, max: want.Max, complete: true}
	switch {
	case want.After != "":
		id, ok := store.ParseArchiveID(want.After)
		p.contiguous = true
		if p.after = id; !ok || id > s.lastID {
			p.after, p.complete = 0, false
		}
	case want.Last > 0:
		p.start = now.Add(-want.Last)
	case want.Start.IsZero():
		p.contiguous = true
		p.after = cursor
	}
	if p.after == 0 && p.start.IsZero() && p.max == 0 {
		p.max = newDevice
	}
	return p
}

// catchUpWith sends what the plan says, and then lets the session go live.
func (x *session) catchUpWith(ctx context.Context, p syncPlan) {
	err := x.sendArchived(ctx, p)
	switch {
	case err == nil || errors.Is(err, ErrEnded) || errors.Is(err, context.Canceled) || errors.Is(err, errStopped):
	default:
		// Live messages must not hide what is missing: the client asks again.
		x.hub.cfg.Log.Error("archive can't be read for a device: its session ends", "account", x.jid.Bare(), "resource", x.jid.Resource(), "error", err)
		x.hub.post(x.jid.Bare(), &syncFailed{x})
	}
}

// syncFailed: the archive can't be read for a session that asked to catch up.
type syncFailed struct{ session *session }

func (ev *syncFailed) apply(s *State, fx *effects) {
	s.end(ev.session, stanza.NewStreamError(stanza.StreamInternalServerError, "the archive can't be read"), fx)
}

func (x *session) sendArchived(ctx context.Context, p syncPlan) error {
	owner := &accountRef{x.hub, x.jid.Bare()}
	// The session's moment was its account's last id; all up to there is on disk
	// now, and has passed the session.
	if _, err := owner.Settled(ctx); err != nil {
		return err
	}
	q := store.ArchiveQuery{Account: p.account, AfterID: p.after, Start: p.start, UpTo: x.moment()}
	done := xep.Synced{Complete: p.complete}
	if err := x.limitSync(ctx, &q, &p, &done); err != nil {
		return err
	}
	x.follow(p.contiguous && done.Complete)
	head := xep.NewMAMResult(owner.bare, x.jid, xep.SyncQueryID)
	for {
		if err := x.sendRange(ctx, &q, &head, &done); err != nil {
			return err
		}
		if x.live(done) {
			return nil
		}
		upTo, err := ask(ctx, x.hub, owner.bare, func(s *State, _ *effects) store.ArchiveID { return x.laterMoment(s.lastID) })
		if err != nil {
			return err
		}
		if _, err := owner.Settled(ctx); err != nil {
			return err
		}
		q.AfterID, q.UpTo = max(q.AfterID, q.UpTo), upTo
	}
}

// limitSync finds where a catch-up begins that has a limit or names an id.
func (x *session) limitSync(ctx context.Context, q *store.ArchiveQuery, p *syncPlan, done *xep.Synced) error {
	if p.want.After != "" && done.Complete {
		known, err := x.hub.cfg.Store.ArchiveHas(ctx, p.account, p.after)
		if err != nil {
			return err
		}
		if !known { // expired, or never given: the latest, if the client set no limit
			q.AfterID, done.Complete = 0, false
		}
	}
	if !done.Complete && p.max == 0 {
		p.max = newDevice
	}
	if p.max == 0 || q.UpTo == 0 {
		return nil
	}
	back := *q
	for left := p.max; left > 0; left -= back.Max {
		back.Max = min(left, seekStep)
		first, more, err := x.seekArchive(ctx, back)
		if err != nil || !more {
			return err // or no more are there than are wanted
		}
		back.UpTo = first - 1
	}
	q.AfterID, done.Complete = max(q.AfterID, back.UpTo), false
	return nil
}

// sendRange sends the archived messages of a range, waiting for the client
// between batches.
func (x *session) sendRange(ctx context.Context, q *store.ArchiveQuery, head *xep.MAMResult, done *xep.Synced) error {
	var id [16]byte
	for q.UpTo != 0 && q.AfterID < q.UpTo {
		q.Max, q.Bytes = syncBatch, syncBytes
		began := x.hub.cfg.Now()
		batch := make([]sm.Entry[tag], 0, syncBatch)
		more, err := x.readArchive(ctx, *q, func(m store.ArchivedMessage) error {
			data := head.Append(make([]byte, 0, len(m.Stanza)+256), m.ID.Append(id[:0]), m.ID.Time(), m.Stanza)
			batch = append(batch, sm.Entry[tag]{Data: data, Tag: tag{id: m.ID, archived: true, form: formResult}})
			return nil
		})
		if err != nil {
			return err
		}
		took := x.hub.cfg.Now().Sub(began)
		if n := len(batch); n > 0 {
			if done.Count += n; done.First == "" {
				done.First = batch[0].Tag.id.String()
			}
			done.Last = batch[n-1].Tag.id.String()
			q.AfterID = batch[n-1].Tag.id
			if err := x.sendBatch(ctx, batch); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		if done.Count > newDevice {
			if err := rest(ctx, took); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest waits three times as long as the work took.
func rest(ctx context.Context, took time.Duration) error {
	if took <= 0 {
		return nil
	}
	t := time.NewTimer(min(3*took, maxRest))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// asResult is one archived message of a catch-up.
func asResult(full jid.JID, m store.ArchivedMessage) []byte {
	head := xep.NewMAMResult(full.Bare(), full, xep.SyncQueryID)
	return head.Append(make([]byte, 0, len(m.Stanza)+256), m.ID.Append(nil), m.ID.Time(), m.Stanza)
}

// readArchive reads the store in the session's turn.
func (x *session) readArchive(ctx context.Context, q store.ArchiveQuery, fn func(store.ArchivedMessage) error) (more bool, err error) {
	if err := x.awaitTurn(ctx); err != nil {
		return false, err
	}
	defer x.endTurn()
	return x.hub.cfg.Store.Archive(ctx, q, fn)
}

// seekArchive finds the oldest of the newest messages in the session's turn.
func (x *session) seekArchive(ctx context.Context, q store.ArchiveQuery) (first store.ArchiveID, more bool, err error) {
	if err := x.awaitTurn(ctx); err != nil {
		return 0, false, err
	}
	defer x.endTurn()
	return x.hub.cfg.Store.ArchiveNewest(ctx, q)
}

// awaitTurn waits until the session may read the store, as one of a few at a time. A
// session that ended while it waited doesn't read; the others call endTurn.
func (x *session) awaitTurn(ctx context.Context) error {
	select {
	case x.hub.reads <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if x.hasEnded() {
		x.endTurn()
		return ErrEnded
	}
	return nil
}

func (x *session) endTurn() { <-x.hub.reads }

func (x *session) hasEnded() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended || x.overflow
}

// sendBatch queues archived messages, waiting while the queue is half full;
// a client that lost its connection is waited for.
func (x *session) sendBatch(ctx context.Context, batch []sm.Entry[tag]) error {
	if len(batch) == 0 {
		return nil
	}
	return x.awaitRoom(ctx, func() (done bool, err error) {
		if x.ended || x.overflow {
			return false, ErrEnded
		}
		for len(batch) > 0 && x.hasRoom() {
			x.push(batch[0].Data, batch[0].Tag)
			batch = batch[1:]
		}
		x.wake()
		return len(batch) == 0, nil
	})
}

func (x *session) moment() store.ArchiveID {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.catchUp.upTo
}

// laterMoment goes on up to now. The loop calls it.
func (x *session) laterMoment(now store.ArchiveID) store.ArchiveID {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.catchUp = &catchUp{upTo: now}
	return now
}

// live ends the catch-up: what was held follows it, and then what comes. It
// reports false if something newer was let go.
func (x *session) live(done xep.Synced) bool {
	payload := string(xep.AppendSynced(nil, done))
	end := stanza.Build(stanza.Message, "", "", x.jid.Bare(), x.jid, payload).AppendTo(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.catchUp.spilled {
		return false
	}
	x.push(end, tag{})
	for _, e := range x.catchUp.held {
		x.push(e.Data, e.Tag)
	}
	x.catchUp = nil
	x.wake()
	return true
}
