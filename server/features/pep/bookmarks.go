package pep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Bookmarks are kept once, as XEP-0402 has them. Who asks private XML for them
// (XEP-0048 in XEP-0049) is shown the same, put together, and what he stores there
// is taken apart. What private XML has besides bookmarks of rooms stays there.

func storageName() xmltree.Name { return xmltree.Name{Space: xep.NSStorage, Local: "storage"} }

// importBookmarks brings bookmarks of private XML, from before the node was made,
// into it.
func (s *Service) importBookmarks(ctx context.Context, owner feature.AccountRef, name string) error {
	if name != xep.NodeBookmarks || s.opt.Fragment == nil {
		return nil
	}
	n, err := s.read(ctx, owner, name, nil, 0)
	if err != nil || n.was != nil {
		return err
	}
	old, err := s.opt.Fragment(ctx, owner, storageName())
	if err != nil {
		return err
	}
	items, rest := takeApart(old)
	if len(items) == 0 || len(items) > s.opt.Limits.Items || s.tooLarge(items) {
		return nil // they stay where they are
	}
	err = owner.Update(ctx, feature.Update{Put: []feature.KeyValue{s.opt.SetFragment(storageName(), rest)},
		Events: []feature.EventChange{s.publication(&n, items...)}})
	if errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrLimit) {
		err = nil // another request was first, or there is no room: they stay where they are
	}
	return err
}

// Storage is the bookmarks as private XML shows them, nil for none (XEP-0402
// 5.3.1).
func (s *Service) Storage(ctx context.Context, owner feature.AccountRef) ([]byte, error) {
	if err := s.importBookmarks(ctx, owner, xep.NodeBookmarks); err != nil {
		return nil, err
	}
	n, err := s.read(ctx, owner, xep.NodeBookmarks, nil, s.opt.Limits.Items)
	if err != nil {
		return nil, err
	}
	rest, err := s.opt.Fragment(ctx, owner, storageName())
	if err != nil || rest.IsZero() && len(n.items) == 0 {
		return nil, err
	}
	w := xmltree.NewWriter(nil, xep.NSPrivate)
	w.Start(xep.NSStorage, "storage")
	for _, it := range n.items {
		if el, err := xmltree.Parse(it.Payload, "", xmltree.Limits{}); err == nil && el.Is(xep.NodeBookmarks, "conference") {
			w.Start(xep.NSStorage, "conference")
			for a := range el.Attrs() {
				if a.Name.Space == "" && a.Name.Local != "jid" {
					w.Attr(a.Name.Local, a.Value)
				}
			}
			w.Attr("jid", it.ID)
			move(w, el, xep.NodeBookmarks, xep.NSStorage)
			w.End()
		}
	}
	for el := range rest.Children() {
		w.Element(el)
	}
	return w.End().Bytes(), nil
}

// Autojoin are the rooms that the owner's clients are to enter, in the order in which
// their bookmarks were published (XEP-0402 3).
func (s *Service) Autojoin(ctx context.Context, owner feature.AccountRef) ([]xep.Bookmark, error) {
	if err := s.importBookmarks(ctx, owner, xep.NodeBookmarks); err != nil {
		return nil, err
	}
	n, err := s.read(ctx, owner, xep.NodeBookmarks, nil, s.opt.Limits.Items)
	if err != nil {
		return nil, err
	}
	var list []xep.Bookmark
	for _, it := range n.items {
		el, err := xmltree.Parse(it.Payload, "", xmltree.Limits{})
		if err != nil {
			continue
		}
		if b, ok := xep.ParseBookmark(it.ID, el); ok && b.Autojoin {
			list = append(list, b)
		}
	}
	return list, nil
}

// move writes an element's children, those in the namespace from into to.
func move(w *xmltree.Writer, el xmltree.Element, from, to string) {
	for c := range el.Children() {
		if c.Space() == from {
			w.Start(to, c.Local())
			for a := range c.Attrs() {
				w.AttrNS(a.Name.Space, a.Name.Local, a.Value)
			}
			if c.HasText() {
				w.Text(c.Text())
			}
			for inner := range c.Children() {
				w.Element(inner)
			}
			w.End()
		} else {
			w.Element(c)
		}
	}
}

// takeApart makes items of the bookmarks in a <storage/>, the last of each room,
// and gives what remains, nil for nothing.
func takeApart(storage xmltree.Element) (items []xep.PubSubItem, rest []byte) {
	w := xmltree.NewWriter(nil, xep.NSPrivate)
	w.Start(xep.NSStorage, "storage")
	others := 0
	for c := range storage.Children() {
		j, err := jid.Parse(c.Attr("jid"))
		if !c.Is(xep.NSStorage, "conference") || err != nil {
			w.Element(c)
			others++
			continue
		}
		p := xmltree.NewWriter(nil, "")
		p.Start(xep.NodeBookmarks, "conference")
		for a := range c.Attrs() {
			if a.Name.Space == "" && a.Name.Local != "jid" {
				p.Attr(a.Name.Local, a.Value)
			}
		}
		move(p, c, xep.NSStorage, xep.NodeBookmarks)
		item := xep.PubSubItem{ID: strings.Clone(j.String()), Payload: p.End().String()}
		items = slices.DeleteFunc(items, func(it xep.PubSubItem) bool { return it.ID == item.ID })
		items = append(items, item)
	}
	if w.End(); others > 0 {
		rest = w.Bytes()
	}
	return items, rest
}

// tooLarge reports whether there is an item that couldn't be published by itself.
func (s *Service) tooLarge(items []xep.PubSubItem) bool {
	return slices.ContainsFunc(items, func(it xep.PubSubItem) bool { return len(it.Payload) > s.opt.Limits.ItemBytes })
}

// SetStorage adds to an update what it means that bookmarks are stored as private
// XML: what is new or different is published, what is missing retracted, and
// nothing is said of the rest (XEP-0402 5.3.2).
func (s *Service) SetStorage(ctx context.Context, owner feature.AccountRef, storage xmltree.Element, u *feature.Update) error {
	n, err := s.read(ctx, owner, xep.NodeBookmarks, nil, s.opt.Limits.Items)
	if err != nil {
		return err
	}
	items, rest := takeApart(storage)
	if len(items) > n.keep(s.opt.Limits.Items) {
		return stanza.NewError(stanza.PolicyViolation, "too many bookmarks")
	}
	if s.tooLarge(items) {
		return stanza.NewError(stanza.PolicyViolation, fmt.Sprintf("a bookmark has at most %d bytes", s.opt.Limits.ItemBytes))
	}
	if n.Access != accessWhitelist {
		// The client can't know that it would publish them to others.
		return stanza.NewError(stanza.NotAllowed, "the bookmarks' node is not private")
	}
	had := map[string][]byte{}
	for _, it := range n.items {
		had[it.ID] = it.Payload
	}
	var news []xep.PubSubItem
	for _, it := range items {
		if before, there := had[it.ID]; !there || !bytes.Equal(before, []byte(it.Payload)) {
			news = append(news, it)
		}
		delete(had, it.ID)
	}
	c := s.publication(&n, news...)
	for _, it := range n.items {
		if _, gone := had[it.ID]; gone {
			c.Remove = append(c.Remove, it.ID)
		}
	}
	if len(c.Remove) > 0 && !n.Silent {
		c.Notices = append(c.Notices, n.notice(xep.AppendPubSubRetracted(nil, n.name, c.Remove)))
	}
	u.Put = append(u.Put, s.opt.SetFragment(storageName(), rest))
	if n.was != nil || len(items) > 0 {
		u.Events = append(u.Events, c)
	}
	return nil
}
