package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/xep"
)

// The people of the demonstration.
const (
	demoPerson  = "romeo@localhost"
	demoContact = "juliet@localhost"
)

// demoWait bounds what the demonstration waits for at its start.
const demoWait = 20 * time.Second

// demo is a server of its own that listens nowhere, with a person who has two devices and a contact who answers.
type demo struct {
	srv      *server.Server
	roots    *x509.CertPool
	password string
	accounts []*account.Account
}

// demo shows it until the person quits.
func (p *program) demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "carillon-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	life := ctx
	ctx, cancel := context.WithCancel(ctx)
	d, stop, err := startDemo(ctx, dir)
	defer func() {
		if life.Err() != nil { // a signal: what failed was interrupted
			err = nil
		}
	}()
	if err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, d.close(), stop())
	}()
	var screens []*chat.Model
	for _, name := range []string{"desk", "phone"} {
		a, err := d.start(ctx, demoPerson, name)
		if err != nil {
			return err
		}
		screens = append(screens, chat.New(chat.Config{Context: ctx, Device: a, Account: jid.MustParse(demoPerson), Name: name, Status: a.Status(), NoColor: noColor(),
			Contact: jid.MustParse(demoContact)}))
	}
	contact, err := d.start(ctx, demoContact, "balcony")
	if err != nil {
		return err
	}
	// From now on nobody knows the password, so that the access of a device can be ended without another one (XEP-0494 3.2).
	if err := d.newPassword(ctx); err != nil {
		return err
	}
	var answering sync.WaitGroup
	answering.Go(func() { answer(ctx, contact) })
	err = p.show(ctx, chat.NewPair(screens[0], screens[1]))
	cancel()
	answering.Wait()
	return err
}

// startDemo runs the server and makes the accounts. What it gives last ends the server.
func startDemo(ctx context.Context, dir string) (*demo, func() error, error) {
	c := config.Default()
	c.Data, c.C2S, c.C2STLS, c.HTTP = dir, config.Off, config.Off, config.Off
	c.Auth.Iterations = sasl.MinIterations // the password lives as long as the demonstration
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	srv, err := server.New(life, c, slog.New(slog.DiscardHandler))
	if err != nil {
		end()
		return nil, nil, err
	}
	done := make(chan error, 1)
	go func() { done <- srv.Run(life) }()
	stop := func() error {
		end()
		return <-done
	}
	d := &demo{srv: srv, roots: x509.NewCertPool(), password: rand.Text()}
	if err := d.prepare(ctx); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return d, stop, nil
}

func (d *demo) prepare(ctx context.Context) error {
	select {
	case <-d.srv.Ready():
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, i := range d.srv.Certificates() {
		document, err := os.ReadFile(filepath.Clean(i.Cert))
		if err != nil {
			return err
		}
		d.roots.AppendCertsFromPEM(document)
	}
	for _, name := range []string{demoPerson, demoContact} {
		if _, err := d.srv.Host().Call(ctx, "user add", map[string]string{"jid": name, "password": d.password}); err != nil {
			return err
		}
	}
	return nil
}

// newPassword gives the person's account a password that none of its devices knows.
func (d *demo) newPassword(ctx context.Context) error {
	_, err := d.srv.Host().Call(ctx, "user passwd", map[string]string{"jid": demoPerson, "password": rand.Text()})
	return err
}

// DialContext connects to the server in this process.
func (d *demo) DialContext(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	d.srv.ServeConn(far, true)
	return near, nil
}

// start logs a device in, and lets the other account see its presence.
func (d *demo) start(ctx context.Context, name, device string) (*account.Account, error) {
	a, err := account.Start(ctx, account.Config{Client: client.Config{
		Account: jid.MustParse(name), Password: d.password, Resource: device, Agent: xep.UserAgent{Software: "carillon", Device: device},
		RootCAs: d.roots, Dialer: d, Addresses: []client.Address{{Host: "localhost:5223", TLS: true}},
	}})
	if err != nil {
		return nil, err
	}
	d.accounts = append(d.accounts, a)
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	select {
	case <-a.Settled():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s := a.Status(); !s.Online {
		return nil, fmt.Errorf("demonstration: %w", s.Err)
	}
	other := jid.MustParse(demoContact)
	if name == demoContact {
		other = jid.MustParse(demoPerson)
	}
	if _, err := a.Client().Approve(ctx, other); err != nil {
		return nil, err
	}
	_, err = a.Client().Subscribe(ctx, other)
	return a, err
}

func (d *demo) close() error {
	var errs []error
	for _, a := range d.accounts {
		errs = append(errs, a.Close(context.Background()))
	}
	return errors.Join(errs...)
}

// demoLines are what the contact says, in turn, to whatever the person says.
func demoLines() []string {
	return []string{
		"Both of your devices just showed that. It is in the archive, in one order for all of them.",
		"Press ↑, choose a message and b: it branches off a thread. ^T lists the threads.",
		"Now ^W: the other device. Begin to type there: whose answer it is shows on the first one as \"taken\".",
		"F2 lists your devices; d ends the access of one.",
		"That is all that I was told to say. F1 lists the keys, ^C leaves. Parting is such sweet sorrow.",
	}
}

// Times of the contact's.
const (
	demoThinks = 700 * time.Millisecond
	demoWrites = 1500 * time.Millisecond
)

// answer is the contact: it speaks first, and then answers.
func answer(ctx context.Context, a *account.Account) {
	person := jid.MustParse(demoPerson)
	pause := func(d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	speak := func(ev convo.Event) bool {
		return pause(demoThinks) && a.Do(ctx, convo.Typing{Conversation: person, State: convo.Composing}) == nil && pause(demoWrites) && a.Do(ctx, ev) == nil
	}
	if !speak(convo.NewThread{Conversation: person, Body: "O Romeo, Romeo! Wherefore art thou Romeo? Write me something, on either device."}) {
		return
	}
	said := 0
	seen := map[convo.EntryID]bool{}
	for {
		if _, err := a.Changes(ctx); err != nil {
			return
		}
		var fresh []convo.EntryID
		if err := a.Look(ctx, func(e *convo.Engine) {
			v, _ := e.Conversation(person, 0)
			for _, en := range v.Entries {
				if !en.Own && !seen[en.ID] && strings.TrimSpace(en.Body) != "" {
					seen[en.ID] = true
					fresh = append(fresh, en.ID)
				}
			}
		}); err != nil {
			return
		}
		for _, id := range fresh {
			if lines := demoLines(); said < len(lines) {
				_ = a.Do(ctx, convo.Attention{Conversation: person, Act: convo.Seen})
				if !speak(convo.Reply{Conversation: person, To: id, Body: lines[said]}) {
					return
				}
				said++
			}
		}
	}
}
