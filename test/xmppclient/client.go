// Package xmppclient drives a server from a test, over any connection.
//
// A Client is one connection. Dial, Login, Bind and Resume speak synchronously;
// from then on one goroutine reads, counts what it read and answers the
// server's requests for acknowledgement, and the test takes what arrived with
// Next or Take. It is test code: it has no reconnection, no roster, and no
// opinion on what it receives.
package xmppclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// Config is what a client needs to know.
type Config struct {
	Account  jid.JID // bare
	Password string
	TLS      *tls.Config
	Direct   bool   // TLS from the first byte (XEP-0368); else STARTTLS
	Keys     *Cache // optional: spares the derivation of keys

	Unbound  bool // without channel binding, for servers that offer it with one that TLS 1.3 has not
	ShowAcks bool // the server's acknowledgements are queued like the rest

	// Observe, if not nil, is called by the reader for all that arrives after
	// binding, acknowledgements included, in order; nothing is queued then.
	Observe func(*stream.Event)
}

// Cache keeps derived keys by password, for tests that log in often. Safe for
// concurrent use.
type Cache struct {
	mu   sync.Mutex
	keys map[string]sasl.ClientKeys
}

func (c *Cache) get(password string) *sasl.ClientKeys {
	k := &sasl.ClientKeys{}
	if c != nil {
		c.mu.Lock()
		*k = c.keys[password]
		c.mu.Unlock()
	}
	return k
}

func (c *Cache) put(password string, k *sasl.ClientKeys) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = map[string]sasl.ClientKeys{}
	}
	c.keys[password] = *k
}

// Refused is the server's no to a login, a resource or a resumption.
type Refused struct {
	Step      string // "login", "bind", "resume", "stream"
	Condition string
}

// Error makes *Refused a Go error.
func (e *Refused) Error() string { return e.Step + " refused: " + e.Condition }

// Client is one connection. Its methods may be called concurrently once it is
// bound, except where they say otherwise.
type Client struct {
	cfg  Config
	raw  net.Conn
	conn net.Conn
	mach *stream.Client
	// component is not nil for a component, which has no mach's stream.
	component *xmltree.Scanner
	in        []byte
	buf       []byte
	full      jid.JID

	features xmltree.Element // of the stream after authentication
	reading  bool            // run was started

	wmu sync.Mutex // of writes

	mu       sync.Mutex
	queue    []stream.Event
	arrived  chan struct{} // has an element while the queue isn't empty
	err      error         // why reading ended
	paused   chan struct{} // not nil: the reader waits until it is closed
	ended    chan struct{} // closed when reading ended
	enabled  bool          // what is sent counts
	counting bool          // what is received counts
	manual   bool          // the test acknowledges itself
	smID     string
	handled  uint32   // stanzas received since <enabled/>
	sent     uint32   // stanzas sent since <enable/>
	acked    uint32   // of those
	unacked  []string // sent and not acknowledged, oldest first
	onAcked  func(n int)
}

// JID is the full address that was bound.
func (c *Client) JID() jid.JID { return c.full }

// EnableSM asks for stream management; the answer arrives as an event. What is
// sent from now on counts.
func (c *Client) EnableSM(resume bool) error {
	c.mu.Lock()
	if !c.enabled {
		c.enabled, c.sent = true, 0
	}
	c.mu.Unlock()
	return c.write(c.mach.Enable(nil, resume, 0))
}

// Session is the id under which the session can be resumed, "" for none.
func (c *Client) Session() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.smID
}

// Manual stops the client from answering requests for acknowledgement by
// itself.
func (c *Client) Manual(on bool) {
	c.mu.Lock()
	c.manual = on
	c.mu.Unlock()
}

// OnAcked sets what is called, by the reader, when the server has acknowledged
// n more stanzas. Set it before stream management is enabled.
func (c *Client) OnAcked(f func(n int)) { c.onAcked = f }

// Send sends stanzas, each complete, in one write.
func (c *Client) Send(stanzas ...string) error {
	c.mu.Lock()
	if c.enabled {
		c.sent += uint32(len(stanzas))
		c.unacked = append(c.unacked, stanzas...)
	}
	c.mu.Unlock()
	return c.write([]byte(strings.Join(stanzas, "")))
}

// SendRaw sends bytes that are no stanza, or count as none.
func (c *Client) SendRaw(b []byte) error { return c.write(b) }

// Ack acknowledges all that was received.
func (c *Client) Ack() error { return c.write(stream.AppendAck(nil, c.Handled())) }

// RequestAck asks for an acknowledgement.
func (c *Client) RequestAck() error { return c.write(stream.AppendAckRequest(nil)) }

// Handled is how many stanzas were received since stream management began.
func (c *Client) Handled() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handled
}

// Unacked is how many stanzas the server has not acknowledged.
func (c *Client) Unacked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unacked)
}

