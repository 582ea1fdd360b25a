package server

import (
	"context"
	"errors"
	"io"
	"time"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/portable"
	"carillon.im/server/store"
)

// Export is what a server of this configuration exports.
func Export(cfg config.Config, s *store.Store) portable.Export {
	return portable.Export{Store: s, Domains: cfg.Domains, Rooms: cfg.RoomDomains()}
}

// Import is how one of this configuration imports. The caller adds what is to happen
// to what exists.
func Import(cfg config.Config, h *admin.Host) portable.Import {
	i := portable.Import{
		Store: h.Store, Domains: cfg.Domains, Live: h.Live != nil, Now: time.Now, Keys: h.DeriveKeys,
		Limits: portable.Limits{Roster: cfg.Limits.RosterItems, Blocked: cfg.Limits.BlockItems, Offline: cfg.Limits.OfflineMessages,
			PrivateItems: privateItems, PrivateBytes: privateBytes, VCardBytes: vcardBytes},
	}
	if cfg.Rooms.Enabled {
		i.Rooms = cfg.RoomDomains()
	}
	return i
}

// Transfers are what a Host needs for exports and imports.
func Transfers(cfg config.Config, h *admin.Host) (admin.ExportFunc, admin.ImportFunc) {
	exports := func(ctx context.Context, to io.Writer, only []jid.JID) error {
		e := Export(cfg, h.Store)
		e.Only = only
		return e.To(ctx, portable.NewSink(to))
	}
	imports := func(ctx context.Context, from io.Reader, o admin.ImportOptions, tell func(any)) error {
		i := Import(cfg, h)
		i.Existing, i.Lenient, i.Tell = portable.Existing(o.Existing), o.Lenient, func(x portable.Outcome) { tell(x) }
		r := portable.NewStreamReader(from)
		if o.Dry {
			return i.Check(ctx, r)
		}
		return i.Apply(ctx, r)
	}
	return exports, imports
}

// transfers are the running server's.
func (s *Server) transfers() {
	exports, imports := Transfers(s.cfg, s.host)
	s.host.Export = exports
	s.host.Import = func(ctx context.Context, from io.Reader, o admin.ImportOptions, tell func(any)) error {
		err := imports(ctx, from, o, tell)
		if !o.Dry { // who came may have other keys
			err = errors.Join(err, s.disguise.refresh(context.WithoutCancel(ctx), s.store))
		}
		return err
	}
}
