package convo

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
)

// presence is what a room says of an occupant (XEP-0045 7.2.2).
func presence(nick, typ, affiliation, role, extra string) string {
	return fmt.Sprintf("<presence from='hall@rooms.example/%s' to='alice@wonder.example/phone' type='%s'><x xmlns='http://jabber.org/protocol/muc#user'>"+
		"<item affiliation='%s' role='%s' jid='%s@wonder.example/pc'/>%s</x></presence>", nick, typ, affiliation, role, nick, extra)
}

// present are the nicknames of who is in the hall, in their order.
func (r *run) present(j jid.JID) string {
	list, _ := r.e.Occupants(j)
	nicks := make([]string, 0, len(list))
	for _, o := range list {
		nicks = append(nicks, o.Nick)
	}
	return strings.Join(nicks, " ")
}

// TestOccupants: who is in a room is known from the presence that comes before the own, changes with it, and not longer than the session or the visit.
func TestOccupants(t *testing.T) {
	r := newRun(t, NG)
	r.in(presence("bo", "", "member", "participant", ""))
	if r.present(hall) != "" {
		t.Error("presence of a room that wasn't to be entered counts")
	}
	r.do(Entering{hall})
	r.in(presence("zoe", "", "none", "visitor", ""))
	r.in(presence("bo", "", "member", "participant", ""))
	r.in(strings.Replace(presence("Cat", "", "owner", "moderator", ""), "</presence>",
		"<hats xmlns='urn:xmpp:hats:0'><hat uri='u' title='Grin'/><hat uri='v' title=''/></hats></presence>", 1))
	r.in(presence("al", "", "none", "participant", "<status code='110'/>"))
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	if got := r.present(hall); got != "Cat bo al zoe" {
		t.Errorf("in the room: %s", got)
	}
	list, more := r.e.Occupants(hall)
	if cat := list[0]; more || len(cat.Hats) != 1 || cat.Hats[0] != "Grin" || cat.Affiliation != "owner" || cat.Role != "moderator" || cat.JID.String() != "Cat@wonder.example/pc" && cat.JID.String() != "cat@wonder.example/pc" {
		t.Errorf("%+v, more %v", cat, more)
	}
	if !list[2].Own || list[2].Affiliation != "" {
		t.Errorf("%+v", list[2])
	}
	if v := r.view(hall); v.People != 4 {
		t.Errorf("%d people", v.People)
	}
	before := r.view(hall).Version
	r.in(presence("bo", "unavailable", "member", "none", ""))
	if got := r.present(hall); got != "Cat al zoe" || r.view(hall).Version == before {
		t.Errorf("when one has gone: %s", got)
	}
	r.in("<presence from='hall@rooms.example' to='alice@wonder.example/phone'/>") // the room's own, of its avatar
	r.in(presence("bo", "", "outcast", "queen", ""))
	if list, _ := r.e.Occupants(hall); len(list) != 4 || list[2].Role != "" || list[2].Affiliation != "" {
		t.Errorf("%+v", list)
	}
	r.do(Disconnected{}, Connected{JID: phone, Profile: NG, Resumed: true, Facts: all})
	if r.present(hall) == "" {
		t.Error("a resumed session has forgotten who is in the room")
	}
	r.do(Disconnected{}, Connected{JID: phone, Profile: NG, Facts: all})
	if r.present(hall) != "" {
		t.Error("a new session knows before it was told")
	}
	r.do(Entering{hall})
	r.in(presence("bo", "", "none", "participant", ""))
	r.do(Room{JID: hall})
	if r.present(hall) != "" {
		t.Error("known after the visit")
	}
}

// TestExit: who was put out of a room knows why, until it is entered again.
func TestExit(t *testing.T) {
	for _, tt := range []struct {
		extra string
		want  Exit
	}{
		{"<status code='110'/><status code='307'/>", Exit{ExitKicked, "avaunt"}},
		{"<status code='301'/><status code='110'/>", Exit{ExitBanned, "avaunt"}},
		{"<status code='110'/><status code='321'/>", Exit{ExitMembers, "avaunt"}},
		{"<status code='110'/><destroy><reason>the end</reason></destroy>", Exit{ExitClosed, "the end"}},
		{"<status code='110'/>", Exit{}},                     // left
		{"<status code='307'/>", Exit{}},                     // somebody else
		{"<status code='110'/><status code='303'/>", Exit{}}, // another name
	} {
		r := newRun(t, NG)
		r.do(Entering{hall}, Room{JID: hall, Nick: "al", Joined: true})
		r.do(Room{JID: hall}) // the order of the two doesn't matter
		r.in(strings.Replace(presence("al", "unavailable", "none", "none", tt.extra), "jid='al@wonder.example/pc'/>", "><reason>avaunt</reason></item>", 1))
		if got := r.view(hall).Exit; got != tt.want {
			t.Errorf("%s: %+v", tt.extra, got)
		}
		r.do(Entering{hall})
		if got := r.view(hall).Exit; got != (Exit{}) {
			t.Errorf("entered again: %+v", got)
		}
	}
}

// TestOccupantsBound: a room has room for so many.
func TestOccupantsBound(t *testing.T) {
	r := newRun(t, NG)
	r.do(Entering{hall})
	for i := range maxOccupants + 10 {
		r.in(presence(fmt.Sprint("n", i), "", "none", "participant", ""))
	}
	if list, more := r.e.Occupants(hall); len(list) != maxOccupants || !more {
		t.Errorf("%d occupants, more %v", len(list), more)
	}
	r.in(presence("n0", "unavailable", "none", "none", ""))
	r.in(presence("late", "", "owner", "moderator", ""))
	if list, _ := r.e.Occupants(hall); len(list) != maxOccupants || list[0].Nick != "late" {
		t.Errorf("%d occupants", len(list))
	}
}
