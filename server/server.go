// Package server puts a carillon server together: store, accounts, features,
// connections and the operator's pages, in that order, and takes them apart in
// the reverse one. It wires and decides nothing.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/account"
	"carillon.im/server/admin"
	"carillon.im/server/c2s"
	"carillon.im/server/cert"
	"carillon.im/server/component"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/features/caps"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/register"
	"carillon.im/server/invite"
	"carillon.im/server/room"
	"carillon.im/server/s2s"
	"carillon.im/server/store"
	"carillon.im/server/upload"
	"carillon.im/stanza"
)

// Server is one carillon server.
type Server struct {
	cfg     config.Config
	log     *slog.Logger
	store   *store.Store
	certs   *cert.Source
	caps    *caps.Cache
	events  *pep.Service
	set     *feature.Set
	hub     *account.Hub
	c2s     *c2s.Server
	border  *component.Server
	rooms   *room.Hub // nil: there are none
	host    *admin.Host
	control *admin.Control
	pages   *http.Server    // health, metrics, and what proxies pass on
	public  *http.Server    // with TLS
	files   *upload.Service // nil: there is no upload
	invites *invite.Service // nil: there are none
	release string
	// federation is the border to other servers, nil where it is off.
	federation *s2s.Server

	disguise disguise

	listeners []listener
	ready     chan struct{}
}

type listener struct {
	key    string // of the configuration
	net    net.Listener
	direct bool // TLS from the first byte
}

// Options are what a caller may want different from what the configuration
// says; the zero value is a server in production.
type Options struct {
	Now     func() time.Time         // nil: time.Now
	Fault   func(point string) error // store.Options.Fault, for tests
	Path    string                   // of the store; "": the data folder
	Release string                   // told by XEP-0092
}

// shutdownTime is how long an orderly stop may take.
const shutdownTime = 10 * time.Second

// New opens everything that can fail: the store, certificates, listeners. What
// it opened is closed again if it fails.
func New(ctx context.Context, cfg config.Config, log *slog.Logger) (*Server, error) {
	return NewWith(ctx, cfg, log, Options{})
}

// NewWith is New with options.
func NewWith(ctx context.Context, cfg config.Config, log *slog.Logger, opt Options) (_ *Server, err error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Release == "" {
		opt.Release = Release()
	}
	if opt.Path == "" {
		opt.Path = cfg.Data
	}
	s := &Server{cfg: cfg, log: log, release: opt.Release, ready: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close(ctx)
		}
	}()
	if s.store, err = store.Open(ctx, store.Options{
		Path: opt.Path, Log: log, Now: opt.Now, Fault: opt.Fault,
		CommitMax: cfg.Storage.CommitUnits, CommitDelay: time.Duration(cfg.Storage.CommitDelayMicroseconds) * time.Microsecond,
		Readers: cfg.Storage.Readers, MaxQueuedUnits: cfg.Storage.QueueUnits, MaxQueuedBytes: int64(cfg.Storage.QueueBytes),
	}); err != nil {
		return nil, err
	}
	if err = s.listen(ctx); err != nil {
		return nil, err
	}
	secret, err := s.store.Secret(ctx, "scram-dummy", 32)
	if err != nil {
		return nil, err
	}
	s.disguise.secret, s.disguise.without = secret, cfg.Auth.Iterations
	if err = s.disguise.refresh(ctx, s.store); err != nil {
		return nil, err
	}
	if cfg.Services, err = serviceSecrets(cfg.Services); err != nil {
		return nil, err
	}
	users := &accounts{server: s}
	s.events = personal(s.store, func(j jid.JID) feature.AccountRef { return s.hub.Account(j) }, opt.Now)
	s.caps = caps.New(caps.Options{Notify: s.events.Notify})
	declared := features(cfg, s.store, s.caps, s.events, users, &devices{s}, opt.Release, log, opt.Now, func() *admin.Host { return s.host },
		func() *invite.Service { return s.invites })
	if s.set, err = feature.NewSet(declared...); err != nil {
		return nil, err
	}
	if s.border, err = newComponents(cfg, log, s.receive); err != nil {
		return nil, err
	}
	if s.rooms, err = newRooms(ctx, cfg, s.store, log, opt.Now, voice{s.deliver, s.stream}); err != nil {
		return nil, err
	}
	if s.federation, err = s.newFederation(ctx); err != nil {
		return nil, err
	}
	if s.files, err = s.newUpload(ctx); err != nil {
		return nil, err
	}
	s.invites = s.newInvites(opt.Now)
	s.hub = account.New(account.Config{
		Invited: s.invited,
		Borders: s.borderTo, Autojoin: s.events.Autojoin,
		Domains: cfg.Domains, Store: s.store, Features: s.set, Log: log, Now: opt.Now, Rand: rand.Reader,
		Push: account.PushConfig{Hold: time.Duration(cfg.Push.HoldSeconds) * time.Second,
			Sender: cfg.Push.Details != "count", Body: cfg.Push.Details == "body"},
		Start: s.store.Starts(), Loops: loops(), ArchiveDefault: cfg.Archive.Default, RefuseStrangers: cfg.Strangers,
		Limits: account.Limits{
			OutboxBytes: cfg.Limits.OutboxBytes, SessionsPerAccount: cfg.Limits.SessionsPerAccount,
			OfflineMessages: cfg.Limits.OfflineMessages, RosterItems: cfg.Limits.RosterItems, BlockItems: cfg.Limits.BlockItems,
			Directed: directed, ResumeWindow: time.Duration(cfg.Limits.ResumeSeconds) * time.Second, IdleAccounts: idleAccounts,
		},
	})
	s.host = &admin.Host{Store: s.store, Domains: cfg.Domains, Iterations: cfg.Auth.Iterations, Live: s.hub, Log: log}
	s.transfers()
	if s.invites != nil {
		s.host.Invite = inviteFunc(s.invites)
	}
	if s.federation != nil {
		s.host.Streams = s.streams
	}
	// Last, for it may make a self-signed certificate: a start that fails must not leave a new one behind, which people would have to compare again.
	if s.certs, err = cert.Open(certOptions(cfg, log, opt.Now)); err != nil {
		return nil, err
	}
	if s.c2s, err = s.newC2S(users, secret); err != nil {
		return nil, err
	}
	if err = s.newWeb(ctx); err != nil {
		return nil, err
	}
	return s, s.replay(ctx)
}

