package xep

import (
	"strconv"
	"time"
)

// NSExtDisco is XEP-0215's namespace.
const NSExtDisco = "urn:xmpp:extdisco:2"

// ExternalService is a service beside XMPP (XEP-0215 3).
type ExternalService struct {
	Type, Host         string
	Port               int    // 0: isn't said
	Transport          string // "tcp" or "udp", "" isn't said
	Username, Password string
	Expires            time.Time // zero: never
	Restricted         bool      // it wants credentials
}

// AppendExternalServices appends <services/>, or <credentials/>; typ is the one asked
// for, "" for all.
func AppendExternalServices(dst []byte, element, typ string, list []ExternalService) []byte {
	dst = appendOptAttr(append(append(append(dst, '<'), element...), " xmlns='"+NSExtDisco+"'"...), "type", typ)
	dst = append(dst, '>')
	for _, s := range list {
		dst = appendAttr(append(dst, "<service"...), "type", s.Type)
		dst = appendAttr(dst, "host", s.Host)
		if s.Port > 0 {
			dst = appendAttr(dst, "port", strconv.Itoa(s.Port))
		}
		dst = appendOptAttr(dst, "transport", s.Transport)
		if s.Restricted {
			dst = appendAttr(dst, "restricted", "1")
		}
		dst = appendOptAttr(dst, "username", s.Username)
		dst = appendOptAttr(dst, "password", s.Password)
		if !s.Expires.IsZero() {
			dst = appendAttr(dst, "expires", s.Expires.UTC().Format(time.RFC3339))
		}
		dst = append(dst, "/>"...)
	}
	return append(append(append(dst, "</"...), element...), '>')
}
