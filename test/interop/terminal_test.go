package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// terminal is profanity in a pseudo terminal of tmux. What a person would see is read from the screen; what the screen
// does not tell (a receipt, a resumption) from profanity's own debug log, which has every stanza.
type terminal struct {
	t    *testing.T
	acct account
	home string
	tmux []string // the command line up to tmux's own command
	peer string   // whose chat window is open
}

// openTerminal starts profanity, with settings typed before anything else, without connecting.
func openTerminal(t *testing.T, s *server, a account, settings ...string) *terminal {
	t.Helper()
	return openTerminalIn(t, s, a, func(string) []string { return nil }, settings...)
}

// openTerminalIn is openTerminal with the beginning of a command line, made for profanity's home folder.
func openTerminalIn(t *testing.T, s *server, a account, world func(home string) []string, settings ...string) *terminal {
	t.Helper()
	need(t, "profanity", "profanity: apt-get install profanity")
	need(t, "tmux", "tmux: apt-get install tmux")
	// Not t.TempDir: the name of a socket is limited to a hundred bytes.
	home, err := os.MkdirTemp("", "interop-tty-")
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, acct: a, home: home, tmux: []string{"tmux", "-S", filepath.Join(home, "tmux"), "-f", "/dev/null"}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("screen of profanity as %s:\n%s\nend of its log:\n%s", a.bare, p.screen(), tail(p.log(), 4<<10))
		}
		p.control("kill-server")
		os.RemoveAll(home)
	})
	cmd := exec.Command(p.tmux[0], append(p.tmux[1:], "new-session", "-d", "-x", "180", "-y", "50",
		strings.Join(append(world(home), "profanity", "-l", "DEBUG", "-f", p.log()), " "))...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=xterm-256color",
		"SSL_CERT_FILE=" + s.ca.file}
	if _, err := output(cmd); err != nil {
		t.Fatal(err)
	}
	p.shows("Debug mode enabled")
	for _, setting := range settings {
		p.enter(setting)
	}
	return p
}

// openProfanity starts profanity and logs in over STARTTLS.
func openProfanity(t *testing.T, s *server, a account, settings ...string) *terminal {
	t.Helper()
	p := openTerminal(t, s, a, settings...)
	p.connect(s.c2s, "force")
	p.shows("logged in successfully")
	return p
}

// connect types the connect command and the password. policy is "force" for STARTTLS, "legacy" for direct TLS.
func (p *terminal) connect(addr, policy string) {
	p.t.Helper()
	p.enter(fmt.Sprintf("/connect %s server 127.0.0.1 port %d tls %s", p.acct.bare, port(addr), policy))
	p.shows("Enter password")
	p.enter(p.acct.password)
}

func (p *terminal) log() string { return filepath.Join(p.home, "profanity.log") }

func (p *terminal) control(args ...string) (string, error) {
	return output(exec.Command(p.tmux[0], append(p.tmux[1:], args...)...))
}

// enter types a line.
func (p *terminal) enter(line string) {
	p.t.Helper()
	if _, err := p.control("send-keys", "-l", line); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.control("send-keys", "Enter"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) screen() string {
	text, _ := p.control("capture-pane", "-p")
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// keepScreen keeps what is on the screen.
func (p *terminal) keepScreen(name string) {
	p.t.Helper()
	keep(p.t, name+".txt", []byte(p.screen()+"\n"))
}

// shows waits until the screen has a text.
func (p *terminal) shows(text string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%q on the screen", text), func() bool { return strings.Contains(p.screen(), text) })
}

// got waits until a received element matches.
func (p *terminal) got(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(`RECV: .*` + pattern)
	p.wait("received "+pattern, func() bool {
		log, _ := os.ReadFile(p.log())
		return re.Match(log)
	})
}

func (p *terminal) wait(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("profanity as %s: no %s", p.acct.bare, what)
		}
	}
}

// chat opens the chat window with somebody.
func (p *terminal) chat(peer string) {
	p.t.Helper()
	if p.peer == peer {
		return
	}
	p.peer = peer
	p.enter("/msg " + peer)
	p.wait("chat window with "+peer, func() bool { return strings.Contains(p.title(), peer) })
}

// title returns the first line of the screen: with whom one chats, and how it is secured.
func (p *terminal) title() string {
	title, _, _ := strings.Cut(p.screen(), "\n")
	return title
}

func (p *terminal) say(to, body string) {
	p.t.Helper()
	p.chat(to)
	p.enter(body)
}

func (p *terminal) hear(from, body string) {
	p.t.Helper()
	p.chat(from)
	p.shows(": " + body)
}
