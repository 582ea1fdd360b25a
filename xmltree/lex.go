package xmltree

import (
	"unicode/utf8"
)

// plain returns the end of the longest run from i of characters that stand for
// themselves: those of the class, and any valid character beyond ASCII.
func plain(in []byte, i int, class uint8) int {
	for i < len(in) {
		c := in[i]
		if classes[c]&class != 0 {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			break
		}
		r, n := utf8.DecodeRune(in[i:])
		if n == 1 || !isChar(r) {
			break
		}
		i += n
	}
	return i
}

// afterCR completes line end normalisation (XML 1.0 2.11): it reports whether
// in[i] is a line feed that belongs to the carriage return before it.
func (s *Scanner) afterCR(in []byte, i int) bool {
	was := s.cr
	s.cr = false
	return was && in[i] == '\n'
}

// content reads character data in a unit, up to and with '<'.
func (s *Scanner) content(in []byte, i int) (int, error) {
	if s.afterCR(in, i) {
		return i + 1, nil
	}
	sc := s.sc
	if end := plain(in, i, inText); end > i {
		sc.buf = append(sc.buf, in[i:end]...)
		s.brackets = 0
		if i = end; i == len(in) {
			return i, nil
		}
	}
	switch c := in[i]; c {
	case '<':
		s.brackets = 0
		s.state = atLess
	case '&':
		s.brackets = 0
		s.beginRef(inContent)
	case ']':
		s.brackets++
		sc.buf = append(sc.buf, c)
	case '>':
		if s.brackets >= 2 {
			return i, s.fail(NotWellFormed, i, "]]> in character data")
		}
		s.brackets = 0
		sc.buf = append(sc.buf, "&gt;"...)
	case '\r':
		s.brackets = 0
		s.cr = true
		sc.buf = append(sc.buf, '\n')
	default:
		s.brackets = 0
		return s.wide(in, i)
	}
	return i + 1, nil
}

// cdata reads a CDATA section, up to and with its end.
func (s *Scanner) cdata(in []byte, i int) (int, error) {
	if s.afterCR(in, i) {
		return i + 1, nil
	}
	sc := s.sc
	if end := plain(in, i, inText); end > i {
		sc.buf = append(sc.buf, in[i:end]...)
		s.brackets = 0
		if i = end; i == len(in) {
			return i, nil
		}
	}
	switch c := in[i]; c {
	case ']':
		s.brackets++
		sc.buf = append(sc.buf, c)
		return i + 1, nil
	case '>':
		if s.brackets >= 2 {
			sc.buf = sc.buf[:len(sc.buf)-2]
			s.state = inContent
		} else {
			sc.buf = append(sc.buf, "&gt;"...)
		}
	case '<', '&':
		sc.buf = appendRune(sc.buf, rune(c), false)
	case '\r':
		s.cr = true
		sc.buf = append(sc.buf, '\n')
	default:
		s.brackets = 0
		return s.wide(in, i)
	}
	s.brackets = 0
	return i + 1, nil
}

// value reads an attribute value, up to and with the closing quote.
func (s *Scanner) value(in []byte, i int) (int, error) {
	if s.afterCR(in, i) {
		return i + 1, nil
	}
	sc := s.sc
	if end := plain(in, i, inValue); end > i {
		sc.tag = append(sc.tag, in[i:end]...)
		if i = end; i == len(in) {
			return i, nil
		}
	}
	switch c := in[i]; c {
	case s.quote:
		sc.raw[len(sc.raw)-1].end = int32(len(sc.tag))
		s.state, s.spaced = inTag, false
	case '"':
		sc.tag = append(sc.tag, c)
	case '\'':
		sc.tag = append(sc.tag, "&apos;"...)
	case '&':
		s.beginRef(inQuotes)
	case '<':
		return i, s.fail(NotWellFormed, i, "'<' in attribute value")
	case '\r':
		s.cr = true
		sc.tag = append(sc.tag, ' ')
	case '\t', '\n':
		sc.tag = append(sc.tag, ' ') // XML 1.0 3.3.3
	default:
		return s.wide(in, i)
	}
	return i + 1, nil
}

