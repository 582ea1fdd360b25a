package convo

import (
	"fmt"
	"strings"
	"testing"

	"carillon.im/stanza"
)

func withThread(body, thread, parent, archive string) string {
	attr := ""
	if parent != "" {
		attr = " parent='" + parent + "'"
	}
	return fromBob(body, archive, "<thread"+attr+">"+thread+"</thread>")
}

// TestThreadsOfWhatIsSent: which thread what the person writes is in.
func TestThreadsOfWhatIsSent(t *testing.T) {
	r := newRun(t, NG)
	r.do(SendText{Conversation: bob, Body: "one"})
	first := r.out().Thread()
	if first == "" {
		t.Fatal("THR-1, THR-5: a conversation begins with a thread")
	}
	r.do(SendText{Conversation: bob, Body: "two"})
	if r.out().Thread() != first {
		t.Error("THR-11: the same conversation has the same thread")
	}
	r.in(withThread("question", "theirs", "", "a1"))
	r.do(Reply{Conversation: bob, To: r.view(bob).Entries[0].ID, Body: "answer"})
	if got := r.out().Thread(); got != "theirs" {
		t.Errorf("THR-8: the answer is in %q", got)
	}
	r.do(NewThread{Conversation: bob, Body: "else"})
	second := r.out().Thread()
	if second == "" || second == first || second == "theirs" {
		t.Errorf("THR-5: a new one is %q", second)
	}
	r.do(BranchOff{Conversation: bob, From: r.view(bob).Entries[0].ID, Body: "aside"})
	el := r.out().Child(stanza.NSClient, "thread")
	if el.Attr("parent") != "theirs" || el.Text() == "theirs" || el.Text() == "" {
		t.Errorf("THR-9: %s", el.Raw())
	}
	r.do(SelectThread{Conversation: bob, Thread: first})
	r.do(SendText{Conversation: bob, Body: "again"})
	if got := r.out().Thread(); got != first {
		t.Errorf("THR-26: goes on in %q", got)
	}
	r.do(SendText{Conversation: bob, Body: "a letter", Type: stanza.TypeNormal})
	if got := r.out().Thread(); got == "" || got == first {
		t.Errorf("THR-4, THR-7: a letter is in %q", got)
	}
	r.do(SendText{Conversation: bob, Body: "news", Type: stanza.TypeHeadline})
	if got := r.out().Thread(); got != "" {
		t.Errorf("THR-3, THR-23: a headline is in %q", got)
	}
}

// TestRoomThreads: THR-2, THR-6, THR-19, THR-20: a room's messages have threads,
// shown as such.
func TestRoomThreads(t *testing.T) {
	r := newRun(t, NG)
	r.do(Room{JID: hall, Nick: "al", Joined: true})
	r.do(SendText{Conversation: hall, Body: "hello"})
	st := r.out()
	if st.Type != stanza.TypeGroupchat || st.Thread() == "" || st.To != hall {
		t.Fatalf("%v", st)
	}
	r.do(NewThread{Conversation: hall, Body: "topic"})
	if r.out().Thread() == st.Thread() {
		t.Error("a new topic is in the old thread")
	}
	r.in("<message from='hall@rooms.example/bo' to='alice@wonder.example/phone' type='groupchat'><body>hi</body><thread>" + st.Thread() + "</thread></message>")
	v := r.view(hall)
	if len(v.Threads) != 1 || v.Threads[0].ID != st.Thread() || v.Threads[0].Count != 1 {
		t.Errorf("%+v", v.Threads)
	}
}

// TestMadeUpThread: THR-12, THR-17, THR-18 with NOTES T3.
func TestMadeUpThread(t *testing.T) {
	r := newRun(t, NG)
	r.in(fromBob("a", "a1", ""))
	r.in(fromBob("b", "a2", ""))
	v := r.view(bob)
	made := v.Entries[0].Thread
	if made == "" || v.Entries[1].Thread != made || !v.Entries[1].ThreadMadeUp || v.Current != made {
		t.Fatalf("%+v", v)
	}
	r.do(SendText{Conversation: bob, Body: "c"})
	if r.out().Thread() != made {
		t.Error("THR-18: the answer is elsewhere")
	}
	r.in(withThread("d", "new", "", "a3"))
	if r.view(bob).Current != "new" {
		t.Error("THR-12: an unknown thread is a new conversation")
	}
	r.in(fromBob("e", "a4", ""))
	if got := r.view(bob).Current; got == made || got == "new" {
		t.Errorf("after a thread of theirs, messages without one are in %q", got)
	}
}

