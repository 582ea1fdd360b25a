package server

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/room"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// voice is how rooms are heard (room.Config).
type voice struct {
	deliver func([]*stanza.Stanza)
	stream  func(context.Context, jid.JID, [][]byte) error
}

// newRooms makes the rooms of the configuration, nil where there are none.
func newRooms(ctx context.Context, cfg config.Config, s *store.Store, log *slog.Logger, now func() time.Time, say voice) (*room.Hub, error) {
	if !cfg.Rooms.Enabled {
		return nil, nil
	}
	secret, err := s.Secret(ctx, "occupant-id", 32)
	if err != nil {
		return nil, err
	}
	r := cfg.Rooms
	return room.New(ctx, room.Config{
		Domains: cfg.RoomDomains(), Store: s, Log: log, Now: now, Secret: secret,
		Deliver: say.deliver, Stream: say.stream, Home: func(who jid.JID) bool { return slices.Contains(cfg.Domains, who.Domain()) },
		MayCreate: func(who jid.JID) bool { return r.Create == "everyone" || slices.Contains(cfg.Domains, who.Domain()) },
		History:   r.History, Loops: loops(),
		Limits: room.Limits{
			Rooms: r.Max, RoomsPerUser: r.PerUser, Occupants: r.Occupants, Affiliations: r.Affiliations,
			PerUser: r.UserPerSecond, PerRoom: r.RoomPerSecond, Page: cfg.Limits.MAMPageMax,
		},
	})
}

// inRooms declares what rooms do, which answer for themselves.
func inRooms() feature.Feature {
	return feature.Feature{
		Name: "room",
		Specs: []feature.Spec{
			{XEP: "0045", Version: "1.35.5", Note: "no logs on the web"},
			{XEP: "0249", Version: "1.2", Note: "comes with mediated invitations"},
			{XEP: "0307", Version: "0.1"},
			{XEP: "0317", Version: "0.3.1"},
			{XEP: "0410", Version: "1.1.0"},
			{XEP: "0421", Version: "1.0.1"},
			{XEP: "0424", Version: "0.4.2", Note: "tombstones in rooms"},
			{XEP: "0425", Version: "0.3.0"},
			{XEP: "0486", Version: "0.1.0"},
			{XEP: "0502", Version: "0.1.0"},
		},
	}
}
