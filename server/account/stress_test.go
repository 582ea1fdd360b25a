package account

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"carillon.im/server/route"
)

// TestStress: many clients at once, for the race detector; what each is told
// to be safe is in both archives, once.
func TestStress(t *testing.T) {
	w := newWorld(t, "alice bob carol", func(c *Config) { c.Limits.SessionsPerAccount, c.Limits.OfflineMessages = 100, 10000 })
	w.befriend("alice", "bob")
	var mu sync.Mutex
	safe := map[string][2]string{}
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(n), 7))
			name := modelAccounts[n%3]
			c := &client{w: w}
			bound, err := w.hub.Bind(context.Background(), BindRequest{Account: w.jid(name), Transport: c})
			if err != nil {
				t.Error(err)
				return
			}
			c.Session = bound
			c.EnableSM(true, 0)
			if n%2 == 0 {
				if err := c.SetProfile(context.Background(), route.Carbons); err != nil {
					t.Error(err)
				}
			}
			var sent [][2]string
			counted := uint32(0)
			c.send("<presence/>")
			sent = append(sent, [2]string{})
			for i := range 60 {
				switch rnd.IntN(8) {
				case 0:
					c.SetActive(rnd.IntN(2) == 0)
				case 1:
					c.send("<presence><show>away</show></presence>")
					sent = append(sent, [2]string{})
				case 2:
					counted += countStanzas(c.take())
					if err := c.Ack(counted); err != nil {
						t.Error(err)
					}
				case 3:
					counted += countStanzas(c.take())
					c.Session.Detach(c)
					next, res, err := w.resume(c, counted)
					if err != nil {
						t.Errorf("resume: %v", err)
						return
					}
					if int(res.H) != len(sent) {
						t.Errorf("%d sent, %d counted", len(sent), res.H)
					}
					c = next
				case 4:
					if _, err := c.Owner().Settled(context.Background()); err != nil {
						t.Error(err)
					}
				default:
					body := fmt.Sprintf("n%d-%d", n, i)
					to := modelAccounts[rnd.IntN(3)]
					c.send("<message type='chat' id='" + body + "' to='" + to + "@h.example'><body>" + body + "</body></message>")
					sent = append(sent, [2]string{body, to})
				}
			}
			if err := c.settled(context.Background()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			for _, m := range sent[:c.handledCount()] {
				if m[0] != "" {
					safe[m[0]] = [2]string{name, m[1]}
				}
			}
			mu.Unlock()
			c.Close(c)
		})
	}
	all.Wait()
	w.settle()
	archives := map[string][]string{}
	for _, name := range modelAccounts {
		archives[name] = w.archive(name)
		if s := twice(archives[name]); s != "" {
			t.Errorf("%s's archive has %s twice", name, s)
		}
	}
	for body, parties := range safe {
		for _, name := range parties {
			if !slices.Contains(archives[name], body) {
				t.Errorf("%s isn't in %s's archive", body, name)
			}
		}
	}
}

// TestConcurrentResumes: of several connections that want one session, the
// last has it, and what the others read is nobody's.
func TestConcurrentResumes(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a sm")
	w.bind("bob/b").say(alice+"/a", "x")
	var all sync.WaitGroup
	var mu sync.Mutex
	var won []*client
	for range 8 {
		all.Go(func() {
			n, _, err := w.resume(a, 0)
			var refused *ResumeError
			switch {
			case err == nil:
				mu.Lock()
				won = append(won, n)
				mu.Unlock()
			case !errors.As(err, &refused):
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.settle()
	has := 0
	for _, n := range won {
		if got := strings.Join(n.take(), ""); strings.Contains(got, "x") {
			has++
		}
	}
	if has != 1 {
		t.Errorf("%d of %d connections have the message", has, len(won))
	}
}
