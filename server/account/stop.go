package account

import (
	"context"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// Close stops the accounts in order. What clients send from now on is dropped
// and never acknowledged, so that they send it again; what was received before
// is committed and answered; then the streams end; sessions that can be resumed
// are saved with all that they are owed, and what the others are owed is kept as
// for any session that ends; then the loops end. If ctx ends first the rest of it is done without waiting. The connections must still be
// served: they write the last acknowledgements.
func (h *Hub) Close(ctx context.Context) {
	h.closing.Store(true)
	h.quiet(ctx, false)
	h.everywhere(func(l *loop) {
		err := stanza.NewStreamError(stanza.StreamSystemShutdown, "")
		for _, s := range l.states {
			for _, x := range s.sessions {
				x.mu.Lock()
				if x.transport != nil {
					x.told = true
					x.transport.End(err)
				}
				x.mu.Unlock()
			}
		}
	})
	gone, cancel := context.WithTimeout(ctx, goodbye)
	h.quiet(gone, true)
	cancel()
	// First those go that can't outlive the server, so that the others are told.
	for _, ev := range []event{stopping{}, stopping{save: true}} {
		h.everywhere(func(l *loop) {
			for _, s := range inOrder(&h.cfg, l.states) {
				if len(s.sessions) > 0 {
					l.applyTo(s, ev)
				}
			}
		})
		h.quiet(ctx, false)
	}
	h.stop()
	h.done.Wait()
}

// goodbye is how long clients have to read what waits for them and close their
// side; what they have not read then is kept for their next session.
const goodbye = time.Second

// stopping ends those of an account's sessions that can't outlive the server, and
// then saves the others.
type stopping struct{ save bool }

func (ev stopping) apply(s *State, fx *effects) {
	for _, x := range slices.Clone(s.sessions) {
		if ev.save && s.save(x, savingLast, fx) || !ev.save && x.outlives() && !x.lost {
			continue
		}
		s.end(x, stanza.NewStreamError(stanza.StreamSystemShutdown, ""), fx)
	}
}

// outlives reports whether the session can be saved at the server's stop. While a
// catch-up goes on it can't: its client asks for another.
func (x *session) outlives() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.resumable() && x.catchUp == nil && !x.ended && !x.overflow
}

// everywhere runs f on each loop, behind what was posted to it.
func (h *Hub) everywhere(f func(*loop)) {
	done := make(chan struct{}, len(h.loops))
	for _, l := range h.loops {
		l.post(jid.JID{}, loopCall(func() {
			defer func() { done <- struct{}{} }()
			f(l)
		}))
	}
	for range h.loops {
		select {
		case <-done:
		case <-h.stopped: // a second Close
			return
		}
	}
}

// quiet waits until nothing is on its way any more and, if gone, no session
// has a connection. Nothing is on its way when two rounds through all loops
// find no account that waits for the store, and no event applied in between:
// what was posted before a loop's turn in the first round has been applied at
// its turn in the second.
func (h *Hub) quiet(ctx context.Context, gone bool) {
	before, pause := ^uint64(0), time.Millisecond
	for {
		busy := make(chan bool, len(h.loops))
		events := make(chan uint64, len(h.loops))
		h.everywhere(func(l *loop) {
			busy <- l.busy(gone)
			events <- l.events
		})
		anyBusy, sum := false, uint64(0)
		for range h.loops {
			select {
			case b := <-busy:
				anyBusy, sum = anyBusy || b, sum+<-events
			case <-h.stopped:
				return
			}
		}
		if !anyBusy && sum == before || ctx.Err() != nil {
			return
		}
		if before = sum; !anyBusy {
			continue
		}
		pause = min(2*pause, 64*time.Millisecond) // clients may take a while to go
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// busy reports whether an account waits for the store, or, if gone, for the
// end of a connection.
func (l *loop) busy(gone bool) bool {
	for _, s := range l.states {
		if len(s.pending) > 0 || len(s.waiting) > 0 || s.load == loading {
			return true
		}
		if !gone {
			continue
		}
		for _, x := range s.sessions {
			if x.connected() {
				return true
			}
		}
	}
	return false
}

func (x *session) connected() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.transport != nil
}

// loopCall runs on the loop, for all its accounts.
type loopCall func()

func (f loopCall) apply(*State, *effects) { f() }
