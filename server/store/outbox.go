package store

import (
	"context"
	"fmt"
	"time"

	"carillon.im/server/store/sqlite"
)

// OutboxID names a message in the outbox. Ids are made by who puts messages in, from Starts and a counter, so that they are never given twice and grow.
type OutboxID uint64

// OutboxMessage is a message for another server that isn't known to have it.
type OutboxMessage struct {
	ID     OutboxID
	At     time.Time // when it was sent
	Stanza []byte    // complete, in the form in which it leaves
}

// OutboxPut keeps a message for another server until OutboxDelete: in the unit whose commit its sender is told of, so that what was acknowledged is
// not lost. ErrExists if the id is taken, ErrInvalid for 0 or one beyond 63 bits. How many there are is bounded by who delivers them.
type OutboxPut struct{ Message OutboxMessage }

// OutboxDelete drops messages that were delivered or returned; those that aren't there are none.
type OutboxDelete struct{ IDs []OutboxID }

func (o OutboxPut) exec(t *tx) error {
	m := &o.Message
	if m.ID == 0 || m.ID > 1<<63-1 {
		return fmt.Errorf("outbox id %d: %w", m.ID, ErrInvalid)
	}
	n, _, err := t.number(qOutboxHas, int64(m.ID))
	switch {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("outbox id %d: %w", m.ID, ErrExists)
	}
	return t.run(qOutboxPut, int64(m.ID), m.At.UnixMicro(), m.Stanza)
}

func (o OutboxDelete) exec(t *tx) error {
	for _, id := range o.IDs {
		if err := t.run(qOutboxDel, int64(id)); err != nil {
			return err
		}
	}
	return nil
}

func (o OutboxPut) size() int    { return opOverhead + len(o.Message.Stanza) }
func (o OutboxDelete) size() int { return opOverhead + 8*len(o.IDs) }

// Outbox returns up to limit messages above after, by id: whoever starts the server takes them up again.
func (s *Store) Outbox(ctx context.Context, after OutboxID, limit int) ([]OutboxMessage, error) {
	var list []OutboxMessage
	err := s.read(ctx, func(c *conn) error {
		return c.each(qOutboxAll, func(r *sqlite.Stmt) error {
			list = append(list, OutboxMessage{ID: OutboxID(r.ColInt(0)), At: stamp(r.ColInt(1)), Stanza: r.ColBlob(2)})
			return nil
		}, int64(after), max(limit, 0))
	})
	return list, err
}
