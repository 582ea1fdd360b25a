package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"carillon.im/sasl"
	"carillon.im/sm"
	"carillon.im/stanza"
)

// stableTime is how long a connection has to hold for the pauses to begin anew.
const stableTime = time.Minute

// run is the client's life, from its first connection, if Dial has made it, to
// its end.
func (c *Client) run(l *link, g *login) {
	defer close(c.done)
	for {
		var err error
		since := c.cfg.Clock.Now()
		if l == nil {
			l, g, err = c.connect()
		}
		if err == nil {
			err = c.serve(l, g)
		}
		l, g = nil, nil
		if c.cfg.Clock.Now().Sub(since) > stableTime {
			c.attempts, c.redirected = 0, 0
		}
		if c.over() {
			c.finish(ErrClosed)
			return
		}
		if c.hopeless(err) {
			c.push(queued{event: &Disconnected{Err: err, Final: true}})
			c.finish(err)
			return
		}
		pause := c.pause()
		c.cfg.Log.Info("disconnected", "account", c.cfg.Account, "err", err, "retry", pause)
		c.push(queued{event: &Disconnected{Err: err, Retry: pause}})
		select {
		case <-c.cfg.Clock.After(pause):
		case <-c.kick:
		case <-c.ctx.Done():
		}
		if c.over() {
			c.finish(ErrClosed)
			return
		}
	}
}

func (c *Client) over() bool {
	select {
	case <-c.quit:
		return true
	default:
		return c.ctx.Err() != nil
	}
}

// pause is the time before the next attempt: doubled each time, and with jitter
// over its upper half, so that a server that comes back isn't met by all clients
// at once.
func (c *Client) pause() time.Duration {
	d := c.cfg.RetryMax
	if c.attempts < 30 {
		d = min(d, c.cfg.RetryMin<<c.attempts)
	}
	c.attempts++
	return d/2 + time.Duration(c.below(int64(d/2)))
}

// maxRedirects bounds how often see-other-host is followed without a stable
// connection in between.
const maxRedirects = 3

// hopeless says whether another attempt would meet the same again, or must not
// be made.
func (c *Client) hopeless(err error) bool {
	var refused *AuthError
	if errors.As(err, &refused) {
		return refused.Condition != sasl.TemporaryAuthFailure
	}
	var ended *StreamEnded
	if errors.As(err, &ended) && ended.Err != nil && !ended.Own {
		c.sentElsewhere(err)
		// Another connection took this one's place: taking it back would begin a
		// quarrel (RFC 6120 4.9.3.3).
		return ended.Err.Condition == stanza.StreamConflict
	}
	return errors.Is(err, ErrNoCredentials) || errors.Is(err, ErrTasks) || errors.Is(err, ErrWeaker) ||
		errors.Is(err, sasl.ErrDowngrade) || errors.Is(err, sasl.ErrNoMechanism)
}

// sentElsewhere notes where the server sends us, if that is what it did (RFC
// 6120 4.9.3.19). The certificate there has to be the domain's all the same.
func (c *Client) sentElsewhere(err error) bool {
	var ended *StreamEnded
	if !errors.As(err, &ended) || ended.Err == nil || ended.Err.Condition != stanza.StreamSeeOtherHost || ended.host == "" {
		return false
	}
	if c.redirected++; c.redirected > maxRedirects {
		return false
	}
	host := ended.host
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "5222")
	}
	c.redirect = Address{Host: host}
	return true
}

// connect makes a connection, logs in and makes it the client's.
func (c *Client) connect() (*link, *login, error) {
	if err := c.ensureAgent(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.cfg.ConnectTimeout, fmt.Errorf("client: no session within %s: %w", c.cfg.ConnectTimeout, context.DeadlineExceeded))
	defer cancel()
	d, err := c.dial(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && c.ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return nil, nil, err
	}
	l := newLink(d, c.stream, c.cfg.Clock.Now)
	g := &login{c: c, link: l, state: &c.state, old: c.resumable()}
	if err := l.during(ctx, g.run); err != nil {
		l.conn.Close()
		if c.sentElsewhere(err) {
			return c.connect()
		}
		// What was learned counts all the same: a token that is no good.
		return nil, nil, errors.Join(err, c.save(&c.state))
	}
	err = c.save(&c.state)
	if err == nil {
		err = c.begin(l, g)
	}
	if err != nil {
		l.conn.Close()
		return nil, nil, err
	}
	return l, g, nil
}

// resumable is the session that can be asked for, nil for none.
func (c *Client) resumable() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.session
	if s == nil || s.id == "" || s.max > 0 && !s.lost.IsZero() && c.cfg.Clock.Now().Sub(s.lost) > s.max {
		return nil
	}
	return s
}

// handled is the count of the server's stanzas that a resumed session needn't
// send again.
func (c *Client) handled() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.H()
}

