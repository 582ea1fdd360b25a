package account

import (
	"context"
	"errors"

	"carillon.im/server/store"
)

// Device cursors (S-10): per installation, up to which archived message it has
// acknowledged everything. A session moves its device's cursor only if it began
// where the device stopped; then the archived messages in its stream are all
// that the archive has, in its order, and an <a/> says that the device has them.
// Where something is missing in between the cursor stays, so a live message
// never carries it past a hole.

// readCursor reads the cursor of a session's device from the store; 0 if there
// is none.
func (h *Hub) readCursor(ctx context.Context, x *session) (store.ArchiveID, error) {
	if x.client == "" {
		return 0, nil
	}
	id, err := (&accountRef{h, x.jid.Bare()}).StoreID(ctx)
	if err != nil {
		return 0, err
	}
	c, err := h.cfg.Store.Client(ctx, store.AccountID(id), x.client)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return c.Cursor, err
}

// follow says whether what the session acknowledges moves its device's cursor.
func (x *session) follow(unbroken bool) {
	x.mu.Lock()
	x.unbroken = unbroken
	x.mu.Unlock()
}

// keepCursors writes down the cursors that have moved. Once a second is enough:
// after a crash a device gets again what it acknowledged in the last one.
func (s *State) keepCursors(fx *effects) {
	for _, x := range s.sessions {
		s.keepCursor(x, fx)
	}
}

func (s *State) keepCursor(x *session, fx *effects) {
	if x.client == "" {
		return
	}
	x.mu.Lock()
	upTo := x.cursor
	moves := x.unbroken && upTo > x.cursorKept
	x.mu.Unlock()
	if !moves {
		return
	}
	if s.cursors == nil || len(s.cursors) >= store.MaxClients {
		s.cursors = map[string]store.ArchiveID{}
	}
	x.cursorKept, s.cursors[x.client] = upTo, upTo
	fx.commit([]store.Op{store.ClientCursor{Account: s.id, ID: x.client, UpTo: upTo}})
}
