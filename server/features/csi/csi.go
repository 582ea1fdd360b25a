// Package csi lets a client say whether somebody looks at it (XEP-0352). What
// is held back from a client that nobody looks at is the session's to decide.
package csi

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature.
func New() feature.Feature {
	set := func(active bool) func(context.Context, feature.SessionRef, xmltree.Element) {
		return func(_ context.Context, s feature.SessionRef, _ xmltree.Element) { s.SetActive(active) }
	}
	return feature.Feature{
		Name:  "csi",
		Specs: []feature.Spec{{XEP: "0352", Version: "1.0.0"}},
		Elements: []feature.Element{
			{Name: xmltree.Name{Space: xep.NSCSI, Local: "active"}, Handle: set(true)},
			{Name: xmltree.Name{Space: xep.NSCSI, Local: "inactive"}, Handle: set(false)},
		},
		StreamFeatures: []string{xep.CSI},
	}
}
