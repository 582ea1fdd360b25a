package xep

import (
	"strings"

	"carillon.im/xmltree"
)

// NSBind2 is XEP-0386's namespace.
const NSBind2 = "urn:xmpp:bind:0"

// MaxBindTag bounds, in bytes, the tag that becomes part of a resource.
const MaxBindTag = 64

// Bind2 asks for a session with all that belongs to it (XEP-0386 3.2). What is
// malformed in it fails alone (S-4): the parts carry their own errors.
type Bind2 struct {
	Tag     string          // "" for none, and for one that is too long
	SM      *SMEnable       // nil: not asked for
	Carbons bool            // XEP-0280
	IMNG    bool            // XEP-0409
	CSI     CSIState        // XEP-0352
	Session *SessionRequest // XMPP 2.0, nil: not asked for

	// Refused are the namespaces of what can't be had because of what came before
	// it in the request: carbons on the one side, IM-NG and XMPP 2.0's session on
	// the other (XEP-0409 4). The flags above are false, or Session nil, for them.
	Refused []string
}

// CSIState is how a session begins (XEP-0352 4.2).
type CSIState uint8

// The states of XEP-0352. A session for which nothing is said begins active.
const (
	CSIUnsaid CSIState = iota
	CSIActive
	CSIInactive
)

// ParseBind2 reads <bind/>. What it doesn't know is ignored, and of what can be
// asked for only once, the first counts.
func ParseBind2(el xmltree.Element) *Bind2 {
	b := &Bind2{}
	refuse := func(space string) { b.Refused = append(b.Refused, space) }
	for c := range el.Children() {
		switch {
		case c.Is(NSBind2, "tag"):
			if tag := c.Text(); b.Tag == "" && len(tag) <= MaxBindTag {
				b.Tag = strings.Clone(tag)
			}
		case c.Is(NSSM, "enable") && b.SM == nil:
			b.SM = ParseSMEnable(c)
		case c.Is(NSCarbons, "enable") && !b.Carbons:
			if b.IMNG || b.Session != nil {
				refuse(NSCarbons)
			} else {
				b.Carbons = true
			}
		case c.Is(NSIMNG, "enable") && !b.IMNG:
			if b.Carbons {
				refuse(NSIMNG)
			} else {
				b.IMNG = true
			}
		case c.Is(NSXMPP2, "session") && b.Session == nil:
			if b.Carbons {
				refuse(NSXMPP2)
			} else {
				b.Session = ParseSessionRequest(c)
			}
		case c.Is(NSCSI, "active") && b.CSI == CSIUnsaid:
			b.CSI = CSIActive
		case c.Is(NSCSI, "inactive") && b.CSI == CSIUnsaid:
			b.CSI = CSIInactive
		}
		if len(b.Refused) > 3 {
			b.Refused = b.Refused[:3] // the same again says nothing new
		}
	}
	return b
}

// AppendBind2 appends <bind/>. Of Refused and errors, which are a parser's, nothing
// is written.
func AppendBind2(dst []byte, b *Bind2) []byte {
	dst = append(dst, "<bind xmlns='"+NSBind2+"'>"...)
	content := len(dst)
	if b.Tag != "" {
		dst = appendElement(dst, "", "tag", b.Tag)
	}
	if b.SM != nil {
		dst = AppendSMEnable(dst, b.SM)
	}
	if b.Carbons {
		dst = append(dst, "<enable xmlns='"+NSCarbons+"'/>"...)
	}
	if b.IMNG {
		dst = append(dst, "<enable xmlns='"+NSIMNG+"'/>"...)
	}
	switch b.CSI {
	case CSIActive:
		dst = append(dst, "<active xmlns='"+NSCSI+"'/>"...)
	case CSIInactive:
		dst = append(dst, "<inactive xmlns='"+NSCSI+"'/>"...)
	}
	if b.Session != nil {
		dst = AppendSessionRequest(dst, b.Session)
	}
	return appendEnd(dst, content, "bind")
}
