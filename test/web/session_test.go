package web

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/inprocess"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// wire is one of the web's two ways to have a stream.
type wire interface {
	// begin sends the head of a stream with what follows it, in one go.
	begin(first string)
	say(element string)
	// hear waits for what comes next; it is more than nothing.
	hear() []xmltree.Element
	// drop is a network that goes away: the server isn't told.
	drop()
}

// frames is RFC 7395.
type frames struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
}

func (s *site) frames(ctx context.Context) wire {
	conn, _, err := websocket.Dial(ctx, "wss://localhost/xmpp-websocket", &websocket.DialOptions{HTTPClient: s.web, Subprotocols: []string{"xmpp"}})
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	s.t.Cleanup(func() { conn.CloseNow() })
	return &frames{s.t, ctx, conn}
}

func (f *frames) begin(first string) {
	f.t.Helper()
	f.say("<open xmlns='" + stream.NSFraming + "' to='localhost' version='1.0'/>")
	f.say(first)
	if el := f.hear()[0]; !el.Is(stream.NSFraming, "open") {
		f.t.Fatal(el.Raw())
	}
}

func (f *frames) say(element string) {
	f.t.Helper()
	if err := f.conn.Write(f.ctx, websocket.MessageText, []byte(element)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *frames) hear() []xmltree.Element {
	f.t.Helper()
	_, b, err := f.conn.Read(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	el, err := xmltree.Parse(b, "", xmltree.Limits{})
	if err != nil {
		f.t.Fatalf("%s: %v", b, err)
	}
	return []xmltree.Element{el}
}

func (f *frames) drop() { f.conn.CloseNow() }

// bodies is XEP-0124 and XEP-0206. What is said waits for the next request.
type bodies struct {
	s    *site
	ctx  context.Context
	sid  string
	rid  int
	more string
	come []xmltree.Element
}

func (s *site) bodies(ctx context.Context) wire { return &bodies{s: s, ctx: ctx, rid: 4711} }

// ask makes a request and keeps what its answer has.
func (b *bodies) ask(attrs string) {
	b.s.t.Helper()
	b.rid++
	body := fmt.Sprintf("<body xmlns='%s' rid='%d' %s>%s</body>", xep.NSBOSH, b.rid, attrs, b.more)
	b.more = ""
	r, err := http.NewRequestWithContext(b.ctx, "POST", "https://localhost/http-bind", strings.NewReader(body))
	if err != nil {
		b.s.t.Fatal(err)
	}
	resp, err := b.s.web.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	el, err := xmltree.Parse(data, "", xmltree.Limits{})
	if err != nil || el.Attr("type") == "terminate" {
		b.s.t.Fatalf("%s: %v", data, err)
	}
	if b.sid == "" {
		b.sid = el.Attr("sid")
	}
	b.come = slices.AppendSeq(b.come, el.Children())
}

func (b *bodies) begin(first string) {
	b.s.t.Helper()
	b.say(first)
	b.ask("to='localhost' wait='1' hold='1' ver='1.6'")
}

func (b *bodies) say(element string) { b.more += element }

func (b *bodies) hear() []xmltree.Element {
	b.s.t.Helper()
	for len(b.come) == 0 {
		b.ask("sid='" + b.sid + "'")
	}
	come := b.come
	b.come = nil
	return come
}

func (b *bodies) drop() {}

// webDevice is a device of juliet's that catches up over a wire. It acknowledges what
// it has, when it is asked and willing.
type webDevice struct {
	wire
	t       *testing.T
	willing bool
	counted int // stanzas of the session
	sm      string
	results []string // bodies from the archive
	synced  bool
	live    []string // bodies of messages
}

const juliet = "juliet@localhost"

// login says all in one go: header, credentials, and what is to be in the answer.
func (d *webDevice) login(inner string) xmltree.Element {
	d.t.Helper()
	initial := base64.StdEncoding.EncodeToString([]byte("\x00juliet\x00" + inprocess.Password))
	d.begin("<authenticate xmlns='" + xep.NSSASL2 + "' mechanism='PLAIN'><initial-response>" + initial +
		"</initial-response><user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>" + inner + "</authenticate>")
	var success xmltree.Element
	d.until("the answer", func(el xmltree.Element) bool {
		if el.Is(xep.NSSASL2, "failure") {
			d.t.Fatal(el.Raw())
		}
		if el.Is(xep.NSSASL2, "success") {
			success = el
		}
		return !success.IsZero()
	})
	return success
}

// until takes what comes until it is enough.
func (d *webDevice) until(what string, enough func(xmltree.Element) bool) {
	d.t.Helper()
	for found := false; !found; {
		for _, el := range d.hear() {
			d.take(el)
			found = enough(el) || found
		}
	}
}

func (d *webDevice) take(el xmltree.Element) {
	d.t.Helper()
	switch {
	case el.Is(xep.NSSM, "r") && d.willing:
		d.acknowledge()
	case el.Space() != stanza.NSClient:
	case el.Local() != "message":
		d.counted++
	default:
		d.counted++
		result := el.Child(xep.NSMAM, "result")
		body := el.Child(stanza.NSClient, "body").Text()
		switch {
		case !result.IsZero():
			if d.synced {
				d.t.Error("a result behind the end")
			}
			d.results = append(d.results, result.Child(xep.NSForward, "forwarded").Child(stanza.NSClient, "message").Child(stanza.NSClient, "body").Text())
		case !el.Child(xep.NSXMPP2, "synced").IsZero():
			d.synced = true
		case body != "":
			if !d.synced {
				d.t.Errorf("%q came live before the end", body)
			}
			d.live = append(d.live, body)
		}
	}
}

func (d *webDevice) acknowledge() {
	d.t.Helper()
	d.say("<a xmlns='" + xep.NSSM + "' h='" + strconv.Itoa(d.counted) + "'/>")
}

// ping takes what comes before a ping is answered.
func (d *webDevice) ping(id string) {
	d.t.Helper()
	d.say("<iq xmlns='jabber:client' type='get' id='" + id + "' to='localhost'><ping xmlns='" + xep.NSPing + "'/></iq>")
	d.until("a pong", func(el xmltree.Element) bool { return el.Attr("id") == id })
}

// TestSessionRequest: what docs/ext/xmpp-2-session.md asks for holds in WebSockets and
// in BOSH too. A device logs in, binds, and gets its roster and what it missed
// with one request; where it doesn't acknowledge, the catch-up waits and
// little is kept for it; the network goes away in the midst, and the next request
// resumes where it stopped. No message is missing, none comes twice, and what is new
// comes behind what is old.
func TestSessionRequest(t *testing.T) {
	const missed, bound = 300, 64 << 10
	for name, open := range map[string]func(*site, context.Context) wire{"WebSocket": (*site).frames, "BOSH": (*site).bodies} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			s := start(t, func(c *config.Config) { c.Auth.Plain, c.Limits.OutboxBytes = true, bound })
			s.archive(missed)

			d := &webDevice{t: t, wire: open(s, ctx)}
			success := d.login("<bind xmlns='" + xep.NSBind2 + "'><tag>web</tag><enable xmlns='" + xep.NSSM + "' resume='true'/>" +
				"<session xmlns='" + xep.NSXMPP2 + "'><sync last='P300D'/><roster/><presence xmlns='jabber:client'/></session></bind>")
			bind := success.Child(xep.NSBind2, "bound")
			d.sm = bind.Child(xep.NSSM, "enabled").Attr("id")
			if parts := bind.Child(xep.NSXMPP2, "session").Inner(); d.sm == "" || parts != "<sync/><roster/><presence/>" {
				t.Fatal(success.Raw())
			}
			// Where nobody acknowledges, nothing more is read from the archive, and what is
			// new waits there too.
			for s.owed() < bound/2 || len(d.results) == 0 {
				d.until("more", func(xmltree.Element) bool { return true })
			}
			s.say("while it catches up")
			if owed := s.owed(); owed > bound/2+bound/4 {
				t.Errorf("%d bytes are kept for a device that acknowledges nothing", owed)
			}
			if n := len(d.results); n == 0 || n == missed || d.synced {
				t.Fatalf("%d results of %d, synced: %v", n, missed, d.synced)
			}

			d.drop()
			d.wire, d.willing = open(s, ctx), true
			success = d.login("<resume xmlns='" + xep.NSSM + "' previd='" + d.sm + "' h='" + strconv.Itoa(d.counted) + "'/>")
			if resumed := success.Child(xep.NSSM, "resumed"); resumed.Attr("previd") != d.sm {
				t.Fatal(success.Raw())
			}
			d.acknowledge()
			d.until("the end of the catch-up", func(xmltree.Element) bool { return d.synced })
			s.say("behind it")
			d.until("what is live", func(xmltree.Element) bool { return slices.Contains(d.live, "behind it") })
			d.ping("end")

			var want []string
			for i := range missed {
				want = append(want, body(i))
			}
			// What was said meanwhile is part of the catch-up or live, once.
			all := slices.Concat(d.results, d.live)
			if want = append(want, "while it catches up", "behind it"); !slices.Equal(all, want) {
				t.Errorf("%d messages: %.200q", len(all), all)
			}
		})
	}
}

