// Package private keeps arbitrary XML for the owner of an account (XEP-0049).
//
// Elements are stored by the name of the fragment's root. An account may keep
// so many of them and so many bytes; a fragment that is stored empty takes no
// room, which is how a client gives room back.
package private

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Space is where the store keeps the fragments.
const Space = "private"

// Store is what the feature reads from the store.
type Store interface {
	KVGet(ctx context.Context, id store.AccountID, space, key string) ([]byte, error)
	KVList(ctx context.Context, id store.AccountID, space string) ([]store.KV, error)
}

// Limits bound what one account may store.
type Limits struct {
	Items int // fragments
	Bytes int // of all fragments together, with their names
}

// Bookmarks is where bookmarks are kept, which private XML shows as one of its
// fragments (XEP-0402 5.3).
type Bookmarks interface {
	// Storage is the fragment, nil if there is none.
	Storage(ctx context.Context, owner feature.AccountRef) ([]byte, error)
	// SetStorage adds to an update what another fragment means.
	SetStorage(ctx context.Context, owner feature.AccountRef, storage xmltree.Element, u *feature.Update) error
	// Update has the change made; decide may be called several times.
	Update(ctx context.Context, owner feature.AccountRef, decide func(*feature.Update) error) error
}

func isStorage(n xmltree.Name) bool {
	return n == xmltree.Name{Space: xep.NSStorage, Local: "storage"}
}

// New is the feature.
func New(s Store, l Limits, b Bookmarks) feature.Feature {
	h := handler{s, l, b}
	name := xmltree.Name{Space: xep.NSPrivate, Local: "query"}
	return feature.Feature{
		Name:  "private",
		Specs: []feature.Spec{{XEP: "0049", Version: "1.2"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSPrivate}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name, Handle: h.get},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name, Handle: h.set},
			{Scope: feature.Contact, Type: stanza.TypeGet, Name: name, Handle: forbid},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: name, Handle: forbid},
		},
	}
}

type handler struct {
	store     Store
	limits    Limits
	bookmarks Bookmarks
}

// forbid answers who asks somebody else's account (XEP-0049 2.3), whether or
// not there is such an account.
func forbid(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.Forbidden, "")
}

// fragment is what is stored under a name, nil for nothing.
func (h handler) fragment(ctx context.Context, owner feature.AccountRef, name xmltree.Name) ([]byte, error) {
	if isStorage(name) {
		return h.bookmarks.Storage(ctx, owner)
	}
	return read(ctx, h.store, owner, name)
}

