package features_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/features/pep"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

func pubsub(inner string) string {
	return "<pubsub xmlns='http://jabber.org/protocol/pubsub'>" + inner + "</pubsub>"
}

func pubsubOwner(inner string) string {
	return "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>" + inner + "</pubsub>"
}

func itemXML(id, text string) string {
	return "<item id='" + id + "'><n xmlns='urn:n'>" + text + "</n></item>"
}

// publishXML publishes an item; options are names and values.
func publishXML(node, id, text string, options ...string) string {
	form := ""
	if len(options) > 0 {
		form = "<publish-options>" + formXML("publish-options", options...) + "</publish-options>"
	}
	return pubsub("<publish node='" + node + "'>" + itemXML(id, text) + "</publish>" + form)
}

func formXML(typ string, options ...string) string {
	b := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#" + typ + "</value></field>"
	for i := 0; i < len(options); i += 2 {
		b += "<field var='pubsub#" + options[i] + "'><value>" + options[i+1] + "</value></field>"
	}
	return b + "</x>"
}

func itemsXML(node string, items ...string) string {
	if len(items) == 0 {
		return pubsub("<items node='" + node + "'/>")
	}
	return pubsub("<items node='" + node + "'>" + strings.Join(items, "") + "</items>")
}

func publishedXML(node, id string) string {
	return pubsub("<publish node='" + node + "'><item id='" + id + "'/></publish>")
}

// wanting is online with capabilities that ask for nodes.
func (l *live) wanting(name, resource string, nodes ...string) *client {
	l.t.Helper()
	c, _ := l.arriving(name, resource, nodes...)
	return c
}

// arriving is wanting; with the client it returns the events that it is sent as it
// comes.
func (l *live) arriving(name, resource string, nodes ...string) (*client, []string) {
	l.t.Helper()
	c := l.bind(name, resource)
	// Its own newest item comes behind all others: then its wishes are known.
	own := "of-" + resource
	c.expect("set", "", publishXML(own, "1", "x"), publishedXML(own, "1"))
	info := xep.DiscoInfo{Identities: []xep.Identity{{Category: "client", Type: "pc"}}}
	for _, n := range append(nodes, own) {
		info.Features = append(info.Features, n+"+notify")
	}
	ver, ok := xep.CapsVer("sha-1", info)
	if !ok {
		l.t.Fatal("no hash")
	}
	c.send("<presence>" + string(xep.AppendCaps(nil, xep.Caps{Hash: "sha-1", Node: "n", Ver: ver})) + "</presence>")
	if _, known := l.caps.Lookup(ver); !known {
		q := c.next(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "iq") && el.Attr("type") == "get" })
		c.send("<iq type='result' to='" + domain + "' id='" + q.Attr("id") + "'>" + string(xep.AppendDiscoInfo(nil, "n#"+ver, info)) + "</iq>")
	}
	seen := c.until(own)
	c.expect("set", "", pubsubOwner("<delete node='"+own+"'/>"), "")
	c.inbox = nil
	return c, seen
}

// until is the events that come before one that contains a mark.
func (c *client) until(mark string) (list []string) {
	c.t.Helper()
	for {
		e := c.event()
		if strings.Contains(e, mark) {
			return list
		}
		list = append(list, e)
	}
}

func isEvent(el xmltree.Element) bool {
	return el.Is(stanza.NSClient, "message") && !el.Child(xep.NSEvent, "event").IsZero()
}

// event is the next event that the client reads: from whom, and its content.
func (c *client) event() string {
	c.t.Helper()
	el := c.next(isEvent)
	if el.Attr("type") != "headline" || el.Attr("to") != c.session.JID().String() {
		c.t.Errorf("an event came as %s", el.Raw())
	}
	return el.Attr("from") + " " + el.Child(xep.NSEvent, "event").Inner()
}

