package component

import (
	"log/slog"
	"slices"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// put queues a stanza; false if there is no room.
func (c *conn) put(st *stanza.Stanza) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes > c.srv.cfg.Limits.QueueBytes {
		return false
	}
	c.queue = append(c.queue, st)
	c.bytes += len(st.Inner()) + perStanza
	c.signal()
	return true
}

// say queues what the stream itself has to tell.
func (c *conn) say(b []byte) {
	c.mu.Lock()
	c.ctl = append(c.ctl, b...)
	c.signal()
	c.mu.Unlock()
}

// end ends the stream, with an error or, for nil, in good order. Only the first
// call counts. Any goroutine may call it.
func (c *conn) end(err *stanza.StreamError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return
	}
	c.ending = &ending{err}
	c.signal()
}

// fail ends the stream for something that the component did.
func (c *conn) fail(condition, text string) {
	c.log(slog.LevelInfo, "stream ended by an error", slog.String("condition", condition), slog.String("text", text))
	c.end(stanza.NewStreamError(condition, text))
}

func (c *conn) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
}

// signal wakes the writer. mu is held.
func (c *conn) signal() {
	if c.gone {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take fills b with what is to be written next. Stanzas that are in it are
// returned too: if they can't be written their senders are told.
func (c *conn) take(b []byte) (_ []byte, sent []*stanza.Stanza, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b = append(b, c.ctl...)
	c.ctl = nil
	if c.ending == nil || c.ending.drains() {
		n := 0
		for n < len(c.queue) && len(b) < bufferSize {
			b = c.queue[n].AppendTo(b)
			c.bytes -= len(c.queue[n].Inner()) + perStanza
			n++
		}
		sent = slices.Clone(c.queue[:n])
		clear(c.queue[:n])
		if c.queue = c.queue[n:]; len(c.queue) > 0 {
			c.signal()
			return b, sent, false
		}
		c.queue = nil
	}
	return b, sent, c.ending != nil
}

// rest empties the queue.
func (c *conn) rest() []*stanza.Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.queue
	c.queue, c.bytes = nil, 0
	return rest
}

// write is the writer's loop. It ends with the stream or the connection.
func (c *conn) write() {
	defer c.guard()
	var buf []byte
	for range c.wake {
		var sent []*stanza.Stanza
		var last bool
		buf, sent, last = c.take(buf[:0])
		if last {
			buf = c.appendEnd(buf)
		}
		if len(buf) > 0 {
			c.net.SetWriteDeadline(time.Now().Add(c.srv.cfg.Limits.WriteTime))
			if _, err := c.net.Write(buf); err != nil {
				c.unsent(sent)
				c.net.Close()
				return
			}
		}
		c.srv.Metrics.StanzasOut.Add(uint64(len(sent)))
		if last {
			c.closeWrite()
			return
		}
		if cap(buf) > 4*bufferSize {
			buf = nil
		}
	}
}

// unsent puts stanzas back whose write failed.
func (c *conn) unsent(sent []*stanza.Stanza) {
	c.mu.Lock()
	c.queue = append(sent, c.queue...)
	c.mu.Unlock()
}

// appendEnd appends the end of the stream, behind a header if there was none
// (RFC 6120 4.9.1.2).
func (c *conn) appendEnd(b []byte) []byte {
	c.mu.Lock()
	opened, e := c.opened, c.ending
	c.mu.Unlock()
	if !opened {
		b = append(b, "<?xml version='1.0'?><stream:stream xmlns='"+NS+"' xmlns:stream='"+stanza.NSStreams+"'>"...)
	}
	return stream.AppendEnd(b, e.err)
}

// closeWrite closes our side and gives the component a little time to close
// its own.
func (c *conn) closeWrite() {
	if half, ok := c.net.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	c.linger()
}

func (c *conn) linger() { c.net.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.Linger)) }
