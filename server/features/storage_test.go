package features_test

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/feature"
	"carillon.im/server/features/register"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// blockXML is a blocking element with items.
func blockXML(name string, jids ...string) string {
	if len(jids) == 0 {
		return "<" + name + " xmlns='urn:xmpp:blocking'/>"
	}
	return "<" + name + " xmlns='urn:xmpp:blocking'><item jid='" + strings.Join(jids, "'/><item jid='") + "'/></" + name + ">"
}

func isSet(el xmltree.Element) bool {
	return el.Is(stanza.NSClient, "iq") && el.Attr("type") == "set"
}

func TestBlocking(t *testing.T) {
	l := start(t, limits)
	asked, silent, also := l.online("juliet", "chamber"), l.online("juliet", "garden"), l.online("juliet", "balcony")
	list := blockXML("blocklist")
	asked.expect("get", "", list, list)
	also.expect("get", "", list, list)

	block := blockXML("block", "romeo@montague.lit", "iago@shakespeare.lit/x", "shakespeare.lit")
	asked.expect("set", "", block, "")
	for _, c := range []*client{asked, also} {
		if got := c.pushed(); got != block {
			t.Errorf("push %s, want %s", got, block)
		}
	}
	silent.nothingElse(isSet)
	silent.expect("get", "", list, blockXML("blocklist", "iago@shakespeare.lit/x", "romeo@montague.lit", "shakespeare.lit"))

	// An item given twice counts once; blocking twice is fine.
	asked.expect("set", "", blockXML("block", "Romeo@Montague.lit", "romeo@montague.lit"), "")
	if got, want := asked.pushed(), blockXML("block", "romeo@montague.lit"); got != want {
		t.Errorf("push %s, want %s", got, want)
	}
	asked.expect("set", "", blockXML("unblock", "romeo@montague.lit", "nobody@there.lit"), "")
	if got, want := asked.pushed(), blockXML("unblock", "romeo@montague.lit", "nobody@there.lit"); got != want {
		t.Errorf("push %s, want %s", got, want)
	}
	asked.expect("get", "", list, blockXML("blocklist", "iago@shakespeare.lit/x", "shakespeare.lit"))
	asked.expect("set", "", blockXML("unblock"), "")
	if got := asked.pushed(); got != blockXML("unblock") {
		t.Errorf("push %s", got)
	}
	asked.expect("get", "", list, list)

	many := make([]string, limits.BlockItems+1)
	for i := range many {
		many[i] = fmt.Sprintf("u%d@x.lit", i)
	}
	for _, c := range []struct{ typ, to, payload, want string }{
		{"set", "", blockXML("block"), bad},
		{"set", "", "<block xmlns='urn:xmpp:blocking'><item/></block>", bad},
		{"set", "", "<block xmlns='urn:xmpp:blocking'><item xmlns='other' jid='a@b.lit'/></block>", bad},
		{"set", "", blockXML("block", "a@@b"), "jid-malformed modify"},
		{"set", "", blockXML("unblock", "a@@b"), "jid-malformed modify"},
		{"set", "", blockXML("block", many...), tooMuch},
		{"get", "", blockXML("block", "a@b.lit"), unavailable},
		{"set", "", list, unavailable},
		{"get", "romeo@" + domain, list, unavailable},
		{"set", domain, blockXML("block", "a@b.lit"), unavailable},
	} {
		asked.expect(c.typ, c.to, c.payload, c.want)
	}
	asked.expect("get", "", list, list)
	asked.expect("set", "", blockXML("block", many[1:]...), "")
	if got := asked.ask("set", "", blockXML("block", many[0])); !strings.HasPrefix(got, "resource-constraint") {
		t.Errorf("one too many: %s", got)
	}
}

func privateXML(inner string) string {
	if inner == "" {
		return "<query xmlns='jabber:iq:private'/>"
	}
	return "<query xmlns='jabber:iq:private'>" + inner + "</query>"
}

