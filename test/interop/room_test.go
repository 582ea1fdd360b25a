package interop

import (
	"slices"
	"testing"
)

type entered struct {
	Occupants, History []string
	Subject            string
}

// enter enters a room and returns what the client was told first.
func (c *client) enter(room, nick string, more args) (e entered) {
	c.t.Helper()
	a := args{"room": room, "nick": nick}
	for k, v := range more {
		a[k] = v
	}
	if err := c.call("room_join", a, &e); err != nil {
		c.t.Fatalf("%s: entering %s: %v", c.name, room, err)
	}
	return e
}

// said waits for what somebody says in a room.
func (c *client) said(from, body string) *event {
	c.t.Helper()
	return c.await(from+" saying "+body, func(e *event) bool {
		return e.Kind == "message" && e.Type == "groupchat" && e.From == from && e.Body == body
	})
}

// TestRoom: a client makes a room, configures it, invites, speaks, moderates, reads the archive and destroys it.
func TestRoom(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, l := range []library{slixmpp(), xmppjs()} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			room(t, s, l)
		})
	}
}

func room(t *testing.T, s *server, l library) {
	alice, bob, carol := s.account(t, "alice"), s.account(t, "bob"), s.account(t, "carol")
	a, b, c := online(t, s, l, alice, "one"), online(t, s, l, bob, "one"), online(t, s, l, carol, "one")
	room := newID() + "@rooms." + domain
	a.enter(room, "Alice", nil)
	a.do("room_configure", args{"room": room, "persistentroom": true, "membersonly": true, "roomname": "Interop", "moderatedroom": true})
	b.refused("room_join", args{"room": room, "nick": "Bob"}, "presence", "registration-required")
	a.do("room_invite", args{"room": room, "jid": bob.bare})
	b.await("the invitation", func(e *event) bool { return e.Kind == "invitation" && e.From == room })
	if got := b.enter(room, "Bob", nil); !slices.Equal(got.Occupants, []string{"Alice", "Bob"}) {
		t.Errorf("bob sees %v", got.Occupants)
	}
	a.await("bob in the room", presence(room+"/Bob", ""))
	a.do("message", args{"to": room, "body": "welcome", "id": newID(), "type": "groupchat"})
	for _, w := range []*client{a, b} {
		w.said(room+"/Alice", "welcome")
	}
	b.do("message", args{"to": room, "body": "thanks", "id": newID(), "type": "groupchat"})
	a.said(room+"/Bob", "thanks")
	c.refused("room_join", args{"room": room, "nick": "Carol"}, "presence", "registration-required")
	b.do("message", args{"to": room, "body": "rude", "id": newID(), "type": "groupchat"})
	rude := a.said(room+"/Bob", "rude").Archive
	b.refused("room_moderate", args{"room": room, "id": rude, "reason": "mine"}, "iq", "forbidden")
	a.do("room_moderate", args{"room": room, "id": rude, "reason": "manners"})
	for _, w := range []*client{a, b} {
		w.await("the retraction", func(e *event) bool { return e.Kind == "moderated" && e.From == room && e.ID == rude })
	}
	a.do("room_subject", args{"room": room, "subject": "Testing"})
	a.do("room_affiliation", args{"room": room, "jid": carol.bare, "affiliation": "member"})
	got := c.enter(room, "Carol", nil)
	if !slices.Equal(got.Occupants, []string{"Alice", "Bob", "Carol"}) || !slices.Equal(got.History, []string{"welcome", "thanks"}) || got.Subject != "Testing" {
		t.Errorf("carol is told %+v", got)
	}
	var members []string
	if err := a.call("room_list", args{"room": room, "affiliation": "member"}, &members); err != nil || len(members) != 2 {
		t.Errorf("members: %v, %v", members, err)
	}
	a.do("room_role", args{"room": room, "nick": "Bob", "role": "visitor"})
	b.await("the own role", presence(room+"/Bob", ""))
	id := newID()
	b.do("message", args{"to": room, "body": "unheard", "id": id, "type": "groupchat"})
	b.await("the refusal", bounce(id))
	b.refused("room_role", args{"room": room, "nick": "Carol", "role": "none"}, "iq", "forbidden")
	a.do("room_role", args{"room": room, "nick": "Carol", "role": "none"})
	c.await("the kick", presence(room+"/Carol", "unavailable"))
	b.do("room_ping", args{"to": room + "/Bob"})
	c.refused("room_ping", args{"to": room + "/Carol"}, "iq", "not-acceptable")
	var archive []string
	if err := c.call("room_archive", args{"room": room}, &archive); err != nil || !slices.Equal(archive[:min(3, len(archive))], []string{"welcome", "thanks", "retracted"}) {
		t.Errorf("archive: %v, %v", archive, err)
	}
	a.do("room_destroy", args{"room": room})
	b.await("the end of the room", presence(room+"/Bob", "unavailable"))
}
