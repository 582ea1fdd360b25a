// Package xmltree reads and writes XML elements with namespaces, for protocols
// that keep one document open and send complete elements inside it. It knows
// nothing of XMPP.
//
// The model: a [Scanner] is fed bytes as they arrive, in any split, and hands
// out the root's start tag and then every complete child of the root as an
// immutable [Element]. While it reads, it writes the canonical form of the
// element and notes offsets into it; the finished element is that one string
// and two flat tables. What was received is therefore never passed on as it
// came: [Element.Raw], [Element.Inner] and [Element.AppendTo] give canonical
// bytes, and a [Writer] makes nothing else.
//
// Canonical form: elements have no prefix; an element whose namespace is not
// its parent's carries xmlns='…' as its first attribute; other attributes
// follow in the order of input, in single quotes; a namespaced attribute has
// the prefix xml (for that namespace) or a1, a2, … declared just before its
// first use on the same element. Text escapes & < > and carriage return,
// attribute values & < ' and tab, line feed, carriage return. CDATA sections
// become text, empty elements are written <a/>. Parsing canonical bytes gives
// the same bytes again.
//
// Strings obtained from an element share its memory: who keeps a short one for
// long should clone it.
package xmltree

import (
	"iter"
	"strings"
)

// Namespaces that XML itself reserves.
const (
	XMLSpace   = "http://www.w3.org/XML/1998/namespace"
	XMLNSSpace = "http://www.w3.org/2000/xmlns/"
)

// Name is a name with its namespace; Space is empty for none.
type Name struct{ Space, Local string }

// Attr is an attribute with its value as meant, not as escaped.
type Attr struct {
	Name  Name
	Value string
}

// doc is one parsed element with everything in it. Nodes stand in document
// order, and so do attributes; both hold offsets into s only, so that the
// garbage collector need not look at them.
type doc struct {
	s       string
	nodes   []node
	attrs   []attr
	context string // default namespace where s stands
}

// node is one element of a doc. Its local name is s[start+1:nameEnd].
type node struct {
	start, nameEnd  uint32
	space, spaceEnd uint32 // escaped namespace name; space 0 means doc.context
	head            uint32 // where the content starts; end if there is none
	end             uint32
	last            uint32 // index of the first node after this one's subtree
	attr            uint32 // index of its first attribute; the next node's ends them
}

// attr is one attribute. Its value is s[nameEnd+2:valueEnd], escaped.
type attr struct {
	name, nameEnd   uint32 // local name
	valueEnd        uint32
	space, spaceEnd uint32 // space is attrPlain, attrXML or an offset
}

const (
	attrPlain = 0 // no namespace
	attrXML   = 1 // XMLSpace
)

// declLead stands between an element's local name and the namespace it declares.
const declLead = " xmlns='"

// Element is a parsed element: a small handle that is copied by value. The
// zero Element stands for an absent one; its methods return zero values.
// Elements are immutable and may be used by any number of goroutines.
type Element struct {
	d *doc
	i uint32
}

// IsZero reports whether the element is absent.
func (e Element) IsZero() bool { return e.d == nil }

func (e Element) node() *node { return &e.d.nodes[e.i] }

// Name returns the element's name.
func (e Element) Name() Name { return Name{e.Space(), e.Local()} }

// Space returns the element's namespace, empty for none.
func (e Element) Space() string {
	if e.d == nil {
		return ""
	}
	n := e.node()
	if n.space == 0 {
		return e.d.context
	}
	return unescape(e.d.s[n.space:n.spaceEnd])
}

// Local returns the element's local name.
func (e Element) Local() string {
	if e.d == nil {
		return ""
	}
	n := e.node()
	return e.d.s[n.start+1 : n.nameEnd]
}

// Is reports whether the element has this name.
func (e Element) Is(space, local string) bool {
	return e.d != nil && e.Local() == local && e.Space() == space
}

func (e Element) attrs() []attr {
	if e.d == nil {
		return nil
	}
	end := uint32(len(e.d.attrs))
	if next := e.i + 1; next < uint32(len(e.d.nodes)) {
		end = e.d.nodes[next].attr
	}
	return e.d.attrs[e.node().attr:end]
}

func (d *doc) attrSpace(a *attr) string {
	switch a.space {
	case attrPlain:
		return ""
	case attrXML:
		return XMLSpace
	}
	return unescape(d.s[a.space:a.spaceEnd])
}