// TestEventsPrivacy is who sees what of a node: by asking for its items, for what
// it is, for the list of nodes, and unasked. What somebody may not see looks as if
// it weren't there, and to strangers the account too.
func TestEventsPrivacy(t *testing.T) {
	l := start(t, limits)
	mercutio := l.create("mercutio") // sees Romeo's presence, in a group of his roster
	l.create("paris")                // a stranger on the list of members
	abram := l.create("abram")       // a contact who is blocked
	l.commit(
		store.RosterPut{Account: 1, Version: 2, Item: store.RosterItem{JID: bare("mercutio"), Subscription: "from", Groups: []string{"Friends"}}},
		store.RosterPut{Account: mercutio, Version: 2, Item: store.RosterItem{JID: bare("romeo"), Subscription: "to"}},
		store.RosterPut{Account: 1, Version: 3, Item: store.RosterItem{JID: bare("abram"), Subscription: "both"}},
		store.RosterPut{Account: abram, Version: 2, Item: store.RosterItem{JID: bare("romeo"), Subscription: "both"}},
		store.BlockPut{Account: 1, JID: bare("abram")},
	)
	romeo := l.bind("romeo", "orchard")
	asking := map[string]*client{"own": l.wanting("romeo", "desk", "n", "other"), "contact": l.wanting("juliet", "balcony", "n", "other"), "group": l.wanting("mercutio", "street", "n", "other"),
		"stranger": l.wanting("tybalt", "street", "n", "other"), "member": l.wanting("paris", "church", "n", "other"), "blocked": l.wanting("abram", "street", "n", "other")}
	to := "romeo@" + domain
	info := func(node string) string { return string(xep.AppendDiscoInfo(nil, node, xep.DiscoInfo{})) }
	list := "<query xmlns='http://jabber.org/protocol/disco#items'/>"
	known := map[string]bool{"own": true, "contact": true, "group": true} // who may learn that there is such an account

	for _, access := range []struct {
		model string
		sees  string
	}{
		{"open", "own contact group stranger member"},
		{"presence", "own contact group"},
		{"roster", "own group"},
		{"whitelist", "own member"},
	} {
		romeo.expect("set", "", publishXML("n", "1", access.model, "access_model", access.model), publishedXML("n", "1"))
		if access.model == "roster" {
			romeo.expect("set", "", pubsubOwner("<configure node='n'>"+formXML("node_config", "roster_groups_allowed", "Friends")+"</configure>"), "")
		}
		if access.model == "whitelist" {
			romeo.expect("set", "", pubsubOwner("<affiliations node='n'><affiliation jid='paris@"+domain+"' affiliation='member'/></affiliations>"), "")
		}
		mark := func(id string) {
			romeo.expect("set", "", publishXML("other", id, "mark"), publishedXML("other", id))
		}
		mark("before-" + access.model)
		romeo.expect("set", "", publishXML("n", "2", "news"), publishedXML("n", "2"))
		mark("behind-" + access.model)
		for who, c := range asking {
			may := strings.Contains(access.sees, who)
			address := to
			if who == "own" {
				address = ""
			}
			wantItems, wantInfo := itemsXML("n", itemXML("2", "news")), "leaf"
			if !may {
				wantItems, wantInfo = notFound, notFound
				if !known[who] {
					wantItems, wantInfo = unavailable, unavailable
				}
			} else if !known[who] {
				wantInfo = unavailable // XEP-0030 8 comes first
			}
			c.expect("get", address, itemsXML("n"), wantItems)
			if got := c.ask("get", address, info("n")); !strings.Contains(got, wantInfo) {
				t.Errorf("%s, %s: disco#info %s, want %s", access.model, who, got, wantInfo)
			}
			if got := c.ask("get", address, list); strings.Contains(got, "node='n'") != (may && known[who]) {
				t.Errorf("%s, %s: disco#items %s", access.model, who, got)
			}
			// What isn't there is answered in the same way.
			if !may {
				for _, payload := range []string{itemsXML("n"), info("n"), itemsXML("n", "<item id='2'/>")} {
					there, nothing := c.ask("get", address, payload), c.ask("get", address, strings.Replace(payload, "node='n'", "node='m'", 1))
					nobody := there
					if !known[who] {
						nobody = c.ask("get", "nobody@"+domain, payload)
					}
					if there != nothing || there != nobody {
						t.Errorf("%s, %s: %s for a node, %s for none, %s for nobody", access.model, who, there, nothing, nobody)
					}
				}
			}
			if known[who] {
				c.until("before-" + access.model)
				want := []string(nil)
				if may {
					want = []string{to + " <items node='n'>" + itemXML("2", "news") + "</items>"}
				}
				if got := c.until("behind-" + access.model); !slices.Equal(got, want) {
					t.Errorf("%s, %s: events %s, want %s", access.model, who, got, want)
				}
			}
			c.nothingElse(isEvent)
			for _, payload := range []string{publishXML("n", "3", "x"), pubsubOwner("<delete node='n'/>"), pubsubOwner("<configure node='n'/>")} {
				if who != "own" && who != "blocked" {
					c.expect("set", address, payload, forbidden)
				}
			}
		}
		// Who comes later is sent the newest item if he may see it.
		for who, as := range map[string]string{"juliet": "contact", "mercutio": "group", "tybalt": "stranger", "paris": "member", "abram": "blocked"} {
			c, seen := l.arriving(who, "late-"+access.model, "n")
			if want := strings.Contains(access.sees, as) && known[as]; want != (len(seen) > 0) || want && !strings.Contains(seen[0], "news") {
				t.Errorf("%s, %s: newest items %s", access.model, who, seen)
			}
			c.session.Close(c)
		}
		romeo.expect("set", "", pubsubOwner("<delete node='n'/>"), "")
	}
}

