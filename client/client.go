// Package client is the client's side of XMPP as a library: it connects to an
// account's server, logs in, keeps the session over lost connections, and sends
// and receives stanzas.
//
// The model: a Client is one session of one account, over as many connections
// as it takes. One goroutine connects, logs in and reads; another writes, as
// long as there is a connection. What arrives becomes Events in a bounded queue
// that the program empties with Next, one at a time: no code of the program
// runs on the library's goroutines, and no lock is held while it does. Nothing
// is read from the connection while the queue is full. An event counts as
// handled, and a stanza is acknowledged to the server (XEP-0198), when the
// program asks for the next event or calls Handled; so what a crash swallows,
// the server still has. What is sent goes into a bounded queue too, and a
// Receipt says how far it has come.
//
// All methods may be called concurrently, except Next, Events and Handled, which
// belong to one goroutine. That one must not wait for an answer (IQ and all
// that build on it): answers may be behind events that nobody takes. Ask in
// another goroutine; who doesn't is told with ErrStalled.
package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Errors that end what a program waits for.
var (
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client: closed")
	// ErrSessionLost: the session was replaced by a new one, and what was
	// written in the old one may or may not have arrived.
	ErrSessionLost = errors.New("client: the session was lost")
	// ErrSilent: the server gave no sign of life.
	ErrSilent = errors.New("client: the server is silent")
	// ErrStalled: an answer didn't come in time while events waited to be taken
	// with Next: the goroutine that should take them waits for the answer, or is
	// too slow.
	ErrStalled = errors.New("client: no answer, and events that nobody takes")
)

// Client is a session. Make it with Dial or Start.
type Client struct {
	cfg     Config
	caps    xep.DiscoInfo
	stream  *stream.ClientConfig
	tickets tls.ClientSessionCache
	ctx     context.Context // of the client's life
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup // all goroutines
	done    chan struct{}  // closed when run has ended
	quit    chan struct{}  // closed when the program wants no more
	slots   chan struct{}  // one token per IQ under way
	kick    chan struct{}  // the network may have changed
	arrived chan struct{}  // the queue of events isn't empty
	room    chan struct{}  // nor full
	randMu  sync.Mutex

	// Only for the goroutine of run.
	keys       sasl.ClientKeys
	keyed      string // the password that they are made of
	state      State
	redirect   Address
	redirected int
	attempts   int

	mu       sync.Mutex // never held over I/O or a wait
	password string     // Config's, or what it was changed to
	final    error      // why it is over
	closing  bool
	suspend  bool
	link     *link    // nil: not connected
	session  *session // nil: none yet
	out      sm.Queue[outgoing]
	control  []byte        // what isn't counted, to be written before the queue
	space    chan struct{} // closed when out has got smaller; nil: nobody waits
	asked    bool          // an acknowledgement was asked for
	since    bool          // and stanzas were written after that
	in       sm.Inbound
	counting bool // in counts
	epoch    int  // of in: events of an older one aren't counted
	owed     bool // the server waits for an acknowledgement
	told     uint32
	events   []queued
	held     int       // bytes of events
	taken    []counted // the stanzas among the events that the program has in hand
	stalled  bool      // the reader waits for room
	calls    map[callKey]*call
	queries  map[callKey]*page
	presence *stanza.Stanza
	show     bool           // presence is to be sent
	unsaid   bool           // it has changed since it was sent
	begun    *stanza.Stanza // the one in the request for a session
	idle     bool           // XEP-0352
	roster   roster
}

// session is what a server calls a session.
type session struct {
	id      string // "": it can't be resumed
	full    jid.JID
	profile Profile
	max     time.Duration
	lost    time.Time // when its connection was; zero while it is there
	csi     bool
	rooms   map[jid.JID]bool // that it has entered with the login; they may bring a catch-up
}

// outgoing is what is known of a stanza on its way out.
type outgoing struct {
	kind    stanza.Kind
	receipt *Receipt
	call    *call
}

// queued is an event with its place in the count of stanzas.
type queued struct {
	event  Event
	size   int
	epoch  int
	number uint64 // 0: it doesn't count
}

