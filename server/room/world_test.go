package room

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// world is the rooms of rooms.example over a store in memory, with everybody who
// is sent something.
type world struct {
	t   testing.TB
	hub *Hub
	now func() time.Time

	mu    sync.Mutex
	got   map[jid.JID][]*stanza.Stanza
	calls int // of Deliver
}

func newWorld(t testing.TB, change func(*Config)) *world {
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:", CommitDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, got: map[jid.JID][]*stanza.Stanza{}, now: time.Now}
	cfg := Config{Domains: []string{"rooms.example"}, Store: s, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now() },
		Secret: []byte("occupants"), Deliver: w.deliver, Home: func(jid.JID) bool { return false }, MayCreate: func(who jid.JID) bool { return who.Domain() == "example" }, History: 20, Loops: 1,
		Limits: Limits{Rooms: 100_000, RoomsPerUser: 100_000, Occupants: 1000, Affiliations: 100, Page: 100}}
	if change != nil {
		change(&cfg)
	}
	if w.hub, err = New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.hub.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := w.hub.Stats().Panics.Load(); n > 0 && !strings.Contains(t.Name(), "Panic") {
			t.Errorf("%d panics recovered", n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) deliver(list []*stanza.Stanza) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	for _, st := range list {
		w.got[st.To] = append(w.got[st.To], st)
	}
}

// take is what somebody was sent since the last time.
func (w *world) take(who string) []*stanza.Stanza {
	w.mu.Lock()
	defer w.mu.Unlock()
	j := jid.MustParse(who)
	list := w.got[j]
	delete(w.got, j)
	return list
}

func (w *world) forgetAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.got)
	w.calls = 0
}

// send sends a stanza and returns when the room has dealt with it.
func (w *world) send(from, xml string) {
	w.t.Helper()
	el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		w.t.Fatalf("%s: %v", xml, err)
	}
	st, err := stanza.Parse(el)
	if err != nil {
		w.t.Fatalf("%s: %v", xml, err)
	}
	st.From = jid.MustParse(from)
	taken := make(chan struct{})
	if e := w.hub.Keep(st, func() { close(taken) }); e != nil {
		w.t.Fatalf("%s: %v", xml, e)
	}
	<-taken
}

func (w *world) join(who, room, nick string) {
	w.t.Helper()
	w.send(who, fmt.Sprintf("<presence to='%s@rooms.example/%s'><x xmlns='%s'><history maxstanzas='0'/></x></presence>", room, nick, xep.NSMUC))
}

// open configures a room; fields are names without their beginning, and values.
func (w *world) open(who, room string, fields ...string) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "<iq type='set' id='open' to='%s@rooms.example'><query xmlns='%s'><x xmlns='jabber:x:data' type='submit'>", room, xep.NSMUCOwner)
	fmt.Fprintf(&b, "<field var='FORM_TYPE'><value>%s</value></field>", xep.NSMUCRoomConfig)
	for i := 0; i+1 < len(fields); i += 2 {
		fmt.Fprintf(&b, "<field var='muc#roomconfig_%s'><value>%s</value></field>", fields[i], fields[i+1])
	}
	b.WriteString("</x></query></iq>")
	w.send(who, b.String())
}

// refused is the condition of the only error that somebody was sent since the last
// time, "" for none.
func (w *world) refused(who string) string {
	condition := ""
	for _, st := range w.take(who) {
		if st.Type == stanza.TypeError {
			condition = string(st.ParseError().Condition)
		}
	}
	return condition
}
