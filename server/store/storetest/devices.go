package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
)

var day = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func client(t *testing.T, s *store.Store, account store.AccountID, id string) store.Client {
	t.Helper()
	c, err := s.Client(t.Context(), account, id)
	want(t, "error", err, nil)
	return c
}

func clients(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	commit(t, s,
		store.ClientSeen{Account: a, ID: "phone", Software: "Soft 1", Device: "Phone", Address: "192.0.2.1:1", Mechanism: "SCRAM-SHA-256", SASL2: true,
			Password: true, Tag: "soft", Resource: "soft.1", At: day},
		store.ClientSeen{Account: a, ID: "desk", Mechanism: "SCRAM-SHA-1", Password: true, At: day.Add(time.Hour)},
		store.ClientSeen{Account: b, ID: "phone", At: day})
	phone := store.Client{ID: "phone", Software: "Soft 1", Device: "Phone", Address: "192.0.2.1:1", Mechanism: "SCRAM-SHA-256", SASL2: true, Password: true,
		Tag: "soft", Resource: "soft.1", FirstSeen: day, LastSeen: day}
	want(t, "as it was seen", client(t, s, a, "phone"), phone)

	// What is new replaces, what is empty leaves; that it knows the password stays.
	commit(t, s, store.ClientSeen{Account: a, ID: "phone", Software: "Soft 2", Mechanism: "HT-SHA-256-ENDP", SASL2: true, At: day.Add(2 * time.Hour)},
		store.ClientSeen{Account: a, ID: "phone", Resource: "soft.2", At: day.Add(time.Minute)})
	phone.Software, phone.Mechanism, phone.Resource, phone.LastSeen = "Soft 2", "HT-SHA-256-ENDP", "soft.2", day.Add(2*time.Hour)
	want(t, "renewed", client(t, s, a, "phone"), phone)
	desk := store.Client{ID: "desk", Mechanism: "SCRAM-SHA-1", Password: true, FirstSeen: day.Add(time.Hour), LastSeen: day.Add(time.Hour)}
	list, err := s.Clients(ctx, a)
	want(t, "list", []any{list, err}, []any{[]store.Client{phone, desk}, nil})

	// Only who chose a new password knows it.
	for _, by := range []string{"phone", ""} {
		want(t, "new password", s.SetKeys(ctx, jid.MustParse("a@x.example"), []sasl.Keys{Keys(sasl.SHA256)}, by), nil)
		want(t, "phone knows it", client(t, s, a, "phone").Password, by == "phone")
		want(t, "desk knows it", client(t, s, a, "desk").Password, false)
	}
	commit(t, s, store.ClientSeen{Account: a, ID: "desk", Mechanism: "SCRAM-SHA-1", Password: true, At: day.Add(time.Hour)})
	want(t, "desk knows it", client(t, s, a, "desk").Password, true)
	phone.Password = false
	commit(t, s, store.ClientSeen{Account: a, ID: "phone", At: day, Known: true})
	wantError(t, "who isn't known", s.Commit(ctx, store.ClientSeen{Account: a, ID: "tablet", At: day, Known: true}), store.ErrNotFound)

	for _, c := range []struct{ upTo, want store.ArchiveID }{{50, 50}, {40, 50}, {60, 60}, {0, 60}} {
		commit(t, s, store.ClientCursor{Account: a, ID: "phone", UpTo: c.upTo}, store.ClientCursor{Account: a, ID: "never seen", UpTo: c.upTo})
		want(t, "cursor", client(t, s, a, "phone").Cursor, c.want)
	}
	commit(t, s, store.ClientSeen{Account: a, ID: "phone", At: day.Add(3 * time.Hour)})
	want(t, "cursor after a login", client(t, s, a, "phone").Cursor, 60)

	long := strings.Repeat("x", store.MaxClientText-1) + "ü"
	commit(t, s, store.ClientSeen{Account: a, ID: strings.Repeat("i", store.MaxClientID), Software: long, Device: strings.Repeat("x", store.MaxClientText), At: day})
	cut := client(t, s, a, strings.Repeat("i", store.MaxClientID))
	want(t, "long texts", []int{len(cut.Software), len(cut.Device)}, []int{store.MaxClientText - 1, store.MaxClientText})
	for _, id := range []string{"", strings.Repeat("i", store.MaxClientID+1)} {
		wantError(t, "id", s.Commit(ctx, store.ClientSeen{Account: a, ID: id, At: day}), store.ErrInvalid)
	}

	// Forgetting takes tokens along, and ends saved sessions, of this client of this account.
	key := store.NewResumeKey("s1")
	for _, account := range []store.AccountID{a, b} {
		commit(t, s, store.TokenPut{Account: account, Client: "phone", Token: token("t", day)},
			store.SessionSave{Account: account, Session: store.SavedSession{Key: key, Client: "phone"}},
			store.SessionSave{Account: account, Session: store.SavedSession{Key: store.NewResumeKey("s2"), Client: ""}})
	}
	commit(t, s, store.ClientForget{Account: a, ID: "phone"})
	_, err = s.Client(ctx, a, "phone")
	wantError(t, "forgotten", err, store.ErrNotFound)
	_, _, err = s.Tokens(ctx, jid.MustParse("a@x.example"), "phone")
	wantError(t, "its tokens", err, store.ErrNotFound)
	_, _, err = s.Tokens(ctx, jid.MustParse("b@x.example"), "phone")
	want(t, "tokens of another account", err, nil)
	for account, over := range map[store.AccountID]string{a: "phone", b: ""} {
		sessions, err := s.SessionsOf(ctx, account)
		want(t, "sessions", []any{len(sessions), err}, []any{2, nil})
		for _, x := range sessions {
			want(t, "the session's time is over", !x.Ends.IsZero() && x.Ends.Before(day.AddDate(-10, 0, 0)), over != "" && x.Client == over)
		}
	}
	want(t, "removing an account", s.RemoveAccount(ctx, jid.MustParse("b@x.example")), nil)
	list, err = s.Clients(ctx, b)
	want(t, "clients of a removed account", []any{len(list), err}, []any{0, nil})
}

