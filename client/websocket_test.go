package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"carillon.im/client"
	"carillon.im/jid"
)

// webServer is a web server for localhost that speaks XMPP as a script says, and
// a Dialer that leads to it whatever the address is.
type webServer struct {
	*httptest.Server
	script func(*framePeer)
	meta   map[string]string // documents below /.well-known/
}

func newWebServer(t *testing.T, script func(*framePeer)) *webServer {
	sh, err := common()
	if err != nil {
		t.Fatal(err)
	}
	w := &webServer{script: script, meta: map[string]string{}}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/.well-known/"); ok {
			if doc, ok := w.meta[name]; ok {
				fmt.Fprint(rw, doc)
			} else {
				http.NotFound(rw, r)
			}
			return
		}
		conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{Subprotocols: []string{"xmpp"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		defer func() {
			if v := recover(); v != nil && v != errScript {
				panic(v)
			}
		}()
		w.script(&framePeer{conn, t})
	}))
	w.TLS = &tls.Config{Certificates: []tls.Certificate{sh.cert}}
	w.StartTLS()
	t.Cleanup(w.Close)
	return w
}

func (w *webServer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	if strings.HasSuffix(address, ":5222") || strings.HasSuffix(address, ":5223") {
		return nil, errors.New("filtered")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", w.Listener.Addr().String())
}

func (w *webServer) config(use client.WebSocketUse) client.Config {
	sh, err := common()
	if err != nil {
		panic(err)
	}
	return client.Config{Account: jid.MustParse("alice@localhost"), Password: "secret", RootCAs: sh.roots, Dialer: w, Resolver: noDNS{},
		AllowPlain: true, WebSocket: use, Quiet: true, Profile: client.ProfileClassic}
}

type noDNS struct{}

func (noDNS) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	return "", nil, errors.New("no such host")
}

// framePeer is one connection.
type framePeer struct {
	*websocket.Conn
	t *testing.T
}

// hear reads one frame, which has to be want's element.
func (p *framePeer) hear(want string) string {
	typ, b, err := p.Read(context.Background())
	if err != nil {
		panic(errScript)
	}
	if typ != websocket.MessageText || !strings.HasPrefix(string(b), want) {
		p.t.Errorf("heard %s instead of %s", b, want)
	}
	return string(b)
}

func (p *framePeer) say(s string) {
	if p.Write(context.Background(), websocket.MessageText, []byte(s)) != nil {
		panic(errScript)
	}
}

const (
	openFrame  = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='localhost' id='x' version='1.0'/>"
	closeFrame = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"
)

// features is what a frame holds (RFC 7395 3.3.3).
func features(inner string) string {
	return "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>" + inner + "</stream:features>"
}

// web is a small server of RFC 7395, which echoes messages.
func web(p *framePeer) {
	p.hear("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'")
	p.say(openFrame)
	p.say(features("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"))
	p.hear("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>")
	p.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
	p.hear("<open ")
	p.say(openFrame)
	p.say(features(bindFeature + smFeature))
	p.say("<iq xmlns='jabber:client' type='result' id='" + answerID(p.hear("<iq xmlns='jabber:client'")) +
		"'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
	p.hear("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	p.say("<enabled xmlns='urn:xmpp:sm:3'/>")
	message := p.hear("<message xmlns='jabber:client' to='bob@localhost'")
	p.hear("<r xmlns='urn:xmpp:sm:3'/>")
	p.say("<a xmlns='urn:xmpp:sm:3' h='1'/>")
	p.say(strings.Replace(message, " to='bob@localhost'", " from='bob@localhost'", 1))
	for f := ""; !strings.HasPrefix(f, "<close"); {
		f = p.hear("<")
	}
	p.say(closeFrame)
}

// TestWebSocket finds its server by host-meta (XEP-0156) and goes through a
// session in frames (RFC 7395).
func TestWebSocket(t *testing.T) {
	const address = "wss://localhost/ws"
	json := `{"links":[{"rel":"urn:xmpp:alt-connections:websocket","href":"ws://localhost/in-the-clear"},{"rel":"urn:xmpp:alt-connections:websocket","href":"` + address + `"}]}`
	xml := "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'><Link rel='urn:xmpp:alt-connections:websocket' href='" + address + "'/></XRD>"
	for name, c := range map[string]struct {
		meta map[string]string
		cfg  func(*webServer) client.Config
	}{
		"JSON, only":    {map[string]string{"host-meta.json": json}, func(w *webServer) client.Config { return w.config(client.WebSocketOnly) }},
		"XML, fallback": {map[string]string{"host-meta": xml}, func(w *webServer) client.Config { return w.config(client.WebSocketFallback) }},
		"by address": {nil, func(w *webServer) client.Config {
			cfg := w.config(client.WebSocketNever)
			cfg.Addresses = []client.Address{{URL: address}}
			return cfg
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWebServer(t, web)
			w.meta = c.meta
			d := dial(t, c.cfg(w))
			if on := expect[*client.Connected](d, nil); on.Address.URL != address || !on.Management {
				t.Errorf("connected: %+v", on)
			}
			r := d.send(chat("bob@localhost", "echo &amp; more"))
			d.acknowledged(r)
			if got := expect(d, bodyIs("echo & more")); got.Stanza.ID != r.ID() || got.Stanza.From != jid.MustParse("bob@localhost") {
				t.Errorf("received: %s", got.Stanza.AppendTo(nil))
			}
			if err := d.Close(d.ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWebSocketViolations: a frame is one element, complete, as text.
func TestWebSocketViolations(t *testing.T) {
	for name, frame := range map[string]string{
		"half":         "<message xmlns='jabber:client'>",
		"two":          "<message xmlns='jabber:client'/><message xmlns='jabber:client'/>",
		"end and more": "</stream:stream><stream:stream>",
		"a header":     header,
		"text":         "hello",
		"empty":        "",
		"a DTD":        "<!DOCTYPE a><message xmlns='jabber:client'/>",
		"huge":         "<message xmlns='jabber:client'><body>" + strings.Repeat("x", 70<<10) + "</body></message>",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWebServer(t, func(p *framePeer) {
				p.hear("<open")
				p.say(openFrame)
				p.say(frame)
				p.Read(context.Background())
			})
			cfg := w.config(client.WebSocketNever)
			cfg.Addresses = []client.Address{{URL: "wss://localhost/ws"}}
			cfg.Limits.MaxBytes = 64 << 10
			if err := attempt(t, cfg); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
	w := newWebServer(t, nil)
	cfg := w.config(client.WebSocketOnly)
	if err := attempt(t, cfg); err == nil || !strings.Contains(err.Error(), "host-meta") {
		t.Errorf("no host-meta: %v", err)
	}
	w.meta["host-meta.json"] = `{"links":[]}` + strings.Repeat(" ", 70<<10)
	if err := attempt(t, cfg); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a large host-meta: %v", err)
	}
}
