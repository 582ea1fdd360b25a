package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync/atomic"

	"carillon.im/jid"
	"carillon.im/sasl"
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
	hashes  atomic.Pointer[[]sasl.Hash]
}

// refresh counts the accounts' passwords.
func (d *disguise) refresh(ctx context.Context, s *store.Store) error {
	counts, err := s.Iterations(ctx)
	if err != nil {
		return err
	}
	d.counts.Store(&counts)
	byHash, accounts, err := s.Hashes(ctx)
	if err != nil {
		return err
	}
	hashes := usable(byHash, accounts)
	d.hashes.Store(&hashes)
	return nil
}

// usable are the hashes that everybody can log in with. What is offered is offered
// before anybody says who he is: were it more, clients of accounts that came from
// another server, with keys of one hash, would choose another and be refused. They
// get the others one by one (XEP-0480). Where accounts have none in common it is what
// the most have.
func usable(counts map[sasl.Hash]int, accounts int) []sasl.Hash {
	all := []sasl.Hash{sasl.SHA512, sasl.SHA256, sasl.SHA1}
	most := 0
	for _, h := range all {
		most = max(most, counts[h])
	}
	if accounts == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(h sasl.Hash) bool { return counts[h] < most })
}

// offered is c2s.Config.Hashes.
func (d *disguise) offered() []sasl.Hash { return *d.hashes.Load() }

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