// TestEventsBounds: nodes, items of a node, bytes of an item and of all, names, changes in a short
// time; what makes room is possible at each bound.
func TestEventsBounds(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	big := strings.Repeat("x", eventLimits.ItemBytes)
	long := strings.Repeat("n", pep.MaxName+1)
	for _, c := range []struct{ payload, want string }{
		{publishXML("n", "1", big), notAcceptable},
		{publishXML(long, "1", "x"), notAcceptable},
		{publishXML("n", long, "x"), notAcceptable},
		{pubsub("<publish node='n'>" + itemXML("1", "x") + itemXML("2", "x") + "</publish>"), "not-allowed cancel"},
		{pubsub("<publish node='n'/>"), bad},
		{pubsub("<publish node='n'><item/></publish>"), bad},
		{pubsub("<publish node='n'><item><a xmlns=''/></item></publish>"), bad},
		{pubsub("<publish node='n'><item><a xmlns='b'/><a xmlns='b'/></item></publish>"), bad},
		{pubsub("<publish>" + itemXML("1", "x") + "</publish>"), bad},
		{pubsub("<publish node='n'>" + itemXML("1", "x") + "</publish><publish node='m'>" + itemXML("1", "x") + "</publish>"), bad},
		{pubsub("<retract node='n'/>"), bad},
		{pubsub("<retract node='n'><item id='1'/></retract>"), notFound},
		{pubsub(""), bad},
		{pubsubOwner(""), bad},
		{pubsub("<what/>"), "feature-not-implemented cancel"},
		{pubsub("<create node='n'/><configure><x xmlns='jabber:x:data' type='form'/></configure>"), bad},
		{pubsub("<create node='n'/><configure>" + formXML("wrong", "title", "t") + "</configure>"), bad},
		{pubsub("<create node='n'/><configure>" + formXML("node_config", "title", strings.Repeat("t", 300)) + "</configure>"), notAcceptable},
		{pubsub("<create node='n'/><configure>" + formXML("node_config", "max_items", "-1") + "</configure>"), notAcceptable},
		{pubsub("<create node='n'/><configure>" + formXML("node_config", "publish_model", "open") + "</configure>"), notAcceptable},
	} {
		romeo.expect("set", "", c.payload, c.want)
	}

	for i := range eventLimits.Items + 3 {
		romeo.expect("set", "", publishXML("max", fmt.Sprint(i), "x", "max_items", "max"), publishedXML("max", fmt.Sprint(i)))
	}
	if got := strings.Count(romeo.ask("get", "", itemsXML("max")), "<item "); got != eventLimits.Items {
		t.Errorf("%d items are kept", got)
	}
	for i := range eventLimits.Nodes - 1 {
		romeo.expect("set", "", publishXML(fmt.Sprint("n", i), "1", "x"), publishedXML(fmt.Sprint("n", i), "1"))
	}
	romeo.expect("set", "", publishXML("more", "1", "x"), tooMuch)
	romeo.expect("set", "", pubsub("<create node='more'/>"), tooMuch)
	romeo.expect("get", "", itemsXML("more"), notFound)

	large := strings.Repeat("x", eventLimits.ItemBytes-100)
	for i := range 3 {
		romeo.expect("set", "", publishXML(fmt.Sprint("n", i), "1", large), publishedXML(fmt.Sprint("n", i), "1"))
	}
	romeo.expect("set", "", publishXML("n3", "1", large), tooMuch)
	romeo.expect("get", "", itemsXML("n3"), itemsXML("n3", itemXML("1", "x")))
	romeo.expect("set", "", pubsubOwner("<purge node='n0'/>"), "")
	romeo.expect("set", "", publishXML("n3", "1", large), publishedXML("n3", "1"))

	many := ""
	for i := range 120 {
		many += fmt.Sprintf("<affiliation jid='u%d@x.lit' affiliation='member'/>", i)
	}
	romeo.expect("set", "", pubsubOwner("<affiliations node='n1'>"+many+"</affiliations>"), tooMuch)
	romeo.expect("set", "", pubsubOwner("<affiliations node='n1'><affiliation jid='@' affiliation='member'/></affiliations>"), "jid-malformed modify")

	// So many changes at once, and one more after a while.
	changes := 0
	for ; changes <= eventLimits.Burst; changes++ {
		if got := romeo.ask("set", "", publishXML("n4", "1", "x")); got != publishedXML("n4", "1") {
			if got != "resource-constraint wait" {
				t.Errorf("too many changes: %s", got)
			}
			break
		}
	}
	if changes > eventLimits.Burst || changes < eventLimits.Burst/2 {
		t.Errorf("%d changes were possible", changes)
	}
	l.bind("juliet", "balcony").expect("set", "", publishXML("n", "1", "x"), publishedXML("n", "1"))
	l.advance(100 * time.Millisecond)
	romeo.expect("set", "", publishXML("n4", "1", "x"), publishedXML("n4", "1"))
	romeo.expect("set", "", publishXML("n4", "1", "x"), "resource-constraint wait")
}

