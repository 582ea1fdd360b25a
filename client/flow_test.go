package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// answerBoth reads the requests for IM-NG and Carbons of the classic flow and
// answers each.
func (p *peer) answerBoth(imng, carbons string) {
	for _, answer := range []string{imng, carbons} {
		p.say(fmt.Sprintf("<iq from='alice@localhost' type='%s' id='%s'/>", answer, answerID(p.hear("</iq>"))))
	}
}

// TestClassicProfiles: over RFC 6120's flow the first of IM-NG and Carbons that
// is granted counts (IMNG-6, IMNG-21), and stream management is what the server
// makes of it.
func TestClassicProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		script     func(*peer)
		profile    client.Profile
		management bool
	}{
		"IM-NG": {func(p *peer) {
			p.bind(bindFeature + smFeature)
			p.answerBoth("result", "error")
			p.say("<enabled xmlns='urn:xmpp:sm:3'/>")
		}, client.ProfileIMNG, true},
		"Carbons": {func(p *peer) {
			p.bind(bindFeature + smFeature)
			p.say("<message id='between'/>") // comes before stream management counts
			p.answerBoth("error", "result")
			p.say("<failed xmlns='urn:xmpp:sm:3'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>")
		}, client.ProfileCarbons, false},
		"neither": {func(p *peer) {
			p.bind(bindFeature)
			p.answerBoth("error", "error")
		}, client.ProfileClassic, false},
		"SASL2 without Bind 2": {func(p *peer) {
			p.hear(">")
			p.say(header + "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication></stream:features>")
			p.hear("</authenticate>")
			p.say("<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>alice@localhost</authorization-identifier></success>" +
				"<stream:features>" + bindFeature + smFeature + "</stream:features>")
			p.say("<iq type='result' id='" + answerID(p.hear("</iq>")) + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
			p.answerBoth("result", "error")
			p.say("<enabled xmlns='urn:xmpp:sm:3' id='1' resume='1'/>")
		}, client.ProfileIMNG, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(p *peer) {
				c.script(p)
				if name == "IM-NG" {
					p.say("<message id='1'/><message id='2'/><r xmlns='urn:xmpp:sm:3'/>")
					p.hear("<a xmlns='urn:xmpp:sm:3' h='2'/>")
				}
			})
			cfg := f.config()
			cfg.Profile = client.ProfileBest
			d := dial(t, cfg)
			on := expect[*client.Connected](d, nil)
			if on.Profile != c.profile || on.Management != c.management || on.CatchUp {
				t.Errorf("connected: %+v", on)
			}
			switch name {
			case "IM-NG":
				for range 2 {
					expect[*client.Received](d, nil)
				}
				d.Handled()
			case "Carbons":
				expect(d, func(r *client.Received) bool { return r.Stanza.ID == "between" })
				// Without acknowledgements, written is all that there is to know.
				if state, err := d.send(chat("bob@localhost", "x")).Wait(d.ctx); state != client.Written || err != nil {
					t.Errorf("delivery: %v, %v", state, err)
				}
			}
			if err := d.Close(d.ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestIdle: a server that has not been heard for a while is asked for a sign of
// life, with stream management and without.
func TestIdle(t *testing.T) {
	for name, script := range map[string]func(*peer){
		"acknowledgement": func(p *peer) {
			if p.n > 1 {
				p.hear("<stream:stream") // it stays away
				p.drain()
				return
			}
			p.manage("1")
			for range 3 {
				p.hear("<r xmlns='urn:xmpp:sm:3'/>")
				p.say("<a xmlns='urn:xmpp:sm:3' h='0'/>")
			}
			p.hear("<r xmlns='urn:xmpp:sm:3'/>")
		},
		"ping": func(p *peer) {
			if p.n > 1 {
				p.drain()
				return
			}
			p.bind(bindFeature)
			for range 3 {
				p.say("<iq from='localhost' type='error' id='" + answerID(p.hear("</iq>")) + "'/>")
			}
			p.hear("<ping xmlns='urn:xmpp:ping'/></iq>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newFake(t, script).config()
			cfg.IdleTimeout, cfg.ProbeTimeout = 20*time.Millisecond, 50*time.Millisecond
			if off := expect[*client.Disconnected](dial(t, cfg), nil); !errors.Is(off.Err, client.ErrSilent) {
				t.Errorf("disconnected: %v", off.Err)
			}
		})
	}
}

// TestActive tells the server whether somebody looks (XEP-0352), in each stream
// anew.
func TestActive(t *testing.T) {
	told := make(chan string, 2)
	f := newFake(t, func(p *peer) {
		const csi = "<csi xmlns='urn:xmpp:csi:0'/>"
		if p.n == 1 {
			p.bind(bindFeature + smFeature + csi)
			p.hear("<enable")
			p.hear(">")
			p.say("<enabled xmlns='urn:xmpp:sm:3' id='1' resume='true'/>")
			told <- p.hear("active xmlns='urn:xmpp:csi:0'/>")
			p.Close()
			return
		}
		p.authenticate(bindFeature + smFeature + csi)
		p.hear("<resume")
		p.hear(">")
		p.say("<resumed xmlns='urn:xmpp:sm:3' previd='1' h='0'/>")
		told <- p.hear("active xmlns='urn:xmpp:csi:0'/>")
	})
	d := dial(t, f.config())
	d.SetActive(true) // nothing new
	d.SetActive(false)
	for range 2 {
		if got := <-told; !strings.Contains(got, "<inactive ") {
			t.Errorf("told: %s", got)
		}
	}
}

// TestMalformed: what can't be a stanza is answered if it asks, counted, and
// otherwise nothing (RFC 6120 8.3).
func TestMalformed(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.manage("1")
		p.say("<message from='@@'/><iq type='get' from='bob@localhost' id='two'><a xmlns='x'/><b xmlns='x'/></iq><presence type='nonsense'/><iq type='result'/>" +
			"<unknown xmlns='urn:example'/><message id='last'/><r xmlns='urn:xmpp:sm:3'/>")
		p.hear("<bad-request")
		p.hear("<a xmlns='urn:xmpp:sm:3' h='5'/>")
	})
	d := dial(t, f.config())
	expect(d, func(r *client.Received) bool { return r.Stanza.ID == "last" })
	d.Handled()
	d.send(chat("bob@localhost", "on"))
}

// TestRequests are the program's to answer if it says so.
func TestRequests(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.manage("1")
		p.say("<iq type='get' from='bob@localhost/x' id='v'><query xmlns='jabber:iq:version'/></iq>")
		if got := p.hear("</iq>"); !strings.Contains(got, "to='bob@localhost/x' id='v' type='result'") {
			p.t.Errorf("answer: %s", got)
		}
		p.say("<message id='last'/>")
	})
	cfg := f.config()
	cfg.Requests = []string{"jabber:iq:version"}
	d := dial(t, cfg)
	got := expect(d, func(r *client.Received) bool { return r.Stanza.Kind == stanza.IQ })
	d.send(got.Stanza.Reply("<query xmlns='jabber:iq:version'><name>x</name></query>"))
	expect(d, func(r *client.Received) bool { return r.Stanza.ID == "last" })
	if _, err := d.Send(d.ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "1", jid.JID{}, jid.JID{}, "<a xmlns='x'/>")); err == nil {
		t.Error("a request was sent without waiting for its answer")
	}
	if _, err := d.IQ(d.ctx, chat("bob@localhost", "x")); err == nil {
		t.Error("a message has no answer")
	}
}

