package xmppclient

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"carillon.im/sasl"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// Open makes a client of a connection on which nothing was said; secured does
// the TLS handshake first. It reads at once.
func Open(nc net.Conn, cfg Config, secured bool) (*Client, error) {
	c := newClient(nc, cfg)
	if secured {
		if err := c.secure(); err != nil {
			return nil, err
		}
	}
	c.start()
	return c, nil
}

func newClient(nc net.Conn, cfg Config) *Client {
	return &Client{cfg: cfg, raw: nc, conn: nc, buf: make([]byte, 16<<10), arrived: make(chan struct{}, 1), ended: make(chan struct{}),
		mach: stream.NewClient(&stream.ClientConfig{Domain: cfg.Account.DomainJID(), Limits: xmltree.Limits{MaxBytes: 8 << 20}})}
}

// Login opens a stream, secures it and authenticates.
func Login(nc net.Conn, cfg Config) (*Client, error) {
	c := newClient(nc, cfg)
	if err := c.login(); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) login() error {
	if !c.cfg.Direct {
		if _, err := c.open(); err != nil {
			return err
		}
		if err := c.write(c.mach.StartTLS(nil)); err != nil {
			return err
		}
		if _, err := c.want(stream.StartTLS); err != nil {
			return err
		}
	}
	if err := c.secure(); err != nil {
		return err
	}
	features, err := c.open()
	if err != nil {
		return err
	}
	if err := c.authenticate(features); err != nil {
		return err
	}
	c.features, err = c.open()
	return err
}

func (c *Client) secure() error {
	t := tls.Client(c.raw, c.cfg.TLS)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.conn = t
	c.mach.Secured()
	return nil
}

func (c *Client) open() (xmltree.Element, error) {
	if err := c.write(c.mach.Open(nil)); err != nil {
		return xmltree.Element{}, err
	}
	if _, err := c.want(stream.Opened); err != nil {
		return xmltree.Element{}, err
	}
	ev, err := c.want(stream.Features)
	return ev.Element, err
}

func (c *Client) authenticate(features xmltree.Element) error {
	cfg := &sasl.ClientConfig{Username: c.cfg.Account.Local(), Password: c.cfg.Password, Rand: rand.Reader, Cache: c.cfg.Keys.get(c.cfg.Password)}
	for m := range features.Child(stream.NSSASL, "mechanisms").Children() {
		if c.cfg.Unbound && strings.HasSuffix(m.Text(), "-PLUS") {
			continue
		}
		cfg.Advertised.Mechanisms = append(cfg.Advertised.Mechanisms, m.Text())
	}
	for b := range features.Child(stream.NSSASLCB, "sasl-channel-binding").Children() {
		cfg.Advertised.Bindings = append(cfg.Advertised.Bindings, b.Attr("type"))
	}
	cs := c.conn.(*tls.Conn).ConnectionState()
	binding, err := sasl.ExporterBinding(&cs)
	if err != nil {
		return err
	}
	cfg.Bindings = []sasl.ChannelBinding{binding}
	mechanism, err := cfg.Choose()
	if err != nil {
		return err
	}
	x, err := sasl.NewClient(mechanism, cfg)
	if err != nil {
		return err
	}
	first, _, err := x.Next(nil)
	if err != nil {
		return err
	}
	if err := c.write(c.mach.Auth(nil, mechanism, first)); err != nil {
		return err
	}
	for {
		ev, err := c.read()
		if err != nil {
			return err
		}
		switch ev.Kind {
		case stream.AuthResponse:
			out, _, err := x.Next(ev.Data)
			if err != nil {
				return err
			}
			if err := c.write(c.mach.Respond(nil, out)); err != nil {
				return err
			}
		case stream.AuthSuccess:
			if _, done, err := x.Next(ev.Data); err != nil || !done {
				return fmt.Errorf("the server has not proved itself: %w", err)
			}
			c.cfg.Keys.put(c.cfg.Password, cfg.Cache)
			return nil
		case stream.AuthFailure:
			return &Refused{"login", ev.Name}
		default:
			return unexpected(&ev)
		}
	}
}

func unexpected(ev *stream.Event) error {
	if ev.Kind == stream.PeerError {
		return &Refused{"stream", ev.Err.Condition}
	}
	return fmt.Errorf("unexpected: %s", XML(ev))
}

// Bind binds a resource, "" for one that the server makes up.
func (c *Client) Bind(resource string) error {
	if err := c.write(c.mach.Bind(nil, "bind", resource)); err != nil {
		return err
	}
	ev, err := c.read()
	switch {
	case err != nil:
		return err
	case ev.Kind == stream.BindFailure:
		return &Refused{"bind", string(ev.StanzaErr.Condition)}
	case ev.Kind != stream.Bind:
		return unexpected(&ev)
	}
	c.full = ev.JID
	c.start()
	return nil
}

// Resume continues old's session on c, which is logged in and not bound, says
// that h stanzas were handled, and sends again what the server has not handled
// (XEP-0198 5). old must not be used afterwards.
func (c *Client) Resume(old *Client, h uint32) error {
	if err := c.write(c.mach.Resume(nil, old.smID, h)); err != nil {
		return err
	}
	ev, err := c.read()
	switch {
	case err != nil:
		return err
	case ev.Kind == stream.SMFailed:
		return &Refused{"resume", string(ev.StanzaErr.Condition)}
	case ev.Kind != stream.SMResumed:
		return unexpected(&ev)
	}
	return c.goOn(old, ev.H)
}

// goOn takes over old's session, of whose stanzas the server has handled h.
func (c *Client) goOn(old *Client, h uint32) error {
	old.mu.Lock()
	c.full, c.smID, c.enabled, c.counting = old.full, old.smID, true, true
	c.manual, c.onAcked = old.manual, old.onAcked
	c.handled, c.sent, c.acked, c.unacked = old.handled, old.sent, old.acked, old.unacked
	c.queue, old.queue = append(old.queue, c.queue...), nil
	old.mu.Unlock()
	if len(c.queue) > 0 {
		c.signal()
	}
	if err := c.noteAcked(h); err != nil {
		return err
	}
	c.start()
	for _, st := range c.unacked {
		if err := c.write([]byte(st)); err != nil {
			return err
		}
	}
	return nil
}
