package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

// RoomData is what a room is, beside its members and its archive.
type RoomData struct {
	Persistent bool
	Public     bool   // listed
	Name       string // for people
	Options    []byte // opaque
	Subject    []byte // the message that set it; empty for none
}

// RoomMember is somebody who has an affiliation with a room.
type RoomMember struct {
	JID         jid.JID // bare, or a domain
	Affiliation string  // "owner", "admin", "member" or "outcast"
	Nick        string  // reserved, may be empty
	Reason      string
}

// RoomRow is a room as LoadRoom reads it.
type RoomRow struct {
	ID            AccountID // its archive's
	LastArchiveID ArchiveID
	RoomData
	Members []RoomMember
}

// RoomEntry is a room as a list shows it.
type RoomEntry struct {
	JID      jid.JID
	Creator  jid.JID
	RoomData // without Options and Subject
}

// RoomCreate makes a room, with an archive of its own. ErrExists if the address is taken, ErrTooBig if there would be more rooms than MaxRooms, or more
// of the creator's than MaxOwn.
type RoomCreate struct {
	JID     jid.JID
	At      time.Time
	Creator jid.JID // bare
	Room    RoomData
	Members []RoomMember
	ID      *AccountID // the answer, to be read after the commit

	MaxRooms, MaxOwn int
}

// RoomPut replaces what a room is.
type RoomPut struct {
	Room AccountID
	Data RoomData
}

// RoomMemberPut gives somebody an affiliation, or changes it.
type RoomMemberPut struct {
	Room   AccountID
	Member RoomMember
}

// RoomMemberDelete takes an affiliation away, if there is one.
type RoomMemberDelete struct {
	Room AccountID
	JID  jid.JID
}

// ArchiveReplace puts another stanza in the place of an entry's, which then has no thread. It fails with ErrNotFound if there is no such entry. It costs
// a transaction of its own; in its unit it stands before what appends to an archive.
type ArchiveReplace struct {
	Account AccountID
	ID      ArchiveID
	Stanza  []byte
}

func (o RoomCreate) size() int {
	return opOverhead*(1+len(o.Members)) + len(o.Room.Options) + len(o.Room.Subject)
}
func (o RoomPut) size() int          { return opOverhead + len(o.Data.Options) + len(o.Data.Subject) }
func (o RoomMemberPut) size() int    { return opOverhead + len(o.Member.Reason) }
func (o RoomMemberDelete) size() int { return opOverhead }
func (o ArchiveReplace) size() int   { return opOverhead + len(o.Stanza) }
func (o ArchiveReplace) exclusive()  {}

func (o RoomCreate) exec(t *tx) error {
	for _, c := range []struct {
		query string
		max   int
		args  []any
	}{
		{qRoomCount, o.MaxRooms, nil},
		{qRoomCountOf, o.MaxOwn, []any{o.Creator.String()}},
	} {
		if n, _, err := t.number(c.query, c.args...); err != nil {
			return err
		} else if c.max > 0 && n >= int64(c.max) {
			return fmt.Errorf("room %s: %d rooms are the limit: %w", o.JID, c.max, ErrTooBig)
		}
	}
	if err := t.run(qAccountPut, o.JID.String(), "", o.At.UnixMicro()); err != nil {
		return err
	}
	id := AccountID(t.w.db.LastInsertID())
	d := o.Room
	if err := t.run(qRoomCreate, id, o.JID.Domain(), o.JID.String(), o.Creator.String(), d.Persistent, d.Public, d.Name, blob(d.Options), blob(d.Subject)); err != nil {
		return err
	}
	for _, m := range o.Members {
		if err := (RoomMemberPut{id, m}).exec(t); err != nil {
			return err
		}
	}
	*o.ID = id
	return nil
}

// blob is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (o RoomPut) exec(t *tx) error {
	d := o.Data
	return t.run(qRoomPut, o.Room, d.Persistent, d.Public, d.Name, blob(d.Options), blob(d.Subject))
}

func (o RoomMemberPut) exec(t *tx) error {
	m := o.Member
	return t.run(qRoomMemberPut, o.Room, m.JID.String(), m.Affiliation, m.Nick, m.Reason)
}

func (o RoomMemberDelete) exec(t *tx) error { return t.run(qRoomMemberDel, o.Room, o.JID.String()) }

