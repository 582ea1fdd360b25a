package stream

import (
	"bytes"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSFraming is the namespace of the elements that stand for a stream's tags where
// each element travels by itself (RFC 7395).
const NSFraming = "urn:ietf:params:xml:ns:xmpp-framing"

// NextFrame is Next for a stream in frames (RFC 7395 3.3): frame holds one element,
// complete by itself, and is consumed. A stream uses either Next or NextFrame; what
// is appended to out are elements of a stream all the same, for AppendFrame. It
// begins after Secured: there is no STARTTLS in frames (RFC 7395 3.9).
func (s *Server) NextFrame(frame, out []byte) (Event, []byte) {
	if s.state == stateEnded {
		return Event{}, out
	}
	ev, out := s.frame(frame, out)
	switch ev.Kind {
	case Failed, Closed, PeerError:
		s.state = stateEnded
	}
	return ev, out
}

func (s *Server) frame(frame, out []byte) (Event, []byte) {
	if len(frame) == 0 || frame[0] != '<' {
		return failed(stanza.StreamBadFormat, "a frame begins with an element"), out
	}
	if bytes.HasPrefix(frame, []byte("<?")) {
		return failed(stanza.StreamRestrictedXML, "a frame has no declaration"), out
	}
	limits := s.cfg.EarlyLimits
	if s.state == stateAuthed || s.state == stateBound {
		limits = s.cfg.Limits
	}
	el, err := xmltree.Parse(frame, "", limits)
	if err != nil {
		return scanError(err), out
	}
	open := el.Is(NSFraming, "open")
	switch {
	case el.Is(NSFraming, "close"):
		return Event{Kind: Closed}, out
	case open != s.opened:
		if open {
			return s.open(el, nil, out)
		}
		return s.unit(xmltree.Token{Kind: xmltree.Unit, Element: el, Size: len(frame)}, out)
	case open:
		return failed(stanza.StreamBadFormat, "the stream is open"), out
	}
	return failed(stanza.StreamBadFormat, "the stream is not open"), out
}

var (
	declaration = []byte("<?xml version='1.0'?>")
	streamOpen  = []byte("<stream:stream")
	streamClose = []byte("</stream:stream>")
	streamSpace = []byte(" xmlns='" + stanza.NSClient + "' xmlns:stream='" + stanza.NSStreams + "'>")
	xmlnsIs     = []byte(" xmlns='")
)

// FirstElement is the length of what stands first in b, which this server has
// written for a stream: a header, an element or the closing tag. It is len(b) where
// the element isn't complete.
func FirstElement(b []byte) int {
	if rest, ok := bytes.CutPrefix(b, declaration); ok || bytes.HasPrefix(b, streamOpen) {
		return len(b) - len(rest) + tagLength(rest)
	}
	for at, depth := 0, 0; ; {
		i := bytes.IndexByte(b[at:], '<')
		if i < 0 {
			return len(b)
		}
		at += i
		n := tagLength(b[at:])
		switch tag := b[at : at+n]; {
		case bytes.HasPrefix(tag, []byte("</")):
			depth--
		case !bytes.HasSuffix(tag, []byte("/>")):
			depth++
		}
		if at += n; depth <= 0 {
			return at
		}
	}
}

// tagLength is the length of the tag that b begins with; values in it are in single
// quotes, as in all that is canonical.
func tagLength(b []byte) int {
	quoted := false
	for i, c := range b {
		switch {
		case c == '\'':
			quoted = !quoted
		case c == '>' && !quoted:
			return i + 1
		}
	}
	return len(b)
}

// AppendFrame appends the frame for an element that FirstElement has found, with
// the namespaces that a stream's header would declare (RFC 7395 3.3.3); close
// reports whether it is the one that ends the stream.
func AppendFrame(dst, el []byte) (_ []byte, close bool) {
	if bytes.Equal(el, streamClose) {
		return append(dst, "<close xmlns='"+NSFraming+"'/>"...), true
	}
	rest, _ := bytes.CutPrefix(el, declaration)
	if rest, ok := bytes.CutPrefix(rest, streamOpen); ok {
		dst = append(dst, "<open xmlns='"+NSFraming+"'"...)
		dst = append(dst, bytes.TrimSuffix(rest, streamSpace)...)
		return append(dst, "/>"...), false
	}
	tag := el[:tagLength(el)]
	name := bytes.IndexAny(tag, " />")
	if name < 0 {
		return append(dst, el...), false
	}
	dst = append(dst, el[:name]...)
	switch {
	case bytes.HasPrefix(tag, []byte("<stream:")):
		dst = append(dst, " xmlns:stream='"+stanza.NSStreams+"'"...)
	case !bytes.Contains(tag, xmlnsIs):
		dst = append(dst, " xmlns='"+stanza.NSClient+"'"...)
	}
	return append(dst, el[name:]...), false
}
