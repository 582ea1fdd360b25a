package convo

import (
	"time"

	"carillon.im/jid"
)

// WaitingPos is the least position of own entries that wait for their place.
const WaitingPos = int64(1) << 62

// Store keeps one account's history over restarts. The engine never calls it:
// who runs the engine loads a Snapshot for New and does Persist and
// LoadHistory. Its methods may be called concurrently. The contract is in
// storetest.
type Store interface {
	// Load reads what New needs: all that is kept once, and the conversations,
	// each with its newest tail entries, all from Record.Base on where it isn't
	// zero, and all that wait (WaitingPos). An engine that pages by n needs a
	// tail of n at least, to know again what the archive tells it twice.
	Load(tail int) (Snapshot, error)
	// History reads at most max entries of a conversation before a position,
	// oldest first, and whether there are still older ones.
	History(conversation jid.JID, before int64, max int) (entries []Entry, more bool, err error)
	// Write does all of the writes or none.
	Write([]Write) error
	Close() error
}

// Write is one change of the store: the one field that is not nil.
type Write struct {
	Entry        *EntryWrite // put, by ID
	Conversation *Record     // put, by JID
	Account      *Account    // put
}

// EntryWrite is an entry and where it belongs.
type EntryWrite struct {
	Conversation jid.JID
	Entry        Entry
}

// Account is what an account's store keeps once.
type Account struct {
	LastEntry EntryID             // the highest that was given out
	Cursors   map[string]string   // by archive: the id up to which nothing is missing
	Behind    bool                // something behind the cursor is missing
	Own       []jid.JID           // full addresses that this device had, the newest last
	Rooms     map[string]RoomFact // rooms by bare JID
	Requests  []Request           // that wait for the person
}

// RoomFact is what is remembered of a room.
type RoomFact struct {
	Nick string
	RoomFacts
}

// Record is a conversation without its entries.
type Record struct {
	JID       jid.JID
	Room      bool
	Name      string
	Thread    string // the current one
	Parent    string // of the current one
	MadeUp    string // the thread made up for messages without one (THR-17)
	Read      int64  // position up to which the person has read
	Displayed int64  // position up to which the contact has
	Cursor    string // of a room: the id in its archive up to which nothing is missing
	Base      int64  // while a catch-up is unfinished: position of the newest entry at its cursor, when it began; 1 for none
	Caught    int64  // and behind which its next results go: of the newest that its pages have brought
	Complete  bool   // the archive has nothing older than the oldest entry
	GapNext   bool   // messages may be missing behind the newest entry
	Trusted   bool
	Changed   time.Time // of its newest message
}

// Snapshot is what a store knows when the engine begins.
type Snapshot struct {
	Account       Account
	Conversations []Stored
}

// Stored is a conversation with its newest entries, oldest first.
type Stored struct {
	Record  Record
	Entries []Entry
	More    bool // the store has older ones
}
