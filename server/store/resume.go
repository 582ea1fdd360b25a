package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"carillon.im/server/store/sqlite"
)

// Bounds of what is kept of sessions.
const (
	MaxSavedSessions = 256     // per account
	MaxSavedQueue    = 16384   // stanzas of one session
	MaxSavedBytes    = 4 << 20 // of them and their tags together; entries of the archive take none
	MaxSavedState    = 1 << 20 // bytes of SavedSession.State
)

// ResumeKey stands for a resumption id (XEP-0198 5), which whoever reads the database therefore doesn't get.
type ResumeKey [sha256.Size]byte

// NewResumeKey is the key of a resumption id.
func NewResumeKey(id string) ResumeKey { return sha256.Sum256([]byte(id)) }

// SavedSession is what of a session outlives the server (S-11), so that it can be resumed. It is exact: a session is saved when nothing passes
// between server and client any more, and forgotten before anything passes again. See DESIGN.md, "Sessions that outlive the server".
type SavedSession struct {
	Key      ResumeKey
	Resource string
	Client   string // id of the user-agent, may be empty
	Window   time.Duration
	Ends     time.Time // when it can't be resumed any more; zero: it is connected. Open gives those their whole window from then on.
	Handled  uint32    // h of what the client sent (XEP-0198 4)
	Acked    uint32    // the client's last h
	Sent     int       // so many stanzas of Queue, from the first on, were sent
	// UpTo is the newest archive id that the account had handed to its sessions when this one was saved (not the newest it had given): what of the
	// archive up to there the client is owed is in Queue.
	UpTo  ArchiveID
	State []byte // profile, presence, client state, interests and whatever else its owner wants back
	Queue []QueuedStanza
}

// QueuedStanza is a stanza that a client is not known to have.
type QueuedStanza struct {
	Entry  ArchiveID // its entry in the account's archive, 0 if it is not in it
	Tag    []byte    // what the owner needs to know: its kind, and for an entry the form
	Stanza []byte    // complete; empty if Entry is enough to make it again
}

// SessionSave keeps a session, in place of what was kept of it. ErrTooBig beyond the bounds: more sessions than MaxSavedSessions are not kept, and
// none is dropped for another. ErrNotFound if there is no such account.
type SessionSave struct {
	Account AccountID
	Session SavedSession
}

// SessionQueue appends to the queue of a saved session a stanza that it has not sent, in the unit whose commit the sender is told of: an exclusive
// message, which has no other place to outlive the server, or the entry of a message whose way to this session can't be decided once more from the
// archive. Where no such session is kept nothing happens. ErrTooBig beyond MaxSavedQueue and MaxSavedBytes.
type SessionQueue struct {
	Account AccountID
	Key     ResumeKey
	Stanza  QueuedStanza
}

// SessionForget drops a session, if it is kept: it has ended, or it is used again, and then nothing passes before the commit.
type SessionForget struct {
	Account AccountID
	Key     ResumeKey
}

func (o SessionSave) exec(t *tx) error {
	x := &o.Session
	bytes := 0
	for _, q := range x.Queue {
		bytes += q.bytes()
	}
	if len(x.Queue) > MaxSavedQueue || bytes > MaxSavedBytes || len(x.State) > MaxSavedState {
		return fmt.Errorf("session with %d stanzas of %d bytes and a state of %d: %w", len(x.Queue), bytes, len(x.State), ErrTooBig)
	}
	if x.Sent < 0 || x.Sent > len(x.Queue) || x.Window < 0 {
		return fmt.Errorf("session that sent %d of %d stanzas: %w", x.Sent, len(x.Queue), ErrInvalid)
	}
	ends := int64(0)
	if !x.Ends.IsZero() {
		ends = x.Ends.UnixMicro()
	}
	err := t.run(qSavedPut, o.Account, x.Key[:], x.Resource, x.Client, ends, x.Window.Microseconds(), int64(x.Handled), int64(x.Acked),
		x.Sent, x.UpTo, x.State, bytes)
	if err != nil {
		return err
	}
	if n, _, err := t.number(qSavedCount, o.Account); err != nil {
		return err
	} else if n > MaxSavedSessions {
		return fmt.Errorf("session beyond %d: %w", MaxSavedSessions, ErrTooBig)
	}
	if err := t.run(qQueueDel, o.Account, x.Key[:]); err != nil {
		return err
	}
	for i, q := range x.Queue {
		if err := t.run(qQueuePut, o.Account, x.Key[:], i, q.Entry, q.Tag, q.Stanza); err != nil {
			return err
		}
	}
	return nil
}

