package routing

import (
	"fmt"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// sighting is what a device received, or has an archive, of one message.
type sighting struct {
	key       key
	form      form
	id, whose string // the values, "" for none
}

// key tells apart what comes of a message: itself, and the error that answers it.
type key struct {
	id    string
	error bool
}

// see says what an element that a device of an account received is.
func see(el xmltree.Element, bare, full string) (sighting, error) {
	how, msg, id := "direct", el, ""
	for _, wrap := range []struct{ space, local, how string }{
		{"urn:xmpp:carbons:2", "sent", "sent"}, {"urn:xmpp:carbons:2", "received", "received"}, {"urn:xmpp:mam:2", "result", "archived"},
	} {
		outer := el.Child(wrap.space, wrap.local)
		if outer.IsZero() {
			continue
		}
		how, msg = wrap.how, outer.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message")
		if msg.IsZero() || el.Attr("from") != bare || el.Attr("to") != full {
			return sighting{}, fmt.Errorf("a bad %s: %s", how, el.Raw())
		}
		id = outer.Attr("id")
	}
	s := sighting{key: key{id: msg.Attr("id")}, form: form{how: how, typ: msg.Attr("type"), from: msg.Attr("from"), to: msg.Attr("to")}}
	if reason := condition(msg); reason != "" && reason != "gone" {
		s.key.error = true
		s.form.how, s.form.reason = "error", reason
		if how != "direct" {
			s.form.how = how + " error"
		}
		return s, nil
	}
	s.form.inner = inner(msg, added)
	err := s.marks(msg, bare)
	if how == "archived" && id != s.id {
		err = fmt.Errorf("an archived message with another id: %s", el.Raw())
	}
	return s, err
}

// marks notes what the server added to a message.
func (s *sighting) marks(msg xmltree.Element, bare string) error {
	for el := range msg.Children() {
		switch {
		// What others give ids to isn't ours (XEP-0359 5, rule 3); the forged ones are in the name of this server, in every copy and archive.
		case el.Is("urn:xmpp:sid:0", "stanza-id") && (el.Attr("by") == bare || el.Attr("id") == "forged"):
			if s.form.id || el.Attr("id") == "forged" || el.Attr("id") == "" {
				return fmt.Errorf("a bad <stanza-id/>: %s", msg.Raw())
			}
			s.form.id, s.id = true, el.Attr("id")
		case isWhose(el):
			if s.form.whose || !xmltree.IsNmtoken(el.Attr("id")) {
				return fmt.Errorf("a bad <whose/>: %s", msg.Raw())
			}
			s.form.whose = true
			if id := el.Attr("id"); id != "forged" { // which only a room can send; others' is refused
				s.whose = id
			}
		case el.Is("urn:xmpp:im-ng:0", "im-ng"):
			s.form.imng = true
		case el.Is("urn:xmpp:tmp:xmpp-2:0", "xmpp-1"):
			s.form.xmpp1 = true
		case el.Is("urn:xmpp:tmp:xmpp-2:0", "xmpp-2"):
			return fmt.Errorf("an <xmpp-2/>: %s", msg.Raw())
		case el.Is("urn:xmpp:delay", "delay") && s.form.how == "direct":
			s.form.how = "offline"
		}
	}
	return nil
}

func condition(msg xmltree.Element) string {
	for el := range msg.Child(stanza.NSClient, "error").Children() {
		if el.Space() == stanza.NSStanzaErrors && el.Local() != "text" {
			return el.Local()
		}
	}
	return ""
}
