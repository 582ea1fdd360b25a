package interop

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"net"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
)

// login is a client of a user, with presence.
func (o *other) login(user, resource string, carbons bool) *person {
	o.t.Helper()
	user, domain := o.account(user)
	nc, err := net.Dial("tcp", "127.0.0.1:"+o.c2s)
	if err != nil {
		o.t.Fatal(err)
	}
	c, err := xmppclient.Login(nc, xmppclient.Config{Account: jid.MustParse(user + "@" + domain), Password: "secret-" + user, Unbound: o.domain == "ejabberd.fed",
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: domain}})
	if err == nil {
		err = c.Bind(resource)
	}
	if err != nil {
		o.t.Fatalf("%s@%s: %v", user, domain, err)
	}
	o.t.Cleanup(func() { c.Cut() })
	p := &person{t: o.t, c: c}
	if carbons {
		p.send("<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
		p.until("id='carbons'")
	}
	p.send("<presence/>")
	return p
}

// person is a client that reads until what it waits for.
type person struct {
	t    *testing.T
	c    *xmppclient.Client
	seen []string
	info string // what it answers when it is asked what it can (XEP-0030); "": nothing
}

func (p *person) send(xml string) {
	p.t.Helper()
	if err := p.c.Send(xml); err != nil {
		p.t.Fatal(err)
	}
}

// until reads up to a stanza with all the pieces.
func (p *person) until(pieces ...string) string {
	p.t.Helper()
	xml, err := p.within(patience, pieces...)
	if err != nil {
		p.t.Fatalf("%s: %v while waiting for %q; got\n%s", p.c.JID(), err, pieces, strings.Join(p.seen, "\n"))
	}
	return xml
}

// within is until for a while.
func (p *person) within(d time.Duration, pieces ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		ev, err := p.c.Next(ctx)
		if err != nil {
			return "", err
		}
		got := strings.ReplaceAll(xmppclient.XML(ev), `"`, "'")
		p.seen = append(p.seen, got)
		p.tell(got)
		all := true
		for _, piece := range pieces {
			all = all && strings.Contains(got, piece)
		}
		if all {
			return got, nil
		}
	}
}

// tell answers who asks what the client can.
func (p *person) tell(question string) {
	p.t.Helper()
	var iq struct {
		From string `xml:"from,attr"`
		ID   string `xml:"id,attr"`
		Type string `xml:"type,attr"`
	}
	if p.info != "" && strings.HasPrefix(question, "<iq ") && strings.Contains(question, xep.NSDiscoInfo) && xml.Unmarshal([]byte(question), &iq) == nil && iq.Type == "get" {
		p.send("<iq type='result' to='" + iq.From + "' id='" + iq.ID + "'>" + p.info + "</iq>")
	}
}

// acquaint subscribes two who are online to each other.
func acquaint(one, other *person) {
	one.t.Helper()
	for _, pair := range [][2]*person{{one, other}, {other, one}} {
		asks, agrees := pair[0], pair[1]
		asks.send("<presence type='subscribe' to='" + agrees.c.JID().Bare().String() + "'/>")
		agrees.until("type='subscribe'", asks.c.JID().Bare().String())
		agrees.send("<presence type='subscribed' to='" + asks.c.JID().Bare().String() + "'/>")
		asks.until("<presence", agrees.c.JID().String())
	}
}

// settled reads what is there up to the answer to a question to the own server.
func (p *person) settled(id string) {
	p.t.Helper()
	p.send("<iq type='get' id='" + id + "'><query xmlns='jabber:iq:roster'/></iq>")
	p.until("id='" + id + "'")
}

// count is how many of the stanzas read have a piece of text.
func (p *person) count(piece string) int {
	n := 0
	for _, xml := range p.seen {
		if strings.Contains(xml, piece) {
			n++
		}
	}
	return n
}

// archived are the pieces that stand in the own archive.
func (p *person) archived(id string, pieces ...string) (found int) {
	p.t.Helper()
	before := len(p.seen)
	p.send("<iq type='set' id='" + id + "'><query xmlns='urn:xmpp:mam:2' queryid='" + id + "'><set xmlns='http://jabber.org/protocol/rsm'><max>200</max></set></query></iq>")
	p.until("id='"+id+"'", "<iq")
	for _, piece := range pieces {
		for _, xml := range p.seen[before:] {
			if strings.Contains(xml, "urn:xmpp:mam:2") && strings.Contains(xml, piece) {
				found++
			}
		}
	}
	return found
}
