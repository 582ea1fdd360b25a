package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Send queues a stanza: a message, a presence, or the answer to a request. It
// waits while the queue is full. A message without an id gets one; the sender
// is the server's to say. The stanza is not changed. Messages that a lost
// session leaves without an acknowledgement are sent again in the next one with
// the same id, by which recipients and archives tell; everything else is Lost
// then. Requests are IQ's to send.
func (c *Client) Send(ctx context.Context, st *stanza.Stanza) (*Receipt, error) {
	if st.Kind == stanza.IQ && (st.Type == stanza.TypeGet || st.Type == stanza.TypeSet) {
		return nil, errors.New("client: requests are sent with IQ")
	}
	out := *st
	out.From = jid.JID{}
	if out.ID == "" && out.Kind == stanza.Message {
		var err error
		if out.ID, err = c.newID(); err != nil {
			return nil, err
		}
	}
	r := &Receipt{id: out.ID}
	return r, c.enqueue(ctx, &out, outgoing{kind: out.Kind, receipt: r})
}

// enqueue puts a stanza into the queue when there is room.
func (c *Client) enqueue(ctx context.Context, st *stanza.Stanza, tag outgoing) error {
	e := sm.Entry[outgoing]{Data: st.AppendTo(nil), Tag: tag}
	for {
		wait, err := c.tryEnqueue(e)
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Client) tryEnqueue(e sm.Entry[outgoing]) (wait <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.final != nil:
		return nil, c.final
	case c.closing:
		return nil, ErrClosed
	case c.out.Bytes() > 0 && c.out.Bytes()+len(e.Data) > c.cfg.MaxUnacked,
		c.cfg.Deliveries && len(c.events) >= 2*c.cfg.MaxEvents:
		if c.space == nil {
			c.space = make(chan struct{})
		}
		return c.space, nil
	}
	c.enqueueNow(e)
	return nil, nil
}

// enqueueNow queues without a bound, for the few stanzas that a session begins
// with. c.mu is held.
func (c *Client) enqueueNow(e sm.Entry[outgoing]) {
	c.out.Push(e)
	c.wake()
}

// answer sends an answer that the library gives by itself. One that finds no
// room is left out: who floods us with requests gets fewer answers, and not our
// memory. c.mu is held.
func (c *Client) answer(st *stanza.Stanza) {
	if st == nil || c.out.Bytes() > c.cfg.MaxUnacked {
		return
	}
	st.From = jid.JID{}
	c.enqueueNow(sm.Entry[outgoing]{Data: st.AppendTo(nil), Tag: outgoing{kind: st.Kind}})
}

// wake tells the writer. c.mu is held.
func (c *Client) wake() {
	if c.link != nil {
		c.link.signal()
	}
}

// wakeSenders lets those go on who wait for room. c.mu is held.
func (c *Client) wakeSenders() {
	if c.space != nil {
		close(c.space)
		c.space = nil
	}
}

// acknowledge takes the server's count (XEP-0198 4). c.mu is held.
func (c *Client) acknowledge(h uint32) error {
	err := c.out.Ack(h, func(o outgoing) { c.delivered(o, Acknowledged, nil) })
	if err != nil {
		var high *sm.TooHighError
		if !errors.As(err, &high) {
			return err
		}
		return &StreamEnded{Own: true, Err: tooHigh(high)}
	}
	c.wakeSenders()
	return nil
}

// delivered ends the delivery of a stanza. c.mu is held.
func (c *Client) delivered(o outgoing, state Delivery, err error) {
	if o.receipt == nil {
		return
	}
	o.receipt.set(state, true, err)
	if c.cfg.Deliveries && o.kind == stanza.Message {
		c.pushNow(queued{event: &Delivered{ID: o.receipt.id, State: state, Err: err}})
	}
}

// tooHigh is the end of a stream whose server acknowledges what it never got
// (XEP-0198 4).
func tooHigh(e *sm.TooHighError) *stanza.StreamError {
	w := xmltree.NewWriter(nil, "")
	w.Start(sm.NS, "handled-count-too-high").Attr("h", strconv.FormatUint(uint64(e.H), 10)).
		Attr("send-count", strconv.FormatUint(uint64(e.SendCount), 10)).End()
	err := stanza.NewStreamError(stanza.StreamUndefinedCondition, "")
	err.App = w.String()
	return err
}

// ack tells the server what is handled. c.mu is held.
func (c *Client) ack() {
	if c.link == nil {
		return // a resumed session begins with the count
	}
	c.told = c.in.H()
	c.owed = c.in.Pending() > 0
	c.control = stream.AppendAck(c.control, c.told)
	c.wake()
}

// batchSize is how many bytes are written at once, if there are so many.
const batchSize = 32 << 10

