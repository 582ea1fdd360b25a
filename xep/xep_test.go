package xep

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// parse reads one element where the default namespace is jabber:client.
func parse(t testing.TB, xml string) xmltree.Element {
	t.Helper()
	el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatalf("%v in %s", err, xml)
	}
	return el
}

// normal is an element as text that doesn't depend on the order of attributes
// or on white space between elements, in which examples differ from us.
func normal(el xmltree.Element) string {
	attrs := slices.SortedFunc(el.Attrs(), func(a, b xmltree.Attr) int { return cmp.Compare(a.Name.Local, b.Name.Local) })
	var b strings.Builder
	b.WriteString("<{" + el.Space() + "}" + el.Local())
	for _, a := range attrs {
		b.WriteString(" {" + a.Name.Space + "}" + a.Name.Local + "=" + a.Value)
	}
	b.WriteString(">" + strings.TrimSpace(el.Text()))
	for c := range el.Children() {
		b.WriteString(normal(c))
	}
	return b.String() + "</>"
}

// same compares what was written with an example, and proves that it is
// canonical XML.
func same(t *testing.T, got []byte, example string) {
	t.Helper()
	el := parse(t, string(got))
	if el.Raw() != string(got) {
		t.Errorf("not canonical: %s\ncanonical is %s", got, el.Raw())
	}
	if g, w := normal(el), normal(parse(t, example)); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

// condition is what a peer is told for err, "" for nothing.
func condition(err error) string {
	var e *stanza.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return string(e.Condition)
	}
	return err.Error()
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

// TestWritten compares what is written with the examples of the XEPs.
func TestWritten(t *testing.T) {
	romeo, juliet := jid.MustParse("romeo@montague.net"), jid.MustParse("juliet@capulet.lit")
	chamber := jid.MustParse("juliet@capulet.lit/chamber")
	const body = "<message from='witch@shakespeare.lit' to='macbeth@shakespeare.lit'><body>Hail to thee</body></message>"
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"0012 ex. 5":  {AppendLast(nil, 903*time.Second+900*time.Millisecond, "Heading Home"), `<query xmlns='jabber:iq:last' seconds='903'>Heading Home</query>`},
		"0012 ex. 11": {AppendLast(nil, 123456*time.Second, ""), `<query xmlns='jabber:iq:last' seconds='123456'/>`},
		"0012 past":   {AppendLast(nil, -time.Second, ""), `<query xmlns='jabber:iq:last' seconds='0'/>`},
		"0030 items": {AppendDiscoItems(nil, "n", []DiscoItem{{JID: chamber, Name: "Juliet's"}}),
			`<query xmlns='http://jabber.org/protocol/disco#items' node='n'><item jid='juliet@capulet.lit/chamber' name="Juliet's"/></query>`},
		"0030 nothing": {AppendDiscoItems(nil, "", nil), `<query xmlns='http://jabber.org/protocol/disco#items'/>`},
		"0077 ex. 3":   {AppendRegistered(nil, "juliet"), `<query xmlns='jabber:iq:register'><registered/><username>juliet</username><password/></query>`},
		"0092": {AppendVersion(nil, "Exodus", "0.7.0.4", "Windows-XP 5.01.2600"),
			`<query xmlns='jabber:iq:version'><name>Exodus</name><version>0.7.0.4</version><os>Windows-XP 5.01.2600</os></query>`},
		"0115 ex. 1": {AppendCaps(nil, Caps{"sha-1", "http://code.google.com/p/exodus", "QgayPKawpkPSDYmwT/WM94uAlu0="}),
			`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://code.google.com/p/exodus' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>`},
		"0153 ex. 3": {AppendVCardUpdate(nil, "01b87fcd030b72895ff8e88db57ec525450f000d"),
			`<x xmlns='vcard-temp:x:update'><photo>01b87fcd030b72895ff8e88db57ec525450f000d</photo></x>`},
		"0153 none": {AppendVCardUpdate(nil, ""), `<x xmlns='vcard-temp:x:update'><photo/></x>`},
		"0191 ex. 4": {AppendBlockItems(nil, "blocklist", []jid.JID{romeo, jid.MustParse("iago@shakespeare.lit")}),
			`<blocklist xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/><item jid='iago@shakespeare.lit'/></blocklist>`},
		"0191 ex. 15": {AppendBlockItems(nil, "unblock", nil), `<unblock xmlns='urn:xmpp:blocking'/>`},
		"0202 ex. 2": {AppendTime(nil, at("2006-12-19T11:58:35.7-06:00")),
			`<time xmlns='urn:xmpp:time'><tzo>-06:00</tzo><utc>2006-12-19T17:58:35Z</utc></time>`},
		"0202 utc": {AppendTime(nil, at("2006-12-19T17:58:35Z")), `<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2006-12-19T17:58:35Z</utc></time>`},
		"0203": {AppendDelay(nil, jid.MustParse("capulet.com"), at("2002-09-10T23:08:25Z")),
			`<delay xmlns='urn:xmpp:delay' from='capulet.com' stamp='2002-09-10T23:08:25Z'/>`},
		"0203 micro": {AppendDelay(nil, jid.JID{}, at("2002-09-10T23:08:25.000070999Z")), `<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25.000070Z'/>`},
		"0280 received": {AppendCarbon(nil, false, []byte(body)), `<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>` +
			`<message xmlns='jabber:client' from='witch@shakespeare.lit' to='macbeth@shakespeare.lit'><body>Hail to thee</body></message></forwarded></received>`},
		"0280 sent": {AppendCarbon(nil, true, []byte("<message/>")),
			`<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></sent>`},
		"0313 ex. 3": {NewMAMResult(jid.JID{}, chamber, "f27").Append(nil, []byte("28482-98726-73623"), at("2010-07-10T23:08:25Z"), []byte(body)),
			`<message from='' to='juliet@capulet.lit/chamber'>
			  <result xmlns='urn:xmpp:mam:2' queryid='f27' id='28482-98726-73623'>
			    <forwarded xmlns='urn:xmpp:forward:0'>
			      <delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25Z'/>
			      <message xmlns='jabber:client' from="witch@shakespeare.lit" to="macbeth@shakespeare.lit"><body>Hail to thee</body></message>
			    </forwarded>
			  </result>
			</message>`},
		"0313 ex. 22": {AppendMAMFin(nil, true, "23452-4534-1", "390-2342-22", 16),
			`<fin xmlns='urn:xmpp:mam:2' complete='true'><set xmlns='http://jabber.org/protocol/rsm'><first>23452-4534-1</first><last>390-2342-22</last><count>16</count></set></fin>`},
		"0313 ex. 26": {AppendMAMMetadata(nil, MAMEdge{"YWxwaGEg", at("2008-08-22T21:09:04Z")}, MAMEdge{"b21lZ2Eg", at("2020-04-20T14:34:21Z")}),
			`<metadata xmlns='urn:xmpp:mam:2'><start id='YWxwaGEg' timestamp='2008-08-22T21:09:04Z' /><end id='b21lZ2Eg' timestamp='2020-04-20T14:34:21Z' /></metadata>`},
		"0313 empty": {AppendMAMMetadata(nil, MAMEdge{}, MAMEdge{}), `<metadata xmlns='urn:xmpp:mam:2'/>`},
		"0313 ex. 15 and ours": {[]byte(MAMForm), `<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='form'>
			<field type='hidden' var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>
			<field type='jid-single' var='with'/><field type='text-single' var='start'/><field type='text-single' var='end'/>
			<field type='text-single' var='before-id'/><field type='text-single' var='after-id'/>
			<field type='list-multi' var='ids'><validate xmlns="http://jabber.org/protocol/xdata-validate" datatype="xs:string"><open/></validate></field>
			<field type='text-single' var='{urn:xmpp:tmp:thread:0}thread'/></x></query>`},
		"0359 ex. 1": {AppendStanzaID(nil, juliet, "28482-98726-73623"), `<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.lit' id='28482-98726-73623'/>`},
		"0441 ex. 2": {AppendMAMPrefs(nil, MAMPrefs{Default: "roster"}), `<prefs xmlns='urn:xmpp:mam:2' default='roster'><always/><never/></prefs>`},
		"0478 ex. 1": {AppendStreamLimits(nil, 10000, 1800),
			`<limits xmlns="urn:xmpp:stream-limits:0"><max-bytes>10000</max-bytes><idle-seconds>1800</idle-seconds></limits>`},
		"0478 none":      {AppendStreamLimits(nil, 0, 0), `<limits xmlns="urn:xmpp:stream-limits:0"/>`},
		"0059 nothing":   {AppendRSM(nil, "", "", -1), `<set xmlns='http://jabber.org/protocol/rsm'/>`},
		"0059 ex. 7":     {AppendRSM(nil, "", "", 790), `<set xmlns='http://jabber.org/protocol/rsm'><count>790</count></set>`},
		"0077 form":      {[]byte(RegisterForm), RegisterForm},
		"0077 feature":   {[]byte(RegisterFeature), `<register xmlns='http://jabber.org/features/iq-register'/>`},
		"0191 blocked":   {[]byte(Blocked), `<blocked xmlns='urn:xmpp:blocking:errors'/>`},
		"0352":           {[]byte(CSI), `<csi xmlns='urn:xmpp:csi:0'/>`},
		"0054":           {[]byte(EmptyVCard), `<vCard xmlns='vcard-temp'/>`},
		"0199":           {[]byte(Ping), `<ping xmlns='urn:xmpp:ping'/>`},
		"roster feature": {[]byte(RosterVersioning), `<ver xmlns='urn:xmpp:features:rosterver'/>`},
		"escaped":        {AppendBlockItems(nil, "block", []jid.JID{jid.MustParse("a@b.lit/<'&\">")}), `<block xmlns='urn:xmpp:blocking'><item jid='a@b.lit/&lt;&apos;&amp;"&gt;'/></block>`},
		"roster":         {AppendRoster(nil, "ver7", slices.Values([]RosterItem{{JID: romeo, Name: "Romeo", Subscription: "both", Groups: []string{"Friends & <foes>"}}, {JID: juliet, Subscription: "none", Ask: true, Approved: true}})), `<query xmlns='jabber:iq:roster' ver='ver7'><item jid='romeo@montague.net' name='Romeo' subscription='both'><group>Friends &amp; &lt;foes></group></item><item jid='juliet@capulet.lit' subscription='none' ask='subscribe' approved='true'/></query>`},
		"roster, empty":  {AppendRoster(nil, "", slices.Values([]RosterItem(nil))), `<query xmlns='jabber:iq:roster'/>`},
		"roster, push":   {AppendRoster(nil, "ver42", slices.Values([]RosterItem{{JID: romeo, Subscription: SubscriptionRemove}})), `<query xmlns='jabber:iq:roster' ver='ver42'><item jid='romeo@montague.net' subscription='remove'/></query>`},
	} {
		t.Run(name, func(t *testing.T) { same(t, c.got, c.want) })
	}
}

