// Package account owns accounts: their sessions, roster, order, archive and
// delivery.
//
// The model: every account is a State that one loop owns; a loop owns many.
// Whatever happens to an account, a stanza from one of its sessions, one from
// elsewhere, a commit, a lost connection, is an event posted to its loop, which
// applies it and carries out the effects. Events between two accounts keep
// their order. A State's order is a queue of entries: what was decided after a
// message waits behind its commit, so nobody is told of anything that is not
// on disk, and everybody is told in the order of the archive. See DESIGN.md.
package account

import (
	"context"
	"encoding/base32"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Config is what a Hub is made of. All fields without "optional" are needed.
type Config struct {
	Domains  []string
	Store    *store.Store
	Features *feature.Set
	Log      *slog.Logger
	Now      func() time.Time
	Tick     time.Duration // how often a loop looks for what is due; 0: each second
	Rand     io.Reader
	Limits   Limits
	Push     PushConfig
	// Loops is how many loops share the accounts.
	Loops int
	// ArchiveDefault is the archive preference of who never set one: "always",
	// "never" or "roster" (XEP-0313 5).
	ArchiveDefault string
	// RefuseStrangers is R-EXCL-3: who may not see an account's presence can't
	// find out its resources.
	RefuseStrangers bool
	// Borders finds the way to another domain, nil if there is none. It is called
	// for each stanza that leaves and may be called concurrently. Optional.
	Borders func(domain string) Border
	// Autojoin reads the rooms that an account's clients are to enter. It may be
	// called concurrently. Optional.
	Autojoin func(context.Context, feature.AccountRef) ([]xep.Bookmark, error)

	// Invited hears of a request for a subscription that brought a token (XEP-0379).
	// It is called by the accounts' owners: it must not block. Optional.
	Invited func(owner, from jid.JID, token string)

	// Start is the number of this start of the server over the same data, never
	// given twice: what makes ids unique for ever that are kept nowhere.
	Start uint64

	// Repeatable does in the order of addresses what has no order of its own, such
	// as telling an account's contacts of its presence: with one loop, what is done
	// follows from what comes in. For simulations; it costs a sort for each presence.
	Repeatable bool

	hub               *Hub
	stats             *Stats
	domains           map[string]bool
	presenceObservers []func(feature.SessionRef, *stanza.Stanza)
	outsideObservers  []func(feature.Listener, *stanza.Stanza)
}

// Limits bound what one account or session may cost.
type Limits struct {
	OutboxBytes        int           // owed to one session, sent or not
	SessionsPerAccount int           //
	OfflineMessages    int           // per account
	RosterItems        int           // per account; pending requests have a bound of their own
	BlockItems         int           // per account
	Directed           int           // addresses with directed presence, per session
	ResumeWindow       time.Duration // how long a lost connection's session stays
	IdleAccounts       int           // accounts without sessions kept in memory, per loop
}

// Stats are counters for metrics; read them at any time.
type Stats struct {
	Messages   atomic.Uint64 // decided, each side counted
	Refused    atomic.Uint64 // of those, answered or dropped
	Offline    atomic.Uint64 // of those, kept offline
	Overflows  atomic.Uint64 // sessions whose queue was full
	Panics     atomic.Uint64 // recovered; each is a bug
	Sessions   atomic.Int64  // now, detached ones included
	LoadErrors atomic.Uint64 // accounts that could not be read

	Pushes        atomic.Uint64 // requests to push services
	PushesHeld    atomic.Uint64 // messages of which a device wasn't notified at once
	PushesDropped atomic.Uint64 // of those and others that waited, it didn't have to be
	PushErrors    atomic.Uint64 // requests that were refused or not answered
}

// Hub is all accounts of a server. Its methods may be called concurrently.
type Hub struct {
	cfg       Config
	features  *feature.Set
	stats     Stats
	loops     []*loop
	seed      maphash.Seed
	started   time.Time
	trail     *trail.Ring
	whoseOpen string        // the start of a <whose/>, up to what is the account's own
	reads     chan struct{} // bounds concurrent reads of the store
	entered   atomic.Uint64 // stanzas from outside
	outboxID  atomic.Uint64 // the last one given
	services  services      // that were asked for something
	questions questions     // to contacts on other servers
	closing   atomic.Bool   // what clients still send is dropped, uncounted
	ctx       context.Context
	stop      context.CancelFunc
	stopped   <-chan struct{} // ctx's: the loops end
	done      sync.WaitGroup
}

// errStopped is what calls get once the loops have ended.
var errStopped = errors.New("account: the server has stopped")

// New makes a Hub and starts its loops; Close ends them.
func New(cfg Config) *Hub {
	ctx, stop := context.WithCancel(context.Background())
	h := &Hub{cfg: cfg, features: cfg.Features, seed: maphash.MakeSeed(), reads: make(chan struct{}, 16),
		ctx: ctx, stop: stop, stopped: ctx.Done()}
	h.cfg.hub, h.cfg.stats = h, &h.stats
	h.outboxID.Store(cfg.Start << 40)
	h.started, h.trail = cfg.Now(), trail.NewRing(trailSize)
	h.whoseOpen = "<whose xmlns='" + xep.NSMine + "' id='" + strconv.FormatUint(cfg.Start, 36) + "-"
	h.cfg.domains = map[string]bool{}
	for _, d := range cfg.Domains {
		h.cfg.domains[d] = true
	}
	for _, f := range cfg.Features.Features() {
		if f.Presence != nil {
			h.cfg.presenceObservers = append(h.cfg.presenceObservers, f.Presence)
		}
		if f.Outside != nil {
			h.cfg.outsideObservers = append(h.cfg.outsideObservers, f.Outside)
		}
	}
	for range max(1, cfg.Loops) {
		l := newLoop(h)
		h.loops = append(h.loops, l)
		h.done.Go(func() { l.run(ctx) })
	}
	h.done.Go(h.restoreSaved)
	return h
}

// trailSize is how many decisions are kept for who asks: some MB at most.
const trailSize = 8192

// Trail is what became of the latest messages.
func (h *Hub) Trail() *trail.Ring { return h.trail }

// Stats are the hub's counters.
func (h *Hub) Stats() *Stats { return &h.stats }

// local reports whether a domain is this server's.
func (c *Config) local(domain string) bool { return c.domains[domain] }

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID makes an id nobody can guess: 80 bits.
func (c *Config) newID() string {
	var b [10]byte
	if _, err := io.ReadFull(c.Rand, b[:]); err != nil {
		panic("account: no randomness: " + err.Error())
	}
	return idEncoding.EncodeToString(b[:])
}

// loop finds the loop that owns an account.
func (h *Hub) loop(bare jid.JID) *loop {
	if len(h.loops) == 1 {
		return h.loops[0]
	}
	return h.loops[maphash.String(h.seed, bare.String())%uint64(len(h.loops))]
}

// post hands an event to an account's owner. It never blocks.
func (h *Hub) post(bare jid.JID, ev event) { h.loop(bare).post(bare, ev) }

// BindRequest asks for a session.
type BindRequest struct {
	Account   jid.JID // bare
	Resource  string  // wanted; "": the server makes one
	Client    string  // the installation's id (XEP-0388 2.3), "" if it has none: a session of the same gives way
	Transport Transport
	Conn      string // the connection's id, for logs
	Address   netip.AddrPort
	// Profile is how the session gets messages from its first moment on (XEP-0386
	// 4). With a Request it is V2.
	Profile route.Profile
	// Bind2: the session came by XEP-0386. Messages that were kept for who is
	// offline are dropped then where the archive has them, and sent to it at once
	// where it has not.
	Bind2 bool
	// Request is an XMPP 2.0 session request, nil if the client made none. What
	// became of its parts is Session.Results; their data follows in the stream.
	Request *xep.SessionRequest
}

// Bind makes a session (RFC 6120 7). The error is a *stanza.Error, the
// context's or the store's.
func (h *Hub) Bind(ctx context.Context, r BindRequest) (*Session, error) {
	if r.Resource == "" {
		r.Resource = h.cfg.newID()
	}
	full, err := r.Account.WithResource(r.Resource)
	if err != nil {
		return nil, stanza.NewError(stanza.BadRequest, "the resource is not allowed") // RFC 6120 7.7.2.1
	}
	// The address outlives the stanza that it came in.
	full = jid.MustParse(strings.Clone(full.String()))
	x := &session{hub: h, jid: full, conn: r.Conn, address: r.Address, since: h.cfg.Now(), transport: r.Transport,
		client: strings.Clone(r.Client)}
	c := &Session{session: x, t: r.Transport}
	var cursor store.ArchiveID
	var rooms *entrances
	if r.Request != nil {
		if cursor, err = h.readCursor(ctx, x); err != nil {
			return nil, err
		}
		rooms = h.roomsOf(ctx, full, r.Request)
	}
	var plan syncPlan
	refused, err := ask(ctx, h, full.Bare(), func(s *State, fx *effects) *stanza.Error {
		// One event: before it nothing is sent to the session, and nothing of what
		// comes behind it is missed.
		x.profile, x.bind2 = r.Profile, r.Bind2
		if err := s.bind(x, fx); err != nil || r.Request == nil {
			return err
		}
		plan, c.results = s.begin(x, r.Request, cursor, rooms, fx)
		return nil
	})
	switch {
	case err != nil:
		c.Close(r.Transport) // it may yet be bound: nobody would end it
		return nil, err
	case refused != nil:
		return nil, refused
	}
	if plan.want != nil {
		h.done.Go(func() { x.catchUpWith(h.ctx, plan) })
	}
	return c, nil
}

// ResumeRequest asks for a session that lost its connection.
type ResumeRequest struct {
	Account   jid.JID // bare
	ID        string
	H         uint32 // what the client has handled
	Client    string // as BindRequest.Client: another installation's session isn't found; "" fits every one
	Transport Transport
	Conn      string
	Address   netip.AddrPort
}

// Resume continues a session (XEP-0198 5). The error is a *ResumeError, a
// *stanza.StreamError for an h that was never sent, the context's or the
// store's.
//
// It takes the session from the connection that it had, if that is still
// there, and then waits until all that came over it is done: what the client
// is told to be handled is all that it need not send again, and nothing is
// handled twice.
func (h *Hub) Resume(ctx context.Context, r ResumeRequest) (*Session, Resumed, error) {
	type answer struct {
		session   *session
		forgotten <-chan error
		resumed   Resumed
		err       error
	}
	bare := r.Account.Bare()
	found, err := ask(ctx, h, bare, func(s *State, fx *effects) (a answer) {
		a.session, a.forgotten, a.err = s.suspend(&r, fx)
		return a
	})
	if err = errors.Join(err, found.err); err != nil {
		return nil, Resumed{}, err
	}
	x := found.session
	c := &Session{session: x, t: r.Transport}
	if err = x.settled(ctx); err == nil {
		err = h.await(ctx, found.forgotten)
	}
	if err != nil {
		c.Detach(r.Transport) // it waits for the next
		return nil, Resumed{}, err
	}
	got, err := ask(ctx, h, bare, func(s *State, fx *effects) (a answer) {
		a.resumed, a.err = s.attach(x, &r, fx)
		return a
	})
	if err != nil {
		c.Detach(r.Transport) // it may yet be attached
		return nil, Resumed{}, err
	}
	return c, got.resumed, got.err
}

// AccountRemoved ends the sessions of an account that was removed from the
// store, tells its contacts, and forgets it.
func (h *Hub) AccountRemoved(ctx context.Context, bare jid.JID) error {
	_, err := ask(ctx, h, bare, func(s *State, fx *effects) struct{} {
		s.remove(fx)
		return struct{}{}
	})
	if err != nil {
		return err
	}
	// The store has ended the subscriptions on disk, and memory follows. What is
	// just being read may be from before.
	h.everywhere(func(l *loop) {
		for j, s := range l.states {
			if _, known := s.roster[bare]; known || s.load != loaded || s.stale != nil {
				h.post(j, &contactRemoved{bare})
			}
		}
	})
	return nil
}

// Sessions describes an account's sessions.
func (h *Hub) Sessions(ctx context.Context, bare jid.JID) ([]feature.SessionInfo, error) {
	snap, err := (&accountRef{h, bare}).Snapshot(ctx)
	return snap.Sessions, err
}

// call is a function that runs as an event of an account.
type call struct {
	do   func(s *State, fx *effects)
	done chan error
}

func (c *call) apply(s *State, fx *effects) {
	c.do(s, fx)
	fx.call(func() { c.answer(nil) })
}

func (c *call) answer(err error) { c.done <- err } // buffered

// ask runs f as an event of the account, waits until its effects are carried
// out, and returns its answer. The error is the context's, the store's or that
// the server has stopped; f may run all the same.
func ask[T any](ctx context.Context, h *Hub, bare jid.JID, f func(s *State, fx *effects) T) (T, error) {
	var answer, none T
	c := &call{do: func(s *State, fx *effects) { answer = f(s, fx) }, done: make(chan error, 1)}
	h.post(bare, c)
	select {
	case err := <-c.done:
		if err != nil {
			return none, err
		}
		return answer, nil
	case <-ctx.Done():
		return none, ctx.Err()
	case <-h.stopped:
		return none, errStopped
	}
}

// await waits for an answer. The error is the answer, the context's or that the
// server has stopped.
func (h *Hub) await(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-h.stopped:
		return errStopped
	}
}

