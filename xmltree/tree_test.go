package xmltree

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
)

func mustParse(t testing.TB, doc, context string) Element {
	t.Helper()
	e, err := Parse([]byte(doc), context, Limits{})
	if err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	return e
}

func TestElement(t *testing.T) {
	e := mustParse(t, `<message to='a&amp;b' id='' xml:lang='de' xmlns:q='urn:q' q:id='2'>one<body>x &lt; y</body><q:ext><a/><body/></q:ext>&#xD;
two<body>second</body><empty> &#13;`+"\n\t"+`</empty></message>`, "jabber:client")
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("Name", e.Name(), Name{"jabber:client", "message"})
	check("Is", e.Is("jabber:client", "message"), true)
	check("Is, other namespace", e.Is("jabber:server", "message"), false)
	check("Is, other name", e.Is("jabber:client", "iq"), false)
	check("Attr", e.Attr("to"), "a&b")
	check("Attr, none", e.Attr("from"), "")
	check("Attr, only namespaced", e.Attr("lang"), "")
	for _, tt := range []struct {
		space, local, value string
		ok                  bool
	}{
		{"", "id", "", true}, {"urn:q", "id", "2", true}, {XMLSpace, "lang", "de", true}, {"", "xmlns", "", false},
		{"", "from", "", false}, {"urn:x", "id", "", false}, {XMLNSSpace, "q", "", false},
	} {
		v, ok := e.LookupAttr(tt.space, tt.local)
		check("LookupAttr "+tt.local, fmt.Sprint(v, ok), fmt.Sprint(tt.value, tt.ok))
	}
	check("Attrs", fmt.Sprint(slices.Collect(e.Attrs())), "[{{ to} a&b} {{ id} } {{http://www.w3.org/XML/1998/namespace lang} de} {{urn:q id} 2}]")
	for range e.Attrs() {
		break
	}
	check("Child", e.Child("jabber:client", "body").Text(), "x < y")
	check("Child in other namespace", e.Child("urn:q", "ext").Space(), "urn:q")
	check("Child does not look deeper", e.Child("jabber:client", "a").IsZero(), true)
	var names []string
	for c := range e.Children() {
		names = append(names, c.Local())
	}
	check("Children", strings.Join(names, " "), "body ext body empty")
	for range e.Children() {
		break
	}
	check("Text", e.Text(), "one\r\ntwo")
	check("HasText", e.HasText(), true)
	check("HasText of white space", e.Child("jabber:client", "empty").HasText(), false)
	check("Text of white space", e.Child("jabber:client", "empty").Text(), " \r\n\t")
	check("HasText of none", e.Child("urn:q", "ext").HasText(), false)
	check("Raw", e.Child("urn:q", "ext").Raw(), "<ext xmlns='urn:q'><a xmlns='jabber:client'/><body xmlns='jabber:client'/></ext>")
	check("Inner", e.Child("jabber:client", "body").Inner(), "x &lt; y")
	check("Inner of empty", e.Child("urn:q", "ext").Child("jabber:client", "a").Inner(), "")
	check("AppendTo own space", string(e.Child("urn:q", "ext").AppendTo([]byte(">"), "urn:q")), "><ext><a xmlns='jabber:client'/><body xmlns='jabber:client'/></ext>")
	check("AppendTo other space", string(e.Child("jabber:client", "body").AppendTo(nil, "")), "<body xmlns='jabber:client'>x &lt; y</body>")
}

func TestZeroElement(t *testing.T) {
	var e Element
	v, ok := e.LookupAttr("", "a")
	if !e.IsZero() || e.Name() != (Name{}) || e.Is("", "") || e.Attr("a") != "" || v != "" || ok || e.Text() != "" || e.HasText() ||
		e.Raw() != "" || e.Inner() != "" || len(e.AppendTo(nil, "")) != 0 || !e.Child("", "").IsZero() ||
		len(slices.Collect(e.Attrs())) != 0 || len(slices.Collect(e.Children())) != 0 {
		t.Error("the zero Element has something")
	}
}

// TestConcurrent is for the race detector: one element, many readers, while
// scanners share pooled memory.
func TestConcurrent(t *testing.T) {
	e := mustParse(t, chatMessage, "jabber:client")
	want := e.Raw()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if again := mustParse(t, e.Raw(), "jabber:client"); again.Raw() != want || sameTree(e, again) != nil {
					t.Error("element changed")
				}
			}
		})
	}
	wg.Wait()
}

// stdTree writes what encoding/xml reads, one line per token.
func stdTree(t *testing.T, doc string) string {
	var b, text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			fmt.Fprintf(&b, "text %q\n", text.String())
			text.Reset()
		}
	}
	d := xml.NewDecoder(strings.NewReader(doc))
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatalf("%q: encoding/xml: %v", doc, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			flush()
			fmt.Fprintf(&b, "start %v", tok.Name)
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					fmt.Fprintf(&b, " %v=%q", a.Name, blank(a.Value))
				}
			}
			b.WriteByte('\n')
		case xml.EndElement:
			flush()
			b.WriteString("end\n")
		case xml.CharData:
			text.Write(tok)
		}
	}
}

// blank makes white space alike: encoding/xml leaves attribute values as they are.
func blank(s string) string {
	return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(s)
}

func ownTree(b *bytes.Buffer, e Element) {
	fmt.Fprintf(b, "start %v", e.Name())
	for a := range e.Attrs() {
		fmt.Fprintf(b, " %v=%q", a.Name, blank(a.Value))
	}
	b.WriteByte('\n')
	pos := e.node().head
	text := func(s string) {
		if s != "" {
			fmt.Fprintf(b, "text %q\n", unescape(s))
		}
	}
	for c := range e.Children() {
		text(e.d.s[pos:c.node().start])
		ownTree(b, c)
		pos = c.node().end
	}
	text(e.d.s[pos:e.contentEnd()])
	b.WriteString("end\n")
}

func TestAgreesWithStd(t *testing.T) {
	docs := []string{chatMessage, presence, archived, roster()}
	for _, tt := range wellFormed {
		docs = append(docs, tt.doc)
	}
	for _, doc := range docs {
		wrapped := `<w xmlns='jabber:client' xmlns:p='urn:p' xmlns:p2='urn:p'>` + doc + `</w>`
		var b bytes.Buffer
		ownTree(&b, mustParse(t, wrapped, ""))
		if want := stdTree(t, wrapped); b.String() != want {
			t.Errorf("%q:\n got %s\nwant %s", doc, b.String(), want)
		}
	}
}
