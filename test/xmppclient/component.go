package xmppclient

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// nsComponent is the namespace of a component's stream (XEP-0114 3).
const nsComponent = "jabber:component:accept"

// OpenComponent is a component that was let in. It sends and receives as any
// Client; what it sends has a 'from'.
func OpenComponent(nc net.Conn, domain, secret string) (*Client, error) {
	c := newClient(nc, Config{Account: jid.MustParse(domain)})
	c.component = xmltree.NewScanner(xmltree.Limits{})
	if err := c.handshake(domain, secret); err != nil {
		nc.Close()
		return nil, err
	}
	c.start()
	return c, nil
}

func (c *Client) handshake(domain, secret string) error {
	if err := c.write([]byte("<stream:stream xmlns='" + nsComponent + "' xmlns:stream='" + stanza.NSStreams + "' to='" + domain + "'>")); err != nil {
		return err
	}
	opened, err := c.token()
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(opened.Element.Attr("id") + secret))
	if err := c.write([]byte("<handshake>" + hex.EncodeToString(sum[:]) + "</handshake>")); err != nil {
		return err
	}
	answer, err := c.token()
	if err == nil && (answer.Kind != xmltree.Unit || !answer.Element.Is(nsComponent, "handshake")) {
		err = &Refused{"login", "not-authorized"}
	}
	return err
}

// token is the next token of a component's stream.
func (c *Client) token() (xmltree.Token, error) {
	for {
		tok, n, err := c.component.Next(c.in)
		c.in = c.in[n:]
		if err != nil || tok.Kind != xmltree.None {
			return tok, err
		}
		c.pause()
		if n, err = c.conn.Read(c.buf); n == 0 && err != nil {
			return tok, err
		}
		c.in = c.buf[:n]
	}
}

// readComponent is read for a component.
func (c *Client) readComponent() (stream.Event, error) {
	tok, err := c.token()
	if err != nil {
		return stream.Event{}, err
	}
	switch {
	case tok.Kind == xmltree.StreamEnd:
		return stream.Event{Kind: stream.Closed}, nil
	case tok.Element.Is(stanza.NSStreams, "error"):
		e := &stanza.StreamError{}
		for c := range tok.Element.Children() {
			if c.Space() == stanza.NSStreamErrors && e.Condition == "" {
				e.Condition = c.Local()
			}
		}
		return stream.Event{Kind: stream.PeerError, Err: e}, nil
	}
	// Inside, all are of jabber:client.
	st, err := stanza.ParseBytes(tok.Element.AppendTo(nil, nsComponent), xmltree.Limits{})
	if err != nil {
		return stream.Event{}, fmt.Errorf("%s: %w", tok.Element.AppendTo(nil, nsComponent), err)
	}
	return stream.Event{Kind: stream.Stanza, Stanza: st}, nil
}
