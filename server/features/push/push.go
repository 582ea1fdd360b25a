// Package push lets a client name the push service that wakes its device while it
// has no stream (XEP-0357). When a device is woken is the account's and routing's
// to decide; conversations of which the person wants no notifications (XEP-0492)
// are known to them from the account's bookmarks.
package push

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature.
func New() feature.Feature {
	iq := func(name string, handle func(context.Context, *feature.Query) (string, error)) feature.IQ {
		return feature.IQ{Scope: feature.Account, Type: stanza.TypeSet, Name: xmltree.Name{Space: xep.NSPush, Local: name}, Handle: handle}
	}
	return feature.Feature{
		Name: "push",
		Specs: []feature.Spec{
			{XEP: "0357", Version: "0.4.1", Note: "tied to the device, not to the stream"},
			{XEP: "0492", Version: "0.2.0", Note: "heeded by push notifications, as a phone would"},
		},
		Disco: []feature.Disco{{Scope: feature.Account, Vars: []string{xep.NSPush}}}, // XEP-0357 4.1
		IQs:   []feature.IQ{iq("enable", enable), iq("disable", disable)},
	}
}

// enable is XEP-0357 5.
func enable(ctx context.Context, q *feature.Query) (string, error) {
	service, err := xep.ParsePushEnable(q.Payload)
	if err != nil {
		return "", err
	}
	return "", q.Owner.Update(ctx, feature.Update{PushOn: &feature.PushOn{Session: q.Session.JID(), Service: service}})
}

// disable is XEP-0357 6. What wasn't enabled is disabled already.
func disable(ctx context.Context, q *feature.Query) (string, error) {
	service, name, node, err := xep.ParsePushDisable(q.Payload)
	if err != nil {
		return "", err
	}
	return "", q.Owner.Update(ctx, feature.Update{PushOff: &feature.PushOff{Service: service, Node: name, All: !node}})
}
