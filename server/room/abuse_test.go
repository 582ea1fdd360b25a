package room

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// state is a room's, when nothing is on its way.
func (w *world) state(room string) *State {
	w.t.Helper()
	j := jid.MustParse(room)
	got := make(chan *State)
	l := w.hub.loop(j)
	l.tell(func(l *loop) bool { got <- l.rooms[j]; return false })
	return <-got
}

// TestBoundsOfOccupants: sessions in all, whoever's they are; what moderators said of
// voices; and rooms.
func TestBoundsOfOccupants(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Occupants, c.Limits.Rooms = 3, 1 })
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall", "persistentroom", "1", "moderatedroom", "1")
	w.join("u@example/0", "other", "U")
	if got := w.refused("u@example/0"); got != string(stanza.ResourceConstraint) {
		t.Errorf("one room too many: %q", got)
	}
	for i := 1; i < 6; i++ {
		who := fmt.Sprintf("o@example/%d", i)
		if w.join(who, "hall", "Owner"); w.refused(who) != "" {
			t.Fatalf("session %d is refused", i)
		}
	}
	w.join("o@example/6", "hall", "Owner")
	if got := w.refused("o@example/6"); got != string(stanza.ServiceUnavailable) {
		t.Errorf("one session too many: %q", got)
	}
	w.send("o@example/5", "<presence type='unavailable' to='"+hall+"/Owner'/>")
	for i := range 10 {
		who := fmt.Sprintf("u%d@example/0", i)
		w.join(who, "hall", "User")
		w.send("o@example/0", "<iq type='set' id='v' to='"+hall+"'><query xmlns='"+xep.NSMUCAdmin+"'><item nick='User' role='participant'/></query></iq>")
		w.send(who, "<presence type='unavailable' to='"+hall+"/User'/>")
	}
	if n := len(w.state(hall).voices); n == 0 || n > 2*3 {
		t.Errorf("of %d people it is remembered whether they have voice", n)
	}
}

// TestBombs: what an owner may set, and what people say, costs no more than it may:
// history, pages, occupants, the vCard, the id of a command.
func TestBombs(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Occupants, c.Limits.Page = 10, 5 })
	const owner = "o@example/0"
	w.join(owner, "hall", "Owner")
	w.open(owner, "hall", "persistentroom", "1")
	w.open(owner, "hall", "maxusers", "1000000")
	if got := w.refused(owner); got != string(stanza.NotAcceptable) {
		t.Errorf("a million occupants: %q", got)
	}
	w.send(owner, "<iq type='set' id='h' to='"+hall+"'><query xmlns='"+xep.NSMUCOwner+"'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"+xep.NSMUCRoomConfig+
		"</value></field><field var='muc#maxhistoryfetch'><value>1000000</value></field></x></query></iq>")
	for i := range maxHistory + 50 {
		w.send(owner, fmt.Sprintf("<message type='groupchat' to='%s'><body>%d</body></message>", hall, i))
	}
	if s := w.state(hall); s.opt.History > maxHistory || len(s.history) != maxHistory {
		t.Errorf("%d messages are to be shown, %d kept", s.opt.History, len(s.history))
	}
	w.forgetAll()
	w.send(owner, "<iq type='set' id='q' to='"+hall+"'><query xmlns='"+xep.NSMAM+"'><set xmlns='"+xep.NSRSM+"'><max>1000</max></set></query></iq>")
	if err := w.waitFor(owner, stanza.IQ); err != nil {
		t.Fatal(err)
	}
	if n := len(w.take(owner)); n != 5+1 {
		t.Errorf("%d stanzas are a page", n)
	}
	w.send(owner, "<iq type='set' id='v' to='"+hall+"'><vCard xmlns='"+xep.NSVCard+"'><NOTE>"+strings.Repeat("x", maxVCard)+"</NOTE></vCard></iq>")
	if got := w.refused(owner); got != string(stanza.PolicyViolation) {
		t.Errorf("a big vCard: %q", got)
	}
	w.send(owner, "<iq type='set' id='c' to='"+hall+"'><command xmlns='"+xep.NSCommands+"' node='"+xep.NSHatCommands+":list' sessionid='"+strings.Repeat("x", maxSession+1)+"'/></iq>")
	if got := w.refused(owner); got != string(stanza.BadRequest) {
		t.Errorf("a long session: %q", got)
	}
	w.hub.waits.Add(maxReads)
	w.send(owner, "<iq type='set' id='q' to='"+hall+"'><query xmlns='"+xep.NSMAM+"'/></iq>")
	if got := w.refused(owner); got != string(stanza.ResourceConstraint) {
		t.Errorf("while too many wait for the store: %q", got)
	}
	w.hub.waits.Add(-maxReads)
}

// TestBoundsOfMembers: no way to become a member leads past the bound, and of many
// admins few are asked.
func TestBoundsOfMembers(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Affiliations = 30 })
	const owner = "o@example/0"
	register := func(who, room string) string {
		w.send(who, "<iq type='set' id='r' to='"+room+"@rooms.example'><query xmlns='"+xep.NSRegister+"'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"+xep.NSMUCRegister+
			"</value></field><field var='muc#register_roomnick'><value>"+jid.MustParse(who).Local()+"</value></field></x></query></iq>")
		return w.refused(who)
	}
	admins := func(room string, n int) {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "<item jid='a%d@example' affiliation='admin'/>", i)
		}
		w.send(owner, "<iq type='set' id='a' to='"+room+"@rooms.example'><query xmlns='"+xep.NSMUCAdmin+"'>"+b.String()+"</query></iq>")
		if got := w.refused(owner); got != "" {
			t.Fatal(got)
		}
	}
	for _, room := range []string{"hall", "few"} {
		w.join(owner, room, "Owner")
		w.open(owner, room, "persistentroom", "1", "membersonly", "1", "allowinvites", "1")
	}
	admins("few", 25)
	w.forgetAll()
	if got := register("u@example/0", "few"); got != "" {
		t.Fatal(got)
	}
	asked := 0
	for i := range 25 {
		asked += len(w.take(fmt.Sprintf("a%d@example", i)))
	}
	if asked += len(w.take("o@example")); asked != maxAsked {
		t.Errorf("%d admins are asked", asked)
	}
	admins("hall", 29)
	w.send(owner, "<message to='"+hall+"'><x xmlns='"+xep.NSMUCUser+"'><invite to='x@example'/></x></message>")
	if got := w.refused(owner); got != string(stanza.ResourceConstraint) {
		t.Errorf("an invitation makes one member too many: %q", got)
	}
	w.open(owner, "hall", "membersonly", "0")
	if got := register("x@example/0", "hall"); got != string(stanza.ResourceConstraint) {
		t.Errorf("registration makes one member too many: %q", got)
	}
}
