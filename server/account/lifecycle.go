package account

import (
	"errors"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// bind adds a session (RFC 6120 7). A session that bears the resource already
// gives way (RFC 6120 7.7.2.2).
func (s *State) bind(x *session, fx *effects) *stanza.Error {
	if s.unknown() {
		return stanza.NewError(stanza.NotAllowed, "the account was removed")
	}
	if s.cfg.hub.closing.Load() {
		return stanza.NewError(stanza.ResourceConstraint, "the server is stopping")
	}
	for _, old := range slices.Clone(s.sessions) { // one at most, and what it has taken over
		if x.client != "" && old.client == x.client && old.jid != x.jid {
			s.end(old, stanza.NewStreamError(stanza.StreamConflict, "the device has a new session"), fx) // S-6, XEP-0386 4
		}
	}
	if old := s.session(x.jid.Resource()); old != nil {
		s.end(old, stanza.NewStreamError(stanza.StreamConflict, "another session bound this resource"), fx)
	} else if len(s.sessions) >= s.cfg.Limits.SessionsPerAccount && !s.makePlace(fx) {
		return stanza.NewError(stanza.ResourceConstraint, "the account has too many sessions")
	}
	s.serial++
	x.serial = s.serial
	s.sessions = append(s.sessions, x)
	s.cfg.stats.Sessions.Add(1)
	s.noteReachable(x)
	s.noteSeen(x, true, fx)
	s.deviceHere(x, fx)
	if x.bind2 {
		s.flushNext(len(s.sessions)-1, fx)
	}
	return nil
}

// makePlace ends the session that has been detached longest, so that devices
// that never come back don't keep new ones out.
func (s *State) makePlace(fx *effects) bool {
	var oldest *session
	for _, x := range s.sessions {
		if !x.detachedAt.IsZero() && (oldest == nil || x.detachedAt.Before(oldest.detachedAt)) {
			oldest = x
		}
	}
	if oldest != nil {
		s.end(oldest, nil, fx)
	}
	return oldest != nil
}

// noteSeen keeps when a resource was last here, for who asks a stopped server.
func (s *State) noteSeen(x *session, online bool, fx *effects) {
	fx.commit([]store.Op{store.SessionSeen{Account: s.id, Resource: x.jid.Resource(), Address: x.address.String(), At: fx.now, Online: online}})
}

// Resumed is the answer to a resumption: what the server had handled.
type Resumed struct{ H uint32 }

// ResumeError says that a session can't be resumed (XEP-0198 5). H counts if
// Known: what the server had handled of the session that is gone.
type ResumeError struct {
	Err   *stanza.Error
	H     uint32
	Known bool
}

// Error makes *ResumeError a Go error.
func (e *ResumeError) Error() string { return "account: resume: " + e.Err.Error() }

// suspend finds the session to resume and takes it from its connection, whose
// client is now on another one.
//
// What is on disk of the session is to be forgotten before the client is told
// anything: forgotten says when that is done.
func (s *State) suspend(r *ResumeRequest, fx *effects) (x *session, forgotten <-chan error, err error) {
	i := slices.IndexFunc(s.sessions, func(x *session) bool { return x.resumedBy(r.ID) })
	if i < 0 || s.cfg.hub.closing.Load() {
		return nil, nil, &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "no such session")}
	}
	x = s.sessions[i]
	if r.Client != "" && x.client != r.Client {
		// Else what belongs to one client would go on with the other's access.
		if x.client != "" {
			return nil, nil, &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "no such session")}
		}
		x.client = strings.Clone(r.Client)
	}
	if x.lost {
		e := &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "too much was sent while the client was away"), H: x.handledCount(), Known: true}
		s.end(x, nil, fx)
		return nil, nil, e
	}
	old, err := x.suspend(r.Transport, r.H)
	if err != nil {
		return nil, nil, tooHigh(err)
	}
	if old != nil {
		x.detachedAt = fx.now
		fx.call(func() {
			old.End(stanza.NewStreamError(stanza.StreamConflict, "the session was resumed on another connection"))
		})
	}
	return x, s.forgetFirst(x, fx), nil
}

