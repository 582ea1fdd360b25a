package feature

import (
	"fmt"
	"slices"
	"strings"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Set is all the features of a server, checked against each other. It never
// changes; anyone may read it concurrently.
type Set struct {
	features  []Feature
	iqs       map[iqKey]IQ
	elements  map[xmltree.Name]Element
	addressed map[xmltree.Name]Addressed
}

type iqKey struct {
	scope Scope
	typ   string
	name  xmltree.Name
}

// NewSet checks the declarations and indexes them. The error names both
// features that claim one thing.
func NewSet(features ...Feature) (*Set, error) {
	s := &Set{features: features, iqs: map[iqKey]IQ{}, elements: map[xmltree.Name]Element{},
		addressed: map[xmltree.Name]Addressed{}}
	iqOwner, elementOwner, varOwner := map[iqKey]string{}, map[xmltree.Name]string{}, map[string]string{}
	for _, f := range features {
		for _, iq := range f.IQs {
			k := iqKey{iq.Scope, iq.Type, iq.Name}
			if other, taken := iqOwner[k]; taken {
				return nil, fmt.Errorf("features %s and %s both answer IQ %s of {%s}%s", other, f.Name, iq.Type, iq.Name.Space, iq.Name.Local)
			}
			iqOwner[k], s.iqs[k] = f.Name, iq
		}
		for _, el := range f.Elements {
			if other, taken := elementOwner[el.Name]; taken {
				return nil, fmt.Errorf("features %s and %s both handle {%s}%s", other, f.Name, el.Name.Space, el.Name.Local)
			}
			elementOwner[el.Name], s.elements[el.Name] = f.Name, el
		}
		for _, a := range f.Addresses {
			if other, taken := elementOwner[a.Name]; taken {
				return nil, fmt.Errorf("features %s and %s both handle {%s}%s", other, f.Name, a.Name.Space, a.Name.Local)
			}
			elementOwner[a.Name], s.addressed[a.Name] = f.Name, a
		}
		for _, d := range f.Disco {
			for _, v := range d.Vars {
				k := fmt.Sprint(d.Scope, v)
				if other, taken := varOwner[k]; taken {
					return nil, fmt.Errorf("features %s and %s both declare %s", other, f.Name, v)
				}
				varOwner[k] = f.Name
			}
		}
	}
	return s, nil
}

// IQ finds the handler for a request.
func (s *Set) IQ(scope Scope, typ string, name xmltree.Name) (IQ, bool) {
	iq, ok := s.iqs[iqKey{scope, typ, name}]
	return iq, ok
}

// Element finds the handler for a non-stanza element.
func (s *Set) Element(name xmltree.Name) (Element, bool) {
	el, ok := s.elements[name]
	return el, ok
}

// Addressed finds the element of a message that is meant for the server, the first
// if there are several.
func (s *Set) Addressed(st *stanza.Stanza) (a Addressed, el xmltree.Element, ok bool) {
	if len(s.addressed) == 0 {
		return a, el, false
	}
	for el = range st.Payloads() {
		if a, ok = s.addressed[el.Name()]; ok {
			return a, el, true
		}
	}
	return a, xmltree.Element{}, false
}

// Features are the declarations, in the order given.
func (s *Set) Features() []Feature { return slices.Clone(s.features) }

// StreamFeatures is what the set adds to <stream:features/> once a client is
// authenticated, canonical.
func (s *Set) StreamFeatures() string {
	var b strings.Builder
	for _, f := range s.features {
		for _, sf := range f.StreamFeatures {
			b.WriteString(sf)
		}
	}
	return b.String()
}
