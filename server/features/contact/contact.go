// Package contact says whom people may write to about the server (XEP-0157), and where
// it says that it is down (XEP-0455).
package contact

import (
	"maps"
	"slices"

	"carillon.im/server/feature"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature. The addresses are by what they are for, as in "abuse"; outages are
// web addresses of what XEP-0455 2.2 describes. Where there are none it says nothing.
func New(lists map[string][]string, outages []string) feature.Feature {
	f := feature.Feature{Name: "contact", Specs: []feature.Spec{{XEP: "0157", Version: "1.1.1"}, {XEP: "0455", Version: "0.4.0", Note: "the address"}}}
	var forms []string
	info := newForm("http://jabber.org/network/serverinfo")
	for _, purpose := range slices.Sorted(maps.Keys(lists)) {
		info.add(purpose+"-addresses", lists[purpose])
	}
	down := newForm("urn:xmpp:sos:0")
	down.add("external-status-addresses", outages)
	for _, one := range []*form{info, down} {
		if one.some {
			forms = append(forms, string(one.text)+"</x>")
		}
	}
	if len(forms) > 0 {
		f.Disco = []feature.Disco{{Scope: feature.Server, Forms: forms}}
	}
	return f
}

// form is a data form being written (XEP-0128).
type form struct {
	text []byte
	some bool // it has a field
}

func newForm(kind string) *form {
	return &form{text: []byte("<x xmlns='" + xep.NSForm + "' type='result'><field var='FORM_TYPE' type='hidden'><value>" + kind + "</value></field>")}
}

// add adds a field, if there are values.
func (f *form) add(name string, values []string) {
	if len(values) == 0 {
		return
	}
	f.some = true
	f.text = append(f.text, "<field var='"+name+"' type='list-multi'>"...)
	for _, v := range values {
		f.text = append(xmltree.AppendText(append(f.text, "<value>"...), v), "</value>"...)
	}
	f.text = append(f.text, "</field>"...)
}
