package jid

// What an ASCII octet may be part of without being changed by preparation.
const (
	inLocal    = 1 << iota
	inLabel    // of a domainpart: lower-case letter, digit or hyphen
	inResource //
)

// class tells for each octet where it is canonical. Octets that are not ASCII are
// canonical nowhere, and so are left to the long way.
var class = func() (t [256]uint8) {
	for c := ' '; c <= '~'; c++ {
		t[c] |= inResource
		switch {
		case c == ' ', 'A' <= c && c <= 'Z', isExcluded(c):
		default:
			t[c] |= inLocal
		}
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' {
			t[c] |= inLabel
		}
	}
	return t
}()

// isExcluded reports whether a localpart must not have r although PRECIS would
// allow it. RFC 7622 3.3.1.
func isExcluded(r rune) bool {
	switch r {
	case '"', '&', '\'', '/', ':', '<', '>', '@':
		return true
	}
	return false
}

// parseCanonical splits s if it is a canonical ASCII address. When it reports false
// s may still be an address: parseAny decides.
func parseCanonical(s string) (JID, bool) {
	// Neither separator is inLocal, so the first octet that isn't ends the
	// localpart, or the domainpart if there is no localpart.
	end := 0
	for end < len(s) && class[s[end]]&inLocal != 0 {
		end++
	}
	local := 0
	start := 0
	if end < len(s) && s[end] == '@' {
		if end == 0 || end > maxPart {
			return JID{}, false
		}
		local = end
		start = end + 1
		for end = start; end < len(s) && s[end] != '/'; end++ {
		}
	}
	if !isCanonicalDomain(s[start:end]) {
		return JID{}, false
	}
	if end < len(s) && (s[end] != '/' || !isCanonicalResource(s[end+1:])) {
		return JID{}, false
	}
	return JID{s: s, local: uint16(local), domain: uint16(end - start)}, true
}

// isCanonicalLocal reports whether s is an ASCII localpart that preparation leaves
// as it is.
func isCanonicalLocal(s string) bool {
	if s == "" || len(s) > maxPart {
		return false
	}
	for i := 0; i < len(s); i++ {
		if class[s[i]]&inLocal == 0 {
			return false
		}
	}
	return true
}

// isCanonicalResource is isCanonicalLocal for resourceparts.
func isCanonicalResource(s string) bool {
	if s == "" || len(s) > maxPart || s[0] == ' ' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if class[s[i]]&inResource == 0 {
			return false
		}
	}
	return true
}

// Limits of domain names in their ASCII form, which RFC 7622 3.2 keeps (RFC 1034 3.1).
const (
	maxName  = 253
	maxLabel = 63
)

// isCanonicalDomain is isCanonicalLocal for domainparts. It leaves labels with a
// double hyphen in the third place, A-labels among them, to the long way.
func isCanonicalDomain(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	label := 0 // where the current one starts
	for i := 0; i <= len(s); i++ {
		if i < len(s) && class[s[i]]&inLabel != 0 {
			continue
		}
		if i < len(s) && s[i] != '.' {
			return false
		}
		n := i - label
		if n == 0 || n > maxLabel || s[label] == '-' || s[i-1] == '-' {
			return false
		}
		if n >= 4 && s[label+2] == '-' && s[label+3] == '-' {
			return false
		}
		label = i + 1
	}
	return true
}
