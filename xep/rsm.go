package xep

import (
	"strconv"
	"strings"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSRSM is XEP-0059's namespace.
const NSRSM = "http://jabber.org/protocol/rsm"

// RSM is a request for a page of a result set (XEP-0059 2).
type RSM struct {
	Max    int    // -1: not given
	After  string // the page starts behind this item; "" not given
	Before string // the page ends before this item; "" not given, or the last page
	Last   bool   // <before/>, empty or not: the last items that match, not the first
}

// NoRSM is the request for a page of somebody who doesn't page.
func NoRSM() RSM { return RSM{Max: -1} }

// ParseRSM reads <set/>; the zero Element is NoRSM. Paging by index isn't
// supported: the error is feature-not-implemented then (XEP-0059 2.6). Where
// before and after are both given, which XEP-0059 leaves open, the page is the
// last one between the two.
func ParseRSM(el xmltree.Element) (RSM, error) {
	r := NoRSM()
	for c := range el.Children() {
		if c.Space() != NSRSM {
			continue
		}
		switch c.Local() {
		case "max":
			n, err := strconv.ParseUint(strings.TrimSpace(c.Text()), 10, 31)
			if err != nil {
				return RSM{}, badRequest("<max/> is not a number of items")
			}
			r.Max = int(n)
		case "after":
			// An empty <after/> is before the first item, where a page starts anyway.
			r.After = c.Text()
		case "before":
			r.Before, r.Last = c.Text(), true
		case "index":
			return RSM{}, stanza.NewError(stanza.FeatureNotImplemented, "pages by index are not supported")
		}
	}
	return r, nil
}

// AppendRSMRequest appends the <set/> that ParseRSM reads, nothing for NoRSM.
func AppendRSMRequest(dst []byte, r RSM) []byte {
	if r == NoRSM() {
		return dst
	}
	dst = append(dst, "<set xmlns='"+NSRSM+"'>"...)
	if r.Max >= 0 {
		dst = append(strconv.AppendInt(append(dst, "<max>"...), int64(r.Max), 10), "</max>"...)
	}
	if r.After != "" {
		dst = appendElement(dst, "", "after", r.After)
	}
	if r.Last || r.Before != "" {
		dst = appendElement(dst, "", "before", r.Before)
	}
	return append(dst, "</set>"...)
}

// AppendRSM appends the <set/> of a result: the ids of the page's first and
// last item, both "" for an empty page, and the number of items in the whole
// set, negative to leave it out.
func AppendRSM(dst []byte, first, last string, count int) []byte {
	dst = append(dst, "<set xmlns='"+NSRSM+"'"...)
	if first == "" && count < 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	if first != "" {
		dst = appendElement(dst, "", "first", first)
		dst = appendElement(dst, "", "last", last)
	}
	if count >= 0 {
		dst = append(dst, "<count>"...)
		dst = strconv.AppendInt(dst, int64(count), 10)
		dst = append(dst, "</count>"...)
	}
	return append(dst, "</set>"...)
}
