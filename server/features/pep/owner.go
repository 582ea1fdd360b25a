package pep

import (
	"context"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// ownerGet answers an owner's questions about a node (XEP-0060 8).
func (s *Service) ownerGet(ctx context.Context, q *feature.Query) (string, error) {
	el, err := action(q, "configure", "default", "affiliations")
	if err != nil {
		return "", err
	}
	if el.Local() == "default" { // 8.3
		c := defaults("")
		return xep.PubSub(xep.NSPubSubOwner, []byte("<default>"+c.form()+"</default>")), nil
	}
	n, err := s.owned(ctx, q, el)
	if err != nil {
		return "", err
	}
	w := xmltree.NewWriter(nil, xep.NSPubSubOwner)
	w.Start(xep.NSPubSubOwner, el.Local()).Attr("node", n.name)
	if el.Local() == "configure" { // 8.2
		return xep.PubSub(xep.NSPubSubOwner, w.Inner(n.form()).End().Bytes()), nil
	}
	member := func(j jid.JID, affiliation string) {
		w.Start(xep.NSPubSubOwner, "affiliation").Attr("jid", j.String()).Attr("affiliation", affiliation).End()
	}
	member(q.Owner.JID(), "owner")
	for _, j := range n.Members {
		member(j, "member")
	}
	return xep.PubSub(xep.NSPubSubOwner, w.End().Bytes()), nil
}

// owned reads the node that an element of an owner's request names.
func (s *Service) owned(ctx context.Context, q *feature.Query, el xmltree.Element) (node, error) {
	name, err := nodeName(el)
	if err != nil {
		return node{}, err
	}
	if err := s.importBookmarks(ctx, q.Owner, name); err != nil {
		return node{}, err
	}
	n, err := s.read(ctx, q.Owner, name, nil, 0)
	if err == nil && n.was == nil {
		err = errNoNode()
	}
	return n, err
}

// ownAffiliations is XEP-0060 5.7: the owner owns all nodes.
func (s *Service) ownAffiliations(ctx context.Context, q *feature.Query) (string, error) {
	nodes, err := s.all(ctx, q)
	if err != nil {
		return "", err
	}
	w := xmltree.NewWriter(nil, xep.NSPubSub)
	w.Start(xep.NSPubSub, "affiliations")
	for _, n := range nodes {
		w.Start(xep.NSPubSub, "affiliation").Attr("node", n.name).Attr("affiliation", "owner").End()
	}
	return xep.PubSub(xep.NSPubSub, w.End().Bytes()), nil
}

// ownerSet makes an owner's changes of a node (XEP-0060 8).
func (s *Service) ownerSet(ctx context.Context, q *feature.Query) (string, error) {
	el, err := action(q, "configure", "delete", "purge", "affiliations")
	if err != nil {
		return "", err
	}
	return "", s.update(ctx, q.Owner, func(u *feature.Update) error {
		n, err := s.owned(ctx, q, el)
		if err != nil {
			return err
		}
		c := s.change(&n)
		switch el.Local() {
		case "configure":
			c, err = s.configure(&n, el)
		case "affiliations":
			err = n.affiliate(q.Owner.JID(), el)
			c = s.change(&n)
		case "delete": // 8.4
			c.Config = nil
		case "purge": // 8.5
			c.Purge = true
		}
		if err != nil {
			return err
		}
		if n.OnDelete && (c.Purge || c.Config == nil) {
			c.Notices = append(c.Notices, n.notice(xep.AppendPubSubNode(nil, el.Local(), n.name)))
		}
		u.Events = append(u.Events, c)
		return nil
	})
}

// configure is XEP-0060 8.2.4 and 8.2.5.
func (s *Service) configure(n *node, el xmltree.Element) (feature.EventChange, error) {
	form, err := formIn(el)
	if err == nil && form.Type == "submit" {
		err = n.submit(form)
	}
	if err != nil {
		return feature.EventChange{}, err
	}
	c := s.change(n)
	if n.OnConfig && form.Type == "submit" {
		c.Notices = append(c.Notices, n.notice(xep.AppendPubSubNode(nil, "configuration", n.name)))
	}
	return c, nil
}

// affiliate is XEP-0060 8.9.2: who besides may read the node, with the access
// model whitelist.
func (n *node) affiliate(owner jid.JID, el xmltree.Element) error {
	for a := range el.Children() {
		if !a.Is(xep.NSPubSubOwner, "affiliation") {
			continue
		}
		j, err := jid.Parse(a.Attr("jid"))
		if err != nil {
			return stanza.NewError(stanza.JIDMalformed, "an affiliation's 'jid' is not an address")
		}
		if j = j.Bare(); j == owner {
			return stanza.NewError(stanza.NotAcceptable, "an account owns its nodes")
		}
		n.Members = slices.DeleteFunc(slices.Clone(n.Members), func(m jid.JID) bool { return m == j })
		switch a.Attr("affiliation") {
		case "none":
		case "member":
			n.Members = append(n.Members, jid.MustParse(j.String()))
		default:
			return stanza.NewError(stanza.NotAcceptable, "a contact can be member or none")
		}
	}
	if len(n.Members) > maxMembers {
		return stanza.NewError(stanza.PolicyViolation, "too many members")
	}
	slices.SortFunc(n.Members, func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
	return nil
}
