package xep

import (
	"encoding/base64"
	"strconv"
	"strings"

	"carillon.im/xmltree"
)

// The namespaces of XEP-0388, of XEP-0480, whose upgrades are announced and asked
// for beside its mechanisms, and of the one kind of upgrade that XEP-0480 defines.
const (
	NSSASL2        = "urn:xmpp:sasl:2"
	NSSASLUpgrade  = "urn:xmpp:sasl:upgrade:0"
	NSSCRAMUpgrade = "urn:xmpp:scram-upgrade:0"
)

// MaxUserAgentText bounds, in bytes, what a client may say of its software and
// its device.
const MaxUserAgentText = 256

// UserAgent is what a client says about itself when it logs in (XEP-0388 2.3).
// It is told to nobody but the account's owner. All fields may be empty.
type UserAgent struct {
	ID       string // of the installation: a UUID in lower case
	Software string
	Device   string
}

// ParseUserAgent reads <user-agent/>; the zero Element is the zero UserAgent. It
// fails with bad-request for an id that is no UUID and for texts that are too
// long. The version of the UUID isn't looked at: what matters is that it is one
// installation's.
func ParseUserAgent(el xmltree.Element) (UserAgent, error) {
	if el.IsZero() {
		return UserAgent{}, nil
	}
	// Cloned: it outlives the element.
	ua := UserAgent{
		ID:       strings.ToLower(strings.Clone(el.Attr("id"))),
		Software: strings.Clone(el.Child(NSSASL2, "software").Text()),
		Device:   strings.Clone(el.Child(NSSASL2, "device").Text()),
	}
	if ua.ID != "" && !isUUID(ua.ID) {
		return UserAgent{}, badRequest("the user agent's id is not a UUID")
	}
	if len(ua.Software) > MaxUserAgentText || len(ua.Device) > MaxUserAgentText {
		return UserAgent{}, badRequest("the user agent says too much")
	}
	return ua, nil
}

// isUUID is the schema's pattern (XEP-0388 8), in lower case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// AppendUserAgent appends <user-agent/> for a place in XEP-0388's namespace, and
// nothing for the zero UserAgent.
func AppendUserAgent(dst []byte, ua UserAgent) []byte {
	if ua == (UserAgent{}) {
		return dst
	}
	dst = append(appendOptAttr(append(dst, "<user-agent"...), "id", ua.ID), '>')
	content := len(dst)
	if ua.Software != "" {
		dst = appendElement(dst, "", "software", ua.Software)
	}
	if ua.Device != "" {
		dst = appendElement(dst, "", "device", ua.Device)
	}
	return appendEnd(dst, content, "user-agent")
}

// AppendSCRAMSalt appends what a client needs to make the SaltedPassword of an
// upgrade (XEP-0480 3), for a place in XEP-0388's <task-data/>.
func AppendSCRAMSalt(dst, salt []byte, iterations int) []byte {
	dst = append(dst, "<salt xmlns='"+NSSCRAMUpgrade+"' iterations='"...)
	dst = append(strconv.AppendInt(dst, int64(iterations), 10), "'>"...)
	return append(base64.StdEncoding.AppendEncode(dst, salt), "</salt>"...)
}

// ParseSCRAMSalt reads what AppendSCRAMSalt wrote, out of <task-data/>.
func ParseSCRAMSalt(taskData xmltree.Element) (salt []byte, iterations int, ok bool) {
	el := taskData.Child(NSSCRAMUpgrade, "salt")
	salt, ok = parseBase64(el.Text())
	n, err := strconv.ParseUint(el.Attr("iterations"), 10, 31)
	return salt, int(n), ok && err == nil && n > 0
}

// AppendSCRAMHash appends a SaltedPassword (XEP-0480 3), a secret.
func AppendSCRAMHash(dst, salted []byte) []byte {
	dst = append(dst, "<hash xmlns='"+NSSCRAMUpgrade+"'>"...)
	return append(base64.StdEncoding.AppendEncode(dst, salted), "</hash>"...)
}

// ParseSCRAMHash reads what AppendSCRAMHash wrote, out of <task-data/>.
func ParseSCRAMHash(taskData xmltree.Element) (salted []byte, ok bool) {
	return parseBase64(taskData.Child(NSSCRAMUpgrade, "hash").Text())
}

// parseBase64 reads base64 that isn't empty, with white space around it, as the
// examples have it.
func parseBase64(text string) ([]byte, bool) {
	text = strings.Trim(text, " \t\r\n")
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil
}
