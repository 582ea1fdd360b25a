package account

import (
	"context"
	"fmt"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
)

// BenchmarkEvents is a personal event (XEP-0163) of an account with a thousand
// contacts, all of them online and waiting for the node: from the publication to the
// bytes that their connections write, the commit included, the store in memory.
func BenchmarkEvents(b *testing.B) {
	const contacts = 1000
	w := newWorld(b, "alice", func(c *Config) { c.Limits.RosterItems = contacts + 1 })
	ctx := context.Background()
	alice := jid.MustParse("alice@h.example")
	var devices []*client
	for i := range contacts {
		name := fmt.Sprint("c", i)
		j := jid.MustParse(name + "@h.example")
		id, err := w.store.CreateAccount(ctx, j, nil)
		if err == nil {
			err = w.store.Commit(ctx, store.RosterPut{Account: w.id("alice"), Item: store.RosterItem{JID: j, Subscription: "both"}, Version: int64(i + 1)},
				store.RosterPut{Account: id, Item: store.RosterItem{JID: alice, Subscription: "both"}, Version: 1})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range contacts {
		c := w.bind(fmt.Sprint("c", i, "/r online"))
		if _, err := c.SetEvents(ctx, []string{"urn:xmpp:avatar:metadata"}); err != nil {
			b.Fatal(err)
		}
		devices = append(devices, c)
	}
	config := []byte("c")
	publish := func(was []byte, n int) {
		payload := fmt.Sprintf("<metadata xmlns='urn:xmpp:avatar:metadata'><info id='%040d' bytes='12345' type='image/png' height='64' width='64'/></metadata>", n)
		err := w.hub.Account(alice).Update(ctx, feature.Update{Events: []feature.EventChange{{Node: "urn:xmpp:avatar:metadata", Was: was, Config: config,
			Put: []feature.EventItem{{ID: fmt.Sprint(n), Payload: []byte(payload), At: w.Now()}}, Keep: 1, MaxNodes: 10, MaxBytes: 1 << 20,
			Notices: []feature.EventNotice{{Node: "urn:xmpp:avatar:metadata", To: feature.Audience{All: true},
				Payload: "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:xmpp:avatar:metadata'><item id='" + fmt.Sprint(n) + "'>" + payload + "</item></items></event>"}}}}})
		if err != nil {
			b.Fatal(err)
		}
		w.settle()
	}
	buf := make([]byte, 0, 64<<10)
	read := func() (got int) {
		for _, c := range devices {
			buf, _ = c.Next(c, buf[:0], 32<<10)
			if len(buf) > 0 {
				got++
			}
		}
		return got
	}
	publish(nil, 0)
	read()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		publish(config, n)
		if got := read(); got != contacts {
			b.Fatalf("%d of %d heard of it", got, contacts)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n)/contacts, "µs/contact")
}
