package convo

import (
	"time"

	"carillon.im/jid"
)

// EntryID names one entry of one account's history for as long as its store
// lives, over restarts. Zero names none.
type EntryID uint64

// Kind is what an entry of a history is.
type Kind uint8

// The kinds of entries. Only a Text is shown by itself; the others say
// something about another entry or about nothing that a person sees, and are
// kept because they have a place in the archive's order.
const (
	Text       Kind = iota
	Correction      // of another entry (XEP-0308)
	Retraction      // of another entry (XEP-0424)
	Reaction        // to another entry (XEP-0444)
	Claim           // of messages, for the device that sent it (XEP-0259)
)

// Delivery is how far a message is known to have come. An own message goes
// from Pending to Sent to Archived and never back, except that an error makes
// it Failed.
type Delivery uint8

// The states of delivery.
const (
	Incoming Delivery = iota // somebody else's
	Pending                  // own, not acknowledged by the server
	Sent                     // own, acknowledged (XEP-0198), its place in the archive unknown
	Archived                 // own, with its place in the archive
	Failed                   // own, refused, or lost with a server that keeps no archive
)

// Owner is who answers for a message that asks for it (XEP-0259).
type Owner uint8

// The states of ownership.
const (
	NotAsked  Owner = iota // the message has no <whose/>
	Unclaimed              // nobody has claimed it
	Claiming               // this device has, the server has not confirmed it
	Mine                   // this device's claim came first (MINE-24)
	Elsewhere              // another device's claim came first: retracted here (MINE-26)
)

// ArchiveID is a message's place in an archive: an opaque id and who assigned
// it (XEP-0359). Ids of different archives never compare (NOTES M14), and none
// has an order of its own (MINE-41).
type ArchiveID struct {
	By jid.JID
	ID string
}

// Reacted are one sender's reactions to a message (XEP-0444).
type Reacted struct {
	From  jid.JID // bare, or a room's occupant
	Emoji []string
}

// Entry is one message of a conversation's history, as shown: corrections,
// retractions and reactions are worked in. It is plain data; the slices of an
// Entry that the engine gave out are not to be written to.
type Entry struct {
	ID EntryID
	// Pos is the entry's place among those of its conversation: smaller is
	// older. Positions of one conversation compare, and may change together.
	Pos  int64
	Kind Kind
	From jid.JID // full, where it is known
	Own  bool    // this account sent it
	Type string  // chat, groupchat, normal or headline
	At   time.Time

	MessageID string // the stanza's id attribute
	OriginID  string // XEP-0359
	Archive   ArchiveID
	// Astray says that the entry stands where it came, for want of a device until then
	// (XEP-0160): what the archive has before it and behind it is not known yet.
	Astray bool `json:",omitzero"`

	// Thread is the value of <thread/>, octet for octet, or what the engine made
	// up for a chat message without one (THR-17), with ThreadMadeUp; Parent is
	// the value of its attribute.
	Thread, Parent string
	ThreadMadeUp   bool

	Body    string // as shown: corrected; without what a reply quotes (XEP-0461 3.2); empty if retracted
	Subject string

	// Occupant is who sent it to a room, whatever his nickname (XEP-0421); "" where the
	// room doesn't say.
	Occupant string

	Edited    bool
	Retracted bool
	Moderator jid.JID // of a Retracted one: who took it back, by his address in the room, or the room's; zero: its sender
	Reason    string  // why the Moderator did
	Reactions []Reacted

	// What another entry is needed for: the id that a reply, correction,
	// retraction or reaction names, and whose message it says it is (replies).
	RefID   string
	RefFrom jid.JID
	Emoji   []string // of a Reaction
	ReplyTo EntryID  // the entry that RefID names, if it is known

	Delivery  Delivery
	Error     string // why it Failed: the condition's name, or "" for a lost connection
	Doubt     bool   // Pending, and no catch-up will tell whether the server has it
	Delivered bool   // the contact has it (XEP-0184)
	Displayed bool   // the contact has seen it (XEP-0333)
	Markable  bool   // its sender wants to know when it was seen
	Wanted    bool   // its sender wants a receipt

	Whose    string // id of the ownership request (XEP-0259); "" for none
	Owner    Owner
	OwnerRes string   // Elsewhere: the resource, or in a room the nick, of who has it
	OwnerBy  EntryID  // Mine, Elsewhere: the claim that came first
	Claims   []string // of a Claim: the ids it names
	ClaimBy  jid.JID  // of a Claim: who assigned them

	// Gap says that messages may be missing between this entry and the one
	// before it: Page with this entry asks for them.
	Gap bool
}
