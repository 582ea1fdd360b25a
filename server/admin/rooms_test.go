package admin

import (
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

func TestRoomList(t *testing.T) {
	h, _ := newHost(t)
	if got := mustCall(t, h, "room list", nil); got.Text != "" || len(got.Data.([]Room)) != 0 {
		t.Errorf("without rooms: %+v", got)
	}
	for _, r := range []store.RoomCreate{
		{JID: jid.MustParse("a@rooms.localhost"), Room: store.RoomData{Persistent: true, Public: true, Name: "The\x1b[2Jhall"}},
		{JID: jid.MustParse("b@rooms.localhost")},
	} {
		r.At, r.Creator, r.ID = time.Unix(1, 0), jid.MustParse("romeo@localhost"), new(store.AccountID)
		if err := h.Store.Commit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	want := "a@rooms.localhost\tromeo@localhost\tpersistent\tpublic\t\"The\\x1b[2Jhall\"\nb@rooms.localhost\tromeo@localhost\ttemporary\thidden\t\"\"\n"
	if got := mustCall(t, h, "room list", nil); got.Text != want || len(got.Data.([]Room)) != 2 {
		t.Errorf("got %+v", got)
	}
	if got := mustCall(t, h, "user list", nil); got.Text != "" {
		t.Errorf("rooms are listed as accounts: %q", got.Text)
	}
}
