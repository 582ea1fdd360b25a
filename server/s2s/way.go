package s2s

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"carillon.im/server/s2s/lookup"
	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// way is the road from one of our domains to another one, and for the pairs that
// ride on its stream: see share.go.
type way struct {
	srv  *Server
	pair pair

	mu         sync.Mutex
	queue      queue
	own        load           // of pair, in the queue
	guests     map[pair]*load // further pairs: Server.ways has the way for them too. Changed with Server.mu held
	solo       bool           // no stream of another way is asked for any more
	link       *conn          // that carries it; nil: none
	session    *session       // of the last stream, if it can be resumed
	ours       bool           // by us: we made that stream
	past       *session       // of the one before it that we made
	connecting bool           // its goroutine is making a stream, or serves one
	retry      time.Time
	failures   int       // in a row
	failing    time.Time // since the first of them
	away       bool      // Reach is told
	lastErr    error
	timer      *time.Timer // for the next try; nil: none
	marks      []mark      // without acknowledgements: when what was written
	ping       string      // id of the question that is out, to a peer without acknowledgements
	pingUpTo   uint32      // what its answer says that the peer has read
	pings      uint64      // asked so far
	strikes    int         // streams in a row that the peer ended with an error while something was unacknowledged
	used       time.Time
	stopped    bool
}

// mark is up to which stanza a stream had been written to, and when.
type mark struct {
	upTo uint32
	at   time.Time
}

// tooMany is what who writes to one more domain than there may be is told.
func (s *Server) tooMany() *stanza.Error {
	s.Metrics.Full.Add(1)
	return stanza.NewError(stanza.ResourceConstraint, "too many other servers are being written to")
}

// newWay makes a way without stream.
func (s *Server) newWay(p pair) *way {
	return &way{srv: s, pair: p, own: load{pair: p}, used: time.Now()}
}

// load is that of a pair, whose way it is. mu is held.
func (w *way) load(p pair) *load {
	if l := w.guests[p]; l != nil {
		return l
	}
	return &w.own
}

// full is what who writes to a domain for which too much waits is told, nil if there
// is room. mu is held.
func (w *way) full(l *load) *stanza.Error {
	if l.bytes <= w.srv.cfg.Limits.QueueBytes {
		return nil
	}
	w.srv.Metrics.Full.Add(1)
	return stanza.NewError(stanza.ResourceConstraint, "too much waits for "+l.pair.remote)
}

// put queues a stanza, and gets a stream going if there is none. One of the outbox,
// which has an id, is always taken, and goes after the next start if the server is
// stopping.
func (s *Server) put(p pair, one item) *stanza.Error {
	s.mu.Lock()
	w := s.ways[p]
	if w == nil {
		switch {
		case s.closing && one.id != 0:
			s.mu.Unlock()
			return nil
		case one.id == 0 && (s.closing || len(s.ways) >= s.cfg.Limits.Ways):
			s.mu.Unlock()
			return s.tooMany()
		}
		w = s.newWay(p)
		s.ways[p] = w
	}
	// With both held, so that the way isn't swept away in between, and the pair rides on
	// no other one.
	w.mu.Lock()
	s.mu.Unlock()
	defer w.mu.Unlock()
	now := time.Now()
	one.load = w.load(p)
	if one.id == 0 {
		if e := w.full(one.load); e != nil {
			return e
		}
		if w.link == nil && !w.connecting && w.failures > 0 && now.Before(w.retry) {
			return w.unreachable()
		}
	}
	if c := w.link; c != nil && !c.takes(len(one.data)) {
		e := c.tooLong()
		if one.id == 0 {
			return e
		}
		s.running.Go(func() { s.giveBack([]item{one}, e) })
		return nil
	}
	w.queue.push(one)
	w.used = now
	switch {
	case w.link != nil:
		w.link.wakeUp()
	case w.connecting:
	case now.Before(w.retry):
		w.later()
	default:
		w.start()
	}
	return nil
}

// start gets a stream going. mu is held.
func (w *way) start() {
	if w.stopped {
		return
	}
	w.calm()
	w.connecting = true
	w.srv.running.Go(w.run)
}

