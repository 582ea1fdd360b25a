package xmppclient

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"

	"carillon.im/sasl"
	"carillon.im/stream"
)

// Begin logs in with SASL2 (XEP-0388), under TLS from the first byte, and with
// all that l asks for in one element; with l.Fast the password is a token for
// HT-SHA-256-EXPR. If old isn't nil, l asks for its session to
// go on, as Resume would; old must not be used afterwards if that is granted. The
// client reads at once if it has a session then.
func Begin(nc net.Conn, cfg Config, l *stream.Login, old *Client) (*Client, *stream.Welcome, error) {
	c := newClient(nc, cfg)
	w, err := c.begin(l, old)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return c, w, nil
}

func (c *Client) begin(l *stream.Login, old *Client) (*stream.Welcome, error) {
	if err := c.secure(); err != nil {
		return nil, err
	}
	features, err := c.open()
	if err != nil {
		return nil, err
	}
	if old != nil {
		l.Resume = &stream.Resume{ID: old.Session(), H: old.Handled()}
	}
	w, err := c.authenticate2(stream.ParseFeatures(features), l)
	if err != nil {
		return nil, err
	}
	c.full = w.Full
	if w.Resumed {
		return w, c.goOn(old, w.H)
	}
	ev, err := c.want(stream.Features)
	if err != nil {
		return nil, err
	}
	c.features = ev.Element
	if w.Bound == nil {
		return w, nil
	}
	if w.Bound.SM != nil {
		c.smID, c.enabled, c.counting = w.Bound.SM.ID, true, true
	}
	c.start()
	return w, nil
}

func (c *Client) authenticate2(offered stream.Offered, l *stream.Login) (*stream.Welcome, error) {
	cs := c.conn.(*tls.Conn).ConnectionState()
	binding, err := sasl.ExporterBinding(&cs)
	if err != nil {
		return nil, err
	}
	cfg := &sasl.ClientConfig{Username: c.cfg.Account.Local(), Password: c.cfg.Password, Rand: rand.Reader, Cache: c.cfg.Keys.get(c.cfg.Password), Extensible: true,
		Bindings: []sasl.ChannelBinding{binding}, Advertised: sasl.Advertised{Mechanisms: offered.Mechanisms, Bindings: offered.Bindings}}
	mechanism := sasl.HTSHA256Exporter
	if l.Fast == nil {
		if mechanism, err = cfg.Choose(); err != nil {
			return nil, err
		}
	}
	x, err := sasl.NewClient(mechanism, cfg)
	if err != nil {
		return nil, err
	}
	first, _, err := x.Next(nil)
	if err != nil {
		return nil, err
	}
	if err := c.write(c.mach.Authenticate(nil, mechanism, first, l)); err != nil {
		return nil, err
	}
	for {
		ev, err := c.read()
		if err != nil {
			return nil, err
		}
		switch ev.Kind {
		case stream.AuthResponse:
			out, _, err := x.Next(ev.Data)
			if err != nil {
				return nil, err
			}
			if err := c.write(c.mach.Respond(nil, out)); err != nil {
				return nil, err
			}
		case stream.AuthSuccess:
			if _, done, err := x.Next(ev.Data); err != nil || !done {
				return nil, fmt.Errorf("the server has not proved itself: %w", err)
			}
			c.cfg.Keys.put(c.cfg.Password, cfg.Cache)
			return ev.Welcome, nil
		case stream.AuthFailure:
			return nil, &Refused{"login", ev.Name}
		default:
			return nil, unexpected(&ev)
		}
	}
}
