package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"carillon.im/server/store/sqlite"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// MaxThread bounds the thread values that the archive's index knows, in bytes. An entry with a longer one is archived and found like one without.
const MaxThread = 1023

// threadKey is what the archive's index keeps of a thread: half of the SHA-256 of its value. Threads are opaque and compared byte for byte (RFC
// 6121 5.2.5), and nobody can make two that share a key, so who has the key has the thread. The zero key is no thread.
type threadKey [16]byte

func newThreadKey(thread string) threadKey {
	if thread == "" || len(thread) > MaxThread {
		return threadKey{}
	}
	sum := sha256.Sum256([]byte(thread))
	return threadKey(sum[:16])
}

// upkeepRows is how many archive entries one step of upkeep looks at.
const upkeepRows = 5000

// threadStep gives the keys of their threads to archive entries that were written before there was an index. It goes on where the last step
// ended, and needs what was in the tail to be in the archive table.
type threadStep struct {
	seen *int // entries looked at: fewer than upkeepRows when the work is done
}

func (o threadStep) size() int { return opOverhead }

func (o threadStep) exec(t *tx) error {
	*o.seen = 0
	if err := t.moveAll(); err != nil {
		return err
	}
	var account AccountID
	var id ArchiveID
	type found struct {
		account AccountID
		id      ArchiveID
		key     threadKey
	}
	var all []found
	err := t.w.db.each(qUpkeepGet, func(r *sqlite.Stmt) error {
		account, id = AccountID(r.ColInt(0)), ArchiveID(r.ColInt(1))
		return nil
	}, upkeepThread)
	if err != nil {
		return err
	}
	err = t.w.db.each(qArchiveWalk, func(r *sqlite.Stmt) error {
		*o.seen++
		account, id = AccountID(r.ColInt(0)), ArchiveID(r.ColInt(1))
		if key := threadOf(r.ColRaw(2)); key != (threadKey{}) {
			all = append(all, found{account, id, key})
		}
		return nil
	}, account, id, upkeepRows)
	if err != nil {
		return err
	}
	for _, f := range all {
		if err := t.run(qArchiveThread, f.account, f.id, f.key[:]); err != nil {
			return err
		}
	}
	if *o.seen < upkeepRows {
		return t.run(qUpkeepDel, upkeepThread)
	}
	return t.run(qUpkeepPut, upkeepThread, account, id)
}

// upkeepThread is the name of threadStep's work.
const upkeepThread = "thread"

// threadOf is the key of an archived message's thread. What doesn't parse has none.
func threadOf(data []byte) threadKey {
	if !bytes.Contains(data, []byte("thread")) {
		return threadKey{} // most of them, at a fraction of the cost
	}
	// What was archived was within the limits of its day.
	limits := xmltree.Limits{MaxBytes: maxUnitBytes, MaxDepth: len(data), MaxAttrs: len(data), MaxChildren: len(data), MaxNamespaces: len(data)}
	st, err := stanza.ParseBytes(bytes.Clone(data), limits)
	if err != nil {
		return threadKey{}
	}
	return newThreadKey(st.Thread())
}

// upkeep finishes what migrations left to be done, in steps that are durable, so that a start that is cut short goes on where it was. Nobody else
// uses the store yet.
func (s *Store) upkeep(ctx context.Context) error {
	todo := false
	err := s.write.db.each(qUpkeepGet, func(*sqlite.Stmt) error {
		todo = true
		return nil
	}, upkeepThread)
	if err != nil || !todo {
		return err
	}
	s.log.Info("store: indexing the threads of old messages; this is done once")
	total := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 0
		if err := s.write.alone(threadStep{seen: &n}); err != nil {
			return fmt.Errorf("store: indexing threads: %w", err)
		}
		total += n
		if n < upkeepRows {
			s.log.Info("store: the threads of old messages are indexed", "messages", total)
			return nil
		}
		if total%(20*upkeepRows) == 0 {
			s.log.Info("store: indexing the threads of old messages", "messages", total)
		}
	}
}

// alone commits one op while the writer's goroutine doesn't run yet, and keeps the write-ahead log short, which the housekeeper does later.
func (w *writer) alone(op Op) error {
	err := errors.New("store: the unit was not told its end") // commit tells it
	w.batch = append(w.batch[:0], Unit{Ops: []Op{op}, Done: func(e error) { err = e }})
	w.commit()
	if err == nil && w.s.memory == nil {
		_, _, err = w.db.Checkpoint()
	}
	return err
}
