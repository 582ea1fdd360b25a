package scripts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// bindings are the captured values by name.
type bindings map[string]string

func (b bindings) clone() bindings {
	c := make(bindings, len(b))
	for k, v := range b {
		c[k] = v
	}
	return c
}

var placeholder = regexp.MustCompile(`\{(\$?[A-Za-z][A-Za-z0-9_]*)\}`)

// expand replaces {x} by what is bound, escaped for XML.
func (b bindings) expand(s string) (string, error) {
	var err error
	out := placeholder.ReplaceAllStringFunc(s, func(m string) string {
		v, ok := b[strings.Trim(m, "{}")]
		if !ok {
			err = fmt.Errorf("%s has no value", m)
		}
		return string(xmltree.AppendAttrValue(nil, v))
	})
	return out, err
}

// value matches a pattern with a value, binding what isn't bound.
func (b bindings) value(pattern, got string) bool {
	if !strings.Contains(pattern, "{") {
		return pattern == got
	}
	var re strings.Builder
	var names []string
	re.WriteString("(?s)^")
	at := 0
	for _, loc := range placeholder.FindAllStringSubmatchIndex(pattern, -1) {
		re.WriteString(regexp.QuoteMeta(pattern[at:loc[0]]))
		at = loc[1]
		name := pattern[loc[2]:loc[3]]
		v, bound := b[name]
		switch {
		case name == "any":
			re.WriteString(".*")
		case bound:
			re.WriteString(regexp.QuoteMeta(v))
		case strings.HasPrefix(name, "$"):
			re.WriteString("(.*)")
			names = append(names, name)
		default:
			return false
		}
	}
	re.WriteString(regexp.QuoteMeta(pattern[at:]) + "$")
	m := regexp.MustCompile(re.String()).FindStringSubmatch(got)
	if m == nil {
		return false
	}
	for i, n := range names {
		b[n] = m[i+1]
	}
	return true
}

// element matches an expected element with a received one. On success b has
// the captures; the error says what differs.
func (b bindings) element(want, got xmltree.Element) error {
	if want.Name() != got.Name() {
		return fmt.Errorf("<%s xmlns='%s'/> instead of <%s xmlns='%s'/>", got.Local(), got.Space(), want.Local(), want.Space())
	}
	for a := range want.Attrs() {
		v, ok := got.LookupAttr(a.Name.Space, a.Name.Local)
		switch {
		case a.Value == "{none}":
			if ok {
				return fmt.Errorf("<%s/> has %s='%s'", want.Local(), a.Name.Local, v)
			}
		case !ok && !(a.Name.Local == "type" && a.Value == "normal"):
			return fmt.Errorf("<%s/> has no %s", want.Local(), a.Name.Local)
		case ok && !b.value(a.Value, v):
			return fmt.Errorf("<%s/> has %s='%s'", want.Local(), a.Name.Local, v)
		}
	}
	text, more := cut(want.Text(), "...")
	text, ordered := cut(text, "{ordered}")
	text = strings.TrimSpace(text)
	if !(more && text == "") && !b.value(text, strings.TrimSpace(got.Text())) {
		return fmt.Errorf("<%s/> has the text %q", want.Local(), got.Text())
	}
	var wants, gots []xmltree.Element
	for c := range want.Children() {
		wants = append(wants, c)
	}
	for c := range got.Children() {
		if isWhose(c) && !slices.ContainsFunc(wants, isWhose) {
			continue // every message has one; who writes of something else needn't mention it
		}
		gots = append(gots, c)
	}
	return b.children(want.Local(), wants, gots, more, ordered)
}

func isWhose(el xmltree.Element) bool { return el.Is(xep.NSMine, "whose") }

func cut(s, marker string) (string, bool) {
	return strings.Replace(s, marker, "", 1), strings.Contains(s, marker)
}

// children finds a received child for every expected one.
func (b bindings) children(parent string, wants, gots []xmltree.Element, more, ordered bool) error {
	if len(wants) == 0 {
		if len(gots) > 0 && !more {
			return fmt.Errorf("<%s/> has %s too", parent, gots[0].Raw())
		}
		return nil
	}
	var last error
	for i, g := range gots {
		try := b.clone()
		err := try.element(wants[0], g)
		if err == nil {
			rest := append(append([]xmltree.Element(nil), gots[:i]...), gots[i+1:]...)
			if ordered {
				if !more && i > 0 {
					return fmt.Errorf("<%s/>: %s comes first", parent, gots[0].Raw())
				}
				rest = gots[i+1:]
			}
			if err = try.children(parent, wants[1:], rest, more, ordered); err == nil {
				for k, v := range try {
					b[k] = v
				}
				return nil
			}
		}
		if last == nil || wants[0].Name() == g.Name() {
			last = err
		}
	}
	if last == nil {
		last = fmt.Errorf("<%s/> has no <%s/>", parent, wants[0].Local())
	}
	return last
}

// parse reads the elements of a block.
func parse(block string) ([]xmltree.Element, error) {
	const open = "<block xmlns='" + stanza.NSClient + "' xmlns:stream='" + stanza.NSStreams + "'>"
	el, err := xmltree.Parse([]byte(open+block+"</block>"), stanza.NSClient, xmltree.Limits{MaxBytes: 16 << 20, MaxDepth: 1000, MaxAttrs: 1000, MaxChildren: 1 << 20})
	if err != nil {
		return nil, err
	}
	var list []xmltree.Element
	for c := range el.Children() {
		list = append(list, c)
	}
	if el.HasText() || len(list) == 0 {
		return nil, fmt.Errorf("want elements, got %q", strings.TrimSpace(block))
	}
	return list, nil
}
