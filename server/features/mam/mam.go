// Package mam lets users read their archive (XEP-0313) and say what goes into
// it (XEP-0441).
//
// The model: an archive id is the order, so a page is a range of ids that the
// store walks. What the page may contain ends at the id that the account's
// owner says is settled, so nothing can be committed into a range that was
// told already. Results are the stored bytes with a frame around them, written
// one behind the other into a buffer that is handed to the session; no
// message is parsed. A page is read and sent in batches, and a slow client is
// waited for between two of them, when nothing is held in the store.
package mam

import (
	"context"
	"fmt"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Store is what the feature reads from the store.
type Store interface {
	Archive(ctx context.Context, q store.ArchiveQuery, fn func(store.ArchivedMessage) error) (more bool, err error)
	ArchiveCount(ctx context.Context, q store.ArchiveQuery) (int, error)
	ArchiveHas(ctx context.Context, account store.AccountID, ids ...store.ArchiveID) (bool, error)
	ArchiveBounds(ctx context.Context, account store.AccountID, upTo store.ArchiveID) (first, last store.ArchiveID, err error)
}

// Options are the page sizes.
type Options struct {
	Page    int // messages for a client that names no number
	MaxPage int // messages at most, whatever it names
}

// New is the feature.
func New(s Store, o Options) feature.Feature {
	a := archive{s, o}
	name := func(local string) xmltree.Name { return xmltree.Name{Space: xep.NSMAM, Local: local} }
	vars := []string{xep.NSMAM, xep.NSMAMExtended, xep.NSRSM}
	f := feature.Feature{
		Name:  "mam",
		Specs: []feature.Spec{{XEP: "0313", Version: "1.1.3"}, {XEP: "0441", Version: "0.2.0"}, {XEP: "0059", Version: "1.0", Note: "no pages by index"}},
		// Clients look for it at either; only the account answers (XEP-0313 7).
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: vars},
			{Scope: feature.Account, Vars: vars},
		},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("query"), Handle: form},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("query"), Handle: a.query},
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("metadata"), Handle: a.metadata},
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("prefs"), Handle: prefs},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("prefs"), Handle: setPrefs},
		},
	}
	for _, own := range f.IQs {
		own.Scope, own.Handle = feature.Contact, forbid
		f.IQs = append(f.IQs, own)
	}
	return f
}

// What a query may ask for, the store finds.
const _ = uint(store.MaxThread - xep.MaxMAMThread)

type archive struct {
	store Store
	opt   Options
}

// forbid answers who asks for somebody else's archive, whether or not there is
// such an account (XEP-0313 8.1).
func forbid(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.Forbidden, "")
}

// form is XEP-0313 4.1.5.
func form(context.Context, *feature.Query) (string, error) { return xep.MAMForm, nil }

// query is XEP-0313 4: it sends the page and returns what ends it.
func (a archive) query(ctx context.Context, q *feature.Query) (string, error) {
	req, err := xep.ParseMAMQuery(q.Payload)
	if err != nil {
		return "", err
	}
	size := req.Page.Max
	if size < 0 {
		size = a.opt.Page
	}
	if size = min(size, a.opt.MaxPage); size == 0 {
		sel, err := a.selection(ctx, q, &req)
		if err != nil {
			return "", err
		}
		return a.count(ctx, sel)
	}
	done := q.Session.ReadingArchive()
	fin, err := a.read(ctx, q, &req, size)
	refused, own := stanza.AsError(err)
	done(err == nil || own && refused.Condition == stanza.ItemNotFound) // who hears that its id is gone asks for another page
	return fin, err
}

// read sends a page and returns what ends it.
func (a archive) read(ctx context.Context, q *feature.Query, req *xep.MAMQuery, size int) (string, error) {
	sel, err := a.selection(ctx, q, req)
	if err != nil {
		return "", err
	}
	// The items that RSM's after and before leave out count too (XEP-0059 2.7).
	whole := req.Page.After == "" && req.Page.Before == ""
	p := page{store: a.store, session: q.Session, head: xep.NewMAMResult(q.Owner.JID(), q.Session.JID(), req.ID)}
	var more bool
	if sel.UpTo != 0 { // else nothing was ever archived
		more, err = p.send(ctx, sel.paged(), size, req.Flip)
	}
	if err != nil {
		return "", fmt.Errorf("paging an archive: %w", err)
	}
	count := -1
	if whole && !more {
		count = p.count
	}
	return string(xep.AppendMAMFin(nil, !more, idString(p.first), idString(p.last), count)), nil
}