func read(ctx context.Context, s Store, owner feature.AccountRef, name xmltree.Name) ([]byte, error) {
	id, err := owner.StoreID(ctx)
	if err != nil {
		return nil, err
	}
	value, err := s.KVGet(ctx, store.AccountID(id), Space, key(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading private XML: %w", err)
	}
	return value, nil
}

// Fragment reads what is stored under a name, for who shows it otherwise: the
// first element of it, the zero Element for nothing.
func Fragment(s Store) func(context.Context, feature.AccountRef, xmltree.Name) (xmltree.Element, error) {
	return func(ctx context.Context, owner feature.AccountRef, name xmltree.Name) (xmltree.Element, error) {
		value, err := read(ctx, s, owner, name)
		if value == nil || err != nil {
			return xmltree.Element{}, err
		}
		query, err := xmltree.Parse([]byte("<query xmlns='"+xep.NSPrivate+"'>"+string(value)+"</query>"), "", xmltree.Limits{})
		if err != nil {
			return xmltree.Element{}, fmt.Errorf("reading private XML: %w", err)
		}
		return query.Child(name.Space, name.Local), nil
	}
}

// SetFragment is what has to be stored for a fragment, nil for none.
func SetFragment(name xmltree.Name, fragment []byte) feature.KeyValue {
	return feature.KeyValue{Space: Space, Key: key(name), Value: fragment}
}

func (h handler) get(ctx context.Context, q *feature.Query) (string, error) {
	var asked xmltree.Element
	for el := range q.Payload.Children() {
		if !asked.IsZero() {
			return "", stanza.NewError(stanza.BadRequest, "more than one fragment is asked for")
		}
		asked = el
	}
	if asked.IsZero() {
		return "", stanza.NewError(stanza.BadRequest, "no fragment is asked for")
	}
	if err := checkName(asked.Name()); err != nil {
		return "", err
	}
	value, err := h.fragment(ctx, q.Owner, asked.Name())
	if value == nil && err == nil {
		value = empty(asked.Name())
	}
	if err != nil {
		return "", err
	}
	return "<query xmlns='" + xep.NSPrivate + "'>" + string(value) + "</query>", nil
}

func (h handler) set(ctx context.Context, q *feature.Query) (string, error) {
	var names []xmltree.Name // in order of the request
	values := map[xmltree.Name][]byte{}
	for el := range q.Payload.Children() {
		n := el.Name()
		if err := checkName(n); err != nil {
			return "", err
		}
		if _, there := values[n]; !there {
			names = append(names, n)
		}
		// Several elements of one name are one fragment (XEP-0049 2.3).
		values[n] = el.AppendTo(values[n], xep.NSPrivate)
	}
	if len(names) == 0 {
		return "", stanza.NewError(stanza.NotAcceptable, "there is nothing to store")
	}
	id, err := q.Owner.StoreID(ctx)
	if err != nil {
		return "", err
	}
	var puts []feature.KeyValue
	var bookmarks []byte
	for _, n := range names {
		v := values[n]
		switch {
		case isStorage(n):
			bookmarks = v
			continue
		case string(v) == string(empty(n)):
			v = nil
		}
		puts = append(puts, SetFragment(n, v))
	}
	if bookmarks == nil {
		if err := h.checkRoom(ctx, store.AccountID(id), puts); err != nil {
			return "", err
		}
		return "", q.Owner.Update(ctx, feature.Update{Put: puts})
	}
	el, err := xmltree.Parse(bookmarks, xep.NSPrivate, xmltree.Limits{})
	if err != nil {
		return "", stanza.NewError(stanza.NotAcceptable, "bookmarks are one element")
	}
	return "", h.bookmarks.Update(ctx, q.Owner, func(u *feature.Update) error {
		u.Put = slices.Clone(puts)
		if err := h.bookmarks.SetStorage(ctx, q.Owner, el, u); err != nil {
			return err
		}
		return h.checkRoom(ctx, store.AccountID(id), u.Put)
	})
}

// checkRoom finds whether the account stays within its limits with puts. What
// makes it smaller is always allowed. Two sessions that store at the same
// moment may pass the bound by one stanza.
func (h handler) checkRoom(ctx context.Context, id store.AccountID, puts []feature.KeyValue) error {
	have, err := h.store.KVList(ctx, id, Space)
	if err != nil {
		return fmt.Errorf("listing private XML: %w", err)
	}
	sizes := make(map[string]int, len(have)+len(puts))
	before, items, bytes := 0, 0, 0
	for _, kv := range have {
		sizes[kv.Key] = len(kv.Key) + len(kv.Value)
		before += sizes[kv.Key]
	}
	itemsBefore := len(sizes)
	for _, p := range puts {
		delete(sizes, p.Key)
		if p.Value != nil {
			sizes[p.Key] = len(p.Key) + len(p.Value)
		}
	}
	for _, n := range sizes {
		items++
		bytes += n
	}
	if items > h.limits.Items && items > itemsBefore || bytes > h.limits.Bytes && bytes > before {
		return stanza.NewError(stanza.PolicyViolation,
			fmt.Sprintf("at most %d fragments and %d bytes can be stored", h.limits.Items, h.limits.Bytes))
	}
	return nil
}

// key is a name in Clark notation.
func key(n xmltree.Name) string { return "{" + n.Space + "}" + n.Local }

// empty is the element n without content, in the context of the query.
func empty(n xmltree.Name) []byte {
	return xmltree.NewWriter(nil, xep.NSPrivate).Start(n.Space, n.Local).End().Bytes()
}

// checkName refuses fragments without a namespace of their own and those in
// reserved ones (XEP-0049 2.3, table 2).
func checkName(n xmltree.Name) error {
	if n.Space == "" || n.Space == xep.NSVCard || strings.HasPrefix(n.Space, "jabber:") || strings.HasPrefix(n.Space, "http://jabber.org/") {
		return stanza.NewError(stanza.NotAcceptable, "the namespace of the fragment is reserved or missing")
	}
	return nil
}
