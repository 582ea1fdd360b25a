package xmltree

import (
	"bytes"
	"fmt"
	"strconv"
)

// Writer builds canonical XML; it cannot make anything else, whatever strings
// it is given: characters that XML cannot carry become U+FFFD. Calls out of
// order, names that are no names and attributes given twice are errors of the
// program and panic.
//
// The zero Writer is ready to use, for a context without default namespace. A
// Writer must not be copied after use nor used concurrently.
type Writer struct {
	buf     []byte
	context string
	depth   int
	first   [6]openTag // the outermost open elements, to save an allocation
	more    []openTag  // the ones in them
	inTag   bool       // the last thing in buf is a start tag without its '>'
	attrs   int        // where its attributes begin
}

type openTag struct{ space, local string }

// NewWriter returns a writer that appends to dst, where the default namespace
// is contextSpace. It may write several elements one after the other.
func NewWriter(dst []byte, contextSpace string) *Writer {
	return &Writer{buf: dst, context: contextSpace}
}

// space is the default namespace at the place that is written next.
func (w *Writer) space() string {
	if w.depth == 0 {
		return w.context
	}
	return w.top().space
}

func (w *Writer) top() *openTag {
	if n := w.depth - len(w.first); n > 0 {
		return &w.more[n-1]
	}
	return &w.first[w.depth-1]
}

// Start opens an element. It panics if local is no name or space is reserved.
func (w *Writer) Start(space, local string) *Writer {
	if !isNCName(local) {
		panic(fmt.Sprintf("xmltree: Start: %q is not a name", local))
	}
	if space == XMLSpace || space == XMLNSSpace {
		panic("xmltree: Start: reserved namespace")
	}
	context := w.space()
	w.closeTag()
	w.buf = append(w.buf, '<')
	w.buf = append(w.buf, local...)
	w.attrs = len(w.buf)
	if space != context {
		w.buf = append(w.buf, declLead...)
		w.buf = AppendAttrValue(w.buf, space)
		w.buf = append(w.buf, '\'')
	}
	if w.depth++; w.depth > len(w.first) {
		w.more = append(w.more[:w.depth-len(w.first)-1], openTag{})
	}
	*w.top() = openTag{space, local}
	w.inTag = true
	return w
}

func (w *Writer) closeTag() {
	if w.inTag {
		w.buf = append(w.buf, '>')
		w.inTag = false
	}
}

// Attr writes an attribute without namespace. It panics after content, if
// local is no name, and if the element has the attribute already.
func (w *Writer) Attr(local, value string) *Writer {
	return w.attr("", "", local, value)
}

// OptAttr is Attr if value is not empty, and does nothing otherwise.
func (w *Writer) OptAttr(local, value string) *Writer {
	if value == "" {
		return w
	}
	return w.attr("", "", local, value)
}

// AttrNS writes an attribute with namespace, as Attr does one without.
func (w *Writer) AttrNS(space, local, value string) *Writer {
	switch space {
	case "":
		return w.attr("", "", local, value)
	case XMLSpace:
		return w.attr("xml", "", local, value)
	case XMLNSSpace:
		panic("xmltree: AttrNS: namespaces are declared by Start")
	}
	w.mustBeInTag(local)
	escaped := AppendAttrValue(nil, space)
	count := 0
	for name, val := range w.written {
		if prefix, ok := bytes.CutPrefix(name, []byte("xmlns:")); ok {
			if count++; bytes.Equal(val, escaped) {
				return w.attr(string(prefix), "", local, value)
			}
		}
	}
	return w.attr("a"+strconv.Itoa(count+1), string(escaped), local, value)
}

// attr writes an attribute, before it the declaration of its prefix if escaped,
// the namespace, is given.
func (w *Writer) attr(prefix, escaped, local, value string) *Writer {
	w.mustBeInTag(local)
	if !isNCName(local) || prefix == "" && local == "xmlns" {
		panic(fmt.Sprintf("xmltree: Attr: %q is not a name for an attribute", local))
	}
	for name := range w.written {
		p, l, ok := bytes.Cut(name, []byte{':'})
		if !ok {
			p, l = nil, name
		}
		if string(l) == local && string(p) == prefix {
			panic(fmt.Sprintf("xmltree: Attr: %q twice", local))
		}
	}
	if escaped != "" {
		w.buf = append(w.buf, " xmlns:"...)
		w.buf = append(w.buf, prefix...)
		w.buf = append(w.buf, "='"...)
		w.buf = append(w.buf, escaped...)
		w.buf = append(w.buf, '\'')
	}
	w.buf = append(w.buf, ' ')
	if prefix != "" {
		w.buf = append(w.buf, prefix...)
		w.buf = append(w.buf, ':')
	}
	w.buf = append(w.buf, local...)
	w.buf = append(w.buf, "='"...)
	w.buf = AppendAttrValue(w.buf, value)
	w.buf = append(w.buf, '\'')
	return w
}

func (w *Writer) mustBeInTag(local string) {
	if !w.inTag {
		panic(fmt.Sprintf("xmltree: Attr: %q outside a start tag", local))
	}
}

// written yields the attributes of the open start tag as they stand in buf.
func (w *Writer) written(yield func(name, value []byte) bool) {
	for rest := w.buf[w.attrs:]; len(rest) > 0; {
		eq := bytes.IndexByte(rest, '=')
		name, after := rest[1:eq], rest[eq+2:]
		end := bytes.IndexByte(after, '\'')
		if !yield(name, after[:end]) {
			return
		}
		rest = after[end+1:]
	}
}

// Text writes character data into the open element.
func (w *Writer) Text(s string) *Writer {
	if w.depth == 0 {
		panic("xmltree: Text outside an element")
	}
	if s != "" {
		w.closeTag()
		w.buf = AppendText(w.buf, s)
	}
	return w
}

// Element writes a parsed element, declaring its namespace where the place
// makes that necessary. The zero Element writes nothing.
func (w *Writer) Element(e Element) *Writer {
	if !e.IsZero() {
		context := w.space()
		w.closeTag()
		w.buf = e.AppendTo(w.buf, context)
	}
	return w
}

// Inner writes content that is already canonical: what [Element.Inner] or
// [Element.Raw] or a Writer gave. What in it has no declaration of its own
// takes the default namespace of the open element; so the content of an
// element moves to another namespace with it.
func (w *Writer) Inner(raw string) *Writer {
	if raw != "" {
		w.closeTag()
		w.buf = append(w.buf, raw...)
	}
	return w
}

// End closes the element opened last.
func (w *Writer) End() *Writer {
	if w.depth == 0 {
		panic("xmltree: End without Start")
	}
	if w.inTag {
		w.buf = append(w.buf, "/>"...)
		w.inTag = false
	} else {
		w.buf = append(w.buf, "</"...)
		w.buf = append(w.buf, w.top().local...)
		w.buf = append(w.buf, '>')
	}
	*w.top() = openTag{}
	w.depth--
	return w
}

// Bytes returns dst with what was written. It panics while an element is open.
func (w *Writer) Bytes() []byte {
	if w.depth > 0 {
		panic(fmt.Sprintf("xmltree: element %q not closed", w.top().local))
	}
	return w.buf
}

// String returns Bytes as a string.
func (w *Writer) String() string { return string(w.Bytes()) }
