package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// TestSuspend ends a program and begins another one in its session: what was not
// handled comes again, what was not acknowledged is sent.
func TestSuspend(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	store := client.FileStore{Dir: filepath.Join(t.TempDir(), "state")}
	cfg := w.config("bob")
	cfg.Store = store
	bob, alice := dial(t, cfg), dial(t, w.config("alice"))
	expect[*client.Synced](bob, nil)
	expect[*client.Synced](alice, nil)
	full := bob.JID()
	for _, body := range []string{"one", "two", "three"} {
		alice.acknowledged(alice.send(chat("bob@localhost", body)))
	}
	expect(bob, bodyIs("one"))
	bob.Handled()
	if err := bob.Suspend(bob.ctx); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(store.Dir, "bob@localhost.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v", info, err)
	}
	again := dial(t, cfg)
	if on := expect[*client.Connected](again, nil); !on.Resumed || on.JID != full {
		t.Fatalf("connected: %+v", on)
	}
	expect(again, bodyIs("two"))
	expect(again, bodyIs("three"))
	again.acknowledged(again.send(chat("alice@localhost", "back")))
	expect(alice, bodyIs("back"))
	if saved, err := store.Load(t.Context(), cfg.Account); err != nil || saved.Session != nil {
		t.Errorf("the session is there to be taken up twice: %v", err)
	}
}

// TestProfiles holds each profile to what the server grants, over both flows.
func TestProfiles(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	for _, p := range []client.Profile{client.ProfileBest, client.ProfileIMNG, client.ProfileCarbons, client.ProfileClassic} {
		cfg := w.config("bob")
		cfg.Profile = p
		d := dial(t, cfg)
		if on := expect[*client.Connected](d, nil); on.Profile != p || on.CatchUp != (p == client.ProfileBest) || !on.Management {
			t.Errorf("profile %d: %+v", p, on)
		}
		d.Close(d.ctx)
	}
	cfg := w.config("alice")
	cfg.Profile, cfg.Agent.ID = client.ProfileCarbons, "7c2bf3f7-0000-4000-8000-000000000001"
	other := dial(t, cfg)
	expect[*client.Connected](other, nil)
	alice.acknowledged(alice.send(chat("bob@localhost", "copied")))
	carbon := expect[*client.Carbon](other, nil)
	if !carbon.Sent || carbon.Message.To != jid.MustParse("bob@localhost") {
		t.Errorf("carbon: %s", carbon.Message.AppendTo(nil))
	}
}

