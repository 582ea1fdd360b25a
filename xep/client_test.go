package xep

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
)

// TestMAMQueryRoundTrip: what clients ask, servers understand.
func TestMAMQueryRoundTrip(t *testing.T) {
	for _, q := range []MAMQuery{
		{Page: NoRSM()},
		{ID: "f'27", Page: RSM{Max: 10}},
		{With: jid.MustParse("juliet@capulet.lit"), Start: at("2010-06-07T00:00:00Z"), End: at("2010-07-07T13:23:54Z"), Page: RSM{Max: 0}},
		{BeforeID: "b", AfterID: "a", Thread: " e0ffe42b <", IDs: []string{"1", "2"}, Page: RSM{Max: 10, After: "09af3"}, Flip: true},
		{Page: RSM{Max: 10, Last: true}},
		{Page: RSM{Max: -1, Before: "09af3", Last: true}},
	} {
		got, err := ParseMAMQuery(parse(t, string(AppendMAMQuery(nil, q))))
		if err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("got %+v (%v)\nwant %+v", got, err, q)
		}
	}
}

func TestParseMAMFin(t *testing.T) {
	for xml, want := range map[string]struct {
		fin MAMFin
		ok  bool
	}{
		string(AppendMAMFin(nil, true, "a", "b", 2)):                     {MAMFin{true, "a", "b"}, true},
		string(AppendMAMFin(nil, false, "", "", -1)):                     {MAMFin{}, true},
		"<fin xmlns='urn:xmpp:mam:2' complete='perhaps'/>":               {MAMFin{}, false},
		"<query xmlns='urn:xmpp:mam:2'/>":                                {MAMFin{}, false},
		"<fin xmlns='urn:xmpp:mam:2' complete='1'><set xmlns=''/></fin>": {MAMFin{Complete: true}, true},
	} {
		if got, ok := ParseMAMFin(parse(t, xml)); got != want.fin || ok != want.ok {
			t.Errorf("%s: %+v, %v", xml, got, ok)
		}
	}
}

func TestParseForwarded(t *testing.T) {
	// XEP-0297, example 2, in the namespaces of a carbon.
	const message = "<message xmlns='jabber:client' from='juliet@capulet.lit/orchard' id='0202197' to='romeo@montague.lit' type='chat'><body>Yet I should kill thee with much cherishing.</body></message>"
	st, stamp, ok := ParseForwarded(parse(t, "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>"+message+"</forwarded>"))
	if !ok || st.ID != "0202197" || !stamp.Equal(at("2010-07-10T23:08:25Z")) {
		t.Errorf("%v, %v, %v", st, stamp, ok)
	}
	for _, xml := range []string{
		"<forwarded xmlns='urn:xmpp:forward:0'/>",
		"<forwarded xmlns='urn:example'>" + message + "</forwarded>",
		"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='urn:example'/></forwarded>",
		"<forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' type='get' id='1'><a xmlns='b'/></iq></forwarded>",
		"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='@'/></forwarded>",
	} {
		if st, _, ok := ParseForwarded(parse(t, xml)); ok {
			t.Errorf("%s: %s", xml, st.AppendTo(nil))
		}
	}
}

func TestParseRoster(t *testing.T) {
	items := []RosterItem{
		{JID: jid.MustParse("juliet@example.com"), Name: "J & J", Subscription: SubscriptionBoth, Groups: []string{"Friends", ""}},
		{JID: jid.MustParse("benvolio@example.net"), Subscription: SubscriptionNone, Ask: true, Approved: true},
	}
	ver, got := ParseRoster(parse(t, string(AppendRoster(nil, "ver'7", slices.Values(items)))), 2)
	if ver != "ver'7" || !reflect.DeepEqual(got, items) {
		t.Errorf("%q %+v", ver, got)
	}
	if ver, got := ParseRoster(parse(t, string(AppendRoster(nil, "7", slices.Values(items)))), 1); ver != "" || len(got) != 1 {
		t.Errorf("over the bound: %q %+v", ver, got)
	}
	groups := strings.Repeat("<group>g</group>", 2*MaxRosterGroups)
	_, got = ParseRoster(parse(t, "<query xmlns='jabber:iq:roster'><item jid='@'/><item/><other xmlns='urn:example' jid='a@b'/><item jid='a@b/c'>"+groups+"</item></query>"), 9)
	if len(got) != 1 || got[0].JID != jid.MustParse("a@b") || got[0].Subscription != SubscriptionNone || len(got[0].Groups) != MaxRosterGroups {
		t.Errorf("malformed: %+v", got)
	}
}

func TestParseClients(t *testing.T) {
	clients := []Client{
		{ID: "zeiP41HLglIu", Connected: true, Session: true, FirstSeen: at("2023-04-06T14:26:08Z"), LastSeen: at("2023-04-06T14:37:25Z"), Password: true, Software: "Gajim", Device: "Juliet's laptop"},
		{ID: "2", FirstSeen: at("2023-04-06T14:26:08Z"), LastSeen: at("2023-04-06T14:37:25Z"), Fast: true},
	}
	if got := ParseClients(parse(t, string(AppendClients(nil, clients)))); !reflect.DeepEqual(got, clients) {
		t.Errorf("%+v", got)
	}
	many := "<clients xmlns='urn:xmpp:cam:0'><client/>" + strings.Repeat("<client id='x'/>", 2*maxClients) + "</clients>"
	if got := ParseClients(parse(t, many)); len(got) != maxClients || !got[0].FirstSeen.IsZero() {
		t.Errorf("%d clients", len(got))
	}
}
