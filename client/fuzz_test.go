package client

import (
	"bytes"
	"io"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// memory is a connection whose server has said all that it will say.
type memory struct{ *bytes.Reader }

func (memory) Write(b []byte) (int, error) { return len(b), nil }
func (memory) Close() error                { return nil }

// FuzzSession: whatever a server says in a session, it ends with an error, in
// whatever pieces it comes, and counts that are kept make sense.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"<message from='bob@localhost/x' id='1'><body>hi</body></message><r xmlns='urn:xmpp:sm:3'/>",
		"<a xmlns='urn:xmpp:sm:3' h='1'/><a xmlns='urn:xmpp:sm:3' h='2'/>",
		"<resumed xmlns='urn:xmpp:sm:3' previd='1' h='0'/>",
		"<iq type='result' id='session' from='alice@localhost'><query xmlns='jabber:iq:roster' ver='1'><item jid='bob@localhost'/></query></iq>",
		"<iq type='set' id='p'><query xmlns='jabber:iq:roster'><item jid='bob@localhost' subscription='remove'/></query></iq>",
		"<iq type='set' id='p'><block xmlns='urn:xmpp:blocking'><item jid='bob@localhost'/></block></iq>",
		"<iq type='get' id='p' from='bob@localhost/x'><ping xmlns='urn:xmpp:ping'/></iq>",
		"<message from='alice@localhost'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></sent></message>",
		"<message><result xmlns='urn:xmpp:mam:2' queryid='session' id='1'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded></result></message>",
		"<message><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='' last='' count='0'/></message>",
		"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>x</see-other-host></stream:error></stream:stream>",
		"<enabled xmlns='urn:xmpp:sm:3'/><failed xmlns='urn:xmpp:sm:3'/>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, said string) {
		c, err := newClient(t.Context(), Config{Account: jid.MustParse("alice@localhost"), Password: "x", MaxEvents: 1 << 20, MaxEventBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		conn := memory{bytes.NewReader([]byte(said))}
		l := newLink(&dialed{conn: conn, base: conn, secured: true}, c.stream, c.cfg.Clock.Now)
		for in := []byte("<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"); len(in) > 0; {
			_, n := l.mach.Next(in)
			in = in[n:]
		}
		g := &login{c: c, link: l, full: jid.MustParse("alice@localhost/x"), sm: &xep.SMEnabled{ID: "1", Resume: true}, result: &Connected{}}
		if err := c.begin(l, g); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(t.Context(), stanza.Build(stanza.Message, "", "", jid.JID{}, jid.MustParse("bob@localhost"), "")); err != nil {
			t.Fatal(err)
		}
		c.batch(l, nil, nil)
		if err := c.read(l, g); err == nil {
			t.Fatal("no error")
		}
		for {
			ev, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(c.events) == 0 {
				c.Handled()
				break
			}
			if m, ok := ev.(*Carbon); ok && m.Message == nil {
				t.Error("a carbon of nothing")
			}
		}
		if c.in.Pending() != 0 || uint64(c.in.H()) != c.in.Received() {
			t.Errorf("%d of %d stanzas handled", c.in.H(), c.in.Received())
		}
		c.finish(io.EOF)
	})
}

// FuzzFrame: a frame becomes one element of the stream, or an error.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from=\"a'b\" version='1.0'/>",
		"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
		"<message xmlns='jabber:client'><body>x</body></message>",
		"<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		w := newFramed(nil, (&Config{}).Limits)
		defer w.cancel()
		text, err := w.translate(frame)
		if err != nil {
			return
		}
		// What it became goes through a stream's scanner as one token.
		root := []byte("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")
		if !bytes.HasPrefix(text, []byte("<?xml")) {
			if _, _, err := w.scan.Next(root); err != nil {
				t.Fatal(err)
			}
		}
		_, n, err := w.scan.Next(text)
		if err != nil || n != len(text) {
			t.Errorf("%q became %q: %v", frame, text, err)
		}
	})
}
