package client

import (
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Disco asks somebody, the zero JID for the own account, what it is and can
// (XEP-0030 3); node is "" mostly. Answers are not kept.
func (c *Client) Disco(ctx context.Context, who jid.JID, node string) (xep.DiscoInfo, error) {
	st, err := c.ask(ctx, stanza.TypeGet, c.peer(who), string(xep.AppendDiscoInfo(nil, node, xep.DiscoInfo{})))
	if err != nil {
		return xep.DiscoInfo{}, err
	}
	return xep.ParseDiscoInfo(st.Payload())
}

// capabilities are what the client tells about itself.
func (c *Client) capabilities() xep.DiscoInfo {
	identity := c.cfg.Identity
	if identity.Category == "" {
		identity = xep.Identity{Category: "client", Type: "pc", Name: identity.Name}
	}
	info := xep.DiscoInfo{Identities: []xep.Identity{identity}, Features: []string{xep.NSDiscoInfo, xep.NSPing}}
	if c.cfg.Node != "" {
		info.Features = append(info.Features, xep.NSCaps)
	}
	for _, f := range c.cfg.Features {
		if !slices.Contains(info.Features, f) {
			info.Features = append(info.Features, f)
		}
	}
	return info
}

// disco answers a question about the client (XEP-0030 3, XEP-0115 6.2).
func (c *Client) disco(st *stanza.Stanza, el xmltree.Element) *stanza.Stanza {
	node := el.Attr("node")
	if node != "" {
		ver, _ := xep.CapsVer("sha-1", c.caps)
		if node != (xep.Caps{Node: c.cfg.Node, Ver: ver}).Query() {
			return st.ErrorReply(stanza.NewError(stanza.ItemNotFound, ""))
		}
	}
	return st.Reply(string(xep.AppendDiscoInfo(nil, node, c.caps)))
}
