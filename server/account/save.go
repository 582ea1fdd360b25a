package account

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
)

// Sessions outlive the server (S-11): see DESIGN.md. What is on disk of a session
// is exact, so it is written when nothing passes between the server and the
// client, and forgotten before anything passes again.

// quietFor is after how long a connected session is saved over which nothing
// passes. Where that didn't last it takes twice as long the next time, up to
// quietMost: a client that says something every minute costs no writes.
const (
	quietFor  = 30 * time.Second
	quietMost = 16 * quietFor
)

// form is how a session gets an archived message, enough to make it again.
type form uint8

const (
	formWhole     form = iota // it can't be made again: it is kept as it is
	formArchived              // as it is archived
	formAddressed             // the same, addressed to the session
	formReceived              // as a carbon copy
	formSent                  //
	formResult                // as a result of the catch-up
)

// savedState is what of a session has no column of its own.
type savedState struct {
	Start     uint64 // the server's start that the session was saved in
	Whole     bool   `json:",omitempty"` // by an orderly stop: there is nothing that it was not told
	Serial    uint32
	Since     time.Time
	Conn      string          `json:",omitempty"`
	Profile   route.Profile   `json:",omitempty"`
	Bind2     bool            `json:",omitempty"`
	Presence  *savedPresence  `json:",omitempty"` // nil: it isn't available
	Directed  []string        `json:",omitempty"`
	Interests []string        `json:",omitempty"`
	Events    []string        `json:",omitempty"`
	Inactive  bool            `json:",omitempty"`
	Queried   bool            `json:",omitempty"`
	Unbroken  bool            `json:",omitempty"`
	Cursor    store.ArchiveID `json:",omitempty"`
	Roster    int64           `json:",omitempty"` // the version of which it was told, or will be by what is queued
	Order     uint64          // the account's
	Reached   [][2]uint64     `json:",omitempty"`
}

type savedPresence struct {
	ID, Lang, Inner, Caps string `json:",omitempty"`
	Priority              int8   `json:",omitempty"`
}

// saving says when a session is saved.
type saving uint8

const (
	savingAway  saving = iota // its connection is lost
	savingQuiet               // nothing has passed for long
	savingLast                // the server stops
)

// key is under what the session is kept. mu is held.
func (x *session) resumeKey() store.ResumeKey {
	if x.key != nil {
		return *x.key
	}
	return store.NewResumeKey(x.smID)
}

// resumable reports whether the client has an id to resume it with. mu is held.
func (x *session) resumable() bool { return x.smID != "" || x.key != nil }

// keeps notes whether something is on disk of a session, or on its way there.
func (s *State) keeps(x *session, kept bool) {
	switch {
	case kept && !x.kept:
		s.kept++
	case !kept && x.kept:
		s.kept--
	}
	x.kept = kept
}

// saveLater saves a session that lost its connection, once all that came over it
// is done.
func (s *State) saveLater(x *session, fx *effects) {
	s.later(fx, func(fx *effects) { fx.post(s.jid, &saveDue{x}) })
}

// saveDue: all that a lost connection brought is done.
type saveDue struct{ session *session }

func (ev *saveDue) apply(s *State, fx *effects) {
	if s.index(ev.session) >= 0 {
		s.save(ev.session, savingAway, fx)
	}
}

// save writes a session down, if it is one that can be taken up again from what
// is written. It reports whether it is.
func (s *State) save(x *session, when saving, fx *effects) bool {
	if x.lost || x.unsavable || s.unknown() {
		return false
	}
	// What waits for a commit is decided, and its unit on its way without this
	// session's part.
	decided := s.decidedFor(x)
	row, ok := x.snapshot(when, decided)
	if !ok {
		return false
	}
	row.UpTo = s.lastID
	if when == savingAway || when == savingLast && !x.detachedAt.IsZero() && !x.stopped() {
		row.Ends = x.detachedAt.Add(row.Window)
	}
	row.State = s.encodeState(x, when)
	x.keptRows, x.keptBytes = len(row.Queue), 0
	for _, q := range row.Queue {
		x.keptBytes += len(q.Tag) + len(q.Stanza)
	}
	if x.keptRows > store.MaxSavedQueue || x.keptBytes > store.MaxSavedBytes || len(row.State) > store.MaxSavedState {
		x.unsavable = true
		x.awake()
		return false
	}
	s.keeps(x, true)
	e := s.hold(fx.now, func(*effects) {})
	e.failed = func(_ *effects, err error) {
		s.cfg.Log.Warn("session isn't saved", "account", s.jid, "resource", x.jid.Resource(), "error", err)
		x.unsavable = errors.Is(err, store.ErrTooBig)
		s.keeps(x, false)
		x.awake()
	}
	fx.commit([]store.Op{store.SessionSave{Account: s.id, Session: row}}, e)
	return true
}

