package convo

import (
	"fmt"
	"slices"
	"testing"

	"carillon.im/stanza"
	"carillon.im/xep"
)

// TestQuery: a query's request, as a server reads it, and its answer.
func TestQuery(t *testing.T) {
	for _, q := range []Query{
		{ID: "q1", By: alice, After: "a1", Max: 50},
		{ID: "q2", By: alice, With: bob, Last: true, Before: "a<9", Max: 20},
		{ID: "q3", By: hall, Last: true, Max: 1},
	} {
		st := q.IQ("i1")
		if st.To != q.By || st.ID != "i1" || st.Type != stanza.TypeSet {
			t.Errorf("%+v: %v", q, st)
		}
		got, err := xep.ParseMAMQuery(st.Payload())
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != q.ID || got.With != q.With || got.Page.After != q.After || got.Page.Before != q.Before || got.Page.Last != q.Last || got.Page.Max != q.Max {
			t.Errorf("%+v is read as %+v", q, got)
		}
	}
	q := Query{ID: "q1", By: alice}
	iq := func(payload, typ string) *stanza.Stanza {
		return stanza.Build(stanza.IQ, typ, "i1", alice, phone, payload)
	}
	want := QueryDone{Query: "q1", First: "a", Last: "b", Complete: true}
	if got := q.Done(iq(string(xep.AppendMAMFin(nil, true, "a", "b", 2)), stanza.TypeResult)); got != want {
		t.Errorf("%+v", got)
	}
	if got := q.Done(iq(string(xep.AppendMAMFin(nil, false, "a", "b", 2)), stanza.TypeResult)); got.Failed || got.Complete {
		t.Errorf("%+v", got)
	}
	unknown := iq(string(stanza.NewError(stanza.ItemNotFound, "").AppendTo(nil)), stanza.TypeError)
	if got := q.Done(unknown); got != (QueryDone{Query: "q1", Failed: true, Unknown: true}) {
		t.Errorf("%+v", got)
	}
	if got := q.Done(iq("", stanza.TypeResult)); !got.Failed || got.Unknown {
		t.Errorf("%+v", got)
	}
}

