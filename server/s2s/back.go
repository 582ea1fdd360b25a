package s2s

import (
	"time"

	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// giveBack tells the senders of stanzas that can't be sent. What presence says may
// be another thing by then, so only who waits for an answer to it gets one.
func (s *Server) giveBack(list []item, e *stanza.Error) {
	var ids []uint64
	for i := range list {
		if list[i].id != 0 {
			ids = append(ids, list[i].id)
			s.trace(list[i].ref, trail.Returned, string(e.Condition), time.Now())
		}
		st := list[i].stanza()
		if st == nil || st.Kind == stanza.Presence && !awaited(st) {
			continue
		}
		if r := st.ErrorReply(e); r != nil {
			s.Metrics.Returned.Add(1)
			if s.cfg.Receive(s.ctx, r) != nil {
				return // the server stops, and starts with the rest of the outbox
			}
		}
	}
	if len(ids) > 0 {
		s.cfg.Forget(ids)
	}
}

// awaited reports whether somebody waits for an answer to presence: a request, or
// directed presence, as to enter a room.
func awaited(st *stanza.Stanza) bool {
	return st.Type == stanza.TypeSubscribe || st.Type == stanza.TypeAvailable && st.To.IsFull()
}

// forget says that messages have come, and how that is known.
func (s *Server) forget(list []done, how trail.Step) {
	if len(list) == 0 {
		return
	}
	ids, now := make([]uint64, len(list)), time.Now()
	for i, d := range list {
		ids[i] = d.id
		s.trace(d.ref, how, "", now)
	}
	s.cfg.Forget(ids)
}

// trace notes what becomes of a message.
func (s *Server) trace(ref trail.Ref, step trail.Step, condition string, at time.Time) {
	if ref != 0 && s.cfg.Trace != nil {
		s.cfg.Trace(ref, step, condition, at)
	}
}
