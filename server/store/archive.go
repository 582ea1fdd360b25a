package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"carillon.im/server/store/sqlite"
)

const (
	maxArchiveID ArchiveID = math.MaxInt64
	cutRows                = 1000 // archive entries deleted per transaction
)

// page collects the entries of one query, so that no connection is held while the caller works on them.
type page struct {
	entries []pageEntry
	data    []byte
	limit   int // entries that the caller gets; one more says that there are further ones
	bytes   int // of stanzas, behind which there are no more to get; 0: no such bound
	size    int
}

type pageEntry struct {
	id       ArchiveID
	from, to int    // in page.data, if stanza is nil
	stanza   []byte // a tail row's
}

// pageKeep bounds the memory of a page that is kept for the next query.
const pageKeep = 256 << 10

func (p *page) stanza(e pageEntry) []byte {
	if e.stanza != nil {
		return e.stanza
	}
	return p.data[e.from:e.to:e.to]
}

func (p *page) copyRow(r *sqlite.Stmt) {
	from := len(p.data)
	p.data = append(p.data, r.ColRaw(1)...)
	p.add(pageEntry{id: ArchiveID(r.ColInt(0)), from: from, to: len(p.data)}, len(p.data)-from)
}

func (p *page) add(e pageEntry, size int) {
	p.entries = append(p.entries, e)
	if p.size += size; p.bytes > 0 && p.size >= p.bytes {
		p.limit = min(p.limit, len(p.entries))
	}
}

// full reports whether all is known of the page: its entries, and that there are more.
func (p *page) full() bool { return len(p.entries) > p.limit }

// span is what the conditions of a query leave of the id space: after < id <= upTo.
type span struct{ after, upTo ArchiveID }

// span computes the bounds. Start and End are inclusive (XEP-0313 4.1.2), and ids are microseconds.
func (q *ArchiveQuery) span() span {
	b := span{after: max(q.AfterID, 0), upTo: maxArchiveID}
	if q.BeforeID > 0 {
		b.upTo = q.BeforeID - 1
	}
	if q.UpTo > 0 {
		b.upTo = min(b.upTo, q.UpTo)
	}
	if !q.Start.IsZero() {
		// An entry of the microsecond that Start falls into, but before Start, does not count.
		first := q.Start.UnixMicro()
		if q.Start.Nanosecond()%1000 != 0 {
			first++
		}
		b.after = max(b.after, ArchiveID(first)-1)
	}
	if !q.End.IsZero() {
		b.upTo = min(b.upTo, ArchiveID(q.End.UnixMicro()))
	}
	return b
}

// keyed sets the key of the query's thread.
func (q *ArchiveQuery) keyed() error {
	if len(q.Thread) > MaxThread {
		return fmt.Errorf("store: a thread of %d bytes is not in the index: %w", len(q.Thread), ErrInvalid)
	}
	q.thread = newThreadKey(q.Thread)
	return nil
}

func (q *ArchiveQuery) wants(r tailRow) bool {
	switch {
	case q.Thread != "" && r.thread != q.thread:
		return false
	case q.With.IsZero():
		return true
	case q.With.IsBare():
		return r.peer.Bare() == q.With
	}
	return r.peer == q.With
}

// Archive calls fn for each entry that matches, oldest first; more reports whether further ones match in the direction of paging. A stanza is only
// valid during its call. fn may use the store.
func (s *Store) Archive(ctx context.Context, q ArchiveQuery, fn func(ArchivedMessage) error) (more bool, err error) {
	if err := q.keyed(); err != nil {
		return false, err
	}
	p := s.pages.Get().(*page)
	p.limit, p.bytes, p.size = max(q.Max, 0), q.Bytes, 0
	defer func() {
		if cap(p.data) <= pageKeep {
			clear(p.entries)
			p.entries, p.data = p.entries[:0], p.data[:0]
			s.pages.Put(p)
		}
	}()
	if q.IDs != nil {
		more, err = s.pageOfIDs(ctx, &q, p)
	} else {
		more, err = s.page(ctx, &q, p)
	}
	if err != nil {
		return false, fmt.Errorf("store: reading the archive of account %d: %w", q.Account, err)
	}
	for _, e := range p.entries {
		if err := fn(ArchivedMessage{ID: e.id, Stanza: p.stanza(e)}); err != nil {
			return false, err
		}
	}
	return more, nil
}

