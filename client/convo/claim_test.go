package convo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

func whose(id string) string { return "<whose xmlns='urn:xmpp:tmp:mine:0' id='" + id + "'/>" }

// claimBy is a claim as the account's devices get it.
func claimBy(from, archive string, ids ...string) string {
	return "<message from='" + from + "' to='alice@wonder.example' type='chat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>" + strings.Join(ids, "</id><id>") + "</id></mine>" + stanzaID(archive) + "</message>"
}

func (r *run) owners(j jid.JID) string {
	var list []string
	for _, en := range r.view(j).Entries {
		list = append(list, [...]string{"-", "unclaimed", "claiming", "mine", "elsewhere:"}[en.Owner]+en.OwnerRes)
	}
	return strings.Join(list, " ")
}

func (r *run) claimsSent() (list []*stanza.Stanza) {
	for _, st := range r.sent {
		if !st.Child(xep.NSMine, "mine").IsZero() {
			list = append(list, st)
		}
	}
	return list
}

// TestClaim: attention claims, and the claim that comes back confirms.
func TestClaim(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", whose("w1")+"<thread>t</thread>"))
	r.in(fromBob("two", "a2", whose("w2")+"<thread>t</thread>"))
	r.in(fromBob("three", "a3", whose("w3")))
	if got := r.owners(bob); got != "unclaimed unclaimed unclaimed" {
		t.Fatal(got)
	}
	r.do(Attention{Conversation: bob, Act: Focused})
	sent := r.claimsSent()
	if len(sent) != 2 {
		t.Fatalf("%d claims for two threads", len(sent))
	}
	st := sent[0]
	switch ids := xep.ParseClaim(st.Child(xep.NSMine, "mine")); {
	case st.To != alice:
		t.Errorf("MINE-17: to %v", st.To)
	case st.Thread() != "t":
		t.Errorf("MINE-18: in the thread %q", st.Thread())
	case !st.Child(stanza.NSClient, "body").IsZero():
		t.Error("MINE-19: a claim with a body")
	case st.Type != stanza.TypeChat:
		t.Errorf("MINE-20: of type %s", st.Type)
	case !slices.Equal(ids, []string{"w1", "w2"}):
		t.Errorf("MINE-21, MINE-22, MINE-44: ids %q", ids)
	case !sent[1].Child(stanza.NSClient, "thread").IsZero():
		t.Error("a thread that was made up here is in a claim")
	}
	if got := r.owners(bob); got != "claiming claiming claiming" {
		t.Error(got)
	}
	r.do(Attention{Conversation: bob, Act: Focused})
	if len(r.claimsSent()) != 2 {
		t.Error("claimed twice")
	}
	r.in(claimBy(desk.String(), "c1", "w2"))
	r.in(claimBy(phone.String(), "c2", "w1", "w2"))
	r.in(claimBy(desk.String(), "c3", "w1"))
	// MINE-5, MINE-24, MINE-25, MINE-26, MINE-27, MINE-28, MINE-30, MINE-45: the first counts, each id for itself; what is elsewhere is marked.
	if got := r.owners(bob); got != "mine elsewhere:desk claiming" {
		t.Error(got)
	}
	again := start(t, Config{}, r.store)
	again.connect(NG)
	if got := again.owners(bob); got != "mine elsewhere:desk claiming" {
		t.Errorf("after a restart: %s", got)
	}
	// The claim that nothing came back for is repeated (MINE-46: whoever else is there).
	if sent := again.claimsSent(); len(sent) != 1 || xep.ParseClaim(sent[0].Child(xep.NSMine, "mine"))[0] != "w3" {
		t.Errorf("repeated: %d claims", len(sent))
	}
	again.in(claimBy(desk.String(), "c4", "w1"))
	if got := again.owners(bob); !strings.HasPrefix(got, "mine ") {
		t.Errorf("MINE-25: a later claim took it: %s", got)
	}
}

// TestClaimFirst: a claim that comes before its message, or out of order, counts
// as the archive has it (MINE-29: it does nothing until then).
func TestClaimFirst(t *testing.T) {
	r := newRun(t, NG)
	r.in(claimBy(desk.String(), "c1", "w1"))
	if len(r.e.Conversations()) > 1 {
		t.Error("a claim shows something")
	}
	r.in(fromBob("one", "a1", whose("w1")))
	if got := r.owners(bob); got != "elsewhere:desk" {
		t.Error(got)
	}
	v := r.view(bob)
	if len(v.Holders) != 1 || v.Holders[0].Resource != "desk" || v.Holders[0].This {
		t.Errorf("held by %+v", v.Holders)
	}
}

// TestHolders: which own devices have a conversation is known after a restart too, and which of them are there.
func TestHolders(t *testing.T) {
	testHolders(t, `<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat' id='d1'><body>from the desk</body><stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='a1'/></message>`)
	testHolders(t, fromBob("one", "a1", whose("w1")), claimBy(desk.String(), "a2", "w1"))
}

