package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// library is a client library behind a driver.
type library struct {
	name    string
	command func(ca string) *exec.Cmd
	missing func() string
}

func slixmpp() library {
	return library{
		name: "slixmpp",
		command: func(string) *exec.Cmd {
			cmd := exec.Command("/usr/bin/python3", "py/driver.py")
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			return cmd
		},
		missing: func() string {
			if exec.Command("/usr/bin/python3", "-c", "import slixmpp").Run() != nil {
				return "slixmpp: apt-get install python3-slixmpp"
			}
			return ""
		},
	}
}

func xmppjs() library {
	return library{
		name: "xmppjs",
		command: func(ca string) *exec.Cmd {
			cmd := exec.Command("node", "js/driver.mjs")
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca)
			return cmd
		},
		missing: func() string {
			if _, err := exec.LookPath("node"); err != nil {
				return "node: apt-get install nodejs npm"
			}
			if _, err := os.Stat("js/node_modules/@xmpp/client"); err != nil {
				return "@xmpp/client: npm ci in test/interop/js"
			}
			return ""
		},
	}
}

// client is one running driver. Its methods fail the test that owns it; only that test's goroutine may call them.
type client struct {
	t     *testing.T
	name  string // library and resource, for messages
	acct  account
	jid   string // full, as bound; "" before
	sm    bool   // stream management is on
	in    io.WriteCloser
	trace string // file with the library's own log

	mu      sync.Mutex
	number  int
	answers map[int]chan answer
	events  []*event
	news    chan struct{} // replaced and closed whenever events grew
}

type answer struct {
	OK    json.RawMessage `json:"ok"`
	Error *refusal        `json:"error"`
}

// refusal is a command's failure: in which stage (auth, tls, iq, stream, driver) and with which condition.
type refusal struct {
	Stage     string `json:"stage"`
	Condition string `json:"condition"`
}

func (r *refusal) Error() string { return r.Stage + ": " + r.Condition }

// event is something that a client saw by itself. Fields that its kind does not have are empty.
type event struct {
	Kind         string   `json:"event"`
	From         string   `json:"from"`
	To           string   `json:"to"`
	ID           string   `json:"id"`
	Body         string   `json:"body"`
	Type         string   `json:"type"`
	Archive      string   `json:"archive"` // the own account's stanza-id
	Delayed      bool     `json:"delayed"`
	Condition    string   `json:"condition"`
	Direction    string   `json:"direction"`
	Receipt      string   `json:"receipt"`
	Status       string   `json:"status"`
	JID          string   `json:"jid"`
	JIDs         []string `json:"jids"`
	Subscription string   `json:"subscription"`
	Ask          string   `json:"ask"`
	taken        bool     // by await
}