// TestEventsBombs: what one request may name, and what comes in by another name than as
// an item, is bounded as items are.
func TestEventsBombs(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	ids := func(n int) (list string) {
		for i := range n {
			list += fmt.Sprintf("<item id='%d'/>", i)
		}
		return list
	}
	groups := func(n, size int) string {
		g := strings.Repeat("</value><value>"+strings.Repeat("g", size), n)
		return pubsub("<create node='g'/><configure>" + formXML("node_config", "roster_groups_allowed", strings.TrimPrefix(g, "</value><value>")) + "</configure>")
	}
	bookmarks := func(n, size int) (list string) {
		for i := range n {
			list += fmt.Sprintf("<conference jid='r%d@rooms.lit'><nick>%s</nick></conference>", i, strings.Repeat("n", size))
		}
		return privateXML("<storage xmlns='storage:bookmarks'>" + list + "</storage>")
	}
	photo := func(size int) string {
		return "<vCard xmlns='vcard-temp'><PHOTO><BINVAL>" + base64.StdEncoding.EncodeToString(make([]byte, size)) + "</BINVAL></PHOTO></vCard>"
	}
	most, avatar := eventLimits.Items, itemsXML(xep.NodeAvatarMetadata)
	for _, c := range []struct{ typ, payload, want string }{
		{"get", itemsXML("n", ids(most)), notFound},
		{"get", itemsXML("n", ids(most+1)), tooMuch},
		{"set", pubsub("<retract node='n'>" + ids(most) + "</retract>"), notFound},
		{"set", pubsub("<retract node='n'>" + ids(most+1) + "</retract>"), tooMuch},
		{"set", groups(51, 1), notAcceptable},
		{"set", groups(1, 257), notAcceptable},
		{"set", groups(50, 256), ""},
		{"set", bookmarks(most+1, 1), tooMuch},
		{"set", bookmarks(1, eventLimits.ItemBytes), tooMuch},
		{"set", bookmarks(most, 1), ""},
		// A photo that no item could hold is the vCard's alone.
		{"set", photo(eventLimits.ItemBytes), ""},
		{"get", avatar, notFound},
	} {
		romeo.expect(c.typ, "", c.payload, c.want)
	}
	romeo.expect("set", "", photo(10), "")
	if got := romeo.ask("get", "", avatar); !strings.Contains(got, " bytes='10'") {
		t.Errorf("a small photo's avatar: %s", got)
	}

	// Nor is one in the vCard that doesn't fit there.
	full := "<vCard xmlns='vcard-temp'><NOTE>" + strings.Repeat("x", vcardBytes-100) + "</NOTE></vCard>"
	romeo.expect("set", "", full, "")
	image := bytes.Repeat([]byte("i"), 100)
	id := fmt.Sprintf("%x", sha1.Sum(image))
	romeo.ask("set", "", pubsub("<publish node='urn:xmpp:avatar:data'><item id='"+id+"'><data xmlns='urn:xmpp:avatar:data'>"+base64.StdEncoding.EncodeToString(image)+"</data></item></publish>"))
	metadata := "<publish node='urn:xmpp:avatar:metadata'><item id='" + id + "'><metadata xmlns='urn:xmpp:avatar:metadata'><info bytes='100' id='" + id + "' type='image/png'/></metadata></item></publish>"
	romeo.expect("set", "", pubsub(metadata), publishedXML(xep.NodeAvatarMetadata, id))
	romeo.expect("get", "", "<vCard xmlns='vcard-temp'/>", full)

	displayed := func(id string) string {
		return "<message to='juliet@" + domain + "'><displayed xmlns='" + xep.NSDisplayed + "'><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@" + domain + "' id='" + id + "'/></displayed></message>"
	}
	romeo.send(displayed("small"))
	romeo.send(displayed(strings.Repeat("x", eventLimits.ItemBytes)))
	if got := romeo.ask("get", "", itemsXML(xep.NSDisplayed)); !strings.Contains(got, "id='small'") {
		t.Errorf("displayed: %s", got)
	}
}

