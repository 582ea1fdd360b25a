//go:build expat

package xmltree

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"carillon.im/xmltree/internal/expat"
)

// dumpElement writes an element as expat.Check does; open leaves out its end.
func dumpElement(b *bytes.Buffer, e Element, open bool) {
	name := func(n Name) {
		if n.Space != "" {
			b.WriteString(n.Space)
			b.WriteByte(1)
		}
		b.WriteString(n.Local)
	}
	b.WriteByte(2)
	name(e.Name())
	for a := range e.Attrs() {
		b.WriteByte(3)
		name(a.Name)
		b.WriteByte(4)
		b.WriteString(a.Value)
	}
	b.WriteByte(5)
	pos := e.node().head
	for c := range e.Children() {
		b.WriteString(unescape(e.d.s[pos:c.node().start]))
		dumpElement(b, c, false)
		pos = c.node().end
	}
	b.WriteString(unescape(e.d.s[pos:e.contentEnd()]))
	if !open {
		b.WriteByte(6)
	}
}

// scanDump reads a complete stream document in pieces, and returns a dump of it
// if it was accepted to its end.
func scanDump(pieces [][]byte) (dump []byte, ok bool) {
	var b bytes.Buffer
	s := NewScanner(Limits{})
	for _, p := range pieces {
		for len(p) > 0 {
			tok, n, err := s.Next(p)
			if err != nil {
				return nil, false
			}
			p = p[n:]
			switch tok.Kind {
			case StreamStart:
				dumpElement(&b, tok.Element, true)
			case Unit:
				dumpElement(&b, tok.Element, false)
			case StreamEnd:
				b.WriteByte(6)
				ok = true
			}
		}
	}
	return b.Bytes(), ok
}

// checkExpat fails if the scanner accepts what expat refuses, or reads it otherwise.
func checkExpat(t *testing.T, r *rand.Rand, doc []byte) (accepted bool) {
	t.Helper()
	dump, ok := scanDump(randomSplit(r, string(doc)))
	if !ok {
		return false
	}
	refused, want := expat.Check(doc)
	if refused != "" {
		t.Fatalf("accepted, but expat says %s:\n%q", refused, doc)
	}
	if !bytes.Equal(dump, want) {
		t.Fatalf("%q:\n read %q\nexpat %q", doc, dump, want)
	}
	return true
}

// The mutator's words: what XMPP streams are made of, and what breaks them.
var dictionary = []string{
	`<`, `>`, `/>`, `</`, `<a>`, `</a>`, `<a/>`, `<m>`, `</m>`, `<p:a>`, `</p:a>`, `<p:a/>`, `<?xml version='1.0'?>`, `<?xml version='1.0' encoding='UTF-8'?>`,
	`<?pi?>`, `<!-- x -->`, `<!DOCTYPE a>`, `<![CDATA[`, `]]>`, `]]`, `]`, `<!`, `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;`, `&#x41;`, `&#65;`, `&#xD;`, `&#10;`, `&#9;`, `&#xD800;`,
	`&#0;`, `&#x10FFFF;`, `&#x110000;`, `&foo;`, `&`, `;`, `#`, `'`, `"`, `=`, `:`, ` `, "\t", "\n", "\r", "\r\n", ` xmlns='urn:x'`, ` xmlns=''`, ` xmlns:p='urn:p'`, ` xmlns:q='urn:p'`,
	` xmlns:p=''`, ` xmlns:xml='` + XMLSpace + `'`, ` xmlns:q='` + XMLSpace + `'`, ` xmlns='` + XMLNSSpace + `'`, ` xml:lang='en'`, `xml:`, `xmlns`, `xmlns:`, ` p:a='1'`, ` q:a='1'`, ` a='1'`, ` b="2"`,
	`<message to='a@b' type='chat'>`, `</message>`, `<body>hi</body>`, `<iq type='get' id='1'>`, `<presence/>`, `<stream:features/>`, ` xmlns='jabber:client'`, `</stream:stream>`, `</s:s>`,
	"\x00", "\x1F", "\x7F", "\x80", "\xC0\x80", "\xC2", "\xE2\x82", "\xED\xA0\x80", "\xEF\xBB\xBF", "\xEF\xBF\xBE", "\xF0\x9F\x98\x80", "\xF4\x90\x80\x80", "é", "名", "\u0301", "\u00B7", "\u00D7", "\u2028", "\u0085", "\U00010000", "\u3007",
}

