// Package entitytime tells the server's time (XEP-0202).
package entitytime

import (
	"context"
	"time"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature. The offset told is that of the zone of now's result; in
// UTC it doesn't tell where the server stands (XEP-0202 6).
func New(now func() time.Time) feature.Feature {
	return feature.Feature{
		Name:  "entitytime",
		Specs: []feature.Spec{{XEP: "0202", Version: "2.0"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSTime}}},
		IQs: []feature.IQ{{
			Scope: feature.Server, Type: stanza.TypeGet, Name: xmltree.Name{Space: xep.NSTime, Local: "time"},
			Handle: func(context.Context, *feature.Query) (string, error) {
				return string(xep.AppendTime(nil, now())), nil
			},
		}},
	}
}
