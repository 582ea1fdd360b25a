package store

import (
	"context"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

// EventItem is an item of a node of an account's personal events (XEP-0163).
type EventItem struct {
	ID      string
	Payload []byte // canonical XML
	At      time.Time
}

// EventNode is such a node.
type EventNode struct {
	Node   string
	Config []byte // the feature's; opaque here
	Bytes  int    // of its items
}

// EventLast is the newest item of a node, with the node and whose it is.
type EventLast struct {
	Owner jid.JID
	EventNode
	EventItem
}

// EventChange changes one node, all of it or nothing. It fails with ErrChanged if the node's configuration isn't Was any more: what the
// change was decided on, who may see it included, is then no longer so. Its bounds are the account's; what passes one is ErrLimit, but nothing
// that makes an account smaller ever is.
type EventChange struct {
	Account AccountID
	Node    string
	Was     []byte      // nil: there is no such node
	Config  []byte      // the configuration from now on; nil: the node goes, with its items
	Purge   bool        // all items go, before Put
	Remove  []string    // items that go, before Put; ErrNotFound if one isn't there
	Put     []EventItem // become the newest, in this order
	Keep    int         // of the items the newest stay

	MaxNodes int // per account
	MaxBytes int // of an account's items with their ids
}

func (o EventChange) exec(t *tx) error {
	was, there, err := t.blob(qEventConfig, o.Account, o.Node)
	if err != nil {
		return err
	}
	if there != (o.Was != nil) || string(was) != string(o.Was) {
		return fmt.Errorf("node %q: %w", o.Node, ErrChanged)
	}
	if o.Config == nil {
		return t.run(qEventNodeDel, o.Account, o.Node)
	}
	before, _, err := t.number(qEventBytes, o.Account)
	if err != nil {
		return err
	}
	if err := t.run(qEventNodePut, o.Account, o.Node, o.Config); err != nil {
		return err
	}
	if n, _, err := t.number(qEventNodes, o.Account); err != nil || !there && n > int64(o.MaxNodes) {
		return fmt.Errorf("%d nodes: %w", n, orLimit(err))
	}
	if err := o.items(t); err != nil {
		return err
	}
	if n, _, err := t.number(qEventBytes, o.Account); err != nil || n > int64(o.MaxBytes) && n > before {
		return fmt.Errorf("%d bytes of events: %w", n, orLimit(err))
	}
	return nil
}

func orLimit(err error) error {
	if err == nil {
		err = ErrLimit
	}
	return err
}

// items changes the node's items.
func (o *EventChange) items(t *tx) error {
	if o.Purge {
		if err := t.run(qEventPurge, o.Account, o.Node); err != nil {
			return err
		}
	}
	for _, id := range o.Remove {
		if _, there, err := t.number(qEventItemHas, o.Account, o.Node, id); err != nil {
			return err
		} else if !there {
			return fmt.Errorf("item %q: %w", id, ErrNotFound)
		}
		if err := t.run(qEventItemDel, o.Account, o.Node, id); err != nil {
			return err
		}
	}
	for _, it := range o.Put {
		if err := t.run(qEventItemPut, o.Account, o.Node, it.ID, it.At.UnixMicro(), it.Payload); err != nil {
			return err
		}
	}
	return t.run(qEventItemCut, o.Account, o.Node, max(o.Keep, 0))
}

func (o EventChange) size() int {
	n := opOverhead + len(o.Node) + len(o.Was) + len(o.Config)
	for _, id := range o.Remove {
		n += len(id)
	}
	for _, it := range o.Put {
		n += len(it.ID) + len(it.Payload)
	}
	return n
}

// EventNodes returns an account's nodes, by name.
func (s *Store) EventNodes(ctx context.Context, id AccountID) (list []EventNode, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.each(qEventNodeAll, func(r *sqlite.Stmt) error {
			list = append(list, EventNode{Node: r.ColText(0), Config: r.ColBlob(1), Bytes: int(r.ColInt(2))})
			return nil
		}, id)
	})
	return list, err
}

// EventItems returns a node and items of it, oldest first, as they were at one moment: those named by ids, or without ids the newest limit ones. Without such a node
// it is ErrNotFound.
func (s *Store) EventItems(ctx context.Context, id AccountID, node string, ids []string, limit int) (n EventNode, items []EventItem, err error) {
	err = s.read(ctx, func(c *conn) error {
		return s.snapshot(c, func() error {
			n, items = EventNode{}, nil
			err := c.each(qEventNodeGet, func(r *sqlite.Stmt) error {
				n = EventNode{Node: r.ColText(0), Config: r.ColBlob(1), Bytes: int(r.ColInt(2))}
				return nil
			}, id, node)
			if err == nil && n.Config == nil {
				err = ErrNotFound
			}
			if err != nil {
				return err
			}
			take := func(r *sqlite.Stmt) error {
				items = append(items, EventItem{ID: r.ColText(0), At: time.UnixMicro(r.ColInt(1)).UTC(), Payload: r.ColBlob(2)})
				return nil
			}
			for _, item := range ids {
				if err := c.each(qEventItemGet, take, id, node, item); err != nil {
					return err
				}
			}
			if ids != nil {
				return nil
			}
			return c.each(qEventItemPage, take, id, node, max(limit, 0))
		})
	})
	return n, items, err
}

// EventsLast returns the newest items of nodes of several accounts, those that there are.
func (s *Store) EventsLast(ctx context.Context, owners []jid.JID, nodes []string) (list []EventLast, err error) {
	err = s.read(ctx, func(c *conn) error {
		for _, j := range owners {
			owner := j.String()
			for _, node := range nodes {
				err := c.each(qEventLast, func(r *sqlite.Stmt) error {
					list = append(list, EventLast{Owner: j, EventNode: EventNode{Node: node, Config: r.ColBlob(0)},
						EventItem: EventItem{ID: r.ColText(1), At: time.UnixMicro(r.ColInt(2)).UTC(), Payload: r.ColBlob(3)}})
					return nil
				}, owner, node)
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	return list, err
}
