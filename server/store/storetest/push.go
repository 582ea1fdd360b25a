package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func push(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	service, other := jid.MustParse("push.y.example"), jid.MustParse("push.z.example")
	target := func(service jid.JID, node, client string, minute int) store.PushTarget {
		return store.PushTarget{Service: service, Node: node, Options: "<x/>", Client: client, Resource: "r", At: day.Add(time.Duration(minute) * time.Minute)}
	}
	key := func(service jid.JID, node string) store.PushKey {
		return store.PushKey{Account: a, Service: service, Node: node}
	}
	has := func(what string, wanted ...store.PushTarget) {
		t.Helper()
		list, err := s.PushTargets(ctx, a)
		want(t, what, []any{list, err}, []any{wanted, nil})
		d, err := s.LoadAccount(ctx, jid.MustParse("a@x.example"))
		want(t, what+", loaded", []any{d.Push, err}, []any{wanted, nil})
	}
	has("none")
	one, two, three := target(service, "n", "c1", 1), target(service, "", "", 2), target(other, "n", "c1", 3)
	commit(t, s, store.PushEnable{Account: a, Target: one}, store.PushEnable{Account: a, Target: two}, store.PushEnable{Account: a, Target: three})
	has("three", three, two, one)

	// What is held is ascending, once, of known services only; it makes the account one to be loaded.
	commit(t, s, store.PushHold{PushKey: key(service, "n"), ID: 9}, store.PushHold{PushKey: key(service, "n"), ID: 7},
		store.PushHold{PushKey: key(service, "n"), ID: 9}, store.PushHold{PushKey: key(service, "unknown"), ID: 9}, store.PushHold{PushKey: key(other, "n"), ID: 8})
	one.Held, three.Held = []store.ArchiveID{7, 9}, []store.ArchiveID{8}
	has("held", three, two, one)
	accounts, err := s.PushHeldAccounts(ctx, 0, 10)
	want(t, "accounts", []any{len(accounts), accounts[0].JID, err}, []any{1, jid.MustParse("a@x.example"), nil})
	commit(t, s, store.PushRelease{PushKey: key(service, "n"), IDs: []store.ArchiveID{7, 8}}, store.PushRelease{PushKey: key(other, "n"), IDs: []store.ArchiveID{8}})
	one.Held, three.Held = []store.ArchiveID{9}, nil
	has("released", three, two, one)
	for id := range store.ArchiveID(store.MaxPushHeld + 10) {
		commit(t, s, store.PushHold{PushKey: key(service, "n"), ID: 100 + id})
	}
	list, err := s.PushTargets(ctx, a)
	want(t, "bound of what is held", []any{len(list[2].Held), list[2].Held[0], err}, []any{store.MaxPushHeld, store.ArchiveID(110), nil})

	// Failures, until the device names the service again.
	state := store.PushState{Failures: 3, Retry: day.Add(time.Hour), Condition: "item-not-found", Off: true}
	commit(t, s, store.PushFailed{PushKey: key(other, "n"), State: state}, store.PushFailed{PushKey: key(other, "unknown"), State: state})
	three.PushState = state
	one.Held = list[2].Held
	has("failed", three, two, one)
	three = target(other, "n", "c2", 4)
	commit(t, s, store.PushEnable{Account: a, Target: three})
	has("named again", three, two, one)

	// The end of a device, of a service, of one node.
	commit(t, s, store.ClientForget{Account: a, ID: "c1"})
	has("after the end of a device", three, two)
	one.Held = nil
	commit(t, s, store.PushEnable{Account: a, Target: one})
	has("what was held is gone with it", three, two, one)
	commit(t, s, store.PushDisable{PushKey: key(service, "n")})
	has("one node", three, two)
	commit(t, s, store.PushEnable{Account: a, Target: one}, store.PushDisable{PushKey: key(service, ""), All: true})
	has("all nodes", three)
	commit(t, s, store.PushDisable{PushKey: key(service, "x")})

	for i := range store.MaxPush + 5 {
		commit(t, s, store.PushEnable{Account: a, Target: target(service, fmt.Sprint(i), "", 100+i)})
	}
	list, err = s.PushTargets(ctx, a)
	want(t, "bound", []any{len(list), list[len(list)-1].Node, err}, []any{store.MaxPush, "5", nil})
	long := one
	long.Options = strings.Repeat("x", store.MaxPushText)
	wantError(t, "too long", s.Commit(ctx, store.PushEnable{Account: a, Target: long}), store.ErrInvalid)
	wantError(t, "no account", s.Commit(ctx, store.PushEnable{Account: 99, Target: one}), store.ErrNotFound)
	want(t, "another account's", s.Commit(ctx, store.PushEnable{Account: b, Target: one}), nil)
	want(t, "removal", s.RemoveAccount(ctx, jid.MustParse("a@x.example")), nil)
	list, err = s.PushTargets(ctx, a)
	want(t, "of a removed account", []any{len(list), err}, []any{0, nil})
}
