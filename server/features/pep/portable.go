package pep

import (
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/xep"
)

// What exports and imports need of nodes (XEP-0227 4.10): the stored configuration
// as a form, and back.

// DefaultLimits are the bounds where nothing else is said.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

// ConfigForm is a node's stored configuration as a submitted form, canonical in the
// context of pubsub#owner, and who may read the node besides. Two configurations
// give the same if they are the same.
func ConfigForm(stored []byte) (form string, members []jid.JID) {
	c := decode(stored)
	var list []xep.FormField
	for _, f := range fields() {
		if f.get != nil {
			list = append(list, xep.FormField{Var: "pubsub#" + f.name, Values: f.get(&c)})
		}
	}
	return string(xep.AppendForm(nil, "submit", xep.NSNodeConfig, "", list)), c.Members
}

// ImportConfig is what is stored for a node that comes from elsewhere, and how many
// of its items are kept, of most. Fields that are another server's own, and values
// that aren't offered here, are left out, and told. An access model that isn't
// offered makes the node its owner's alone.
func ImportConfig(node string, form xep.Form, members []jid.JID, most int) (stored []byte, keep int, left []string) {
	c := defaults(node)
	for _, f := range form.Fields {
		if f.Var == "FORM_TYPE" || one(f.Values) == "" {
			continue
		}
		before := c
		known, ok := c.set(f)
		if known && ok {
			continue
		}
		c = before
		if known {
			left = append(left, f.Var+" = "+f.Values[0])
		}
		if f.Var == "pubsub#access_model" {
			c.Access = accessWhitelist
		}
	}
	slices.SortFunc(members, func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
	members = slices.Compact(members)
	if len(members) > maxMembers {
		members, left = members[:maxMembers], append(left, "members beyond the first 100")
	}
	if len(members) > 0 {
		c.Members = members
	}
	return c.encode(), c.keep(most), left
}
