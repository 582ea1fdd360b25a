package c2s

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// Server serves client connections. Make one with New; all methods may be
// called from any goroutine.
type Server struct {
	// Metrics count what happens.
	Metrics Metrics

	cfg        Config
	stream     stream.ServerConfig
	domains    map[jid.JID]jid.JID
	mechanisms map[bool][]string // by whether the channel can be bound
	tlsPlain   *tls.Config       // after STARTTLS
	tlsDirect  *tls.Config

	guard *guard
	bosh  bodies

	ctx    context.Context // ends with the last connection
	cancel context.CancelFunc
	done   chan struct{} // closed when workers and patrol must go
	work   chan *conn    // hands a connection to a worker that waits
	idle   atomic.Int32  // workers that wait
	epoch  time.Time
	clock  atomic.Int64 // time since epoch, as of the patrol's last round
	lastID atomic.Uint64

	mu         sync.Mutex
	closing    bool
	patrolling bool
	early      int // connections before their login
	conns      map[*conn]struct{}
	addresses  map[netip.Addr]addressCount
	listeners  map[net.Listener]struct{}
	running    sync.WaitGroup // connections
	patrols    sync.WaitGroup
}

// New makes a server that serves nothing yet.
func New(cfg Config) (*Server, error) {
	switch {
	case len(cfg.Domains) == 0:
		return nil, errors.New("c2s: no domain")
	case cfg.Accounts == nil || cfg.Credentials == nil || cfg.Certificate == nil || cfg.Rand == nil || cfg.Log == nil:
		return nil, errors.New("c2s: incomplete configuration")
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg:       cfg,
		ctx:       ctx,
		cancel:    cancel,
		done:      make(chan struct{}),
		work:      make(chan *conn),
		epoch:     time.Now(),
		domains:   map[jid.JID]jid.JID{},
		conns:     map[*conn]struct{}{},
		addresses: map[netip.Addr]addressCount{},
		listeners: map[net.Listener]struct{}{},
		guard:     newGuard(&cfg.Limits, maxTracked),
		mechanisms: map[bool][]string{
			true:  sasl.Mechanisms(true, cfg.AllowPlain),
			false: sasl.Mechanisms(false, cfg.AllowPlain),
		},
	}
	for _, d := range cfg.Domains {
		s.domains[d] = d
	}
	s.tlsPlain, s.tlsDirect = s.tlsConfig(false), s.tlsConfig(true)
	if s.cfg.TokenLife <= 0 {
		s.cfg.TokenLife = 21 * 24 * time.Hour
	}
	if s.cfg.TokenAge <= 0 {
		// A device that comes every day keeps its token, however short their life is.
		s.cfg.TokenAge = min(24*time.Hour, s.cfg.TokenLife/4)
	}
	lim := &cfg.Limits
	s.stream = stream.ServerConfig{
		Domain:       s.domain,
		Fallback:     cfg.Domains[0],
		NewID:        s.newStreamID,
		Limits:       lim.Stanza,
		EarlyLimits:  lim.Early,
		EarlySeconds: int(lim.EarlyTime / time.Second),
		IdleSeconds:  int(lim.Idle / time.Second),
		Features:     cfg.Features,
		Register:     cfg.Registrar != nil && cfg.Registrar.Open(),
		Invited:      cfg.Registrar != nil && cfg.Registrar.Invites(),
		MaxAuth:      lim.AuthAttempts,
		BindInline:   []string{xep.NSSM, xep.NSCarbons, xep.NSCSI, xep.NSIMNG},
	}
	if cfg.Sync {
		s.stream.BindInline = append(s.stream.BindInline, xep.NSXMPP2)
	}
	if cfg.Upgrades != nil {
		for _, u := range upgrades {
			s.stream.Upgrades = append(s.stream.Upgrades, u.task)
		}
	}
	return s, nil
}

func (s *Server) domain(to string) (jid.JID, bool) {
	j, err := jid.Parse(to)
	if err != nil {
		return jid.JID{}, false
	}
	j, ok := s.domains[j]
	return j, ok
}

// newStreamID makes 16 random octets (RFC 6120 4.7.3).
func (s *Server) newStreamID() string {
	var b [16]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		panic("c2s: no randomness: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Serve accepts connections until ctx ends or Close is called. direct is for listeners on which TLS comes first (XEP-0368). It closes
// the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener, direct bool) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(nil, l.Close())
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer func() {
		l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.ServeConn(nc, direct)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Such as too many open files: that passes, and a server that gave up
		// wouldn't come back.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.cfg.Log.Error("accepting connections", "addr", l.Addr(), "error", err, "retry", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
}

// ServeConn takes over one connection and returns at once.
func (s *Server) ServeConn(nc net.Conn, direct bool) {
	c := &conn{srv: s, sock: newSocket(nc), id: s.lastID.Add(1), direct: direct}
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.addr = a.AddrPort()
	}
	if tcp, ok := nc.(*net.TCPConn); ok && s.cfg.Limits.KeepAlive > 0 {
		tcp.SetKeepAliveConfig(keepAlive(s.cfg.Limits.KeepAlive))
	}
	s.take(c)
}

func keepAlive(idle time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: 30 * time.Second, Count: 4}
}

// take begins with a connection if there is room for it, and closes it if not.
func (s *Server) take(c *conn) {
	if !s.admit(c) {
		s.Metrics.Refused.Add(1)
		c.log(slog.LevelDebug, "connection refused: too many")
		c.sock.Conn.Close()
		return
	}
	s.Metrics.Accepted.Add(1)
	s.patrol()
	go c.start()
}

// Close stops accepting, ends every stream with system-shutdown, and waits for
// the connections until ctx ends; those that are left are cut off then. It
// returns ctx's error in that case. It may be called once.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	conns := s.snapshot()
	s.mu.Unlock()
	for _, c := range conns {
		c.End(stanza.NewStreamError(stanza.StreamSystemShutdown, ""))
	}
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = fmt.Errorf("c2s: closing: %w", context.Cause(ctx))
		s.mu.Lock()
		conns = s.snapshot()
		s.mu.Unlock()
		s.cancel()
		for _, c := range conns {
			c.sock.Close()
		}
		<-gone
	}
	s.cancel()
	close(s.done)
	s.patrols.Wait()
	return err
}

// snapshot lists the connections. s.mu is held.
func (s *Server) snapshot() []*conn {
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// patrol starts the one goroutine that looks after what takes too long.
func (s *Server) patrol() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.patrolling || s.closing {
		return
	}
	s.patrolling = true
	s.patrols.Go(func() {
		t := time.NewTicker(s.round())
		defer t.Stop()
		for {
			select {
			case <-s.done:
				return
			case <-t.C:
			}
			now := time.Since(s.epoch)
			s.clock.Store(int64(now))
			s.mu.Lock()
			conns := s.snapshot()
			s.mu.Unlock()
			for _, c := range conns {
				c.inspect(now)
			}
			s.restWorkers()
		}
	})
}

// round is how often the patrol goes: often enough for the shortest time that it
// watches over.
func (s *Server) round() time.Duration {
	d := 8 * time.Second
	for _, limit := range []time.Duration{s.cfg.Limits.Idle, s.cfg.Limits.IdleGrace, s.cfg.Limits.WriteTime} {
		if limit > 0 {
			d = min(d, limit)
		}
	}
	return max(d/4, 10*time.Millisecond)
}
