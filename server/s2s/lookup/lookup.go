// Package lookup finds out where the server of a domain is: which hosts and
// ports its SRV records name, with TLS from the first byte or started inside the
// stream (RFC 6120 3.2, XEP-0368), which addresses those have, and which keys
// DNS vouches for (DANE, RFC 7673).
//
// A Resolver asks a DNS server, the system's or one that it is told of. It
// doesn't validate DNSSEC: an answer counts as secure if a server on this very
// machine says that it has validated it. Addresses come from /etc/hosts too, as
// for every program. IP addresses and localhost need no DNS and cause none.
package lookup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// Port is where servers listen unless a record says otherwise (RFC 6120 14.8).
const Port = 5269

// ErrNoService tells that there is no such domain, or that it says that it has
// no XMPP server: to try again soon is of no use.
var ErrNoService = errors.New("lookup: no XMPP server")

// Target is one place where a domain's server may be reached.
type Target struct {
	Host     string // a name without final dot, or an IP address
	Port     uint16
	Direct   bool // TLS from the first byte (XEP-0368)
	Secure   bool // by a validated answer: Host may stand for the domain (RFC 7712 5)
	Priority uint16
	Weight   uint16
}

// Address is the target as host:port.
func (t Target) Address() string { return net.JoinHostPort(t.Host, fmt.Sprint(t.Port)) }

// Resolver looks names up. Its methods may be called concurrently.
type Resolver struct {
	servers []string // host:port, in the order in which they are asked
	hosts   net.Resolver
	// order chooses among n, at random.
	order func(n int) int
}

// Times of a look-up.
const (
	answerTime = 5 * time.Second // of one server, for one question
	rounds     = 2               // through all servers
)

// System asks the servers of the system's configuration.
func System() *Resolver {
	r := &Resolver{order: rand.IntN, hosts: net.Resolver{PreferGo: true}}
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(conf.Servers) == 0 {
		r.servers = []string{"127.0.0.1:53", "[::1]:53"}
		return r
	}
	for _, s := range conf.Servers {
		r.servers = append(r.servers, net.JoinHostPort(s, conf.Port))
	}
	return r
}

// New asks one server, as host:port.
func New(server string) *Resolver {
	r := &Resolver{order: rand.IntN, servers: []string{server}}
	r.hosts = net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
	return r
}

// Targets are the places to try for a domain, in order. Without SRV records the
// domain's own addresses are (RFC 6120 3.2.2). The error is ErrNoService where a
// domain says that there is none.
func (r *Resolver) Targets(ctx context.Context, domain string) ([]Target, error) {
	if literal(domain) || local(domain) {
		return []Target{{Host: strings.Trim(domain, "[]"), Port: Port}}, nil
	}
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no name of DNS: %v", ErrNoService, domain, err)
	}
	var all []Target
	var found, declined bool
	for _, kind := range []struct {
		label  string
		direct bool
	}{{"_xmpps-server._tcp.", true}, {"_xmpp-server._tcp.", false}} {
		records, secure, err := r.ask(ctx, kind.label+name, dns.TypeSRV)
		if err != nil {
			return nil, err
		}
		for _, rr := range records {
			srv, ok := rr.(*dns.SRV)
			if !ok {
				continue // an alias on the way
			}
			found = true
			if srv.Target == "." { // RFC 2782: decidedly not available
				declined = true
				continue
			}
			all = append(all, Target{Host: strings.ToLower(strings.TrimSuffix(srv.Target, ".")), Port: srv.Port, Direct: kind.direct,
				Secure: secure, Priority: srv.Priority, Weight: srv.Weight})
		}
	}
	switch {
	case !found:
		return []Target{{Host: name, Port: Port}}, nil
	case len(all) == 0 && declined:
		return nil, fmt.Errorf("%w: %s says that it has none", ErrNoService, domain)
	}
	r.sort(all)
	return all[:min(len(all), maxTargets)], nil
}

// maxTargets is how many places are tried: what a domain may make others do is
// bounded.
const maxTargets = 16

// sort puts targets into the order in which they are tried: by priority, and
// within one at random by weight (RFC 2782), the records of both kinds together
// (XEP-0368 3).
func (r *Resolver) sort(all []Target) {
	slices.SortStableFunc(all, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight))
	})
	for from := 0; from < len(all); {
		to, sum := from, 0
		for to < len(all) && all[to].Priority == all[from].Priority {
			sum += int(all[to].Weight)
			to++
		}
		for ; from < to; from++ {
			at, pick := from, r.order(sum+1)
			for at < to-1 && int(all[at].Weight) < pick {
				pick -= int(all[at].Weight)
				at++
			}
			chosen := all[at]
			copy(all[from+1:at+1], all[from:at])
			all[from] = chosen
			sum -= int(chosen.Weight)
		}
	}
}

