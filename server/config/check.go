package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"carillon.im/jid"
)

// maxDomains bounds the domains of one server, all of which stand in one self-signed certificate.
const maxDomains = 100

// Check reports everything that is wrong with the values of c, all at once, each with its key; and it puts the domains into the form in which
// addresses are compared (RFC 7622 3.2).
func (c *Config) Check() error {
	p := &problems{}
	if c.Data == "" {
		p.add("data", "no folder given")
	}
	c.checkDomains(p)
	c.checkAdmins(p)
	c.checkFederation(p)
	c.checkAddresses(p)
	c.checkCertificates(p)
	c.checkComponents(p)
	c.checkWeb(p)
	c.checkServices(p)
	p.oneOf("log_level", c.LogLevel, "error", "warn", "info", "debug", "trace")
	p.oneOf("log_format", c.LogFormat, "text", "json")
	p.oneOf("invites.who", c.Invites.Who, "admins", "users", "operator", "off")
	p.between("invites.days", c.Invites.Days, 1, 365)
	p.oneOf("archive.default", c.Archive.Default, "always", "roster", "never")
	// Fewer rounds than RFC 5802 5.1 asks for protect nobody; many more let anybody who logs in keep his client busy for minutes.
	p.between("auth.iterations", c.Auth.Iterations, 4096, 1<<20)
	p.between("auth.token_days", c.Auth.TokenDays, 1, 3650)
	p.between("push.hold_seconds", c.Push.HoldSeconds, 0, 600)
	p.oneOf("push.details", c.Push.Details, "count", "sender", "body")
	p.between("archive.keep_days", c.Archive.KeepDays, 0, 365_000)
	c.checkLimits(p)
	c.checkRooms(p)
	p.between("storage.commit_units", c.Storage.CommitUnits, 0, 1<<20)
	p.between("storage.commit_delay_microseconds", c.Storage.CommitDelayMicroseconds, -1, 1_000_000)
	p.between("storage.queue_units", c.Storage.QueueUnits, 0, math.MaxInt32)
	p.between("storage.queue_bytes", c.Storage.QueueBytes, 0, math.MaxInt)
	p.between("storage.readers", c.Storage.Readers, 0, 256)
	return errors.Join(p.errs...)
}

func (c *Config) checkLimits(p *problems) {
	l := &c.Limits
	// RFC 6120 13.12: no limit below 10,000 bytes.
	p.between("limits.stanza_bytes", l.StanzaBytes, 10_000, 256<<20)
	p.between("limits.stanza_bytes_unauthenticated", l.StanzaBytesUnauthenticated, 10_000, 1<<20)
	p.between("limits.depth", l.Depth, 8, 10_000)
	p.between("limits.attributes", l.Attributes, 8, 10_000)
	p.between("limits.elements", l.Elements, 100, 1<<24)
	p.between("limits.unauthenticated_seconds", l.UnauthenticatedSeconds, 1, 3600)
	p.between("limits.unauthenticated_connections", l.UnauthenticatedConnections, 1, 1<<20)
	p.between("limits.unauthenticated_per_address", l.UnauthenticatedPerAddress, 0, math.MaxInt32)
	p.between("limits.connections_per_address", l.ConnectionsPerAddress, 0, math.MaxInt32)
	p.between("limits.sessions_per_account", l.SessionsPerAccount, 1, 10_000)
	p.between("limits.bytes_per_second", l.BytesPerSecond, 0, math.MaxInt32)
	p.between("limits.idle_seconds", l.IdleSeconds, 0, 86400)
	p.between("limits.resume_seconds", l.ResumeSeconds, 0, 7*86400)
	p.between("limits.offline_messages", l.OfflineMessages, 0, math.MaxInt32)
	p.between("limits.roster_items", l.RosterItems, 1, math.MaxInt32)
	p.between("limits.block_items", l.BlockItems, 0, math.MaxInt32)
	p.between("limits.login_failures_per_address", l.LoginFailuresPerAddress, 0, math.MaxInt32)
	p.between("limits.login_failures_per_account", l.LoginFailuresPerAccount, 0, math.MaxInt32)
	p.between("limits.registrations_per_address", l.RegistrationsPerAddress, 0, math.MaxInt32)
	p.between("limits.mam_page_max", l.MAMPageMax, 1, 10_000)
	// The longest stanza must fit, with what the server adds to it, or it could never be delivered.
	p.between("limits.outbox_bytes", l.OutboxBytes, max(64<<10, l.StanzaBytes+4096), math.MaxInt32)
}

