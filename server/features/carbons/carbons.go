// Package carbons lets a session ask for carbon copies (XEP-0280). Which
// messages are copied to whom is routing's to decide, by the session's profile.
package carbons

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature.
func New() feature.Feature {
	on := xmltree.Name{Space: xep.NSCarbons, Local: "enable"}
	off := xmltree.Name{Space: xep.NSCarbons, Local: "disable"}
	return feature.Feature{
		Name:  "carbons",
		Specs: []feature.Spec{{XEP: "0280", Version: "1.0.1"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSCarbons, xep.NSCarbonsRules}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeSet, Name: on, Handle: enable},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: off, Handle: disable},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: on, Handle: refuse},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: off, Handle: refuse},
		},
	}
}

// enable turns copies on; doing it twice is fine (XEP-0280 10.1), doing it in
// a session that gets every message anyway is a conflict (R-SESS-1).
func enable(ctx context.Context, q *feature.Query) (string, error) {
	return "", q.Session.SetProfile(ctx, route.Carbons)
}

// disable turns copies off, and nothing else: a session with another profile
// keeps it.
func disable(ctx context.Context, q *feature.Query) (string, error) {
	snap, err := q.Owner.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range snap.Sessions {
		if s.JID == q.Session.JID() && s.Profile == route.Carbons {
			return "", q.Session.SetProfile(ctx, route.Classic)
		}
	}
	return "", nil
}

// refuse answers who asks somebody else's account (XEP-0280 4.1, 5.1).
func refuse(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.NotAllowed, "")
}
