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