// attach gives a suspended session its new connection.
func (s *State) attach(x *session, r *ResumeRequest, fx *effects) (Resumed, error) {
	handled, done, ok := x.attach(r)
	if !ok || s.index(x) < 0 {
		return Resumed{}, &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "no such session")}
	}
	x.detachedAt, x.unsavable = time.Time{}, false
	s.noteSeen(x, true, fx)
	s.deviceHere(x, fx)
	s.catchUpPresence(x, fx)
	if done.count > 0 {
		(&offlineDone{session: x, done: done}).apply(s, fx)
	}
	s.flushNext(0, fx)
	return Resumed{H: handled}, nil
}

// resumedBy reports whether id is the one under which the session can be
// resumed.
func (x *session) resumedBy(id string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.key != nil {
		return *x.key == store.NewResumeKey(id)
	}
	return id != "" && x.smID == id
}

// owes reports whether there is anything that its client is not known to have.
func (x *session) owes() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Waiting()+x.out.Unacked() > 0
}

func (x *session) handledCount() uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.in.H()
}

// detached: the connection is gone without the end of the stream. The session
// waits for its resumption if it can be resumed, and ends if it can't.
type detached struct {
	session   *session
	transport Transport
	closed    bool // the client ended its stream: there is nothing to wait for
}

func (ev *detached) apply(s *State, fx *effects) {
	x := ev.session
	if s.index(x) < 0 {
		return
	}
	x.mu.Lock()
	current := x.transport == ev.transport
	if current {
		x.transport = nil
		x.asleep, x.rousing, x.waits = false, false, false
		x.credit.ring()
	}
	if x.claim == ev.transport {
		x.claim = nil // it was to resume the session, and is gone
	}
	resumable := x.resumable()
	x.mu.Unlock()
	switch {
	case !current:
	case ev.closed || !resumable:
		if ev.closed {
			s.sent.closed(x.serial)
		}
		s.deviceGone(x, fx)
		s.end(x, nil, fx)
	default:
		x.detachedAt = fx.now
		s.deviceGone(x, fx)
		s.noteSeen(x, false, fx)
		// One that was quiet is on disk as it is. At the server's stop all are
		// saved together, once nothing comes any more.
		if (!x.kept || x.owes()) && !s.cfg.hub.closing.Load() {
			s.saveLater(x, fx)
		}
	}
}

// overflowed: more is owed to a session than its queue may hold. Its
// connection ends; what it is owed is in the archive. It stays as a detached
// session, so that its contacts don't see it come and go, but can't be resumed.
type overflowed struct{ session *session }

func (ev *overflowed) apply(s *State, fx *effects) {
	x := ev.session
	if s.index(x) < 0 || x.lost {
		return
	}
	err := stanza.NewStreamError(stanza.StreamPolicyViolation, "the client doesn't read what it is sent")
	s.cfg.Log.Warn("session detached: queue full", "account", s.jid, "conn", x.connID(), "resource", x.jid.Resource(), "limit", s.cfg.Limits.OutboxBytes)
	s.cfg.stats.Overflows.Add(1)
	x.mu.Lock()
	resumable := x.resumable()
	x.mu.Unlock()
	if !resumable {
		s.end(x, err, fx)
		return
	}
	x.lost, x.detachedAt = true, fx.now
	delete(s.missed, x)
	s.abandonFlush(x)
	tr, rest := x.giveUp()
	if tr != nil {
		fx.call(func() { tr.End(err) })
	}
	s.settle(x, rest, fx)
	s.forget(x, fx)
	s.flushNext(0, fx)
}

// undelivered: what was decided for a session came too late for it.
type undelivered struct {
	session *session
	data    []byte
	tag     tag
}

func (ev *undelivered) apply(s *State, fx *effects) {
	if !s.unknown() {
		s.settle(ev.session, []sm.Entry[tag]{{Data: ev.data, Tag: ev.tag}}, fx)
		s.flushNext(0, fx)
	}
}