func body(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 400)) }

// archive makes juliet, who has missed n messages.
func (s *site) archive(n int) {
	s.t.Helper()
	id, err := s.AddAccount(s.t.Context(), s.id, jid.MustParse(juliet))
	if err != nil {
		s.t.Fatal(err)
	}
	first := store.ArchiveID(time.Now().Add(-time.Hour).UnixMicro())
	for i := range n {
		st := stanza.Build(stanza.Message, stanza.TypeChat, strconv.Itoa(i), alice, jid.MustParse(juliet), "<body>"+body(i)+"</body>")
		op := store.ArchiveAppend{Account: id, ID: first + store.ArchiveID(i), Peer: alice, Stanza: st.AppendTo(nil)}
		if err := s.Host().Store.Commit(s.t.Context(), op); err != nil {
			s.t.Fatal(err)
		}
	}
}

// say has alice say something to juliet.
func (s *site) say(text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := s.client(nil)
	r, err := c.Send(ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse(juliet), "<body>"+text+"</body>"))
	if err != nil {
		s.t.Fatal(err)
	}
	if state, err := r.Wait(ctx); err != nil || state != client.Acknowledged {
		s.t.Fatal(state, err)
	}
}

// owed is what the server keeps for juliet's device.
func (s *site) owed() (n int) {
	s.t.Helper()
	list, err := s.Host().Live.Sessions(s.t.Context(), jid.MustParse(juliet))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, x := range list {
		n += x.Queued
	}
	return n
}