// page fills p with up to q.Max entries, oldest first. All ids of the archive table that are older than the snapshot are below the tail's rows
// (tailAccount's rule), so the two parts are read one after the other.
func (s *Store) page(ctx context.Context, q *ArchiveQuery, p *page) (more bool, err error) {
	b := q.span()
	tail := s.tail.snapshot(q.Account)
	table := b
	if len(tail) > 0 {
		table.upTo = min(b.upTo, tail[0].id-1)
		from, _ := findRow(tail, b.after+1)
		to := len(tail)
		if b.upTo < maxArchiveID {
			to, _ = findRow(tail, b.upTo+1)
		}
		tail = tail[from:max(from, to)]
	}
	if q.Backward {
		for i := len(tail) - 1; i >= 0 && !p.full(); i-- {
			p.addTail(q, tail[i])
		}
	}
	if !p.full() {
		if err := s.pageOfTable(ctx, q, table, p.limit+1-len(p.entries), p); err != nil {
			return false, err
		}
	}
	if !q.Backward {
		for i := 0; i < len(tail) && !p.full(); i++ {
			p.addTail(q, tail[i])
		}
	}
	if more = p.full(); more {
		p.entries = p.entries[:p.limit]
	}
	if q.Backward {
		slices.Reverse(p.entries)
	}
	return more, nil
}

func (p *page) addTail(q *ArchiveQuery, r tailRow) {
	if q.wants(r) {
		p.add(pageEntry{id: r.id, stanza: r.stanza}, len(r.stanza))
	}
}

// pageOfTable appends up to limit entries of the archive table in the direction of q.
func (s *Store) pageOfTable(ctx context.Context, q *ArchiveQuery, b span, limit int, p *page) error {
	if b.after >= b.upTo {
		return nil
	}
	return s.read(ctx, func(c *conn) error {
		r, err := c.stmt(q.statement())
		if err != nil {
			return err
		}
		defer r.Reset()
		r.Int(1, int64(q.Account))
		r.Int(2, int64(b.after))
		r.Int(3, int64(b.upTo))
		r.Int(4, int64(limit))
		if !q.With.IsZero() {
			r.Int(5, peerHash(q.With))
			r.Text(6, q.With.String())
		}
		if q.Thread != "" {
			r.Blob(7, q.thread[:])
		}
		for !p.full() {
			row, err := r.Step()
			if err != nil || !row {
				return err
			}
			p.copyRow(r)
		}
		return nil
	})
}

// statement is the one for a page of the archive table.
func (q *ArchiveQuery) statement() string {
	either := func(up, down string) string {
		if q.Backward {
			return down
		}
		return up
	}
	switch thread := q.Thread != ""; {
	case thread && q.With.IsZero():
		return either(qThreadUp, qThreadDown)
	case thread && q.With.IsBare():
		return either(qThreadUpBare, qThreadDownBare)
	case thread:
		return either(qThreadUpFull, qThreadDownFull)
	case q.With.IsZero():
		return either(qPageUp, qPageDown)
	case q.With.IsBare():
		return either(qPageUpBare, qPageDownBare)
	}
	return either(qPageUpFull, qPageDownFull)
}

