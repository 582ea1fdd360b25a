package xmltree

import (
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	body := mustParse(t, `<body>x</body>`, "jabber:client")
	for _, tt := range []struct {
		name string
		w    *Writer
		want string
	}{
		{"empty", NewWriter(nil, ""), ``},
		{"element", NewWriter(nil, "").Start("", "a").End(), `<a/>`},
		{"appends", NewWriter([]byte(`<x/>`), "").Start("", "a").End(), `<x/><a/>`},
		{"zero Writer", new(Writer).Start("urn:a", "a").End(), `<a xmlns='urn:a'/>`},
		{"context", NewWriter(nil, "urn:a").Start("urn:a", "a").Start("urn:b", "b").Start("urn:b", "c").End().Start("urn:a", "d").End().End().Start("urn:a", "e").End().End(),
			`<a><b xmlns='urn:b'><c/><d xmlns='urn:a'/></b><e/></a>`},
		{"no namespace", NewWriter(nil, "urn:a").Start("", "a").Start("", "b").End().End(), `<a xmlns=''><b/></a>`},
		{"namespace escaped", NewWriter(nil, "").Start("a&'b", "a").End(), `<a xmlns='a&amp;&apos;b'/>`},
		{"several", NewWriter(nil, "urn:a").Start("urn:a", "a").End().Start("urn:a", "b").End(), `<a/><b/>`},
		{"deep", NewWriter(nil, "").Start("", "a").Start("", "b").Start("", "c").Start("", "d").Start("", "e").Start("", "f").Start("u", "g").Start("u", "h").Text("x").
			End().Start("u", "i").End().End().End().End().End().End().End().End(),
			`<a><b><c><d><e><f><g xmlns='u'><h>x</h><i/></g></f></e></d></c></b></a>`},
		{"attributes", NewWriter(nil, "").Start("", "a").Attr("b", `<&>'"`+"\t\r\n").OptAttr("c", "").OptAttr("d", "x").Attr("e", "").End(),
			`<a b='&lt;&amp;>&apos;"&#x9;&#xD;&#xA;' d='x' e=''/>`},
		{"attributes with namespace", NewWriter(nil, "").Start("u", "a").AttrNS("", "b", "0").AttrNS("u", "b", "1").AttrNS(XMLSpace, "b", "2").AttrNS("v", "b", "3").AttrNS("u", "c", "4").End(),
			`<a xmlns='u' b='0' xmlns:a1='u' a1:b='1' xml:b='2' xmlns:a2='v' a2:b='3' a1:c='4'/>`},
		{"value that looks like an attribute", NewWriter(nil, "").Start("", "a").Attr("b", " c=").Attr("c", "' d='").Attr("d", "xmlns:a1=").AttrNS("u", "e", "").End(),
			`<a b=' c=' c='&apos; d=&apos;' d='xmlns:a1=' xmlns:a1='u' a1:e=''/>`},
		{"text", NewWriter(nil, "").Start("", "a").Text("").Text(`<&>'"]]>`).Text("\t\r\n").End(), "<a>&lt;&amp;&gt;'\"]]&gt;\t&#xD;\n</a>"},
		{"empty text", NewWriter(nil, "").Start("", "a").Text("").End(), `<a/>`},
		{"not XML", NewWriter(nil, "").Start("", "a").Attr("b", "\x00\xFF\uFFFE").Text("\x1F\xED\xA0\x80\uFFFF\xC0").End(),
			"<a b='\uFFFD\uFFFD\uFFFD'>\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD</a>"},
		{"element, same namespace", NewWriter(nil, "jabber:client").Start("jabber:client", "message").Element(body).End(), `<message><body>x</body></message>`},
		{"element, other namespace", NewWriter(nil, "").Start("urn:x", "a").Element(body).Element(Element{}).End(), `<a xmlns='urn:x'><body xmlns='jabber:client'>x</body></a>`},
		{"zero element", NewWriter(nil, "").Start("", "a").Element(Element{}).End(), `<a/>`},
		{"element alone", NewWriter(nil, "jabber:client").Element(body), `<body>x</body>`},
		{"inner", NewWriter(nil, "").Start("jabber:server", "message").Attr("a", "b").Inner(body.Raw()).End(), `<message xmlns='jabber:server' a='b'><body>x</body></message>`},
		{"inner of nothing", NewWriter(nil, "").Start("", "a").Inner("").End(), `<a/>`},
	} {
		got := tt.w.String()
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if got != string(tt.w.Bytes()) {
			t.Errorf("%s: Bytes and String differ", tt.name)
		}
	}
}

func TestWriterMisuse(t *testing.T) {
	in := func() *Writer { return NewWriter(nil, "").Start("", "a") }
	for name, f := range map[string]func(){
		"End without Start":           func() { NewWriter(nil, "").End() },
		"one End too many":            func() { in().End().End() },
		"Attr without Start":          func() { NewWriter(nil, "").Attr("a", "") },
		"Attr after Text":             func() { in().Text("x").Attr("b", "") },
		"Attr after child":            func() { in().Start("", "b").End().Attr("b", "") },
		"Attr after End":              func() { in().End().Attr("b", "") },
		"Attr after Inner":            func() { in().Inner("x").Attr("b", "") },
		"AttrNS after Text":           func() { in().Text("x").AttrNS("u", "b", "") },
		"Attr twice":                  func() { in().Attr("b", "1").Attr("b", "2") },
		"AttrNS twice":                func() { in().AttrNS("u", "b", "1").AttrNS("u", "b", "2") },
		"AttrNS twice, xml":           func() { in().AttrNS(XMLSpace, "b", "1").AttrNS(XMLSpace, "b", "2") },
		"Attr xmlns":                  func() { in().Attr("xmlns", "u") },
		"Attr xmlns:p":                func() { in().Attr("xmlns:p", "u") },
		"AttrNS in the xmlns":         func() { in().AttrNS(XMLNSSpace, "p", "u") },
		"Attr without name":           func() { in().Attr("", "u") },
		"Attr no name":                func() { in().Attr("a b", "u") },
		"Start without name":          func() { NewWriter(nil, "").Start("", "") },
		"Start with prefix":           func() { NewWriter(nil, "").Start("", "a:b") },
		"Start, no name":              func() { NewWriter(nil, "").Start("", "a><b") },
		"Start, digit":                func() { NewWriter(nil, "").Start("", "1") },
		"Start, not UTF-8":            func() { NewWriter(nil, "").Start("", "a\xFF") },
		"Start in the XML namespace":  func() { NewWriter(nil, "").Start(XMLSpace, "a") },
		"Start in the xmlns":          func() { NewWriter(nil, "").Start(XMLNSSpace, "a") },
		"Text outside":                func() { NewWriter(nil, "").Text("x") },
		"Bytes of unfinished element": func() { in().Bytes() },
		"String of unfinished":        func() { _ = in().Text("x").String() },
	} {
		func() {
			defer func() {
				if msg, _ := recover().(string); !strings.HasPrefix(msg, "xmltree: ") {
					t.Errorf("%s: panic %q", name, msg)
				}
			}()
			f()
		}()
	}
}
