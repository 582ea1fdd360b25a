package crash

import (
	"context"
	"fmt"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// TestOfflineOverKills: messages kept for somebody who is away outlive kills, and arrive once each, in order (XEP-0160).
func TestOfflineOverKills(t *testing.T) {
	p := newProcess(t, t.TempDir())
	p.addUser("sender")
	p.addUser("offline")
	const each = 600 // more than are read at once
	for k := range 2 {
		p.start()
		c, err := p.login("sender", "pen", func(*stream.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.EnableSM(false); err != nil {
			t.Fatal(err)
		}
		for n := range each {
			if err := c.Send(fmt.Sprintf("<message to='offline@localhost' type='chat' id='m%d-%d'><body>x</body></message>", k, n)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := c.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		p.kill()
		c.Cut()
	}
	p.start()
	defer p.kill()
	c, err := p.login("offline", "first", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Cut()
	if err := c.Send("<presence/>"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for n := 0; n < 2*each; {
		ev, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("%d of %d came: %v", n, 2*each, err)
		}
		if ev.Stanza == nil || ev.Stanza.Kind != stanza.Message {
			continue
		}
		if want := fmt.Sprintf("m%d-%d", n/each, n%each); ev.Stanza.ID != want {
			t.Fatalf("%s came instead of %s", ev.Stanza.ID, want)
		}
		n++
	}
}
