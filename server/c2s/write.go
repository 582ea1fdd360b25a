package c2s

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// States of conn.writer.
const (
	writerIdle    = iota
	writerRunning // a worker has the connection
	writerAgain   // and Wake was called since it last looked
)

const (
	// maxIdleWorkers is how many workers wait for the next connection at most; their
	// stacks are grown already. Behind a burst, such as a message to a big room, those
	// beyond keptWorkers go one after the other (patrol).
	maxIdleWorkers = 1024
	keptWorkers    = 32
	// restAfter is after how much silence a reader lets go of its stack.
	restAfter = 8 * time.Second
	// maxDrain bounds what is written of a session whose stream ends.
	maxDrain = 1 << 20
	// keepBuffer is up to which size a write buffer is used again.
	keepBuffer = 4 * bufferSize
)

var writeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Wake implements Transport.
func (c *conn) Wake() {
	if !c.bound.Load() {
		return // attach wakes again
	}
	for {
		switch c.writer.Load() {
		case writerIdle:
			if c.writer.CompareAndSwap(writerIdle, writerRunning) {
				c.srv.dispatch(c)
				return
			}
		case writerRunning:
			if c.writer.CompareAndSwap(writerRunning, writerAgain) {
				return
			}
		default:
			return
		}
	}
}

// End implements Transport.
func (c *conn) End(err *stanza.StreamError) {
	if !c.ending.CompareAndSwap(nil, &ending{err}) {
		return
	}
	if c.bound.Load() {
		c.Wake()
		return
	}
	// The reader writes until a resource is bound: interrupt it. Should it bind
	// one just now, attach lifts the deadline and wakes the writer.
	c.sock.SetReadDeadline(time.Unix(1, 0))
}

// end is End for the reader, which logs why. Nothing more of what the client
// sends is heard.
func (c *conn) end(err *stanza.StreamError) {
	c.told = true
	c.logEnd(err)
	c.End(err)
}

// logEnd says once why we end a stream.
func (c *conn) logEnd(err *stanza.StreamError) {
	if err == nil {
		return
	}
	m := &c.srv.Metrics
	m.StreamErrors.Add(1)
	if err.Condition == stanza.StreamPolicyViolation {
		m.Limits.Add(1)
	}
	level := slog.LevelInfo
	if c.bound.Load() || err.Condition == stanza.StreamConnectionTimeout {
		level = slog.LevelDebug // the end of the session is told anyway; who only connects is of no interest
	}
	c.log(level, "stream ended by an error", slog.String("condition", err.Condition), slog.String("text", err.Text))
}

// say queues what the stream itself has to tell.
func (c *conn) say(b []byte) {
	c.mu.Lock()
	c.ctl = append(c.ctl, b...)
	c.mu.Unlock()
	c.Wake()
}

// writeEarly writes before a resource is bound; the deadline is that of the
// login.
func (c *conn) writeEarly(b []byte) error {
	c.traceOut(b, c.secret)
	c.secret = false
	_, err := c.rw.Write(b)
	c.srv.Metrics.BytesOut.Add(int64(len(b)))
	c.srv.Metrics.Writes.Add(1)
	return err
}

// endEarly ends a stream before binding, behind what is to be written anyway,
// and leaves the reader to wait for the client's end.
func (c *conn) endEarly(out []byte, err *stanza.StreamError) {
	c.told = true
	c.logEnd(err)
	c.sock.SetWriteDeadline(time.Now().Add(max(c.srv.cfg.Limits.Linger, time.Second)))
	c.writeEarly(c.mach.End(out, err))
	c.shutdown()
}

// shutdown closes our side, TLS first (RFC 6120 4.4), and gives the client a
// little time to close its own: what it sent and nobody read would otherwise
// make the kernel throw away our last words.
func (c *conn) shutdown() {
	if c.tls != nil {
		c.tls.CloseWrite()
	}
	c.sock.closeWrite()
	c.linger()
}

func (c *conn) linger() { c.sock.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.Linger)) }

// dispatch gives the connection to a worker.
func (s *Server) dispatch(c *conn) {
	select {
	case s.work <- c:
	default:
		go s.worker(c)
	}
}

// restWorkers lets half of the workers go that wait and aren't kept.
func (s *Server) restWorkers() {
	for n := (s.idle.Load() - keptWorkers + 1) / 2; n > 0; n-- {
		select {
		case s.work <- nil:
		default:
			return
		}
	}
}

