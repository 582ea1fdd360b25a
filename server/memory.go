package server

import (
	"runtime/debug"
	"runtime/metrics"
)

// Bounds of giving memory back: a server that allocates less than quietBytes
// in a round is idle, and holding less than keptBytes is not worth a
// collection.
const (
	quietBytes = 2 << 20
	keptBytes  = 8 << 20
)

// returner gives memory back to the system after a rush, such as the logins
// that follow a restart: the collector sizes the heap for the rush and an idle
// server never collects again.
type returner struct {
	samples   [2]metrics.Sample
	allocated uint64
	done      bool // nothing happened since memory was given back
}

func newReturner() *returner {
	r := &returner{}
	r.samples[0].Name = "/gc/heap/allocs:bytes"
	r.samples[1].Name = "/memory/classes/heap/free:bytes"
	return r
}

// round is called every few seconds.
func (r *returner) round() {
	metrics.Read(r.samples[:])
	allocs, free := r.samples[0].Value.Uint64(), r.samples[1].Value.Uint64()
	quiet := allocs-r.allocated < quietBytes
	r.allocated = allocs
	switch {
	case !quiet:
		r.done = false
	case !r.done || free > keptBytes:
		r.done = true
		debug.FreeOSMemory()
	}
}
