package web

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/stanza"
	"carillon.im/test/inprocess"
	"carillon.im/xep"
)

const patience = 20 * time.Second

var alice = jid.MustParse("alice@localhost")

// site is a server with both web listeners.
type site struct {
	*inprocess.Server
	t     *testing.T
	id    *inprocess.Identity
	http  string // host:port
	https string
	web   *http.Client // leads to https whatever the host
}

func start(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	id, err := inprocess.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	log := &inprocess.Log{}
	cfg := id.Config()
	cfg.HTTP, cfg.HTTPS, cfg.Upload.Folder = "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	if change != nil {
		change(&cfg)
	}
	s := &site{t: t, id: id}
	if s.Server, err = inprocess.Start(cfg, server.Options{}, log.Logger(slog.LevelDebug)); err != nil {
		t.Fatal(err)
	}
	s.http, s.https = s.Addrs()["http"], s.Addrs()["https"]
	s.web = &http.Client{Transport: &http.Transport{TLSClientConfig: id.TLS, DialContext: s.DialContext}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		s.web.CloseIdleConnections()
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := log.Check(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
		if err := id.Remove(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.AddAccount(t.Context(), id, alice); err != nil {
		t.Fatal(err)
	}
	return s
}

// DialContext implements client.Dialer: "localhost", at whatever port, is the server.
func (s *site) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	if address != s.http {
		address = s.https
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

type noDNS struct{}

func (noDNS) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (s *site) client(change func(*client.Config)) *client.Client {
	s.t.Helper()
	cfg := client.Config{Account: alice, Password: inprocess.Password, RootCAs: s.id.TLS.RootCAs, Dialer: s, Resolver: noDNS{}, WebSocket: client.WebSocketOnly}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.t.Cleanup(cancel)
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := c.Close(ctx); err != nil {
			s.t.Error(err)
		}
	})
	for {
		ev, err := c.Next(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, ok := ev.(*client.Connected); ok {
			return c
		}
	}
}

// talk sends a message to the own account and waits for it.
func talk(t *testing.T, c *client.Client, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.Ping(ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
	r, err := c.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, alice, "<body>"+body+"</body>"))
	if err != nil {
		t.Fatal(err)
	}
	if state, err := r.Wait(ctx); err != nil || state != client.Acknowledged {
		t.Fatal(state, err)
	}
}

// TestOwnClient: our client finds the server by host-meta and logs in with all it
// has: SASL2, channel binding with TLS that ends here, a session request.
func TestOwnClient(t *testing.T) {
	s := start(t, nil)
	talk(t, s.client(nil), "by host-meta")
	talk(t, s.client(func(c *client.Config) { c.Profile = client.ProfileClassic }), "classic")
	// Behind a proxy on this machine there is no TLS of ours.
	talk(t, s.client(func(c *client.Config) { c.Addresses = []client.Address{{URL: "ws://" + s.http + "/xmpp-websocket"}} }), "in the clear")
}

func (s *site) get(url string, header ...string) (*http.Response, string) {
	s.t.Helper()
	return s.do("GET", url, nil, header...)
}

func (s *site) do(method, url string, body io.Reader, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	resp, err := s.web.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

func iq(typ, to, payload string) *stanza.Stanza {
	return stanza.Build(stanza.IQ, typ, "", jid.JID{}, jid.MustParse(to), payload)
}

func TestHostMeta(t *testing.T) {
	s := start(t, nil)
	for _, c := range []struct{ url, host, proto, want string }{
		{"https://localhost/", "", "", "wss://localhost/xmpp-websocket https://localhost/http-bind"},
		{"https://localhost/", "LOCALHOST:5443", "", "wss://localhost:5443/xmpp-websocket https://localhost:5443/http-bind"},
		{"https://localhost/", "evil.example", "", "wss://localhost/xmpp-websocket https://localhost/http-bind"},
		{"https://localhost/", "localhost:x'/>", "", "wss://localhost/xmpp-websocket https://localhost/http-bind"},
		{"http://" + s.http + "/", "localhost", "https", "wss://localhost/xmpp-websocket https://localhost/http-bind"},
		{"http://" + s.http + "/", "localhost:5280", "", "ws://localhost:5280/xmpp-websocket http://localhost:5280/http-bind"},
	} {
		head := []string{"Host", c.host, "Origin", "https://elsewhere.example"}
		if c.proto != "" {
			head = append(head, "X-Forwarded-Proto", c.proto)
		}
		resp, body := s.get(c.url+".well-known/host-meta.json", head...)
		if resp.StatusCode == http.StatusBadRequest { // such a Host isn't even parsed
			continue
		}
		var doc struct{ Links []struct{ Rel, Href string } }
		if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Links) != 2 {
			t.Fatalf("%s: %v", body, err)
		}
		if got := doc.Links[0].Href + " " + doc.Links[1].Href; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("CORS: %q", got)
		}
		_, body = s.get(c.url+".well-known/host-meta", head...)
		if ws, _, _ := strings.Cut(c.want, " "); !strings.Contains(body, "<Link rel='urn:xmpp:alt-connections:websocket' href='"+ws+"'/>") {
			t.Errorf("%+v: %s", c, body)
		}
	}
	if resp, _ := s.do("POST", "https://localhost/.well-known/host-meta", nil); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}
}

