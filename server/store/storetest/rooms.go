package storetest

import (
	"testing"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func newRoom(t *testing.T, s *store.Store, address, creator string, d store.RoomData, members ...store.RoomMember) store.AccountID {
	t.Helper()
	var id store.AccountID
	commit(t, s, store.RoomCreate{JID: jid.MustParse(address), At: day, Creator: jid.MustParse(creator), Room: d, Members: members, ID: &id})
	return id
}

func rooms(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	owner := store.RoomMember{JID: jid.MustParse("a@x.example"), Affiliation: "owner", Nick: "A", Reason: "made it"}
	data := store.RoomData{Persistent: true, Public: true, Name: "Tea", Options: []byte("o"), Subject: []byte("s")}
	tea := newRoom(t, s, "tea@rooms.x.example", "a@x.example", data, owner)
	address := jid.MustParse("tea@rooms.x.example")
	load := func() store.RoomRow {
		t.Helper()
		r, err := s.LoadRoom(ctx, address)
		want(t, "error", err, nil)
		return r
	}
	want(t, "as it was made", load(), store.RoomRow{ID: tea, RoomData: data, Members: []store.RoomMember{owner}})

	member := store.RoomMember{JID: jid.MustParse("b@x.example"), Affiliation: "member"}
	commit(t, s, store.RoomMemberPut{Room: tea, Member: member}, store.ArchiveAppend{Account: tea, ID: 7, Peer: address, Stanza: []byte("seven")})
	want(t, "members", load().Members, []store.RoomMember{owner, member})
	want(t, "last id", load().LastArchiveID, 7)
	member.Affiliation, member.Reason = "outcast", "noise"
	data.Name, data.Subject = "Coffee", []byte{}
	commit(t, s, store.RoomMemberPut{Room: tea, Member: member}, store.RoomPut{Room: tea, Data: data}, store.RoomMemberDelete{Room: tea, JID: owner.JID})
	want(t, "changed", load(), store.RoomRow{ID: tea, LastArchiveID: 7, RoomData: data, Members: []store.RoomMember{member}})

	// A room is nobody's account.
	wantError(t, "account", func() error { _, err := s.LoadAccount(ctx, address); return err }(), store.ErrNotFound)
	_, err := s.LoadRoom(ctx, jid.MustParse("none@rooms.x.example"))
	wantError(t, "no room", err, store.ErrNotFound)
	for a := range s.Accounts(ctx, "") {
		t.Errorf("%s is listed as an account", a.JID)
	}
	counts, err := s.Domains(ctx)
	want(t, "domains", []any{len(counts), err}, []any{0, nil})

	var id store.AccountID
	again := store.RoomCreate{JID: address, At: day, Creator: owner.JID, ID: &id}
	wantError(t, "taken", s.Commit(ctx, again), store.ErrExists)
	again.JID, again.MaxOwn = jid.MustParse("more@rooms.x.example"), 1
	wantError(t, "too many of one's own", s.Commit(ctx, again), store.ErrTooBig)
	again.MaxOwn, again.MaxRooms = 0, 1
	wantError(t, "too many", s.Commit(ctx, again), store.ErrTooBig)
}

func roomLists(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	for _, name := range []string{"a", "b", "c"} {
		newRoom(t, s, name+"@rooms.x.example", "o@x.example", store.RoomData{Persistent: true, Public: name != "b", Name: name})
	}
	newRoom(t, s, "d@rooms.y.example", "o@x.example", store.RoomData{Public: true})
	names := func(domain, after string, all bool, limit int) (got []string) {
		t.Helper()
		list, err := s.Rooms(ctx, domain, after, all, limit)
		want(t, "error", err, nil)
		for _, r := range list {
			got = append(got, r.JID.Local()+r.Name)
		}
		return got
	}
	want(t, "listed", names("rooms.x.example", "", false, 10), []string{"aa", "cc"})
	want(t, "all", names("rooms.x.example", "", true, 10), []string{"aa", "bb", "cc"})
	want(t, "everywhere", names("", "", true, 10), []string{"aa", "bb", "cc", "d"})
	want(t, "a page", names("rooms.x.example", "a@rooms.x.example", true, 1), []string{"bb"})
	for _, all := range []bool{false, true} {
		n, err := s.RoomCount(ctx, "rooms.x.example", all)
		want(t, "count", []any{n, err}, []any{len(names("rooms.x.example", "", all, 10)), nil})
	}
	want(t, "error", s.RemoveTemporaryRooms(ctx), nil)
	want(t, "temporary rooms are gone", len(names("rooms.y.example", "", true, 10)), 0)
	want(t, "error", s.RemoveRoom(ctx, jid.MustParse("a@rooms.x.example")), nil)
	want(t, "error", s.RemoveRoom(ctx, jid.MustParse("a@rooms.x.example")), nil)
	want(t, "removed", names("rooms.x.example", "", true, 10), []string{"bb", "cc"})
}

// replace: an entry's stanza, wherever the entry is, and nothing else.
func replace(t *testing.T, open Open) {
	s := open(t, store.Options{})
	ctx := t.Context()
	a := Account(t, s, "a@x.example")
	peer := jid.MustParse("p@x.example")
	for id := store.ArchiveID(1); id <= 3; id++ {
		commit(t, s, store.ArchiveAppend{Account: a, ID: id, Peer: peer, Thread: "t", Stanza: []byte("old")})
	}
	commit(t, s, store.ArchiveReplace{Account: a, ID: 2, Stanza: []byte("new")}, store.ArchiveAppend{Account: a, ID: 4, Peer: peer, Stanza: []byte("note")})
	read := func(q store.ArchiveQuery) (got []string) {
		t.Helper()
		q.Account, q.Max = a, 10
		_, err := s.Archive(ctx, q, func(m store.ArchivedMessage) error {
			got = append(got, string(m.Stanza))
			return nil
		})
		want(t, "error", err, nil)
		return got
	}
	want(t, "archive", read(store.ArchiveQuery{}), []string{"old", "new", "old", "note"})
	want(t, "thread", read(store.ArchiveQuery{Thread: "t"}), []string{"old", "old"})
	wantError(t, "no entry", s.Commit(ctx, store.ArchiveReplace{Account: a, ID: 9}), store.ErrNotFound)
	commit(t, s, store.ArchiveReplace{Account: a, ID: 2, Stanza: []byte("newer")})
	want(t, "archive", read(store.ArchiveQuery{With: peer}), []string{"old", "newer", "old", "note"})
}