// TestForgottenCursor: an archive that doesn't know the place any more is asked
// for its newest page, and what may be missing is marked.
func TestForgottenCursor(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	q := r.asked[len(r.asked)-1]
	if q.After != "a1" {
		t.Fatalf("%+v", q)
	}
	r.do(QueryDone{Query: q.ID, Failed: true, Unknown: true})
	if q = r.asked[len(r.asked)-1]; q.After != "" || !q.Last {
		t.Fatalf("%+v", q)
	}
	r.in(result(q.ID, "a9", fromBob("nine", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a9", Last: "a9"})
	r.want(bob, "one nine")
	if en := r.last(bob); !en.Gap {
		t.Error("what is missing isn't marked")
	}
	r.do(Page{Conversation: bob, Before: r.last(bob).ID})
	q = r.asked[len(r.asked)-1]
	if q.Before != "a9" || q.With != bob {
		t.Fatalf("%+v", q)
	}
	r.in(result(q.ID, "a1", fromBob("one", "", "")))
	r.in(result(q.ID, "a5", fromBob("five", "", "")))
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a5"})
	r.want(bob, "one five nine")
	for _, en := range r.view(bob).Entries {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
	if r.e.Cursor() != "a9" || r.e.CatchingUp() {
		t.Error(r.e.Cursor())
	}
}

// TestRoomForMore: where positions run out the conversation is numbered anew,
// and what was read stays read.
func TestRoomForMore(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("first", "a1", ""))
	r.do(Attention{Conversation: bob, Act: Seen})
	r.in(fromBob("last", "z1", ""))
	c := r.e.convs[bob]
	want := []string{"first"}
	for i := range 200 { // each between the first and the one before
		it := &item{Entry: Entry{ID: r.e.account.LastEntry + 1, From: bobPC, Body: fmt.Sprint(i)}}
		r.e.account.LastEntry++
		r.e.insert(c, 1, it)
		c.byID[it.ID] = it
		want = slices.Insert(want, 1, it.Body)
	}
	want = append(want, "last")
	var got []string
	for i, it := range c.items {
		if got = append(got, it.Body); i > 0 && it.Pos <= c.items[i-1].Pos {
			t.Fatalf("%s stands at %d behind %d", it.Body, it.Pos, c.items[i-1].Pos)
		}
	}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
	if c.rec.Read < c.items[0].Pos || c.rec.Read >= c.items[1].Pos {
		t.Errorf("read up to %d, the first stands at %d, the second at %d", c.rec.Read, c.items[0].Pos, c.items[1].Pos)
	}
}

// TestResumed: a resumed session misses nothing and sends nothing twice, but
// what was written meanwhile.
func TestResumed(t *testing.T) {
	r := newRun(t, NG)
	r.do(SendText{Conversation: bob, Body: "one"})
	r.do(Disconnected{})
	r.do(SendText{Conversation: bob, Body: "two"})
	if len(r.sent) != 1 {
		t.Fatal("sent without a connection")
	}
	asked := len(r.asked)
	r.do(Connected{JID: phone, Profile: NG, Facts: all, Resumed: true})
	if len(r.sent) != 2 || r.out().Child(stanza.NSClient, "body").Text() != "two" || len(r.asked) != asked {
		t.Errorf("%d sent, %d asked", len(r.sent), len(r.asked)-asked)
	}
}

// TestWithoutArchive: nobody knows what became of what a lost session had; the
// person is told.
func TestWithoutArchive(t *testing.T) {
	r := start(t, Config{}, NewMemory())
	r.do(Connected{JID: phone, Profile: Classic})
	r.do(SendText{Conversation: bob, Body: "one"})
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Classic})
	if en := r.last(bob); en.Delivery != Failed || en.Error != "" || len(r.sent) != 1 {
		t.Fatalf("%+v, %d sent", en, len(r.sent))
	}
	r.do(Resend{Conversation: bob, Entry: r.last(bob).ID})
	r.do(Acked{r.out().ID})
	if en := r.last(bob); en.Delivery != Sent || len(r.sent) != 2 {
		t.Errorf("%+v", en)
	}
}

// TestChanged: every change of what is shown is told, with a version that rises.
func TestChanged(t *testing.T) {
	r := newRun(t, NG)
	changed := func(effects []Effect) (c Changed) {
		for _, f := range effects {
			if f, ok := f.(Changed); ok && f.Conversation == bob {
				c = f
			}
		}
		return c
	}
	first := changed(r.in(fromBob("one", "a1", "")))
	id := r.last(bob).ID
	if !slices.Contains(first.Entries, id) || first.Version != r.view(bob).Version {
		t.Fatalf("%+v", first)
	}
	second := changed(r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='m9'><body>two</body><replace xmlns='urn:xmpp:message-correct:0' id='m-one'/></message>"))
	if !slices.Contains(second.Entries, id) || second.Version <= first.Version {
		t.Errorf("%+v", second)
	}
	if again := changed(r.in(fromBob("one", "a1", ""))); again.Version != 0 {
		t.Errorf("the same message changed something: %+v", again)
	}
	// What is stored comes before what is sent.
	effects := r.do(SendText{Conversation: bob, Body: "x"})
	if _, ok := effects[0].(Persist); !ok || len(effects) < 3 {
		t.Errorf("%T first of %d", effects[0], len(effects))
	}
}

// TestRoomAway: a room goes on without the device, which its history shows.
func TestRoomAway(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	say := func(body, id string) {
		r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>" + body + "</body><stanza-id xmlns='urn:xmpp:sid:0' by='hall@rooms.example' id='" + id + "'/></message>")
	}
	say("one", "s1")
	r.do(Disconnected{})
	r.connect(NG)
	say("three", "s3")
	if en := r.last(hall); !en.Gap {
		t.Fatalf("%+v", en)
	}
	r.do(Page{Conversation: hall, Before: r.last(hall).ID})
	q := r.asked[len(r.asked)-1]
	if q.By != hall || q.Before != "s3" || !q.With.IsZero() {
		t.Fatalf("%+v", q)
	}
	for _, m := range [][2]string{{"one", "s1"}, {"two", "s2"}} {
		r.in("<message from='hall@rooms.example' to='alice@wonder.example/phone'><result xmlns='urn:xmpp:mam:2' queryid='" + q.ID + "' id='" + m[1] + "'><forwarded xmlns='urn:xmpp:forward:0'>" +
			"<message xmlns='jabber:client' from='hall@rooms.example/bo' type='groupchat'><body>" + m[0] + "</body></message></forwarded></result></message>")
	}
	r.do(QueryDone{Query: q.ID, First: "s1", Last: "s2"})
	r.want(hall, "one two three")
}

// TestRepeatable: the same events have the same effects, in the same order.
func TestRepeatable(t *testing.T) {
	trace := func() (list []string) {
		r := start(t, Config{UnlockAfter: 1, Limits: Limits{Conversations: 20, Entries: 8, Total: 64}}, NewMemory())
		note := func(effects []Effect) {
			for _, f := range effects {
				line := fmt.Sprintf("%T %+v", f, f)
				switch f := f.(type) {
				case Send:
					line = string(f.Stanza.AppendTo(nil))
				case Persist:
					line = ""
					for _, w := range f.Writes {
						line += fmt.Sprintf("%+v %+v %+v", w.Entry, w.Conversation, w.Account)
					}
				}
				list = append(list, line)
			}
		}
		for n := range 3 {
			note(r.do(Connected{JID: phone, Profile: Profile(n), Facts: all}))
			for i := range 60 {
				note(r.in(fmt.Sprintf("<message from='c%d@wonder.example/x' to='alice@wonder.example' type='chat' id='%d-%d'><body>b</body>%s</message>", i%30, n, i, whose(fmt.Sprint("w", n, "-", i)))))
				note(r.do(SendText{Conversation: bob, Body: "x"}))
			}
			r.wait(2)
			note(r.do(Tick{}))
			for _, s := range r.e.Conversations() {
				note(r.do(Attention{Conversation: s.JID, Act: Focused}))
			}
			note(r.do(Disconnected{}))
		}
		return list
	}
	first, second := trace(), trace()
	if !slices.Equal(first, second) {
		for i := range first {
			if i >= len(second) || first[i] != second[i] {
				t.Fatalf("effect %d: %s\nthen %s", i, first[i], second[min(i, len(second)-1)])
			}
		}
		t.Fatalf("%d effects, then %d", len(first), len(second))
	}
}
