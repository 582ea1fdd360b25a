package xmltree

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
)

const streamHeader = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>`

const chatMessage = `<message to='romeo@example.net/orchard' from='juliet@example.org/balcony' type='chat' id='4a1c9b7e-25f0-4d9a-9d0f-6a1b2c3d4e5f'>` +
	`<body>Wherefore art thou, Romeo? Deny thy father &amp; refuse thy name;</body>` +
	`<origin-id xmlns='urn:xmpp:sid:0' id='4a1c9b7e-25f0-4d9a-9d0f-6a1b2c3d4e5f'/><request xmlns='urn:xmpp:receipts'/>` +
	`<active xmlns='http://jabber.org/protocol/chatstates'/></message>`

const presence = `<presence from='juliet@example.org/balcony' to='romeo@example.net'><show>away</show><status>reading</status>` +
	`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org/client' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>` +
	`<x xmlns='vcard-temp:x:update'><photo>sha1-hash-of-image</photo></x></presence>`

const archived = `<message from='juliet@example.org' to='juliet@example.org/balcony'><result xmlns='urn:xmpp:mam:2' queryid='f27' id='28482-98726-73623'>` +
	`<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-07-10T23:08:25Z'/>` +
	`<message xmlns='jabber:client' to='juliet@example.org' from='romeo@example.net/orchard' type='chat' id='xyz'>` +
	`<body>Привет, как дела? Увидимся вечером</body></message></forwarded></result></message>`

func roster() string {
	var b strings.Builder
	b.WriteString(`<iq to='juliet@example.org/balcony' type='result' id='roster1'><query xmlns='jabber:iq:roster' ver='ver7'>`)
	for i := range 30 {
		fmt.Fprintf(&b, `<item jid='friend%d@example.net' name='Friend %d' subscription='both'><group>Friends</group></item>`, i, i)
	}
	b.WriteString(`</query></iq>`)
	return b.String()
}

func BenchmarkScanner(b *testing.B) {
	var mixed strings.Builder
	for i := range 100 {
		switch {
		case i%20 == 0:
			mixed.WriteString(roster())
		case i%4 == 1:
			mixed.WriteString(presence)
		case i%5 == 2:
			mixed.WriteString(archived)
		default:
			mixed.WriteString(chatMessage)
		}
	}
	for _, c := range []struct {
		name, corpus string
		units        int
	}{
		{"chat", chatMessage, 1}, {"presence", presence, 1}, {"archived", archived, 1}, {"roster", roster(), 1},
		{"mixed", mixed.String(), 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := NewScanner(Limits{})
			if _, _, err := s.Next([]byte(streamHeader)); err != nil {
				b.Fatal(err)
			}
			doc := []byte(c.corpus)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			units := 0
			for b.Loop() {
				for read := doc; len(read) > 0; {
					chunk := read[:min(len(read), 4096)]
					read = read[len(chunk):]
					for len(chunk) > 0 {
						tok, n, err := s.Next(chunk)
						if err != nil {
							b.Fatal(err)
						}
						if tok.Kind == Unit {
							units++
						}
						chunk = chunk[n:]
					}
				}
			}
			if units < c.units {
				b.Fatal("units missing")
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(units), "µs/stanza")
		})
	}
}

func BenchmarkParse(b *testing.B) {
	doc := []byte(chatMessage)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(doc, "jabber:client", Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkElement(b *testing.B) {
	e, err := Parse([]byte(chatMessage), "jabber:client", Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if e.Attr("type") != "chat" || e.Child("urn:xmpp:receipts", "request").IsZero() || !e.Child("urn:xmpp:hints", "store").IsZero() {
			b.Fatal("wrong")
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	e, err := Parse([]byte(chatMessage), "jabber:client", Limits{})
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2048)
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := NewWriter(buf[:0], "jabber:client")
			w.Start("jabber:client", "message").Attr("to", "romeo@example.net").Attr("from", "juliet@example.org/balcony").Attr("type", "chat").OptAttr("id", "xyz")
			w.Start("jabber:client", "body").Text("Deny thy father & refuse thy name").End()
			w.Start("urn:xmpp:sid:0", "stanza-id").Attr("by", "romeo@example.net").Attr("id", "28482").End()
			b.SetBytes(int64(len(w.End().Bytes())))
		}
	})
	b.Run("embed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w := NewWriter(buf[:0], "jabber:client")
			w.Start("jabber:client", "message").Attr("to", "romeo@example.net").Start("urn:xmpp:carbons:2", "sent").Start("urn:xmpp:forward:0", "forwarded")
			b.SetBytes(int64(len(w.Element(e).End().End().End().Bytes())))
		}
	})
}

// BenchmarkEncodingXML is there to compare with BenchmarkScanner/chat in the
// same run: tokens only, without a tree.
func BenchmarkEncodingXML(b *testing.B) {
	b.SetBytes(int64(len(chatMessage)))
	b.ReportAllocs()
	d := xml.NewDecoder(&endless{start: streamHeader, again: chatMessage})
	depth := 0
	for b.Loop() {
		for units := 0; units == 0; {
			tok, err := d.Token()
			if err != nil {
				b.Fatal(err)
			}
			switch tok.(type) {
			case xml.StartElement:
				depth++
			case xml.EndElement:
				if depth--; depth == 1 {
					units++
				}
			}
		}
	}
}

// endless reads start once and then again without end.
type endless struct{ start, again string }

func (r *endless) Read(p []byte) (int, error) {
	if r.start == "" {
		r.start = r.again
	}
	n := copy(p, r.start)
	r.start = r.start[n:]
	return n, nil
}
