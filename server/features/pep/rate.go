package pep

import (
	"sync"
	"time"

	"carillon.im/jid"
)

// rate bounds how often accounts change their nodes: burst times at once, and once
// more after each every. An account is remembered while it has not got all of its
// burst back.
type rate struct {
	burst int
	every time.Duration

	mu   sync.Mutex
	full map[jid.JID]time.Time // when the account has all of its burst
}

// maxRated is how many accounts are remembered. An account that finds no room is
// let through: that many at a time change their nodes within a burst's time.
const maxRated = 10000

// take reports whether an account may change something now.
func (r *rate) take(account jid.JID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.full[account]
	if at.Before(now) {
		at = now
	}
	if at = at.Add(r.every); at.Sub(now) > time.Duration(r.burst)*r.every {
		return false
	}
	if !known && len(r.full) >= maxRated {
		for j, t := range r.full {
			if !t.After(now) {
				delete(r.full, j)
			}
		}
		if len(r.full) >= maxRated {
			return true
		}
	}
	r.full[account] = at
	return true
}
