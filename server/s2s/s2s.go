// Package s2s is the streams between this server and others (RFC 6120, server to
// server): the border of the accounts to every domain that isn't theirs.
//
// A way is the road from one of our domains to another one: a queue, bounded in
// bytes, and at most one stream that carries it. Where there is none, the first
// stanza makes one: look-up, connection, TLS, proof of both sides' domains, and
// then the queue is written to it. A way whose stream can't be had says so to who
// writes, keeps the messages that are in the store's outbox, and tries again, less
// and less often, until their time is up. Every way has goroutines of its own, so
// that a dead or slow domain holds up nobody else.
//
// A conn is one stream, made by either side. Stanzas come over it for the pairs of
// domains that were proved on it, by certificate (SASL EXTERNAL) or by dialback;
// one after the other they are handed on, and the stream isn't read while one of
// them is being dealt with. A stream with XEP-0288 carries stanzas both ways.
//
// A message leaves the outbox when the other server has acknowledged it (XEP-0198),
// and where it has no acknowledgements when it was written and the stream went on
// for a while. A stream that breaks is resumed where the other side can, so that
// nothing is lost and nothing comes twice; where it can't, messages that may be
// lost are sent again. See DESIGN.md.
package s2s

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/server/s2s/lookup"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Namespaces of streams between servers.
const (
	nsServer           = stanza.NSServer
	nsDialback         = "jabber:server:dialback"     // XEP-0220
	nsDialbackFeature  = "urn:xmpp:features:dialback" // XEP-0220 2.4
	nsBidi             = "urn:xmpp:bidi"              // XEP-0288
	nsBidiFeature      = "urn:xmpp:features:bidi"     // XEP-0288 2.1
	nsStanzaConditions = stanza.NSStanzaErrors        // RFC 6120 8.3
	alpn               = "xmpp-server"                // XEP-0368
	header             = "<?xml version='1.0'?><stream:stream xmlns='" + nsServer + "' xmlns:db='" + nsDialback + "' xmlns:stream='" + stanza.NSStreams + "'"
)

// Config is what New needs.
type Config struct {
	// Domains are those that this server answers for, in prepared form.
	Domains []string
	// Policy is what other servers must prove, Peers what single ones must, by
	// prepared domain.
	Policy Policy
	Peers  map[string]Policy
	// Receive takes a stanza from another domain, its 'from' checked. It blocks
	// until it may be given the next one of the same stream. An error ends the
	// stream. It is called concurrently.
	Receive func(context.Context, *stanza.Stanza) error
	// Settle waits until what Receive took is on disk: only then it is acknowledged.
	Settle func(context.Context) error
	// Forget is told which messages of the outbox are delivered, or returned.
	Forget func(ids []uint64)
	// Trace is told what becomes of messages of the outbox: a condition for
	// trail.Returned. It doesn't block, and calls nothing here. Nil: nobody asks.
	Trace func(ref trail.Ref, step trail.Step, condition string, at time.Time)
	// Reach is told which domains nothing has reached for as long as a stream can be
	// resumed, or have no server, and which of them there is a stream with again. It
	// doesn't block. Nil: nobody asks.
	Reach func(gone, back []string)
	// Certificate chooses among ours, by the name of one of Domains.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Roots are the authorities that are trusted; nil: the system's.
	Roots *x509.CertPool
	// Secret makes dialback keys (XEP-0185).
	Secret   []byte
	Resolver *lookup.Resolver
	Limits   Limits
	Log      *slog.Logger
	// Rand makes stream ids; nil is crypto/rand's Reader.
	Rand io.Reader
}

// Limits are what other servers may cost.
type Limits struct {
	// Stanza bounds an element, Early one of a stream on which nothing is proved.
	Stanza, Early xmltree.Limits
	// EarlyTime is how long another server may take to prove its domain.
	EarlyTime time.Duration
	// Unauthenticated is how many incoming streams may be before that, Incoming how
	// many there may be in all.
	Unauthenticated, Incoming int
	// Ways is how many pairs of domains may be in use, Pairs how many one stream may
	// prove.
	Ways, Pairs int
	// BytesPerSecond is how fast one stream is read, with a burst of one second; 0 is
	// no limit.
	BytesPerSecond int
	// QueueBytes bounds what waits for one domain, plus one stanza.
	QueueBytes int
	// ConnectTime is how long it may take until a stream is there.
	ConnectTime time.Duration
	// Ask is how long the other end of a stream may take to let a further pair on it.
	Ask time.Duration
	// WriteTime is how long one write may take, AckTime how long an acknowledgement,
	// Linger how long the other side has to close an ended stream.
	WriteTime, AckTime, Linger time.Duration
	// Idle is after what time without a stanza a stream is closed.
	Idle time.Duration
	// LivedOn is for how long a stream without acknowledgements must go on until what
	// was written to it counts as delivered.
	LivedOn time.Duration
	// RetryMin and RetryMax are the pauses between tries to reach a domain: the first,
	// twice as long after each failure, and the longest.
	RetryMin, RetryMax time.Duration
	// GiveUp is when messages for a domain that can't be reached go back.
	GiveUp time.Duration
	// Resume is for how long a broken stream can be resumed, Sessions how many of
	// those there may be.
	Resume   time.Duration
	Sessions int
}

