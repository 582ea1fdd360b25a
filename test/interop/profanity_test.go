package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func profanityLogin(t *testing.T, s *server) {
	a := s.account(t, "alice")
	p := openProfanity(t, s, a)
	p.chat(a.bare)
	if !strings.Contains(p.title(), "[TLS]") {
		t.Errorf("the title does not say TLS: %s", p.title())
	}
}

func profanityDirect(t *testing.T, s *server) {
	p := openTerminal(t, s, s.account(t, "alice"))
	p.connect(s.direct, "legacy")
	p.shows("logged in successfully")
}

func profanityWrongPassword(t *testing.T, s *server) {
	a := s.account(t, "alice")
	p := openTerminal(t, s, account{a.bare, "wrong"})
	p.connect(s.c2s, "force")
	p.shows("Login failed.")
	p.got(`<failure .*<not-authorized`)
}

func profanityWrongCertificate(t *testing.T, _ *server) {
	ca, id := newIdentity(t, "other.test")
	s := serveOwn(t, ca, id)
	p := openTerminal(t, s, s.account(t, "alice"))
	p.connect(s.c2s, "force")
	p.shows("TLS certificate verification failed")
	p.enter("/tls deny")
	p.shows("Login failed.")
}

// meet makes profanity and a library's client contacts of each other and returns both, profanity first.
func meet(t *testing.T, s *server, settings ...string) (*terminal, *client) {
	t.Helper()
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	b := online(t, s, slixmpp(), bob, "one")
	p := openProfanity(t, s, alice, append(settings, "/presence console all")...)
	p.enter("/sub request " + bob.bare)
	b.await("request", presence(alice.bare, "subscribe"))
	b.do("presence", args{"to": alice.bare, "type": "subscribed"})
	b.do("presence", args{"to": alice.bare, "type": "subscribe"})
	p.shows("Subscription received from " + bob.bare)
	p.shows("Received authorization request from " + bob.bare)
	p.enter("/sub allow " + bob.bare)
	b.await("push of both", pushed(alice.bare, "both", ""))
	b.await("profanity's presence", presence(alice.bare, ""))
	return p, b
}

func profanitySubscription(t *testing.T, s *server) {
	p, b := meet(t, s)
	p.got(`<item .*jid="` + regexp.QuoteMeta(b.acct.bare) + `".*subscription="both"`)
	p.enter("/roster online")
	p.shows(b.acct.bare)
}

func profanityPresence(t *testing.T, s *server) {
	p, b := meet(t, s)
	b.do("presence", args{"status": "In a mask"})
	p.shows(`"In a mask"`)
	p.enter(`/status set away "In the orchard"`)
	b.await("profanity's status", func(e *event) bool {
		return presence(p.acct.bare, "")(e) && e.Status == "In the orchard"
	})
	b.do("disconnect", nil)
	p.shows("-- " + b.acct.bare + " (one) is offline")
	p.enter("/quit")
}

// profanityCarbons: profanity sees what the account's other device sends and gets.
func profanityCarbons(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := online(t, s, xmppjs(), alice, "one"), online(t, s, slixmpp(), bob, "one")
	a.do("carbons", nil)
	p := openProfanity(t, s, alice, "/carbons on")
	p.got(`<iq .*type="result"`)
	a.await("the other device", func(e *event) bool { return presence(alice.bare, "")(e) && e.From != a.jid })
	p.chat(bob.bare)
	a.send(bob.bare, "said elsewhere")
	b.await("message", message("said elsewhere"))
	p.shows("me: said elsewhere")
	b.send(a.jid, "told elsewhere")
	a.await("message", message("told elsewhere"))
	p.shows(": told elsewhere")
	p.say(bob.bare, "said here")
	b.await("message", message("said here"))
	a.await("sent carbon", carbon("sent", "said here"))
}

func profanityReceipts(t *testing.T, s *server) {
	p, b := meet(t, s, "/receipts request on", "/receipts send on")
	p.say(b.acct.bare, "Have you got this?")
	b.await("message", message("Have you got this?"))
	p.got(`<received .*urn:xmpp:receipts`)
	id := newID()
	b.do("message", args{"to": p.acct.bare, "body": "And you this?", "id": id, "receipt": true})
	p.hear(b.acct.bare, "And you this?")
	b.await("receipt", func(e *event) bool { return e.Kind == "receipt" && e.Receipt == id })
}

