package scripts

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

func (s *script) run(t *testing.T) {
	path := ":memory:"
	if s.onDisk {
		path = t.TempDir()
	}
	if _, err := identity(); err != nil { // outside: what it starts isn't the script's
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, path)
		defer w.end()
		for _, st := range s.steps {
			if err := w.do(&st); err != nil {
				t.Errorf("%s.txt:%d: %s: %v", s.name, st.line, st.text, err)
				return
			}
		}
		w.settle()
		for _, p := range s.clients {
			c := w.clients[p.name]
			if c.conn == nil {
				continue
			}
			for ev, _ := c.conn.Take(); ev != nil; ev, _ = c.conn.Take() {
				if ev.Kind != stream.Opened && ev.Kind != stream.Closed {
					t.Errorf("%s.txt: in the end %s has received: %s", s.name, p.name, xmppclient.XML(ev))
				}
			}
		}
	})
}

// settleTime is more than the server waits on purpose, for commits to gather.
const settleTime = 50 * time.Millisecond

// settle returns when nobody has anything left to do.
func (w *world) settle() {
	synctest.Wait()
	time.Sleep(settleTime)
	synctest.Wait()
}

// verb is a kind of step. Its first group is who, its second what.
type verb struct {
	pattern *regexp.Regexp
	do      func(w *world, c *client, arg, block string) error
}

const who = `^(?:(\w+(?:, \w+)*(?: and \w+)?) )?`

func v(pattern string, do func(w *world, c *client, arg, block string) error) verb {
	return verb{regexp.MustCompile(who + pattern + `$`), do}
}

func verbs() []verb {
	return []verb{
		v(`connects?()`, func(w *world, c *client, _, _ string) error { return w.connect(c) }),
		v(`(?:is|are) online()`, (*world).online),
		v(`fails to connect: (\S+)`, func(w *world, c *client, want, _ string) error { return refusal(w.connect(c), want) }),
		v(`opens an? (?:(secured|authenticated) )?connection`, (*world).open),
		v(`sends(?: (\d+) times)?:`, func(w *world, c *client, times, block string) error { return w.send(c, times, block, false) }),
		v(`sends at once(?: (\d+) times)?:`, func(w *world, c *client, times, block string) error { return w.send(c, times, block, true) }),
		v(`sends bytes:()`, (*world).sendBytes),
		v(`receives(?: (\d+) times)?:`, (*world).receive),
		v(`receives? (in any order):`, (*world).receive),
		v(`receives? nothing()`, (*world).nothing),
		v(`(?:is|are) disconnected(?:: (\S+))?`, (*world).disconnected),
		v(`disconnects?()`, func(w *world, c *client, _, _ string) error { return c.conn.Close() }),
		v(`loses the connection()`, func(w *world, c *client, _, _ string) error { c.conn.Cut(); return nil }),
		v(`stops reading()`, func(_ *world, c *client, _, _ string) error { c.conn.Pause(); return nil }),
		v(`reads again()`, func(_ *world, c *client, _, _ string) error { c.conn.Continue(); return nil }),
		v(`enables? stream management( without resumption)?`, (*world).enable),
		v(`acknowledges by hand()`, func(_ *world, c *client, _, _ string) error { c.conn.Manual(true); return nil }),
		v(`acknowledges()`, func(_ *world, c *client, _, _ string) error { return c.conn.Ack() }),
		v(`is owed at most (\d+) bytes`, (*world).owed),
		v(`is acknowledged()`, (*world).acknowledged),
		v(`resumes(?: with h='(\d+)')?`, (*world).resume),
		v(`fails to resume: (\S+)`, func(w *world, c *client, want, _ string) error { return refusal(w.resume(c, "", ""), want) }),
		v(`fails to resume with (h='\d+': \S+)`, (*world).failToResume),
		v(`all is quiet()`, (*world).quiet),
		v(`time passes (\S+)`, (*world).pass),
		v(`server (restarts|stops)`, (*world).restart),
		v(`server starts()`, func(w *world, _ *client, _, _ string) error { w.start(); return nil }),
		v(`server removes (\S+)`, (*world).remove),
		v(`the store fails: (\w+)`, func(w *world, _ *client, kind, _ string) error { return w.fail(kind) }),
		v(`the store recovers()`, func(w *world, _ *client, _, _ string) error { return w.fail("") }),
	}
}

// vocabulary is made once; nobody changes it.
var vocabulary = verbs()

var listOfNames = regexp.MustCompile(`, | and `)

