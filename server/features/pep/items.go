package pep

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// get answers who reads: the owner, and others as each node allows.
func (s *Service) get(ctx context.Context, q *feature.Query) (string, error) {
	el, err := action(q, "items", "affiliations")
	switch {
	case err != nil:
		return "", err
	case el.Local() == "items":
		return s.items(ctx, q, el)
	case q.Scope == feature.Account:
		return s.ownAffiliations(ctx, q)
	}
	return "", stanza.NewError(stanza.Forbidden, "")
}

// items is XEP-0060 6.5. The order is that of publication, the newest last.
func (s *Service) items(ctx context.Context, q *feature.Query, el xmltree.Element) (string, error) {
	limit := s.opt.Limits.Items
	if text, given := el.LookupAttr("", "max_items"); given {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || n == 0 {
			return "", stanza.NewError(stanza.BadRequest, "max_items is not a positive number")
		}
		limit = min(limit, int(n))
	}
	var ids []string
	for c := range el.Children() {
		if !c.Is(xep.NSPubSub, "item") {
			continue
		}
		if ids = append(ids, c.Attr("id")); len(ids) > s.opt.Limits.Items {
			return "", stanza.NewError(stanza.PolicyViolation, "too many items")
		}
	}
	name, err := nodeName(el)
	if err != nil {
		return "", err
	}
	if q.Scope == feature.Account {
		if err := s.importBookmarks(ctx, q.Owner, name); err != nil {
			return "", err
		}
	}
	n, err := s.visible(ctx, q, name, ids, limit)
	if err != nil {
		return "", err
	}
	var list []xep.PubSubItem
	seen := map[string]bool{}
	for _, it := range n.items {
		if !seen[it.ID] { // asked for twice
			seen[it.ID] = true
			list = append(list, xep.PubSubItem{ID: it.ID, Payload: string(it.Payload)})
		}
	}
	return xep.PubSub(xep.NSPubSub, xep.AppendPubSubItems(nil, name, list)), nil
}

// visible reads a node if the asker may. To who may not it looks as if there were
// none; and to who doesn't see the account's presence either, as if there were no
// account: a node that isn't there, a private one, and an account that isn't there
// or has blocked the asker are answered alike.
func (s *Service) visible(ctx context.Context, q *feature.Query, name string, ids []string, limit int) (node, error) {
	n, err := s.read(ctx, q.Owner, name, ids, limit)
	if err != nil && !isNotFound(err) { // else no such account
		return n, err
	}
	// Only now, so that who was shut out meanwhile sees nothing newer.
	r, err := relation(ctx, q)
	switch {
	case err != nil:
		return n, err
	case n.was != nil && n.allows(q.IQ.From, r):
		return n, nil
	}
	if r.Own || r.Sees && !r.Blocked {
		return n, errNoNode()
	}
	return n, stanza.NewError(stanza.ServiceUnavailable, "")
}

// relation is what the asker is to the account, a stranger to one that doesn't
// exist.
func relation(ctx context.Context, q *feature.Query) (feature.Relation, error) {
	r, err := q.Owner.Relation(ctx, q.IQ.From)
	if isNotFound(err) {
		return feature.Relation{}, nil
	}
	return r, err
}

func isNotFound(err error) bool {
	var e *stanza.Error
	return errors.As(err, &e) && e.Condition == stanza.ItemNotFound
}

// list is what disco#items shows of an account to who sees its presence: the nodes
// that it may read.
func (s *Service) list(ctx context.Context, q *feature.Query) (names []feature.NodeName, err error) {
	r, err := relation(ctx, q)
	if err != nil {
		return nil, err
	}
	nodes, err := s.all(ctx, q)
	for _, n := range nodes {
		if n.allows(q.IQ.From, r) {
			names = append(names, feature.NodeName{Node: n.name, Name: n.Title})
		}
	}
	return names, err
}

// all are the account's nodes, without items.
func (s *Service) all(ctx context.Context, q *feature.Query) ([]node, error) {
	id, err := q.Owner.StoreID(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.opt.Store.EventNodes(ctx, store.AccountID(id))
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	list := make([]node, 0, len(rows))
	for _, r := range rows {
		list = append(list, node{config: decode(r.Config), name: r.Node, was: r.Config})
	}
	return list, nil
}

// info is what disco#info tells of a node to who may read it (XEP-0060 5.3, 5.4).
func (s *Service) info(ctx context.Context, q *feature.Query, name string) (xep.DiscoInfo, error) {
	n, err := s.visible(ctx, q, name, nil, 0)
	if err != nil {
		return xep.DiscoInfo{}, err
	}
	return xep.DiscoInfo{Identities: []xep.Identity{{Category: "pubsub", Type: "leaf", Name: n.Title}},
		Features: []string{xep.NSDiscoInfo, xep.NSPubSub}, Forms: []xmltree.Element{n.metadata()}}, nil
}
