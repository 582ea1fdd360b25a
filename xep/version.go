package xep

// NSVersion is XEP-0092's namespace.
const NSVersion = "jabber:iq:version"

// AppendVersion appends the answer of XEP-0092 2; os "" is left out.
func AppendVersion(dst []byte, name, version, os string) []byte {
	dst = append(dst, "<query xmlns='"+NSVersion+"'>"...)
	dst = appendElement(dst, "", "name", name)
	dst = appendElement(dst, "", "version", version)
	if os != "" {
		dst = appendElement(dst, "", "os", os)
	}
	return append(dst, "</query>"...)
}