// TestHostMetaAddresses: with the server's addresses, host-meta.json is all that a
// client or another server needs (XEP-0487), and what XEP-0156 needs is as it was.
func TestHostMetaAddresses(t *testing.T) {
	s := start(t, func(c *config.Config) {
		c.Web.Addresses = []string{"192.0.2.1", "2001:db8::1"}
		c.C2STLS, c.S2S, c.S2STLS = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	})
	type link struct {
		Rel, Href, SNI         string
		Port, Priority, Weight int
		IPs                    []string
	}
	read := func(url string, head ...string) (links map[string]link, ttl int) {
		t.Helper()
		_, body := s.get(url+".well-known/host-meta.json", head...)
		var doc struct {
			XMPP  struct{ TTL int }
			Links []link
		}
		if err := json.Unmarshal([]byte(body), &doc); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		links = map[string]link{}
		for _, l := range doc.Links {
			links[strings.TrimPrefix(l.Rel, "urn:xmpp:alt-connections:")] = l
		}
		return links, doc.XMPP.TTL
	}
	port := func(key string) int {
		a, err := netip.ParseAddrPort(s.Addrs()[key])
		if err != nil {
			t.Fatal(err)
		}
		return int(a.Port())
	}
	links, ttl := read("https://localhost/", "Host", "localhost")
	if ttl != 3600 || len(links) != 4 {
		t.Fatalf("%+v, %d", links, ttl)
	}
	for rel, want := range map[string]link{
		"tls":       {Port: port("c2s_tls"), Priority: 10},
		"s2s-tls":   {Port: port("s2s_tls"), Priority: 10},
		"websocket": {Href: "wss://localhost/xmpp-websocket", Priority: 20},
	} {
		want.Rel, want.SNI, want.Weight, want.IPs = "urn:xmpp:alt-connections:"+rel, "localhost", 50, []string{"192.0.2.1", "2001:db8::1"}
		if got := links[rel]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", rel, got, want)
		}
	}
	if got := links["xbosh"]; !reflect.DeepEqual(got, link{Rel: got.Rel, Href: "https://localhost/http-bind"}) {
		t.Errorf("BOSH: %+v", got)
	}
	// Of a web server in front nobody knows the address.
	links, _ = read("http://"+s.http+"/", "Host", "localhost", "X-Forwarded-Proto", "https")
	if got := links["websocket"]; got.Href != "wss://localhost/xmpp-websocket" || got.IPs != nil || got.SNI != "" {
		t.Errorf("by a proxy: %+v", got)
	}
}