func TestPrivate(t *testing.T) {
	l := start(t, limits)
	hamlet, other := l.bind("romeo", "denmark"), l.bind("romeo", "other")
	const ask, stored = "<exodus xmlns='exodus:prefs'/>", "<exodus xmlns='exodus:prefs'><defaultnick>Hamlet</defaultnick></exodus>"
	hamlet.expect("get", "", privateXML(ask), privateXML(ask))
	hamlet.expect("set", "", privateXML(stored), "")
	other.expect("get", "romeo@"+domain, privateXML(ask), privateXML(stored))

	// Elements of one name are one fragment; those of other names are others.
	hamlet.expect("set", "", privateXML("<a xmlns='n'>1</a><a xmlns='n'>2</a><b xmlns='n'/>"), "")
	hamlet.expect("get", "", privateXML("<a xmlns='n'/>"), privateXML("<a xmlns='n'>1</a><a xmlns='n'>2</a>"))
	hamlet.expect("get", "", privateXML("<b xmlns='n'/>"), privateXML("<b xmlns='n'/>"))
	hamlet.expect("get", "", privateXML("<a xmlns='m'/>"), privateXML("<a xmlns='m'/>"))

	for _, c := range []struct{ typ, to, payload, want string }{
		{"get", "", privateXML(""), bad},
		{"get", "", privateXML("<a xmlns='n'/><b xmlns='n'/>"), bad},
		{"get", "", privateXML("<a/>"), notAcceptable},
		{"set", "", privateXML(""), notAcceptable},
		{"set", "", privateXML("<a/>"), notAcceptable},
		{"set", "", privateXML("<vCard xmlns='vcard-temp'><FN>Hamlet</FN></vCard>"), notAcceptable},
		{"set", "", privateXML("<query xmlns='jabber:iq:roster'/>"), notAcceptable},
		{"get", "", privateXML("<x xmlns='http://jabber.org/protocol/muc'/>"), notAcceptable},
		{"set", "", privateXML("<a xmlns='n'/><a xmlns=''/>"), notAcceptable},
		{"get", "juliet@" + domain, privateXML(ask), forbidden},
		{"set", "juliet@" + domain, privateXML(stored), forbidden},
		{"set", "nobody@" + domain, privateXML(stored), forbidden},
		{"get", domain, privateXML(ask), unavailable},
	} {
		hamlet.expect(c.typ, c.to, c.payload, c.want)
	}
}

func TestPrivateBounds(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	item := func(i, size int) string {
		return fmt.Sprintf("<i%d xmlns='n'>%s</i%d>", i, strings.Repeat("x", size), i)
	}
	for i := range privateItems {
		romeo.expect("set", "", privateXML(item(i, 10)), "")
	}
	romeo.expect("set", "", privateXML(item(privateItems, 10)), tooMuch)
	romeo.expect("set", "", privateXML(item(0, privateBytes)), tooMuch)
	romeo.expect("set", "", privateXML(item(0, privateBytes/2)), "")
	romeo.expect("set", "", privateXML(item(1, privateBytes/2)), tooMuch)
	romeo.expect("get", "", privateXML("<i1 xmlns='n'/>"), privateXML(item(1, 10)))
	// What is emptied gives its room back.
	romeo.expect("set", "", privateXML("<i0 xmlns='n'/>"), "")
	romeo.expect("set", "", privateXML(item(privateItems, 10)+item(1, privateBytes/2)), "")
}