// unreachable is what who writes to a domain that can't be reached is told. mu is
// held.
func (w *way) unreachable() *stanza.Error {
	if errors.Is(w.lastErr, lookup.ErrNoService) {
		return stanza.NewError(stanza.RemoteServerNotFound, "there is no XMPP server for this domain")
	}
	return stanza.NewError(stanza.RemoteServerTimeout, "the domain's server can't be reached now")
}

// run finds a stream or makes one and serves it, as long as something is to be sent.
func (w *way) run() {
	defer func() {
		if r := recover(); r != nil {
			w.srv.Metrics.Panics.Add(1)
			w.srv.cfg.Log.Error("panic", "domain", w.pair.remote, "panic", r, "stack", string(debug.Stack()))
			w.failed(errors.New("internal error"))
		}
	}()
	for w.round() {
	}
}

// round finds a stream or makes one and serves it; whether there is to be another.
func (w *way) round() bool {
	up := w.srv.queueUp(w)
	defer up()
	if w.srv.board(w) {
		return false
	}
	c, err := w.srv.connect(w.srv.ctx, w.pair, w)
	if err != nil {
		w.failed(err)
		return false
	}
	w.srv.carry(c, w, up)
	return w.again()
}

// carry serves an outgoing stream until it is over; up is told when it is known whether
// the way has it.
func (s *Server) carry(c *conn, w *way, up func()) {
	s.mu.Lock()
	s.register(c)
	closing := s.closing
	s.mu.Unlock()
	s.Metrics.Outgoing.Add(1)
	c.log(slog.LevelInfo, "stream to another server", slog.String("security", c.security(w.pair)))
	s.reached(w.pair.remote)
	taken := w.attach(c, true)
	up()
	if closing {
		c.shutDown()
	}
	if !taken {
		c.finish() // it has no writer
	}
	c.run()
	s.Metrics.Outgoing.Add(-1)
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// again tells, when a stream is over, whether to make the next one at once. Where
// it broke early, the other side is given time.
func (w *way) again() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || w.link != nil || len(w.queue.list) == 0 {
		w.connecting = false
		return false
	}
	if time.Now().Before(w.retry) {
		w.connecting = false
		w.later()
		return false
	}
	return true
}

// attach makes a stream carry the way's queue, unless another one does; own is
// for one that the way made itself, which is ended if it isn't taken.
func (w *way) attach(c *conn, own bool) (taken bool) {
	w.srv.mu.Lock()
	defer w.srv.mu.Unlock()
	w.mu.Lock()
	// A stream that can be resumed knows what has come; no other one does.
	waits := !own && !c.resumed && (w.connecting || w.session != nil)
	if w.link != nil || w.stopped || waits {
		w.mu.Unlock()
		if own {
			c.end(nil)
		}
		return false
	}
	if !c.resumed {
		w.queue.rewind(false)
		w.drop()
	}
	w.marks, w.ping = nil, ""
	w.calm()
	w.seat(c)
	long := w.tooLong(c)
	w.adopt(c)
	w.link, w.failures, w.lastErr, w.used = c, 0, nil, time.Now()
	c.mu.Lock()
	c.carries, c.wake = w, make(chan struct{}, 1)
	c.signal()
	c.mu.Unlock()
	w.mu.Unlock()
	if len(long) > 0 {
		w.srv.running.Go(func() { w.srv.giveBack(long, c.tooLong()) })
	}
	w.srv.running.Go(c.writeLoop)
	return true
}

// adopt notes what session a stream has, if it can be resumed. mu is held.
func (w *way) adopt(c *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil && c.session.id != "" {
		w.session, w.ours = c.session, c.outgoing
	}
}

