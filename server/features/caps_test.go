package features_test

import (
	"testing"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// XEP-0115 5.2: what Exodus says, and its hash.
const (
	exodus    = "QgayPKawpkPSDYmwT/WM94uAlu0="
	exodusOwn = "<identity category='client' type='pc' name='Exodus 0.9.1'/>" +
		"<feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>" +
		"<feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>"
)

func capsPresence(hash, ver string) string {
	return "<presence><c xmlns='http://jabber.org/protocol/caps' hash='" + hash + "' node='http://exodus' ver='" + ver + "'/></presence>"
}

func isQuestion(el xmltree.Element) bool {
	return el.Is(stanza.NSClient, "iq") && el.Attr("type") == "get"
}

// tell answers the server's question with what a client says of itself and
// waits until the server has read it.
func (c *client) tell(ver, info string) {
	c.t.Helper()
	q := c.next(isQuestion)
	if got := q.Child("http://jabber.org/protocol/disco#info", "query").Attr("node"); got != "http://exodus#"+ver {
		c.t.Errorf("asked for %q", got)
	}
	c.send("<iq type='result' id='" + q.Attr("id") + "' to='" + domain + "'><query xmlns='http://jabber.org/protocol/disco#info' node='http://exodus#" + ver + "'>" + info + "</query></iq>")
}

func TestCaps(t *testing.T) {
	l := start(t, limits)
	romeo, juliet := l.bind("romeo", "orchard"), l.bind("juliet", "balcony")

	juliet.send(capsPresence("sha-1", exodus))
	juliet.tell(exodus, exodusOwn)
	info, ok := l.caps.Lookup("http://exodus#" + exodus)
	for !ok { // the cache learns of it on its own goroutine
		juliet.ask("get", "", "<ping xmlns='urn:xmpp:ping'/>")
		info, ok = l.caps.Lookup("http://exodus#" + exodus)
	}
	if len(info.Features) != 4 || info.Identities[0].Name != "Exodus 0.9.1" {
		t.Fatalf("known: %v", info)
	}
	romeo.send(capsPresence("sha-1", exodus))
	romeo.nothingElse(isQuestion)
}

func TestCapsNotAsked(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	for _, p := range []string{
		"<presence/>", capsPresence("", exodus), capsPresence("md5", exodus), capsPresence("sha-1", ""),
		"<presence><c xmlns='http://jabber.org/protocol/caps' node='http://exodus' ver='0.9'/></presence>",
	} {
		romeo.send(p)
		romeo.nothingElse(isQuestion)
	}
	// One question at a time.
	romeo.send(capsPresence("sha-1", "a"))
	romeo.next(isQuestion)
	romeo.send(capsPresence("sha-1", "b"))
	romeo.nothingElse(isQuestion)
}
