package client

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/coder/websocket"
)

// openWebSocket connects with the browser's WebSocket, which keeps TLS to itself:
// there is no channel binding.
func openWebSocket(ctx context.Context, url string, _ *http.Client) (*websocket.Conn, *tls.ConnectionState, error) {
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	return conn, nil, err
}
