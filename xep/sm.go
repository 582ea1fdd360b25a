package xep

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSSM is XEP-0198's namespace.
const NSSM = "urn:xmpp:sm:3"

// SMEnable asks for stream management (XEP-0198 3), by itself or inside Bind 2's
// <bind/> (9.1).
type SMEnable struct {
	Resume bool
	Max    time.Duration // 0: no wish
	Err    *stanza.Error // the element was malformed, and this is why
}

// ParseSMEnable reads <enable/>.
func ParseSMEnable(el xmltree.Element) *SMEnable {
	resume, ok := ParseBool(el.Attr("resume"))
	seconds, ok2 := ParseSeconds(el.Attr("max"))
	if !ok || !ok2 {
		return &SMEnable{Err: badRequest("")}
	}
	return &SMEnable{Resume: resume, Max: seconds}
}

// AppendSMEnable appends <enable/>.
func AppendSMEnable(dst []byte, e *SMEnable) []byte {
	dst = append(dst, "<enable xmlns='"+NSSM+"'"...)
	if e.Resume {
		dst = append(dst, " resume='true'"...)
	}
	return append(appendSeconds(dst, "max", e.Max), "/>"...)
}

// SMEnabled grants stream management (XEP-0198 3).
type SMEnabled struct {
	ID     string // "" where the session can't be resumed
	Resume bool
	Max    time.Duration // for how long it can be; 0: nothing is said
}

// ParseSMEnabled reads <enabled/>.
func ParseSMEnabled(el xmltree.Element) (SMEnabled, bool) {
	resume, ok := ParseBool(el.Attr("resume"))
	seconds, ok2 := ParseSeconds(el.Attr("max"))
	return SMEnabled{ID: el.Attr("id"), Resume: resume, Max: seconds}, ok && ok2
}

// AppendSMEnabled appends <enabled/>.
func AppendSMEnabled(dst []byte, e SMEnabled) []byte {
	dst = append(dst, "<enabled xmlns='"+NSSM+"'"...)
	if e.Resume {
		dst = append(appendOptAttr(dst, "id", e.ID), " resume='true'"...)
		dst = appendSeconds(dst, "max", e.Max)
	}
	return append(dst, "/>"...)
}

// SMFailed refuses what stream management was asked for (XEP-0198 6); H counts if
// it is Known.
type SMFailed struct {
	Err   *stanza.Error
	H     uint32
	Known bool
}

// ParseSMFailed reads <failed/>.
func ParseSMFailed(el xmltree.Element) SMFailed {
	f := SMFailed{Err: stanza.NewError(errorCondition(el), "")}
	f.H, f.Known = ParseSMCount(el)
	return f
}

// AppendSMFailed appends <failed/>.
func AppendSMFailed(dst []byte, f SMFailed) []byte {
	dst = append(dst, "<failed xmlns='"+NSSM+"'"...)
	if f.Known {
		dst = appendAttr(dst, "h", strconv.FormatUint(uint64(f.H), 10))
	}
	dst = append(append(dst, "><"...), f.Err.Condition...)
	return append(dst, " xmlns='"+stanza.NSStanzaErrors+"'/></failed>"...)
}

// ParseSMCount reads the attribute h, an xs:unsignedInt (XEP-0198 4).
func ParseSMCount(el xmltree.Element) (uint32, bool) {
	h, err := strconv.ParseUint(strings.TrimSpace(el.Attr("h")), 10, 32)
	return uint32(h), err == nil
}

// errorCondition is the stanza error condition that el holds.
func errorCondition(el xmltree.Element) stanza.Condition {
	for c := range el.Children() {
		if c.Space() == stanza.NSStanzaErrors && c.Local() != "text" {
			return stanza.Condition(strings.Clone(c.Local()))
		}
	}
	return stanza.UndefinedCondition
}

// ParseBool reads an optional xs:boolean: absent is false.
func ParseBool(v string) (b, ok bool) {
	switch strings.TrimSpace(v) {
	case "true", "1":
		return true, true
	case "false", "0", "":
		return false, true
	}
	return false, false
}

// ParseSeconds reads an optional number of seconds, below 2^31: absent is 0.
func ParseSeconds(v string) (time.Duration, bool) {
	if v = strings.TrimSpace(v); v == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(v, 10, 31)
	return time.Duration(n) * time.Second, err == nil
}

// appendSeconds appends an attribute, if there is something to say.
func appendSeconds(dst []byte, name string, d time.Duration) []byte {
	if d <= 0 {
		return dst
	}
	return appendAttr(dst, name, strconv.FormatInt(int64(d/time.Second), 10))
}
