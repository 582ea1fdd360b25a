package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// progress shows on a terminal how many bytes have passed, once a second; elsewhere it is silent. What it wraps may be used concurrently.
type progress struct {
	to    io.Writer // nil: nobody looks
	did   string
	bytes atomic.Int64
	next  atomic.Int64 // when to show them, in nanoseconds since the Unix epoch
	shown atomic.Bool
}

func (p *program) progress(did string) *progress {
	x := &progress{did: did}
	if f, ok := p.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		x.to = f
	}
	x.next.Store(time.Now().Add(time.Second).UnixNano())
	return x
}

func (x *progress) add(n int) {
	total := x.bytes.Add(int64(n))
	if x.to == nil {
		return
	}
	now := time.Now()
	if due := x.next.Load(); now.UnixNano() >= due && x.next.CompareAndSwap(due, now.Add(time.Second).UnixNano()) {
		x.shown.Store(true)
		fmt.Fprintf(x.to, "\r%d MiB %s ", total>>20, x.did)
	}
}

// end takes the line away.
func (x *progress) end() {
	if x.shown.Load() {
		fmt.Fprint(x.to, "\r\x1b[K")
	}
}

// writer counts what is written.
func (x *progress) writer(w io.Writer) io.Writer { return passing{Writer: w, x: x} }

// file counts what is read.
func (x *progress) file(f io.ReadCloser) io.ReadCloser { return passing{ReadCloser: f, x: x} }

type passing struct {
	io.Writer
	io.ReadCloser
	x *progress
}

// Write implements io.Writer.
func (p passing) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.x.add(n)
	return n, err
}

// Read implements io.Reader.
func (p passing) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.x.add(n)
	return n, err
}