// manyClients: beyond the bound those without a valid token go first, the one not seen for longest before the others, and never the new one.
func manyClients(t *testing.T, open Open) {
	s := open(t, store.Options{})
	a := Account(t, s, "a@x.example")
	name := func(i int) string { return fmt.Sprintf("c%03d", i) }
	var ops []store.Op
	for i := range store.MaxClients {
		ops = append(ops, store.ClientSeen{Account: a, ID: name(i), At: day.Add(time.Duration(i) * time.Minute)})
		switch {
		case i < 2 || i >= 10:
			ops = append(ops, store.TokenPut{Account: a, Client: name(i), Token: token("t", day.AddDate(0, 1, 0))})
		case i == 5:
			ops = append(ops, store.TokenPut{Account: a, Client: name(i), Token: token("t", day)}) // expired when others come
		}
	}
	commit(t, s, ops...)
	gone := func(want ...int) {
		t.Helper()
		list, err := s.Clients(t.Context(), a)
		if err != nil || len(list) != store.MaxClients {
			t.Fatalf("%d clients, %v", len(list), err)
		}
		for _, i := range want {
			if _, err := s.Client(t.Context(), a, name(i)); err == nil {
				t.Errorf("%s is there", name(i))
			}
		}
	}
	for i := range 8 {
		commit(t, s, store.ClientSeen{Account: a, ID: name(200 + i), At: day.Add(24 * time.Hour)})
		commit(t, s, store.TokenPut{Account: a, Client: name(200 + i), Token: token("t", day.AddDate(0, 1, 0))})
		gone(2 + i)
	}
	commit(t, s, store.ClientSeen{Account: a, ID: name(300), At: day}) // the oldest of all, and without a token
	gone(0)
	client(t, s, a, name(300))
	commit(t, s, store.ClientSeen{Account: a, ID: name(301), At: day.Add(25 * time.Hour)})
	gone(300)
}

func token(value string, expires time.Time) store.Token {
	return store.Token{Mechanism: "HT-SHA-256-EXPR", Value: []byte(value), Issued: day.Add(-time.Hour), Expires: expires}
}

