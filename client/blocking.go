package client

import (
	"context"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// maxBlocked bounds a block list.
const maxBlocked = 20000

// BlockList fetches the account's block list (XEP-0191 3.2), and with that asks
// for BlockListChanged events in this session.
func (c *Client) BlockList(ctx context.Context) ([]jid.JID, error) {
	st, err := c.ask(ctx, stanza.TypeGet, jid.JID{}, string(xep.AppendBlockItems(nil, "blocklist", nil)))
	if err != nil {
		return nil, err
	}
	return xep.ParseBlockItems(st.Child(xep.NSBlocking, "blocklist"), maxBlocked)
}

// Block adds addresses, at least one, to the block list (XEP-0191 3.3).
func (c *Client) Block(ctx context.Context, who ...jid.JID) error {
	_, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, string(xep.AppendBlockItems(nil, "block", who)))
	return err
}

// Unblock removes addresses from it, all of them if none is named (XEP-0191
// 3.4, 3.5).
func (c *Client) Unblock(ctx context.Context, who ...jid.JID) error {
	_, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, string(xep.AppendBlockItems(nil, "unblock", who)))
	return err
}

// blockPush takes a change that any of the account's devices made.
func (c *Client) blockPush(st *stanza.Stanza, el xmltree.Element) Event {
	items, err := xep.ParseBlockItems(el, maxBlocked)
	if !c.own(st) || err != nil || el.Local() != "block" && el.Local() != "unblock" {
		c.reply(st.ErrorReply(stanza.NewError(stanza.ServiceUnavailable, "")))
		return nil
	}
	c.reply(st.Reply(""))
	if el.Local() == "block" {
		return &BlockListChanged{Blocked: items}
	}
	return &BlockListChanged{Unblocked: items, Emptied: len(items) == 0}
}
