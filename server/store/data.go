package store

import (
	"time"

	"carillon.im/jid"
)

// RosterItem is one contact of a roster (RFC 6121 2.1.2).
type RosterItem struct {
	JID          jid.JID
	Name         string
	Subscription string // "none", "to", "from" or "both"
	Ask          bool   // ask='subscribe': an outbound request is pending
	Approved     bool   // RFC 6121 3.4: pre-approved
	Groups       []string
	Version      int64 // roster version (XEP-0237) at which the item last changed
}

// Request is an inbound subscription request that waits for an answer (RFC 6121 3.1.3).
type Request struct {
	From   jid.JID
	Stanza []byte
	At     time.Time
}

// AccountData is what an account's owner needs in memory.
type AccountData struct {
	ID            AccountID
	Roster        []RosterItem
	RosterVersion int64        // version of the last change, 0 for a roster never touched
	RosterFloor   int64        // a client at a version below the floor needs the whole roster: tombstones before it are forgotten
	Removed       []RosterItem // tombstones: JID and Version alone
	Requests      []Request    // oldest first
	Blocked       []jid.JID
	Push          []PushTarget // of its devices, those named last first
	Prefs         []byte       // KV space "mam", key "prefs"; nil if never set
	LastArchiveID ArchiveID    // the highest id the account's archive or offline store is known to have held
	Offline       int          // messages waiting in the offline store
}

// AccountInfo is an account in a list.
type AccountInfo struct {
	ID       AccountID
	JID      jid.JID
	Created  time.Time
	Disabled bool
}

// SessionRow is the last that was seen of one resource of an account.
type SessionRow struct {
	Resource string
	Client   string // software, may be empty
	Address  string
	At       time.Time
	Online   bool
}

// KV is one value of a key-value space.
type KV struct {
	Key   string
	Value []byte
}

// ArchivedMessage is one entry of an archive or of the offline store.
type ArchivedMessage struct {
	ID     ArchiveID
	Stanza []byte // canonical <message/>, default namespace jabber:client implied
}

// ArchiveQuery selects entries of one account's archive; every condition given must hold.
type ArchiveQuery struct {
	Account  AccountID
	With     jid.JID     // zero: everybody; bare: any resource of it; full: exactly that (XEP-0313 4.1.1)
	AfterID  ArchiveID   // exclusive; 0: none
	BeforeID ArchiveID   // exclusive; 0: none
	Start    time.Time   // inclusive; zero: none
	End      time.Time   // inclusive; zero: none
	IDs      []ArchiveID // XEP-0313 "ids"; nil: no such filter
	UpTo     ArchiveID   // inclusive: nothing above is seen; 0: none
	Thread   string      // the conversation thread, byte for byte; "": none; beyond MaxThread: ErrInvalid
	Max      int         // at most so many entries; 0: none, so that only "more" is found out
	Bytes    int         // a page ends early behind the stanza that reaches so many; 0: not
	Backward bool        // the last Max entries instead of the first

	thread threadKey // Thread's
}

// Stats are counters since Open, for metrics.
type Stats struct {
	Commits     uint64 // transactions committed
	Units       uint64 // units committed
	Rows        uint64 // archive entries committed
	Failures    uint64 // units that failed other than by ErrBusy
	Busy        uint64 // units refused with ErrBusy
	Reopens     uint64 // times the writer replaced its connection after a fault
	Queued      int    // units waiting now
	QueuedBytes int64
	LastCommit  time.Duration // how long the last transaction took, begin to durable
	Checkpoints uint64
	Tail        int // archive entries not yet moved to the archive table
}
