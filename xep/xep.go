// Package xep is the wire vocabulary of XMPP's extensions: one file per XEP
// with its namespace, its types, how they are read and how they are written.
//
// The model: nothing here decides anything. A Parse function turns an element
// that a peer sent into a value and bounds it, or returns the *stanza.Error
// that the XEP asks for; an Append function writes canonical XML for a place
// whose default namespace is jabber:client, which is where payloads of stanzas
// stand. Who sends what to whom, and when, is for the packages that import
// this one. All functions are pure and may be called concurrently.
package xep

import (
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func badRequest(text string) *stanza.Error { return stanza.NewError(stanza.BadRequest, text) }

// appendElement appends <local xmlns='space'>text</local>, or the empty
// element for an empty text.
func appendElement(dst []byte, space, local, text string) []byte {
	dst = append(append(dst, '<'), local...)
	if space != "" {
		dst = append(append(append(dst, " xmlns='"...), space...), '\'')
	}
	if text == "" {
		return append(dst, "/>"...)
	}
	dst = xmltree.AppendText(append(dst, '>'), text)
	return append(append(append(dst, "</"...), local...), '>')
}

// appendEnd ends the element name, whose content begins at dst[content], or makes
// it an empty one.
func appendEnd(dst []byte, content int, name string) []byte {
	if len(dst) == content {
		return append(dst[:content-1], "/>"...)
	}
	return append(append(append(dst, "</"...), name...), '>')
}

// appendAttr appends an attribute.
func appendAttr(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ' '), name...), "='"...)
	return append(xmltree.AppendAttrValue(dst, value), '\'')
}

// appendOptAttr appends an attribute that is left out where it is empty.
func appendOptAttr(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendAttr(dst, name, value)
}
