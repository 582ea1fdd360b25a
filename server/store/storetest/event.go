package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func events(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	open1, open2 := []byte("config 1"), []byte("config 2")
	change := func(c store.EventChange, wanted error) {
		t.Helper()
		if c.Account == 0 {
			c.Account = a
		}
		if c.Keep == 0 {
			c.Keep = 3
		}
		c.MaxNodes, c.MaxBytes = 2, 1000
		if c.Node == "" {
			c.Node = "n"
		}
		wantError(t, "change", s.Commit(ctx, c), wanted)
	}
	put := func(ids ...string) (list []store.EventItem) {
		for i, id := range ids {
			list = append(list, store.EventItem{ID: id, Payload: []byte("<" + id + "/>"), At: day.Add(time.Duration(i) * time.Second)})
		}
		return list
	}
	has := func(node string, bytes int, wanted ...string) {
		t.Helper()
		n, items, err := s.EventItems(ctx, a, node, nil, 100)
		want(t, "error", err, nil)
		want(t, "bytes", n.Bytes, bytes)
		var ids []string
		for _, it := range items {
			ids = append(ids, it.ID)
		}
		want(t, "items", fmt.Sprint(ids), fmt.Sprint(wanted))
	}

	change(store.EventChange{Was: open1, Config: open1}, store.ErrChanged) // there is none
	change(store.EventChange{Config: open1, Put: put("i1", "i2")}, nil)
	change(store.EventChange{Config: open1}, store.ErrChanged) // there is one
	change(store.EventChange{Was: open2, Config: open1, Put: put("no")}, store.ErrChanged)
	has("n", 2*(2+5), "i1", "i2")
	// An item published again is the newest; beyond Keep the oldest go.
	change(store.EventChange{Was: open1, Config: open2, Put: put("i1")}, nil)
	has("n", 14, "i2", "i1")
	change(store.EventChange{Was: open2, Config: open2, Put: put("i3", "i4")}, nil)
	has("n", 21, "i1", "i3", "i4")
	change(store.EventChange{Was: open2, Config: open2, Remove: []string{"i3", "i2"}}, store.ErrNotFound)
	has("n", 21, "i1", "i3", "i4")
	change(store.EventChange{Was: open2, Config: open2, Remove: []string{"i3"}, Put: put("i5")}, nil)
	has("n", 21, "i1", "i4", "i5")
	change(store.EventChange{Was: open2, Config: open2, Keep: -1, Put: put("i6")}, nil) // nothing is kept
	has("n", 0)
	change(store.EventChange{Was: open2, Config: open2, Put: put("i7")}, nil)

	_, items, err := s.EventItems(ctx, a, "n", []string{"i8", "i7"}, 0)
	want(t, "error", err, nil)
	want(t, "by id", items, put("i7"))
	_, _, err = s.EventItems(ctx, b, "n", nil, 1)
	wantError(t, "another account's", err, store.ErrNotFound)

	// Bounds: nodes, and bytes of all nodes together; what makes smaller is always possible.
	change(store.EventChange{Node: "m", Config: open1}, nil)
	change(store.EventChange{Node: "o", Config: open1}, store.ErrLimit)
	big := store.EventItem{ID: "x", Payload: []byte(strings.Repeat("x", 993)), At: day}
	change(store.EventChange{Node: "m", Was: open1, Config: open1, Put: []store.EventItem{big}}, store.ErrLimit)
	big.Payload = big.Payload[:980]
	change(store.EventChange{Node: "m", Was: open1, Config: open1, Put: []store.EventItem{big}}, nil)
	has("m", 981, "x")
	change(store.EventChange{Was: open2, Config: open2, Put: put("longer than that")}, store.ErrLimit)
	change(store.EventChange{Was: open2, Config: open2, Purge: true}, nil)
	has("n", 0)
	nodes, err := s.EventNodes(ctx, a)
	want(t, "error", err, nil)
	want(t, "nodes", nodes, []store.EventNode{{Node: "m", Config: open1, Bytes: 981}, {Node: "n", Config: open2}})

	change(store.EventChange{Account: b, Config: open1, Put: put("b1", "b2")}, nil)
	last, err := s.EventsLast(ctx, []jid.JID{jid.MustParse("a@x.example"), jid.MustParse("b@x.example"), jid.MustParse("c@x.example")}, []string{"m", "n", "o"})
	want(t, "error", err, nil)
	want(t, "last", last, []store.EventLast{
		{Owner: jid.MustParse("a@x.example"), EventNode: store.EventNode{Node: "m", Config: open1}, EventItem: big},
		{Owner: jid.MustParse("b@x.example"), EventNode: store.EventNode{Node: "n", Config: open1}, EventItem: store.EventItem{ID: "b2", Payload: []byte("<b2/>"), At: day.Add(time.Second)}},
	})

	change(store.EventChange{Node: "m", Was: open2}, store.ErrChanged)
	change(store.EventChange{Node: "m", Was: open1}, nil)
	_, _, err = s.EventItems(ctx, a, "m", nil, 1)
	wantError(t, "a deleted node", err, store.ErrNotFound)
	want(t, "removal", s.RemoveAccount(ctx, jid.MustParse("b@x.example")), nil)
	last, err = s.EventsLast(ctx, []jid.JID{jid.MustParse("b@x.example")}, []string{"n"})
	want(t, "error", err, nil)
	want(t, "of a removed account", len(last), 0)
	change(store.EventChange{Account: b, Config: open1}, store.ErrNotFound)
}