// TestEventsRace: two devices that publish and configure at the same moment; all
// of it is done, one after the other, and an item that was published once the node
// was closed is shown to nobody else.
func TestEventsRace(t *testing.T) {
	l := start(t, limits)
	l.wanting("romeo", "orchard", "n").expect("set", "", publishXML("n", "0", "start"), publishedXML("n", "0"))
	juliet := l.wanting("juliet", "balcony", "n")
	account := l.hub.Account(bare("romeo"))
	var done sync.WaitGroup
	for d := range 4 {
		c := l.bind("romeo", fmt.Sprint("device", d))
		done.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("%d-%d", d, i)
				if got := c.ask("set", "", publishXML("n", id, "secret", "access_model", "whitelist")); got != publishedXML("n", id) && got != "conflict cancel" {
					t.Errorf("publication: %s", got)
				}
			}
		})
	}
	owner := l.bind("romeo", "owner")
	for i := range 20 {
		model := []string{"whitelist", "presence"}[i%2]
		if got := owner.ask("set", "", pubsubOwner("<configure node='n'>"+formXML("node_config", "access_model", model)+"</configure>")); got != "" && got != "resource-constraint wait" {
			t.Errorf("configuration: %s", got)
		}
	}
	done.Wait()
	owner.expect("set", "", pubsubOwner("<delete node='n'/>"), "")
	owner.expect("set", "", publishXML("n", "end", "x"), publishedXML("n", "end"))
	for _, e := range juliet.until("end") {
		if strings.Contains(e, "secret") {
			t.Errorf("Juliet heard %s", e)
		}
	}

	// A change that was decided on another configuration isn't made.
	err := account.Update(t.Context(), feature.Update{Events: []feature.EventChange{{Node: "n", Was: []byte("{}"), Config: []byte("{}")}}})
	if !errors.Is(err, store.ErrChanged) {
		t.Errorf("update: %v", err)
	}
}

