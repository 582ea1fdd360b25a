package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"carillon.im/jid"
	"carillon.im/server/store"
)

// disguise gives names that nobody has the iterations of a stored password. When
// auth.iterations changes, accounts get the new count one by one, as they change
// their passwords; were it the same for all other names, it would tell who has
// an account. So unknown names have the counts that accounts have, in the same
// proportions: each name has its place, and when the proportions move it changes
// at most once, with its salt, like an account whose password changes.
type disguise struct {
	secret  []byte
	without int // the iterations where there are no accounts
	counts  atomic.Pointer[[]store.IterationCount]
}

// refresh counts the accounts' passwords.
func (d *disguise) refresh(ctx context.Context, s *store.Store) error {
	counts, err := s.Iterations(ctx)
	if err == nil {
		d.counts.Store(&counts)
	}
	return err
}

// iterations is what a name that nobody has seems to have.
func (d *disguise) iterations(bare jid.JID) int {
	counts := *d.counts.Load()
	total := 0
	for _, c := range counts {
		total += c.Keys
	}
	if total == 0 {
		return d.without
	}
	h := hmac.New(sha256.New, d.secret)
	h.Write([]byte("iterations\x00" + bare.String()))
	place, _ := bits.Mul64(binary.BigEndian.Uint64(h.Sum(nil)), uint64(total)) // below total
	for _, c := range counts {
		if place < uint64(c.Keys) {
			return c.Iterations
		}
		place -= uint64(c.Keys)
	}
	return d.without // not reached
}
