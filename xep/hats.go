package xep

import (
	"strconv"
	"strings"

	"carillon.im/stanza"
)

// NSHats is XEP-0317's namespace, NSHatCommands its forms' type and the start of its
// commands' names.
const (
	NSHats        = "urn:xmpp:hats:0"
	NSHatCommands = "urn:xmpp:hats:commands"
)

// Fields of XEP-0317's forms.
const (
	HatJID   = "hats#jid"
	HatTitle = "hats#title"
	HatURI   = "hats#uri"
	HatHue   = "hats#hue"
	HatHash  = "hats#hash" // in muc#roominfo
)

// Bounds of a hat, in bytes.
const (
	maxHatURI   = 256
	maxHatTitle = 128
)

// Hat is what an occupant may wear (XEP-0317 3.1).
type Hat struct {
	URI   string `json:"uri"`
	Title string `json:"title"`
	Hue   string `json:"hue,omitempty"` // an angle, "" for none
}

// AppendHats appends <hats/>, nothing for none.
func AppendHats(dst []byte, hats []Hat) []byte {
	if len(hats) == 0 {
		return dst
	}
	dst = append(dst, "<hats xmlns='"+NSHats+"'>"...)
	for _, h := range hats {
		dst = appendAttr(appendAttr(append(dst, "<hat"...), "title", h.Title), "uri", h.URI)
		dst = append(appendOptAttr(dst, "hue", h.Hue), "/>"...)
	}
	return append(dst, "</hats>"...)
}

// ParseHat reads a hat out of a form that makes one. What it lacks, or what is no
// angle, is not-acceptable.
func ParseHat(f Form) (Hat, error) {
	uri, _ := f.Value(HatURI)
	title, _ := f.Value(HatTitle)
	hue, _ := f.Value(HatHue)
	angle, err := strconv.ParseFloat(hue, 64)
	switch {
	case uri == "" || len(uri) > maxHatURI || title == "" || len(title) > maxHatTitle:
		return Hat{}, stanza.NewError(stanza.NotAcceptable, "a hat has a URI and a title, neither of them long")
	case hue != "" && (err != nil || len(hue) > 20 || !(angle >= 0 && angle <= 360)):
		return Hat{}, stanza.NewError(stanza.NotAcceptable, "a hue is an angle")
	}
	return Hat{strings.Clone(uri), strings.Clone(title), strings.Clone(hue)}, nil
}

// AppendTable appends a form of type result with many items (XEP-0004 3.4).
func AppendTable(dst []byte, title string, columns []string, rows [][]string) []byte {
	dst = append(dst, "<x xmlns='"+NSForm+"' type='result'>"...)
	dst = append(appendElement(dst, "", "title", title), "<reported>"...)
	for _, c := range columns {
		dst = append(appendAttr(append(dst, "<field"...), "var", c), "/>"...)
	}
	dst = append(dst, "</reported>"...)
	for _, row := range rows {
		dst = append(dst, "<item>"...)
		for i, v := range row {
			dst = append(appendAttr(append(dst, "<field"...), "var", columns[i]), '>')
			dst = append(appendElement(dst, "", "value", v), "</field>"...)
		}
		dst = append(dst, "</item>"...)
	}
	return append(dst, "</x>"...)
}
