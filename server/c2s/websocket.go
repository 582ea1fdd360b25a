package c2s

import (
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// acceptKey is what RFC 6455 1.3 hangs on a client's key.
const acceptKey = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// subprotocol is RFC 7395 3.1's.
const subprotocol = "xmpp"

// HTTPListener makes of a listener one for a http.Server whose connections
// ServeWebSocket can take over, with TLS if secure.
func (s *Server) HTTPListener(l net.Listener, secure bool) net.Listener {
	own := &listener{l, s.cfg.Limits}
	if !secure {
		return own
	}
	cfg := s.tlsConfig(false)
	cfg.NextProtos = []string{"http/1.1"}
	return tls.NewListener(own, cfg)
}

type listener struct {
	net.Listener
	limits Limits
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := nc.(*net.TCPConn); ok && l.limits.KeepAlive > 0 {
		tcp.SetKeepAliveConfig(keepAlive(l.limits.KeepAlive))
	}
	sock := newSocket(nc)
	sock.blocking = true
	return sock, nil
}

// ServeWebSocket takes over the connection of a request from a listener of
// HTTPListener, for a stream in frames (RFC 7395); client is where it comes from.
// A connection without TLS must be protected otherwise: it ends at a proxy.
func (s *Server) ServeWebSocket(w http.ResponseWriter, r *http.Request, client netip.AddrPort) {
	key := r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	switch {
	case r.Method != http.MethodGet || !listed(r.Header, "Connection", "upgrade") || !listed(r.Header, "Upgrade", "websocket"):
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is for WebSockets", http.StatusUpgradeRequired)
		return
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455 4.4
		http.Error(w, "unknown version", http.StatusUpgradeRequired)
		return
	case err != nil || len(raw) != 16 || r.ContentLength > 0:
		http.Error(w, "not a handshake", http.StatusBadRequest)
		return
	case !listed(r.Header, "Sec-WebSocket-Protocol", subprotocol):
		http.Error(w, "the subprotocol xmpp is wanted", http.StatusBadRequest) // RFC 7395 3.1
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "", http.StatusHTTPVersionNotSupported)
		return
	}
	nc, buffered, err := hijacker.Hijack()
	if err != nil {
		s.cfg.Log.Debug("a WebSocket can't be taken over", "error", err)
		return
	}
	c := &conn{srv: s, id: s.lastID.Add(1), addr: client, web: &messages{}}
	switch nc := nc.(type) {
	case *socket:
		c.sock = nc
	case *tls.Conn:
		c.sock, _ = nc.NetConn().(*socket)
		c.tls = nc
	}
	if c.sock == nil {
		nc.Close()
		s.cfg.Log.Error("a WebSocket on a listener that isn't HTTPListener's")
		return
	}
	sum := sha1.Sum([]byte(key + acceptKey))
	if _, err := nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: " +
		subprotocol + "\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")); err != nil {
		nc.Close()
		return
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		first, _ := buffered.Reader.Peek(n)
		c.first = slices.Clone(first)
	}
	c.sock.blocking = false
	s.take(c)
}

// listed reports whether a header's list has a token, in any case.
func listed(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
