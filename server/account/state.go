package account

import (
	"errors"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// State is one account as its owner sees it: all that deciding needs, in
// memory. Only the loop that owns the account touches it.
type State struct {
	cfg  *Config
	jid  jid.JID // bare
	id   store.AccountID
	load loadState

	waiting  []event // until the account is loaded
	pending  []*entry
	stale    error  // not nil: memory says what the disk doesn't; why
	order    uint64 // messages decided so far
	serial   uint32 // sessions bound so far
	sent     sentLog
	cursors  map[string]store.ArchiveID // by installation: what was written since the account was loaded (S-10)
	sessions []*session                 // in the order in which they were bound
	lastUsed time.Time
	missed   map[*session]*missed // sessions whose queue had no room for presence

	restored    bool              // the sessions of before the server's start are there
	kept        int               // sessions that are on disk
	unforgotten []store.ResumeKey // that are no more, which the store could not take yet
	vanished    []string          // resources that nobody saw go, because the server was killed

	roster        map[jid.JID]*contact
	rosterVersion int64
	rosterFloor   int64
	removed       []store.RosterItem
	blocked       map[jid.JID]struct{}
	outside       map[jid.JID][]*outsider // resources of contacts on other servers
	outsiders     int                     // of all of them
	unsure        map[jid.JID]*entry      // contacts whose right to see, or the user's, waits for this commit
	archive       archivePrefs
	lastID        store.ArchiveID
	offline       int                   // messages in the offline store, or on their way there
	unkept        []store.OfflineAppend // of those, what the store could not take
	uncleared     store.ArchiveID       // up to which they were delivered, where the store could not clear them
	flushing      *session              // the session that is being sent the offline messages
	flushLeft     int                   // how many of those that it was sent it hasn't got yet
	flushSkipped  []store.ArchiveID     // those among them that it isn't sent, because the archive has them
	flushedTo     store.ArchiveID       // the newest one that any session was sent
	avatarHash    string                // XEP-0153; "" with avatarKnown: no photo
	avatarKnown   bool
	lastSeen      time.Time
	lastStatus    string

	pushes   []*pushTarget // push services of its devices
	pushSure uint64        // of the order: up to here all is committed, as far as push services are told of it
	muted    map[jid.JID]xep.NotifyWhen
	verdicts []route.PushDecision // of the message that was decided last, parallel to push

	stanzaID string      // the start of the account's <stanza-id/>
	facts    route.Facts // reused, so that deciding allocates nothing
	decision route.Decision
}

type loadState uint8

const (
	notLoaded loadState = iota
	loading
	loaded
	missing // there is no such account
)

// contact is a roster item, or a subscription request of somebody who isn't
// in the roster.
type contact struct {
	subscription
	listed  bool // it is in the roster
	name    string
	groups  []string
	version int64
	request []byte // the pending request's stanza
}

func (c *contact) item(j jid.JID) store.RosterItem {
	return store.RosterItem{JID: j, Name: c.name, Groups: c.groups, Subscription: c.subscription.String(),
		Ask: c.PendingOut, Approved: c.Approved, Version: c.version}
}

// archivePrefs is feature.ArchivePrefs in the form that deciding reads.
type archivePrefs struct {
	prefs         feature.ArchivePrefs
	always, never map[jid.JID]struct{}
}

func newArchivePrefs(p feature.ArchivePrefs) archivePrefs {
	a := archivePrefs{prefs: p, always: make(map[jid.JID]struct{}, len(p.Always)), never: make(map[jid.JID]struct{}, len(p.Never))}
	for _, j := range p.Always {
		a.always[j] = struct{}{}
	}
	for _, j := range p.Never {
		a.never[j] = struct{}{}
	}
	return a
}

// unarchived reports whether the user's preference keeps messages with peer
// out of the archive (XEP-0313 5).
func (s *State) unarchived(peer jid.JID) bool {
	if matches(s.archive.never, peer) {
		return true
	}
	if matches(s.archive.always, peer) {
		return false
	}
	switch s.archive.prefs.Default {
	case "never":
		return true
	case "roster":
		c := s.roster[peer.Bare()]
		return c == nil || !c.listed
	}
	return false
}

// matches: a bare JID in the list stands for all its resources.
func matches(list map[jid.JID]struct{}, peer jid.JID) bool {
	if len(list) == 0 {
		return false
	}
	if _, ok := list[peer]; ok {
		return true
	}
	_, ok := list[peer.Bare()]
	return ok
}

// blocks reports whether peer is on the block list (XEP-0191 2: an item
// matches a full JID, a bare JID with all its resources, a domain with all its
// users, or a domain's resource).
func (s *State) blocks(peer jid.JID) bool {
	if len(s.blocked) == 0 || peer.IsZero() || peer.Bare() == s.jid {
		return false
	}
	if matches(s.blocked, peer) {
		return true
	}
	domain := peer.DomainJID()
	if _, ok := s.blocked[domain]; ok {
		return true
	}
	if r := peer.Resource(); r != "" && peer.Local() != "" {
		if dr, err := domain.WithResource(r); err == nil {
			_, ok := s.blocked[dr]
			return ok
		}
	}
	return false
}

// maxWaiting is how many events wait for an account that is being loaded;
// what comes then is answered as a store that can't be reached answers.
const maxWaiting = 1024

// apply applies an event, or keeps it until the account is loaded.
func (s *State) apply(ev event, fx *effects) {
	s.lastUsed = fx.now
	switch ev.(type) {
	case *accountLoaded, *entry, *offlineRead:
		// What the account waits for.
		ev.apply(s, fx)
		return
	}
	if s.load >= loaded && s.stale == nil {
		ev.apply(s, fx)
		return
	}
	if _, ok := ev.(tick); ok {
		ev = nil // the next one will do
	} else if len(s.waiting) >= maxWaiting && s.fail(ev, fx, store.ErrBusy) {
		return
	} else {
		s.waiting = append(s.waiting, ev)
	}
	if s.load == notLoaded {
		s.startLoad(fx)
	}
}

// startLoad reads the account from the store.
func (s *State) startLoad(fx *effects) {
	s.load = loading
	first := !s.restored
	fx.call(func() { s.cfg.hub.loadAccount(s.jid, first) })
}

// accountLoaded is the answer of the store to a load.
type accountLoaded struct {
	data store.AccountData
	hash []byte   // the vCard photo's, nil if there is no entry
	last []byte   // when the last session ended, nil if there is no entry
	sent [][]byte // what was sent shortly before the server was started
	// saved and rows are what is known of sessions of before the server's start.
	saved []savedSession
	rows  []store.SessionRow
	held  map[store.ArchiveID][]byte // messages of which devices have yet to be notified
	muted map[jid.JID]xep.NotifyWhen // conversations of which the person wants no notifications
	err   error
}

func (ev *accountLoaded) apply(s *State, fx *effects) {
	waiting := s.waiting
	s.waiting = nil
	switch {
	case errors.Is(ev.err, store.ErrNotFound):
		s.load, s.stale = missing, nil
		s.endAll(errRemoved(), fx)
		s.dropPushes(func(*pushTarget) bool { return true })
	case ev.err != nil:
		// Whoever waits is answered as a failing store answers. What can't be
		// answered, such as that a connection is lost, waits on; the next event
		// or tick tries again.
		s.load = notLoaded
		for _, w := range waiting {
			if lasting(w) || !s.fail(w, fx, ev.err) {
				s.waiting = append(s.waiting, w)
			}
		}
		return
	default:
		s.load, s.stale = loaded, nil
		s.fill(ev)
		s.fillPush(ev, fx.now)
		if !s.restored {
			s.restore(ev.saved, ev.rows, fx)
		}
		s.flushNext(0, fx)
	}
	for i, w := range waiting {
		w.apply(s, fx)
		if s.stale != nil { // no event can do that at once, but none may be lost
			s.waiting = append(s.waiting, waiting[i+1:]...)
			return
		}
	}
}

// fill takes the account's data from the store; sessions stay as they are.
// Nothing is pending, so what the store says is all that was submitted.
func (s *State) fill(ev *accountLoaded) {
	d := &ev.data
	s.id = d.ID
	s.roster = make(map[jid.JID]*contact, len(d.Roster)+len(d.Requests))
	for i := range d.Roster {
		it := &d.Roster[i]
		s.roster[it.JID] = &contact{listed: true, name: it.Name, groups: it.Groups, version: it.Version,
			subscription: subscription{
				To:         it.Subscription == "to" || it.Subscription == "both",
				From:       it.Subscription == "from" || it.Subscription == "both",
				PendingOut: it.Ask, Approved: it.Approved}}
	}
	for i := range d.Requests {
		r := &d.Requests[i]
		c := s.roster[r.From]
		if c == nil {
			c = &contact{}
			s.roster[r.From] = c
		}
		c.PendingIn, c.request = true, r.Stanza
	}
	s.unsure = nil
	s.rosterVersion, s.rosterFloor, s.removed = d.RosterVersion, d.RosterFloor, d.Removed
	s.blocked = make(map[jid.JID]struct{}, len(d.Blocked))
	for _, j := range d.Blocked {
		s.blocked[j] = struct{}{}
	}
	s.archive = newArchivePrefs(feature.DecodeArchivePrefs(d.Prefs, s.cfg.ArchiveDefault))
	s.lastID = max(s.lastID, d.LastArchiveID)
	s.offline = d.Offline + len(s.unkept)
	if known, hash := ev.hash != nil, string(ev.hash); known != s.avatarKnown || hash != s.avatarHash {
		s.avatarKnown, s.avatarHash = known, hash
		for _, x := range s.sessions {
			s.refreshPresence(x)
		}
	}
	s.lastSeen, s.lastStatus = decodeLast(ev.last)
	if len(s.sent.list) == 0 {
		s.refill(ev.sent)
	}
}

// lasting: an answer to a subscription request, or the end of a subscription,
// is sent once, and an error for it tells nobody what to do. It is better late
// than refused.
func lasting(ev event) bool {
	typ := ""
	switch ev := ev.(type) {
	case *presenceArrives:
		typ = ev.typ
	case *arrive:
		if ev.stanza.Kind == stanza.Presence {
			typ = ev.stanza.Type
		}
	}
	return typ == stanza.TypeSubscribed || typ == stanza.TypeUnsubscribe || typ == stanza.TypeUnsubscribed
}

// fail answers an event that can't be looked at, because the account's data
// can't be read. It reports false for one that can't be answered either.
func (s *State) fail(ev event, fx *effects, err error) bool {
	switch ev := ev.(type) {
	case *arrive:
		switch {
		case ev.origin != nil:
			fx.fail(ev.origin, err)
		case ev.stanza.Kind != stanza.Presence || ev.stanza.Type == stanza.TypeSubscribe || lasting(ev):
			s.answer(ev.stanza, storeError(err), fx)
		}
	case *burst:
		for _, st := range ev.list {
			s.fail(newArrive(st), fx, err)
		}
	case *inbound:
		s.tellFailure(ev, err, fx)
	case *call:
		fx.call(func() { ev.answer(err) })
	case *presenceArrives:
		if ev.typ == stanza.TypeSubscribe || lasting(ev) {
			ev.refuse(storeError(err), fx)
		}
	case *probeArrives:
	default:
		return false
	}
	return true
}

// nextID gives the next archive id: the time in microseconds, or the last id
// and one.
func (s *State) nextID(now time.Time) store.ArchiveID {
	s.lastID = max(s.lastID+1, store.ArchiveID(now.UnixMicro()))
	return s.lastID
}

// session finds the session that bears a resource.
func (s *State) session(resource string) *session {
	for _, x := range s.sessions {
		if x.jid.Resource() == resource {
			return x
		}
	}
	return nil
}

// idle reports whether nothing would be lost if the state were dropped.
func (s *State) idle() bool {
	return len(s.sessions) == 0 && len(s.pending) == 0 && len(s.unkept)+len(s.unforgotten) == 0 && s.uncleared == 0 && len(s.waiting) == 0 && s.load != loading && !s.pushWaits()
}

// unknown reports whether there is no such account.
func (s *State) unknown() bool { return s.load == missing }