// TestThreadStays: THR-13 is not taken up, THR-14, THR-15, THR-16: neither a closed
// window nor presence nor the end of a session ends a thread.
func TestThreadStays(t *testing.T) {
	r := newRun(t, Carbons)
	r.in(withThread("a", "t", "", "a1"))
	r.do(Attention{Conversation: bob, Act: Closed})
	r.in("<presence from='bob@wonder.example/pc' type='unavailable'/>")
	r.do(Disconnected{})
	again := start(t, Config{}, r.store)
	again.connect(Carbons)
	again.do(SendText{Conversation: bob, Body: "b"})
	if got := again.out().Thread(); got != "t" {
		t.Errorf("the thread is %q now", got)
	}
}

// TestThreadIDs: octet for octet, whatever is in them (NOTES T1; THR-30: they
// carry nothing but themselves).
func TestThreadIDs(t *testing.T) {
	r := newRun(t, NG)
	ids := []string{"x", " x", "x ", "\nx\t", "X", "x&#13;", "a&lt;b", "\u00e9", "e\u0301"}
	for i, id := range ids {
		r.in(withThread(fmt.Sprint("b", i), id, "", fmt.Sprint("a", i)))
	}
	v := r.view(bob)
	if len(v.Threads) != len(ids) {
		t.Fatalf("%d threads of %d", len(v.Threads), len(ids))
	}
	for i, en := range v.Entries {
		r.do(Reply{Conversation: bob, To: en.ID, Body: "re"})
		sent := parse(t, string(r.out().AppendTo(nil)))
		if got := sent.Thread(); got != en.Thread {
			t.Errorf("%d: %q came back as %q", i, en.Thread, got)
		}
	}
	long := strings.Repeat("t", maxThread+1)
	r.in(withThread("long", long, "", "z"))
	if en := r.view(bob).Entries[len(ids)]; en.Thread == long || !en.ThreadMadeUp {
		t.Error("a thread beyond the bound counts")
	}
}

// TestThreadIndex: THR-10, THR-20, THR-21, THR-22, THR-24, THR-25, THR-27, THR-28,
// THR-29: a history is grouped, child threads below their parents, live or from the archive.
func TestThreadIndex(t *testing.T) {
	index := func(r *run) string {
		var lines []string
		for _, th := range r.view(bob).Threads {
			lines = append(lines, fmt.Sprintf("%s%s/%d", strings.Repeat(">", th.Depth), th.ID, th.Count))
		}
		return strings.Join(lines, " ")
	}
	messages := []string{withThread("1", "a", "", ""), withThread("2", "b", "", ""), withThread("3", "c", "a", ""), withThread("4", "d", "c", ""),
		withThread("5", "a", "", ""), withThread("6", "e", "elsewhere", "")}
	live := newRun(t, NG)
	for i, xml := range messages {
		live.in(strings.Replace(xml, "</message>", stanzaID(fmt.Sprint("a", i))+"</message>", 1))
	}
	const want = "a/2 >c/1 >>d/1 b/1 e/1"
	if got := index(live); got != want {
		t.Errorf("live: %s", got)
	}
	later := start(t, Config{}, NewMemory())
	later.do(Connected{JID: phone, Profile: NG, Facts: all})
	for i, xml := range messages {
		later.in(result(later.asked[0].ID, fmt.Sprint("a", i), xml))
	}
	later.do(QueryDone{Query: later.asked[0].ID, First: "a0", Last: "a5", Complete: true})
	if got := index(later); got != want {
		t.Errorf("from the archive: %s", got)
	}
	if again := start(t, Config{}, live.store); index(again) != want {
		t.Errorf("from the store: %s", index(again))
	}
}

// TestCyclicParents: parents that go in circles make no circle.
func TestCyclicParents(t *testing.T) {
	r := newRun(t, NG)
	for i, p := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"d", "d"}, {"e", "a"}, {"f", "c"}} {
		r.in(withThread(fmt.Sprint(i), p[0], p[1], fmt.Sprint("x", i)))
	}
	v := r.view(bob)
	seen := map[string]bool{}
	for _, th := range v.Threads {
		if seen[th.ID] || th.Parent != "" && !seen[th.Parent] {
			t.Errorf("%s stands twice, or before its parent: %+v", th.ID, v.Threads)
		}
		seen[th.ID] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d of 6 threads", len(seen))
	}
}
