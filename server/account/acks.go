package account

import (
	"errors"
	"strconv"
	"time"

	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Stream management of a session (XEP-0198): the connection's side.

// EnableSM turns acknowledgements on (XEP-0198 3) and, if resume, makes the
// session outlive its connection for the window returned. A second call
// answers the same as the first (docs/design: clients send <enable/> twice).
// The caller writes <enabled/> before it calls Next again.
func (x *Session) EnableSM(resume bool, want time.Duration) (id string, resumable bool, window time.Duration, err *stanza.Error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return "", false, 0, stanza.NewError(stanza.UnexpectedRequest, "the session has ended")
	}
	if !x.out.Enabled() {
		x.out.Enable()
		x.in.Enable()
	}
	if resume && x.smID == "" {
		x.smID = x.hub.cfg.newID() + x.hub.cfg.newID()
		x.window = x.hub.cfg.Limits.ResumeWindow
		if want > 0 && want < x.window {
			x.window = want
		}
	}
	return x.smID, x.smID != "", x.window, nil
}

// Ack is the client's <a/>. The error is a *stanza.StreamError for an h beyond
// what was sent (XEP-0198 4).
func (x *Session) Ack(h uint32) error {
	x.mu.Lock()
	tr := x.transport
	delivered, err := x.acknowledge(h)
	x.requested = false
	wake := x.out.Waiting() > 0
	x.mu.Unlock()
	if err != nil {
		return tooHigh(err)
	}
	x.offlineDelivered(delivered)
	if wake && tr != nil {
		tr.Wake()
	}
	return nil
}

// acknowledge drops what h acknowledges and returns the newest message of the
// offline store among it.
func (x *Session) acknowledge(h uint32) (delivered store.ArchiveID, err error) {
	err = x.out.Ack(h, func(t tag) { delivered = max(delivered, t.offline) })
	if err == nil {
		x.makeRoom()
	}
	return delivered, err
}

func tooHigh(err error) error {
	e := stanza.NewStreamError(stanza.StreamUndefinedCondition, err.Error())
	var high *sm.TooHighError
	if errors.As(err, &high) {
		w := xmltree.NewWriter(nil, "")
		w.Start(sm.NS, "handled-count-too-high").Attr("h", strconv.FormatUint(uint64(high.H), 10)).
			Attr("send-count", strconv.FormatUint(uint64(high.SendCount), 10)).End()
		e.App = string(w.Bytes())
	}
	return e
}

// AckRequest is the client's <r/>. It is answered once all that came before it
// is handled, so an <a/> never says less than the client could know.
func (x *Session) AckRequest() {
	x.mu.Lock()
	x.answers = append(x.answers, x.in.Received())
	wake := x.answerRequests()
	tr := x.transport
	x.mu.Unlock()
	if wake && tr != nil {
		tr.Wake()
	}
}

// answerRequests queues an <a/> for each request that needs to wait no longer.
func (x *Session) answerRequests() bool {
	n := 0
	for n < len(x.answers) && x.in.Settled(x.answers[n]) {
		n++
	}
	if n == 0 {
		return false
	}
	// Requests that become answerable together are answered together: a later
	// <a/> says all that an earlier one would.
	x.answers = append(x.answers[:0], x.answers[n:]...)
	x.control = append(x.control, "<a xmlns='"+sm.NS+"' h='"...)
	x.control = strconv.AppendUint(x.control, uint64(x.in.H()), 10)
	x.control = append(x.control, "'/>"...)
	return true
}

// Next appends to dst what is to be written, up to about limit bytes: the
// acknowledgements that are due and the stanzas that wait, which count as sent
// from then on. more says that stanzas are left. A transport that isn't the
// session's any more gets nothing: what is owed belongs to its successor. One
// goroutine at a time for each transport.
func (x *Session) Next(t Transport, dst []byte, limit int) (out []byte, more bool) {
	x.mu.Lock()
	if x.transport != t {
		x.mu.Unlock()
		return dst, false
	}
	dst = append(dst, x.control...)
	x.control = x.control[:0]
	var delivered store.ArchiveID
	for len(dst) < limit {
		e, ok := x.out.Take()
		if !ok {
			break
		}
		dst = append(dst, e.Data...)
		if !x.out.Enabled() {
			delivered = max(delivered, e.Tag.offline)
		}
	}
	if !x.out.Enabled() {
		x.makeRoom()
	} else if !x.requested && x.out.Unacked() >= requestEvery {
		dst = x.request(dst)
	}
	more = x.out.Waiting() > 0
	x.mu.Unlock()
	x.offlineDelivered(delivered)
	return dst, more
}

// request appends an <r/>; one at a time is unanswered.
func (x *Session) request(dst []byte) []byte {
	x.requested = true
	return append(dst, "<r xmlns='"+sm.NS+"'/>"...)
}

// requestRest asks for the acknowledgement of stanzas that were too few for
// Next to ask. The loop calls it on its tick.
func (x *Session) requestRest() {
	x.mu.Lock()
	var tr Transport
	if x.transport != nil && x.out.Enabled() && !x.requested && x.out.Unacked() > 0 {
		x.control = x.request(x.control)
		tr = x.transport
	}
	x.mu.Unlock()
	if tr != nil {
		tr.Wake()
	}
}

// makeRoom wakes who waits for the queue to shrink.
func (x *Session) makeRoom() {
	if x.room != nil && x.out.Bytes() < x.hub.cfg.Limits.OutboxBytes/2 {
		close(x.room)
		x.room = nil
	}
}

// offlineDelivered tells the account that the client has the offline messages
// up to an id.
func (x *Session) offlineDelivered(upTo store.ArchiveID) {
	if upTo != 0 {
		x.hub.post(x.jid.Bare(), &offlineDone{session: x, upTo: upTo})
	}
}

// attach gives a detached session a new connection (XEP-0198 5): what h
// doesn't acknowledge is sent again. The old connection, if one is left, is
// returned.
func (x *Session) attach(t Transport, h uint32, req *ResumeRequest) (handled uint32, old Transport, delivered store.ArchiveID, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if delivered, err = x.acknowledge(h); err != nil {
		return 0, nil, 0, err
	}
	x.out.Rewind()
	x.requested = false
	x.inactive = false // XEP-0352 4.1: a resumed stream starts active
	x.flushHeld()
	// Requests of the old stream are answered by <resumed h=…/>.
	x.answers, x.control = nil, x.control[:0]
	old, x.transport = x.transport, t
	x.conn, x.address = req.Conn, req.Address
	return x.in.H(), old, delivered, nil
}
