package jid

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRFC7622Examples(t *testing.T) {
	legal := []struct{ in, local, domain, resource string }{
		{"juliet@example.com", "juliet", "example.com", ""},
		{"juliet@example.com/foo", "juliet", "example.com", "foo"},
		{"juliet@example.com/foo bar", "juliet", "example.com", "foo bar"},
		{"juliet@example.com/foo@bar", "juliet", "example.com", "foo@bar"},
		{`foo\20bar@example.com`, `foo\20bar`, "example.com", ""},
		{"fussball@example.com", "fussball", "example.com", ""},
		{"fu\u00dfball@example.com", "fu\u00dfball", "example.com", ""},
		{"\u03c0@example.com", "\u03c0", "example.com", ""},
		{"\u03a3@example.com/foo", "\u03c3", "example.com", "foo"},
		{"\u03c3@example.com/foo", "\u03c3", "example.com", "foo"},
		{"\u03c2@example.com/foo", "\u03c2", "example.com", "foo"},
		{"king@example.com/\u265a", "king", "example.com", "\u265a"},
		{"example.com", "", "example.com", ""},
		{"example.com/foobar", "", "example.com", "foobar"},
		{"a.example.com/b@example.net", "", "a.example.com", "b@example.net"},
	}
	for i, c := range legal {
		j, err := Parse(c.in)
		if err != nil {
			t.Errorf("example %d: %q: %v", i+1, c.in, err)
			continue
		}
		if j.Local() != c.local || j.Domain() != c.domain || j.Resource() != c.resource {
			t.Errorf("example %d: %q: got %q %q %q", i+1, c.in, j.Local(), j.Domain(), j.Resource())
		}
		if again, err := New(c.local, c.domain, c.resource); again != j || err != nil {
			t.Errorf("example %d: New gives %q, %v", i+1, again, err)
		}
	}
	illegal := []string{
		`"juliet"@example.com`,
		"foo bar@example.com",
		"juliet@example.com/ foo",
		"@example.com/",
		"henry\u2163@example.com",
		"\u265a@example.com",
		"juliet@",
		"/foobar",
	}
	for i, in := range illegal {
		if j, err := Parse(in); err == nil {
			t.Errorf("example %d: %q is %q, want an error", i+16, in, j)
		}
	}
	sigma := [3]JID{MustParse(legal[8].in), MustParse(legal[9].in), MustParse(legal[10].in)}
	if sigma[0] != sigma[1] || sigma[1] == sigma[2] {
		t.Error("examples 9 and 10 are one address, 11 is another")
	}
}

