package account

import (
	"errors"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// An event is something that happened to one account. Its owner applies it to
// the account's state, which answers with effects: apply reads no clock, takes
// no lock that is held over I/O, and does nothing but change the state and
// fill fx.
type event interface {
	apply(s *State, fx *effects)
}

// effects collects what an event's application wants done, in order. The loop
// that owns the account carries them out.
type effects struct {
	now  time.Time
	list []effect
	// record is reused, so that keeping a decision allocates nothing.
	record *trail.Record
	held   bool // they wait for their turn in the account's order already
}

type effectKind uint8

const (
	fxDeliver effectKind = iota + 1 // data to session
	fxShow                          // data, the presence of a contact, to session
	fxHandled                       // stanza number of session is handled
	fxPost                          // event to another account's owner
	fxRoute                         // arrive to whoever answers for its address
	fxLeave                         // arrive to another domain, now that it is committed
	fxCommit                        // ops, then tell the entries
	fxFail                          // tell the entries that there is no commit, and why
	fxTell                          // told to whoever wants to hear of it
	fxDo                            // call do; it must not block
)

// effect is one thing to do; which fields count depends on its kind.
type effect struct {
	kind    effectKind
	session *session
	data    []byte
	tag     tag
	number  uint64
	gone    bool // unavailable presence

	to   jid.JID
	ev   event
	told *told
	unit commit
	err  error

	do func()
}

// commit is a unit for the store and the entries that wait for it.
type commit struct {
	ops     []store.Op
	entries [2]*entry // of the account itself and, for a message between two local accounts, of the other
}

func (fx *effects) deliver(s *session, data []byte, t tag) {
	fx.list = append(fx.list, effect{kind: fxDeliver, session: s, data: data, tag: t})
}

// show is deliver for presence that the session can do without for a while.
func (fx *effects) show(s *session, data []byte, t tag, gone bool) {
	fx.list = append(fx.list, effect{kind: fxShow, session: s, data: data, tag: t, gone: gone})
}

func (fx *effects) handled(s *session, number uint64) {
	fx.list = append(fx.list, effect{kind: fxHandled, session: s, number: number})
}

func (fx *effects) post(to jid.JID, ev event) {
	fx.list = append(fx.list, effect{kind: fxPost, to: to, ev: ev})
}

// route hands a stanza to whoever answers for its address: another account,
// this server, another domain.
func (fx *effects) route(a *arrive) {
	fx.list = append(fx.list, effect{kind: fxRoute, ev: a})
}

// tell tells of an account's event who wants to hear of it by then.
func (fx *effects) tell(account jid.JID, ev *told) {
	fx.list = append(fx.list, effect{kind: fxTell, to: account, told: ev})
}

func (fx *effects) commit(ops []store.Op, entries ...*entry) {
	e := effect{kind: fxCommit, unit: commit{ops: ops}}
	copy(e.unit.entries[:], entries)
	fx.list = append(fx.list, e)
}

// fail is for an entry whose commit will not be tried.
func (fx *effects) fail(e *entry, err error) {
	fx.list = append(fx.list, effect{kind: fxFail, unit: commit{entries: [2]*entry{e}}, err: err})
}

func (fx *effects) call(do func()) {
	fx.list = append(fx.list, effect{kind: fxDo, do: do})
}

// entry is a place in an account's order. What was decided after it waits
// behind it, so that sessions are told things in the order in which they were
// decided, and nothing is told before it is committed (R-ARCH-3).
type entry struct {
	owner jid.JID
	wait  bool     // for a commit, or the store's answer
	then  []effect // when it is its turn
	// failed is done instead of then if the commit failed, or, for an entry
	// that shows the account's data, if a change that it may show did.
	failed func(fx *effects, err error)
	shows  bool
	// roused are sessions that are no longer on disk once it is committed.
	roused []*session
	// recounts: once it is committed the account's numbers are read anew.
	recounts bool
	// answered: the sender was told already that the message goes no further.
	answered bool
	settles  []jid.JID // contacts of whom nothing is certain before the commit
	err      error
}

// later runs fill's effects in the account's order: now if nothing is
// pending, else behind what is. fill itself runs now, on the state as it is.
func (s *State) later(fx *effects, fill func(fx *effects)) {
	if len(s.pending) == 0 || fx.held {
		fill(fx)
		return
	}
	s.queue(&entry{}, fx.now, fill)
}

// show is later for what tells a session of the account's data. If a change
// that waits ahead of it turns out not to be on disk, failed runs instead.
func (s *State) show(fx *effects, failed func(*effects, error), fill func(fx *effects)) {
	if len(s.pending) == 0 || fx.held {
		fill(fx)
		return
	}
	s.queue(&entry{shows: true, failed: failed}, fx.now, fill)
}

// hold makes a place in the account's order that waits for a commit.
func (s *State) hold(now time.Time, fill func(fx *effects)) *entry {
	return s.queue(&entry{wait: true}, now, fill)
}

func (s *State) queue(e *entry, now time.Time, fill func(fx *effects)) *entry {
	// Mostly a delivery to each session and the sender's count.
	sub := effects{now: now, held: true, list: make([]effect, 0, len(s.sessions)+1)}
	fill(&sub)
	e.owner, e.then = s.jid, sub.list
	s.pending = append(s.pending, e)
	return e
}

// release lets everything happen that waits no longer. An account whose memory
// has become wrong is read anew once nothing is pending: then the store has
// seen all that was submitted.
func (s *State) release(fx *effects) {
	n := 0
	for n < len(s.pending) && !s.pending[n].wait {
		e := s.pending[n]
		s.pending[n] = nil
		n++
		if e.err == nil && e.shows && s.stale != errRecount {
			e.err = s.stale
		}
		for _, x := range e.roused {
			if e.err == nil {
				fx.call(x.awake)
			} else {
				s.keeps(x, s.index(x) >= 0) // the next tick tries again
			}
		}
		switch {
		case e.err == nil:
			s.settled(e)
			fx.list = append(fx.list, e.then...)
			if e.recounts {
				s.distrust(errRecount)
			}
		case e.failed != nil:
			e.failed(fx, e.err)
		}
	}
	if s.pending = s.pending[n:]; len(s.pending) > 0 {
		return
	}
	s.pending = nil
	if s.stale != nil && s.load == loaded {
		s.startLoad(fx)
	}
}

var errRecount = errors.New("account: being read anew")

// distrust notes that a change that is in memory isn't on disk.
func (s *State) distrust(err error) { s.stale = err }

// tell says that what an entry waits for is there, or why it isn't. As an
// event the entry goes to its owner; anybody may call it, once.
func (h *Hub) tell(e *entry, err error) {
	if e != nil {
		e.err = err // nobody reads it while the entry waits
		h.post(e.owner, e)
	}
}

func (e *entry) apply(s *State, fx *effects) {
	e.wait = false
	s.release(fx)
}

// inbound is a stanza from one of the account's own sessions.
type inbound struct {
	session *session
	number  uint64 // by the session's count
	stanza  *stanza.Stanza
}

// arrive is a stanza that reaches an account from elsewhere, another account
// of this server included.
type arrive struct {
	stanza *stanza.Stanza
	msg    route.Message // of a message
	intent route.Intent  // of a message, as its sender's side classified it
	// ops and origin come with a message from a local account: its archive
	// entry, committed together with the recipient's, and the place in the
	// sender's order that waits for it.
	ops    []store.Op
	origin *entry
	// many: a room says it to all who are in it. It isn't noted for each of them
	// where it went.
	many bool
	// taken is for a message to a Keeper, which calls it.
	taken func()
	// outbox is the id under which a message that leaves is kept, 0 if it isn't; left:
	// it has the form that it has outside; trail: where what becomes of it is noted.
	outbox uint64
	left   bool
	trail  trail.Ref
}
