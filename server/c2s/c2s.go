// Package c2s is the server's client connections: sockets, TLS, logins, limits.
//
// A connection is one conn: a stream.Server that knows the protocol, a socket,
// and, once a resource is bound, a Session, which is the account's side and all
// that c2s knows of accounts. Reading is one goroutine per connection. It waits
// for the socket without a buffer and without a deep stack, because most
// connections are idle most of the time: what a waiting connection costs is what
// TLS must remember and two kilobytes of stack. Buffers are borrowed while bytes
// are there.
//
// Writing has no goroutine of its own. Whoever has something for the client
// calls Wake; one of a few shared workers then takes bytes from the session, as
// many stanzas as fit one TLS record, and writes them, until there are none.
// There is no queue of stanzas here: the session holds it and bounds it.
//
// Nothing waits on a timer per connection: before the login there is a deadline
// on the socket, afterwards one patrol looks after all connections.
//
// Order on the wire: what the stream itself says (the answer to a bind, <enabled/>)
// and what the session says are put together under conn.mu, so that the
// session's counting begins exactly behind <enabled/>. conn.mu is the only lock
// held over a call out of this package, for EnableSM and Next; in return
// Transport's methods take no lock at all.
package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// LevelTrace is the log level of transcripts: every stanza in and out, without
// what SASL and password changes carry.
const LevelTrace = slog.Level(-8)

// Accounts is what connections need of the accounts.
type Accounts interface {
	// Bind makes a session for an authenticated client, with all that the request
	// asks for, in one moment of the account's order. The error is a *stanza.Error
	// that the client is told, any other becomes internal-server-error.
	Bind(ctx context.Context, req BindRequest) (Session, Bound, error)

	// Resume attaches the client to a session that it had (XEP-0198 5). The error
	// is a *ResumeError, or a *stanza.StreamError that ends the stream; any other becomes internal-server-error.
	Resume(ctx context.Context, req ResumeRequest) (Session, Resumed, error)
}

// Profile is how a session wants its messages, of what Bind 2 can begin.
type Profile uint8

// The profiles.
const (
	Classic Profile = iota // RFC 6121
	Carbons                // XEP-0280
	IMNG                   // XEP-0409
	Synced                 // XMPP 2.0
)

// BindRequest asks for a session.
type BindRequest struct {
	Account   jid.JID // bare
	Resource  string  // prepared; "": the server makes one up
	Transport Transport
	Conn      string // the connection's id, for logs
	Address   netip.AddrPort

	// Client is the id of the user agent, whose other sessions end; "" if it named none
	// (XEP-0388 2.3.1).
	Client string

	// Of Bind 2 (XEP-0386); zero in the classic way.
	Inline   bool                // it is Bind 2: what is kept offline comes from the archive
	Profile  Profile             // from the beginning; Synced if there is a Session
	Inactive bool                // XEP-0352, from the beginning
	Session  *xep.SessionRequest // XMPP 2.0's request, nil for none; only with Config.Sync
}

// Bound is what a client of Bind 2 is told of its session; zero in the classic way.
type Bound struct {
	// Archive is what the archive holds at this moment (XEP-0386 3.2); nil: nothing
	// is said.
	Archive *stream.Archive

	// Results are what became of each part of BindRequest.Session, in its order. What
	// was malformed has its error there already.
	Results []xep.SessionResult
}

// ResumeRequest asks for a session that was there before.
type ResumeRequest struct {
	Account   jid.JID // bare
	ID        string  // given by EnableSM
	H         uint32  // stanzas that the client has handled
	Client    string  // as BindRequest.Client: the session must not be another's
	Transport Transport
	Conn      string
	Address   netip.AddrPort
}

// Resumed is what the client is told of a resumed session.
type Resumed struct {
	H uint32 // stanzas that the server has handled
}

// ResumeError says why a session can't be resumed.
type ResumeError struct {
	Err   *stanza.Error
	H     uint32 // what the server had handled, if Known
	Known bool
}

// Error makes *ResumeError a Go error.
func (e *ResumeError) Error() string { return "resume: " + e.Err.Error() }

// Credentials is where the keys of accounts are.
type Credentials interface {
	// Keys returns an account's keys, and sasl.ErrUnknownUser where there is no
	// account or no keys for this hash. It is called by many connections at once.
	Keys(ctx context.Context, bare jid.JID, h sasl.Hash) (sasl.Keys, error)
}

// Upgrades takes keys that clients were asked for (XEP-0480).
type Upgrades interface {
	// AddKeys gives an account keys for a hash that it has none for. They are of
	// whatever the client hashed: that it is the password, it alone knows.
	AddKeys(ctx context.Context, bare jid.JID, k sasl.Keys) error
}

