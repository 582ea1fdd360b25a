package scripts

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"carillon.im/jid"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/server/store"
	"carillon.im/test/inprocess"
	"carillon.im/test/xmppclient"
)

// identity is what all scripts use and none changes.
var identity = sync.OnceValues(inprocess.NewIdentity)

func TestMain(m *testing.M) {
	code := m.Run()
	if id, err := identity(); err == nil && id.Remove() != nil {
		code = 1
	}
	os.Exit(code)
}

// world is a running server with the clients of a script.
type world struct {
	t      *testing.T
	script *script
	id     *inprocess.Identity
	cfg    config.Config
	path   string // of the store
	log    inprocess.Log
	srv    *inprocess.Server

	fault struct {
		sync.Mutex
		err error
	}
	clients map[string]*client
	vars    bindings
}

// client is a person with a connection, or with what is left of one.
type client struct {
	*person
	conn *xmppclient.Client
}

func newWorld(t *testing.T, s *script, path string) *world {
	id, err := identity()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, script: s, id: id, path: path, clients: map[string]*client{}, vars: bindings{}}
	w.cfg = id.Config()
	for _, line := range s.settings {
		set := config.Set
		if strings.Contains(line, "[{") { // tables, which --set doesn't know
			set = func(c *config.Config, line string) error { return config.Parse(c, "", []byte(line)) }
		}
		if err := set(&w.cfg, line); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range s.clients {
		if p.component != "" {
			if w.cfg.Components == nil {
				w.cfg.Components = map[string]config.Component{}
			}
			w.cfg.Components[p.jid.Domain()] = config.Component{Secret: p.component}
		}
	}
	w.start()
	accounts := map[jid.JID]store.AccountID{}
	for _, p := range s.clients {
		w.clients[p.name] = &client{person: p}
		if p.resource != "" {
			full, err := p.jid.Bare().WithResource(p.resource)
			if err != nil {
				t.Fatal(err)
			}
			w.vars[p.name] = full.String()
		}
		if p.stranger || p.component != "" || accounts[p.jid.Bare()] != 0 {
			continue
		}
		if accounts[p.jid.Bare()], err = w.srv.AddAccount(context.Background(), id, p.jid.Bare()); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range s.contacts {
		if err := w.srv.PutContact(accounts[c.of], int64(i+1), store.RosterItem{JID: c.jid, Subscription: c.subscription}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// start runs the server. Debug lines are logged too, so that what they format is run.
func (w *world) start() {
	var err error
	if w.srv, err = inprocess.Start(w.cfg, server.Options{Path: w.path, Fault: w.faulty}, w.log.Logger(slog.LevelDebug-4)); err != nil {
		w.t.Fatal(err)
	}
}

// faulty fails the steps of the writer while the script wants it.
func (w *world) faulty(point string) error {
	w.fault.Lock()
	defer w.fault.Unlock()
	if point == "read" || point == "open" {
		return nil
	}
	return w.fault.err
}

func (w *world) fail(kind string) error {
	w.fault.Lock()
	defer w.fault.Unlock()
	switch kind {
	case "":
		w.fault.err = nil
	case "full":
		w.fault.err = fmt.Errorf("told to: %w", store.ErrFull)
	case "io":
		w.fault.err = fmt.Errorf("told to: %w", syscall.EIO)
	default:
		return fmt.Errorf("unknown fault %q", kind)
	}
	return nil
}

// end stops the server and holds it to having no bug.
func (w *world) end() {
	if err := w.srv.Stop(); err != nil {
		w.t.Error(err)
	}
	for _, c := range w.clients {
		if c.conn != nil {
			c.conn.Cut()
		}
	}
	if err := w.log.Check(); err != nil {
		w.t.Error(err)
	}
	if w.t.Failed() {
		w.t.Logf("log:\n%s", w.log.String())
	}
}

func (w *world) config(c *client) xmppclient.Config {
	return xmppclient.Config{Account: c.jid.Bare(), Password: c.password, TLS: w.id.TLS, Direct: !c.starttls, Keys: w.id.Cache, ShowAcks: c.acks}
}
