package account

import (
	"context"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// entrance is a room that a session request enters. What comes of it is between the
// client and the room, which refuses or tells it what it missed.
type entrance struct {
	to       jid.JID // with the nick
	password string
	sync     *xep.Sync
}

// entrances are the rooms of a session request.
type entrances struct {
	list       []entrance
	bookmarked []jid.JID     // those of them that are entered for their bookmarks
	err        *stanza.Error // why no bookmarks were looked at
}

// roomsOf finds the rooms that a request enters: those that it names, and, if it asks
// for them, those whose bookmarks say so, xep.MaxSessionParts in all.
func (h *Hub) roomsOf(ctx context.Context, full jid.JID, r *xep.SessionRequest) *entrances {
	rooms, named := &entrances{}, map[jid.JID]bool{}
	for i := range r.Parts {
		part := &r.Parts[i]
		if part.Part != xep.SessionJoin || part.Err != nil {
			continue
		}
		named[part.Room] = true
		to, err := part.Room.WithResource(part.Nick)
		if err != nil {
			part.Err = stanza.NewError(stanza.JIDMalformed, "nick is not a nickname")
			continue
		}
		rooms.list = append(rooms.list, entrance{to, part.Password, part.Sync})
	}
	auto := r.First(xep.SessionAutojoin)
	if auto == nil {
		return rooms
	}
	if h.cfg.Autojoin == nil {
		rooms.err = stanza.NewError(stanza.FeatureNotImplemented, "there are no bookmarks here")
		return rooms
	}
	list, err := h.cfg.Autojoin(ctx, &accountRef{h, full.Bare()})
	if err != nil {
		if ctx.Err() == nil {
			h.cfg.Log.Error("bookmarks can't be read", "account", full.Bare(), "error", err)
		}
		rooms.err = stanza.NewError(stanza.InternalServerError, "")
		return rooms
	}
	for _, b := range list {
		nick := b.Nick
		if nick == "" {
			nick = full.Local()
		}
		to, err := b.Room.WithResource(nick)
		if err != nil || named[b.Room] || len(rooms.list) >= xep.MaxSessionParts {
			continue
		}
		named[b.Room] = true
		rooms.list = append(rooms.list, entrance{to, b.Password, auto.Sync})
		rooms.bookmarked = append(rooms.bookmarked, to)
	}
	return rooms
}
