package flights

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/config"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// missed is how many messages a device lacks, and page how many it asks for at
// once in a flow that pages.
const (
	missed = 50
	page   = 50
)

// What the flows are made of.
const (
	carbons  = "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"
	roster   = "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"
	presence = "<presence/>"
)

// flow is one way from a secured connection to synced.
type flow struct {
	name   string
	trips  int // with carillon
	modern bool
	run    func(*device) error
}

func flows() []flow {
	return []flow{
		{"classic, each request after the last answer", 8, false, func(d *device) error {
			err := d.classic("phone")
			if err == nil {
				err = d.ask(carbons, "carbons")
			}
			if err == nil {
				err = d.ask(roster, "roster")
			}
			if err == nil {
				err = d.write([]byte(presence))
			}
			if err == nil {
				err = d.catchUp("")
			}
			return err
		}},
		{"classic, all requests at once when bound", 6, false, func(d *device) error {
			if err := d.classic("phone"); err != nil {
				return err
			}
			return d.catchUp(carbons + roster + presence)
		}},
		{"SASL2, Bind 2 and MAM, each after the last answer", 5, true, func(d *device) error {
			_, err := d.sasl2(false, false, &stream.Login{Bind: &xep.Bind2{Carbons: true}})
			if err == nil {
				err = d.ask(roster, "roster")
			}
			if err == nil {
				err = d.write([]byte(presence))
			}
			if err == nil {
				err = d.catchUp("")
			}
			return err
		}},
		{"SASL2, Bind 2 and MAM, all that is possible at once", 3, true, func(d *device) error {
			if _, err := d.sasl2(true, false, &stream.Login{Bind: &xep.Bind2{Carbons: true}}); err != nil {
				return err
			}
			return d.catchUp(roster + presence)
		}},
		{"session request with SCRAM", 2, true, func(d *device) error { return d.session(false) }},
		{"session request with FAST", 1, true, func(d *device) error { return d.session(true) }},
	}
}

// catchUp pages the archive from the last known message on; ahead goes in front
// of the first query.
func (d *device) catchUp(ahead string) error {
	last := d.after
	for n := 1; ; n++ {
		id := "page" + strconv.Itoa(n)
		query := fmt.Sprintf("<iq type='set' id='%s'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>%d</max><after>%s</after></set></query></iq>", id, page, last)
		ids := []string{id}
		if ahead != "" && n == 1 {
			query, ids = ahead+query, []string{id, "roster"}
		}
		if err := d.ask(query, ids...); err != nil {
			return err
		}
		if d.pages[id].Attr("complete") == "true" {
			return nil
		}
		last = d.stamps[len(d.stamps)-1]
	}
}

// session is XMPP 2.0's request.
func (d *device) session(token bool) error {
	l := &stream.Login{Bind: &xep.Bind2{Session: &xep.SessionRequest{Parts: []xep.SessionAsk{
		{Part: xep.SessionSync, Sync: &xep.Sync{After: d.after}},
		{Part: xep.SessionRoster},
		{Part: xep.SessionPresence, Presence: stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, "")},
	}}}}
	if token {
		d.count++
		l.Fast = &xep.Fast{Count: d.count}
	}
	w, err := d.sasl2(true, token, l)
	if err != nil {
		return err
	}
	for _, r := range w.Bound.Session {
		if r.Err != nil {
			return r.Err
		}
	}
	if err := d.until(func() bool { return d.synced != nil }); err != nil {
		return err
	}
	if !d.synced.Complete || d.synced.Count != missed {
		return fmt.Errorf("synced: %+v", *d.synced)
	}
	d.answered["roster"] = d.answered[xep.SyncQueryID]
	return nil
}

// host is a running server with the domain localhost.
type host struct {
	name, addr string
	modern     bool // it has all flows
	register   func(name, password string) error
}

