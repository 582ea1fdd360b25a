package s2s

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// conn is one stream. The reader's goroutine owns the fields without a remark:
// of an incoming stream ServeConn's, of an outgoing one that of its way.
type conn struct {
	srv      *Server
	raw      net.Conn // as it was accepted or made; never changes
	net      net.Conn // raw or TLS on it; changed by the reader, with wmu
	outgoing bool
	scan     *xmltree.Scanner
	buf, in  []byte // what was read, and of it what isn't scanned
	space    string // default namespace of the stream
	direct   bool   // TLS came first
	secure   bool
	opened   bool // the peer's header is read
	since    time.Time
	paid     time.Time // throttle: up to here its bytes are paid for
	dropped  int       // bytes read behind the end

	// The pair of the header, of an incoming stream possibly empty.
	local, remote string
	// id is that of the stream, made by the side that accepted it.
	id      string
	chain   []*x509.Certificate // of the peer
	proof   Proof               // of remote, by its certificate
	doubt   error               // why there is none
	authed  bool                // something is proved: the early limits are over
	resumed bool                // it continues a session
	closed  bool                // the peer has closed it in good order
	reason  error               // why the peer ended it, or it broke
	refused bool                // the peer ended it for what it was sent
	longest int                 // bytes of a stanza that the peer takes (XEP-0478); 0: it doesn't say. Fixed when it carries a way
	early   bool                // counted as unauthenticated; by Server.mu
	shares  sharing             // whom else the peer takes stanzas from or for. Fixed when it carries a way
	keys    []string            // of Server.hosts that lead here; by Server.mu
	number  uint64              // for people. Fixed when it is one of Server.conns

	done chan struct{} // closed when nothing is read any more

	handling sync.Mutex // held while a stanza is handed on and counted
	deaf     bool       // nothing is handed on any more; by handling

	wmu      sync.Mutex // held while writing
	header   bool       // ours is written; by wmu
	finished bool       // so is the end; by wmu

	mu      sync.Mutex
	pairs   map[pair]string     // what the peer may send for, and how that was proved
	sends   map[pair]bool       // further pairs that the peer lets us send for
	asks    map[pair]chan error // for which it was asked; nil: it has answered
	bidi    bool
	carries *way     // writes to it
	lent    bool     // carries was decided, for a stream of the peer's
	session *session // stream management; nil: off
	asked   time.Time
	used    time.Time // when the last stanza passed
	ackDue  bool      // an acknowledgement is being made
	ackWant bool      // and another one is wanted
	ending  *ending
	wake    chan struct{} // something to write; nil as long as nobody writes
	gone    bool
}

// ending is how a stream ends: with an error, or in good order.
type ending struct{ err *stanza.StreamError }

// drains reports whether what waits is written before the end.
func (e *ending) drains() bool {
	return e.err == nil || e.err.Condition == stanza.StreamSystemShutdown
}

// session is the receiving half of stream management (XEP-0198), which outlives a
// stream that breaks.
type session struct {
	id    string
	pair  pair
	in    atomic.Uint32 // stanzas received and handed on
	until time.Time     // when it can't be resumed any more; zero: it is connected. By Server.mu
	conn  *conn         // that it belongs to; by Server.mu
	// retired: we make a stream of our own in its stead, and have asked the peer what it
	// has handled. By Server.mu.
	retired bool
}

const (
	bufferSize = 8 << 10
	batchSize  = 32 << 10
	// maxDropped is how many bytes a peer may send behind the end of its stream.
	maxDropped = 1 << 20
)

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{srv: s, raw: nc, net: nc, scan: xmltree.NewScanner(s.cfg.Limits.Early), since: time.Now(), used: time.Now(), pairs: map[pair]string{},
		done: make(chan struct{})}
}

// log writes a line with the stream's attributes.
func (c *conn) log(level slog.Level, msg string, attrs ...slog.Attr) {
	direction := "in"
	if c.outgoing {
		direction = "out"
	}
	attrs = append(attrs, slog.String("domain", c.remote), slog.String("for", c.local), slog.String("direction", direction),
		slog.String("addr", c.raw.RemoteAddr().String()))
	c.srv.cfg.Log.LogAttrs(c.srv.ctx, level, msg, attrs...)
}

