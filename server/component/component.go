// Package component is the connections of external components (XEP-0114): a
// program with a domain of its own, such as a gateway to another network, that
// reaches the server over TCP and proves with a shared secret that it may.
//
// A Server listens for all of them. A Component is one domain that the
// configuration names, connected or not, and the border of the accounts to that
// domain: what leaves is queued for the connection there is, in order, bounded
// in bytes; what enters is handed on one stanza after the other, and the
// connection isn't read while one of them is being dealt with.
//
// Each connection has two goroutines. The reader owns the stream's state. The
// writer writes what conn.take gives it: what the stream says, then the stanzas
// that wait, then the end. There is no TLS: such connections stay on one
// machine, or in a network that is protected otherwise.
package component

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NS is the namespace of a component's stream.
const NS = "jabber:component:accept"

// Config is what New needs.
type Config struct {
	// Secrets are the components' shared secrets, by prepared domain; none is
	// empty.
	Secrets map[string][]byte
	// Receive takes a stanza that a component sends, its 'from' checked. It
	// blocks until it may be given the next one. An error ends the stream. It is
	// called by each connection's own goroutine.
	Receive func(context.Context, *stanza.Stanza) error
	Limits  Limits
	Log     *slog.Logger
	// Rand makes stream ids; nil is crypto/rand's Reader.
	Rand io.Reader
}

// Limits are what components may cost.
type Limits struct {
	// Stanza bounds an element, Early one before the handshake.
	Stanza, Early xmltree.Limits
	// EarlyTime is how long the handshake may take.
	EarlyTime time.Duration
	// Unauthenticated is how many connections may be before their handshake.
	Unauthenticated int
	// BytesPerSecond is how fast a component is read, with a burst of one second,
	// by domain; 0 or none is no limit.
	BytesPerSecond map[string]int
	// QueueBytes bounds what waits for one component, plus one stanza. What comes
	// beyond it isn't taken.
	QueueBytes int
	// WriteTime is how long one write may take, Linger how long a component has to
	// close its side of an ended stream.
	WriteTime, Linger time.Duration
}

// Metrics count what happens; read them at any time.
type Metrics struct {
	Connected  atomic.Int64  // components there are now
	Accepted   atomic.Uint64 // connections
	Refused    atomic.Uint64 // of those, over a limit
	Failures   atomic.Uint64 // handshakes that failed
	StanzasIn  atomic.Uint64
	StanzasOut atomic.Uint64
	Returned   atomic.Uint64 // stanzas that a lost connection left unsent
	Full       atomic.Uint64 // stanzas that a queue had no room for
	Panics     atomic.Uint64 // recovered; each is a bug
}

// Server serves components. Its methods may be called concurrently.
type Server struct {
	Metrics Metrics

	cfg        Config
	components map[string]*Component // never changes
	ctx        context.Context       // ends with Close
	cancel     context.CancelFunc

	mu        sync.Mutex
	closing   bool
	early     int // connections before their handshake
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	running   sync.WaitGroup
}

// New makes a server that serves nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Receive == nil || cfg.Log == nil {
		return nil, errors.New("component: incomplete configuration")
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	s := &Server{cfg: cfg, components: map[string]*Component{}, conns: map[*conn]struct{}{}, listeners: map[net.Listener]struct{}{}}
	for domain, secret := range cfg.Secrets {
		j, err := jid.New("", domain, "")
		if err != nil || j.Domain() != domain {
			return nil, fmt.Errorf("component: %q is no prepared domain", domain)
		}
		if len(secret) == 0 {
			return nil, fmt.Errorf("component: %s has no secret", domain)
		}
		s.components[domain] = &Component{srv: s, domain: j, secret: secret}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Component finds a component by its prepared domain, nil if none is configured.
func (s *Server) Component(domain string) *Component { return s.components[domain] }

// Serve accepts connections until Close is called or the listener fails. It
// closes the listener.
func (s *Server) Serve(l net.Listener) error {
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
			s.cfg.Log.Warn("component can't be accepted", "error", err)
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
		go s.ServeConn(nc)
	}
}

// ServeConn serves a connection that was accepted, and returns when it is over.
func (s *Server) ServeConn(nc net.Conn) {
	s.Metrics.Accepted.Add(1)
	c := newConn(s, nc)
	s.mu.Lock()
	admitted := !s.closing && s.early < s.cfg.Limits.Unauthenticated
	if admitted {
		s.early++
		s.conns[c] = struct{}{}
		s.running.Add(1)
	}
	s.mu.Unlock()
	if !admitted {
		s.Metrics.Refused.Add(1)
		nc.Close()
		return
	}
	defer s.running.Done()
	c.serve()
	s.mu.Lock()
	s.promoted(c)
	delete(s.conns, c)
	s.mu.Unlock()
}

// promoted counts a connection no longer as unauthenticated. mu is held.
func (s *Server) promoted(c *conn) {
	if !c.promoted {
		c.promoted = true
		s.early--
	}
}

// Close stops accepting, ends every stream with system-shutdown once what waits
// is written, and cuts off what is left when ctx ends; its error is ctx's then.
// It may be called once.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.end(stanza.NewStreamError(stanza.StreamSystemShutdown, ""))
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	defer s.cancel()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		c.net.Close()
	}
	s.mu.Unlock()
	<-gone
	return fmt.Errorf("component: closing: %w", context.Cause(ctx))
}

// Component is one component, connected or not.
type Component struct {
	srv    *Server
	domain jid.JID
	secret []byte

	mu   sync.Mutex
	conn *conn // nil: it isn't connected
}

// Own reports true: a component is one of the server's own services.
func (c *Component) Own() bool { return true }

// Send queues a stanza for the component. It doesn't block. The error is nil if
// the stanza was taken, and otherwise what its sender is to be told: of a
// component that isn't connected remote-server-timeout (RFC 6120 8.3.3.16: it is
// known, but can't be reached), of a queue that is full resource-constraint.
// Both are worth another try.
func (c *Component) Send(st *stanza.Stanza) *stanza.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn == nil || c.conn.ended():
		return unreachable()
	case !c.conn.put(st):
		c.srv.Metrics.Full.Add(1)
		return stanza.NewError(stanza.ResourceConstraint, "too much waits for this service")
	}
	return nil
}

func unreachable() *stanza.Error {
	e := stanza.NewError(stanza.RemoteServerTimeout, "this service isn't connected")
	e.Type = stanza.Wait
	return e
}

// attach makes a connection the component's; false if it has one whose stream
// hasn't ended.
func (c *Component) attach(n *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn == nil:
		c.srv.Metrics.Connected.Add(1)
	case !c.conn.ended():
		return false
	}
	c.conn = n
	return true
}

// detach takes a connection from the component; nothing is put into its queue
// any more.
func (c *Component) detach(n *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == n {
		c.conn = nil
		c.srv.Metrics.Connected.Add(-1)
	}
}
