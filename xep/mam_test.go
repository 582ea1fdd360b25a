package xep

import (
	"reflect"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func mamForm(fields string) string {
	return `<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>` + fields + `</x>`
}

func field(name, value string) string {
	return "<field var='" + name + "'><value>" + value + "</value></field>"
}

func TestMAMQuery(t *testing.T) {
	for inner, want := range map[string]MAMQuery{
		"": {Page: NoRSM()}, // ex. 2
		mamForm(field("with", "juliet@capulet.lit")):                                                                                 {Page: NoRSM(), With: jid.MustParse("juliet@capulet.lit")},                          // ex. 6
		mamForm(field("start", "2010-06-07T00:00:00Z") + field("end", "2010-07-07T13:23:54Z")):                                       {Page: NoRSM(), Start: at("2010-06-07T00:00:00Z"), End: at("2010-07-07T13:23:54Z")}, // ex. 7
		mamForm(field("after-id", "28482-98726-73623") + field("before-id", "09af3-cc343-b409f")):                                    {Page: NoRSM(), AfterID: "28482-98726-73623", BeforeID: "09af3-cc343-b409f"},        // ex. 10
		mamForm(field("{urn:xmpp:tmp:thread:0}thread", " e0ffe42b ")):                                                                {Page: NoRSM(), Thread: " e0ffe42b "},
		mamForm(field("{urn:xmpp:tmp:thread:0}thread", "")):                                                                          {Page: NoRSM()},
		mamForm(field("ids", "28482-98726-73623")):                                                                                   {Page: NoRSM(), IDs: []string{"28482-98726-73623"}},                 // ex. 11
		mamForm(field("start", "2010-08-07T00:00:00Z")) + `<set xmlns='http://jabber.org/protocol/rsm'><max>10</max></set>`:          {Page: RSM{Max: 10}, Start: at("2010-08-07T00:00:00Z")},             // ex. 18
		mamForm(field("start", "2010-08-07T00:00:00Z")) + `<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/></set>`: {Page: RSM{Max: 10, Last: true}, Start: at("2010-08-07T00:00:00Z")}, // ex. 23
		`<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><after>09af3-cc343-b409f</after></set><flip-page/>`:                {Page: RSM{Max: 10, After: "09af3-cc343-b409f"}, Flip: true},        // ex. 24
	} {
		got, err := ParseMAMQuery(parse(t, "<query xmlns='urn:xmpp:mam:2'>"+inner+"</query>"))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v (%v)\nwant %+v", inner, got, err, want)
		}
	}
	if _, err := ParseMAMQuery(parse(t, "<query xmlns='urn:xmpp:mam:2' queryid='"+strings.Repeat("q", MaxMAMQueryID)+"'/>")); err != nil {
		t.Error(err)
	}
	for inner, want := range map[string]string{
		mamForm(field("{http://example.com/}free-text-search", "love")):                                "feature-not-implemented",
		mamForm(field("{urn:xmpp:tmp:thread:0}thread", strings.Repeat("x", MaxMAMThread+1))):           "policy-violation",
		mamForm("<field var='{urn:xmpp:tmp:thread:0}thread'><value>a</value><value>b</value></field>"): "bad-request",
		mamForm(field("with", "@")):  "bad-request",
		mamForm(field("start", "x")): "bad-request",
		mamForm(field("end", "x")):   "bad-request",
		mamForm("<field var='with'><value>a.lit</value><value>b.lit</value></field>"): "bad-request",
		`<x xmlns='jabber:x:data' type='cancel'/>`:                                    "bad-request",
		`<set xmlns='http://jabber.org/protocol/rsm'><index>1</index></set>`:          "feature-not-implemented",
	} {
		if _, err := ParseMAMQuery(parse(t, "<query xmlns='urn:xmpp:mam:2'>"+inner+"</query>")); condition(err) != want {
			t.Errorf("%s: %v, want %s", inner, err, want)
		}
	}
}

func TestMAMPrefs(t *testing.T) {
	const ex4 = `<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>romeo@montague.lit</jid></always><never><jid>montague@montague.lit</jid></never></prefs>`
	p, err := ParseMAMPrefs(parse(t, ex4))
	if err != nil {
		t.Fatal(err)
	}
	same(t, AppendMAMPrefs(nil, p), ex4)
	if p, err := ParseMAMPrefs(parse(t, `<prefs xmlns='urn:xmpp:mam:2' default='never'><never/></prefs>`)); err != nil || len(p.Always)+len(p.Never) != 0 {
		t.Error(p, err)
	}
}

// FuzzParse: whatever a peer sends, a parser answers with a value or a
// *stanza.Error, and what is written of the value is canonical.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"<query xmlns='urn:xmpp:mam:2' queryid='f27'>" + mamForm(field("with", "juliet@capulet.lit")) + "<set xmlns='" + NSRSM + "'><max>1</max><before/></set></query>",
		"<prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>a.lit</jid></always></prefs>",
		"<query xmlns='jabber:iq:roster'><item jid='a@b.lit' name='n'><group>g</group></item></query>",
		"<block xmlns='urn:xmpp:blocking'><item jid='a.lit'/></block>", psi,
		"<vCard xmlns='vcard-temp'><PHOTO><BINVAL>YWJj</BINVAL></PHOTO></vCard>",
		"<query xmlns='jabber:iq:register'><username>a</username><password>b</password></query>",
		"<delay xmlns='urn:xmpp:delay' from='a.lit' stamp='2002-09-10T23:08:25Z'/>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		el, err := xmltree.Parse([]byte(doc), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			return
		}
		canonical := func(b []byte) {
			if got := parse(t, string(b)).Raw(); got != string(b) {
				t.Errorf("not canonical: %s", b)
			}
		}
		check := func(err error) bool {
			if _, own := stanza.AsError(err); err != nil && !own {
				t.Errorf("%s: %v", doc, err)
			}
			return err == nil
		}
		if q, err := ParseMAMQuery(el); check(err) {
			canonical(NewMAMResult(q.With, q.With, q.ID).Append(nil, []byte("1"), q.Start, []byte("<message/>")))
		}
		if p, err := ParseMAMPrefs(el); check(err) {
			canonical(AppendMAMPrefs(nil, p))
		}
		if it, err := ParseRosterSet(el); check(err) {
			canonical(AppendRoster(nil, it.Name, func(yield func(RosterItem) bool) { yield(it) }))
		}
		if items, err := ParseBlockItems(el, 10); check(err) {
			canonical(AppendBlockItems(nil, "block", items))
		}
		if d, err := ParseDiscoInfo(el); check(err) {
			canonical(AppendDiscoInfo(nil, el.Attr("node"), d))
			CapsVer("sha-1", d)
		}
		if r, err := ParseRegistration(el); check(err) {
			canonical(AppendRegistered(nil, r.Username))
		}
		if from, stamp, ok := ParseDelay(el); ok {
			canonical(AppendDelay(nil, from, stamp))
		}
		_, err = PhotoHash(el)
		check(err)
	})
}

func BenchmarkMAMResult(b *testing.B) {
	r := NewMAMResult(jid.MustParse("juliet@capulet.lit"), jid.MustParse("juliet@capulet.lit/chamber"), "f27")
	message := []byte("<message from='romeo@montague.lit/orchard' to='juliet@capulet.lit' type='chat'><body>" + strings.Repeat("x", 150) + "</body></message>")
	id, stamp := []byte("0123456789abc"), at("2010-07-10T23:08:25.123456Z")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Append(buf[:0], id, stamp, message)
	}
}