// Dial connects and logs in. It returns when the session is there or can't be
// had; ctx bounds that alone. From then on lost connections are the client's to
// replace, until Close or an event Disconnected that is Final.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := newClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	l, g, err := c.connect()
	if !stop() && err == nil {
		l.conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		c.cancel(err)
		c.wg.Wait()
		return nil, err
	}
	c.wg.Go(func() { c.run(l, g) })
	return c, nil
}

// Start is Dial for a program that begins without a connection: it returns at
// once, and the first attempt's outcome is an event. ctx bounds reading the
// store alone.
func Start(ctx context.Context, cfg Config) (*Client, error) {
	c, err := newClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.wg.Go(func() { c.run(nil, nil) })
	return c, nil
}

func newClient(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg, password: cfg.Password,
		tickets: tls.NewLRUClientSessionCache(8),
		done:    make(chan struct{}), quit: make(chan struct{}), kick: make(chan struct{}, 1),
		arrived: make(chan struct{}, 1), room: make(chan struct{}, 1),
		slots: make(chan struct{}, cfg.MaxRequests), calls: map[callKey]*call{}, queries: map[callKey]*page{},
		presence: cfg.Presence, show: !cfg.Quiet,
	}
	c.stream = &stream.ClientConfig{Domain: cfg.Account.DomainJID(), From: cfg.Account, Limits: cfg.Limits, EarlyLimits: xmltree.Limits{MaxBytes: 64 << 10}}
	c.caps = c.capabilities()
	if c.presence == nil {
		c.presence = stanza.Build(stanza.Presence, stanza.TypeAvailable, "", jid.JID{}, jid.JID{}, "")
	}
	if c.state, err = cfg.Store.Load(ctx, cfg.Account); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.roster.load(&c.state)
	return c, c.recall()
}

// agent is how this installation names itself (XEP-0388 2.3).
func (c *Client) agent(s *State) xep.UserAgent {
	agent := c.cfg.Agent
	if agent.ID == "" {
		agent.ID = s.AgentID
	}
	return agent
}

// ensureAgent makes an id up for an installation that has none.
func (c *Client) ensureAgent() error {
	if c.cfg.Agent.ID != "" || c.state.AgentID != "" {
		return nil
	}
	var b [16]byte
	if err := c.random(b[:]); err != nil {
		return err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562 5.4
	c.state.AgentID = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return c.save(&c.state)
}

func (c *Client) save(s *State) error { return c.cfg.Store.Save(c.ctx, c.cfg.Account, *s) }

// newID is an id that nobody can guess.
func (c *Client) newID() (string, error) {
	var b [12]byte
	if err := c.random(b[:]); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// JID is the session's full address, zero before there was one.
func (c *Client) JID() jid.JID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return jid.JID{}
	}
	return c.session.full
}

// Account is the account's bare address.
func (c *Client) Account() jid.JID { return c.cfg.Account }

// NetworkChanged says that the way to the server may be another one now: a pause
// between attempts ends, and a connection has to give a sign of life soon.
func (c *Client) NetworkChanged() {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l != nil {
		signal(l.prod)
		return
	}
	signal(c.kick)
}

// closeTime bounds Close where its context doesn't.
const closeTime = 5 * time.Second

// Close sends what waits to be sent, ends the stream in order, and waits until
// everything that the client started has ended. When ctx ends before, the
// connection is cut. Events that were not taken can still be.
func (c *Client) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	c.leave(false)
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.cancel(ErrClosed)
	c.wg.Wait()
	return nil
}

// Suspend ends the client without ending its session: with the same Store, a
// client that is made within the server's time goes on where this one stopped
// (XEP-0198 5), and sends what this one has not. Events that were not handled
// come again there. The error is the Store's.
func (c *Client) Suspend(ctx context.Context) error {
	c.leave(true)
	select {
	case <-c.done:
	case <-ctx.Done():
	}
	c.cancel(ErrClosed)
	c.wg.Wait()
	return c.remember(ctx)
}

func (c *Client) leave(suspend bool) {
	c.mu.Lock()
	first := !c.closing
	c.closing, c.suspend = true, c.suspend || suspend
	if first {
		close(c.quit)
	}
	l := c.link
	c.mu.Unlock()
	switch {
	case l == nil:
		c.cancel(ErrClosed)
	case suspend:
		l.abandon(ErrClosed)
	default:
		l.signal()
	}
}
