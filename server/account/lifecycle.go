package account

import (
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
func (s *State) bind(x *Session, fx *effects) *stanza.Error {
	if s.unknown() {
		return stanza.NewError(stanza.NotAllowed, "the account was removed")
	}
	if old := s.session(x.jid.Resource()); old != nil {
		s.end(old, stanza.NewStreamError(stanza.StreamConflict, "another session bound this resource"), fx)
	} else if len(s.sessions) >= s.cfg.Limits.SessionsPerAccount && !s.makePlace(fx) {
		return stanza.NewError(stanza.ResourceConstraint, "the account has too many sessions")
	}
	s.sessions = append(s.sessions, x)
	s.noteSeen(x, true, fx)
	return nil
}

// makePlace ends the session that has been detached longest, so that devices
// that never come back don't keep new ones out.
func (s *State) makePlace(fx *effects) bool {
	var oldest *Session
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
func (s *State) noteSeen(x *Session, online bool, fx *effects) {
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

// resume gives a session that lost its connection a new one.
func (s *State) resume(id string, h uint32, t Transport, req *ResumeRequest, fx *effects) (*Session, Resumed, error) {
	for _, x := range s.sessions {
		if x.smID != id || id == "" {
			continue
		}
		if x.lost {
			e := &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "too much was sent while the client was away"), H: x.handledCount(), Known: true}
			s.end(x, nil, fx)
			return nil, Resumed{}, e
		}
		handled, old, delivered, err := x.attach(t, h, req)
		if err != nil {
			return nil, Resumed{}, tooHigh(err)
		}
		x.detachedAt = time.Time{}
		if old != nil {
			fx.call(func() {
				old.End(stanza.NewStreamError(stanza.StreamConflict, "the session was resumed on another connection"))
			})
		}
		if delivered != 0 {
			(&offlineDone{session: x, upTo: delivered}).apply(s, fx)
		}
		return x, Resumed{H: handled}, nil
	}
	return nil, Resumed{}, &ResumeError{Err: stanza.NewError(stanza.ItemNotFound, "no such session")}
}

func (x *Session) handledCount() uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.in.H()
}

// detached: the connection is gone without the end of the stream. The session
// waits for its resumption if it can be resumed, and ends if it can't.
type detached struct {
	session   *Session
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
	}
	resumable := x.smID != ""
	x.mu.Unlock()
	switch {
	case !current:
	case ev.closed || !resumable:
		s.end(x, nil, fx)
	default:
		x.detachedAt = fx.now
		s.noteSeen(x, false, fx)
	}
}

// overflowed: more is owed to a session than its queue may hold. Its
// connection ends; what it is owed is in the archive. It stays as a detached
// session, so that its contacts don't see it come and go, but can't be resumed.
type overflowed struct{ session *Session }

func (ev *overflowed) apply(s *State, fx *effects) {
	x := ev.session
	if s.index(x) < 0 || x.lost {
		return
	}
	err := stanza.NewStreamError(stanza.StreamPolicyViolation, "the client doesn't read what it is sent")
	s.cfg.Log.Warn("session detached: queue full", "account", s.jid, "conn", x.connID(), "resource", x.jid.Resource(), "limit", s.cfg.Limits.OutboxBytes)
	s.cfg.stats.Overflows.Add(1)
	x.mu.Lock()
	resumable := x.smID != ""
	x.mu.Unlock()
	if !resumable {
		s.end(x, err, fx)
		return
	}
	x.lost, x.detachedAt = true, fx.now
	tr, rest := x.giveUp(false)
	if tr != nil {
		fx.call(func() { tr.End(err) })
	}
	s.settle(x, rest, fx)
}

// giveUp takes what the session is still owed out of its queue; final is the
// session's end.
func (x *Session) giveUp(final bool) (Transport, []sm.Entry[tag]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rest := x.out.Drain()
	x.held, x.heldBytes = nil, 0
	tr := x.transport
	x.transport, x.ended = nil, true
	if final && x.room != nil {
		close(x.room)
		x.room = nil
	}
	return tr, rest
}

// end ends a session for good: unavailable presence, the stream error, and
// what becomes of what the client never acknowledged.
func (s *State) end(x *Session, err *stanza.StreamError, fx *effects) {
	i := s.index(x)
	if i < 0 {
		return
	}
	s.goUnavailable(x, presence{typ: stanza.TypeUnavailable}, fx)
	s.sessions = append(s.sessions[:i:i], s.sessions[i+1:]...)
	if s.flushing == x {
		s.flushing = nil
	}
	tr, rest := x.giveUp(true)
	if tr != nil {
		fx.call(func() { tr.End(err) })
	}
	s.settle(x, rest, fx)
	s.noteSeen(x, false, fx)
}

