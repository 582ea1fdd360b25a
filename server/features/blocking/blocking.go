// Package blocking reads and changes an account's block list (XEP-0191). What
// a block stops is decided where stanzas are routed; here it is a list of
// addresses, bounded, of which sessions that asked are told every change. Who blocks
// somebody may say why (XEP-0377): that is logged, and kept for the operator as long
// as the block stands.
package blocking

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Store is what the feature reads from the store.
type Store interface {
	KVList(ctx context.Context, id store.AccountID, space string) ([]store.KV, error)
}

// New is the feature; maxItems bounds one request. The list as a whole is
// bounded by the account's owner, who alone knows it at the moment of a change.
func New(maxItems int, s Store, log *slog.Logger, now func() time.Time) feature.Feature {
	h := handler{maxItems, s, log, now}
	name := func(local string) xmltree.Name { return xmltree.Name{Space: xep.NSBlocking, Local: local} }
	return feature.Feature{
		Name:  "blocking",
		Specs: []feature.Spec{{XEP: "0191", Version: "1.3"}, {XEP: "0377", Version: "0.4.1", Note: "for the own operator"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSBlocking, xep.NSReporting}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("blocklist"), Handle: h.list},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("block"), Handle: h.block},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("unblock"), Handle: h.unblock},
		},
	}
}

type handler struct {
	maxItems int
	store    Store
	log      *slog.Logger
	now      func() time.Time
}

// list answers with the list and notes that the session wants to know of
// changes (XEP-0191 3.2); it does so first, lest a change falls in between.
func (h handler) list(ctx context.Context, q *feature.Query) (string, error) {
	if err := q.Session.SetInterest(ctx, xep.NSBlocking); err != nil {
		return "", err
	}
	snap, err := q.Owner.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	return string(xep.AppendBlockItems(nil, "blocklist", snap.Blocked)), nil
}

// block is XEP-0191 3.3.
func (h handler) block(ctx context.Context, q *feature.Query) (string, error) {
	items, err := xep.ParseBlockItems(q.Payload, h.maxItems)
	if err != nil {
		return "", err
	}
	if len(items) == 0 {
		return "", stanza.NewError(stanza.BadRequest, "nobody to block is named")
	}
	u := feature.Update{Block: items, Push: push("block", items)}
	reports := xep.ParseReports(q.Payload)
	for _, r := range reports {
		b, err := json.Marshal(feature.Report{At: h.now().UTC(), Reason: r.Reason, Text: r.Text, IDs: r.IDs, Origin: r.Origin, Third: r.Third})
		if err != nil {
			return "", err
		}
		u.Put = append(u.Put, feature.KeyValue{Space: feature.ReportSpace, Key: r.JID.String(), Value: b})
	}
	if err := q.Owner.Update(ctx, u); err != nil {
		return "", err
	}
	for _, r := range reports {
		h.log.Info("somebody is reported", "account", q.Owner.JID(), "reported", r.JID, "reason", r.Reason, "text", r.Text, "messages", r.IDs)
	}
	return "", nil
}

// unblock is XEP-0191 3.4, without items 3.5.
func (h handler) unblock(ctx context.Context, q *feature.Query) (string, error) {
	items, err := xep.ParseBlockItems(q.Payload, h.maxItems)
	if err != nil {
		return "", err
	}
	u := feature.Update{Unblock: items, UnblockAll: len(items) == 0, Push: push("unblock", items)}
	id, err := q.Owner.StoreID(ctx)
	if err != nil {
		return "", err
	}
	kept, err := h.store.KVList(ctx, store.AccountID(id), feature.ReportSpace)
	if err != nil {
		return "", err
	}
	for _, kv := range kept {
		if u.UnblockAll || slices.ContainsFunc(items, func(j jid.JID) bool { return j.String() == kv.Key }) {
			u.Put = append(u.Put, feature.KeyValue{Space: feature.ReportSpace, Key: kv.Key})
		}
	}
	return "", q.Owner.Update(ctx, u)
}

func push(local string, items []jid.JID) feature.Push {
	return feature.Push{Interest: xep.NSBlocking, Payload: string(xep.AppendBlockItems(nil, local, items))}
}
