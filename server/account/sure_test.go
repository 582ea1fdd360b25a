package account

import (
	"context"
	"errors"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
)

// TestUncommittedSubscription: nothing is shown, and nothing kept back, on the
// strength of a change that isn't on disk.
func TestUncommittedSubscription(t *testing.T) {
	probe := func(w *world) {
		st := stanza.Build(stanza.Presence, stanza.TypeProbe, "", w.jid("bob"), w.jid("alice"), "")
		w.hub.post(st.To, newArrive(st))
	}
	changes := map[string]struct {
		before, during func(w *world, a, b *client)
		grants         bool // the change lets bob see alice
	}{
		"granted": {
			func(w *world, a, b *client) { b.send("<presence type='subscribe' to='alice@h.example'/>") },
			func(w *world, a, b *client) { a.send("<presence type='subscribed' to='bob@h.example'/>") }, true},
		"cancelled": {
			func(w *world, a, b *client) { w.befriend("alice", "bob") },
			func(w *world, a, b *client) { a.send("<presence type='unsubscribed' to='bob@h.example'/>") }, false},
		"removed": {
			func(w *world, a, b *client) { w.befriend("alice", "bob") },
			func(w *world, a, b *client) {
				a.send("<iq type='set' id='rm'><query xmlns='jabber:iq:roster'><item jid='bob@h.example' subscription='remove'/></query></iq>")
			}, false},
		"blocked": {
			func(w *world, a, b *client) { w.befriend("alice", "bob") },
			func(w *world, a, b *client) { update(w, a, feature.Update{Block: []jid.JID{w.jid("bob")}}) }, false},
		"unblocked": {
			func(w *world, a, b *client) {
				w.befriend("alice", "bob")
				if err := a.Owner().Update(context.Background(), feature.Update{Block: []jid.JID{w.jid("bob")}}); err != nil {
					t.Error(err)
				}
			},
			func(w *world, a, b *client) { update(w, a, feature.Update{Unblock: []jid.JID{w.jid("bob")}}) }, true},
	}
	for name, tc := range changes {
		for _, fails := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", not kept", false: ""}[fails], func(t *testing.T) {
				w := newWorld(t, "alice bob")
				a, b := w.bind("alice/a sm roster online"), w.bind("bob/b sm roster online")
				tc.before(w, a, b)
				w.settle()
				b.take()
				if err := w.store.Commit(context.Background()); err != nil {
					t.Fatal(err)
				}
				gate := make(chan struct{})
				w.setFault(func(point string) error {
					if point != "commit" {
						return nil
					}
					<-gate
					if fails {
						return errors.New("I/O")
					}
					return nil
				})
				tc.during(w, a, b)
				waitFor(t, func() bool { return w.pendingEntries("alice") > 0 })
				a.send("<presence><status>first</status></presence>")
				probe(w)
				a.send("<presence><status>second</status></presence>")
				w.hub.everywhere(func(*loop) {})
				w.hub.everywhere(func(*loop) {})
				if got := b.peek(); got != "" {
					t.Errorf("before the commit bob got %s", got)
				}
				if fails {
					w.setFault(func(point string) error {
						if point == "commit" {
							return errors.New("I/O")
						}
						return nil
					})
				} else {
					w.setFault(nil)
				}
				close(gate)
				w.settle()
				w.setFault(nil)
				w.settle()
				shown, last := false, ""
				for _, s := range b.take() {
					switch {
					case matchPattern(s, "from='alice@h.example/a' … type='unavailable'"):
						shown = false
					case matchPattern(s, "from='alice@h.example/a'"):
						shown, last = true, s
					}
				}
				if shown != (tc.grants != fails) {
					t.Errorf("bob sees alice: %v, the last was %s", shown, last)
				}
				if shown && !matchPattern(last, "second") {
					t.Errorf("the last that bob saw was %s", last)
				}
			})
		}
	}
}

// update makes a change without waiting for it.
func update(w *world, c *client, u feature.Update) {
	_, err := ask(context.Background(), w.hub, c.JID().Bare(), func(s *State, fx *effects) struct{} {
		s.update(u, fx, make(chan error, 1))
		return struct{}{}
	})
	if err != nil {
		w.t.Error(err)
	}
}

