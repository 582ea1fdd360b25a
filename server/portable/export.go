package portable

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/private"
	"carillon.im/server/features/vcard"
	"carillon.im/server/room"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Export writes accounts and rooms: all that there are, or those that are asked for.
// Each account is as it was when its turn came. What is written again is the same
// bytes as long as nothing changes.
type Export struct {
	Store   *store.Store
	Domains []string // hosts of accounts, in the order in which they are written
	Rooms   []string // of rooms
	Only    []jid.JID
	// Done, if set, hears of each account and room that is written.
	Done func(j jid.JID, messages int)

	sink Sink
}

// exporting is one account or room on its way.
type exporting struct {
	*Export
	ctx      context.Context
	jid      jid.JID
	id       store.AccountID
	messages int
}

// To writes the document.
func (e Export) To(ctx context.Context, sink Sink) error {
	e.sink = sink
	if err := sink.Open(element(nsPIE, "server-data")); err != nil {
		return err
	}
	for _, j := range e.Only {
		if err := e.known(ctx, j); err != nil {
			return err
		}
	}
	for _, host := range e.Domains {
		if err := e.host(ctx, host, e.users); err != nil {
			return err
		}
	}
	for _, host := range e.Rooms {
		if err := e.host(ctx, host, e.rooms); err != nil {
			return err
		}
	}
	return sink.End()
}

// known finds whether there is what is asked for.
func (e *Export) known(ctx context.Context, j jid.JID) error {
	if _, err := e.Store.Account(ctx, j); errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no %s", j)
	} else if err != nil {
		return err
	}
	return nil
}

func (e *Export) wants(j jid.JID) bool {
	if len(e.Only) == 0 {
		return true
	}
	for _, o := range e.Only {
		if o == j {
			return true
		}
	}
	return false
}

// host writes a host with all of what list finds there; without anything there is
// none.
func (e *Export) host(ctx context.Context, host string, list func(context.Context, string, func(*exporting, func() error) error) error) error {
	begun := false
	err := list(ctx, host, func(x *exporting, write func() error) error {
		if !e.wants(x.jid) {
			return nil
		}
		if !begun {
			begun = true
			if err := e.sink.Open(element(nsPIE, "host", attr("jid", host))); err != nil {
				return err
			}
		}
		if err := write(); err != nil {
			return fmt.Errorf("exporting %s: %w", x.jid, err)
		}
		if e.Done != nil {
			e.Done(x.jid, x.messages)
		}
		return nil
	})
	if err == nil && begun {
		err = e.sink.End()
	}
	return err
}

