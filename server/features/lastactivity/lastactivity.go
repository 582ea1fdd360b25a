// Package lastactivity tells how long ago an account was last seen, and how
// long the server has been running (XEP-0012). Whoever may not see an
// account's presence learns nothing, not even whether there is such an
// account.
package lastactivity

import (
	"context"
	"time"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature; started is when the server was.
func New(now func() time.Time, started time.Time) feature.Feature {
	name := xmltree.Name{Space: xep.NSLast, Local: "query"}
	vars := []string{xep.NSLast}
	uptime := func(context.Context, *feature.Query) (string, error) {
		return string(xep.AppendLast(nil, now().Sub(started), "")), nil
	}
	account := func(ctx context.Context, q *feature.Query) (string, error) { return lastSeen(ctx, q, now) }
	return feature.Feature{
		Name:  "lastactivity",
		Specs: []feature.Spec{{XEP: "0012", Version: "2.0"}},
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: vars},
			{Scope: feature.Account, Vars: vars},
			{Scope: feature.Contact, Vars: vars},
		},
		IQs: []feature.IQ{
			{Scope: feature.Server, Type: stanza.TypeGet, Name: name, Handle: uptime},
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name, Handle: account},
			{Scope: feature.Contact, Type: stanza.TypeGet, Name: name, Handle: account},
		},
	}
}

// lastSeen answers for an account (XEP-0012 3).
func lastSeen(ctx context.Context, q *feature.Query, now func() time.Time) (string, error) {
	sees, err := q.AskerSees(ctx)
	if err != nil {
		return "", err
	}
	if !sees {
		return "", stanza.NewError(stanza.Forbidden, "")
	}
	snap, err := q.Owner.Snapshot(ctx)
	switch {
	case err != nil:
		return "", err
	case len(snap.Sessions) > 0:
		return string(xep.AppendLast(nil, 0, "")), nil
	case snap.LastUnavailable.IsZero():
		return "", stanza.NewError(stanza.ServiceUnavailable, "never seen yet")
	}
	return string(xep.AppendLast(nil, now().Sub(snap.LastUnavailable), snap.LastStatus)), nil
}
