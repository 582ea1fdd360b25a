package c2s

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// The opcodes of RFC 6455 5.2.
const (
	opContinue = 0
	opText     = 1
	opClose    = 8
	opPing     = 9
	opPong     = 10
)

const (
	finBit     = 0x80
	maskBit    = 0x80
	maxControl = 125 // RFC 6455 5.5
	maxHead    = 14
)

// errFraming is what a WebSocket's client must not do (RFC 6455 5, RFC 7395 3.2).
var errFraming = errors.New("c2s: not as WebSockets are")

// errMessageSize is a message over the limit.
var errMessageSize = errors.New("c2s: the message is too large")

// messages makes messages of the bytes of a WebSocket's client (RFC 6455 5), split
// anyhow. Between two messages it holds no memory but its own.
type messages struct {
	head    [maxHead]byte
	have    int // of head
	op      byte
	last    bool   // the frame is its message's last
	left    int    // of the frame's payload
	pos     int    // in it, for the mask
	begun   bool   // a message has begun and isn't complete
	text    []byte // of it so far
	control []byte // the control frame's payload so far
	over    bool   // the client closed the WebSocket
}

// next reads up to the end of a frame. It returns how many bytes it has read and, if
// they end a message or a control frame, which one (its opcode; opContinue for none)
// and its payload, valid until the next call. It changes in. limit bounds a message.
func (m *messages) next(in []byte, limit int) (op byte, payload []byte, n int, err error) {
	for m.have < m.headSize() {
		if n == len(in) {
			return opContinue, nil, n, nil
		}
		m.head[m.have] = in[n]
		m.have++
		n++
		if m.have == m.headSize() {
			if err := m.begin(limit); err != nil {
				return opContinue, nil, n, err
			}
		}
	}
	part := in[n:min(len(in), n+m.left)]
	mask := m.head[m.have-4 : m.have]
	for i := range part {
		part[i] ^= mask[(m.pos+i)&3]
	}
	m.pos += len(part)
	m.left -= len(part)
	n += len(part)
	switch {
	case m.op >= opClose:
		m.control = append(m.control, part...)
		if m.left == 0 {
			op, payload, m.control = m.op, m.control, nil
		}
	case m.left == 0 && m.last && m.text == nil:
		op, payload, m.begun = opText, part, false // the usual case: nothing is copied
	default:
		m.text = append(m.text, part...)
		if m.left == 0 && m.last {
			op, payload, m.text, m.begun = opText, m.text, nil, false
		}
	}
	if m.left == 0 {
		m.have = 0
	}
	return op, payload, n, nil
}

// headSize is how long the frame's header is, as far as is known.
func (m *messages) headSize() int {
	if m.have < 2 {
		return 2
	}
	switch m.head[1] &^ maskBit {
	case 126:
		return 2 + 2 + 4
	case 127:
		return 2 + 8 + 4
	}
	return 2 + 4
}

// begin judges a frame by its header.
func (m *messages) begin(limit int) error {
	if m.have != m.headSize() {
		return nil
	}
	first, second := m.head[0], m.head[1]
	size := uint64(second &^ maskBit)
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(m.head[2:]))
	case 127:
		size = binary.BigEndian.Uint64(m.head[2:])
	}
	m.op, m.last, m.pos = first&0x0f, first&finBit != 0, 0
	switch {
	case first&0x70 != 0 || second&maskBit == 0: // RFC 6455 5.1, 5.2
		return errFraming
	case m.op == opClose || m.op == opPing || m.op == opPong:
		if !m.last || size > maxControl {
			return errFraming
		}
	case m.op == opText && !m.begun, m.op == opContinue && m.begun:
		if size > uint64(max(0, limit-len(m.text))) {
			return errMessageSize
		}
		m.begun = true
	default:
		return errFraming
	}
	m.left = int(size)
	return nil
}

// message hands the stream what a WebSocket's client says, which is NeedMore where
// that was no message.
func (c *conn) message(in, out []byte) (stream.Event, int, []byte) {
	limit := c.srv.cfg.Limits.Early.MaxBytes
	if c.bound.Load() || !c.mach.Account().IsZero() {
		limit = c.srv.cfg.Limits.Stanza.MaxBytes
	}
	op, payload, n, err := c.web.next(in, limit)
	switch {
	case errors.Is(err, errMessageSize):
		return stream.Event{Kind: stream.Failed, Err: stanza.NewStreamError(stanza.StreamPolicyViolation, "too large")}, len(in), out
	case err != nil:
		return stream.Event{Kind: stream.Failed, Err: stanza.NewStreamError(stanza.StreamBadFormat, "not as WebSockets are")}, len(in), out
	case op == opText:
		ev, out := c.mach.NextFrame(payload, out)
		return ev, n, out
	case op == opPing:
		c.control(opPong, payload)
	case op == opClose:
		// RFC 7395 3.6: the stream isn't closed by it, and may be resumed.
		c.web.over = true
		c.control(opClose, payload)
	}
	return stream.Event{}, n, out
}

// control answers a control frame. Writes of the workers are whole frames too, and
// the connection keeps writes apart.
func (c *conn) control(op byte, payload []byte) {
	b := append([]byte{finBit | op, byte(len(payload))}, payload...)
	if w, ok := c.rw.(*messageWriter); ok {
		w.ReadWriteCloser.Write(b) // if it can't be written, the reader finds out
	}
}

// messageWriter writes a stream as messages of a WebSocket, one element each. What
// it is given is whole elements; it goes out in one write.
type messageWriter struct{ io.ReadWriteCloser }

var messageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Write implements io.Writer.
func (w *messageWriter) Write(b []byte) (int, error) {
	buf := messageBuffers.Get().(*[]byte)
	out := (*buf)[:0]
	for rest := b; len(rest) > 0; {
		n := stream.FirstElement(rest)
		out = appendMessage(out, rest[:n])
		rest = rest[n:]
	}
	_, err := w.ReadWriteCloser.Write(out)
	if *buf = out; cap(out) <= keepBuffer {
		messageBuffers.Put(buf)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// appendMessage appends the message for one element, and behind the stream's end
// that of the WebSocket (RFC 7395 3.6).
func appendMessage(out, el []byte) []byte {
	start := len(out)
	out, end := stream.AppendFrame(append(out, finBit|opText, 0), el)
	switch size := len(out) - start - 2; {
	case size < 126:
		out[start+1] = byte(size)
	case size <= 0xffff:
		out = append(out, 0, 0)
		copy(out[start+4:], out[start+2:len(out)-2])
		out[start+1] = 126
		binary.BigEndian.PutUint16(out[start+2:], uint16(size))
	default:
		out = append(out, make([]byte, 8)...)
		copy(out[start+10:], out[start+2:len(out)-8])
		out[start+1] = 127
		binary.BigEndian.PutUint64(out[start+2:], uint64(size))
	}
	if end {
		out = append(out, finBit|opClose, 2, 1000>>8, 1000&0xff)
	}
	return out
}
