package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
)

// TestResendNewSession: when a session can't go on, the messages that its server
// has not acknowledged are sent again, once, with their ids; requests and
// presence aren't, and who waits is told (XEP-0198 5).
func TestResendNewSession(t *testing.T) {
	lost := make(chan string, 1)
	f := newFake(t, func(p *peer) {
		switch p.n {
		case 1:
			p.manage("1")
			p.hear("three") // the message; presence and request came before
			p.Close()
		case 2:
			p.authenticate(bindFeature + smFeature)
			p.hear("<resume xmlns='urn:xmpp:sm:3' previd='1' h='0'/>")
			p.say("<failed xmlns='urn:xmpp:sm:3' h='1'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>")
			id := answerID(p.hear("</iq>"))
			p.say("<iq type='result' id='" + id + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
			p.hear("<enable xmlns='urn:xmpp:sm:3'")
			p.hear(">")
			p.say("<enabled xmlns='urn:xmpp:sm:3' id='2' resume='true'/>")
			lost <- p.hear("three</body></message>")
			p.say("<a xmlns='urn:xmpp:sm:3' h='2'/>")
		}
	})
	d := dial(t, f.config())
	one := d.send(chat("bob@localhost", "one"))
	two := d.send(chat("bob@localhost", "two"))
	presence, err := d.Subscribe(d.ctx, jid.MustParse("bob@localhost"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := d.Ping(d.ctx, jid.MustParse("bob@localhost/x"))
		asked <- err
	}()
	expectWritten := func() { // the request is on its way before the last message
		for !strings.Contains(f.heard(), "urn:xmpp:ping") {
			if d.ctx.Err() != nil {
				t.Fatal("the request was not sent")
			}
		}
	}
	expectWritten()
	three := d.send(chat("bob@localhost", "three"))
	again := <-lost
	if strings.Contains(again, "one") || !strings.Contains(again, "<message to='bob@localhost' id='"+two.ID()+"'") ||
		strings.Contains(again, "<presence") || strings.Contains(again, "urn:xmpp:ping") || strings.Count(again, "<message") != 2 {
		t.Errorf("sent again: %s", again)
	}
	for _, r := range []*client.Receipt{one, two, three} {
		d.acknowledged(r)
	}
	if state, err := presence.Wait(d.ctx); state != client.Lost || !errors.Is(err, client.ErrSessionLost) {
		t.Errorf("presence: %v, %v", state, err)
	}
	if err := <-asked; !errors.Is(err, client.ErrSessionLost) {
		t.Errorf("request: %v", err)
	}
}

// TestResumeLies: a resumed session whose server says nonsense is given up, and
// the messages are kept.
func TestResumeLies(t *testing.T) {
	for name, answer := range map[string]string{
		"another session":      "<resumed xmlns='urn:xmpp:sm:3' previd='other' h='0'/>",
		"more than was sent":   "<resumed xmlns='urn:xmpp:sm:3' previd='1' h='9'/>",
		"failed with nonsense": "<failed xmlns='urn:xmpp:sm:3' h='9'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(p *peer) {
				switch p.n {
				case 1:
					p.manage("1")
					p.hear("</message>")
					p.Close()
				case 2:
					p.authenticate(bindFeature + smFeature)
					p.hear("<resume")
					p.hear(">")
					p.say(answer)
					if strings.HasPrefix(answer, "<failed") {
						id := answerID(p.hear("</iq>"))
						p.say("<iq type='result' id='" + id + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
						p.hear("<enable")
						p.say("<enabled xmlns='urn:xmpp:sm:3' id='2' resume='true'/>")
						p.hear("</message>")
						p.say("<a xmlns='urn:xmpp:sm:3' h='1'/>")
					}
				default:
					p.authenticate(bindFeature + smFeature)
					heard := p.hear(">")
					if strings.Contains(heard, "<resume") && name == "more than was sent" {
						p.t.Error("the broken session was asked for again")
					}
					if strings.Contains(heard, "<resume") {
						p.say("<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>")
						heard = p.hear("<iq")
					}
					id := answerID(heard + p.hear("</iq>"))
					p.say("<iq type='result' id='" + id + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
					p.hear("<enable")
					p.say("<enabled xmlns='urn:xmpp:sm:3' id='3' resume='true'/>")
					p.hear("</message>")
					p.say("<a xmlns='urn:xmpp:sm:3' h='1'/>")
				}
			})
			d := dial(t, f.config())
			d.acknowledged(d.send(chat("bob@localhost", "kept")))
			n := 0
			for {
				ev, err := d.Next(d.ctx)
				if err != nil {
					t.Fatal(err)
				}
				if on, ok := ev.(*client.Connected); ok {
					if on.Resumed {
						t.Error("resumed")
					}
					if n++; n == 2 {
						return
					}
				}
			}
		})
	}
}

