package store

import (
	"encoding/json"
	"fmt"
	"time"

	"carillon.im/jid"
)

// Op is one change. The set is closed: the structs of this file and the store's own.
type Op interface {
	exec(*tx) error
	size() int // bytes the op keeps alive while it is queued
}

// Bounds per account.
const (
	MaxTombstones  = 100 // removed contacts remembered for XEP-0237
	MaxRequests    = 250 // subscription requests waiting
	MaxSessionRows = 64  // resources remembered
)

// ArchiveAppend adds an entry to an account's archive. It fails with ErrExists if the id is taken and with ErrNotFound if the account does not
// exist. The store keeps Stanza for a while after the commit: it must never change.
type ArchiveAppend struct {
	Account AccountID
	ID      ArchiveID
	Peer    jid.JID // the other side, bare or full
	Thread  string  // text of the message's <thread/>, "" for none; beyond MaxThread it counts as none
	Stanza  []byte
}

// OfflineAppend keeps a message for the account's next session (XEP-0160). ID is from the archive's id space.
type OfflineAppend struct {
	Account AccountID
	ID      ArchiveID
	Stanza  []byte
}

// OfflineClear drops delivered offline messages: those up to and including UpTo.
type OfflineClear struct {
	Account AccountID
	UpTo    ArchiveID
}

// RosterPut inserts or replaces a contact. Version becomes the item's and the roster's version.
type RosterPut struct {
	Account AccountID
	Item    RosterItem // its Version is ignored
	Version int64
}

// RosterDelete removes a contact and leaves a tombstone, so that XEP-0237 can push the removal. Beyond MaxTombstones the oldest ones go and the
// roster's floor rises.
type RosterDelete struct {
	Account AccountID
	Contact jid.JID
	Version int64
}

// RequestPut keeps an inbound subscription request until it is answered; a later one from the same bare JID replaces it. Beyond
// MaxRequests the oldest go.
type RequestPut struct {
	Account AccountID
	From    jid.JID
	Stanza  []byte
	At      time.Time
}

// RequestDelete drops the request of From, if any.
type RequestDelete struct {
	Account AccountID
	From    jid.JID
}

// BlockPut blocks a JID (XEP-0191); blocking twice is once.
type BlockPut struct {
	Account AccountID
	JID     jid.JID
}

// BlockDelete unblocks a JID.
type BlockDelete struct {
	Account AccountID
	JID     jid.JID
}

// BlockClear unblocks everybody.
type BlockClear struct{ Account AccountID }

// KVPut sets a value of an account: private XML, vCard, preferences, last activity.
type KVPut struct {
	Account    AccountID
	Space, Key string
	Value      []byte
}

// KVDelete removes a value, if it is there.
type KVDelete struct {
	Account    AccountID
	Space, Key string
}

// SessionSeen records the last that was seen of a resource. Beyond MaxSessionRows per account the oldest go.
type SessionSeen struct {
	Account  AccountID
	Resource string
	Client   string // software, may be empty
	Address  string
	At       time.Time
	Online   bool
}

func (o ArchiveAppend) exec(t *tx) error { return t.archive(o) }

func (o OfflineAppend) exec(t *tx) error { return t.run(qOfflinePut, o.Account, o.ID, o.Stanza) }

func (o OfflineClear) exec(t *tx) error {
	if err := t.run(qOfflineNote, o.Account, o.UpTo); err != nil {
		return err
	}
	return t.run(qOfflineDel, o.Account, o.UpTo)
}

func (o RosterPut) exec(t *tx) error {
	i := o.Item
	groups, err := json.Marshal(append([]string{}, i.Groups...))
	if err != nil {
		return fmt.Errorf("roster groups: %w: %w", ErrInvalid, err)
	}
	err = t.run(qRosterPut, o.Account, i.JID.String(), i.Name, i.Subscription, i.Ask, i.Approved, string(groups), o.Version)
	if err != nil {
		return err
	}
	if err := t.run(qRemovedDel, o.Account, i.JID.String()); err != nil {
		return err
	}
	return t.run(qRosterVersion, o.Account, o.Version)
}

func (o RosterDelete) exec(t *tx) error {
	if err := t.run(qRosterDel, o.Account, o.Contact.String()); err != nil {
		return err
	}
	if err := t.run(qRemovedPut, o.Account, o.Contact.String(), o.Version); err != nil {
		return err
	}
	if err := t.run(qRosterVersion, o.Account, o.Version); err != nil {
		return err
	}
	over, ok, err := t.number(qRemovedOver, o.Account, MaxTombstones)
	if err != nil || !ok {
		return err
	}
	if err := t.run(qRemovedTrim, o.Account, over); err != nil {
		return err
	}
	return t.run(qRosterFloor, o.Account, over)
}

func (o RequestPut) exec(t *tx) error {
	if err := t.run(qRequestPut, o.Account, o.From.Bare().String(), o.Stanza, o.At.UnixMicro()); err != nil {
		return err
	}
	return t.run(qRequestCut, o.Account, MaxRequests)
}

func (o RequestDelete) exec(t *tx) error {
	return t.run(qRequestDel, o.Account, o.From.Bare().String())
}

func (o BlockPut) exec(t *tx) error    { return t.run(qBlockPut, o.Account, o.JID.String()) }
func (o BlockDelete) exec(t *tx) error { return t.run(qBlockDel, o.Account, o.JID.String()) }
func (o BlockClear) exec(t *tx) error  { return t.run(qBlockClear, o.Account) }

func (o KVPut) exec(t *tx) error    { return t.run(qKVPut, o.Account, o.Space, o.Key, o.Value) }
func (o KVDelete) exec(t *tx) error { return t.run(qKVDel, o.Account, o.Space, o.Key) }

func (o SessionSeen) exec(t *tx) error {
	if err := t.run(qSessionPut, o.Account, o.Resource, o.Client, o.Address, o.At.UnixMicro(), o.Online); err != nil {
		return err
	}
	return t.run(qSessionCut, o.Account, MaxSessionRows)
}

const opOverhead = 128

func (o ArchiveAppend) size() int { return opOverhead + len(o.Stanza) }
func (o OfflineAppend) size() int { return opOverhead + len(o.Stanza) }
func (o OfflineClear) size() int  { return opOverhead }
func (o RosterPut) size() int     { return opOverhead + len(o.Item.Name) }
func (o RosterDelete) size() int  { return opOverhead }
func (o RequestPut) size() int    { return opOverhead + len(o.Stanza) }
func (o RequestDelete) size() int { return opOverhead }
func (o BlockPut) size() int      { return opOverhead }
func (o BlockDelete) size() int   { return opOverhead }
func (o BlockClear) size() int    { return opOverhead }
func (o KVPut) size() int         { return opOverhead + len(o.Space) + len(o.Key) + len(o.Value) }
func (o KVDelete) size() int      { return opOverhead + len(o.Space) + len(o.Key) }
func (o SessionSeen) size() int   { return opOverhead + len(o.Resource) + len(o.Client) + len(o.Address) }
