package xmltree

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"sync"
)

// scratch is the working memory for what is incomplete. It is pooled, so that
// an idle scanner holds none.
type scratch struct {
	buf    []byte // canonical form so far
	nodes  []node
	attrs  []attr
	frames []frame // open elements of the unit
	names  []byte  // their names as written, one after the other
	decls  []decl  // namespaces declared in the unit and in scope
	ns     []byte  // bytes of decls
	order  []int32 // for finding duplicates

	// The start tag being read: its name, then names and escaped values of
	// its attributes.
	tag                []byte
	raw                []rawAttr
	nameColon, nameEnd int32
}

// frame is an open element and what was before it.
type frame struct {
	node         uint32
	space        int32 // namespace id
	defaultSpace int32
	names        int32 // lengths to return to
	decls, ns    int32
}

// rawAttr is an attribute as written: tag[name:value] and tag[value:end].
type rawAttr struct {
	name, value, end int32
	colon            int32 // negative for none
	space            int32 // namespace id, or spaceXML or spaceXMLNS
}

// Namespaces are known by ids, equal if and only if the names are: the index
// of the first declaration of the name in scope, the root's first. Index 0
// stands for no namespace.
const (
	noSpace    = 0
	spaceXML   = -1
	spaceXMLNS = -2
)

// decl is a namespace declaration: ns[prefix:uri] and ns[uri:uriEnd] of the
// scope it is in. Name bytes are there only if id is its own index.
type decl struct {
	prefix, uri, uriEnd int32
	id                  int32
	gen                 int32  // generated prefix on the element being written, 0 for none
	genAt, genEnd       uint32 // the name in buf, where that prefix is declared
}

var noDecls = [1]decl{}

// scope is what stays in scope for all units.
type scope struct {
	decls   []decl
	ns      []byte
	name    []byte // of the root, as written
	space   int32  // default namespace
	context string // its name
}

// uri returns the escaped name of a namespace that the scope declares.
func (c *scope) uri(id int32) []byte {
	d := &c.decls[id]
	return c.ns[d.uri:d.uriEnd]
}

// Scratches bigger than these are left to the garbage collector.
const (
	keepBytes   = 32 << 10
	keepRecords = 512
)

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *Scanner) acquire() {
	if s.sc == nil {
		s.sc = scratches.Get().(*scratch)
	}
}

func (s *Scanner) release() {
	sc := s.sc
	if s.sc = nil; sc == nil {
		return
	}
	if max(cap(sc.buf), cap(sc.tag), cap(sc.names), cap(sc.ns)) > keepBytes ||
		max(cap(sc.nodes), cap(sc.attrs), cap(sc.frames), cap(sc.decls), cap(sc.raw), cap(sc.order)) > keepRecords {
		return
	}
	sc.buf, sc.nodes, sc.attrs = sc.buf[:0], sc.nodes[:0], sc.attrs[:0]
	sc.frames, sc.names, sc.decls, sc.ns = sc.frames[:0], sc.names[:0], sc.decls[:0], sc.ns[:0]
	scratches.Put(sc)
}

// depth is the number of open elements of the unit.
func (s *Scanner) depth() int {
	if s.sc == nil {
		return 0
	}
	return len(s.sc.frames)
}

// openName is the name that the next end tag must have.
func (s *Scanner) openName() []byte {
	if n := s.depth(); n > 0 {
		return s.sc.names[s.sc.frames[n-1].names:]
	}
	return s.root.name
}

// beginTag prepares for a start tag.
func (s *Scanner) beginTag(i int) error {
	s.acquire()
	sc := s.sc
	if len(sc.nodes) == 0 {
		s.defaultSpace = s.root.space
		if s.fragment && s.root.context != "" {
			sc.ns = AppendAttrValue(sc.ns, s.root.context)
			sc.decls = append(sc.decls, decl{uriEnd: int32(len(sc.ns)), id: s.root.space})
		}
	}
	switch {
	case len(sc.frames) >= s.lim.MaxDepth:
		return s.fail(TooDeep, i, "elements too deep")
	case len(sc.nodes) >= s.lim.MaxChildren:
		return s.fail(TooManyElements, i, "too many elements")
	}
	sc.tag, sc.raw = sc.tag[:0], sc.raw[:0]
	s.colon, s.ncname = -1, 0
	return nil
}

func (s *Scanner) decl(i int32) *decl {
	if n := int32(len(s.root.decls)); i >= n {
		return &s.sc.decls[i-n]
	}
	return &s.root.decls[i]
}