// carillon runs in process.
func carillon(t *testing.T) *host {
	t.Helper()
	cfg := config.Default()
	cfg.Data, cfg.C2S, cfg.C2STLS, cfg.HTTP = t.TempDir(), config.Off, "127.0.0.1:0", config.Off
	cfg.Auth.Iterations = sasl.MinIterations
	ctx, stop := context.WithCancel(context.Background())
	s, err := server.NewWith(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &host{name: "carillon", addr: s.Addrs()["c2s_tls"], modern: true, register: func(name, password string) error {
		_, err := s.Host().Call(ctx, "user add", map[string]string{"jid": name + "@localhost", "password": password})
		return err
	}}
}

func newAccount(name string) *account {
	return &account{jid: jid.MustParse(name + "@localhost"), password: "sesame", agent: xep.UserAgent{ID: "d4565fa7-4d72-4749-b3d3-740edbf87770"}}
}

// away makes an account whose device has missed messages: they came while another
// device was there, so that none is kept for who is offline.
func (h *host) away() (*account, error) {
	alice, bob := newAccount("alice"), newAccount("bob")
	for _, a := range []*account{alice, bob} {
		if err := h.register(a.jid.Local(), a.password); err != nil {
			return nil, fmt.Errorf("registering %s: %w", a.jid, err)
		}
	}
	witness, err := connect(alice, h.addr, 0)
	if err != nil {
		return nil, err
	}
	defer witness.close()
	if err := witness.classic("witness"); err != nil {
		return nil, err
	}
	if err := witness.ask(presence+roster, "roster"); err != nil {
		return nil, err
	}
	sender, err := connect(bob, h.addr, 0)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	if err := sender.classic("pen"); err != nil {
		return nil, err
	}
	for n := range missed + 1 {
		if err := sender.write(fmt.Appendf(nil, "<message to='%s' type='chat' id='m%d'><body>It was a bright cold day in April, and the clocks were striking thirteen.</body></message>", alice.jid, n)); err != nil {
			return nil, err
		}
	}
	if err := witness.until(func() bool { return len(witness.ids) == missed+1 }); err != nil {
		return nil, err
	}
	if alice.after = witness.stamps[0]; alice.after == "" {
		return nil, fmt.Errorf("%s gave no archive id", h.name)
	}
	if !h.modern {
		return alice, nil
	}
	d, err := connect(alice, h.addr, 0)
	if err != nil {
		return nil, err
	}
	defer d.close()
	w, err := d.sasl2(false, false, &stream.Login{TokenFor: sasl.HTSHA256Exporter, Bind: &xep.Bind2{}})
	if err != nil {
		return nil, err
	}
	if w.Token == nil {
		return nil, fmt.Errorf("%s gave no token", h.name)
	}
	alice.token = w.Token.Token
	return alice, nil
}

// once catches up and says how many flights and how much time it took from
// the beginning of the connection on.
func (f *flow) once(h *host, a *account, delay time.Duration) (flights int, took time.Duration, err error) {
	start := time.Now()
	d, err := connect(a, h.addr, delay)
	if err != nil {
		return 0, 0, err
	}
	defer d.close()
	if err := f.run(d); err != nil {
		return 0, 0, fmt.Errorf("%s, %s: %w", h.name, f.name, err)
	}
	took, flights = time.Since(start), d.conn.flights
	if !d.answered["roster"] {
		return 0, 0, fmt.Errorf("%s, %s: synced without the roster", h.name, f.name)
	}
	var want []string
	for n := range missed {
		want = append(want, "m"+strconv.Itoa(n+1))
	}
	if !slices.Equal(d.ids, want) {
		return 0, 0, fmt.Errorf("%s, %s: got %q", h.name, f.name, d.ids)
	}
	return flights, took, nil
}

// TestFlights is S-2: one flight with FAST, two with SCRAM, and what the others
// need.
func TestFlights(t *testing.T) {
	h := carillon(t)
	a, err := h.away()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows() {
		n, _, err := f.once(h, a, 0)
		if err != nil {
			t.Error(err)
		} else if n != f.trips {
			t.Errorf("%s: %d flights, want %d", f.name, n, f.trips)
		}
	}
}

// TestTable prints the flows side by side, with the time at a round trip of 150 ms.
func TestTable(t *testing.T) {
	if os.Getenv("CARILLON_FLIGHTS") != "1" {
		t.Skip("needs CARILLON_FLIGHTS=1, Prosody and ejabberd: make flights")
	}
	const oneWay, runs = 75 * time.Millisecond, 5
	hosts := []*host{carillon(t), prosody(t), ejabberd(t)}
	var accounts []*account
	head, rule := "| flow, from the first byte after TLS |", "| --- |"
	for _, h := range hosts {
		a, err := h.away()
		if err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		accounts = append(accounts, a)
		head, rule = head+" "+h.name+" |", rule+" --- |"
	}
	table := []string{head, rule}
	list := flows()
	type cell struct {
		flights int
		times   []time.Duration
	}
	cells := make([][]cell, len(list))
	for i := range cells {
		cells[i] = make([]cell, len(hosts))
	}
	for range runs { // interleaved: what else the machine does is everybody's
		for i := range list {
			for j, h := range hosts {
				if list[i].modern && !h.modern {
					continue
				}
				n, took, err := list[i].once(h, accounts[j], oneWay)
				if err != nil {
					t.Fatal(err)
				}
				c := &cells[i][j]
				c.flights, c.times = n, append(c.times, took)
			}
		}
	}
	for i, f := range list {
		row := "| " + f.name + " |"
		for _, c := range cells[i] {
			if len(c.times) == 0 {
				row += " – |"
				continue
			}
			slices.Sort(c.times)
			row += fmt.Sprintf(" %d, %.2f s |", c.flights, c.times[runs/2].Seconds())
		}
		table = append(table, row)
	}
	fmt.Println("\n" + strings.Join(table, "\n") + "\n")
}