// Clients keeps what is known of the programs that use accounts, by account and the
// id of the user agent, and their tokens (XEP-0484). It is called by many
// connections at once.
type Clients interface {
	// Tokens returns the tokens that a client may log in with by this mechanism: two
	// at most, the newer first, expired ones too. It returns none, and not an error,
	// where there is no such account or client, and takes as long for them.
	Tokens(ctx context.Context, bare jid.JID, client, mechanism string) ([]Token, error)

	// UseToken notes, in one step, a login with a token of which the client has proved
	// that it has it: tokens issued before are worth nothing any more, nor is this
	// one with Invalidate (XEP-0484 3.5, 3.6). It returns ErrTokenUsed, and changes
	// nothing, if the token is worth nothing by now, or use.Count isn't 0 and not
	// above all counts before (3.4).
	UseToken(ctx context.Context, bare jid.JID, client string, use TokenUse) error

	// IssueToken keeps a new token for the client in place of one that was issued and
	// never used. The one in use stays valid until the new one is used.
	IssueToken(ctx context.Context, bare jid.JID, client string, t Token) error

	// ClientSeen notes a login of a client, and the session that it has got, in that
	// order: whoever revokes its access later finds the session there. It comes before
	// the IssueToken of the same login. For a login with a token it returns
	// ErrTokenUsed if the client's access was revoked meanwhile, and nil only once
	// that is sure; else it may return before anything is on disk.
	ClientSeen(ctx context.Context, bare jid.JID, seen Client) error
}

// ErrTokenUsed is what Clients.UseToken returns for a login that must not be.
var ErrTokenUsed = errors.New("c2s: the token was replayed, replaced or revoked")

// Token is a client's token (XEP-0484). It holds a secret.
type Token struct {
	Secret    string
	Mechanism string
	Issued    time.Time
	Expiry    time.Time // whole seconds
}

// Format keeps the secret out of everything that is printed.
func (t Token) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "c2s.Token(%s until %s)", t.Mechanism, t.Expiry.Format(time.RFC3339))
}

// TokenUse is a login with a token.
type TokenUse struct {
	Token      Token
	Count      uint64 // the client's count of its attempts, 0 if it doesn't count
	Invalidate bool
	At         time.Time
}

// Client is what a login tells of a client.
type Client struct {
	ID, Software, Device string
	Mechanism            string
	ByToken              bool   // it logged in with a token, not with the password
	Tag, Resource        string // that it bound, or has again; "" for none
	At                   time.Time
	Address              netip.AddrPort
}

// Registrar makes accounts for strangers (XEP-0077).
type Registrar interface {
	// Answer answers one request to a domain: the payload of the result, or an
	// error, a *stanza.Error or one that is logged. Limits.Registrations bounds
	// how often it is called with something to make. token is the one that the client
	// has shown before, "" for none.
	Answer(ctx context.Context, domain jid.JID, token string, iq *stanza.Stanza) (payload string, err error)
	// Open: strangers may make accounts without a token.
	Open() bool
	// Invites: there are tokens.
	Invites() bool
	// Welcome finds whether an account can be made with a token (XEP-0445 4); a
	// *stanza.Error if not.
	Welcome(ctx context.Context, domain jid.JID, token string) error
}

// Session is one resource of an account, as its connection sees it. All methods
// but Next are called by the connection's reader alone, in the order of the
// stream.
type Session interface {
	// JID is the full address.
	JID() jid.JID

	// Receive takes one stanza, its From stamped; size is in bytes as received.
	// It blocks while the account can't keep up, then the client isn't read. An
	// error is a *stanza.StreamError and ends the stream.
	Receive(ctx context.Context, st *stanza.Stanza, size int) error

	// Answer takes a stanza that is answered already: it counts as received, and
	// reply, nil for none, is sent like everything else.
	Answer(ctx context.Context, st *stanza.Stanza, size int, reply *stanza.Stanza) error

	// Element takes a first-level element that is no stanza, for instance those
	// of XEP-0352. An error is a *stanza.StreamError.
	Element(ctx context.Context, el xmltree.Element) error

	// EnableSM begins stream management: counting starts with the call. It must
	// not wait for a goroutine that calls Next.
	EnableSM(resume bool, max time.Duration) (id string, resumable bool, window time.Duration, err *stanza.Error)

	// Ack says that the client has handled h stanzas. An error is a
	// *stanza.StreamError.
	Ack(h uint32) error

	// AckRequest asks for <a/>, sent when what was received is safe.
	AckRequest()

	// Detach says that the transport is gone without the client having closed
	// its stream; it is without meaning if the session has another one by now.
	Detach(t Transport)

	// Close says that the client closed its stream.
	Close(t Transport)

	// Next appends what is to be sent over t, whole elements, up to about max
	// bytes, and says whether there is more: nothing, if the session has another
	// transport by now. It doesn't block. Any goroutine may call it, one at a
	// time.
	Next(t Transport, dst []byte, max int) (out []byte, more bool)
}

