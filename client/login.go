package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Errors of logging in that another attempt would meet again.
var (
	// ErrNoTLS: the server offers no encryption (RFC 7590 3.1), or somebody in
	// between took it away.
	ErrNoTLS = errors.New("client: the server offers no TLS")
	// ErrWeaker: the server, or somebody in between, offers only weaker ways to
	// log in than it has before.
	ErrWeaker = errors.New("client: the server offers weaker ways to log in than before")
	// ErrNoCredentials: there is neither a password nor a usable token.
	ErrNoCredentials = errors.New("client: no password, and no token that the server takes")
	// ErrTasks: the server wants more for a login than was asked for, or than this
	// library can do (XEP-0388 2.6.3).
	ErrTasks = errors.New("client: the server asks for steps of login that are not supported")
)

// AuthError is the server's no to a login (RFC 6120 6.5).
type AuthError struct {
	Condition sasl.Condition
	Text      string // of the server; may be empty
}

// Error makes *AuthError a Go error.
func (e *AuthError) Error() string {
	return "client: login refused: " + string(e.Condition) + text(e.Text)
}

// maxLoginEvents bounds what a server may say before the client is logged in.
const maxLoginEvents = 64

// login is the way from a connection to a session.
type login struct {
	c     *Client
	link  *link
	state *State
	old   *session // to be resumed; nil: none

	offer         stream.Offered
	bindings      []sasl.ChannelBinding
	cfg           *sasl.ClientConfig // of the exchange, if it is SCRAM's or PLAIN's
	x             sasl.Client
	proved        bool // x has nothing left to check
	token         bool // the exchange is with the token
	refusedHashes int  // of scramHashes, how many the server has no keys for
	asked         ask

	events int
	result *Connected
	full   jid.JID
	sm     *xep.SMEnabled
	h      uint32 // Resumed
	failed *xep.SMFailed
	csi    bool
	early  []stream.Event // after binding, before serve
}

// ask is what an <authenticate/> asked for.
type ask struct {
	resume  bool
	bind    *xep.Bind2
	profile Profile
	// upgrades are the tasks that were asked for and not done yet (XEP-0480).
	upgrades []string
}

// run logs in. What the server says behind the login stays in the link.
func (g *login) run() error {
	g.result = &Connected{Address: g.link.address}
	if !g.link.secured {
		if err := g.startTLS(); err != nil {
			return err
		}
	}
	g.bindings = g.link.bindings()
	out := g.link.mach.Open(nil)
	if cached := g.state.Offer; cached != nil && cached.Version != "" && len(cached.Mechanisms) > 0 {
		g.offer = *cached
		first, err := g.begin(cached.Version)
		if err == nil {
			out, g.result.Pipelined = append(out, first...), true
		}
	}
	features, err := g.open(out)
	if err != nil {
		return err
	}
	g.offer = stream.ParseFeatures(features)
	if len(g.offer.Mechanisms) == 0 {
		if g.result.Pipelined {
			return ErrWeaker // SASL2 was there, and can't have gone without a new version
		}
		return g.classic()
	}
	g.result.Extensible = true
	return g.extensible()
}

// write writes out while the login has the link for itself, and begins a round
// trip.
func (g *login) write(out []byte) error {
	if g.link.secured {
		g.result.RoundTrips++
	}
	if _, err := g.link.conn.Write(out); err != nil {
		return fmt.Errorf("client: connection lost: %w", err)
	}
	return nil
}

func (g *login) next() (stream.Event, error) {
	if g.events++; g.events > maxLoginEvents {
		return stream.Event{}, violation("too much before the login is done")
	}
	return g.link.next()
}

// expect returns the next event, which has to be of a kind.
func (g *login) expect(kind stream.Kind) (stream.Event, error) {
	ev, err := g.next()
	if err == nil && ev.Kind != kind {
		err = violation("something else was due")
	}
	return ev, err
}

// open writes out, which opens the stream, and returns the features.
func (g *login) open(out []byte) (xmltree.Element, error) {
	if err := g.write(out); err != nil {
		return xmltree.Element{}, err
	}
	if _, err := g.expect(stream.Opened); err != nil {
		return xmltree.Element{}, err
	}
	ev, err := g.expect(stream.Features)
	return ev.Element, err
}

// startTLS secures the connection. Nothing that was said before counts (RFC 6120
// 5.4.3.3).
func (g *login) startTLS() error {
	features, err := g.open(g.link.mach.Open(nil))
	if err != nil {
		return err
	}
	if offer := stream.ParseFeatures(features); !offer.StartTLS || g.link.raw == nil {
		return ErrNoTLS
	}
	if err := g.write(g.link.mach.StartTLS(nil)); err != nil {
		return err
	}
	if _, err := g.expect(stream.StartTLS); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(g.c.ctx, g.c.cfg.ConnectTimeout)
	defer cancel()
	if err := g.c.secure(ctx, g.link.dialed); err != nil {
		return err
	}
	g.link.mach.Secured()
	return nil
}

