package sasl

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxMessage is the most octets that a message of either side may have. Real ones
// have some hundred.
const maxMessage = 4096

// nonceSize is the entropy of our nonces in octets, before base64.
const nonceSize = 18

// newNonce returns a nonce of printable ASCII without a comma.
func newNonce(rand io.Reader) (string, error) {
	var b [nonceSize]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("sasl: reading randomness: %w", err)
	}
	return encode(b[:]), nil
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// decode reads base64 strictly: no line breaks, which encoding/base64 skips, and no
// stray bits.
func decode(s string) ([]byte, bool) {
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil
}

// gs2Header is what a SCRAM client says before the message proper. RFC 5802 7.
type gs2Header struct {
	flag    byte   // 'n', 'y' or 'p'
	binding string // the type, for 'p'
	authzid string
}

// clientFirst is the first message of a client.
type clientFirst struct {
	gs2      gs2Header
	header   string // the GS2 header as it came, to be repeated in the next message
	bare     string // the rest as it came, part of what is signed
	username string
	nonce    string
}

// serverFirst is the first message of a server.
type serverFirst struct {
	nonce      string
	salt       []byte
	iterations int
	protection string // XEP-0474's hash; "" if absent
}

// clientFinal is the second message of a client.
type clientFinal struct {
	binding      []byte // GS2 header and channel binding data
	nonce        string
	withoutProof string // part of what is signed
	proof        []byte
}

// A messageReader takes a SCRAM message apart, attribute by attribute, in the order
// that RFC 5802 7 fixes.
type messageReader struct {
	rest string
	bad  bool
}

// readMessage begins with the checks that hold for all messages.
func readMessage(in []byte) messageReader {
	s := string(in)
	return messageReader{s, len(s) == 0 || len(s) > maxMessage || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0}
}

// attribute takes the next attribute, which has to be the named one.
func (r *messageReader) attribute(name byte) string {
	if r.bad || len(r.rest) < 3 || r.rest[0] != name || r.rest[1] != '=' || r.rest[2] == ',' {
		r.bad = true
		return ""
	}
	value, rest, more := strings.Cut(r.rest[2:], ",")
	if more && rest == "" {
		r.bad = true
	}
	r.rest = rest
	return value
}

// peek returns the name of the next attribute, 0 at the end of the message.
func (r *messageReader) peek() byte {
	if r.bad || r.rest == "" {
		return 0
	}
	return r.rest[0]
}

// extensions takes all that follows up to the named attribute, 0 for the end, and
// hands it to each, if each isn't nil. What we don't know is ignored, except "m",
// which is there to be refused (RFC 5802 5.1).
func (r *messageReader) extensions(until byte, each func(name byte, value string)) {
	for n := r.peek(); n != 0 && n != until; n = r.peek() {
		if lower := n | 0x20; lower < 'a' || lower > 'z' || n == 'm' {
			r.bad = true
			return
		}
		value := r.attribute(n)
		if each != nil && !r.bad {
			each(n, value)
		}
	}
}

// nonce takes a nonce.
func (r *messageReader) nonce() string {
	s := r.attribute('r')
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] > 0x7e {
			r.bad = true
		}
	}
	return s
}

// octets takes an attribute in base64.
func (r *messageReader) octets(name byte) []byte {
	b, ok := decode(r.attribute(name))
	r.bad = r.bad || !ok
	return b
}

// name takes a saslname. RFC 5802 5.1.
func (r *messageReader) name(name byte) string {
	s := r.attribute(name)
	if strings.IndexByte(s, '=') < 0 {
		return s
	}
	var b strings.Builder
	for {
		plain, rest, escaped := strings.Cut(s, "=")
		b.WriteString(plain)
		switch {
		case !escaped:
			return b.String()
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			r.bad = true
			return ""
		}
		s = rest[2:]
	}
}

// escapeName writes a saslname.
func escapeName(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "=", "=3D"), ",", "=2C")
}

// parseClientFirst reads a client-first-message. The error is the text for it.
func parseClientFirst(in []byte) (m clientFirst, problem string) {
	r := readMessage(in)
	if r.bad {
		return m, "not a SCRAM message"
	}
	whole := r.rest
	switch m.gs2.flag = r.peek(); m.gs2.flag {
	case 'p':
		m.gs2.binding = r.attribute('p')
		r.bad = r.bad || strings.ContainsFunc(m.gs2.binding, notInBindingName)
	case 'n', 'y':
		if len(r.rest) < 2 || r.rest[1] != ',' {
			return m, "bad GS2 header"
		}
		r.rest = r.rest[2:]
	default:
		return m, "bad GS2 header"
	}
	if r.peek() == 'a' {
		m.gs2.authzid = r.name('a')
	} else if r.peek() == ',' {
		r.rest = r.rest[1:]
	} else {
		r.bad = true
	}
	if r.bad {
		return m, "bad GS2 header"
	}
	m.bare = r.rest
	m.header = whole[:len(whole)-len(m.bare)]
	if r.peek() == 'm' {
		return m, "mandatory extensions are not supported"
	}
	m.username = r.name('n')
	m.nonce = r.nonce()
	r.extensions(0, nil)
	if r.bad {
		return m, "bad first message"
	}
	return m, ""
}

// notInBindingName is the negation of RFC 5802 7's cb-name.
func notInBindingName(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-')
}

// parseServerFirst reads a server-first-message.
func parseServerFirst(in []byte) (m serverFirst, ok bool) {
	r := readMessage(in)
	m.nonce = r.nonce()
	m.salt = r.octets('s')
	count := r.attribute('i')
	if count != "" && ('1' > count[0] || count[0] > '9') { // posit-number; Atoi takes signs and zeros
		r.bad = true
	}
	var err error
	if m.iterations, err = strconv.Atoi(count); err != nil {
		r.bad = true
	}
	r.extensions(0, func(name byte, value string) {
		if name == 'h' {
			m.protection = value
		}
	})
	return m, !r.bad
}

// parseClientFinal reads a client-final-message.
func parseClientFinal(in []byte) (m clientFinal, ok bool) {
	r := readMessage(in)
	whole := r.rest
	m.binding = r.octets('c')
	m.nonce = r.nonce()
	r.extensions('p', nil)
	if !r.bad && r.rest != "" {
		m.withoutProof = whole[:len(whole)-len(r.rest)-1]
	}
	m.proof = r.octets('p')
	return m, !r.bad && r.rest == ""
}

// parseServerFinal reads a server-final-message: the server's signature.
func parseServerFinal(in []byte) (signature []byte, ok bool) {
	r := readMessage(in)
	signature = r.octets('v')
	r.extensions(0, nil)
	return signature, !r.bad
}
