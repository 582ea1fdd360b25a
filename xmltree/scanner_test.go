package xmltree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// scanAll feeds pieces and returns tokens in readable form, at last the error.
func scanAll(lim Limits, pieces ...[]byte) (tokens []string, ended bool, err error) {
	s := NewScanner(lim)
	for _, p := range pieces {
		p = slices.Clone(p) // the scanner must not keep it
		for len(p) > 0 {
			tok, n, err := s.Next(p)
			if err != nil {
				var se *SyntaxError
				if !errors.As(err, &se) {
					panic("not a SyntaxError")
				}
				if _, _, again := s.Next([]byte(" ")); again != err {
					panic("scanner did not stay failed")
				}
				return append(tokens, err.Error()), ended, err
			}
			clear(p[:n])
			if p = p[n:]; tok.Kind == None {
				if len(p) > 0 {
					panic("no token with input left")
				}
				continue
			}
			ended = tok.Kind == StreamEnd
			tokens = append(tokens, fmt.Sprintf("%d %q %d %s", tok.Kind, tok.DefaultSpace, tok.Size, tok.Element.Raw()))
		}
	}
	return tokens, ended, nil
}

func bytewise(doc string) (pieces [][]byte) {
	for i := range len(doc) {
		pieces = append(pieces, []byte(doc[i:i+1]))
	}
	return pieces
}

// everySplit checks that no split changes what whole input gives, and returns that.
func everySplit(t *testing.T, lim Limits, doc string) ([]string, bool, error) {
	t.Helper()
	want, ended, err := scanAll(lim, []byte(doc))
	if got, _, _ := scanAll(lim, bytewise(doc)...); !slices.Equal(got, want) {
		t.Errorf("%q by bytes:\n got %q\nwant %q", doc, got, want)
	}
	for i := range len(doc) {
		if got, _, _ := scanAll(lim, []byte(doc[:i]), []byte(doc[i:])); !slices.Equal(got, want) {
			t.Errorf("%q split at %d:\n got %q\nwant %q", doc, i, got, want)
		}
	}
	return want, ended, err
}

func TestMalformed(t *testing.T) {
	for _, tt := range slices.Concat(malformed, stricter) {
		tokens, ended, err := everySplit(t, Limits{}, tt.doc)
		var se *SyntaxError
		switch {
		case tt.kind == 0:
			if err != nil || ended {
				t.Errorf("%q: ended %v, %v; want incomplete", tt.doc, ended, err)
			}
		case !errors.As(err, &se):
			t.Errorf("%q accepted: %q", tt.doc, tokens)
		case se.Kind != tt.kind:
			t.Errorf("%q: %v, want %v", tt.doc, err, tt.kind)
		}
	}
}

func TestWellFormed(t *testing.T) {
	for _, tt := range wellFormed {
		doc := docRoot + tt.doc + "\n" + tt.doc + docEnd
		tokens, ended, err := everySplit(t, Limits{}, doc)
		want := []string{
			fmt.Sprintf(`1 "jabber:client" %d <s xmlns='urn:s'/>`, len(docRoot)),
			fmt.Sprintf(`2 "" %d %s`, len(tt.doc), tt.canonical),
			fmt.Sprintf(`2 "" %d %s`, len(tt.doc), tt.canonical),
			fmt.Sprintf(`3 "" %d `, len(docEnd)),
		}
		if err != nil || !ended || !slices.Equal(tokens, want) {
			t.Errorf("%q:\n got %q\nwant %q", doc, tokens, want)
		}
	}
	for _, doc := range headers {
		if tokens, ended, err := everySplit(t, Limits{}, doc); err != nil || !ended {
			t.Errorf("%q: %q", doc, tokens)
		}
	}
}

// sameTree compares two elements by what their methods say.
func sameTree(a, b Element) error {
	if a.Name() != b.Name() {
		return fmt.Errorf("name %v and %v", a.Name(), b.Name())
	}
	if x, y := slices.Collect(a.Attrs()), slices.Collect(b.Attrs()); !slices.Equal(x, y) {
		return fmt.Errorf("%v: attributes %v and %v", a.Name(), x, y)
	}
	if x, y := a.Text(), b.Text(); x != y {
		return fmt.Errorf("%v: text %q and %q", a.Name(), x, y)
	}
	x, y := slices.Collect(a.Children()), slices.Collect(b.Children())
	if len(x) != len(y) {
		return fmt.Errorf("%v: %d and %d children", a.Name(), len(x), len(y))
	}
	for i := range x {
		if err := sameTree(x[i], y[i]); err != nil {
			return err
		}
	}
	return nil
}