// TestGoneWhileUncertain: who loses the subscription, but that isn't kept, sees
// that the user has gone meanwhile.
func TestGoneWhileUncertain(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, b := w.bind("alice/a sm roster online"), w.bind("bob/b sm roster online")
	b.take()
	gate := make(chan struct{})
	w.setFault(func(point string) error {
		if point == "commit" {
			<-gate
			return errors.New("I/O")
		}
		return nil
	})
	a.send("<presence type='unsubscribed' to='bob@h.example'/>")
	a.send("<presence type='unavailable'><status>bye</status></presence>")
	waitFor(t, func() bool { return w.pendingEntries("alice") > 2 })
	if got := b.peek(); got != "" {
		t.Errorf("before the commit bob got %s", got)
	}
	close(gate)
	w.settle()
	w.setFault(nil)
	w.settle()
	b.expect("<presence from='alice@h.example/a' to='bob@h.example' type='unavailable'><status>bye</status></presence>")
}

// TestLoginAmongFailures: a session that comes online behind a change that isn't
// kept is told of the others all the same.
func TestLoginAmongFailures(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a, a2 := w.bind("alice/a sm roster online"), w.bind("alice/a2 sm")
	w.bind("bob/b online")
	a.take()
	gate := make(chan struct{})
	w.setFault(func(point string) error {
		if point == "commit" {
			<-gate
			return errors.New("I/O")
		}
		return nil
	})
	a.send("<presence type='unsubscribe' to='bob@h.example'/>")
	a2.send("<presence/>")
	waitFor(t, func() bool { return w.pendingEntries("alice") > 3 })
	close(gate)
	w.settle()
	w.setFault(nil)
	w.settle()
	a2.expectAny("from='alice@h.example/a2'", "from='alice@h.example/a'", "from='bob@h.example/b'")
}

// TestSubscriptionOfUnreadable: what ends or grants a subscription waits for an
// account that can't be read; what is too much is answered.
func TestSubscriptionOfUnreadable(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.befriend("alice", "bob")
	a := w.bind("alice/a sm roster online")
	w.forget()
	w.setFault(func(point string) error {
		if point == "read" {
			return errors.New("I/O")
		}
		return nil
	})
	a.send("<presence type='unsubscribe' to='bob@h.example'/>")
	a.send("<presence type='unsubscribed' to='bob@h.example'/>")
	waitFor(t, func() bool { return w.hub.Counters().LoadErrors > 0 })
	w.tick2()
	w.setFault(nil)
	w.tick()
	w.state("bob", func(s *State) {
		if c := s.roster[w.jid("alice")]; c == nil || c.To || c.From {
			t.Errorf("bob has %+v", c)
		}
	})

	// Beyond what may wait the sender is told.
	w.befriend("alice", "bob")
	w.hub.everywhere(func(l *loop) {
		if s := l.states[w.jid("bob")]; s != nil {
			s.load = loading
			for len(s.waiting) < maxWaiting {
				s.waiting = append(s.waiting, tick{})
			}
		}
	})
	a.take()
	a.send("<presence type='unsubscribe' id='over' to='bob@h.example'/>")
	waitFor(t, func() bool { return matchPattern(a.peek(), "id='over' type='error' … resource-constraint") })
	w.hub.everywhere(func(l *loop) { delete(l.states, w.jid("bob")) })
}

// tick2 passes the loops' time without waiting for anything.
func (w *world) tick2() { w.hub.everywhere(func(l *loop) { l.tick() }) }

// TestAccountRemovedUnseen: also contacts that were not in memory, of an account
// that was not, lose what they had of it.
func TestAccountRemovedUnseen(t *testing.T) {
	for _, online := range []bool{false, true} {
		w := newWorld(t, "alice bob carol")
		w.befriend("alice", "bob")
		a := w.bind("alice/a roster")
		a.send("<presence type='subscribe' to='carol@h.example'/>")
		w.settle()
		a.Close(a)
		w.settle()
		w.forget()
		var b *client
		if online {
			b = w.bind("bob/b roster online")
		}
		if err := w.store.RemoveAccount(context.Background(), w.jid("alice")); err != nil {
			t.Fatal(err)
		}
		if err := w.hub.AccountRemoved(context.Background(), w.jid("alice")); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if online {
			b.expect("<presence from='alice@h.example' to='bob@h.example' type='unsubscribe'/>",
				"<presence from='alice@h.example' to='bob@h.example' type='unsubscribed'/>", "<item jid='alice@h.example' subscription='none'/>")
			b.Close(b)
			w.settle()
			w.forget()
		}
		w.state("bob", func(s *State) {
			c := s.roster[w.jid("alice")]
			if c == nil || c.subscription != (subscription{}) || c.version != s.rosterVersion {
				t.Errorf("online %v: bob has %+v", online, c)
			}
		})
		w.state("carol", func(s *State) {
			if len(s.roster) != 0 {
				t.Error("carol still has the request")
			}
		})
	}
}
