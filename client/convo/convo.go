// Package convo is the conversation engine of a client: what was said with
// whom, in which order, in which thread, who of the account's devices answers,
// and to which address the next message goes.
//
// The model: an Engine is a state and one function. Apply takes an Event, a
// stanza as it came, what the person did or time going by, and gives the
// Effects, stanzas to send, archive queries, store writes and what of the view
// changed. There is no I/O, no clock and no randomness: both are parameters, so
// that a run can be repeated. History is one ordered list of entries for each
// conversation, in the order of the archive, with own messages that wait at the
// end; messages about other messages are entries too and are worked in when the
// list is shown, so it doesn't matter which comes first. A message is one entry
// however often and in whatever wrapping it comes: its archive id says so, or
// its sender and origin id.
//
// What a server or a peer can make grow has a bound (Limits).
package convo

import (
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
)

// Config is what an Engine needs to know from the start.
type Config struct {
	Account jid.JID // bare
	// NewID gives ids that nobody can guess and none twice: those of messages,
	// threads and queries. A fresh UUID in a client, a counter in a test.
	NewID func() string
	// Limits bound what is in memory; zero fields stand for the defaults.
	Limits Limits
	// UnlockAfter unlocks a conversation in which nothing happened for so long
	// (LOCK-15); zero: never.
	UnlockAfter time.Duration
	// RefreshAfter asks for a presence update after the person has done nothing
	// for so long and then comes back (LOCK-17); zero: never.
	RefreshAfter time.Duration
	// Silent sends no receipts, markers and chat states: nobody learns what the
	// person sees.
	Silent bool
}

// Limits bound an Engine's memory. At a bound the oldest goes, unless it says
// otherwise.
type Limits struct {
	Conversations int // default 2,000; those without messages of late go
	Entries       int // of one conversation, default 150,000; older ones are in the store
	Total         int // of all conversations, default 400,000
	Threads       int // in the index of one conversation, default 5,000
	Refs          int // about one message, default 256
	Orphans       int // of one conversation, about messages that are not known yet, default 1,000
	Claims        int // claimed ids, default 50,000
	Page          int // results asked for at once, default 100
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Conversations, 2000)
	def(&l.Entries, 150_000)
	def(&l.Total, 400_000)
	def(&l.Threads, 5000)
	def(&l.Refs, 256)
	def(&l.Orphans, 1000)
	def(&l.Claims, 50_000)
	def(&l.Page, 100)
	return l
}

// Bounds of single values, in bytes. A longer value counts as absent: cut, it
// would be another one.
const (
	maxID     = 1023
	maxThread = 1023
	maxEmoji  = 64
	// maxOwn bounds the device's own former addresses, maxDevices the other
	// devices, maxHolders those in one conversation.
	maxOwn     = 64
	maxDevices = 64
	maxHolders = 8
	maxTyping  = 16
	maxQueries = 64
	// maxStreamed bounds what waits for the end of a streamed catch-up; what is
	// beyond it is taken as it comes.
	maxStreamed = 5000
	// maxWaiting bounds the own entries of one conversation that wait.
	maxWaiting = 1000
)

// Engine is the state of one account's conversations on one device. It isn't
// safe for concurrent use: one goroutine owns it.
type Engine struct {
	cfg   Config
	lim   Limits
	now   time.Time
	acted time.Time // when the person last did something

	online  bool
	session Connected
	// stream counts sessions; entries handed over to an earlier one may be lost.
	stream int

	account  Account
	convs    map[jid.JID]*conversation
	archived map[ArchiveID]place
	total    int  // entries in memory
	forgot   bool // conversations that the store may know were dropped
	contacts map[jid.JID]Contact
	rooms    map[jid.JID]*roomState
	crowds   map[jid.JID]*crowd
	declines []Decline
	devices  []Device
	queries  map[string]*query
	catchup  *catchup // nil: nothing is missing
	claims   claims
	unacked  map[string]place    // own entries that this session has, by their id attribute
	names    map[jid.JID]jid.JID // one copy of each address
	texts    map[string]string   // and of each occupant id

	effects []Effect
	writes  []Write
	saved   []*item // those of the entries in writes
	dirty   []*conversation
	record  bool // the account record is to be written
}

// place is where an archived message is.
type place struct {
	c *conversation
	i *item
}