// DefaultLimits suit most servers.
func DefaultLimits() Limits {
	return Limits{
		Stanza: xmltree.Limits{MaxBytes: 256 << 10}, Early: xmltree.Limits{MaxBytes: 16 << 10}, EarlyTime: 60 * time.Second,
		Unauthenticated: 200, Incoming: 10000, Ways: 20000, Pairs: 100, QueueBytes: 4 << 20, ConnectTime: 60 * time.Second, Ask: 15 * time.Second,
		WriteTime: 60 * time.Second, AckTime: 60 * time.Second, Linger: 5 * time.Second, Idle: 10 * time.Minute, LivedOn: 30 * time.Second,
		RetryMin: 5 * time.Second, RetryMax: 10 * time.Minute, GiveUp: time.Hour, Resume: 10 * time.Minute, Sessions: 10000,
	}
}

// Metrics count what happens; read them at any time.
type Metrics struct {
	Incoming       atomic.Int64  // incoming streams
	Outgoing       atomic.Int64  // outgoing streams that are up
	Accepted       atomic.Uint64 // connections
	Refused        atomic.Uint64 // of those, over a limit
	AuthFailures   atomic.Uint64 // incoming proofs that failed
	ConnectErrors  atomic.Uint64 // outgoing streams that couldn't be had
	StanzasIn      atomic.Uint64
	StanzasOut     atomic.Uint64
	Returned       atomic.Uint64 // stanzas that went back
	Full           atomic.Uint64 // stanzas that a queue had no room for
	Resumed        atomic.Uint64 // streams that went on after a break
	ForeignStanzas atomic.Uint64 // stanzas with addresses that the stream doesn't speak for
	Panics         atomic.Uint64 // recovered; each is a bug
}

// pair is two domains between which stanzas pass.
type pair struct{ local, remote string }

// Server is all streams to and from other servers. Its methods may be called
// concurrently.
type Server struct {
	Metrics Metrics

	cfg     Config
	domains map[string]bool
	key     []byte          // of dialback keys
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu        sync.Mutex
	closing   bool
	early     int // incoming streams that have proved nothing
	conns     map[*conn]struct{}
	ways      map[pair]*way            // of each pair; several have the same one if they share a stream
	hosts     map[string]*way          // whose stream may be shared, by the domains and addresses at its other end
	dialing   map[string]chan struct{} // closed when a stream to the domain is there, or can't be had
	streams   uint64                   // so far
	sessions  map[string]*session      // that can be resumed, by id
	absent    absent
	listeners map[net.Listener]struct{}
	running   sync.WaitGroup
}

// New makes a server that serves nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Receive == nil || cfg.Settle == nil || cfg.Forget == nil || cfg.Certificate == nil || cfg.Resolver == nil || cfg.Log == nil || len(cfg.Secret) == 0 {
		return nil, errors.New("s2s: incomplete configuration")
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	s := &Server{cfg: cfg, domains: map[string]bool{}, conns: map[*conn]struct{}{}, ways: map[pair]*way{}, hosts: map[string]*way{}, dialing: map[string]chan struct{}{},
		sessions: map[string]*session{}, absent: absent{lost: map[string]bool{}}, listeners: map[net.Listener]struct{}{}}
	for _, d := range cfg.Domains {
		if j, err := jid.New("", d, ""); err != nil || j.Domain() != d {
			return nil, fmt.Errorf("s2s: %q is no prepared domain", d)
		}
		s.domains[d] = true
	}
	sum := sha256.Sum256(cfg.Secret)
	s.key = hex.AppendEncode(nil, sum[:]) // XEP-0185 2
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.sweep)
	return s, nil
}

// Own reports false: other domains are strangers to the accounts.
func (s *Server) Own() bool { return false }

// exchanges is what the sender of a stanza is told if nothing may pass between the
// two domains.
func (s *Server) exchanges(p pair) *stanza.Error {
	if s.domains[p.local] && s.policy(p.remote) != Deny && !s.domains[p.remote] {
		return nil
	}
	return stanza.NewError(stanza.NotAllowed, "this server exchanges nothing with "+p.remote)
}

// Send queues a stanza for its domain. It doesn't block. The error is nil if the
// stanza was taken, and otherwise what its sender is to be told.
func (s *Server) Send(st *stanza.Stanza) *stanza.Error {
	p := pair{st.From.Domain(), st.To.Domain()}
	if e := s.exchanges(p); e != nil {
		return e
	}
	return s.put(p, item{data: st.AppendTo(nil), kind: st.Kind, at: time.Now()})
}

