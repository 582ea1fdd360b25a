package client

import (
	"cmp"
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// maxRoster bounds the contacts that a server can make a client keep. Those
// beyond are left out, and the roster is fetched whole the next time.
const maxRoster = 20000

// rosterID is the id of the answer that a session of XMPP 2.0 brings.
const rosterID = "session"

// roster is the account's contacts as the server last said, under Client.mu.
type roster struct {
	ver   string
	items map[jid.JID]xep.RosterItem
	stale bool // differs from what is stored
}

// load takes up what an earlier run stored.
func (r *roster) load(s *State) {
	r.ver, r.items = s.RosterVersion, make(map[jid.JID]xep.RosterItem, len(s.Roster))
	for _, it := range s.Roster {
		r.items[it.JID] = it
	}
}

// store keeps the roster for the next run.
func (r *roster) store(c *Client, s *State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.stale {
		r.stale = false
		s.RosterVersion, s.Roster = r.ver, r.sorted()
	}
}

func (r *roster) sorted() []xep.RosterItem {
	list := make([]xep.RosterItem, 0, len(r.items))
	for _, it := range r.items {
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b xep.RosterItem) int { return cmp.Compare(a.JID.String(), b.JID.String()) })
	return list
}

// Roster returns the account's contacts by address, as far as they are known:
// those of the last run until RosterChanged says otherwise.
func (c *Client) Roster() []xep.RosterItem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roster.sorted()
}

// SetContact adds a contact or changes its name and groups (RFC 6121 2.3, 2.4);
// what else is in item isn't the client's to say.
func (c *Client) SetContact(ctx context.Context, item xep.RosterItem) error {
	item.Subscription, item.Ask, item.Approved = "", false, false
	return c.setRoster(ctx, item)
}

// RemoveContact removes a contact, and the subscriptions with it (RFC 6121 2.5).
func (c *Client) RemoveContact(ctx context.Context, contact jid.JID) error {
	return c.setRoster(ctx, xep.RosterItem{JID: contact, Subscription: xep.SubscriptionRemove})
}

func (c *Client) setRoster(ctx context.Context, item xep.RosterItem) error {
	_, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, string(xep.AppendRoster(nil, "", slices.Values([]xep.RosterItem{item}))))
	return err
}

// openRoster expects the roster of a new session, and asks for it if the session
// doesn't bring it. c.mu is held.
func (c *Client) openRoster(comes bool) {
	key := callKey{c.cfg.Account, rosterID}
	c.calls[key] = &call{c.rosterAnswer}
	if comes {
		return
	}
	// An empty version asks for versions (RFC 6121 2.6.2); servers without them
	// ignore it.
	query := "<query xmlns='" + xep.NSRoster + "' ver='" + string(xmltree.AppendAttrValue(nil, c.roster.ver)) + "'/>"
	st := stanza.Build(stanza.IQ, stanza.TypeGet, rosterID, jid.JID{}, jid.JID{}, query)
	c.enqueueNow(sm.Entry[outgoing]{Data: st.AppendTo(nil), Tag: outgoing{kind: stanza.IQ, call: c.calls[key]}})
}

// rosterAnswer loads the roster. An empty answer says that it is as we have it
// (RFC 6121 2.6.3); changes follow as pushes.
func (c *Client) rosterAnswer(st *stanza.Stanza, err error) {
	if err != nil {
		return
	}
	el := st.Child(xep.NSRoster, "query")
	if !el.IsZero() {
		ver, items := xep.ParseRoster(el, maxRoster)
		c.mu.Lock()
		r := roster{ver: ver, items: make(map[jid.JID]xep.RosterItem, len(items)), stale: true}
		for _, it := range items {
			r.items[it.JID] = it
		}
		c.roster = r
		c.mu.Unlock()
	}
	c.push(queued{event: &RosterChanged{}})
}

// rosterPush takes a change. One from anybody but the own account is an attack
// (RFC 6121 2.1.6).
func (c *Client) rosterPush(st *stanza.Stanza, el xmltree.Element) Event {
	if !c.own(st) {
		c.reply(st.ErrorReply(stanza.NewError(stanza.ServiceUnavailable, "")))
		return nil
	}
	ver, items := xep.ParseRoster(el, 2)
	if len(items) != 1 {
		c.reply(st.ErrorReply(stanza.NewError(stanza.BadRequest, "")))
		return nil
	}
	item := items[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.roster
	_, known := r.items[item.JID]
	switch {
	case item.Subscription == xep.SubscriptionRemove:
		delete(r.items, item.JID)
	case known || len(r.items) < maxRoster:
		r.items[item.JID] = item
	default:
		ver = ""
	}
	r.ver, r.stale = ver, true
	c.answer(st.Reply(""))
	return &RosterChanged{Item: &item}
}