// worker writes for one connection after the other. Nobody waits for its end: a
// connection that is gone gives it nothing to do.
func (s *Server) worker(c *conn) {
	for {
		c.flush()
		if s.idle.Add(1) > maxIdleWorkers {
			s.idle.Add(-1)
			return
		}
		select {
		case c = <-s.work:
			s.idle.Add(-1)
			if c == nil {
				return
			}
		case <-s.done:
			s.idle.Add(-1)
			return
		}
	}
}

// flush writes what there is. When it returns the connection's writer is idle
// again, or will never run again because the stream has ended.
func (c *conn) flush() {
	buf := writeBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keepBuffer {
			writeBuffers.Put(buf)
		}
		if r := recover(); r != nil {
			c.panicked(r)
			c.sock.Close()
		}
	}()
	drained := 0
	for {
		c.writer.Store(writerRunning)
		e := c.ending.Load()
		b, more := c.assemble((*buf)[:0], e)
		*buf = b
		if e != nil {
			if drained += len(b); drained > maxDrain {
				more = false
			}
			if !more {
				c.send(stream.AppendEnd(b, e.err))
				c.shutdown()
				return
			}
		}
		if !c.send(b) {
			return
		}
		if !more && c.writer.CompareAndSwap(writerRunning, writerIdle) {
			return
		}
	}
}

// assemble puts together about one record.
func (c *conn) assemble(b []byte, e *ending) (_ []byte, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = append(b, c.ctl...)
	c.ctl = nil
	if c.session != nil && (e == nil || e.drains()) {
		// The session is asked for less than fits: it rounds up to whole stanzas.
		b, more = c.session.Next(c, b, bufferSize-1024)
	}
	return b, more
}

// send writes; if it can't, the connection is lost, which the reader notices.
func (c *conn) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	c.traceOut(b, false)
	c.writing.Store(max(1, int64(time.Since(c.srv.epoch))))
	_, err := c.rw.Write(b)
	c.writing.Store(0)
	if err != nil {
		c.sock.Close()
		return false
	}
	c.srv.Metrics.BytesOut.Add(int64(len(b)))
	c.srv.Metrics.Writes.Add(1)
	return true
}

// inspect is the patrol's look at a connection: a write that takes too long, a
// client that has been silent for too long (RFC 6120 4.6).
func (c *conn) inspect(now time.Duration) {
	if !c.bound.Load() {
		return
	}
	lim := &c.srv.cfg.Limits
	if since := c.writing.Load(); since != 0 && lim.WriteTime > 0 && int64(now)-since > int64(lim.WriteTime) {
		c.srv.Metrics.WriteTimeouts.Add(1)
		c.log(slog.LevelInfo, "the client does not read")
		c.sock.Close()
		return
	}
	last := c.lastRead.Load()
	switch silent := int64(now) - last; {
	case c.ending.Load() != nil:
	case silent > int64(restAfter) && c.rest <= last && c.sock.raw != nil:
		c.rest = int64(now)
		c.sock.SetReadDeadline(time.Unix(1, 0))
	case lim.Idle <= 0 || silent < int64(lim.Idle):
	case c.asked <= last:
		c.asked = int64(now)
		c.ask()
	case lim.IdleGrace > 0 && int64(now)-c.asked > int64(lim.IdleGrace):
		c.srv.Metrics.IdleTimeouts.Add(1)
		c.log(slog.LevelInfo, "the client is silent")
		c.End(stanza.NewStreamError(stanza.StreamConnectionTimeout, ""))
	}
}

// ask makes a client that is there say something: with stream management by
// asking for an acknowledgement, without it by a ping (XEP-0199 4.1), which then
// isn't counted by anybody.
func (c *conn) ask() {
	c.mu.Lock()
	if c.session != nil {
		if c.sm {
			c.ctl = stream.AppendAckRequest(c.ctl)
		} else {
			full := c.session.JID()
			id := "idle-" + strconv.FormatInt(c.asked, 36)
			c.ctl = stanza.Build(stanza.IQ, stanza.TypeGet, id, full.DomainJID(), full, "<ping xmlns='urn:xmpp:ping'/>").AppendTo(c.ctl)
		}
	}
	c.mu.Unlock()
	c.Wake()
}
