package s2s

import (
	"fmt"
	"strconv"
	"time"

	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// management is XEP-0198.
func (c *conn) management(el xmltree.Element) {
	c.mu.Lock()
	x, w := c.session, c.carries
	c.mu.Unlock()
	h, known := readH(el)
	switch {
	case el.Is(sm.NS, "r") && x != nil:
		c.acknowledge()
	case el.Is(sm.NS, "a") && x != nil && known && w != nil:
		if err := w.acked(c, h); err != nil {
			e := stanza.NewStreamError(stanza.StreamUndefinedCondition, err.Error())
			e.App = fmt.Sprintf("<handled-count-too-high xmlns='%s' h='%d' send-count='%d'/>", sm.NS, h, w.sendCount())
			c.fail(e)
			return
		}
		c.mu.Lock()
		c.asked = time.Time{}
		c.signal() // perhaps there is more to ask for
		c.mu.Unlock()
	case el.Is(sm.NS, "a") && x != nil && known:
	case el.Is(sm.NS, "enable") && !c.outgoing && c.authed && x == nil:
		c.enable(el)
		c.lend()
	case el.Is(sm.NS, "resume") && !c.outgoing && c.authed && x == nil:
		c.resume(el, h, known)
	default: // XEP-0198 6
		c.say("<failed xmlns='" + sm.NS + "'><unexpected-request xmlns='" + stanza.NSStanzaErrors + "'/></failed>")
	}
}

// readH reads the attribute h.
func readH(el xmltree.Element) (uint32, bool) {
	n, err := strconv.ParseUint(el.Attr("h"), 10, 32)
	return uint32(n), err == nil
}

// enable turns stream management on (XEP-0198 3).
func (c *conn) enable(el xmltree.Element) {
	x := &session{pair: pair{c.local, c.remote}, conn: c}
	if r := el.Attr("resume"); r == "true" || r == "1" {
		x.id = c.srv.newID()
		c.srv.mu.Lock()
		if len(c.srv.sessions) < c.srv.cfg.Limits.Sessions && !c.srv.closing {
			c.srv.sessions[x.id] = x
		} else {
			x.id = ""
		}
		c.srv.mu.Unlock()
	}
	answer := "<enabled xmlns='" + sm.NS + "'/>"
	if x.id != "" {
		answer = fmt.Sprintf("<enabled xmlns='%s' id='%s' resume='true' max='%d'/>", sm.NS, x.id, int(c.srv.cfg.Limits.Resume/time.Second))
	}
	// Nothing is written between the answer and the beginning of the count.
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_ = c.writeLocked([]byte(answer)) // the reader sees it
	c.mu.Lock()
	c.session = x
	w := c.carries
	c.mu.Unlock()
	if w != nil {
		w.counted(c)
	}
}

// resume goes on with a session whose stream broke (XEP-0198 5).
func (c *conn) resume(el xmltree.Element, h uint32, known bool) {
	id := el.Attr("previd")
	c.srv.mu.Lock()
	x := c.srv.sessions[id]
	if x != nil && (x.pair != (pair{c.local, c.remote}) || !c.may(x.pair)) {
		x = nil // another domain's, which isn't told
	}
	var old *conn
	if x != nil {
		old, x.conn, x.until = x.conn, c, time.Time{}
	}
	c.srv.mu.Unlock()
	if old != nil { // it doesn't know yet that it broke
		old.raw.Close()
		<-old.done
	}
	if x == nil || !known || c.srv.cfg.Settle(c.srv.ctx) != nil || !c.resumeBack(x, h) {
		count := ""
		if x != nil {
			count = fmt.Sprintf(" h='%d'", x.in.Load())
			c.srv.mu.Lock()
			delete(c.srv.sessions, id)
			c.srv.mu.Unlock()
		}
		c.say("<failed xmlns='" + sm.NS + "'" + count + "><item-not-found xmlns='" + stanza.NSStanzaErrors + "'/></failed>")
		return
	}
	c.srv.Metrics.Resumed.Add(1)
	c.resumed = true
	c.mu.Lock()
	c.session = x
	c.mu.Unlock()
	c.say(fmt.Sprintf("<resumed xmlns='%s' previd='%s' h='%d'/>", sm.NS, xmltree.AppendAttrValue(nil, id), x.in.Load()))
	c.lend()
}

// resumeBack continues what was sent on a session of XEP-0288; false if that has
// gone another way.
func (c *conn) resumeBack(x *session, h uint32) bool {
	c.mu.Lock()
	bidi := c.bidi
	c.mu.Unlock()
	if !bidi {
		return true
	}
	c.srv.mu.Lock()
	w := c.srv.ways[x.pair]
	c.srv.mu.Unlock()
	if w == nil {
		return h == 0
	}
	ok, err := w.resumed(x, h)
	return ok && err == nil
}

// acknowledge says how much is handled, once it is on disk. One at a time is being
// made, however often the peer asks.
func (c *conn) acknowledge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ackWant = true
	if c.ackDue {
		return
	}
	c.ackDue = true
	c.srv.running.Go(func() {
		defer c.guard()
		for {
			c.mu.Lock()
			if !c.ackWant {
				c.ackDue = false
				c.mu.Unlock()
				return
			}
			c.ackWant = false
			h := c.session.in.Load()
			c.mu.Unlock()
			if c.srv.cfg.Settle(c.srv.ctx) == nil {
				c.say(string(stream.AppendAck(nil, h)))
			}
		}
	})
}

// sendCount is how many stanzas were sent on the way's stream.
func (w *way) sendCount() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.acked + uint32(w.queue.sent)
}