// serve is the life of one connection that is logged in.
func (c *Client) serve(l *link, g *login) error {
	written := make(chan struct{})
	c.wg.Go(func() {
		defer close(written)
		c.write(l)
	})
	stop := context.AfterFunc(c.ctx, func() { l.abandon(context.Cause(c.ctx)) })
	err := c.read(l, g)
	c.farewell(l, err, written)
	stop()
	close(l.ended)
	l.hangUp(err)
	<-written
	c.unlink()
	c.roster.store(c, &c.state)
	if saveErr := c.save(&c.state); saveErr != nil && c.ctx.Err() == nil {
		c.cfg.Log.Warn("state not saved", "account", c.cfg.Account, "err", saveErr)
	}
	return err
}

// read takes what the server says until the connection ends, and returns why.
func (c *Client) read(l *link, g *login) error {
	for i := range g.early {
		if err := c.handle(l, &g.early[i]); err != nil {
			return err
		}
	}
	g.early = nil
	for {
		ev, err := l.next()
		if err == nil {
			err = c.handle(l, &ev)
		}
		if err != nil {
			return err
		}
	}
}

// farewell answers the server's end of the stream, or tells it our reason. It
// must not take long.
func (c *Client) farewell(l *link, err error, written <-chan struct{}) {
	var ended *StreamEnded
	if !errors.As(err, &ended) {
		return
	}
	c.mu.Lock()
	e := ended.Err
	if !ended.Own {
		e = nil
	}
	c.endStream(l, e)
	c.mu.Unlock()
	l.signal()
	select {
	case <-written:
	case <-c.cfg.Clock.After(time.Second):
	case <-c.ctx.Done():
	}
	if ended.Own && ended.Err != nil {
		c.mu.Lock()
		c.session = nil // whatever state it was in
		c.mu.Unlock()
	}
}

// begin makes l the client's connection.
func (c *Client) begin(l *link, g *login) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control, c.asked, c.since, c.owed = nil, false, false, false
	if g.result.Resumed {
		if err := c.continues(g); err != nil {
			return err
		}
	} else {
		c.begins(g)
	}
	s := c.session
	s.lost = time.Time{}
	r := g.result
	r.JID, r.Management, r.Resumable = s.full, c.out.Enabled(), s.id != ""
	c.link = l
	c.pushNow(queued{event: r})
	if !r.Resumed {
		c.opening(r)
	} else if c.unsaid {
		c.sendPresence()
	}
	if c.idle { // a new stream begins active, resumed or not (XEP-0352 5.1)
		c.sendState()
	}
	return nil
}

// continues takes a resumed session up (XEP-0198 5).
func (c *Client) continues(g *login) error {
	if err := c.acknowledge(g.h); err != nil {
		c.session = nil
		return err
	}
	c.out.Rewind()
	return nil
}

// begins puts a new session in the old one's place. Messages that the old one's
// server has not acknowledged are sent again, with the ids that they had;
// what else was written is lost.
func (c *Client) begins(g *login) {
	if g.failed != nil && g.failed.Known {
		// Sent late, but sent (XEP-0198 5). If the count is nonsense, it says nothing.
		_ = c.acknowledge(g.failed.H)
	}
	sent, entries := c.out.Unacked(), c.out.Drain()
	kept := map[*call]bool{}
	c.out = sm.Queue[outgoing]{}
	if g.sm != nil {
		c.out.Enable()
	}
	for i, e := range entries {
		if i < sent && e.Tag.kind != stanza.Message {
			c.delivered(e.Tag, Lost, ErrSessionLost)
			continue
		}
		e.Tag.receipt.set(Queued, false, nil)
		if e.Tag.call != nil {
			kept[e.Tag.call] = true
		}
		c.out.Push(e)
	}
	for key, call := range c.calls {
		if !kept[call] {
			delete(c.calls, key)
			call.fail(ErrSessionLost)
		}
	}
	c.session = &session{full: g.full, profile: g.result.Profile, csi: g.csi, rooms: entered(g.result.Session)}
	if g.sm != nil && g.sm.Resume {
		c.session.id, c.session.max = g.sm.ID, g.sm.Max
	}
	c.in, c.told = sm.Inbound{}, 0
	c.epoch++
	// Behind a classic bind the server's stanzas count from its <enabled/> on.
	c.counting = g.sm != nil && !slices.ContainsFunc(g.early, isEnabled)
}

// unlink takes the connection away.
func (c *Client) unlink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = nil
	if c.session == nil {
		return
	}
	c.session.lost = c.cfg.Clock.Now()
	if c.session.id == "" || !c.counting {
		return
	}
	// What was not taken the server still has, and sends again in this session or
	// a new one (XEP-0198 4); kept here too, it would come twice. What the program
	// has in hand counts as handled.
	c.settleTaken()
	c.events = slices.DeleteFunc(c.events, func(q queued) bool {
		again := q.number > 0 && q.epoch == c.epoch
		if again {
			c.held -= q.size
		}
		return again
	})
	c.in = sm.NewInbound(c.in.H())
}

// finish ends the client: who waits is told why.
func (c *Client) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = err
	for key, call := range c.calls {
		delete(c.calls, key)
		call.fail(err)
	}
	for _, e := range c.out.Entries() {
		c.delivered(e.Tag, Lost, err)
	}
	c.wakeSenders()
	signal(c.arrived)
}
