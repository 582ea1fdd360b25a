package c2s

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// in runs a test with its world inside a bubble, so that time costs nothing.
func in(t *testing.T, change func(*Config), test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.end(t)
		test(t, w)
	})
}

// offered makes a client that has seen the mechanisms.
func (w *world) offered(t testing.TB) *user {
	t.Helper()
	u := newUser(t, w.pipe(false))
	u.starttls()
	u.readOffers(u.open())
	return u
}

func TestMechanisms(t *testing.T) {
	for _, plain := range []bool{false, true} {
		in(t, func(c *Config) { c.AllowPlain = plain }, func(t *testing.T, w *world) {
			u := w.offered(t)
			want := "SCRAM-SHA-512-PLUS SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1"
			if plain {
				want += " PLAIN"
			}
			if got := strings.Join(u.offers.Mechanisms, " "); got != want {
				t.Errorf("mechanisms %s", got)
			}
			if got := strings.Join(u.offers.Bindings, " "); got != "tls-exporter tls-server-end-point" {
				t.Errorf("bindings %s", got)
			}
			for _, m := range u.offers.Mechanisms {
				u := w.offered(t)
				u.mech = m
				if m == "PLAIN" {
					u.write(u.mach.Auth(nil, m, []byte("\x00alice\x00rabbit")))
					u.want(stream.AuthSuccess)
				} else if ev := u.auth("alice", "rabbit"); ev.Kind != stream.AuthSuccess {
					t.Errorf("%s: %s %s", m, ev.Name, ev.Text)
				}
				u.conn.Close()
			}
			u.conn.Close()
		})
	}
}

func TestServerEndPoint(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.offered(t)
		b, err := sasl.EndPointBinding(testCertificate().Leaf)
		if err != nil {
			t.Fatal(err)
		}
		u.cb = []sasl.ChannelBinding{b}
		if ev := u.auth("alice", "rabbit"); ev.Kind != stream.AuthSuccess {
			t.Error(ev.Name, ev.Text)
		}
		u.conn.Close()
		u = w.offered(t)
		b.Data = append([]byte{}, b.Data...)
		b.Data[0] ^= 1
		u.cb = []sasl.ChannelBinding{b}
		if ev := u.auth("alice", "rabbit"); ev.Kind != stream.AuthFailure || ev.Name != "not-authorized" {
			t.Error("with another certificate's binding:", ev.Kind, ev.Name)
		}
		u.conn.Close()
	})
}

func TestRetry(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.offered(t)
		if ev := u.auth("alice", "hatter"); ev.Kind != stream.AuthFailure || ev.Name != "not-authorized" {
			t.Fatal(ev.Kind, ev.Name)
		}
		u.write(u.mach.Auth(nil, "SCRAM-SHA-256", []byte("n,,n=alice,r=abc")))
		u.want(stream.AuthResponse)
		u.write(u.mach.Abort(nil))
		if ev := u.want(stream.AuthFailure); ev.Name != "aborted" {
			t.Error(ev.Name)
		}
		if ev := u.auth("alice", "rabbit"); ev.Kind != stream.AuthSuccess {
			t.Fatal(ev.Kind, ev.Name)
		}
		u.open()
		u.bind("x")
		u.ping()
		u.close()
	})
}

// TestTLSUnique: slixmpp knows no channel binding but tls-unique, also under TLS
// 1.3, and goes on without one, saying that it saw none offered (the flag y).
func TestTLSUnique(t *testing.T) {
	for _, strict := range []bool{false, true} {
		in(t, func(c *Config) { c.StrictBinding = strict }, func(t *testing.T, w *world) {
			u := w.offered(t)
			y := u.mach.Auth(nil, "SCRAM-SHA-256", []byte("y,,n=alice,r=abc"))
			u.write(y)
			if ev := u.want(stream.AuthFailure); ev.Name != "malformed-request" {
				t.Error("y out of the blue:", ev.Name)
			}
			// Neither a type that nobody knows nor a wrong password makes it believable.
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256-PLUS", []byte("p=tls-other,,n=alice,r=abc")))
			u.want(stream.AuthFailure)
			u.write(y)
			if ev := u.want(stream.AuthFailure); ev.Name != "malformed-request" {
				t.Error("y behind another binding:", ev.Name)
			}
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256-PLUS", []byte("p=tls-unique,,n=alice,r=abc")))
			u.want(stream.AuthFailure)
			u.write(y)
			want := stream.AuthResponse
			if strict {
				want = stream.AuthFailure
			}
			u.want(want)
			u.conn.Close()
		})
	}
}

