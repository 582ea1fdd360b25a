package client

import (
	"context"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Devices lists the programs with access to the account (XEP-0494 3.1).
func (c *Client) Devices(ctx context.Context) ([]xep.Client, error) {
	st, err := c.ask(ctx, stanza.TypeGet, jid.JID{}, "<list xmlns='"+xep.NSCAM+"'/>")
	if err != nil {
		return nil, err
	}
	return xep.ParseClients(st.Child(xep.NSCAM, "clients")), nil
}

// EndDevice takes a program's access away (XEP-0494 3.2); id is that of Devices.
func (c *Client) EndDevice(ctx context.Context, id string) error {
	_, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, "<revoke xmlns='"+xep.NSCAM+"' id='"+string(xmltree.AppendAttrValue(nil, id))+"'/>")
	return err
}
