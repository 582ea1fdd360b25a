package client

import (
	"context"
	"fmt"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// ChangePassword gives the account another password (XEP-0077 3.3). This client
// logs in with it from now on; the account's other clients have to be told, for
// servers make the tokens of the old one invalid. A *stanza.Error says why the
// server doesn't take it. After any other error it may have been taken: then
// this client still has the old one.
func (c *Client) ChangePassword(ctx context.Context, password string) error {
	payload := xmltree.AppendText([]byte("<query xmlns='"+xep.NSRegister+"'><username>"), c.cfg.Account.Local())
	payload = xmltree.AppendText(append(payload, "</username><password>"...), password)
	payload = append(payload, "</password></query>"...)
	if _, err := c.IQ(ctx, stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, c.cfg.Account.DomainJID(), string(payload))); err != nil {
		return fmt.Errorf("client: password not changed: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.password = password
	return nil
}

// secret is the password now; "" for none. It is called by the goroutine of run.
func (c *Client) secret() string {
	c.mu.Lock()
	password := c.password
	c.mu.Unlock()
	if password != c.keyed {
		c.keys, c.keyed = sasl.ClientKeys{}, password // those of the old one, whatever the salt
	}
	return password
}
