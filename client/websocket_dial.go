package client

import (
	"context"

	"github.com/coder/websocket"
)

// subprotocol is RFC 7395 3.1's.
const subprotocol = "xmpp"

// dialWebSocket connects to an address of host-meta or of the configuration. Its
// certificate is checked for the address's host: who the domain's own web server,
// or the user, has named is the server.
func (c *Client) dialWebSocket(ctx context.Context, t Address) (*dialed, error) {
	conn, state, err := openWebSocket(ctx, t.URL, c.cfg.HTTP)
	if err != nil {
		return nil, err
	}
	if conn.Subprotocol() != subprotocol {
		conn.CloseNow()
		return nil, errSubprotocol
	}
	conn.SetReadLimit(int64(c.cfg.Limits.MaxBytes) + 1)
	f := newFramed(socket{conn}, c.cfg.Limits)
	return &dialed{conn: f, base: f, tls: state, secured: true, address: t}, nil
}

// socket is coder/websocket's connection as frames.
type socket struct{ *websocket.Conn }

func (s socket) read(ctx context.Context) ([]byte, error) {
	typ, b, err := s.Conn.Read(ctx)
	if err == nil && typ != websocket.MessageText {
		err = errFrame
	}
	return b, err
}

func (s socket) write(ctx context.Context, text []byte) error {
	return s.Conn.Write(ctx, websocket.MessageText, text)
}

func (s socket) close() { s.Conn.CloseNow() }
