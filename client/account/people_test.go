package account_test

import (
	"errors"
	"strings"
	"testing"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// when waits until a picture of the engine is as it should be.
func (d *device) when(what string, ok func(*convo.Engine) bool) {
	d.t.Helper()
	for {
		is := false
		if err := d.Look(d.ctx, func(e *convo.Engine) { is = ok(e) }); err != nil {
			d.t.Fatalf("%s: %v", what, err)
		}
		if is {
			return
		}
		if _, err := d.Changes(d.ctx); err != nil {
			d.t.Fatalf("%s: %v", what, err)
		}
	}
}

// asked waits until so many requests wait, and returns the last.
func (d *device) asked(n int) (last convo.Request) {
	d.t.Helper()
	d.when("requests", func(e *convo.Engine) bool {
		if n > 0 && len(e.Requests()) == n {
			last = e.Requests()[n-1]
		}
		return len(e.Requests()) == n
	})
	return last
}

// nicks waits until those and no others are in the hall.
func (d *device) nicks(want string) {
	d.t.Helper()
	var nicks []string
	defer func() {
		if d.t.Failed() {
			d.t.Logf("in the room: %s", nicks)
		}
	}()
	d.when("occupants "+want, func(e *convo.Engine) bool {
		list, _ := e.Occupants(hall)
		nicks = nil
		for _, o := range list {
			nicks = append(nicks, o.Nick+"="+o.Affiliation)
		}
		return strings.Join(nicks, " ") == want
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPeople: somebody is added, is asked and answers; is removed, and blocked.
func TestPeople(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	alice, bob := start(t, w.config("alice", "desk")), start(t, w.config("bob", "pc"))
	alice.online()
	bob.online()
	a, b := jid.MustParse("alice@localhost"), jid.MustParse("bob@localhost")
	must(t, alice.AddContact(t.Context(), b, "Bobby"))
	ask := bob.asked(1)
	if ask.From != a || !ask.Room.IsZero() {
		t.Errorf("%+v", ask)
	}
	must(t, bob.Answer(t.Context(), ask, true))
	bob.asked(0)
	must(t, bob.AddContact(t.Context(), a, ""))
	subscription := func(d *device, who jid.JID) string {
		must(t, d.Settle(t.Context(), jid.JID{}))
		p, err := d.People(t.Context())
		must(t, err)
		for _, c := range p.Contacts {
			if c.JID == who {
				return c.Name + ":" + c.Subscription
			}
		}
		return ""
	}
	must(t, alice.Settle(t.Context(), b))
	for subscription(alice, b) != "Bobby:both" {
		if _, err := alice.Changes(alice.ctx); err != nil {
			t.Fatal(err)
		}
	}
	must(t, alice.Block(t.Context(), b))
	must(t, alice.RemoveContact(t.Context(), b))
	p, err := alice.People(t.Context())
	if err != nil || len(p.Contacts) != 0 || len(p.Blocked) != 1 || p.Blocked[0] != b {
		t.Errorf("%+v, %v", p, err)
	}
	must(t, alice.Unblock(t.Context(), b))
	if p, err = alice.People(t.Context()); err != nil || len(p.Blocked) != 0 {
		t.Errorf("%+v, %v", p, err)
	}

	must(t, bob.RemoveContact(t.Context(), a))
	must(t, bob.AddContact(t.Context(), a, ""))
	must(t, alice.Block(t.Context(), jid.MustParse("somebody@localhost")))
	must(t, alice.Answer(t.Context(), alice.asked(1), false))
	alice.asked(0)
	if err := alice.AddContact(t.Context(), b, strings.Repeat("x", 5000)); err == nil {
		t.Error("any name will do")
	}
}

// TestInvitation: who is invited into a members' room with a password gets in with the password that the invitation brings; who has none, or a wrong one, is
// told so, and gets in again by himself after a new session.
func TestInvitation(t *testing.T) {
	w := newWorld(t, "alice", "bob", "carol")
	alice, bob, carol := start(t, w.config("alice", "desk")), start(t, w.config("bob", "pc")), start(t, w.config("carol", "pc"))
	for _, d := range []*device{alice, bob, carol} {
		d.online()
	}
	must(t, alice.Enter(t.Context(), hall, "al", ""))
	form := "<query xmlns='" + xep.NSMUCOwner + "'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + xep.NSMUCRoomConfig + "</value></field>" +
		"<field var='muc#roomconfig_membersonly'><value>1</value></field><field var='muc#roomconfig_passwordprotectedroom'><value>1</value></field>" +
		"<field var='muc#roomconfig_roomsecret'><value>a &lt; b</value></field></x></query>"
	_, err := alice.Client().IQ(t.Context(), stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, hall, form))
	must(t, err)

	refused := func(err error, want stanza.Condition) {
		t.Helper()
		if e, ok := errors.AsType[*stanza.Error](err); !ok || e.Condition != want {
			t.Errorf("%v, wanted %s", err, want)
		}
	}
	refused(bob.Enter(t.Context(), hall, "bo", ""), stanza.RegistrationRequired)
	must(t, alice.Invite(t.Context(), hall, jid.MustParse("bob@localhost/pc"), "Tea?"))
	ask := bob.asked(1)
	if ask.Room != hall || ask.Password != "a < b" || ask.Reason != "Tea?" || !ask.Mediated || ask.From.Bare().Local() != "alice" && ask.From.Bare() != hall {
		t.Errorf("%+v", ask)
	}
	refused(bob.Enter(t.Context(), hall, "bo", ""), stanza.NotAuthorized)
	refused(bob.Enter(t.Context(), hall, "bo", "guess"), stanza.NotAuthorized)
	must(t, bob.Enter(t.Context(), hall, "bo", ask.Password))
	bob.asked(0)
	alice.nicks("al=owner bo=member")
	bob.nicks("al=owner bo=member")
	refused(bob.Invite(t.Context(), jid.MustParse("nowhere@rooms.localhost"), jid.MustParse("carol@localhost"), ""), stanza.ItemNotFound)

	w.cut()
	bob.nicks("al=owner bo=member")

	must(t, alice.Invite(t.Context(), hall, jid.MustParse("carol@localhost"), ""))
	must(t, carol.Answer(t.Context(), carol.asked(1), false))
	carol.asked(0)
	alice.when("a decline", func(e *convo.Engine) bool {
		list := e.Declines()
		return len(list) == 1 && list[0].From == jid.MustParse("carol@localhost") && list[0].Room == hall
	})
	must(t, bob.Leave(t.Context(), hall))
	alice.nicks("al=owner")
}