func TestVCard(t *testing.T) {
	l := start(t, limits)
	romeo, juliet, tybalt := l.online("romeo", "orchard"), l.online("juliet", "balcony"), l.online("tybalt", "street")
	const get, empty = "<vCard xmlns='vcard-temp'/>", "<vCard xmlns='vcard-temp'/>"
	romeo.expect("get", "", get, empty)
	juliet.expect("get", "romeo@"+domain, get, unavailable)
	juliet.expect("get", "nobody@"+domain, get, unavailable)

	photo := []byte("\x89PNG not really")
	sum := sha1.Sum(photo)
	text := base64.StdEncoding.EncodeToString(photo)
	card := "<vCard xmlns='vcard-temp'><FN>Romeo &amp; Co</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>\n" + text[:5] + "\n  " + text[5:] + "\n</BINVAL></PHOTO></vCard>"
	romeo.expect("set", "", card, "")
	romeo.expect("get", "romeo@"+domain, get, card)
	juliet.expect("get", "romeo@"+domain, get, card)
	tybalt.expect("get", "romeo@"+domain, get, card) // anybody may (XEP-0054 3.3)

	// Who sees his presence hears of the new avatar (XEP-0153).
	update := juliet.next(func(el xmltree.Element) bool {
		return el.Is(stanza.NSClient, "presence") && !el.Child("vcard-temp:x:update", "x").Child("vcard-temp:x:update", "photo").IsZero() &&
			el.Child("vcard-temp:x:update", "x").Child("vcard-temp:x:update", "photo").Text() != ""
	})
	if got := update.Child("vcard-temp:x:update", "x").Child("vcard-temp:x:update", "photo").Text(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("hash %s, want %x", got, sum)
	}

	for _, c := range []struct{ typ, to, payload, want string }{
		{"set", "juliet@" + domain, card, forbidden},
		{"set", "nobody@" + domain, card, forbidden},
		{"set", "", "<vCard xmlns='vcard-temp'><PHOTO><BINVAL>%%%</BINVAL></PHOTO></vCard>", bad},
		{"set", "", "<vCard xmlns='vcard-temp'><NOTE>" + strings.Repeat("x", vcardBytes) + "</NOTE></vCard>", tooMuch},
		{"get", domain, get, unavailable},
	} {
		romeo.expect(c.typ, c.to, c.payload, c.want)
	}
	romeo.expect("get", "", get, card)
	romeo.expect("set", "", empty, "")
	romeo.expect("get", "", get, empty)
}

func registerXML(inner string) string {
	return "<query xmlns='jabber:iq:register'>" + inner + "</query>"
}

// password is what the account's keys were made of (see keys).
func (l *live) password(name string) string {
	l.t.Helper()
	k, _, err := l.store.Keys(l.t.Context(), bare(name), sasl.SHA256)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(k.Salt)
}

func TestPasswordChange(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	const get = "<query xmlns='jabber:iq:register'/>"
	for _, to := range []string{"", domain, "romeo@" + domain} {
		romeo.expect("get", to, get, registerXML("<registered/><username>romeo</username><password/>"))
		romeo.expect("set", to, registerXML("<username>Romeo</username><password>new "+to+"</password>"), "")
		if got := l.password("romeo"); got != "new "+to {
			t.Errorf("the password is %q", got)
		}
	}
	for _, c := range []struct{ to, payload, want string }{
		{"", get, bad},
		{"", registerXML("<username>romeo</username>"), bad},
		{"", registerXML("<password>x</password>"), bad},
		{"", registerXML("<username>romeo</username><password/>"), bad},
		{"", registerXML("<username>romeo</username><password></password>"), bad},
		{"", registerXML("<username>juliet</username><password>x</password>"), bad},
		{"", registerXML("<username>@</username><password>x</password>"), bad},
		{"", registerXML("<username>romeo</username><password>a\tb</password>"), notAcceptable},
		{"", registerXML("<remove/><username>romeo</username>"), bad},
		{"juliet@" + domain, registerXML("<username>juliet</username><password>x</password>"), unavailable},
	} {
		romeo.expect("set", c.to, c.payload, c.want)
	}
	if got := l.password("romeo"); got != "new romeo@"+domain {
		t.Errorf("the password is %q", got)
	}
}

func TestAccountRemoval(t *testing.T) {
	l := start(t, limits)
	romeo, also, juliet := l.online("romeo", "orchard"), l.online("romeo", "desk"), l.online("juliet", "balcony")
	romeo.send("<iq type='set' id='unreg1'>" + registerXML("<remove/>") + "</iq>")
	for _, c := range []*client{romeo, also} {
		if e := <-c.ended; e == nil || e.Condition != stanza.StreamNotAuthorized {
			t.Errorf("the session ended with %v", e)
		}
	}
	juliet.expect("get", "romeo@"+domain, "<vCard xmlns='vcard-temp'/>", unavailable)
	if _, _, err := l.store.Keys(t.Context(), bare("romeo"), sasl.SHA256); err == nil {
		t.Error("the account is still there")
	}
}

