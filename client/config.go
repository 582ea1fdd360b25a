package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Config says who a client is and how it gets to its server. Account is
// required, and a Password or a Store that holds a token; every other field has
// a default. It is not changed after Dial, and may be shared by clients.
type Config struct {
	Account  jid.JID // bare
	Password string  // a secret; "" for a client that has a token

	// Resource is the tag of Bind 2 (XEP-0386) and the resource that is asked for
	// where the server doesn't know Bind 2. "" leaves it to the server.
	Resource string

	// Agent names this installation to the account's owner (XEP-0388). An empty
	// ID is made up once and kept in Store.
	Agent xep.UserAgent

	// AllowPlain lets the client give its password away, under TLS, to a server
	// that knows nothing better.
	AllowPlain bool

	// Addresses are tried in their order in place of what DNS says.
	Addresses []Address
	WebSocket WebSocketUse   // what host-meta says is used for
	RootCAs   *x509.CertPool // nil: the system's
	Resolver  Resolver       // nil: net.DefaultResolver
	Dialer    Dialer         // nil: &net.Dialer{}
	HTTP      *http.Client   // for host-meta and WebSocket; nil: one of its own with RootCAs and Dialer

	Profile Profile
	// Sync says where to catch up from at the start of each new session on a
	// server with XMPP 2.0; nil, the function or its result: from where this
	// device stopped, by the server's cursor. It is called by the client's own
	// goroutine, without a lock.
	Sync func() *xep.Sync
	// Rooms says which rooms to enter at the start of each new session on a server
	// with XMPP 2.0, with the login and at most MaxRooms; Connected.Session says what
	// became of each (X2-37). A room that refuses says so with an error of presence.
	// What was missed in a room comes as Archived, ended by Synced with its name; rooms
	// of servers without XMPP 2.0 bring their history. It is called as Sync is.
	Rooms func() []Room
	// Autojoin also enters the rooms whose bookmarks say so (XEP-0402), as Rooms does;
	// Connected.Session names them. AutojoinSync is from where they catch up; nil:
	// nothing.
	Autojoin     bool
	AutojoinSync *xep.Sync
	// Presence is the first one, of type available and without addresses; nil is
	// an empty one. SetPresence replaces it.
	Presence *stanza.Stanza
	// Quiet asks for no roster and sends no presence until SetPresence does.
	Quiet bool

	// Identity, Features and Node are what the client tells about itself
	// (XEP-0030, XEP-0115; MINE-8). What the library answers by itself is added to
	// Features; what the program can, claims for instance, is its own to name
	// (MINE-9). Without Node no capabilities are announced.
	Identity xep.Identity
	Features []string
	Node     string
	// Requests are the namespaces of IQ payloads that the program answers: it
	// gets them as Received and owes each an answer. All others are answered by
	// the library (RFC 6120 8.2.3).
	Requests []string

	// Deliveries asks for a Delivered for each message.
	Deliveries bool

	Store Store // nil: memory, for as long as the client lives

	// MaxEvents and MaxEventBytes bound what was received and not yet taken with
	// Next; at the bound nothing is read from the connection.
	MaxEvents     int // default 1024
	MaxEventBytes int // default 4 MiB
	// MaxUnacked bounds the bytes that wait to be sent or acknowledged; at the
	// bound Send waits.
	MaxUnacked int // default 1 MiB
	// MaxRequests bounds the IQs without an answer; at the bound IQ waits.
	MaxRequests int // default 64
	// Limits bound one element of the server's.
	Limits xmltree.Limits // MaxBytes default 2 MiB, MaxChildren default 131072

	ConnectTimeout time.Duration // of one attempt, from DNS to the session; default 30 s
	RequestTimeout time.Duration // of one IQ whose context has no deadline; default 60 s
	// IdleTimeout is how long nothing may come before the server is asked for a
	// sign of life; without one in ProbeTimeout the connection is given up.
	IdleTimeout  time.Duration // default 4 min
	ProbeTimeout time.Duration // default 20 s
	// RetryMin and RetryMax bound the pause between two attempts to connect.
	RetryMin time.Duration // default 1 s
	RetryMax time.Duration // default 5 min

	Log   *slog.Logger // nil: nothing is logged
	Clock Clock        // nil: the system's
	Rand  io.Reader    // nil: crypto/rand's Reader
}

