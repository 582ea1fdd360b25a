package stream

import (
	"bytes"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// framesOf cuts what a server has written for a stream.
func framesOf(b string) (list []string, ended bool) {
	for rest := []byte(b); len(rest) > 0; {
		n := FirstElement(rest)
		f, end := AppendFrame(nil, rest[:n])
		list, ended, rest = append(list, string(f)), ended || end, rest[n:]
	}
	return list, ended
}

func TestFrames(t *testing.T) {
	const features = "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"
	in := "<?xml version='1.0'?><stream:stream from='a' id='1>' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
		features + "<message to='x>y'><body>a</body><body/></message><r xmlns='urn:xmpp:sm:3'/><iq type='result'/>" +
		"<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
	got, ended := framesOf(in)
	want := []string{
		"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='a' id='1>' version='1.0' xml:lang='en'/>",
		"<stream:features xmlns:stream='http://etherx.jabber.org/streams'><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
		"<message xmlns='jabber:client' to='x>y'><body>a</body><body/></message>",
		"<r xmlns='urn:xmpp:sm:3'/>",
		"<iq xmlns='jabber:client' type='result'/>",
		"<stream:error xmlns:stream='http://etherx.jabber.org/streams'><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
	}
	if !ended || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	for _, f := range got { // each is an element by itself (RFC 7395 3.3.3)
		if _, err := xmltree.Parse([]byte(f), "", xmltree.Limits{}); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// FuzzFrames: whatever canonical element a session writes is found whole, and its
// frame is the same element.
func FuzzFrames(f *testing.F) {
	f.Add("<message to='x>&apos;'><body>&lt;a</body></message>")
	f.Add("<a xmlns='urn:a' b:c='d' xmlns:b='urn:b'><e xmlns=''/></a>")
	f.Fuzz(func(t *testing.T, in string) {
		el, err := xmltree.Parse([]byte(in), stanza.NSClient, xmltree.Limits{})
		if err != nil || el.Space() == "" {
			return
		}
		b := el.AppendTo(nil, stanza.NSClient)
		if n := FirstElement(append(bytes.Clone(b), "<iq/>"...)); n != len(b) {
			t.Fatalf("%d of %d: %s", n, len(b), b)
		}
		frame, _ := AppendFrame(nil, b)
		again, err := xmltree.Parse(frame, "", xmltree.Limits{})
		if err != nil || string(again.AppendTo(nil, "")) != string(el.AppendTo(nil, "")) {
			t.Fatalf("%s\n%s\n%v", b, frame, err)
		}
	})
}

// FuzzNextFrame: no frame makes the machine panic, and nothing follows a failure.
func FuzzNextFrame(f *testing.F) {
	f.Add("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a.example' version='1.0'/>\x00<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
	f.Add("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a.example' version='1.0'/>\x00<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>")
	home := jid.MustParse("a.example")
	f.Fuzz(func(t *testing.T, in string) {
		s := NewServer(&ServerConfig{Domain: func(to string) (jid.JID, bool) { return home, to == "a.example" }, Fallback: home, NewID: func() string { return "id" }})
		s.Secured(Offer{Mechanisms: []string{"PLAIN"}})
		over := false
		for frame := range strings.SplitSeq(in, "\x00") {
			ev, out := s.NextFrame([]byte(frame), nil)
			if over && (ev.Kind != NeedMore || len(out) > 0) {
				t.Fatalf("after the end: %v %s", ev.Kind, out)
			}
			over = over || ev.Kind == Failed || ev.Kind == Closed || ev.Kind == PeerError
			if ev.Kind == Auth || ev.Kind == AuthResponse {
				s.Failure(nil, "not-authorized", "")
			}
			if ev.Kind == Register {
				return
			}
		}
	})
}
