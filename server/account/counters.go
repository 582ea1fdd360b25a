package account

// Counters are a Hub's figures at a moment, for metrics.
type Counters struct {
	Messages   uint64 `help:"messages decided, on the sender's and on the recipient's side"`
	Refused    uint64 `help:"messages answered with an error or dropped"`
	Offline    uint64 `help:"messages kept for the next session"`
	Overflows  uint64 `help:"sessions detached because their client didn't read"`
	Panics     uint64 `help:"panics recovered; each is a bug"`
	Sessions   int64  `help:"sessions, those included that wait to be resumed"`
	LoadErrors uint64 `help:"accounts that could not be read from the store"`

	Pushes        uint64 `help:"requests to push services"`
	PushesHeld    uint64 `help:"messages of which a device was not notified at once"`
	PushesDropped uint64 `help:"notifications that waited and were not needed any more"`
	PushErrors    uint64 `help:"requests that push services refused or did not answer"`
}

// Counters reads the hub's counters.
func (h *Hub) Counters() Counters {
	s := &h.stats
	return Counters{Messages: s.Messages.Load(), Refused: s.Refused.Load(), Offline: s.Offline.Load(),
		Overflows: s.Overflows.Load(), Panics: s.Panics.Load(), Sessions: s.Sessions.Load(), LoadErrors: s.LoadErrors.Load(),
		Pushes: s.Pushes.Load(), PushesHeld: s.PushesHeld.Load(), PushesDropped: s.PushesDropped.Load(), PushErrors: s.PushErrors.Load()}
}
