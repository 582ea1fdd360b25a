package stanza

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

func parse(t testing.TB, s string) *Stanza {
	t.Helper()
	st, err := ParseBytes([]byte(s), xmltree.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return st
}

// TestRoundTrip: what is parsed and encoded is canonical, and the same when it
// is parsed again.
func TestRoundTrip(t *testing.T) {
	for in, want := range map[string]string{
		`<message/>`: `<message/>`,
		`<message type="normal" to="juliet@example.com"><body>a &lt; b</body></message>`: `<message to='juliet@example.com'><body>a &lt; b</body></message>`,
		`<message type='nonsense'/>`: `<message/>`,
		`<message to='JULIET@Example.COM/Balcony' id='&lt;&apos;1' xml:lang='en'/>`: `<message to='juliet@example.com/Balcony' id='&lt;&apos;1' xml:lang='en'/>`,
		`<presence xmlns='jabber:client' type='unavailable'><status/></presence>`:   `<presence type='unavailable'><status/></presence>`,
		`<presence to=''/>`: `<presence/>`,
		`<iq type='get' id='1' from='a@b/c'><p:query xmlns:p='jabber:iq:roster'/></iq>`: `<iq from='a@b/c' id='1' type='get'><query xmlns='jabber:iq:roster'/></iq>`,
		`<iq type='result' id='1'/>`:                                   `<iq id='1' type='result'/>`,
		`<message type='chat' unknown='x'><body xmlns='u'/></message>`: `<message type='chat'><body xmlns='u'/></message>`,
	} {
		st := parse(t, in)
		got := string(st.AppendTo(nil))
		if got != want {
			t.Errorf("%s\nis encoded\n%s, want\n%s", in, got, want)
			continue
		}
		again := parse(t, got)
		if again.Kind != st.Kind || again.Type != st.Type || again.ID != st.ID || again.From != st.From || again.To != st.To || again.Lang != st.Lang || again.Inner() != st.Inner() {
			t.Errorf("%s: parsed again it differs", in)
		}
	}
}

func TestBadInput(t *testing.T) {
	for in, want := range map[string]Condition{
		`<message to='@'/>`:                                          JIDMalformed,
		`<message from='a b@c'/>`:                                    JIDMalformed,
		`<presence type='here'/>`:                                    BadRequest,
		`<presence type='Unavailable'/>`:                             BadRequest,
		`<iq id='1'/>`:                                               BadRequest,
		`<iq type='nonsense' id='1'/>`:                               BadRequest,
		`<iq type='get'><x xmlns='u'/></iq>`:                         BadRequest, // no id
		`<iq type='get' id=''><x xmlns='u'/></iq>`:                   BadRequest,
		`<iq type='get' id='1'/>`:                                    BadRequest,
		`<iq type='set' id='1'><x xmlns='u'/><y xmlns='u'/></iq>`:    BadRequest,
		`<iq type='result' id='1'><x xmlns='u'/><y xmlns='u'/></iq>`: BadRequest,
		`<iq type='error'><x xmlns='u'/></iq>`:                       BadRequest,
	} {
		st, err := ParseBytes([]byte(in), xmltree.Limits{})
		var e *Error
		if !errors.As(err, &e) || e.Condition != want || st == nil {
			t.Errorf("%s: %v, %v, want %s", in, st, err, want)
		}
	}
	for _, in := range []string{`<body/>`, `<message xmlns='urn:other'/>`, `<iq xmlns='' type='get'/>`, `<Message/>`, `<error/>`} {
		if _, err := ParseBytes([]byte(in), xmltree.Limits{}); !errors.Is(err, ErrNotStanza) {
			t.Errorf("%s: %v", in, err)
		}
	}
	var syntax *xmltree.SyntaxError
	if _, err := ParseBytes([]byte(`<message><x:y/></message>`), xmltree.Limits{}); !errors.As(err, &syntax) {
		t.Errorf("%v", err)
	}
	// The error can be addressed to whom it concerns.
	st, err := ParseBytes([]byte(`<iq type='get' id='7' from='a@b/c' to='d@e'/>`), xmltree.Limits{})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if got := string(st.ErrorReply(e).AppendTo(nil)); !strings.HasPrefix(got, "<iq from='d@e' to='a@b/c' id='7' type='error'><error type='modify'><bad-request xmlns='"+NSStanzaErrors+"'/>") {
		t.Error(got)
	}
}

// TestServerNamespace: stanzas of a jabber:server stream mean the same, and
// their payload's bytes stand in a jabber:client stream as they are.
func TestServerNamespace(t *testing.T) {
	el, err := xmltree.Parse([]byte(`<message from='a@b' to='c@d' type='chat'><body>hi</body><subject xmlns='jabber:client'>foreign</subject><x xmlns='u'/></message>`), NSServer, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := Parse(el)
	if err != nil {
		t.Fatal(err)
	}
	if st.ContentSpace() != NSServer || st.Child(NSClient, "body").Text() != "hi" {
		t.Errorf("space %s, body %q", st.ContentSpace(), st.Child(NSClient, "body").Text())
	}
	got := string(st.AppendTo(nil))
	again := parse(t, got)
	if again.Child(NSClient, "body").Text() != "hi" || again.Payloads() == nil {
		t.Errorf("as a client's: %s", got)
	}
	errs, err := xmltree.Parse([]byte(`<message type='error'><error type='cancel'><item-not-found xmlns='`+NSStanzaErrors+`'/></error></message>`), NSServer, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err = Parse(errs); err != nil {
		t.Fatal(err)
	}
	if e := st.ParseError(); e == nil || e.Condition != ItemNotFound {
		t.Errorf("%+v", e)
	}
	if p := st.Payload(); !p.IsZero() {
		t.Errorf("the error is taken for a payload: %s", p.Name())
	}
}

func TestInnerWithout(t *testing.T) {
	st := parse(t, `<message><body>x</body><a xmlns='u'/><b xmlns='u'><a xmlns='v'/></b><a xmlns='u'>y</a></message>`)
	drop := func(el xmltree.Element) bool { return el.Is("u", "a") }
	if got, want := st.InnerWithout(drop), `<body>x</body><b xmlns='u'><a xmlns='v'/></b>`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := st.InnerWithout(func(xmltree.Element) bool { return true }); got != "" {
		t.Error(got)
	}
	if got := st.InnerWithout(func(xmltree.Element) bool { return false }); got != st.Inner() {
		t.Error(got)
	}
	if n := testing.AllocsPerRun(100, func() { st.InnerWithout(func(xmltree.Element) bool { return false }) }); n > 0 {
		t.Errorf("%v allocations where nothing is dropped", n)
	}
	if got, want := string(st.AppendWith(nil, "", "<x xmlns='u'/>", "<y xmlns='u'/>")), "<message><x xmlns='u'/><y xmlns='u'/></message>"; got != want {
		t.Error(got)
	}
	if got := string(st.AppendWith(nil, "")); got != "<message/>" {
		t.Error(got)
	}
	if got := string(st.AppendTo([]byte("before"), "<x xmlns='u'/>")); !strings.HasPrefix(got, "before<message>") || !strings.HasSuffix(got, "y</a><x xmlns='u'/></message>") {
		t.Error(got)
	}
}

func TestErrors(t *testing.T) {
	all := []Condition{BadRequest, Conflict, FeatureNotImplemented, Forbidden, Gone, InternalServerError, ItemNotFound, JIDMalformed, NotAcceptable,
		NotAllowed, NotAuthorized, PolicyViolation, RecipientUnavailable, Redirect, RegistrationRequired, RemoteServerNotFound, RemoteServerTimeout,
		ResourceConstraint, ServiceUnavailable, SubscriptionRequired, UndefinedCondition, UnexpectedRequest}
	types := map[ErrorType][]Condition{ // RFC 6120 8.3.3
		Auth:   {Forbidden, NotAuthorized, RegistrationRequired, SubscriptionRequired},
		Modify: {BadRequest, JIDMalformed, NotAcceptable, PolicyViolation, Redirect},
		Wait:   {RecipientUnavailable, RemoteServerTimeout, ResourceConstraint, UnexpectedRequest},
	}
	for _, c := range all {
		want := Cancel
		for typ, list := range types {
			if slices.Contains(list, c) {
				want = typ
			}
		}
		e := &Error{Type: NewError(c, "").Type, Condition: c, Text: "so <&>' it is", By: jid.MustParse("h.example"), App: "<app xmlns='urn:app'><x/></app>"}
		if e.Type != want {
			t.Errorf("%s is of type %s, want %s", c, e.Type, want)
		}
		st := Build(Message, TypeError, "1", jid.MustParse("a@b"), jid.MustParse("c@d"), string(e.AppendTo(nil)))
		got := parse(t, string(st.AppendTo(nil))).ParseError()
		if got == nil || *got != *e {
			t.Errorf("%s comes back as %+v", c, got)
		}
	}
	for _, s := range []string{`<message type='error'/>`, `<message type='error'><error/></message>`, `<message type='error'><error xmlns='u'><gone xmlns='` + NSStanzaErrors + `'/></error></message>`,
		`<message type='error'><error type='cancel'><text xmlns='` + NSStanzaErrors + `'>x</text></error></message>`} {
		if e := parse(t, s).ParseError(); e != nil {
			t.Errorf("%s: %+v", s, e)
		}
	}
	// RFC 6120 8.3.1: errors and results aren't answered with errors.
	for s, answered := range map[string]bool{`<message/>`: true, `<presence/>`: true, `<iq type='get' id='1'><x xmlns='u'/></iq>`: true, `<iq type='set' id='1'><x xmlns='u'/></iq>`: true,
		`<message type='error'/>`: false, `<presence type='error'/>`: false, `<iq type='error' id='1'/>`: false, `<iq type='result' id='1'/>`: false} {
		if got := parse(t, s).ErrorReply(NewError(Gone, "")); (got != nil) != answered {
			t.Errorf("%s: %v", s, got)
		}
	}
	if e, own := AsError(errors.New("x")); own || e.Condition != InternalServerError {
		t.Error(e, own)
	}
	wrapped := errors.Join(errors.New("doing"), NewError(Gone, "away"))
	if e, own := AsError(wrapped); !own || e.Condition != Gone || !strings.Contains(e.Error(), "gone: away") {
		t.Error(e, own)
	}
}

func TestStreamError(t *testing.T) {
	e := NewStreamError(StreamUndefinedCondition, "a < b")
	e.App = "<x xmlns='u'/>"
	want := "<stream:error><undefined-condition xmlns='" + NSStreamErrors + "'/><text xmlns='" + NSStreamErrors + "' xml:lang='en'>a &lt; b</text><x xmlns='u'/></stream:error>"
	if got := string(e.AppendTo(nil)); got != want {
		t.Error(got)
	}
	if got := string(NewStreamError(StreamReset, "").AppendTo(nil)); got != "<stream:error><reset xmlns='"+NSStreamErrors+"'/></stream:error>" {
		t.Error(got)
	}
	if got := e.Error(); got != "stream error undefined-condition: a < b" {
		t.Error(got)
	}
}

func TestBuild(t *testing.T) {
	st := parse(t, `<iq type='get' id='1' from='a@b/c' to='d@e'><x xmlns='u'/></iq>`)
	if got, want := string(st.Reply("<r xmlns='u'/>").AppendTo(nil)), "<iq from='d@e' to='a@b/c' id='1' type='result'><r xmlns='u'/></iq>"; got != want {
		t.Error(got)
	}
	if Build(Message, "", "", jid.JID{}, jid.JID{}, "").Type != TypeNormal {
		t.Error("a message without a type is normal")
	}
	defer func() {
		if recover() == nil {
			t.Error("a payload that is no XML was taken")
		}
	}()
	Build(Message, "", "", jid.JID{}, jid.JID{}, "<x>")
}

// FuzzStanza: what is accepted is the same after encoding and parsing.
func FuzzStanza(f *testing.F) {
	f.Add(`<message to='a@b' type='chat'><body>x</body></message>`)
	f.Add(`<iq type='get' id='1'><q xmlns='u' a='&#10;'/></iq>`)
	f.Add(`<presence xmlns:p='u'><p:x p:y='1'/></presence>`)
	f.Fuzz(func(t *testing.T, in string) {
		st, err := ParseBytes([]byte(in), xmltree.Limits{})
		if err != nil {
			return
		}
		one := st.AppendTo(nil)
		again, err := ParseBytes(one, xmltree.Limits{MaxBytes: len(one) + 1})
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		if two := again.AppendTo(nil); string(two) != string(one) {
			t.Fatalf("%s\nbecomes\n%s", one, two)
		}
	})
}

const chat = `<message type='chat' id='a1b2c3' to='juliet@example.com' from='romeo@example.net/orchard'><body>Neither, fair saint, if either thee dislike.</body><active xmlns='http://jabber.org/protocol/chatstates'/><origin-id xmlns='urn:xmpp:sid:0' id='a1b2c3'/></message>`

func BenchmarkParse(b *testing.B) {
	data := []byte(chat)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ParseBytes(data, xmltree.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	st := parse(b, chat)
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = st.AppendTo(buf[:0], "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@example.com' id='0q5v3jqk2h0g0'/>")
	}
}