// end ends a session for good: unavailable presence, the stream error, and
// what becomes of what the client never acknowledged.
func (s *State) end(x *session, err *stanza.StreamError, fx *effects) {
	i := s.index(x)
	if i < 0 {
		return
	}
	s.goUnavailable(x, presence{typ: stanza.TypeUnavailable}, false, fx)
	s.keepCursor(x, fx)
	s.sessions = append(s.sessions[:i:i], s.sessions[i+1:]...)
	delete(s.missed, x)
	s.cfg.stats.Sessions.Add(-1)
	s.abandonFlush(x)
	tr, rest := x.giveUp()
	if tr != nil {
		fx.call(func() { tr.End(err) })
	}
	s.settle(x, rest, fx)
	s.forget(x, fx)
	s.flushNext(0, fx)
	s.noteSeen(x, false, fx)
}

// settle handles what a session was owed when it was given up (XEP-0198 4):
// a conversation message that no other session has is kept for the next one,
// the senders of exclusive messages and of requests are told.
func (s *State) settle(x *session, rest []sm.Entry[tag], fx *effects) {
	for _, e := range rest {
		switch e.Tag.kind {
		case tagConversation:
			s.keepUnread(x, e.Data, e.Tag, fx)
		case tagCarbon:
			s.keepUnread(x, carbonContent(e.Data), e.Tag, fx)
		case tagExclusive, tagRequest:
			if st := parseOwn(e.Data); st != nil {
				if r := st.ErrorReply(stanza.NewError(stanza.ServiceUnavailable, "")); r != nil {
					fx.route(newArrive(r))
				}
			}
		}
	}
}

// parseOwn parses what this server has encoded.
func parseOwn(data []byte) *stanza.Stanza {
	st, err := stanza.ParseBytes(data, xmltree.Limits{MaxBytes: len(data) + 1, MaxDepth: 1 << 10, MaxAttrs: 1 << 10, MaxChildren: 1 << 24, MaxNamespaces: 1 << 10})
	if err != nil {
		return nil
	}
	return st
}

// carbonContent is the message in a carbon copy.
func carbonContent(data []byte) []byte {
	st := parseOwn(data)
	if st == nil {
		return nil
	}
	inner, err := stanza.Parse(st.Child(nsCarbons, "received").Child(nsForward, "forwarded").Child(stanza.NSClient, "message"))
	if err != nil {
		return nil
	}
	return inner.AppendTo(nil)
}

// keepUnread keeps a message that x never got, unless another session has it
// or it is in the offline store already.
func (s *State) keepUnread(x *session, data []byte, t tag, fx *effects) {
	if data == nil || t.offline != 0 || s.offlineFull() || s.elsewhere(x, t, data) {
		return
	}
	s.offline++
	s.keepOffline(store.OfflineAppend{Account: s.id, ID: t.id, Stanza: data}, fx)
}

// keepOffline keeps a message that is counted already. It was acknowledged to
// its sender, so a store that can't take it now is asked again.
func (s *State) keepOffline(op store.OfflineAppend, fx *effects) {
	if op.ID <= s.flushedTo || s.flushing != nil {
		// Also where there is no id. Below what a session was sent of the offline
		// store, or is about to be, nothing may be added: it would be cleared unseen.
		op.ID = s.nextID(fx.now)
	}
	// A unit of its own: another session may have left the same message.
	e := s.hold(fx.now, func(*effects) {})
	e.failed = func(_ *effects, err error) {
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrTooBig) || errors.Is(err, store.ErrInvalid) {
			s.offline--
		} else {
			s.unkept = append(s.unkept, op) // bounded by what counts as offline
		}
	}
	fx.commit([]store.Op{op}, e)
}

// keepAgain tries again what the store could not do.
func (s *State) keepAgain(fx *effects) {
	if s.uncleared != 0 {
		upTo := s.uncleared
		s.uncleared = 0
		e := s.hold(fx.now, func(*effects) {})
		e.recounts = true
		e.failed = func(*effects, error) { s.uncleared = max(s.uncleared, upTo) }
		fx.commit([]store.Op{store.OfflineClear{Account: s.id, UpTo: upTo}}, e)
	}
	keys := s.unforgotten
	s.unforgotten = nil
	for _, key := range keys {
		s.forgetKey(key, fx)
	}
	if len(s.unkept) == 0 {
		return
	}
	again := s.unkept
	s.unkept = nil
	for _, op := range again {
		s.keepOffline(op, fx)
	}
	s.flushNext(0, fx)
}