func TestCanonicalForm(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"ASCII case", "Juliet@Example.COM/Balcony", "juliet@example.com/Balcony"},
		{"trailing dot", "juliet@example.com./x", "juliet@example.com/x"},
		{"trailing dot of an unqualified name", "localhost.", "localhost"},
		{"A-label", "xn--bcher-kva.example", "b\u00fccher.example"},
		{"A-label, upper case", "XN--BCHER-KVA.example", "b\u00fccher.example"},
		{"U-label", "a@B\u00dcCHER.example", "a@b\u00fccher.example"},
		{"U-label, decomposed", "bu\u0308cher.example", "b\u00fccher.example"},
		{"sharp s stays", "fa\u00df.example", "fa\u00df.example"},
		{"full-width domain", "\uff45xample.com", "example.com"},
		{"ideographic full stop", "a\u3002example", "a.example"},
		{"middle dot in context", "l\u00b7l.example", "l\u00b7l.example"},
		{"kelvin sign in a domain", "\u212aelvin.example", "kelvin.example"},
		{"right-to-left label", "\u05d0\u05d1.example", "\u05d0\u05d1.example"},
		{"IPv4", "juliet@192.0.2.1", "juliet@192.0.2.1"},
		{"IPv6", "juliet@[2001:DB8:0::1]/x", "juliet@[2001:db8::1]/x"},
		{"IPv6, mapped IPv4", "[::FFFF:192.0.2.1]", "[::ffff:192.0.2.1]"},
		{"full-width localpart", "\uff4auliet@example.com", "juliet@example.com"},
		{"decomposed localpart", "andre\u0301@example.com", "andr\u00e9@example.com"},
		{"other localpart punctuation", "!#$%()*+,-.;=?[\\]^_`{|}~@a", "!#$%()*+,-.;=?[\\]^_`{|}~@a"},
		{"decomposed resource", "a/e\u0301", "a/\u00e9"},
		{"resource keeps case and width", "a/\uff21B", "a/\uff21B"},
		{"non-ASCII space", "a/b\u00a0c\u3000d", "a/b c d"},
		{"trailing space", "a/b ", "a/b "},
		{"separators in the resource", "a@b/c/d@e", "a@b/c/d@e"},
		{"conjoining jamo in the resource", "a/\u1112\u1161\u11ab", "a/\ud55c"},
		{"underscore and dot in the localpart", "a_b.c@d", "a_b.c@d"},
	} {
		j, err := Parse(c.in)
		if err != nil || j.String() != c.want {
			t.Errorf("%s: %+q: got %+q, %v; want %+q", c.name, c.in, j.String(), err, c.want)
		}
		if err == nil && j != MustParse(c.want) {
			t.Errorf("%s: %+q is not equal to its canonical form", c.name, c.in)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct{ in, part string }{
		{"", partDomain},
		{".", partDomain},
		{"@", partLocal},
		{"a@", partDomain},
		{"a@/b", partDomain},
		{"a@b/", partResource},
		{"a/", partResource},
		{"a@b@c", partDomain},
		{"a@b..c", partDomain},
		{"a@.b", partDomain},
		{"a@b..", partDomain},
		{"example\u3002", partDomain}, // a label separator, but not RFC 1034's
		{"a..b\u00fc", partDomain},
		{"a@-b", partDomain},
		{"a@b-", partDomain},
		{"a@b_c", partDomain},
		{"a@b c", partDomain},
		{"a@ab--c", partDomain}, // a reserved LDH label (RFC 5890 2.3.1)
		{"xn--a", partDomain},
		{"xn--bcher-kva8445foa.example", partDomain},
		{"xn--abc-.example", partDomain}, // encodes ASCII
		{"\u2665.example", partDomain},   // a symbol: UTS 46 only
		{"l\u00b7m.example", partDomain}, // RFC 5892 A.3
		{"a\u05d0b.example", partDomain}, // RFC 5893
		{"[::1", partDomain},
		{"[::1%eth0]", partDomain},
		{"[192.0.2.1]", partDomain},
		{"[v1.x]", partDomain},
		{"::1", partDomain},
		{"example.com:5222", partDomain},
		{"a b@c", partLocal},
		{"a\tb@c", partLocal},
		{"a\u00a0b@c", partLocal},
		{"a\"b@c", partLocal},
		{"a&b@c", partLocal},
		{"a'b@c", partLocal},
		{"a:b@c", partLocal},
		{"a<b@c", partLocal},
		{"a>b@c", partLocal},
		{"a\uff1ab@c", partLocal},    // full-width colon becomes a colon
		{"a\uff20b@c", partLocal},    // the same with an at sign
		{"\u212aelvin@c", partLocal}, // KELVIN SIGN: RFC 8265 3.3.2 comes before case mapping
		{"\u212b@c", partLocal},      // ANGSTROM SIGN
		{"\u01c5@c", partLocal},      // a titlecase digraph with a compatibility equivalent
		{"a\u00adb@c", partLocal},    // SOFT HYPHEN is ignorable
		{"a\u200db@c", partLocal},    // ZERO WIDTH JOINER out of context
		{"\u05d0b@c", partLocal},     // Bidi rule
		{"a/b\x00", partResource},
		{"a/b\nc", partResource},
		{"a/\u3000b", partResource}, // becomes a leading space
		{"a/\ufdd0", partResource},
		{"a\xff@b", partLocal},
		{"a@b\xff", partDomain},
		{"a@b/\xff", partResource},
		{"a/\xed\xa0\x80", partResource}, // a surrogate
	} {
		j, err := Parse(c.in)
		var e *Error
		if !errors.As(err, &e) || e.Part != c.part {
			t.Errorf("%+q: got %+q, %v; want an error in the %s", c.in, j.String(), err, c.part)
		}
		if !j.IsZero() {
			t.Errorf("%+q: an address beside the error", c.in)
		}
	}
}

func TestLengths(t *testing.T) {
	x := strings.Repeat
	name := x("a", 63) + "." + x("b", 63) + "." + x("c", 63) + "." + x("d", 61) // 253
	wide := x("\uff41", 1023)                                                   // 3 octets each, 1 after mapping
	ok := []string{
		x("a", 1023) + "@b/" + x("c", 1023),
		wide + "@b",
		x("\u00e9", 511) + "@b/" + x("\u00e9", 511),
		name,
		name + ".",
		x("l", 1023) + "@" + name + "/" + x("r", 1023),
		x("\u00fc", 50) + ".example", // 100 octets, but an A-label of fewer than 63
	}
	for i, s := range ok {
		if _, err := Parse(s); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	bad := []string{
		x("a", 1024) + "@b",
		x("A", 1024) + "@b",
		wide + "a@b",
		"b/" + x("a", 1024),
		"b/" + x("\u00e9", 512),
		x("a", 64),
		name + "e",
		x("\u00fc", 63), // fits as a U-label of 63 characters, not as an A-label
		x("a.", 600),
		x("\u00ad", 1<<20) + "a",
		x("\uff41", 1<<20) + "@a",
		"a/" + x("\u0301", 1<<20),
	}
	for i, s := range bad {
		_, err := Parse(s)
		if err == nil {
			t.Errorf("%d: accepted", i)
		} else if len(err.Error()) > 100 {
			t.Errorf("%d: the error repeats the input", i)
		}
	}
}

func TestAccessors(t *testing.T) {
	for _, c := range []struct {
		in, bare           string
		isBare, isFull, dm bool
	}{
		{"a@b/c", "a@b", false, true, false},
		{"a@b", "a@b", true, false, false},
		{"b", "b", true, false, true},
		{"b/c", "b", false, true, false},
	} {
		j := MustParse(c.in)
		if j.IsZero() || j.IsBare() != c.isBare || j.IsFull() != c.isFull || j.IsDomain() != c.dm {
			t.Errorf("%s: zero %v bare %v full %v domain %v", j, j.IsZero(), j.IsBare(), j.IsFull(), j.IsDomain())
		}
		if j.Bare() != MustParse(c.bare) {
			t.Errorf("%s: bare is %s", j, j.Bare())
		}
		if j.DomainJID() != MustParse("b") {
			t.Errorf("%s: domain is %s", j, j.DomainJID())
		}
		full, err := j.WithResource("R e\u0301")
		if err != nil || full != MustParse(c.bare+"/R \u00e9") {
			t.Errorf("%s: with resource %s, %v", j, full, err)
		}
		if bare, err := j.WithResource(""); err != nil || bare != j.Bare() {
			t.Errorf("%s: without resource %s, %v", j, bare, err)
		}
		if _, err := j.WithResource("\x00"); err == nil {
			t.Errorf("%s: a bad resource", j)
		}
	}
	var zero JID
	if !zero.IsZero() || zero.IsBare() || zero.IsFull() || zero.IsDomain() || zero.String()+zero.Local()+zero.Domain()+zero.Resource() != "" ||
		zero.Bare() != zero || zero.DomainJID() != zero {
		t.Error("the zero value is no address and nothing of it is one")
	}
	if _, err := zero.WithResource("x"); err == nil {
		t.Error("a resource of no address")
	}
}

func TestNewTakesNoSeparators(t *testing.T) {
	for _, c := range [][3]string{
		{"a@b", "c", ""}, {"a/b", "c", ""}, {"", "a@c", ""}, {"", "c/d", ""}, {"a", "", "b"}, {"", "", ""}, {"a", "b", " c"},
	} {
		if j, err := New(c[0], c[1], c[2]); err == nil {
			t.Errorf("New(%q): %s", c, j)
		}
	}
	if j, err := New("a", "b", "c/d@e"); err != nil || j.Resource() != "c/d@e" {
		t.Errorf("got %s, %v", j, err)
	}
}

func TestText(t *testing.T) {
	var j JID
	if err := j.UnmarshalText([]byte("A@b/c")); err != nil || j != MustParse("a@b/c") {
		t.Errorf("got %s, %v", j, err)
	}
	if err := j.UnmarshalText([]byte("@")); err == nil || j != MustParse("a@b/c") {
		t.Errorf("a failure leaves the value alone: %s, %v", j, err)
	}
	if text, err := j.MarshalText(); err != nil || string(text) != "a@b/c" {
		t.Errorf("got %s, %v", text, err)
	}
	if err := j.UnmarshalText(nil); err != nil || !j.IsZero() {
		t.Errorf("got %s, %v", j, err)
	}
}

func TestMustParsePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	MustParse("@")
}

func TestCanonicalInputCostsNothing(t *testing.T) {
	s := "juliet@im.example.com/balcony"
	j := MustParse(s)
	n := testing.AllocsPerRun(100, func() {
		k, err := Parse(s)
		if err != nil || k != j || k.Local() == "" || k.Domain() == "" || k.Resource() == "" || k.Bare() == k || k.DomainJID() == k {
			t.Fatal("not the same address")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestEveryCharacter holds all of Unicode to idempotence, part by part.
func TestEveryCharacter(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		s := "a" + string(r)
		for _, rules := range []func(string) (string, string){enforceLocal, enforceResource, enforceDomain} {
			out, reason := rules(s)
			if reason != "" {
				continue
			}
			if again, reason := rules(out); again != out || reason != "" {
				t.Errorf("%+q: %+q is not stable: %+q %s", s, out, again, reason)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"juliet@example.com/balcony", "Juliet@EXAMPLE.com.", "a@b..c", "xn--bcher-kva.example/x", "\u212a@\u212a/\u212a", "[::1]", "a@[::ffff:1.2.3.4]/x",
		"\u03a3@b", "\u1e9e@\u1e9e.example", "\u0130@b", "\u0345@b", "\u1112\u1161\u11ab@b/\u1112\u1161\u11ab", "a@b\u3002c", "l\u00b7l.x", "\u06f0a@\u06f0.a", "a--b", "xn--", "/", "@", "a/ ", "a/\u3000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		slow, slowErr := parseAny(s)
		if fast, ok := parseCanonical(s); ok {
			// What the tables accept, the long way accepts without a change;
			// past them there is only the long way itself.
			long, err := prepareThoroughly(s)
			if err != nil || fast != long || fast != slow || slowErr != nil {
				t.Fatalf("%+q: fast %+q, long %+q, %v", s, fast, long, err)
			}
		}
		j, err := Parse(s)
		if j != slow || (err == nil) != (slowErr == nil) {
			t.Fatalf("%+q: %+q, %v and %+q, %v", s, j, err, slow, slowErr)
		}
		if err != nil {
			if !j.IsZero() {
				t.Fatalf("%+q: an address beside the error", s)
			}
			return
		}
		if again, err := Parse(j.String()); again != j || err != nil {
			t.Fatalf("%+q: %+q is not stable: %+q, %v", s, j, again, err)
		}
		if again, err := New(j.Local(), j.Domain(), j.Resource()); again != j || err != nil {
			t.Fatalf("%+q: %+q is not made of its parts: %+q, %v", s, j, again, err)
		}
		if j.Domain() == "" || max(len(j.Local()), len(j.Domain()), len(j.Resource())) > maxPart {
			t.Fatalf("%+q: %+q has a part of a bad length", s, j)
		}
		if b := j.Bare(); !b.IsBare() || b != MustParse(b.String()) || j.DomainJID() != MustParse(j.Domain()) {
			t.Fatalf("%+q: bare %+q", s, b)
		}
	})
}

// prepareThoroughly is parseAny without any short cut for ASCII.
func prepareThoroughly(s string) (JID, error) {
	rest, resource, hasResource := strings.Cut(s, "/")
	local, domain, hasLocal := strings.Cut(rest, "@")
	if !hasLocal {
		local, domain = "", rest
	}
	domain, err := enforce(partDomain, strings.TrimSuffix(domain, "."), enforceDomain)
	if err == nil && hasLocal {
		local, err = enforce(partLocal, local, enforceLocal)
	}
	if err == nil && hasResource {
		resource, err = enforce(partResource, resource, enforceResource)
	}
	if err != nil {
		return JID{}, err
	}
	return join(local, domain, resource), nil
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, in string }{
		{"canonical", "juliet@im.example.com/balcony"},
		{"bare", "juliet@im.example.com"},
		{"uppercase", "Juliet@im.example.com/balcony"},
		{"unicode", "j\u00fcliet@b\u00fccher.example/b\u00e4lcony"},
		{"refused", "ju:liet@im.example.com/balcony"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(c.in)
			}
		})
	}
}