// Attr returns the value of the attribute without namespace that has this
// local name; "" if there is none.
func (e Element) Attr(local string) string {
	v, _ := e.LookupAttr("", local)
	return v
}

// LookupAttr returns the value of an attribute and whether it is there. An
// attribute without namespace has space "".
func (e Element) LookupAttr(space, local string) (string, bool) {
	as := e.attrs()
	for i := range as {
		a := &as[i]
		if e.d.s[a.name:a.nameEnd] == local && e.d.attrSpace(a) == space {
			return unescape(e.d.s[a.nameEnd+2 : a.valueEnd]), true
		}
	}
	return "", false
}

// Attrs yields the attributes in order, without namespace declarations.
func (e Element) Attrs() iter.Seq[Attr] {
	return func(yield func(Attr) bool) {
		as := e.attrs()
		for i := range as {
			a := &as[i]
			name := Name{e.d.attrSpace(a), e.d.s[a.name:a.nameEnd]}
			if !yield(Attr{name, unescape(e.d.s[a.nameEnd+2 : a.valueEnd])}) {
				return
			}
		}
	}
}

// Child returns the first child element of this name, or the zero Element.
func (e Element) Child(space, local string) Element {
	if e.d == nil {
		return Element{}
	}
	for i, last := e.i+1, e.node().last; i < last; i = e.d.nodes[i].last {
		if c := (Element{e.d, i}); c.Is(space, local) {
			return c
		}
	}
	return Element{}
}

// Children yields the child elements in order.
func (e Element) Children() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		if e.d == nil {
			return
		}
		for i, last := e.i+1, e.node().last; i < last; i = e.d.nodes[i].last {
			if !yield(Element{e.d, i}) {
				return
			}
		}
	}
}

// segments yields the escaped character data between the child elements.
func (e Element) segments(yield func(string) bool) {
	if e.d == nil {
		return
	}
	pos := e.node().head
	for i, last := e.i+1, e.node().last; i < last; i = e.d.nodes[i].last {
		c := &e.d.nodes[i]
		if c.start > pos && !yield(e.d.s[pos:c.start]) {
			return
		}
		pos = c.end
	}
	if end := e.contentEnd(); end > pos {
		yield(e.d.s[pos:end])
	}
}

// contentEnd is where the end tag starts.
func (e Element) contentEnd() uint32 {
	n := e.node()
	if n.head == n.end {
		return n.end
	}
	return n.end - (n.nameEnd - n.start) - 2 // </name>
}

// Text returns the character data that stands directly in the element, without
// that of its children. It allocates only where something was escaped or
// there is text beside child elements.
func (e Element) Text() string {
	if e.d == nil {
		return ""
	}
	if e.node().last == e.i+1 {
		return unescape(e.Inner())
	}
	var b strings.Builder
	for s := range e.segments {
		b.WriteString(s)
	}
	return unescape(b.String())
}

// HasText reports whether something other than white space stands directly in
// the element.
func (e Element) HasText() bool {
	for s := range e.segments {
		for s != "" {
			if rest, ok := strings.CutPrefix(s, "&#xD;"); ok {
				s = rest
			} else if s[0] == ' ' || s[0] == '\t' || s[0] == '\n' {
				s = s[1:]
			} else {
				return true
			}
		}
	}
	return false
}

// Raw returns the element in canonical form. It is valid where the default
// namespace is that of the parent in which the element was parsed (for the
// outermost element: the context it was parsed in); [Element.AppendTo] serves
// every other place.
func (e Element) Raw() string {
	if e.d == nil {
		return ""
	}
	n := e.node()
	return e.d.s[n.start:n.end]
}

// Inner returns the element's content in canonical form, valid where the
// default namespace is the element's own.
func (e Element) Inner() string {
	if e.d == nil {
		return ""
	}
	return e.d.s[e.node().head:e.contentEnd()]
}

// AppendTo appends the element in canonical form for a place whose default
// namespace is contextSpace.
func (e Element) AppendTo(dst []byte, contextSpace string) []byte {
	if e.d == nil {
		return dst
	}
	n := e.node()
	rest := n.nameEnd
	if n.space == n.nameEnd+uint32(len(declLead)) {
		rest = n.spaceEnd + 1
	}
	dst = append(dst, e.d.s[n.start:n.nameEnd]...)
	if space := e.Space(); space != contextSpace {
		dst = append(dst, declLead...)
		dst = AppendAttrValue(dst, space)
		dst = append(dst, '\'')
	}
	return append(dst, e.d.s[rest:n.end]...)
}