func TestTooManyAttempts(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.offered(t)
		for range 5 {
			if ev := u.auth("alice", "hatter"); ev.Kind != stream.AuthFailure {
				t.Fatal(ev.Kind)
			}
		}
		u.write(u.mach.Auth(nil, "SCRAM-SHA-256", []byte("n,,n=alice,r=abc")))
		if err := u.gone(); err == nil || err.Condition != stanza.StreamPolicyViolation {
			t.Error(err)
		}
		u.conn.Close()
	})
}

func TestAuthzid(t *testing.T) {
	for _, tt := range []struct{ authzid, want string }{
		{"alice@" + domain, ""}, {"Alice@WONDERLAND.lit", ""},
		{"queen@" + domain, "invalid-authzid"}, {"alice@" + domain + "/x", "invalid-authzid"}, {"@", "invalid-authzid"},
	} {
		in(t, func(c *Config) { c.AllowPlain = true }, func(t *testing.T, w *world) {
			u := w.offered(t)
			u.write(u.mach.Auth(nil, "PLAIN", []byte(tt.authzid+"\x00alice\x00rabbit")))
			if ev := u.next(); ev.Name != tt.want {
				t.Errorf("%s: %q", tt.authzid, ev.Name)
			}
			u.conn.Close()
		})
	}
}

// The name is prepared as a localpart is: Alice is alice.
func TestPreparedName(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.offered(t)
		if ev := u.auth("Alice", "rabbit"); ev.Kind != stream.AuthSuccess {
			t.Fatal(ev.Name)
		}
		u.open()
		u.bind("x")
		if u.full.Bare().String() != "alice@"+domain {
			t.Error(u.full)
		}
		u.conn.Close()
	})
}

// S-8: an unknown user and a wrong password look the same.
func TestUnknownUser(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		shape := func(name string) string {
			u := w.offered(t)
			defer u.conn.Close()
			var said []string
			x, err := sasl.NewClient("SCRAM-SHA-256", &sasl.ClientConfig{Username: name, Password: "hatter", Rand: rand.Reader})
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := x.Next(nil)
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256", first))
			challenge := u.want(stream.AuthResponse).Data
			said = append(said, regexp.MustCompile(`[A-Za-z0-9+/=]{20,}`).ReplaceAllStringFunc(string(challenge), func(s string) string { return strings.Repeat("x", len(s)) }))
			final, _, err := x.Next(challenge)
			if err != nil {
				t.Fatal(err)
			}
			u.write(u.mach.Respond(nil, final))
			ev := u.want(stream.AuthFailure)
			return strings.Join(append(said, ev.Name, ev.Text), "\n")
		}
		known, unknown := shape("alice"), shape("dinah")
		// The client's nonce is random in characters, not in length.
		if len(known) != len(unknown) || known[strings.IndexByte(known, '\n'):] != unknown[strings.IndexByte(unknown, '\n'):] {
			t.Errorf("known:\n%s\nunknown:\n%s", known, unknown)
		}
		salt := func() string {
			u := w.offered(t)
			defer u.conn.Close()
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256", []byte("n,,n=dinah,r=abc")))
			_, s, _ := strings.Cut(string(u.want(stream.AuthResponse).Data), ",s=")
			return s[:24]
		}
		if a, b := salt(), salt(); a != b {
			t.Errorf("an unknown user's salt changes: %s, %s", a, b)
		}
	})
}

