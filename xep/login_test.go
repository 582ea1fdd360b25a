package xep

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func TestUserAgent(t *testing.T) {
	const id = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	for in, want := range map[string]string{
		"<user-agent xmlns='urn:xmpp:sasl:2' id='" + id + "'><software>AwesomeXMPP</software><device>Kiva&apos;s Phone</device></user-agent>": id + "|AwesomeXMPP|Kiva's Phone", // XEP-0388 2.3
		"<user-agent xmlns='urn:xmpp:sasl:2' id='" + strings.ToUpper(id) + "'/>":                                                              id + "||",
		"<user-agent xmlns='urn:xmpp:sasl:2'/>":                                                                  "||",
		"<user-agent xmlns='urn:xmpp:sasl:2'><software xmlns='urn:x'>a</software></user-agent>":                  "||",
		"<user-agent xmlns='urn:xmpp:sasl:2' id='phone'/>":                                                       "bad-request",
		"<user-agent xmlns='urn:xmpp:sasl:2' id='" + id + "0'/>":                                                 "bad-request",
		"<user-agent xmlns='urn:xmpp:sasl:2' id='" + strings.Replace(id, "-", "0", 1) + "'/>":                    "bad-request",
		"<user-agent xmlns='urn:xmpp:sasl:2' id='" + strings.Replace(id, "d", "g", 1) + "'/>":                    "bad-request",
		"<user-agent xmlns='urn:xmpp:sasl:2'><software>" + strings.Repeat("x", 256) + "</software></user-agent>": "|" + strings.Repeat("x", 256) + "|",
		"<user-agent xmlns='urn:xmpp:sasl:2'><software>" + strings.Repeat("x", 257) + "</software></user-agent>": "bad-request",
		"<user-agent xmlns='urn:xmpp:sasl:2'><device>" + strings.Repeat("x", 257) + "</device></user-agent>":     "bad-request",
	} {
		ua, err := ParseUserAgent(parse(t, in))
		got := condition(err)
		if err == nil {
			got = ua.ID + "|" + ua.Software + "|" + ua.Device
			wrapped := "<authenticate xmlns='urn:xmpp:sasl:2'>" + string(AppendUserAgent(nil, ua)) + "</authenticate>"
			if again, err := ParseUserAgent(parse(t, wrapped).Child(NSSASL2, "user-agent")); err != nil || again != ua {
				t.Errorf("%s: written %s, read %+v %v", in, wrapped, again, err)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestFast(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "{0 false}",
		" count='123'":                   "{123 false}",
		" count='123' invalidate='true'": "{123 true}",
		" invalidate='1'":                "{0 true}",
		" invalidate='0' count=' 7 '":    "{7 false}",
		" count='9223372036854775807'":   "{9223372036854775807 false}",
		" count='9223372036854775808'":   "bad-request",
		" count='0'":                     "bad-request",
		" count='-1'":                    "bad-request",
		" count=''":                      "bad-request",
		" count='1e3'":                   "bad-request",
		" invalidate='yes'":              "bad-request",
	} {
		f, err := ParseFast(parse(t, "<fast xmlns='urn:xmpp:fast:0'"+in+"/>"))
		got := condition(err)
		if err == nil {
			got = fmt.Sprint(f)
			if again, err := ParseFast(parse(t, string(AppendFast(nil, f)))); err != nil || again != f {
				t.Errorf("%s: written and read %v %v", in, again, err)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	// XEP-0484 3.3, 3.2
	token := FastToken{"WXZzciBwYmFmdmZnZiBqdmd1IGp2eXFhcmZm", at("2020-03-12T14:36:15Z")}
	written := AppendFastToken(nil, token)
	same(t, written, "<token xmlns='urn:xmpp:fast:0' expiry='2020-03-12T14:36:15Z' token='WXZzciBwYmFmdmZnZiBqdmd1IGp2eXFhcmZm' />")
	if got, err := ParseFastToken(parse(t, string(written))); err != nil || got != token {
		t.Errorf("%v %v", got, err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", token, token, token, token); strings.Contains(s, token.Token) {
		t.Error("printed:", s)
	}
	for _, in := range []string{"", " token='x'", " expiry='2020-03-12T14:36:15Z'", " token='x' expiry='soon'"} {
		if _, err := ParseFastToken(parse(t, "<token xmlns='urn:xmpp:fast:0'"+in+"/>")); condition(err) != "bad-request" {
			t.Errorf("%s: %v", in, err)
		}
	}
	same(t, AppendRequestToken(nil, "HT-SHA-256-ENDP"), "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-ENDP'/>")
}

// XEP-0480, example 5.
func TestSCRAMUpgrade(t *testing.T) {
	el := parse(t, "<task-data xmlns='urn:xmpp:sasl:2'><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>\n    QV9TWENSWFE2c2VrOGJmX1o=\n  </salt></task-data>")
	salt, iterations, ok := ParseSCRAMSalt(el)
	if !ok || string(salt) != "A_SXCRXQ6sek8bf_Z" || iterations != 4096 {
		t.Errorf("%q %d %v", salt, iterations, ok)
	}
	same(t, AppendSCRAMSalt(nil, salt, iterations), "<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>QV9TWENSWFE2c2VrOGJmX1o=</salt>")
	hash, ok := ParseSCRAMHash(parse(t, "<task-data xmlns='urn:xmpp:sasl:2'><hash xmlns='urn:xmpp:scram-upgrade:0'>BzOnw3Pc5H4bOLlPZ/8JAy6wnTpH05aH21KW2+Xfpaw=</hash></task-data>"))
	if !ok || len(hash) != 32 {
		t.Error(hash, ok)
	}
	same(t, AppendSCRAMHash(nil, hash), "<hash xmlns='urn:xmpp:scram-upgrade:0'>BzOnw3Pc5H4bOLlPZ/8JAy6wnTpH05aH21KW2+Xfpaw=</hash>")
	for _, in := range []string{"", "<salt xmlns='urn:xmpp:scram-upgrade:0'>QQ==</salt>", "<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='0'>QQ==</salt>",
		"<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'/>", "<salt xmlns='urn:xmpp:scram-upgrade:0' iterations='4096'>Q\nQ==</salt>"} {
		if _, _, ok := ParseSCRAMSalt(parse(t, "<task-data xmlns='urn:xmpp:sasl:2'>"+in+"</task-data>")); ok {
			t.Error(in)
		}
	}
}

// XEP-0509, examples 1 and 2.
func TestConfigVersion(t *testing.T) {
	same(t, AppendConfigVersion(nil, "V2VsbCwgb2YgY291cnNl"), "<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='V2VsbCwgb2YgY291cnNl'/>")
	for in, want := range map[string]string{
		"": "no", "<config-version xmlns='urn:xmpp:iap:0' value='a'/>": "a",
		"<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='Tm9uLW1hdGNoaW5n'/>": "Tm9uLW1hdGNoaW5n",
		"<config-version xmlns='urn:xmpp:iap:0'/>":                                          "",
		"<config-version xmlns='urn:xmpp:iap:0' value='" + strings.Repeat("x", 257) + "'/>": "",
	} {
		got, ok := ParseConfigVersion(parse(t, "<authenticate xmlns='urn:xmpp:sasl:2'>"+in+"</authenticate>"))
		if !ok {
			got += "no"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestStreamManagement(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "{false 0s}",
		" resume='true' max='60'": "{true 1m0s}",
		" resume='1'":             "{true 0s}",
		" resume='0' max=''":      "{false 0s}",
		" resume='maybe'":         "bad-request",
		" max='-1'":               "bad-request",
		" max='2147483648'":       "bad-request",
	} {
		e := ParseSMEnable(parse(t, "<enable xmlns='urn:xmpp:sm:3'"+in+"/>"))
		got := fmt.Sprintf("{%v %v}", e.Resume, e.Max)
		if e.Err != nil {
			got = string(e.Err.Condition)
		} else if again := ParseSMEnable(parse(t, string(AppendSMEnable(nil, e)))); *again != *e {
			t.Errorf("%s: %+v", in, again)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, e := range []SMEnabled{{}, {ID: "a'b", Resume: true}, {ID: "x", Resume: true, Max: time.Hour}} {
		if got, ok := ParseSMEnabled(parse(t, string(AppendSMEnabled(nil, e)))); !ok || got != e {
			t.Errorf("%+v %v, want %+v", got, ok, e)
		}
	}
	for _, f := range []SMFailed{{Err: stanza.NewError(stanza.ItemNotFound, "")}, {stanza.NewError(stanza.UnexpectedRequest, ""), 7, true}} {
		got := ParseSMFailed(parse(t, string(AppendSMFailed(nil, f))))
		if got.Err.Condition != f.Err.Condition || got.H != f.H || got.Known != f.Known {
			t.Errorf("%+v, want %+v", got, f)
		}
	}
	if f := ParseSMFailed(parse(t, "<failed xmlns='urn:xmpp:sm:3'/>")); f.Err.Condition != stanza.UndefinedCondition {
		t.Error(f.Err)
	}
}

// describe tells a request in short.
func describe(b *Bind2) string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if b.Tag != "" {
		add("tag %s", b.Tag)
	}
	if b.SM != nil {
		add("sm %v %v %v", b.SM.Resume, b.SM.Max, b.SM.Err != nil)
	}
	if b.Carbons {
		add("carbons")
	}
	if b.IMNG {
		add("im-ng")
	}
	if b.CSI != CSIUnsaid {
		add("%s", []string{"", "active", "inactive"}[b.CSI])
	}
	if b.Session != nil {
		add("session")
	}
	for _, r := range b.Refused {
		add("refused %s", r)
	}
	return strings.Join(list, ", ")
}

func TestBind2(t *testing.T) {
	const carbons, imng, session = "<enable xmlns='urn:xmpp:carbons:2'/>", "<enable xmlns='urn:xmpp:im-ng:0'/>", "<session xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	for in, want := range map[string]string{
		"":                         "",
		"<tag>AwesomeXMPP</tag>":   "tag AwesomeXMPP", // XEP-0386, example 2
		"<tag>a</tag><tag>b</tag>": "tag a",
		"<tag>" + strings.Repeat("x", 65) + "</tag>":                                "",
		"<tag xmlns='urn:x'>a</tag><what xmlns='urn:x'/>":                           "",
		"<enable xmlns='urn:xmpp:sm:3' resume='1'/>":                                "sm true 0s false",
		"<enable xmlns='urn:xmpp:sm:3' resume='x'/>":                                "sm false 0s true",
		"<enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:sm:3' resume='1'/>": "sm false 0s false",
		"<inactive xmlns='urn:xmpp:csi:0'/>":                                        "inactive",
		"<active xmlns='urn:xmpp:csi:0'/><inactive xmlns='urn:xmpp:csi:0'/>":        "active",
		carbons:                         "carbons",
		carbons + carbons:               "carbons",
		carbons + imng:                  "carbons, refused urn:xmpp:im-ng:0",
		imng + carbons:                  "im-ng, refused urn:xmpp:carbons:2",
		carbons + session:               "carbons, refused urn:xmpp:tmp:xmpp-2:0",
		session + carbons:               "session, refused urn:xmpp:carbons:2",
		carbons + imng + session:        "carbons, refused urn:xmpp:im-ng:0, refused urn:xmpp:tmp:xmpp-2:0",
		strings.Repeat(carbons+imng, 9): "carbons, refused urn:xmpp:im-ng:0, refused urn:xmpp:im-ng:0, refused urn:xmpp:im-ng:0",
	} {
		b := ParseBind2(parse(t, "<bind xmlns='urn:xmpp:bind:0'>"+in+"</bind>"))
		if got := describe(b); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	// IM-NG is what XMPP 2.0 includes.
	if b := ParseBind2(parse(t, "<bind xmlns='urn:xmpp:bind:0'>"+imng+session+"</bind>")); !b.IMNG || b.Session == nil || b.Refused != nil {
		t.Errorf("%+v", b)
	}
	// XEP-0386, example 3.
	b := &Bind2{Tag: "AwesomeXMPP", Carbons: true, SM: &SMEnable{}, CSI: CSIInactive}
	same(t, AppendBind2(nil, b), `<bind xmlns='urn:xmpp:bind:0'><tag>AwesomeXMPP</tag><enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:carbons:2'/><inactive xmlns='urn:xmpp:csi:0'/></bind>`)
}

// TestSessionRequest is session.md's request with every part missing, twice,
// malformed, huge and contradictory.
func TestSessionRequest(t *testing.T) {
	const presence = "<presence xmlns='jabber:client'><show>away</show></presence>"
	long := strings.Repeat("x", 257)
	for in, want := range map[string]string{
		"":                    "",
		"<sync/>":             "sync",
		"<sync after='abc'/>": "sync after=abc",
		"<sync start='2026-11-01T00:00:00Z' max='500'/>":   "sync start=2026-11-01T00:00:00Z max=500",
		"<sync last='PT24H'/>":                             "sync last=24h0m0s",
		"<sync last='P1DT2H3M4S'/>":                        "sync last=26h3m4s",
		"<sync last='P2D'/>":                               "sync last=48h0m0s",
		"<sync max='4294967295'/>":                         "sync! bad-request",
		"<sync max='2147483647'/>":                         "sync max=1048576",
		"<sync after='abc' start='2026-11-01T00:00:00Z'/>": "sync! bad-request",
		"<sync after='abc' last='P1D'/>":                   "sync! bad-request",
		"<sync after=''/>":                                 "sync! bad-request",
		"<sync after='" + long + "'/>":                     "sync! bad-request",
		"<sync start='yesterday'/>":                        "sync! bad-request",
		"<sync start=''/>":                                 "sync! bad-request",
		"<sync max='0'/>":                                  "sync! bad-request",
		"<sync max='-5'/>":                                 "sync! bad-request",
		"<sync max='many'/>":                               "sync! bad-request",
		"<sync last=''/>":                                  "sync! bad-request",
		"<sync last='P'/>":                                 "sync! bad-request",
		"<sync last='PT'/>":                                "sync! bad-request",
		"<sync last='PT0S'/>":                              "sync! bad-request",
		"<sync last='P1M'/>":                               "sync! bad-request",
		"<sync last='-P1D'/>":                              "sync! bad-request",
		"<sync last='PT1S1M'/>":                            "sync! bad-request",
		"<sync last='P99999999D'/>":                        "sync! bad-request",
		"<sync last='PT9999999999H'/>":                     "sync! bad-request",
		"<sync/><sync after='abc'/>":                       "sync, sync! bad-request",
		"<sync max='x'/><sync after='abc'/>":               "sync! bad-request, sync after=abc",
		"<roster/>":                                        "roster",
		"<roster ver='v7'/>":                               "roster ver=v7",
		"<roster ver='" + long + "'/>":                     "roster! bad-request",
		presence:                                           "presence <presence><show>away</show></presence>",
		presence + presence:                                "presence <presence><show>away</show></presence>, presence! bad-request",
		"<presence xmlns='jabber:client' from='a@b' xml:lang='it'/>":            "presence <presence xml:lang='it'/>",
		"<presence xmlns='jabber:client' type='unavailable'/>":                  "presence! bad-request",
		"<presence xmlns='jabber:client' to='a@b'/>":                            "presence! bad-request",
		"<presence xmlns='jabber:client' to='@'/>":                              "presence! jid-malformed",
		"<presence xmlns='jabber:client' type='what'/>":                         "presence! bad-request",
		"<join room='coven@chat.example' nick='third'/>":                        "join coven@chat.example/third",
		"<join room='Coven@CHAT.example' nick='third'><sync after='a'/></join>": "join coven@chat.example/third sync after=a",
		"<join room='coven@chat.example' nick='third'><sync max='x'/></join>":   "join! bad-request",
		"<join room='coven@chat.example'/>":                                     "join! jid-malformed",
		"<join room='a@b' nick='n'><password>&amp;</password></join>":           "join a@b/n password=&",
		"<join room='a@b' nick='n'><password>" + long + "</password></join>":    "join! bad-request",
		"<autojoin/>": "autojoin",
		"<autojoin><sync last='P1D'/></autojoin>":                "autojoin sync last=24h0m0s",
		"<autojoin><sync last='1 day'/></autojoin>":              "autojoin! bad-request",
		"<autojoin/><autojoin/>":                                 "autojoin, autojoin! bad-request",
		"<join nick='third'/>":                                   "join! jid-malformed",
		"<join room='chat.example' nick='third'/>":               "join! jid-malformed",
		"<join room='coven@chat.example/x' nick='third'/>":       "join! jid-malformed",
		"<join room='@' nick='third'/>":                          "join! jid-malformed",
		"<join room='a@b' nick='x'/><join room='A@B' nick='y'/>": "join a@b/x, join! bad-request",
		"<what/><sync xmlns='urn:x'/><presence/>":                "",
	} {
		r := ParseSessionRequest(parse(t, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'>"+in+"</session>"))
		if got := tell(r); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		written := AppendSessionRequest(nil, r)
		if el := parse(t, string(written)); el.Raw() != string(written) {
			t.Errorf("not canonical: %s", written)
		}
		if again := tell(ParseSessionRequest(parse(t, string(written)))); !strings.Contains(want, "!") && again != want {
			t.Errorf("%s: written %s, read %s", in, written, again)
		}
	}
}

// tell tells a request in short.
func tell(r *SessionRequest) string {
	sync := func(s *Sync) (text string) {
		if s.After != "" {
			text += " after=" + s.After
		}
		if !s.Start.IsZero() {
			text += " start=" + string(AppendDateTime(nil, s.Start))
		}
		if s.Last != 0 {
			text += " last=" + s.Last.String()
		}
		if s.Max != 0 {
			text += fmt.Sprint(" max=", s.Max)
		}
		return text
	}
	var list []string
	for _, ask := range r.Parts {
		text := string(ask.Part)
		switch {
		case ask.Err != nil:
			text += "! " + string(ask.Err.Condition)
		case ask.Part == SessionSync:
			text += sync(ask.Sync)
		case ask.Part == SessionRoster && ask.Ver != "":
			text += " ver=" + ask.Ver
		case ask.Part == SessionPresence:
			text += " " + string(ask.Presence.AppendTo(nil))
		case ask.Part == SessionJoin:
			text += " " + ask.Room.String() + "/" + ask.Nick
			if ask.Password != "" {
				text += " password=" + ask.Password
			}
			if ask.Sync != nil {
				text += " sync" + sync(ask.Sync)
			}
		case ask.Part == SessionAutojoin:
			if ask.Sync != nil {
				text += " sync" + sync(ask.Sync)
			}
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

// TestRoomJoin: what a server says for who enters a room, and what the answer to bookmarks
// tells.
func TestRoomJoin(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x><join xmlns='urn:xmpp:tmp:xmpp-2:0'/>",
		"<sync after='a' max='7'/>":            "<x xmlns='http://jabber.org/protocol/muc'/><join xmlns='urn:xmpp:tmp:xmpp-2:0'><sync after='a' max='7'/></join>",
		"<sync last='PT1M'/>":                  "<x xmlns='http://jabber.org/protocol/muc'><history seconds='60'/></x><join xmlns='urn:xmpp:tmp:xmpp-2:0'><sync last='PT60S'/></join>",
		"<sync start='2026-11-01T00:00:00Z'/>": "<x xmlns='http://jabber.org/protocol/muc'><history since='2026-11-01T00:00:00Z'/></x><join xmlns='urn:xmpp:tmp:xmpp-2:0'><sync start='2026-11-01T00:00:00Z'/></join>",
	} {
		r := ParseSessionRequest(parse(t, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'><join room='a@b' nick='n'>"+in+"</join></session>"))
		got := string(AppendRoomJoin(nil, "", RoomJoin{r.Parts[0].Sync}))
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		st, err := stanza.ParseBytes([]byte("<presence>"+got+"</presence>"), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		back, refused := ParseRoomJoin(st)
		if refused != nil || back == nil || string(AppendRoomJoin(nil, "", *back)) != string(AppendRoomJoin(nil, "", RoomJoin{r.Parts[0].Sync})) {
			t.Errorf("%s: read as %+v, %v", got, back, refused)
		}
	}
	written := AppendSessionResult(nil, []SessionResult{{Part: SessionAutojoin, Rooms: []jid.JID{jid.MustParse("a@b/n")}}})
	same(t, written, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'><autojoin><join room='a@b' nick='n'/></autojoin></session>")
	if r := ParseSessionResult(parse(t, string(written))); len(r) != 1 || len(r[0].Rooms) != 1 || r[0].Rooms[0] != jid.MustParse("a@b/n") {
		t.Errorf("read as %+v", r)
	}
	for in, want := range map[string]string{
		"<conference xmlns='urn:xmpp:bookmarks:1' autojoin='1'><nick>JC</nick><password>x</password></conference>": "a@b JC x true true",
		"<conference xmlns='urn:xmpp:bookmarks:1'/>":                                                               "a@b   false true",
		"<conference xmlns='urn:x' autojoin='1'/>":                                                                 "   false false",
	} {
		b, ok := ParseBookmark("a@b", parse(t, in))
		if got := fmt.Sprint(b.Room, " ", b.Nick, " ", b.Password, " ", b.Autojoin, " ", ok); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// The parts are bounded: what is too much is refused, and what is far too much is
// not even that.
func TestSessionRequestIsBounded(t *testing.T) {
	var in strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&in, "<join room='r%d@chat.example' nick='n'/>", i)
	}
	r := ParseSessionRequest(parse(t, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'>"+in.String()+"</session>"))
	if len(r.Parts) != 2*MaxSessionParts {
		t.Error(len(r.Parts))
	}
	for i, ask := range r.Parts {
		if refused := ask.Err != nil; refused != (i >= MaxSessionParts) || refused && ask.Err.Condition != stanza.PolicyViolation {
			t.Fatal(i, ask.Err)
		}
	}
	long := strings.Repeat("é", 2000)
	r = ParseSessionRequest(parse(t, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'><join room='"+long+"' nick='n'/></session>"))
	if got := r.Parts[0].RoomText; got != long[:256] {
		t.Error(len(got))
	}
}

func TestSessionResult(t *testing.T) {
	list := []SessionResult{
		{Part: SessionSync},
		{Part: SessionJoin, Room: "coven@chat.example", Err: stanza.NewError(stanza.ItemNotFound, "")},
	}
	written := AppendSessionResult(nil, list)
	same(t, written, `<session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync/><join room='coven@chat.example'>
		<error xmlns='jabber:client' type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></join></session>`)
	if got := ParseSessionResult(parse(t, string(written))); !reflect.DeepEqual(got, list) {
		t.Errorf("%+v", got)
	}
}

// XEP-0494, example 2, without what we don't know of anybody.
func TestClients(t *testing.T) {
	same(t, AppendClients(nil, []Client{
		{ID: "zeiP41HLglIu", Connected: true, Session: true, FirstSeen: at("2023-04-06T14:26:08Z"), LastSeen: at("2023-04-06T14:37:25Z"), Password: true, Software: "Gajim", Device: "Juliet's laptop"},
		{ID: "HjEEr45_LQr", FirstSeen: at("2023-03-27T15:16:09Z"), LastSeen: at("2023-03-27T15:37:24Z"), Fast: true},
	}), `<clients xmlns="urn:xmpp:cam:0">
	<client connected="true" id="zeiP41HLglIu" type="session">
	  <first-seen>2023-04-06T14:26:08Z</first-seen>
	  <last-seen>2023-04-06T14:37:25Z</last-seen>
	  <auth><password/></auth>
	  <permission status="unrestricted"/>
	  <user-agent><software>Gajim</software><device>Juliet's laptop</device></user-agent>
	</client>
	<client connected="false" id="HjEEr45_LQr" type="access">
	  <first-seen>2023-03-27T15:16:09Z</first-seen>
	  <last-seen>2023-03-27T15:37:24Z</last-seen>
	  <auth><fast/></auth>
	  <permission status="unrestricted"/>
	</client></clients>`)
	for in, want := range map[string]string{"id='HjEEr45_LQr'": "HjEEr45_LQr", "": "bad-request", "id=''": "bad-request", "id='" + strings.Repeat("x", 257) + "'": "bad-request"} {
		id, err := ParseRevoke(parse(t, "<revoke xmlns='urn:xmpp:cam:0' "+in+"/>"))
		if got := id + condition(err); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzBind2: nothing panics, and what was understood is understood again.
func FuzzBind2(f *testing.F) {
	f.Add("<tag>x</tag><enable xmlns='urn:xmpp:sm:3' resume='1' max='5'/><session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync last='P1DT1S'/><join room='a@b' nick='c'/></session>")
	f.Add("<session xmlns='urn:xmpp:tmp:xmpp-2:0'><presence xmlns='jabber:client' xml:lang='de'><x xmlns='y'/></presence><roster ver='1'/></session>")
	f.Fuzz(func(t *testing.T, in string) {
		el, err := xmltree.Parse([]byte("<bind xmlns='urn:xmpp:bind:0'>"+in+"</bind>"), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			return
		}
		b := ParseBind2(el)
		again := ParseBind2(parse(t, string(AppendBind2(nil, b))))
		if again.Tag != b.Tag || again.Carbons != b.Carbons || again.IMNG != b.IMNG || again.CSI != b.CSI || (again.Session == nil) != (b.Session == nil) {
			t.Fatalf("%+v became %+v", b, again)
		}
		if b.Session == nil {
			return
		}
		var valid []SessionAsk
		for _, ask := range b.Session.Parts {
			if ask.Err == nil {
				valid = append(valid, ask)
			}
		}
		if first, second := tell(&SessionRequest{valid}), tell(again.Session); first != second {
			t.Fatalf("%s became %s", first, second)
		}
	})
}
