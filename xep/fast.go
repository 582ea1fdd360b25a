package xep

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/xmltree"
)

// NSFast is XEP-0484's namespace.
const NSFast = "urn:xmpp:fast:0"

// Fast says that a login is by token (XEP-0484 3.4).
type Fast struct {
	Count      uint64 // of the attempts with this token, 0 for a client that doesn't count
	Invalidate bool   // the token is to be worth nothing afterwards (3.6)
}

// ParseFast reads <fast/> of a client. It fails with bad-request for a count that
// isn't a positive integer and for an invalidate that is no boolean.
func ParseFast(el xmltree.Element) (Fast, error) {
	var f Fast
	if v, ok := el.LookupAttr("", "count"); ok {
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 63)
		if err != nil || n == 0 {
			return Fast{}, badRequest("the count is not a positive integer")
		}
		f.Count = n
	}
	var ok bool
	if f.Invalidate, ok = ParseBool(el.Attr("invalidate")); !ok {
		return Fast{}, badRequest("invalidate is not a boolean")
	}
	return f, nil
}

// AppendFast appends a client's <fast/>.
func AppendFast(dst []byte, f Fast) []byte {
	dst = append(dst, "<fast xmlns='"+NSFast+"'"...)
	if f.Count > 0 {
		dst = appendAttr(dst, "count", strconv.FormatUint(f.Count, 10))
	}
	if f.Invalidate {
		dst = append(dst, " invalidate='true'"...)
	}
	return append(dst, "/>"...)
}

// AppendRequestToken asks for a token for one of the server's mechanisms
// (XEP-0484 3.2).
func AppendRequestToken(dst []byte, mechanism string) []byte {
	return append(appendAttr(append(dst, "<request-token xmlns='"+NSFast+"'"...), "mechanism", mechanism), "/>"...)
}

// FastToken is a token that the server gives to a client (XEP-0484 3.3).
type FastToken struct {
	Token  string // a secret: it must not be logged
	Expiry time.Time
}

// AppendFastToken appends <token/>.
func AppendFastToken(dst []byte, t FastToken) []byte {
	dst = AppendDateTime(append(dst, "<token xmlns='"+NSFast+"' expiry='"...), t.Expiry)
	return append(appendAttr(append(dst, '\''), "token", t.Token), "/>"...)
}

// ParseFastToken reads <token/>. It fails with bad-request if there is no token in
// it or no time.
func ParseFastToken(el xmltree.Element) (FastToken, error) {
	expiry, err := ParseDateTime(el.Attr("expiry"))
	t := FastToken{Token: strings.Clone(el.Attr("token")), Expiry: expiry}
	if err != nil || t.Token == "" {
		return FastToken{}, badRequest("not a token")
	}
	return t, nil
}

// String keeps the secret out of what is printed.
func (t FastToken) String() string { return "token until " + string(AppendDateTime(nil, t.Expiry)) }

// GoString is String.
func (t FastToken) GoString() string { return t.String() }