func TestAppendStanza(t *testing.T) {
	for in, want := range map[string]string{
		"<message/>":                     "<message xmlns='jabber:client'/>",
		"<presence id='x'/>":             "<presence xmlns='jabber:client' id='x'/>",
		"<iq><a xmlns='b'/></iq>":        "<iq xmlns='jabber:client'><a xmlns='b'/></iq>",
		"<message><body/></message>tail": "<message xmlns='jabber:client'><body/></message>tail",
	} {
		if got := string(AppendStanza(nil, []byte(in))); got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
}

func TestDateTime(t *testing.T) {
	for s, want := range map[string]string{
		"1969-07-21T02:56:15Z":           "1969-07-21T02:56:15Z", // XEP-0082 ex. 2
		"1969-07-20T21:56:15-05:00":      "1969-07-21T02:56:15Z",
		"2010-07-10T23:08:25.5Z":         "2010-07-10T23:08:25.500000Z",
		"2010-07-10T23:08:25.123456789Z": "2010-07-10T23:08:25.123456Z",
		"0001-01-01T00:00:00Z":           "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.000001Z":    "9999-12-31T23:59:59.000001Z",
	} {
		got, err := ParseDateTime(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if out := string(AppendDateTime(nil, got)); out != want {
			t.Errorf("%s is written %s, want %s", s, out, want)
		}
	}
	for _, s := range []string{"", "yesterday", "2010-07-10", "2010-07-10T23:08:25", "2010-07-10 23:08:25Z", "2010-07-10T23:08:25,5Z", "2010-07-10T24:08:25Z",
		"2010-13-10T23:08:25Z", "20100710T23:08:25", "2010-07-10T23:08:25Z ", "2010-07-10T23:08:25." + strings.Repeat("1", 100) + "Z"} {
		if got, err := ParseDateTime(s); err == nil {
			t.Errorf("%q is read as %v", s, got)
		}
	}
	for i := range 3000 {
		want := at("2026-01-01T00:00:00Z").Add(time.Duration(i) * 12345678901 * time.Microsecond)
		if got, err := ParseDateTime(string(AppendDateTime(nil, want))); err != nil || !got.Equal(want) {
			t.Fatalf("%v comes back as %v (%v)", want, got, err)
		}
	}
}

func TestDelay(t *testing.T) {
	from, stamp, ok := ParseDelay(parse(t, `<delay xmlns='urn:xmpp:delay' from='capulet.com' stamp='2002-09-10T23:08:25Z'>Offline Storage</delay>`))
	if !ok || from.String() != "capulet.com" || !stamp.Equal(at("2002-09-10T23:08:25Z")) {
		t.Error(from, stamp, ok)
	}
	for _, x := range []string{`<delay xmlns='urn:xmpp:delay'/>`, `<delay xmlns='urn:xmpp:delay' stamp='now'/>`, `<delay stamp='2002-09-10T23:08:25Z'/>`} {
		if _, _, ok := ParseDelay(parse(t, x)); ok {
			t.Errorf("%s is accepted", x)
		}
	}
}

func TestStanzaIDAndHints(t *testing.T) {
	juliet := jid.MustParse("juliet@capulet.lit")
	st, err := stanza.ParseBytes([]byte(`<message><stanza-id xmlns='urn:xmpp:sid:0' by='Juliet@Capulet.lit' id='forged'/>`+
		`<stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.lit' id='room'/><stanza-id xmlns='urn:xmpp:sid:0' id='no by'/>`+
		`<origin-id xmlns='urn:xmpp:sid:0' id='o1'/><no-store xmlns='urn:xmpp:hints'/></message>`), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for el := range st.Payloads() {
		if !IsStanzaIDBy(el, juliet) {
			kept = append(kept, el.Attr("id"))
		}
	}
	if !slices.Equal(kept, []string{"room", "no by", "o1", ""}) {
		t.Errorf("kept: %q", kept)
	}
	if OriginID(st) != "o1" || !HasHint(st, HintNoStore) || HasHint(st, HintStore) {
		t.Error("origin id or hints are misread")
	}
}

func TestRSM(t *testing.T) {
	for inner, want := range map[string]RSM{
		"":                       {Max: -1},
		"<max>10</max>":          {Max: 10},
		"<max> 0 </max>":         {Max: 0},
		"<before/>":              {Max: -1, Last: true},
		"<before>b</before>":     {Max: -1, Last: true, Before: "b"},
		"<after>a&lt;</after>":   {Max: -1, After: "a<"},
		"<after/>":               {Max: -1},
		"<unknown>1</unknown>":   {Max: -1},
		"<max xmlns='x'>1</max>": {Max: -1},
	} {
		got, err := ParseRSM(parse(t, "<set xmlns='"+NSRSM+"'>"+inner+"</set>"))
		if err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", inner, got, err, want)
		}
	}
	for inner, want := range map[string]string{
		"<max>x</max>": "bad-request", "<max>-1</max>": "bad-request", "<max>99999999999</max>": "bad-request", "<max/>": "bad-request",
		"<index>0</index>": "feature-not-implemented",
	} {
		if _, err := ParseRSM(parse(t, "<set xmlns='"+NSRSM+"'>"+inner+"</set>")); condition(err) != want {
			t.Errorf("%s: %v, want %s", inner, err, want)
		}
	}
	if got, err := ParseRSM(xmltree.Element{}); err != nil || got != NoRSM() {
		t.Errorf("no set: %+v (%v)", got, err)
	}
}

func TestForm(t *testing.T) {
	f, err := ParseForm(parse(t, `<x xmlns='jabber:x:data' type='submit'><title>t</title><field type='fixed'><value>text</value></field>
		<field var='FORM_TYPE' type='hidden'><value>urn:x</value></field><field var='none'/><field var='many'><value>1</value><value>2</value></field></x>`))
	if err != nil || f.Type != "submit" || f.FormType() != "urn:x" || len(f.Fields) != 3 || len(f.Fields[1].Values) != 0 || !slices.Equal(f.Fields[2].Values, []string{"1", "2"}) {
		t.Errorf("%+v (%v)", f, err)
	}
	for _, x := range []string{`<field><value>1</value></field>`, `<field var='a'/><field var='a'/>`} {
		if _, err := ParseForm(parse(t, `<x xmlns='jabber:x:data' type='submit'>`+x+`</x>`)); condition(err) != "bad-request" {
			t.Errorf("%s: %v", x, err)
		}
	}
}

func TestBlockItems(t *testing.T) {
	got, err := ParseBlockItems(parse(t, `<block xmlns='urn:xmpp:blocking'><item jid='romeo@montague.net'/><item jid='Romeo@montague.net'/><item jid='x.lit'/></block>`), 2)
	if err != nil || len(got) != 2 {
		t.Errorf("%v (%v)", got, err)
	}
	if _, err := ParseBlockItems(parse(t, `<block xmlns='urn:xmpp:blocking'><item jid='a.lit'/><item jid='b.lit'/></block>`), 1); condition(err) != "policy-violation" {
		t.Error(err)
	}
}

func TestPhotoHash(t *testing.T) {
	for inner, want := range map[string]string{
		"": "", "<PHOTO/>": "", "<PHOTO><EXTVAL>http://x</EXTVAL></PHOTO>": "", "<PHOTO><BINVAL> \n</BINVAL></PHOTO>": "",
		"<PHOTO><BINVAL>\n\tYW\n J j</BINVAL></PHOTO>": "a9993e364706816aba3e25717850c26c9cd0d89d", // "abc"
	} {
		if got, err := PhotoHash(parse(t, "<vCard xmlns='vcard-temp'>"+inner+"</vCard>")); err != nil || got != want {
			t.Errorf("%s: %q (%v)", inner, got, err)
		}
	}
	if _, err := PhotoHash(parse(t, "<vCard xmlns='vcard-temp'><PHOTO><BINVAL>!</BINVAL></PHOTO></vCard>")); condition(err) != "bad-request" {
		t.Error(err)
	}
}

func TestRosterSet(t *testing.T) {
	long := strings.Repeat("x", MaxRosterName+1)
	var groups strings.Builder
	for i := range MaxRosterGroups + 1 {
		groups.WriteString("<group>" + strings.Repeat("g", i+1) + "</group>")
	}
	set := func(inner string) xmltree.Element {
		return parse(t, "<query xmlns='jabber:iq:roster'>"+inner+"</query>")
	}
	item, err := ParseRosterSet(set(`<item jid='Nurse@example.com/x' name='Nurse' subscription='both' ask='subscribe'><group>Servants</group><group>B</group></item>`))
	if err != nil || item.JID.String() != "nurse@example.com" || item.Name != "Nurse" || item.Subscription != SubscriptionNone || item.Ask || !slices.Equal(item.Groups, []string{"Servants", "B"}) {
		t.Errorf("%+v (%v)", item, err)
	}
	if item, err = ParseRosterSet(set(`<item jid='nurse@example.com' subscription='remove'/>`)); err != nil || item.Subscription != SubscriptionRemove {
		t.Errorf("%+v (%v)", item, err)
	}
	for inner, want := range map[string]string{
		"":        "bad-request",
		"<item/>": "bad-request",
		"<item jid='a@b.lit'/><item jid='c.lit'/>":                    "bad-request",
		"<other xmlns='x' jid='a@b.lit'/>":                            "bad-request",
		"<item jid='a@@b'/>":                                          "jid-malformed",
		"<item jid='a@b.lit'><group>A</group><group>A</group></item>": "bad-request",
		"<item jid='a@b.lit'><group/></item>":                         "not-acceptable",
		"<item jid='a@b.lit' name='" + long + "'/>":                   "not-acceptable",
		"<item jid='a@b.lit'><group>" + long + "</group></item>":      "not-acceptable",
		"<item jid='a@b.lit'>" + groups.String() + "</item>":          "not-acceptable",
	} {
		if _, err := ParseRosterSet(set(inner)); condition(err) != want {
			t.Errorf("%.100s: %v, want %s", inner, err, want)
		}
	}
	if ver, known := RosterVersion(parse(t, "<query xmlns='jabber:iq:roster' ver=''/>")); ver != "" || !known {
		t.Error("an empty version is a version")
	}
	if _, known := RosterVersion(parse(t, "<query xmlns='jabber:iq:roster'/>")); known {
		t.Error("no version is none")
	}
}
