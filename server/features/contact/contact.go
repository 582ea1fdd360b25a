// Package contact says whom people may write to about the server (XEP-0157).
package contact

import (
	"maps"
	"slices"

	"carillon.im/server/feature"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature. The addresses are by what they are for, as in "abuse"; where
// there are none it says nothing.
func New(lists map[string][]string) feature.Feature {
	form := []byte("<x xmlns='" + xep.NSForm + "' type='result'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>")
	some := false
	for _, purpose := range slices.Sorted(maps.Keys(lists)) {
		if len(lists[purpose]) == 0 {
			continue
		}
		some = true
		form = append(append(append(form, "<field var='"...), purpose...), "-addresses' type='list-multi'>"...)
		for _, address := range lists[purpose] {
			form = append(xmltree.AppendText(append(form, "<value>"...), address), "</value>"...)
		}
		form = append(form, "</field>"...)
	}
	f := feature.Feature{Name: "contact", Specs: []feature.Spec{{XEP: "0157", Version: "1.1.1"}}}
	if some {
		f.Disco = []feature.Disco{{Scope: feature.Server, Forms: []string{string(append(form, "</x>"...))}}}
	}
	return f
}