// deliver takes what rooms say to the accounts. Nobody reaches a room before there
// are accounts.
func (s *Server) deliver(list []*stanza.Stanza) { s.hub.Deliver(list) }

// stream is deliver at a session's pace.
func (s *Server) stream(ctx context.Context, to jid.JID, list [][]byte) error {
	return s.hub.Stream(ctx, to, list)
}

// Bounds that are nobody's business to configure.
const (
	directed     = 1000  // addresses with directed presence, per session
	idleAccounts = 10000 // kept in memory per loop, for who is written to while away
)

// loops is how many loops share the accounts: deciding is a small part of a
// message's cost, so fewer loops than cores, and fewer hand-overs between them.
func loops() int { return max(1, runtime.GOMAXPROCS(0)/2) }

func certOptions(cfg config.Config, log *slog.Logger, now func() time.Time) cert.Options {
	domains, own := cfg.Shown()
	o := cert.Options{Dir: cfg.Data, Domains: domains, Default: cert.Pair{Cert: cfg.Cert, Key: cfg.Key}, Log: log, Now: now}
	for d, c := range own {
		if o.Pairs == nil {
			o.Pairs = map[string]cert.Pair{}
		}
		o.Pairs[d] = cert.Pair{Cert: c.Cert, Key: c.Key}
	}
	return o
}

func (s *Server) newC2S(users *accounts, secret []byte) (*c2s.Server, error) {
	var domains []jid.JID
	for _, d := range s.cfg.Domains {
		j, err := jid.New("", d, "")
		if err != nil {
			return nil, fmt.Errorf("domain %q: %w", d, err)
		}
		domains = append(domains, j)
	}
	var registrar c2s.Registrar
	if r := (register.Registrar{Accounts: users, Strangers: s.cfg.Registration}); s.invites != nil {
		r.Tokens = s.invites
		registrar = r
	} else if r.Strangers {
		registrar = r
	}
	return c2s.New(c2s.Config{
		Domains: domains, Registrar: registrar, Accounts: users, Credentials: users, Clients: &devices{s}, Upgrades: users, Sync: true, Certificate: s.certs.GetCertificate,
		TokenLife:   time.Duration(s.cfg.Auth.TokenDays) * 24 * time.Hour,
		DummySecret: secret, Iterations: s.cfg.Auth.Iterations, AllowPlain: s.cfg.Auth.Plain, Hashes: s.disguise.offered, StrictBinding: s.cfg.Auth.StrictChannelBinding,
		Features: []byte(s.set.StreamFeatures()), Limits: clientLimits(s.cfg.Limits), Log: s.log, Rand: rand.Reader,
	})
}