// MaxRooms bounds the rooms that a session begins with.
const MaxRooms = 50

// Room is a room to enter.
type Room struct {
	JID      jid.JID   // bare
	Nick     string    // prepared (RFC 7622 3.4)
	Password string    // "" for none
	Sync     *xep.Sync // from where to catch up; nil: nothing
}

// Address is where a server is reached. With URL, a wss: one, it is reached by
// WebSocket (RFC 7395), and Host and TLS don't count.
type Address struct {
	Host string // host:port
	TLS  bool   // from the first byte (XEP-0368); else STARTTLS
	URL  string
}

// String is for logs and people.
func (a Address) String() string {
	if a.URL != "" {
		return a.URL
	}
	return a.Host
}

// WebSocketUse says what WebSocket addresses from host-meta (XEP-0156) are used
// for.
type WebSocketUse uint8

// The uses of host-meta.
const (
	WebSocketNever    WebSocketUse = iota // host-meta isn't asked
	WebSocketFallback                     // when no address of DNS answered
	WebSocketOnly                         // DNS isn't asked
)

// Profile says how the conversations of the account's other devices reach this one.
type Profile uint8

// The profiles, each with what is used where the server lacks it.
const (
	ProfileBest    Profile = iota // XMPP 2.0's session, else as ProfileIMNG
	ProfileIMNG                   // IM-NG (XEP-0409), else as ProfileCarbons
	ProfileCarbons                // Carbons (XEP-0280), else as ProfileClassic
	ProfileClassic                // RFC 6121 alone
)

// Resolver looks up SRV records. *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}

// Dialer opens connections to host:port; names are its to resolve. *net.Dialer
// is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Clock is the time that a client goes by.
type Clock interface {
	Now() time.Time
	// After returns a channel that receives once, d from now.
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// complete returns the configuration with its defaults.
func (cfg Config) complete() (Config, error) {
	if !cfg.Account.IsBare() || cfg.Account.Local() == "" {
		return cfg, errors.New("client: Config.Account is not the bare address of an account")
	}
	if st := cfg.Presence; st != nil && (st.Kind != stanza.Presence || st.Type != stanza.TypeAvailable || !st.To.IsZero() || !st.From.IsZero()) {
		return cfg, errors.New("client: Config.Presence is not an initial presence")
	}
	if len(cfg.Resource) > xep.MaxBindTag {
		return cfg, errors.New("client: Config.Resource is too long")
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	number(&cfg.MaxEvents, 1024)
	number(&cfg.MaxEventBytes, 4<<20)
	number(&cfg.MaxUnacked, 1<<20)
	number(&cfg.MaxRequests, 64)
	number(&cfg.Limits.MaxBytes, 2<<20)
	number(&cfg.Limits.MaxChildren, 1<<17)
	number(&cfg.ConnectTimeout, 30*time.Second)
	number(&cfg.RequestTimeout, time.Minute)
	number(&cfg.IdleTimeout, 4*time.Minute)
	number(&cfg.ProbeTimeout, 20*time.Second)
	number(&cfg.RetryMin, time.Second)
	number(&cfg.RetryMax, 5*time.Minute)
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Dialer == nil {
		cfg.Dialer = &net.Dialer{}
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Transport: &http.Transport{
			DialContext:     cfg.Dialer.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
			// A connection that waits for a second request would be a goroutine left behind.
			DisableKeepAlives: true,
		}}
	}
	if cfg.Store == nil {
		cfg.Store = &MemoryStore{}
	}
	return cfg, nil
}

func number[N int | time.Duration](n *N, def N) {
	if *n <= 0 {
		*n = def
	}
}
