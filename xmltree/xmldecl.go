package xmltree

import "strings"

// maxDecl bounds an XML declaration in bytes. The longest that makes sense has
// about 60.
const maxDecl = 256

// xmlDecl collects an XML declaration after "<?" and checks it at its '>'.
func (s *Scanner) xmlDecl(in []byte, i int) (int, error) {
	const target = "xml"
	for ; i < len(in); i++ {
		c, sc := in[i], s.sc
		switch n := len(sc.tag); {
		case n < len(target) && c != target[n],
			n == len(target) && classes[c]&isSpace == 0:
			return i, s.fail(RestrictedXML, i, "processing instruction")
		case n >= maxDecl:
			return i, s.fail(NotWellFormed, i, "XML declaration too long")
		}
		if c != '>' {
			sc.tag = append(sc.tag, c)
			continue
		}
		body, ok := strings.CutSuffix(string(sc.tag[len(target):]), "?")
		if !ok {
			return i, s.fail(NotWellFormed, i, "malformed XML declaration")
		}
		if kind, msg := checkDecl(body); kind != 0 {
			return i, s.fail(kind, i, msg)
		}
		s.release()
		s.state = inProlog
		return i + 1, nil
	}
	return i, nil
}

// checkDecl checks what stands between "<?xml" and "?>" (XML 1.0 2.8). Version
// 1.1 and later ones of 1.x are read as 1.0, as its fifth edition says.
func checkDecl(body string) (ErrorKind, string) {
	version, body, ok := pseudoAttr(body, "version")
	minor, is1 := strings.CutPrefix(version, "1.")
	if !ok || !is1 || minor == "" || strings.Trim(minor, "0123456789") != "" {
		return NotWellFormed, "XML declaration without version 1.x"
	}
	encoding, body, ok := pseudoAttr(body, "encoding")
	if ok && !strings.EqualFold(encoding, "UTF-8") {
		return UnsupportedEncoding, "encoding other than UTF-8"
	}
	standalone, body, ok := pseudoAttr(body, "standalone")
	if ok && standalone != "yes" && standalone != "no" {
		return NotWellFormed, "standalone is neither yes nor no"
	}
	if strings.Trim(body, " \t\r\n") != "" {
		return NotWellFormed, "malformed XML declaration"
	}
	return 0, ""
}

// pseudoAttr takes one name='value' from the start of body.
func pseudoAttr(body, name string) (value, rest string, ok bool) {
	const space = " \t\r\n"
	at := strings.TrimLeft(body, space)
	if at == body || !strings.HasPrefix(at, name) {
		return "", body, false
	}
	at, ok = strings.CutPrefix(strings.TrimLeft(at[len(name):], space), "=")
	at = strings.TrimLeft(at, space)
	if !ok || at == "" || at[0] != '\'' && at[0] != '"' {
		return "", body, false
	}
	value, rest, ok = strings.Cut(at[1:], at[:1])
	if !ok {
		return "", body, false
	}
	return value, rest, true
}
