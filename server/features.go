package server

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/features/adhoc"
	"carillon.im/server/features/blocking"
	"carillon.im/server/features/cam"
	"carillon.im/server/features/caps"
	"carillon.im/server/features/carbons"
	"carillon.im/server/features/contact"
	"carillon.im/server/features/csi"
	"carillon.im/server/features/disco"
	"carillon.im/server/features/entitytime"
	"carillon.im/server/features/external"
	"carillon.im/server/features/imng"
	"carillon.im/server/features/lastactivity"
	"carillon.im/server/features/mam"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/ping"
	"carillon.im/server/features/private"
	"carillon.im/server/features/push"
	"carillon.im/server/features/register"
	"carillon.im/server/features/vcard"
	"carillon.im/server/features/version"
	"carillon.im/server/invite"
	"carillon.im/server/store"
	"carillon.im/xep"
)

// Bounds of what an account may keep beside its messages.
const (
	privateItems = 200
	privateBytes = 512 << 10
	vcardBytes   = 192 << 10
)

// features is the list of all that the server can do. A new XEP is a line here.
func features(cfg config.Config, s *store.Store, known *caps.Cache, events *pep.Service, accounts register.Accounts, clients cam.Clients, release string, log *slog.Logger, now func() time.Time, host func() *admin.Host, invites func() *invite.Service) []feature.Feature {
	list := []feature.Feature{
		core(),
		ping.New(),
		version.New("carillon", release, ""),
		entitytime.New(now),
		lastactivity.New(now, now()),
		carbons.New(),
		imng.New(),
		mine(),
		csi.New(),
		blocking.New(cfg.Limits.BlockItems, s, log, now),
		private.New(s, private.Limits{Items: privateItems, Bytes: privateBytes}, events),
		vcard.New(s, vcardBytes, events),
		events.Feature(),
		mam.New(s, mam.Options{Page: min(50, cfg.Limits.MAMPageMax), MaxPage: cfg.Limits.MAMPageMax}),
		register.New(accounts),
		cam.New(clients, now),
		push.New(),
		known.Feature(),
		external.New(externalServices(cfg.Services), now),
		contact.New(cfg.Contact.Lists()),
		adhoc.New(append(inviteCommands(cfg, invites), adminCommands(cfg.Admins, host)...)),
		beside(),
		onTheWeb(),
	}
	if cfg.Rooms.Enabled {
		list = append(list, inRooms())
	}
	return append(list, disco.New("carillon", "https://carillon.im", services(cfg), list...))
}

// personal makes the service of personal events.
func personal(s *store.Store, account func(jid.JID) feature.AccountRef, now func() time.Time) *pep.Service {
	return pep.New(pep.Options{Store: s, Now: now, Account: account, Photo: vcard.WithPhoto(s, vcardBytes),
		Fragment: private.Fragment(s), SetFragment: private.SetFragment})
}

// services are the rooms, the components and the server's other own, for who looks for what there is (XEP-0030 4).
func services(cfg config.Config) []xep.DiscoItem {
	var items []xep.DiscoItem
	for _, domain := range append(cfg.RoomDomains(), slices.Sorted(maps.Keys(cfg.Components))...) {
		if j, err := jid.New("", domain, ""); err == nil { // Check has seen to that
			items = append(items, xep.DiscoItem{JID: j})
		}
	}
	for _, item := range uploadItems(cfg) {
		if _, taken := cfg.Components[item.JID.Domain()]; !taken {
			items = append(items, item)
		}
	}
	return items
}

// onTheWeb declares what is done outside of streams.
func onTheWeb() feature.Feature {
	return feature.Feature{
		Name: "web",
		Specs: []feature.Spec{
			{RFC: "7395"},
			{XEP: "0124", Version: "1.11.2", Note: "one request held, no pauses"},
			{XEP: "0156", Version: "1.4.0", Note: "host-meta in XML and JSON"},
			{XEP: "0206", Version: "1.4"},
			{XEP: "0363", Version: "1.2.0"},
			{XEP: "0487", Version: "0.1.0", Note: "if the operator tells the addresses"},
		},
	}
}

// mine declares XEP-0259 (MINE-6), which is routing's: the account's owner asks and
// routes the claims. Some copies of the text have another namespace (R-MINE-1).
func mine() feature.Feature {
	vars := []string{xep.NSMine, xep.NSMineOCR}
	return feature.Feature{
		Name:  "mine",
		Specs: []feature.Spec{{XEP: "0259", Version: "0.1", Note: "accounts and rooms"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: vars}, {Scope: feature.Account, Vars: vars}},
	}
}

// core declares what the stream, the account's owner and routing do without a
// handler of their own.
func core() feature.Feature {
	return feature.Feature{
		Name: "core",
		Specs: []feature.Spec{
			{RFC: "6120"}, {RFC: "6121"}, {RFC: "7590"}, {RFC: "7622"},
			{XEP: "0114", Version: "1.6", Note: "the accept side"},
			{XEP: "0160", Version: "1.0.1"},
			{XEP: "0178", Version: "1.2"},
			{XEP: "0185", Version: "1.0"},
			{XEP: "0198", Version: "1.6.3", Note: "resumption over restarts too"},
			{XEP: "0203", Version: "2.0"},
			{XEP: "0220", Version: "1.1.1", Note: "as far as the policy for a server allows"},
			{XEP: "0237", Version: "1.3", Note: "now RFC 6121 2.6"},
			{XEP: "0288", Version: "1.0.1"},
			{XEP: "0297", Version: "1.0"},
			{XEP: "0334", Version: "1.0.0"},
			{XEP: "0344", Version: "0.4", Note: "a valid certificate needs no key"},
			{XEP: "0359", Version: "0.7.0"},
			{XEP: "0368", Version: "1.1.0"},
			{XEP: "0386", Version: "1.1.0"},
			{XEP: "0388", Version: "1.0.4"},
			{XEP: "0440", Version: "1.0.0"},
			{XEP: "0474", Version: "0.5.0"},
			{XEP: "0478", Version: "0.2.0"},
			{XEP: "0480", Version: "0.2.0", Note: "SCRAM-SHA-256 and SCRAM-SHA-512"},
			{XEP: "0484", Version: "0.2.0"},
			{XEP: "0509", Version: "0.2.0"},
		},
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: []string{"msgoffline"}},
			{Scope: feature.Account, Vars: []string{"urn:xmpp:sid:0"}},
		},
		StreamFeatures: []string{
			"<ver xmlns='urn:xmpp:features:rosterver'/>",    // RFC 6121 2.6.1
			"<sub xmlns='urn:xmpp:features:pre-approval'/>", // RFC 6121 3.4.1
		},
	}
}
