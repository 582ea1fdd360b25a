package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
)

// conn is one connection. Fields without a remark belong to the reader. It is
// the Transport of its session.
type conn struct {
	srv     *Server
	sock    *socket
	tls     *tls.Conn          // nil before TLS
	rw      io.ReadWriteCloser // sock or tls; constant once bound
	mach    *stream.Server
	login   *login // nil after it
	invited string // token of an invitation that is good, "" for none
	addr    netip.AddrPort
	id      uint64
	early   int   // bytes read before the login
	dropped int   // bytes read behind the end
	paid    int64 // BytesPerSecond: when what was read is paid for
	direct  bool
	secure  bool      // as it is: the client was told elsewhere how it is protected
	web     *messages // of a WebSocket, else nil
	first   []byte    // of it: what was read behind the HTTP request

	mechanism string  // of the login
	client    *Client // that has logged in and has no session yet; nil if it isn't to be noted

	secret bool // what is written next must not be in a transcript
	told   bool // the peer was told that the stream ended: only the end is awaited
	clean  bool // the client closed its stream

	promoted bool // not counted as unauthenticated any more; by Server.mu

	bound    atomic.Bool            // session is set, and writing is the workers' business
	writer   atomic.Uint32          // writerIdle, writerRunning, writerAgain
	ending   atomic.Pointer[ending] // how the stream ends; set once
	lastRead atomic.Int64           // by Server.clock
	writing  atomic.Int64           // since when a write runs, 0 for none
	asked    int64                  // when the client was asked for a sign of life; the patrol's
	rest     int64                  // when the reader was last interrupted to rest; the patrol's

	mu      sync.Mutex // held over Session.Next and Session.EnableSM
	session Session    // nil before binding and after leave
	ctl     []byte     // what the stream has to say, before anything of the session
	sm      bool
}

// ending is how a stream ends.
type ending struct{ err *stanza.StreamError }

// drains reports whether the session's bytes are still to be written: they are
// worth nothing elsewhere.
func (e *ending) drains() bool {
	return e.err == nil || e.err.Condition == stanza.StreamSystemShutdown
}

// ID is the connection's id as it stands in logs.
func (c *conn) ID() string { return "c" + strconv.FormatUint(c.id, 36) }

// address is what the limits per address go by.
func (c *conn) address() netip.Addr { return addressKey(c.addr.Addr()) }

// log writes a line with the connection's attributes. They aren't kept in a
// logger: that would cost every idle connection their memory.
func (c *conn) log(level slog.Level, msg string, attrs ...slog.Attr) {
	l := c.srv.cfg.Log
	if !l.Enabled(context.Background(), level) {
		return
	}
	attrs = append(attrs, slog.String("conn", c.ID()))
	if c.addr.IsValid() {
		attrs = append(attrs, slog.String("addr", c.addr.String()))
	}
	if c.mach != nil && !c.mach.Account().IsZero() {
		attrs = append(attrs, slog.String("account", c.mach.Account().String()))
	}
	l.LogAttrs(context.Background(), level, msg, attrs...)
}

// start is the reader's first goroutine. It lives until the login is over:
// handshakes need a deep stack, and one that waits afterwards shouldn't keep it.
func (c *conn) start() {
	defer c.guard()
	c.rw = c.sock
	if c.web != nil && c.tls != nil {
		c.rw = &messageWriter{c.tls}
	} else if c.web != nil {
		c.rw = &messageWriter{c.sock}
	}
	if t := c.srv.cfg.Limits.EarlyTime; t > 0 {
		c.sock.SetDeadline(time.Now().Add(t))
	}
	if c.ending.Load() != nil { // End came before that deadline
		c.sock.SetReadDeadline(time.Unix(1, 0))
	}
	c.mach = stream.NewServer(&c.srv.stream)
	if err := c.begin(); err != nil {
		c.gone(err)
		return
	}
	for !c.bound.Load() {
		if err := c.step(); err != nil {
			c.gone(err)
			return
		}
	}
	go c.run()
}