// checkAdmins puts them into the form in which addresses are compared.
func (c *Config) checkAdmins(p *problems) {
	admins := make([]string, 0, len(c.Admins))
	for _, a := range c.Admins {
		j, err := jid.Parse(a)
		switch {
		case err != nil || j.Local() == "" || !j.IsBare():
			p.add("admins", "%q is no account: wanted name@domain", a)
		case !slices.Contains(c.Domains, j.Domain()):
			p.add("admins", "%s is no account of this server, whose domains are %s", j, strings.Join(c.Domains, ", "))
		}
		admins = append(admins, j.String())
	}
	c.Admins = admins
}

func (c *Config) checkDomains(p *problems) {
	switch n := len(c.Domains); {
	case n == 0:
		p.add("domains", "no domain given")
	case n > maxDomains:
		p.add("domains", "%d domains, %d are the limit", n, maxDomains)
	}
	seen := make(map[string]bool, len(c.Domains))
	for i, name := range c.Domains {
		prepared, err := domain(name)
		switch {
		case err != nil:
			p.add("domains", "%q is no domain: %v", name, err)
			continue
		case seen[prepared]:
			p.add("domains", "%q stands there twice", name)
		}
		seen[prepared] = true
		c.Domains[i] = prepared
	}
}

// RoomDomains are the domains of rooms, none where there are no rooms. Check has seen to their form.
func (c *Config) RoomDomains() []string {
	if !c.Rooms.Enabled {
		return nil
	}
	list := make([]string, 0, len(c.Domains))
	for _, d := range c.Domains {
		if prepared, err := domain(c.Rooms.Subdomain + "." + d); err == nil {
			list = append(list, prepared)
		}
	}
	return list
}

// Shown are the domains that certificates are shown for, and the files of those that
// have their own: the domains of rooms are among them where other servers may come to
// them, with the files of the domain that they belong to unless they have their own.
func (c *Config) Shown() (domains []string, own map[string]Certificate) {
	own = maps.Clone(c.Certificates)
	if off := func(addr string) bool { return addr == Off || addr == Auto }; off(c.S2S) && off(c.S2STLS) {
		return c.Domains, own
	}
	rooms := c.RoomDomains()
	for i, d := range rooms {
		_, has := own[d]
		if parent, its := c.Certificates[c.Domains[i]]; its && !has {
			own[d] = parent
		}
	}
	return slices.Concat(c.Domains, rooms), own
}

// checkRooms needs prepared domains and components.
func (c *Config) checkRooms(p *problems) {
	r := &c.Rooms
	p.oneOf("rooms.create", r.Create, "local", "everyone")
	p.between("rooms.max", r.Max, 1, 10_000_000)
	p.between("rooms.per_user", r.PerUser, 1, 10_000_000)
	p.between("rooms.occupants", r.Occupants, 1, 100_000)
	p.between("rooms.affiliations", r.Affiliations, 1, 1_000_000)
	p.between("rooms.history", r.History, 0, 100)
	p.between("rooms.user_per_second", r.UserPerSecond, 0, 1_000_000)
	p.between("rooms.room_per_second", r.RoomPerSecond, 0, 1_000_000)
	for _, d := range c.Domains {
		name := r.Subdomain + "." + d
		switch prepared, err := domain(name); {
		case !r.Enabled:
		case err != nil:
			p.add("rooms.subdomain", "%q is no domain: %v", name, err)
		case slices.Contains(c.Domains, prepared):
			p.add("rooms.subdomain", "%q is among domains: it can't be both for accounts and for rooms", name)
		default:
			if _, taken := c.Components[prepared]; taken {
				p.add("rooms.subdomain", "%q is a component: choose another subdomain, or rooms.enabled = false", name)
			}
		}
	}
}