// guard turns a panic into the end of this one stream.
func (c *conn) guard() {
	if r := recover(); r != nil {
		c.srv.Metrics.Panics.Add(1)
		c.log(slog.LevelError, "panic", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		c.raw.Close()
	}
}

// errEnded tells that the peer has closed its stream, or we ours.
var errEnded = errors.New("the stream was closed")

// next reads up to the next token. The error is a *stanza.StreamError for what
// the peer did wrong, and otherwise the connection's.
func (c *conn) next() (xmltree.Token, error) {
	for {
		for len(c.in) > 0 {
			tok, n, err := c.scan.Next(c.in)
			c.in = c.in[n:]
			if err != nil {
				return tok, stream.ScanError(err)
			}
			if tok.Kind != xmltree.None {
				return tok, nil
			}
		}
		if err := c.fill(); err != nil {
			return xmltree.Token{}, err
		}
	}
}

// fill reads more. Before something is proved the deadline is that of the whole
// negotiation.
func (c *conn) fill() error {
	if c.buf == nil {
		c.buf = make([]byte, bufferSize)
	}
	c.mu.Lock()
	if c.authed && c.ending == nil { // else finish says for how long; with mu held it comes later
		c.net.SetReadDeadline(time.Now().Add(2 * c.srv.cfg.Limits.Idle))
	}
	c.mu.Unlock()
	n, err := c.net.Read(c.buf)
	c.in = c.buf[:n]
	if n > 0 {
		c.throttle(n)
		return nil
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return nil
	case ok && timeout.Timeout() && !c.authed:
		return stanza.NewStreamError(stanza.StreamConnectionTimeout, "nothing was proved in time")
	case ok && timeout.Timeout() && !c.ended():
		c.end(nil)
		c.finish()
		return errEnded
	}
	return err
}

// throttle holds the reader back to the bytes per second of a stream.
func (c *conn) throttle(n int) {
	rate := c.srv.cfg.Limits.BytesPerSecond
	if rate <= 0 || !c.authed {
		return
	}
	now := time.Now()
	if c.paid.Before(now) {
		c.paid = now
	}
	c.paid = c.paid.Add(time.Duration(n) * time.Second / time.Duration(rate))
	if wait := c.paid.Sub(now) - time.Second; wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.srv.ctx.Done():
		}
	}
}

// write writes at once. A peer that doesn't read loses the connection.
func (c *conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.writeLocked(b)
}

func (c *conn) writeLocked(b []byte) error {
	c.net.SetWriteDeadline(time.Now().Add(c.srv.cfg.Limits.WriteTime))
	_, err := c.net.Write(b)
	if err != nil {
		c.raw.Close()
	}
	return err
}

// say is write where a failure will be seen by the reader.
func (c *conn) say(s string) { _ = c.write([]byte(s)) }

// open writes our header.
func (c *conn) open() error {
	b := []byte(header)
	for _, a := range [...]struct{ open, value string }{{" from='", c.local}, {" to='", c.remote}, {" id='", c.id}} {
		if a.value != "" && !(a.open == " id='" && c.outgoing) {
			b = append(xmltree.AppendAttrValue(append(b, a.open...), a.value), '\'')
		}
	}
	b = append(b, " version='1.0' xml:lang='"+stream.Lang+"'>"...)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.header = true
	return c.writeLocked(b)
}

// restart makes the stream a new one (RFC 6120 4.3.3). What came before under
// another security is forgotten.
func (c *conn) restart() {
	c.scan.Reset()
	c.opened = false
	c.wmu.Lock()
	c.header = false
	c.wmu.Unlock()
}

// startTLS does the handshake, as the side that the direction says.
func (c *conn) startTLS() error {
	if len(c.in) > 0 {
		// RFC 6120 5.4.3.3: what was sent in the clear must not be taken for secured.
		return stanza.NewStreamError(stanza.StreamPolicyViolation, "data behind the request for TLS")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	if c.direct {
		cfg.NextProtos = []string{alpn}
	}
	var t *tls.Conn
	if c.outgoing {
		cfg.ServerName = sni(c.remote)
		// The chain is checked against the domain, which is not always SNI's name,
		// and against DNS: see prove.
		cfg.InsecureSkipVerify = true
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.srv.cfg.Certificate(&tls.ClientHelloInfo{ServerName: asciiName(c.local)})
		}
		t = tls.Client(c.net, cfg)
	} else {
		cfg.ClientAuth = tls.RequestClientCert
		cfg.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "" {
				hello.ServerName = asciiName(c.local)
			}
			return c.srv.cfg.Certificate(hello)
		}
		t = tls.Server(c.net, cfg)
	}
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.wmu.Lock()
	c.net = t
	c.wmu.Unlock()
	c.secure, c.chain, c.proof = true, t.ConnectionState().PeerCertificates, unchecked
	return nil
}

