package server

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/account"
	"carillon.im/server/config"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// device is a session without a socket.
type device struct {
	t       testing.TB
	session *account.Session
	woken   chan struct{}
	wakes   atomic.Int64
	asked   int // questions
}

func (d *device) Wake() {
	d.wakes.Add(1)
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

func (d *device) End(*stanza.StreamError) { d.session.Detach(d) }

func bindDevice(t testing.TB, s *Server, bare, resource string, p route.Profile) *device {
	t.Helper()
	d := &device{t: t, woken: make(chan struct{}, 1)}
	var err error
	d.session, err = s.hub.Bind(t.Context(), account.BindRequest{Account: jid.MustParse(bare), Resource: resource, Transport: d})
	if err == nil {
		err = d.session.SetProfile(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) send(xml string) {
	d.t.Helper()
	st, err := stanza.ParseBytes([]byte(xml), xmltree.Limits{})
	if err != nil {
		d.t.Fatal(err)
	}
	st.From = d.session.JID()
	if err := d.session.Receive(d.t.Context(), st, len(xml)); err != nil {
		d.t.Fatal(err)
	}
}

// until reads up to a stanza with a piece of text, and returns it.
func (d *device) until(piece string) string {
	d.t.Helper()
	for {
		b, _ := d.session.Next(d, nil, 1)
		switch {
		case strings.Contains(string(b), piece):
			return string(b)
		case len(b) > 0:
			continue
		}
		select {
		case <-d.woken:
		case <-time.After(10 * time.Second):
			d.t.Fatalf("nothing with %s came", piece)
		}
	}
}

// program is a component's side of its connection.
type program struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// dialComponent connects with the secret that the tests have for every component.
func dialComponent(t *testing.T, s *Server, domain string) *program {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addrs()["component"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	p := &program{t, nc, bufio.NewReader(nc)}
	p.write("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='" + domain + "'>")
	p.until(" id='")
	sum := sha1.Sum([]byte(strings.TrimSuffix(p.until("'>"), "'>") + "swordfish"))
	p.write("<handshake>" + hex.EncodeToString(sum[:]) + "</handshake>")
	p.until("<handshake/>")
	return p
}

// until reads up to a piece of text, and returns it all.
func (p *program) until(piece string) string {
	p.t.Helper()
	var b strings.Builder
	for !strings.HasSuffix(b.String(), piece) {
		c, err := p.r.ReadByte()
		if err != nil {
			p.t.Fatalf("read %q, then %v", b.String(), err)
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (p *program) write(xml string) {
	p.t.Helper()
	if _, err := io.WriteString(p, xml); err != nil {
		p.t.Fatal(err)
	}
}

// addComponent lets a component in.
func addComponent(t *testing.T, cfg *config.Config, domain string) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Component, cfg.Components = "127.0.0.1:0", map[string]config.Component{domain: {SecretFile: secret}}
}

// TestComponent: a component over a real connection, and messages in both
// directions over the border between XMPP 2.0 and 1.0 (R-GW-1, R-GW-2, R-GW-3).
func TestComponent(t *testing.T) {
	cfg := config.Default()
	cfg.Domains, cfg.C2S, cfg.C2STLS, cfg.HTTP = []string{"h.example"}, config.Off, config.Off, config.Off
	cfg.Data = t.TempDir()
	addComponent(t, &cfg, "irc.h.example")
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := NewWith(t.Context(), cfg, slog.New(slog.DiscardHandler), Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.store.CreateAccount(t.Context(), jid.MustParse("bob@h.example"), nil); err != nil {
		t.Fatal(err)
	}
	v2, ng, classic := bindDevice(t, s, "bob@h.example", "v2", route.V2), bindDevice(t, s, "bob@h.example", "ng", route.NG), bindDevice(t, s, "bob@h.example", "classic", route.Classic)
	classic.send("<presence/>")

	// Before it is there.
	v2.send("<message type='chat' id='early' to='p@irc.h.example'><body>x</body></message>")
	v2.until("<remote-server-timeout ")

	irc := dialComponent(t, s, "irc.h.example")
	until, write := irc.until, irc.write

	const tag2 = "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
	modifiers := []string{"<private xmlns='urn:xmpp:carbons:2'/>", "<no-copy xmlns='urn:xmpp:hints'/>", "<no-store xmlns='urn:xmpp:hints'/>", tag2}
	for _, from := range []struct {
		device  *device
		payload string
	}{{v2, ""}, {ng, "<im-ng xmlns='urn:xmpp:im-ng:0'/>"}, {classic, modifiers[0]}} {
		from.device.send("<message type='chat' id='e' to='p@irc.h.example/r'><body>x</body>" + from.payload + "</message>")
		got := until("</message>")
		for _, m := range modifiers {
			if strings.Count(got, m) != 1 {
				t.Errorf("exclusive, left as %s", got)
			}
		}
		from.device.send("<message type='chat' id='c' to='p@irc.h.example'><body>x</body></message>")
		if got = until("</message>"); !strings.HasSuffix(got, "<body>x</body>"+tag2+"</message>") {
			t.Errorf("conversation, left as %s", got)
		}
	}

	write("<message type='chat' from='p@irc.h.example/r' to='bob@h.example/v2'><body>for one</body>" + strings.Join(modifiers, "") + "</message>")
	if got := v2.until("for one"); !strings.HasSuffix(got, "<body>for one</body></message>") {
		t.Errorf("entered as %s", got)
	}
	write("<message type='chat' from='p@irc.h.example/r' to='bob@h.example/classic'><body>for all</body></message>")
	if got := v2.until("for all"); !strings.Contains(got, "<xmpp-1 ") || !strings.Contains(got, "to='bob@h.example' ") {
		t.Errorf("v2 got %s", got)
	}
	for _, d := range []*device{ng, classic} {
		if got := d.until("for all"); strings.Contains(got, "<xmpp-") {
			t.Errorf("%s got %s", d.session.JID(), got)
		}
	}

	// The component finds the server, and users the component.
	write("<iq type='get' id='d' from='irc.h.example' to='h.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
	if got := until("</iq>"); !strings.Contains(got, "category='server' type='im'") {
		t.Errorf("disco: %s", got)
	}
	ng.send("<iq type='get' id='items' to='h.example'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
	if got := ng.until("id='items'"); !strings.Contains(got, "<item jid='irc.h.example'/>") {
		t.Errorf("items: %s", got)
	}

	// Somebody behind the component in a room: within the server nothing is tagged.
	const den = "den@rooms.h.example"
	write("<presence from='p@irc.h.example/r' to='" + den + "/P'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	if got := until("</presence>"); !strings.Contains(got, "<not-allowed ") {
		t.Errorf("a room made by somebody from elsewhere: %s", got)
	}
	v2.send("<presence to='" + den + "/Bob'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	v2.until("<subject/>")
	v2.send("<iq type='set' id='open' to='" + den + "'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>")
	v2.until("id='open'")
	write("<presence from='p@irc.h.example/r' to='" + den + "/P'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	until("<subject/></message>")
	v2.send("<message type='groupchat' id='g' to='" + den + "'><body>in here</body></message>")
	if got := until("</message>"); !strings.Contains(got, "<body>in here</body>") || strings.Contains(got, "xmpp-2") {
		t.Errorf("the component's user hears %s", got)
	}
	write("<message type='groupchat' id='g' from='p@irc.h.example/r' to='" + den + "'><body>from afar</body>" + tag2 + "</message>")
	if got := v2.until("from afar"); strings.Contains(got, "<xmpp-") || !strings.Contains(got, " from='"+den+"/P'") {
		t.Errorf("v2 hears %s", got)
	}
	until("</message>")
	v2.send("<presence type='unavailable' to='" + den + "/Bob'/>")
	v2.until("type='unavailable'")
	until("</presence>")
	write("<presence type='unavailable' from='p@irc.h.example/r' to='" + den + "/P'/>")
	until("</presence>")

	// An account that nobody has used is removed: its contacts elsewhere are told.
	carol, err := s.store.CreateAccount(t.Context(), jid.MustParse("carol@h.example"), nil)
	if err == nil {
		err = s.store.Commit(t.Context(), store.RosterPut{Account: carol, Version: 1, Item: store.RosterItem{JID: jid.MustParse("p@irc.h.example"), Subscription: "both"}})
	}
	if err == nil {
		_, err = s.Host().Call(t.Context(), "user remove", map[string]string{"jid": "carol@h.example"})
	}
	if err != nil {
		t.Fatal(err)
	}
	until("<presence from='carol@h.example' to='p@irc.h.example' type='unsubscribe'/>")
	until("<presence from='carol@h.example' to='p@irc.h.example' type='unsubscribed'/>")

	// In order to the last: the server stops.
	ng.send("<message type='chat' id='last' to='p@irc.h.example'><body>last</body></message>")
	stop()
	if got := until("</stream:stream>"); !strings.Contains(got, "<body>last</body>") || !strings.Contains(got, "<system-shutdown ") {
		t.Errorf("the end: %s", got)
	}
}
