package account

import (
	"context"
	"errors"
	"strconv"
	"time"

	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Transport is the connection under a session. Its methods must not block and
// take no locks; they may be called from any goroutine, also with locks held.
type Transport interface {
	// Wake says that Session.Next has something to write.
	Wake()
	// End closes the stream with an error, or in good order if it is nil.
	End(*stanza.StreamError)
}

// Session is a connection's hold on a session: what the connection that bound
// or resumed it calls. The connection's reader calls the methods that take
// what the client sent, one after the other; Next may run beside them.
//
// Once another connection has resumed the session, or it has ended, the hold
// is void: what the connection still reads is dropped uncounted, so that no
// <a/> ever speaks of it, and Next gives nothing.
type Session struct {
	*session
	t       Transport
	results []xep.SessionResult
}

// Results says what became of the parts of the session request that the session
// was bound with, in the client's order. The caller doesn't change it.
func (c *Session) Results() []xep.SessionResult { return c.results }

// current reports whether the connection still has the session. mu is held.
func (c *Session) current() bool { return c.transport == c.t && !c.ended }

// Receive takes one stanza from the client, in order, its from already set to
// the session's full JID; st is the account's from then on. Requests to the
// server and to bare JIDs are answered inside. It blocks while too many of the
// session's stanzas, or of all sessions', wait to be done. The error is the
// context's.
func (c *Session) Receive(ctx context.Context, st *stanza.Stanza, _ int) error {
	number, err := c.count(ctx)
	if number == 0 {
		return err
	}
	if st.Kind == stanza.IQ {
		switch scope, own := c.scope(st); {
		case own && scope == feature.Account && isRoster(st):
			// The loop answers it, and can't wait for room.
			if err := c.spacious(ctx); err != nil {
				return err
			}
		case own:
			err := c.answer(ctx, st, scope)
			c.handled(number)
			return err
		}
	}
	if st.Kind == stanza.Message {
		st = c.hub.takeAddressed(ctx, c.session, st)
	}
	c.hub.post(c.jid.Bare(), &inbound{session: c.session, number: number, stanza: st})
	return nil
}

// Answer counts a stanza that the connection has answered itself, such as one
// that was malformed, and sends the reply, nil for none. The error is the
// context's.
func (c *Session) Answer(ctx context.Context, _ *stanza.Stanza, _ int, reply *stanza.Stanza) error {
	number, err := c.count(ctx)
	if number == 0 {
		return err
	}
	if reply != nil {
		c.deliver(reply.AppendTo(nil), tag{})
	}
	c.handled(number)
	return nil
}

// count gives a received stanza its number, waiting for room; 0 if it isn't to
// be taken any more.
func (c *Session) count(ctx context.Context) (uint64, error) {
	for {
		if err := c.hub.uncrowded(ctx); err != nil {
			return 0, err
		}
		c.mu.Lock()
		if !c.current() || c.hub.closing.Load() {
			c.mu.Unlock()
			return 0, nil
		}
		if c.asleep {
			c.askToRouse()
		} else if c.in.Pending() < maxInFlight {
			n := c.in.Receive()
			c.mu.Unlock()
			return n, nil
		}
		credit := c.credit.next()
		c.mu.Unlock()
		select {
		case <-credit:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// settled waits until all that was received is done, which it will be soon:
// nothing more is being received.
func (x *session) settled(ctx context.Context) error {
	for {
		x.mu.Lock()
		if x.in.Pending() == 0 || x.ended {
			x.mu.Unlock()
			return nil
		}
		credit := x.credit.next()
		x.mu.Unlock()
		select {
		case <-credit:
		case <-ctx.Done():
			return ctx.Err()
		case <-x.hub.stopped:
			return errStopped
		}
	}
}

// scope sorts an IQ: own is true if this server answers it from its feature
// table (or takes it as an answer) rather than routing it.
func (x *session) scope(st *stanza.Stanza) (scope feature.Scope, own bool) {
	to := st.To
	switch {
	case to.IsZero() || to == x.jid.Bare():
		return feature.Account, true
	case to.IsDomain() && x.hub.cfg.local(to.Domain()):
		return feature.Server, true
	case to.IsBare() && to.Local() != "" && x.hub.cfg.local(to.Domain()):
		return feature.Contact, true
	}
	return 0, false
}

func isRoster(st *stanza.Stanza) bool {
	return (st.Type == stanza.TypeGet || st.Type == stanza.TypeSet) && st.Payload().Is(nsRoster, "query")
}

// answer answers an IQ to the server or to a bare JID, or takes it as the
// answer to a question.
func (c *Session) answer(ctx context.Context, st *stanza.Stanza, scope feature.Scope) error {
	if st.Type == stanza.TypeResult || st.Type == stanza.TypeError {
		if scope == feature.Server { // who asked, as (peer, id) says
			c.answered(st)
		}
		return nil
	}
	if st.To.IsZero() {
		st.To = c.jid.Bare()
	}
	reply := c.hub.answerIQ(ctx, c.session, st, scope).AppendTo(nil)
	if err := c.spacious(ctx); err != nil {
		return err
	}
	c.deliver(reply, tag{answer: len(reply)})
	return nil
}

// spacious waits until the client has read so much of its queue that it may be
// sent another answer: whoever asks faster than it reads is read more slowly.
func (c *Session) spacious(ctx context.Context) error {
	return c.awaitRoom(ctx, func() (done bool, err error) {
		return c.hasRoom() || c.overflow || c.claim != nil || !c.current() || c.hub.closing.Load(), nil
	})
}

// Element takes a non-stanza element other than stream management's. The error
// is a *stanza.StreamError.
func (c *Session) Element(ctx context.Context, el xmltree.Element) error {
	d, ok := c.hub.features.Element(el.Name())
	if !ok {
		return stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, "")
	}
	c.mu.Lock()
	current := c.current()
	c.mu.Unlock()
	if current {
		d.Handle(ctx, c.session, el)
	}
	return nil
}

// Detach says that the connection was lost without the end of its stream.
func (c *Session) Detach(t Transport) {
	c.hub.post(c.jid.Bare(), &detached{session: c.session, transport: t})
}

// Close says that the client ended its stream: the session ends.
func (c *Session) Close(t Transport) {
	c.hub.post(c.jid.Bare(), &detached{session: c.session, transport: t, closed: true})
}

// EnableSM turns acknowledgements on (XEP-0198 3) and, if resume, makes the
// session outlive its connection for the window returned. A second call
// answers the same as the first: there are clients that send <enable/> twice.
// The caller writes <enabled/> before it calls Next again.
func (c *Session) EnableSM(resume bool, want time.Duration) (id string, resumable bool, window time.Duration, err *stanza.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.current() {
		return "", false, 0, stanza.NewError(stanza.UnexpectedRequest, "the session has ended")
	}
	if !c.out.Enabled() {
		c.out.Enable()
		c.in.Enable()
	}
	if resume && !c.resumable() {
		c.smID = c.hub.cfg.newID() + c.hub.cfg.newID()
		c.window = c.hub.cfg.Limits.ResumeWindow
		if want > 0 && want < c.window {
			c.window = want
		}
	}
	return c.smID, c.resumable(), c.window, nil
}

// Ack is the client's <a/>. The error is a *stanza.StreamError for an h beyond
// what was sent (XEP-0198 4).
func (c *Session) Ack(h uint32) error {
	c.mu.Lock()
	if !c.current() {
		c.mu.Unlock()
		return nil
	}
	before := c.out.Acked()
	done, err := c.acknowledge(h)
	c.asked = false
	if c.out.Acked() != before || c.out.Unacked() == 0 {
		c.vain = 0
	} else {
		c.vain = min(c.vain+1, maxVain)
	}
	c.pause = 1<<c.vain - 1
	if c.out.Waiting() > 0 {
		c.wake()
	}
	c.mu.Unlock()
	if err != nil {
		return tooHigh(err)
	}
	c.offlineDelivered(done)
	return nil
}

// flushed is what of the offline store a client has got.
type flushed struct {
	answers int // bytes of answers, among all that left the queue
	count   int
	upTo    store.ArchiveID
	cursor  store.ArchiveID // the newest archived message
}

func (f *flushed) note(t tag) {
	f.answers += t.answer
	if t.archived {
		f.cursor = max(f.cursor, t.id)
	}
	if t.offline != 0 {
		f.count++
		f.upTo = max(f.upTo, t.offline)
	}
}

// acknowledge drops what h acknowledges. mu is held.
func (x *session) acknowledge(h uint32) (done flushed, err error) {
	var now time.Time
	note := func(t tag) {
		done.note(t)
		if t.trail != 0 {
			if now.IsZero() {
				now = x.hub.cfg.Now()
			}
			x.hub.trail.Acked(t.trail, now)
		}
	}
	if err = x.out.Ack(h, note); err == nil {
		x.answers -= done.answers
		x.cursor = max(x.cursor, done.cursor)
		x.makeRoom()
	}
	return done, err
}

// offlineDelivered tells the account that the client has offline messages.
func (x *session) offlineDelivered(done flushed) {
	if done.count > 0 {
		x.hub.post(x.jid.Bare(), &offlineDone{session: x, done: done})
	}
}

func tooHigh(err error) error {
	e := stanza.NewStreamError(stanza.StreamUndefinedCondition, err.Error())
	var high *sm.TooHighError
	if errors.As(err, &high) {
		w := xmltree.NewWriter(nil, "")
		w.Start(sm.NS, "handled-count-too-high").Attr("h", strconv.FormatUint(uint64(high.H), 10)).
			Attr("send-count", strconv.FormatUint(uint64(high.SendCount), 10)).End()
		e.App = string(w.Bytes())
	}
	return e
}

// AckRequest is the client's <r/>. It is answered once all that came before it
// is done, so that an <a/> says all that the client asked about.
func (c *Session) AckRequest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.in.Received()
	switch {
	case !c.current():
	case c.in.Settled(n):
		c.ackDue = true
		c.wake()
	default:
		if c.ackAt == 0 {
			c.ackAt = n
		}
		c.ackLast = n
	}
}

// Next appends to dst what is to be written, up to about limit bytes: the
// acknowledgements that are due and the stanzas that wait, which count as sent
// from then on. more says that something is left. A transport that isn't the
// session's any more gets nothing: what is owed belongs to its successor. One
// goroutine at a time for each transport.
func (c *Session) Next(t Transport, dst []byte, limit int) (out []byte, more bool) {
	c.mu.Lock()
	if c.transport != t {
		c.mu.Unlock()
		return dst, false
	}
	dst = c.appendAck(dst)
	var done flushed
	var now time.Time
	for len(dst) < limit && !c.asleep {
		e, ok := c.out.Take()
		if !ok {
			break
		}
		dst = append(dst, e.Data...)
		if e.Tag.trail != 0 {
			if now.IsZero() {
				now = c.hub.cfg.Now()
			}
			c.hub.trail.Written(e.Tag.trail, now)
		}
		if e.Tag.failure && c.failures > 0 {
			c.failures--
		}
		switch {
		case !c.out.Enabled():
			done.note(e.Tag)
		case e.Tag.offline != 0:
			// Kept messages leave the store when they are acknowledged. A client
			// that goes before it was asked would get them again.
			c.askDue = !c.asked
		}
	}
	c.answers -= done.answers
	if c.out.Waiting() == 0 {
		c.room.ring()
	}
	dst = c.appendAck(dst)
	if !c.out.Enabled() {
		c.makeRoom()
	} else if c.askDue || !c.asked && c.out.Unacked() >= requestEvery {
		c.asked, c.askDue = true, false // one at a time is unanswered
		dst = append(dst, "<r xmlns='"+sm.NS+"'/>"...)
	}
	more = c.out.Waiting() > 0 && !c.asleep
	c.mu.Unlock()
	c.offlineDelivered(done)
	return dst, more
}

// appendAck writes the <a/> that is due, unless an error for one of the
// stanzas that it counts has yet to leave.
func (x *session) appendAck(dst []byte) []byte {
	if !x.ackDue || x.failures > 0 {
		return dst
	}
	x.ackDue = false
	dst = append(dst, "<a xmlns='"+sm.NS+"' h='"...)
	dst = strconv.AppendUint(dst, uint64(x.in.H()), 10)
	return append(dst, "'/>"...)
}

// maxVain bounds how seldom a client is asked whose program doesn't take what it
// got: about once a minute. Each question costs a phone the waking of its radio.
const maxVain = 6

// requestRest asks for the acknowledgement of stanzas that were too few for
// Next to ask. The loop calls it on its tick. A client whose last answer said
// nothing new is asked half as often each time.
func (x *session) requestRest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.transport == nil || !x.out.Enabled() || x.asked || x.out.Unacked() == 0 {
		return
	}
	if x.pause > 0 {
		x.pause--
		return
	}
	x.askDue = true
	x.wake()
}

// makeRoom wakes who waits for the queue to shrink. mu is held.
func (x *session) makeRoom() {
	if x.hasRoom() {
		x.room.ring()
	}
}

// suspend takes the session from its connection for another that wants to
// resume it. Nothing changes if h can't be right.
func (x *session) suspend(t Transport, h uint32) (old Transport, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.out.Check(h); err != nil {
		return nil, err
	}
	old, x.transport, x.claim = x.transport, nil, t
	x.asleep, x.rousing, x.waits = false, false, false
	x.room.ring()
	x.credit.ring()
	return old, nil
}

// attach gives a suspended session its new connection (XEP-0198 5): what h
// doesn't acknowledge is sent again. It reports false if the session belongs
// to somebody else by now.
func (x *session) attach(req *ResumeRequest) (handled uint32, done flushed, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended || x.claim != req.Transport {
		return 0, flushed{}, false
	}
	// The old connection is gone, so h can't have become wrong since suspend.
	done, _ = x.acknowledge(req.H)
	x.out.Rewind()
	x.asked, x.askDue, x.failures = false, false, 0
	x.vain, x.pause = 0, 0
	// Requests of the old stream are answered by <resumed h=…/>.
	x.ackDue, x.ackAt = false, 0
	x.inactive = false // XEP-0352 4.1: a stream starts active
	x.flushHeld()
	x.transport, x.claim = req.Transport, nil
	x.smID, x.key = req.ID, nil
	x.conn, x.address = req.Conn, req.Address
	return x.in.H(), done, true
}
