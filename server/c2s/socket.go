package c2s

import (
	"bytes"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"syscall"
)

// bufferSize is what is read at once, and about what is written at once: a full
// TLS record's plaintext, so that one of them is one system call.
const bufferSize = 16 << 10

type buffer [bufferSize]byte

// Both pools are only caches; nothing in them is a state.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// socket is the connection under TLS, or under the plaintext stream before it.
// Read serves what wait has fetched and never blocks, unless blocking is set:
// so the waiting is done outside of crypto/tls, without its stack and without a
// buffer. It is used by the reader, and for Write by one more goroutine.
type socket struct {
	net.Conn
	raw      syscall.RawConn // nil: waiting is a blocking Read, with a buffer
	poll     func(fd uintptr) bool
	buf      *buffer // nil when everything was consumed
	have     []byte  // the part of buf that wasn't consumed
	n        int     // of the poll that just was
	err      error
	blocking bool
	padded   bool // white space may come before TLS's first byte, of clients that end <starttls/> with a line feed

	// name is the domain the client asked for in the clear; leaf is the
	// certificate that the handshake showed. Both are for the time of the login.
	name string
	leaf *x509.Certificate
}

func newSocket(nc net.Conn) *socket {
	s := &socket{Conn: nc}
	if sc, ok := nc.(syscall.Conn); ok && canPoll {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw, s.poll = raw, s.fetch
		}
	}
	return s
}

// errWouldBlock is what Read says when there is nothing: crypto/tls takes a
// temporary error for no reason to give up the connection.
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "c2s: nothing to read" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// wait blocks until there is something to Read.
func (s *socket) wait() error {
	if len(s.have) > 0 {
		return nil
	}
	if s.raw == nil {
		s.buf = buffers.Get().(*buffer)
		s.n, s.err = s.Conn.Read(s.buf[:])
	} else if err := s.raw.Read(s.poll); err != nil {
		return err
	}
	if s.n <= 0 {
		s.release()
		if s.err == nil {
			s.err = io.EOF
		}
		return s.err
	}
	s.have = s.buf[:s.n]
	return nil
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	for len(s.have) == 0 {
		if !s.blocking {
			return 0, errWouldBlock{}
		}
		if err := s.wait(); err != nil {
			return 0, err
		}
		if s.padded {
			if s.have = bytes.TrimLeft(s.have, " \t\r\n"); len(s.have) == 0 {
				s.release()
			} else {
				s.padded = false
			}
		}
	}
	n := copy(p, s.have)
	if s.have = s.have[n:]; len(s.have) == 0 {
		s.release()
	}
	return n, nil
}

// release drops what was fetched.
func (s *socket) release() {
	if s.have = nil; s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
}

// closeWrite tells the peer that nothing more will come, where that is possible.
func (s *socket) closeWrite() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}
