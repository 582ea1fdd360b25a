package features_test

import (
	"strings"
	"testing"
	"time"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const (
	unavailable    = "service-unavailable cancel"
	forbidden      = "forbidden auth"
	notFound       = "item-not-found cancel"
	bad            = "bad-request modify"
	notAcceptable  = "not-acceptable modify"
	notAllowed     = "not-allowed cancel"
	tooMuch        = "policy-violation modify"
	notImplemented = "feature-not-implemented cancel"
)

func TestPingVersionTime(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	const ping = "<ping xmlns='urn:xmpp:ping'/>"
	romeo.expect("get", "", ping, "")
	romeo.expect("get", domain, ping, "")
	romeo.expect("get", "romeo@"+domain, ping, "")
	romeo.expect("set", "", ping, unavailable)
	romeo.expect("get", "juliet@"+domain, ping, unavailable)
	romeo.expect("get", "nobody@"+domain, ping, unavailable)

	romeo.expect("get", domain, "<query xmlns='jabber:iq:version'/>",
		"<query xmlns='jabber:iq:version'><name>carillon</name><version>1.0</version></query>")
	romeo.expect("get", domain, "<time xmlns='urn:xmpp:time'/>",
		"<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2026-11-20T12:00:00Z</utc></time>")
}

func TestLastActivity(t *testing.T) {
	l := start(t, limits)
	const query = "<query xmlns='jabber:iq:last'/>"
	romeo, tybalt := l.online("romeo", "orchard"), l.online("tybalt", "street")
	romeo.expect("get", domain, query, "<query xmlns='jabber:iq:last' seconds='123456'/>")
	romeo.expect("get", "", query, "<query xmlns='jabber:iq:last' seconds='0'/>")
	romeo.expect("get", "juliet@"+domain, query, unavailable) // never seen

	juliet := l.online("juliet", "balcony")
	romeo.expect("get", "juliet@"+domain, query, "<query xmlns='jabber:iq:last' seconds='0'/>")
	juliet.send("<presence type='unavailable'><status>Heading &lt;Home&gt;</status></presence>")
	juliet.ask("get", "", "<ping xmlns='urn:xmpp:ping'/>")
	l.close(juliet)
	l.advance(903 * time.Second)
	romeo.expect("get", "juliet@"+domain, query, "<query xmlns='jabber:iq:last' seconds='903'>Heading &lt;Home&gt;</query>")

	// A stranger, a blocked contact and a missing account: nothing is told.
	tybalt.expect("get", "juliet@"+domain, query, forbidden)
	tybalt.expect("get", "nobody@"+domain, query, forbidden)
	juliet = l.bind("juliet", "balcony")
	juliet.expect("set", "", "<block xmlns='urn:xmpp:blocking'><item jid='romeo@montague.lit'/></block>", "")
	romeo.expect("get", "juliet@"+domain, query, unavailable)
}

func TestDiscoServer(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	info := romeo.ask("get", domain, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	for _, want := range []string{
		"<identity category='server' type='im' name='carillon'/>", "<feature var='http://jabber.org/protocol/disco#info'/>",
		"<feature var='http://jabber.org/protocol/disco#items'/>", "<feature var='http://jabber.org/protocol/caps'/>",
		"<feature var='urn:xmpp:ping'/>", "<feature var='jabber:iq:version'/>", "<feature var='urn:xmpp:time'/>", "<feature var='jabber:iq:last'/>",
		"<feature var='urn:xmpp:carbons:2'/>", "<feature var='urn:xmpp:blocking'/>", "<feature var='jabber:iq:private'/>",
		"<feature var='vcard-temp'/>", "<feature var='urn:xmpp:mam:2'/>", "<feature var='urn:xmpp:mam:2#extended'/>", "<feature var='jabber:iq:register'/>",
		"<feature var='http://jabber.org/protocol/rsm'/>",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("no %s in %s", want, info)
		}
	}
	romeo.expect("get", domain, "<query xmlns='http://jabber.org/protocol/disco#items'/>", "<query xmlns='http://jabber.org/protocol/disco#items'/>")
	for _, kind := range []string{"info", "items"} {
		romeo.expect("get", domain, "<query xmlns='http://jabber.org/protocol/disco#"+kind+"' node='nowhere'/>", notFound)
		romeo.expect("get", "", "<query xmlns='http://jabber.org/protocol/disco#"+kind+"' node='nowhere'/>", notFound)
		romeo.expect("set", domain, "<query xmlns='http://jabber.org/protocol/disco#"+kind+"'/>", unavailable)
	}

	// The caps in the stream features stand for that same answer.
	features, err := xmltree.Parse([]byte("<f>"+l.set.StreamFeatures()+"</f>"), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c := features.Child("http://jabber.org/protocol/caps", "c")
	node := c.Attr("node") + "#" + c.Attr("ver")
	got := romeo.ask("get", domain, "<query xmlns='http://jabber.org/protocol/disco#info' node='"+node+"'/>")
	if want := strings.Replace(info, "#info'>", "#info' node='"+node+"'>", 1); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if !strings.Contains(l.set.StreamFeatures(), "<csi xmlns='urn:xmpp:csi:0'/>") {
		t.Error("csi is not announced")
	}
}

func TestDiscoAccount(t *testing.T) {
	l := start(t, limits)
	const (
		info  = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
		items = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
	)
	romeo, tybalt := l.online("romeo", "orchard"), l.online("tybalt", "street")
	l.bind("romeo", "hidden")
	juliet := l.online("juliet", "balcony")

	for _, to := range []string{"", "romeo@" + domain} {
		got := romeo.ask("get", to, info)
		for _, want := range []string{"<identity category='account' type='registered'/>", "<feature var='urn:xmpp:mam:2'/>", "<feature var='urn:xmpp:mam:2#extended'/>", "<feature var='http://jabber.org/protocol/rsm'/>"} {
			if !strings.Contains(got, want) {
				t.Errorf("to %q: no %s in %s", to, want, got)
			}
		}
	}
	romeo.expect("get", "", items, "<query xmlns='http://jabber.org/protocol/disco#items'>"+
		"<item jid='romeo@montague.lit/orchard'/><item jid='romeo@montague.lit/hidden'/></query>")

	got := juliet.ask("get", "romeo@"+domain, info)
	if !strings.Contains(got, "<identity category='account' type='registered'/>") || strings.Contains(got, "mam") {
		t.Errorf("a contact gets %s", got)
	}
	juliet.expect("get", "romeo@"+domain, items, "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='romeo@montague.lit/orchard'/></query>")
	juliet.expect("get", "romeo@"+domain, "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", notFound)

	// Strangers can't tell an account from none (XEP-0030 8).
	for _, to := range []string{"romeo@" + domain, "nobody@" + domain} {
		tybalt.expect("get", to, info, unavailable)
		tybalt.expect("get", to, "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", unavailable)
		tybalt.expect("get", to, items, items)
		tybalt.expect("get", to, "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>", "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>")
	}
}

func TestCarbonsAndCSI(t *testing.T) {
	l := start(t, limits)
	romeo, desk := l.online("romeo", "orchard"), l.online("romeo", "desk")
	const enable, disable = "<enable xmlns='urn:xmpp:carbons:2'/>", "<disable xmlns='urn:xmpp:carbons:2'/>"
	profile := func(name string) string {
		for _, s := range l.snapshot("romeo").Sessions {
			if s.JID.Resource() == name {
				return s.Profile.String()
			}
		}
		return ""
	}
	for _, step := range []struct{ payload, want string }{
		{disable, "classic"}, {enable, "carbons"}, {enable, "carbons"}, {disable, "classic"}, {disable, "classic"}, {enable, "carbons"},
	} {
		romeo.expect("set", "", step.payload, "")
		if got := profile("orchard"); got != step.want {
			t.Errorf("after %s: %s, want %s", step.payload, got, step.want)
		}
	}
	if got := profile("desk"); got != "classic" {
		t.Errorf("the other session is %s", got)
	}
	romeo.expect("get", "", enable, unavailable)
	romeo.expect("set", "juliet@"+domain, enable, notAllowed)
	romeo.expect("set", "nobody@"+domain, disable, notAllowed)

	// What romeo writes at the desk, the orchard sees.
	desk.send("<message to='juliet@montague.lit' type='chat'><body>hi</body></message>")
	carbon := romeo.next(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "message") })
	if carbon.Child("urn:xmpp:carbons:2", "sent").IsZero() {
		t.Errorf("no carbon: %s", carbon.Raw())
	}

	active := func() bool {
		for _, s := range l.snapshot("romeo").Sessions {
			if s.JID.Resource() == "desk" {
				return s.Active
			}
		}
		return false
	}
	for _, name := range []string{"inactive", "inactive", "active"} {
		el, err := xmltree.Parse([]byte("<"+name+" xmlns='urn:xmpp:csi:0'/>"), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := desk.session.Element(t.Context(), el); err != nil {
			t.Fatal(err)
		}
		if active() != (name == "active") {
			t.Errorf("after <%s/>: active is %v", name, active())
		}
	}
}

func (l *live) snapshot(name string) feature.Snapshot {
	l.t.Helper()
	snap, err := l.hub.Account(bare(name)).Snapshot(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return snap
}
