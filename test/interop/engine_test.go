package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"

	xmpp "carillon.im/client"
	glue "carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// talker is a device under test: our own client with the conversation engine.
type talker struct {
	*glue.Account
	t    *testing.T
	ctx  context.Context
	name string
}

func talk(t *testing.T, s *server, a account, device string) *talker {
	t.Helper()
	cfg := glue.Config{Client: ownConfig(s, a, s.direct)}
	cfg.Client.Resource = device
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	acc, err := glue.Start(ctx, cfg)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	d := &talker{acc, t, ctx, device}
	t.Cleanup(func() {
		if err := d.Close(ctx); err != nil {
			t.Errorf("%s: %v", device, err)
		}
		cancel()
	})
	for {
		if st := d.Status(); st.Online && !st.CatchingUp {
			break
		}
		if _, err := d.Changes(ctx); err != nil {
			t.Fatalf("%s: %v, %+v", device, err, d.Status())
		}
	}
	if _, err := d.Client().Ping(ctx, jid.JID{}); err != nil { // as ownClient
		t.Fatal(err)
	}
	return d
}

func (d *talker) view(with jid.JID) (v convo.View) {
	d.t.Helper()
	if err := d.Look(d.ctx, func(e *convo.Engine) { v, _ = e.Conversation(with, 0) }); err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	return v
}

// until takes changes until the conversation is as wanted.
func (d *talker) until(with jid.JID, what string, ok func(convo.View) bool) convo.View {
	d.t.Helper()
	for {
		v := d.view(with)
		if ok(v) {
			return v
		}
		if _, err := d.Changes(d.ctx); err != nil {
			d.t.Fatalf("%s: %s: %v; %+v; it shows:\n%s", d.name, what, err, d.Status(), history(v))
		}
	}
}

func (d *talker) do(ev convo.Event) {
	d.t.Helper()
	if err := d.Do(d.ctx, ev); err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
}