// generous lets canonical forms in that are longer than their originals.
var generous = Limits{MaxBytes: 8 << 20, MaxAttrs: 4096, MaxNamespaces: 4096}

// fixedPoint checks that canonical bytes parse to themselves and to an equal
// tree, in their own context and in another, for the element and all in it.
func fixedPoint(e Element, context string) error {
	again, err := Parse([]byte(e.Raw()), context, generous)
	if err != nil {
		return fmt.Errorf("%q: %w", e.Raw(), err)
	}
	if again.Raw() != e.Raw() {
		return fmt.Errorf("%q became %q", e.Raw(), again.Raw())
	}
	if err := sameTree(e, again); err != nil {
		return fmt.Errorf("%q: %w", e.Raw(), err)
	}
	for _, other := range []string{"", "urn:other", "a&'b", e.Space()} {
		moved := e.AppendTo(nil, other)
		again, err := Parse(moved, other, generous)
		if err != nil {
			return fmt.Errorf("%q: %w", moved, err)
		}
		if again.Raw() != string(moved) {
			return fmt.Errorf("in %q: %q became %q", other, moved, again.Raw())
		}
		if err := sameTree(e, again); err != nil {
			return fmt.Errorf("in %q: %q: %w", other, moved, err)
		}
	}
	wrapped := NewWriter(nil, context).Start(e.Space(), e.Local()).Inner(e.Inner()).End().Bytes()
	if again, err = Parse(wrapped, context, generous); err != nil || again.Inner() != e.Inner() {
		return fmt.Errorf("inner %q became %q, %v", e.Inner(), again.Inner(), err)
	}
	if rebuilt := rebuild(NewWriter(nil, context), e).String(); rebuilt != e.Raw() {
		return fmt.Errorf("%q was rebuilt as %q", e.Raw(), rebuilt)
	}
	return nil
}

// rebuild writes an element through the Writer's small calls. Text stands
// between children, so it walks the content with the parser's own pieces.
func rebuild(w *Writer, e Element) *Writer {
	w.Start(e.Space(), e.Local())
	for a := range e.Attrs() {
		w.AttrNS(a.Name.Space, a.Name.Local, a.Value)
	}
	pos := e.node().head
	for c := range e.Children() {
		w.Text(unescape(e.d.s[pos:c.node().start]))
		rebuild(w, c)
		pos = c.node().end
	}
	return w.Text(unescape(e.d.s[pos:e.contentEnd()])).End()
}

// walk yields the element and all elements in it.
func walk(e Element, f func(Element)) {
	f(e)
	for c := range e.Children() {
		walk(c, f)
	}
}

