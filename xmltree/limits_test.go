package xmltree

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

func TestLimits(t *testing.T) {
	rep := strings.Repeat
	lim := Limits{MaxBytes: 200, MaxDepth: 4, MaxAttrs: 3, MaxChildren: 6, MaxNamespaces: 4}
	const head = `<s xmlns='urn:d'>`
	for _, tt := range []struct {
		name, doc string
		kind      ErrorKind // 0: accepted
	}{
		{"bytes at limit", head + `<m>` + rep("x", 200-7) + `</m>`, 0},
		{"bytes over", head + `<m>` + rep("x", 201-7) + `</m>`, TooLarge},
		{"bytes at limit, twice", head + rep(`<m>`+rep("x", 200-7)+`</m>`, 2), 0},
		{"bytes in name", head + `<` + rep("x", 300), TooLarge},
		{"bytes in attribute name", head + `<m ` + rep("x", 300), TooLarge},
		{"bytes in value", head + `<m a='` + rep("x", 300), TooLarge},
		{"bytes in white space of a tag", head + `<m` + rep(" ", 300), TooLarge},
		{"bytes in white space after =", head + `<m a=` + rep(" ", 300), TooLarge},
		{"bytes in end tag", head + `<m></m` + rep(" ", 300), TooLarge},
		{"bytes in reference", head + `<m>&#` + rep("0", 300), TooLarge},
		{"bytes in CDATA", head + `<m><![CDATA[` + rep("]", 300), TooLarge},
		{"bytes in root's end tag", head + `</s` + rep(" ", 300), TooLarge},
		{"bytes in header", `<s a='` + rep("x", 300), TooLarge},
		{"bytes before header", rep(" ", 300), TooLarge},
		{"bytes between declaration and header", `<?xml version='1.0'?>` + rep(" ", 180) + `<s>`, TooLarge},
		{"declaration", `<?xml version='1.0'` + rep(" ", 300), TooLarge},
		{"keepalives", head + rep(" \n", 1000) + `<m/>`, 0},
		{"canonical text", head + `<m>` + rep("]>", 80) + `</m>`, TooLarge},
		{"canonical value", head + `<m a="` + rep("'", 40) + `"/>`, TooLarge},
		{"canonical CDATA", head + `<m><![CDATA[` + rep("&", 60) + `]]></m>`, TooLarge},
		{"canonical namespaces", `<s xmlns:p='` + rep("u", 90) + `'><m><p:a/><p:a/></m>`, TooLarge},
		{"canonical namespaces of attributes", `<s xmlns:p='` + rep("u", 90) + `'><m><a p:a=''/><a p:a=''/></m>`, TooLarge},
		{"depth at limit", head + rep(rep(`<m>`, 4)+rep(`</m>`, 4), 2), 0},
		{"depth over", head + rep(`<m>`, 5), TooDeep},
		{"depth over, empty element", head + rep(`<m>`, 4) + `<m/>`, TooDeep},
		{"attributes at limit", head + `<m a='' b='' c=''/>`, 0},
		{"attributes over", head + `<m a='' b='' c='' d=''/>`, TooManyAttrs},
		{"attributes over, declarations", head + `<m xmlns='' xmlns:b='b' c='' xmlns:d='d'/>`, TooManyAttrs},
		{"attributes of header", `<s a='' b='' c='' d=''>`, TooManyAttrs},
		{"elements at limit", head + rep(`<m>`+rep(`<a/>`, 5)+`</m>`, 2), 0},
		{"elements over", head + `<m>` + rep(`<a/>`, 6) + `</m>`, TooManyElements},
		{"namespaces at limit", head + `<m xmlns:a='a' xmlns:b='b' xmlns:c='c'/><m xmlns:a='a' xmlns:b='b' xmlns:c='c'/>`, 0},
		{"namespaces over", head + `<m xmlns:a='a' xmlns:b='b' xmlns:c='c'><m xmlns:a='e'/>`, TooManyNamespaces},
		{"namespaces over, defaults", head + `<m xmlns:a='a' xmlns:b='b' xmlns='c'><m xmlns='e'/>`, TooManyNamespaces},
		{"namespaces out of scope", head + `<m xmlns:a='a'>` + rep(`<m xmlns:b='b' xmlns:c='c'/>`, 5) + `</m>`, 0},
	} {
		_, _, err := everySplit(t, lim, tt.doc)
		var se *SyntaxError
		if tt.kind == 0 && err != nil || tt.kind != 0 && (!errors.As(err, &se) || se.Kind != tt.kind) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.kind)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := NotWellFormed; k <= TooManyNamespaces; k++ {
		msg := (&SyntaxError{Kind: k, Offset: 7, Msg: "x"}).Error()
		if seen[msg] || strings.Contains(msg, "ErrorKind") || !strings.Contains(msg, "byte 7: x") {
			t.Errorf("kind %d: %q", k, msg)
		}
		seen[msg] = true
	}
}