func TestTLSVersions(t *testing.T) {
	for _, tt := range []struct {
		version uint16
		ok      bool
	}{{tls.VersionTLS10, false}, {tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		in(t, nil, func(t *testing.T, w *world) {
			u := newUser(t, w.pipe(true))
			cfg := clientTLS.Clone()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tt.version
			if err := u.secure(cfg); (err == nil) != tt.ok {
				t.Errorf("%s: %v", tls.VersionName(tt.version), err)
			} else if tt.ok {
				u.authenticated("alice")
			}
			u.conn.Close()
		})
	}
}

// XEP-0368, RFC 7301 3.2
func TestALPN(t *testing.T) {
	for _, tt := range []struct {
		direct bool
		protos []string
		ok     bool
		got    string
	}{
		{true, nil, true, ""},
		{true, []string{"xmpp-client"}, true, "xmpp-client"},
		{true, []string{"h2", "xmpp-client"}, true, "xmpp-client"},
		{true, []string{"xmpp-server"}, false, ""},
		{true, []string{"http/1.1"}, false, ""},
		{false, []string{"xmpp-client"}, true, ""},
	} {
		in(t, nil, func(t *testing.T, w *world) {
			u := newUser(t, w.pipe(tt.direct))
			cfg := clientTLS.Clone()
			cfg.NextProtos = tt.protos
			if !tt.direct {
				u.open()
				u.write(u.mach.StartTLS(nil))
				u.want(stream.StartTLS)
			}
			err := u.secure(cfg)
			if (err == nil) != tt.ok {
				t.Errorf("%v: %v", tt.protos, err)
			}
			if c, ok := u.conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol != tt.got {
				t.Errorf("%v: negotiated %q", tt.protos, c.ConnectionState().NegotiatedProtocol)
			}
			u.conn.Close()
		})
	}
}

// RFC 6120 5.4.3.1 rule 4: without SNI the stream header names the domain.
func TestCertificateChoice(t *testing.T) {
	var asked []string
	in(t, func(c *Config) {
		c.Certificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			asked = append(asked, h.ServerName)
			cert := *testCertificate()
			cert.Leaf = nil
			return &cert, nil
		}
	}, func(t *testing.T, w *world) {
		for _, name := range []string{"", "sni.lit"} {
			u := newUser(t, w.pipe(false))
			u.open()
			u.write(u.mach.StartTLS(nil))
			u.want(stream.StartTLS)
			if err := u.secure(&tls.Config{InsecureSkipVerify: true, ServerName: name}); err != nil {
				t.Fatal(err)
			}
			u.readOffers(u.open())
			if len(u.offers.Bindings) != 2 {
				t.Error(u.offers.Bindings)
			}
			u.conn.Close()
		}
	})
	if strings.Join(asked, " ") != domain+" sni.lit" {
		t.Error(asked)
	}
}

func TestStartTLSInjection(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := newUser(t, w.pipe(false))
		u.open()
		u.write(append(u.mach.StartTLS(nil), "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHJhYmJpdA==</auth>"...))
		if ev := u.want(stream.Failed); ev.Err.Text != "the server refuses TLS" {
			t.Error(ev.Err)
		}
		u.conn.Close()

		// Later than <proceed/> it is a broken handshake.
		u = newUser(t, w.pipe(false))
		u.open()
		u.write(u.mach.StartTLS(nil))
		u.want(stream.StartTLS)
		u.send("<auth/>")
		if n, err := u.conn.Read(u.buf[:]); err == nil && u.buf[0] != 21 { // an alert
			t.Errorf("%q", u.buf[:n])
		}
		u.conn.Close()
		synctest.Wait()
		if n := w.Metrics.HandshakeErrors.Load(); n != 1 {
			t.Error(n, "handshake errors")
		}
	})
}