func TestCanonicalFixedPoint(t *testing.T) {
	for _, tt := range wellFormed {
		s := NewScanner(Limits{})
		in := []byte(docRoot + tt.doc)
		tok, n, err := s.Next(in)
		if err != nil {
			t.Fatal(err)
		}
		context := tok.DefaultSpace
		if tok, _, err = s.Next(in[n:]); err != nil {
			t.Fatal(err)
		}
		if err := fixedPoint(tok.Element, context); err != nil {
			t.Error(err)
		}
		walk(tok.Element, func(e Element) {
			for c := range e.Children() {
				if err := fixedPoint(c, e.Space()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRandomSplits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString(docRoot)
	for _, tt := range wellFormed {
		b.WriteString(tt.doc)
	}
	b.WriteString(docEnd)
	doc := b.String()
	want, ended, err := scanAll(Limits{}, []byte(doc))
	if err != nil || !ended {
		t.Fatal(want, err)
	}
	for range 200 {
		if got, _, _ := scanAll(Limits{}, randomSplit(r, doc)...); !slices.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	}
}

func randomSplit(r *rand.Rand, doc string) (pieces [][]byte) {
	most := 1 + r.IntN(40)
	for len(doc) > 0 {
		n := min(1+r.IntN(most), len(doc))
		pieces = append(pieces, []byte(doc[:n]))
		doc = doc[n:]
	}
	return pieces
}

func TestErrorOffset(t *testing.T) {
	for _, tt := range []struct {
		doc    string
		offset int64
	}{
		{`x`, 0},
		{`<s><m>&#0;`, 9},
		{"<s><m>ab\xC0", 8},
		{"<s><m>a\xE2\x82<", 7},
		{`<s><m></n>`, 8},
	} {
		_, _, err := everySplit(t, Limits{}, tt.doc)
		var se *SyntaxError
		if !errors.As(err, &se) || se.Offset != tt.offset {
			t.Errorf("%q: %v, want offset %d", tt.doc, err, tt.offset)
		}
	}
}

func TestReset(t *testing.T) {
	s := NewScanner(Limits{})
	in := []byte(`<a:s xmlns:a='urn:a' xmlns='urn:d'><m>`)
	tok, n, err := s.Next(in)
	if err != nil || tok.Kind != StreamStart || s.InUnit() {
		t.Fatal(tok, err)
	}
	if _, _, err = s.Next(in[n:]); err != nil || !s.InUnit() {
		t.Fatal("in unit expected", err)
	}
	s.Reset()
	if s.InUnit() {
		t.Error("in unit after Reset")
	}
	in = []byte(`<?xml version='1.0'?><s><m/>`)
	if tok, n, err = s.Next(in); err != nil || tok.Kind != StreamStart || tok.DefaultSpace != "" {
		t.Fatal(tok, err)
	}
	if tok, _, err = s.Next(in[n:]); err != nil || tok.Kind != Unit || tok.Element.Space() != "" || tok.Size != 4 {
		t.Fatal(tok, err)
	}
	if _, _, err = s.Next([]byte(`<a:m/>`)); err == nil {
		t.Error("prefix of the stream before Reset still bound")
	}
	s.Reset()
	if _, _, err = s.Next([]byte(`<s>`)); err == nil {
		t.Error("Reset revived a failed scanner")
	}
}

func TestInUnit(t *testing.T) {
	for doc, want := range map[string]bool{
		``: false, `<`: true, ` `: true, `<?xml version='1.0'?>`: true, `<s`: true, `<s>`: false, `<s/`: true, `<s/>`: false,
		"<s> \n": false, `<s> <`: true, `<s><m>`: true, `<s><m>x`: true, `<s><m></m`: true, `<s><m></m>`: false, `<s><m/>`: false,
		`<s></s>`: false, `<s></`: true, `<s>x`: false,
	} {
		s := NewScanner(Limits{})
		for _, p := range bytewise(doc) {
			if _, _, err := s.Next(p); err != nil {
				break
			}
		}
		if s.InUnit() != want {
			t.Errorf("after %q: InUnit is %v", doc, !want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		doc, context, canonical string
		kind                    ErrorKind
	}{
		{`<a/>`, ``, `<a/>`, 0},
		{`<a/>`, `urn:x`, `<a/>`, 0},
		{`<a xmlns='urn:x'/>`, `urn:x`, `<a/>`, 0},
		{`<a xmlns="a'b"/>`, `a'b`, `<a/>`, 0},
		{`<a xmlns=''/>`, `urn:x`, `<a xmlns=''/>`, 0},
		{`<a xmlns='urn:x'/>`, ``, `<a xmlns='urn:x'/>`, 0},
		{"<?xml version='1.0'?> \n<a>x<b/></a>\n", `urn:x`, `<a>x<b/></a>`, 0},
		{` <a/>`, ``, `<a/>`, 0},
		{``, ``, ``, NotWellFormed},
		{`<a>`, ``, ``, NotWellFormed},
		{`<a/><b/>`, ``, ``, NotWellFormed},
		{`<a/>x`, ``, ``, NotWellFormed},
		{`x<a/>`, ``, ``, NotWellFormed},
		{`</a>`, ``, ``, NotWellFormed},
		{`<!--x--><a/>`, ``, ``, RestrictedXML},
		{`<a/><!--x-->`, ``, ``, NotWellFormed},
		{`<![CDATA[x]]>`, ``, ``, NotWellFormed},
		{`<p:a/>`, ``, ``, InvalidNamespace},
	} {
		e, err := Parse([]byte(tt.doc), tt.context, Limits{})
		var se *SyntaxError
		if tt.kind != 0 {
			if !errors.As(err, &se) || se.Kind != tt.kind || !e.IsZero() {
				t.Errorf("%q: %v, want %v", tt.doc, err, tt.kind)
			}
			continue
		}
		if err != nil || e.Raw() != tt.canonical {
			t.Errorf("%q in %q: %q, %v; want %q", tt.doc, tt.context, e.Raw(), err, tt.canonical)
		}
		if err := fixedPoint(e, tt.context); err != nil {
			t.Error(err)
		}
	}
}
