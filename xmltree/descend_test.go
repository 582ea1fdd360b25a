package xmltree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// descended are the tokens of a document in which elements named by opens are opened.
func descended(pieces [][]byte, opens ...string) (tokens []string, err error) {
	s := NewScanner(Limits{MaxBytes: 60})
	s.Descend(func(n Name) bool { return slices.Contains(opens, n.Space+" "+n.Local) })
	for _, p := range pieces {
		for len(p) > 0 {
			tok, n, err := s.Next(p)
			if err != nil {
				return tokens, err
			}
			p = p[n:]
			switch tok.Kind {
			case StreamStart:
				tokens = append(tokens, fmt.Sprintf("open %s in %q", tok.Element.Raw(), tok.DefaultSpace))
			case Unit:
				tokens = append(tokens, "unit "+tok.Element.Raw())
			case StreamEnd:
				tokens = append(tokens, "end")
			}
		}
	}
	return tokens, nil
}

func TestDescend(t *testing.T) {
	doc := "<p:data xmlns:p='urn:d' xmlns='urn:d'> <host jid='a'><user xmlns:q='urn:q' name='x'>\n<q:card q:k='1'>t</q:card><p:host/></user>" +
		"<user name='y' xmlns='urn:other'><m/></user><host/></host><host xmlns:p='urn:q' jid='b'><p:m/></host><m a='" + strings.Repeat("x", 40) + "'/></p:data> "
	want := []string{
		"open <data xmlns='urn:d'/> in \"urn:d\"",
		"open <host jid='a'/> in \"urn:d\"",
		"open <user name='x'/> in \"urn:d\"",
		"unit <card xmlns='urn:q' xmlns:a1='urn:q' a1:k='1'>t</card>",
		"open <host/> in \"urn:d\"", "end",
		"end",
		"unit <user xmlns='urn:other' name='y'><m/></user>",
		"open <host/> in \"urn:d\"", "end",
		"end",
		"open <host jid='b'/> in \"urn:d\"",
		"unit <m xmlns='urn:q'/>", // the prefix is another here
		"end",
		"unit <m a='" + strings.Repeat("x", 40) + "'/>",
		"end",
	}
	for i := range doc {
		got, err := descended([][]byte{[]byte(doc[:i]), []byte(doc[i:])}, "urn:d host", "urn:d user")
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("split at %d: %v\n got %q\nwant %q", i, err, got, want)
		}
	}
	if got, err := descended(bytewise(doc), "urn:d host", "urn:d user"); err != nil || !slices.Equal(got, want) {
		t.Errorf("by bytes: %v\n got %q\nwant %q", err, got, want)
	}
	for _, bad := range []struct {
		doc  string
		kind ErrorKind
	}{
		{"<d xmlns='urn:d'><host></d></host>", NotWellFormed},
		{"<d xmlns='urn:d'><host>x</host></d>", StrayText},
		{"<d xmlns='urn:d'><host xmlns:q='urn:q'></host><q:m/></d>", InvalidNamespace}, // out of scope
		{"<d xmlns='urn:d'><host></host><host></host></host>", NotWellFormed},
		{"<d xmlns='urn:d'><host><m>" + strings.Repeat("x", 60), TooLarge},
		{"<d xmlns='urn:d'><host a='" + strings.Repeat("x", 60), TooLarge},
	} {
		_, err := descended([][]byte{[]byte(bad.doc)}, "urn:d host")
		var se *SyntaxError
		if !errors.As(err, &se) || se.Kind != bad.kind {
			t.Errorf("%s: %v, want %v", bad.doc, err, bad.kind)
		}
	}
}
