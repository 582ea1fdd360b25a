package client

import (
	"context"
	"errors"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// SetPresence makes st, of type available or unavailable and without addresses,
// the client's presence, in this session and those that follow. It doesn't wait:
// without a connection it is sent with the next one.
func (c *Client) SetPresence(st *stanza.Stanza) error {
	if st.Kind != stanza.Presence || st.Type != stanza.TypeAvailable && st.Type != stanza.TypeUnavailable || !st.To.IsZero() {
		return errors.New("client: not a presence for everybody")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.presence, c.show, c.unsaid = st, true, true
	if c.link != nil {
		c.sendPresence()
	}
	return nil
}

// sendPresence sends the presence. c.mu is held.
func (c *Client) sendPresence() {
	c.unsaid = false
	c.enqueueNow(sm.Entry[outgoing]{Data: c.dressed(c.presence).AppendTo(nil), Tag: outgoing{kind: stanza.Presence}})
}

// dressed is a presence with the client's capabilities (XEP-0115 4).
func (c *Client) dressed(st *stanza.Stanza) *stanza.Stanza {
	payload := st.InnerWithout(func(el xmltree.Element) bool { return el.Is(xep.NSCaps, "c") })
	if c.cfg.Node != "" && st.Type == stanza.TypeAvailable {
		if ver, ok := xep.CapsVer("sha-1", c.caps); ok {
			payload += string(xep.AppendCaps(nil, xep.Caps{Hash: "sha-1", Node: c.cfg.Node, Ver: ver}))
		}
	}
	out := stanza.Build(stanza.Presence, st.Type, st.ID, jid.JID{}, jid.JID{}, payload)
	out.Lang = st.Lang
	return out
}

// Subscribe asks a contact for its presence (RFC 6121 3.1).
func (c *Client) Subscribe(ctx context.Context, contact jid.JID) (*Receipt, error) {
	return c.subscription(ctx, stanza.TypeSubscribe, contact)
}

// Unsubscribe does without it (RFC 6121 3.3).
func (c *Client) Unsubscribe(ctx context.Context, contact jid.JID) (*Receipt, error) {
	return c.subscription(ctx, stanza.TypeUnsubscribe, contact)
}

// Approve lets a contact see the own presence, now or when it asks (RFC 6121
// 3.1.4, 3.4).
func (c *Client) Approve(ctx context.Context, contact jid.JID) (*Receipt, error) {
	return c.subscription(ctx, stanza.TypeSubscribed, contact)
}

// Deny refuses that, or takes it back (RFC 6121 3.1.4, 3.2).
func (c *Client) Deny(ctx context.Context, contact jid.JID) (*Receipt, error) {
	return c.subscription(ctx, stanza.TypeUnsubscribed, contact)
}

func (c *Client) subscription(ctx context.Context, typ string, contact jid.JID) (*Receipt, error) {
	return c.Send(ctx, stanza.Build(stanza.Presence, typ, "", jid.JID{}, contact.Bare(), ""))
}

// SetActive says whether somebody looks at this device (XEP-0352), in this
// session and those that follow. Servers that don't know it aren't told.
func (c *Client) SetActive(active bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == !active {
		return
	}
	c.idle = !active
	if c.link != nil {
		c.sendState()
	}
}

// inactive is the state that a session begins with.
func (c *Client) inactive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle
}

// sendState tells the server. c.mu is held.
func (c *Client) sendState() {
	if !c.session.csi {
		return
	}
	state := "<active xmlns='" + xep.NSCSI + "'/>"
	if c.idle {
		state = "<inactive xmlns='" + xep.NSCSI + "'/>"
	}
	c.control = append(c.control, state...)
	c.wake()
}