// clientLimits translates the configuration's limits.
func clientLimits(l config.Limits) c2s.Limits {
	o := c2s.DefaultLimits()
	o.Stanza.MaxBytes, o.Stanza.MaxDepth, o.Stanza.MaxAttrs, o.Stanza.MaxChildren = l.StanzaBytes, l.Depth, l.Attributes, l.Elements
	o.Early.MaxBytes = l.StanzaBytesUnauthenticated
	o.EarlyTime = time.Duration(l.UnauthenticatedSeconds) * time.Second
	o.Unauthenticated, o.PerAddress = l.UnauthenticatedConnections, l.ConnectionsPerAddress
	o.UnauthenticatedPerAddress = l.UnauthenticatedPerAddress
	o.BytesPerSecond = l.BytesPerSecond
	o.Idle = time.Duration(l.IdleSeconds) * time.Second
	o.AddressFailures = per(time.Minute, l.LoginFailuresPerAddress)
	o.AccountFailures = per(time.Minute, l.LoginFailuresPerAccount)
	o.Registrations = per(time.Hour, l.RegistrationsPerAddress)
	return o
}

// per is n events in a time; 0 is no limit.
func per(span time.Duration, n int) c2s.Rate {
	if n <= 0 {
		return c2s.Rate{}
	}
	return c2s.Rate{Burst: n, Every: span / time.Duration(n)}
}

// listen opens the listeners, so that an address in use fails the start.
func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	for _, l := range []listener{
		{key: "c2s"}, {key: "c2s_tls", direct: true}, {key: "s2s"}, {key: "s2s_tls", direct: true}, {key: "component"}, {key: "http"}, {key: "https"},
	} {
		addr := map[string]string{"c2s": s.cfg.C2S, "c2s_tls": s.cfg.C2STLS, "s2s": s.cfg.S2S, "s2s_tls": s.cfg.S2STLS, "component": s.cfg.Component,
			"http": s.cfg.HTTP, "https": s.cfg.HTTPS}[l.key]
		if addr == config.Off || addr == config.Auto {
			continue
		}
		var err error
		if l.net, err = lc.Listen(ctx, "tcp", addr); err != nil {
			return fmt.Errorf("%s = %q: %w", l.key, addr, err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// sources are the counters that /metrics shows.
func (s *Server) sources() []admin.Source {
	return []admin.Source{
		{Prefix: "carillon_store", Read: func() any { return s.store.Stats() }},
		{Prefix: "carillon_accounts", Read: func() any { return s.hub.Counters() }},
		{Prefix: "carillon_rooms", Read: func() any { return roomCounters(s.rooms) }},
		{Prefix: "carillon_component", Read: func() any { return componentCounters(&s.border.Metrics) }},
		{Prefix: "carillon_s2s", Read: func() any { return federationCounters(s.federation) }},
		{Prefix: "carillon_c2s", Read: func() any { return clientCounters(&s.c2s.Metrics) }},
	}
}

// Addrs are the addresses that the server listens on, by configuration key.
func (s *Server) Addrs() map[string]string {
	m := map[string]string{}
	for _, l := range s.listeners {
		m[l.key] = l.net.Addr().String()
	}
	return m
}

// Ready is closed once clients are being served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Certificates are the certificates in use.
func (s *Server) Certificates() []cert.Info { return s.certs.Info() }

// ReloadCertificates reads the certificates again.
func (s *Server) ReloadCertificates() error { return s.certs.Reload() }

// Host carries out the operator's calls.
func (s *Server) Host() *admin.Host { return s.host }

// ServeConn serves a connection that somebody else accepted, such as one end of
// a net.Pipe, and returns when it is over.
func (s *Server) ServeConn(c net.Conn, direct bool) { s.c2s.ServeConn(c, direct) }

// ServeComponent is ServeConn for a component (XEP-0114).
func (s *Server) ServeComponent(c net.Conn) { s.border.ServeConn(c) }

// Run serves until ctx ends, then stops in order: no new connections, the end
// of every stream, what was received committed and answered, the store closed.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Data != "" && s.cfg.Data != ":memory:" {
		control, err := admin.OpenControl(s.cfg.Data, s.host, s.status, s.log)
		if err != nil {
			s.close(ctx)
			return err
		}
		s.control = control
	}
	failed := make(chan error, len(s.listeners))
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	for _, l := range s.listeners {
		running.Go(func() {
			var err error
			switch l.key {
			case "http":
				err = s.pages.Serve(s.c2s.HTTPListener(l.net, false))
			case "https":
				err = s.public.Serve(s.c2s.HTTPListener(l.net, true))
			case "component":
				err = s.border.Serve(l.net)
			case "s2s", "s2s_tls":
				err = s.federation.Serve(l.net, l.direct)
			default:
				err = s.c2s.Serve(serving, l.net, l.direct)
			}
			if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", l.key, err)
			}
		})
	}
	running.Go(func() { s.maintain(serving) })
	close(s.ready)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer done()
	cancel()
	s.close(stop)
	running.Wait()
	return err
}

