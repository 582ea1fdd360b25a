package interop

import (
	"io"
	"net"
	"sync"
	"testing"
)

// cutter is a TCP proxy in front of the server that can lose what is under way and cut the connection, as a phone
// that changes networks does. Safe for concurrent use.
type cutter struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu    sync.Mutex
	lose  direction // what is read from there is thrown away
	conns map[net.Conn]bool
}

// direction is one half of a connection.
type direction int

const (
	neither direction = iota
	toServer
	toClient
)

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.done.Wait()
	})
	return p
}

func (p *cutter) addr() string { return p.listener.Addr().String() }

func (p *cutter) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.done.Go(func() { p.pump(server, client, toServer) })
		p.done.Go(func() { p.pump(client, server, toClient) })
	}
}

func (p *cutter) pump(dst, src net.Conn, way direction) {
	defer p.forget(dst, src)
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !p.lost(way) {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *cutter) lost(way direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lose == way
}

func (p *cutter) forget(conns ...io.Closer) {
	for _, c := range conns {
		c.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c.(net.Conn))
	}
}

// loseFrom throws away what goes in one direction from now on, with the connection still up.
func (p *cutter) loseFrom(way direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = way
}

// cut closes every connection and lets the next one through unharmed.
func (p *cutter) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = neither
	for c := range p.conns {
		c.Close()
	}
}
