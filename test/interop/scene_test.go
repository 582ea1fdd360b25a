package interop

import (
	"encoding/base64"
	"strings"
	"testing"
)

// scene is what a person finds who logs in with a desktop client: a contact with an avatar, and a room in the
// bookmarks in which something was said before.
type scene struct {
	alice account // whose client is under test
	bob   *client // the contact, who is in the room as Bob
	room  string
	past  string // what Bob said
}

func setScene(t *testing.T, s *server) *scene {
	t.Helper()
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	enter := func(a account, resource string) *client {
		return available(slixmpp().loginAt(t, s, a, resource, s.direct, "direct"))
	}
	sc := &scene{alice: alice, bob: enter(bob, "host"), room: newID() + "@rooms." + domain, past: "said before anybody came"}
	a := enter(alice, "before")
	befriend(a, sc.bob)
	for _, c := range []*client{a, sc.bob} {
		c.do("personal", args{"nodes": []string{}})
	}
	sc.bob.do("avatar_publish", args{"image": base64.StdEncoding.EncodeToString(picture()), "mime": "image/png", "access": "open"})
	sc.bob.enter(sc.room, "Bob", nil)
	sc.bob.do("room_configure", args{"room": sc.room, "persistentroom": true, "roomname": "The Globe"})
	sc.bob.do("message", args{"to": sc.room, "body": sc.past, "id": newID(), "type": "groupchat"})
	sc.bob.said(sc.room+"/Bob", sc.past)
	a.do("bookmark_add", args{"room": sc.room, "name": "The Globe", "nick": "Alice"})
	a.do("disconnect", nil)
	return sc
}

// link waits until the client under test has put an uploaded file's address into the room, and returns it.
func (sc *scene) link() string {
	sc.bob.t.Helper()
	return sc.bob.await("the file's address", func(e *event) bool {
		return e.Type == "groupchat" && e.From == sc.room+"/Alice" && strings.HasPrefix(e.Body, "https://")
	}).Body
}