// testHolders: by what these messages are, the desk has the conversation with bob.
func testHolders(t *testing.T, messages ...string) {
	r := newRun(t, NG)
	for _, m := range messages {
		r.in(m)
	}
	check := func(r *run, online bool) {
		t.Helper()
		v := r.view(bob)
		if len(v.Holders) != 1 || v.Holders[0].Resource != "desk" || v.Holders[0].This || v.Holders[0].Online != online || !v.Holders[0].At.Equal(v.Entries[0].At) {
			t.Errorf("%+v", v.Holders)
		}
	}
	check(r, false)
	again := start(t, Config{}, r.store)
	again.connect(NG)
	check(again, false)
	for _, x := range []struct {
		xml          string
		online, told bool
	}{
		{`<presence from='alice@wonder.example/desk'/>`, true, true},
		{`<presence from='alice@wonder.example/desk'><show>away</show></presence>`, true, false},
		{`<presence from='alice@wonder.example/desk' type='unavailable'/>`, false, true},
		{`<presence from='alice@wonder.example/other'/>`, false, false},
	} {
		told := slices.ContainsFunc(again.in(x.xml), func(f Effect) bool { c, ok := f.(Changed); return ok && c.Conversation == bob })
		if told != x.told {
			t.Errorf("told of %s: %v", x.xml, told)
		}
		check(again, x.online)
	}
}

// TestClaimIDs: MINE-41, MINE-42, MINE-43, MINE-53: opaque, octet for octet, and
// of who assigned them (NOTES M14).
func TestClaimIDs(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true, RoomFacts: RoomFacts{Mine: true}})
	r.in(fromBob("one", "a1", whose("x1")))
	r.in(fromBob("two", "a2", whose("X1")))
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>q</body>" + whose("x1") + "</message>")
	r.in(claimBy(desk.String(), "c1", "x1", " X1", "X1 ", "x1:"))
	if got := r.owners(bob); got != "elsewhere:desk unclaimed" {
		t.Error(got)
	}
	if got := r.owners(hall); got != "unclaimed" {
		t.Error(got)
	}
}

// TestForgedClaims: MINE-51: claims of others count for nothing, and nobody but
// the server may ask for one.
func TestForgedClaims(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", whose("w1")))
	for _, from := range []string{"bob@wonder.example/pc", "mallory@evil.example/x", "wonder.example"} {
		r.in(claimBy(from, "c1", "w1"))
	}
	r.in("<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>w1</id></mine></message>")
	r.in("<message from='alice@wonder.example/desk' to='alice@wonder.example' type='chat'><body>b</body><mine xmlns='urn:xmpp:tmp:mine:0'><id>w1</id></mine></message>")
	if got := r.owners(bob); got != "unclaimed" {
		t.Error(got)
	}
}

// TestNoClaim: MINE-7: a server or a room without it gets none.
func TestNoClaim(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: Classic})
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	r.in(fromBob("one", "", whose("w1")))
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>q</body>" + whose("x1") + "</message>")
	for _, j := range []jid.JID{bob, hall} {
		r.do(Attention{Conversation: j, Act: Accepted})
		if r.owners(j) != "-" {
			t.Error(r.owners(j))
		}
	}
	if len(r.claimsSent()) != 0 {
		t.Error("claimed all the same")
	}
}

// TestRoomClaim: MINE-35: to the room; from its occupants (NOTES M9).
func TestRoomClaim(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true, RoomFacts: RoomFacts{Mine: true}})
	for i := range 2 {
		r.in(fmt.Sprintf("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>q%d</body>%s</message>", i, whose(fmt.Sprint("x", i))))
	}
	// MINE-50: what a glance or a keystroke claims in a room, others never get.
	for _, act := range []Act{Focused, Unlocked, BeganTyping, Dismissed} {
		r.wait(4 * time.Second)
		r.do(Attention{Conversation: hall, Act: act})
	}
	if len(r.claimsSent()) != 0 {
		t.Fatal("claimed by a glance")
	}
	r.do(Attention{Conversation: hall, Act: Accepted, Entries: []EntryID{r.view(hall).Entries[0].ID}})
	if sent := r.claimsSent(); len(sent) != 1 || sent[0].To != hall || sent[0].Type != stanza.TypeGroupchat {
		t.Fatalf("%v", sent)
	}
	r.in("<message from='hall@rooms.example/al' to='alice@wonder.example/phone' type='groupchat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>x0</id></mine></message>")
	r.in("<message from='hall@rooms.example/cy' to='alice@wonder.example/phone' type='groupchat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>x1</id><id>x0</id></mine></message>")
	if got := r.owners(hall); got != "mine elsewhere:cy" {
		t.Error(got)
	}
}

