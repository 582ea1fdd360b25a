// Package storetest is the contract of package store as tests: what every dialect, and every way to open one, must do alike.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
)

// Open opens a store that is empty and closes it when the test ends. Settings that Open doesn't care about come in Options.
type Open func(t *testing.T, o store.Options) *store.Store

// Run runs the contract.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, Open){
		"accounts":     accounts,
		"roster":       roster,
		"tombstones":   tombstones,
		"requests":     requests,
		"blocking":     blocking,
		"keyvalue":     keyValue,
		"events":       events,
		"sessions":     sessions,
		"offline":      offline,
		"secret":       secret,
		"clients":      clients,
		"many clients": manyClients,
		"tokens":       tokens,
		"saved":        saved,
		"outbox":       outbox,
		"push":         push,
		"archive":      archive,
		"filters":      filters,
		"threads":      threads,
		"late":         late,
		"atomic":       atomic,
		"order":        order,
		"purge":        purge,
		"remove":       remove,
		"removal":      removal,
		"model":        model,
		"reentrant":    reentrant,
		"concurrent":   concurrent,
		"cancelled":    cancelled,
		"closed":       closed,
		"nonexistent":  nonexistent,
		"rooms":        rooms,
		"room lists":   roomLists,
		"replace":      replace,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

// Keys are credentials that nothing checks.
func Keys(h sasl.Hash) sasl.Keys {
	return sasl.Keys{Hash: h, Iterations: 4096, Salt: []byte("salt"), StoredKey: []byte("stored " + h.String()), ServerKey: []byte("server")}
}

