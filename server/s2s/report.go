package s2s

import (
	"cmp"
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"time"

	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
)

// StreamInfo is what an operator wants to know of the way to a domain, or of a
// stream from one.
type StreamInfo struct {
	Domain   string    // the other one
	For      string    // ours
	Incoming bool      // a stream of theirs; both ways with XEP-0288, if Both
	Both     bool      //
	Stream   uint64    // which one it is: pairs with the same one share it. 0: none
	State    string    // "up", "connecting", "waiting" for the next try, "idle"
	Security string    // how the stream is secured and the domain was proved
	Since    time.Time // when the stream began, or of "waiting" when the next try is
	Waiting  int       // stanzas not sent yet
	Unacked  int       // sent and not acknowledged
	Bytes    int       // of both
	Error    string    // the last one, in plain words
}

// Streams lists the ways in use and the streams of others, by domain.
func (s *Server) Streams() []StreamInfo {
	s.mu.Lock()
	ways, conns := s.allWays(), make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		if !c.outgoing && !c.early {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	var list []StreamInfo
	for _, w := range ways {
		list = append(list, w.infos()...)
	}
	for _, c := range conns {
		list = append(list, c.infos()...)
	}
	slices.SortFunc(list, func(a, b StreamInfo) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.For, b.For), compareBool(a.Incoming, b.Incoming), a.Since.Compare(b.Since))
	})
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// infos are those of the way's pair and of its guests.
func (w *way) infos() []StreamInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := StreamInfo{State: "idle"}
	if w.lastErr != nil {
		i.Error = w.lastErr.Error()
	}
	switch {
	case w.link != nil:
		i.State, i.Since, i.Stream = "up", w.link.since, w.link.number
		w.link.mu.Lock()
		i.Both = w.link.bidi
		w.link.mu.Unlock()
	case w.connecting:
		i.State = "connecting"
	case w.timer != nil || time.Now().Before(w.retry):
		i.State, i.Since = "waiting", w.retry
	}
	at := map[*load]*StreamInfo{}
	list := make([]StreamInfo, 0, 1+len(w.guests))
	for _, l := range append(slices.Collect(maps.Values(w.guests)), &w.own) {
		i.Domain, i.For, i.Bytes = l.pair.remote, l.pair.local, l.bytes
		if w.link != nil {
			i.Security = w.link.security(l.pair)
		}
		list = append(list, i)
		at[l] = &list[len(list)-1]
	}
	for n := range w.queue.list {
		switch one := at[w.queue.list[n].load]; {
		case one == nil: // the place of one that was given up
		case n < w.queue.sent:
			one.Unacked++
		default:
			one.Waiting++
		}
	}
	return list
}

func (c *conn) infos() []StreamInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []StreamInfo
	for p := range c.pairs {
		both := c.carries != nil && (c.carries.pair == p || c.sends[p])
		list = append(list, StreamInfo{Domain: p.remote, For: p.local, Incoming: true, Both: both, State: "up",
			Security: c.securityLocked(p), Since: c.since, Stream: c.number})
	}
	return list
}

// Seen is what another server would see of one target of a domain.
type Seen struct {
	Target lookup.Target
	Error  error  // it can't be reached, or isn't a server with TLS
	Proof  Proof  // of its certificate
	Doubt  error  // why it proves nothing
	Names  string // in the certificate
	Until  time.Time
	Keys   int // for which DNSSEC vouches (DANE)
}

// Look looks a domain up and connects to each of its targets, as another server
// would that asks for a certificate. It says nothing of who looks: of the
// configuration resolver, authorities, limits and log count.
func Look(ctx context.Context, cfg Config, domain string) ([]Seen, error) {
	s, err := New(Config{
		Policy: Certificate, Resolver: cfg.Resolver, Roots: cfg.Roots, Limits: cfg.Limits, Log: cfg.Log, Secret: []byte("of nothing"),
		Receive: func(context.Context, *stanza.Stanza) error { return nil }, Settle: func(context.Context) error { return nil }, Forget: func([]uint64) {},
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil },
	})
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	targets, err := s.cfg.Resolver.Targets(ctx, domain)
	if err != nil {
		return nil, err
	}
	var list []Seen
	for _, t := range targets {
		list = append(list, s.lookAt(ctx, domain, t))
	}
	return list, nil
}

func (s *Server) lookAt(ctx context.Context, domain string, t lookup.Target) Seen {
	seen := Seen{Target: t}
	ctx, cancel := s.connectContext(ctx)
	defer cancel()
	c, err := s.reach(ctx, pair{remote: domain}, t)
	if err != nil {
		seen.Error = err
		return seen
	}
	defer c.raw.Close()
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	defer stop()
	if _, err := c.secureStream(ctx); err != nil {
		seen.Error = err
		return seen
	}
	c.proveServer(ctx, t)
	seen.Proof, seen.Doubt = c.proof, c.doubt
	if len(c.chain) > 0 {
		seen.Names, seen.Until = named(c.chain[0]), c.chain[0].NotAfter
	}
	if t.Secure || t.Host == asciiName(domain) {
		if keys, err := s.cfg.Resolver.TLSA(ctx, t.Host, t.Port); err == nil {
			seen.Keys = len(keys)
		}
	}
	c.end(nil)
	c.finish()
	return seen
}

// String is what is seen, in words.
func (s Seen) String() string {
	kind := "STARTTLS"
	if s.Target.Direct {
		kind = "direct TLS"
	}
	out := []string{s.Target.Address() + " (" + kind + ")"}
	switch {
	case s.Error != nil:
		out = append(out, s.Error.Error())
	case s.Proof == NoProof:
		out = append(out, s.Doubt.Error())
	default:
		out = append(out, "proved by "+string(s.Proof)+", certificate for "+s.Names+" until "+s.Until.Format(time.DateOnly))
	}
	if s.Keys > 0 {
		out = append(out, "keys in DNSSEC (DANE)")
	}
	return strings.Join(out, ": ")
}