// wide reads one character beyond ASCII for the current state, or refuses a
// byte that has no place there.
func (s *Scanner) wide(in []byte, i int) (int, error) {
	if in[i] < utf8.RuneSelf {
		return i, s.fail(NotWellFormed, i, "control character")
	}
	if !utf8.FullRune(in[i:]) {
		s.partLen = uint8(copy(s.part[:], in[i:]))
		s.state, s.ret = inRune, s.state
		return len(in), nil
	}
	r, n := utf8.DecodeRune(in[i:])
	return i + n, s.putRune(r, n, in[i:i+n], i)
}

// splitRune collects the rest of a character that wide found incomplete. It
// ends, well or badly, at the same byte as if the bytes had come together.
func (s *Scanner) splitRune(in []byte, i int) (int, error) {
	first := i - int(s.partLen)
	for i < len(in) {
		s.part[s.partLen] = in[i]
		s.partLen++
		i++
		if b := s.part[:s.partLen]; utf8.FullRune(b) {
			r, n := utf8.DecodeRune(b)
			s.state = s.ret
			return i, s.putRune(r, n, b, first)
		}
	}
	return i, nil
}

// putRune adds a decoded character, whose bytes are b, where the state wants it.
func (s *Scanner) putRune(r rune, n int, b []byte, i int) error {
	sc := s.sc
	switch {
	case n == 1:
		return s.fail(BadUTF8, i, "invalid UTF-8")
	case !isChar(r):
		return s.fail(NotWellFormed, i, "character that XML forbids")
	case s.state == inContent || s.state == inCDATA:
		sc.buf = append(sc.buf, b...)
		return nil
	case s.state == inQuotes:
	case !isNameRune(r, len(sc.tag) == int(s.ncname)):
		return s.fail(NotWellFormed, i, "character that a name cannot have")
	}
	sc.tag = append(sc.tag, b...)
	return nil
}

// name reads the name of a start tag or attribute, up to what follows it.
func (s *Scanner) name(in []byte, i int) (int, error) {
	sc := s.sc
	c := in[i]
	if len(sc.tag) == int(s.ncname) && c < utf8.RuneSelf && classes[c]&inNameStart == 0 {
		if s.colon >= 0 || c == ':' {
			return i, s.fail(InvalidNamespace, i, "empty prefix or local name")
		}
		return i, s.fail(NotWellFormed, i, "name expected")
	}
	end := i
	for end < len(in) && classes[in[end]]&inName != 0 {
		end++
	}
	sc.tag = append(sc.tag, in[i:end]...)
	if i = end; i == len(in) {
		return i, nil
	}
	switch c = in[i]; {
	case c == ':':
		if s.colon >= 0 {
			return i, s.fail(InvalidNamespace, i, "second colon in name")
		}
		s.colon = int32(len(sc.tag))
		sc.tag = append(sc.tag, c)
		s.ncname = int32(len(sc.tag))
		return i + 1, nil
	case c >= utf8.RuneSelf:
		return s.wide(in, i)
	case s.state == inTagName:
		sc.nameColon, sc.nameEnd = s.colon, int32(len(sc.tag))
		s.state, s.spaced = inTag, false
		return i, nil
	}
	a := &sc.raw[len(sc.raw)-1]
	a.colon, a.value = s.colon, int32(len(sc.tag))
	s.state = atEquals
	return s.equals(in, i)
}

// tag reads in a start tag where an attribute or the tag's end may stand.
func (s *Scanner) tag(in []byte, i int) (int, error) {
	for classes[in[i]]&isSpace != 0 {
		s.spaced = true
		if i++; i == len(in) {
			return i, nil
		}
	}
	switch in[i] {
	case '>':
		return i + 1, s.openElement(i, inContent)
	case '/':
		return i + 1, s.openElement(i, atSlash)
	}
	sc := s.sc
	if !s.spaced {
		return i, s.fail(NotWellFormed, i, "white space expected between attributes")
	}
	if len(sc.raw) >= s.lim.MaxAttrs {
		return i, s.fail(TooManyAttrs, i, "too many attributes")
	}
	sc.raw = append(sc.raw, rawAttr{name: int32(len(sc.tag))})
	s.colon, s.ncname = -1, int32(len(sc.tag))
	s.state = inAttr
	return s.name(in, i)
}

// equals reads between an attribute's name and its value, with the opening quote.
func (s *Scanner) equals(in []byte, i int) (int, error) {
	for ; i < len(in); i++ {
		c := in[i]
		switch {
		case classes[c]&isSpace != 0:
		case s.state == atEquals && c == '=':
			s.state = atQuote
		case s.state == atQuote && (c == '\'' || c == '"'):
			s.quote = c
			s.state = inQuotes
			return i + 1, nil
		case s.state == atEquals:
			return i, s.fail(NotWellFormed, i, "'=' expected")
		default:
			return i, s.fail(NotWellFormed, i, "quote expected")
		}
	}
	return i, nil
}