// Failed logins cost an address and an account time, and whether the account
// exists makes no difference.
func TestFailedLoginRates(t *testing.T) {
	attempt := func(t *testing.T, w *world, ip, name, password string) string {
		t.Helper()
		u := newUser(t, w.from(ip))
		u.starttls()
		u.readOffers(u.open())
		ev := u.auth(name, password)
		u.conn.Close()
		if ev.Kind == stream.AuthSuccess {
			return ""
		}
		return ev.Name
	}
	want := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	in(t, func(c *Config) { c.Limits.AddressFailures = Rate{Burst: 3, Every: time.Minute} }, func(t *testing.T, w *world) {
		for range 3 {
			want(t, attempt(t, w, "192.0.2.1", "alice", "hatter"), "not-authorized")
		}
		want(t, attempt(t, w, "192.0.2.1", "queen", "rabbit"), "temporary-auth-failure")
		want(t, attempt(t, w, "192.0.2.2", "queen", "rabbit"), "")
		time.Sleep(61 * time.Second)
		want(t, attempt(t, w, "192.0.2.1", "queen", "rabbit"), "")
		if w.Metrics.Throttled.Load() != 1 {
			t.Error(w.Metrics.Throttled.Load(), "throttled")
		}
	})
	for _, name := range []string{"alice", "dinah"} {
		in(t, func(c *Config) { c.Limits.AccountFailures = Rate{Burst: 2, Every: time.Minute} }, func(t *testing.T, w *world) {
			if name == "alice" {
				want(t, attempt(t, w, "192.0.2.9", name, "rabbit"), "")
			}
			want(t, attempt(t, w, "192.0.2.1", name, "hatter"), "not-authorized")
			want(t, attempt(t, w, "192.0.2.2", name, "hatter"), "not-authorized")
			want(t, attempt(t, w, "192.0.2.3", name, "rabbit"), "temporary-auth-failure")
			if name == "alice" {
				// Where alice has been before she gets in: nobody can lock her out.
				want(t, attempt(t, w, "192.0.2.9", name, "rabbit"), "")
			}
			time.Sleep(61 * time.Second)
			want(t, attempt(t, w, "192.0.2.3", name, "hatter"), "not-authorized")
		})
	}
}

func TestTableIsBounded(t *testing.T) {
	tab := newTable[int](100)
	for i := range 10_000 {
		tab.set(i, int64(i))
		if len(tab.young)+len(tab.old) > 200 {
			t.Fatalf("%d entries", len(tab.young)+len(tab.old))
		}
		for k := max(0, i-99); k <= i; k++ {
			if v, ok := tab.get(k); !ok || v != int64(k) {
				t.Fatalf("after %d: lost %d", i, k)
			}
		}
	}
	g := newGuard(&Limits{AddressFailures: Rate{1, time.Hour}, AccountFailures: Rate{1, time.Hour}}, 100)
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		j, _ := jid.New("u"+strings.Repeat("x", i%100), domain, "")
		g.failed(j, a, time.Now())
		g.succeeded(j, a, time.Now())
	}
	if n := len(g.addresses.young) + len(g.addresses.old) + len(g.accounts.young) + len(g.accounts.old) + len(g.trusted.young) + len(g.trusted.old); n > 600 {
		t.Errorf("%d entries", n)
	}
}

func TestAddressKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%eth0": "fe80::",
	} {
		if got := addressKey(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// from is a connection that seems to come from an address.
func (w *world) from(ip string) net.Conn {
	a, b := net.Pipe()
	w.ServeConn(addressed{b, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1024}}, false)
	return a
}

type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

func TestFeatures(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := newUser(t, w.pipe(false))
		if f := u.open(); f.Inner() != "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>" {
			t.Error(f.Inner())
		}
		u.write(u.mach.StartTLS(nil))
		u.want(stream.StartTLS)
		if err := u.secure(clientTLS); err != nil {
			t.Fatal(err)
		}
		limits := func(f xmltree.Element) string {
			return f.Child(stream.NSLimits, "limits").Inner()
		}
		f := u.open()
		if got := limits(f); got != "<max-bytes>16384</max-bytes><idle-seconds>30</idle-seconds>" {
			t.Error(got)
		}
		u.readOffers(f)
		u.auth("alice", "rabbit")
		f = u.open()
		if got := limits(f); got != "<max-bytes>262144</max-bytes><idle-seconds>300</idle-seconds>" {
			t.Error(got)
		}
		if f.Child("urn:xmpp:csi:0", "csi").IsZero() || f.Child(stream.NSSM, "sm").IsZero() {
			t.Error(f.Inner())
		}
		u.conn.Close()
	})
}

