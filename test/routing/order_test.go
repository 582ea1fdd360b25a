package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/test/xmppclient"
)

// Of TestOrder: how many messages each device sends, and with how many seeds.
const (
	orderMessages = 60
	orderSeeds    = 4
)

// crowd is two accounts whose devices all talk at once.
type crowd struct {
	w       *world
	a, b    *account
	mu      sync.Mutex
	clients map[*device]*xmppclient.Client
	late    []*device // that come while the others talk
}

// TestOrder: while all devices of two contacts send at once, and some of them lose their connections and come back, each
// message is in each archive once, every IM-NG device gets all that is in its account's archive and in that order
// (R-ARCH-5, R-REFL-3), one that comes later and asks for it included (S-1), and nobody gets a message twice (R-CONV-5).
func TestOrder(t *testing.T) {
	if _, err := identity(); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(orderSeeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.end()
				c := newCrowd(w)
				c.talk(seed)
				c.check()
			})
		})
	}
}

func newCrowd(w *world) *crowd {
	c := &crowd{w: w, a: w.account("a@localhost"), b: w.account("b@localhost"), clients: map[*device]*xmppclient.Client{}}
	w.befriend(c.a, c.b)
	for _, account := range []*account{c.a, c.b} {
		account.add([]template{{"ng", ng, false, 0}, {"shaky", ng, true, 0}, {"v2", v2, false, 0}, {"shaky v2", v2, true, 0}, {"classic", classic, true, 0}, {"carbons", carbons, true, -1}})
		for _, d := range account.devices {
			c.clients[d] = w.login(d, d.shaky())
		}
	}
	settle()
	for _, client := range c.clients {
		w.forget(client)
	}
	for _, account := range []*account{c.a, c.b, c.a} {
		c.late = append(c.late, &device{kind: "late", profile: v2, account: account})
	}
	return c
}

func (d *device) shaky() bool { return strings.HasPrefix(d.kind, "shaky") }

// talk lets every device send its messages, a few at a time, in moments that the seed decides.
func (c *crowd) talk(seed uint64) {
	var wg sync.WaitGroup
	for i, d := range append(slices.Clone(c.a.devices), c.b.devices...) {
		wg.Go(func() { c.chatter(d, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	for i, d := range c.late {
		wg.Go(func() { c.join(d, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
	}
	wg.Wait()
	settle()
}

// join logs a device in, in the middle of it all, that asks for what was said before.
func (c *crowd) join(d *device, r *rand.Rand) {
	time.Sleep(time.Duration(r.IntN(orderMessages)) * 400 * time.Microsecond)
	client, err := c.w.connectV2(d, "<session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync start='2000-01-01T00:00:00Z'/></session>")
	if err != nil {
		c.w.t.Errorf("%s: %v", d.account.bare, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients[d] = client
}

func (c *crowd) chatter(d *device, r *rand.Rand) {
	c.mu.Lock()
	client := c.clients[d]
	c.mu.Unlock()
	for n := 0; n < orderMessages; {
		var stanzas []string
		for range 1 + r.IntN(5) {
			stanzas = append(stanzas, fmt.Sprintf("<message to='%s' id='%s-%s-%d' type='chat'><body>x</body></message>", c.target(r), d.account.bare, d.kind, n))
			n++
		}
		if err := client.Send(stanzas...); err != nil {
			c.w.t.Errorf("%s: %v", d.full(), err)
			return
		}
		if d.shaky() && r.IntN(3) == 0 {
			client.Cut()
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
			var err error
			if client, err = c.w.resume(d, client); err != nil { // which sends again what isn't acknowledged
				c.w.t.Errorf("%s: %v", d.full(), err)
				return
			}
			c.mu.Lock()
			c.clients[d] = client
			c.mu.Unlock()
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
	}
}

// target is an account, or a device of it that is there or not.
func (c *crowd) target(r *rand.Rand) string {
	to := []*account{c.a, c.b}[r.IntN(2)]
	switch i := r.IntN(len(to.devices) + 3); {
	case i < len(to.devices):
		return to.devices[i].full()
	case i == len(to.devices):
		return to.bare + "/absent"
	}
	return to.bare
}

func (c *crowd) check() {
	for _, account := range []*account{c.a, c.b} {
		var archive []string
		messagesSeen := map[string]bool{}
		for _, el := range c.w.archive(account.bare) {
			s, err := see(el, account.bare, account.bare+"/reader")
			if err != nil {
				c.w.t.Fatal(err)
			}
			if messagesSeen[s.key.id] {
				c.w.t.Errorf("%s is in the archive of %s twice", s.key.id, account.bare)
			}
			messagesSeen[s.key.id] = true
			archive = append(archive, s.id)
		}
		if len(archive) < 4*orderMessages { // what its own devices sent, at least
			c.w.t.Errorf("%d messages are in the archive of %s", len(archive), account.bare)
		}
		for d := range c.clients {
			if d.account == account {
				c.checkDevice(d, archive)
			}
		}
	}
}

func (c *crowd) checkDevice(d *device, archive []string) {
	list, err := messages(c.clients[d])
	if err != nil {
		c.w.t.Fatalf("%s: %v", d.full(), err)
	}
	var ids []string
	got := map[key]bool{}
	for _, el := range list {
		s, err := see(el, d.account.bare, d.full())
		if err != nil {
			c.w.t.Fatalf("%s: %v", d.full(), err)
		}
		if got[s.key] {
			c.w.t.Errorf("%s got %s twice", d.full(), s.key.id)
		}
		got[s.key] = true
		if s.id != "" { // what a v2 device sends to one device has none
			ids = append(ids, s.id)
		}
	}
	if d.profile.modern() && !slices.Equal(ids, archive) {
		c.w.t.Errorf("%s got %d messages, %d are in the archive, or in another order:\n\t%v\n\t%v", d.full(), len(ids), len(archive), ids, archive)
	}
}
