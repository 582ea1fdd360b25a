package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/s2s"
	"carillon.im/server/s2s/lookup"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// newFederation makes the border to other servers; nil where it is off.
func (s *Server) newFederation(ctx context.Context) (*s2s.Server, error) {
	cfg := &s.cfg
	if cfg.S2S == config.Off || cfg.S2S == config.Auto {
		return nil, nil
	}
	roots, err := authorities(cfg.Federation.Authorities)
	if err != nil {
		return nil, err
	}
	secret, err := s.store.Secret(ctx, "dialback", 32)
	if err != nil {
		return nil, err
	}
	peers := map[string]s2s.Policy{}
	for domain, p := range cfg.Peers {
		peers[domain] = s2s.Policy(p.Policy)
	}
	return s2s.New(s2s.Config{
		Domains: slices.Concat(cfg.Domains, slices.Collect(maps.Keys(cfg.Components)), cfg.RoomDomains()),
		Policy:  s2s.Policy(cfg.Federation.Policy), Peers: peers, Receive: s.receive, Reach: func(gone, back []string) { s.hub.Reach(gone, back) },
		Trace: func(ref trail.Ref, step trail.Step, condition string, at time.Time) {
			s.hub.Trail().Left(ref, step, condition, at)
		},
		Settle: func(ctx context.Context) error { return s.store.Commit(ctx) }, Forget: s.delivered,
		Certificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certs.GetCertificate(hello) }, Roots: roots, Secret: secret, Resolver: resolver(cfg.Federation.Resolver),
		Limits: serverLimits(cfg), Log: s.log,
	})
}

// authorities are those that other servers' certificates may be of; nil stands for
// the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("federation.authorities: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without any
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("federation.authorities: there is no certificate in %s", file)
	}
	return roots, nil
}

func resolver(server string) *lookup.Resolver {
	if server == "" {
		return lookup.System()
	}
	return lookup.New(server)
}

// serverLimits translates the configuration's limits.
func serverLimits(cfg *config.Config) s2s.Limits {
	l, f, clients := s2s.DefaultLimits(), &cfg.Federation, clientLimits(cfg.Limits)
	l.Stanza, l.Early, l.EarlyTime = clients.Stanza, clients.Early, clients.EarlyTime
	l.Unauthenticated, l.Incoming, l.QueueBytes, l.BytesPerSecond = f.UnauthenticatedConnections, f.Connections, f.QueueBytes, f.BytesPerSecond
	l.Idle, l.GiveUp = time.Duration(f.IdleSeconds)*time.Second, time.Duration(f.GiveUpSeconds)*time.Second
	return l
}

// delivered takes messages from the outbox. One that can't be, because the disk is
// full, is sent again after the next start.
func (s *Server) delivered(ids []uint64) {
	op := store.OutboxDelete{IDs: make([]store.OutboxID, len(ids))}
	for i, id := range ids {
		op.IDs[i] = store.OutboxID(id)
	}
	s.store.Submit(store.Unit{Ops: []store.Op{op}, Done: func(err error) {
		if err != nil {
			s.log.Warn("messages that were delivered stay in the outbox", "messages", len(ids), "error", err)
		}
	}})
}

// outboxPage is how many messages of the outbox are read at once.
const outboxPage = 256

// replay takes up the messages for other servers that were not known to have come
// when the server stopped.
func (s *Server) replay(ctx context.Context) error {
	var after store.OutboxID
	n := 0
	for {
		page, err := s.store.Outbox(ctx, after, outboxPage)
		if err != nil {
			return fmt.Errorf("reading the outbox: %w", err)
		}
		for _, m := range page {
			after = m.ID
			st, err := stanza.ParseBytes(m.Stanza, xmltree.Limits{MaxBytes: len(m.Stanza) + 1, MaxDepth: 1 << 14, MaxAttrs: 1 << 16, MaxChildren: 1 << 24, MaxNamespaces: 1 << 20})
			if err != nil {
				s.log.Error("a message of the outbox can't be read", "id", uint64(m.ID), "error", err)
				s.delivered([]uint64{uint64(m.ID)})
				continue
			}
			n++
			if s.federation == nil {
				s.log.Debug("a message waits for the exchange with other servers to be on", "to", st.To.Domain())
				continue
			}
			s.federation.Replay(st, uint64(m.ID), m.At)
		}
		if len(page) < outboxPage {
			break
		}
	}
	if n > 0 {
		s.log.Log(ctx, slog.LevelInfo, "messages for other servers wait since before the start", "messages", n)
	}
	return nil
}

// streams lists the streams with other servers for the operator.
func (s *Server) streams() []admin.Stream {
	var list []admin.Stream
	for _, i := range s.federation.Streams() {
		direction := "out"
		switch {
		case i.Both:
			direction = "both"
		case i.Incoming:
			direction = "in"
		}
		list = append(list, admin.Stream{Domain: i.Domain, For: i.For, Direction: direction, Stream: i.Stream, State: i.State, Security: i.Security, Since: i.Since,
			Waiting: i.Waiting, Unacked: i.Unacked, Bytes: i.Bytes, Error: i.Error})
	}
	return list
}

// LookAt says what another server would see of a domain, if this configuration is
// served: one line for each place where it looks.
func LookAt(ctx context.Context, cfg config.Config, domain string) ([]s2s.Seen, error) {
	roots, err := authorities(cfg.Federation.Authorities)
	if err != nil {
		return nil, err
	}
	limits := s2s.DefaultLimits()
	limits.ConnectTime, limits.Linger = lookTime, time.Second
	return s2s.Look(ctx, s2s.Config{Resolver: resolver(cfg.Federation.Resolver), Roots: roots, Limits: limits, Log: slog.New(slog.DiscardHandler)}, domain)
}

// lookTime bounds a look at one place.
const lookTime = 10 * time.Second

// otherServers is what /metrics shows of the streams with other servers.
type otherServers struct {
	Incoming       int64  `help:"incoming streams"`
	Outgoing       int64  `help:"outgoing streams"`
	Accepted       uint64 `help:"connections accepted"`
	Refused        uint64 `help:"connections closed at once because of a limit"`
	AuthFailures   uint64 `help:"incoming proofs of a domain that failed"`
	ConnectErrors  uint64 `help:"outgoing streams that could not be had"`
	StanzasIn      uint64 `help:"stanzas received"`
	StanzasOut     uint64 `help:"stanzas sent"`
	Returned       uint64 `help:"stanzas that went back to their senders"`
	Full           uint64 `help:"stanzas refused because too much waited for a domain"`
	Resumed        uint64 `help:"streams that went on after a break"`
	ForeignStanzas uint64 `help:"stanzas with addresses that their stream does not speak for"`
	Panics         uint64 `help:"panics recovered; each is a bug"`
}

func federationCounters(s *s2s.Server) otherServers {
	m := &cmp.Or(s, &s2s.Server{}).Metrics
	return otherServers{Incoming: m.Incoming.Load(), Outgoing: m.Outgoing.Load(), Accepted: m.Accepted.Load(), Refused: m.Refused.Load(),
		AuthFailures: m.AuthFailures.Load(), ConnectErrors: m.ConnectErrors.Load(), StanzasIn: m.StanzasIn.Load(), StanzasOut: m.StanzasOut.Load(),
		Returned: m.Returned.Load(), Full: m.Full.Load(), Resumed: m.Resumed.Load(), ForeignStanzas: m.ForeignStanzas.Load(), Panics: m.Panics.Load()}
}