// decidedFor is what was decided for a session and waits for its turn.
func (s *State) decidedFor(x *session) (list []sm.Entry[tag]) {
	for _, e := range s.pending {
		for i := range e.then {
			if d := &e.then[i]; d.kind == fxDeliver && d.session == x {
				list = append(list, sm.Entry[tag]{Data: d.data, Tag: d.tag})
			}
		}
	}
	return list
}

// snapshot is what there is to be saved of a session's queue and counters. It
// reports false if that isn't all that the session is: stanzas of the client are
// not done yet, a catch-up goes on, another connection is about to take it. A
// quiet session is asleep from then on.
func (x *session) snapshot(when saving, decided []sm.Entry[tag]) (row store.SavedSession, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended || x.overflow || !x.resumable() || !x.out.Enabled() || x.catchUp != nil || x.in.Pending() > 0 || x.claim != nil {
		return row, false
	}
	switch when {
	case savingAway:
		if x.transport != nil {
			return row, false
		}
		x.flushHeld()
	case savingQuiet:
		if x.transport == nil || x.asleep || x.out.Waiting()+x.out.Unacked()+len(decided) > 0 {
			return row, false
		}
		x.asleep, x.rousing, x.waits = true, false, false
	case savingLast:
		x.transport = nil // whoever still reads gets no more
		x.flushHeld()
	}
	row = store.SavedSession{Key: x.resumeKey(), Resource: x.jid.Resource(), Client: x.client, Window: x.window,
		Handled: x.in.H(), Acked: x.out.Acked(), Sent: x.out.Unacked()}
	for _, list := range [...][]sm.Entry[tag]{x.out.Entries(), decided} {
		for _, e := range list {
			row.Queue = append(row.Queue, queued(e.Data, e.Tag))
		}
	}
	return row, true
}

// stopped: its connection was there when the server's stop began.
func (x *session) stopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.told
}

func (s *State) encodeState(x *session, when saving) []byte {
	st := savedState{Start: s.cfg.Start, Whole: when == savingLast && !x.behind, Serial: x.serial, Since: x.since, Profile: x.profile, Bind2: x.bind2,
		Interests: x.interests, Events: x.events, Roster: s.rosterVersion, Order: s.order}
	if x.available {
		p := &x.presence
		st.Presence = &savedPresence{ID: p.id, Lang: p.lang, Inner: p.inner, Caps: x.caps, Priority: x.priority}
	}
	for j := range x.directed {
		st.Directed = append(st.Directed, j.String())
	}
	for _, r := range x.reached {
		st.Reached = append(st.Reached, [2]uint64{r.from, r.to})
	}
	x.mu.Lock()
	st.Conn, st.Inactive, st.Queried, st.Unbroken, st.Cursor = x.conn, x.inactive, x.queried, x.unbroken, x.cursor
	x.mu.Unlock()
	b, err := json.Marshal(&st)
	if err != nil {
		panic("account: a session's state: " + err.Error()) // it is plain data
	}
	return b
}

// queued is a stanza of a session's queue as it is saved: what is in the archive
// isn't saved twice.
func queued(data []byte, t tag) store.QueuedStanza {
	q := store.QueuedStanza{Tag: encodeTag(t)}
	if t.archived {
		q.Entry = t.id
	}
	if !t.archived || t.form == formWhole {
		q.Stanza = data
	}
	return q
}

// tagFailure, tagArchived and tagAlone are bits of an encoded tag.
const (
	tagFailure = 1 << iota
	tagArchived
	tagAlone
)