// checkFederation also decides what "auto" means.
func (c *Config) checkFederation(p *problems) {
	if c.S2S == Auto {
		if c.S2S = Off; slices.ContainsFunc(c.Domains, Public) {
			c.S2S = ":5269"
		}
	}
	switch {
	case c.S2STLS == Auto && c.S2S == Off:
		c.S2STLS = Off
	case c.S2STLS == Auto:
		c.S2STLS = ":5270"
	case c.S2STLS != Off && c.S2S == Off:
		p.add("s2s_tls", "s2s is off, and with it all exchange with other servers")
	}
	f := &c.Federation
	policies := []string{"certificate", "pkix", "dane", "dialback", "deny"}
	p.oneOf("federation.policy", f.Policy, policies...)
	if f.Resolver != "" {
		if host, port, err := splitAddress(f.Resolver); err != nil || port == "0" {
			p.add("federation.resolver", "%q is no address: wanted host:port", f.Resolver)
		} else if _, err := netip.ParseAddr(host); err != nil {
			p.add("federation.resolver", "%q is no IP address: it would have to be looked up", host)
		}
	}
	p.between("federation.give_up_seconds", f.GiveUpSeconds, 10, 30*86400)
	p.between("federation.idle_seconds", f.IdleSeconds, 10, 7*86400)
	p.between("federation.queue_bytes", f.QueueBytes, 64<<10, math.MaxInt32)
	p.between("federation.bytes_per_second", f.BytesPerSecond, 0, math.MaxInt32)
	p.between("federation.unauthenticated_connections", f.UnauthenticatedConnections, 1, 1<<20)
	p.between("federation.connections", f.Connections, 1, 1<<20)
	prepared := make(map[string]Peer, len(c.Peers))
	for name, peer := range c.Peers {
		key := "peers." + strconv.Quote(name)
		d, err := domain(name)
		switch _, twice := prepared[d]; {
		case err != nil:
			p.add(key, "no domain: %v", err)
		case twice:
			p.add(key, "%q stands there twice", d)
		case slices.Contains(c.Domains, d):
			p.add(key, "%q is this server's own", d)
		}
		p.oneOf(key+".policy", peer.Policy, policies...)
		prepared[d] = peer
	}
	if len(c.Peers) > 0 {
		c.Peers = prepared
	}
}

// Public reports whether others may be expected to find a domain in the public DNS.
func Public(domain string) bool {
	if _, err := netip.ParseAddr(strings.Trim(domain, "[]")); err == nil {
		return false
	}
	labels := strings.Split(domain, ".")
	switch labels[len(labels)-1] { // RFC 6761, RFC 6762
	case "localhost", "test", "invalid", "local", "internal", "example":
		return false
	}
	return len(labels) > 1
}

func (c *Config) checkCertificates(p *problems) {
	if (c.Cert == "") != (c.Key == "") {
		p.add("cert", "cert and key need each other: give both, or neither for a self-signed certificate")
	}
	prepared := make(map[string]Certificate, len(c.Certificates))
	for name, pair := range c.Certificates {
		key := "certificates." + strconv.Quote(name)
		d, err := domain(name)
		switch {
		case err != nil:
			p.add(key, "no domain: %v", err)
		case !slices.Contains(c.Domains, d) && !slices.Contains(c.RoomDomains(), d):
			p.add(key, "%q is not among domains, and is none of rooms", name)
		case pair.Cert == "" || pair.Key == "":
			p.add(key, "needs both cert and key")
		}
		prepared[d] = pair
	}
	if len(c.Certificates) > 0 {
		c.Certificates = prepared
	}
}

