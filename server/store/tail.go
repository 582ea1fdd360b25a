package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"slices"
	"sync"

	"carillon.im/jid"
)

// tailKeep bounds how many accounts without rows in the tail are remembered, so that their next entry needs no look-up.
const tailKeep = 16384

// tailRow is an archive entry that is durable in the tail table and not yet moved to the archive table.
type tailRow struct {
	id     ArchiveID
	peer   jid.JID
	thread threadKey
	stanza []byte
}

const tailRowOverhead = 80

// tailAccount is one account's part of the tail. For each account: every id in the archive table <= stored < every id in rows, at every moment
// that a reader can observe. So a reader that takes rows first and then reads the table below rows[0] sees each entry once, whatever moves
// meanwhile.
type tailAccount struct {
	id     AccountID
	rows   []tailRow // ascending; readers hold slices of it, so it is appended to or replaced, never changed in place
	stored ArchiveID // the highest id in the archive table, or 0

	// The rest belongs to the transaction that is being built; the writer alone touches it.
	staged []tailRow // ascending; become rows at commit
	moving int       // rows[:moving] leave at commit
	listed bool      // is in tx.touched
}

// last is the highest id of the account that the tail knows of.
func (a *tailAccount) last() ArchiveID {
	last := a.stored
	if n := len(a.rows); n > 0 {
		last = a.rows[n-1].id
	}
	if n := len(a.staged); n > 0 {
		last = max(last, a.staged[n-1].id)
	}
	return last
}

func (a *tailAccount) has(id ArchiveID) bool {
	_, in := findRow(a.rows, id)
	_, staged := findRow(a.staged, id)
	return in || staged
}

// tail is the part of all archives that is kept in memory beside the tail table. The writer changes it under mu, and only between transactions.
type tail struct {
	mu       sync.RWMutex
	accounts map[AccountID]*tailAccount
	count    int // rows
	bytes    int
}

// snapshot returns the rows of an account. They must not be changed.
func (t *tail) snapshot(id AccountID) []tailRow {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if a := t.accounts[id]; a != nil {
		return a.rows
	}
	return nil
}

// add puts rows in; it is called under mu or before the tail has readers.
func (t *tail) add(a *tailAccount, rows []tailRow) {
	for _, r := range rows {
		t.count++
		t.bytes += tailRowOverhead + len(r.stanza)
	}
	if len(a.rows) == 0 || len(rows) == 0 || a.rows[len(a.rows)-1].id < rows[0].id {
		a.rows = append(a.rows, rows...)
		return
	}
	merged := make([]tailRow, 0, len(a.rows)+len(rows))
	merged = append(append(merged, a.rows...), rows...)
	slices.SortFunc(merged, func(x, y tailRow) int { return cmp.Compare(x.id, y.id) })
	a.rows = merged
}

// drop removes the first n rows of a, which are now in the archive table.
func (t *tail) drop(a *tailAccount, n int) {
	if n == 0 {
		return
	}
	for _, r := range a.rows[:n] {
		t.count--
		t.bytes -= tailRowOverhead + len(r.stanza)
	}
	a.stored = a.rows[n-1].id
	if n == len(a.rows) {
		a.rows = nil
	} else {
		a.rows = slices.Clone(a.rows[n:]) // lets go of the stanzas
	}
}

// forget removes an account that holds no rows if too many of those are remembered.
func (t *tail) forget(a *tailAccount) {
	if len(a.rows) == 0 && len(t.accounts) > tailKeep {
		delete(t.accounts, a.id)
	}
}

// remove takes an account out with all its rows.
func (t *tail) remove(id AccountID) {
	if a := t.accounts[id]; a != nil {
		t.drop(a, len(a.rows))
		delete(t.accounts, id)
	}
}

// findRow returns the index of the first row with an id not below id, and whether it is that id.
func findRow(rows []tailRow, id ArchiveID) (int, bool) {
	return slices.BinarySearchFunc(rows, id, func(r tailRow, id ArchiveID) int { return cmp.Compare(r.id, id) })
}

// The data of a tail table row is a sequence of entries: account, id, peer and stanza, the numbers as unsigned varints, the others preceded by
// their length as such. Before an entry with a thread come 0, which no account has, and the thread's key.

func appendEntry(dst []byte, account AccountID, r tailRow) []byte {
	peer := r.peer.String()
	if r.thread != (threadKey{}) {
		dst = append(append(dst, 0), r.thread[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(account))
	dst = binary.AppendUvarint(dst, uint64(r.id))
	dst = binary.AppendUvarint(dst, uint64(len(peer)))
	dst = append(dst, peer...)
	dst = binary.AppendUvarint(dst, uint64(len(r.stanza)))
	return append(dst, r.stanza...)
}

var errTailData = errors.New("store: malformed data in the tail table")

// readEntry reads what appendEntry wrote and returns what follows. The stanza is part of data.
func readEntry(data []byte) (account AccountID, r tailRow, rest []byte, err error) {
	number := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			err = errTailData
			return 0
		}
		data = data[n:]
		return v
	}
	take := func() []byte {
		n := number()
		if err != nil || n > uint64(len(data)) {
			err = errTailData
			return nil
		}
		b := data[:n:n]
		data = data[n:]
		return b
	}
	if account = AccountID(number()); account == 0 && err == nil && len(data) >= len(r.thread) {
		data = data[copy(r.thread[:], data):]
		account = AccountID(number())
	}
	if account <= 0 && err == nil {
		err = errTailData
	}
	r.id = ArchiveID(number())
	peer := string(take())
	r.stanza = take()
	if err == nil {
		r.peer, err = jid.Parse(peer)
	}
	return account, r, data, err
}

// peerHash is the key of the archive's index by correspondent.
func peerHash(peer jid.JID) int64 {
	h := fnv.New64a()
	h.Write([]byte(peer.Bare().String()))
	return int64(h.Sum64())
}