func (e *Export) users(ctx context.Context, host string, each func(*exporting, func() error) error) error {
	for a, err := range e.Store.Accounts(ctx, host) {
		if err != nil {
			return err
		}
		x := &exporting{Export: e, ctx: ctx, jid: a.JID, id: a.ID}
		err = each(x, func() error {
			attrs := []xmltree.Attr{attr("name", a.JID.Local()), {Name: name(nsOwn, "created"), Value: stamp(a.Created)}}
			if a.Disabled {
				attrs = append(attrs, xmltree.Attr{Name: name(nsOwn, "disabled"), Value: "true"})
			}
			return x.container(element(nsPIE, "user", attrs...), x.user)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Export) rooms(ctx context.Context, host string, each func(*exporting, func() error) error) error {
	const page = 200
	for after := ""; ; {
		list, err := e.Store.Rooms(ctx, host, after, true, page)
		if err != nil {
			return err
		}
		for _, r := range list {
			after = r.JID.String()
			if !r.Persistent {
				continue // its occupants can't come along
			}
			x := &exporting{Export: e, ctx: ctx, jid: r.JID}
			err := each(x, func() error {
				a, err := e.Store.Account(ctx, r.JID)
				if errors.Is(err, store.ErrNotFound) {
					return nil // destroyed meanwhile
				}
				if err != nil {
					return err
				}
				x.id = a.ID
				return x.container(element(nsOwn, "room", attr("name", r.JID.Local()), attr("creator", r.Creator.String()), attr("created", stamp(a.Created))), x.room)
			})
			if err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// stamp is a time to the microsecond, as everything here is stored.
func stamp(t time.Time) string { return string(xep.AppendDateTime(nil, t)) }

// container writes one with what fill writes into it.
func (x *exporting) container(el xmltree.Element, fill func() error) error {
	if err := x.sink.Open(el); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	return x.sink.End()
}

// unit writes one, made by a Writer for the open container's namespace.
func (x *exporting) unit(w *xmltree.Writer) error { return x.sink.Unit(w.Bytes()) }

// user writes what an account has.
func (x *exporting) user() error {
	d, err := x.Store.LoadAccount(x.ctx, x.jid)
	if err != nil {
		return err
	}
	for _, part := range []func() error{
		x.credentials,
		func() error { return x.roster(&d) },
		func() error { return x.requests(&d) },
		func() error { return x.preferences(&d) },
		x.private, x.vcard, x.nodes, x.offline,
		func() error { return x.archive() },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// credentials is XEP-0227 4.3.
func (x *exporting) credentials() error {
	list, err := x.Store.Credentials(x.ctx, x.id)
	if err != nil {
		return err
	}
	for _, k := range list {
		w := xmltree.NewWriter(nil, nsPIE)
		w.Start(nsSCRAM, "scram-credentials").Attr("mechanism", "SCRAM-"+k.Hash.String())
		w.Start(nsSCRAM, "iter-count").Text(strconv.Itoa(k.Iterations)).End()
		for _, v := range []struct {
			name  string
			bytes []byte
		}{{"salt", k.Salt}, {"server-key", k.ServerKey}, {"stored-key", k.StoredKey}} {
			w.Start(nsSCRAM, v.name).Text(base64.StdEncoding.EncodeToString(v.bytes)).End()
		}
		if err := x.unit(w.End()); err != nil {
			return err
		}
	}
	return nil
}

// roster is XEP-0227 4.4.
func (x *exporting) roster(d *store.AccountData) error {
	if len(d.Roster) == 0 {
		return nil
	}
	return x.container(element(xep.NSRoster, "query"), func() error {
		for _, i := range d.Roster {
			w := xmltree.NewWriter(nil, xep.NSRoster)
			w.Start(xep.NSRoster, "item")
			if i.Approved {
				w.Attr("approved", "true")
			}
			if i.Ask {
				w.Attr("ask", "subscribe")
			}
			w.Attr("jid", i.JID.String()).OptAttr("name", i.Name).Attr("subscription", i.Subscription)
			for _, g := range i.Groups {
				w.Start(xep.NSRoster, "group").Text(g).End()
			}
			if err := x.unit(w.End()); err != nil {
				return err
			}
		}
		return nil
	})
}

// requests are XEP-0227 4.9.
func (x *exporting) requests(d *store.AccountData) error {
	for _, r := range d.Requests {
		st, err := stanza.ParseBytes(r.Stanza, unitLimits())
		if err != nil {
			return fmt.Errorf("a stored request of %s: %w", r.From, err)
		}
		if err := x.sink.Unit(inClient(st.AppendTo(nil))); err != nil {
			return err
		}
	}
	return nil
}

// inClient declares the namespace of a stanza as it is stored.
func inClient(st []byte) []byte {
	end := 1
	for st[end] >= 'a' && st[end] <= 'z' {
		end++
	}
	b := append(make([]byte, 0, len(st)+32), st[:end]...)
	return append(append(b, " xmlns='"+stanza.NSClient+"'"...), st[end:]...)
}

// preferences are whom the account blocks, and what is archived.
func (x *exporting) preferences(d *store.AccountData) error {
	if len(d.Blocked) > 0 {
		if err := x.sink.Unit(xep.AppendBlockItems(nil, "blocklist", d.Blocked)); err != nil {
			return err
		}
	}
	if d.Prefs == nil {
		return nil
	}
	return x.sink.Unit(xep.AppendMAMPrefs(nil, xep.MAMPrefs(feature.DecodeArchivePrefs(d.Prefs, "always"))))
}

// private is XEP-0227 4.6.
func (x *exporting) private() error {
	list, err := x.Store.KVList(x.ctx, x.id, private.Space)
	if err != nil || len(list) == 0 {
		return err
	}
	return x.container(element(xep.NSPrivate, "query"), func() error {
		for _, kv := range list {
			if err := x.sink.Unit(kv.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// vcard is XEP-0227 4.7.
func (x *exporting) vcard() error { return x.value(vcard.Space, vcard.Key) }

// value writes a stored element, if it is there.
func (x *exporting) value(space, key string) error {
	v, err := x.Store.KVGet(x.ctx, x.id, space, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return x.sink.Unit(v)
}

// nodes are XEP-0227 4.10.
func (x *exporting) nodes() error {
	list, err := x.Store.EventNodes(x.ctx, x.id)
	if err != nil || len(list) == 0 {
		return err
	}
	err = x.container(element(xep.NSPubSubOwner, "pubsub"), func() error {
		for _, n := range list {
			form, members := pep.ConfigForm(n.Config)
			w := xmltree.NewWriter(nil, xep.NSPubSubOwner)
			w.Start(xep.NSPubSubOwner, "configure").Attr("node", n.Node).Inner(form).End()
			if len(members) > 0 {
				w.Start(xep.NSPubSubOwner, "affiliations").Attr("node", n.Node)
				for _, j := range members {
					w.Start(xep.NSPubSubOwner, "affiliation").Attr("jid", j.String()).Attr("affiliation", "member").End()
				}
				w.End()
			}
			if err := x.unit(w); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return x.container(element(xep.NSPubSub, "pubsub"), func() error {
		for _, n := range list {
			if err := x.items(n.Node); err != nil {
				return err
			}
		}
		return nil
	})
}

func (x *exporting) items(node string) error {
	_, items, err := x.Store.EventItems(x.ctx, x.id, node, nil, pep.DefaultLimits().Items)
	if errors.Is(err, store.ErrNotFound) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	return x.container(element(xep.NSPubSub, "items", attr("node", node)), func() error {
		for _, it := range items {
			w := xmltree.NewWriter(nil, xep.NSPubSub)
			w.Start(xep.NSPubSub, "item").Attr("id", it.ID).AttrNS(nsOwn, "published", stamp(it.At)).Inner(string(it.Payload))
			if err := x.unit(w.End()); err != nil {
				return err
			}
		}
		return nil
	})
}

// offline is XEP-0227 4.5.
func (x *exporting) offline() error {
	const page = 100
	begun := false
	for after := store.ArchiveID(0); ; {
		list, err := x.Store.Offline(x.ctx, x.id, after, page)
		if err != nil {
			return err
		}
		for _, m := range list {
			after = m.ID
			if !begun {
				begun = true
				if err := x.sink.Open(element(nsPIE, "offline-messages")); err != nil {
					return err
				}
			}
			st, err := stanza.ParseBytes(m.Stanza, unitLimits())
			if err != nil {
				return fmt.Errorf("offline message %s: %w", m.ID, err)
			}
			domain, err := jid.New("", x.jid.Domain(), "")
			if err != nil {
				return err
			}
			if err := x.sink.Unit(inClient(st.AppendTo(nil, string(xep.AppendDelay(nil, domain, m.ID.Time()))))); err != nil {
				return err
			}
		}
		if len(list) < page {
			break
		}
	}
	if !begun {
		return nil
	}
	return x.sink.End()
}

// archive is XEP-0227 4.11.
func (x *exporting) archive() error {
	q := store.ArchiveQuery{Account: x.id, Max: 500, Bytes: 1 << 20}
	begun := false
	for more := true; more; {
		var err error
		more, err = x.Store.Archive(x.ctx, q, func(m store.ArchivedMessage) error {
			if !begun {
				begun = true
				if err := x.sink.Open(element(nsArchive, "archive")); err != nil {
					return err
				}
			}
			q.AfterID = m.ID
			x.messages++
			b := append([]byte("<result xmlns='"+xep.NSMAM+"' id='"), m.ID.String()...)
			b = append(b, "'><forwarded xmlns='urn:xmpp:forward:0'>"...)
			b = append(xep.AppendDelay(b, jid.JID{}, m.ID.Time()), inClient(m.Stanza)...)
			return x.sink.Unit(append(b, "</forwarded></result>"...))
		})
		if err != nil {
			return err
		}
	}
	if !begun {
		return nil
	}
	return x.sink.End()
}

// room writes what a room has: XEP-0227 has no word for it.
func (x *exporting) room() error {
	r, err := x.Store.LoadRoom(x.ctx, x.jid)
	if err != nil {
		return err
	}
	form, err := room.OptionsForm(r.Options)
	if err != nil {
		return err
	}
	if err := x.sink.Unit([]byte(form)); err != nil {
		return err
	}
	if len(r.Subject) > 0 {
		w := xmltree.NewWriter(nil, nsOwn).Start(nsOwn, "subject").Inner(string(inClient(r.Subject))).End()
		if err := x.unit(w); err != nil {
			return err
		}
	}
	err = x.container(element(xep.NSMUCAdmin, "query"), func() error {
		for _, m := range r.Members {
			w := xmltree.NewWriter(nil, xep.NSMUCAdmin)
			w.Start(xep.NSMUCAdmin, "item").Attr("affiliation", m.Affiliation).Attr("jid", m.JID.String()).OptAttr("nick", m.Nick)
			if m.Reason != "" {
				w.Start(xep.NSMUCAdmin, "reason").Text(m.Reason).End()
			}
			if err := x.unit(w.End()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := x.value(room.VCardSpace, room.VCardKey); err != nil {
		return err
	}
	return x.archive()
}
