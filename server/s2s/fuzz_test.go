package s2s

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
)

// fuzzed is a server that reaches nobody else, for one stream that came or was made
// under TLS. It holds what comes in to who has proved it, for whom.
func fuzzed(t testing.TB, ca *authority, to ...string) *Server {
	t.Helper()
	l := DefaultLimits()
	l.Linger, l.EarlyTime = 0, 5*time.Second
	s, err := New(Config{
		Domains: []string{"b.example", "b2.example"}, Policy: Certificate, Roots: ca.pool(), Resolver: lookup.New("127.0.0.1:1"), Secret: []byte(testSecret), Limits: l, Log: slog.New(slog.DiscardHandler),
		Receive: func(_ context.Context, st *stanza.Stanza) error {
			if st.From.Domain() != "a.example" || !slices.Contains(to, st.To.Domain()) {
				t.Errorf("from %s to %s: nobody proved that", st.From, st.To)
			}
			return nil
		},
		Settle: func(context.Context) error { return nil }, Forget: func([]uint64) {},
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.cancel() // nobody is asked
	return s
}

// script is a connection whose other side says something in two pieces, hears
// everything, and goes.
type script struct {
	data []byte
	cut  int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:max(1, min(s.cut, len(s.data)))])
	s.data, s.cut = s.data[n:], len(s.data)
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// over ends what is left of it.
func (s *Server) over(t *testing.T) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s.Metrics.Panics.Load() != 0 {
		t.Error("a panic")
	}
}

// FuzzIncoming is the stream of a peer whose certificate proves that it is a.example.
func FuzzIncoming(f *testing.F) {
	ca := newAuthority(f)
	cert := ca.sign(f, nil, "a.example")
	open := streamHeader("a.example", "b.example")
	auth := open + "<bidi xmlns='urn:xmpp:bidi'/><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>" + open
	for _, seed := range []string{
		auth + "<message from='u@a.example/r' to='v@b.example' type='chat'><body>x</body></message></stream:stream>",
		auth + "<enable xmlns='urn:xmpp:sm:3' resume='true'/><iq type='get' id='i' from='a.example' to='b.example'/><r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='1'/>",
		auth + "<resume xmlns='urn:xmpp:sm:3' previd='x' h='4294967295'/><message from='u@a.example' to='v@b2.example'/>",
		auth + "<db:result from='a.example' to='b2.example'>k</db:result><db:result from='c.example' to='b.example'>k</db:result><db:result from='b.example' to='b2.example'>k</db:result>",
		open + "<db:result from='a.example' to='b.example'>k</db:result><presence from='u@a.example' to='v@b.example'/>",
		open + "<db:verify from='c.example' to='b.example' id='s'>k</db:verify><db:verify from='c.example' to='b.example' type='valid'/>",
		open + "<bidi xmlns='urn:xmpp:bidi'><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>-1</max-bytes></limits></bidi><stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		auth + auth, "<?xml version='1.0'?><stream:stream", "<!DOCTYPE x>", "\x00",
	} {
		f.Add([]byte(seed), uint16(len(seed)/2))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		s := fuzzed(t, ca, "b.example")
		c := newConn(s, &script{data, int(cut)})
		c.secure, c.chain, c.proof = true, []*x509.Certificate{cert.Leaf}, unchecked
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		c.serve(false)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.over(t)
	})
}

// FuzzOutgoing is what the server that we connect to as b.example says, in front of
// the stream and on it.
func FuzzOutgoing(f *testing.F) {
	ca := newAuthority(f)
	cert := ca.sign(f, nil, "a.example")
	open := "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' id='x' from='a.example' version='1.0'>"
	external := open + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms><bidi xmlns='urn:xmpp:features:bidi'/></stream:features>" +
		"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + open + "<stream:features><sm xmlns='urn:xmpp:sm:3'/><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>100</max-bytes></limits></stream:features>"
	shared := strings.Replace(external, "<sm ", "<dialback xmlns='urn:xmpp:features:dialback'/><sm ", 1)
	const further = "<db:result from='a.example' to='b2.example' type='"
	dialback := open + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features><db:result from='a.example' to='b.example' type='"
	for _, seed := range []string{
		external + "<enabled xmlns='urn:xmpp:sm:3' id='y' resume='true'/><a xmlns='urn:xmpp:sm:3' h='1'/><r xmlns='urn:xmpp:sm:3'/><message from='u@a.example' to='v@b.example'/></stream:stream>",
		external + "<enabled xmlns='urn:xmpp:sm:3'/><message from='u@c.example' to='v@b.example'/>",
		shared + further + "valid'/><enabled xmlns='urn:xmpp:sm:3' id='y' resume='true'/><message from='u@a.example' to='v@b2.example'/><a xmlns='urn:xmpp:sm:3' h='2'/>",
		shared + further + "error'/><enabled xmlns='urn:xmpp:sm:3'/>" + further + "valid'/><message from='u@a.example' to='v@b2.example'/>",
		external + "<failed xmlns='urn:xmpp:sm:3' h='9'/><a xmlns='urn:xmpp:sm:3' h='9'/>",
		dialback + "valid'/><message from='u@a.example' to='v@b.example'/>", dialback + "error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>",
		dialback + "invalid'/>", open + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", open + "</stream:stream>", "HTTP/1.1 400\r\n",
	} {
		f.Add([]byte(seed), uint16(len(seed)/2))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		s := fuzzed(t, ca, "b.example", "b2.example")
		c := newConn(s, &script{data, int(cut)})
		c.outgoing, c.local, c.remote, c.secure, c.chain = true, "b.example", "a.example", true, []*x509.Certificate{cert.Leaf}
		p, guest := pair{"b.example", "a.example"}, &load{pair: pair{"b2.example", "a.example"}}
		w := s.newWay(p)
		w.connecting, w.guests = true, map[pair]*load{guest.pair: guest}
		w.queue.push(item{data: []byte("<message from='v@b.example' to='u@a.example'/>"), id: 1, load: &w.own})
		w.queue.push(item{data: []byte("<message from='v@b2.example' to='u@a.example'/>"), id: 2, load: guest})
		s.ways[p], s.ways[guest.pair] = w, w
		if c.negotiate(s.ctx, lookup.Target{Host: "host.example"}, w) == nil {
			s.carry(c, w, func() {})
		}
		w.stop()
		s.over(t)
	})
}
