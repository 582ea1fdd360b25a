package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// ErrNoService is the failure to connect to a domain that says in DNS that it
// has no XMPP service for clients (RFC 6120 3.2.1).
var ErrNoService = errors.New("client: the domain offers no XMPP service")

// maxTargets bounds the addresses that DNS or host-meta may make one attempt try.
const maxTargets = 16

// transport is a connection, as net.Conn is one, whatever frames the stream.
type transport interface {
	io.ReadWriteCloser
}

// dialed is a connection on which nothing was said.
type dialed struct {
	conn    transport
	base    io.Closer            // what is under conn, for who must not wait
	raw     net.Conn             // under STARTTLS: conn, to be secured; else nil
	tls     *tls.ConnectionState // nil: not secured, or not to be seen
	secured bool
	address Address
}

// targets are the addresses for one attempt, in order (RFC 6120 3.2).
func (c *Client) targets(ctx context.Context) ([]Address, error) {
	if len(c.cfg.Addresses) > 0 {
		return c.cfg.Addresses, nil
	}
	if c.cfg.WebSocket == WebSocketOnly {
		return c.hostMeta(ctx)
	}
	domain, err := c.asciiDomain()
	if err != nil {
		return nil, err
	}
	if net.ParseIP(strings.Trim(domain, "[]")) != nil {
		return fallback(strings.Trim(domain, "[]")), nil
	}
	return c.lookup(ctx, domain)
}

func (c *Client) asciiDomain() (string, error) {
	domain, err := idna.Lookup.ToASCII(c.cfg.Account.Domain())
	if err != nil {
		// Not a name of DNS: an IP literal, or a name that only the dialer knows.
		return c.cfg.Account.Domain(), nil
	}
	return domain, nil
}

// fallback is where a domain without SRV records may be (RFC 6120 3.2.2); the
// port for direct TLS is tried first.
func fallback(host string) []Address {
	return []Address{{Host: net.JoinHostPort(host, "5223"), TLS: true}, {Host: net.JoinHostPort(host, "5222")}}
}

// lookup asks for both kinds of SRV records and mixes them (XEP-0368 3).
func (c *Client) lookup(ctx context.Context, domain string) ([]Address, error) {
	type answer struct {
		records []*net.SRV
		err     error
	}
	ask := func(service string) <-chan answer {
		ch := make(chan answer, 1)
		c.wg.Go(func() {
			_, records, err := c.cfg.Resolver.LookupSRV(ctx, service, "tcp", domain)
			ch <- answer{records, err}
		})
		return ch
	}
	directAsked, plainAsked := ask("xmpps-client"), ask("xmpp-client")
	direct, plain := <-directAsked, <-plainAsked
	if len(direct.records)+len(plain.records) == 0 {
		// No records and no answer are the same to us: the name may be known to
		// others than DNS, and if not, dialing says so.
		return fallback(domain), nil
	}
	rnd, err := c.shuffler()
	if err != nil {
		return nil, err
	}
	list := order(direct.records, plain.records, rnd)
	if len(list) == 0 {
		return nil, ErrNoService
	}
	return list, nil
}

// shuffler is a source for weights and jitter, seeded from Config.Rand.
func (c *Client) shuffler() (*mathrand.Rand, error) {
	var seed [32]byte
	if err := c.random(seed[:]); err != nil {
		return nil, err
	}
	return mathrand.New(mathrand.NewChaCha8(seed)), nil
}

// order is the order of RFC 2782 over both kinds; of one priority, those with
// direct TLS come first, as they cost a round trip less (XEP-0368 3, rule 1).
// Targets that say "not here" are left out.
func order(direct, plain []*net.SRV, rnd *mathrand.Rand) []Address {
	type target struct {
		*net.SRV
		tls bool
	}
	var all []target
	for _, r := range direct {
		all = append(all, target{r, true})
	}
	for _, r := range plain {
		all = append(all, target{r, false})
	}
	slices.SortStableFunc(all, func(a, b target) int {
		if a.Priority != b.Priority {
			return int(a.Priority) - int(b.Priority)
		}
		return rank(a.tls) - rank(b.tls)
	})
	var list []Address
	for len(all) > 0 {
		// Those of the same priority and kind, by weight.
		n := 1
		for n < len(all) && all[n].Priority == all[0].Priority && all[n].tls == all[0].tls {
			n++
		}
		group := all[:n]
		all = all[n:]
		for len(group) > 0 {
			i := pick(rnd, len(group), func(i int) int { return int(group[i].Weight) })
			t := group[i]
			group[i] = group[0]
			group = group[1:]
			host := strings.TrimSuffix(t.Target, ".")
			if host != "" && len(list) < maxTargets {
				list = append(list, Address{Host: net.JoinHostPort(host, strconv.Itoa(int(t.Port))), TLS: t.tls})
			}
		}
	}
	return list
}