// read runs f off the loop, a few at a time.
func (h *Hub) read(f func()) {
	h.done.Go(func() {
		select {
		case h.reads <- struct{}{}:
			f()
			<-h.reads
		case <-h.stopped:
		}
	})
}

// loadAccount reads an account from the store.
func (h *Hub) loadAccount(bare jid.JID, first bool) {
	h.read(func() {
		ev := h.readAccount(h.ctx, bare)
		if first && ev.err == nil {
			h.readSessions(h.ctx, bare, ev)
		}
		if ev.err != nil && !errors.Is(ev.err, store.ErrNotFound) {
			h.stats.LoadErrors.Add(1)
			h.cfg.Log.Error("account can't be read", "account", bare, "error", ev.err)
		}
		h.post(bare, ev)
	})
}

func (h *Hub) readAccount(ctx context.Context, bare jid.JID) *accountLoaded {
	ev := &accountLoaded{}
	if ev.data, ev.err = h.cfg.Store.LoadAccount(ctx, bare); ev.err != nil {
		return ev
	}
	if ev.hash, ev.err = h.value(ctx, ev.data.ID, "vcard", "photo-hash"); ev.err == nil {
		ev.last, ev.err = h.value(ctx, ev.data.ID, "last", "unavailable")
	}
	if ev.err == nil && len(ev.data.Push) > 0 {
		ev.err = h.readPush(ctx, ev)
	}
	// What was sent before is remembered while the server runs.
	since := h.started.Add(-againFor)
	if last := ev.data.LastArchiveID.Time(); ev.err == nil && last.After(since) && last.Before(h.started) {
		_, ev.err = h.cfg.Store.Archive(ctx, store.ArchiveQuery{Account: ev.data.ID, Start: since, Max: maxSent, Backward: true},
			func(m store.ArchivedMessage) error {
				ev.sent = append(ev.sent, slices.Clone(m.Stanza))
				return nil
			})
	}
	return ev
}