func (o ArchiveReplace) exec(t *tx) error {
	if err := t.moveAll(); err != nil {
		return err
	}
	if err := t.run(qArchiveReplace, o.Account, o.ID, blob(o.Stanza)); err != nil {
		return err
	}
	if t.w.db.Changes() == 0 {
		return fmt.Errorf("archive entry %d: %w", o.ID, ErrNotFound)
	}
	return nil
}

// LoadRoom reads what a room's owner keeps in memory. ErrNotFound.
func (s *Store) LoadRoom(ctx context.Context, room jid.JID) (RoomRow, error) {
	var r RoomRow
	err := s.read(ctx, func(c *conn) error {
		var id AccountID
		err := c.each(qAccountID, func(q *sqlite.Stmt) error {
			id = AccountID(q.ColInt(0))
			return nil
		}, room.String())
		if err != nil {
			return err
		}
		tail := s.tail.snapshot(id) // before the tables, as for an account
		if err := s.snapshot(c, func() error { return loadRoom(c, room, &r) }); err != nil {
			return err
		}
		if len(tail) > 0 {
			r.LastArchiveID = max(r.LastArchiveID, tail[len(tail)-1].id)
		}
		return nil
	})
	if err == nil && r.ID == 0 {
		err = fmt.Errorf("room %s: %w", room, ErrNotFound)
	}
	return r, err
}

func loadRoom(c *conn, room jid.JID, r *RoomRow) error {
	err := c.each(qRoomGet, func(q *sqlite.Stmt) error {
		r.ID, r.LastArchiveID = AccountID(q.ColInt(0)), ArchiveID(q.ColInt(1))
		r.Persistent, r.Public, r.Name = q.ColInt(2) != 0, q.ColInt(3) != 0, q.ColText(4)
		r.Options, r.Subject = q.ColBlob(5), q.ColBlob(6)
		return nil
	}, room.String())
	if err != nil {
		return err
	}
	return c.each(qRoomMembers, func(q *sqlite.Stmt) error {
		j, err := parseJID(q.ColText(0))
		r.Members = append(r.Members, RoomMember{JID: j, Affiliation: q.ColText(1), Nick: q.ColText(2), Reason: q.ColText(3)})
		return err
	}, r.ID)
}

// Rooms lists up to limit rooms of a domain above an address ("" is the first), by address: those that are listed, or all of them. All of them is also
// what there is for the domain "", which is every domain.
func (s *Store) Rooms(ctx context.Context, domain, after string, all bool, limit int) ([]RoomEntry, error) {
	query := qRoomsPublic
	switch {
	case domain == "":
		query = qRoomsEverywhere
	case all:
		query = qRoomsAll
	}
	var list []RoomEntry
	err := s.read(ctx, func(c *conn) error {
		return c.each(query, func(q *sqlite.Stmt) error {
			var e RoomEntry
			var err error
			if e.JID, err = parseJID(q.ColText(0)); err != nil {
				return err
			}
			e.Creator, err = parseJID(q.ColText(1))
			e.Persistent, e.Public, e.Name = q.ColInt(2) != 0, q.ColInt(3) != 0, q.ColText(4)
			list = append(list, e)
			return err
		}, domain, after, max(limit, 0))
	})
	return list, err
}

// RoomCount is how many rooms of a domain are listed, or there are.
func (s *Store) RoomCount(ctx context.Context, domain string, all bool) (n int, err error) {
	query := qRoomsCountPublic
	if all {
		query = qRoomsCountAll
	}
	err = s.read(ctx, func(c *conn) error {
		return c.each(query, func(q *sqlite.Stmt) error {
			n = int(q.ColInt(0))
			return nil
		}, domain)
	})
	return n, err
}

// RemoveRoom deletes a room and its archive, as RemoveAccount does an account. A room that isn't there is removed already.
func (s *Store) RemoveRoom(ctx context.Context, room jid.JID) error {
	err := s.RemoveAccount(ctx, room)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// RemoveTemporaryRooms deletes the rooms that were not meant to outlive their occupants, who are gone when the server starts. Nobody else uses
// rooms yet.
func (s *Store) RemoveTemporaryRooms(ctx context.Context) error {
	for {
		var list []jid.JID
		err := s.read(ctx, func(c *conn) error {
			return c.each(qRoomsTemporary, func(q *sqlite.Stmt) error {
				j, err := parseJID(q.ColText(0))
				list = append(list, j)
				return err
			})
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, j := range list {
			if err := s.RemoveRoom(ctx, j); err != nil {
				return err
			}
		}
	}
}
