package account

import (
	"context"
	"testing"

	"carillon.im/server/store"
)

// TestUnreadWhileFlushing: a message that its session was too late for comes to the
// offline store while newer ones are being read from it for another session. It gets
// a place behind them, for they are cleared with all before them. Found by sim, seed
// 122.
func TestUnreadWhileFlushing(t *testing.T) {
	w := newWorld(t, "alice bob")
	w.bind("bob/b sm online")
	const old = store.ArchiveID(5)
	var id store.AccountID
	_, err := ask(context.Background(), w.hub, w.jid("bob"), func(s *State, fx *effects) struct{} {
		id, s.flushing = s.id, s.sessions[0]
		s.offline++
		s.keepOffline(store.OfflineAppend{Account: s.id, ID: old, Stanza: []byte("<message xmlns='jabber:client'/>")}, fx)
		s.flushing = nil
		return struct{}{}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.settle()
	kept, err := w.store.Offline(context.Background(), id, 0, 10)
	if err != nil || len(kept) != 1 || kept[0].ID <= old {
		t.Errorf("kept %v, %v", kept, err)
	}
}