// elsewhere reports whether another session was there when a message of x's queue
// was decided: its client has it, or it is in the session's queue and settled when
// that session ends. What was sent to one resource only that and no other classic
// session got (R-CONV-3).
func (s *State) elsewhere(x *session, t tag, data []byte) bool {
	var to jid.JID
	if t.alone {
		if st := parseOwn(data); st != nil {
			to = st.To
		}
	}
	return slices.ContainsFunc(s.sessions, func(y *session) bool {
		return y != x && !y.lost && (!t.alone || y.profile != route.Classic || y.jid == to) && y.there(t.order)
	})
}

// there reports whether the session was one that conversation messages reach, when
// the one with this place in the order was decided.
func (x *session) there(order uint64) bool {
	return slices.ContainsFunc(x.reached, func(p span) bool { return p.from <= order && order <= p.to })
}

// maxSpans bounds how exactly is known what a session was there for that comes
// and goes: older gaps are forgotten, what fell into them is in the archive.
const maxSpans = 8

// noteReachable follows whether conversation messages reach a session.
func (s *State) noteReachable(x *session) {
	const open = ^uint64(0)
	now := x.profile != route.Classic || x.available && x.priority >= 0
	n := len(x.reached)
	was := n > 0 && x.reached[n-1].to == open
	switch {
	case now == was:
	case was:
		x.reached[n-1].to = s.order
	case n == maxSpans:
		x.reached[n-1].to = open
	default:
		x.reached = append(x.reached, span{s.order + 1, open})
	}
}

// tick is the passage of time: acknowledgements that are asked for, sessions
// whose resumption time is over.
type tick struct{}

func (tick) apply(s *State, fx *effects) {
	s.keepAgain(fx)
	s.pushTick(fx)
	s.makeUpAll()
	s.keepCursors(fx)
	for i := 0; i < len(s.sessions); i++ {
		x := s.sessions[i]
		if x.detachedAt.IsZero() {
			x.requestRest()
			if s.watchQuiet(x, fx) {
				i--
			}
			continue
		}
		if !x.kept {
			s.save(x, savingAway, fx)
		}
		if fx.now.Sub(x.detachedAt) >= x.resumeWindow() {
			s.end(x, nil, fx)
			i--
		}
	}
}

func (x *session) resumeWindow() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.window
}

// flushNext sends the messages that were kept to a session that can have them,
// from the one at first on. One that waits to be resumed would keep them from who
// comes meanwhile: it has them when it is back.
func (s *State) flushNext(first int, fx *effects) {
	for _, x := range s.sessions[min(first, len(s.sessions)):] {
		if s.offline > 0 && x.detachedAt.IsZero() && (x.bind2 || x.available && x.priority >= 0) && !x.lost {
			s.flushOffline(x, fx)
		}
	}
}

// flushOffline sends the messages that were kept to a session that is new to
// them (R-CONV-6, XEP-0160 2). One that came by Bind 2 reads the archive: what is
// there isn't sent to it, and nobody else needs it (XEP-0386 4).
func (s *State) flushOffline(x *session, fx *effects) {
	if s.flushing != nil || s.uncleared != 0 || !x.bind2 && (x.readsArchive() || x.profile > route.Carbons) {
		return
	}
	s.flushing, s.flushLeft, s.flushSkipped = x, 0, nil
	ev := &offlineRead{session: x}
	id, after := s.id, x.flushedTo
	// The store is read once all that was decided before is in it, and the
	// place in the order is held: what comes meanwhile is newer.
	s.later(fx, func(fx *effects) {
		fx.call(func() { s.cfg.hub.readOffline(s.jid, id, after, ev) })
	})
	ev.entry = s.hold(fx.now, func(*effects) {})
}

// archiveUnread: a session was not told what it asked the archive for, and may need
// the offline messages.
type archiveUnread struct{ session *session }

func (ev *archiveUnread) apply(s *State, fx *effects) {
	if i := s.index(ev.session); i >= 0 {
		s.flushNext(i, fx)
	}
}

