// Package imng lets a session ask for IM Routing-NG (XEP-0409): from then on it
// gets every conversation message of its account, what the other devices send
// included, whatever its presence. Which messages these are is routing's to
// decide, by the session's profile.
package imng

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
	on := xmltree.Name{Space: xep.NSIMNG, Local: "enable"}
	vars := []string{xep.NSIMNG}
	return feature.Feature{
		Name:  "imng",
		Specs: []feature.Spec{{XEP: "0409", Version: "0.1.0"}},
		// Clients ask the server (XEP-0409 3.1); who asks his account is told the same (IMNG-5).
		Disco: []feature.Disco{{Scope: feature.Server, Vars: vars}, {Scope: feature.Account, Vars: vars}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeSet, Name: on, Handle: enable},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: on, Handle: refuse},
		},
	}
}

// enable turns IM-NG on for as long as the session lives (IMNG-7); doing it twice is
// fine, doing it beside Carbons is a conflict (R-SESS-1, IMNG-21).
func enable(ctx context.Context, q *feature.Query) (string, error) {
	return "", q.Session.SetProfile(ctx, route.NG)
}

// refuse answers who asks somebody else's account.
func refuse(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.NotAllowed, "")
}
