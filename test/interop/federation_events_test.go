package interop

import (
	"context"
	"encoding/xml"
	"strings"
	"testing"

	"carillon.im/test/xmppclient"
	"carillon.im/xep"
)

// wishing is capabilities that ask for a node, and what a client says that is asked
// for them.
func wishing(t *testing.T, name, node string) (caps, info string) {
	t.Helper()
	i := xep.DiscoInfo{Identities: []xep.Identity{{Category: "client", Type: "pc", Name: name}}, Features: []string{xep.NSCaps, xep.NSDiscoInfo, node, node + "+notify"}}
	ver, ok := xep.CapsVer("sha-1", i)
	if !ok {
		t.Fatal("no hash")
	}
	c := xep.Caps{Hash: "sha-1", Node: "https://" + name + ".example", Ver: ver}
	return string(xep.AppendCaps(nil, c)), string(xep.AppendDiscoInfo(nil, c.Query(), i))
}

// hear is until by a client that says what it can whenever it is asked.
func (p *person) hear(info string, pieces ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		ev, err := p.c.Next(ctx)
		if err != nil {
			p.t.Fatalf("%s: %v while waiting for %q; got\n%s", p.c.JID(), err, pieces, strings.Join(p.seen, "\n"))
		}
		got := strings.ReplaceAll(xmppclient.XML(ev), `"`, "'")
		p.seen = append(p.seen, got)
		var iq struct {
			From string `xml:"from,attr"`
			ID   string `xml:"id,attr"`
			Type string `xml:"type,attr"`
		}
		if strings.HasPrefix(got, "<iq ") && strings.Contains(got, xep.NSDiscoInfo) && xml.Unmarshal([]byte(got), &iq) == nil && iq.Type == "get" {
			p.send("<iq type='result' to='" + iq.From + "' id='" + iq.ID + "'>" + info + "</iq>")
		}
		all := true
		for _, piece := range pieces {
			all = all && strings.Contains(got, piece)
		}
		if all {
			return got
		}
	}
}

// TestEventsAcross: a user of carillon and one of another server hear of each other's
// personal events that their programs ask for, and of the newest when they come.
func TestEventsAcross(t *testing.T) {
	for _, kind := range []string{"carillon", "prosody", "ejabberd"} {
		t.Run(kind, func(t *testing.T) {
			own, theirs := federation(t, kind, true)
			alice, bob := own.login("alice", "phone", false), theirs.login("bob", "phone", false)
			a, b := "alice@"+own.domain, "bob@"+theirs.domain
			alice.send("<presence type='subscribe' to='" + b + "'/>")
			bob.until("type='subscribe'", a)
			bob.send("<presence type='subscribed' to='" + a + "'/>")
			alice.until("<presence", b+"/phone")
			bob.send("<presence type='subscribe' to='" + a + "'/>")
			alice.until("type='subscribe'", b)
			alice.send("<presence type='subscribed' to='" + b + "'/>")
			bob.until("<presence", a+"/phone")

			const node = "http://jabber.org/protocol/nick"
			publish := func(p *person, id, nick string) {
				p.send("<iq type='set' id='" + id + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='" + node + "'><item id='current'><nick xmlns='" + node + "'>" + nick + "</nick></item></publish></pubsub></iq>")
			}
			caps := map[*person][2]string{}
			for p, name := range map[*person]string{alice: "hers", bob: "his"} {
				c, info := wishing(t, name, node)
				caps[p] = [2]string{c, info}
				publish(p, "p1", "first "+name)
				p.hear(info, "id='p1'", "type='result'")
			}
			bob.send("<presence>" + caps[bob][0] + "</presence>")
			bob.hear(caps[bob][1], "<message", "first hers", a)
			alice.send("<presence>" + caps[alice][0] + "</presence>")
			if kind == "ejabberd" { // 23.01 sends the newest item only to whom it knew already when presence came
				alice.hear(caps[alice][1], "<iq", "id='", "disco#info", b)
				alice.send("<iq type='get' id='behind' to='" + theirs.domain + "'><ping xmlns='urn:xmpp:ping'/></iq>")
				alice.hear(caps[alice][1], "id='behind'")
			} else {
				alice.hear(caps[alice][1], "<message", "first his", b)
			}

			publish(alice, "p2", "second hers")
			bob.hear(caps[bob][1], "<message", "second hers", "type='headline'", "from='"+a+"'")
			publish(bob, "p2", "second his")
			alice.hear(caps[alice][1], "<message", "second his", b)
			bob.send("<iq type='get' id='g' to='" + a + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='" + node + "'/></pubsub></iq>")
			bob.hear(caps[bob][1], "id='g'", "second hers")
			alice.send("<iq type='get' id='g' to='" + b + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='" + node + "'/></pubsub></iq>")
			alice.hear(caps[alice][1], "id='g'", "second his")

			// Who is away hears nothing, and the newest when he is back.
			bob.send("<presence type='unavailable'/>")
			alice.hear(caps[alice][1], "<presence", "type='unavailable'", b+"/phone")
			publish(alice, "p3", "third hers")
			alice.hear(caps[alice][1], "id='p3'")
			bob.send("<presence>" + caps[bob][0] + "</presence>")
			bob.hear(caps[bob][1], "<message", "third hers")
			if n := bob.count("third hers"); n != 1 {
				t.Errorf("bob heard of it %d times", n)
			}
		})
	}
}