// detach takes a stream that is over from the way. What was written to it is
// acknowledged, can be asked about when the stream is resumed, is sent again, or
// is given up. It has ended if it can't be resumed, and is closed if the peer has
// read it to the end.
func (w *way) detach(c *conn, ended, closed bool, reason error) {
	w.mu.Lock()
	if w.link != c {
		w.mu.Unlock()
		return
	}
	w.link = nil
	var list []done
	counted := c.counts()
	if closed && !counted {
		list, _ = w.queue.ack(w.queue.acked+uint32(w.queue.sent), nil) // it read to the end
	}
	if ended {
		w.drop() // XEP-0198 5: it ended with its stream
	}
	poison := w.strike(c)
	var gone []item
	if w.session == nil {
		gone = w.queue.giveUp(func(i *item, sent bool) bool { return sent && i.id == 0 })
		w.queue.rewind(false)
	}
	now := time.Now()
	if reason != nil {
		w.lastErr = reason
	}
	switch min := w.srv.cfg.Limits.RetryMin; {
	case w.session != nil && !w.ours:
		w.retry = now.Add(3 * min) // the peer is about to resume it
	case now.Sub(c.since) < min:
		w.retry = now.Add(min)
	}
	if !w.connecting && len(w.queue.list) > 0 {
		w.later() // it was the peer's stream, and its goroutine isn't ours
	}
	e := w.unreachable()
	w.mu.Unlock()
	w.srv.forget(list, trail.Closed)
	w.srv.giveBack(gone, e)
	w.srv.giveBack(poison, stanza.NewError(stanza.NotAcceptable, w.pair.remote+" ends its streams for this"))
}

// calm stops the timer for the next try. mu is held.
func (w *way) calm() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// careful is after how many streams that the peer ended with an error the way sends
// one stanza at a time: then it is clear which one the peer can't take.
const careful = 2

// strike notes that the peer ended a stream with an error, and returns the stanza
// that it can't take, once that is clear. mu is held.
func (w *way) strike(c *conn) []item {
	switch {
	case !c.refused || w.queue.sent == 0:
		return nil
	case w.strikes < careful:
		w.strikes++
		return nil
	}
	n := 0
	return w.queue.giveUp(func(*item, bool) bool {
		n++
		return n == 1
	})
}

// later sets the timer for the next try. mu is held.
func (w *way) later() {
	if w.stopped || w.timer != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(max(time.Until(w.retry), 0), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer != timer {
			return // it was stopped too late
		}
		w.timer = nil
		if w.link == nil && !w.connecting && len(w.queue.list) > 0 {
			w.start()
		}
	})
	w.timer = timer
}

// failed notes that no stream could be had. Messages of the outbox wait for the
// next try, unless there is nothing to wait for; everything else goes back.
func (w *way) failed(err error) {
	l := &w.srv.cfg.Limits
	w.srv.Metrics.ConnectErrors.Add(1)
	w.partAll(errors.Is(err, lookup.ErrNoService))
	w.mu.Lock()
	w.connecting, w.lastErr = false, err
	if w.stopped || w.link != nil { // the peer's stream carries it by now
		w.mu.Unlock()
		return
	}
	if w.failures++; w.failures == 1 {
		w.failing, w.away = time.Now(), false
	}
	pause := min(l.RetryMin<<min(w.failures-1, 20), l.RetryMax)
	pause += time.Duration(rand.Int64N(int64(pause)/4 + 1)) // domains that failed together don't try together
	w.retry = time.Now().Add(pause)
	never := errors.Is(err, lookup.ErrNoService)
	old := time.Now().Add(-l.GiveUp)
	gone := w.queue.giveUp(func(i *item, sent bool) bool { return i.id == 0 || never || i.at.Before(old) })
	w.tidy()
	if len(w.queue.list) > 0 {
		w.later()
	}
	e, first := w.unreachable(), w.failures == 1
	w.mu.Unlock()
	if first {
		w.srv.cfg.Log.Info("another server can't be reached", "domain", w.pair.remote, "for", w.pair.local, "error", err)
	}
	w.srv.giveBack(gone, e)
}

// acked handles the peer's count.
func (w *way) acked(c *conn, h uint32) error {
	w.mu.Lock()
	if w.link != c {
		w.mu.Unlock()
		return nil
	}
	list, err := w.queue.ack(h, nil)
	w.soothe(c)
	w.mu.Unlock()
	w.srv.forget(list, trail.Acknowledged)
	return err
}

// soothe lets the way go on, and at full speed when what the peer refused streams
// for is gone. Mu is held.
func (w *way) soothe(c *conn) {
	if w.strikes == 0 {
		return
	}
	if len(w.queue.list) == 0 {
		w.strikes = 0
	}
	c.wakeUp()
}

