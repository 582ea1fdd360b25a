// Package account runs one account on one device: its connection, its conversations and their store, joined for a program that shows or answers them.
//
// The model: one goroutine, the owner, has the conversation engine (client/convo). It takes what the connection (client) brings, one event at a time, and
// what the program asks for, and does what the engine wants done: write to the store before anything is sent, send, ask the archive, read history. What
// may wait is done by others and comes back as an event. A program reads the state with Look, changes it with Do, and learns from Changes what is another
// now; it may be slower than the network, for at a bound of changes nobody has taken the network waits.
package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/client"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// ErrWaiting is the answer to a message in a conversation in which as many of them as
// may be wait to be sent already. It isn't kept.
var ErrWaiting = errors.New("too many messages wait here to be sent; try again when some of them are")

// ErrClosed is the answer of an Account that was closed.
var ErrClosed = errors.New("account: closed")

// Bounds of an Account.
const (
	maxOutbox = 4096             // stanzas on their way to the client; at the bound those that are no messages are dropped
	maxBatch  = 256              // events that are one step, at most
	tail      = 200              // entries of each conversation that are read at the start
	recent    = 200              // messages that a device without history asks for
	tickEvery = 5 * time.Second  // convo.Tick
	factsWait = 3 * time.Second  // for service discovery, before the session's facts are guessed
	askWait   = 30 * time.Second // for an archive's page
)

// Config says how an account is run.
type Config struct {
	// Client is the connection's configuration; Account is required. Sync, Rooms and Deliveries are set by Start; Features, where there are none, are what the
	// engine understands (MINE-8, MINE-9).
	Client client.Config
	// Store keeps the history; it is the Account's from Start on, and closed by Close. nil keeps nothing.
	Store convo.Store
	// Live leaves out everything that was said before: no history is asked for. For programs that only send, or only hear.
	Live bool
	// Silent sends no receipts, markers and chat states (convo.Config.Silent).
	Silent bool
	// MaxChanges bounds the changed entries that the program has not taken with Changes; at the bound nothing is taken from the connection. Default 4096.
	MaxChanges int
	// UnlockAfter and RefreshAfter are those of convo.Config.
	UnlockAfter, RefreshAfter time.Duration
}

// Status is how the connection is.
type Status struct {
	Online     bool
	CatchingUp bool    // what was missed is still coming
	JID        jid.JID // of the session; zero before there was one
	Profile    client.Profile
	Resumed    bool      // the last connection went on with the session before
	Err        error     // why it isn't Online; nil before the first attempt has ended
	Retry      time.Time // when the next attempt is made
	Final      bool      // none is made
}

// Changes is what is another since the last time it was asked for.
type Changes struct {
	Conversations []convo.Changed // one for each conversation
	Status        Status          // now
}

// Account is one account, running. Its methods may be called concurrently, except Changes, which belongs to one goroutine.
type Account struct {
	cfg    Config
	client *client.Client
	store  convo.Store

	// Only for the owner.
	engine  *convo.Engine
	facts   *convo.Facts // nil: not known yet
	rooms   map[jid.JID]*room
	refused bool              // ErrWaiting, of the step that is applied
	invited map[string]*error // by id: where to note that a room doesn't pass an invitation on

	calls   chan func()
	events  chan []client.Event
	handled chan struct{}
	cursor  atomic.Pointer[string] // where a session catches up from
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup

	dry chan struct{} // closed when no more events come

	mu        sync.Mutex // held for a moment, never over a wait
	waiting   []chan struct{}
	interrupt context.CancelFunc // ends the pump's wait for an event
	status    Status
	changes   map[jid.JID]*convo.Changed
	order     []jid.JID // keys of changes
	count     int       // entries in changes
	outbox    []convo.Send
	joinable  map[jid.JID]client.Room // rooms that a session request can enter
	settled   chan struct{}           // closed when the first attempt to connect has ended
	signal    chan struct{}           // something is in changes
	taken     chan struct{}           // changes were taken
	mail      chan struct{}           // something is in outbox
}

