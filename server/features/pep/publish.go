package pep

import (
	"context"
	"fmt"
	"strings"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// set answers the requests that change a node of the asker's account.
func (s *Service) set(ctx context.Context, q *feature.Query) (string, error) {
	el, err := action(q, "publish", "retract", "create")
	if err != nil {
		return "", err
	}
	switch el.Local() {
	case "publish":
		return s.publish(ctx, q, el)
	case "retract":
		return s.retract(ctx, q, el)
	}
	return s.create(ctx, q, el)
}

// publish is XEP-0060 7.1 with its options (7.1.5); a node that isn't there is
// made (7.1.4).
func (s *Service) publish(ctx context.Context, q *feature.Query, el xmltree.Element) (string, error) {
	name, err := nodeName(el)
	if err != nil {
		return "", err
	}
	item, err := s.theItem(el)
	if err != nil {
		return "", err
	}
	options, err := formIn(q.Payload.Child(xep.NSPubSub, "publish-options"))
	if err != nil {
		return "", err
	}
	err = s.update(ctx, q.Owner, func(u *feature.Update) error {
		if err := s.importBookmarks(ctx, q.Owner, name); err != nil {
			return err
		}
		n, err := s.read(ctx, q.Owner, name, nil, 0)
		if err != nil {
			return err
		}
		if err := n.require(options, n.was != nil); err != nil {
			return err
		}
		u.Events = append(u.Events, s.publication(&n, item))
		return s.convert(ctx, q.Owner, &n, item, u)
	})
	if err != nil {
		return "", err
	}
	b := xmltree.NewWriter(nil, xep.NSPubSub)
	b.Start(xep.NSPubSub, "publish").Attr("node", name).Start(xep.NSPubSub, "item").Attr("id", item.ID).End().End()
	return xep.PubSub(xep.NSPubSub, b.Bytes()), nil
}

// theItem is the one item of a publication; one without id gets it here (7.1.2).
func (s *Service) theItem(el xmltree.Element) (item xep.PubSubItem, err error) {
	n := 0
	for c := range el.Children() {
		if !c.Is(xep.NSPubSub, "item") {
			continue
		}
		if n++; n > 1 {
			return item, xep.PubSubError(stanza.NotAllowed, "max-items-exceeded", "one item can be published at a time")
		}
		if item, err = xep.ParsePubSubItem(c); err != nil {
			return item, err
		}
	}
	switch {
	case n == 0:
		return item, xep.PubSubError(stanza.BadRequest, "item-required", "")
	case len(item.Payload) > s.opt.Limits.ItemBytes:
		return item, xep.PubSubError(stanza.NotAcceptable, "payload-too-big", fmt.Sprintf("an item has at most %d bytes", s.opt.Limits.ItemBytes))
	case len(item.ID) > MaxName:
		return item, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("the id of an item has at most %d bytes", MaxName))
	case item.ID == "":
		item.ID = newID()
	}
	item.ID = strings.Clone(item.ID) // it outlives the stanza that it came in
	return item, nil
}

// publication is the change that publishes items to n, the newest last.
func (s *Service) publication(n *node, items ...xep.PubSubItem) feature.EventChange {
	c := s.change(n)
	now := s.opt.Now()
	for _, it := range items {
		if !n.Volatile {
			c.Put = append(c.Put, feature.EventItem{ID: it.ID, Payload: []byte(it.Payload), At: now})
		}
		if n.Silent {
			continue
		}
		if n.Bare {
			it.Payload = ""
		}
		notice := n.notice(xep.AppendPubSubItems(nil, n.name, []xep.PubSubItem{it}))
		notice.Item = true
		c.Notices = append(c.Notices, notice)
	}
	return c
}

// notice tells of what has happened to the node.
func (n *node) notice(content []byte) feature.EventNotice {
	return feature.EventNotice{Node: n.name, Payload: xep.PubSubEvent(content), To: n.audience()}
}

// retraction is the change that takes items away (XEP-0060 7.2).
func (s *Service) retraction(n *node, ids []string, tell bool) feature.EventChange {
	c := s.change(n)
	c.Remove = ids
	if tell {
		c.Notices = append(c.Notices, n.notice(xep.AppendPubSubRetracted(nil, n.name, ids)))
	}
	return c
}

func (s *Service) retract(ctx context.Context, q *feature.Query, el xmltree.Element) (string, error) {
	name, err := nodeName(el)
	if err != nil {
		return "", err
	}
	var ids []string
	seen := map[string]bool{}
	for c := range el.Children() {
		id := c.Attr("id")
		switch {
		case !c.Is(xep.NSPubSub, "item"):
			continue
		case id == "":
			return "", xep.PubSubError(stanza.BadRequest, "item-required", "")
		case len(ids) >= s.opt.Limits.Items:
			return "", stanza.NewError(stanza.PolicyViolation, "too many items")
		case !seen[id]:
			seen[id] = true
			ids = append(ids, strings.Clone(id))
		}
	}
	if len(ids) == 0 {
		return "", xep.PubSubError(stanza.BadRequest, "item-required", "")
	}
	asked, _ := parseBool(el.Attr("notify"))
	return "", s.update(ctx, q.Owner, func(u *feature.Update) error {
		if err := s.importBookmarks(ctx, q.Owner, name); err != nil {
			return err
		}
		n, err := s.read(ctx, q.Owner, name, nil, 0)
		if err != nil {
			return err
		}
		if n.was == nil {
			return errNoNode()
		}
		u.Events = append(u.Events, s.retraction(&n, ids, asked || !n.NoDelete && !n.Silent))
		return nil
	})
}

// create is XEP-0060 8.1.
func (s *Service) create(ctx context.Context, q *feature.Query, el xmltree.Element) (string, error) {
	name, err := nodeName(el)
	if err != nil {
		return "", err
	}
	form, err := formIn(q.Payload.Child(xep.NSPubSub, "configure"))
	if err != nil {
		return "", err
	}
	return "", s.update(ctx, q.Owner, func(u *feature.Update) error {
		if err := s.importBookmarks(ctx, q.Owner, name); err != nil {
			return err
		}
		n, err := s.read(ctx, q.Owner, name, nil, 0)
		switch {
		case err != nil:
			return err
		case n.was != nil:
			return stanza.NewError(stanza.Conflict, "there is such a node")
		}
		if err := n.submit(form); err != nil {
			return err
		}
		u.Events = append(u.Events, s.change(&n))
		return nil
	})
}

// formIn reads the form in an element, an empty one where there is none.
func formIn(el xmltree.Element) (xep.Form, error) {
	x := el.Child(xep.NSForm, "x")
	if x.IsZero() {
		return xep.Form{Type: "submit"}, nil
	}
	f, err := xep.ParseForm(x)
	if err == nil && f.Type != "submit" && f.Type != "cancel" {
		err = stanza.NewError(stanza.BadRequest, "the form is not submitted")
	}
	return f, err
}