func encodeTag(t tag) []byte {
	flags := byte(0)
	if t.failure {
		flags |= tagFailure
	}
	if t.archived {
		flags |= tagArchived
	}
	if t.alone {
		flags |= tagAlone
	}
	b := append(make([]byte, 0, 24), byte(t.kind), byte(t.form), byte(t.mark), flags)
	b = binary.AppendUvarint(b, uint64(t.id))
	b = binary.AppendUvarint(b, uint64(t.offline))
	b = binary.AppendUvarint(b, t.order)
	return binary.AppendUvarint(b, uint64(t.answer))
}

func decodeTag(b []byte) (t tag, ok bool) {
	if len(b) < 4 || b[0] > byte(tagRequest) || b[1] > byte(formResult) || b[2] >= tags {
		return t, false
	}
	t.kind, t.form, t.mark = tagKind(b[0]), form(b[1]), route.Tag(b[2])
	t.failure, t.archived = b[3]&tagFailure != 0, b[3]&tagArchived != 0
	t.alone = b[3]&tagAlone != 0
	var n [4]uint64
	b = b[4:]
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return t, false
		}
		n[i], b = v, b[size:]
	}
	t.id, t.offline, t.order, t.answer = store.ArchiveID(n[0]), store.ArchiveID(n[1]), n[2], int(n[3])
	return t, len(b) == 0
}

// outlive adds to a unit what the sessions that are on disk need of the
// deliveries that wait for it in e. One that is away is also owed what it can't
// get from the archive; a quiet one is forgotten, since something is about to
// pass.
func (s *State) outlive(ops []store.Op, e *entry) []store.Op {
	if s.kept == 0 {
		return ops
	}
	for i := range e.then {
		d := &e.then[i]
		x := d.session
		if d.kind != fxDeliver || !x.kept || d.tag.wait != waitNot {
			continue
		}
		switch {
		case x.detachedAt.IsZero():
			ops = append(ops, s.rouseOp(x))
			e.roused = append(e.roused, x)
		case d.tag.archived && x.profile.Modern() && d.tag.mark == route.NoTag:
			// Above UpTo it gets all that is in the archive.
		default:
			t := d.tag
			if t.id == 0 {
				t.id = s.lastID // its place among what is in the archive
			}
			ops = s.owe(ops, x, queued(d.data, t))
		}
	}
	return ops
}

// owe adds a stanza to what is kept of a session; one that is owed too much is
// kept no longer.
func (s *State) owe(ops []store.Op, x *session, q store.QueuedStanza) []store.Op {
	x.mu.Lock()
	key := x.resumeKey()
	x.mu.Unlock()
	x.keptRows++
	if x.keptBytes += len(q.Tag) + len(q.Stanza); x.keptRows > store.MaxSavedQueue || x.keptBytes > store.MaxSavedBytes {
		x.unsavable = true
		s.keeps(x, false)
		return append(ops, store.SessionForget{Account: s.id, Key: key})
	}
	return append(ops, store.SessionQueue{Account: s.id, Key: key, Stanza: q})
}

// commit hands over the unit that e waits for, with what sessions that are on
// disk need of it. other is the place in another account's order that waits too.
func (s *State) commit(fx *effects, ops []store.Op, e, other *entry) {
	fx.commit(s.outlive(ops, e), e, other)
}

// laterKept is later for what a session that is away can't be told again.
func (s *State) laterKept(fx *effects, fill func(fx *effects)) {
	if s.kept == 0 {
		s.later(fx, fill)
		return
	}
	s.commit(fx, nil, s.hold(fx.now, fill), nil)
}

// rouseOp is the operation that must be on disk before a quiet session goes on.
func (s *State) rouseOp(x *session) store.Op {
	x.mu.Lock()
	key := x.resumeKey()
	x.rousing = x.asleep
	x.mu.Unlock()
	s.keeps(x, false)
	// How long it was quiet is how long it may be quiet the next time.
	if s.lastUsed.Sub(x.still) < 4*x.patience {
		x.patience = min(2*x.patience, quietMost)
	} else {
		x.patience = quietFor
	}
	return store.SessionForget{Account: s.id, Key: key}
}

// rouse: something wants to pass over a quiet session.
type rouse struct{ session *session }

func (ev *rouse) apply(s *State, fx *effects) {
	x := ev.session
	if !x.kept || s.index(x) < 0 || !x.detachedAt.IsZero() {
		return // the same is on its way, or the connection is lost
	}
	e := s.hold(fx.now, func(*effects) {})
	e.roused = append(e.roused, x)
	fx.commit([]store.Op{s.rouseOp(x)}, e)
}