func idString(id store.ArchiveID) string {
	if id == 0 {
		return ""
	}
	return id.String()
}

// selection is what a query selects: with the filters of its form alone, and
// with the edges of its page.
type selection struct {
	store.ArchiveQuery
	page edges
}

// edges are the edges that RSM gives a page.
type edges struct {
	after, before store.ArchiveID
	last          bool
}

// paged is the selection between the edges of its page.
func (s selection) paged() store.ArchiveQuery {
	q := s.ArchiveQuery
	q.Backward = s.page.last
	q.AfterID = max(q.AfterID, s.page.after)
	if b := s.page.before; b != 0 && (q.BeforeID == 0 || b < q.BeforeID) {
		q.BeforeID = b
	}
	return q
}

// selection makes the store's query of a client's. An id that isn't in the
// archive is item-not-found, never an empty page (XEP-0313 4.1.3, 4.3.2).
func (a archive) selection(ctx context.Context, q *feature.Query, req *xep.MAMQuery) (selection, error) {
	account, err := q.Owner.StoreID(ctx)
	if err != nil {
		return selection{}, err
	}
	upTo, err := q.Owner.Settled(ctx)
	if err != nil {
		return selection{}, err
	}
	var s selection
	s.Account, s.UpTo = store.AccountID(account), store.ArchiveID(upTo)
	s.With, s.Start, s.End, s.Thread = req.With, req.Start, req.End, req.Thread
	s.page.last = req.Page.Last

	var named []store.ArchiveID
	ok := true
	id := func(text string) store.ArchiveID {
		if text == "" {
			return 0
		}
		id, valid := store.ParseArchiveID(text)
		ok = ok && valid && id <= s.UpTo
		named = append(named, id)
		return id
	}
	s.AfterID, s.BeforeID = id(req.AfterID), id(req.BeforeID)
	s.page.after, s.page.before = id(req.Page.After), id(req.Page.Before)
	for _, text := range req.IDs {
		if text == "" {
			ok = false
			break
		}
		s.IDs = append(s.IDs, id(text))
	}
	if ok && len(named) > 0 {
		if ok, err = a.store.ArchiveHas(ctx, s.Account, named...); err != nil {
			return selection{}, fmt.Errorf("looking for archive ids: %w", err)
		}
	}
	if !ok {
		return selection{}, stanza.NewError(stanza.ItemNotFound, "an id is not in the archive")
	}
	return s, nil
}

// count answers a query for no messages at all: how many match (XEP-0059 2.7).
func (a archive) count(ctx context.Context, s selection) (string, error) {
	n := 0
	if s.UpTo != 0 {
		var err error
		if n, err = a.store.ArchiveCount(ctx, s.ArchiveQuery); err != nil {
			return "", fmt.Errorf("counting an archive: %w", err)
		}
	}
	return string(xep.AppendMAMFin(nil, n == 0, "", "", n)), nil
}

// metadata is XEP-0313 5.
func (a archive) metadata(ctx context.Context, q *feature.Query) (string, error) {
	account, err := q.Owner.StoreID(ctx)
	if err != nil {
		return "", err
	}
	upTo, err := q.Owner.Settled(ctx)
	if err != nil {
		return "", err
	}
	var start, end xep.MAMEdge
	if upTo != 0 {
		first, last, err := a.store.ArchiveBounds(ctx, store.AccountID(account), store.ArchiveID(upTo))
		if err != nil {
			return "", fmt.Errorf("reading an archive's bounds: %w", err)
		}
		if first != 0 {
			start, end = xep.MAMEdge{ID: first.String(), Stamp: first.Time()}, xep.MAMEdge{ID: last.String(), Stamp: last.Time()}
		}
	}
	return string(xep.AppendMAMMetadata(nil, start, end)), nil
}

// prefs is XEP-0441 2.1.
func prefs(ctx context.Context, q *feature.Query) (string, error) {
	snap, err := q.Owner.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	return string(xep.AppendMAMPrefs(nil, xep.MAMPrefs(snap.Archive))), nil
}

// setPrefs answers with the preferences as they are from now on (XEP-0441 2.1).
func setPrefs(ctx context.Context, q *feature.Query) (string, error) {
	p, err := xep.ParseMAMPrefs(q.Payload)
	if err != nil {
		return "", err
	}
	if err := q.Owner.Update(ctx, feature.Update{Archive: (*feature.ArchivePrefs)(&p)}); err != nil {
		return "", err
	}
	return string(xep.AppendMAMPrefs(nil, p)), nil
}