func (s *Server) status() admin.Status {
	return admin.Status{PID: pid(), Version: s.release, Listening: s.Addrs()}
}

// close ends what New and Run opened, in the reverse order.
func (s *Server) close(ctx context.Context) {
	if s.control != nil {
		if err := s.control.Close(ctx); err != nil {
			s.log.Warn("control socket", "error", err)
		}
	}
	for _, h := range []*http.Server{s.pages, s.public} {
		if h != nil {
			h.Close()
		}
	}
	if s.files != nil {
		s.files.Close()
	}
	for _, l := range s.listeners {
		l.net.Close()
	}
	if s.rooms != nil {
		s.rooms.GoAway(ctx)
	}
	if s.invites != nil {
		s.invites.Close()
	}
	if s.hub != nil {
		// It ends the sessions' streams itself, once what they sent is committed
		// and answered.
		s.hub.Close(ctx)
	}
	if s.c2s != nil {
		if err := s.c2s.Close(ctx); err != nil {
			s.log.Warn("connections", "error", err)
		}
	}
	if s.federation != nil {
		if err := s.federation.Close(ctx); err != nil {
			s.log.Warn("other servers", "error", err)
		}
	}
	if s.border != nil {
		if err := s.border.Close(ctx); err != nil {
			s.log.Warn("components", "error", err)
		}
	}
	if s.rooms != nil {
		if err := s.rooms.Close(ctx); err != nil {
			s.log.Warn("rooms", "error", err)
		}
	}
	if s.caps != nil {
		s.caps.Close()
	}
	if s.events != nil {
		s.events.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("store", "error", err)
		}
	}
}

// maintain does what is due now and then: it deletes messages that are older
// than the operator keeps them, counts passwords by their iterations, and hands
// memory back after a rush.
func (s *Server) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	memory := newReturner()
	for round := 0; ; round++ {
		select {
		case <-ticker.C:
			memory.round()
			if round%purgeRounds == 0 {
				s.purge(ctx)
				s.cleanUploads(ctx)
				if err := s.disguise.refresh(ctx, s.store); err != nil && ctx.Err() == nil {
					s.log.Warn("passwords could not be counted", "error", err)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

const (
	maintainEvery = 5 * time.Second
	purgeRounds   = 120 // ten minutes
)

// purgeChunk is how many messages are deleted at once, so that deleting never
// holds up a commit for long.
const purgeChunk = 500

func (s *Server) purge(ctx context.Context) {
	if s.cfg.Archive.KeepDays <= 0 {
		return
	}
	before := time.Now().Add(-time.Duration(s.cfg.Archive.KeepDays) * 24 * time.Hour)
	for ctx.Err() == nil {
		n, err := s.store.ArchivePurge(ctx, before, purgeChunk)
		if err != nil {
			s.log.Error("old messages could not be deleted", "error", err)
			return
		}
		if n < purgeChunk {
			return
		}
	}
}

// Release is the version of this build, as every command and XEP-0092 tell it: a tag such as "v1.2.0", what Go makes of a commit, or "devel".
func Release() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()")
	}
	return "unknown"
}