// TestAttention: MINE-49: what claims, and when.
func TestAttention(t *testing.T) {
	for _, c := range []struct {
		act   Act
		after time.Duration
		want  bool
	}{
		{OpenedNotification, time.Hour, true},
		{Accepted, time.Hour, true},
		{BeganTyping, time.Hour, true},
		{Focused, 10 * time.Second, true},
		{Focused, time.Hour, false},
		{Unlocked, 10 * time.Second, true},
		{Dismissed, time.Second, false},
		{Dismissed, 5 * time.Second, true},
		{Seen, 10 * time.Second, false},
		{Closed, 10 * time.Second, false},
	} {
		r := newRun(t, NG)
		r.in(fromBob("one", "a1", whose("w1")))
		r.wait(c.after)
		r.do(Attention{Conversation: bob, Act: c.act})
		if got := len(r.claimsSent()) == 1; got != c.want {
			t.Errorf("act %d after %v claims: %t", c.act, c.after, got)
		}
		if got, want := r.view(bob).Unread, map[bool]int{true: 1, false: 0}[c.act == Closed]; got != want {
			t.Errorf("act %d leaves %d unread", c.act, got)
		}
	}
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", whose("w1")))
	r.do(Reply{Conversation: bob, To: r.last(bob).ID, Body: "re"})
	if len(r.claimsSent()) != 1 {
		t.Error("an answer doesn't claim")
	}
}

// TestBigClaim: no claim has more ids than a server takes (R-MINE-4).
func TestBigClaim(t *testing.T) {
	r := newRun(t, NG)
	for i := range 300 {
		r.in(fromBob(fmt.Sprint(i), fmt.Sprint("a", i), whose(fmt.Sprint("w", i))+"<thread>t</thread>"))
	}
	r.do(Attention{Conversation: bob, Act: Focused})
	n := 0
	for _, st := range r.claimsSent() {
		ids := xep.ParseClaim(st.Child(xep.NSMine, "mine"))
		if n += len(ids); len(ids) > xep.MaxMineIDs {
			t.Errorf("%d ids", len(ids))
		}
	}
	if n != 300 {
		t.Errorf("%d of 300 claimed", n)
	}
}

// reopened is the program started again with what it has read, over an empty store.
func (r *run) reopened(snap Snapshot) *run {
	again := &run{t: r.t, store: NewMemory(), now: r.now}
	again.e = New(Config{Account: alice, NewID: func() string { again.ids++; return fmt.Sprintf("again%d", again.ids) }}, snap)
	again.do(Connected{JID: phone, Profile: NG, Facts: all})
	return again
}

// TestClaimBeforeKnown: a claim that came before the one that is known takes the
// message, also when that one was read from the store, whichever of the two
// conversations was read first. Found by sim, seed 532127.
func TestClaimBeforeKnown(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", whose("w1")))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	r.in(claimBy(desk.String(), "a3", "w1")) // and not yet a2
	if got := r.owners(bob); got != "elsewhere:desk" {
		t.Fatal(got)
	}
	snap, err := r.store.Load(1000)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		slices.Reverse(snap.Conversations)
		again := r.reopened(snap)
		q := again.asked[0]
		again.in(result(q.ID, "a2", claimBy(phone.String(), "", "w1")))
		again.in(result(q.ID, "a3", claimBy(desk.String(), "", "w1")))
		again.do(QueryDone{Query: q.ID, First: "a2", Last: "a3", Complete: true})
		if got := again.owners(bob); got != "mine" {
			t.Errorf("%v first: %s", snap.Conversations[0].Record.JID, got)
		}
		again.in(claimBy(desk.String(), "a4", "w1"))
		if got := again.owners(bob); got != "mine" {
			t.Errorf("MINE-25: a later claim took it: %s", got)
		}
	}
}

// TestClaimOlderThanMemory: a claim that is only in the store is older than all that
// are in memory, so none of them takes its message; nor does one that turns up between
// them.
func TestClaimOlderThanMemory(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", whose("w1")))
	r.in(claimBy(desk.String(), "a2", "w1"))
	r.in(claimBy(phone.String(), "a4", "w1"))
	snap, err := r.store.Load(1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		slices.Reverse(snap.Conversations)
		again := r.reopened(snap)
		again.in(claimBy(phone.String(), "a5", "w1"))
		if got := again.owners(bob); got != "elsewhere:desk" {
			t.Errorf("%v first: %s", snap.Conversations[0].Record.JID, got)
		}
	}
}

// TestClaimMoves: a claim that came live in a session whose catch-up broke off, and that the archive then has behind another's, gives the message to the other:
// the archive decides, not which was heard first (MINE-24, seed 681485 of the simulation).
func TestClaimMoves(t *testing.T) {
	r := newRun(t, Carbons)
	r.in(claimBy("alice@wonder.example/tablet", "a3", "w1")) // the catch-up has not begun to answer
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	q := r.asked[len(r.asked)-1]
	r.in(result(q.ID, "a1", fromBob("one", "", whose("w1"))))
	r.in(result(q.ID, "a2", claimBy(desk.String(), "", "w1")))
	r.in(result(q.ID, "a3", claimBy("alice@wonder.example/tablet", "", "w1")))
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a3", Complete: true})
	if got := r.owners(bob); got != "elsewhere:desk" {
		t.Error(got)
	}
}
