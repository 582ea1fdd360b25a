package xmltree

// Kind is the kind of a [Token].
type Kind uint8

// The kinds of tokens.
const (
	None        Kind = iota // all input consumed, nothing complete
	StreamStart             // the root's start tag, or another's that Scanner.Descend opens
	Unit                    // a complete child of the root
	StreamEnd               // the end tag of what was opened last
)

// Token is what [Scanner.Next] found.
type Token struct {
	Kind Kind
	// Element is the unit, or at StreamStart the root with its attributes and
	// without content (in a context without default namespace).
	Element Element
	// DefaultSpace is set at StreamStart: the root's default namespace, which
	// is the context of [Element.Raw] for all units that follow.
	DefaultSpace string
	// Size is how many raw bytes made the token; at StreamStart the XML
	// declaration counts too.
	Size int
}

// Scanner reads one document whose root stays open, piece by piece. It accepts
// well-formed XML 1.0 with namespaces in UTF-8, without what RFC 6120 11.1
// forbids (comments, processing instructions, DTD, entities other than the
// five), and without text between the root's children except white space.
// Elements in [XMLSpace], for which no vocabulary exists, are refused: no
// prefix-less form can carry them. A byte order mark is refused too, as RFC
// 6120 11.6 reads it as a character.
//
// Memory is bounded by a small multiple of Limits.MaxBytes while a unit is
// incomplete; between units little more than the root's namespace declarations
// is kept. A Scanner must not be used concurrently.
type Scanner struct {
	lim  Limits
	err  error
	sc   *scratch // only while something is incomplete
	root scope
	// opens, if not nil, is asked which units are to be opened as the root is;
	// outer are the scopes of the elements that are open around the present one.
	opens func(Name) bool
	outer []scope
	out   Token
	off   int64 // stream offset of the slice that Next works on
	base  int64 // stream offset of the unit being read

	state, ret   state // ret: where to go on after a reference or split character
	metered      bool  // bytes count against MaxBytes
	fragment     bool  // the root is the unit: Parse
	rootOpen     bool
	spaced       bool // white space seen before the next attribute
	cr           bool // the last character was a carriage return
	quote        byte
	part         [4]byte // bytes of a character or name of a reference split over reads
	partLen      uint8
	refKind      uint8
	refValue     rune
	brackets     int32 // ']' that directly precede
	match        int32 // matched so far: end tag, CDATA opening
	colon        int32 // in the name being read, offset in tag; negative for none
	ncname       int32 // where the part of the name being read starts in tag
	defaultSpace int32 // namespace id for elements without prefix
}

type state uint8

const (
	inProlog  state = iota // before the root
	inDecl                 // in <?xml …
	atLess                 // after <
	atBang                 // after <!
	inCDATA                // in a CDATA section
	inTagName              // in the name of a start tag
	inTag                  // after the name or a value
	inAttr                 // in the name of an attribute
	atEquals               // after the name of an attribute
	atQuote                // after =
	inQuotes               // in a value
	atSlash                // after / in a start tag
	inEndName              // in the name of an end tag
	atEnd                  // after it
	inContent              // in the content of a unit
	between                // in the content of the root
	inRef                  // after &
	inRune                 // in a character whose bytes were split over reads
	inEpilog               // after the root
)

// NewScanner returns a scanner that expects the start of a document.
func NewScanner(lim Limits) *Scanner {
	s := &Scanner{}
	s.SetLimits(lim)
	s.Reset()
	return s
}

// SetLimits replaces the limits at once, also for a unit in progress.
func (s *Scanner) SetLimits(lim Limits) { s.lim = lim.withDefaults() }

// Reset makes the scanner expect a new document, as after TLS or SASL. What is
// incomplete is dropped (see [Scanner.InUnit]). A failed scanner stays failed.
func (s *Scanner) Reset() {
	s.release()
	*s = Scanner{lim: s.lim, err: s.err, off: s.off, base: s.off, metered: true, opens: s.opens}
	s.root.decls = noDecls[:1:1]
}

// Descend makes the scanner open elements below the root as it opens the root, for
// documents whose units stand deeper: opens is asked for each child of an open
// element. One that it wants comes as a StreamStart, its children as units of
// their own, its end as a StreamEnd; opens bounds how deep that goes. Limits are
// for what isn't opened, and for start tags.
func (s *Scanner) Descend(opens func(Name) bool) { s.opens = opens }

// InUnit reports whether a unit or tag has begun and is not complete.
func (s *Scanner) InUnit() bool {
	switch s.state {
	case between, inEpilog:
		return false
	case inProlog:
		return s.err == nil && s.off != s.base
	}
	return s.err == nil
}

// Next reads from in until the first token is complete or all of in is
// consumed (Kind None), and returns how many bytes it consumed. How the input
// is split over calls makes no difference to tokens and errors. An error is a
// [*SyntaxError] and final. Next keeps no reference to in.
func (s *Scanner) Next(in []byte) (tok Token, n int, err error) {
	if s.err != nil {
		return Token{}, 0, s.err
	}
	i := 0
	for i < len(in) {
		end := len(in)
		if s.metered {
			room := s.base + int64(s.lim.MaxBytes) - s.off
			if int64(i) >= room {
				return Token{}, i, s.fail(TooLarge, i, "too many bytes")
			}
			end = int(min(int64(end), room))
		}
		i, err = s.scan(in[:end], i)
		if err != nil {
			return Token{}, i, err
		}
		if s.out.Kind != None {
			s.off += int64(i)
			tok, s.out = s.out, Token{}
			tok.Size = int(s.off - s.base)
			return tok, i, nil
		}
	}
	s.off += int64(i)
	return Token{}, i, nil
}