// TestConflict: a device whose place another took doesn't take it back.
func TestConflict(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.manage("1")
		p.say("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
	})
	d := dial(t, f.config())
	for {
		ev, err := d.Next(d.ctx)
		if err != nil {
			var ended *client.StreamEnded
			if !errors.As(err, &ended) || ended.Err.Condition != stanza.StreamConflict {
				t.Errorf("over: %v", err)
			}
			break
		}
		if off, ok := ev.(*client.Disconnected); ok && !off.Final {
			t.Errorf("disconnected: %+v", off)
		}
	}
	if n := f.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestPasswordChanged: a login that is refused is not tried for ever.
func TestPasswordChanged(t *testing.T) {
	f := newFake(t, func(p *peer) {
		if p.n == 1 {
			p.manage("1")
			p.Close()
			return
		}
		p.hear(">")
		p.say(header + plainSay)
		p.hear("</auth>")
		condition := "not-authorized"
		if p.n == 2 {
			condition = "temporary-auth-failure"
		}
		p.say(fmt.Sprintf("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><%s/></failure>", condition))
	})
	d := dial(t, f.config())
	var last *client.Disconnected
	for {
		ev, err := d.Next(d.ctx)
		if err != nil {
			break
		}
		if off, ok := ev.(*client.Disconnected); ok {
			last = off
		}
	}
	var refused *client.AuthError
	if last == nil || !last.Final || !errors.As(last.Err, &refused) || refused.Condition != sasl.NotAuthorized || f.conns.Load() != 3 {
		t.Errorf("%+v after %d connections", last, f.conns.Load())
	}
}

// TestToken: a token that the server no longer takes costs a message, not the
// login (XEP-0484 3.5).
func TestToken(t *testing.T) {
	w := newWorld(t, "alice")
	cfg := w.config("alice")
	store := &client.MemoryStore{}
	cfg.Store = store
	dial(t, cfg).Close(t.Context())
	st, err := store.Load(t.Context(), cfg.Account)
	if err != nil || st.Token == "" || st.Offer == nil || st.AgentID == "" {
		t.Fatalf("state: %v, %v", st, err)
	}
	for _, what := range []string{fmt.Sprint(st), fmt.Sprintf("%+v", st), fmt.Sprintf("%#v", st)} {
		if strings.Contains(what, st.Token) {
			t.Errorf("a secret is printed: %s", what)
		}
	}
	st.Token = "wrong" + st.Token
	store.Save(t.Context(), cfg.Account, st)
	if on := expect[*client.Connected](dial(t, cfg), nil); on.Mechanism != sasl.ScramSHA512Plus {
		t.Errorf("mechanism: %s", on.Mechanism)
	}
	st, _ = store.Load(t.Context(), cfg.Account)
	if strings.HasPrefix(st.Token, "wrong") || st.Token == "" {
		t.Error("the token was not replaced")
	}
	st.Offer.Version = "another" // XEP-0509 2.2: what is remembered is out of date
	store.Save(t.Context(), cfg.Account, st)
	if on := expect[*client.Connected](dial(t, cfg), nil); on.Pipelined || on.Mechanism != sasl.HTSHA256Exporter || on.RoundTrips != 2 {
		t.Errorf("out of date: %+v", on)
	}
	cfg.Password = ""
	if on := expect[*client.Connected](dial(t, cfg), nil); !on.Pipelined {
		t.Errorf("without the password: %+v", on)
	}
	st, _ = store.Load(t.Context(), cfg.Account)
	st.Token = ""
	store.Save(t.Context(), cfg.Account, st)
	if err := attempt(t, cfg); !errors.Is(err, client.ErrNoCredentials) {
		t.Errorf("with nothing: %v", err)
	}
}
