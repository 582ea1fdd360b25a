package store_test

import (
	"errors"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// TestImport: what is begun is seen by nobody until it is finished, never takes the place of what is there, and goes with the process.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	romeo, juliet, hall := jid.MustParse("romeo@x.example"), jid.MustParse("juliet@x.example"), jid.MustParse("hall@rooms.x.example")
	open := func() *store.Store {
		s, err := store.Open(t.Context(), store.Options{Path: dir, CommitDelay: -1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	begin := func(j jid.JID) store.AccountID {
		t.Helper()
		var id store.AccountID
		if err := s.Commit(t.Context(), store.ImportBegin{JID: j, At: at, ID: &id}); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), storetest.Entry(id, 7, "a@y.example"), store.KVPut{Account: id, Space: "s", Key: "k", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	id, room := begin(romeo), begin(hall)
	var second store.AccountID
	if err := s.Commit(t.Context(), store.ImportBegin{JID: romeo, At: at, ID: &second}); !errors.Is(err, store.ErrExists) {
		t.Errorf("begun twice: %v", err)
	}
	for _, j := range []jid.JID{romeo, hall} {
		if _, err := s.Account(t.Context(), j); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s is seen before its time: %v", j, err)
		}
	}
	for a, err := range s.Accounts(t.Context(), "") {
		t.Errorf("%v, %v is listed", a, err)
	}
	if n, err := s.Domains(t.Context()); err != nil || len(n) != 0 {
		t.Errorf("domains: %v, %v", n, err)
	}
	keys := []sasl.Keys{storetest.Keys(sasl.SHA1), storetest.Keys(sasl.SHA512)}
	if err := s.Commit(t.Context(), store.ImportAccount{Account: id, JID: romeo, Created: at, Disabled: true, Keys: keys}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Account(t.Context(), romeo)
	if err != nil || a.ID != id || !a.Created.Equal(at) || !a.Disabled {
		t.Errorf("finished: %+v, %v", a, err)
	}
	if got, err := s.Credentials(t.Context(), id); err != nil || len(got) != 2 || got[0].Hash != sasl.SHA1 || got[1].Hash != sasl.SHA512 {
		t.Errorf("keys: %v, %v", len(got), err)
	}
	storetest.Account(t, s, "tybalt@x.example") // SHA-1 and SHA-256
	if counts, n, err := s.Hashes(t.Context()); err != nil || n != 2 || counts[sasl.SHA1] != 2 || counts[sasl.SHA256] != 1 || counts[sasl.SHA512] != 1 {
		t.Errorf("hashes: %v of %d, %v", counts, n, err)
	}
	members := []store.RoomMember{{JID: romeo, Affiliation: "owner"}}
	finish := store.ImportRoom{Account: room, JID: hall, Created: at, Creator: romeo, Room: store.RoomData{Persistent: true, Name: "Hall"}, Members: members}
	if err := s.Commit(t.Context(), finish); err != nil {
		t.Fatal(err)
	}
	if r, err := s.LoadRoom(t.Context(), hall); err != nil || r.ID != room || r.Name != "Hall" || len(r.Members) != 1 || r.LastArchiveID != 7 {
		t.Errorf("room: %+v, %v", r, err)
	}

	// One that is there stays what it is.
	storetest.Account(t, s, juliet.String())
	late := begin(juliet)
	if err := s.Commit(t.Context(), store.ImportAccount{Account: late, JID: juliet, Created: at}); !errors.Is(err, store.ErrExists) {
		t.Errorf("finished over an account: %v", err)
	}
	if err := s.DropImport(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: late}); err != nil || n != 0 {
		t.Errorf("%d entries are left of what was given up, %v", n, err)
	}

	// One that nobody finished is gone with the next start.
	left := begin(jid.MustParse("mercutio@x.example"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if err := s.Commit(t.Context(), store.ImportAccount{Account: left, JID: jid.MustParse("mercutio@x.example")}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was left unfinished can be finished: %v", err)
	}
	for {
		n, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: left})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break // the housekeeper has been there
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
