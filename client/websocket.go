package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// nsFraming is the namespace of RFC 7395.
const nsFraming = "urn:ietf:params:xml:ns:xmpp-framing"

// frames is what a WebSocket does: messages of text, one at a time.
type frames interface {
	read(ctx context.Context) ([]byte, error)
	write(ctx context.Context, text []byte) error
	close()
}

// framed turns the frames of RFC 7395 into the stream of RFC 6120 and back, so
// that one machine serves both. A frame holds one element, complete by itself;
// <open/> and <close/> stand for the stream's tags. Reading and writing may go on
// at the same time, each by one goroutine.
type framed struct {
	frames
	ctx    context.Context
	cancel context.CancelFunc
	limits xmltree.Limits
	in     []byte           // translated and not read
	scan   *xmltree.Scanner // of what we write
}

func newFramed(f frames, limits xmltree.Limits) *framed {
	ctx, cancel := context.WithCancel(context.Background())
	return &framed{frames: f, ctx: ctx, cancel: cancel, limits: limits, scan: xmltree.NewScanner(limits)}
}

// Read implements transport.
func (f *framed) Read(b []byte) (int, error) {
	for len(f.in) == 0 {
		frame, err := f.frames.read(f.ctx)
		if err != nil {
			return 0, err
		}
		if f.in, err = f.translate(frame); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.in)
	f.in = f.in[n:]
	return n, nil
}

// translate makes of a frame what stands in a stream. It is parsed by itself: a
// frame can't hold half an element, or two, or the end of something else (RFC
// 7395 3.3).
func (f *framed) translate(frame []byte) ([]byte, error) {
	el, err := xmltree.Parse(frame, "", f.limits)
	if err != nil {
		return nil, fmt.Errorf("client: a frame that is no element: %w", err)
	}
	switch {
	case el.Is(nsFraming, "open"):
		out := []byte("<?xml version='1.0'?><stream:stream")
		for _, name := range []string{"from", "to", "id", "version"} {
			if v, ok := el.LookupAttr("", name); ok {
				out = append(xmltree.AppendAttrValue(append(append(append(out, ' '), name...), "='"...), v), '\'')
			}
		}
		return append(out, " xmlns='"+stanza.NSClient+"' xmlns:stream='"+stanza.NSStreams+"'>"...), nil
	case el.Is(nsFraming, "close"):
		return []byte("</stream:stream>"), nil
	}
	return el.AppendTo(nil, stanza.NSClient), nil
}

// Write implements transport. What it is given is what the machine and the
// session write: whole elements, and a header at the beginning only.
func (f *framed) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("<?xml")) {
		f.scan.Reset() // a new stream, perhaps behind one that never ended (RFC 7395 3.7)
	}
	for used := 0; used < len(b); {
		tok, n, err := f.scan.Next(b[used:])
		if err != nil {
			return used, fmt.Errorf("client: framing: %w", err)
		}
		var frame []byte
		switch tok.Kind {
		case xmltree.StreamStart:
			frame = append(frame, "<open xmlns='"+nsFraming+"'"...)
			for a := range tok.Element.Attrs() {
				if a.Name.Space == "" {
					frame = append(xmltree.AppendAttrValue(append(append(append(frame, ' '), a.Name.Local...), "='"...), a.Value), '\'')
				}
			}
			frame = append(frame, "/>"...)
		case xmltree.StreamEnd:
			frame = append(frame, "<close xmlns='"+nsFraming+"'/>"...)
		case xmltree.Unit:
			frame = tok.Element.AppendTo(frame, "")
		}
		if len(frame) > 0 {
			if err := f.frames.write(f.ctx, frame); err != nil {
				return used, err
			}
		}
		used += n
	}
	return len(b), nil
}

// Close implements transport.
func (f *framed) Close() error {
	f.cancel()
	f.frames.close()
	return nil
}

// errFrame is a message that isn't text (RFC 7395 3.2).
var errFrame = errors.New("client: a WebSocket message that is not text")

// errSubprotocol is a web server that speaks something else there.
var errSubprotocol = errors.New("client: the WebSocket is not one of XMPP")
