package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

func TestPushBusy(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.desk.Close(p.desk)
	p.phone.detach()
	p.say("1")
	first := p.service.take()
	for range 3 {
		p.say("2")
	}
	if got := p.service.take(); len(first) != 1 || len(got) != 0 {
		t.Fatalf("%v, then %v", first, got)
	}
	if got := p.heldRows(); len(got) != 3 {
		t.Errorf("the store holds %v", got)
	}
	id, _, _ := strings.Cut(after(first[0], " id='"), "'")
	// Somebody else's answer, and one of nobody's.
	p.service.enter("<iq type='result' from='evil@x.example' to='h.example' id='" + id + "'/>")
	p.service.enter("<iq type='result' from='x.example' to='h.example' id='none'/>")
	p.notified("")
	p.answer(id, "")
	p.notified("", 4)
	p.answer(id, "item-not-found") // late
	p.say("3")
	p.notified("", 5)
}

func TestPushErrors(t *testing.T) {
	state := func(p *pushWorld) store.PushState {
		p.settle()
		targets, err := p.store.PushTargets(context.Background(), p.id("bob"))
		if err != nil || len(targets) != 1 {
			t.Fatal(targets, err)
		}
		return targets[0].PushState
	}
	for _, condition := range []string{"item-not-found", "forbidden", "not-allowed", "gone", "bad-request", "not-acceptable", "not-authorized", "feature-not-implemented"} {
		p := newPushWorld(t, ":memory:")
		p.desk.Close(p.desk)
		p.phone.detach()
		p.say("1")
		p.notified(condition, 1)
		if s := state(p); !s.Off || s.Condition != condition {
			t.Errorf("%s: %+v", condition, s)
		}
		p.say("2")
		p.pass(24 * time.Hour)
		p.notified("")
		p.wantRules("phone nothing R-PUSH-7")
		again := p.bindAs("p", "phone")
		p.on(again, "n1")
		again.Close(again)
		p.settle()
		p.say("3")
		p.notified("", 1)
		if s := state(p); s != (store.PushState{}) {
			t.Errorf("named again: %+v", s)
		}
	}

	p := newPushWorld(t, ":memory:")
	p.desk.Close(p.desk)
	p.phone.detach()
	p.say("1")
	pause := time.Minute
	for i := 1; i < pushFailures; i++ {
		p.notified("resource-constraint", 1)
		s := state(p)
		if s.Off || s.Failures != i || !s.Retry.Equal(p.Now().Add(pause)) || len(p.heldRows()) != 1 {
			t.Fatalf("failure %d: %+v at %v, held %v", i, s, p.Now(), p.heldRows())
		}
		p.pass(pause - time.Second)
		p.notified("")
		p.pass(time.Second)
		pause = min(2*pause, pushPauseMax)
	}
	p.notified("resource-constraint", 1)
	if s := state(p); !s.Off || s.Failures != pushFailures || len(p.heldRows()) != 0 {
		t.Errorf("after the last: %+v, held %v", s, p.heldRows())
	}

	// A failure that passed is forgotten.
	p = newPushWorld(t, ":memory:")
	p.desk.Close(p.desk)
	p.phone.detach()
	p.service.set(func() { p.service.refuse = stanza.NewError(stanza.RemoteServerTimeout, "") })
	p.say("1")
	p.service.set(func() { p.service.refuse = nil })
	p.pass(time.Minute)
	p.notified("", 1)
	if s := state(p); s != (store.PushState{}) {
		t.Errorf("%+v", s)
	}
	// No way to it at all.
	p.service.set(func() { p.service.gone = true })
	p.say("2")
	if s := state(p); s.Condition != "remote-server-not-found" || s.Off {
		t.Errorf("%+v", s)
	}
	p.service.set(func() { p.service.gone = false })
	p.pass(time.Minute)
	p.notified("", 2)

	// No answer: it may have got it, so it isn't told of that message again.
	p.say("3")
	if got := p.service.take(); len(got) != 1 {
		t.Fatal(got)
	}
	p.say("4")
	p.pass(pushPatience)
	p.notified("")
	if s := state(p); s.Condition != "remote-server-timeout" {
		t.Errorf("%+v", s)
	}
	p.pass(time.Minute)
	p.notified("", 4)
	if n := len(p.hub.services.asked); n != 0 {
		t.Errorf("%d requests remembered", n)
	}
}

