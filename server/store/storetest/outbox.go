package storetest

import (
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func outbox(t *testing.T, open Open) {
	s := open(t, store.Options{})
	message := func(id store.OutboxID) store.OutboxMessage {
		return store.OutboxMessage{ID: id, At: day.Add(time.Duration(id) * time.Second), Stanza: []byte{'<', byte(id)}}
	}
	commit(t, s, store.OutboxPut{Message: message(3)}, store.OutboxPut{Message: message(1)})
	commit(t, s, store.OutboxPut{Message: message(2)})
	list, err := s.Outbox(t.Context(), 0, 10)
	want(t, "all, by id", []any{list, err}, []any{[]store.OutboxMessage{message(1), message(2), message(3)}, nil})
	list, err = s.Outbox(t.Context(), 1, 1)
	want(t, "a page", []any{list, err}, []any{[]store.OutboxMessage{message(2)}, nil})
	wantError(t, "twice", s.Commit(t.Context(), store.OutboxPut{Message: message(2)}), store.ErrExists)
	for _, id := range []store.OutboxID{0, 1 << 63} {
		wantError(t, "no id", s.Commit(t.Context(), store.OutboxPut{Message: message(id)}), store.ErrInvalid)
	}
	// In the unit of the sender's entry: both or none.
	a := Account(t, s, "a@x.example")
	entry := store.ArchiveAppend{Account: a, ID: 7, Peer: jid.MustParse("b@y.example"), Stanza: []byte("<message/>")}
	commit(t, s, entry)
	wantError(t, "with an entry that fails", s.Commit(t.Context(), store.OutboxPut{Message: message(9)}, entry), store.ErrExists)
	commit(t, s, store.OutboxDelete{IDs: []store.OutboxID{1, 3, 8}})
	list, err = s.Outbox(t.Context(), 0, 10)
	want(t, "what is left", []any{list, err}, []any{[]store.OutboxMessage{message(2)}, nil})
}