// sni is a domain as a TLS client may name it, "" for an address (RFC 6066 3).
func sni(domain string) string {
	if name := asciiName(domain); net.ParseIP(name) == nil && name[0] != '[' {
		return name
	}
	return ""
}

// end ends the stream, with an error or, for nil, in good order. Only the first
// call counts. Any goroutine may call it; what is to be written is, by whoever
// writes.
func (c *conn) end(err *stanza.StreamError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil {
		c.ending = &ending{err}
		c.signal()
	}
}

func (c *conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
}

// shutDown ends the stream because the server stops.
func (c *conn) shutDown() {
	c.end(stanza.NewStreamError(stanza.StreamSystemShutdown, ""))
	c.mu.Lock()
	alone := c.wake == nil
	c.mu.Unlock()
	if alone {
		c.srv.running.Go(c.finish) // nobody writes: a write may take a while
	}
}

// fail ends the stream for something that the peer did, and says so in the log.
func (c *conn) fail(e *stanza.StreamError) {
	c.log(slog.LevelInfo, "stream ended by an error", slog.String("condition", e.Condition), slog.String("text", e.Text))
	c.failed(e)
}

// failed is fail where the log has it already.
func (c *conn) failed(e *stanza.StreamError) {
	c.end(e)
	c.mu.Lock()
	alone := c.wake == nil
	c.mu.Unlock()
	if alone {
		c.finish()
	}
}

// finish writes the end of the stream, behind a header if there was none (RFC
// 6120 4.9.1.2), and gives the peer a little time to close its side. The last that
// is said before is how much was handled; what comes later isn't.
func (c *conn) finish() {
	c.mu.Lock()
	e, x := c.ending, c.session
	c.mu.Unlock()
	var b []byte
	if x != nil && e.drains() {
		c.handling.Lock()
		c.deaf = true
		c.handling.Unlock()
		if c.srv.cfg.Settle(c.srv.ctx) == nil {
			b = stream.AppendAck(b, x.in.Load())
		}
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return // by the reader and the writer at once
	}
	c.finished = true
	if !c.header {
		c.header = true
		b = append(b, header+" version='1.0'>"...)
	}
	_ = c.writeLocked(stream.AppendEnd(b, e.err)) // whoever has gone isn't told
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	c.net.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.Linger))
}

// drop reads what comes behind the end of our stream, until the peer closes.
func (c *conn) drop() {
	if c.buf == nil {
		c.buf = make([]byte, bufferSize)
	}
	for c.dropped += len(c.in); c.dropped < maxDropped; {
		n, err := c.net.Read(c.buf)
		c.dropped += n
		if err != nil {
			return
		}
	}
}

// signal wakes the writer. mu is held.
func (c *conn) signal() {
	if c.wake == nil || c.gone {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// over closes the connection and tells who waits for it.
func (c *conn) over() {
	c.mu.Lock()
	c.gone = true
	if c.wake != nil {
		close(c.wake)
	}
	c.mu.Unlock()
	c.raw.Close()
}

// allow notes that the peer may send for a pair.
func (c *conn) allow(p pair, how string) {
	c.mu.Lock()
	c.pairs[p] = how
	c.mu.Unlock()
	c.srv.mu.Lock()
	c.srv.promoted(c)
	c.srv.mu.Unlock()
}

// may reports whether the peer may send for a pair.
func (c *conn) may(p pair) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.pairs[p]
	return ok
}

// security is in words how a stream is secured, and how a pair was proved on it.
func (c *conn) security(p pair) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.securityLocked(p)
}

func (c *conn) securityLocked(p pair) string {
	how := []string{"TLS"}
	if p.remote == c.remote && (c.proof == ByPKIX || c.proof == ByDANE) {
		how = append(how, string(c.proof))
	}
	if h := c.pairs[p]; h != "" {
		how = append(how, h)
	} else if c.sends[p] {
		how = append(how, "dialback")
	}
	return fmt.Sprint(how)
}

// isClosed reports whether an error only says that the connection is no more.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, errEnded)
}
