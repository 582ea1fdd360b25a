package store

import (
	"context"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store/sqlite"
)

// An account, or a room, that comes from elsewhere is built where nobody sees it, in as many transactions as it takes, and is there as a whole with
// the last of them. Until then its address begins with what no address begins with. What a process left unfinished goes when the store is opened.
const unfinished = "import:"

// ImportBegin makes an account or a room to be filled by other ops. ErrExists if it was begun already.
type ImportBegin struct {
	JID jid.JID
	At  time.Time
	ID  *AccountID // the answer, to be read after the commit
}

// ImportAccount makes what was begun the account JID. ErrExists if there is one, which leaves all as it is.
type ImportAccount struct {
	Account  AccountID
	JID      jid.JID
	Created  time.Time
	Disabled bool
	Keys     []sasl.Keys
}

// ImportRoom makes what was begun the room JID. ErrExists if there is one.
type ImportRoom struct {
	Account AccountID
	JID     jid.JID
	Created time.Time
	Creator jid.JID
	Room    RoomData
	Members []RoomMember
}

// importDrop deletes what was begun.
type importDrop struct{ account AccountID }

func (o ImportBegin) size() int   { return opOverhead }
func (o ImportAccount) size() int { return opOverhead * (1 + len(o.Keys)) }
func (o ImportRoom) size() int {
	return opOverhead*(1+len(o.Members)) + len(o.Room.Options) + len(o.Room.Subject)
}
func (o importDrop) size() int { return opOverhead }

func (o ImportBegin) exec(t *tx) error {
	if err := t.run(qAccountPut, unfinished+o.JID.String(), "", o.At.UnixMicro()); err != nil {
		return err
	}
	*o.ID = AccountID(t.w.db.LastInsertID())
	return nil
}

func (o ImportAccount) exec(t *tx) error {
	if err := finish(t, o.Account, o.JID, o.JID.Domain(), o.Created, o.Disabled); err != nil {
		return err
	}
	return putKeys(t, o.Account, o.Keys)
}

func finish(t *tx, id AccountID, j jid.JID, domain string, created time.Time, disabled bool) error {
	if err := t.run(qImportEnd, id, unfinished+j.String(), j.String(), domain, created.UnixMicro(), disabled); err != nil {
		return err
	}
	if t.w.db.Changes() == 0 {
		return fmt.Errorf("import of %s: %w", j, ErrNotFound)
	}
	return nil
}

func (o ImportRoom) exec(t *tx) error {
	if err := finish(t, o.Account, o.JID, "", o.Created, false); err != nil {
		return err
	}
	d := o.Room
	if err := t.run(qRoomCreate, o.Account, o.JID.Domain(), o.JID.String(), o.Creator.String(), d.Persistent, d.Public, d.Name, blob(d.Options), blob(d.Subject)); err != nil {
		return err
	}
	for _, m := range o.Members {
		if err := (RoomMemberPut{o.Account, m}).exec(t); err != nil {
			return err
		}
	}
	return nil
}

func (o importDrop) exec(t *tx) error {
	if err := t.run(qRemovalPut, o.account); err != nil {
		return err
	}
	if err := t.run(qAccountDel, o.account); err != nil {
		return err
	}
	t.removed = append(t.removed, o.account)
	return nil
}

// DropImport deletes what ImportBegin began and nothing has finished.
func (s *Store) DropImport(ctx context.Context, id AccountID) error {
	if err := s.Commit(ctx, importDrop{id}); err != nil {
		return fmt.Errorf("store: giving up an import: %w", err)
	}
	return s.finishRemoval(ctx, id)
}

// Credentials returns all keys of an account, by their hash, also of one that is disabled.
func (s *Store) Credentials(ctx context.Context, id AccountID) (list []sasl.Keys, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.each(qKeysAll, func(r *sqlite.Stmt) error {
			list = append(list, sasl.Keys{Hash: sasl.Hash(r.ColInt(0)), Iterations: int(r.ColInt(1)),
				Salt: r.ColBlob(2), StoredKey: r.ColBlob(3), ServerKey: r.ColBlob(4)})
			return nil
		}, id)
	})
	return list, err
}