// endTag reads an end tag after "</".
func (s *Scanner) endTag(in []byte, i int) (int, error) {
	want := s.openName()
	if s.state == inEndName {
		for int(s.match) < len(want) {
			if in[i] != want[s.match] {
				return i, s.fail(NotWellFormed, i, "end tag does not match start tag")
			}
			s.match++
			if i++; i == len(in) {
				return i, nil
			}
		}
		s.state = atEnd
		if in[i] != '>' && classes[in[i]]&isSpace == 0 {
			return i, s.fail(NotWellFormed, i, "end tag does not match start tag")
		}
	}
	for ; i < len(in); i++ {
		if in[i] == '>' {
			return i + 1, s.closeElement(i)
		}
		if classes[in[i]]&isSpace == 0 {
			return i, s.fail(NotWellFormed, i, "'>' expected in end tag")
		}
	}
	return i, nil
}

// Kinds of reference while it is being read.
const (
	refStart   = iota // after &
	refEntity         // in the name of an entity
	refHash           // after &#
	refDecimal        // in decimal digits
	refX              // after &#x
	refHex            // in hexadecimal digits
)

func (s *Scanner) beginRef(ret state) {
	s.ret, s.state = ret, inRef
	s.refKind, s.refValue, s.partLen = refStart, 0, 0
}

// reference reads a character or entity reference after '&', with the ';'.
func (s *Scanner) reference(in []byte, i int) (int, error) {
	for ; i < len(in); i++ {
		c := in[i]
		if c == ';' {
			return i + 1, s.endRef(i)
		}
		switch s.refKind {
		case refStart:
			if c == '#' {
				s.refKind = refHash
				continue
			}
			if c < utf8.RuneSelf && classes[c]&inNameStart == 0 {
				return i, s.fail(NotWellFormed, i, "'&' that starts no reference")
			}
			s.refKind = refEntity
			fallthrough
		case refEntity:
			if c < utf8.RuneSelf && classes[c]&inName == 0 {
				return i, s.fail(NotWellFormed, i, "reference without ';'")
			}
			if int(s.partLen) == len(s.part) || c >= utf8.RuneSelf {
				return i, s.fail(RestrictedXML, i, "reference to an entity that is not predefined")
			}
			s.part[s.partLen] = c
			s.partLen++
		default:
			if !s.refDigit(c) {
				return i, s.fail(NotWellFormed, i, "malformed character reference")
			}
		}
	}
	return i, nil
}

// refDigit takes one character of a character reference after "&#".
func (s *Scanner) refDigit(c byte) bool {
	var digit, base rune
	switch {
	case s.refKind == refHash && c == 'x':
		s.refKind = refX
		return true
	case s.refKind <= refDecimal && '0' <= c && c <= '9':
		s.refKind, digit, base = refDecimal, rune(c-'0'), 10
	case s.refKind <= refDecimal:
		return false
	case '0' <= c && c <= '9':
		s.refKind, digit, base = refHex, rune(c-'0'), 16
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		s.refKind, digit, base = refHex, rune(c|0x20-'a'+10), 16
	default:
		return false
	}
	s.refValue = min(s.refValue*base+digit, utf8.MaxRune+1) // no Char beyond
	return true
}

func (s *Scanner) endRef(i int) error {
	r := s.refValue
	switch s.refKind {
	case refDecimal, refHex:
		if !isChar(r) {
			return s.fail(NotWellFormed, i, "reference to a character that XML forbids")
		}
	case refEntity:
		switch string(s.part[:s.partLen]) {
		case "amp":
			r = '&'
		case "lt":
			r = '<'
		case "gt":
			r = '>'
		case "apos":
			r = '\''
		case "quot":
			r = '"'
		default:
			return s.fail(RestrictedXML, i, "reference to an entity that is not predefined")
		}
	default:
		return s.fail(NotWellFormed, i, "empty reference")
	}
	sc := s.sc
	if s.state = s.ret; s.state == inQuotes {
		sc.tag = appendRune(sc.tag, r, true)
	} else {
		sc.buf = appendRune(sc.buf, r, false)
	}
	return nil
}