// Refuses is what the sender of a message is to be told if there is no room for it
// now, or nothing is exchanged with its domain; nil: there is.
func (s *Server) Refuses(st *stanza.Stanza) *stanza.Error {
	p := pair{st.From.Domain(), st.To.Domain()}
	if e := s.exchanges(p); e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.ways[p]
	switch {
	case w != nil:
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.full(w.load(p))
	case len(s.ways) >= s.cfg.Limits.Ways:
		return s.tooMany()
	}
	return nil
}

// SendKept takes a message that is in the outbox under an id: all of them, since
// their senders have been told that they are taken. What is beyond the bounds by it
// is what was being committed when Refuses said yes. Forget is told when the message
// needs to be in the outbox no longer.
func (s *Server) SendKept(st *stanza.Stanza, id uint64, ref trail.Ref) {
	s.keep(st, item{id: id, at: time.Now(), ref: ref})
}

// Replay queues a message of the outbox that the server kept when it stopped; at
// is when it was sent. Call it before anything else is sent.
func (s *Server) Replay(st *stanza.Stanza, id uint64, at time.Time) {
	s.keep(st, item{id: id, at: at})
}

// keep queues a message of the outbox.
func (s *Server) keep(st *stanza.Stanza, i item) {
	i.data, i.kind = st.AppendTo(nil), st.Kind
	p := pair{st.From.Domain(), st.To.Domain()}
	if e := s.exchanges(p); e != nil { // the configuration is another one by now
		s.running.Go(func() { s.giveBack([]item{i}, e) })
		return
	}
	s.put(p, i)
}

// Serve accepts connections until Close is called or the listener fails. It
// closes the listener. With direct, TLS comes first (XEP-0368).
func (s *Server) Serve(l net.Listener, direct bool) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		l.Close()
		return net.ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer l.Close()
	for {
		nc, err := l.Accept()
		var transient interface{ Temporary() bool }
		if errors.As(err, &transient) && transient.Temporary() {
			// Out of files, most likely: others will be closed.
			s.cfg.Log.Warn("a server can't be accepted", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-s.ctx.Done():
				return net.ErrClosed
			}
		}
		if err != nil {
			return err
		}
		go s.ServeConn(nc, direct)
	}
}

// ServeConn serves a connection that was accepted, and returns when it is over.
func (s *Server) ServeConn(nc net.Conn, direct bool) {
	s.Metrics.Accepted.Add(1)
	c := newConn(s, nc)
	s.mu.Lock()
	admitted := !s.closing && s.early < s.cfg.Limits.Unauthenticated && s.Metrics.Incoming.Load() < int64(s.cfg.Limits.Incoming)
	if admitted {
		s.early++
		c.early = true
		s.register(c)
		s.running.Add(1)
		s.Metrics.Incoming.Add(1)
	}
	s.mu.Unlock()
	if !admitted {
		s.Metrics.Refused.Add(1)
		nc.Close()
		return
	}
	defer s.running.Done()
	defer s.Metrics.Incoming.Add(-1)
	c.serve(direct)
	s.mu.Lock()
	s.promoted(c)
	delete(s.conns, c)
	s.mu.Unlock()
}

// register makes a stream one of conns, with a number. mu is held.
func (s *Server) register(c *conn) {
	s.streams++
	c.number = s.streams
	s.conns[c] = struct{}{}
}

// promoted counts a stream no longer as one that has proved nothing. mu is held.
func (s *Server) promoted(c *conn) {
	if c.early {
		c.early = false
		s.early--
	}
}

// Close stops accepting, writes what waits, waits for what isn't acknowledged and
// ends every stream with system-shutdown; it cuts off what is left when ctx ends,
// and its error is ctx's then. It may be called once.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.shutDown()
	}
	for _, w := range s.allWays() {
		w.stop()
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(ctx)
	}()
	<-drained
	s.cancel() // look-ups and connections that are being made
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	<-gone
	return fmt.Errorf("s2s: closing: %w", context.Cause(ctx))
}

// drain waits until every stream has ended.
func (s *Server) drain(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// newID makes the id of a stream: it can't be guessed (RFC 6120 4.7.3).
func (s *Server) newID() string {
	var id [18]byte
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		panic("s2s: no randomness: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// sweepEvery is how often what depends on time is looked at.
const sweepEvery = time.Second

// sweep passes time: streams that are idle are closed, those that don't answer
// cut, messages whose time is up returned, what isn't used forgotten.
func (s *Server) sweep() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		var now time.Time
		select {
		case now = <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		for id, x := range s.sessions {
			if !x.until.IsZero() && now.After(x.until) {
				delete(s.sessions, id)
			}
		}
		ways := s.allWays()
		s.mu.Unlock()
		s.tellReach(now, ways)
		for _, w := range ways {
			w.tick(now)
		}
		s.mu.Lock()
		for p, w := range s.ways {
			if p == w.pair && w.unused(now) {
				s.dismiss(w)
			}
		}
		s.mu.Unlock()
	}
}
