package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
)

// settled waits until there are no more goroutines than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, were %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// blackhole is a network whose connections can stop delivering without saying so.
type blackhole struct {
	*world
	made, lost atomic.Int32 // connections, by their number
}

// swallow stops those that there are.
func (b *blackhole) swallow() { b.lost.Store(b.made.Load()) }

func (b *blackhole) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.world.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &swallowing{conn, b, b.made.Add(1)}, nil
}

type swallowing struct {
	net.Conn
	hole   *blackhole
	number int32
}

func (s *swallowing) Write(b []byte) (int, error) {
	if s.number <= s.hole.lost.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// pair is a connection with buffers, which net.Pipe has not: both ends may write
// before they read.
func pair() (a, b net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	b, err = l.Accept()
	return a, b, err
}

// fake is a server that says what a test wants: each connection runs script. It
// is a Dialer; connections are TLS from the first byte unless plain is set.
type fake struct {
	t      *testing.T
	plain  bool
	script func(*peer)
	wg     sync.WaitGroup
	conns  atomic.Int32

	mu  sync.Mutex
	all strings.Builder // of what was read
}

// heard is all that clients have said.
func (f *fake) heard() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all.String()
}

func (f *fake) note(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all.Write(b)
}

// peer is one connection of a fake server.
type peer struct {
	net.Conn
	t   *testing.T
	f   *fake
	n   int // which connection it is, from 1 on
	got strings.Builder
}

var errScript = errors.New("the script is over")

func newFake(t *testing.T, script func(*peer)) *fake {
	f := &fake{t: t, script: script}
	t.Cleanup(f.wg.Wait) // runs behind those of dial
	return f
}

func (f *fake) DialContext(context.Context, string, string) (net.Conn, error) {
	sh, err := common()
	if err != nil {
		return nil, err
	}
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	p := &peer{Conn: b, t: f.t, f: f, n: int(f.conns.Add(1))}
	f.wg.Go(func() {
		defer p.Close()
		defer func() {
			if v := recover(); v != nil && v != errScript {
				panic(v)
			}
		}()
		if !f.plain {
			p.secure(sh.cert)
		}
		f.script(p)
		p.drain()
	})
	return a, nil
}

func (p *peer) secure(cert tls.Certificate) {
	conn := tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{cert}})
	if conn.Handshake() != nil {
		panic(errScript)
	}
	p.Conn = conn
}

// say writes; when the client is gone the script is over.
func (p *peer) say(s string) {
	if _, err := p.Write([]byte(s)); err != nil {
		panic(errScript)
	}
}

// hear reads until want has come, and returns everything up to it.
func (p *peer) hear(want string) string {
	buf := make([]byte, 4096)
	for {
		all := p.got.String()
		if i := strings.Index(all, want); i >= 0 {
			p.got.Reset()
			p.got.WriteString(all[i+len(want):])
			return all[:i+len(want)]
		}
		if strings.HasSuffix(all, "</stream:stream>") {
			p.Write([]byte("</stream:stream>"))
		}
		n, err := p.Read(buf)
		if err != nil {
			panic(errScript)
		}
		p.got.Write(buf[:n])
		p.f.note(buf[:n])
	}
}

// drain reads until the client is gone, and ends the stream when it does.
func (p *peer) drain() {
	buf := make([]byte, 4096)
	for {
		if strings.HasSuffix(p.got.String(), "</stream:stream>") {
			p.Write([]byte("</stream:stream>"))
		}
		n, err := p.Read(buf)
		if err != nil {
			return
		}
		p.got.Write(buf[:n])
		p.f.note(buf[:n])
	}
}

const (
	header   = "<?xml version='1.0'?><stream:stream from='localhost' id='x' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
	plainSay = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
	plain2   = "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline>" +
		"<bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:sm:3'/><feature var='urn:xmpp:tmp:xmpp-2:0'/></inline></bind>" +
		"<sm xmlns='urn:xmpp:sm:3'/></inline></authentication></stream:features>"
)

// authenticate lets the client in with PLAIN, up to the new stream's features.
func (p *peer) authenticate(features string) {
	p.hear("<stream:stream")
	p.hear(">")
	p.say(header + plainSay)
	p.hear("</auth>")
	p.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
	p.hear("<stream:stream")
	p.hear(">")
	p.say(header + "<stream:features>" + features + "</stream:features>")
}

const (
	bindFeature = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
	smFeature   = "<sm xmlns='urn:xmpp:sm:3'/>"
	full        = "alice@localhost/desk"
)

// answerID is the id in the last IQ of what was heard.
func answerID(heard string) string {
	i := strings.LastIndex(heard, "<iq")
	_, rest, _ := strings.Cut(heard[i:], " id='")
	id, _, _ := strings.Cut(rest, "'")
	return id
}

// bind binds a resource; classic clients ask for nothing else then.
func (p *peer) bind(features string) {
	p.authenticate(features)
	id := answerID(p.hear("</iq>"))
	p.say("<iq type='result' id='" + id + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + full + "</jid></bind></iq>")
}

// manage binds with stream management.
func (p *peer) manage(id string) {
	p.bind(bindFeature + smFeature)
	p.hear("<enable xmlns='urn:xmpp:sm:3'")
	p.hear(">")
	p.say("<enabled xmlns='urn:xmpp:sm:3' id='" + id + "' resume='true' max='600'/>")
}

// config is that of a client that asks for as little as it can.
func (f *fake) config() client.Config {
	sh, err := common()
	if err != nil {
		f.t.Fatal(err)
	}
	return client.Config{
		Account: jid.MustParse("alice@localhost"), Password: "secret", RootCAs: sh.roots, Dialer: f, AllowPlain: true,
		Addresses: []client.Address{{Host: "localhost:5223", TLS: !f.plain}}, Quiet: true, Profile: client.ProfileClassic,
		RetryMin: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond, ConnectTimeout: patience,
	}
}
