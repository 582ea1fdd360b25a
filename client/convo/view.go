package convo

import (
	"time"

	"carillon.im/jid"
)

// Summary is a line of the list of conversations.
type Summary struct {
	JID     jid.JID
	Name    string // the roster's; "" for none
	Room    bool
	Unread  int   // at most MaxUnread, which means so many or more
	Last    Entry // the newest shown; its ID is zero where there is none
	Typing  []jid.JID
	Changed time.Time
	Version uint64
}

// MaxUnread bounds the count of unread messages.
const MaxUnread = 1000

// View is a conversation as it is to be shown.
type View struct {
	Summary
	Entries []Entry // those shown, in order: the archive's, then own ones that wait
	Threads []ThreadView
	Current string // the thread that SendText continues; "" for none yet
	// LockedTo is the full address that the next message goes to; zero: the
	// bare one (XEP-0296).
	LockedTo jid.JID
	Topic    string // of a room; "" for none, or not heard of yet
	Exit     Exit   // of a room that has put the account out
	People   int    // in the room now, as far as is known: Engine.Occupants
	More     bool   // older messages are to be had: Page
	GapAtEnd bool   // messages may be missing behind the newest: Page with Newest
	Paging   bool   // and have been asked for
	// CatchingUp: what was missed is still to come, of a room or of all but rooms.
	CatchingUp bool
	// Holders are the own devices that wrote or claimed something here lately,
	// the latest first.
	Holders []Holder
}

// Holder is an own device in a conversation.
type Holder struct {
	Resource string
	This     bool
	Online   bool
	At       time.Time
}

// ThreadView is a line of a conversation's index of threads. They stand in the
// order of a tree: a child behind its parent, siblings by their first message.
type ThreadView struct {
	ID     string
	Parent string // "" for a root, and where the parents would go in a circle
	Depth  int    // 0 for a root
	First  EntryID
	Last   EntryID
	Count  int
	Unread int
	At     time.Time // of the last message
	MadeUp bool
}

// Device is another session of the account that is known to be there.
type Device struct {
	Resource string
	Online   bool
	At       time.Time // when it was last heard of
}