func TestDefaultLimits(t *testing.T) {
	for _, tt := range []struct {
		doc  string
		kind ErrorKind
	}{
		{`<m>` + strings.Repeat("x", 256<<10) + `</m>`, TooLarge},
		{strings.Repeat(`<m>`, 101), TooDeep},
		{`<m>` + strings.Repeat(`<m/>`, 16<<10), TooManyElements},
	} {
		_, err := Parse([]byte(tt.doc), "", Limits{})
		var se *SyntaxError
		if !errors.As(err, &se) || se.Kind != tt.kind {
			t.Errorf("%.20s…: %v, want %v", tt.doc, err, tt.kind)
		}
	}
}

func TestSetLimits(t *testing.T) {
	s := NewScanner(Limits{MaxBytes: 100})
	feed := func(p string) error {
		for p != "" {
			_, n, err := s.Next([]byte(p))
			if err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}
	if err := feed(`<s><m>` + strings.Repeat("x", 90)); err != nil {
		t.Fatal(err)
	}
	s.SetLimits(Limits{MaxBytes: 300})
	if err := feed(strings.Repeat("x", 190) + `</m><m>` + strings.Repeat("x", 100)); err != nil {
		t.Fatal(err)
	}
	s.SetLimits(Limits{MaxBytes: 50})
	if err := feed(`x`); err == nil {
		t.Error("unit already over the new limit went on")
	}
}

// held is what a scanner holds in bytes, itself included.
func held(s *Scanner) (n int) {
	n = int(unsafe.Sizeof(*s)) + cap(s.root.decls)*int(unsafe.Sizeof(decl{})) + cap(s.root.ns) + cap(s.root.name) + len(s.root.context)
	if sc := s.sc; sc != nil {
		n += int(unsafe.Sizeof(*sc)) + cap(sc.buf) + cap(sc.tag) + cap(sc.names) + cap(sc.ns) + cap(sc.order)*4 +
			cap(sc.nodes)*int(unsafe.Sizeof(node{})) + cap(sc.attrs)*int(unsafe.Sizeof(attr{})) + cap(sc.frames)*int(unsafe.Sizeof(frame{})) +
			cap(sc.decls)*int(unsafe.Sizeof(decl{})) + cap(sc.raw)*int(unsafe.Sizeof(rawAttr{}))
	}
	return n
}

// TestIdle checks that a scanner between units holds less than 512 bytes,
// whatever it has read.
func TestIdle(t *testing.T) {
	s := NewScanner(Limits{})
	in := []byte(streamHeader + roster() + `<m>` + strings.Repeat("x", 200<<10) + `</m>` + chatMessage + " \n")
	for len(in) > 0 {
		_, n, err := s.Next(in)
		if err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	if n := held(s); s.sc != nil || n >= 512 {
		t.Errorf("idle scanner holds %d bytes", n)
	} else {
		t.Logf("idle scanner: %d bytes", n)
	}
}

// TestMemory checks that hostile input cannot make a scanner hold more than a
// fixed multiple of MaxBytes, and nothing after its error.
func TestMemory(t *testing.T) {
	const maxBytes = 64 << 10
	rep := strings.Repeat
	var attrs, decls strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&attrs, " a%d=''", i)
		fmt.Fprintf(&decls, " xmlns:a%d='%d'", i, i)
	}
	for name, doc := range map[string]string{
		"text":         `<m>` + rep(">", maxBytes),
		"cdata":        `<m><![CDATA[` + rep("&", maxBytes),
		"brackets":     `<m><![CDATA[` + rep("]", maxBytes),
		"value":        `<m a="` + rep("'", maxBytes),
		"elements":     `<m>` + rep("<a/>", maxBytes),
		"depth":        rep("<a>", maxBytes),
		"name":         `<` + rep("a", maxBytes),
		"end":          `<m></m` + rep(" ", maxBytes),
		"attributes":   `<m` + attrs.String(),
		"declarations": `<m` + decls.String(),
		"namespaces":   `<m xmlns:p='` + rep("u", maxBytes/2) + `'>` + rep(`<p:a/>`, maxBytes),
		"many attrs":   `<m>` + rep(`<a b='' c='' d=''/>`, maxBytes),
	} {
		// Limits that leave the bytes to bind.
		s := NewScanner(Limits{MaxBytes: maxBytes, MaxDepth: maxBytes, MaxAttrs: maxBytes, MaxChildren: maxBytes, MaxNamespaces: maxBytes})
		most := 0
		var err error
		feed := func(p string) {
			for p != "" && err == nil {
				chunk := p[:min(len(p), 1024)]
				var n int
				_, n, err = s.Next([]byte(chunk))
				p = p[n:]
				most = max(most, held(s))
			}
		}
		feed(`<s>`)
		feed(doc)
		feed(rep(" ", maxBytes))
		if err == nil {
			t.Errorf("%s: no limit hit", name)
		}
		if most > 40*maxBytes {
			t.Errorf("%s: held %d times MaxBytes", name, most/maxBytes)
		}
		if s.sc != nil || held(s) >= 512 {
			t.Errorf("%s: failed scanner holds %d bytes", name, held(s))
		}
	}
}