// TestOperatorsPages are on the listener for them alone, and not for who comes by way
// of a proxy.
func TestOperatorsPages(t *testing.T) {
	s := start(t, nil)
	for _, path := range []string{"/metrics", "/healthz", "/debug/pprof/", "/"} {
		if resp, _ := s.get("https://localhost" + path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("https %s: %s", path, resp.Status)
		}
	}
	for _, header := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"} {
		if resp, _ := s.get("http://"+s.http+"/metrics", header, "https"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("with %s: %s", header, resp.Status)
		}
	}
	for path, want := range map[string]string{"/metrics": "carillon_c2s", "/healthz": "ok"} {
		if _, body := s.get("http://" + s.http + path); !strings.Contains(body, want) {
			t.Errorf("http %s: %s", path, body)
		}
	}
	alone := start(t, func(c *config.Config) { c.Web.Proxies = []string{"192.0.2.1"} })
	for path, want := range map[string]int{"/xmpp-websocket": 403, "/http-bind": 403, "/upload/x/y": 403, "/.well-known/host-meta": 403, "/healthz": 200} {
		if resp, _ := alone.get("http://" + alone.http + path); resp.StatusCode != want {
			t.Errorf("from who is no proxy, %s: %s", path, resp.Status)
		}
	}
}

func TestPreflight(t *testing.T) {
	s := start(t, nil)
	for path, methods := range map[string]string{"/http-bind": "POST", "/upload/x/y": "PUT", "/.well-known/host-meta.json": "GET"} {
		resp, _ := s.do("OPTIONS", "https://localhost"+path, nil, "Origin", "https://elsewhere.example", "Access-Control-Request-Method", methods)
		if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), methods) || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}

// TestUpload: a client finds the service, gets a slot, puts a file over HTTPS; who has
// the address gets it. When the account is removed it is gone.
func TestUpload(t *testing.T) {
	s := start(t, nil)
	c := s.client(nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	items, err := c.IQ(ctx, iq(stanza.TypeGet, "localhost", "<query xmlns='"+xep.NSDiscoItems+"'/>"))
	if err != nil || !strings.Contains(items.Inner(), "jid='upload.localhost'") {
		t.Fatal(items, err)
	}
	answer, err := c.IQ(ctx, iq(stanza.TypeGet, "upload.localhost",
		"<request xmlns='"+xep.NSUpload+"' filename='a b.txt' size='5' content-type='text/plain'/>"))
	if err != nil {
		t.Fatal(err)
	}
	slot := answer.Payload()
	put, get := slot.Child(xep.NSUpload, "put").Attr("url"), slot.Child(xep.NSUpload, "get").Attr("url")
	if _, port, _ := net.SplitHostPort(s.https); !strings.HasPrefix(get, "https://localhost:"+port+"/upload/") || !strings.HasSuffix(get, "/a%20b.txt") {
		t.Error(get)
	}
	if resp, text := s.do("PUT", put, strings.NewReader("hello"), "Content-Type", "text/plain"); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, text)
	}
	if resp, body := s.get(get); body != "hello" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error(body, resp.Header)
	}
	if _, err := c.IQ(ctx, iq(stanza.TypeSet, "localhost", "<query xmlns='jabber:iq:register'><remove/></query>")); err != nil {
		t.Log(err) // the stream may end first
	}
	for {
		if resp, _ := s.get(get); resp.StatusCode == http.StatusNotFound {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the file is still there")
		}
	}
}

// TestConnectionLimit: connections over the limit are closed at once, others live on.
func TestConnectionLimit(t *testing.T) {
	s := start(t, func(c *config.Config) { c.Limits.UnauthenticatedPerAddress = 3; c.Web.Proxies = nil })
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	refused := 0
	for range 5 {
		c, err := tls.Dial("tcp", s.https, s.id.TLS)
		if err != nil {
			refused++
			continue
		}
		open = append(open, c)
	}
	if len(open) != 3 || refused != 2 {
		t.Errorf("%d open, %d refused", len(open), refused)
	}
	for _, c := range open {
		fmt.Fprint(c, "GET /.well-known/host-meta HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "200 OK") {
			t.Errorf("%s %v", b, err)
		}
	}
}
