package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// remember keeps the session for who comes next, after run has ended.
func (c *Client) remember(ctx context.Context) error {
	c.mu.Lock()
	if s := c.session; s != nil && s.id != "" && c.counting {
		saved := &SavedSession{ID: s.id, JID: s.full, Profile: s.profile, Handled: c.in.H(), Acked: c.out.Acked(), Sent: c.out.Unacked(),
			Rooms: slices.SortedFunc(maps.Keys(s.rooms), func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })}
		if s.max > 0 {
			saved.Expiry = s.lost.Add(s.max)
		}
		for _, e := range c.out.Entries() {
			saved.Unacked = append(saved.Unacked, string(e.Data))
		}
		c.state.Session = saved
		c.session = nil
	}
	c.mu.Unlock()
	return c.cfg.Store.Save(ctx, c.cfg.Account, c.state)
}

// recall takes a session up that an earlier run left, and removes it from the
// store: nobody may take it up twice.
func (c *Client) recall() error {
	saved := c.state.Session
	if saved == nil {
		return nil
	}
	c.state.Session = nil
	if err := c.save(&c.state); err != nil {
		return err
	}
	now := c.cfg.Clock.Now()
	if saved.ID == "" || saved.JID.Bare() != c.cfg.Account || saved.Sent > len(saved.Unacked) || saved.Sent < 0 {
		return nil
	}
	var entries []sm.Entry[outgoing]
	for _, data := range saved.Unacked {
		st, err := stanza.ParseBytes([]byte(data), xmltree.Limits{MaxBytes: len(data) + 1})
		if err != nil {
			return fmt.Errorf("client: state: the saved session is damaged")
		}
		entries = append(entries, sm.Entry[outgoing]{Data: []byte(data), Tag: outgoing{kind: st.Kind}})
	}
	c.out = sm.NewQueue(saved.Acked, saved.Sent, entries)
	c.in, c.counting = sm.NewInbound(saved.Handled), true
	c.session = &session{id: saved.ID, full: saved.JID, profile: saved.Profile, lost: now, rooms: map[jid.JID]bool{}}
	for _, room := range saved.Rooms[:min(len(saved.Rooms), 2*xep.MaxSessionParts)] {
		c.session.rooms[room] = true
	}
	if !saved.Expiry.IsZero() {
		if c.session.max = saved.Expiry.Sub(now); c.session.max <= 0 {
			c.session.id = ""
		}
	}
	return nil
}
