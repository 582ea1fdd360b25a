package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const (
	history = 100_000
	page    = 100
)

var me = jid.MustParse("alice@wonder.example")

// archived are the results of a catch-up: 20 conversations, some threads.
func archived(b *testing.B) []convo.Event {
	b.Helper()
	list := make([]convo.Event, history)
	for i := range list {
		xml := fmt.Sprintf("<message from='alice@wonder.example' to='alice@wonder.example/phone'><result xmlns='urn:xmpp:mam:2' queryid='q' id='archive-%08d'><forwarded xmlns='urn:xmpp:forward:0'>"+
			"<delay xmlns='urn:xmpp:delay' stamp='2026-11-20T10:00:00Z'/><message xmlns='jabber:client' from='c%d@wonder.example/pc' to='alice@wonder.example' type='chat' id='m%d'>"+
			"<body>message number %d of a conversation</body><thread>t%d</thread><origin-id xmlns='urn:xmpp:sid:0' id='m%d'/></message></forwarded></result></message>", i, i%20, i, i, i%300, i)
		el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		st, err := stanza.Parse(el)
		if err != nil {
			b.Fatal(err)
		}
		list[i] = convo.Received{Stanza: st}
	}
	return list
}

// catchUp takes a history into an engine and its store, page by page, so many events in each step.
func catchUp(b *testing.B, store convo.Store, list []convo.Event, step int) {
	b.Helper()
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	e := convo.New(convo.Config{Account: me, NewID: func() string { return "q" }},
		convo.Snapshot{Account: convo.Account{Cursors: map[string]string{me.String(): "archive"}}})
	apply := func(events ...convo.Event) {
		for _, f := range e.Apply(now, events...) {
			if p, ok := f.(convo.Persist); ok {
				if err := store.Write(p.Writes); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	apply(convo.Connected{JID: jid.MustParse("alice@wonder.example/phone"), Profile: convo.NG, Facts: convo.Facts{Archive: true}})
	for i := 0; i < len(list); i += page {
		for at := i; at < i+page; at += step {
			apply(list[at : at+step]...)
		}
		apply(convo.QueryDone{Query: "q", First: "a", Last: fmt.Sprint("page", i), Complete: i+page == len(list)})
	}
	if e.CatchingUp() {
		b.Fatal("not at the end")
	}
}

// BenchmarkCatchup is 100,000 archived messages into an engine and its file, with each message a transaction and each page one.
func BenchmarkCatchup(b *testing.B) {
	list := archived(b)
	for name, step := range map[string]int{"each": 1, "page": page} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				store := open(b, filepath.Join(b.TempDir(), "history.db"))
				catchUp(b, store, list, step)
				if err := store.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/history, "ns/message")
		})
	}
}

// BenchmarkFirstScreen is a start of a program with 100,000 messages in its file: the list of conversations and the newest 50 messages of one.
func BenchmarkFirstScreen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "history.db")
	store := open(b, path)
	catchUp(b, store, archived(b), page)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		store := open(b, path)
		snap, err := store.Load(200)
		if err != nil {
			b.Fatal(err)
		}
		e := convo.New(convo.Config{Account: me, NewID: func() string { return "q" }}, snap)
		list := e.Conversations()
		if v, ok := e.Conversation(list[0].JID, 50); len(list) != 20 || !ok || len(v.Entries) != 50 {
			b.Fatal(len(list), len(v.Entries))
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func open(b *testing.B, path string) *sqlstore.Store {
	b.Helper()
	s, err := sqlstore.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
