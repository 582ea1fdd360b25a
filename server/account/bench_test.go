package account

import (
	"context"
	"sync/atomic"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// sink is a Transport whose reader waits for it.
type sink struct{ wake chan struct{} }

func (s *sink) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
func (s *sink) End(*stanza.StreamError) {}

// BenchmarkMessage is one chat message from alice to bob: received, decided on
// both sides, committed to both archives of a store in memory, delivered,
// acknowledged. The parsing of the message is not in it.
func BenchmarkMessage(b *testing.B) {
	w := newWorld(b, "alice bob", func(c *Config) { c.Limits.OutboxBytes = 64 << 20 })
	bind := func(who string) (*Session, *sink) {
		t := &sink{make(chan struct{}, 1)}
		s, err := w.hub.Bind(context.Background(), BindRequest{Account: jid.MustParse(who), Resource: "r", Transport: t})
		if err != nil {
			b.Fatal(err)
		}
		if _, _, _, e := s.EnableSM(true, 0); e != nil {
			b.Fatal(e)
		}
		return s, t
	}
	a, _ := bind(alice)
	x, wake := bind(bob)
	from := jid.MustParse(alice + "/r")
	send := func(st *stanza.Stanza) {
		st.From = from
		if err := a.Receive(context.Background(), st, 0); err != nil {
			b.Fatal(err)
		}
	}
	online, _ := stanza.ParseBytes([]byte("<presence/>"), xmltree.Limits{})
	online.From = x.JID()
	if err := x.Receive(context.Background(), online, 0); err != nil {
		b.Fatal(err)
	}
	w.settle()
	parsed, err := stanza.ParseBytes([]byte(`<message type='chat' id='a1b2c3' to='bob@h.example'><body>Neither, fair saint, if either thee dislike.</body><active xmlns='http://jabber.org/protocol/chatstates'/><origin-id xmlns='urn:xmpp:sid:0' id='a1b2c3'/></message>`), xmltree.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	// The reader takes what is there and acknowledges it.
	var got atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 0, 64<<10)
		h := uint32(0)
		for got.Load() < int64(b.N) {
			<-wake.wake
			for more := true; more; {
				buf, more = x.Next(wake, buf[:0], 32<<10)
				x.session.mu.Lock()
				unacked := x.out.Unacked()
				x.session.mu.Unlock()
				h += uint32(unacked)
				x.Ack(h)
				got.Add(int64(unacked))
			}
		}
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		st := *parsed
		send(&st)
	}
	<-done
	b.StopTimer()
	a.Detach(a.t)
	x.Detach(wake)
}
