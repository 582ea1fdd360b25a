package client

import (
	"context"
	"errors"
	"fmt"

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

// ErrPasswordKnown is returned where the program knows the account's password. It can't be kept out
// before that is changed (XEP-0494 3.2).
var ErrPasswordKnown = errors.New("client: the password has to be changed first")

// EndDevice takes a program's access away (XEP-0494 3.2); id is that of Devices.
// ErrPasswordKnown comes with the server's *stanza.Error.
func (c *Client) EndDevice(ctx context.Context, id string) error {
	_, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, "<revoke xmlns='"+xep.NSCAM+"' id='"+string(xmltree.AppendAttrValue(nil, id))+"'/>")
	if e, ok := errors.AsType[*stanza.Error](err); ok && e.App == xep.PasswordResetRequired {
		return fmt.Errorf("%w: %w", ErrPasswordKnown, err)
	}
	return err
}
