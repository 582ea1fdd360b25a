package xep

import (
	"strings"

	"carillon.im/xmltree"
)

// NSIAP is XEP-0509's namespace.
const NSIAP = "urn:xmpp:iap:0"

// ConfigVersionMismatch is the application-specific condition of a login that was
// begun without having seen the features as they are (XEP-0509 2.2).
const ConfigVersionMismatch = "<config-version-mismatch xmlns='" + NSIAP + "'/>"

// maxConfigVersion bounds what is taken as a version, in bytes.
const maxConfigVersion = 256

// AppendConfigVersion appends <config-version/>: what a server's features are worth,
// in its features, or which of them a client knows, in its login (XEP-0509 2).
func AppendConfigVersion(dst []byte, version string) []byte {
	return append(appendAttr(append(dst, "<config-version xmlns='"+NSIAP+"' scheme='opaque'"...), "value", version), "/>"...)
}

// ParseConfigVersion reads the <config-version/> that stands in parent, if there is
// one. A scheme or a value that can't be ours is given as "", which matches nothing.
func ParseConfigVersion(parent xmltree.Element) (version string, ok bool) {
	el := parent.Child(NSIAP, "config-version")
	if el.IsZero() {
		return "", false
	}
	version = el.Attr("value")
	if len(version) > maxConfigVersion {
		version = ""
	}
	return strings.Clone(version), true
}