func rank(tls bool) int {
	if tls {
		return 0
	}
	return 1
}

// pick chooses one of n by weight; what weighs nothing is still chosen at times
// (RFC 2782).
func pick(rnd *mathrand.Rand, n int, weight func(int) int) int {
	sum := 0
	for i := range n {
		sum += weight(i)*100 + 1
	}
	at := rnd.IntN(sum)
	for i := range n {
		if at -= weight(i)*100 + 1; at < 0 {
			return i
		}
	}
	return n - 1
}

// dial connects to the first address that answers, and secures the connection
// if the address is for direct TLS.
func (c *Client) dial(ctx context.Context) (*dialed, error) {
	targets, err := c.targets(ctx)
	if err != nil {
		return nil, err
	}
	if next := c.redirect; next.Host != "" {
		targets = append([]Address{next}, targets...)
		c.redirect = Address{}
	}
	d, err := c.dialAny(ctx, targets)
	if err != nil && len(c.cfg.Addresses) == 0 && c.cfg.WebSocket == WebSocketFallback && ctx.Err() == nil {
		if targets, metaErr := c.hostMeta(ctx); metaErr == nil {
			var wsErr error
			if d, wsErr = c.dialAny(ctx, targets); wsErr == nil {
				return d, nil
			}
			err = errors.Join(err, wsErr)
		} else {
			err = errors.Join(err, metaErr)
		}
	}
	return d, err
}

func (c *Client) dialAny(ctx context.Context, targets []Address) (*dialed, error) {
	var errs []error
	for _, t := range targets {
		d, err := c.dialOne(ctx, t)
		if err == nil {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", t, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, ErrNoService
	}
	return nil, fmt.Errorf("client: connect: %w", errors.Join(errs...))
}

func (c *Client) dialOne(ctx context.Context, t Address) (*dialed, error) {
	// An address that doesn't answer must not use up the time of the others.
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout/2)
	defer cancel()
	if t.URL != "" {
		return c.dialWebSocket(ctx, t)
	}
	conn, err := c.cfg.Dialer.DialContext(ctx, "tcp", t.Host)
	if err != nil {
		return nil, err
	}
	d := &dialed{conn: conn, base: conn, raw: conn, address: t}
	if t.TLS {
		if err := c.secure(ctx, d); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return d, nil
}

// secure does the TLS handshake on d.raw. Whatever DNS said, the certificate has
// to be the one of the account's domain (RFC 6120 13.7.2.1, RFC 6125 6, RFC 7590
// 3.4), and its name is told to the server (XEP-0368 3, rule 2).
func (c *Client) secure(ctx context.Context, d *dialed) error {
	domain, err := c.asciiDomain()
	if err != nil {
		return err
	}
	cfg := &tls.Config{
		ServerName: strings.Trim(domain, "[]"),
		RootCAs:    c.cfg.RootCAs,
		MinVersion: tls.VersionTLS12, // RFC 9325 3.1.1
		Time:       c.cfg.Clock.Now,
		// One account, one cache: another's tickets would join their connections.
		ClientSessionCache: c.tickets,
	}
	if d.address.TLS {
		cfg.NextProtos = []string{"xmpp-client"} // XEP-0368 3, rule 3
	}
	conn := tls.Client(d.raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	state := conn.ConnectionState()
	d.conn, d.raw, d.tls, d.secured = conn, nil, &state, true
	return nil
}

// random fills b.
func (c *Client) random(b []byte) error {
	c.randMu.Lock()
	defer c.randMu.Unlock()
	if _, err := io.ReadFull(c.cfg.Rand, b); err != nil {
		return fmt.Errorf("client: randomness: %w", err)
	}
	return nil
}

// below is a random number under n, for jitter.
func (c *Client) below(n int64) int64 {
	var b [8]byte
	if n <= 0 || c.random(b[:]) != nil {
		return 0
	}
	v := new(big.Int).SetBytes(b[:])
	return v.Mod(v, big.NewInt(n)).Int64()
}
