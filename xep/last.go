package xep

import (
	"strconv"
	"time"

	"carillon.im/xmltree"
)

// NSLast is XEP-0012's namespace.
const NSLast = "jabber:iq:last"

// AppendLast appends the answer of XEP-0012 2: full seconds since the last
// activity, never negative, and the status that was left, "" for none.
func AppendLast(dst []byte, since time.Duration, status string) []byte {
	dst = append(dst, "<query xmlns='"+NSLast+"' seconds='"...)
	dst = strconv.AppendInt(dst, int64(max(since, 0)/time.Second), 10)
	if status == "" {
		return append(dst, "'/>"...)
	}
	return append(xmltree.AppendText(append(dst, "'>"...), status), "</query>"...)
}
