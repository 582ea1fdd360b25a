package interop

import (
	"testing"

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

// TestEventsAcross: a user of carillon and one of another server hear of each other's
// personal events that their programs ask for, and of the newest when they come.
func TestEventsAcross(t *testing.T) {
	for _, kind := range []string{"carillon", "prosody", "ejabberd"} {
		t.Run(kind, func(t *testing.T) {
			own, theirs := federation(t, kind, true)
			alice, bob := own.login("alice", "phone", false), theirs.login("bob", "phone", false)
			a, b := "alice@"+own.domain, "bob@"+theirs.domain
			acquaint(alice, bob)

			const node = "http://jabber.org/protocol/nick"
			publish := func(p *person, id, nick string) {
				p.send("<iq type='set' id='" + id + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='" + node + "'><item id='current'><nick xmlns='" + node + "'>" + nick + "</nick></item></publish></pubsub></iq>")
			}
			caps := map[*person]string{}
			for p, name := range map[*person]string{alice: "hers", bob: "his"} {
				caps[p], p.info = wishing(t, name, node)
				publish(p, "p1", "first "+name)
				p.until("id='p1'", "type='result'")
			}
			bob.send("<presence>" + caps[bob] + "</presence>")
			bob.until("<message", "first hers", a)
			alice.send("<presence>" + caps[alice] + "</presence>")
			if kind == "ejabberd" { // 23.01 sends the newest item only to whom it knew already when presence came
				alice.until("<iq", "id='", "disco#info", b)
				alice.send("<iq type='get' id='behind' to='" + theirs.domain + "'><ping xmlns='urn:xmpp:ping'/></iq>")
				alice.until("id='behind'")
			} else {
				alice.until("<message", "first his", b)
			}

			publish(alice, "p2", "second hers")
			bob.until("<message", "second hers", "type='headline'", "from='"+a+"'")
			publish(bob, "p2", "second his")
			alice.until("<message", "second his", b)
			bob.send("<iq type='get' id='g' to='" + a + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='" + node + "'/></pubsub></iq>")
			bob.until("id='g'", "second hers")
			alice.send("<iq type='get' id='g' to='" + b + "'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='" + node + "'/></pubsub></iq>")
			alice.until("id='g'", "second his")

			// Who is away hears nothing, and the newest when he is back.
			bob.send("<presence type='unavailable'/>")
			alice.until("<presence", "type='unavailable'", b+"/phone")
			publish(alice, "p3", "third hers")
			alice.until("id='p3'")
			bob.send("<presence>" + caps[bob] + "</presence>")
			bob.until("<message", "third hers")
			if n := bob.count("third hers"); n != 1 {
				t.Errorf("bob heard of it %d times", n)
			}
		})
	}
}
