package stream

import (
	"slices"
	"strings"

	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Offer is what a stream under TLS offers to who isn't authenticated. Its slices
// may be shared, and aren't changed.
type Offer struct {
	Mechanisms []string // SASL, most wanted first; the same in both profiles
	Bindings   []string // types of channel binding (XEP-0440)
	Tokens     []string // mechanisms of tokens (XEP-0484), in SASL2 alone
}

// Offered is what a client reads from a server's stream features.
type Offered struct {
	Offer              // Mechanisms are SASL2's
	Classic   []string // mechanisms of RFC 6120's profile
	StartTLS  bool
	Bind      bool     // RFC 6120 7, for who is authenticated
	Bind2     bool     // XEP-0386
	Resume    bool     // XEP-0198 9.2
	Inline    []string // what Bind 2 can begin: namespaces
	Upgrades  []string // XEP-0480
	Version   string   // of all this (XEP-0509), "" if the server doesn't say
	EarlyData bool     // XEP-0484 3.1: tokens may be sent in TLS's early data
}

// maxOffered bounds each list that is taken from a server.
const maxOffered = 64

// ParseFeatures reads <stream:features/>. A client prefers SASL2, if Mechanisms
// isn't empty, over Classic.
func ParseFeatures(el xmltree.Element) Offered {
	var o Offered
	texts := func(list *[]string, parent xmltree.Element, space, local string) {
		for c := range parent.Children() {
			if c.Is(space, local) && len(*list) < maxOffered {
				*list = append(*list, strings.Clone(strings.TrimSpace(c.Text())))
			}
		}
	}
	o.StartTLS = !el.Child(NSTLS, "starttls").IsZero()
	o.Bind = !el.Child(NSBind, "bind").IsZero()
	texts(&o.Classic, el.Child(NSSASL, "mechanisms"), NSSASL, "mechanism")
	for c := range el.Child(NSSASLCB, "sasl-channel-binding").Children() {
		if typ := c.Attr("type"); typ != "" && len(o.Bindings) < maxOffered {
			o.Bindings = append(o.Bindings, strings.Clone(typ))
		}
	}
	auth := el.Child(NSSASL2, "authentication")
	texts(&o.Mechanisms, auth, NSSASL2, "mechanism")
	texts(&o.Upgrades, auth, xep.NSSASLUpgrade, "upgrade")
	inline := auth.Child(NSSASL2, "inline")
	o.Resume = !inline.Child(NSSM, "sm").IsZero()
	bind := inline.Child(xep.NSBind2, "bind")
	o.Bind2 = !bind.IsZero()
	for c := range bind.Child(xep.NSBind2, "inline").Children() {
		if name := c.Attr("var"); c.Is(xep.NSBind2, "feature") && name != "" && len(o.Inline) < maxOffered {
			o.Inline = append(o.Inline, strings.Clone(name))
		}
	}
	fast := inline.Child(xep.NSFast, "fast")
	texts(&o.Tokens, fast, xep.NSFast, "mechanism")
	o.EarlyData, _ = xep.ParseBool(fast.Attr("tls-0rtt"))
	o.Version, _ = xep.ParseConfigVersion(el)
	return o
}

// CanBegin reports whether Bind 2 can begin the feature with this namespace.
func (o *Offered) CanBegin(space string) bool { return slices.Contains(o.Inline, space) }
