package xep

import (
	"strings"
	"time"

	"carillon.im/xmltree"
)

// NSCAM is XEP-0494's namespace.
const NSCAM = "urn:xmpp:cam:0"

// PasswordResetRequired is the application-specific condition for a client whose
// access can't be revoked because it knows the password (XEP-0494 3.2).
const PasswordResetRequired = "<password-reset-required xmlns='" + NSCAM + "'/>"

// maxClientID bounds the id of a client in a request, in bytes.
const maxClientID = 256

// Client is one program with access to an account, as its owner sees it (XEP-0494
// 3.1).
type Client struct {
	ID                  string // opaque; what a <revoke/> names
	Connected           bool   // it has a session, or may resume one
	Session             bool   // it has ever had a session
	FirstSeen, LastSeen time.Time
	Password, Fast      bool // how it has authenticated: with the password; it has tokens
	Software, Device    string
}

// AppendClients appends the answer to a <list/> (XEP-0494 3.1). All clients have
// access without restrictions: there is nothing else yet.
func AppendClients(dst []byte, clients []Client) []byte {
	dst = append(dst, "<clients xmlns='"+NSCAM+"'>"...)
	content := len(dst)
	for i := range clients {
		dst = appendClient(dst, &clients[i])
	}
	return appendEnd(dst, content, "clients")
}

func appendClient(dst []byte, c *Client) []byte {
	connected, typ := "false", "access"
	if c.Connected {
		connected = "true"
	}
	if c.Session {
		typ = "session"
	}
	dst = appendAttr(append(dst, "<client"...), "connected", connected)
	dst = appendAttr(appendAttr(dst, "id", c.ID), "type", typ)
	dst = AppendDateTime(append(dst, "><first-seen>"...), c.FirstSeen)
	dst = AppendDateTime(append(dst, "</first-seen><last-seen>"...), c.LastSeen)
	dst = append(dst, "</last-seen><auth>"...)
	content := len(dst)
	if c.Password {
		dst = append(dst, "<password/>"...)
	}
	if c.Fast {
		dst = append(dst, "<fast/>"...)
	}
	dst = append(appendEnd(dst, content, "auth"), "<permission status='unrestricted'/>"...)
	if c.Software != "" || c.Device != "" {
		dst = append(dst, "<user-agent>"...)
		if c.Software != "" {
			dst = appendElement(dst, "", "software", c.Software)
		}
		if c.Device != "" {
			dst = appendElement(dst, "", "device", c.Device)
		}
		dst = append(dst, "</user-agent>"...)
	}
	return append(dst, "</client>"...)
}

// maxClients bounds the clients that are taken from a server.
const maxClients = 1024

// ParseClients reads what AppendClients wrote. Clients without an id are left
// out, and times that are none are zero.
func ParseClients(el xmltree.Element) []Client {
	var list []Client
	for e := range el.Children() {
		if !e.Is(NSCAM, "client") || e.Attr("id") == "" || len(list) == maxClients {
			continue
		}
		c := Client{ID: strings.Clone(e.Attr("id")), Session: e.Attr("type") == "session"}
		c.Connected, _ = ParseBool(e.Attr("connected"))
		c.FirstSeen, _ = ParseDateTime(e.Child(NSCAM, "first-seen").Text())
		c.LastSeen, _ = ParseDateTime(e.Child(NSCAM, "last-seen").Text())
		auth, agent := e.Child(NSCAM, "auth"), e.Child(NSCAM, "user-agent")
		c.Password, c.Fast = !auth.Child(NSCAM, "password").IsZero(), !auth.Child(NSCAM, "fast").IsZero()
		c.Software = strings.Clone(agent.Child(NSCAM, "software").Text())
		c.Device = strings.Clone(agent.Child(NSCAM, "device").Text())
		list = append(list, c)
	}
	return list
}

// ParseRevoke reads the id in a <revoke/> (XEP-0494 3.2). Without one, or with one
// that no client can have, it fails with bad-request.
func ParseRevoke(el xmltree.Element) (string, error) {
	id := el.Attr("id")
	if id == "" || len(id) > maxClientID {
		return "", badRequest("no client is named")
	}
	return strings.Clone(id), nil
}
