package interop

import (
	"os/exec"
	"strings"
	"testing"
)

// TestWebSocket: @xmpp/client logs in over a WebSocket of the server's own HTTPS
// listener, with the flow and the mechanisms that it chooses, and talks to a client
// that came over TCP.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	s, l := serve(t), xmppjs()
	if what := l.missing(); what != "" {
		lacking(t, what)
	}
	if s.kind.name != "carillon" {
		t.Skip("the other servers here have no WebSocket set up")
	}
	romeo, juliet := s.account(t, "romeo"), s.account(t, "juliet")
	web := l.loginAt(t, s, romeo, "web", s.https, "websocket")
	boundAs(t, web, romeo.bare+"/web")
	tcp := l.login(t, s, juliet, "tcp")
	web.do("ping", nil)
	advertises(t, web)
	web.do("message", args{"to": tcp.jid, "body": "over the web <&>", "id": "w1"})
	tcp.await("the message from the web", func(e *event) bool { return e.ID == "w1" && e.Body == "over the web <&>" })
	tcp.do("message", args{"to": web.jid, "body": strings.Repeat("long ", 20_000), "id": "w2"})
	web.await("the message to the web", func(e *event) bool { return e.ID == "w2" && e.Body == strings.Repeat("long ", 20_000) })
	web.do("disconnect", nil)
}

// TestUpload: a client finds the service, uploads a file and gets a part of it back.
func TestUpload(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if s.kind.name != "carillon" {
		t.Skip("the other servers here have no upload set up")
	}
	for _, l := range []library{slixmpp(), xmppjs()} {
		t.Run(l.name, func(t *testing.T) {
			if l.name == "slixmpp" && exec.Command("/usr/bin/python3", "-c", "import aiohttp").Run() != nil {
				lacking(t, "slixmpp's upload: apt-get install python3-aiohttp")
			}
			c := l.login(t, s, s.account(t, "romeo"), "x")
			var got struct {
				URL, Type, Part string
				Status          int
			}
			if err := c.call("upload", args{"name": "poème.txt", "type": "text/plain", "content": "hello world"}, &got); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got.URL, "https://"+domain+":") || got.Type != "text/plain" || got.Part != "ell" || got.Status != 206 {
				t.Errorf("%+v", got)
			}
		})
	}
}