func TestPushRestart(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		t.Run(fmt.Sprint("orderly ", orderly), func(t *testing.T) {
			p := newPushWorld(t, t.TempDir())
			p.phone.detach()
			p.idle()
			p.say("told")
			p.notified("", 1)
			p.desk.send("<presence/>")
			p.say("held")
			p.say("held too")
			p.notified("")
			p.restart(orderly, time.Second)
			p.sessions("bob") // it is loaded by then
			p.notified("")
			if got := p.heldRows(); len(got) != 2 {
				t.Fatalf("held %v", got)
			}
			p.pass(11 * time.Second)
			p.notified("", 2)
			p.restart(orderly, time.Second)
			p.pass(time.Minute)
			p.notified("")

			// The phone is back before: it needs nothing.
			p.bind("bob/desk online")
			p.alice = p.bind("alice/a online")
			p.say("1")
			p.notified("")
			p.restart(orderly, time.Second)
			desk := p.bind("bob/desk online")
			phone := p.bindAs("p", "phone")
			p.pass(time.Minute)
			p.notified("")
			if got := p.heldRows(); len(got) != 0 {
				t.Fatalf("held %v", got)
			}
			// The other device answers after the restart.
			phone.Close(phone)
			p.alice = p.bind("alice/a online")
			desk.send("<presence/>")
			p.say("2")
			p.notified("")
			p.restart(orderly, time.Second)
			desk = p.bind("bob/desk online")
			desk.say("alice@h.example", "yes")
			p.pass(time.Minute)
			p.notified("")
		})
	}
}

func TestPushStore(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.phone.detach()
	broken := errors.New("I/O")
	p.failCommits(broken)
	p.idle()
	p.say("lost")
	p.failCommits(nil)
	p.pass(time.Minute)
	p.notified("")
	p.desk.send("<presence/>")
	p.say("held")
	p.failCommits(broken)
	p.pass(20 * time.Second)
	p.notified("")
	p.failCommits(nil)
	p.pass(time.Second)
	p.notified("", 1)
	p.pass(time.Minute)
	p.notified("")
}

func TestPushBounds(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.phone.detach()
	p.desk.send("<presence/>")
	n := store.MaxPushHeld + 7
	for range n {
		p.say("x")
	}
	if got := p.heldRows(); len(got) != store.MaxPushHeld {
		t.Errorf("%d held", len(got))
	}
	p.pass(11 * time.Second)
	p.notified("", n)
	if got := p.heldRows(); len(got) != 0 {
		t.Errorf("held %v", got)
	}
	for i := range store.MaxPush + 3 {
		c := p.bindAs("p", "phone")
		p.pass(time.Second)
		p.on(c, fmt.Sprint(i))
	}
	if targets, err := p.store.PushTargets(context.Background(), p.id("bob")); len(targets) != store.MaxPush || err != nil {
		t.Error(len(targets), err)
	}
}

func TestPushAtTheStop(t *testing.T) {
	p := newPushWorld(t, t.TempDir())
	p.desk.Close(p.desk)
	p.say("not acknowledged yet")
	p.restart(true, time.Second)
	p.sessions("bob")
	p.pass(time.Minute)
	p.notified("")
}

func TestPushOfARemovedAccount(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.phone.detach()
	p.desk.send("<presence/>")
	p.say("held")
	p.alice.send("<message type='chat' id='c' to='" + bob + "'><propose xmlns='urn:xmpp:jingle-message:0' id='1'/></message>")
	p.settle()
	if got := p.service.take(); len(got) != 1 {
		t.Fatal(got)
	}
	p.say("waits for the answer")
	if err := p.store.RemoveAccount(context.Background(), jid.MustParse(bob)); err != nil {
		t.Fatal(err)
	}
	if err := p.hub.AccountRemoved(context.Background(), jid.MustParse(bob)); err != nil {
		t.Fatal(err)
	}
	p.pass(time.Hour)
	p.notified("")
	if n := len(p.hub.services.asked); n != 0 {
		t.Errorf("%d requests remembered", n)
	}
	if s := p.hub.loop(jid.MustParse(bob)).states[jid.MustParse(bob)]; s != nil && len(s.pushes) != 0 {
		t.Errorf("%d push services remembered", len(s.pushes))
	}
}