// TestCloseWhileFull: nobody takes the events, and the server goes on; Close
// doesn't wait for either.
func TestCloseWhileFull(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.manage("1")
		for {
			p.say("<message><body>more</body></message>")
		}
	})
	cfg := f.config()
	cfg.MaxEvents = 2
	c, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
	n := 0
	for range c.Events(t.Context()) {
		n++
	}
	if n > 4 {
		t.Errorf("%d events", n)
	}
}

func TestFileStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	store := client.FileStore{Dir: dir}
	odd := jid.MustParse("a.b%c@localhost")
	if st, err := store.Load(t.Context(), odd); err != nil || st.AgentID != "" {
		t.Fatalf("nothing yet: %v, %v", st, err)
	}
	want := client.State{AgentID: "x", Token: "hush", Session: &client.SavedSession{ID: "1", JID: jid.MustParse("a@b/c"), Unacked: []string{"<message/>"}}}
	if err := store.Save(t.Context(), odd, want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Load(t.Context(), odd)
	if err != nil || got.AgentID != "x" || got.Session.JID != want.Session.JID || got.Session.Unacked[0] != "<message/>" {
		t.Errorf("%+v, %v", got, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	file := filepath.Join(dir, files[0].Name())
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v", info.Mode())
	}
	os.WriteFile(file, []byte(`{"Version":99,"State":{"AgentID":"y"}}`), 0o600)
	if st, err := store.Load(t.Context(), odd); err != nil || st.AgentID != "" {
		t.Errorf("of another version: %v, %v", st, err)
	}
	os.WriteFile(file, []byte(`{"Version":1,"State":{"Token":"hush"`), 0o600)
	if _, err := store.Load(t.Context(), odd); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("damaged: %v", err)
	}
	if err := (client.FileStore{Dir: file}).Save(t.Context(), odd, want); err == nil {
		t.Error("saved below a file")
	}
}

func TestConfig(t *testing.T) {
	account := jid.MustParse("a@b")
	for name, cfg := range map[string]client.Config{
		"no account":   {},
		"a domain":     {Account: jid.MustParse("b")},
		"full":         {Account: jid.MustParse("a@b/c")},
		"presence":     {Account: account, Presence: stanza.Build(stanza.Presence, stanza.TypeUnavailable, "", jid.JID{}, jid.JID{}, "")},
		"a long tag":   {Account: account, Resource: strings.Repeat("x", 65)},
		"a session":    {Account: account, Store: broken{session: &client.SavedSession{ID: "1", JID: jid.MustParse("a@b/c"), Unacked: []string{"<message"}}}},
		"a bad store":  {Account: account, Store: broken{load: errors.New("no")}},
		"a full store": {Account: account, Store: broken{save: errors.New("no")}},
	} {
		if c, err := client.Dial(t.Context(), cfg); err == nil {
			c.Close(t.Context())
			t.Errorf("%s: connected", name)
		}
	}
}

// broken is a store that fails, or has something odd.
type broken struct {
	load, save error
	session    *client.SavedSession
}

func (b broken) Load(context.Context, jid.JID) (client.State, error) {
	return client.State{Session: b.session}, b.load
}

func (b broken) Save(context.Context, jid.JID, client.State) error { return b.save }
