package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// TestBackPressure: what isn't taken isn't read, and nothing of it is lost.
func TestBackPressure(t *testing.T) {
	const most, total = 8, 4000
	said := make(chan int, total)
	body := strings.Repeat("x", 1000)
	f := newFake(t, func(p *peer) {
		p.manage("1")
		for i := range total {
			p.say(fmt.Sprintf("<message id='%d'><body>%s</body></message>", i, body))
			said <- i
		}
		p.say("<r xmlns='urn:xmpp:sm:3'/>")
		p.hear(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", total-1)) // the last isn't handled yet
	})
	cfg := f.config()
	cfg.MaxEvents = most
	d := dial(t, cfg)
	// The fake stops when the buffers of the network are full.
	for stuck := false; !stuck; {
		select {
		case <-said:
		case <-time.After(200 * time.Millisecond):
			stuck = true
		}
	}
	// Who takes no events can't have answers, and is told.
	for stalled := false; !stalled; {
		ctx, cancel := context.WithTimeout(d.ctx, 10*time.Millisecond)
		_, err := d.Ping(ctx, jid.JID{})
		cancel()
		if stalled = errors.Is(err, client.ErrStalled); !stalled && d.ctx.Err() != nil {
			t.Fatalf("asking meanwhile: %v", err)
		}
	}
	for i := range total {
		if got := expect[*client.Received](d, nil); got.Stanza.ID != fmt.Sprint(i) {
			t.Fatalf("%s instead of %d", got.Stanza.ID, i)
		}
	}
}

// TestSendWaits: what the server doesn't take waits, up to a bound, and then so
// does who sends.
func TestSendWaits(t *testing.T) {
	release := make(chan struct{})
	f := newFake(t, func(p *peer) {
		p.manage("1")
		<-release
		p.hear("<message")
		for n := 1; ; n++ {
			p.say(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", n))
			p.hear("<message")
		}
	})
	cfg := f.config()
	cfg.MaxUnacked = 4000
	d := dial(t, cfg)
	big := func() *stanza.Stanza { return chat("bob@localhost", strings.Repeat("x", 1500)) }
	first, second := d.send(big()), d.send(big())
	ctx, cancel := context.WithTimeout(d.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := d.Send(ctx, big()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third: %v", err)
	}
	if state, final, _ := first.State(); final || state == client.Acknowledged {
		t.Errorf("delivery: %v", state)
	}
	close(release)
	third := d.send(big())
	d.acknowledged(first)
	d.send(big()) // what lets the fake acknowledge
	d.acknowledged(second)
	_ = third
}

// TestRequestFlood: requests without end get answers as far as the server takes
// them, and no more memory than that.
func TestRequestFlood(t *testing.T) {
	const flood = 5000
	f := newFake(t, func(p *peer) {
		p.manage("1")
		for i := range flood {
			p.say(fmt.Sprintf("<iq type='get' from='bob@localhost/x' id='%d'><ping xmlns='urn:xmpp:ping'/></iq>", i))
		}
		p.say("<message id='last'/>")
		p.drain()
		if n := strings.Count(p.got.String(), "<iq"); n == 0 || n > 200 {
			p.t.Errorf("%d answers", n)
		}
	})
	cfg := f.config()
	cfg.MaxUnacked = 4000
	d := dial(t, cfg)
	expect(d, func(r *client.Received) bool { return r.Stanza.ID == "last" })
}

// TestRequestsWaitTheirTurn: no more than MaxRequests are under way.
func TestRequestsWaitTheirTurn(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.manage("1")
		a, b := answerID(p.hear("</iq>")), answerID(p.hear("</iq>"))
		if strings.Contains(p.got.String(), "<iq") {
			p.t.Error("a third one")
		}
		p.say("<iq type='result' id='" + a + "'/>")
		p.say("<iq type='result' id='" + answerID(p.hear("</iq>")) + "'/><iq type='error' id='" + b + "'/>")
	})
	cfg := f.config()
	cfg.MaxRequests = 2
	d := dial(t, cfg)
	results := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := d.IQ(d.ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, jid.JID{}, "<ask xmlns='urn:example'/>"))
			results <- err
		}()
	}
	refused := 0
	for range 3 {
		if err := <-results; err != nil {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d errors, one was sent", refused)
	}
}

// TestArchiveThatLies: pages that are too large, or the same again and again, end
// with an error.
func TestArchiveThatLies(t *testing.T) {
	const item = "<message from='%s'><result xmlns='urn:xmpp:mam:2' queryid='%s' id='%d'><forwarded xmlns='urn:xmpp:forward:0'>" +
		"<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/><message xmlns='jabber:client' from='bob@localhost'><body>x</body></message></forwarded></result></message>"
	const fin = "<iq type='result' id='%s'><fin xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><first>1</first><last>2</last></set></fin></iq>"
	for name, c := range map[string]struct {
		from  string
		items int
		want  error
		got   int
	}{
		"the same again":  {"alice@localhost", 2, client.ErrArchive, 4},
		"too many":        {"alice@localhost", 9, client.ErrArchive, 0},
		"somebody else's": {"mallory@localhost", 2, client.ErrArchive, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := dial(t, newFake(t, func(p *peer) {
				p.manage("1")
				for {
					query := p.hear("</iq>")
					_, rest, _ := strings.Cut(query, "queryid='")
					id, _, _ := strings.Cut(rest, "'")
					for i := range c.items {
						p.say(fmt.Sprintf(item, c.from, id, i))
					}
					p.say(fmt.Sprintf(fin, answerID(query)))
				}
			}).config())
			n := 0
			for _, err := range d.Archive(d.ctx, client.ArchiveQuery{PageSize: 5}) {
				if err != nil {
					if !errors.Is(err, c.want) {
						t.Errorf("error: %v", err)
					}
					break
				}
				n++
			}
			if n != c.got {
				t.Errorf("%d messages", n)
			}
		})
	}
}
