package interop

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	xmpp "carillon.im/client"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// TestLibrary runs our own client against carillon, Prosody and ejabberd: the same suite, whatever the server can.
func TestLibrary(t *testing.T) {
	t.Parallel()
	serve(t) // what all tests share, the carillon binary among it
	for _, kind := range []serverKind{carillon(), prosody(), ejabberd()} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			if what := kind.missing(); what != "" {
				lacking(t, what)
			}
			ca, id := newIdentity(t, domain)
			s := serveKind(t, kind, ca, id, false)
			for _, c := range []struct {
				name string
				run  func(*testing.T, *server)
			}{
				{"login", libraryLogin}, {"roster", libraryRoster}, {"chat", libraryChat}, {"archive", libraryArchive}, {"resume", libraryResume},
				{"engine", engineTalk}, {"locking", engineLocking},
				{"restart", libraryRestart}, // the last: it stops the server
			} {
				t.Run(c.name, func(t *testing.T) { c.run(t, s) })
			}
		})
	}
}

// own is our own client under test.
type own struct {
	*xmpp.Client
	t   *testing.T
	ctx context.Context
	on  *xmpp.Connected
}

func ownConfig(s *server, a account, addr string) xmpp.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.cert)
	return xmpp.Config{Account: jid.MustParse(a.bare), Password: a.password, RootCAs: roots,
		Addresses: []xmpp.Address{{Host: addr, TLS: addr != s.c2s}}, RetryMin: 10 * time.Millisecond, RetryMax: 500 * time.Millisecond}
}

func ownClient(t *testing.T, cfg xmpp.Config) *own {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience) // for all that it waits for
	c, err := xmpp.Dial(ctx, cfg)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close(ctx)
		cancel()
	})
	o := &own{Client: c, t: t, ctx: ctx}
	o.on = wait[*xmpp.Connected](o, "a session", nil)
	// Servers may take a message for somebody who is just coming as one for nobody: presence is there before the answer.
	if _, err := o.Ping(ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
	return o
}

// wait takes events until one of type E that match accepts.
func wait[E xmpp.Event](o *own, what string, match func(E) bool) E {
	o.t.Helper()
	for {
		ev, err := o.Next(o.ctx)
		if err != nil {
			o.t.Fatalf("waiting for %s: %v", what, err)
		}
		if e, ok := ev.(E); ok && (match == nil || match(e)) {
			return e
		}
	}
}

func (o *own) hear(from, body string) *stanza.Stanza {
	o.t.Helper()
	return wait(o, body, func(r *xmpp.Received) bool {
		return r.Stanza.From.Bare().String() == from && r.Stanza.Child(stanza.NSClient, "body").Text() == body
	}).Stanza
}

// say sends a message and waits until the server has it.
func (o *own) say(to jid.JID, body string) string {
	o.t.Helper()
	r, err := o.Send(o.ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, to, "<body>"+body+"</body>"))
	if err != nil {
		o.t.Fatal(err)
	}
	if state, err := r.Wait(o.ctx); err != nil || state != xmpp.Acknowledged {
		o.t.Fatalf("%q: %v, %v", body, state, err)
	}
	return r.ID()
}

// libraryLogin: STARTTLS and direct TLS, with the strongest mechanism that there is; a wrong password is one.
func libraryLogin(t *testing.T, s *server) {
	a := s.account(t, "alice")
	for _, addr := range []string{s.c2s, s.direct} {
		cfg := ownConfig(s, a, addr)
		cfg.Store = &xmpp.MemoryStore{}
		for range 2 { // the second with what the first has left
			o := ownClient(t, cfg)
			if !o.on.Management || !o.on.Resumable {
				t.Errorf("%s: %+v", addr, o.on)
			}
			t.Logf("%s: %s, SASL2 %v, %d round trips after TLS, profile %d", addr, o.on.Mechanism, o.on.Extensible, o.on.RoundTrips, o.on.Profile)
			if _, err := o.Ping(o.ctx, jid.JID{}); err != nil {
				t.Error(err)
			}
			o.Close(o.ctx)
		}
	}
	cfg := ownConfig(s, a, s.direct)
	cfg.Password += "x"
	if _, err := xmpp.Dial(t.Context(), cfg); err == nil {
		t.Error("logged in with a wrong password")
	}
}

// libraryRoster: a contact, its presence, and the roster of the next session by its version.
func libraryRoster(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	cfg := ownConfig(s, a, s.direct)
	cfg.Store = &xmpp.MemoryStore{}
	alice, bob := ownClient(t, cfg), ownClient(t, ownConfig(s, b, s.direct))
	wait[*xmpp.RosterChanged](alice, "the roster", nil)
	contact := jid.MustParse(b.bare)
	if err := alice.SetContact(alice.ctx, xep.RosterItem{JID: contact, Name: "Bob", Groups: []string{"friends"}}); err != nil {
		t.Fatal(err)
	}
	wait(alice, "the push", func(r *xmpp.RosterChanged) bool { return r.Item != nil && r.Item.Name == "Bob" })
	if _, err := alice.Subscribe(alice.ctx, contact); err != nil {
		t.Fatal(err)
	}
	wait(bob, "the request", func(r *xmpp.Received) bool { return r.Stanza.Type == stanza.TypeSubscribe })
	if _, err := bob.Approve(bob.ctx, alice.Account()); err != nil {
		t.Fatal(err)
	}
	wait(alice, "bob's presence", func(r *xmpp.Received) bool {
		return r.Stanza.Kind == stanza.Presence && r.Stanza.Type == "" && r.Stanza.From == bob.JID()
	})
	alice.Close(alice.ctx)
	again := ownClient(t, cfg)
	wait[*xmpp.RosterChanged](again, "the roster", nil)
	list := again.Roster()
	if len(list) != 1 || list[0].JID != contact || list[0].Name != "Bob" || list[0].Subscription != xep.SubscriptionTo {
		t.Errorf("roster: %+v", list)
	}
}

