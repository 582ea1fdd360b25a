package trail

import (
	"sync"
	"time"
	"unsafe"
)

// Ring keeps the latest records. Its methods may be called concurrently; what it
// takes from a caller it copies, so that no message is kept alive by it.
type Ring struct {
	mu    sync.Mutex
	size  int
	list  []entry
	first uint64 // the seq of the oldest record
	next  uint64 // the seq of the next record, from 1
	bytes int    // the sum of the entries' costs
}

// entry is a record with its texts copied out of the messages.
type entry struct {
	record Record
	text   []byte // id, from, to, one behind the other
	id     int    // where each ends
	from   int
	cost   int // bytes that it keeps alive beside itself
}

// maxText bounds, in bytes, each of the texts of a record; longer ones are cut.
// maxDevices bounds its devices. maxBytes bounds all that a ring keeps alive
// beside its entries: where records are large, it has fewer of them.
const (
	maxText    = 512
	maxDevices = 64
	maxBytes   = 16 << 20
)

// NewRing makes a ring of so many records at most.
func NewRing(size int) *Ring { return &Ring{size: size, first: 1, next: 1} }

// Ref names one device's line of a record that is in a ring, or was; 0 is none.
type Ref uint64

// Line is the Ref of a record's nth device, given the first's.
func (r Ref) Line(n int) Ref {
	if r == 0 || n >= maxDevices {
		return 0
	}
	return r + Ref(n)
}

// Add keeps a copy of the record and returns the Ref of its first device.
func (r *Ring) Add(rec *Record) Ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *entry
	if len(r.list) < r.size {
		r.list = append(r.list, entry{})
		e = &r.list[len(r.list)-1]
	} else {
		e = r.at(r.next)
		r.bytes -= e.cost
		r.first = max(r.first, r.next-uint64(r.size)+1)
	}
	devices := append(e.record.Devices[:0], rec.Devices[:min(len(rec.Devices), maxDevices)]...)
	e.record = *rec
	e.record.Seq, e.record.Devices = r.next, devices
	e.text = append(e.text[:0], rec.ID[:min(len(rec.ID), maxText)]...)
	e.id = len(e.text)
	e.text = append(e.text, rec.From[:min(len(rec.From), maxText)]...)
	e.from = len(e.text)
	e.text = append(e.text, rec.To[:min(len(rec.To), maxText)]...)
	e.record.ID, e.record.From, e.record.To = "", "", ""
	e.cost = cap(e.text) + cap(devices)*int(unsafe.Sizeof(Device{}))
	for i := range devices {
		e.cost += len(devices[i].Resource)
	}
	r.bytes += e.cost
	ref := Ref(r.next * maxDevices)
	r.next++
	for r.bytes > maxBytes { // one alone is far smaller
		e := r.at(r.first)
		r.bytes -= e.cost
		*e = entry{}
		r.first++
	}
	return ref
}

// at is the entry of a seq that is in the ring.
func (r *Ring) at(seq uint64) *entry { return &r.list[(seq-1)%uint64(r.size)] }

// Written notes that a device was written its message.
func (r *Ring) Written(ref Ref, at time.Time) {
	if d := r.lock(ref); d != nil && d.Written.IsZero() {
		d.Written = at
	}
	r.mu.Unlock()
}

// Acked notes that a device acknowledged its message.
func (r *Ring) Acked(ref Ref, at time.Time) {
	if d := r.lock(ref); d != nil {
		d.Acked = at
	}
	r.mu.Unlock()
}

// lock finds the device's line, nil if its record has been overwritten.
func (r *Ring) lock(ref Ref) *Device {
	r.mu.Lock()
	seq, line := uint64(ref)/maxDevices, int(uint64(ref)%maxDevices)
	if seq < r.first || seq >= r.next {
		return nil
	}
	e := r.at(seq)
	if line >= len(e.record.Devices) {
		return nil
	}
	return &e.record.Devices[line]
}

// Query selects records of one account.
type Query struct {
	Account string // bare JID
	ID      string // of the message or in the archive; "": all
	After   uint64 // only records with a higher Seq
	Last    int    // the latest ones at most; 0: all there are
}

// Find returns copies of the records that match, oldest first.
func (r *Ring) Find(q Query) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Record
	for seq := r.next - 1; seq > q.After && seq >= r.first && (q.Last == 0 || len(found) < q.Last); seq-- {
		e := r.at(seq)
		if e.record.Account != q.Account || q.ID != "" && q.ID != e.record.ArchiveID && q.ID != string(e.text[:e.id]) {
			continue
		}
		rec := e.record
		rec.ID, rec.From, rec.To = string(e.text[:e.id]), string(e.text[e.id:e.from]), string(e.text[e.from:])
		rec.Devices = append([]Device{}, rec.Devices...)
		found = append(found, rec)
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}
