package scripts

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
)

const (
	phone  = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	laptop = "d4565fa7-4d72-4749-b3d3-740edbf87771"
)

// inWorld runs f with a server that has romeo and juliet, who know each other.
// Juliet is online.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	if _, err := identity(); err != nil { // outside: what it starts isn't the test's
		t.Fatal(err)
	}
	romeo, juliet := jid.MustParse("romeo@localhost"), jid.MustParse("juliet@localhost")
	s := &script{
		clients: []*person{{name: "Romeo", jid: romeo, password: "secret", resource: "orchard"}, {name: "Juliet", jid: juliet, password: "secret", resource: "balcony"},
			{name: "Mercutio", jid: jid.MustParse("mercutio@localhost"), password: "secret"}},
		contacts: []contact{{romeo, juliet, "both"}, {juliet, romeo, "both"}},
		settings: []string{"auth.plain=true"},
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, ":memory:")
		defer w.end()
		if err := w.online(w.clients["Juliet"], "", ""); err != nil {
			t.Fatal(err)
		}
		f(t, w)
	})
}

// login writes header and <authenticate/> with PLAIN in one go, and inner in it.
func (w *world) login(password, inner string) *xmppclient.Client {
	w.t.Helper()
	return w.authenticate("PLAIN", []byte("\x00romeo\x00"+password), inner)
}

