package c2s

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// site is a world behind a web server of its own; it returns the server's address.
func (w *world) site(t *testing.T, secure bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a, _ := netip.ParseAddrPort(r.RemoteAddr)
		w.ServeWebSocket(rw, r, a)
	})}
	done := make(chan struct{})
	go func() { h.Serve(w.HTTPListener(l, secure)); close(done) }()
	t.Cleanup(func() { h.Close(); <-done })
	return l.Addr().String()
}

// webUser is a foreign client of a WebSocket.
type webUser struct {
	*websocket.Conn
	t   *testing.T
	ctx context.Context
}

func dialWeb(t *testing.T, address string, secure bool) (*webUser, *http.Transport) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(testCertificate().Leaf)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: domain}}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	scheme := "ws://"
	if secure {
		scheme = "wss://"
	}
	conn, _, err := websocket.Dial(ctx, scheme+address, &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{"xmpp"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { conn.CloseNow(); tr.CloseIdleConnections() })
	return &webUser{conn, t, ctx}, tr
}

func (u *webUser) say(s string) {
	u.t.Helper()
	if err := u.Write(u.ctx, websocket.MessageText, []byte(s)); err != nil {
		u.t.Fatal(err)
	}
}

func (u *webUser) hear(want string) string {
	u.t.Helper()
	_, b, err := u.Read(u.ctx)
	if err != nil || !strings.HasPrefix(string(b), want) {
		u.t.Fatalf("heard %q (%v) instead of %s", b, err, want)
	}
	return string(b)
}

// closed reads until the WebSocket ends, in good order.
func (u *webUser) closed() {
	u.t.Helper()
	if _, b, err := u.Read(u.ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		u.t.Fatalf("%q, %v", b, err)
	}
}

const opening = "<open xmlns='" + stream.NSFraming + "' to='" + domain + "' version='1.0'/>"

func (u *webUser) login() string {
	u.t.Helper()
	u.say(opening)
	u.hear("<open xmlns='" + stream.NSFraming + "' from='" + domain + "' id='")
	offered := u.hear("<stream:features xmlns:stream='http://etherx.jabber.org/streams'>")
	u.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00rabbit")) + "</auth>")
	u.hear("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'")
	u.say(opening)
	u.hear("<open ")
	u.hear("<stream:features ")
	u.say("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind></iq>")
	u.hear("<iq xmlns='jabber:client' id='b' type='result'")
	return offered
}

func plainWorld(c *Config) { c.AllowPlain = true }

// TestWebSocket goes through a stream in frames (RFC 7395), with and without TLS of
// our own. Channel binding is offered only where TLS ends here.
func TestWebSocket(t *testing.T) {
	for _, secure := range []bool{false, true} {
		w := newWorld(t, plainWorld)
		u, _ := dialWeb(t, w.site(t, secure), secure)
		offered := u.login()
		if strings.Contains(offered, "tls-exporter") != secure || strings.Contains(offered, "-PLUS") != secure || strings.Contains(offered, "starttls") {
			t.Errorf("TLS %v: %s", secure, offered)
		}
		for _, size := range []int{1, 120, 70, 1000, 66000, 100000, 0} {
			body := strings.Repeat("x>'", size/3)
			u.say("<message xmlns='jabber:client'><body>" + body + "</body></message>")
			got := u.hear("<message xmlns='jabber:client' from='alice@" + domain + "/x'")
			if n := strings.Count(got, "x&gt;'"); n != size/3 {
				t.Errorf("%d of %d came back", n, size/3)
			}
		}
		if err := u.say2("<message xmlns='jabber:client' id='1'/>", "<message xmlns='jabber:client' id='2'/>"); err != nil {
			t.Error(err)
		}
		go u.Ping(u.ctx)
		u.hear("<message xmlns='jabber:client' from='alice@" + domain + "/x' id='1'")
		u.hear("<message xmlns='jabber:client' from='alice@" + domain + "/x' id='2'")
		u.say("<close xmlns='" + stream.NSFraming + "'/>")
		u.hear("<close xmlns='" + stream.NSFraming + "'/>")
		u.closed()
		w.end(t)
	}
}

