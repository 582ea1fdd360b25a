package s2s

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// limits announces what the peer may send (XEP-0478): also before it has proved
// anything, for stanzas come later, and after dialback nothing more is announced.
func (c *conn) limits() string {
	l := &c.srv.cfg.Limits
	idle := 2 * l.Idle
	if !c.authed && !c.outgoing {
		idle = l.EarlyTime
	}
	return "<limits xmlns='" + stream.NSLimits + "'><max-bytes>" + strconv.Itoa(l.Stanza.MaxBytes) + "</max-bytes><idle-seconds>" +
		strconv.Itoa(int(idle/time.Second)) + "</idle-seconds></limits>"
}

// readLimits is how many bytes a stanza may have by the limits in an element; 0: it
// doesn't say.
func readLimits(el xmltree.Element) int {
	n, err := strconv.ParseUint(strings.TrimSpace(el.Child(stream.NSLimits, "limits").Child(stream.NSLimits, "max-bytes").Text()), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// takes reports whether the peer takes a stanza of n bytes.
func (c *conn) takes(n int) bool { return c.longest == 0 || n <= c.longest }

// tooLong is what the sender of a stanza is told that the peer doesn't take (XEP-0478
// 4).
func (c *conn) tooLong() *stanza.Error {
	return stanza.NewError(stanza.PolicyViolation, c.remote+" takes no stanza of more than "+strconv.Itoa(c.longest)+" bytes")
}

// tooLong takes out what waits for a stream that doesn't take it. mu is held.
func (w *way) tooLong(c *conn) []item {
	if c.longest == 0 {
		return nil
	}
	return w.queue.giveUp(func(i *item, sent bool) bool { return !sent && !c.takes(len(i.data)) })
}
