// Package version tells what software the server is (XEP-0092).
package version

import (
	"context"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature. The operating system os is left out if it is empty, as
// it should be where nobody asked to tell it (XEP-0092 5).
func New(name, version, os string) feature.Feature {
	answer := string(xep.AppendVersion(nil, name, version, os))
	return feature.Feature{
		Name:  "version",
		Specs: []feature.Spec{{XEP: "0092", Version: "1.1"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSVersion}}},
		IQs: []feature.IQ{{
			Scope: feature.Server, Type: stanza.TypeGet, Name: xmltree.Name{Space: xep.NSVersion, Local: "query"},
			Handle: func(context.Context, *feature.Query) (string, error) { return answer, nil },
		}},
	}
}
