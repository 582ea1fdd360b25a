package client_test

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

const hall = "hall@rooms.localhost"

// room makes a room that anybody may enter, unless fields of its configuration say
// otherwise.
func (d *device) room(name string, fields ...string) {
	d.t.Helper()
	d.send(stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.MustParse(name+"/Owner"), "<x xmlns='"+xep.NSMUC+"'/>"))
	form := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + xep.NSMUCRoomConfig + "</value></field>"
	for i := 0; i+1 < len(fields); i += 2 {
		form += "<field var='muc#roomconfig_" + fields[i] + "'><value>" + fields[i+1] + "</value></field>"
	}
	_, err := d.IQ(d.ctx, stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, jid.MustParse(name), "<query xmlns='"+xep.NSMUCOwner+"'>"+form+"</x></query>"))
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) say(room, text string) {
	d.t.Helper()
	d.send(stanza.Build(stanza.Message, stanza.TypeGroupchat, "", jid.JID{}, jid.MustParse(room), "<body>"+text+"</body>"))
}

// TestRoomJoins: the rooms that a login names, and those that are bookmarked, are entered
// with it and caught up; one that refuses costs nothing else (X2-37, S-4).
func TestRoomJoins(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	for _, r := range []string{hall, "den@rooms.localhost", "attic@rooms.localhost"} {
		alice.room(r)
		for i := range 3 {
			alice.say(r, fmt.Sprint(i))
		}
	}
	alice.room("cellar@rooms.localhost", "passwordprotectedroom", "1", "roomsecret", "key")
	if _, err := alice.Ping(alice.ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
	bob := dial(t, w.config("bob"))
	for room, inner := range map[string]string{"den@rooms.localhost": "<nick>Rob</nick>", "cellar@rooms.localhost": "<password>key</password>", "gone@rooms.localhost": "", hall: "<nick>other</nick>"} {
		_, err := bob.IQ(bob.ctx, stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, jid.JID{}, "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='"+
			xep.NodeBookmarks+"'><item id='"+room+"'><conference xmlns='"+xep.NodeBookmarks+"' autojoin='true'>"+inner+"</conference></item></publish></pubsub>"))
		if err != nil {
			t.Fatal(err)
		}
	}
	bob.Close(bob.ctx)

	cfg := w.config("bob")
	cfg.Autojoin, cfg.AutojoinSync = true, &xep.Sync{Max: 1}
	cfg.Rooms = func() []client.Room {
		return []client.Room{{JID: jid.MustParse(hall), Nick: "Bob", Sync: &xep.Sync{}}, {JID: jid.MustParse("attic@rooms.localhost"), Nick: "Bob"},
			{JID: jid.MustParse("nowhere@rooms.localhost"), Nick: "Bob", Sync: &xep.Sync{}}}
	}
	bob = dial(t, cfg)
	on := expect[*client.Connected](bob, nil)
	var auto []string
	for _, r := range on.Session {
		if r.Err != nil {
			t.Errorf("%s %s: %v", r.Part, r.Room, r.Err)
		}
		for _, j := range r.Rooms {
			auto = append(auto, j.String())
		}
	}
	if len(auto) != 3 || !strings.Contains(strings.Join(auto, " "), "cellar@rooms.localhost/bob") || !strings.Contains(strings.Join(auto, " "), "den@rooms.localhost/Rob") {
		t.Errorf("bookmarked: %v", auto)
	}
	// Every room ends with its Synced, its subject where nothing was to be caught up, or
	// the error.
	got, ended := map[string]string{}, map[string]string{}
	for len(ended) < 6 {
		ev, err := bob.Next(bob.ctx)
		if err != nil {
			t.Fatalf("%v, so far %v, %v", err, got, ended)
		}
		switch ev := ev.(type) {
		case *client.Archived:
			got[ev.Archive.Local()] += ev.Message.Child(stanza.NSClient, "body").Text()
		case *client.Synced:
			if !ev.Room.IsZero() {
				ended[ev.Room.Local()] = fmt.Sprint(ev.Complete, ev.Count)
			}
		case *client.Received:
			st := ev.Stanza
			switch {
			case st.Type == stanza.TypeError:
				ended[st.From.Local()] = string(st.ParseError().Condition)
			case st.From.Local() == "attic" && !st.Child(stanza.NSClient, "subject").IsZero():
				ended["attic"] = "subject"
			}
		}
	}
	for room, want := range map[string]string{"hall": "true 3", "den": "false 1", "attic": "subject", "cellar": "true 0", "gone": "item-not-found", "nowhere": "item-not-found"} {
		if ended[room] != want {
			t.Errorf("%s ended with %q, want %q", room, ended[room], want)
		}
	}
	for room, want := range map[string]string{"hall": "012", "den": "2", "attic": "", "cellar": ""} {
		if got[room] != want {
			t.Errorf("%s: caught up with %q, want %q", room, got[room], want)
		}
	}
	alice.say(hall, "live")
	expect(bob, bodyIs("live"))
}

