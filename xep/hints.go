package xep

import "carillon.im/stanza"

// NSHints is XEP-0334's namespace.
const NSHints = "urn:xmpp:hints"

// The hints of XEP-0334 4.
const (
	HintNoPermanentStore = "no-permanent-store"
	HintNoStore          = "no-store"
	HintNoCopy           = "no-copy"
	HintStore            = "store"
)

// HasHint reports whether a message carries the hint.
func HasHint(st *stanza.Stanza, hint string) bool { return !st.Child(NSHints, hint).IsZero() }