// usable returns the mechanism of the token that can be used, "" for none.
func (g *login) usable() string {
	s := g.state
	if s.Token == "" || !g.c.cfg.Clock.Now().Before(s.TokenExpiry) ||
		!slices.Contains(g.offer.Tokens, s.TokenMechanism) || !slices.Contains(sasl.TokenMechanisms(g.bindings), s.TokenMechanism) {
		return ""
	}
	return s.TokenMechanism
}

// scram prepares an exchange with the password and returns its mechanism.
func (g *login) scram(mechanisms []string, extensible bool) (string, error) {
	if g.c.secret() == "" {
		return "", ErrNoCredentials
	}
	g.cfg = &sasl.ClientConfig{
		Username: g.c.cfg.Account.Local(), Password: g.c.secret(), Cache: &g.c.keys, Bindings: g.bindings,
		Advertised: sasl.Advertised{Mechanisms: mechanisms, Bindings: g.offer.Bindings}, Extensible: extensible,
		AllowPlain: g.c.cfg.AllowPlain, Rand: lockedRand{g.c},
	}
	if g.offer.Bindings == nil && !extensible {
		// Servers that don't list what they can bind to (XEP-0440) mostly mean
		// tls-unique, which TLS 1.3 doesn't have, and refuse anything else. Who took
		// the list away is found out by XEP-0474, or by what was offered before.
		g.cfg.Bindings = nil
	}
	choice := *g.cfg
	choice.Advertised.Mechanisms = g.left(mechanisms)
	mechanism, err := choice.Choose()
	if err != nil {
		return "", err
	}
	if strengthOf(mechanism) < g.state.Strength {
		return "", ErrWeaker
	}
	return mechanism, nil
}

func strengthOf(mechanism string) Strength {
	switch mechanism {
	case sasl.Plain:
		return StrengthPlain
	case sasl.ScramSHA1, sasl.ScramSHA256, sasl.ScramSHA512:
		return StrengthScram
	}
	return StrengthBound
}

// exchange begins the exchange of a mechanism and returns the first message.
func (g *login) exchange(mechanism string, cfg *sasl.ClientConfig) (initial []byte, err error) {
	if g.x, err = sasl.NewClient(mechanism, cfg); err != nil {
		return nil, err
	}
	g.result.Mechanism = mechanism
	initial, g.proved, err = g.x.Next(nil)
	return initial, err
}

// respond answers the server's message.
func (g *login) respond(data []byte) error {
	if g.proved {
		return sasl.ErrServerUnproved // the exchange is over for us
	}
	out, done, err := g.x.Next(data)
	if err != nil {
		return err
	}
	g.proved = done
	return g.write(g.link.mach.Respond(nil, out))
}

// succeed checks that the server has proved what the mechanism asks of it.
func (g *login) succeed(data []byte) error {
	if g.proved {
		if len(data) > 0 {
			return sasl.ErrServerUnproved
		}
		return nil
	}
	_, done, err := g.x.Next(data)
	if err == nil && !done {
		err = sasl.ErrServerUnproved
	}
	if err != nil {
		return err
	}
	g.proved = true
	if i := hashOf(g.result.Mechanism); !g.token && i >= 0 {
		g.state.Scram = scramHashes[i].mechanism
	}
	if s := strengthOf(g.result.Mechanism); !g.token && s > g.state.Strength {
		g.state.Strength = s
	}
	return nil
}

// best is the profile to ask for, of those that the server can begin.
func (g *login) best(can func(space string) bool) Profile {
	p := g.c.cfg.Profile
	if p == ProfileBest && !can(xep.NSXMPP2) {
		p = ProfileIMNG
	}
	if p == ProfileIMNG && !can(xep.NSIMNG) {
		p = ProfileCarbons
	}
	if p == ProfileCarbons && !can(xep.NSCarbons) {
		p = ProfileClassic
	}
	return p
}

// resource is the address that was bound, which has to be the account's.
func (g *login) bound(full jid.JID) error {
	if full.Bare() != g.c.cfg.Account || !full.IsFull() {
		return violation("another account's address was bound")
	}
	g.full = full
	return nil
}

// resumed notes that the old session goes on.
func (g *login) resumed(full jid.JID, h uint32) error {
	if g.old == nil || full != g.old.full {
		return violation("a session was resumed that is not ours")
	}
	g.full, g.h, g.result.Resumed = full, h, true
	g.result.Profile = g.old.profile
	return nil
}

// tokenLeft is how much of a token's life must be left for it not to be renewed.
const tokenLeft = 24 * time.Hour

// wantsToken is the mechanism to ask a token for, "" for none (XEP-0484 3.2).
func (g *login) wantsToken() string {
	if g.usable() != "" && g.state.TokenExpiry.Sub(g.c.cfg.Clock.Now()) > tokenLeft {
		return ""
	}
	for _, m := range sasl.TokenMechanisms(g.bindings) {
		if slices.Contains(g.offer.Tokens, m) {
			return m
		}
	}
	return ""
}

// lockedRand is the client's randomness for who reads it elsewhere.
type lockedRand struct{ c *Client }

func (r lockedRand) Read(b []byte) (int, error) {
	if err := r.c.random(b); err != nil {
		return 0, err
	}
	return len(b), nil
}