// uri returns the escaped name of a namespace.
func (s *Scanner) uri(id int32) []byte {
	ns := s.root.ns
	if int(id) >= len(s.root.decls) {
		ns = s.sc.ns
	}
	d := s.decl(id)
	return ns[d.uri:d.uriEnd]
}

// openElement is called at the end of a start tag: it resolves names and
// writes the tag.
func (s *Scanner) openElement(i int, next state) error {
	sc := s.sc
	f := frame{
		node: uint32(len(sc.nodes)), defaultSpace: s.defaultSpace,
		names: int32(len(sc.names)), decls: int32(len(sc.decls)), ns: int32(len(sc.ns)),
	}
	if len(sc.raw) > 0 {
		if err := s.resolveAttrs(i); err != nil {
			return err
		}
	}
	f.space = s.defaultSpace
	local := sc.tag[:sc.nameEnd]
	if sc.nameColon >= 0 {
		id, ok := s.lookup(local[:sc.nameColon])
		if !ok || id < 0 {
			return s.fail(InvalidNamespace, i, "prefix of element is unbound or reserved")
		}
		f.space = id
		local = local[sc.nameColon+1:]
	}
	sc.names = append(sc.names, sc.tag[:sc.nameEnd]...)
	s.writeTag(f.space, local)
	if len(sc.buf) > s.lim.MaxBytes {
		return s.fail(TooLarge, i, "canonical form too large")
	}
	s.state = next
	if !s.rootOpen && !s.fragment {
		s.openRoot(next)
		return nil
	}
	if s.opens != nil && len(sc.frames) == 0 && s.opens(Name{unescape(string(s.uri(f.space))), string(local)}) {
		s.outer = append(s.outer, s.root)
		s.openRoot(next)
		return nil
	}
	sc.frames = append(sc.frames, f)
	return nil
}

// resolveAttrs declares the namespaces of the start tag and resolves its
// attributes' names.
func (s *Scanner) resolveAttrs(i int) error {
	sc := s.sc
	prefixed := false
	for k := range sc.raw {
		a := &sc.raw[k]
		if a.colon >= 0 {
			prefixed = true
			if string(sc.tag[a.name:a.colon]) != "xmlns" {
				continue
			}
		} else if string(sc.tag[a.name:a.value]) != "xmlns" {
			continue
		}
		a.space = spaceXMLNS
		if err := s.declare(a, i); err != nil {
			return err
		}
	}
	if prefixed {
		for k := range sc.raw {
			a := &sc.raw[k]
			if a.colon < 0 || a.space == spaceXMLNS {
				continue
			}
			id, ok := s.lookup(sc.tag[a.name:a.colon])
			if !ok {
				return s.fail(InvalidNamespace, i, "prefix of attribute is unbound")
			}
			a.space = id
		}
	}
	if j, k, dup := s.duplicate(); dup {
		x, y := &sc.raw[j], &sc.raw[k]
		if bytes.Equal(sc.tag[x.name:x.value], sc.tag[y.name:y.value]) {
			return s.fail(NotWellFormed, i, "attribute twice")
		}
		return s.fail(InvalidNamespace, i, "attribute twice by its namespace")
	}
	return nil
}

// declare takes a namespace declaration into scope (Namespaces in XML 1.0, 3).
func (s *Scanner) declare(a *rawAttr, i int) error {
	sc := s.sc
	var prefix []byte
	if a.colon >= 0 {
		prefix = sc.tag[a.colon+1 : a.value]
	}
	uri := sc.tag[a.value:a.end]
	switch {
	case string(prefix) == "xml" && string(uri) == XMLSpace:
		return nil
	case string(prefix) == "xml", string(prefix) == "xmlns", string(uri) == XMLSpace, string(uri) == XMLNSSpace:
		return s.fail(InvalidNamespace, i, "declaration of a reserved prefix or namespace")
	case len(prefix) > 0 && len(uri) == 0:
		return s.fail(InvalidNamespace, i, "prefix declared empty")
	}
	id := s.known(uri)
	fresh := id < 0
	if fresh {
		id = int32(len(s.root.decls) + len(sc.decls))
	}
	if fresh || len(prefix) > 0 {
		if len(s.root.decls)+len(sc.decls) > s.lim.MaxNamespaces {
			return s.fail(TooManyNamespaces, i, "too many namespace declarations")
		}
		d := decl{prefix: int32(len(sc.ns)), id: id}
		sc.ns = append(sc.ns, prefix...)
		d.uri = int32(len(sc.ns))
		if fresh {
			sc.ns = append(sc.ns, uri...)
		}
		d.uriEnd = int32(len(sc.ns))
		sc.decls = append(sc.decls, d)
	}
	if len(prefix) == 0 {
		s.defaultSpace = id
	}
	return nil
}

