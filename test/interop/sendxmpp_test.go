package interop

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// command is go-sendxmpp: one process listens, one process per message sends.
type command struct {
	t    *testing.T
	s    *server
	acct account

	mu    sync.Mutex
	lines []string
	news  chan struct{}
	ended chan struct{} // closed when the listener has ended
}

func sendxmpp(s *server, a account, args ...string) *exec.Cmd {
	cmd := exec.Command("go-sendxmpp", append([]string{"-u", a.bare, "-p", a.password, "-j", s.c2s}, args...)...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+s.ca.file, "HOME="+s.dir)
	return cmd
}

// openSendxmpp starts a listener.
func openSendxmpp(t *testing.T, s *server, a account) *command {
	t.Helper()
	need(t, "go-sendxmpp", "go-sendxmpp: apt-get install go-sendxmpp")
	c := &command{t: t, s: s, acct: a, news: make(chan struct{}), ended: make(chan struct{})}
	cmd := sendxmpp(s, a, "-l", "-d")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.read(out)
		cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-c.ended
		if t.Failed() {
			t.Logf("go-sendxmpp as %s printed:\n%s", a.bare, strings.Join(c.lines, "\n"))
		}
	})
	c.shows("<presence") // its own presence came back: it is available
	return c
}

func (c *command) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c.mu.Lock()
		c.lines = append(c.lines, lines.Text())
		close(c.news)
		c.news = make(chan struct{})
		c.mu.Unlock()
	}
}

// shows waits for a line with a text.
func (c *command) shows(text string) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		for _, line := range c.lines {
			if strings.Contains(line, text) {
				c.mu.Unlock()
				return
			}
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-c.ended:
			c.t.Fatalf("go-sendxmpp as %s ended before it printed %q", c.acct.bare, text)
		case <-deadline:
			c.t.Fatalf("go-sendxmpp as %s: no %q", c.acct.bare, text)
		}
	}
}

func (c *command) say(to, body string) {
	c.t.Helper()
	cmd := sendxmpp(c.s, c.acct, to)
	cmd.Stdin = strings.NewReader(body + "\n")
	if _, err := output(cmd); err != nil {
		c.t.Fatal(err)
	}
}

func (c *command) hear(from, body string) {
	c.t.Helper()
	c.shows(" " + from + ": " + body)
}

func sendxmppLogin(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a, b := openSendxmpp(t, s, alice), openSendxmpp(t, s, bob)
	a.say(bob.bare, "over STARTTLS")
	b.hear(alice.bare, "over STARTTLS")
}

func sendxmppDirect(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	b := openSendxmpp(t, s, bob)
	cmd := sendxmpp(s, alice, "-t", "-j", s.direct, bob.bare)
	cmd.Stdin = strings.NewReader("over TLS\n")
	if _, err := output(cmd); err != nil {
		t.Fatal(err)
	}
	b.hear(alice.bare, "over TLS")
}

// fails runs a send that must end with an error and returns what it printed.
func fails(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	need(t, "go-sendxmpp", "go-sendxmpp: apt-get install go-sendxmpp")
	cmd.Stdin = strings.NewReader("never\n")
	text, err := output(cmd)
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		t.Fatalf("got %v and %q, want an exit with an error", err, text)
	}
	return text
}

func sendxmppWrongPassword(t *testing.T, s *server) {
	a := s.account(t, "alice")
	if text := fails(t, sendxmpp(s, account{a.bare, "wrong"}, "bob@"+domain)); !strings.Contains(text, "auth failure") {
		t.Errorf("a wrong password: got %q, want an authentication failure", text)
	}
}

func sendxmppWrongCertificate(t *testing.T, _ *server) {
	ca, id := newIdentity(t, "other.test")
	s := serveOwn(t, ca, id)
	if text := fails(t, sendxmpp(s, s.account(t, "alice"), "bob@"+domain)); !strings.Contains(text, "other.test") {
		t.Errorf("a certificate for another domain: got %q", text)
	}
}

func sendxmppUnknownAuthority(t *testing.T, _ *server) {
	_, id := newIdentity(t, domain)
	trusted, _ := newIdentity(t, domain)
	s := serveOwn(t, trusted, id)
	if text := fails(t, sendxmpp(s, s.account(t, "alice"), "bob@"+domain)); !strings.Contains(text, "unknown authority") {
		t.Errorf("a certificate from nowhere: got %q", text)
	}
}

// sendxmppOffline: a message sent by a command waits for its reader, and the other way round.
func sendxmppOffline(t *testing.T, s *server) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	a := openSendxmpp(t, s, alice)
	a.say(bob.bare, "while you were away")
	openSendxmpp(t, s, bob).hear(alice.bare, "while you were away")
}
