package trail

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Ring keeps the latest records. Its methods may be called concurrently; what it
// takes from a caller it copies, so that no message is kept alive by it.
type Ring struct {
	list []atomic.Pointer[entry]

	mu    sync.Mutex
	first uint64 // the seq of the oldest record
	next  uint64 // the seq of the next record, from 1
	bytes int    // the sum of the entries' costs
}

// entry is a record with its texts copied out of the messages. It has a lock of
// its own, so that devices that are written their messages don't wait for each
// other.
type entry struct {
	mu     sync.Mutex
	record Record
	text   []byte // id, from, to, one behind the other
	id     int    // where each ends
	from   int
	cost   int // bytes that it keeps alive beside itself; Ring.mu guards it
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
func NewRing(size int) *Ring {
	return &Ring{list: make([]atomic.Pointer[entry], size), first: 1, next: 1}
}

// slot is where the record with the seq is, or was.
func (r *Ring) slot(seq uint64) *atomic.Pointer[entry] { return &r.list[(seq-1)%uint64(len(r.list))] }

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
	slot := r.slot(r.next)
	e := slot.Load()
	if e == nil {
		e = &entry{}
		slot.Store(e)
	} else { // the ring's oldest
		r.bytes -= e.cost
		r.first++
	}
	r.bytes += e.fill(rec, r.next)
	ref := Ref(r.next * maxDevices)
	r.next++
	for ; r.bytes > maxBytes; r.first++ { // one alone is far smaller
		r.bytes -= r.slot(r.first).Swap(nil).cost
	}
	return ref
}

// fill makes the entry a copy of the record and returns its cost.
func (e *entry) fill(rec *Record, seq uint64) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	devices := append(e.record.Devices[:0], rec.Devices[:min(len(rec.Devices), maxDevices)]...)
	pushes := append(e.record.Pushes[:0], rec.Pushes[:min(len(rec.Pushes), maxDevices)]...)
	e.record = *rec
	e.record.Seq, e.record.Devices, e.record.Pushes = seq, devices, pushes
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
	e.cost += cap(pushes) * int(unsafe.Sizeof(Push{}))
	for i := range pushes {
		e.cost += len(pushes[i].Resource) + len(pushes[i].Service)
	}
	return e.cost
}

// Written notes that a device was written its message.
func (r *Ring) Written(ref Ref, at time.Time) {
	r.mark(ref, func(d *Device) {
		if d.Written.IsZero() {
			d.Written = at
		}
	})
}

// Acked notes that a device acknowledged its message.
func (r *Ring) Acked(ref Ref, at time.Time) { r.mark(ref, func(d *Device) { d.Acked = at }) }

// Pushed notes what became of a notification of which the record says something
// already. Any device's Ref will do.
func (r *Ring) Pushed(ref Ref, p Push) {
	r.change(ref, func(rec *Record) {
		for i := range rec.Pushes {
			if q := &rec.Pushes[i]; q.Resource == p.Resource && q.Service == p.Service {
				q.Verdict, q.Rule, q.At = p.Verdict, p.Rule, p.At
			}
		}
	})
}

// mark changes a device's line, if its record has not been overwritten.
func (r *Ring) mark(ref Ref, change func(*Device)) {
	line := int(uint64(ref) % maxDevices)
	r.change(ref, func(rec *Record) {
		if line < len(rec.Devices) {
			change(&rec.Devices[line])
		}
	})
}

// change changes a record, if it has not been overwritten.
func (r *Ring) change(ref Ref, change func(*Record)) {
	seq := uint64(ref) / maxDevices
	if seq == 0 {
		return
	}
	e := r.slot(seq).Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	if e.record.Seq == seq {
		change(&e.record)
	}
	e.mu.Unlock()
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
		if rec, ok := r.slot(seq).Load().find(q); ok {
			found = append(found, rec)
		}
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}

// find returns a copy of the record, if it matches.
func (e *entry) find(q Query) (Record, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.record.Account != q.Account || q.ID != "" && q.ID != e.record.ArchiveID && q.ID != string(e.text[:e.id]) {
		return Record{}, false
	}
	rec := e.record
	rec.ID, rec.From, rec.To = string(e.text[:e.id]), string(e.text[e.id:e.from]), string(e.text[e.from:])
	rec.Devices = append([]Device{}, rec.Devices...)
	rec.Pushes = append([]Push(nil), rec.Pushes...)
	return rec, true
}
