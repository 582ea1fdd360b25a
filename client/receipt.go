package client

import (
	"context"
	"sync"
)

// Delivery is how far a stanza has come on its way to the server.
type Delivery uint8

// The deliveries, in their order.
const (
	Queued       Delivery = iota // in the client, or again there after a lost connection
	Written                      // given to the connection
	Acknowledged                 // the server has it (XEP-0198 4)
	Lost                         // it will not be sent (again); it may have arrived
)

// String is the delivery in a word.
func (d Delivery) String() string {
	switch d {
	case Queued:
		return "queued"
	case Written:
		return "written"
	case Acknowledged:
		return "acknowledged"
	}
	return "lost"
}

// Receipt follows a stanza that was sent. All methods may be called
// concurrently.
type Receipt struct {
	id string

	mu      sync.Mutex
	state   Delivery
	final   bool
	err     error
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// ID is the stanza's id, "" for a presence without one.
func (r *Receipt) ID() string { return r.id }

// State is the delivery now. final says that it will not change: Written is
// final where the server acknowledges nothing. The error is why it is Lost.
func (r *Receipt) State() (state Delivery, final bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.final, r.err
}

// Wait waits until the delivery is final and returns it, with the error of a
// Lost one. If ctx ends before, it returns the delivery so far and its error.
func (r *Receipt) Wait(ctx context.Context) (Delivery, error) {
	for {
		changed := r.watch()
		state, final, err := r.State()
		if final {
			return state, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return state, ctx.Err()
		}
	}
}

// watch returns what is closed at the next change.
func (r *Receipt) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// set moves a receipt; a nil one is nobody's.
func (r *Receipt) set(state Delivery, final bool, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.final {
		return
	}
	r.state, r.final, r.err = state, final, err
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}
