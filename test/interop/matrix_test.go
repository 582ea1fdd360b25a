package interop

import "testing"

// scenario is one thing that clients do, and who does it here. A nil column is a client that cannot do it:
// go-sendxmpp has no roster, no carbons and no archive; profanity pages no archive that a test could see.
type scenario struct {
	name      string
	libraries func(*testing.T, *server, library) // slixmpp and @xmpp/client
	profanity func(*testing.T, *server)
	sendxmpp  func(*testing.T, *server) // which allows PLAIN: the release in Debian 12 has no SCRAM
}

func scenarios() []scenario {
	return []scenario{
		{"login-starttls", loginSTARTTLS, profanityLogin, sendxmppLogin},
		{"login-direct-tls", loginDirect, profanityDirect, sendxmppDirect},
		{"wrong-password", wrongPassword, profanityWrongPassword, sendxmppWrongPassword},
		{"wrong-certificate", wrongCertificate, profanityWrongCertificate, sendxmppWrongCertificate},
		{"unknown-authority", unknownAuthority, nil, sendxmppUnknownAuthority},
		{"subscription", subscription, profanitySubscription, nil},
		{"presence", presenceBothWays, profanityPresence, nil},
		{"two-devices", twoDevices, profanityCarbons, nil},
		{"archive", archivePaging, nil, nil},
		{"receipts", receipts, profanityReceipts, nil},
		{"offline", offline, profanityOffline, sendxmppOffline},
		{"resume-inbound", resumeInbound, profanityResume, nil},
		{"resume-outbound", resumeOutbound, nil, nil},
		{"resume-by-token", resumeByToken, nil, nil},
		{"resume-lost-ack", resumeLostAck, nil, nil},
		{"blocking", blocking, profanityBlocking, nil},
		{"stranger", stranger, nil, nil},
		{"restart", restart, nil, nil},
	}
}

// TestClients runs every scenario with every client that can do it.
func TestClients(t *testing.T) {
	t.Parallel()
	s, plain := serve(t), legacy(t)
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for _, l := range []library{slixmpp(), xmppjs()} {
				t.Run(l.name, func(t *testing.T) { sc.libraries(t, s, l) })
			}
			if sc.profanity != nil {
				t.Run("profanity", func(t *testing.T) { sc.profanity(t, s) })
			}
			if sc.sendxmpp != nil {
				t.Run("go-sendxmpp", func(t *testing.T) { sc.sendxmpp(t, plain) })
			}
		})
	}
}

// chatter is a client that can say something and wait for something; every client can.
type chatter interface {
	say(to, body string)
	hear(from, body string) // returns when it has come; fails the test when it does not
}

// TestAcross has every client talk with every other.
func TestAcross(t *testing.T) {
	t.Parallel()
	s := legacy(t)
	clients := []struct {
		name string
		open func(*testing.T, *server, account) chatter
	}{
		{"slixmpp", func(t *testing.T, s *server, a account) chatter { return online(t, s, slixmpp(), a, "one") }},
		{"xmppjs", func(t *testing.T, s *server, a account) chatter { return online(t, s, xmppjs(), a, "one") }},
		{"profanity", func(t *testing.T, s *server, a account) chatter { return openProfanity(t, s, a) }},
		{"go-sendxmpp", func(t *testing.T, s *server, a account) chatter { return openSendxmpp(t, s, a) }},
	}
	for i, left := range clients {
		for _, right := range clients[i+1:] {
			t.Run(left.name+"-"+right.name, func(t *testing.T) {
				t.Parallel()
				alice, bob := s.account(t, "alice"), s.account(t, "bob")
				a, b := left.open(t, s, alice), right.open(t, s, bob)
				a.say(bob.bare, "Wherefore <art> thou & \"who\"?")
				b.hear(alice.bare, "Wherefore <art> thou & \"who\"?")
				b.say(alice.bare, "Neither, fair saint: café, 😀")
				a.hear(bob.bare, "Neither, fair saint: café, 😀")
			})
		}
	}
}

func (c *client) say(to, body string) { c.send(to, body) }

func (c *client) hear(from, body string) {
	c.t.Helper()
	c.await("message from "+from, func(e *event) bool {
		return message(body)(e) && (e.From == from || presence(from, "")(&event{Kind: "presence", From: e.From}))
	})
}