func tokens(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	bare := jid.MustParse("a@x.example")
	a := Account(t, s, "a@x.example")
	later := day.AddDate(0, 1, 0)
	use := func(value string, counter int64, at time.Time) error {
		return s.Commit(ctx, store.KVPut{Account: a, Space: "s", Key: value}, store.TokenUse{Account: a, Client: "c", Value: []byte(value), Counter: counter, At: at})
	}
	have := func(current, fresh string, counter int64) {
		t.Helper()
		k, id, err := s.Tokens(ctx, bare, "c")
		want(t, "tokens", []any{string(k.Current.Value), string(k.New.Value), k.Current.Counter, id, err}, []any{current, fresh, counter, a, nil})
	}
	wantError(t, "client unknown", s.Commit(ctx, store.TokenPut{Account: a, Client: "c", Token: token("t1", later)}), store.ErrNotFound)
	commit(t, s, store.ClientSeen{Account: a, ID: "c", At: day}, store.ClientSeen{Account: a, ID: "d", At: day})
	_, _, err := s.Tokens(ctx, bare, "c")
	wantError(t, "no token", err, store.ErrNotFound)

	// A first token; another in its place before it is used makes it invalid (XEP-0484 3.5).
	commit(t, s, store.TokenPut{Account: a, Client: "c", Token: token("t0", later)}, store.TokenPut{Account: a, Client: "c", Token: token("t1", later)})
	have("", "t1", 0)
	wantError(t, "replaced before use", use("t0", 0, day), store.ErrNotFound)
	want(t, "first use", use("t1", 0, day), nil)
	have("t1", "", 0)
	k, _, err := s.Tokens(ctx, bare, "c")
	want(t, "as it was put", []any{k.Current, err}, []any{token("t1", later), nil})
	want(t, "until", client(t, s, a, "c").TokenUntil, later)

	// The counter only rises; a use without one is no replay of early data.
	for _, c := range []struct {
		counter int64
		want    error
	}{{7, nil}, {7, store.ErrReplayed}, {3, store.ErrReplayed}, {0, nil}, {-1, store.ErrInvalid}, {8, nil}} {
		if err := use("t1", c.counter, day); c.want == nil && err != nil || c.want != nil {
			wantError(t, fmt.Sprint("counter ", c.counter), err, c.want)
		}
	}
	have("t1", "", 8)

	// Rotation: both are valid until the new one is used, whose counter starts over.
	commit(t, s, store.TokenPut{Account: a, Client: "c", Token: token("t2", later.AddDate(0, 1, 0))})
	want(t, "old one", use("t1", 9, day), nil)
	have("t1", "t2", 9)
	want(t, "until", client(t, s, a, "c").TokenUntil, later.AddDate(0, 1, 0))
	want(t, "new one", use("t2", 1, day), nil)
	have("t2", "", 1)
	wantError(t, "old one", use("t1", 10, day), store.ErrNotFound)
	wantError(t, "replay of the new one's first use", use("t2", 1, day), store.ErrReplayed)

	// Whatever expires earlier than the one that was used goes (XEP-0484 3.5).
	commit(t, s, store.TokenPut{Account: a, Client: "c", Token: token("short", day.Add(time.Hour))})
	want(t, "use", use("t2", 2, day), nil)
	have("t2", "", 2)

	wantError(t, "expired", use("t2", 3, later.AddDate(0, 1, 0)), store.ErrNotFound)
	wantError(t, "no token", use("", 3, day), store.ErrNotFound)
	wantError(t, "of another client", s.Commit(ctx, store.TokenUse{Account: a, Client: "d", Value: []byte("t2"), At: day}), store.ErrNotFound)
	// A unit with a use that fails leaves nothing.
	kv, err := s.KVList(ctx, a, "s")
	want(t, "units", []any{len(kv), err}, []any{2, nil})

	for what, bad := range map[string]store.Token{
		"empty": token("", later), "long": token(strings.Repeat("x", store.MaxToken+1), later), "mechanism": {Value: []byte("x"), Expires: later},
		"long mechanism": {Mechanism: strings.Repeat("M", store.MaxTokenMechanism+1), Value: []byte("x"), Expires: later},
	} {
		wantError(t, what, s.Commit(ctx, store.TokenPut{Account: a, Client: "c", Token: bad}), store.ErrInvalid)
	}

	want(t, "disabling", s.SetDisabled(ctx, bare, true), nil)
	_, _, err = s.Tokens(ctx, bare, "c")
	wantError(t, "tokens of a disabled account", err, store.ErrNotFound)
	want(t, "enabling", s.SetDisabled(ctx, bare, false), nil)
	_, _, err = s.Tokens(ctx, jid.MustParse("nobody@x.example"), "c")
	wantError(t, "tokens of nobody", err, store.ErrNotFound)

	commit(t, s, store.TokenDelete{Account: a, Client: "c"}, store.TokenPut{Account: a, Client: "c", Token: token("t4", later)})
	have("", "t4", 0)
	for what, revoke := range map[string]func() error{
		"one client's": func() error { return s.Commit(ctx, store.TokenDelete{Account: a, Client: "c"}) },
		"all":          func() error { return s.Commit(ctx, store.TokensDelete{Account: a}) },
		"new password": func() error { return s.SetKeys(ctx, bare, []sasl.Keys{Keys(sasl.SHA256)}, "") },
	} {
		commit(t, s, store.TokenPut{Account: a, Client: "c", Token: token("t5", later)})
		want(t, what, revoke(), nil)
		_, _, err = s.Tokens(ctx, bare, "c")
		wantError(t, what, err, store.ErrNotFound)
		wantError(t, what, use("t5", 1, day), store.ErrNotFound)
		client(t, s, a, "c") // it is still known
	}
}