// Addresses are a target's addresses, those of both families taking turns,
// IPv6 first (RFC 8305 4).
func (r *Resolver) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if local(host) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, nil
	}
	found, err := r.hosts.LookupNetIP(ctx, "ip", host+".")
	if err != nil {
		if no, ok := errors.AsType[*net.DNSError](err); ok && no.IsNotFound {
			return nil, fmt.Errorf("%w: %s has no address", ErrNoService, host)
		}
		return nil, fmt.Errorf("lookup: %w", err)
	}
	var six, four, all []netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap(); ip.Is4() {
			four = append(four, ip)
		} else {
			six = append(six, ip)
		}
	}
	for i := range max(len(six), len(four)) {
		if i < len(six) {
			all = append(all, six[i])
		}
		if i < len(four) {
			all = append(all, four[i])
		}
	}
	return all[:min(len(all), maxTargets)], nil
}

// ask puts a question to the servers, one after the other, until one answers.
// That there is no such record is an answer.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) (records []dns.RR, secure bool, err error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(1232, false)
	q.AuthenticatedData = true // RFC 6840 5.7: we want to know
	err = errors.New("no DNS server is known")
	for i := range rounds * len(r.servers) {
		server := r.servers[i%len(r.servers)]
		var m *dns.Msg
		if m, err = r.exchange(ctx, q, server); err != nil {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			return m.Answer, m.AuthenticatedData && loopback(server), nil
		}
		err = fmt.Errorf("the DNS server %s answers %s", server, dns.RcodeToString[m.Rcode])
	}
	return nil, false, fmt.Errorf("lookup: %s: %w", name, err)
}

func (r *Resolver) exchange(ctx context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	c := dns.Client{Timeout: answerTime}
	m, _, err := c.ExchangeContext(ctx, q, server)
	if err == nil && m.Truncated {
		c.Net = "tcp"
		m, _, err = c.ExchangeContext(ctx, q, server)
	}
	if err == nil && (len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name)) {
		err = fmt.Errorf("the DNS server %s answers another question", server)
	}
	return m, err
}

// loopback reports whether a server is on this machine: only then nobody on the
// way can have changed its answer (RFC 7673 10).
func loopback(server string) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func literal(domain string) bool {
	_, err := netip.ParseAddr(strings.Trim(domain, "[]"))
	return err == nil
}

// local: names that mean this machine and aren't looked up (RFC 6761 6.3).
func local(domain string) bool {
	return domain == "localhost" || strings.HasSuffix(domain, ".localhost")
}

// TLSA is a key or certificate that DNS vouches for (RFC 6698 2.1).
type TLSA = dns.TLSA

// Validates reports whether any answer can count as secure.
func (r *Resolver) Validates() bool { return slices.ContainsFunc(r.servers, loopback) }

// TLSA are the records for a host's port that can be used, in a validated answer; none
// if there is no such answer, or none for the host's addresses. The error tells that it
// can't be known whether there are any, and then the host isn't to be used (RFC 7673
// 3.3).
func (r *Resolver) TLSA(ctx context.Context, host string, port uint16) ([]*TLSA, error) {
	if literal(host) || local(host) || !r.Validates() {
		return nil, nil
	}
	// RFC 7673 3.2: where addresses aren't validated, keys aren't asked for. Servers of
	// such zones often answer questions for them with an error.
	if !r.validated(ctx, host, dns.TypeA) && !r.validated(ctx, host, dns.TypeAAAA) {
		return nil, nil
	}
	records, secure, err := r.ask(ctx, fmt.Sprintf("_%d._tcp.%s", port, host), dns.TypeTLSA)
	if err != nil || !secure {
		return nil, err
	}
	var list []*TLSA
	for _, rr := range records {
		if one, ok := rr.(*dns.TLSA); ok && usable(one) && len(list) < maxTargets {
			list = append(list, one)
		}
	}
	return list, nil
}

// validated reports whether there is a validated answer with such records.
func (r *Resolver) validated(ctx context.Context, host string, kind uint16) bool {
	records, secure, err := r.ask(ctx, host, kind)
	return err == nil && secure && len(records) > 0
}

// usable reports whether a record says something that is understood here (RFC 6698 4.1):
// others are as if they weren't there.
func usable(r *TLSA) bool {
	size := len(r.Certificate) / 2 // in hex
	return r.Usage <= 3 && r.Selector <= 1 && (r.MatchingType == 0 && size > 0 || r.MatchingType == 1 && size == 32 || r.MatchingType == 2 && size == 64)
}
