// Package ping answers XMPP Ping (XEP-0199) for the server and for the
// asker's own account.
package ping

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature.
func New() feature.Feature {
	pong := func(context.Context, *feature.Query) (string, error) { return "", nil }
	name := xmltree.Name{Space: xep.NSPing, Local: "ping"}
	return feature.Feature{
		Name:  "ping",
		Specs: []feature.Spec{{XEP: "0199", Version: "2.0.1"}},
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: []string{xep.NSPing}},
			{Scope: feature.Account, Vars: []string{xep.NSPing}},
		},
		IQs: []feature.IQ{
			{Scope: feature.Server, Type: stanza.TypeGet, Name: name, Handle: pong},
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name, Handle: pong},
		},
	}
}
