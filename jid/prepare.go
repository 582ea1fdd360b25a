package jid

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// The names of the parts in errors.
const (
	partLocal    = "localpart"
	partDomain   = "domainpart"
	partResource = "resourcepart"
)

// maxRaw bounds what is given to Unicode processing, some of which takes quadratic
// time. The limit of maxPart holds after mapping; no mapping that we apply shrinks a
// string to less than a quarter, except that IDNA drops ignorable characters, and a
// name with thousands of those is no loss.
const maxRaw = 4 * maxPart

// Profiles are stateless. None of them is changed after this.
var (
	// The class that RFC 5892 derives for U-labels and the PRECIS identifier class
	// differ in ASCII alone once a name is mapped. x/net/idna follows UTS 46, which
	// also lets symbols pass.
	labelClass = precis.NewIdentifier()

	// Maps as RFC 5895 and UTS 46 (non-transitional) say, A-labels to U-labels,
	// and checks letters-digits-hyphen, joiners and the Bidi rule.
	domainProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true))
)

// parseAny splits and prepares s, canonical or not.
func parseAny(s string) (JID, error) {
	// RFC 7622 3.2: first the resourcepart goes, from the first '/' on, then the
	// localpart, up to the first '@'.
	rest, resource, hasResource := strings.Cut(s, "/")
	if hasResource {
		var err error
		if resource, err = prepareResource(resource); err != nil {
			return JID{}, err
		}
	}
	local, domain, hasLocal := strings.Cut(rest, "@")
	if hasLocal {
		var err error
		if local, err = prepareLocal(local); err != nil {
			return JID{}, err
		}
	} else {
		local, domain = "", rest
	}
	domain, err := prepareDomain(domain)
	if err != nil {
		return JID{}, err
	}
	return join(local, domain, resource), nil
}

// prepareLocal returns the canonical form of a localpart. RFC 7622 3.3.
func prepareLocal(s string) (string, error) {
	if isCanonicalLocal(s) {
		return s, nil
	}
	return enforce(partLocal, s, enforceLocal)
}

// prepareResource returns the canonical form of a resourcepart. RFC 7622 3.4.
func prepareResource(s string) (string, error) {
	if isCanonicalResource(s) {
		return s, nil
	}
	return enforce(partResource, s, enforceResource)
}

// prepareDomain returns the canonical form of a domainpart. RFC 7622 3.2.
func prepareDomain(s string) (string, error) {
	if isCanonicalDomain(s) {
		return s, nil
	}
	// RFC 7622 3.2: the trailing dot goes before any other step, and only once.
	return enforce(partDomain, strings.TrimSuffix(s, "."), enforceDomain)
}

// enforce applies rules until the string is stable, at most three times more than
// the first (RFC 8264 7), and checks what holds for every part.
func enforce(part, s string, rules func(string) (string, string)) (string, error) {
	if len(s) > maxRaw {
		return "", &Error{part, "is too long"}
	}
	if !utf8.ValidString(s) {
		return "", &Error{part, "is not UTF-8"}
	}
	for range 4 {
		out, reason := rules(s)
		switch {
		case reason != "":
			return "", &Error{part, reason}
		case out == "":
			return "", &Error{part, "is empty"}
		case len(out) > maxPart:
			return "", &Error{part, "is too long"}
		case out == s:
			return out, nil
		}
		s = out
	}
	return "", &Error{part, "has no stable form"}
}

// enforceLocal applies the rules for localparts once. Like its siblings it returns
// the reason of a refusal, or "".
func enforceLocal(s string) (out, reason string) {
	// RFC 8265 3.3.2 checks the identifier class between width mapping and case
	// mapping; x/text checks it only at the end (RFC 8264 7). That makes a
	// difference for what has a compatibility equivalent and loses it on the way:
	// lower-casing KELVIN SIGN gives an innocent letter.
	if strings.ContainsFunc(width.Fold.String(s), hasCompat) {
		return "", "has a character that is not allowed"
	}
	out, err := precis.UsernameCaseMapped.String(s)
	if err != nil || strings.ContainsFunc(out, isExcluded) {
		return "", "has a character that is not allowed"
	}
	return out, ""
}

// hasCompat reports whether r is in the category that the identifier class
// disallows because NFKC changes it. RFC 8264 9.17.
func hasCompat(r rune) bool {
	return r >= utf8.RuneSelf && !norm.NFKC.IsNormalString(string(r))
}

// enforceResource applies the rules for resourceparts once.
func enforceResource(s string) (out, reason string) {
	if s == "" { // x/text calls it an error like any other
		return "", ""
	}
	out, err := precis.OpaqueString.String(s)
	if err != nil {
		return "", "has a character that is not allowed"
	}
	// No rule of OpaqueString says so; RFC 7622 3.5, example 18, does.
	if out[0] == ' ' {
		return "", "starts with a space"
	}
	return out, ""
}

// enforceDomain applies the rules for domainparts once.
func enforceDomain(s string) (out, reason string) {
	if s == "" {
		return "", ""
	}
	if strings.HasPrefix(s, "[") {
		return enforceIPv6(s)
	}
	out, err := domainProfile.ToUnicode(s)
	if err != nil {
		return "", "is not a domain name"
	}
	for label := range strings.SplitSeq(out, ".") {
		if label == "" {
			return "", "has an empty label"
		}
		if _, err := labelClass.String(label); err != nil {
			return "", "has a character that is not allowed"
		}
	}
	if _, err := domainProfile.ToASCII(out); err != nil {
		return "", "is not a domain name" // mostly: a label or all of it is too long
	}
	return out, ""
}

// enforceIPv6 gives an address literal the one form that RFC 5952 defines.
func enforceIPv6(s string) (out, reason string) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", "is not an IP literal"
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", "is not an IP literal"
	}
	return "[" + addr.String() + "]", ""
}