// New makes an engine, with what the store knows.
func New(cfg Config, snap Snapshot) *Engine {
	e := &Engine{
		cfg: cfg, lim: cfg.Limits.withDefaults(),
		account:  snap.Account,
		convs:    map[jid.JID]*conversation{},
		archived: map[ArchiveID]place{},
		contacts: map[jid.JID]Contact{},
		rooms:    map[jid.JID]*roomState{},
		crowds:   map[jid.JID]*crowd{},
		queries:  map[string]*query{},
		claims:   newClaims(),
		unacked:  map[string]place{},
		names:    map[jid.JID]jid.JID{},
		texts:    map[string]string{},
	}
	e.cfg.Account = cfg.Account.Bare()
	if e.account.Cursors == nil {
		e.account.Cursors = map[string]string{}
	}
	for _, s := range snap.Conversations {
		e.restore(s)
	}
	// The store has them; nothing is to be told.
	for _, c := range e.dirty {
		c.isDirty, c.recordDirty, c.changed, c.changedAll = false, false, nil, false
	}
	e.written()
	e.effects, e.dirty, e.record = nil, nil, false
	return e
}

// Apply takes an event that happened at a time and returns what is to be done,
// in order. The slice is the caller's. Several events, a page of an archive for
// example, are one step: with one Persist, which says once what changed again and
// again, and one Changed for each conversation.
func (e *Engine) Apply(at time.Time, events ...Event) []Effect {
	if at.After(e.now) {
		e.now = at
	}
	for _, ev := range events {
		e.apply(ev)
	}
	return e.flush()
}

func (e *Engine) apply(ev Event) {
	switch ev := ev.(type) {
	case Connected:
		e.connected(ev)
	case Disconnected:
		e.disconnected()
	case Received:
		e.received(ev)
	case Acked:
		e.acked(ev)
	case QueryDone:
		e.queryDone(ev)
	case HistoryLoaded:
		e.historyLoaded(ev)
	case Contact:
		e.contact(ev)
	case Room:
		e.room(ev)
	case Entering:
		e.entering(ev.JID.Bare())
	case Answered:
		e.answered(ev)
	case Tick:
		e.tick()
	default:
		e.person(ev)
	}
}

// flush closes a step: its writes, then its other effects, then what changed.
func (e *Engine) flush() []Effect {
	effects := e.effects
	for _, c := range e.dirty {
		c.version++
		if c.recordDirty {
			rec := c.rec
			e.writes = append(e.writes, Write{Conversation: &rec})
			c.recordDirty = false
		}
	}
	if e.record {
		e.writes = append(e.writes, Write{Account: e.accountRecord()})
		e.record = false
	}
	if len(e.writes) > 0 {
		// Stored before sent: after a crash nothing was said that isn't there.
		effects = slices.Insert(effects, 0, Effect(Persist{e.writes}))
	}
	for _, c := range e.dirty {
		effects = append(effects, Changed{Conversation: c.rec.JID, Version: c.version, Entries: c.changed, All: c.changedAll})
		c.changed, c.changedAll, c.isDirty = nil, false, false
	}
	e.written()
	e.effects, e.dirty = nil, e.dirty[:0]
	return effects
}

func (e *Engine) accountRecord() *Account {
	a := e.account
	a.Cursors = make(map[string]string, len(e.account.Cursors))
	for k, v := range e.account.Cursors {
		a.Cursors[k] = v
	}
	a.Own = slices.Clone(a.Own)
	a.Requests = slices.Clone(a.Requests)
	for i := range a.Requests {
		a.Requests[i].Password = ""
	}
	a.Rooms = make(map[string]RoomFact, len(e.rooms))
	for j, r := range e.rooms {
		a.Rooms[j.String()] = r.fact()
	}
	return &a
}

func (e *Engine) do(f Effect) { e.effects = append(e.effects, f) }

// Cursor is the id in the account's archive up to which nothing is missing, for
// a session request's <sync after=”/>; "" where nothing is known.
func (e *Engine) Cursor() string { return e.account.Cursors[e.cfg.Account.String()] }

// clip clones a value that came in a stanza, which would keep all of the
// stanza's memory; one that is too long is none.
func clip(s string, most int) string {
	if len(s) > most {
		return ""
	}
	return strings.Clone(s)
}