// mutate changes doc in a few places.
func mutate(r *rand.Rand, doc []byte, pool [][]byte) []byte {
	doc = bytes.Clone(doc)
	for range 1 + r.IntN(4) {
		at, end := r.IntN(len(doc)+1), 0
		end = min(len(doc), at+1+r.IntN(1<<r.IntN(6)))
		part := bytes.Clone(doc[at:end])
		switch r.IntN(8) {
		case 0: // remove
			doc = append(doc[:at], doc[end:]...)
		case 1: // duplicate, or move a copy elsewhere
			to := r.IntN(len(doc) + 1)
			doc = bytes.Join([][]byte{doc[:to], part, doc[to:]}, nil)
		case 2: // replace one byte
			if at < len(doc) {
				doc[at] = byte(r.IntN(256))
			}
		case 3: // replace by a word
			doc = bytes.Join([][]byte{doc[:at], []byte(dictionary[r.IntN(len(dictionary))]), doc[end:]}, nil)
		case 4: // splice with another document
			other := pool[r.IntN(len(pool))]
			from := r.IntN(len(other) + 1)
			to := from + r.IntN(len(other)-from+1)
			doc = bytes.Join([][]byte{doc[:at], other[from:to], doc[at:]}, nil)
		case 5: // a random character
			doc = bytes.Join([][]byte{doc[:at], utf8.AppendRune(nil, rune(r.IntN(0x3200))), doc[at:]}, nil)
		default: // insert a word
			doc = bytes.Join([][]byte{doc[:at], []byte(dictionary[r.IntN(len(dictionary))]), doc[at:]}, nil)
		}
	}
	return doc
}

// FuzzExpat looks for documents that the scanner accepts and libexpat refuses
// or reads otherwise. Each input stands for itself and for some mutants.
func FuzzExpat(f *testing.F) {
	pool := seeds()
	for i, doc := range pool {
		f.Add(doc, uint64(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		checkExpat(t, r, doc)
		for range 16 {
			mutant := mutate(r, doc, pool)
			if checkExpat(t, r, mutant) {
				doc = mutant // walk on among what is accepted
			}
		}
	})
}

// TestExpatAgrees checks the tables of this package against expat.
func TestExpatAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, doc := range seeds() {
		checkExpat(t, r, doc)
	}
	accepted := slices.Clone(headers)
	for _, tt := range wellFormed {
		accepted = append(accepted, docRoot+tt.doc+docEnd)
	}
	for _, tt := range stricter {
		accepted = append(accepted, tt.doc)
	}
	for _, doc := range accepted {
		if refused, _ := expat.Check([]byte(doc)); refused != "" {
			t.Errorf("%q: expat says %s", doc, refused)
		}
	}
	for _, tt := range malformed {
		if refused, _ := expat.Check([]byte(tt.doc)); refused == "" && tt.kind != StrayText {
			t.Errorf("expat accepts %q, which we refuse as %v", tt.doc, tt.kind)
		}
	}
}

// TestExpatNames checks the tables of name characters against those of expat.
func TestExpatNames(t *testing.T) {
	for r := rune(0x80); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		for _, start := range []bool{true, false} {
			doc := "<a"
			if start {
				doc = "<"
			}
			refused, _ := expat.Check([]byte(doc + string(r) + "/>"))
			if got := isNameRune(r, start); got != (refused == "") {
				t.Errorf("U+%04X, start %v: %v, expat %q", r, start, got, refused)
			}
		}
	}
}
