package interop

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func loginSTARTTLS(t *testing.T, s *server, l library) {
	a := s.account(t, "alice")
	c := l.login(t, s, a, "balcony")
	boundAs(t, c, a.bare+"/balcony")
	if !c.sm {
		t.Error("stream management is not on")
	}
	c.do("ping", nil)
	c.do("ping", args{"to": domain})
	advertises(t, c)
	c.do("disconnect", nil)
}

// boundAs checks a client's address. With Bind 2 what it asks for is only the tag in its resource (XEP-0386 3.2.1).
func boundAs(t *testing.T, c *client, want string) {
	t.Helper()
	if c.jid != want && !strings.HasPrefix(c.jid, want+"/") {
		t.Errorf("bound as %q, want %q", c.jid, want)
	}
}

// advertises checks that what the clients here rely on can be discovered, on the server or on the own account.
func advertises(t *testing.T, c *client) {
	t.Helper()
	var server, own []string
	if err := c.call("disco", args{"to": domain}, &server); err != nil {
		t.Fatal(err)
	}
	if err := c.call("disco", args{"to": c.acct.bare}, &own); err != nil {
		t.Fatal(err)
	}
	for _, feature := range []string{"urn:xmpp:mam:2", "urn:xmpp:carbons:2", "urn:xmpp:blocking", "urn:xmpp:ping"} {
		if !slices.Contains(server, feature) && !slices.Contains(own, feature) {
			t.Errorf("%s is not advertised", feature)
		}
	}
}

func loginDirect(t *testing.T, s *server, l library) {
	a := s.account(t, "alice")
	c := l.loginAt(t, s, a, "balcony", s.direct, "direct")
	boundAs(t, c, a.bare+"/balcony")
	c.do("ping", nil)
}

// wrongPassword: RFC 6120 6.5.10 not-authorized, the same for an account that does not exist; the right password
// works right after.
func wrongPassword(t *testing.T, s *server, l library) {
	a := s.account(t, "alice")
	for _, who := range []account{{a.bare, "wrong"}, {"nobody@" + domain, "wrong"}} {
		c := l.launch(t, s, who)
		err := c.connect(s, "balcony", s.c2s, "starttls")
		if r := new(refusal); !errors.As(err, &r) || r.Stage != "auth" || r.Condition != "not-authorized" {
			t.Errorf("%s with a wrong password: got %v, want auth: not-authorized", who.bare, err)
		}
	}
	l.login(t, s, a, "balcony").do("ping", nil)
}

// wrongCertificate: a certificate for another domain, from an authority that the client trusts.
func wrongCertificate(t *testing.T, _ *server, l library) {
	ca, id := newIdentity(t, "other.test")
	s := serveOwn(t, ca, id)
	refusesCertificate(t, s, l)
}

// unknownAuthority: a certificate for the right domain, from an authority that the client does not know.
func unknownAuthority(t *testing.T, _ *server, l library) {
	_, id := newIdentity(t, domain)
	trusted, _ := newIdentity(t, domain)
	s := serveOwn(t, trusted, id)
	refusesCertificate(t, s, l)
}

func refusesCertificate(t *testing.T, s *server, l library) {
	t.Helper()
	a := s.account(t, "alice")
	for _, way := range []struct{ addr, tls string }{{s.c2s, "starttls"}, {s.direct, "direct"}} {
		c := l.launch(t, s, a)
		err := c.connect(s, "balcony", way.addr, way.tls)
		r := new(refusal)
		if !errors.As(err, &r) || r.Stage != "tls" {
			t.Errorf("%s: got %v, want a refused certificate", way.tls, err)
		} else if !mentionsCertificate(r.Condition) {
			t.Errorf("%s: refused for another reason: %v", way.tls, err)
		}
	}
}

func mentionsCertificate(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "cert") || strings.Contains(text, "altname") || strings.Contains(text, "signature")
}