// Nothing of an exchange gets into a transcript.
func TestTranscriptKeepsSecrets(t *testing.T) {
	in(t, func(c *Config) { c.AllowPlain = true }, func(t *testing.T, w *world) {
		u := w.offered(t)
		initial := []byte("\x00alice\x00rabbit")
		u.write(u.mach.Auth(nil, "PLAIN", initial))
		u.want(stream.AuthSuccess)
		u.open()
		u.bind("x")
		u.send("<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>alice</username><password>rabbit</password></query></iq>")
		u.want(stream.Stanza)
		u.send("<message><body>seen</body></message>")
		u.want(stream.Stanza)
		u.close()
		u = w.login(t, "queen", "x")
		u.close()
		log := w.log.String()
		for _, secret := range []string{"rabbit", base64.StdEncoding.EncodeToString(initial), "dj1", "cj1"} { // v=, r=
			if strings.Contains(log, secret) {
				t.Errorf("the transcript has %q", secret)
			}
		}
		for _, there := range []string{"<body>seen</body>", "mechanism='PLAIN'", "conn=c1", "account=alice@wonderland.lit"} {
			if !strings.Contains(log, there) {
				t.Errorf("the transcript lacks %q", there)
			}
		}
	})
}

// registrar makes the accounts that it is asked for.
type registrar struct {
	hub  *hub
	fail error
}

func (registrar) Open() bool    { return true }
func (registrar) Invites() bool { return false }

func (registrar) Welcome(context.Context, jid.JID, string) error {
	return stanza.NewError(stanza.ItemNotFound, "")
}

func (r registrar) Answer(_ context.Context, domain jid.JID, _ string, iq *stanza.Stanza) (string, error) {
	q := iq.Payload()
	if iq.Type == stanza.TypeGet || r.fail != nil {
		return "<query xmlns='jabber:iq:register'><username/><password/></query>", r.fail
	}
	bare, err := jid.New(q.Child(xep.NSRegister, "username").Text(), domain.Domain(), "")
	if err != nil {
		return "", stanza.NewError(stanza.NotAcceptable, "")
	}
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.hub.keys[bare] = testKeys()
	return "", nil
}

// XEP-0077 3.1
func TestRegister(t *testing.T) {
	var reg registrar
	in(t, func(c *Config) {
		reg.hub = c.Accounts.(*hub)
		c.Registrar, c.Limits.Registrations = &reg, Rate{Burst: 2, Every: time.Hour}
	}, func(t *testing.T, w *world) {
		ask := func(u *user, name string) stanza.Condition {
			t.Helper()
			u.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>" + name + "</username><password>rabbit</password></query></iq>")
			st := u.want(stream.Stanza).Stanza
			if st.Type == stanza.TypeError {
				return st.ParseError().Condition
			}
			return ""
		}
		u := newUser(t, w.from("192.0.2.1"))
		u.starttls()
		f := u.open()
		if f.Child("http://jabber.org/features/iq-register", "register").IsZero() {
			t.Error("not offered")
		}
		u.send("<iq type='get' id='g'><query xmlns='jabber:iq:register'/></iq>")
		if st := u.want(stream.Stanza).Stanza; st.Payload().Child(xep.NSRegister, "username").IsZero() {
			t.Errorf("%s", st.AppendTo(nil))
		}
		if got := ask(u, "dinah"); got != "" {
			t.Error(got)
		}
		u.readOffers(f)
		if ev := u.auth("dinah", "rabbit"); ev.Kind != stream.AuthSuccess {
			t.Error("the new account can't log in:", ev.Name)
		}
		u.conn.Close()
		u = newUser(t, w.from("192.0.2.1"))
		u.starttls()
		u.open()
		reg.fail = errors.New("disk on fire")
		if got := ask(u, "bill"); got != stanza.InternalServerError {
			t.Error(got)
		}
		if got := ask(u, "bill"); got != stanza.ResourceConstraint {
			t.Error("no limit:", got)
		}
		u.conn.Close()
	})
	in(t, nil, func(t *testing.T, w *world) {
		u := newUser(t, w.pipe(false))
		u.starttls()
		u.open()
		u.send("<iq type='get' id='g'><query xmlns='jabber:iq:register'/></iq>")
		if got := condition(u.gone()); got != stanza.StreamNotAuthorized {
			t.Error(got)
		}
		u.conn.Close()
	})
}
