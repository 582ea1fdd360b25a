package account

import (
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
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
	sessions []*Session // in the order in which they were bound
	lastUsed time.Time

	roster        map[jid.JID]*contact
	rosterVersion int64
	rosterFloor   int64
	removed       []store.RosterItem
	blocked       map[jid.JID]struct{}
	archive       archivePrefs
	lastID        store.ArchiveID
	offline       int      // messages in the offline store
	flushing      *Session // the session that is being sent the offline messages
	flushed       int      // how many of them it was sent last
	avatarHash    string   // XEP-0153; "" with avatarKnown: no photo
	avatarKnown   bool
	lastSeen      time.Time
	lastStatus    string

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

// apply applies an event, or keeps it until the account is loaded.
func (s *State) apply(ev event, fx *effects) {
	s.lastUsed = fx.now
	if l, ok := ev.(*accountLoaded); ok {
		l.apply(s, fx)
		return
	}
	if s.load < loaded {
		s.waiting = append(s.waiting, ev)
		if s.load == notLoaded {
			s.load = loading
			fx.call(func() { s.cfg.hub.loadAccount(s.jid) })
		}
		return
	}
	ev.apply(s, fx)
}

// accountLoaded is the answer of the store to a load.
type accountLoaded struct {
	data store.AccountData
	hash []byte // the vCard photo's, nil if there is no entry
	last []byte // when the last session ended, nil if there is no entry
	err  error
}

func (ev *accountLoaded) apply(s *State, fx *effects) {
	switch {
	case ev.err == store.ErrNotFound:
		s.load = missing
	case ev.err != nil:
		// Whoever waits is answered as a failing store answers; the next event
		// tries again.
		waiting := s.waiting
		s.waiting, s.load = nil, notLoaded
		for _, w := range waiting {
			s.fail(w, fx, ev.err)
		}
		return
	default:
		s.load = loaded
		s.fill(ev)
	}
	waiting := s.waiting
	s.waiting = nil
	for _, w := range waiting {
		w.apply(s, fx)
	}
}

// fill takes the account's data from the store; sessions stay as they are.
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
	s.rosterVersion, s.rosterFloor, s.removed = d.RosterVersion, d.RosterFloor, d.Removed
	s.blocked = make(map[jid.JID]struct{}, len(d.Blocked))
	for _, j := range d.Blocked {
		s.blocked[j] = struct{}{}
	}
	s.archive = newArchivePrefs(decodePrefs(d.Prefs, s.cfg.ArchiveDefault))
	s.lastID = max(s.lastID, d.LastArchiveID)
	s.offline = d.Offline
	s.avatarKnown, s.avatarHash = ev.hash != nil, string(ev.hash)
	s.lastSeen, s.lastStatus = decodeLast(ev.last)
}

// fail answers an event that could not be looked at, because the account's
// data can't be read.
func (s *State) fail(ev event, fx *effects, err error) {
	switch ev := ev.(type) {
	case *arrive:
		if ev.origin != nil {
			fx.post(ev.origin.owner, &committed{entry: ev.origin, err: err})
			return
		}
		if r := ev.stanza.ErrorReply(storeError(err)); r != nil && ev.stanza.Kind != stanza.Presence {
			fx.route(newArrive(r))
		}
	case *inbound:
		if r := ev.stanza.ErrorReply(storeError(err)); r != nil {
			fx.deliver(ev.session, r.AppendTo(nil), tag{})
		}
		fx.handled(ev.session, ev.number)
	case *call:
		fx.call(func() { ev.answer(err) })
	case *committed:
		ev.apply(s, fx)
	}
}

// reload reads the account anew, after a commit that should have changed it
// failed: memory must not say what the disk doesn't.
func (s *State) reload(fx *effects) {
	s.load = loading
	fx.call(func() { s.cfg.hub.loadAccount(s.jid) })
}

// nextID gives the next archive id: the time in microseconds, or the last id
// and one.
func (s *State) nextID(now time.Time) store.ArchiveID {
	s.lastID = max(s.lastID+1, store.ArchiveID(now.UnixMicro()))
	return s.lastID
}

// session finds the session that bears a resource.
func (s *State) session(resource string) *Session {
	for _, x := range s.sessions {
		if x.jid.Resource() == resource {
			return x
		}
	}
	return nil
}

// idle reports whether nothing would be lost if the state were dropped.
func (s *State) idle() bool {
	return len(s.sessions) == 0 && len(s.pending) == 0 && len(s.waiting) == 0 && s.load != loading
}

// stateless reports whether the account can have no sessions and no data.
func (s *State) unknown() bool { return s.load == missing }