// Pause stops reading from the connection, Continue goes on.
func (c *Client) Pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == nil {
		c.paused = make(chan struct{})
	}
}

// Continue goes on reading.
func (c *Client) Continue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused != nil {
		close(c.paused)
		c.paused = nil
	}
}

// Take returns what arrived and is not taken yet, nil for nothing, and whether
// more can come.
func (c *Client) Take() (*stream.Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, c.err == nil
	}
	ev := c.queue[0]
	c.queue = c.queue[1:]
	return &ev, true
}

// Next waits for what arrives. The error is why nothing will.
func (c *Client) Next(ctx context.Context) (*stream.Event, error) {
	for {
		if ev, more := c.Take(); ev != nil {
			return ev, nil
		} else if !more {
			return nil, c.Err()
		}
		select {
		case <-c.arrived:
		case <-c.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Err is why reading ended; nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the stream in order and waits for the server's end of it.
func (c *Client) Close() error {
	end := []byte("</stream:stream>")
	if c.component == nil {
		end = c.mach.End(nil, nil)
	}
	if err := c.write(end); err != nil {
		return err
	}
	<-c.ended
	return c.raw.Close()
}

// Cut breaks the connection, and returns when nothing more can arrive.
func (c *Client) Cut() {
	c.raw.Close()
	c.Continue()
	if c.reading {
		<-c.ended
	}
}

func (c *Client) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.conn.Write(b)
	return err
}

func (c *Client) want(kind stream.Kind) (stream.Event, error) {
	ev, err := c.read()
	if err == nil && ev.Kind != kind {
		err = unexpected(&ev)
	}
	return ev, err
}

// read returns the next event, for one goroutine at a time.
func (c *Client) read() (stream.Event, error) {
	if c.component != nil {
		return c.readComponent()
	}
	for {
		ev, n := c.mach.Next(c.in)
		c.in = c.in[n:]
		if ev.Kind != stream.NeedMore {
			return ev, nil
		}
		c.pause()
		n, err := c.conn.Read(c.buf)
		c.pause() // what came just before the pause waits as well
		if n == 0 && err != nil {
			return ev, err
		}
		c.in = c.buf[:n]
	}
}

// Start reads a connection that Login made and that is to stay without a
// resource. The features it was offered come first.
func (c *Client) Start() {
	c.queue = append(c.queue, stream.Event{Kind: stream.Features, Element: c.features})
	c.start()
}

func (c *Client) pause() {
	c.mu.Lock()
	paused := c.paused
	c.mu.Unlock()
	if paused != nil {
		<-paused
	}
}

func (c *Client) start() {
	c.reading = true
	go c.run()
}

func (c *Client) run() {
	for {
		ev, err := c.read()
		if err == nil {
			err = c.note(&ev)
		}
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			close(c.ended)
			return
		}
	}
}

// note keeps the books and queues what the test may want to see.
func (c *Client) note(ev *stream.Event) error {
	if c.cfg.Observe != nil {
		defer c.cfg.Observe(ev)
	}
	switch ev.Kind {
	case stream.SMAck:
		if err := c.noteAcked(ev.H); err != nil || !c.cfg.ShowAcks {
			return err
		}
	case stream.SMRequest:
		c.mu.Lock()
		manual := c.manual
		c.mu.Unlock()
		if !manual {
			return c.Ack()
		}
		return nil
	case stream.SMEnabled:
		c.mu.Lock()
		if !c.counting {
			c.counting, c.handled = true, 0
		}
		c.smID = ev.Name
		c.mu.Unlock()
	case stream.Stanza, stream.Answered:
		c.mu.Lock()
		c.handled++
		c.mu.Unlock()
		if st := ev.Stanza; st.Kind == stanza.IQ && st.Type == stanza.TypeGet && strings.HasPrefix(st.ID, "idle-") {
			return c.write(st.Reply("").AppendTo(nil))
		}
	}
	if c.cfg.Observe != nil {
		return nil
	}
	c.mu.Lock()
	c.queue = append(c.queue, *ev)
	c.mu.Unlock()
	c.signal()
	return nil
}

func (c *Client) signal() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// noteAcked notes the server's <a/> or <resumed/>.
func (c *Client) noteAcked(h uint32) error {
	c.mu.Lock()
	n := int(h - c.acked)
	if n > len(c.unacked) {
		c.mu.Unlock()
		return fmt.Errorf("the server acknowledged %d stanzas, %d were sent", h, c.sent)
	}
	c.acked = h
	c.unacked = c.unacked[n:]
	f := c.onAcked
	c.mu.Unlock()
	if f != nil && n > 0 {
		f(n)
	}
	return nil
}

// Settle waits until the server has acknowledged all that was sent.
func (c *Client) Settle(ctx context.Context) error {
	for c.Unacked() > 0 {
		if err := c.RequestAck(); err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-c.ended:
			return errors.Join(errors.New("the connection ended"), c.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