func saved(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a, b := Account(t, s, "a@x.example"), Account(t, s, "b@x.example")
	Account(t, s, "c@x.example")
	session := store.SavedSession{
		Key: store.NewResumeKey("secret"), Resource: "r", Client: "phone", Window: 10 * time.Minute, Ends: day, Handled: 1<<32 - 1, Acked: 5, Sent: 2,
		UpTo: 70, State: []byte("state"), Queue: []store.QueuedStanza{
			{Entry: 60, Tag: []byte("direct"), Stanza: []byte{}}, {Tag: []byte("exclusive"), Stanza: []byte("<message/>")}, {Entry: 70, Tag: []byte{}, Stanza: []byte{}},
		},
	}
	only := func(x store.SavedSession) {
		t.Helper()
		list, err := s.SessionsOf(ctx, a)
		want(t, "sessions", []any{list, err}, []any{[]store.SavedSession{x}, nil})
	}
	if k := session.Key; bytes.Contains(k[:], []byte("secret")) || k == store.NewResumeKey("secret ") {
		t.Error("the key is not a hash of the id")
	}
	commit(t, s, store.SessionSave{Account: a, Session: session}, store.SessionSave{Account: b, Session: session})
	only(session)

	// More for a session that is away, in the order of coming.
	for i := range 3 {
		more := store.QueuedStanza{Tag: []byte("exclusive"), Stanza: fmt.Appendf(nil, "<message id='%d'/>", i)}
		commit(t, s, store.SessionQueue{Account: a, Key: session.Key, Stanza: more}, store.SessionQueue{Account: a, Key: store.NewResumeKey("other"), Stanza: more})
		session.Queue = append(session.Queue, more)
	}
	only(session)
	// Saved again, with less, while it is connected.
	session.Ends, session.Queue, session.Sent, session.Acked = time.Time{}, session.Queue[4:5], 0, 9
	commit(t, s, store.SessionSave{Account: a, Session: session})
	only(session)
	session.Queue = nil
	commit(t, s, store.SessionSave{Account: a, Session: session})
	only(session)

	list, err := s.SavedAccounts(ctx, 0, 10)
	want(t, "accounts", []any{len(list), list[0].JID, list[1].ID, err}, []any{2, jid.MustParse("a@x.example"), b, nil})
	list, err = s.SavedAccounts(ctx, a, 10)
	want(t, "the rest", []any{len(list), list[0].ID, err}, []any{1, b, nil})
	list, err = s.SavedAccounts(ctx, 0, 1)
	want(t, "a page", []any{len(list), err}, []any{1, nil})

	for what, c := range map[string]struct {
		session store.SavedSession
		want    error
	}{
		"queue": {store.SavedSession{Queue: make([]store.QueuedStanza, store.MaxSavedQueue+1)}, store.ErrTooBig},
		"bytes": {store.SavedSession{Queue: []store.QueuedStanza{{Stanza: make([]byte, store.MaxSavedBytes), Tag: []byte("x")}}}, store.ErrTooBig},
		"state": {store.SavedSession{State: make([]byte, store.MaxSavedState+1)}, store.ErrTooBig},
		"sent":  {store.SavedSession{Sent: 1}, store.ErrInvalid},
	} {
		wantError(t, what, s.Commit(ctx, store.SessionSave{Account: a, Session: c.session}), c.want)
	}
	full := store.SavedSession{Key: store.NewResumeKey("full"), Queue: make([]store.QueuedStanza, store.MaxSavedQueue)}
	commit(t, s, store.SessionSave{Account: b, Session: full})
	wantError(t, "full queue", s.Commit(ctx, store.SessionQueue{Account: b, Key: full.Key}), store.ErrTooBig)

	heavy := store.SavedSession{Key: store.NewResumeKey("heavy"), Queue: []store.QueuedStanza{{Stanza: make([]byte, store.MaxSavedBytes-3)}}}
	two := store.SessionQueue{Account: b, Key: heavy.Key, Stanza: store.QueuedStanza{Stanza: []byte("x"), Tag: []byte("y")}}
	commit(t, s, store.SessionSave{Account: b, Session: heavy}, two)
	wantError(t, "full of bytes", s.Commit(ctx, two), store.ErrTooBig)

	for i := range store.MaxSavedSessions - 1 {
		commit(t, s, store.SessionSave{Account: a, Session: store.SavedSession{Key: store.NewResumeKey(fmt.Sprint(i))}})
	}
	wantError(t, "one too many", s.Commit(ctx, store.SessionSave{Account: a, Session: store.SavedSession{Key: full.Key}}), store.ErrTooBig)
	commit(t, s, store.SessionForget{Account: a, Key: session.Key}, store.SessionForget{Account: a, Key: session.Key},
		store.SessionSave{Account: a, Session: store.SavedSession{Key: full.Key}})
	kept, err := s.SessionsOf(ctx, a)
	want(t, "kept", []any{len(kept), err}, []any{store.MaxSavedSessions, nil})

	want(t, "removing", s.RemoveAccount(ctx, jid.MustParse("b@x.example")), nil)
	kept, err = s.SessionsOf(ctx, b)
	want(t, "of a removed account", []any{len(kept), err}, []any{0, nil})
}
