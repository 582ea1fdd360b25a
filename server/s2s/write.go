package s2s

import (
	"fmt"
	"time"

	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/stream"
)

// ask is a question to a peer without acknowledgements, "" if there is none to be
// asked: its answer says that all before was read, for a stream is read in order
// (RFC 6120 10.1). mu is held.
func (w *way) ask() string {
	if len(w.marks) == 0 || w.ping != "" {
		return ""
	}
	w.pings++
	w.ping, w.pingUpTo = fmt.Sprintf("read-%d-%d", w.link.since.UnixNano(), w.pings), w.marks[len(w.marks)-1].upTo
	return "<iq" + string(fromTo(w.pair.local, w.pair.remote)) + " id='" + w.ping + "' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
}

// answered takes the answer to such a question, an error too; false if it is none.
func (s *Server) answered(st *stanza.Stanza) bool {
	if st.Kind != stanza.IQ || st.Type != stanza.TypeResult && st.Type != stanza.TypeError || !st.To.IsDomain() || !st.From.IsDomain() {
		return false
	}
	s.mu.Lock()
	w := s.ways[pair{st.To.Domain(), st.From.Domain()}]
	s.mu.Unlock()
	if w == nil {
		return false
	}
	w.mu.Lock()
	if w.link == nil || w.ping == "" || st.ID != w.ping {
		w.mu.Unlock()
		return false
	}
	list, _ := w.queue.ack(w.pingUpTo, nil)
	for len(w.marks) > 0 && int32(w.marks[0].upTo-w.pingUpTo) <= 0 {
		w.marks = w.marks[1:]
	}
	w.ping = ""
	w.soothe(w.link)
	w.mu.Unlock()
	s.forget(list, trail.Answered)
	return true
}

// writeLoop writes what the way gives to its stream, and then the end.
func (c *conn) writeLoop() {
	defer c.guard()
	var buf []byte
	for range c.wake {
		for c.writeBatch(&buf) {
		}
		if c.ended() {
			c.askLast()
			c.finish()
			return
		}
	}
}

// writeBatch writes once; false if nothing is left to write, or nothing can be.
func (c *conn) writeBatch(buf *[]byte) bool {
	w := c.carries
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	e, counts, asked := c.ending, c.session != nil, !c.asked.IsZero()
	c.mu.Unlock()
	if e != nil && !e.drains() {
		return false
	}
	w.mu.Lock()
	if w.link != c || c.finished {
		// Another stream has the queue: what this one took it couldn't write, and
		// nobody else would.
		w.mu.Unlock()
		return false
	}
	max := batchSize
	if w.strikes >= careful {
		if max = 1; w.queue.sent > 0 {
			max = 0
		}
	}
	b, n := w.queue.take((*buf)[:0], max)
	more := w.queue.waiting() > 0 && max == batchSize
	now := time.Now()
	for _, i := range w.queue.list[w.queue.sent-n : w.queue.sent] {
		c.srv.trace(i.ref, trail.Written, "", now)
	}
	if n > 0 && !counts {
		upTo := w.queue.acked + uint32(w.queue.sent)
		if k := len(w.marks); k > 0 && now.Sub(w.marks[k-1].at) < time.Second {
			w.marks[k-1].upTo = upTo
		} else {
			w.marks = append(w.marks, mark{upTo, now})
		}
	}
	unacked := w.queue.sent > 0
	w.used = now
	w.mu.Unlock()
	if counts && unacked && !asked {
		b = stream.AppendAckRequest(b)
	}
	c.mu.Lock()
	if n > 0 {
		c.used = now
	}
	if counts && unacked && !asked {
		c.asked = now
	}
	c.mu.Unlock()
	if len(b) > 0 && c.writeLocked(b) != nil {
		return false
	}
	c.srv.Metrics.StanzasOut.Add(uint64(n))
	if *buf = b; cap(b) > 4*batchSize {
		*buf = nil
	}
	return more
}

// askLast asks for the last acknowledgement of a stream that ends.
func (c *conn) askLast() {
	c.carries.mu.Lock()
	unacked := c.carries.queue.sent > 0
	c.carries.mu.Unlock()
	if unacked && c.counts() {
		c.say(string(stream.AppendAckRequest(nil)))
	}
}

// wakeUp tells the writer that something waits.
func (c *conn) wakeUp() {
	c.mu.Lock()
	c.signal()
	c.mu.Unlock()
}

// counts reports whether stream management is on.
func (c *conn) counts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}
