// Package jid holds XMPP addresses (RFC 7622).
//
// A JID is a small comparable value: one canonical string
// "localpart@domainpart/resourcepart" and the lengths of its first two parts.
// Two addresses are the same address exactly when they are ==, so a JID is a map
// key as it is, and every accessor is a substring that costs no allocation. The
// only ways to a JID that isn't zero are Parse, New and what is derived from their
// results, so a JID that exists has been prepared and enforced: the localpart by
// PRECIS UsernameCaseMapped, the resourcepart by OpaqueString (both RFC 8265), the
// domainpart by IDNA2008 in its Unicode form.
//
// Almost every address on the wire is ASCII and canonical already. parseCanonical
// recognises that in one pass over a table and keeps the input string itself;
// everything else takes the long way through golang.org/x/text and golang.org/x/net.
// The two must agree, which a fuzz test holds them to.
//
// The long way uses the Unicode tables that the Go toolchain selects: nodes that
// share data must be built by the same one.
package jid

// maxPart is the most octets that a part may have after preparation (RFC 7622 3.2,
// 3.3, 3.4).
const maxPart = 1023

// JID is an XMPP address. The zero value is no address; it is what IsZero reports
// and is not the result of any successful Parse. JIDs are immutable and safe for
// concurrent use; compare them with ==.
//
// A JID from Parse may share the memory of the string that was parsed.
type JID struct {
	s      string // canonical form; "" only in the zero value
	local  uint16 // octets of the localpart; 0: there is none and no '@' either
	domain uint16 // octets of the domainpart; 0 only in the zero value
}

// An Error says why a string is not an address. Whoever received such a string in
// a stanza answers <jid-malformed/> (RFC 6120 8.3.3.8). It never repeats the input,
// which may be long, hostile or somebody's secret.
type Error struct {
	Part   string // "localpart", "domainpart" or "resourcepart"
	Reason string
}

// Error returns the part and the reason as one line.
func (e *Error) Error() string { return "jid: " + e.Part + " " + e.Reason }

// Parse reads an address in its wire form, preparing and enforcing all of its
// parts. Its errors are of type *Error. An input that is canonical ASCII costs no
// allocation and is kept as it is: clone it first if it is a small piece of a large
// buffer.
func Parse(s string) (JID, error) {
	if j, ok := parseCanonical(s); ok {
		return j, nil
	}
	return parseAny(s)
}

// MustParse is Parse for constants and tests. It panics where Parse returns an error.
func MustParse(s string) JID {
	j, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return j
}

// New makes an address of its parts, which are prepared and enforced one by one: an
// '@' or '/' in a part is never taken for a separator. An empty local or resource
// means that there is none; domain is required. Its errors are of type *Error.
func New(local, domain, resource string) (JID, error) {
	domain, err := prepareDomain(domain)
	if err != nil {
		return JID{}, err
	}
	if local != "" {
		if local, err = prepareLocal(local); err != nil {
			return JID{}, err
		}
	}
	if resource != "" {
		if resource, err = prepareResource(resource); err != nil {
			return JID{}, err
		}
	}
	return join(local, domain, resource), nil
}

// join puts canonical parts together.
func join(local, domain, resource string) JID {
	j := JID{local: uint16(len(local)), domain: uint16(len(domain))}
	switch {
	case local == "" && resource == "":
		j.s = domain
	case local == "":
		j.s = domain + "/" + resource
	case resource == "":
		j.s = local + "@" + domain
	default:
		j.s = local + "@" + domain + "/" + resource
	}
	return j
}

// bareLen is the length of the bare address's text.
func (j JID) bareLen() int {
	if j.local == 0 {
		return int(j.domain)
	}
	return int(j.local) + 1 + int(j.domain)
}

// Local returns the localpart, or "" where there is none.
func (j JID) Local() string { return j.s[:j.local] }

// Domain returns the domainpart, in Unicode and without a trailing dot. It is ""
// for the zero value only.
func (j JID) Domain() string {
	n := j.bareLen()
	return j.s[n-int(j.domain) : n]
}

// Resource returns the resourcepart, or "" where there is none.
func (j JID) Resource() string {
	n := j.bareLen()
	if n == len(j.s) {
		return ""
	}
	return j.s[n+1:]
}

// String returns the canonical wire form, or "" for the zero value.
func (j JID) String() string { return j.s }

// Bare returns the address without its resourcepart.
func (j JID) Bare() JID {
	j.s = j.s[:j.bareLen()]
	return j
}

// DomainJID returns the domainpart alone as an address.
func (j JID) DomainJID() JID {
	return JID{s: j.Domain(), domain: j.domain}
}

// IsZero reports whether j is no address at all.
func (j JID) IsZero() bool { return j.s == "" }

// IsBare reports whether j is an address without a resourcepart; a domain alone is
// one too. It is false for the zero value.
func (j JID) IsBare() bool { return j.s != "" && len(j.s) == j.bareLen() }

// IsFull reports whether j has a resourcepart.
func (j JID) IsFull() bool { return len(j.s) > j.bareLen() }

// IsDomain reports whether j is a domainpart and nothing else.
func (j JID) IsDomain() bool { return j.s != "" && len(j.s) == int(j.domain) }

// WithResource returns the bare address of j with the resourcepart r, prepared and
// enforced; an empty r gives the bare address. It fails with an *Error for a bad r
// and for a zero j.
func (j JID) WithResource(r string) (JID, error) {
	if j.IsZero() {
		return JID{}, &Error{partDomain, "is missing"}
	}
	if r == "" {
		return j.Bare(), nil
	}
	r, err := prepareResource(r)
	if err != nil {
		return JID{}, err
	}
	j.s = j.s[:j.bareLen()] + "/" + r
	return j, nil
}

// MarshalText returns String as bytes; the zero value is empty text.
func (j JID) MarshalText() ([]byte, error) { return []byte(j.s), nil }

// UnmarshalText is Parse, except that empty text is the zero value.
func (j *JID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*j = JID{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*j = parsed
	return nil
}
