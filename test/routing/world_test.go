package routing

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/inprocess"
	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

// identity is what all servers of the test have and none changes.
var identity = sync.OnceValues(inprocess.NewIdentity)

func TestMain(m *testing.M) {
	code := m.Run()
	if id, err := identity(); err == nil && id.Remove() != nil {
		code = 1
	}
	os.Exit(code)
}

// world is a running server.
type world struct {
	t        *testing.T
	id       *inprocess.Identity
	log      inprocess.Log
	srv      *inprocess.Server
	accounts map[string]store.AccountID
	mu       sync.Mutex
	open     []*xmppclient.Client
}

// newWorld starts a server, in a bubble. Its bounds are wide: a batch is larger than what people send in a moment.
func newWorld(t *testing.T, change ...func(*config.Config)) *world {
	id, err := identity()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, id: id, accounts: map[string]store.AccountID{}}
	cfg := id.Config()
	cfg.Auth.Plain = true
	cfg.Limits.OfflineMessages = 100_000
	cfg.Limits.OutboxBytes = 256 << 20
	for _, f := range change {
		f(&cfg)
	}
	if w.srv, err = inprocess.Start(cfg, server.Options{Path: cfg.Data}, w.log.Logger(slog.LevelInfo)); err != nil {
		t.Fatal(err)
	}
	return w
}

// end stops the server and holds it to having no bug.
func (w *world) end() {
	if err := w.srv.Stop(); err != nil {
		w.t.Error(err)
	}
	for _, c := range w.open {
		c.Cut()
	}
	if err := w.log.Check(); err != nil {
		w.t.Errorf("%v: %s", err, w.log.String())
	}
}

// settle returns when nobody has anything left to do. The pause is of the bubble's clock, and more than the server
// waits on purpose, for commits to gather.
func settle() {
	synctest.Wait()
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
}

// account makes an account, with the password "secret".
func (w *world) account(bare string) *account {
	n, err := w.srv.AddAccount(w.t.Context(), w.id, jid.MustParse(bare))
	if err != nil {
		w.t.Fatal(err)
	}
	w.accounts[bare] = n
	return &account{bare: bare}
}

// befriend makes two accounts contacts of each other.
func (w *world) befriend(a, b *account) {
	for _, pair := range [][2]*account{{a, b}, {b, a}} {
		if err := w.srv.PutContact(w.accounts[pair[0].bare], 1, store.RosterItem{JID: jid.MustParse(pair[1].bare), Subscription: "both"}); err != nil {
			w.t.Fatal(err)
		}
		pair[0].shows = append(pair[0].shows, pair[1])
	}
}

// dial authenticates a connection.
func (w *world) dial(bare string) (*xmppclient.Client, error) {
	c, err := xmppclient.Login(w.srv.Pipe(true), xmppclient.Config{Account: jid.MustParse(bare), Password: inprocess.Password, TLS: w.id.TLS, Direct: true, Keys: w.id.Cache})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bare, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, c)
	return c, nil
}

// connect logs a session in, with nothing enabled.
func (w *world) connect(bare, resource string) *xmppclient.Client {
	c, err := w.dial(bare)
	if err == nil {
		err = c.Bind(resource)
	}
	if err != nil {
		w.t.Fatalf("%s/%s: %v", bare, resource, err)
	}
	return c
}

// connectV2 logs a session in with XMPP 2.0's session request, in one write. The resource is the server's choice.
func (w *world) connectV2(d *device, request string) (*xmppclient.Client, error) {
	account := jid.MustParse(d.account.bare)
	c, err := xmppclient.Open(w.srv.Pipe(true), xmppclient.Config{Account: account, TLS: w.id.TLS, Direct: true}, true)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.open = append(w.open, c)
	w.mu.Unlock()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + account.Local() + "\x00" + inprocess.Password))
	if err := c.SendRaw([]byte("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
		"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>" + plain + "</initial-response>" +
		"<bind xmlns='urn:xmpp:bind:0'>" + request + "</bind></authenticate>")); err != nil {
		return nil, err
	}
	for {
		ev, err := c.Next(w.t.Context())
		if err != nil {
			return nil, err
		}
		el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{})
		switch {
		case err != nil:
			return nil, err
		case el.Is("urn:xmpp:sasl:2", "failure"):
			return nil, errors.New(el.Raw())
		case el.Is("urn:xmpp:sasl:2", "success"):
			full, err := jid.Parse(el.Child("urn:xmpp:sasl:2", "authorization-identifier").Text())
			d.name = full.Resource()
			return c, err
		}
	}
}