// TestEventsOfAVolatileNode: what isn't kept is told all the same; what is told
// without payload, or not at all, is as the configuration says.
func TestEventsOfAVolatileNode(t *testing.T) {
	l := start(t, limits)
	romeo, juliet := l.wanting("romeo", "orchard", "n"), l.wanting("juliet", "balcony", "n")
	from := "romeo@" + domain + " "
	publish := func(want string, options ...string) {
		t.Helper()
		romeo.expect("set", "", publishXML("n", "1", "x", options...), publishedXML("n", "1"))
		for _, c := range []*client{romeo, juliet} {
			if want != "" {
				if got := c.event(); got != from+want {
					t.Errorf("event %s, want %s", got, want)
				}
			}
			c.nothingElse(isEvent)
		}
	}
	publish("<items node='n'>"+itemXML("1", "x")+"</items>", "persist_items", "false", "notify_delete", "true", "notify_config", "1")
	romeo.expect("get", "", itemsXML("n"), itemsXML("n"))
	configure := func(options ...string) {
		t.Helper()
		romeo.expect("set", "", pubsubOwner("<configure node='n'>"+formXML("node_config", options...)+"</configure>"), "")
		for _, c := range []*client{romeo, juliet} {
			if got := c.event(); got != from+"<configuration node='n'/>" {
				t.Errorf("event %s", got)
			}
		}
	}
	configure("deliver_payloads", "0", "persist_items", "1")
	publish("<items node='n'><item id='1'/></items>")
	configure("deliver_notifications", "0")
	publish("")
	romeo.expect("get", "", itemsXML("n"), itemsXML("n", itemXML("1", "x")))
	romeo.expect("set", "", pubsubOwner("<delete node='n'/>"), "")
	if got := juliet.event(); got != from+"<delete node='n'/>" {
		t.Errorf("event %s", got)
	}
}

// TestOldBookmarks: bookmarks that private XML had before there was a node are in
// it from the first time that anybody asks.
func TestOldBookmarks(t *testing.T) {
	for name, first := range map[string]string{"node": itemsXML(xep.NodeBookmarks), "private": privateXML("<storage xmlns='storage:bookmarks'/>")} {
		t.Run(name, func(t *testing.T) {
			l := start(t, limits)
			const link, room = "<url url='http://x.lit'/>", "<conference name='R' jid='R@rooms.lit'><nick>N</nick></conference>"
			l.commit(store.KVPut{Account: 1, Space: "private", Key: "{storage:bookmarks}storage", Value: []byte("<storage xmlns='storage:bookmarks'>" + link + room + "<conference jid='@'/></storage>")})
			romeo := l.bind("romeo", "orchard")
			romeo.ask("get", "", first)
			romeo.expect("get", "", itemsXML(xep.NodeBookmarks), itemsXML(xep.NodeBookmarks, "<item id='r@rooms.lit'><conference xmlns='urn:xmpp:bookmarks:1' name='R'><nick>N</nick></conference></item>"))
			romeo.expect("get", "", privateXML("<storage xmlns='storage:bookmarks'/>"), privateXML("<storage xmlns='storage:bookmarks'>"+
				strings.Replace(room, "R@", "r@", 1)+link+"<conference jid='@'/></storage>"))
			l.bind("juliet", "balcony").expect("get", "romeo@"+domain, itemsXML(xep.NodeBookmarks), notFound)
			// A node that others may read isn't filled by who can't know of it.
			romeo.expect("set", "", pubsubOwner("<configure node='urn:xmpp:bookmarks:1'>"+formXML("node_config", "access_model", "open")+"</configure>"), "")
			romeo.expect("set", "", privateXML("<storage xmlns='storage:bookmarks'>"+room+"</storage>"), "not-allowed cancel")
		})
	}
}

