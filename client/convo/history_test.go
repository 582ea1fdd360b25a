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

// TestCatchupWithoutEnd: an archive that gives the same page again doesn't keep the engine asking, and what may be missing is marked.
func TestCatchupWithoutEnd(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("one", "a1", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	for n := 0; r.e.CatchingUp(); n++ {
		if n > 2 {
			t.Fatal("it asks on and on")
		}
		q := r.asked[len(r.asked)-1]
		r.in(result(q.ID, "a2", fromBob("two", "", "")))
		r.do(QueryDone{Query: q.ID, First: "a2", Last: "a2"})
	}
	r.want(bob, "one two")
	if !r.view(bob).GapAtEnd {
		t.Error("what may be missing isn't marked")
	}
}

// TestPagesOfNothing: pages of an archive that have nothing to show, receipts for example, don't end the way back, nor does a device that is new to the
// account take them for all that there was.
func TestPagesOfNothing(t *testing.T) {
	receipt := func(from, to string) string {
		return "<message from='" + from + "' to='" + to + "' type='chat'><received xmlns='urn:xmpp:receipts' id='m-x'/></message>"
	}
	mine := receipt("alice@wonder.example/desk", "bob@wonder.example")
	asked := func(r *run) Query { return r.asked[len(r.asked)-1] }
	r := start(t, Config{Limits: Limits{Page: 10}}, NewMemory())
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	r.in(result(asked(r).ID, "a90", receipt("mallory@evil.example/x", "alice@wonder.example"))) // begins nothing
	r.in(result(asked(r).ID, "a91", mine))
	r.do(QueryDone{Query: asked(r).ID, First: "a90", Last: "a91"})
	if list := r.e.Conversations(); len(list) != 1 || list[0].JID != bob || !r.view(bob).More {
		t.Fatalf("conversations: %+v", list)
	}
	r.do(Page{Conversation: bob})
	for n := range 3 {
		q := asked(r)
		if want := []string{"", "a80", "a70"}[n]; q.Before != want || q.With != bob || !r.view(bob).Paging {
			t.Fatalf("page %d: %+v", n, q)
		}
		if n == 2 {
			r.in(result(q.ID, "a60", fromBob("found", "", "")))
		}
		first := fmt.Sprint("a", 80-10*n)
		r.in(result(q.ID, first, mine))
		r.do(QueryDone{Query: q.ID, First: first, Last: fmt.Sprint("a", 89-10*n)})
	}
	r.want(bob, "found")
	// Nor does an archive that has nothing else keep the engine asking.
	r.do(Page{Conversation: bob})
	begun := len(r.asked)
	for n := 0; r.view(bob).Paging; n++ {
		if n > 2*maxEmpty {
			t.Fatal("it goes on for ever")
		}
		q := asked(r)
		r.do(QueryDone{Query: q.ID, First: fmt.Sprint("e", n), Last: "e"})
	}
	if n := len(r.asked) - begun + 1; n != maxEmpty {
		t.Errorf("%d pages", n)
	}
	before := fmt.Sprint("e", maxEmpty-1)
	if r.do(Page{Conversation: bob}); asked(r).Before != before { // it goes on where it was
		t.Errorf("%+v", asked(r))
	}
	r.do(QueryDone{Query: asked(r).ID, First: before, Last: before}) // no way on
	if n := len(r.asked); r.view(bob).Paging {
		t.Errorf("%d pages: %+v", n, asked(r))
	}
	r.do(Page{Conversation: bob})
	r.do(QueryDone{Query: asked(r).ID, Complete: true})
	if r.view(bob).More {
		t.Error("there is more")
	}
}

// TestSteps: events that are applied in one step come to the same as one by one, with one Persist and one Changed for each conversation.
func TestSteps(t *testing.T) {
	const carol = "<message from='carol@wonder.example/x' to='alice@wonder.example' type='chat' id='c'><body>hi</body></message>"
	var list []Event
	for i, xml := range []string{fromBob("one", "", ""), carol, fromBob("two", "", "<thread>t</thread>"), fromBob("three", "", whose("w1")),
		"<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='x'><body>TWO</body><replace xmlns='urn:xmpp:message-correct:0' id='m-two'/></message>",
		"<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat' id='o'><body>four</body></message>"} {
		list = append(list, Received{parse(t, result("id1", fmt.Sprint("a", i), xml))})
	}
	list = append(list, QueryDone{Query: "id1", First: "a0", Last: "a5", Complete: true})
	one, step := start(t, Config{}, NewMemory()), start(t, Config{}, NewMemory())
	for _, r := range []*run{one, step} {
		r.do(Connected{JID: phone, Profile: NG, Facts: all})
	}
	for _, ev := range list {
		one.do(ev)
	}
	effects := step.do(list...)
	kinds := fmt.Sprintf("%T", effects[0])
	for _, f := range effects[1:] {
		kinds += fmt.Sprintf(" %T", f)
	}
	if kinds != "convo.Persist convo.Changed convo.Changed" {
		t.Error(kinds)
	}
	if a, b := one.bodies(bob), step.bodies(bob); a != b || a != "one TWO three four" {
		t.Errorf("%s, and in one step %s", a, b)
	}
	a, err := one.store.Load(100)
	if err != nil {
		t.Fatal(err)
	}
	b, err := step.store.Load(100)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
		t.Errorf("stored\n%+v\nand in one step\n%+v", a, b)
	}
}