func (c *Config) checkComponents(p *problems) {
	prepared := make(map[string]Component, len(c.Components))
	for name, component := range c.Components {
		key := "components." + strconv.Quote(name)
		d, err := domain(name)
		switch _, twice := prepared[d]; {
		case err != nil:
			p.add(key, "no domain: %v", err)
		case twice:
			p.add(key, "%q stands there twice", d)
		case slices.Contains(c.Domains, d):
			p.add(key, "%q is among domains, where accounts live", d)
		case (component.Secret == "") == (component.SecretFile == ""):
			p.add(key, "needs either secret or secret_file")
		}
		p.between(key+".bytes_per_second", component.BytesPerSecond, 0, math.MaxInt32)
		prepared[d] = component
	}
	switch {
	case len(c.Components) == 0:
		if c.Component != Off {
			p.add("component", "nobody may connect there: no table [components.\"its.domain\"]")
		}
		return
	case c.Component == Off:
		p.add("component", "components can't connect: give an address, as in \"127.0.0.1:5347\"")
	}
	c.Components = prepared
}

func (c *Config) checkAddresses(p *problems) {
	users := make(map[string]string, 4)
	for _, l := range c.Listeners() {
		host, port, err := splitAddress(l.Address)
		switch {
		case l.Address == Off:
		case err != nil:
			p.add(l.Key, "%q: %v", l.Address, err)
		case port == "0": // any free port: never the same twice
		case users[host+" "+port] != "":
			p.add(l.Key, "%q is the address of %s too", l.Address, users[host+" "+port])
		default:
			users[host+" "+port] = l.Key
		}
	}
}

// Listener is one address that the configuration asks to listen on.
type Listener struct {
	Key     string // of the configuration
	Address string // host:port or Off
	What    string // for people
}

// Listeners lists all listeners, also those that are off.
func (c *Config) Listeners() []Listener {
	return []Listener{
		{"c2s", c.C2S, "clients, STARTTLS"},
		{"c2s_tls", c.C2STLS, "clients, direct TLS"},
		{"s2s", c.S2S, "other servers, STARTTLS"},
		{"s2s_tls", c.S2STLS, "other servers, direct TLS"},
		{"http", c.HTTP, "health and metrics, http"},
		{"https", c.HTTPS, "browsers and files, https"},
		{"component", c.Component, "components"},
	}
}

// domain returns the prepared form of a domain.
func domain(name string) (string, error) {
	j, err := jid.Parse(name)
	if err != nil {
		return "", err
	}
	if !j.IsDomain() {
		return "", errors.New("it has more than a domain: accounts are made with \"carillon user add\"")
	}
	return j.Domain(), nil
}

// splitAddress takes "host:port" apart; an IPv6 address stands in brackets.
func splitAddress(address string) (host, port string, err error) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "", "", errors.New("no port: wanted host:port, :port or off")
	}
	host, port = address[:i], address[i+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		return "", "", fmt.Errorf("%q is no port: wanted a number up to 65535", port)
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.ContainsAny(host, ":[]") {
		return "", "", errors.New("an IPv6 address stands in brackets: [::1]:5222")
	}
	return host, port, nil
}

// problems collects what Check finds.
type problems struct{ errs []error }

func (p *problems) add(key, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (p *problems) between(key string, n, low, high int) {
	switch {
	case n < low:
		p.add(key, "%d is too small: at least %d", n, low)
	case n > high:
		p.add(key, "%d is too big: at most %d", n, high)
	}
}

func (p *problems) oneOf(key, value string, choices ...string) {
	if !slices.Contains(choices, value) {
		p.add(key, "%q is none of %s", value, strings.Join(choices, ", "))
	}
}
