package interop

import (
	"encoding/base64"
	"slices"
	"testing"
)

// happened is an event of a node.
func happened(what, from, node, id string) func(*event) bool {
	return func(e *event) bool {
		return e.Kind == "personal" && e.Type == what && e.From == from && e.Status == node && e.ID == id
	}
}

// TestPersonalEvents: a client publishes avatars and bookmarks, hears of them on
// another device and at a contact's, and finds them where older clients look.
func TestPersonalEvents(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, l := range []library{slixmpp(), xmppjs()} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			personalEvents(t, s, l)
		})
	}
}

func personalEvents(t *testing.T, s *server, l library) {
	const metadata, bookmarks = "urn:xmpp:avatar:metadata", "urn:xmpp:bookmarks:1"
	alice, bob, carol := s.account(t, "alice"), s.account(t, "bob"), s.account(t, "carol")
	a, phone, b, c := online(t, s, l, alice, "one"), online(t, s, l, alice, "two"), online(t, s, l, bob, "one"), online(t, s, l, carol, "one")
	befriend(a, b)
	for _, w := range []*client{a, phone, b, c} {
		w.do("personal", args{"nodes": []string{metadata, bookmarks}})
	}
	list := func(w *client, command string, more args) (got []string) {
		t.Helper()
		if err := w.call(command, more, &got); err != nil {
			t.Errorf("%s: %s: %v", w.name, command, err)
		}
		slices.Sort(got)
		return got
	}
	same := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}

	image := base64.StdEncoding.EncodeToString([]byte("\x89PNG not really"))
	var id, got string
	if err := a.call("avatar_publish", args{"image": image, "mime": "image/png", "access": "open"}, &id); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*client{phone, b} {
		w.await("the avatar", happened("publish", alice.bare, metadata, id))
	}
	for command, more := range map[string]args{"avatar_read": {"jid": alice.bare, "id": id}, "vcard_photo": {"jid": alice.bare}} {
		for _, w := range []*client{b, c} {
			if err := w.call(command, more, &got); err != nil || got != image {
				t.Errorf("%s: %s: %q, %v", w.name, command, got, err)
			}
		}
	}

	a.do("bookmark_add", args{"room": "tea@rooms." + domain, "name": "Tea"})
	phone.await("the bookmark", happened("publish", alice.bare, bookmarks, "tea@rooms."+domain))
	same("private XML", list(phone, "bookmark_old_list", nil), []string{"tea@rooms." + domain + " Tea"})
	phone.do("bookmark_old_set", args{"rooms": map[string]string{"tea@rooms." + domain: "Tea", "play@rooms." + domain: "Play"}})
	a.await("the other bookmark", happened("publish", alice.bare, bookmarks, "play@rooms."+domain))
	same("bookmarks", list(a, "bookmark_list", nil), []string{"play@rooms." + domain + " Play", "tea@rooms." + domain + " Tea"})
	a.do("event_retract", args{"node": bookmarks, "id": "tea@rooms." + domain})
	phone.await("the retraction", happened("retract", alice.bare, bookmarks, "tea@rooms."+domain))
	same("private XML", list(phone, "bookmark_old_list", nil), []string{"play@rooms." + domain + " Play"})
	b.refused("bookmark_list", args{"jid": alice.bare}, "iq", "item-not-found")
	c.refused("bookmark_list", args{"jid": alice.bare}, "iq", "service-unavailable")
	same("nodes that bob sees", list(b, "event_nodes", args{"jid": alice.bare}), []string{"urn:xmpp:avatar:data", metadata})
	same("nodes that alice sees", list(a, "event_nodes", args{"jid": alice.bare}), []string{"urn:xmpp:avatar:data", metadata, bookmarks})
}