// Transport is the connection under a session. Its methods don't block, take
// no locks, and may be called from any goroutine, also with the session's locks
// held.
type Transport interface {
	// Wake says that Next has something.
	Wake()

	// End closes the stream: with err, or in good order if it is nil. What Next
	// still has is written before where it would be lost otherwise, which is for
	// nil and system-shutdown; in all other cases Next isn't called again.
	End(err *stanza.StreamError)
}

// Config is what New needs.
type Config struct {
	Domains     []jid.JID // served; the first answers for unknown ones
	Accounts    Accounts
	Credentials Credentials
	Registrar   Registrar // nil: there is no registration
	Clients     Clients   // nil: there are no tokens, and clients aren't noted
	Upgrades    Upgrades  // nil: no keys are asked for

	// TokenLife is how long tokens are valid, 0 for three weeks; one is replaced upon
	// use when it is older than TokenAge, 0 for a day, or a quarter of a shorter life.
	TokenLife, TokenAge time.Duration

	// Sync offers XMPP 2.0's session request.
	Sync bool

	// Certificate chooses the certificate of a handshake. A client that sends no
	// SNI but said in the clear which domain it wants gets that as ServerName.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// StrictBinding refuses a client that says that it saw no -PLUS mechanism,
	// also one that tried them before with tls-unique.
	StrictBinding bool

	// DummySecret and Iterations are sasl.ServerConfig's; AllowPlain offers PLAIN.
	DummySecret []byte
	Iterations  int
	AllowPlain  bool

	// Hashes, if set, are those that SCRAM is offered with; the slice doesn't change.
	Hashes func() []sasl.Hash

	// Features are the stream features of authenticated clients besides those of
	// package stream, as its ServerConfig says.
	Features []byte

	Limits Limits
	Log    *slog.Logger
	Rand   io.Reader // crypto/rand's Reader outside of tests
}

// Limits are what a client may cost. Zero switches a limit off, except in the
// two xmltree.Limits, where it stands for their defaults.
type Limits struct {
	// Stanza bounds an element of an authenticated client, Early one before.
	Stanza, Early xmltree.Limits

	// EarlyBytes and EarlyTime are what a client has to authenticate and bind in.
	EarlyBytes int
	EarlyTime  time.Duration

	// Unauthenticated connections: all, and per address. Addresses of IPv6 count
	// by their /64.
	Unauthenticated, UnauthenticatedPerAddress int

	// PerAddress bounds the connections of one address, authenticated or not.
	PerAddress int

	// AuthAttempts is how many SASL exchanges a connection may begin.
	AuthAttempts int

	// AddressFailures and AccountFailures slow down who guesses passwords.
	AddressFailures, AccountFailures Rate

	// Registrations is how often an address may make an account.
	Registrations Rate

	// BytesPerSecond is how fast a session is read, with a burst of one second.
	BytesPerSecond int

	// Idle is after how long a silent client is asked for a sign of life, and
	// IdleGrace how long it has to give one.
	Idle, IdleGrace time.Duration

	// WriteTime is how long one write may take.
	WriteTime time.Duration

	// Linger is how long a client has to close its side of an ended stream.
	Linger time.Duration

	// KeepAlive is TCP's.
	KeepAlive time.Duration
}

// Rate allows Burst events at once and then one per Every. A zero Burst is no
// limit.
type Rate struct {
	Burst int
	Every time.Duration
}

// DefaultLimits are for a server on the open internet.
func DefaultLimits() Limits {
	return Limits{
		Stanza:                    xmltree.Limits{MaxBytes: 256 << 10},
		Early:                     xmltree.Limits{MaxBytes: 16 << 10, MaxDepth: 10, MaxAttrs: 32, MaxChildren: 256, MaxNamespaces: 32},
		EarlyBytes:                64 << 10,
		EarlyTime:                 30 * time.Second,
		Unauthenticated:           2000,
		UnauthenticatedPerAddress: 50,
		PerAddress:                1000,
		AuthAttempts:              5,
		AddressFailures:           Rate{Burst: 30, Every: 10 * time.Second},
		AccountFailures:           Rate{Burst: 20, Every: 30 * time.Second},
		Registrations:             Rate{Burst: 10, Every: 5 * time.Minute},
		Idle:                      5 * time.Minute,
		IdleGrace:                 time.Minute,
		WriteTime:                 30 * time.Second,
		Linger:                    3 * time.Second,
		KeepAlive:                 4 * time.Minute,
	}
}