// write writes what there is to write, until the connection ends.
func (c *Client) write(l *link) {
	var buf []byte
	var gone []outgoing
	pulse := newPulse(c, l)
	for {
		var end bool
		buf, gone, end = c.batch(l, buf[:0], gone[:0])
		if len(buf) > 0 {
			_, err := l.conn.Write(buf)
			c.written(gone, err)
			if err != nil {
				l.abandon(fmt.Errorf("client: connection lost: %w", err))
				return
			}
			pulse.arm()
		}
		if end {
			return
		}
		if len(buf) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-l.prod:
			pulse.hurry()
		case <-pulse.tick:
			pulse.check()
		case <-l.ended:
			return
		}
	}
}

// written ends the deliveries of what nobody will acknowledge.
func (c *Client) written(gone []outgoing, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range gone {
		if err == nil {
			c.delivered(o, Written, nil)
		} else {
			c.delivered(o, Lost, fmt.Errorf("client: connection lost: %w", err))
		}
	}
}

// batch takes what is to be written now. end says that nothing may follow.
func (c *Client) batch(l *link, buf []byte, gone []outgoing) ([]byte, []outgoing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return buf, gone, true
	}
	buf = append(buf, c.control...)
	c.control = nil
	if l.closing {
		return buf, gone, true
	}
	taken := false
	for len(buf) < batchSize {
		e, ok := c.out.Take()
		if !ok {
			break
		}
		taken = true
		buf = append(buf, e.Data...)
		if c.out.Enabled() {
			e.Tag.receipt.set(Written, false, nil)
		} else {
			gone = append(gone, e.Tag)
			c.wakeSenders()
		}
	}
	switch {
	case !taken || !c.out.Enabled():
	case c.asked:
		c.since = true
	default:
		buf = c.request(buf)
	}
	if c.closing && !c.suspend && c.out.Waiting() == 0 {
		c.endStream(l, nil)
		buf = append(buf, c.control...)
		c.control = nil
	}
	return buf, gone, l.closing
}

// request asks the server for an acknowledgement. c.mu is held.
func (c *Client) request(buf []byte) []byte {
	c.asked, c.since = true, false
	return stream.AppendAckRequest(buf)
}

// endStream makes the end of the stream the last that is written: behind an
// acknowledgement of what is handled, for what isn't comes again. c.mu is held.
func (c *Client) endStream(l *link, err *stanza.StreamError) {
	if l.closing {
		return
	}
	if c.counting && c.out.Enabled() {
		c.ack()
	}
	c.control = stream.AppendEnd(c.control, err)
	l.closing = true
}

// pulse notices when the server has gone without a word.
type pulse struct {
	c     *Client
	l     *link
	tick  <-chan time.Time
	due   time.Time     // of tick
	since time.Time     // when an answer became due; zero: none is
	limit time.Duration // for it
}

func newPulse(c *Client, l *link) *pulse {
	p := &pulse{c: c, l: l}
	p.in(c.cfg.IdleTimeout)
	return p
}

func (p *pulse) in(d time.Duration) {
	p.due, p.tick = p.c.cfg.Clock.Now().Add(d), p.c.cfg.Clock.After(d)
}

// arm expects an answer to what was just written, if it asked for one.
func (p *pulse) arm() {
	p.c.mu.Lock()
	asked := p.c.asked
	p.c.mu.Unlock()
	if asked && (p.since.IsZero() || time.Unix(0, p.l.heard.Load()).After(p.since)) {
		p.expect(p.c.cfg.ProbeTimeout)
	}
}

func (p *pulse) expect(limit time.Duration) {
	p.since, p.limit = p.c.cfg.Clock.Now(), limit
	if p.due.After(p.since.Add(limit)) {
		p.in(limit)
	}
}

// hurry asks for a sign of life.
func (p *pulse) hurry() {
	p.c.probe()
	p.expect(p.c.cfg.ProbeTimeout / 4)
}

// check looks whether one came in time.
func (p *pulse) check() {
	now, heard := p.c.cfg.Clock.Now(), time.Unix(0, p.l.heard.Load())
	p.c.mu.Lock()
	stalled := p.c.stalled
	p.c.mu.Unlock()
	switch {
	case stalled: // it is us who don't listen
		p.since = time.Time{}
		p.in(p.c.cfg.ProbeTimeout)
	case !p.since.IsZero() && heard.Before(p.since):
		if now.Sub(p.since) >= p.limit {
			p.l.abandon(ErrSilent)
			return
		}
		p.in(p.limit - now.Sub(p.since))
	case now.Sub(heard) >= p.c.cfg.IdleTimeout:
		p.c.probe()
		p.in(p.c.cfg.ProbeTimeout)
		p.expect(p.c.cfg.ProbeTimeout)
	default:
		p.since = time.Time{}
		p.in(p.c.cfg.IdleTimeout - now.Sub(heard))
	}
}

// probe makes the server say something.
func (c *Client) probe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.Enabled() {
		c.control = c.request(c.control)
		return
	}
	if id, err := c.newID(); err == nil {
		st := stanza.Build(stanza.IQ, stanza.TypeGet, id, jid.JID{}, c.cfg.Account.DomainJID(), xep.Ping)
		c.enqueueNow(sm.Entry[outgoing]{Data: st.AppendTo(nil), Tag: outgoing{kind: stanza.IQ}})
	}
}