func TestRegistrar(t *testing.T) {
	l := start(t, limits)
	r := register.Registrar{Accounts: l, Strangers: true}
	to := jid.MustParse(domain)
	answer := func(typ, payload string) string {
		got, err := r.Answer(t.Context(), to, "", stanza.Build(stanza.IQ, typ, "1", jid.JID{}, to, payload))
		if err == nil {
			return got
		}
		e, own := stanza.AsError(err)
		if !own {
			return err.Error()
		}
		return string(e.Condition) + " " + string(e.Type)
	}
	for _, c := range []struct{ typ, payload, want string }{
		{"get", "<query xmlns='jabber:iq:register'/>", r.Form()},
		{"set", registerXML("<username>Bill</username><password>Calliope</password>"), ""},
		{"set", registerXML("<username>bill</username><password>other</password>"), "conflict cancel"},
		{"set", registerXML("<username>bill</username>"), notAcceptable},
		{"set", registerXML("<username>new</username><password/>"), notAcceptable},
		{"set", registerXML("<password>x</password>"), notAcceptable},
		{"set", registerXML("<username>a b</username><password>x</password>"), notAcceptable},
		{"set", registerXML("<username>a@b</username><password>x</password>"), notAcceptable},
		{"set", registerXML("<username>new</username><password>a\tb</password>"), notAcceptable},
		{"set", registerXML("<remove/>"), "unexpected-request wait"},
		{"set", registerXML("<remove/><username>bill</username>"), bad},
		{"get", "<query xmlns='jabber:iq:auth'/>", "not-authorized auth"},
	} {
		if got := answer(c.typ, c.payload); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.typ, c.payload, got, c.want)
		}
	}
	if got := l.password("bill"); got != "Calliope" {
		t.Errorf("the password is %q", got)
	}
}

// TestReports is XEP-0377: who is blocked is reported as long as he is blocked.
func TestReports(t *testing.T) {
	l := start(t, limits)
	juliet := l.online("juliet", "chamber")
	report := func(who, rest string) string {
		return "<block xmlns='urn:xmpp:blocking'><item jid='" + who + "'><report xmlns='urn:xmpp:reporting:1'" + rest + "</report></item></block>"
	}
	id, err := l.hub.Account(bare("juliet")).StoreID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := func() string {
		t.Helper()
		list, err := l.store.KVList(t.Context(), store.AccountID(id), feature.ReportSpace)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, kv := range list {
			all = append(all, kv.Key+" "+string(kv.Value))
		}
		return strings.Join(all, "\n")
	}
	juliet.expect("set", "", report("romeo@example.net", " reason='urn:xmpp:reporting:spam'><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@example.net' id='28482'/>"+
		"<text xml:lang='en'>\n  Never came trouble to my house like this.\n</text><report-origin/><third-party/>"), "")
	juliet.expect("set", "", report("long.example", " reason='r'><text>"+strings.Repeat("ä", 2000)+"</text>"), "")
	juliet.expect("set", "", report("unreasonable.example", "><text>why</text>"), "") // a block and no report
	long := `long.example {"at":"2026-11-20T12:00:00Z","reason":"r","text":"` + strings.Repeat("ä", 1000) + `"}`
	if got, want := kept(), long+"\n"+`romeo@example.net {"at":"2026-11-20T12:00:00Z","reason":"urn:xmpp:reporting:spam","text":"Never came trouble to my house like this.",`+
		`"messages":["28482"],"report_origin":true,"third_party":true}`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	juliet.expect("get", "", blockXML("blocklist"), blockXML("blocklist", "long.example", "romeo@example.net", "unreasonable.example"))
	juliet.expect("set", "", blockXML("unblock", "romeo@example.net"), "")
	if got := kept(); got != long {
		t.Errorf("after the block: %s", got)
	}
	juliet.expect("set", "", blockXML("unblock"), "")
	if got := kept(); got != "" {
		t.Errorf("after all blocks: %s", got)
	}
}
