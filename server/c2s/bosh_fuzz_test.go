package c2s

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carillon.im/xep"
	"carillon.im/xmltree"
)

// FuzzBOSH: whatever a browser sends, first and in a session that has begun, each
// request has an answer of BOSH, and nothing panics.
func FuzzBOSH(f *testing.F) {
	begin := "<body xmlns='" + xep.NSBOSH + "' rid='7' to='" + domain + "' wait='1' hold='1' ver='1.6'>"
	f.Add(begin+"</body>", "<presence xmlns='jabber:client'/>", "type='terminate'")
	f.Add(begin+"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth></body>", "<a/>", "xmlns:xmpp='"+xep.NSXBOSH+"' xmpp:restart='true'")
	f.Add("<body xmlns='"+xep.NSBOSH+"' rid='99999999999999999999'/>", "</body><body>", "key='x' newkey='y'")
	f.Add("<body", "&", "rid=''")
	w := newWorld(f, func(c *Config) { plainWorld(c); c.Limits.WriteTime = 50 * time.Millisecond; c.Log = quiet() })
	f.Cleanup(func() { w.end(f) })
	ask := func(t *testing.T, body string) xmltree.Element {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the client goes away: so are long waits over
		defer cancel()
		rw := httptest.NewRecorder()
		w.ServeBOSH(rw, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body)), netip.AddrPort{})
		el, err := xmltree.Parse(rw.Body.Bytes(), "", xmltree.Limits{})
		if err != nil || !el.Is(xep.NSBOSH, "body") {
			t.Fatalf("%q is answered %q: %v", body, rw.Body, err)
		}
		return el
	}
	f.Fuzz(func(t *testing.T, first, then, attrs string) {
		ask(t, first)
		sid := ask(t, begin+"</body>").Attr("sid")
		ask(t, "<body xmlns='"+xep.NSBOSH+"' rid='8' sid='"+sid+"' "+attrs+">"+then+"</body>")
		for rid := range 2 { // whichever comes next
			ask(t, "<body xmlns='"+xep.NSBOSH+"' rid='"+string(rune('8'+rid))+"' sid='"+sid+"' type='terminate'/>")
		}
	})
}
