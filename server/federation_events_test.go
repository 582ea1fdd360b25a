package server

import (
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// knows puts somebody into a roster, who sees him and is seen.
func (d *node) knows(name, contact string) {
	d.n.t.Helper()
	data, err := d.store.LoadAccount(d.n.t.Context(), jid.MustParse(name+"@"+d.domain))
	if err == nil {
		err = d.store.Commit(d.n.t.Context(), store.RosterPut{Account: data.ID, Version: 1, Item: store.RosterItem{JID: jid.MustParse(contact), Subscription: "both"}})
	}
	if err != nil {
		d.n.t.Fatal(err)
	}
}

// events are the personal events that come up to a stanza with a piece of text, and
// this one.
func (d *device) events(piece string) (list []string) {
	d.t.Helper()
	for {
		b := d.until("<")
		if strings.Contains(b, "pubsub#event") || strings.Contains(b, piece) {
			list = append(list, b)
		}
		if strings.Contains(b, piece) {
			return list
		}
	}
}

// wanting is the capabilities of a program that wants to hear of nodes.
func wanting(t *testing.T, nodes ...string) (caps, info string) {
	t.Helper()
	i := xep.DiscoInfo{Identities: []xep.Identity{{Category: "client", Type: "pc"}}}
	for _, n := range nodes {
		i.Features = append(i.Features, n+"+notify")
	}
	ver, ok := xep.CapsVer("sha-1", i)
	if !ok {
		t.Fatal("no hash")
	}
	return string(xep.AppendCaps(nil, xep.Caps{Hash: "sha-1", Node: "n", Ver: ver})), string(xep.AppendDiscoInfo(nil, "n#"+ver, i))
}

// answers has the device answer who asks what it can.
func (d *device) answers(from, info string) {
	d.t.Helper()
	el, err := xmltree.Parse([]byte(d.until("<iq from='"+from+"'")), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		d.t.Fatal(err)
	}
	if !strings.Contains(string(el.Raw()), xep.NSDiscoInfo) {
		d.t.Fatalf("%s asks %s", from, el.Raw())
	}
	d.send("<iq type='result' to='" + from + "' id='" + el.Attr("id") + "'>" + info + "</iq>")
}

func tune(id, title string, options ...string) string {
	form := ""
	if len(options) > 0 {
		form = "<publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>" +
			"<field var='pubsub#" + options[0] + "'><value>" + options[1] + "</value></field></x></publish-options>"
	}
	return "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='tune'><item id='" + id + "'><t xmlns='urn:tune'>" + title + "</t></item></publish>" + form + "</pubsub>"
}

// TestEventsAcross: a contact on another server hears of personal events as one here
// does (XEP-0163 4.3).
func TestEventsAcross(t *testing.T) {
	n := newInternet(t)
	a, b := n.node("a.example", "alice"), n.node("b.example", "bob")
	a.knows("alice", "bob@b.example")
	b.knows("bob", "alice@a.example")
	alice, bob := a.device("alice", "desk", route.V2), b.device("bob", "phone", route.V2)
	alice.send("<presence/>")
	publish := func(payload string) {
		t.Helper()
		if got := alice.request("set", "alice@a.example", payload); !strings.Contains(got, "type='result'") {
			t.Fatal(got)
		}
	}
	// hears checks what bob has heard when a message comes that alice sends behind it.
	hears := func(when string, want ...string) {
		t.Helper()
		alice.send("<message type='chat' to='bob@b.example'><body>" + when + "</body></message>")
		got := bob.events("<body>" + when + "</body>")
		got = got[:len(got)-1]
		for i, e := range got {
			if !strings.Contains(e, " from='alice@a.example' to='bob@b.example/phone' type='headline'") && !strings.Contains(e, "<message from='alice@a.example' to='bob@b.example/phone' type='headline'>") {
				t.Errorf("%s: %s", when, e)
			}
			if i >= len(want) || !strings.Contains(e, want[i]) {
				t.Errorf("%s: heard %s", when, e)
			}
		}
		if len(got) < len(want) {
			t.Errorf("%s: heard %q, want %q", when, got, want)
		}
	}
	publish(tune("1", "before"))

	// He comes: his own server asks what he can, and so does hers, in her name; then
	// he is sent the newest item.
	caps, info := wanting(t, "tune")
	bob.send("<presence>" + caps + "</presence>")
	bob.answers("b.example", info)
	bob.answers("alice@a.example", info)
	if got := bob.until("pubsub#event"); !strings.Contains(got, ">before</t>") || !strings.Contains(got, "<delay ") {
		t.Errorf("he came and was sent %s", got)
	}

	publish(tune("2", "live"))
	publish(strings.ReplaceAll(tune("1", "other"), "'tune'", "'mood'"))
	publish("<pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='tune' notify='1'><item id='2'/></retract></pubsub>")
	hears("live", ">live</t>", "<retract id='2'/>")

	// What he reads himself, and what not.
	for node, want := range map[string]string{"mood": ">other</t>", "none": "<item-not-found "} {
		if got := bob.request("get", "alice@a.example", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='"+node+"'/></pubsub>"); !strings.Contains(got, want) {
			t.Errorf("of %s he reads %s", node, got)
		}
	}
	publish(strings.ReplaceAll(tune("1", "secret", "access_model", "whitelist"), "'tune'", "'private'"))
	if got := bob.request("get", "alice@a.example", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='private'/></pubsub>"); !strings.Contains(got, "<item-not-found ") {
		t.Errorf("a private node reads %s", got)
	}

	// Blocked, and no longer.
	alice.request("set", "alice@a.example", "<block xmlns='urn:xmpp:blocking'><item jid='bob@b.example'/></block>")
	publish(tune("3", "blocked"))
	alice.request("set", "alice@a.example", "<unblock xmlns='urn:xmpp:blocking'><item jid='bob@b.example'/></unblock>")
	publish(tune("4", "unblocked"))
	hears("block", ">unblocked</t>")

	// Away; and back, with capabilities that are known: the newest item.
	bob.send("<presence type='unavailable'/>")
	alice.until("from='bob@b.example/phone' to='alice@a.example' type='unavailable'")
	publish(tune("5", "away"))
	bob.send("<presence>" + caps + "</presence>")
	if got := bob.events("pubsub#event"); len(got) != 1 || !strings.Contains(got[0], ">away</t>") || !strings.Contains(got[0], "<delay ") {
		t.Errorf("back, he is sent %q", got)
	}
	// The same capabilities again are no news.
	bob.send("<presence><show>away</show>" + caps + "</presence>")
	alice.until("<show>away</show>")
	hears("again")

	// His server can't be reached, and then can.
	a.hub.Reach([]string{"b.example"}, nil)
	alice.until("<presence from='bob@b.example' to='alice@a.example' type='unavailable'/>")
	publish(tune("6", "lost"))
	a.hub.Reach(nil, []string{"b.example"})
	if got := bob.until("pubsub#event"); !strings.Contains(got, ">lost</t>") || !strings.Contains(got, "<delay ") {
		t.Errorf("reached again, he is sent %s", got)
	}

	// He may see her no more.
	alice.send("<presence type='unsubscribed' to='bob@b.example'/>")
	publish(tune("7", "ended"))
	hears("end")
}
