package xmltree

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// seeds are the documents of the tables and of the benchmarks, complete.
func seeds() (docs [][]byte) {
	for _, tt := range slices.Concat(malformed, stricter) {
		docs = append(docs, []byte(tt.doc))
	}
	for _, tt := range wellFormed {
		docs = append(docs, []byte(docRoot+tt.doc+docEnd))
	}
	for _, doc := range headers {
		docs = append(docs, []byte(doc))
	}
	return append(docs, []byte(streamHeader+presence+archived+"\n"+chatMessage+`</stream:stream>`))
}

// FuzzScanner checks that no split of the input changes what it gives, and that
// the canonical form of every unit, and of all elements in it, is a fixed point.
func FuzzScanner(f *testing.F) {
	for i, doc := range seeds() {
		f.Add(doc, uint64(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		want, _, _ := scanAll(Limits{}, doc)
		if got, _, _ := scanAll(Limits{}, randomSplit(r, string(doc))...); !slices.Equal(got, want) {
			t.Fatalf("%q:\n got %q\nwant %q", doc, got, want)
		}
		if got, _, _ := scanAll(Limits{}, bytewise(string(doc))...); !slices.Equal(got, want) {
			t.Fatalf("%q by bytes:\n got %q\nwant %q", doc, got, want)
		}
		s := NewScanner(Limits{})
		context := ""
		for len(doc) > 0 {
			tok, n, err := s.Next(doc)
			if err != nil {
				return
			}
			doc = doc[n:]
			switch tok.Kind {
			case StreamStart:
				context = tok.DefaultSpace
				if err := fixedPoint(tok.Element, ""); err != nil {
					t.Fatal(err)
				}
			case Unit:
				if err := fixedPoint(tok.Element, context); err != nil {
					t.Fatal(err)
				}
				walk(tok.Element, func(e Element) {
					for c := range e.Children() {
						if err := fixedPoint(c, e.Space()); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
		}
	})
}

// FuzzWriter checks that whatever strings a Writer is given, what it makes is
// canonical and says the same.
func FuzzWriter(f *testing.F) {
	f.Add("body", "urn:x", "to", "a'b", "x<&>]]>\r\n")
	f.Add("é", "a&b", "a1", "\t\n\r\x00\xFF", "\uFFFE\xED\xA0\x80")
	f.Fuzz(func(t *testing.T, local, space, name, value, text string) {
		if !isNCName(local) || !isNCName(name) || name == "xmlns" || space == XMLSpace || space == XMLNSSpace {
			return
		}
		w := NewWriter(nil, "urn:context").Start(space, local).Attr(name, value).AttrNS(XMLSpace, name, value)
		if space != "" {
			w.AttrNS(space, name, value).AttrNS(space, "z"+name, value)
		}
		out := w.Text(text).Start("urn:in", local).Text(text).End().Text(text).End().Bytes()
		e, err := Parse(out, "urn:context", generous)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if e.Raw() != string(out) {
			t.Fatalf("%q became %q", out, e.Raw())
		}
		if err := fixedPoint(e, "urn:context"); err != nil {
			t.Fatal(err)
		}
	})
}
