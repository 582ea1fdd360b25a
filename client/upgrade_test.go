package client_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
)

// TestUpgrade: an account that has keys for SCRAM-SHA-1 alone, as one that came from another server may, gets in by it, and has the stronger ones from
// then on (XEP-0480).
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Options{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	weak, err := sasl.DeriveKeys(sasl.SHA1, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.CreateAccount(t.Context(), jid.MustParse("alice@localhost"), []sasl.Keys{weak}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := startServerOn(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.config("alice")
	wrong := cfg
	wrong.Password = "wrong"
	kept := &client.MemoryStore{}
	for i, step := range []struct {
		cfg       client.Config
		store     client.Store
		mechanism string // "": refused
	}{
		{wrong, nil, ""},
		{cfg, kept, sasl.ScramSHA1Plus},
		{cfg, nil, sasl.ScramSHA512Plus}, // also for a device that knows nothing
		{wrong, nil, ""},
	} {
		step.cfg.Store, step.cfg.Dialer = step.store, w
		if step.mechanism == "" {
			var refused *client.AuthError
			if err := attempt(t, step.cfg); !errors.As(err, &refused) || refused.Condition != sasl.NotAuthorized {
				t.Errorf("login %d: %v", i, err)
			}
			continue
		}
		d := dial(t, step.cfg)
		if on := expect[*client.Connected](d, nil); on.Mechanism != step.mechanism || on.Profile != client.ProfileBest {
			t.Errorf("login %d: %+v", i, on)
		}
		d.Close(d.ctx)
		if step.mechanism == sasl.ScramSHA1Plus { // what all accounts have keys of is counted at the server's start, and every so often
			if err := w.end(); err != nil {
				t.Fatal(err)
			}
			w = newWorldOn(t, dir)
			cfg.Dialer, wrong.Dialer = w, w
		}
	}
	state, err := kept.Load(t.Context(), cfg.Account)
	if err != nil || state.Scram != sasl.ScramSHA1 {
		t.Errorf("kept: %q, %v", state.Scram, err)
	}
	state.Token = ""
	if err := kept.Save(t.Context(), cfg.Account, state); err != nil {
		t.Fatal(err)
	}
	cfg.Store = kept
	for _, pipelined := range []bool{false, true} { // what it remembers of the offer is out of date, then not any more
		d := dial(t, cfg)
		if on := expect[*client.Connected](d, nil); on.Mechanism != sasl.ScramSHA512Plus || on.Pipelined != pipelined {
			t.Errorf("%s, pipelined %v", on.Mechanism, on.Pipelined)
		}
		d.Close(d.ctx)
		if state, _ = kept.Load(t.Context(), cfg.Account); state.Scram != sasl.ScramSHA512 {
			t.Errorf("kept: %q", state.Scram)
		}
		state.Token = ""
		if err := kept.Save(t.Context(), cfg.Account, state); err != nil {
			t.Fatal(err)
		}
	}
}

const upgradable = header + "<stream:features><authentication xmlns='urn:xmpp:sasl:2'>" +
	"<mechanism>SCRAM-SHA-512</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>%s" +
	"<inline><bind xmlns='urn:xmpp:bind:0'/></inline></authentication></stream:features>"

const tasks = "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade>"

// TestWeakerHash: a refused password is tried with weaker hashes only where the server has upgrades on offer, and never below what the account has keys for.
func TestWeakerHash(t *testing.T) {
	for _, c := range []struct {
		tasks, condition, known string
		want                    []string
	}{
		{tasks, "not-authorized", "", []string{sasl.ScramSHA512, sasl.ScramSHA256, sasl.ScramSHA1}},
		{tasks, "not-authorized", sasl.ScramSHA1, []string{sasl.ScramSHA512, sasl.ScramSHA256, sasl.ScramSHA1}},
		{tasks, "not-authorized", sasl.ScramSHA256, []string{sasl.ScramSHA512, sasl.ScramSHA256}},
		{tasks, "not-authorized", sasl.ScramSHA512, []string{sasl.ScramSHA512}},
		{tasks, "account-disabled", "", []string{sasl.ScramSHA512}},
		{"", "not-authorized", "", []string{sasl.ScramSHA512}},
	} {
		f := newFake(t, func(p *peer) {
			p.hear(">")
			p.say(fmt.Sprintf(upgradable, c.tasks))
			for range 5 {
				p.hear("</authenticate>")
				p.say("<failure xmlns='urn:xmpp:sasl:2'><" + c.condition + " xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>")
			}
		})
		cfg := f.config()
		kept := &client.MemoryStore{}
		kept.Save(t.Context(), cfg.Account, client.State{Scram: c.known})
		cfg.Store = kept
		var refused *client.AuthError
		if err := attempt(t, cfg); !errors.As(err, &refused) {
			t.Errorf("%+v: %v", c, err)
		}
		var got []string
		for _, s := range strings.Split(f.heard(), " mechanism='")[1:] {
			name, _, _ := strings.Cut(s, "'")
			got = append(got, name)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: tried %v", c, got)
		}
	}
}

// prove lets the client through SCRAM-SHA-1 with the right keys, up to the server's last message.
func (p *peer) prove() (last string) {
	p.hear(">")
	p.say(fmt.Sprintf(upgradable, tasks))
	for range 2 { // SHA-512 and SHA-256
		p.hear("</authenticate>")
		p.say("<failure xmlns='urn:xmpp:sasl:2'><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></failure>")
	}
	x, err := sasl.NewServer(sasl.ScramSHA1, &sasl.ServerConfig{
		Prepare: func(name string) (string, error) { return name, nil },
		Lookup: func(_ string, h sasl.Hash) (sasl.Keys, error) {
			return sasl.DeriveKeys(h, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
		},
		DummySecret: make([]byte, 16), Iterations: sasl.MinIterations, Advertised: sasl.Advertised{Mechanisms: []string{sasl.ScramSHA1}}, Rand: strings.NewReader(strings.Repeat("nonce", 100)),
	})
	if err != nil {
		p.t.Error(err)
		panic(errScript)
	}
	next := func(heard, tag string) string {
		i := strings.LastIndex(heard, "<"+tag)
		_, text, _ := strings.Cut(heard[i:], ">")
		text, _, _ = strings.Cut(text, "<")
		in, err := base64.StdEncoding.DecodeString(text)
		var out []byte
		if err == nil {
			out, _, err = x.Next(in)
		}
		if err != nil {
			p.t.Error(err)
			panic(errScript)
		}
		return base64.StdEncoding.EncodeToString(out)
	}
	first := next(p.hear("</authenticate>"), "initial-response")
	p.say("<challenge xmlns='urn:xmpp:sasl:2'>" + first + "</challenge>")
	return next(p.hear("</response>"), "response")
}

// TestTaskViolations: what is as good as the password goes to a server that has proved to know it, made as strong as the server's keys must be, and for
// what was asked for, once.
func TestTaskViolations(t *testing.T) {
	follow := func(task, data string) string {
		return "<continue xmlns='urn:xmpp:sasl:2'>" + data + "<tasks><task>" + task + "</task></tasks></continue>"
	}
	salt := func(n int) string {
		return fmt.Sprintf("<task-data xmlns='urn:xmpp:sasl:2'><salt xmlns='urn:xmpp:scram-upgrade:0' iterations='%d'>QV9TWENSWFE2c2VrOGJmX1o=</salt></task-data>", n)
	}
	proof := func(p *peer) string { return "<additional-data>" + p.prove() + "</additional-data>" }
	for _, c := range []struct {
		name   string
		script func(p *peer)
		given  int // hashes
	}{
		{"no proof", func(p *peer) { p.prove(); p.say(follow("UPGR-SCRAM-SHA-512", "") + salt(4096)) }, 0},
		{"a false proof", func(p *peer) {
			p.prove()
			p.say(follow("UPGR-SCRAM-SHA-512", "<additional-data>dj1ub25zZW5zZQ==</additional-data>") + salt(4096))
		}, 0},
		{"another task", func(p *peer) { p.say(follow("UPGR-SCRAM-SHA-1", proof(p)) + salt(4096)) }, 0},
		{"too few iterations", func(p *peer) { p.say(follow("UPGR-SCRAM-SHA-512", proof(p)) + salt(1)) }, 0},
		{"too many iterations", func(p *peer) { p.say(follow("UPGR-SCRAM-SHA-512", proof(p)) + salt(1<<30)) }, 0},
		{"no salt", func(p *peer) {
			p.say(follow("UPGR-SCRAM-SHA-512", proof(p)) + "<task-data xmlns='urn:xmpp:sasl:2'/>")
		}, 0},
		{"twice", func(p *peer) {
			p.say(follow("UPGR-SCRAM-SHA-512", proof(p)) + salt(4096))
			p.hear("</task-data>")
			p.say(follow("UPGR-SCRAM-SHA-512", "") + salt(4096))
		}, 1},
		{"a second proof", func(p *peer) {
			p.say(follow("UPGR-SCRAM-SHA-512", proof(p)) + salt(4096))
			p.hear("</task-data>")
			p.say(strings.Replace(fmt.Sprintf(welcome2, "<bound xmlns='urn:xmpp:bind:0'/>"), "<auth", "<additional-data>dj1ub25zZW5zZQ==</additional-data><auth", 1))
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.script)
			cfg := f.config()
			cfg.ConnectTimeout = patience
			if err := attempt(t, cfg); err == nil {
				t.Error("logged in")
			}
			f.wg.Wait()
			if n := strings.Count(f.heard(), "<hash"); n != c.given {
				t.Errorf("%d hashes were given", n)
			}
		})
	}
}
