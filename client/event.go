package client

import (
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// Event is what Next returns: *Connected, *Disconnected, *Received, *Carbon,
// *Archived, *Synced, *Delivered, *RosterChanged or *BlockListChanged. Events belong to who
// takes them; the stanzas in them are immutable.
type Event interface{ event() }

// Connected begins each connection: what came before it belongs to the one
// before.
type Connected struct {
	JID     jid.JID // full
	Resumed bool    // the session goes on (XEP-0198 5); else it is a new one

	Management bool // acknowledgements are on
	Resumable  bool

	Profile Profile // what is in force
	// CatchUp: Archived events and a Synced follow by themselves (XMPP 2.0). If
	// not, what was missed is the program's to fetch with Archive.
	CatchUp bool
	// Session answers the parts of XMPP 2.0's request, as the server wrote it.
	Session []xep.SessionResult
	// Archive is the archive's extent at the moment of binding; nil if the server
	// didn't say.
	Archive *stream.Archive

	Address    Address // where the server was reached
	Mechanism  string  // SASL
	Pipelined  bool    // the login was written before the server's features were seen
	Extensible bool    // SASL2 (XEP-0388); else the flow of RFC 6120
	RoundTrips int     // after TLS, up to this event
}

// Disconnected follows the end of a connection and each attempt to make one
// that failed.
type Disconnected struct {
	Err error
	// Retry is the pause before the next attempt; NetworkChanged ends it.
	Retry time.Duration
	// Final: there will be no attempt by itself, and Next returns Err from now on.
	Final bool
}

// Received is a stanza for the program: a message, a presence, or a request that
// Config.Requests asks for.
type Received struct{ Stanza *stanza.Stanza }

// Carbon is a copy of a message of the own account's other devices (XEP-0280),
// checked to be from the own account.
type Carbon struct {
	Sent    bool // by another device; else received by it
	Message *stanza.Stanza
	Stanza  *stanza.Stanza // the copy as it came
}

// Archived is a message of the catch-up that a session began with: the account's, or
// by its Archive that of a room which was entered with it.
type Archived struct{ ArchivedMessage }

// Synced ends the catch-up of the account's archive, or a room's: what follows
// is live.
type Synced struct {
	xep.Synced
	Stanza *stanza.Stanza // as it came
}

// Delivered says how the delivery of a message ended, if Config.Deliveries is set.
type Delivered struct {
	ID    string
	State Delivery // Acknowledged, Lost, or Written where nothing is acknowledged
	Err   error    // of a Lost one
}

// RosterChanged says that Roster returns something new.
type RosterChanged struct {
	// Item is what changed, with the subscription "remove" if it is gone; nil if
	// the whole roster was loaded.
	Item *xep.RosterItem
}

// BlockListChanged is a change of the account's block list (XEP-0191) by any of
// its devices.
type BlockListChanged struct {
	Blocked   []jid.JID
	Unblocked []jid.JID
	Emptied   bool // all were unblocked
}

func (*Connected) event()        {}
func (*Disconnected) event()     {}
func (*Received) event()         {}
func (*Carbon) event()           {}
func (*Archived) event()         {}
func (*Synced) event()           {}
func (*Delivered) event()        {}
func (*RosterChanged) event()    {}
func (*BlockListChanged) event() {}
