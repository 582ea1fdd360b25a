package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/route"
)

// outbox is the bound of a session's queue here: less than the presence of a big
// room.
const outbox = 280 << 10

// serverWith runs a server for h.example with accounts u0 to u(n-1), without listeners.
func serverWith(t testing.TB, n int) *Server {
	t.Helper()
	cfg := config.Default()
	cfg.Domains, cfg.C2S, cfg.C2STLS, cfg.HTTP = []string{"h.example"}, config.Off, config.Off, config.Off
	cfg.Data = t.TempDir()
	cfg.Limits.OutboxBytes = outbox
	cfg.Rooms.UserPerSecond, cfg.Rooms.RoomPerSecond = 0, 0
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := NewWith(t.Context(), cfg, slog.New(slog.DiscardHandler), Options{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		if _, err := s.store.CreateAccount(t.Context(), jid.MustParse(fmt.Sprintf("u%d@h.example", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestEnterBigRoom: who enters a room of 1000 is woken a few times, not once for each
// of them, and what he is told doesn't count against his queue.
func TestEnterBigRoom(t *testing.T) {
	const occupants = 1000
	s := serverWith(t, 22)
	owner := bindDevice(t, s, "u21@h.example", "o", route.Classic)
	const room = "big@rooms.h.example"
	owner.send("<presence to='" + room + "/Owner'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	owner.until("<subject/>")
	owner.send("<iq type='set' id='c' to='" + room + "'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>")
	owner.until("id='c'")
	var crowd []*device
	for i := range occupants - 2 {
		d := bindDevice(t, s, fmt.Sprintf("u%d@h.example", 1+i%20), fmt.Sprint(i), route.Classic)
		crowd = append(crowd, d)
		nick := fmt.Sprintf("%s/occupant %d", room, i)
		d.send("<presence to='" + nick + "'><x xmlns='http://jabber.org/protocol/muc'/><status>" + strings.Repeat("s", 50) + "</status></presence>")
		owner.until(" from='" + nick + "'")
		for _, d := range crowd {
			for more := i%100 == 0; more; { // now and then they read, and forget
				_, more = d.session.Next(d, nil, 64<<10)
			}
		}
	}
	d := bindDevice(t, s, "u0@h.example", "d", route.Classic)
	before := d.wakes.Load()
	d.send("<presence to='" + room + "/Late'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	var all strings.Builder
	writes := 0
	for !strings.Contains(all.String(), "<subject/>") {
		select {
		case <-d.woken:
		case <-time.After(10 * time.Second):
			t.Fatal("not all has come")
		}
		for more := true; more; writes++ {
			var b []byte
			b, more = d.session.Next(d, nil, 32<<10)
			all.Write(b)
		}
	}
	if got := strings.Count(all.String(), "<presence "); got != occupants {
		t.Errorf("%d of %d occupants were told of", got, occupants)
	}
	// For everybody at once, his own presence, the subject and what counts his stanza.
	if most := before + 4; d.wakes.Load() > most {
		t.Errorf("the connection was woken %d times, not %d", d.wakes.Load(), most)
	}
	if most := all.Len()/(32<<10) + 8; writes > most {
		t.Errorf("%d bytes left in %d writes, not %d", all.Len(), writes, most)
	}
	if all.Len() < outbox {
		t.Errorf("%d bytes are no test of the bound", all.Len())
	}
}