func profanityOffline(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	b := online(t, s, slixmpp(), bob, "one")
	b.send(alice.bare, "while you were away")
	b.do("ping", nil)
	openProfanity(t, s, alice).hear(bob.bare, "while you were away")
}

func profanityBlocking(t *testing.T, s *server) {
	p, b := meet(t, s)
	p.enter("/blocked add " + b.acct.bare)
	p.shows("successfully blocked")
	id := b.send(p.acct.bare, "let me in")
	if e := b.await("error", bounce(id)); e.Condition != "service-unavailable" {
		t.Errorf("a message to who blocked: %q, want service-unavailable", e.Condition)
	}
	p.enter("/blocked remove " + b.acct.bare)
	p.shows("successfully unblocked")
	b.await("profanity again", presence(p.acct.bare, ""))
	b.send(p.acct.bare, "and now?")
	p.hear(b.acct.bare, "and now?")
	if strings.Contains(p.screen(), "let me in") {
		t.Error("a message from the blocked came in")
	}
}

// profanityResume: the connection is cut with messages on their way.
func profanityResume(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	proxy := newCutter(t, s.c2s)
	b := online(t, s, slixmpp(), bob, "one")
	p := openTerminal(t, s, alice, "/reconnect 1")
	p.connect(proxy.addr(), "force")
	p.shows("logged in successfully")
	p.got("<enabled ")
	b.send(alice.bare, "before")
	p.hear(bob.bare, "before")
	proxy.loseFrom(toClient)
	b.send(alice.bare, "on its way")
	b.do("ping", nil)
	proxy.cut()
	b.send(alice.bare, "while away")
	p.got("<resumed ")
	p.hear(bob.bare, "on its way")
	p.hear(bob.bare, "while away")
	p.say(bob.bare, "back again")
	b.await("message", message("back again"))
	var lines []string
	for line := range strings.Lines(p.screen()) {
		if _, body, ok := strings.Cut(strings.TrimSpace(line), b.jid+": "); ok {
			lines = append(lines, body)
		}
	}
	if want := []string{"before", "on its way", "while away"}; !slices.Equal(lines, want) {
		t.Errorf("profanity shows %q, want %q", lines, want)
	}
}

// TestProfanityRoom: profanity is in the room of its bookmark, which it reads from private XML as of old, sees what was
// said there before, talks, fetches a contact's avatar and sends a file.
func TestProfanityRoom(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if s.kind.name != "carillon" {
		t.Skip("the other servers here have no upload and no rooms set up")
	}
	sc := setScene(t, s)
	p := openTerminalIn(t, s, sc.alice, func(home string) []string { return inWorld(t, s, home, "127.0.0.1") })
	p.connect(s.c2s, "force")
	p.shows("logged in successfully")
	sc.bob.await("alice in the room", presence(sc.room+"/Alice", ""))
	p.enter("/avatar get " + sc.bob.acct.bare)
	p.shows("Avatar saved as")
	p.keepScreen("console")
	avatars, _ := filepath.Glob(filepath.Join(p.home, ".local/share/profanity/avatars/*"))
	if len(avatars) != 1 {
		t.Fatalf("avatars: %q", avatars)
	}
	if got, err := os.ReadFile(avatars[0]); err != nil || !bytes.Equal(got, picture()) {
		t.Errorf("the avatar has %d bytes, %v", len(got), err)
	}

	p.enter("/win " + sc.room)
	p.shows("Bob: " + sc.past)
	p.enter("here I am")
	sc.bob.said(sc.room+"/Alice", "here I am")
	sc.bob.do("message", args{"to": sc.room, "body": "welcome", "id": newID(), "type": "groupchat"})
	p.shows("Bob: welcome")
	file := filepath.Join(p.home, "sunset.png")
	if err := os.WriteFile(file, picture(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.enter("/sendfile " + file)
	if link := sc.link(); !strings.HasSuffix(link, "/sunset.png") {
		t.Errorf("the file is at %s", link)
	}
	p.shows("/sunset.png")
	p.keepScreen("room")
}