// TestOldBookmarksThatDontFit: more of them, or larger ones, than the node can hold stay
// where they are, and are shown there.
func TestOldBookmarksThatDontFit(t *testing.T) {
	room := func(i, size int) string {
		return fmt.Sprintf("<conference jid='r%d@rooms.lit'><nick>%s</nick></conference>", i, strings.Repeat("n", size))
	}
	many := ""
	for i := range eventLimits.Items + 1 {
		many += room(i, 1)
	}
	for name, rooms := range map[string]string{"many": many, "large": room(0, eventLimits.ItemBytes)} {
		t.Run(name, func(t *testing.T) {
			l := start(t, limits)
			old := "<storage xmlns='storage:bookmarks'>" + rooms + "</storage>"
			l.commit(store.KVPut{Account: 1, Space: "private", Key: "{storage:bookmarks}storage", Value: []byte(old)})
			romeo := l.bind("romeo", "orchard")
			romeo.expect("get", "", itemsXML(xep.NodeBookmarks), notFound)
			romeo.expect("get", "", privateXML("<storage xmlns='storage:bookmarks'/>"), privateXML(old))
		})
	}
}

// FuzzEvents: whatever the payload, there is an answer that is canonical XML.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{publishXML("n", "1", "x", "max_items", "max"), pubsub("<retract node='n'><item id='1'/></retract>"), itemsXML("n"), pubsub("<create node='n'/>"),
		publishXML(xep.NodeAvatarMetadata, "1", "x"), pubsub("<publish node='urn:xmpp:avatar:metadata'><item><metadata xmlns='urn:xmpp:avatar:metadata'><info id='1'/></metadata></item></publish>"),
		pubsub("<publish node='urn:xmpp:bookmarks:1'><item id='a@b'><conference xmlns='urn:xmpp:bookmarks:1'><a/>b<c d='e'/></conference></item></publish>"),
		pubsubOwner("<configure node='n'>" + formXML("node_config", "access_model", "roster") + "</configure>"), pubsubOwner("<affiliations node='n'><affiliation jid='a@b' affiliation='member'/></affiliations>"),
		privateXML("<storage xmlns='storage:bookmarks'><conference jid='a@b' name='c'><nick>d</nick><e xmlns='f'/></conference><url/></storage>"), "<vCard xmlns='vcard-temp'><PHOTO><BINVAL>aGVsbG8=</BINVAL></PHOTO></vCard>"} {
		f.Add(s)
	}
	l := start(f, limits)
	romeo := l.bind("romeo", "orchard")
	f.Fuzz(func(t *testing.T, payload string) {
		romeo.t = t
		if _, err := xmltree.Parse([]byte(payload), stanza.NSClient, xmltree.Limits{}); err != nil {
			return
		}
		l.advance(time.Second)
		for _, typ := range []string{"set", "get"} {
			st := stanza.Build(stanza.IQ, typ, "1", romeo.session.JID(), jid.JID{}, payloadOf(t, payload))
			if st.PayloadCount() != 1 {
				return
			}
			if got := romeo.ask(typ, "", payloadOf(t, payload)); strings.HasPrefix(got, "internal") {
				t.Errorf("%s %s: %s", typ, payload, got)
			}
		}
		romeo.ask("get", "", privateXML("<storage xmlns='storage:bookmarks'/>"))
		romeo.inbox = nil
	})
}

// payloadOf is the canonical form.
func payloadOf(t *testing.T, payload string) string {
	el, err := xmltree.Parse([]byte(payload), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return el.Raw()
}