// history is what a conversation shows of each message, whatever the device that shows it.
func history(v convo.View) string {
	var b strings.Builder
	for _, e := range v.Entries {
		fmt.Fprintf(&b, "%s %q thread %s", e.From.Local(), e.Body, e.Thread)
		if e.Edited {
			b.WriteString(" edited")
		}
		if e.Retracted {
			b.WriteString(" retracted")
		}
		for _, r := range e.Reactions {
			fmt.Fprintf(&b, " %s:%v", r.From.Local(), r.Emoji)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// entry is the message that was last said to be body, before it was changed.
func entry(v convo.View, id string) (convo.Entry, bool) {
	for _, e := range v.Entries {
		if e.MessageID == id {
			return e, true
		}
	}
	return convo.Entry{}, false
}

// conversation is two devices of one account and a contact with two.
type conversation struct {
	alice, bob              jid.JID
	desk, phone, pc, tablet *talker
}

// each of the devices, with whom it talks to.
func (c *conversation) each(do func(d *talker, with jid.JID)) {
	for _, d := range []*talker{c.desk, c.phone} {
		do(d, c.bob)
	}
	for _, d := range []*talker{c.pc, c.tablet} {
		do(d, c.alice)
	}
}

// say lets a device say something and waits until all four show it; its id is for entry.
func (c *conversation) say(from *talker, with jid.JID, body string) (id string) {
	from.t.Helper()
	last := func(v convo.View) bool { return len(v.Entries) > 0 && v.Entries[len(v.Entries)-1].Body == body }
	from.do(convo.SendText{Conversation: with, Body: body})
	v := from.until(with, body, last)
	id = v.Entries[len(v.Entries)-1].MessageID
	c.each(func(d *talker, with jid.JID) { d.until(with, body, last) })
	return id
}

// all waits until all four devices show the message as wanted.
func (c *conversation) all(id, what string, ok func(convo.Entry) bool) {
	c.desk.t.Helper()
	c.each(func(d *talker, with jid.JID) {
		d.until(with, what, func(v convo.View) bool {
			e, found := entry(v, id)
			return found && ok(e)
		})
	})
}

// engineTalk: all four devices of a conversation show the same, with what was said about messages, and so does a device that comes later and reads the
// archive. Who claimed a message is known where the server can tell.
func engineTalk(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	c := &conversation{alice: jid.MustParse(a.bare), bob: jid.MustParse(b.bare)}
	c.desk, c.phone, c.pc, c.tablet = talk(t, s, a, "desk"), talk(t, s, a, "phone"), talk(t, s, b, "pc"), talk(t, s, b, "tablet")

	hello := c.say(c.desk, c.bob, "hello")
	c.say(c.pc, c.alice, "who is there?")
	wrong := c.say(c.phone, c.bob, "the phoen")
	regretted := c.say(c.tablet, c.alice, "regretted")

	find := func(d *talker, with jid.JID, id string) convo.EntryID {
		e, _ := entry(d.view(with), id)
		return e.ID
	}
	c.phone.do(convo.Correct{Conversation: c.bob, Entry: find(c.phone, c.bob, wrong), Body: "the phone"})
	c.all(wrong, "correction", func(e convo.Entry) bool { return e.Body == "the phone" && e.Edited })
	c.tablet.do(convo.Retract{Conversation: c.alice, Entry: find(c.tablet, c.alice, regretted)})
	c.all(regretted, "retraction", func(e convo.Entry) bool { return e.Retracted && e.Body == "" })
	c.pc.do(convo.React{Conversation: c.alice, Entry: find(c.pc, c.alice, hello), Emoji: []string{"👋"}})
	c.all(hello, "reaction", func(e convo.Entry) bool { return len(e.Reactions) == 1 && e.Reactions[0].From == c.bob })
	c.pc.do(convo.Attention{Conversation: c.alice, Act: convo.Seen, Entries: []convo.EntryID{find(c.pc, c.alice, wrong)}})
	for _, d := range []*talker{c.desk, c.phone} {
		d.until(c.bob, "displayed", func(v convo.View) bool {
			e, _ := entry(v, wrong)
			return e.Displayed && e.Delivered
		})
	}

	question := c.say(c.pc, c.alice, "who answers?")
	if s.kind.name == "carillon" {
		c.phone.do(convo.Attention{Conversation: c.bob, Act: convo.Accepted, Entries: []convo.EntryID{find(c.phone, c.bob, question)}})
		c.phone.until(c.bob, "own claim", func(v convo.View) bool { e, _ := entry(v, question); return e.Owner == convo.Mine })
		v := c.desk.until(c.bob, "the phone's claim", func(v convo.View) bool { e, _ := entry(v, question); return e.Owner == convo.Elsewhere })
		if e, _ := entry(v, question); !strings.HasPrefix(e.OwnerRes, "phone") {
			t.Errorf("claimed by %q", e.OwnerRes)
		}
	} else if e, _ := entry(c.phone.view(c.bob), question); e.Owner != convo.NotAsked {
		t.Errorf("owner: %v", e.Owner)
	}

	const more = 150 // more than a page
	for n := range more {
		c.pc.do(convo.SendText{Conversation: c.alice, Body: fmt.Sprint("line ", n)})
	}
	last := fmt.Sprint("line ", more-1)
	c.each(func(d *talker, with jid.JID) {
		d.until(with, last, func(v convo.View) bool { return len(v.Entries) > 0 && v.Entries[len(v.Entries)-1].Body == last })
	})
	want := history(c.desk.view(c.bob))
	if n := strings.Count(want, "\n"); n != 5+more {
		t.Errorf("%d messages are shown:\n%s", n, want)
	}
	c.each(func(d *talker, with jid.JID) {
		if got := history(d.view(with)); got != want {
			t.Errorf("%s shows\n%s\nand desk\n%s", d.name, got, want)
		}
	})
	laptop := talk(t, s, a, "laptop")
	laptop.until(c.bob, "the archive", func(v convo.View) bool {
		if v.More && !v.Paging {
			laptop.do(convo.Page{Conversation: c.bob})
		}
		return history(v) == want
	})
}

// engineLocking: towards a contact behind a server without IM-NG the engine locks to the resource that answers, and unlocks by presence and by another
// resource (XEP-0296 3); with carillon all goes to the bare address (IM-NG 3, X2-9).
func engineLocking(t *testing.T, s *server) {
	a, b := s.account(t, "alice"), s.account(t, "bob")
	alice := talk(t, s, a, "desk")
	cfg := ownConfig(s, b, s.direct)
	cfg.Resource = "pc"
	pc := ownClient(t, cfg)
	cfg.Resource = "tablet"
	tablet := ownClient(t, cfg)
	bob := jid.MustParse(b.bare)
	n := 0
	// next is the address that alice's next message goes to, as bob's device gets it; a message to the bare address may come to the other alone.
	next := func(want jid.JID, at *own) {
		t.Helper()
		n++
		body := fmt.Sprint("message ", n)
		if locked := alice.view(bob).LockedTo; !want.IsFull() && !locked.IsZero() || want.IsFull() && locked != want {
			t.Errorf("%s: locked to %v", body, locked)
		}
		alice.do(convo.SendText{Conversation: bob, Body: body})
		if got := at.arrives(a.bare, body); got.To != want {
			t.Errorf("%s went to %v, not to %v", body, got.To, want)
		}
	}
	locked := func(j jid.JID) jid.JID {
		if s.kind.name == "carillon" {
			return bob
		}
		return j
	}
	answer := func(from *own, body string) {
		t.Helper()
		from.say(alice.Client().Account(), body)
		alice.until(bob, body, func(v convo.View) bool { return len(v.Entries) > 0 && v.Entries[len(v.Entries)-1].Body == body })
	}
	next(bob, pc) // LOCK-1, LOCK-4
	answer(pc, "from the pc")
	next(locked(pc.JID()), pc) // LOCK-6, LOCK-7
	answer(tablet, "from the tablet")
	next(locked(tablet.JID()), tablet) // LOCK-8, LOCK-9
	present := stanza.Build(stanza.Presence, stanza.TypeAvailable, "", jid.JID{}, alice.Client().JID(), "<show>away</show>")
	if _, err := pc.Send(pc.ctx, present); err != nil {
		t.Fatal(err)
	}
	// The answer to a ping of alice's device would come behind the presence, but not her view of it: a message does.
	if s.kind.name != "carillon" {
		alice.until(bob, "unlocking", func(v convo.View) bool { return v.LockedTo.IsZero() })
	}
	next(bob, pc) // LOCK-11, LOCK-12
}

// arrives is the message as this device gets it, from the contact or as the copy of what another device got.
func (o *own) arrives(from, body string) *stanza.Stanza {
	o.t.Helper()
	is := func(st *stanza.Stanza) bool {
		return st.From.Bare().String() == from && st.Child(stanza.NSClient, "body").Text() == body
	}
	for {
		ev, err := o.Next(o.ctx)
		if err != nil {
			o.t.Fatalf("waiting for %s: %v", body, err)
		}
		switch ev := ev.(type) {
		case *xmpp.Received:
			if is(ev.Stanza) {
				return ev.Stanza
			}
		case *xmpp.Carbon:
			if !ev.Sent && is(ev.Message) {
				return ev.Message
			}
		}
	}
}
