package xep

import "strconv"

// NSStreamLimits is XEP-0478's namespace.
const NSStreamLimits = "urn:xmpp:stream-limits:0"

// AppendStreamLimits appends the stream feature (XEP-0478 3.1): the bytes of
// the largest element that is accepted, and the seconds of silence after which
// a stream counts as idle. What is zero is left out.
func AppendStreamLimits(dst []byte, maxBytes, idleSeconds int) []byte {
	dst = append(dst, "<limits xmlns='"+NSStreamLimits+"'"...)
	if maxBytes <= 0 && idleSeconds <= 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	if maxBytes > 0 {
		dst = appendElement(dst, "", "max-bytes", strconv.Itoa(maxBytes))
	}
	if idleSeconds > 0 {
		dst = appendElement(dst, "", "idle-seconds", strconv.Itoa(idleSeconds))
	}
	return append(dst, "</limits>"...)
}