// resume goes on with a session whose connection broke.
func (w *world) resume(d *device, old *xmppclient.Client) (*xmppclient.Client, error) {
	c, err := w.dial(d.account.bare)
	if err != nil {
		return nil, err
	}
	return c, c.Resume(old, old.Handled())
}

// neverArchive sets an account's preferences.
func (w *world) neverArchive(a *account) {
	c := w.connect(a.bare, "preferences")
	if err := c.Send("<iq type='set' id='prefs'><prefs xmlns='urn:xmpp:mam:2' default='never'/></iq>"); err != nil {
		w.t.Fatal(err)
	}
	settle()
	w.forget(c)
	c.Cut()
}

// login brings a device online, with stream management if it is to outlive its connection.
func (w *world) login(d *device, managed bool) *xmppclient.Client {
	var c *xmppclient.Client
	if d.profile == v2 {
		var err error
		if c, err = w.connectV2(d, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'/>"); err != nil {
			w.t.Fatalf("%s: %v", d.account.bare, err)
		}
	} else {
		c = w.connect(d.account.bare, d.name)
	}
	if managed {
		if err := c.EnableSM(true); err != nil {
			w.t.Fatal(err)
		}
	}
	var stanzas []string
	switch d.profile {
	case carbons:
		stanzas = append(stanzas, "<iq type='set' id='profile'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
	case ng:
		stanzas = append(stanzas, "<iq type='set' id='profile'><enable xmlns='urn:xmpp:im-ng:0'/></iq>")
	}
	if d.available {
		stanzas = append(stanzas, fmt.Sprintf("<presence><priority>%d</priority></presence>", d.priority))
	}
	if len(stanzas) > 0 {
		if err := c.Send(stanzas...); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

// forget drops what a client received of its login.
func (w *world) forget(c *xmppclient.Client) {
	for ev, _ := c.Take(); ev != nil; ev, _ = c.Take() {
		if ev.Stanza != nil && ev.Stanza.Kind == stanza.IQ && ev.Stanza.Type == stanza.TypeError {
			w.t.Fatalf("refused: %s", xmppclient.XML(ev))
		}
	}
}

// messages takes all messages that a client received.
func messages(c *xmppclient.Client) ([]xmltree.Element, error) {
	var list []xmltree.Element
	for ev, _ := c.Take(); ev != nil; ev, _ = c.Take() {
		switch {
		case ev.Kind == stream.SMEnabled, ev.Kind == stream.SMResumed, ev.Kind == stream.Features:
		case ev.Kind != stream.Stanza && ev.Kind != stream.Answered:
			return nil, fmt.Errorf("received %s", xmppclient.XML(ev))
		case ev.Stanza.Kind == stanza.Message:
			el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{MaxBytes: 1 << 20})
			if err != nil {
				return nil, err
			}
			list = append(list, el)
		}
	}
	if err := c.Err(); err != nil {
		return nil, fmt.Errorf("the connection ended: %w", err)
	}
	return list, nil
}

// until takes the messages that a client receives before the one that last recognizes.
func until(ctx context.Context, c *xmppclient.Client, last func(*stanza.Stanza) bool) ([]xmltree.Element, error) {
	var list []xmltree.Element
	for {
		ev, err := c.Next(ctx)
		switch {
		case err != nil:
			return nil, err
		case ev.Stanza == nil:
			continue
		case last(ev.Stanza):
			return list, nil
		case ev.Stanza.Kind != stanza.Message:
			continue
		}
		el, err := xmltree.Parse([]byte(xmppclient.XML(ev)), stanza.NSClient, xmltree.Limits{MaxBytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		list = append(list, el)
	}
}

// archive reads a whole archive, oldest first.
func (w *world) archive(bare string) []xmltree.Element {
	c := w.connect(bare, "reader")
	defer c.Cut()
	var list []xmltree.Element
	after := ""
	for {
		query := "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>250</max>" + after + "</set></query></iq>"
		if err := c.Send(query); err != nil {
			w.t.Fatal(err)
		}
		page, err := until(w.t.Context(), c, func(st *stanza.Stanza) bool { return st.Kind == stanza.IQ && st.ID == "q" })
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, page...)
		if len(page) == 0 {
			return list
		}
		after = "<after>" + page[len(page)-1].Child("urn:xmpp:mam:2", "result").Attr("id") + "</after>"
	}
}