// TestRoomCatchUp is S-1 for rooms: while others go on talking a device comes back, and
// has everything once, in order.
func TestRoomCatchUp(t *testing.T) {
	const before, all = 300, 900
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	alice.room(hall)
	for i := range before {
		alice.say(hall, fmt.Sprint(i))
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		for i := before; i < all; i++ {
			if _, err := alice.Send(alice.ctx, stanza.Build(stanza.Message, stanza.TypeGroupchat, "", jid.JID{}, jid.MustParse(hall), fmt.Sprintf("<body>%d</body>", i))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	go func() { // she takes what comes back to her
		for {
			if _, err := alice.Next(alice.ctx); err != nil {
				return
			}
		}
	}()
	cfg := w.config("bob")
	cfg.Rooms = func() []client.Room {
		return []client.Room{{JID: jid.MustParse(hall), Nick: "Bob", Sync: &xep.Sync{Last: 3600e9}}}
	}
	bob := dial(t, cfg)
	next, synced := 0, false
	for next < all || !synced {
		ev, err := bob.Next(bob.ctx)
		if err != nil {
			t.Fatal(err)
		}
		var body string
		switch ev := ev.(type) {
		case *client.Archived:
			if body = ev.Message.Child(stanza.NSClient, "body").Text(); synced {
				t.Fatalf("%s comes from the archive behind the end of the catch-up", body)
			}
		case *client.Synced:
			if synced = synced || !ev.Room.IsZero(); synced && ev.Count != next && !ev.Room.IsZero() {
				t.Errorf("%d messages counted, %d came", ev.Count, next)
			}
		case *client.Received:
			if ev.Stanza.Type == stanza.TypeGroupchat {
				body = ev.Stanza.Child(stanza.NSClient, "body").Text()
			}
		}
		if body == "" {
			continue
		}
		if body != fmt.Sprint(next) {
			t.Fatalf("%s instead of %d", body, next)
		}
		next++
	}
	<-said
}

// TestRoomSuspended: what a room has still to tell when a program ends comes to the next one in the same session, which believes it (XEP-0198 5); a state that was
// saved without rooms is taken up as well.
func TestRoomSuspended(t *testing.T) {
	const all = 60
	w := newWorld(t, "alice", "bob")
	alice := dial(t, w.config("alice"))
	alice.room(hall)
	for i := range all {
		alice.say(hall, fmt.Sprint(i))
	}
	if _, err := alice.Ping(alice.ctx, jid.JID{}); err != nil {
		t.Fatal(err)
	}
	store := &client.MemoryStore{}
	cfg := w.config("bob")
	cfg.Store, cfg.MaxEvents = store, 4
	cfg.Rooms = func() []client.Room {
		return []client.Room{{JID: jid.MustParse(hall), Nick: "Bob", Sync: &xep.Sync{}}}
	}
	bob := dial(t, cfg)
	next := 0
	take := func(d *device) bool {
		ev, err := d.Next(d.ctx)
		if err != nil {
			t.Fatalf("%d came, then %v", next, err)
		}
		switch ev := ev.(type) {
		case *client.Archived:
			if body := ev.Message.Child(stanza.NSClient, "body").Text(); body != fmt.Sprint(next) {
				t.Fatalf("%s instead of %d", body, next)
			}
			next++
		case *client.Synced:
			return !ev.Room.IsZero()
		}
		return false
	}
	for next < all/3 {
		take(bob)
	}
	bob.Handled()
	if err := bob.Suspend(bob.ctx); err != nil {
		t.Fatal(err)
	}
	saved, err := store.Load(t.Context(), cfg.Account)
	if err != nil || saved.Session == nil || len(saved.Session.Rooms) != 1 || saved.Session.Rooms[0] != jid.MustParse(hall) {
		t.Fatalf("saved: %+v, %v", saved.Session, err)
	}
	again := dial(t, cfg)
	if on := expect[*client.Connected](again, nil); !on.Resumed {
		t.Fatal("another session")
	}
	for !take(again) {
	}
	if next != all {
		t.Errorf("%d of %d came", next, all)
	}
	alice.say(hall, "live")
	expect(again, bodyIs("live"))
	again.Handled()
	if err := again.Suspend(again.ctx); err != nil {
		t.Fatal(err)
	}

	// As a version before this one has left it.
	if saved, err = store.Load(t.Context(), cfg.Account); err != nil {
		t.Fatal(err)
	}
	saved.Session.Rooms = nil
	if err := store.Save(t.Context(), cfg.Account, saved); err != nil {
		t.Fatal(err)
	}
	last := dial(t, cfg)
	if on := expect[*client.Connected](last, nil); !on.Resumed {
		t.Error("an older state isn't taken up")
	}
	alice.say(hall, "still")
	expect(last, bodyIs("still"))
}
