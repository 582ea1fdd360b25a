package convo

import (
	"carillon.im/jid"
	"carillon.im/stanza"
)

// Event is something that happened: one of the types of this file.
type Event interface{ event() }

// Profile is how the session gets conversations.
type Profile uint8

// The profiles, one per session.
const (
	Classic Profile = iota // RFC 6121
	Carbons                // XEP-0280
	NG                     // XEP-0409
	V2                     // XMPP 2.0 session (docs/ext)
)

// Facts are what the session's server offers, as service discovery says.
type Facts struct {
	Archive   bool // XEP-0313 on the account
	Mine      bool // XEP-0259: without it no claim is sent (MINE-7)
	Displayed bool // XEP-0490: the account's PEP takes displayed positions
}

// RoomFacts are what a room offers, as service discovery says, and who the account
// is there.
type RoomFacts struct {
	Archive   bool   // XEP-0313: what was missed is asked for
	IDs       bool   // XEP-0359, which Archive implies: ids by the room are its own
	Occupants bool   // XEP-0421: occupant ids are the room's own
	Sync      bool   // XMPP 2.0 (docs/ext): a session request can name it
	Mine      bool   // XEP-0259 (MINE-32)
	Occupant  string // the account's own occupant id; "" where it isn't known
}

// Events of the connection.
type (
	// Connected says that stanzas can be sent. Everything received later came
	// in this session.
	Connected struct {
		JID     jid.JID // own full address
		Profile Profile
		Resumed bool // the same session as before (XEP-0198): nothing was missed
		Facts   Facts
		// Catchup says that the server streams what was missed and ends it with
		// <synced/> (session request, docs/ext): the engine asks for nothing.
		Catchup bool
	}
	// Disconnected says that nothing can be sent until the next Connected.
	Disconnected struct{}
	// Received is a message or presence as it came, carbons and archive results
	// still wrapped: the engine judges wrappers itself. IQs are ignored.
	Received struct{ Stanza *stanza.Stanza }
	// Acked says that the server has acknowledged the message with this id
	// attribute (XEP-0198).
	Acked struct{ ID string }
	// QueryDone ends a Query: the answer's <fin/>, or that it failed.
	QueryDone struct {
		Query       string // Query.ID
		First, Last string // archive ids of the page's ends; "" for an empty page
		Complete    bool
		Failed      bool // refused or lost; nothing is missing that was not before
		Unknown     bool // with Failed: item-not-found, the archive has forgotten the place
	}
	// HistoryLoaded answers LoadHistory from the store.
	HistoryLoaded struct {
		Conversation jid.JID
		Entries      []Entry // oldest first
		More         bool    // the store has older ones
	}
	// Contact says what the roster knows of somebody.
	Contact struct {
		JID  jid.JID // bare
		Name string
		// Trusted: may see the account's presence. Only such contacts, and those
		// the person wrote to, get receipts, markers and chat states.
		Trusted bool
	}
	// Room says that the account is in a room, as the room has told it in this
	// session, or that it has left. It may come again: what it says counts from then on.
	Room struct {
		JID    jid.JID // bare
		Nick   string
		Joined bool
		Away   bool // Joined, but put out for a while: the program enters it again
		// Streamed says that the room tells what was missed by itself, as the session
		// request asked it to with Engine.RoomSync, and ends it with <synced/>.
		Streamed bool
		RoomFacts
	}
	// Tick is time going by: once every few seconds is enough. Without it a catch-up
	// that failed isn't tried again in the session.
	Tick struct{}
)

// Events of the person. Conversation is a contact's or room's bare JID, or a
// room occupant's full JID for private messages.
type (
	// SendText continues the conversation's current thread, or begins one where
	// there is none (THR-5).
	SendText struct {
		Conversation jid.JID
		Body         string
		Type         string // "" for chat, in rooms groupchat; or normal, headline
		Subject      string
	}
	// Reply answers an entry, in its thread (THR-8, XEP-0461).
	Reply struct {
		Conversation jid.JID
		To           EntryID
		Body         string
	}
	// NewThread begins a new thread (THR-5 to THR-7).
	NewThread struct {
		Conversation jid.JID
		Body         string
		Subject      string
	}
	// BranchOff begins a child of an entry's thread (THR-9).
	BranchOff struct {
		Conversation jid.JID
		From         EntryID
		Body         string
	}
	// SelectThread makes a thread the current one: a conversation goes on where
	// history left it (THR-26).
	SelectThread struct {
		Conversation jid.JID
		Thread       string
	}
	// Correct replaces the body of an own entry (XEP-0308).
	Correct struct {
		Conversation jid.JID
		Entry        EntryID
		Body         string
	}
	// Retract takes an own entry back (XEP-0424).
	Retract struct {
		Conversation jid.JID
		Entry        EntryID
	}
	// React sets the person's reactions to an entry; none takes them back
	// (XEP-0444).
	React struct {
		Conversation jid.JID
		Entry        EntryID
		Emoji        []string
	}
	// Resend tries a Failed own entry again.
	Resend struct {
		Conversation jid.JID
		Entry        EntryID
	}
	// Attention says what the person did that shows attention; see Act.
	Attention struct {
		Conversation jid.JID
		Act          Act
		Entries      []EntryID // those it is about; none: what came last and is unread
	}
	// Typing says in which state the person's text is; the engine sends what the
	// contact may know (XEP-0085).
	Typing struct {
		Conversation jid.JID
		State        ChatState
	}
	// Page asks for older messages: before an entry (one with Gap, say), or with
	// zero before the oldest. Newest asks for the end instead: where
	// View.GapAtEnd says that something is missing there.
	Page struct {
		Conversation jid.JID
		Before       EntryID
		Newest       bool
	}
)

// Act is what directs attention to messages (MINE-49).
type Act uint8

// The acts.
const (
	OpenedNotification Act = iota + 1 // claims
	Focused                           // the conversation came to the front: claims what arrived shortly before
	Unlocked                          // the screen, with the conversation on top: as Focused
	BeganTyping                       // claims
	Accepted                          // an accept button: claims
	Dismissed                         // closed or swiped away, seen long enough: claims
	Seen                              // displayed, nothing more: marks as read, claims nothing
	Closed                            // the window: marks nothing, ends typing; threads stay (THR-14)
)

// ChatState is a state of XEP-0085; the zero value is none.
type ChatState string

// The chat states.
const (
	Active    ChatState = "active"
	Composing ChatState = "composing"
	Paused    ChatState = "paused"
	Inactive  ChatState = "inactive"
	Gone      ChatState = "gone"
)

func (Connected) event()     {}
func (Disconnected) event()  {}
func (Received) event()      {}
func (Acked) event()         {}
func (QueryDone) event()     {}
func (HistoryLoaded) event() {}
func (Contact) event()       {}
func (Room) event()          {}
func (Tick) event()          {}
func (SendText) event()      {}
func (Reply) event()         {}
func (NewThread) event()     {}
func (BranchOff) event()     {}
func (SelectThread) event()  {}
func (Correct) event()       {}
func (Retract) event()       {}
func (React) event()         {}
func (Resend) event()        {}
func (Attention) event()     {}
func (Typing) event()        {}
func (Page) event()          {}