// Start runs an account. It returns when the store is read; connecting goes on behind it and shows in Status. ctx bounds the reading alone.
func Start(ctx context.Context, cfg Config) (*Account, error) {
	if cfg.Store == nil {
		cfg.Store = convo.NewMemory()
	}
	if cfg.MaxChanges <= 0 {
		cfg.MaxChanges = 4096
	}
	snap, err := cfg.Store.Load(tail)
	if err != nil {
		return nil, fmt.Errorf("account: history: %w", errors.Join(err, cfg.Store.Close()))
	}
	a := &Account{cfg: cfg, store: cfg.Store, calls: make(chan func()), events: make(chan []client.Event), handled: make(chan struct{}), dry: make(chan struct{}),
		changes: map[jid.JID]*convo.Changed{}, joinable: map[jid.JID]client.Room{}, settled: make(chan struct{}), signal: make(chan struct{}, 1), taken: make(chan struct{}, 1), mail: make(chan struct{}, 1)}
	a.engine = convo.New(convo.Config{Account: cfg.Client.Account, NewID: newID, Silent: cfg.Silent, UnlockAfter: cfg.UnlockAfter, RefreshAfter: cfg.RefreshAfter}, snap)
	a.note()
	a.rooms, a.invited = map[jid.JID]*room{}, map[string]*error{}
	for name, f := range snap.Account.Rooms {
		if j, err := jid.Parse(name); err == nil {
			// What a room of an older store offers isn't known.
			a.rooms[j] = &room{nick: f.Nick, facts: f.RoomFacts, known: f.Archive || f.IDs}
			a.noteRoom(j)
		}
	}
	c := cfg.Client
	c.Sync, c.Rooms, c.Deliveries = a.sync, a.joins, true
	if c.Features == nil {
		c.Features = features()
	}
	if cfg.Live {
		c.Profile = max(c.Profile, client.ProfileIMNG) // the best one brings what was said before
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	if a.client, err = client.Start(ctx, c); err != nil {
		a.cancel(err)
		return nil, errors.Join(err, cfg.Store.Close())
	}
	a.wg.Go(a.own)
	a.wg.Go(a.pump)
	a.wg.Go(a.post)
	return a, nil
}

// features are what the engine understands of what others send.
func features() []string {
	return []string{xep.NSMine, xep.NSChatStates, xep.NSReceipts, xep.NSMarkers, xep.NSCorrect, xep.NSRetract, xep.NSReactions, xep.NSReply, xep.NSStanzaID}
}

// newID is a fresh UUID (RFC 9562 5.4).
func newID() string {
	var b [16]byte
	_, _ = io.ReadFull(rand.Reader, b[:]) // crypto/rand doesn't fail: it ends the program
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// sync says where a session catches up from. It is called by the client's goroutine.
func (a *Account) sync() *xep.Sync {
	cursor := ""
	if c := a.cursor.Load(); c != nil {
		cursor = *c
	}
	return convo.SyncFrom(cursor, recent)
}

// Devices lists the programs with access to the account (XEP-0494 3.1).
func (a *Account) Devices(ctx context.Context) ([]xep.Client, error) { return a.client.Devices(ctx) }

// EndDevice takes a program's access away (XEP-0494 3.2).
func (a *Account) EndDevice(ctx context.Context, id string) error { return a.client.EndDevice(ctx, id) }

// ChangePassword gives the account another password (XEP-0077 3.3).
func (a *Account) ChangePassword(ctx context.Context, password string) error {
	return a.client.ChangePassword(ctx, password)
}

// NetworkChanged ends a pause between two attempts to connect.
func (a *Account) NetworkChanged() { a.client.NetworkChanged() }

// Client is the connection, for what is no conversation: devices, roster, blocking. Next and Close are not the caller's.
func (a *Account) Client() *client.Client { return a.client }

// Do applies an event of the person's and returns when it is done: what it says is in the store, and on its way if there is a connection.
// ErrWaiting is what a message gets that isn't taken.
func (a *Account) Do(ctx context.Context, ev convo.Event) error {
	full := false
	err := a.call(ctx, func() {
		a.refused = false
		a.apply(ev)
		full = a.refused
	})
	if err == nil && full {
		return ErrWaiting
	}
	return err
}

// Look gives the engine to f for as long as f runs; f only reads, and doesn't wait.
func (a *Account) Look(ctx context.Context, f func(*convo.Engine)) error {
	return a.call(ctx, func() { f(a.engine) })
}

// call runs f on the owner's goroutine.
func (a *Account) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.calls <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// Status returns how the connection is now.
func (a *Account) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Settled is closed when the first attempt to connect has ended; Status says how.
func (a *Account) Settled() <-chan struct{} { return a.settled }

// Settle waits until somebody, the zero JID for the own server, has had what was sent before, and all that came of it is in the engine: a refusal is known
// then, for stanzas between two are handled in their order (RFC 6120 10.1).
func (a *Account) Settle(ctx context.Context, with jid.JID) error {
	if _, err := a.client.Ping(ctx, with); err != nil {
		if _, answered := errors.AsType[*stanza.Error](err); !answered {
			return err
		}
	}
	done := make(chan struct{})
	a.mu.Lock()
	a.waiting = append(a.waiting, done)
	if a.interrupt != nil {
		a.interrupt()
	}
	a.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-a.dry:
		return client.ErrSessionLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Changes waits until something is another than at the last call, and says what; for requests, declined invitations, contacts and the block list it only returns. Why the
// account has ended is its error.
func (a *Account) Changes(ctx context.Context) (Changes, error) {
	select {
	case <-a.signal:
	case <-ctx.Done():
		return Changes{}, ctx.Err()
	case <-a.ctx.Done():
		return Changes{}, context.Cause(a.ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c := Changes{Status: a.status}
	for _, j := range a.order {
		c.Conversations = append(c.Conversations, *a.changes[j])
	}
	clear(a.changes)
	a.order, a.count = nil, 0
	wake(a.taken)
	return c, nil
}

// changed notes a change for Changes.
func (a *Account) changed(c convo.Changed) {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.changes[c.Conversation]
	if have == nil {
		a.changes[c.Conversation] = &c
		a.order = append(a.order, c.Conversation)
		a.count++
	} else {
		have.Version, have.All = c.Version, have.All || c.All
		have.Entries = append(have.Entries, c.Entries...)
	}
	a.count += len(c.Entries)
	wake(a.signal)
}

// full reports whether the changes that nobody has taken are at their bound.
func (a *Account) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count >= a.cfg.MaxChanges
}

// setStatus changes the status.
func (a *Account) setStatus(f func(*Status)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.status)
	if a.status.Online || a.status.Err != nil {
		select {
		case <-a.settled:
		default:
			close(a.settled)
		}
	}
	wake(a.signal)
}

// Close ends the session in order, waits until everything that the account started has ended, and closes the store. When ctx ends before, the
// connection is cut.
func (a *Account) Close(ctx context.Context) error {
	err := a.client.Close(ctx)
	a.cancel(ErrClosed)
	a.wg.Wait()
	return errors.Join(err, a.store.Close())
}

// wake fills a channel of one place.
func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