// pageOfIDs is page for XEP-0313's "ids": entries looked up one by one. Ids that are not there are passed over; ArchiveHas tells.
func (s *Store) pageOfIDs(ctx context.Context, q *ArchiveQuery, p *page) (more bool, err error) {
	b := q.span()
	ids := slices.Clone(q.IDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if q.Backward {
		slices.Reverse(ids)
	}
	tail := s.tail.snapshot(q.Account)
	err = s.read(ctx, func(c *conn) error {
		for _, id := range ids {
			if id <= b.after || id > b.upTo {
				continue
			}
			if p.full() {
				return nil
			}
			if i, ok := findRow(tail, id); ok {
				p.addTail(q, tail[i])
				continue
			}
			err := c.each(qEntry, func(r *sqlite.Stmt) error {
				var row tailRow
				copy(row.thread[:], r.ColRaw(3))
				if !q.With.IsZero() {
					var err error
					if row.peer, err = parseJID(r.ColText(2)); err != nil {
						return err
					}
				}
				if !q.wants(row) {
					return nil
				}
				p.copyRow(r)
				return nil
			}, q.Account, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if more = p.full(); more {
		p.entries = p.entries[:p.limit]
	}
	if q.Backward {
		slices.Reverse(p.entries)
	}
	return more, err
}

// ArchiveNewest returns the id of the oldest of the newest q.Max entries that match, and whether older ones match; first is 0 where that are all
// there are, or q.Max is not positive. It reads no stanzas. Of q's conditions, those on the id and the time count.
func (s *Store) ArchiveNewest(ctx context.Context, q ArchiveQuery) (first ArchiveID, more bool, err error) {
	if q.Max <= 0 {
		return 0, false, nil
	}
	b := q.span()
	skip := q.Max - 1 // newer than first
	tail := s.tail.snapshot(q.Account)
	table := b
	if len(tail) > 0 {
		table.upTo = min(b.upTo, tail[0].id-1)
	}
	for _, r := range slices.Backward(tail) {
		switch {
		case r.id <= b.after || r.id > b.upTo:
		case first != 0:
			return first, true, nil
		case skip == 0:
			first = r.id
		default:
			skip--
		}
	}
	if table.after >= table.upTo {
		return 0, false, nil
	}
	var ids [2]ArchiveID // the oldest that is wanted, and one that isn't
	n := 0
	if first != 0 {
		ids[0], n, skip = first, 1, 0
	}
	err = s.read(ctx, func(c *conn) error {
		return c.each(qNth, func(r *sqlite.Stmt) error {
			ids[n] = ArchiveID(r.ColInt(0))
			n++
			return nil
		}, q.Account, table.after, table.upTo, len(ids)-n, skip)
	})
	if err != nil || n < len(ids) {
		return 0, false, err
	}
	return ids[0], true, nil
}

// ArchiveCount returns how many entries match, whatever q.Max says. Without With or with a bare one, or for a whole thread, it reads an index
// alone.
func (s *Store) ArchiveCount(ctx context.Context, q ArchiveQuery) (int, error) {
	if err := q.keyed(); err != nil {
		return 0, err
	}
	if q.IDs != nil {
		n := 0
		q.Max = len(q.IDs)
		_, err := s.Archive(ctx, q, func(ArchivedMessage) error { n++; return nil })
		return n, err
	}
	b := q.span()
	n := 0
	tail := s.tail.snapshot(q.Account)
	table := b
	if len(tail) > 0 {
		table.upTo = min(b.upTo, tail[0].id-1)
		for _, r := range tail {
			if r.id > b.after && r.id <= b.upTo && q.wants(r) {
				n++
			}
		}
	}
	if table.after >= table.upTo {
		return n, nil
	}
	query, args := qCount, []any{q.Account, table.after, table.upTo}
	switch {
	case q.Thread != "" && q.With.IsZero():
		query, args = qCountThread, append(args, q.thread[:])
	case q.Thread != "" && q.With.IsBare():
		query, args = qCountThreadB, append(args, q.thread[:], peerHash(q.With), q.With.String())
	case q.Thread != "":
		query, args = qCountThreadF, append(args, q.thread[:], peerHash(q.With), q.With.String())
	case q.With.IsZero():
	case q.With.IsBare():
		query, args = qCountWith, append(args, peerHash(q.With))
	default:
		query, args = qCountFull, append(args, peerHash(q.With), q.With.String())
	}
	err := s.read(ctx, func(c *conn) error {
		return c.each(query, func(r *sqlite.Stmt) error {
			n += int(r.ColInt(0))
			return nil
		}, args...)
	})
	return n, err
}

// ArchiveHas reports whether the account's archive holds every one of ids.
func (s *Store) ArchiveHas(ctx context.Context, account AccountID, ids ...ArchiveID) (bool, error) {
	tail := s.tail.snapshot(account)
	all := true
	err := s.read(ctx, func(c *conn) error {
		for _, id := range ids {
			if _, ok := findRow(tail, id); ok {
				continue
			}
			found := false
			err := c.each(qHas, func(*sqlite.Stmt) error {
				found = true
				return nil
			}, account, id)
			if err != nil {
				return err
			}
			if all = all && found; !all {
				return nil
			}
		}
		return nil
	})
	return all && err == nil, err
}

// ArchiveBounds returns the first and the last entry's id, both 0 for an empty archive; entries above upTo (0: none) don't count.
func (s *Store) ArchiveBounds(ctx context.Context, account AccountID, upTo ArchiveID) (first, last ArchiveID, err error) {
	q := ArchiveQuery{UpTo: upTo}
	b := q.span()
	tail := s.tail.snapshot(account)
	err = s.read(ctx, func(c *conn) error {
		return c.each(qBounds, func(r *sqlite.Stmt) error {
			first, last = ArchiveID(r.ColInt(0)), ArchiveID(r.ColInt(1))
			return nil
		}, account, b.upTo)
	})
	if err != nil {
		return 0, 0, err
	}
	for _, r := range tail {
		if r.id <= b.upTo {
			if first == 0 {
				first = r.id
			}
			last = max(last, r.id)
		}
	}
	return first, last, nil
}

// archiveCut deletes up to limit entries with ids up to upTo of the accounts, account by account.
type archiveCut struct {
	accounts []AccountID
	upTo     ArchiveID
	limit    int
	n        *int
}

func (o archiveCut) size() int { return opOverhead + 8*len(o.accounts) }

// exclusive makes it a transaction of its own: it needs the whole archive in the archive table.
func (o archiveCut) exclusive() {}

func isExclusive(u Unit) bool {
	for _, op := range u.Ops {
		if _, ok := op.(interface{ exclusive() }); ok {
			return true
		}
	}
	return false
}

func (o archiveCut) exec(t *tx) error {
	*o.n = 0
	if err := t.moveAll(); err != nil {
		return err
	}
	for _, id := range o.accounts {
		if *o.n >= o.limit {
			return nil
		}
		if err := t.run(qArchiveNote, id); err != nil {
			return err
		}
		if err := t.run(qArchiveCut, id, o.upTo, o.limit-*o.n); err != nil {
			return err
		}
		*o.n += t.w.db.Changes()
	}
	return nil
}

// moveTail does nothing by itself: being exclusive and calling moveAll, it empties the tail.
type moveTail struct{}

func (moveTail) size() int        { return opOverhead }
func (moveTail) exclusive()       {}
func (moveTail) exec(t *tx) error { return t.moveAll() }

// ArchivePurge deletes up to limit entries older than before, of all accounts, and returns how many it deleted: fewer than limit if none are left.
// It commits in pieces, between which others get their turn.
func (s *Store) ArchivePurge(ctx context.Context, before time.Time, limit int) (int, error) {
	upTo := ArchiveID(before.UnixMicro() - 1)
	if limit <= 0 || upTo <= 0 {
		return 0, nil
	}
	if err := s.Commit(ctx, moveTail{}); err != nil {
		return 0, fmt.Errorf("store: purging: %w", err)
	}
	total, after := 0, AccountID(0)
	for total < limit {
		var ids []AccountID
		err := s.read(ctx, func(c *conn) error {
			return c.each(qPurgeable, func(r *sqlite.Stmt) error {
				ids = append(ids, AccountID(r.ColInt(0)))
				return nil
			}, after, upTo, purgeAccounts)
		})
		if err != nil {
			return total, fmt.Errorf("store: purging: %w", err)
		}
		if len(ids) == 0 {
			return total, nil
		}
		n, chunk := 0, min(cutRows, limit-total)
		if err := s.Commit(ctx, archiveCut{accounts: ids, upTo: upTo, limit: chunk, n: &n}); err != nil {
			return total, fmt.Errorf("store: purging: %w", err)
		}
		total += n
		if n < chunk {
			after = ids[len(ids)-1] // these accounts have none left
		}
	}
	return total, nil
}

// purgeAccounts is how many accounts one transaction of a purge works on.
const purgeAccounts = 64