// Account makes an account and returns its id.
func Account(t testing.TB, s *store.Store, bare string) store.AccountID {
	t.Helper()
	id, err := s.CreateAccount(t.Context(), jid.MustParse(bare), []sasl.Keys{Keys(sasl.SHA1), Keys(sasl.SHA256)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func commit(t testing.TB, s *store.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, s *store.Store, bare string) store.AccountData {
	t.Helper()
	d, err := s.LoadAccount(t.Context(), jid.MustParse(bare))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Page returns the ids of the entries that a query finds, and checks that they come oldest first with the stanzas of Entry.
func Page(t testing.TB, s *store.Store, q store.ArchiveQuery) (ids []store.ArchiveID, more bool) {
	t.Helper()
	more, err := s.Archive(t.Context(), q, func(m store.ArchivedMessage) error {
		if n := len(ids); n > 0 && ids[n-1] >= m.ID {
			return fmt.Errorf("%d comes after %d", m.ID, ids[n-1])
		}
		if want := stanza(q.Account, m.ID); !bytes.Equal(m.Stanza, want) {
			return fmt.Errorf("entry %d is %q, not %q", m.ID, m.Stanza, want)
		}
		ids = append(ids, m.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids, more
}

func stanza(account store.AccountID, id store.ArchiveID) []byte {
	return fmt.Appendf(nil, "<message id='%d-%s'><body>Hello</body></message>", account, id)
}

// Entry is an archive entry whose stanza Page recognises.
func Entry(account store.AccountID, id store.ArchiveID, peer string) store.ArchiveAppend {
	return store.ArchiveAppend{Account: account, ID: id, Peer: jid.MustParse(peer), Stanza: stanza(account, id)}
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func accounts(t *testing.T, open Open) {
	stamp := time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)
	s := open(t, store.Options{Now: func() time.Time { return stamp }})
	ctx := t.Context()
	romeo := jid.MustParse("romeo@montague.example")
	id := Account(t, s, "romeo@montague.example")
	_, err := s.CreateAccount(ctx, romeo, nil)
	wantError(t, "second account", err, store.ErrExists)
	for _, bad := range []string{"montague.example", "romeo@montague.example/balcony"} {
		_, err = s.CreateAccount(ctx, jid.MustParse(bad), nil)
		wantError(t, bad, err, store.ErrInvalid)
	}

	k, got, err := s.Keys(ctx, romeo, sasl.SHA256)
	want(t, "error", err, nil)
	want(t, "keys", k, Keys(sasl.SHA256))
	want(t, "id", got, id)
	_, _, err = s.Keys(ctx, romeo, sasl.SHA512)
	wantError(t, "no such hash", err, store.ErrNotFound)
	_, _, err = s.Keys(ctx, jid.MustParse("nobody@montague.example"), sasl.SHA1)
	wantError(t, "no such account", err, store.ErrNotFound)

	counts, err := s.Iterations(ctx)
	want(t, "iterations", []any{counts, err}, []any{[]store.IterationCount{{Iterations: 4096, Keys: 2}}, nil})

	want(t, "setting keys", s.SetKeys(ctx, romeo, []sasl.Keys{Keys(sasl.SHA512)}, ""), nil)
	_, _, err = s.Keys(ctx, romeo, sasl.SHA256)
	wantError(t, "old keys", err, store.ErrNotFound)
	_, _, err = s.Keys(ctx, romeo, sasl.SHA512)
	want(t, "new keys", err, nil)
	wantError(t, "keys of nobody", s.SetKeys(ctx, jid.MustParse("nobody@montague.example"), nil, ""), store.ErrNotFound)

	want(t, "adding keys", s.AddKeys(ctx, romeo, Keys(sasl.SHA1)), nil)
	wantError(t, "keys of that hash again", s.AddKeys(ctx, romeo, Keys(sasl.SHA1)), store.ErrExists)
	wantError(t, "adding keys of nobody", s.AddKeys(ctx, jid.MustParse("nobody@montague.example"), Keys(sasl.SHA1)), store.ErrNotFound)
	for _, hash := range []sasl.Hash{sasl.SHA1, sasl.SHA512} {
		k, _, err = s.Keys(ctx, romeo, hash)
		want(t, "keys", []any{k, err}, []any{Keys(hash), nil})
	}

	want(t, "disabling", s.SetDisabled(ctx, romeo, true), nil)
	_, _, err = s.Keys(ctx, romeo, sasl.SHA512)
	wantError(t, "keys of a disabled account", err, store.ErrNotFound)

	Account(t, s, "juliet@capulet.example")
	Account(t, s, "abram@montague.example")
	list := func(domain string) (out []string) {
		for a, err := range s.Accounts(ctx, domain) {
			if err != nil {
				t.Fatal(err)
			}
			if !a.Created.Equal(stamp) {
				t.Errorf("%s: created %v", a.JID, a.Created)
			}
			if a.Disabled != (a.JID == romeo) {
				t.Errorf("%s: disabled %v", a.JID, a.Disabled)
			}
			out = append(out, a.JID.String())
		}
		return out
	}
	want(t, "all", list(""), []string{"abram@montague.example", "juliet@capulet.example", "romeo@montague.example"})
	want(t, "domain", list("montague.example"), []string{"abram@montague.example", "romeo@montague.example"})
	want(t, "no such domain", list("verona.example"), nil)
	for i := range 1003 {
		Account(t, s, fmt.Sprintf("u%04d@many.example", i))
	}
	many := list("many.example")
	if len(many) != 1003 || !slices.IsSorted(many) {
		t.Errorf("%d accounts, sorted %v", len(many), slices.IsSorted(many))
	}
}

// removal: what contacts on this server have of a removed account ends with it, at a new version of their rosters.
func removal(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	gone := jid.MustParse("gone@x.example")
	a, b, c, d := Account(t, s, gone.String()), Account(t, s, "b@x.example"), Account(t, s, "c@x.example"), Account(t, s, "d@x.example")
	e := Account(t, s, "e@x.example")
	item := func(account store.AccountID, contact, subscription string, version int64) store.RosterPut {
		return store.RosterPut{Account: account, Version: version, Item: store.RosterItem{JID: jid.MustParse(contact), Subscription: subscription, Name: "N", Groups: []string{"G"}}}
	}
	commit(t, s, item(a, "b@x.example", "both", 1), item(a, "c@x.example", "none", 2), item(a, "else@where.example", "both", 3),
		item(b, "gone@x.example", "both", 4), item(b, "c@x.example", "to", 5), item(d, "b@x.example", "to", 1),
		store.RequestPut{Account: c, From: gone, Stanza: []byte("<presence/>"), At: time.Unix(1, 0)},
		store.RequestPut{Account: a, From: jid.MustParse("d@x.example"), Stanza: []byte("<presence/>"), At: time.Unix(1, 0)},
		store.RosterPut{Account: d, Version: 2, Item: store.RosterItem{JID: gone, Subscription: "none", Ask: true}},
		// Approved without being asked: the removed account knows nothing of it (RFC 6121 3.4).
		store.RosterPut{Account: e, Version: 7, Item: store.RosterItem{JID: gone, Subscription: "none", Approved: true}},
		store.RosterPut{Account: e, Version: 8, Item: store.RosterItem{JID: jid.MustParse("b@x.example"), Subscription: "none", Approved: true}})
	want(t, "remove", s.RemoveAccount(ctx, gone), nil)
	of := func(name string) (items []string, version int64, requests int) {
		data := load(t, s, name)
		for _, i := range data.Roster {
			items = append(items, fmt.Sprintf("%v %s %v %v %d", i.JID, i.Subscription, i.Ask, i.Groups, i.Version))
		}
		return items, data.RosterVersion, len(data.Requests)
	}
	items, version, _ := of("b@x.example")
	want(t, "b", []any{items, version}, []any{[]string{"c@x.example to false [G] 5", "gone@x.example none false [G] 6"}, int64(6)})
	items, version, _ = of("d@x.example")
	want(t, "d", []any{items, version}, []any{[]string{"b@x.example to false [G] 1", "gone@x.example none false [] 3"}, int64(3)})
	want(t, "e", fmt.Sprintf("%+v", load(t, s, "e@x.example").Roster), fmt.Sprintf("%+v", []store.RosterItem{
		{JID: jid.MustParse("b@x.example"), Subscription: "none", Approved: true, Version: 8}, {JID: gone, Subscription: "none", Version: 9}}))
	_, version, requests := of("c@x.example")
	want(t, "c", []any{version, requests}, []any{int64(0), 0})
}

func roster(t *testing.T, open Open) {
	s := open(t, store.Options{})
	id := Account(t, s, "romeo@montague.example")
	d := load(t, s, "romeo@montague.example")
	want(t, "fresh", d, store.AccountData{ID: id})
	juliet := store.RosterItem{JID: jid.MustParse("juliet@capulet.example"), Name: "Juliet ♥", Subscription: "both", Groups: []string{"Friends", "\"'<&\x01"}}
	nurse := store.RosterItem{JID: jid.MustParse("nurse@capulet.example"), Subscription: "none", Ask: true, Approved: true}
	commit(t, s, store.RosterPut{Account: id, Item: juliet, Version: 1}, store.RosterPut{Account: id, Item: nurse, Version: 2})
	juliet.Version, nurse.Version = 1, 2
	d = load(t, s, "romeo@montague.example")
	want(t, "two", d.Roster, []store.RosterItem{juliet, nurse})
	want(t, "version", d.RosterVersion, int64(2))
	juliet.Name, juliet.Groups, juliet.Subscription = "", nil, "from"
	commit(t, s, store.RosterPut{Account: id, Item: juliet, Version: 3})
	juliet.Version = 3
	commit(t, s, store.RosterDelete{Account: id, Contact: nurse.JID, Version: 4})
	d = load(t, s, "romeo@montague.example")
	want(t, "one", d.Roster, []store.RosterItem{juliet})
	want(t, "removed", d.Removed, []store.RosterItem{{JID: nurse.JID, Version: 4}})
	want(t, "version", d.RosterVersion, int64(4))
	commit(t, s, store.RosterPut{Account: id, Item: nurse, Version: 5})
	want(t, "no tombstone for a contact that is back", len(load(t, s, "romeo@montague.example").Removed), 0)
	juliet.Subscription = "sometimes"
	wantError(t, "subscription", s.Commit(t.Context(), store.RosterPut{Account: id, Item: juliet, Version: 6}), store.ErrInvalid)
}

func tombstones(t *testing.T, open Open) {
	s := open(t, store.Options{})
	id := Account(t, s, "romeo@montague.example")
	const n = store.MaxTombstones + 7
	for v := int64(1); v <= n; v++ {
		commit(t, s, store.RosterDelete{Account: id, Contact: jid.MustParse(fmt.Sprintf("c%d@x.example", v)), Version: v})
	}
	d := load(t, s, "romeo@montague.example")
	want(t, "tombstones", len(d.Removed), store.MaxTombstones)
	want(t, "oldest", d.Removed[0].Version, int64(8))
	want(t, "floor", d.RosterFloor, int64(7))
	want(t, "version", d.RosterVersion, int64(n))
}

func requests(t *testing.T, open Open) {
	s := open(t, store.Options{})
	id := Account(t, s, "romeo@montague.example")
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	put := func(from, text string, at time.Time) {
		commit(t, s, store.RequestPut{Account: id, From: jid.MustParse(from), Stanza: []byte(text), At: at})
	}
	put("a@x.example/r", "first", at)
	put("b@x.example", "other", at.Add(time.Second))
	put("a@x.example", "again", at.Add(2*time.Second))
	d := load(t, s, "romeo@montague.example")
	want(t, "requests", d.Requests, []store.Request{
		{From: jid.MustParse("b@x.example"), Stanza: []byte("other"), At: at.Add(time.Second)},
		{From: jid.MustParse("a@x.example"), Stanza: []byte("again"), At: at.Add(2 * time.Second)},
	})
	commit(t, s, store.RequestDelete{Account: id, From: jid.MustParse("b@x.example/any")})
	want(t, "one", len(load(t, s, "romeo@montague.example").Requests), 1)
	var ops []store.Op
	for i := range store.MaxRequests + 5 {
		ops = append(ops, store.RequestPut{Account: id, From: jid.MustParse(fmt.Sprintf("n%d@x.example", i)), At: at.Add(time.Hour + time.Duration(i)*time.Second)})
	}
	commit(t, s, ops...)
	d = load(t, s, "romeo@montague.example")
	want(t, "bound", len(d.Requests), store.MaxRequests)
	want(t, "oldest left", d.Requests[0].From.String(), "n5@x.example")
}

func blocking(t *testing.T, open Open) {
	s := open(t, store.Options{})
	id := Account(t, s, "romeo@montague.example")
	tybalt, domain := jid.MustParse("tybalt@capulet.example"), jid.MustParse("spam.example")
	commit(t, s, store.BlockPut{Account: id, JID: tybalt}, store.BlockPut{Account: id, JID: domain}, store.BlockPut{Account: id, JID: tybalt})
	want(t, "blocked", load(t, s, "romeo@montague.example").Blocked, []jid.JID{domain, tybalt})
	commit(t, s, store.BlockDelete{Account: id, JID: domain})
	want(t, "one", load(t, s, "romeo@montague.example").Blocked, []jid.JID{tybalt})
	commit(t, s, store.BlockPut{Account: id, JID: domain}, store.BlockClear{Account: id})
	want(t, "none", len(load(t, s, "romeo@montague.example").Blocked), 0)
}

func keyValue(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	id := Account(t, s, "romeo@montague.example")
	big := bytes.Repeat([]byte("x"), 300_000)
	commit(t, s, store.KVPut{Account: id, Space: "private", Key: "b", Value: big}, store.KVPut{Account: id, Space: "private", Key: "a", Value: nil},
		store.KVPut{Account: id, Space: "mam", Key: "prefs", Value: []byte("never")})
	v, err := s.KVGet(ctx, id, "private", "b")
	if err != nil || !bytes.Equal(v, big) {
		t.Errorf("got %d bytes, %v", len(v), err)
	}
	v, err = s.KVGet(ctx, id, "private", "a")
	if err != nil || v == nil || len(v) != 0 {
		t.Errorf("empty value: %v, %v", v, err)
	}
	list, err := s.KVList(ctx, id, "private")
	want(t, "error", err, nil)
	if len(list) != 2 || list[0].Key != "a" || list[1].Key != "b" || !bytes.Equal(list[1].Value, big) {
		t.Errorf("list of %d", len(list))
	}
	want(t, "prefs", string(load(t, s, "romeo@montague.example").Prefs), "never")
	commit(t, s, store.KVPut{Account: id, Space: "private", Key: "b", Value: []byte("small")}, store.KVDelete{Account: id, Space: "private", Key: "a"},
		store.KVDelete{Account: id, Space: "private", Key: "never was"})
	v, err = s.KVGet(ctx, id, "private", "b")
	want(t, "replaced", string(v), "small")
	want(t, "error", err, nil)
	_, err = s.KVGet(ctx, id, "private", "a")
	wantError(t, "deleted", err, store.ErrNotFound)
}

func sessions(t *testing.T, open Open) {
	s := open(t, store.Options{})
	id := Account(t, s, "romeo@montague.example")
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for i := range store.MaxSessionRows + 3 {
		commit(t, s, store.SessionSeen{Account: id, Resource: fmt.Sprintf("r%d", i), Client: "c", Address: "192.0.2.1:1", At: at.Add(time.Duration(i) * time.Second), Online: true})
	}
	commit(t, s, store.SessionSeen{Account: id, Resource: "r5", Address: "192.0.2.2:1", At: at.Add(time.Hour)})
	rows, err := s.Sessions(t.Context(), id)
	want(t, "error", err, nil)
	want(t, "bound", len(rows), store.MaxSessionRows)
	want(t, "latest", rows[0], store.SessionRow{Resource: "r5", Address: "192.0.2.2:1", At: at.Add(time.Hour)})
	want(t, "oldest", rows[len(rows)-1].Resource, "r3")
}

func offline(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	id := Account(t, s, "romeo@montague.example")
	for i := store.ArchiveID(1); i <= 5; i++ {
		commit(t, s, store.OfflineAppend{Account: id, ID: i * 10, Stanza: stanza(id, i)})
	}
	wantError(t, "same id", s.Commit(ctx, store.OfflineAppend{Account: id, ID: 50}), store.ErrExists)
	d := load(t, s, "romeo@montague.example")
	want(t, "count", d.Offline, 5)
	want(t, "last", d.LastArchiveID, store.ArchiveID(50))
	page, err := s.Offline(ctx, id, 10, 2)
	want(t, "error", err, nil)
	want(t, "page", page, []store.ArchivedMessage{{ID: 20, Stanza: stanza(id, 2)}, {ID: 30, Stanza: stanza(id, 3)}})
	commit(t, s, store.OfflineClear{Account: id, UpTo: 40})
	want(t, "left", load(t, s, "romeo@montague.example").Offline, 1)
	commit(t, s, store.OfflineClear{Account: id, UpTo: 1 << 60})
	d = load(t, s, "romeo@montague.example")
	want(t, "left", d.Offline, 0)
	want(t, "last is remembered", d.LastArchiveID, store.ArchiveID(50))
}

func secret(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, err := s.Secret(ctx, "fast", 32)
	if err != nil || len(a) != 32 || bytes.Equal(a, make([]byte, 32)) {
		t.Fatalf("%d bytes, %v", len(a), err)
	}
	b, err := s.Secret(ctx, "fast", 32)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("changed, %v", err)
	}
	c, err := s.Secret(ctx, "scram", 32)
	if err != nil || bytes.Equal(a, c) {
		t.Errorf("same for another name, %v", err)
	}
	_, err = s.Secret(ctx, "fast", 16)
	wantError(t, "other length", err, store.ErrInvalid)
}

func atomic(t *testing.T, open Open) {
	s := open(t, store.Options{CommitDelay: 20 * time.Millisecond})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	commit(t, s, Entry(a, 10, "b@x.example"))
	// These gather in one transaction; the second and third fail, after having done something, and take nothing with them.
	var results []error
	done := make(chan struct{})
	submit := func(last bool, ops ...store.Op) {
		s.Submit(store.Unit{Ops: ops, Done: func(err error) {
			results = append(results, err)
			if last {
				close(done)
			}
		}})
	}
	submit(false, Entry(a, 20, "b@x.example"), Entry(b, 20, "a@x.example"))
	submit(false, Entry(a, 30, "b@x.example"), store.KVPut{Account: a, Space: "s", Key: "lost"}, Entry(b, 20, "a@x.example"))
	submit(false, store.KVPut{Account: a, Space: "s", Key: "lost too"}, Entry(a, 30, "b@x.example"), store.BlockPut{Account: 999, JID: jid.MustParse("c@x.example")})
	submit(true, store.KVPut{Account: a, Space: "s", Key: "kept"}, Entry(a, 30, "b@x.example"), Entry(b, 30, "a@x.example"))
	<-done
	want(t, "first", results[0], nil)
	wantError(t, "second", results[1], store.ErrExists)
	wantError(t, "third", results[2], store.ErrNotFound)
	want(t, "fourth", results[3], nil)
	ids, _ := Page(t, s, store.ArchiveQuery{Account: a, Max: 10})
	want(t, "a", ids, []store.ArchiveID{10, 20, 30})
	ids, _ = Page(t, s, store.ArchiveQuery{Account: b, Max: 10})
	want(t, "b", ids, []store.ArchiveID{20, 30})
	kv, err := s.KVList(ctx, a, "s")
	want(t, "error", err, nil)
	want(t, "kv", kv, []store.KV{{Key: "kept", Value: []byte{}}})
	wantError(t, "too big", s.Commit(ctx, store.KVPut{Account: a, Value: make([]byte, 9<<20)}), store.ErrTooBig)
	wantError(t, "bad id", s.Commit(ctx, Entry(a, 0, "b@x.example")), store.ErrInvalid)
}

// order: Done comes in the order of submission, and what it reports is readable.
func order(t *testing.T, open Open) {
	s := open(t, store.Options{CommitMax: 7})
	a := Account(t, s, "a@x.example")
	const n = 500
	var got []int
	done := make(chan struct{})
	for i := range n {
		id := store.ArchiveID(i + 1)
		if i%50 == 49 {
			id = 1 // fails
		}
		s.Submit(store.Unit{Ops: []store.Op{Entry(a, id, "b@x.example")}, Done: func(err error) {
			if (err != nil) != (i%50 == 49) {
				t.Errorf("unit %d: %v", i, err)
			}
			if ok, e := s.ArchiveHas(context.Background(), a, id); !ok || e != nil {
				t.Errorf("unit %d is not readable when Done comes: %v", i, e)
			}
			if got = append(got, i); len(got) == n {
				close(done)
			}
		}})
	}
	<-done
	if !slices.IsSorted(got) {
		t.Error("out of order")
	}
	st := s.Stats()
	want(t, "failures", st.Failures, uint64(n/50))
	want(t, "units", st.Units, uint64(n-n/50+1))
	want(t, "rows", st.Rows, uint64(n-n/50))
}

func reentrant(t *testing.T, open Open) {
	s := open(t, store.Options{Readers: 1})
	a := Account(t, s, "a@x.example")
	for i := store.ArchiveID(1); i <= 3; i++ {
		commit(t, s, Entry(a, i, "b@x.example"))
	}
	stop := errors.New("enough")
	n := 0
	_, err := s.Archive(t.Context(), store.ArchiveQuery{Account: a, Max: 3}, func(m store.ArchivedMessage) error {
		commit(t, s, Entry(a, m.ID+100, "b@x.example"))
		Page(t, s, store.ArchiveQuery{Account: a, Max: 2})
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	wantError(t, "fn's error comes back", err, stop)
	want(t, "calls", n, 2)
}

func cancelled(t *testing.T, open Open) {
	s := open(t, store.Options{CommitDelay: time.Hour})
	Account(t, s, "a@x.example") // the next unit would wait for an hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.CreateAccount(ctx, jid.MustParse("b@x.example"), nil)
	wantError(t, "commit", err, context.Canceled)
	if err := s.Close(); err != nil { // does not wait for the hour, and commits
		t.Error(err)
	}
}

func closed(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a := Account(t, s, "a@x.example")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, "commit", s.Commit(t.Context(), Entry(a, 1, "b@x.example")), store.ErrClosed)
	_, err := s.KVGet(t.Context(), a, "s", "k")
	wantError(t, "read", err, store.ErrClosed)
	wantError(t, "check", s.Check(t.Context()), store.ErrClosed)
}

func nonexistent(t *testing.T, open Open) {
	s := open(t, store.Options{})
	x := jid.MustParse("x@x.example")
	for _, op := range []store.Op{
		Entry(77, 1, "b@x.example"),
		store.OfflineAppend{Account: 77, ID: 1},
		store.RosterPut{Account: 77, Item: store.RosterItem{JID: x, Subscription: "none"}},
		store.RosterDelete{Account: 77, Contact: x},
		store.RequestPut{Account: 77, From: x},
		store.BlockPut{Account: 77, JID: x},
		store.KVPut{Account: 77},
		store.SessionSeen{Account: 77},
		store.ClientSeen{Account: 77, ID: "c"},
		store.TokenPut{Account: 77, Client: "c", Token: store.Token{Mechanism: "HT-SHA-256-NONE", Value: []byte("t")}},
		store.TokenUse{Account: 77, Client: "c", Value: []byte("t")},
		store.SessionSave{Account: 77},
	} {
		wantError(t, fmt.Sprintf("%T", op), s.Commit(t.Context(), op), store.ErrNotFound)
	}
	for _, op := range []store.Op{
		store.OfflineClear{Account: 77, UpTo: 1}, store.RequestDelete{Account: 77, From: x}, store.BlockDelete{Account: 77, JID: x},
		store.BlockClear{Account: 77}, store.KVDelete{Account: 77}, store.ClientCursor{Account: 77, ID: "c", UpTo: 1},
		store.ClientForget{Account: 77, ID: "c"}, store.TokenDelete{Account: 77, Client: "c"}, store.TokensDelete{Account: 77},
		store.SessionQueue{Account: 77}, store.SessionForget{Account: 77},
	} {
		want(t, fmt.Sprintf("%T", op), s.Commit(t.Context(), op), nil)
	}
	_, err := s.LoadAccount(t.Context(), x)
	wantError(t, "load", err, store.ErrNotFound)
	wantError(t, "remove", s.RemoveAccount(t.Context(), x), store.ErrNotFound)
	want(t, "check", s.Check(t.Context()), nil)
}