// authenticate is login with any mechanism.
func (w *world) authenticate(mechanism string, initial []byte, inner string) *xmppclient.Client {
	w.t.Helper()
	c, err := xmppclient.Open(w.srv.Pipe(true), w.config(w.clients["Romeo"]), true)
	if err == nil {
		err = c.SendRaw([]byte("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
			"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + mechanism + "'><initial-response>" + base64.StdEncoding.EncodeToString(initial) +
			"</initial-response>" + inner + "</authenticate>"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// all is what a client has received once the server has nothing left to do.
func (w *world) all(c *xmppclient.Client) (list []*stream.Event) {
	w.settle()
	for ev, _ := c.Take(); ev != nil; ev, _ = c.Take() {
		list = append(list, ev)
	}
	return list
}

// granted is what the answer says of each part: its name, and the condition if
// it was refused.
func granted(list []*stream.Event) string {
	for _, ev := range list {
		if ev.Kind != stream.AuthSuccess {
			continue
		}
		var parts []string
		for _, r := range ev.Welcome.Bound.Session {
			text := string(r.Part)
			if r.Room != "" {
				text += " " + r.Room
			}
			if r.Err != nil {
				text += "! " + string(r.Err.Condition)
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ", ")
	}
	return "no success"
}

// synced is the end of the catch-up, and the ids of the messages that were in it.
func synced(list []*stream.Event) (*xep.Synced, []string) {
	var ids []string
	for _, ev := range list {
		if ev.Stanza == nil {
			continue
		}
		if s, ok := xep.ParseSynced(ev.Stanza); ok {
			return &s, ids
		}
		if r := ev.Stanza.Child(xep.NSMAM, "result"); !r.IsZero() {
			ids = append(ids, r.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message").Attr("id"))
		}
	}
	return nil, ids
}

// TestBadSessionRequests is S-4 over the wire: each field of the request missing,
// twice, malformed, huge and contradictory. The answer names the part, the roster
// that is asked for beside it comes, and the session is there.
func TestBadSessionRequests(t *testing.T) {
	const presence = "<presence xmlns='jabber:client'/>"
	long := strings.Repeat("x", 257)
	inWorld(t, func(t *testing.T, w *world) {
		for in, want := range map[string]string{
			"<sync after='' />":                                       "sync! bad-request",
			"<sync after='" + long + "'/>":                            "sync! bad-request",
			"<sync after='x' start='2026-11-01T00:00:00Z'/>":          "sync! bad-request",
			"<sync after='x' last='PT1H'/>":                           "sync! bad-request",
			"<sync start='2026-11-01T00:00:00Z' last='PT1H'/>":        "sync! bad-request",
			"<sync start='yesterday'/>":                               "sync! bad-request",
			"<sync start='99999-99-99T99:99:99Z'/>":                   "sync! bad-request",
			"<sync last='P1Y'/>":                                      "sync! bad-request",
			"<sync last='PT99999999999999999999H'/>":                  "sync! bad-request",
			"<sync max='0'/>":                                         "sync! bad-request",
			"<sync max='99999999999999999999'/>":                      "sync! bad-request",
			"<sync/><sync/>":                                          "sync, sync! bad-request",
			"<roster ver='" + long + "'/>":                            "roster! bad-request",
			presence + presence:                                       "presence, presence! bad-request",
			"<presence xmlns='jabber:client' type='unavailable'/>":    "presence! bad-request",
			"<presence xmlns='jabber:client' type='probe'/>":          "presence! bad-request",
			"<presence xmlns='jabber:client' to='juliet@localhost'/>": "presence! bad-request",
			"<presence xmlns='jabber:client' to='@'/>":                "presence! jid-malformed",
			"<join/>":                           "join! jid-malformed",
			"<join room='coven@chat.example'/>": "join coven@chat.example! jid-malformed",
			"<join nick='third'/>":              "join! jid-malformed",
			"<join room='juliet@localhost/balcony' nick='n'/>":                   "join juliet@localhost/balcony! jid-malformed",
			"<join room='" + long + "' nick='n'/>":                               "join " + long[:256] + "! jid-malformed",
			"<join room='a@b' nick='" + strings.Repeat("n", 1024) + "'/>":        "join a@b! jid-malformed",
			"<join room='a@b' nick='n'/>":                                        "join a@b",
			"<join room='juliet@localhost' nick='n'/>":                           "join juliet@localhost",
			"<join room='a@b' nick='n'/><join room='A@B' nick='m'/>":             "join a@b, join A@B! bad-request",
			"<join room='a@b' nick='n'><sync after='x' start='y'/></join>":       "join a@b! bad-request",
			"<join room='a@b' nick='n'><sync/></join>":                           "join a@b",
			"<join room='a@b' nick='n'><password>" + long + "</password></join>": "join a@b! bad-request",
			"<join room='a@b' nick='n'><password>x</password></join>":            "join a@b",
			"<autojoin/>":                          "autojoin",
			"<autojoin/><autojoin/>":               "autojoin, autojoin! bad-request",
			"<autojoin><sync max='0'/></autojoin>": "autojoin! bad-request",
			"<what/><session/><synced/><presence/><sync xmlns='urn:x'/>text!": "",
			strings.Repeat("<join room='a@b' nick='n'/>", 127):                "join a@b" + strings.Repeat(", join a@b! bad-request", 126),
			strings.Repeat("<join room='a@b' nick='n'/>", 200):                "join a@b" + strings.Repeat(", join a@b! bad-request", 126) + strings.Repeat(", join a@b! policy-violation", 73),
		} {
			// The roster comes first, so that it is never one of too many.
			c := w.login("secret", "<bind xmlns='urn:xmpp:bind:0'><session xmlns='urn:xmpp:tmp:xmpp-2:0'><roster ver=''/>"+in+"</session></bind>")
			before := w.all(c)
			if strings.HasPrefix(in, "<roster") { // the second of its kind
				want = "roster! bad-request"
			}
			if want != "" {
				want = ", " + want
			}
			if want = "roster" + want; granted(before) != want {
				t.Errorf("%.100s: %.1000s, want %.1000s", in, granted(before), want)
			}
			if s, _ := synced(before); (s != nil) != strings.Contains(want+",", "sync,") {
				t.Errorf("%.100s: synced %+v", in, s)
			}
			roster := false
			for _, ev := range before {
				roster = roster || ev.Stanza != nil && ev.Stanza.Kind == stanza.IQ && ev.Stanza.ID == "session" && strings.Contains(ev.Stanza.Inner(), "juliet@localhost")
			}
			if !roster {
				t.Errorf("%.100s: the roster didn't come", in)
			}
			if err := c.Send("<iq type='get' id='ping' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"); err != nil {
				t.Fatal(err)
			}
			if after := w.all(c); len(after) != 1 || after[0].Stanza == nil || after[0].Stanza.Type != stanza.TypeResult {
				t.Errorf("%.100s: the session doesn't answer", in)
			}
			c.Cut()
		}
	})
}

// TestHugeSessionRequest: what is bigger than a stream may send before it is
// authenticated ends the stream, and only that.
func TestHugeSessionRequest(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, in := range []string{
			"<sync after='" + strings.Repeat("x", 20<<10) + "'/>",
			strings.Repeat("<join room='a@b' nick='n'/>", 300),
			strings.Repeat("<x>", 50) + strings.Repeat("</x>", 50),
		} {
			c := w.login("secret", "<bind xmlns='urn:xmpp:bind:0'><session xmlns='urn:xmpp:tmp:xmpp-2:0'>"+in+"</session></bind>")
			list := w.all(c)
			last := list[len(list)-1]
			if last.Kind == stream.Closed && len(list) > 1 {
				last = list[len(list)-2]
			}
			if last.Kind != stream.PeerError || last.Err.Condition != stanza.StreamPolicyViolation || granted(list) != "no success" {
				t.Errorf("%.60s: %s", in, xmppclient.XML(last))
			}
			c.Cut()
		}
		if got, err := xmppclient.Login(w.srv.Pipe(true), w.config(w.clients["Romeo"])); err != nil {
			t.Error(err)
		} else {
			got.Cut()
		}
	})
}

// TestUnknownArchiveID: an id that the account's archive hasn't is no error and no
// empty success. The device gets the latest, and complete='false' (session.md).
func TestUnknownArchiveID(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		// Juliet's archive has something that romeo's has not, older and newer than his.
		juliet := w.clients["Juliet"].conn
		for _, st := range []string{
			"<message to='mercutio@localhost' type='chat' id='private1'><body>x</body></message>",
			"<message to='romeo@localhost' type='chat' id='m1'><body>x</body></message>",
			"<message to='romeo@localhost' type='chat' id='m2'><body>x</body></message>",
			"<message to='mercutio@localhost' type='chat' id='private2'><body>x</body></message>",
		} {
			if err := juliet.Send(st); err != nil {
				t.Fatal(err)
			}
			w.settle()
		}
		if err := juliet.Send("<iq type='set' id='page'><query xmlns='urn:xmpp:mam:2'/></iq>"); err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		for _, ev := range w.all(juliet) {
			if r := ev.Stanza.Child(xep.NSMAM, "result"); !r.IsZero() {
				ids[r.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message").Attr("id")] = r.Attr("id")
			}
		}
		if ids["private1"] == "" || ids["private2"] == "" {
			t.Fatal(ids)
		}
		for _, after := range []string{"m1", "0", "nonsense", "zzzzzzzzzzzzz", "0000000000000", "../../x", "&#x9;", "é", strings.Repeat("9", 256), ids["private1"], ids["private2"]} {
			c := w.login("secret", "<bind xmlns='urn:xmpp:bind:0'><session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync after='"+after+"'/></session></bind>")
			list := w.all(c)
			s, got := synced(list)
			if granted(list) != "sync" || s == nil || s.Complete || s.Count != 2 || strings.Join(got, " ") != "m1 m2" {
				t.Errorf("after %q: %s, %+v, %v", after, granted(list), s, got)
			}
			c.Cut()
		}
	})
}

// TestUnprovedSessionRequest: who isn't let in has changed nothing and learns
// nothing, whatever the request says and whether or not there is such an account.
func TestUnprovedSessionRequest(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const request = "<user-agent id='" + phone + "'/><resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/><bind xmlns='urn:xmpp:bind:0'>" +
			"<session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync/><roster/><presence xmlns='jabber:client'/><join room='@'/></session></bind>"
		c := w.login("wrong", request)
		list := w.all(c)
		if len(list) != 3 || list[2].Kind != stream.AuthFailure || list[2].Name != "not-authorized" {
			t.Errorf("%d events, the last %s", len(list), xmppclient.XML(list[len(list)-1]))
		}
		if got := w.all(w.clients["Juliet"].conn); len(got) > 0 {
			t.Errorf("a contact has received %s", xmppclient.XML(got[0]))
		}
		c.Cut()
	})
}

// TestBadTokens is FAST against the whole server: tokens that are expired, used
// before, of another client, another account or another mechanism, and none at
// all. The password still works, and no token is logged.
func TestBadTokens(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var secrets []string
		begin := func(name, password, agent string, l *stream.Login) (*stream.Welcome, error) {
			cfg := w.config(w.clients[name])
			cfg.Password, cfg.Keys = password, nil
			l.Agent = xep.UserAgent{ID: agent}
			l.Bind = &xep.Bind2{Session: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: &xep.Sync{}}}}}
			c, welcome, err := xmppclient.Begin(w.srv.Pipe(true), cfg, l, nil)
			if err == nil {
				c.Cut()
			}
			return welcome, err
		}
		token := func(agent string) string {
			welcome, err := begin("Romeo", "secret", agent, &stream.Login{TokenFor: sasl.HTSHA256Exporter})
			if err != nil || welcome.Token == nil {
				t.Fatal(welcome, err)
			}
			secrets = append(secrets, welcome.Token.Token)
			return welcome.Token.Token
		}
		try := func(what, name, token, agent string, count uint64, want string) {
			t.Helper()
			welcome, err := begin(name, token, agent, &stream.Login{Fast: &xep.Fast{Count: count}})
			got := ""
			if refused := (*xmppclient.Refused)(nil); errors.As(err, &refused) {
				got = refused.Condition
			} else if err != nil {
				got = err.Error()
			} else if welcome.Bound == nil || len(welcome.Bound.Session) != 1 || welcome.Bound.Session[0].Err != nil {
				got = fmt.Sprintf("%+v", welcome)
			}
			if got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		old := token(phone)
		try("a good one", "Romeo", old, phone, 1, "")
		try("replayed", "Romeo", old, phone, 1, "not-authorized")
		try("the next but one", "Romeo", old, phone, 3, "")
		try("an older count", "Romeo", old, phone, 2, "not-authorized")
		try("no count", "Romeo", old, phone, 0, "") // XEP-0484 3.4 wants one in early data, which isn't accepted
		try("of another client", "Romeo", old, laptop, 4, "not-authorized")
		try("of another account", "Juliet", old, phone, 4, "not-authorized")
		try("made up", "Romeo", "made up", phone, 4, "not-authorized")
		try("the password", "Romeo", "secret", phone, 4, "not-authorized")
		try("without a client", "Romeo", old, "", 4, "malformed-request")
		next := token(phone)
		try("the new one", "Romeo", next, phone, 1, "")
		try("replaced", "Romeo", old, phone, 4, "not-authorized")
		// XEP-0484 3.6: a client gives its token up with its last login.
		if welcome, err := begin("Romeo", next, phone, &stream.Login{Fast: &xep.Fast{Count: 2, Invalidate: true}}); err != nil || welcome.Bound == nil {
			t.Errorf("the last login: %+v, %v", welcome, err)
		}
		try("given up", "Romeo", next, phone, 3, "not-authorized")
		next = token(phone)
		time.Sleep(22 * 24 * time.Hour)
		try("expired", "Romeo", next, phone, 2, "credentials-expired")
		try("expired, of another client", "Romeo", next, laptop, 2, "not-authorized")
		try("expired, of another account", "Juliet", next, phone, 2, "not-authorized")
		try("anew", "Romeo", token(phone), phone, 1, "")
		// XEP-0484 3.4: a token that is bound to the channel is worth nothing without it.
		bound := token(phone)
		x, err := sasl.NewClient(sasl.HTSHA256None, &sasl.ClientConfig{Username: "romeo", Password: bound, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		proof, _, err := x.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := w.authenticate(sasl.HTSHA256None, proof, "<user-agent id='"+phone+"'/><fast xmlns='urn:xmpp:fast:0'/>")
		if list := w.all(c); len(list) != 3 || list[2].Kind != stream.AuthFailure || list[2].Name != "not-authorized" {
			t.Errorf("a bound token without binding: %s", xmppclient.XML(list[len(list)-1]))
		}
		c.Cut()
		try("with its own mechanism", "Romeo", bound, phone, 1, "")
		text := w.log.String()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Error("a token is in the log")
			}
		}
	})
}