// begin does what comes before the first byte of the stream.
func (c *conn) begin() error {
	switch {
	case c.web != nil:
		c.secured()
		first := c.first
		c.first = nil
		if err := c.feed(first); err != nil {
			return err
		}
	case c.secure:
		c.secured()
	case c.direct:
		if err := c.handshake(); err != nil {
			return err
		}
	default:
		return nil
	}
	return c.drain() // what came with the end of the handshake
}

// run reads a bound client until its end.
func (c *conn) run() {
	defer c.guard()
	for {
		err := c.step()
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.rested() {
			go c.run()
		} else {
			c.gone(err)
		}
		return
	}
}

// rested reports whether a deadline was only the patrol's, which interrupts a
// reader that has been waiting for a while: the next goroutine waits in two
// kilobytes, where this one has kept the stack that its last stanza took.
func (c *conn) rested() bool {
	if c.told || c.ending.Load() != nil {
		return false
	}
	c.sock.SetReadDeadline(time.Time{})
	if c.ending.Load() != nil { // and shutdown's deadline may be gone
		c.linger()
	}
	return true
}

// guard turns a panic into the end of this one connection.
func (c *conn) guard() {
	if r := recover(); r != nil {
		c.panicked(r)
		c.gone(errPanic)
	}
}

// maxDropped is how many bytes a client may send behind the end of its stream.
const maxDropped = 1 << 20

var (
	errPanic   = errors.New("panic")
	errDropped = errors.New("the client goes on behind the end of its stream")
)

