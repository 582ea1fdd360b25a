package component

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// conn is one connection. Fields without a remark are the reader's.
type conn struct {
	srv       *Server
	net       net.Conn
	scan      *xmltree.Scanner
	id        string // of the stream, "" before its header
	component *Component
	ready     bool // the handshake is done
	dropped   int  // bytes read behind the end
	paid      time.Time

	promoted bool // by Server.mu

	mu     sync.Mutex
	ctl    []byte           // what the stream has to say, ahead of stanzas
	queue  []*stanza.Stanza // that wait
	bytes  int              // of queue
	opened bool             // our header is written, or in ctl
	ending *ending          // how the stream ends; set once
	gone   bool             // wake is closed
	wake   chan struct{}    // something to write; closed when the connection is gone
}

// ending is how a stream ends: with an error, or in good order.
type ending struct{ err *stanza.StreamError }

// drains reports whether what waits is written before the end: the component
// has done nothing wrong.
func (e *ending) drains() bool {
	return e.err == nil || e.err.Condition == stanza.StreamSystemShutdown
}

const (
	bufferSize = 16 << 10
	// maxDropped is how many bytes a component may send behind the end of its stream.
	maxDropped = 1 << 20
	// perStanza is what a stanza in the queue costs beside its payload.
	perStanza = 512
)

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{srv: s, net: nc, scan: xmltree.NewScanner(s.cfg.Limits.Early), wake: make(chan struct{}, 1)}
}

// log writes a line with the connection's attributes.
func (c *conn) log(level slog.Level, msg string, attrs ...slog.Attr) {
	if c.component != nil {
		attrs = append(attrs, slog.String("component", c.component.domain.Domain()))
	}
	attrs = append(attrs, slog.String("addr", c.net.RemoteAddr().String()))
	c.srv.cfg.Log.LogAttrs(c.srv.ctx, level, msg, attrs...)
}

// serve reads until the end of the connection.
func (c *conn) serve() {
	var writing sync.WaitGroup
	writing.Go(c.write)
	if t := c.srv.cfg.Limits.EarlyTime; t > 0 {
		c.net.SetReadDeadline(time.Now().Add(t))
	}
	c.read()
	if c.ready {
		c.component.detach(c)
	}
	c.mu.Lock()
	c.gone = true
	close(c.wake)
	c.mu.Unlock()
	writing.Wait()
	c.net.Close()
	c.giveBack(c.rest())
	if c.ready {
		c.log(slog.LevelInfo, "component disconnected")
	}
}

