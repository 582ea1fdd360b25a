//go:build !js

package client

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/coder/websocket"
)

// openWebSocket connects with the program's own HTTP client, and shows the TLS
// connection, for channel binding.
func openWebSocket(ctx context.Context, url string, client *http.Client) (*websocket.Conn, *tls.ConnectionState, error) {
	conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil, nil, err
	}
	return conn, resp.TLS, nil
}
