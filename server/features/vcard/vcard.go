// Package vcard keeps the vCards of accounts (XEP-0054), and with a vCard the
// hash of its photo, which the account's presence carries (XEP-0153).
package vcard

import (
	"context"
	"errors"
	"fmt"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Where the store keeps a vCard. The hash of its photo is the account's owner's
// to keep (feature.Update.AvatarHash).
const (
	Space = "vcard"
	Key   = "vcard"
)

// Store is what the feature reads from the store.
type Store interface {
	KVGet(ctx context.Context, id store.AccountID, space, key string) ([]byte, error)
}

// New is the feature; maxBytes bounds a vCard.
func New(s Store, maxBytes int) feature.Feature {
	h := handler{s, maxBytes}
	name := xmltree.Name{Space: xep.NSVCard, Local: "vCard"}
	vars := []string{xep.NSVCard}
	return feature.Feature{
		Name:  "vcard",
		Specs: []feature.Spec{{XEP: "0054", Version: "1.3.0"}, {XEP: "0153", Version: "1.1.1"}},
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: vars},
			{Scope: feature.Account, Vars: vars},
			{Scope: feature.Contact, Vars: vars},
		},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name, Handle: h.own},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name, Handle: h.set},
			{Scope: feature.Contact, Type: stanza.TypeGet, Name: name, Handle: h.contact},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: name, Handle: forbid},
		},
	}
}

type handler struct {
	store    Store
	maxBytes int
}

// own answers the account's owner, with an empty vCard if there is none
// (XEP-0054 3.1).
func (h handler) own(ctx context.Context, q *feature.Query) (string, error) {
	card, err := h.read(ctx, q)
	if card == "" && err == nil {
		card = xep.EmptyVCard
	}
	return card, err
}

// contact answers anybody. No vCard and no account look the same (XEP-0054 3.3).
func (h handler) contact(ctx context.Context, q *feature.Query) (string, error) {
	card, err := h.read(ctx, q)
	var e *stanza.Error
	if card == "" && err == nil || errors.As(err, &e) && e.Condition == stanza.ItemNotFound {
		return "", stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return card, err
}

// read returns the vCard, "" if there is none.
func (h handler) read(ctx context.Context, q *feature.Query) (string, error) {
	id, err := q.Owner.StoreID(ctx)
	if err != nil {
		return "", err
	}
	card, err := h.store.KVGet(ctx, store.AccountID(id), Space, Key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("reading a vCard: %w", err)
	}
	return string(card), nil
}

// set replaces the vCard (XEP-0054 3.2).
func (h handler) set(ctx context.Context, q *feature.Query) (string, error) {
	card := q.Payload.AppendTo(nil, stanza.NSClient)
	if len(card) > h.maxBytes {
		return "", stanza.NewError(stanza.PolicyViolation, fmt.Sprintf("a vCard has at most %d bytes", h.maxBytes))
	}
	hash, err := xep.PhotoHash(q.Payload)
	if err != nil {
		return "", err
	}
	return "", q.Owner.Update(ctx, feature.Update{
		Put:        []feature.KeyValue{{Space: Space, Key: Key, Value: card}},
		AvatarHash: &hash,
	})
}

// forbid answers who changes somebody else's vCard (XEP-0054 3.2).
func forbid(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.Forbidden, "")
}