// value reads a value that may be absent: then it is nil.
func (h *Hub) value(ctx context.Context, id store.AccountID, space, key string) ([]byte, error) {
	v, err := h.cfg.Store.KVGet(ctx, id, space, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err == nil && v == nil:
		return []byte{}, nil
	}
	return v, err
}

// offlineBatch is how many offline messages are read at once.
const offlineBatch = 200

// readOffline reads the oldest offline messages after one, as many as fit a
// session's queue comfortably.
func (h *Hub) readOffline(bare jid.JID, id store.AccountID, after store.ArchiveID, ev *offlineRead) {
	h.read(func() {
		ev.messages, ev.err = h.cfg.Store.Offline(h.ctx, id, after, offlineBatch)
		if ev.err == nil && ev.session.bind2 {
			ev.archived, ev.err = h.inArchive(bare, id, ev.messages)
		}
		if ev.err != nil {
			h.cfg.Log.Error("offline messages can't be read", "account", bare, "error", ev.err)
		}
		size := 0
		for i, m := range ev.messages {
			if size += len(m.Stanza); i > 0 && size > h.cfg.Limits.OutboxBytes/4 {
				ev.messages = ev.messages[:i]
				break
			}
		}
		h.post(bare, ev)
	})
}

// inArchive tells of which offline messages the archive has the same: those
// name their entry.
func (h *Hub) inArchive(bare jid.JID, id store.AccountID, list []store.ArchivedMessage) ([]bool, error) {
	archived := make([]bool, len(list))
	for i, m := range list {
		st := parseOwn(m.Stanza)
		if st == nil {
			continue
		}
		for el := range st.Payloads() {
			if !xep.IsStanzaIDBy(el, bare) {
				continue
			}
			if entry, ok := store.ParseArchiveID(el.Attr("id")); ok {
				var err error
				if archived[i], err = h.cfg.Store.ArchiveHas(h.ctx, id, entry); err != nil {
					return nil, err
				}
			}
		}
	}
	return archived, nil
}

// encodeLast and decodeLast are the stored form of when the last session
// ended: the time, a space, the status.
func encodeLast(at time.Time, status string) []byte {
	return []byte(at.UTC().Format(time.RFC3339) + " " + status)
}

func decodeLast(b []byte) (time.Time, string) {
	stamp, status, _ := strings.Cut(string(b), " ")
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return time.Time{}, ""
	}
	return at, status
}