// say2 writes two messages, each in three fragments.
func (u *webUser) say2(list ...string) error {
	for _, s := range list {
		f, err := u.Writer(u.ctx, websocket.MessageText)
		if err != nil {
			return err
		}
		for _, part := range []string{s[:1], s[1:10], s[10:]} {
			f.Write([]byte(part))
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestWebSocketClosedWithoutStream: the session is detached, as with a lost
// connection (RFC 7395 3.6).
func TestWebSocketClosedWithoutStream(t *testing.T) {
	w := newWorld(t, plainWorld)
	u, _ := dialWeb(t, w.site(t, false), false)
	u.login()
	s := w.hub.session("alice@" + domain + "/x")
	if err := u.Close(websocket.StatusGoingAway, ""); err != nil {
		t.Error(err)
	}
	w.end(t)
	if gone, closed := s.state(); !gone || closed {
		t.Errorf("gone %v, closed %v", gone, closed)
	}
}

// TestWebSocketViolations: what isn't one element per frame ends the stream with an
// error, and only this stream (RFC 7395 3.3).
func TestWebSocketViolations(t *testing.T) {
	w := newWorld(t, func(c *Config) { plainWorld(c); c.Limits.Stanza.MaxBytes = 20000 })
	address := w.site(t, false)
	for name, c := range map[string]struct {
		frame, want string
		login       bool
	}{
		"half":        {"<message xmlns='jabber:client'>", stanza.StreamNotWellFormed, true},
		"two":         {"<message xmlns='jabber:client'/><message xmlns='jabber:client'/>", stanza.StreamNotWellFormed, true},
		"a tag":       {"</stream:stream>", stanza.StreamNotWellFormed, true},
		"text":        {"hello", stanza.StreamBadFormat, true},
		"space":       {" ", stanza.StreamBadFormat, true},
		"empty":       {"", stanza.StreamBadFormat, true},
		"declaration": {"<?xml version='1.0'?><message xmlns='jabber:client'/>", stanza.StreamRestrictedXML, true},
		"a DTD":       {"<!DOCTYPE a><message xmlns='jabber:client'/>", stanza.StreamRestrictedXML, true},
		"twice open":  {opening, stanza.StreamBadFormat, true},
		"huge":        {"<message xmlns='jabber:client'>" + strings.Repeat("x", 20000) + "</message>", stanza.StreamPolicyViolation, true},
		"no open":     {"<message xmlns='jabber:client'/>", stanza.StreamBadFormat, false},
		"elsewhere":   {"<open xmlns='" + stream.NSFraming + "' to='other.example' version='1.0'/>", stanza.StreamHostUnknown, false},
		"a stream":    {"<stream:stream xmlns:stream='" + stanza.NSStreams + "'/>", stanza.StreamBadFormat, false},
	} {
		t.Run(name, func(t *testing.T) {
			u, _ := dialWeb(t, address, false)
			if c.login {
				u.login()
			}
			u.say(c.frame)
			if !c.login {
				u.hear("<open ")
			}
			if got := u.hear("<stream:error xmlns:stream='" + stanza.NSStreams + "'><"); !strings.Contains(got, "<"+c.want) {
				t.Errorf("%s", got)
			}
			u.hear("<close ")
			u.closed()
		})
	}
	w.end(t)
}

// TestWebSocketHandshake refuses what isn't RFC 7395's handshake.
func TestWebSocketHandshake(t *testing.T) {
	w := newWorld(t, plainWorld)
	address := w.site(t, false)
	for name, change := range map[string]func(http.Header){
		"no upgrade":    func(h http.Header) { h.Del("Upgrade") },
		"version":       func(h http.Header) { h.Set("Sec-WebSocket-Version", "8") },
		"key":           func(h http.Header) { h.Set("Sec-WebSocket-Key", "short") },
		"no protocol":   func(h http.Header) { h.Del("Sec-WebSocket-Protocol") },
		"other":         func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "chat, mqtt") },
		"no connection": func(h http.Header) { h.Set("Connection", "close") },
	} {
		r, err := http.NewRequest(http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {base64.StdEncoding.EncodeToString(make([]byte, 16))}, "Sec-Websocket-Protocol": {"xmpp"}}
		change(r.Header)
		tr := &http.Transport{}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(name, err)
		}
		if resp.StatusCode/100 != 4 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
	}
	w.end(t)
}

// masked makes a client's frame.
func masked(first byte, payload string) []byte {
	b := []byte{first, maskBit | byte(len(payload)), 1, 2, 3, 4}
	for i := range len(payload) {
		b = append(b, payload[i]^byte(1+i&3))
	}
	return b
}

// TestMessages: frames that clients must not send, and any splitting of good ones.
func TestMessages(t *testing.T) {
	for name, in := range map[string][]byte{
		"unmasked":          {finBit | opText, 5, 'h', 'e', 'l', 'l', 'o'},
		"reserved bit":      masked(finBit|0x40|opText, "x"),
		"binary":            masked(finBit|2, "x"),
		"unknown":           masked(finBit|3, "x"),
		"unknown control":   masked(finBit|11, "x"),
		"control in parts":  masked(opPing, "x"),
		"long control":      {finBit | opPing, maskBit | 126, 0, 126, 1, 2, 3, 4},
		"continues nothing": masked(finBit|opContinue, "x"),
		"begins twice":      append(masked(opText, "x"), masked(opText, "y")...),
		"too large":         {finBit | opText, maskBit | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		"large in parts":    append(masked(opText, strings.Repeat("x", 60)), masked(opContinue, strings.Repeat("x", 60))...),
	} {
		var m messages
		var err error
		for rest := bytes.Clone(in); len(rest) > 0 && err == nil; {
			var n int
			_, _, n, err = m.next(rest, 100)
			rest = rest[n:]
		}
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	good := bytes.Join([][]byte{masked(finBit|opText, "one"), masked(opText, "t"), masked(finBit|opPing, "?"), masked(opContinue, ""), masked(opContinue|finBit, "wo"),
		masked(finBit|opText, ""), masked(finBit|opClose, "")}, nil)
	for size := 1; size <= len(good); size++ {
		var m messages
		var got []string
		for at := 0; at < len(good); at += size {
			for part := bytes.Clone(good[at:min(len(good), at+size)]); len(part) > 0; {
				op, payload, n, err := m.next(part, 100)
				if err != nil {
					t.Fatal(size, err)
				}
				if op != opContinue {
					got = append(got, string('0'+rune(op))+string(payload))
				}
				part = part[n:]
			}
		}
		if s := strings.Join(got, " "); s != "1one 9? 1two 1 8" {
			t.Errorf("in pieces of %d: %q", size, s)
		}
	}
}

// FuzzMessages: no input makes it panic, stand still or keep more than the limit.
func FuzzMessages(f *testing.F) {
	f.Add(masked(finBit|opText, "one"))
	f.Add(append(masked(opText, "x"), masked(finBit|opPing, "y")...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var m messages
		for rest := bytes.Clone(in); len(rest) > 0; {
			_, payload, n, err := m.next(rest, 64)
			if err != nil {
				return
			}
			if n == 0 || len(m.text) > 64 || len(payload) > maxControl || len(m.control) > maxControl {
				t.Fatal(n, len(m.text), len(payload))
			}
			rest = rest[n:]
		}
	})
}