// guard turns a panic into the end of this one connection.
func (c *conn) guard() {
	if r := recover(); r != nil {
		c.srv.Metrics.Panics.Add(1)
		c.log(slog.LevelError, "panic", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		c.net.Close()
	}
}

// read is the reader's loop.
func (c *conn) read() {
	defer c.guard()
	buf := make([]byte, bufferSize)
	for {
		n, err := c.net.Read(buf)
		if c.ended() {
			// The end is being written. Not for a component that just goes on.
			if c.dropped += n; err != nil || c.dropped > maxDropped {
				return
			}
			continue
		}
		c.feed(buf[:n])
		var timeout net.Error
		switch {
		case err == nil:
			c.throttle(n)
		case !c.ready && errors.As(err, &timeout) && timeout.Timeout():
			c.fail(stanza.StreamConnectionTimeout, "no handshake in time")
		case c.ended():
		default:
			if !errors.Is(err, io.EOF) {
				c.log(slog.LevelDebug, "connection lost", slog.Any("error", err))
			}
			c.net.Close()
			return
		}
	}
}

// throttle holds the reader back to the component's bytes per second.
func (c *conn) throttle(n int) {
	if !c.ready {
		return
	}
	rate := c.srv.cfg.Limits.BytesPerSecond[c.component.domain.Domain()]
	if rate <= 0 {
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

// feed handles what was read.
func (c *conn) feed(in []byte) {
	for len(in) > 0 && !c.ended() {
		tok, n, err := c.scan.Next(in)
		in = in[n:]
		if err != nil {
			c.end(stream.ScanError(err))
			return
		}
		switch tok.Kind {
		case xmltree.StreamStart:
			c.open(tok)
		case xmltree.StreamEnd:
			c.end(nil)
		case xmltree.Unit:
			c.unit(tok.Element)
		}
	}
}

// open checks the component's header and answers it (XEP-0114 3).
func (c *conn) open(tok xmltree.Token) {
	el := tok.Element
	to, err := jid.Parse(el.Attr("to"))
	if err == nil && to.IsDomain() {
		c.component = c.srv.components[to.Domain()]
	}
	c.say(c.header())
	switch {
	case !el.Is(stanza.NSStreams, "stream"):
		c.fail(stanza.StreamInvalidNamespace, "not a stream")
	case tok.DefaultSpace != NS:
		c.fail(stanza.StreamInvalidNamespace, "this port is for "+NS)
	case c.component == nil:
		c.fail(stanza.StreamHostUnknown, "")
	}
}

// header is our stream header, the first thing that is said.
func (c *conn) header() []byte {
	var id [16]byte
	if _, err := io.ReadFull(c.srv.cfg.Rand, id[:]); err != nil {
		panic("component: no randomness: " + err.Error())
	}
	c.id = base64.RawURLEncoding.EncodeToString(id[:])
	out := []byte("<?xml version='1.0'?><stream:stream xmlns='" + NS + "' xmlns:stream='" + stanza.NSStreams + "'")
	if c.component != nil {
		out = append(xmltree.AppendAttrValue(append(out, " from='"...), c.component.domain.String()), '\'')
	}
	c.mu.Lock()
	c.opened = true
	c.mu.Unlock()
	return append(out, " id='"+c.id+"'>"...)
}

// unit handles one first-level element.
func (c *conn) unit(el xmltree.Element) {
	switch {
	case el.Is(stanza.NSStreams, "error"):
		c.log(slog.LevelInfo, "the component ended its stream", slog.String("error", string(el.AppendTo(nil, NS))))
		c.end(nil)
	case !c.ready:
		c.handshake(el)
	case el.Space() != NS:
		c.fail(stanza.StreamUnsupportedStanzaType, "")
	default:
		c.stanza(el)
	}
}

// handshake is the component's proof that it knows the secret (XEP-0114 3).
func (c *conn) handshake(el xmltree.Element) {
	sum := sha1.Sum(append([]byte(c.id), c.component.secret...))
	want := hex.EncodeToString(sum[:])
	if !el.Is(NS, "handshake") || subtle.ConstantTimeCompare([]byte(el.Text()), []byte(want)) != 1 {
		c.srv.Metrics.Failures.Add(1)
		c.fail(stanza.StreamNotAuthorized, "")
		return
	}
	if !c.component.attach(c) {
		c.fail(stanza.StreamConflict, "this component is connected already")
		return
	}
	c.srv.mu.Lock()
	c.srv.promoted(c)
	c.srv.mu.Unlock()
	c.ready = true
	c.scan.SetLimits(c.srv.cfg.Limits.Stanza)
	c.net.SetReadDeadline(time.Time{})
	if c.ended() {
		c.linger()
	}
	c.log(slog.LevelInfo, "component connected")
	c.say([]byte("<handshake/>"))
}

// stanza hands on what the component sends. Its elements become those of
// jabber:client, as all are inside.
func (c *conn) stanza(el xmltree.Element) {
	raw := el.AppendTo(nil, NS)
	// It has passed the limits; its canonical form need not.
	st, err := stanza.ParseBytes(raw, xmltree.Limits{MaxBytes: len(raw) + 1, MaxDepth: 1 << 14, MaxAttrs: 1 << 16, MaxChildren: 1 << 24, MaxNamespaces: 1 << 20})
	if st == nil {
		c.fail(stanza.StreamUnsupportedStanzaType, "")
		return
	}
	// XEP-0114 3: both addresses, as between servers (RFC 6120 8.1.1.2, 8.1.2.2).
	switch {
	case el.Attr("from") == "" || el.Attr("to") == "":
		c.fail(stanza.StreamImproperAddressing, "a stanza needs both from and to")
		return
	case st.From.Domain() != c.component.domain.Domain():
		c.fail(stanza.StreamInvalidFrom, "")
		return
	}
	c.srv.Metrics.StanzasIn.Add(1)
	if err != nil {
		e, _ := stanza.AsError(err)
		c.reply(st.ErrorReply(e))
		return
	}
	if err := c.srv.cfg.Receive(c.srv.ctx, st); err != nil {
		c.end(stanza.NewStreamError(stanza.StreamSystemShutdown, ""))
	}
}

// reply sends an error that the stream itself has for a stanza.
func (c *conn) reply(st *stanza.Stanza) {
	if st != nil {
		c.component.Send(st) // a queue that is full drops it
	}
}

// giveBack tells the senders of stanzas that were taken and can't be sent.
func (c *conn) giveBack(list []*stanza.Stanza) {
	defer c.guard()
	for _, st := range list {
		c.srv.Metrics.Returned.Add(1)
		if st.Kind == stanza.Presence {
			continue // what it says may be another thing when the component is back
		}
		if r := st.ErrorReply(unreachable()); r != nil {
			if err := c.srv.cfg.Receive(c.srv.ctx, r); err != nil {
				return
			}
		}
	}
}