// counted makes acknowledgements begin: what was sent before counts as delivered.
func (w *way) counted(c *conn) {
	w.mu.Lock()
	list, _ := w.queue.ack(w.queue.acked+uint32(w.queue.sent), nil)
	w.queue.acked, w.marks = 0, nil
	w.adopt(c)
	w.mu.Unlock()
	w.srv.forget(list, trail.LivedOn)
}

// resumed continues the count of a stream that broke; false if the way has gone on
// without it.
func (w *way) resumed(x *session, h uint32) (bool, error) {
	w.mu.Lock()
	if w.session != x || w.link != nil {
		w.mu.Unlock()
		return false, nil
	}
	list, err := w.queue.ack(h, nil)
	if err == nil {
		w.queue.rewind(true)
	}
	w.mu.Unlock()
	w.srv.forget(list, trail.Acknowledged)
	return err == nil, err
}

// broken is the session to ask for with the next stream, nil if there is none: one
// of ours can be resumed, about one of the peer's it can only be asked.
func (w *way) broken() (x *session, ours bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session, w.ours
}

// tidy forgets a broken stream that nothing waits for any more. mu is held.
func (w *way) tidy() {
	if w.link == nil && w.queue.empty() {
		w.queue = queue{}
		w.drop()
	}
}

// drop forgets the session, but not how much came over it if the peer may ask for
// that. mu is held.
func (w *way) drop() {
	if w.session != nil && w.ours {
		w.past = w.session
	}
	w.session = nil
}

// settled forgets a session of the peer's of which it says how much has come.
func (w *way) settled(x *session, h uint32) {
	w.mu.Lock()
	if w.session != x || w.link != nil {
		w.mu.Unlock()
		return
	}
	list, err := w.queue.ack(h, nil)
	if err == nil {
		w.queue.rewind(false)
		w.drop()
	}
	w.mu.Unlock()
	w.srv.forget(list, trail.Acknowledged)
}

// ownSession is the session of a stream that we made, by the id that the peer gave it,
// and that stream if it isn't known yet that it broke.
func (w *way) ownSession(id string) (*session, *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.session != nil && w.ours && w.session.id == id:
		return w.session, w.link
	case w.past != nil && w.past.id == id:
		return w.past, nil
	}
	return nil, nil
}

// unused reports whether nothing of the way needs to be remembered.
func (w *way) unused(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link == nil && !w.connecting && w.timer == nil && len(w.queue.list) == 0 && now.After(w.retry) && (w.failures == 0 || w.away) &&
		now.Sub(w.used) > w.srv.cfg.Limits.Resume
}

// stop keeps the way from making another stream.
func (w *way) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.calm()
}

// tick passes time.
func (w *way) tick(now time.Time) {
	l := &w.srv.cfg.Limits
	w.mu.Lock()
	c := w.link
	if c == nil {
		old := now.Add(-l.GiveUp)
		gone := w.queue.giveUp(func(i *item, _ bool) bool { return i.at.Before(old) })
		w.tidy()
		e := w.unreachable()
		w.mu.Unlock()
		if len(gone) > 0 {
			w.srv.running.Go(func() { w.srv.giveBack(gone, e) })
		}
		return
	}
	var list []done
	question := ""
	if !c.counts() {
		for len(w.marks) > 0 && now.Sub(w.marks[0].at) >= l.LivedOn {
			list, _ = w.queue.ack(w.marks[0].upTo, list)
			w.marks, w.ping = w.marks[1:], ""
			w.soothe(c)
		}
		question = w.ask()
	}
	quiet := len(w.queue.list) == 0
	w.mu.Unlock()
	w.srv.forget(list, trail.LivedOn)
	if question != "" {
		w.srv.running.Go(func() { c.say(question) }) // a write may take a while
	}
	c.mu.Lock()
	idle := now.Sub(c.used) > l.Idle
	silent := !c.asked.IsZero() && now.Sub(c.asked) > l.AckTime
	c.mu.Unlock()
	switch {
	case silent:
		c.log(slog.LevelInfo, "no acknowledgement came")
		c.raw.Close()
	case idle && quiet:
		c.end(nil)
	}
}

// connectContext bounds the making of a stream.
func (s *Server) connectContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Limits.ConnectTime)
}
