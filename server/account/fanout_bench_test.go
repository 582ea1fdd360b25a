package account

import (
	"context"
	"fmt"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// BenchmarkDelivery is the delivery of one chat message to eight devices of bob,
// from the decision to the bytes that the connections write, acknowledged: with
// carbons, where it is addressed to one of them, as clients that lock do, and the
// others get copies; with IM-NG, where it is addressed to the person.
func BenchmarkDelivery(b *testing.B) {
	for _, p := range []route.Profile{route.Carbons, route.NG} {
		b.Run(p.String(), func(b *testing.B) { delivery(b, p) })
	}
}

func delivery(b *testing.B, p route.Profile) {
	w := newWorld(b, "bob", func(c *Config) { c.Limits.SessionsPerAccount = 16 })
	var devices []*client
	for i := range 8 {
		c := w.bind(fmt.Sprint("bob/", i, " sm online"))
		if err := c.SetProfile(context.Background(), p); err != nil {
			b.Fatal(err)
		}
		devices = append(devices, c)
	}
	w.settle()
	to := bob
	if p == route.Carbons {
		to += "/0"
	}
	st, err := stanza.ParseBytes([]byte(`<message type='chat' id='a1b2c3' to='`+to+`'><body>Neither, fair saint, if either thee dislike.</body><active xmlns='http://jabber.org/protocol/chatstates'/><origin-id xmlns='urn:xmpp:sid:0' id='a1b2c3'/></message>`), xmltree.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	st.From = jid.MustParse("alice@h.example/r")
	handled := make([]uint32, len(devices))
	buf := make([]byte, 0, 64<<10)
	read := func(i int) {
		c := devices[i]
		buf, _ = c.Next(c, buf[:0], 32<<10)
		c.session.mu.Lock()
		handled[i] += uint32(c.out.Unacked())
		c.session.mu.Unlock()
		if err := c.Ack(handled[i]); err != nil {
			b.Error(err)
		}
	}
	w.state("bob", func(s *State) {
		for i, c := range devices {
			c.session.mu.Lock()
			handled[i] = c.out.Acked()
			c.session.mu.Unlock()
			read(i)
		}
		_, msg := route.Enter(st, route.FromSession)
		record := &trail.Record{}
		b.ReportAllocs()
		for b.Loop() {
			fx := effects{now: testStart, list: make([]effect, 0, len(s.sessions)+1), record: record}
			d := s.consider(s.receivingFacts(st, msg))
			s.deliver(d, s.newCopy(st, d, &fx), &fx)
			for _, e := range fx.list {
				e.session.deliver(e.data, e.tag)
			}
			for i := range devices {
				read(i)
			}
		}
	})
}
