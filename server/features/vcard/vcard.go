// Package vcard keeps the vCards of accounts (XEP-0054), and with a vCard the
// hash of its photo, which the account's presence carries (XEP-0153).
package vcard

import (
	"context"
	"encoding/base64"
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

// Avatars is where a photo is published besides (XEP-0398 3.2).
type Avatars interface {
	// Avatar adds to an update what a new photo means, nil for none any more.
	Avatar(ctx context.Context, owner feature.AccountRef, mime string, photo []byte, u *feature.Update) error
	// Update has the change made; decide may be called several times.
	Update(ctx context.Context, owner feature.AccountRef, decide func(*feature.Update) error) error
}

// New is the feature; maxBytes bounds a vCard.
func New(s Store, maxBytes int, avatars Avatars) feature.Feature {
	h := handler{s, maxBytes, avatars}
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
	avatars  Avatars
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
	return h.readOf(ctx, q.Owner)
}

func (h handler) readOf(ctx context.Context, owner feature.AccountRef) (string, error) {
	id, err := owner.StoreID(ctx)
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
	photo, err := xep.Photo(q.Payload)
	if err != nil {
		return "", err
	}
	hash, mime := xep.PhotoSum(photo), q.Payload.Child(xep.NSVCard, "PHOTO").Child(xep.NSVCard, "TYPE").Text()
	return "", h.avatars.Update(ctx, q.Owner, func(u *feature.Update) error {
		u.Put, u.AvatarHash = []feature.KeyValue{{Space: Space, Key: Key, Value: card}}, &hash
		if photo == nil {
			before, err := h.read(ctx, q)
			if err != nil || !hasPhoto(before) {
				return err // there was none, and an avatar that isn't in the vCard stays
			}
		}
		return h.avatars.Avatar(ctx, q.Owner, mime, photo, u)
	})
}

// hasPhoto reports whether a stored vCard has a photo of its own.
func hasPhoto(card string) bool {
	el, err := xmltree.Parse([]byte(card), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		return false
	}
	photo, err := xep.Photo(el)
	return err == nil && photo != nil
}

// WithPhoto makes what has to be stored of an account so that its vCard has this
// photo, nil for none (XEP-0398 3.1); nothing if it is so already. A vCard that
// gets too big by it has none.
func WithPhoto(s Store, maxBytes int) func(context.Context, feature.AccountRef, string, []byte) ([]feature.KeyValue, error) {
	h := handler{s, maxBytes, nil}
	return func(ctx context.Context, owner feature.AccountRef, mime string, photo []byte) ([]feature.KeyValue, error) {
		text, err := h.readOf(ctx, owner)
		if err != nil {
			return nil, err
		}
		var card xmltree.Element
		if text != "" {
			if card, err = xmltree.Parse([]byte(text), stanza.NSClient, xmltree.Limits{}); err != nil {
				return nil, fmt.Errorf("reading a vCard: %w", err)
			}
		}
		if text == "" && photo == nil {
			return nil, nil
		}
		value := replacePhoto(card, mime, photo)
		if len(value) > maxBytes {
			value = replacePhoto(card, "", nil)
		}
		return []feature.KeyValue{{Space: Space, Key: Key, Value: value}}, nil
	}
}

func replacePhoto(card xmltree.Element, mime string, photo []byte) []byte {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSVCard, "vCard")
	for a := range card.Attrs() {
		w.AttrNS(a.Name.Space, a.Name.Local, a.Value)
	}
	for el := range card.Children() {
		if !el.Is(xep.NSVCard, "PHOTO") {
			w.Element(el)
		}
	}
	if photo != nil {
		w.Start(xep.NSVCard, "PHOTO").Start(xep.NSVCard, "TYPE").Text(mime).End()
		w.Start(xep.NSVCard, "BINVAL").Text(base64.StdEncoding.EncodeToString(photo)).End().End()
	}
	return w.End().Bytes()
}

// forbid answers who changes somebody else's vCard (XEP-0054 3.2).
func forbid(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.Forbidden, "")
}
