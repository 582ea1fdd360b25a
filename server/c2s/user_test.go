package c2s

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// user is a client.
type user struct {
	t    testing.TB
	raw  net.Conn
	conn net.Conn
	mach *stream.Client
	in   []byte
	buf  [4096]byte
	mech string
	cb   []sasl.ChannelBinding
	full jid.JID
	ids  int

	offers  sasl.Advertised
	offered stream.Offered
}

// idleClients is set to what runIdleClients is to do in a process of
// BenchmarkIdleSession, which exists on Linux.
const idleClients = "C2S_IDLE_CLIENTS"

func newUser(t testing.TB, conn net.Conn) *user {
	return &user{t: t, raw: conn, conn: conn, mach: stream.NewClient(&stream.ClientConfig{Domain: jid.MustParse(domain)})}
}

func (u *user) write(b []byte) {
	u.t.Helper()
	if _, err := u.conn.Write(b); err != nil {
		u.t.Fatalf("writing %q: %v", b, err)
	}
}

func (u *user) send(s string) { u.t.Helper(); u.write([]byte(s)) }

// next returns the next event that isn't NeedMore.
func (u *user) next() stream.Event {
	u.t.Helper()
	ev, err := u.tryNext()
	if err != nil {
		u.t.Fatalf("reading: %v", err)
	}
	return ev
}

func (u *user) tryNext() (stream.Event, error) {
	for {
		ev, n := u.mach.Next(u.in)
		u.in = u.in[n:]
		if ev.Kind != stream.NeedMore {
			return ev, nil
		}
		n, err := u.conn.Read(u.buf[:])
		if n == 0 && err != nil {
			return ev, err
		}
		u.in = u.buf[:n]
	}
}

func (u *user) want(kind stream.Kind) stream.Event {
	u.t.Helper()
	ev := u.next()
	if ev.Kind != kind {
		u.t.Fatalf("event %d (%v %v %q), want %d", ev.Kind, ev.Err, ev.StanzaErr, ev.Name, kind)
	}
	return ev
}

// gone reads until the connection ends and returns the stream error, if there
// was one.
func (u *user) gone() *stanza.StreamError {
	u.t.Helper()
	var found *stanza.StreamError
	for {
		ev, err := u.tryNext()
		if err != nil {
			return found
		}
		if ev.Kind == stream.PeerError {
			found = ev.Err
			// Behind the error comes only the end.
			rest, _ := io.ReadAll(u.conn)
			if got := string(u.in) + string(rest); got != "</stream:stream>" {
				u.t.Errorf("behind the stream error: %q", got)
			}
			return found
		}
	}
}

// open opens a stream and returns the features.
func (u *user) open() xmltree.Element {
	u.t.Helper()
	u.write(u.mach.Open(nil))
	u.want(stream.Opened)
	return u.want(stream.Features).Element
}

var clientTLS = &tls.Config{InsecureSkipVerify: true, ServerName: domain, CurvePreferences: []tls.CurveID{tls.X25519}}

func (u *user) secure(cfg *tls.Config) error {
	t := tls.Client(u.raw, cfg)
	if err := t.Handshake(); err != nil {
		return err
	}
	u.conn = t
	u.mach.Secured()
	cs := t.ConnectionState()
	b, err := sasl.ExporterBinding(&cs)
	if err != nil {
		u.t.Error(err)
	}
	u.cb = []sasl.ChannelBinding{b}
	return nil
}

func (u *user) starttls() {
	u.t.Helper()
	u.open()
	u.write(u.mach.StartTLS(nil))
	u.want(stream.StartTLS)
	if err := u.secure(clientTLS); err != nil {
		u.t.Fatal(err)
	}
}

// readOffers notes mechanisms and bindings.
func (u *user) readOffers(features xmltree.Element) {
	u.offers = sasl.Advertised{}
	for m := range features.Child(stream.NSSASL, "mechanisms").Children() {
		u.offers.Mechanisms = append(u.offers.Mechanisms, m.Text())
	}
	for b := range features.Child(stream.NSSASLCB, "sasl-channel-binding").Children() {
		u.offers.Bindings = append(u.offers.Bindings, b.Attr("type"))
	}
}

// auth runs one exchange; the last event is returned.
func (u *user) auth(name, password string) stream.Event {
	u.t.Helper()
	cfg := &sasl.ClientConfig{Username: name, Password: password, Bindings: u.cb, Advertised: u.offers, Rand: rand.Reader}
	mech := u.mech
	if mech == "" {
		var err error
		if mech, err = cfg.Choose(); err != nil {
			u.t.Fatal(err)
		}
	}
	x, err := sasl.NewClient(mech, cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	first, _, err := x.Next(nil)
	if err != nil {
		u.t.Fatal(err)
	}
	u.write(u.mach.Auth(nil, mech, first))
	for {
		ev := u.next()
		switch ev.Kind {
		case stream.AuthResponse:
			out, _, err := x.Next(ev.Data)
			if err != nil {
				u.t.Fatal(err)
			}
			u.write(u.mach.Respond(nil, out))
		case stream.AuthSuccess:
			if _, done, err := x.Next(ev.Data); err != nil || !done {
				u.t.Fatalf("the server has not proved itself: %v", err)
			}
			return ev
		default:
			return ev
		}
	}
}

// authenticated goes as far as the features behind authentication.
func (u *user) authenticated(name string) xmltree.Element {
	u.t.Helper()
	u.readOffers(u.open())
	if ev := u.auth(name, "rabbit"); ev.Kind != stream.AuthSuccess {
		u.t.Fatalf("not let in: %s %s", ev.Name, ev.Text)
	}
	return u.open()
}

func (u *user) bind(resource string) {
	u.t.Helper()
	u.write(u.mach.Bind(nil, "bind", resource))
	u.full = u.want(stream.Bind).JID
}

// login makes a client with a session, over a pipe and STARTTLS.
func (w *world) login(t testing.TB, name, resource string) *user {
	t.Helper()
	u := newUser(t, w.pipe(false))
	u.starttls()
	u.authenticated(name)
	u.bind(resource)
	return u
}

// ping proves that everything sent before was handled, and fails if anything
// else comes first.
func (u *user) ping() {
	u.t.Helper()
	u.ids++
	id := "p" + strconv.Itoa(u.ids)
	u.send("<iq type='get' id='" + id + "'><ping xmlns='urn:xmpp:ping'/></iq>")
	if ev := u.want(stream.Stanza); ev.Stanza.ID != id || ev.Stanza.Type != stanza.TypeResult {
		u.t.Fatalf("before the pong: %s", ev.Stanza.AppendTo(nil))
	}
}

func (u *user) close() {
	u.t.Helper()
	u.write(u.mach.End(nil, nil))
	if err := u.gone(); err != nil {
		u.t.Errorf("closing: %v", err)
	}
	u.conn.Close()
}

// runIdleClients is the other process of BenchmarkIdleSession.
func runIdleClients(arg string) {
	var addr string
	var n int
	fmt.Sscan(arg, &addr, &n)
	t := &testing.B{}
	var wg sync.WaitGroup
	users := make([]*user, n)
	for k := range 8 {
		wg.Go(func() {
			for i := k; i < n; i += 8 {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					panic(err)
				}
				u := newUser(t, conn)
				u.mech = "SCRAM-SHA-256-PLUS"
				u.starttls()
				u.authenticated("alice")
				u.bind("r" + strconv.Itoa(i))
				u.ping()
				users[i] = u
			}
		})
	}
	wg.Wait()
	time.Sleep(restAfter + 4*time.Second) // idle is who has been sent to rest
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	for _, u := range users {
		u.conn.Close()
	}
}
