package crash

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

// process is the server's binary on one data folder.
type process struct {
	t      *testing.T
	bin    string
	data   string
	domain string
	args   []string // beside those that every one has
	addr   string
	ready  []string     // the addresses at which it listens when it has started, beside addr
	log    bytes.Buffer // of the run that goes on
	cmd    *exec.Cmd
	keys   xmppclient.Cache
}

// newProcess builds the server. data is where it keeps everything.
func newProcess(t *testing.T, data string) *process {
	t.Helper()
	p := &process{t: t, bin: filepath.Join(t.TempDir(), "carillon"), data: data, domain: "localhost"}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command, to build the server")
	}
	if out, err := exec.Command("go", "build", "-o", p.bin, "carillon.im/cmd/carillon").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	l.Close()
	return p
}

func (p *process) addUser(name string) {
	p.t.Helper()
	cmd := exec.Command(p.bin, "user", "add", name+"@"+p.domain, "--password-stdin", "--data", p.data, "--domain", p.domain)
	cmd.Stdin = strings.NewReader("secret\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("adding %s: %v\n%s", name, err, out)
	}
}

// start starts the server and waits until it can be connected to.
func (p *process) start() {
	p.t.Helper()
	p.log.Reset()
	p.cmd = exec.Command(p.bin, append([]string{"serve", "--data", p.data, "--domain", p.domain, "--c2s", "off", "--c2s-tls", p.addr, "--http", "off", "--log-level", "info",
		"--set", "limits.offline_messages=1000000", "--set", "limits.mam_page_max=1000", "--set", "limits.roster_items=100000"}, p.args...)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for waiting := append([]string{p.addr}, p.ready...); ; {
		c, err := net.Dial("tcp", waiting[0])
		if err == nil {
			c.Close()
			if waiting = waiting[1:]; len(waiting) == 0 {
				return
			}
			continue
		}
		if time.Now().After(deadline) {
			p.kill()
			p.t.Fatalf("the server did not start: %v\n%s", err, &p.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waitFor waits for something that must happen.
func (p *process) waitFor(what string, happened func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.fatal(errors.New("there is no " + what))
		}
	}
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.cmd = nil
	if strings.Contains(p.log.String(), "panic") {
		p.t.Errorf("the server's log:\n%s", &p.log)
	}
}

// fatal ends the test with an error and what the server has to say to it.
func (p *process) fatal(err error) {
	p.t.Helper()
	p.kill()
	p.t.Fatalf("%v; the server's log:\n%s", err, &p.log)
}

// stop stops the server in order.
func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	p.cmd.Wait()
	p.cmd = nil
}

// connect connects and authenticates; observe may be nil.
func (p *process) connect(name string, observe func(*stream.Event)) (*xmppclient.Client, error) {
	nc, cfg, err := p.dial(name, observe)
	if err != nil {
		return nil, err
	}
	return xmppclient.Login(nc, cfg)
}

// dial connects, and says what a client needs to know.
func (p *process) dial(name string, observe func(*stream.Event)) (net.Conn, xmppclient.Config, error) {
	nc, err := net.Dial("tcp", p.addr)
	return nc, xmppclient.Config{Account: jid.MustParse(name + "@" + p.domain), Password: "secret", Direct: true, Keys: &p.keys,
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: p.domain}, Observe: observe}, err // self-signed, and not what is tested
}

// login connects and binds; observe may be nil.
func (p *process) login(name, resource string, observe func(*stream.Event)) (*xmppclient.Client, error) {
	c, err := p.connect(name, observe)
	if err != nil {
		return nil, err
	}
	if err := c.Bind(resource); err != nil {
		c.Cut()
		return nil, err
	}
	return c, nil
}

// archive pages the whole archive of an account behind an id. It calls each
// for every message and returns the last id.
func (p *process) archive(name, after string, each func(id string, message xmltree.Element)) (string, error) {
	c, err := p.login(name, "checker", nil)
	if err != nil {
		return after, err
	}
	defer c.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		set := "<max>1000</max>"
		if after != "" {
			set += "<after>" + after + "</after>"
		}
		if err := c.Send("<iq type='set' id='page'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>" + set + "</set></query></iq>"); err != nil {
			return after, err
		}
		for {
			ev, err := c.Next(ctx)
			if err != nil {
				return after, fmt.Errorf("paging %s: %w", name, err)
			}
			st := ev.Stanza
			if st == nil {
				return after, fmt.Errorf("paging %s: %s", name, xmppclient.XML(ev))
			}
			if st.Kind == stanza.IQ && st.ID == "page" {
				fin := st.Payload()
				if st.Type != stanza.TypeResult {
					return after, fmt.Errorf("paging %s: %s", name, xmppclient.XML(ev))
				}
				if fin.Attr("complete") == "true" {
					return after, nil
				}
				break
			}
			if r := st.Child("urn:xmpp:mam:2", "result"); !r.IsZero() {
				after = r.Attr("id")
				each(after, r.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message"))
			}
		}
	}
}

// roster is the addresses in an account's roster.
func (p *process) roster(name string) (map[string]bool, error) {
	c, err := p.login(name, "checker", nil)
	if err != nil {
		return nil, err
	}
	defer c.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"); err != nil {
		return nil, err
	}
	ev, err := c.Next(ctx)
	if err != nil {
		return nil, err
	}
	items := map[string]bool{}
	for it := range ev.Stanza.Payload().Children() {
		items[it.Attr("jid")] = true
	}
	return items, nil
}