func (w *world) do(st *step) error {
	for _, verb := range vocabulary {
		m := verb.pattern.FindStringSubmatch(st.text)
		if m == nil {
			continue
		}
		if m[1] == "" {
			return verb.do(w, nil, m[2], st.block)
		}
		for _, name := range listOfNames.Split(m[1], -1) {
			c := w.clients[name]
			if c == nil {
				return fmt.Errorf("no client %q", name)
			}
			if err := verb.do(w, c, m[2], st.block); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
	return errors.New("no such step")
}

func refusal(err error, want string) error {
	var r *xmppclient.Refused
	switch {
	case err == nil:
		return errors.New("it was let in")
	case !errors.As(err, &r) || r.Condition != want:
		return err
	}
	return nil
}

func (w *world) connect(c *client) error {
	if c.component != "" {
		conn, err := xmppclient.OpenComponent(w.srv.ComponentPipe(), c.jid.Domain(), c.component)
		c.conn = conn
		return err
	}
	conn, err := xmppclient.Login(w.srv.Pipe(!c.starttls), w.config(c))
	if err != nil {
		return err
	}
	if err := conn.Bind(c.resource); err != nil {
		conn.Cut()
		return err
	}
	if c.conn != nil {
		c.conn.Cut()
	}
	c.conn = conn
	w.vars[c.name] = conn.JID().String()
	return nil
}

func (w *world) online(c *client, _, _ string) error {
	if err := w.connect(c); err != nil {
		return err
	}
	if err := c.conn.Send("<presence/>"); err != nil {
		return err
	}
	return w.quiet(nil, "", "")
}

func (w *world) open(c *client, kind, _ string) (err error) {
	if kind == "authenticated" {
		c.conn, err = xmppclient.Login(w.srv.Pipe(!c.starttls), w.config(c))
		if err == nil {
			c.conn.Start()
		}
		return err
	}
	c.conn, err = xmppclient.Open(w.srv.Pipe(kind == "secured"), w.config(c), kind == "secured")
	return err
}

// send sends the block's elements; all in one write, if at once.
func (w *world) send(c *client, times, block string, atOnce bool) error {
	var stanzas []string
	err := w.repeat(times, func() error {
		text, err := w.vars.expand(block)
		if err != nil {
			return err
		}
		list, err := parse(text)
		if err != nil {
			return err
		}
		for _, el := range list {
			raw := string(el.AppendTo(nil, stanza.NSClient))
			switch {
			case atOnce:
				stanzas = append(stanzas, raw)
			case stanzaName(el):
				err = c.conn.Send(raw)
			default:
				err = c.conn.SendRaw([]byte(raw))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && atOnce {
		err = c.conn.Send(stanzas...)
	}
	return err
}

func stanzaName(el xmltree.Element) bool {
	return el.Space() == stanza.NSClient && (el.Local() == "message" || el.Local() == "presence" || el.Local() == "iq")
}

// repeat calls f so many times, with {n} bound.
func (w *world) repeat(times string, f func() error) error {
	if times == "" {
		return f()
	}
	count, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	defer delete(w.vars, "n")
	for n := range count {
		w.vars["n"] = strconv.Itoa(n + 1)
		if err := f(); err != nil {
			return fmt.Errorf("%d: %w", n+1, err)
		}
	}
	return nil
}

func (w *world) sendBytes(c *client, _, block string) error {
	var b strings.Builder
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(line, `\"`, `"`), `"`, `\"`) + `"`)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		b.WriteString(text)
	}
	return c.conn.SendRaw([]byte(b.String()))
}

// next is the next thing that a client received, nil if nothing comes.
func (w *world) next(c *client) *stream.Event {
	if c.conn == nil {
		return nil
	}
	for range 2 {
		for {
			ev, _ := c.conn.Take()
			if ev == nil {
				break
			}
			if ev.Kind != stream.Opened {
				return ev
			}
		}
		w.settle()
	}
	return nil
}

func (w *world) receive(c *client, how, block string) error {
	if how == "in any order" {
		return w.receiveSet(c, block)
	}
	return w.repeat(how, func() error {
		list, err := w.expected(block)
		if err != nil {
			return err
		}
		for _, want := range list {
			ev := w.next(c)
			if ev == nil {
				return fmt.Errorf("nothing came, expected %s", want.Raw())
			}
			got, err := received(ev)
			if err != nil {
				return err
			}
			vars := w.vars.clone()
			if err := vars.element(want, got); err != nil {
				return fmt.Errorf("%w\n\tgot  %s\n\twant %s", err, got.Raw(), want.Raw())
			}
			w.vars = vars
		}
		return nil
	})
}

func (w *world) receiveSet(c *client, block string) error {
	wants, err := w.expected(block)
	if err != nil {
		return err
	}
	var gots []xmltree.Element
	var raw []string
	for range wants {
		ev := w.next(c)
		if ev == nil {
			return fmt.Errorf("only %d of %d came: %s", len(gots), len(wants), strings.Join(raw, "\n\t"))
		}
		got, err := received(ev)
		if err != nil {
			return err
		}
		gots, raw = append(gots, got), append(raw, got.Raw())
	}
	vars := w.vars.clone()
	if err := vars.children("all", wants, gots, false, false); err != nil {
		return fmt.Errorf("%w\n\tgot %s", err, strings.Join(raw, "\n\t    "))
	}
	w.vars = vars
	return nil
}

// expected parses a block of expectations; {n} is expanded as it is no capture.
func (w *world) expected(block string) ([]xmltree.Element, error) {
	if n, ok := w.vars["n"]; ok {
		block = strings.ReplaceAll(block, "{n}", n)
	}
	return parse(block)
}

func received(ev *stream.Event) (xmltree.Element, error) {
	list, err := parse(xmppclient.XML(ev))
	if err != nil {
		return xmltree.Element{}, err
	}
	return list[0], nil
}

func (w *world) nothing(c *client, _, _ string) error {
	w.settle()
	if ev := w.next(c); ev != nil {
		return fmt.Errorf("received %s", xmppclient.XML(ev))
	}
	if c.conn.Err() != nil {
		return fmt.Errorf("the connection ended: %w", c.conn.Err())
	}
	return nil
}

func (w *world) disconnected(c *client, condition, _ string) error {
	ev := w.next(c)
	if condition != "" {
		if ev == nil || ev.Kind != stream.PeerError || ev.Err.Condition != condition {
			if ev == nil {
				return fmt.Errorf("nothing came (%v)", c.conn.Err())
			}
			return fmt.Errorf("received %s", xmppclient.XML(ev))
		}
		ev = w.next(c)
	}
	if ev != nil && ev.Kind != stream.Closed {
		return fmt.Errorf("received %s", xmppclient.XML(ev))
	}
	// The server waits for our end of the stream; then it is gone.
	c.conn.SendRaw([]byte("</stream:stream>"))
	for range 100 {
		w.settle()
		if c.conn.Err() != nil {
			return nil
		}
	}
	return errors.New("the connection is still there")
}

func (w *world) enable(c *client, without, _ string) error {
	if err := c.conn.EnableSM(without == ""); err != nil {
		return err
	}
	want := "<enabled xmlns='urn:xmpp:sm:3' resume='true'/>"
	if without != "" {
		want = "<enabled xmlns='urn:xmpp:sm:3' resume='false'/>"
	}
	return w.receive(c, "", want)
}

// owed looks at what the server keeps for a session.
func (w *world) owed(c *client, arg, _ string) error {
	most, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	w.settle()
	sessions, err := w.srv.Host().Live.Sessions(w.t.Context(), c.jid.Bare())
	for _, s := range sessions {
		if s.JID == c.conn.JID() && s.Queued > most {
			return fmt.Errorf("%d bytes are queued", s.Queued)
		}
	}
	return err
}

func (w *world) acknowledged(c *client, _, _ string) error {
	if err := c.conn.RequestAck(); err != nil {
		return err
	}
	w.settle()
	if n := c.conn.Unacked(); n > 0 {
		return fmt.Errorf("%d stanzas are not acknowledged", n)
	}
	return c.conn.Err()
}

func (w *world) resume(c *client, h, _ string) error {
	if c.conn == nil || c.conn.Session() == "" {
		return errors.New("there is no session to resume")
	}
	old := c.conn
	if old.Err() == nil {
		w.settle()
	}
	conn, err := xmppclient.Login(w.srv.Pipe(!c.starttls), w.config(c))
	if err != nil {
		return err
	}
	handled := old.Handled()
	if h != "" {
		n, err := strconv.ParseUint(h, 10, 32)
		if err != nil {
			return err
		}
		handled = uint32(n)
	}
	if err := conn.Resume(old, handled); err != nil {
		conn.Cut()
		return err
	}
	old.Cut()
	c.conn = conn
	return nil
}

func (w *world) failToResume(c *client, arg, _ string) error {
	h, want, _ := strings.Cut(strings.TrimPrefix(arg, "h='"), "': ")
	return refusal(w.resume(c, h, ""), want)
}

func (w *world) quiet(*client, string, string) error {
	w.settle()
	for _, c := range w.clients {
		if c.conn == nil {
			continue
		}
		for ev, _ := c.conn.Take(); ev != nil; ev, _ = c.conn.Take() {
			continue
		}
	}
	return nil
}

func (w *world) pass(_ *client, arg, _ string) error {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	time.Sleep(d)
	w.settle()
	return nil
}

// remove removes an account from a stopped server's data.
func (w *world) remove(_ *client, arg, _ string) error {
	s, err := store.Open(w.t.Context(), store.Options{Path: w.path})
	if err != nil {
		return err
	}
	return errors.Join(s.RemoveAccount(w.t.Context(), jid.MustParse(arg)), s.Close())
}

func (w *world) restart(_ *client, how, _ string) error {
	w.settle()
	connected := map[string]*client{}
	for name, c := range w.clients {
		if c.conn != nil && c.conn.Err() == nil {
			connected[name] = c
		}
	}
	if err := w.srv.Stop(); err != nil {
		return err
	}
	for name, c := range connected {
		if err := w.disconnected(c, stanza.StreamSystemShutdown, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if how == "restarts" {
		w.start()
	}
	return nil
}