// known returns the id of a namespace in scope, or a negative number.
func (s *Scanner) known(uri []byte) int32 {
	if len(uri) == 0 {
		return noSpace
	}
	sc, n := s.sc, len(s.root.decls)
	for i := range sc.decls {
		if d := &sc.decls[i]; bytes.Equal(sc.ns[d.uri:d.uriEnd], uri) {
			return int32(n + i)
		}
	}
	for i := range s.root.decls {
		if d := &s.root.decls[i]; bytes.Equal(s.root.ns[d.uri:d.uriEnd], uri) {
			return int32(i)
		}
	}
	return -1
}

// lookup returns the namespace to which a prefix is bound.
func (s *Scanner) lookup(prefix []byte) (id int32, ok bool) {
	sc := s.sc
	for i := len(sc.decls) - 1; i >= 0; i-- {
		if d := &sc.decls[i]; bytes.Equal(sc.ns[d.prefix:d.uri], prefix) {
			return d.id, true
		}
	}
	for i := len(s.root.decls) - 1; i >= 0; i-- {
		if d := &s.root.decls[i]; bytes.Equal(s.root.ns[d.prefix:d.uri], prefix) {
			return d.id, true
		}
	}
	return spaceXML, string(prefix) == "xml"
}

// duplicate finds two attributes of the tag with the same name.
func (s *Scanner) duplicate() (j, k int32, dup bool) {
	sc := s.sc
	const pairwise = 12 // up to here comparing all pairs is faster than sorting
	n := int32(len(sc.raw))
	if n <= pairwise {
		for k := int32(1); k < n; k++ {
			for j := range k {
				if s.compareAttrs(j, k) == 0 {
					return j, k, true
				}
			}
		}
		return 0, 0, false
	}
	sc.order = sc.order[:0]
	for k := range n {
		sc.order = append(sc.order, k)
	}
	slices.SortFunc(sc.order, s.compareAttrs)
	for i := 1; i < len(sc.order); i++ {
		if s.compareAttrs(sc.order[i-1], sc.order[i]) == 0 {
			return sc.order[i-1], sc.order[i], true
		}
	}
	return 0, 0, false
}

func (s *Scanner) compareAttrs(i, j int32) int {
	a, b := &s.sc.raw[i], &s.sc.raw[j]
	if a.space != b.space {
		return cmp.Compare(a.space, b.space)
	}
	x, y := s.localName(a), s.localName(b)
	if len(x) != len(y) {
		return cmp.Compare(len(x), len(y))
	}
	return bytes.Compare(x, y)
}

func (s *Scanner) localName(a *rawAttr) []byte {
	return s.sc.tag[max(a.name, a.colon+1):a.value]
}

// writeTag writes the start tag in canonical form and notes its node.
func (s *Scanner) writeTag(space int32, local []byte) {
	sc := s.sc
	n := node{start: uint32(len(sc.buf)), attr: uint32(len(sc.attrs))}
	buf := append(sc.buf, '<')
	buf = append(buf, local...)
	n.nameEnd = uint32(len(buf))
	context := s.root.space
	if k := len(sc.frames); k > 0 {
		f := &sc.frames[k-1]
		context = f.space
		n.space, n.spaceEnd = sc.nodes[f.node].space, sc.nodes[f.node].spaceEnd
	}
	if space != context {
		buf = append(buf, declLead...)
		n.space = uint32(len(buf))
		buf = append(buf, s.uri(space)...)
		n.spaceEnd = uint32(len(buf))
		buf = append(buf, '\'')
	}
	sc.buf = buf
	generated := int32(0)
	for i := range sc.raw {
		if a := &sc.raw[i]; a.space != spaceXMLNS {
			generated = s.writeAttr(a, generated)
		}
	}
	if generated > 0 {
		for i := range sc.raw {
			if a := &sc.raw[i]; a.space > noSpace {
				s.decl(a.space).gen = 0
			}
		}
	}
	sc.buf = append(sc.buf, '>')
	n.head = uint32(len(sc.buf))
	sc.nodes = append(sc.nodes, n)
}