// Parse reads exactly one element, optionally after an XML declaration, as a
// Scanner reads a unit of a root whose default namespace is contextSpace. An
// error is a [*SyntaxError].
func Parse(b []byte, contextSpace string, lim Limits) (Element, error) {
	s := Scanner{lim: lim.withDefaults(), fragment: true, metered: true}
	s.root = scope{decls: noDecls[:1:1], context: contextSpace}
	if contextSpace != "" {
		s.root.space = 1 // declared by beginTag
	}
	tok, n, err := s.Next(b)
	if err != nil {
		return Element{}, err
	}
	if tok.Kind == None {
		return Element{}, s.fail(NotWellFormed, 0, "unexpected end")
	}
	if _, _, err := s.Next(b[n:]); err != nil {
		return Element{}, err
	}
	return tok.Element, nil
}

// fail makes the error final. The offset is that of in[i].
func (s *Scanner) fail(kind ErrorKind, i int, msg string) error {
	s.release()
	s.err = &SyntaxError{Kind: kind, Offset: s.off + int64(i), Msg: msg}
	return s.err
}

// scan works through in from i until a token is complete, a unit begins, or in
// ends. It is a state machine over bytes; every state's method consumes what it
// can and returns the new index.
func (s *Scanner) scan(in []byte, i int) (_ int, err error) {
	for i < len(in) {
		switch s.state {
		case inContent:
			i, err = s.content(in, i)
		case inTag:
			i, err = s.tag(in, i)
		case inTagName, inAttr:
			i, err = s.name(in, i)
		case inQuotes:
			i, err = s.value(in, i)
		case atLess:
			i, err = s.less(in, i)
		case inEndName, atEnd:
			i, err = s.endTag(in, i)
		case atSlash:
			if in[i] != '>' {
				return i, s.fail(NotWellFormed, i, "'>' expected after '/'")
			}
			i, err = i+1, s.closeElement(i)
		case atEquals, atQuote:
			i, err = s.equals(in, i)
		case inRef:
			i, err = s.reference(in, i)
		case inRune:
			i, err = s.splitRune(in, i)
		case inCDATA:
			i, err = s.cdata(in, i)
		case atBang:
			i, err = s.bang(in, i)
		case inDecl:
			i, err = s.xmlDecl(in, i)
		default:
			return s.outside(in, i)
		}
		if err != nil || s.out.Kind != None {
			break
		}
	}
	return i, err
}

// outside reads where only white space and a tag may stand: before, directly
// in, and after the root.
func (s *Scanner) outside(in []byte, i int) (int, error) {
	for i < len(in) && classes[in[i]]&isSpace != 0 {
		i++
	}
	if i == len(in) {
		return i, nil
	}
	switch {
	case s.state == inEpilog:
		return i, s.fail(NotWellFormed, i, "content after the root element")
	case in[i] == '<':
		if s.state == between {
			s.base = s.off + int64(i)
			s.metered = true
		}
		s.state = atLess
		return i + 1, nil
	case s.state == between:
		return i, s.fail(StrayText, i, "text between elements")
	}
	return i, s.fail(NotWellFormed, i, "text before the root element")
}

// less decides what follows '<'.
func (s *Scanner) less(in []byte, i int) (int, error) {
	switch in[i] {
	case '/':
		if s.depth() == 0 && !s.rootOpen {
			return i, s.fail(NotWellFormed, i, "end tag before the root element")
		}
		s.state, s.match = inEndName, 0
	case '!':
		s.state, s.match = atBang, 0
	case '?':
		if s.rootOpen || s.depth() > 0 || s.off+int64(i)-1 != s.base {
			return i, s.fail(RestrictedXML, i, "processing instruction or late XML declaration")
		}
		s.acquire()
		s.sc.tag = s.sc.tag[:0]
		s.state = inDecl
	default:
		if err := s.beginTag(i); err != nil {
			return i, err
		}
		s.state = inTagName
		return s.name(in, i)
	}
	return i + 1, nil
}

const cdataOpen = "[CDATA["

// bang decides what follows "<!".
func (s *Scanner) bang(in []byte, i int) (int, error) {
	c := in[i]
	switch {
	case s.match == 0 && c == '-':
		return i, s.fail(RestrictedXML, i, "comment")
	case s.match == 0 && c == 'D':
		return i, s.fail(RestrictedXML, i, "document type declaration")
	case c != cdataOpen[s.match], s.depth() == 0 && !s.rootOpen:
		return i, s.fail(NotWellFormed, i, "unknown markup")
	case s.depth() == 0:
		return i, s.fail(StrayText, i, "CDATA section between elements")
	}
	if s.match++; int(s.match) == len(cdataOpen) {
		s.state, s.brackets = inCDATA, 0
	}
	return i + 1, nil
}
