package account

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// BenchmarkFanOut is one chat message from alice to bob, who has eight devices:
// with carbons, where it is addressed to one of them, as clients that lock do,
// and the others get copies; with IM-NG, where it is addressed to the person.
// What the archive costs is left out by a hint, so that the delivery shows.
func BenchmarkFanOut(b *testing.B) {
	for _, p := range []route.Profile{route.Carbons, route.NG} {
		b.Run(p.String(), func(b *testing.B) { fanOut(b, p) })
	}
}

func fanOut(b *testing.B, p route.Profile) {
	const devices = 8
	w := newWorld(b, "alice bob", func(c *Config) { c.Limits.OutboxBytes, c.Limits.SessionsPerAccount = 64<<20, 16 })
	ctx := context.Background()
	bind := func(who, resource string) (*Session, *sink) {
		t := &sink{make(chan struct{}, 1)}
		s, err := w.hub.Bind(ctx, BindRequest{Account: jid.MustParse(who), Resource: resource, Transport: t})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, _, e := s.EnableSM(true, 0); e != nil {
			b.Fatal(e)
		}
		online, _ := stanza.ParseBytes([]byte("<presence/>"), xmltree.Limits{})
		online.From = s.JID()
		if err := s.Receive(ctx, online, 0); err != nil {
			b.Fatal(err)
		}
		return s, t
	}
	from, sender := bind(alice, "r")
	defer from.Detach(sender)
	to := bob
	if p == route.Carbons {
		to += "/0"
	}
	var readers sync.WaitGroup
	for i := range devices {
		x, t := bind(bob, fmt.Sprint(i))
		defer x.Detach(t)
		if err := x.SetProfile(ctx, p); err != nil {
			b.Fatal(err)
		}
		w.settle()
		x.session.mu.Lock()
		x.out.Drain()
		x.session.mu.Unlock()
		readers.Go(func() {
			buf, h := make([]byte, 0, 64<<10), uint32(0)
			for got := 0; got < b.N; {
				<-t.wake
				for more := true; more; {
					buf, more = x.Next(t, buf[:0], 32<<10)
					x.session.mu.Lock()
					unacked := x.out.Unacked()
					x.session.mu.Unlock()
					h += uint32(unacked)
					x.Ack(h)
					got += unacked
				}
			}
		})
	}
	parsed, err := stanza.ParseBytes([]byte(`<message type='chat' id='a1b2c3' to='`+to+`'><body>Neither, fair saint, if either thee dislike.</body><no-store xmlns='urn:xmpp:hints'/><origin-id xmlns='urn:xmpp:sid:0' id='a1b2c3'/></message>`), xmltree.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		st := *parsed
		st.From = from.JID()
		if err := from.Receive(ctx, &st, 0); err != nil {
			b.Fatal(err)
		}
	}
	readers.Wait()
}