// writeAttr writes one attribute and notes it. Given and returned is how many
// prefixes were generated for the tag.
func (s *Scanner) writeAttr(a *rawAttr, generated int32) int32 {
	sc := s.sc
	var out attr
	buf := sc.buf
	switch a.space {
	case noSpace:
		buf = append(buf, ' ')
		out.space = attrPlain
	case spaceXML:
		buf = append(buf, " xml:"...)
		out.space = attrXML
	default:
		d := s.decl(a.space)
		if d.gen == 0 {
			generated++
			d.gen = generated
			buf = append(buf, " xmlns:a"...)
			buf = strconv.AppendInt(buf, int64(d.gen), 10)
			buf = append(buf, "='"...)
			d.genAt = uint32(len(buf))
			buf = append(buf, s.uri(a.space)...)
			d.genEnd = uint32(len(buf))
			buf = append(buf, '\'')
		}
		buf = append(buf, " a"...)
		buf = strconv.AppendInt(buf, int64(d.gen), 10)
		buf = append(buf, ':')
		out.space, out.spaceEnd = d.genAt, d.genEnd
	}
	out.name = uint32(len(buf))
	buf = append(buf, s.localName(a)...)
	out.nameEnd = uint32(len(buf))
	buf = append(buf, "='"...)
	buf = append(buf, sc.tag[a.value:a.end]...)
	out.valueEnd = uint32(len(buf))
	sc.buf = append(buf, '\'')
	sc.attrs = append(sc.attrs, out)
	return generated
}

// openRoot completes the start tag of the root, or of an element below it: its
// declarations are kept, and it becomes a token, as an element without content.
func (s *Scanner) openRoot(next state) {
	sc, around := s.sc, s.root
	s.root = scope{
		decls: append(slices.Clip(around.decls), sc.decls...),
		ns:    append(slices.Clip(around.ns), sc.ns...),
		name:  bytes.Clone(sc.names),
		space: s.defaultSpace,
	}
	for i := len(around.decls); i < len(s.root.decls); i++ {
		d, by := &s.root.decls[i], int32(len(around.ns))
		d.prefix, d.uri, d.uriEnd = d.prefix+by, d.uri+by, d.uriEnd+by
	}
	s.root.context = unescape(string(s.root.uri(s.defaultSpace)))
	s.rootOpen = true
	s.emptyTag(&sc.nodes[0])
	s.emit(StreamStart, around.context)
	s.out.DefaultSpace = s.root.context
	if next == inContent {
		s.state, s.metered = between, false
	}
}

// emptyTag rewrites the start tag at the end of buf as an empty-element tag.
func (s *Scanner) emptyTag(n *node) {
	sc := s.sc
	sc.buf = append(sc.buf[:len(sc.buf)-1], "/>"...)
	n.end = uint32(len(sc.buf))
	n.head = n.end
	n.last = uint32(len(sc.nodes))
}

// closeElement is called at the end of an end tag or empty-element tag.
func (s *Scanner) closeElement(i int) error {
	k := s.depth() - 1
	if n := len(s.outer); k < 0 && n > 0 {
		s.root, s.outer = s.outer[n-1], s.outer[:n-1]
		s.metered, s.state, s.out = false, between, Token{Kind: StreamEnd}
		return nil
	}
	if k < 0 {
		s.root = scope{decls: noDecls[:1:1]}
		s.rootOpen, s.metered = false, false
		s.state = inEpilog
		s.out = Token{Kind: StreamEnd}
		return nil
	}
	sc := s.sc
	f := sc.frames[k]
	n := &sc.nodes[f.node]
	if int(n.head) == len(sc.buf) {
		s.emptyTag(n)
	} else {
		sc.buf = append(sc.buf, "</"...)
		sc.buf = append(sc.buf, sc.buf[n.start+1:n.nameEnd]...)
		sc.buf = append(sc.buf, '>')
		n.end = uint32(len(sc.buf))
		n.last = uint32(len(sc.nodes))
	}
	s.defaultSpace = f.defaultSpace
	sc.frames, sc.names = sc.frames[:k], sc.names[:f.names]
	sc.decls, sc.ns = sc.decls[:f.decls], sc.ns[:f.ns]
	if len(sc.buf) > s.lim.MaxBytes {
		return s.fail(TooLarge, i, "canonical form too large")
	}
	if k > 0 {
		s.state = inContent
		return nil
	}
	s.emit(Unit, s.root.context)
	s.metered = false
	if s.state = between; s.fragment {
		s.state = inEpilog
	}
	return nil
}

// emit makes the token out of what was built and lets go of the scratch.
func (s *Scanner) emit(kind Kind, context string) {
	sc := s.sc
	d := &doc{s: string(sc.buf), nodes: slices.Clone(sc.nodes), context: context}
	if len(sc.attrs) > 0 {
		d.attrs = slices.Clone(sc.attrs)
	}
	s.out = Token{Kind: kind, Element: Element{d: d}}
	s.release()
}