// BenchmarkHostile shows time per byte of input made to be slow, in two sizes:
// work is linear if they are alike.
func BenchmarkHostile(b *testing.B) {
	rep := strings.Repeat
	for _, size := range []int{16 << 10, 128 << 10} {
		var attrs, colliding, decls strings.Builder
		for i := 0; attrs.Len() < size; i++ {
			fmt.Fprintf(&attrs, " a%05d=''", i)
			fmt.Fprintf(&colliding, " p:a%05d=''", i)
		}
		for i := range 100 {
			fmt.Fprintf(&decls, " xmlns:a%05d='urn:%05d'", i, i)
		}
		for _, c := range []struct{ name, doc string }{
			{"attributes", `<m` + attrs.String() + `/>`},
			{"prefixed", `<m` + colliding.String() + `/>`},
			{"prefixes", `<m` + decls.String() + `>` + rep(`<a00000:a/>`, size/11) + `</m>`},
			{"long namespaces", `<m xmlns:q='` + rep("u", size/2) + `'><q:m xmlns:r='` + rep("u", size/2) + `'>` + rep(`<r:a/>`, size/6) + `</q:m></m>`},
			{"depth", rep(`<m>`, size/7) + rep(`</m>`, size/7)},
			{"references", `<m>` + rep(`&lt;`, size/4) + `</m>`},
			{"brackets", `<m>` + rep(`]`, size) + `</m>`},
		} {
			b.Run(fmt.Sprintf("%s/%dK", c.name, size>>10), func(b *testing.B) {
				doc := []byte(`<s xmlns:p='urn:p'>` + c.doc)
				b.SetBytes(int64(len(doc)))
				for b.Loop() {
					s := NewScanner(Limits{MaxBytes: 4 << 20, MaxDepth: 1 << 20, MaxAttrs: 1 << 20, MaxChildren: 1 << 20})
					for in := doc; len(in) > 0; {
						_, n, err := s.Next(in)
						if err != nil {
							b.Fatal(err)
						}
						in = in[n:]
					}
				}
			})
		}
	}
}
