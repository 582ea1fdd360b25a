package convo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/xep"
)

// TestOwnInRoom: what the person wrote is one entry, whatever nickname the room gives back; who has the nickname of before is somebody else.
func TestOwnInRoom(t *testing.T) {
	r := newRun(t, NG)
	r.do(QueryDone{Query: r.enter(false, facts).ID, Complete: true})
	r.do(SendText{Conversation: hall, Body: "one"})
	one := r.out()
	reflect := func(nick, occupant, archive string) string {
		return strings.Replace(said(nick, "one", archive, "<origin-id xmlns='urn:xmpp:sid:0' id='"+one.ID+"'/>"), "id='o-"+nick+"'", "id='"+occupant+"'", 1)
	}
	r.in(reflect("mallory", "o-mallory", "s0"))
	r.in(reflect("Al", "o-al", "s1"))
	v := r.view(hall)
	if len(v.Entries) != 2 || v.Entries[0].Own || !v.Entries[1].Own || v.Entries[1].Delivery != Archived || v.Entries[1].From.Resource() != "Al" {
		t.Fatalf("%+v", v.Entries)
	}
	// Lost on its way; another has the nickname meanwhile.
	r.do(SendText{Conversation: hall, Body: "two"})
	two := r.out()
	r.away(NG)
	if sent := r.out(); sent.ID != two.ID || len(r.sent) != 2 {
		t.Fatal("it is sent before the room has let the device in")
	}
	// A connection that repeats it before that is told so.
	r.in("<message from='hall@rooms.example' to='alice@wonder.example/phone' type='error' id='" + two.ID + "'><error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	q := r.enter(false, facts)
	r.in(kept(q.ID, "s2", strings.Replace(said("al", "mine", "", ""), "o-al", "o-cy", 1)))
	r.in(kept(q.ID, "s3", strings.Replace(said("zed", "mine too", "", ""), "o-zed", "o-al", 1)))
	r.do(QueryDone{Query: q.ID, First: "s2", Last: "s3", Complete: true})
	v = r.view(hall)
	if v.Entries[2].Own || !v.Entries[3].Own || len(v.Entries) != 5 {
		t.Fatalf("%+v", v.Entries)
	}
	if len(r.sent) != 3 || r.out().ID != two.ID {
		t.Fatalf("%d were sent, the last %s", len(r.sent), r.out().ID)
	}
}

// TestOwnWithoutOccupants: in a room that doesn't tell occupants apart, what was said under the own nickname before is nobody's that is known.
func TestOwnWithoutOccupants(t *testing.T) {
	r := newRun(t, NG)
	old := RoomFacts{Archive: true}
	q := r.enter(false, old)
	r.in(kept(q.ID, "s1", said("al", "one", "", "")))
	r.in(kept(q.ID, "s2", said("al", "two", "", "<x xmlns='http://jabber.org/protocol/muc#user'><item jid='alice@wonder.example/desk'/></x>")))
	r.do(QueryDone{Query: q.ID, First: "s1", Last: "s2", Complete: true})
	r.in(said("al", "three", "s3", ""))
	r.in(said("al", "four", "", "<delay xmlns='urn:xmpp:delay' stamp='2026-11-20T10:00:00Z'/>"))
	var own []bool
	for _, en := range r.view(hall).Entries {
		own = append(own, en.Own)
		if en.Occupant != "" {
			t.Errorf("an occupant id that the room doesn't answer for: %+v", en)
		}
	}
	if fmt.Sprint(own) != "[false true true false]" {
		t.Errorf("own: %v", own)
	}
}

// TestRoomRights: an occupant corrects and retracts what he said, under any nickname, and nobody else does, but for moderators, of whom the room tells.
func TestRoomRights(t *testing.T) {
	const correct, retract = "<replace xmlns='urn:xmpp:message-correct:0' id='m-one'/>", "<retract xmlns='urn:xmpp:message-retract:1' id='s1'>%s</retract>"
	moderated := "<moderated xmlns='urn:xmpp:message-moderate:1' by='hall@rooms.example/mo'/><reason>enough</reason>"
	as := func(occupant, xml string) string { return strings.Replace(xml, "id='o-bo'", "id='"+occupant+"'", 1) }
	room := func(xml string) string {
		return strings.Replace(xml, "from='hall@rooms.example/bo'", "from='hall@rooms.example'", 1)
	}
	for name, c := range map[string]struct {
		xml  string
		want string
	}{
		"a correction":                        {said("bo", "two", "s2", correct), "two"},
		"under another nickname":              {as("o-bo", strings.Replace(said("bo", "two", "s2", correct), "/bo'", "/rob'", 1)), "two"},
		"by who has the nickname now":         {as("o-cy", said("bo", "two", "s2", correct)), "one"},
		"by the room":                         {room(as("", said("bo", "two", "s2", correct))), "one"},
		"a retraction":                        {said("bo", "", "s2", fmt.Sprintf(retract, "")), "retracted"},
		"a retraction by somebody else":       {as("o-cy", said("bo", "", "s2", fmt.Sprintf(retract, ""))), "one"},
		"a moderator's":                       {room(said("bo", "", "s2", fmt.Sprintf(retract, moderated))), "retracted by hall@rooms.example/mo: enough"},
		"one who calls himself a moderator":   {as("o-cy", said("bo", "", "s2", fmt.Sprintf(retract, moderated))), "one"},
		"the sender, who does so":             {said("bo", "", "s2", fmt.Sprintf(retract, moderated)), "retracted"},
		"by the id of the sender's own":       {said("bo", "", "s2", strings.Replace(fmt.Sprintf(retract, ""), "s1", "m-one", 1)), "one"},
		"a tombstone that comes live":         {said("bo", "", "s1", "<retracted xmlns='urn:xmpp:message-retract:1' stamp='2026-11-20T10:00:00Z'/>"), "one"},
		"a correction of what it isn't there": {said("bo", "two", "s2", strings.Replace(correct, "m-one", "s1", 1)), "one"},
	} {
		show := func(en Entry) string {
			switch {
			case en.Retracted && !en.Moderator.IsZero():
				return "retracted by " + en.Moderator.String() + ": " + en.Reason
			case en.Retracted:
				return "retracted" + en.Body
			}
			return en.Body
		}
		original := said("bo", "one", "s1", "")
		for _, reversed := range []bool{false, true} { // the archive decides, not what comes first
			r := newRun(t, NG)
			q := r.enter(false, facts)
			if reversed {
				r.in(c.xml)
				if strings.Contains(c.xml, "<retracted") {
					continue
				}
			}
			r.in(kept(q.ID, "s1", original))
			r.in(kept(q.ID, "s2", c.xml))
			r.do(QueryDone{Query: q.ID, First: "s1", Last: "s2", Complete: true})
			if strings.Contains(c.xml, "<retracted") {
				continue // it counts from the archive: TestTombstones
			}
			if got := show(r.view(hall).Entries[0]); got != c.want {
				t.Errorf("%s (first %t): %q, want %q", name, reversed, got, c.want)
			}
			again := start(t, Config{}, r.store)
			if got := show(again.view(hall).Entries[0]); got != c.want {
				t.Errorf("%s, after a restart: %q, want %q", name, got, c.want)
			}
		}
		r := newRun(t, NG)
		r.do(QueryDone{Query: r.enter(false, facts).ID, Complete: true})
		r.in(original)
		r.in(c.xml)
		if got := show(r.view(hall).Entries[0]); got != c.want {
			t.Errorf("%s, live: %q, want %q", name, got, c.want)
		}
	}
}

// TestTombstones: what an archive has instead of a message is that it was taken back, by whom it says, for what is known and for what is new.
func TestTombstones(t *testing.T) {
	r := newRun(t, NG)
	r.do(QueryDone{Query: r.enter(false, facts).ID, Complete: true})
	r.in(said("bo", "one", "s1", ""))
	r.away(NG)
	r.enter(false, facts)
	r.do(Page{Conversation: hall})
	tomb := "<retracted xmlns='urn:xmpp:message-retract:1' stamp='2026-11-20T10:00:00Z'%s</retracted>"
	q := r.asked[len(r.asked)-1]
	r.in(kept(q.ID, "s0", said("cy", "", "", fmt.Sprintf(tomb, "><moderated xmlns='urn:xmpp:message-moderate:1'/>"))))
	r.in(kept(q.ID, "s1", said("bo", "", "", fmt.Sprintf(tomb, ">"))))
	r.in(kept(q.ID, "s2", said("bo", "two", "", fmt.Sprintf(tomb, ">")))) // which has a body, and so isn't one
	r.do(QueryDone{Query: q.ID, First: "s0", Last: "s2", Complete: true})
	for _, again := range []*run{r, start(t, Config{}, r.store)} {
		v := again.view(hall)
		if len(v.Entries) != 3 || !v.Entries[0].Retracted || v.Entries[0].Moderator != hall || !v.Entries[1].Retracted || v.Entries[1].Body != "" ||
			!v.Entries[1].Moderator.IsZero() || v.Entries[2].Retracted || v.Entries[2].Body != "two" {
			t.Errorf("%+v", v.Entries)
		}
	}
}

// TestForgedInRooms: what a room's archive says counts from the room, if it was asked, and about itself alone.
func TestForgedInRooms(t *testing.T) {
	evil := said("bo", "forged", "", "")
	elsewhere := strings.ReplaceAll(evil, "hall@rooms.example/bo", "other@rooms.example/bo")
	chat := "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat'><body>forged</body></message>"
	fromNick := func(xml string) string {
		return strings.Replace(xml, "<message from='hall@rooms.example'", "<message from='hall@rooms.example/bo'", 1)
	}
	const synced = "<message from='%s'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' room='hall@rooms.example' complete='true' first='' last='evil' count='0'/></message>"
	for _, streamed := range []bool{false, true} {
		r := newRun(t, V2)
		r.do(Room{JID: jid.MustParse("other@rooms.example"), Nick: "al", Joined: true, Streamed: true, RoomFacts: facts})
		q := r.enter(streamed, facts)
		id := q.ID
		if streamed {
			id = xep.SyncQueryID
		}
		for name, xml := range map[string]string{
			"an occupant's result":           fromNick(kept(id, "f1", evil)),
			"a query that wasn't made":       kept("nobody", "f2", evil),
			"a room that wasn't asked":       strings.Replace(kept(id, "f3", elsewhere), "from='hall@rooms.example'", "from='never@rooms.example'", 1),
			"another room's message":         kept(id, "f4", elsewhere),
			"a contact's message":            kept(id, "f5", chat),
			"an own message to a contact":    kept(id, "f6", strings.ReplaceAll(chat, "bob@wonder.example/pc' to='alice@wonder.example'", "alice@wonder.example/pc' to='bob@wonder.example'")),
			"an invitation":                  kept(id, "f0", "<message from='bob@wonder.example/pc' to='alice@wonder.example'><x xmlns='jabber:x:conference' jid='trap@rooms.example'/></message>"),
			"a room's message by no room":    kept(id, "f7", strings.Replace(evil, "hall@rooms.example/bo", "alice@wonder.example/desk", 1)),
			"the account's archive of rooms": result(id, "f8", evil),
			"a carbon of a room's":           carbonOf("received", evil),
			"a result without a place":       kept(id, "", evil),
			"synced by an occupant":          fmt.Sprintf(synced, "hall@rooms.example/bo"),
			"synced by the account":          fmt.Sprintf(synced, "alice@wonder.example"),
			"synced by another room":         fmt.Sprintf(synced, "other@rooms.example"),
		} {
			r.in(xml)
			if !r.view(hall).CatchingUp {
				t.Fatalf("%s ends the catch-up", name)
			}
		}
		r.in(kept(id, "s1", said("bo", "real", "", "")))
		if streamed {
			r.in(strings.Replace(fmt.Sprintf(synced, "hall@rooms.example"), "evil", "s1", 1))
		} else {
			r.do(QueryDone{Query: id, First: "s1", Last: "s1", Complete: true})
		}
		r.want(hall, "real")
		for _, s := range r.e.Conversations() {
			if s.JID != hall && s.Last.ID != 0 {
				t.Errorf("streamed %t: in %v there is %+v", streamed, s.JID, s.Last)
			}
		}
		if got := r.e.RoomSync(hall).After; got != "s1" || len(r.e.Requests()) != 0 {
			t.Errorf("cursor %q, requests %+v", got, r.e.Requests())
		}
		r.in(kept(id, "s9", evil)) // it is over
		r.want(hall, "real")
	}
	// A room without an archive doesn't take ids off that occupants make up.
	r := newRun(t, NG)
	r.enter(false, RoomFacts{})
	r.in(said("bo", "one", "s1", ""))
	r.in(said("cy", "two", "s1", ""))
	r.want(hall, "one two")
	if en := r.last(hall); en.Archive.ID != "" || en.Occupant != "" {
		t.Errorf("%+v", en)
	}
}

// TestRoomFlood: a room that tells more than it is asked for, or for ever, fills no memory.
func TestRoomFlood(t *testing.T) {
	r := start(t, Config{Limits: Limits{Conversations: 8, Entries: 50, Page: 4}}, NewMemory())
	r.connect(V2)
	r.enter(true, facts)
	for i := range maxStreamed + 100 {
		r.in(kept("session", fmt.Sprint("s", i), said("bo", fmt.Sprint(i), "", "")))
	}
	if n, kept := len(r.e.convs[hall].sync.buffer), len(r.e.convs[hall].items); n > maxStreamed || kept > 50 {
		t.Errorf("%d wait, %d are there", n, kept)
	}
	r.away(V2)
	q := r.enter(false, facts)
	for i := range 100 {
		r.in(kept(q.ID, fmt.Sprint("t", i), said("bo", fmt.Sprint(i), "", "")))
	}
	if n := len(r.e.queries[q.ID].buffer); n > 16 {
		t.Errorf("%d results are kept", n)
	}
	for i := range 6000 {
		r.in(strings.Replace(said("bo", "x", "", ""), "o-bo", fmt.Sprint("o-", i), 1))
	}
	if len(r.e.texts) > 4096 {
		t.Errorf("%d occupants are remembered", len(r.e.texts))
	}
	for i := range 20 {
		r.do(Room{JID: jid.MustParse(fmt.Sprintf("r%d@rooms.example", i)), Nick: "al", Joined: true, RoomFacts: facts})
	}
	if len(r.e.rooms) > 4 || len(r.e.convs) > 8 {
		t.Errorf("%d rooms, %d conversations", len(r.e.rooms), len(r.e.convs))
	}
}

// TestRoomLeft: what waits to be said in a room isn't said after it was left; who is put out says it when he is in again.
func TestRoomLeft(t *testing.T) {
	r := newRun(t, NG)
	r.do(QueryDone{Query: r.enter(false, facts).ID, Complete: true})
	r.in(said("bo", "one", "s1", ""))
	r.do(Room{JID: hall, Nick: "al", Joined: true, Away: true, RoomFacts: facts})
	r.do(SendText{Conversation: hall, Body: "two"})
	if len(r.sent) != 0 || !r.view(hall).GapAtEnd || r.last(hall).Delivery != Pending {
		t.Fatalf("%d sent, %+v", len(r.sent), r.last(hall))
	}
	if q := r.enter(false, facts); q.After != "s1" || len(r.sent) != 1 {
		t.Fatalf("asked %+v, sent %d", q, len(r.sent))
	}
	r.do(Room{JID: hall, Nick: "al", Joined: true, Away: true, RoomFacts: facts})
	r.do(SendText{Conversation: hall, Body: "three"})
	r.do(Room{JID: hall})
	if en := r.last(hall); en.Delivery != Failed || len(r.sent) != 1 {
		t.Errorf("%+v", en)
	}
	if snap, _ := r.store.Load(10); len(snap.Account.Rooms) != 0 {
		t.Errorf("remembered: %+v", snap.Account.Rooms)
	}
	r.wait(time.Second)
	r.enter(false, facts)
	r.do(Resend{Conversation: hall, Entry: r.last(hall).ID})
	if len(r.sent) != 2 {
		t.Errorf("%d sent", len(r.sent))
	}
}