// TestPresence is a quiet device that shows itself later, and says what it can
// (MINE-8, MINE-9).
func TestPresence(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	cfg := w.config("bob")
	cfg.Quiet, cfg.Node, cfg.Features = true, "https://client.example", []string{xep.NSMine}
	bob := dial(t, cfg)
	for _, d := range []*device{alice, bob} {
		to := jid.MustParse("bob@localhost")
		if d == bob {
			to = jid.MustParse("alice@localhost")
		}
		for _, f := range []func(context.Context, jid.JID) (*client.Receipt, error){d.Approve, d.Subscribe} {
			if _, err := f(d.ctx, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What comes behind an answer was not sent before it: bob's presence isn't.
	if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
	away := stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, "<show>away</show>")
	if err := bob.SetPresence(away); err != nil {
		t.Fatal(err)
	}
	got := expect(alice, func(r *client.Received) bool {
		return r.Stanza.Kind == stanza.Presence && r.Stanza.From == bob.JID() && r.Stanza.Type == ""
	})
	if got.Stanza.Child(stanza.NSClient, "show").Text() != "away" {
		t.Errorf("presence: %s", got.Stanza.AppendTo(nil))
	}
	caps, ok := xep.ParseCaps(got.Stanza.Child(xep.NSCaps, "c"))
	if !ok {
		t.Fatal("no capabilities")
	}
	go func() { // answers are the library's, but somebody has to take the events
		for {
			if _, err := bob.Next(bob.ctx); err != nil {
				return
			}
		}
	}()
	info, err := alice.Disco(alice.ctx, bob.JID(), caps.Query())
	if err != nil {
		t.Fatal(err)
	}
	if ver, _ := xep.CapsVer("sha-1", info); ver != caps.Ver || !slices.Contains(info.Features, xep.NSMine) {
		t.Errorf("capabilities: %+v", info)
	}
	_, err = alice.IQ(alice.ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, bob.JID(), "<query xmlns='jabber:iq:version'/>"))
	if e := (*stanza.Error)(nil); !errors.As(err, &e) || e.Condition != stanza.ServiceUnavailable {
		t.Errorf("an unknown request: %v", err)
	}
}

func TestBlocking(t *testing.T) {
	w := newWorld(t, "alice")
	alice := dial(t, w.config("alice"))
	spammer := jid.MustParse("spam@elsewhere.example")
	if list, err := alice.BlockList(alice.ctx); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := alice.Block(alice.ctx, spammer); err != nil {
		t.Fatal(err)
	}
	if b := expect[*client.BlockListChanged](alice, nil); !slices.Equal(b.Blocked, []jid.JID{spammer}) {
		t.Errorf("blocked: %+v", b)
	}
	if list, err := alice.BlockList(alice.ctx); err != nil || !slices.Equal(list, []jid.JID{spammer}) {
		t.Errorf("%v, %v", list, err)
	}
	if err := alice.Unblock(alice.ctx); err != nil {
		t.Fatal(err)
	}
	if b := expect[*client.BlockListChanged](alice, nil); !b.Emptied {
		t.Errorf("unblocked: %+v", b)
	}
}

// TestDevices lists the account's programs and ends one (XEP-0494 3.1, 3.2).
func TestDevices(t *testing.T) {
	seen := time.Date(2023, 4, 6, 14, 26, 8, 0, time.UTC)
	phone := xep.Client{ID: "phone", Connected: true, Session: true, Fast: true, FirstSeen: seen, LastSeen: seen.Add(time.Hour), Software: "Gajim", Device: "Juliet's phone"}
	d := dial(t, newFake(t, func(p *peer) {
		p.manage("1")
		p.say("<iq type='result' id='" + answerID(p.hear("<list xmlns='urn:xmpp:cam:0'/></iq>")) + "'>" + string(xep.AppendClients(nil, []xep.Client{phone})) + "</iq>")
		p.say("<iq type='result' id='" + answerID(p.hear("<revoke xmlns='urn:xmpp:cam:0' id='phone'/></iq>")) + "'/>")
	}).config())
	list, err := d.Devices(d.ctx)
	if err != nil || len(list) != 1 || list[0] != phone {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := d.EndDevice(d.ctx, list[0].ID); err != nil {
		t.Error(err)
	}
}

// TestEndDevice ends a program of the account at carillon: who knows the password can't be kept out without changing it; then the session ends, and neither
// the password nor the token that was kept lets it in again (XEP-0494 3.2).
func TestEndDevice(t *testing.T) {
	w := newWorld(t, "alice")
	named := func(name string, kept client.Store) client.Config {
		cfg := w.config("alice")
		cfg.Agent, cfg.Store = xep.UserAgent{Software: "carillon", Device: name}, kept
		return cfg
	}
	kept := &client.MemoryStore{}
	desk, phone := dial(t, named("desk", nil)), dial(t, named("phone", kept))
	expect[*client.Connected](phone, nil)
	find := func(name string) (one xep.Client, all int) {
		t.Helper()
		list, err := desk.Devices(desk.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Device == name {
				one = c
			}
		}
		return one, len(list)
	}
	one, all := find("phone")
	for all < 2 && desk.ctx.Err() == nil { // a login doesn't wait until it is written down which program it was
		one, all = find("phone")
	}
	if all != 2 || one.ID == "" || !one.Connected || !one.Fast || !one.Password || one.Software != "carillon" || one.FirstSeen.IsZero() {
		t.Fatalf("%d devices, phone: %+v", all, one)
	}
	var refused *stanza.Error
	if err := desk.EndDevice(desk.ctx, one.ID); !errors.Is(err, client.ErrPasswordKnown) || !errors.As(err, &refused) {
		t.Fatalf("who knows the password: %v", err)
	}
	if err := desk.ChangePassword(desk.ctx, ""); !errors.As(err, &refused) || refused.Condition != stanza.BadRequest {
		t.Errorf("none at all: %v", err)
	}
	if err := desk.ChangePassword(desk.ctx, "<changed> & new"); err != nil {
		t.Fatal(err)
	}
	if err := desk.EndDevice(desk.ctx, one.ID); err != nil {
		t.Fatal(err)
	}
	end := expect(phone, func(d *client.Disconnected) bool { return d.Final })
	var auth *client.AuthError
	if !errors.As(end.Err, &auth) || auth.Condition != sasl.NotAuthorized {
		t.Errorf("its end: %v", end.Err)
	}
	if state, _ := kept.Load(t.Context(), phone.Account()); state.Token != "" {
		t.Error("the token is kept")
	}
	if one, all := find("phone"); all != 1 {
		t.Errorf("%d devices, phone: %+v", all, one)
	}
	if err := desk.EndDevice(desk.ctx, one.ID); !errors.As(err, &refused) || refused.Condition != stanza.ItemNotFound {
		t.Errorf("twice: %v", err)
	}

	// Who changed it logs in with the new one.
	w.cut()
	expect[*client.Disconnected](desk, nil)
	expect[*client.Connected](desk, nil)
}

// TestRooms: the rooms to enter go with the login, each is answered by its name, and there are at most MaxRooms (X2-37).
func TestRooms(t *testing.T) {
	w := newWorld(t, "alice")
	cfg := w.config("alice")
	var rooms []client.Room
	for i := range client.MaxRooms + 5 {
		rooms = append(rooms, client.Room{JID: jid.MustParse(fmt.Sprint("room", i, "@rooms.localhost")), Nick: "it's me", Sync: &xep.Sync{Last: time.Hour}})
	}
	cfg.Rooms = func() []client.Room { return rooms }
	on := expect[*client.Connected](dial(t, cfg), nil)
	joined := 0
	for _, r := range on.Session {
		if r.Part != xep.SessionJoin {
			continue
		}
		if r.Room != rooms[joined].JID.String() {
			t.Errorf("answer %d is about %q", joined, r.Room)
		}
		joined++
	}
	if joined != client.MaxRooms {
		t.Errorf("%d rooms: %+v", joined, on.Session)
	}
	cfg.Rooms = func() []client.Room { return nil }
	if on := expect[*client.Connected](dial(t, cfg), nil); len(on.Session) != 3 {
		t.Errorf("without rooms: %+v", on.Session)
	}
}

// TestOffline begins without a server, and goes on when there is one.
func TestOffline(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	w.reachable(false)
	cfg := w.config("alice")
	cfg.RetryMin, cfg.RetryMax = patience*10, patience*10 // NetworkChanged ends the pause
	c, err := client.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	alice := &device{c, t, ctx}
	defer c.Close(ctx)
	if off := expect[*client.Disconnected](alice, nil); off.Err == nil || off.Final || off.Retry < patience {
		t.Errorf("disconnected: %+v", off)
	}
	r := alice.send(chat("bob@localhost", "later"))
	if state, final, _ := r.State(); state != client.Queued || final {
		t.Errorf("delivery: %v", state)
	}
	w.reachable(true)
	alice.NetworkChanged()
	expect[*client.Connected](alice, nil)
	alice.acknowledged(r)
}

// TestNetworkChanged finds out that a connection leads nowhere.
func TestNetworkChanged(t *testing.T) {
	w := newWorld(t, "alice")
	cfg := w.config("alice")
	hole := &blackhole{world: w}
	cfg.Dialer = hole
	cfg.ProbeTimeout = 80 * time.Millisecond
	alice := dial(t, cfg)
	expect[*client.Synced](alice, nil)
	hole.swallow()
	alice.NetworkChanged()
	if off := expect[*client.Disconnected](alice, nil); !errors.Is(off.Err, client.ErrSilent) {
		t.Errorf("disconnected: %v", off.Err)
	}
	if on := expect[*client.Connected](alice, nil); !on.Resumed {
		t.Errorf("connected: %+v", on)
	}
}

// TestClose leaves nothing behind, whatever state the client is in, and tells
// who waits.
func TestClose(t *testing.T) {
	w := newWorld(t, "alice")
	before := 0
	for i := range 4 {
		if i == 1 { // the server has its own by then
			before = runtime.NumGoroutine()
		}
		ctx := t.Context()
		c, err := client.Dial(ctx, w.config("alice"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send(ctx, chat("alice@localhost", "x")); !errors.Is(err, client.ErrClosed) {
			t.Errorf("send: %v", err)
		}
		if _, err := c.Ping(ctx, jid.JID{}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("ping: %v", err)
		}
		for ev, err := range c.Events(ctx) {
			if _, over := ev.(*client.Disconnected); over || err != nil {
				t.Errorf("after Close: %T, %v", ev, err)
			}
		}
		if err := c.Close(ctx); err != nil {
			t.Error("twice:", err)
		}
	}
	w.reachable(false)
	c, err := client.Start(t.Context(), w.config("alice"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Send(t.Context(), chat("alice@localhost", "never"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close(t.Context())
	if state, err := r.Wait(t.Context()); state != client.Lost || !errors.Is(err, client.ErrClosed) {
		t.Errorf("delivery: %v, %v", state, err)
	}
	settled(t, before)
}

// TestDeliveries: what becomes of messages, as events, and no more of them than
// there is room for.
func TestDeliveries(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	cfg := w.config("alice")
	cfg.Deliveries, cfg.MaxEvents, cfg.Quiet, cfg.Profile = true, 4, true, client.ProfileClassic
	alice := dial(t, cfg)
	expect[*client.Connected](alice, nil)
	var ids []string
	for {
		ctx, cancel := context.WithTimeout(alice.ctx, 100*time.Millisecond)
		r, err := alice.Send(ctx, chat("bob@localhost", "x"))
		cancel()
		if err == nil {
			ids = append(ids, r.ID())
			r.Wait(alice.ctx)
		} else if len(ids) > 1 || alice.ctx.Err() != nil {
			break // the events wait to be taken
		}
	}
	if len(ids) < 2 || len(ids) > 8 {
		t.Errorf("%d messages", len(ids))
	}
	for _, id := range ids {
		if got := expect[*client.Delivered](alice, nil); got.ID != id || got.State != client.Acknowledged {
			t.Errorf("delivered: %+v", got)
		}
	}
}

// TestArchivePage asks as an engine does that keeps its own count.
func TestArchivePage(t *testing.T) {
	w := newWorld(t, "alice")
	alice := dial(t, w.config("alice"))
	alice.acknowledged(alice.send(chat("bob@elsewhere.example", "x")))
	page, fin, err := alice.ArchivePage(alice.ctx, alice.Account(), xep.MAMQuery{ID: "mine", Page: xep.RSM{Max: 10, Last: true}})
	if err != nil || len(page) != 1 || !fin.Complete || fin.Last != page[0].ID {
		t.Fatalf("%+v, %+v, %v", page, fin, err)
	}
	if page[0].Stanza.Child(xep.NSMAM, "result").Attr("queryid") != "mine" {
		t.Errorf("as it came: %s", page[0].Stanza.AppendTo(nil))
	}
	if _, _, err := alice.ArchivePage(alice.ctx, jid.JID{}, xep.MAMQuery{ID: xep.SyncQueryID}); err == nil {
		t.Error("the catch-up's id was taken")
	}
	info, err := alice.Disco(alice.ctx, jid.JID{}, "")
	if err != nil || !slices.Contains(info.Features, xep.NSMAM) {
		t.Errorf("account: %+v, %v", info, err)
	}
}

// TestSync catches up from where the program says: behind an id, or so far back
// (X2-34, X2-35).
func TestSync(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	for _, body := range []string{"one", "two", "three"} {
		alice.acknowledged(alice.send(chat("bob@localhost", body)))
	}
	cfg := w.config("bob")
	var after string
	for _, c := range []struct {
		sync  *xep.Sync
		count int
	}{{&xep.Sync{Last: time.Hour}, 3}, {&xep.Sync{Last: time.Hour, Max: 1}, 1}, {nil, 2}} {
		cfg.Sync = func() *xep.Sync {
			if c.sync != nil {
				return c.sync
			}
			return &xep.Sync{After: after}
		}
		bob := dial(t, cfg)
		first := expect[*client.Archived](bob, nil)
		if c.count == 3 {
			after = first.ID
		}
		if s := expect[*client.Synced](bob, nil); s.Count != c.count || s.Stanza == nil {
			t.Errorf("%+v: %+v", c.sync, s)
		}
		bob.Close(bob.ctx)
	}
}

// TestResumeUntaken: what the program has not taken when the connection is lost
// comes again, once, and in order.
func TestResumeUntaken(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice, bob := dial(t, w.config("alice")), dial(t, w.config("bob"))
	expect[*client.Synced](bob, nil)
	bob.Handled()
	for round := range 5 {
		want := []string{fmt.Sprint(round, " one"), fmt.Sprint(round, " two"), fmt.Sprint(round, " three")}
		for _, body := range want {
			alice.acknowledged(alice.send(chat("bob@localhost", body)))
		}
		if round > 0 { // all of it is here: the answer came behind it
			if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil {
				t.Fatal(err)
			}
		}
		if round > 2 { // and some of it is in hand
			expect(bob, bodyIs(want[0]))
			want = want[1:]
		}
		w.cut()
		for _, body := range want {
			got := expect(bob, func(r *client.Received) bool { return r.Stanza.Type == stanza.TypeChat })
			if text := got.Stanza.Child(stanza.NSClient, "body").Text(); text != body {
				t.Fatalf("%q instead of %q", text, body)
			}
		}
	}
	if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
}

// TestForgedInSession: in a session that catches up, what another account wraps is no message of the archive, no copy and no end of the catch-up, whether it
// is sent to the account or to the device, which takes messages from whom it has shown itself to.
func TestForgedInSession(t *testing.T) {
	w := newWorld(t, "alice", "mallory")
	alice, mallory := dial(t, w.config("alice")), dial(t, w.config("mallory"))
	expect[*client.Synced](alice, nil)
	alice.send(stanza.Build(stanza.Presence, "", "", jid.JID{}, mallory.JID(), ""))
	expect(mallory, func(r *client.Received) bool { return r.Stanza.From == alice.JID() })
	const forward = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='bank@bank.example' to='alice@localhost'><body>pay</body></message></forwarded>"
	for _, what := range []string{
		"<result xmlns='urn:xmpp:mam:2' id='1' queryid='session'>" + forward + "</result>",
		"<received xmlns='urn:xmpp:carbons:2'>" + forward + "</received>",
		"<synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='' last='' count='0'/>",
		"<body>that was all</body>",
	} {
		mallory.send(stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, alice.JID(), what))
		mallory.send(stanza.Build(stanza.Message, stanza.TypeChat, "", jid.JID{}, alice.Account(), what))
	}
	last := 0
	for last < 2 {
		ev, err := alice.Next(alice.ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Archived, *client.Carbon, *client.Synced:
			t.Errorf("%#v", ev)
		case *client.Received:
			if ev.Stanza.Child(stanza.NSClient, "body").Text() == "that was all" {
				last++
			}
		}
	}
}

// TestWaiting: what has come can be taken in one go, in its order, up to the next session or connection; what is in hand when the connection breaks is not
// sent again.
func TestWaiting(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice, bob := dial(t, w.config("alice")), dial(t, w.config("bob"))
	expect[*client.Synced](bob, nil)
	for n := range 6 {
		alice.acknowledged(alice.send(chat("bob@localhost", fmt.Sprint(n))))
	}
	if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil { // all of it has come
		t.Fatal(err)
	}
	got := ""
	text := func(list ...client.Event) {
		for _, ev := range list {
			got += ev.(*client.Received).Stanza.Child(stanza.NSClient, "body").Text()
		}
	}
	text(expect(bob, bodyIs("0")))
	text(bob.Waiting(0)...)
	text(bob.Waiting(2)...)
	got += "|"
	text(bob.Waiting(10)...)
	if got != "012|345" {
		t.Errorf("got %s", got)
	}
	w.cut()
	alice.acknowledged(alice.send(chat("bob@localhost", "6")))
	if ev, err := bob.Next(bob.ctx); err != nil {
		t.Fatal(err)
	} else if _, ok := ev.(*client.Disconnected); !ok {
		t.Fatalf("%#v", ev)
	}
	if _, err := bob.Ping(bob.ctx, jid.JID{}); err != nil { // it has connected again
		t.Fatal(err)
	}
	if list := bob.Waiting(10); len(list) != 0 {
		t.Errorf("%d events before the new connection: %#v", len(list), list[0])
	}
	if on := expect[*client.Connected](bob, nil); !on.Resumed {
		t.Errorf("%+v", on)
	}
	expect(bob, func(r *client.Received) bool {
		body := r.Stanza.Child(stanza.NSClient, "body").Text()
		if body != "6" {
			t.Errorf("again: %s", body)
		}
		return body == "6"
	})
}

// TestOwnDevices: devices of one account answer each other, and one of them doesn't answer for the account.
func TestOwnDevices(t *testing.T) {
	w := newWorld(t, "alice")
	desk, phone := dial(t, w.config("alice")), dial(t, w.config("alice"))
	expect[*client.Synced](desk, nil)
	expect[*client.Synced](phone, nil)
	if _, err := phone.Ping(phone.ctx, desk.JID()); err != nil {
		t.Error(err)
	}
	if _, err := phone.Ping(phone.ctx, phone.JID()); err != nil {
		t.Error(err)
	}
	if info, err := phone.Disco(phone.ctx, desk.JID(), ""); err != nil || len(info.Identities) != 1 || info.Identities[0].Category != "client" {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := phone.Disco(phone.ctx, jid.JID{}, ""); err != nil || len(info.Identities) == 0 || info.Identities[0].Category == "client" {
		t.Errorf("%+v, %v", info, err)
	}
}
