package convo

import (
	"fmt"
	"runtime"
	"testing"

	"carillon.im/stanza"
)

// archivedStanzas are the results of a catch-up: 20 conversations, some threads.
func archivedStanzas(b *testing.B, n int) []*stanza.Stanza {
	b.Helper()
	list := make([]*stanza.Stanza, n)
	for i := range list {
		xml := fmt.Sprintf("<message from='c%d@wonder.example/pc' to='alice@wonder.example' type='chat' id='m%d'><body>message number %d of a conversation</body><thread>t%d</thread>"+
			"<origin-id xmlns='urn:xmpp:sid:0' id='m%d'/></message>", i%20, i, i, i%300, i)
		list[i] = parse(b, result("id1", fmt.Sprintf("archive-%08d", i), xml))
	}
	return list
}

func merge(b *testing.B, list []*stanza.Stanza) *Engine {
	e := New(Config{Account: alice, NewID: func() string { return "id1" }}, Snapshot{Account: Account{Cursors: map[string]string{alice.String(): "archive"}}})
	now := start(b, Config{}, NewMemory()).now
	e.Apply(now, Connected{JID: phone, Profile: NG, Facts: all})
	for _, st := range list {
		e.Apply(now, Received{st})
	}
	e.Apply(now, QueryDone{Query: "id1", First: "a", Last: "z", Complete: true})
	return e
}

// BenchmarkMerge takes 100,000 archived messages in.
func BenchmarkMerge(b *testing.B) {
	const n = 100_000
	list := archivedStanzas(b, n)
	for b.Loop() {
		if e := merge(b, list); e.total != n {
			b.Fatal(e.total)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/message")
}

// BenchmarkMemory is what 10,000 messages keep.
func BenchmarkMemory(b *testing.B) {
	list := archivedStanzas(b, 10_000)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var kept uint64
	for b.Loop() {
		before := heap()
		e := merge(b, list)
		kept += heap() - before
		runtime.KeepAlive(e)
	}
	b.ReportMetric(float64(kept)/float64(b.N)/10_000, "B/message")
}

// BenchmarkFirstScreen is a start with a store of 100,000 messages: the list of
// conversations and the newest 50 messages of one.
func BenchmarkFirstScreen(b *testing.B) {
	store := NewMemory()
	if err := store.Write([]Write{{Account: &Account{Cursors: map[string]string{alice.String(): "archive"}}}}); err != nil {
		b.Fatal(err)
	}
	r := start(b, Config{}, store)
	r.do(Connected{JID: phone, Profile: NG, Facts: all})
	for _, st := range archivedStanzas(b, 100_000) {
		r.do(Received{st})
	}
	r.do(QueryDone{Query: "id1", First: "a", Last: "z", Complete: true})
	snap, err := r.store.Load(200)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e := New(r.e.cfg, snap)
		list := e.Conversations()
		if v, ok := e.Conversation(list[0].JID, 50); !ok || len(v.Entries) != 50 {
			b.Fatal(len(v.Entries))
		}
	}
}