func (o SessionQueue) exec(t *tx) error {
	bytes, kept, err := t.number(qSavedBytes, o.Account, o.Key[:])
	if err != nil || !kept {
		return err
	}
	n := int64(0)
	last, some, err := t.number(qQueueLast, o.Account, o.Key[:])
	if err != nil {
		return err
	}
	if some {
		n = last + 1
	}
	if bytes += int64(o.Stanza.bytes()); n >= MaxSavedQueue || bytes > MaxSavedBytes {
		return fmt.Errorf("session with %d stanzas and %d bytes with another: %w", n, bytes, ErrTooBig)
	}
	if err := t.run(qSavedGrow, o.Account, o.Key[:], bytes); err != nil {
		return err
	}
	return t.run(qQueuePut, o.Account, o.Key[:], n, o.Stanza.Entry, o.Stanza.Tag, o.Stanza.Stanza)
}

func (o SessionForget) exec(t *tx) error { return t.run(qSavedDel, o.Account, o.Key[:]) }

func (q QueuedStanza) bytes() int { return len(q.Tag) + len(q.Stanza) }
func (q QueuedStanza) size() int  { return opOverhead + q.bytes() }

func (o SessionSave) size() int {
	n := opOverhead + len(o.Session.Resource) + len(o.Session.Client) + len(o.Session.State)
	for _, q := range o.Session.Queue {
		n += q.size()
	}
	return n
}
func (o SessionQueue) size() int  { return opOverhead + o.Stanza.size() }
func (o SessionForget) size() int { return opOverhead }

// SessionsOf returns an account's saved sessions with their queues, ordered by key. Those whose time is over come too: their owner
// ends them as any session, so that what they are owed is kept or its sender told, and forgets them then.
func (s *Store) SessionsOf(ctx context.Context, account AccountID) ([]SavedSession, error) {
	var list []SavedSession
	err := s.read(ctx, func(c *conn) error {
		return s.snapshot(c, func() error { return savedSessions(c, account, &list) })
	})
	return list, err
}

func savedSessions(c *conn, account AccountID, list *[]SavedSession) error {
	err := c.each(qSavedAll, func(r *sqlite.Stmt) error {
		x := SavedSession{
			Resource: r.ColText(1), Client: r.ColText(2), Ends: stamp(r.ColInt(3)), Window: time.Duration(r.ColInt(4)) * time.Microsecond,
			Handled: uint32(r.ColInt(5)), Acked: uint32(r.ColInt(6)), Sent: int(r.ColInt(7)), UpTo: ArchiveID(r.ColInt(8)), State: r.ColBlob(9),
		}
		copy(x.Key[:], r.ColRaw(0))
		*list = append(*list, x)
		return nil
	}, account)
	for i := 0; err == nil && i < len(*list); i++ {
		x := &(*list)[i]
		err = c.each(qQueueAll, func(r *sqlite.Stmt) error {
			x.Queue = append(x.Queue, QueuedStanza{Entry: ArchiveID(r.ColInt(0)), Tag: r.ColBlob(1), Stanza: r.ColBlob(2)})
			return nil
		}, account, x.Key[:])
	}
	return err
}

// SavedAccounts returns up to limit accounts above after, by id, that have saved sessions: whoever starts the server loads them, so that their
// sessions are there again before anybody writes to them.
func (s *Store) SavedAccounts(ctx context.Context, after AccountID, limit int) ([]AccountInfo, error) {
	var list []AccountInfo
	err := s.read(ctx, func(c *conn) error {
		return c.each(qSavedAccounts, func(r *sqlite.Stmt) error {
			a, err := readAccount(r)
			list = append(list, a)
			return err
		}, after, max(limit, 0))
	})
	return list, err
}
