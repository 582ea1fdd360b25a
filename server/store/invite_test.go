package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// TestInvites: an invitation is taken once, ends, keeps a name, and there are only so many.
func TestInvites(t *testing.T) {
	s := open(t, store.Options{Path: ":memory:"})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	romeo := jid.MustParse("romeo@x.example")
	storetest.Account(t, s, romeo.String())
	put := func(token, name string, inviter jid.JID, ends time.Duration) error {
		return s.Commit(t.Context(), store.InvitePut{Token: token, At: now, MaxOf: 2, Max: 5,
			Invite: store.Invite{Domain: "x.example", Inviter: inviter, Name: name, Account: true, Ends: now.Add(ends)}})
	}
	expect := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("one", put("one", "juliet", romeo, time.Hour), nil)
	expect("a name that is taken", put("two", "romeo", romeo, time.Hour), store.ErrExists)
	expect("a name that is kept", put("two", "juliet", romeo, time.Hour), store.ErrExists)
	expect("two", put("two", "", romeo, time.Minute), nil)
	expect("three of one user", put("three", "", romeo, time.Hour), store.ErrLimit)
	for i := range 3 {
		expect("the operator's", put(fmt.Sprint("op", i), "", jid.JID{}, time.Hour), nil)
	}
	expect("too many in all", put("op3", "", jid.JID{}, time.Hour), store.ErrLimit)
	i, err := s.Invite(t.Context(), "one", now)
	if err != nil || i != (store.Invite{Domain: "x.example", Inviter: romeo, Name: "juliet", Account: true, Ends: now.Add(time.Hour)}) {
		t.Errorf("%+v, %v", i, err)
	}
	_, err = s.Invite(t.Context(), "one", now.Add(2*time.Hour))
	expect("after its end", err, store.ErrNotFound)
	_, err = s.Invite(t.Context(), "other", now)
	expect("nobody's token", err, store.ErrNotFound)
	juliet := jid.MustParse("juliet@x.example")
	if kept, err := s.Invited(t.Context(), juliet, now); err != nil || !kept {
		t.Errorf("kept: %v, %v", kept, err)
	}
	_, err = s.CreateInvited(t.Context(), romeo, nil, "one")
	expect("an account that is there", err, store.ErrExists)
	_, err = s.CreateInvited(t.Context(), juliet, nil, "one") // that failure has not used it up
	expect("taken", err, nil)
	_, err = s.CreateInvited(t.Context(), jid.MustParse("rosaline@x.example"), nil, "one")
	expect("taken twice", err, store.ErrNotFound)
	if _, err := s.Account(t.Context(), jid.MustParse("rosaline@x.example")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("rosaline: %v", err)
	}
	now = now.Add(30 * time.Minute) // "two" has ended and makes room
	expect("another", put("four", "", romeo, time.Hour), nil)
	expect("and another", put("five", "", romeo, time.Hour), nil)
}