// libraryChat: both directions, and what the account's other device sees of it.
func libraryChat(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	cfg := ownConfig(s, a, s.direct)
	cfg.Resource = "desk"
	desk := ownClient(t, cfg)
	cfg.Resource = "phone"
	phone := ownClient(t, cfg)
	bob := ownClient(t, ownConfig(s, b, s.direct))
	id := desk.say(jid.MustParse(b.bare), "hello")
	got := bob.hear(a.bare, "hello")
	if got.ID != id {
		t.Errorf("id: %s", got.AppendTo(nil))
	}
	for { // a reflection, or a carbon
		ev, err := phone.Next(phone.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := ev.(*xmpp.Carbon); ok && c.Sent && c.Message.ID == id {
			break
		}
		if r, ok := ev.(*xmpp.Received); ok && r.Stanza.ID == id {
			break
		}
	}
	bob.say(jid.MustParse(a.bare), "hello yourself")
	desk.hear(b.bare, "hello yourself")
}

// libraryArchive pages forwards and backwards.
func libraryArchive(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	alice, bob := ownClient(t, ownConfig(s, a, s.direct)), ownClient(t, ownConfig(s, b, s.direct))
	for i := range 12 {
		alice.say(jid.MustParse(b.bare), fmt.Sprint("line ", i))
		bob.hear(a.bare, fmt.Sprint("line ", i))
	}
	for _, q := range []xmpp.ArchiveQuery{{PageSize: 5}, {PageSize: 5, Newest: true}, {PageSize: 5, With: jid.MustParse(a.bare)}} {
		var last xmpp.ArchivedMessage
		n := 0
		for m, err := range bob.Archive(bob.ctx, q) {
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			want := fmt.Sprint("line ", n)
			if q.Newest {
				want = fmt.Sprint("line ", 11-n)
			}
			if got := m.Message.Child(stanza.NSClient, "body").Text(); got != want || m.ID == last.ID || m.Stamp.IsZero() {
				t.Fatalf("%+v: message %d is %q, %+v", q, n, got, m)
			}
			last = m
			n++
		}
		if n != 12 {
			t.Errorf("%+v: %d messages", q, n)
		}
	}
}

// libraryResume cuts the connection while both directions lose what is under way.
func libraryResume(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	p := newCutter(t, s.direct)
	alice, bob := ownClient(t, ownConfig(s, a, p.addr())), ownClient(t, ownConfig(s, b, s.direct))
	alice.say(jid.MustParse(b.bare), "before")
	bob.hear(a.bare, "before")
	p.loseFrom(toServer)
	r, err := alice.Send(alice.ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse(b.bare), "<body>lost</body>"))
	if err != nil {
		t.Fatal(err)
	}
	for state := xmpp.Queued; state == xmpp.Queued; {
		state, _, _ = r.State()
	}
	p.cut()
	bob.say(jid.MustParse(a.bare), "meanwhile")
	if on := wait[*xmpp.Connected](alice, "the session", nil); !on.Resumed {
		t.Errorf("not resumed: %+v", on)
	}
	alice.hear(b.bare, "meanwhile")
	bob.hear(a.bare, "lost")
	if state, err := r.Wait(alice.ctx); state != xmpp.Acknowledged || err != nil {
		t.Errorf("delivery: %v, %v", state, err)
	}
	// Nothing comes twice: what follows is the next.
	alice.say(jid.MustParse(b.bare), "after")
	next := wait(bob, "what follows", func(r *xmpp.Received) bool {
		return r.Stanza.Kind == stanza.Message && r.Stanza.Type == stanza.TypeChat
	})
	if got := next.Stanza.Child(stanza.NSClient, "body").Text(); got != "after" {
		t.Errorf("%q came instead", got)
	}
}

// libraryRestart stops the server and starts it again: the client comes back by itself, resumed or not.
func libraryRestart(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	alice := ownClient(t, ownConfig(s, a, s.direct))
	s.stop()
	wait[*xmpp.Disconnected](alice, "the end", nil)
	r, err := alice.Send(alice.ctx, stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, jid.MustParse(b.bare), "<body>held back</body>"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	wait[*xmpp.Connected](alice, "a session", nil)
	if state, err := r.Wait(alice.ctx); state != xmpp.Acknowledged || err != nil {
		t.Errorf("delivery: %v, %v", state, err)
	}
	bob := ownClient(t, ownConfig(s, b, s.direct))
	for { // by the catch-up, or kept offline
		ev, err := bob.Next(bob.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*xmpp.Archived); ok && m.Message.ID == r.ID() {
			return
		}
		if m, ok := ev.(*xmpp.Received); ok && m.Stanza.ID == r.ID() {
			return
		}
	}
}