// askToRouse has the row forgotten before anything passes. mu is held.
func (x *session) askToRouse() {
	x.waits = true
	if !x.rousing {
		x.rousing = true
		x.hub.post(x.jid.Bare(), &rouse{x})
	}
}

// awake lets pass what waits.
func (x *session) awake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asleep {
		x.asleep, x.rousing, x.waits = false, false, false
		x.credit.ring()
		x.wake()
	}
}

// maxRousings is how many ticks long something waits behind a store that can't
// forget a quiet session. Then its client may as well have a new one, over which
// things can pass.
const maxRousings = 10

// watchQuiet saves a connected session over which nothing has passed for long. It
// reports whether it has ended one that could not be roused.
func (s *State) watchQuiet(x *session, fx *effects) (ended bool) {
	x.mu.Lock()
	now := x.in.Received() + uint64(x.out.Acked())
	idle := x.resumable() && x.out.Waiting()+x.out.Unacked()+x.in.Pending() == 0 && now == x.passed
	again, waits := x.asleep && x.rousing, x.asleep && x.waits
	x.passed = now
	x.mu.Unlock()
	switch {
	case x.kept && again: // the store could not
		if waits {
			x.rousings++
		}
		if x.rousings >= maxRousings {
			s.cfg.Log.Warn("session ended: the store can't forget what it saved of it", "account", s.jid, "conn", x.connID(), "resource", x.jid.Resource())
			s.end(x, stanza.NewStreamError(stanza.StreamResourceConstraint, "the server can't store anything now"), fx)
			return true
		}
		(&rouse{x}).apply(s, fx)
	case x.kept:
	case !idle || x.still.IsZero():
		x.still, x.patience = fx.now, max(x.patience, quietFor)
	case fx.now.Sub(x.still) >= x.patience:
		x.rousings = 0
		s.save(x, savingQuiet, fx)
	}
	return false
}

// forget drops what is on disk of a session that has ended.
func (s *State) forget(x *session, fx *effects) {
	if !x.kept {
		return
	}
	s.keeps(x, false)
	x.mu.Lock()
	key := x.resumeKey()
	x.mu.Unlock()
	s.forgetKey(key, fx)
}

func (s *State) forgetKey(key store.ResumeKey, fx *effects) {
	e := s.hold(fx.now, func(*effects) {})
	e.failed = func(*effects, error) { s.unforgotten = append(s.unforgotten, key) }
	fx.commit([]store.Op{store.SessionForget{Account: s.id, Key: key}}, e)
}

// forgetFirst drops what is on disk of a session that is about to be resumed;
// the channel tells when.
func (s *State) forgetFirst(x *session, fx *effects) <-chan error {
	done := make(chan error, 1)
	if !x.kept {
		done <- nil
		return done
	}
	op := s.rouseOp(x)
	e := s.hold(fx.now, func(fx *effects) {
		fx.call(func() { x.awake(); done <- nil })
	})
	e.failed = func(fx *effects, err error) {
		s.keeps(x, x.detachedAt.IsZero()) // one that is away is saved anew by the next tick
		fx.call(func() { done <- err })
	}
	fx.commit([]store.Op{op}, e)
	return done
}

// remake makes an archived message again in the form in which a session gets it.
// It is nil if that isn't possible.
func remake(full jid.JID, m store.ArchivedMessage, t tag) []byte {
	if t.form == formArchived && t.mark == route.NoTag {
		return m.Stanza
	}
	if t.form == formResult {
		return asResult(full, m)
	}
	st := parseOwn(m.Stanza)
	if st == nil {
		return nil
	}
	switch t.form {
	case formAddressed:
		st.To = full
	case formReceived:
		return carbonOf(m.Stanza, st.Type, full, "received")
	case formSent:
		return carbonOf(m.Stanza, st.Type, full, "sent")
	}
	return st.AppendWith(make([]byte, 0, len(m.Stanza)+128), st.Inner(), tagElement(t.mark))
}

// restored is the presence that was saved.
func (p *savedPresence) restored() presence {
	return presence{typ: stanza.TypeAvailable, id: p.ID, lang: p.Lang, inner: p.Inner}
}
