package xep

import "time"

// NSTime is XEP-0202's namespace.
const NSTime = "urn:xmpp:time"

// AppendTime appends the answer of XEP-0202 2: the time to the second and the
// offset of t's zone.
func AppendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, "<time xmlns='"+NSTime+"'><tzo>"...)
	dst = t.AppendFormat(dst, "-07:00")
	dst = AppendDateTime(append(dst, "</tzo><utc>"...), t.Truncate(time.Second))
	return append(dst, "</utc></time>"...)
}