// settle handles what a session was owed when it was given up (XEP-0198 4):
// a conversation message that no other session has is kept for the next one,
// the senders of exclusive messages and of requests are told.
func (s *State) settle(x *Session, rest []sm.Entry[tag], fx *effects) {
	if len(rest) == 0 {
		return
	}
	var ops []store.Op
	others := s.reachable(x)
	for _, e := range rest {
		switch e.Tag.kind {
		case tagConversation:
			if others || e.Tag.offline != 0 || s.offlineFull() {
				continue
			}
			id := e.Tag.id
			if id == 0 {
				id = s.nextID(fx.now)
			}
			s.offline++
			ops = append(ops, store.OfflineAppend{Account: s.id, ID: id, Stanza: e.Data})
		case tagExclusive, tagRequest:
			if st, err := stanza.ParseBytes(e.Data, xmltree.Limits{MaxBytes: len(e.Data) + 1}); err == nil {
				if r := st.ErrorReply(stanza.NewError(stanza.ServiceUnavailable, "")); r != nil {
					fx.route(newArrive(r))
				}
			}
		}
	}
	if len(ops) > 0 {
		fx.commit(ops)
	}
}

// reachable reports whether another session got what x got.
func (s *State) reachable(x *Session) bool {
	for _, y := range s.sessions {
		if y != x && !y.lost && (y.profile != route.Classic || y.available && y.priority >= 0) {
			return true
		}
	}
	return false
}

// tick is the passage of time: acknowledgements that are asked for, sessions
// whose resumption time is over.
type tick struct{}

func (tick) apply(s *State, fx *effects) {
	for i := 0; i < len(s.sessions); i++ {
		x := s.sessions[i]
		if x.detachedAt.IsZero() {
			x.requestRest()
			continue
		}
		if fx.now.Sub(x.detachedAt) >= x.window {
			s.end(x, nil, fx)
			i--
		}
	}
}

// endAll ends all sessions of an account that was removed.
func (s *State) endAll(err *stanza.StreamError, fx *effects) {
	for len(s.sessions) > 0 {
		s.end(s.sessions[0], err, fx)
	}
}

// flushOffline sends the messages that were kept to a session that is new to
// them (R-CONV-6, XEP-0160 2).
func (s *State) flushOffline(x *Session, fx *effects) {
	if s.flushing != nil || x.queriedArchive() || x.profile > route.Carbons {
		return
	}
	s.flushing = x
	// The place in the order is held: what comes meanwhile is newer.
	e := s.hold(fx.now, func(*effects) {})
	fx.call(func() { s.cfg.hub.readOffline(s.jid, s.id, x, e) })
}

// offlineRead is the store's answer to flushOffline: as much as may be queued
// at once.
type offlineRead struct {
	session  *Session
	entry    *entry
	messages []store.ArchivedMessage
	err      error
}

func (ev *offlineRead) apply(s *State, fx *effects) {
	ev.entry.wait = false
	if ev.err != nil || len(ev.messages) == 0 || s.index(ev.session) < 0 {
		s.flushing = nil
	} else {
		last := len(ev.messages) - 1
		s.flushed = len(ev.messages)
		for i, m := range ev.messages {
			t := tag{kind: tagConversation, id: m.ID}
			if i == last {
				t.offline = m.ID
			}
			ev.entry.then = append(ev.entry.then, effect{kind: fxDeliver, session: ev.session, data: delayed(m, s.jid.DomainJID()), tag: t})
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

// offlineDone: the session has the offline messages up to an id.
type offlineDone struct {
	session *Session
	upTo    store.ArchiveID
}

func (ev *offlineDone) apply(s *State, fx *effects) {
	fx.commit([]store.Op{store.OfflineClear{Account: s.id, UpTo: ev.upTo}})
	if s.flushing != ev.session {
		return
	}
	s.flushing = nil
	if s.offline = max(0, s.offline-s.flushed); s.offline > 0 && s.index(ev.session) >= 0 && ev.session.available {
		s.flushOffline(ev.session, fx)
	}
}

// info describes a session (feature.SessionInfo).
func (x *Session) info() feature.SessionInfo {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := feature.SessionInfo{JID: x.jid, Profile: x.profile, Available: x.available, Priority: x.priority,
		Detached: x.transport == nil, Resumable: x.smID != "" && !x.lost, Active: !x.inactive, Since: x.since,
		Conn: x.conn, Queued: x.out.Bytes() + x.heldBytes, Caps: x.caps}
	if x.address.IsValid() {
		i.Address = x.address.String()
	}
	return i
}
