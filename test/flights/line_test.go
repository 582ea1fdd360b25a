package flights

import (
	"io"
	"net"
	"sync"
	"time"
)

// meter counts the flights of the one who uses the connection.
type meter struct {
	net.Conn
	flights int
	writing bool
}

func (m *meter) Write(b []byte) (int, error) {
	if !m.writing {
		m.writing = true
		m.flights++
	}
	return m.Conn.Write(b)
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if n > 0 {
		m.writing = false
	}
	return n, err
}

// line is a connection to somebody far away: what passes takes delay, each way.
type line struct {
	net.Conn
	delay   time.Duration
	out, in chan parcel
	rest    []byte // read and not taken
	over    chan struct{}
	closing sync.Once
}

type parcel struct {
	data []byte
	err  error
	due  time.Time
}

// dial connects over a line, and takes as long as TCP's handshake would.
func dial(addr string, delay time.Duration) (net.Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil || delay == 0 {
		return nc, err
	}
	time.Sleep(2 * delay)
	// Room for more than is ever under way here.
	l := &line{Conn: nc, delay: delay, out: make(chan parcel, 4096), in: make(chan parcel, 4096), over: make(chan struct{})}
	go l.send()
	go l.receive()
	return l, nil
}

func (l *line) send() {
	for {
		select {
		case p := <-l.out:
			time.Sleep(time.Until(p.due))
			if _, err := l.Conn.Write(p.data); err != nil {
				return // the reader hears of it
			}
		case <-l.over:
			return
		}
	}
}

func (l *line) receive() {
	for {
		b := make([]byte, 16<<10)
		n, err := l.Conn.Read(b)
		select {
		case l.in <- parcel{b[:n], err, time.Now().Add(l.delay)}:
		case <-l.over:
			return
		}
		if err != nil {
			return
		}
	}
}

func (l *line) Write(b []byte) (int, error) {
	select {
	case l.out <- parcel{data: append([]byte(nil), b...), due: time.Now().Add(l.delay)}:
		return len(b), nil
	case <-l.over:
		return 0, io.ErrClosedPipe
	}
}

func (l *line) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		select {
		case p := <-l.in:
			time.Sleep(time.Until(p.due))
			if l.rest = p.data; len(p.data) == 0 {
				return 0, p.err
			}
		case <-l.over:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(b, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *line) Close() error {
	l.closing.Do(func() { close(l.over) })
	return l.Conn.Close()
}