// launch starts a driver without connecting it.
func (l library) launch(t *testing.T, s *server, a account) *client {
	t.Helper()
	if what := l.missing(); what != "" {
		lacking(t, what)
	}
	cmd := l.command(s.ca.file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	trace, err := os.Create(filepath.Join(t.TempDir(), "trace"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = trace
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", l.name, err)
	}
	c := &client{t: t, name: l.name, acct: a, in: in, trace: trace.Name(),
		answers: map[int]chan answer{}, news: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		c.read(out)
		cmd.Wait()
		trace.Close()
		close(done)
	}()
	t.Cleanup(func() {
		in.Close() // the driver ends with its input
		awaitEnd(cmd.Process, done)
		if t.Failed() {
			t.Logf("end of the trace of %s:\n%s", c.name, tail(c.trace, 6<<10))
		}
	})
	return c
}

// login starts a driver and connects it over STARTTLS.
func (l library) login(t *testing.T, s *server, a account, resource string) *client {
	t.Helper()
	return l.loginAt(t, s, a, resource, s.c2s, "starttls")
}

// loginAt is login at another address, such as a cutter's.
func (l library) loginAt(t *testing.T, s *server, a account, resource, addr, tls string) *client {
	t.Helper()
	c := l.launch(t, s, a)
	if err := c.connect(s, resource, addr, tls); err != nil {
		t.Fatalf("%s as %s/%s: %v", l.name, a.bare, resource, err)
	}
	return c
}

func (c *client) connect(s *server, resource, addr, tls string) error {
	c.name += " " + c.acct.bare + "/" + resource
	var bound struct {
		JID string
		SM  bool
	}
	err := c.call("connect", args{"jid": c.acct.bare + "/" + resource, "password": c.acct.password,
		"port": port(addr), "ca": s.ca.file, "tls": tls}, &bound)
	c.jid, c.sm = bound.JID, bound.SM
	return err
}

// port returns the port of one of our own loopback addresses.
func port(addr string) int { return int(netip.MustParseAddrPort(addr).Port()) }

// read takes what the driver prints until it ends.
func (c *client) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var line struct {
			Number int `json:"id"`
			answer
		}
		if strings.Contains(lines.Text(), `"event":`) {
			e := new(event)
			if json.Unmarshal(lines.Bytes(), e) == nil && e.Kind != "" {
				c.mu.Lock()
				c.events = append(c.events, e)
				close(c.news)
				c.news = make(chan struct{})
				c.mu.Unlock()
				continue
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			continue
		}
		c.mu.Lock()
		reply := c.answers[line.Number]
		delete(c.answers, line.Number)
		c.mu.Unlock()
		if reply != nil {
			reply <- line.answer
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, reply := range c.answers {
		reply <- answer{Error: &refusal{"driver", "ended"}}
		delete(c.answers, n)
	}
}

type args map[string]any

// call runs a command and decodes its result, if there is where to.
func (c *client) call(cmd string, a args, result any) error {
	reply := make(chan answer, 1)
	c.mu.Lock()
	c.number++
	number := c.number
	c.answers[number] = reply
	c.mu.Unlock()
	line, err := json.Marshal(map[string]any{"id": number, "cmd": cmd, "args": a})
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("driver of %s: %w", c.name, err)
	}
	select {
	case got := <-reply:
		if got.Error != nil {
			return got.Error
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(got.OK, result)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer to %q in %v", c.name, cmd, patience)
	}
}

// do is call for a command that must succeed.
func (c *client) do(cmd string, a args) {
	c.t.Helper()
	if err := c.call(cmd, a, nil); err != nil {
		c.t.Fatalf("%s: %s %v: %v", c.name, cmd, a, err)
	}
}

// refused is call for a command that must fail with a condition.
func (c *client) refused(cmd string, a args, stage, condition string) {
	c.t.Helper()
	err := c.call(cmd, a, nil)
	if r := new(refusal); !errors.As(err, &r) || r.Stage != stage || r.Condition != condition {
		c.t.Fatalf("%s: %s %v: got %v, want %s: %s", c.name, cmd, a, err, stage, condition)
	}
}

// await returns the first event not yet taken that matches, and takes it.
func (c *client) await(what string, match func(*event) bool) *event {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		for _, e := range c.events {
			if !e.taken && match(e) {
				e.taken = true
				c.mu.Unlock()
				return e
			}
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-deadline:
			c.t.Fatalf("%s: no %s; it saw:\n%s", c.name, what, c.history())
		}
	}
}

// all returns every event so far that matches, taken or not, after a round trip to the server: what the server had
// sent before it is in.
func (c *client) all(match func(*event) bool) []*event {
	c.t.Helper()
	c.do("ping", nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*event
	for _, e := range c.events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// none fails the test if something that matches has come, after a round trip to the server.
func (c *client) none(what string, match func(*event) bool) {
	c.t.Helper()
	for _, e := range c.all(match) {
		c.t.Errorf("%s: %s: %+v", c.name, what, *e)
	}
}

func (c *client) history() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, e := range c.events {
		line, _ := json.Marshal(e)
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// Matchers.

func message(body string) func(*event) bool {
	return func(e *event) bool { return e.Kind == "message" && e.Type != "error" && e.Body == body }
}

func carbon(direction, body string) func(*event) bool {
	return func(e *event) bool { return e.Kind == "carbon" && e.Direction == direction && e.Body == body }
}

func bounce(id string) func(*event) bool {
	return func(e *event) bool { return e.Kind == "message" && e.Type == "error" && e.ID == id }
}

// presence matches a presence of a type ("" is available) from an address or, given a bare one, from any of its
// resources.
func presence(from, kind string) func(*event) bool {
	return func(e *event) bool {
		return e.Kind == "presence" && e.Type == kind && (e.From == from || strings.HasPrefix(e.From, from+"/"))
	}
}

func pushed(jid, subscription, ask string) func(*event) bool {
	return func(e *event) bool {
		return e.Kind == "roster" && e.JID == jid && e.Subscription == subscription && e.Ask == ask
	}
}
