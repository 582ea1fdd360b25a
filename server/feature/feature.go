// Package feature is what a XEP may add to the server, as data.
//
// A Feature is a value: the disco entries, IQ handlers, non-stanza elements
// and stream features that it declares. NewSet checks all of them together at
// start, so that two claims to one name are an error before the first
// connection. A handler gets a Query and returns a payload or an error; it has
// no way to see, reorder or rewrite another feature's traffic. What it wants
// changed in an account's state it asks the account's owner for, as an Update.
package feature

import (
	"context"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Scope is whom a request is addressed to.
type Scope uint8

// The scopes of IQ handlers and disco entries.
const (
	Server  Scope = iota // a domain of this server
	Account              // the asker's own account: no 'to', or the own bare JID
	Contact              // the bare JID of another account of this server
)

// Spec names a specification that a feature implements, for the pages of
// supported XEPs and of compliance (XEP-0479).
type Spec struct {
	XEP     string // four digits
	RFC     string // four digits, instead of XEP
	Version string // of the XEP that was implemented
	Note    string // what is left out, if anything
}

// Disco is what a feature adds to disco#info of one scope (XEP-0030).
type Disco struct {
	Scope      Scope
	Vars       []string
	Identities []Identity
	// Forms are extended information, canonical XML (XEP-0128).
	Forms []string
}

// Identity is a disco identity (XEP-0030 3.1).
type Identity struct{ Category, Type, Name string }

// IQ is a request that a feature answers: type get or set, by the payload's
// name. Handlers of one session run one after the other, in the order of its
// requests; those of different sessions run concurrently.
type IQ struct {
	Scope Scope
	Type  string // stanza.TypeGet or stanza.TypeSet
	Name  xmltree.Name
	// Handle returns the payload of the result, canonical in the context
	// jabber:client, "" for none. A *stanza.Error goes to the asker; any other
	// error is logged and becomes internal-server-error.
	Handle func(context.Context, *Query) (payload string, err error)
}

// Element is a non-stanza element that a client may send once its session is
// bound, such as <inactive/> of XEP-0352.
type Element struct {
	Name   xmltree.Name
	Handle func(context.Context, SessionRef, xmltree.Element)
}

// Nodes tells disco (XEP-0030 3.2, 4.2) what an account has under names of its
// own. It is asked on behalf of who may see the account's presence.
type Nodes struct {
	// List is what the asker may know of.
	List func(context.Context, *Query) ([]NodeName, error)
	// Info is about one node; the error is that there is none, as far as the asker
	// may know.
	Info func(ctx context.Context, q *Query, node string) (xep.DiscoInfo, error)
}

// ServerNodes tells disco what a domain has under names of its own.
type ServerNodes struct {
	// Items are those of a node, Info is about one; ok is false for a node that isn't
	// the feature's. Info of one that isn't for the asker is an error.
	Items func(ctx context.Context, q *Query, node string) (list []xep.DiscoItem, ok bool)
	Info  func(ctx context.Context, q *Query, node string) (info xep.DiscoInfo, ok bool, err error)
}

// NodeName is a node and what it is called, which may be nothing.
type NodeName struct{ Node, Name string }

// Addressed is a child element of a message that is meant for the server of the
// session that sends it, such as <displayed/> of XEP-0490. It goes no further.
type Addressed struct {
	Name xmltree.Name
	// Handle is called before the message goes its way, which it does whatever the
	// outcome.
	Handle func(context.Context, SessionRef, *stanza.Stanza, xmltree.Element) error
}

// Feature is one XEP's, or one family of XEPs', declaration.
type Feature struct {
	Name     string // one word, for logs and errors: "ping"
	Specs    []Spec
	Disco    []Disco
	IQs      []IQ
	Elements []Element
	// StreamFeatures are canonical elements for <stream:features/> once the
	// client is authenticated, such as <csi xmlns='urn:xmpp:csi:0'/>.
	StreamFeatures []string
	// Nodes, if set, are what accounts have under names of their own.
	Nodes *Nodes
	// ServerNodes, if set, are what the domains have under names of their own.
	ServerNodes *ServerNodes
	// Addresses are elements that a client puts into its messages for its own
	// server.
	Addresses []Addressed
	// Presence, if set, observes each available presence that a session
	// broadcasts, after it was handled. It must not block.
	Presence func(SessionRef, *stanza.Stanza)
	// Outside, if set, observes available presence of a contact on another server that
	// names other capabilities (XEP-0115) than before, or of which it isn't known yet
	// what they ask for. It must not block.
	Outside func(Listener, *stanza.Stanza)
}

// Query is one IQ request on its way to a handler.
type Query struct {
	IQ      *stanza.Stanza // From and To are set
	Payload xmltree.Element
	Scope   Scope
	// Owner is the account that the request is about: the asker's own in scope
	// Account and Server, the addressed one in scope Contact. An asker from
	// elsewhere has none here: what is asked of it then isn't found.
	Owner AccountRef
	// Session is the asker's session; nil if the asker isn't a session of this
	// server (another server, a component).
	Session SessionRef
}

// AccountRef is an account as features see it. Its methods may be called
// concurrently, from any goroutine but the account's owner; each is one event
// to the owner.
type AccountRef interface {
	JID() jid.JID // bare
	// StoreID is the account's key in the store. The error is ItemNotFound
	// for an account that doesn't exist.
	StoreID(context.Context) (int64, error)
	// Update commits u, then applies it, then tells whom it concerns. The
	// error is nil only if all of it is on disk.
	Update(context.Context, Update) error
	// Snapshot is the account's state at a moment between two events.
	Snapshot(context.Context) (Snapshot, error)
	// Relation tells what another entity is to the account.
	Relation(context.Context, jid.JID) (Relation, error)
	// Shown is Relation once all is told that the account had decided to tell when it
	// was called.
	Shown(context.Context, jid.JID) (Relation, error)
	// Settled waits until all that the account had sent and received when it
	// was called is committed, and returns the newest archive id that may be
	// shown (0 if there is none): an archive query bounded by it can't skip an
	// entry that is committed later under a smaller id.
	Settled(context.Context) (upTo int64, err error)
}

// Relation is what another entity is to an account.
type Relation struct {
	Own     bool // the account itself
	Sees    bool // may see the account's presence: subscription from or both
	Sends   bool // the account sees its presence: subscription to or both
	Blocked bool // XEP-0191
	// Groups are the roster groups that the account keeps it in.
	Groups []string
}

// Snapshot is an account's state at a moment.
type Snapshot struct {
	Blocked  []jid.JID // sorted
	Archive  ArchivePrefs
	Sessions []SessionInfo
	// LastUnavailable is when the last session ended, with its status text;
	// zero if the account has a session or never had one.
	LastUnavailable time.Time
	LastStatus      string
}

// SessionInfo describes one session, for disco#items, XEP-0012 and admins.
type SessionInfo struct {
	JID       jid.JID // full
	Profile   route.Profile
	Available bool
	Priority  int8
	Detached  bool // without a connection, resumable
	Resumable bool
	Active    bool // XEP-0352
	Since     time.Time
	Address   string // of the peer, with port
	Conn      string // id of the connection, as in the log
	Client    string // id of the user agent (XEP-0388 2.3.1), "" if it named none
	Queued    int    // bytes not yet acknowledged or written
	Caps      string // XEP-0115 node#ver of its presence, "" if none
}

// ArchivePrefs are XEP-0313's preferences.
type ArchivePrefs struct {
	Default       string // "always", "never" or "roster"
	Always, Never []jid.JID
}

// Update is a change to an account that its owner makes as one: committed,
// then applied, then told. Fields that are zero change nothing.
type Update struct {
	Block      []jid.JID // XEP-0191 3.3; the owner also stops presence
	Unblock    []jid.JID
	UnblockAll bool

	Archive *ArchivePrefs // XEP-0313 prefs

	// Put stores values, nil deletes, under (space, key) of the account's
	// private storage.
	Put []KeyValue

	// AvatarHash, if not nil, is the SHA-1 of the vCard's photo in hex, ""
	// for none; the owner puts it into the account's presence (XEP-0153).
	AvatarHash *string

	// Events changes nodes of the account's personal events (XEP-0163) and tells
	// of it whom it concerns. Errors are the store's: ErrChanged, ErrLimit,
	// ErrNotFound.
	Events []EventChange

	// PushOn keeps a push service for a device, PushOff forgets one (XEP-0357). The
	// error is item-not-found for a service that is this server itself.
	PushOn  *PushOn
	PushOff *PushOff

	// Push is sent as an IQ set to the sessions that have asked for the
	// interest (SessionRef.SetInterest).
	Push Push
}

// PushOn is a push service that a session has named for its device.
type PushOn struct {
	Session jid.JID // full
	Service xep.PushService
}

// PushOff is a push service that is no longer wanted: one node of it, or All.
type PushOff struct {
	Service jid.JID
	Node    string
	All     bool
}

// KeyValue is one value of an account's private storage.
type KeyValue struct {
	Space, Key string
	Value      []byte
}

// EventChange is a change of one node of an account's personal events. It is
// made only if the node's configuration still is Was, which it was decided on.
type EventChange struct {
	Node    string
	Was     []byte      // nil: there is no such node
	Config  []byte      // from now on; nil: the node goes
	Purge   bool        // all items go, before Put
	Remove  []string    // items that go, before Put
	Put     []EventItem // become the newest, in this order
	Keep    int         // of the items the newest stay
	Notices []EventNotice

	MaxNodes, MaxBytes int // of the account
}

// EventItem is an item of a node.
type EventItem struct {
	ID      string
	Payload []byte // canonical XML
	At      time.Time
}

// EventNotice tells of a change: a headline from the account to its own sessions
// and to those of contacts with a subscription to its presence, of both to those
// that asked for the node (SessionRef.SetEvents).
type EventNotice struct {
	Node    string
	Payload string // canonical in the context jabber:client
	Item    bool   // it brings an item, which is the newest now
	To      Audience
}

// Audience is which contacts with a subscription an event is for.
type Audience struct {
	All     bool
	Groups  []string  // those in one of these groups of the roster
	Members []jid.JID // bare
}

// Push is an IQ set to the account's sessions with an interest.
type Push struct {
	Interest string // a namespace
	Payload  string // canonical in the context jabber:client
}

// SessionRef is a session as features see it. Its methods may be called
// concurrently.
type SessionRef interface {
	Listener
	// SetProfile changes how the session gets messages; Conflict if the
	// profile excludes the present one (R-SESS-1).
	SetProfile(context.Context, route.Profile) error
	// SetInterest asks for pushes of an Update with this interest.
	SetInterest(context.Context, string) error
	// SetActive is XEP-0352: an inactive session gets presence and chat states
	// held back.
	SetActive(bool)
	// ReadingArchive notes that the session reads the archive: offline messages
	// are then not sent to it (R-CONV-6). done is called once, with whether it was
	// told what it asked for: one that wasn't has the offline messages after all.
	ReadingArchive() (done func(told bool))
	// Send queues a stanza, complete canonical XML, behind what the session
	// was sent before. It blocks while the session's queue is full, so that a
	// long answer doesn't grow the server; the error is the context's or that
	// the session has ended.
	Send(context.Context, []byte) error
	// SendAll is Send for several stanzas, in order and with nothing between
	// them, at the cost of one hand-over. The session takes the memory over:
	// the caller must not write to any of the stanzas again; the outer slice
	// stays the caller's.
	SendAll(ctx context.Context, stanzas [][]byte) error
	// Flush waits until the connection has taken all that is queued, or there
	// is no connection.
	Flush(context.Context) error
}

// Listener is who hears of personal events that its capabilities ask for (XEP-0163
// 4.3). Its methods may be called concurrently; errors are the context's, or say
// that there is no such listener any more.
type Listener interface {
	JID() jid.JID // full
	// Ask sends an IQ get to the client and waits for the answer; a *stanza.Error if
	// the client answers with one.
	Ask(ctx context.Context, payload string) (*stanza.Stanza, error)
	// Owner is the account that knows the listener: a session's own, or the one whose
	// contact it is.
	Owner() AccountRef
	// Publishers are the accounts of this server of whose events it may hear.
	Publishers(context.Context) ([]jid.JID, error)
	// SetEvents says of which nodes it wants to hear, and returns those that are new:
	// it hears of what is told from now on, and what was told before is on disk. The
	// listener keeps the slice, which must not change, until it is unavailable. Until
	// EventsTold is called it is remembered what it hears.
	SetEvents(ctx context.Context, nodes []string) (added []string, err error)
	// TellLast sends it, from its publisher, a node's newest item as it was read after
	// SetEvents, in the order of what it hears, unless it has heard of the node
	// meanwhile. It blocks while the client doesn't read.
	TellLast(ctx context.Context, node string, headline *stanza.Stanza) (Heard, error)
	// EventsTold ends what SetEvents began.
	EventsTold(context.Context) error
}

// Heard is what became of a newest item.
type Heard uint8

// What TellLast finds.
const (
	HeardNothing Heard = iota // of the node: it was sent
	HeardItem                 // a newer one, or this one
	HeardChange               // that it isn't what it was: what was read may be gone
)
