// Package blocking reads and changes an account's block list (XEP-0191). What
// a block stops is decided where stanzas are routed; here it is a list of
// addresses, bounded, of which sessions that asked are told every change.
package blocking

import (
	"context"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature; maxItems bounds one request. The list as a whole is
// bounded by the account's owner, who alone knows it at the moment of a change.
func New(maxItems int) feature.Feature {
	h := handler{maxItems}
	name := func(local string) xmltree.Name { return xmltree.Name{Space: xep.NSBlocking, Local: local} }
	return feature.Feature{
		Name:  "blocking",
		Specs: []feature.Spec{{XEP: "0191", Version: "1.3"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSBlocking}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("blocklist"), Handle: h.list},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("block"), Handle: h.block},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("unblock"), Handle: h.unblock},
		},
	}
}

type handler struct{ maxItems int }

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
	return "", q.Owner.Update(ctx, feature.Update{Block: items, Push: push("block", items)})
}

// unblock is XEP-0191 3.4, without items 3.5.
func (h handler) unblock(ctx context.Context, q *feature.Query) (string, error) {
	items, err := xep.ParseBlockItems(q.Payload, h.maxItems)
	if err != nil {
		return "", err
	}
	return "", q.Owner.Update(ctx, feature.Update{Unblock: items, UnblockAll: len(items) == 0, Push: push("unblock", items)})
}

func push(local string, items []jid.JID) feature.Push {
	return feature.Push{Interest: xep.NSBlocking, Payload: string(xep.AppendBlockItems(nil, local, items))}
}