func (c *conn) panicked(r any) {
	c.srv.Metrics.Panics.Add(1)
	c.log(slog.LevelError, "panic", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
}

// step waits for bytes and handles them. An error is the end of the connection.
func (c *conn) step() error {
	if err := c.sock.wait(); err != nil {
		if c.told || c.bound.Load() {
			return err
		}
		return c.interrupted(err)
	}
	c.lastRead.Store(c.srv.clock.Load())
	if c.told || c.ending.Load() != nil {
		// Waiting for the end, but not for a client that just goes on.
		if c.dropped += len(c.sock.have); c.dropped > maxDropped {
			return errDropped
		}
		c.sock.release()
		return nil
	}
	return c.drain()
}

// drain handles what was fetched, until nothing is left of it in the socket or in
// TLS.
func (c *conn) drain() error {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for !c.told {
		n, err := c.rw.Read(buf[:])
		if n > 0 {
			c.srv.Metrics.BytesIn.Add(int64(n))
			if err := c.feed(buf[:n]); err != nil {
				return err
			}
			c.throttle(n)
		}
		switch err.(type) {
		case nil:
		case errWouldBlock:
			return nil
		default:
			return err
		}
	}
	return nil
}

// interrupted handles a read that failed before binding: a deadline that has
// passed, or End, which sets one.
func (c *conn) interrupted(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if e := c.ending.Load(); e != nil {
		c.endEarly(nil, e.err)
		return nil
	}
	c.srv.Metrics.EarlyTimeouts.Add(1)
	begun := 0
	if c.login != nil {
		begun = c.login.begun
	}
	c.log(slog.LevelDebug, "not logged in in time", slog.String("reached", c.mach.Stage()), slog.Int("bytes", c.early), slog.Int("exchanges", begun))
	c.endEarly(nil, stanza.NewStreamError(stanza.StreamConnectionTimeout, "not logged in in time"))
	return nil
}

// feed hands bytes to the stream and does what its events ask for.
func (c *conn) feed(in []byte) error {
	var out []byte
	if c.login != nil || !c.bound.Load() {
		// RFC 6120 13.12; S-9.
		if c.early += len(in); c.srv.cfg.Limits.EarlyBytes > 0 && c.early > c.srv.cfg.Limits.EarlyBytes {
			c.endEarly(nil, stanza.NewStreamError(stanza.StreamPolicyViolation, "too many bytes before the login"))
			return nil
		}
	}
	for len(in) > 0 && !c.told {
		var ev stream.Event
		var n int
		if c.web != nil {
			if ev, n, out = c.message(in, out); ev.Kind == stream.NeedMore {
				if in = in[n:]; c.web.over {
					return io.EOF
				}
				continue
			}
		} else {
			ev, n, out = c.mach.Next(in, out)
		}
		in = in[n:]
		c.trace(&ev)
		if c.bound.Load() {
			c.handle(&ev)
			if len(out) > 0 {
				c.say(out)
				out = nil
			}
			continue
		}
		var err error
		if out, err = c.negotiate(&ev, out); err != nil {
			return err
		}
	}
	if len(out) > 0 && !c.bound.Load() {
		return c.writeEarly(out)
	}
	return nil
}

// negotiate handles an event before binding.
func (c *conn) negotiate(ev *stream.Event, out []byte) ([]byte, error) {
	switch ev.Kind {
	case stream.Opened:
		c.srv.Metrics.Streams.Add(1)
	case stream.StartTLS:
		if err := c.writeEarly(out); err != nil {
			return nil, err
		}
		return nil, c.handshake()
	case stream.Auth, stream.AuthResponse, stream.AuthAbort:
		return c.auth(*ev, out), nil
	case stream.Task, stream.TaskData:
		return c.task(ev, out), nil
	case stream.Register:
		return c.mach.Reply(out, c.register(ev.Stanza)), nil
	case stream.Bind:
		return c.bind(ev, out), nil
	case stream.SMResume:
		return c.resume(ev, out), nil
	case stream.Failed:
		c.endEarly(out, ev.Err)
		return nil, nil
	case stream.Closed, stream.PeerError:
		c.endEarly(out, nil)
		return nil, nil
	}
	return out, nil
}

// bind asks the accounts for a session.
func (c *conn) bind(ev *stream.Event, out []byte) []byte {
	sess, _, err := c.srv.cfg.Accounts.Bind(c.srv.ctx, BindRequest{
		Account: c.mach.Account(), Resource: ev.Name, Transport: c, Conn: c.ID(), Address: c.addr, Client: c.clientID(),
	})
	if err != nil {
		return c.mach.BindFailed(out, c.asError("binding a resource", err))
	}
	c.srv.Metrics.Bound.Add(1)
	if !c.seen(sess, out) {
		return nil
	}
	c.attach(sess, c.mach.Bound(out, sess.JID()), false, false)
	return nil
}

// resume asks the accounts for a session that was there before.
func (c *conn) resume(ev *stream.Event, out []byte) []byte {
	sess, res, refused, broken := c.resumeSession(c.mach.Account(), ev.Name, ev.H)
	switch {
	case broken != nil:
		c.endEarly(out, broken)
		return nil
	case refused != nil:
		return c.mach.ResumeFailed(out, refused.Err, refused.H, refused.Known)
	}
	if !c.seen(sess, out) {
		return nil
	}
	c.attach(sess, c.mach.Resumed(out, sess.JID(), res.H), true, true)
	return nil
}

// resumeSession gets the session id of an account, or says why not: broken is for
// an h that was never sent (XEP-0198 4) and ends the stream.
func (c *conn) resumeSession(account jid.JID, id string, h uint32) (_ Session, _ Resumed, refused *ResumeError, broken *stanza.StreamError) {
	sess, res, err := c.srv.cfg.Accounts.Resume(c.srv.ctx, ResumeRequest{
		Account: account, ID: id, H: h, Transport: c, Conn: c.ID(), Address: c.addr, Client: c.clientID(),
	})
	switch {
	case err == nil:
		c.srv.Metrics.Resumed.Add(1)
		return sess, res, nil, nil
	case errors.As(err, &broken):
		return nil, res, nil, broken
	case !errors.As(err, &refused):
		refused = &ResumeError{Err: c.asError("resuming a session", err)}
	}
	return nil, res, refused, nil
}

// asError is what the client is told for err.
func (c *conn) asError(doing string, err error) *stanza.Error {
	e, own := stanza.AsError(err)
	if !own {
		c.log(slog.LevelError, doing, slog.Any("error", err))
	}
	return e
}

// attach makes the connection the session's: first, out is written, then what
// the session has.
func (c *conn) attach(sess Session, out []byte, sm, resumed bool) {
	c.mu.Lock()
	c.session, c.ctl, c.sm = sess, out, sm
	c.mu.Unlock()
	c.sock.SetDeadline(time.Time{})
	c.lastRead.Store(c.srv.clock.Load())
	c.srv.promoted(c)
	c.login, c.client = nil, nil
	c.log(slog.LevelInfo, "session begins", slog.String("resource", sess.JID().Resource()),
		slog.String("mechanism", c.mechanism), slog.Bool("resumed", resumed))
	c.bound.Store(true)
	c.Wake()
}

// handle does what an event of a bound stream asks for.
func (c *conn) handle(ev *stream.Event) {
	var err error
	switch ctx := c.srv.ctx; ev.Kind {
	case stream.Stanza:
		c.srv.Metrics.StanzasIn.Add(1)
		err = c.session.Receive(ctx, ev.Stanza, ev.Size)
	case stream.Answered:
		c.srv.Metrics.StanzasIn.Add(1)
		err = c.session.Answer(ctx, ev.Stanza, ev.Size, ev.Reply)
	case stream.Element:
		err = c.session.Element(ctx, ev.Element)
	case stream.SMAck:
		err = c.session.Ack(ev.H)
	case stream.SMRequest:
		c.session.AckRequest()
	case stream.SMEnable:
		c.enable(ev)
	case stream.Closed:
		c.clean = true
		c.session.Close(c)
		c.end(nil)
	case stream.PeerError:
		c.log(slog.LevelInfo, "the client ended its stream", slog.Any("error", ev.Err))
		c.leave()
		c.end(nil)
	case stream.Failed:
		c.leave()
		c.end(ev.Err)
	}
	if err == nil {
		return
	}
	var se *stanza.StreamError
	if !errors.As(err, &se) {
		if c.srv.ctx.Err() == nil {
			c.log(slog.LevelError, "handling a stanza", slog.Any("error", err))
		}
		se = stanza.NewStreamError(stanza.StreamInternalServerError, "")
	}
	c.leave()
	c.end(se)
}

// enable begins stream management. Nothing that the session has may be put
// between the beginning of its counting and <enabled/>.
func (c *conn) enable(ev *stream.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, resumable, window, err := c.session.EnableSM(ev.Resume, ev.Max)
	if err != nil {
		c.ctl = c.mach.SMFailed(c.ctl, err)
	} else {
		c.ctl = c.mach.Enabled(c.ctl, id, resumable, window)
		c.sm = true
	}
	c.Wake()
}

// leave lets go of the session, once: nobody calls Next afterwards.
func (c *conn) leave() {
	c.mu.Lock()
	sess := c.session
	c.session = nil
	c.mu.Unlock()
	if sess != nil && !c.clean {
		sess.Detach(c)
	}
}

// gone is the end of the reader: the connection is forgotten.
func (c *conn) gone(err error) {
	defer c.srv.dismiss(c)
	defer c.sock.release()
	defer c.sock.Close()
	defer func() {
		if r := recover(); r != nil {
			c.panicked(r)
		}
	}()
	c.leave()
	if c.bound.Load() {
		c.log(slog.LevelInfo, "session ends", slog.String("resource", c.mach.Address().Resource()), slog.String("why", c.why(err)))
		return
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !c.told {
		c.log(slog.LevelDebug, "connection lost", slog.Any("error", err))
	} else {
		c.log(slog.LevelDebug, "connection closed")
	}
}

// why says what ended a session's connection; err is what ended the reading.
func (c *conn) why(err error) string {
	switch e := c.ending.Load(); {
	case c.clean:
		return "closed by the client"
	case e != nil && e.err != nil:
		return e.err.Condition
	case e != nil:
		return "closed by the server"
	case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed):
		return "connection lost"
	}
	return "connection lost: " + err.Error()
}

// throttle holds the reader back to BytesPerSecond.
func (c *conn) throttle(n int) {
	rate := c.srv.cfg.Limits.BytesPerSecond
	if rate <= 0 || !c.bound.Load() {
		return
	}
	now := time.Now().UnixNano()
	c.paid = max(c.paid, now) + int64(n)*int64(time.Second)/int64(rate)
	if wait := time.Duration(c.paid - now - int64(time.Second)); wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.srv.ctx.Done():
		}
	}
}
