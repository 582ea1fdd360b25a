package c2s

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// patience is how many answers without what is wanted a test takes; each comes after a second at most, of a machine that may be busy.
const patience = 60

// boshUser is a client of BOSH.
type boshUser struct {
	t   *testing.T
	url string
	sid string
	rid int
}

func (w *world) bosh0(t *testing.T) *boshUser {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a, _ := netip.ParseAddrPort(r.RemoteAddr)
		w.ServeBOSH(rw, r, a)
	}))
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); h.Close() })
	return &boshUser{t: t, url: h.URL, rid: 1000}
}

// post sends a request as it is.
func (u *boshUser) post(body string) xmltree.Element {
	u.t.Helper()
	resp, err := http.Post(u.url, "text/xml", strings.NewReader(body))
	if err != nil {
		u.t.Error(err)
		return xmltree.Element{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		u.t.Error(err)
	}
	el, err := xmltree.Parse(b, "", xmltree.Limits{})
	if err != nil || !el.Is(xep.NSBOSH, "body") {
		u.t.Errorf("%q: %v", b, err)
	}
	return el
}

// ask sends the next request.
func (u *boshUser) ask(attrs, inner string) xmltree.Element {
	u.t.Helper()
	u.rid++
	return u.post(u.at(u.rid, attrs, inner))
}

func (u *boshUser) at(rid int, attrs, inner string) string {
	if u.sid != "" {
		attrs += " sid='" + u.sid + "'"
	}
	return fmt.Sprintf("<body rid='%d' xmlns='%s' %s>%s</body>", rid, xep.NSBOSH, attrs, inner)
}

// until asks until an answer has an element.
func (u *boshUser) until(el xmltree.Element, want string) xmltree.Element {
	u.t.Helper()
	for range patience {
		if strings.Contains(el.Raw(), want) {
			return el
		}
		if el.Attr("type") == "terminate" || strings.Contains(el.Raw(), " type='error'") {
			break
		}
		el = u.ask("", "")
	}
	u.t.Fatalf("no %s in %s", want, el.Raw())
	return el
}

const restart = "xmlns:xmpp='" + xep.NSXBOSH + "' xmpp:restart='true'"

func (u *boshUser) login(attrs string) {
	u.t.Helper()
	el := u.ask("to='"+domain+"' wait='1' hold='1' ver='1.6' "+attrs, "")
	u.sid = el.Attr("sid")
	if u.sid == "" || el.Attr("requests") != "2" || el.Attr("hold") != "1" || el.Attr("wait") != "1" {
		u.t.Fatal(el.Raw())
	}
	if el = u.until(el, "<mechanisms "); strings.Contains(el.Raw(), "-PLUS") {
		u.t.Error("channel binding without TLS: ", el.Raw())
	}
	u.until(u.ask("", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"+base64.StdEncoding.EncodeToString([]byte("\x00alice\x00rabbit"))+"</auth>"), "<success ")
	u.until(u.ask(restart, ""), "<bind ")
	u.until(u.ask("", "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind></iq>"), "<jid>alice@"+domain+"/x</jid>")
}

func TestBOSH(t *testing.T) {
	w := newWorld(t, plainWorld)
	u := w.bosh0(t)
	u.login("")
	el := u.until(u.ask("", "<message xmlns='jabber:client' id='1'><body>one</body></message><message xmlns='jabber:client' id='2'/>"), " id='2'")
	if again := u.post(u.at(u.rid, "", "")); again.Raw() != el.Raw() { // XEP-0124 14.3
		t.Errorf("asked again: %s", again.Raw())
	}
	// A held request is answered by what comes, and by the next request (XEP-0124 8).
	held := make(chan xmltree.Element, 1)
	body := u.at(u.rid+1, "", "")
	go func() { held <- u.post(body) }()
	u.rid++
	el = u.ask("", "<message xmlns='jabber:client' id='3'/>")
	if one := <-held; !strings.Contains(one.Raw()+el.Raw(), " id='3'") {
		t.Errorf("%s %s", one.Raw(), el.Raw())
	}
	// Requests that overtake each other are taken in order (XEP-0124 14.2).
	second := u.at(u.rid+2, "", "<message xmlns='jabber:client' id='5'/>")
	go func() { held <- u.post(second) }()
	one := u.post(u.at(u.rid+1, "", "<message xmlns='jabber:client' id='4'/>"))
	u.rid += 2
	all := one.Raw() + (<-held).Raw()
	for n := 0; n < patience && !strings.Contains(all, "id='5'"); n++ {
		all += u.ask("", "").Raw()
	}
	if four := strings.Index(all, "id='4'"); four < 0 || four > strings.Index(all, "id='5'") {
		t.Errorf("not in order: %s", all)
	}
	if el := u.ask("type='terminate'", "<presence xmlns='jabber:client' type='unavailable'/>"); el.Attr("type") != "terminate" || el.Attr("condition") != "" {
		t.Error(el.Raw())
	}
	w.end(t)
	if w.hub.session("alice@"+domain+"/x") != nil {
		t.Error("the session is still there")
	}
}

// TestBOSHErrors: each ends at most its own session.
func TestBOSHErrors(t *testing.T) {
	w := newWorld(t, func(c *Config) { plainWorld(c); c.Limits.Stanza.MaxBytes = 20000 })
	u := w.bosh0(t)
	for body, want := range map[string]string{
		"":                                   "bad-request",
		"<body":                              "bad-request",
		"<body xmlns='urn:x' rid='1'/>":      "bad-request",
		"<body xmlns='" + xep.NSBOSH + "'/>": "bad-request",
		"<body xmlns='" + xep.NSBOSH + "' rid='-1'/>":                                        "bad-request",
		"<body xmlns='" + xep.NSBOSH + "' rid='9007199254740993' sid='x'/>":                  "bad-request",
		"<body xmlns='" + xep.NSBOSH + "' rid='1' sid='nobody'/>":                            "item-not-found",
		"<body xmlns='" + xep.NSBOSH + "' rid='1'>" + strings.Repeat("x", 20000) + "</body>": "bad-request",
	} {
		if el := u.post(body); el.Attr("type") != "terminate" || el.Attr("condition") != want {
			t.Errorf("%.80s: %s", body, el.Raw())
		}
	}
	for name, do := range map[string]func(*boshUser) xmltree.Element{
		"rid too far": func(u *boshUser) xmltree.Element { return u.post(u.at(u.rid+4, "", "")) },
		"rid too old": func(u *boshUser) xmltree.Element { return u.post(u.at(u.rid-5, "", "")) },
		"stream error": func(u *boshUser) xmltree.Element {
			return u.until(u.ask("", "<what xmlns='urn:what'/>"), "<"+stanza.StreamUnsupportedStanzaType)
		},
	} {
		u := w.bosh0(t)
		u.login("")
		if el := do(u); el.Attr("type") != "terminate" {
			t.Errorf("%s: %s", name, el.Raw())
		}
		if el := u.ask("", ""); el.Attr("type") != "terminate" {
			t.Errorf("%s, afterwards: %s", name, el.Raw())
		}
		w.left(t, "x") // the next would be told of a conflict
	}
	unknown := w.bosh0(t)
	if el := unknown.ask("to='other.example' wait='1' hold='1'", ""); !strings.Contains(el.Raw(), "host-unknown") {
		if el = unknown.ask("sid='"+el.Attr("sid")+"'", ""); !strings.Contains(el.Raw(), "host-unknown") || el.Attr("condition") != "remote-stream-error" {
			t.Error(el.Raw())
		}
	}
	w.end(t)
}

// TestBOSHKeys: with keys, only who began the session goes on with it (XEP-0124 15).
func TestBOSHKeys(t *testing.T) {
	w := newWorld(t, plainWorld)
	hash := func(s string) string {
		sum := sha1.Sum([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	u := w.bosh0(t)
	k1 := hash("seed")
	el := u.ask("to='"+domain+"' wait='1' hold='1' newkey='"+hash(k1)+"'", "")
	u.sid = el.Attr("sid")
	if el := u.ask("key='"+k1+"'", ""); el.Attr("type") == "terminate" {
		t.Error(el.Raw())
	}
	if el := u.ask("key='"+k1+"'", ""); el.Attr("type") != "terminate" {
		t.Error("a key was taken twice")
	}
	w.end(t)
}

// TestBOSHPolling: who polls gets what there is at once, and may ask for nothing again
// only after a while (XEP-0124 12).
func TestBOSHPolling(t *testing.T) {
	w := newWorld(t, plainWorld)
	u := w.bosh0(t)
	begin := time.Now()
	el := u.ask("to='"+domain+"' wait='60' hold='0'", "")
	if u.sid = el.Attr("sid"); el.Attr("wait") != "0" || el.Attr("polling") != "2" || time.Since(begin) > 10*time.Second {
		t.Fatal(el.Raw())
	}
	// Requests with something in them, and what follows an answer with something in it, may come at any time.
	auth := "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHdyb25n</auth>"
	for range 2 {
		if el := u.ask("", auth); el.Attr("type") == "terminate" {
			t.Fatal(el.Raw())
		}
	}
	for {
		el := u.ask("", "")
		if el.Attr("type") == "terminate" {
			if el.Attr("condition") != "policy-violation" {
				t.Error(el.Raw())
			}
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal("it may poll as fast as it likes")
		}
	}
	w.end(t)
}

// TestBOSHAbandoned: a session without requests is over after a while, and writers
// don't wait for ever.
func TestBOSHAbandoned(t *testing.T) {
	w := newWorld(t, func(c *Config) { plainWorld(c); c.Limits.WriteTime = 200 * time.Millisecond })
	u := w.bosh0(t)
	u.login("")
	s := w.hub.session("alice@" + domain + "/x")
	for range 10 {
		s.push([]byte("<message><body>" + strings.Repeat("x", 20000) + "</body></message>"))
	}
	for by := time.Now().Add(20 * time.Second); w.Metrics.Open.Load() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(by) {
			t.Fatal("it still waits")
		}
	}
	w.end(t)
}