// abandonFlush: the session will not have the rest of the offline messages.
func (s *State) abandonFlush(x *session) {
	if s.flushing == x {
		s.flushing, s.flushLeft = nil, 0
	}
}

// offlineRead is the store's answer to flushOffline: as much as may be queued
// at once.
type offlineRead struct {
	session  *session
	entry    *entry
	messages []store.ArchivedMessage
	archived []bool // of the messages, for a session that came by Bind 2: it has them from there
	err      error
}

func (ev *offlineRead) apply(s *State, fx *effects) {
	x := ev.session
	ev.entry.wait = false
	switch {
	case s.flushing != x:
	case ev.err != nil:
		s.flushing = nil
	case len(ev.messages) == 0: // it has all of them; another may not
		s.flushing = nil
		s.flushNext(s.index(x)+1, fx)
	default:
		x.flushedTo = ev.messages[len(ev.messages)-1].ID
		s.flushedTo = max(s.flushedTo, x.flushedTo)
		for i, m := range ev.messages {
			if ev.archived != nil && ev.archived[i] {
				s.flushSkipped = append(s.flushSkipped, m.ID)
				continue
			}
			s.flushLeft++
			t := tag{kind: tagConversation, id: m.ID, offline: m.ID}
			ev.entry.then = append(ev.entry.then, effect{kind: fxDeliver, session: x, data: delayed(m, s.jid.DomainJID()), tag: t})
		}
		if s.flushLeft == 0 {
			(&offlineDone{session: x, done: flushed{upTo: x.flushedTo}}).apply(s, fx)
		}
	}
	s.release(fx)
}

// delayed adds when the message was kept (XEP-0203, XEP-0160 2).
func delayed(m store.ArchivedMessage, by jid.JID) []byte {
	const end = "</message>"
	if len(m.Stanza) < len(end) || string(m.Stanza[len(m.Stanza)-len(end):]) != end {
		return m.Stanza // no payload: nothing to date
	}
	w := xmltree.NewWriter(append(make([]byte, 0, len(m.Stanza)+128), m.Stanza[:len(m.Stanza)-len(end)]...), stanza.NSClient)
	w.Start(nsDelay, "delay").Attr("from", by.String()).Attr("stamp", m.ID.Time().UTC().Format("2006-01-02T15:04:05.000Z")).End()
	return append(w.Bytes(), end...)
}

// offlineDone: the session has messages of the offline store.
type offlineDone struct {
	session *session
	done    flushed
}

func (ev *offlineDone) apply(s *State, fx *effects) {
	if s.flushing != ev.session {
		return // another session is being sent them
	}
	s.flushLeft -= ev.done.count
	if s.flushLeft <= 0 { // those that were passed over behind the last go too
		ev.done.upTo = max(ev.done.upTo, ev.session.flushedTo)
	}
	cleared := ev.done.count
	for len(s.flushSkipped) > 0 && s.flushSkipped[0] <= ev.done.upTo {
		s.flushSkipped = s.flushSkipped[1:]
		cleared++
	}
	s.offline = max(0, s.offline-cleared)
	e := s.hold(fx.now, func(*effects) {})
	e.failed = func(_ *effects, err error) { // they are there still
		s.uncleared = max(s.uncleared, ev.done.upTo)
		s.distrust(err)
	}
	fx.commit([]store.Op{store.OfflineClear{Account: s.id, UpTo: ev.done.upTo}}, e)
	if s.flushLeft <= 0 {
		s.flushing = nil
		s.flushNext(0, fx)
	}
}

// info describes a session (feature.SessionInfo).
func (x *session) info() feature.SessionInfo {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := feature.SessionInfo{JID: x.jid, Profile: x.profile, Available: x.available, Priority: x.priority,
		Detached: x.transport == nil, Resumable: x.resumable() && !x.lost, Active: !x.inactive, Since: x.since,
		Conn: x.conn, Queued: x.out.Bytes() + x.heldBytes, Caps: x.caps, Client: x.client}
	if x.address.IsValid() {
		i.Address = x.address.String()
	}
	return i
}
