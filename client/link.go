package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
)

// link is one connection with the machine of its stream. Reading belongs to one
// goroutine; so does writing, once serve has begun.
type link struct {
	*dialed
	mach *stream.Client
	in   []byte // read and not consumed
	buf  []byte

	wake  chan struct{} // the writer has something to do
	prod  chan struct{} // the network may have changed: is the server still there?
	ended chan struct{} // closed when reading has ended
	now   func() time.Time
	heard atomic.Int64 // when something was read last, in Unix nanoseconds

	closing bool // our end of the stream is in the control buffer; under Client.mu

	cause atomic.Pointer[error] // why our side ended it, if it did
}

// readSize is what is read at once. It is allocated per connection, of which a
// client has one.
const readSize = 16 << 10

func newLink(d *dialed, cfg *stream.ClientConfig, now func() time.Time) *link {
	l := &link{dialed: d, mach: stream.NewClient(cfg), buf: make([]byte, readSize), now: now,
		wake: make(chan struct{}, 1), prod: make(chan struct{}, 1), ended: make(chan struct{})}
	l.heard.Store(now().UnixNano())
	if d.secured {
		l.mach.Secured()
	}
	return l
}

// StreamEnded is the end of a stream by the server, or by us because of what the
// server did.
type StreamEnded struct {
	Err *stanza.StreamError // nil: in good order
	Own bool                // the error is ours

	host string // see-other-host (RFC 6120 4.9.3.19)
}

// Error makes *StreamEnded a Go error.
func (e *StreamEnded) Error() string {
	switch {
	case e.Err == nil:
		return "client: the server ended the stream"
	case e.Own:
		return "client: the server broke the protocol: " + e.Err.Condition + text(e.Err.Text)
	}
	return "client: the server ended the stream: " + e.Err.Condition + text(e.Err.Text)
}

func text(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// violation is what the server may not do.
func violation(text string) error {
	return &StreamEnded{Own: true, Err: stanza.NewStreamError(stanza.StreamPolicyViolation, text)}
}

// next returns the next event. Failed, Closed and PeerError come as errors.
func (l *link) next() (stream.Event, error) {
	for {
		ev, n := l.mach.Next(l.in)
		l.in = l.in[n:]
		switch ev.Kind {
		case stream.NeedMore:
			n, err := l.conn.Read(l.buf)
			if n == 0 {
				if own := l.cause.Load(); own != nil {
					return ev, *own
				}
				if err == nil {
					continue
				}
				return ev, fmt.Errorf("client: connection lost: %w", err)
			}
			l.heard.Store(l.now().UnixNano())
			l.in = l.buf[:n]
		case stream.Failed:
			return ev, &StreamEnded{Err: ev.Err, Own: true}
		case stream.PeerError:
			return ev, &StreamEnded{Err: ev.Err, host: ev.Name}
		case stream.Closed:
			return ev, &StreamEnded{}
		default:
			return ev, nil
		}
	}
}

// abandon ends the connection because of err, at once.
func (l *link) abandon(err error) {
	l.cause.CompareAndSwap(nil, &err)
	l.base.Close()
}

// hangUp closes the connection, with TLS's goodbye if the stream ended with one
// too.
func (l *link) hangUp(err error) {
	var ended *StreamEnded
	if errors.As(err, &ended) {
		l.conn.Close()
	}
	l.base.Close()
}

func (l *link) signal() { signal(l.wake) }

// signal puts a token into a channel of one, if there is none.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// bindings are the connection's channel bindings, strongest first.
func (l *link) bindings() []sasl.ChannelBinding {
	if l.tls == nil {
		return nil
	}
	var list []sasl.ChannelBinding
	if b, err := sasl.ExporterBinding(l.tls); err == nil {
		list = append(list, b)
	}
	if len(l.tls.PeerCertificates) > 0 {
		if b, err := sasl.EndPointBinding(l.tls.PeerCertificates[0]); err == nil {
			list = append(list, b)
		}
	}
	return list
}

// during runs f, whose reads and writes end when ctx does.
func (l *link) during(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { l.abandon(context.Cause(ctx)) })
	err := f()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}
