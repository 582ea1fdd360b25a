package account

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/sm"
	"carillon.im/stanza"
)

// session is one bound resource, with or without a connection. As a
// feature.SessionRef its methods may be called concurrently.
//
// It has three sides: the connection's reader and writer come in through a
// Session, features through feature.SessionRef, and the loop that owns the
// account delivers. What they share is under mu; the fields below "owned by
// the loop" are the loop's alone.
type session struct {
	hub    *Hub
	jid    jid.JID
	since  time.Time
	serial uint32 // of the account's sessions since the server's start, from 1
	client string // the installation's id, "" if it has none

	mu        sync.Mutex
	conn      string
	address   netip.AddrPort
	transport Transport // nil while detached
	claim     Transport // of the connection that is resuming the session
	ended     bool      // nothing can be delivered any more
	told      bool      // the transport was told to end
	out       sm.Queue[tag]
	in        sm.Inbound
	smID      string // "" without stream management
	window    time.Duration
	asked     bool      // an <r/> of ours is unanswered
	vain      uint8     // how often in a row the answer was nothing new
	pause     uint8     // ticks before the tick asks again
	askDue    bool      // an <r/> is to be written
	ackDue    bool      // an <a/> is to be written
	ackAt     uint64    // the oldest <r/> without an answer came behind this stanza; 0: there is none
	ackLast   uint64    // and the newest one behind this
	failures  int       // stanzas in out that must leave before an <a/>
	overflow  bool      // the queue's bound was passed
	inactive  bool      // XEP-0352
	used      time.Time // when somebody last did something with it, as far as that is followed
	held      []sm.Entry[tag]
	heldBytes int
	answers   int  // bytes of out that the client asked for itself
	corked    bool // more comes at once: the connection is woken for all of it
	room      bell // rung when the queue has shrunk
	credit    bell // rung when received stanzas are done
	questions map[string]chan *stanza.Stanza
	queried   bool             // has read the archive
	reading   int              // requests that read it now
	catchUp   *catchUp         // nil: what comes is live
	unbroken  bool             // the device has all up to what it acknowledges (S-10)
	cursor    store.ArchiveID  // the newest archived message that it acknowledged
	key       *store.ResumeKey // instead of smID, while nobody has told that since the server's start
	asleep    bool             // it is on disk as it is, and nothing passes before that is forgotten
	rousing   bool             // which was asked for
	waits     bool             // something waits for that, not only what the store refused

	// Owned by the loop.
	profile    route.Profile
	cursorKept store.ArchiveID // on disk, or on its way there
	available  bool
	lost       bool // what it is owed was given up; it can't be resumed
	priority   int8
	presence   presence
	caps       string
	directed   map[jid.JID]struct{}
	interests  []string
	listening                  // to personal events
	detachedAt time.Time       // zero while connected
	reached    []span          // which conversation messages it was there for
	flushedTo  store.ArchiveID // the newest message of the offline store that it was sent
	bind2      bool            // it came by Bind 2 (XEP-0386)
	kept       bool            // it is on disk, or on its way there
	keptRows   int             // of its queue
	keptBytes  int
	unsavable  bool // it is too large
	behind     bool // it was not told all that happened before the server's start
	passed     uint64
	still      time.Time     // when passed was last seen to change
	patience   time.Duration // how long it has to be quiet to be saved
	rousings   int           // how often something waited in vain for the store to forget it
}

// tag is what the queue remembers of a stanza.
type tag struct {
	kind    tagKind
	wait    waitKind
	answer  int             // its bytes, if the client asked for it
	room    bool            // it asked for it by entering a room
	failure bool            // says that a stanza wasn't kept: leaves before the <a/> that counts it
	notice  bool            // of a message worth a notification
	alone   bool            // of a message to this full address or a copy of one: classic sessions at others didn't get it
	id      store.ArchiveID // of a message that has one
	// archived: the message is in the archive, under id, and can be made again
	// from there.
	archived bool
	form     form
	mark     route.Tag
	offline  store.ArchiveID // of a message from the offline store
	trail    trail.Ref       // of a message: where it is noted what became of it
	order    uint64          // of a conversation message, in the account's order
	from     jid.JID         // of what may wait: the next of the same kind replaces it
}

// span is a part of an account's order, both ends included.
type span struct{ from, to uint64 }

// tagKind says what becomes of a stanza that the client never acknowledged.
type tagKind uint8

const (
	tagOther        tagKind = iota // nothing
	tagConversation                // kept for the next session, if no other got it
	tagCarbon                      // the same, for the message in it
	tagExclusive                   // its sender is told (XEP-0198 4, S-5)
	tagRequest                     // an IQ: its sender is told
)

// waitKind says what may be held back while the client is inactive (XEP-0352).
type waitKind uint8

const (
	waitNot waitKind = iota
	waitPresence
	waitChatState
)

const (
	requestEvery = 16 // stanzas between two <r/>
	maxInFlight  = 256
	maxQuestions = 16
	maxInterests = 32
	maxHeld      = 512 // stanzas held back for an inactive client
	maxRooms     = 4   // presence of rooms that a session has entered, in OutboxBytes, beside that bound
)

// ErrEnded is what a session's methods give once it has ended, or when its
// connection was replaced by another.
var ErrEnded = errors.New("account: the session has ended")

// JID is the session's full JID.
func (x *session) JID() jid.JID { return x.jid }

// Owner is the session's account.
func (x *session) Owner() feature.AccountRef { return &accountRef{x.hub, x.jid.Bare()} }

// handled notes that a received stanza is done, and answers the client's
// requests for acknowledgement that waited for it.
func (x *session) handled(number uint64) {
	if number == 0 {
		return // the server's own, on behalf of the client
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.in.Done(number) {
		return
	}
	x.credit.ring()
	if x.ackAt == 0 || !x.in.Settled(x.ackAt) {
		return
	}
	// Requests that became answerable meanwhile are answered together: a later
	// <a/> says all that an earlier one would.
	if x.ackDue, x.ackAt = true, 0; !x.in.Settled(x.ackLast) {
		x.ackAt = x.ackLast
	}
	x.wake()
}

// wake tells the connection that there is something to write. mu is held,
// which Transport allows.
func (x *session) wake() {
	if x.transport != nil && !x.corked {
		x.transport.Wake()
	}
}

// deliver queues a stanza for the client. It reports false if the session
// can't take it: it has ended, or more is owed to it than its queue may hold.
// The loop hears of that once, and detaches it.
func (x *session) deliver(data []byte, t tag) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ended || x.overflow:
		return false
	case x.catchUp != nil && t.archived:
		x.catchUp.take(data, t, x.hub.cfg.Limits.OutboxBytes/4)
		return true
	case x.inactive && t.wait != waitNot && x.holdBack(data, t):
	default:
		x.flushHeld()
		x.push(data, t)
	}
	// An answer to the client's own request, such as a large roster, isn't a sign
	// that it doesn't read. What may be stored bounds it.
	if x.backlog() > x.hub.cfg.Limits.OutboxBytes {
		x.overflow = true
		x.hub.post(x.jid.Bare(), &overflowed{x})
	}
	x.wake()
	return true
}

func (x *session) push(data []byte, t tag) {
	if x.asleep {
		x.askToRouse()
	}
	if x.answers > 0 && !t.room || x.answers > maxRooms*x.hub.cfg.Limits.OutboxBytes {
		t.answer = 0 // one at a time is beside the bound, and so many rooms at a time
	}
	x.answers += t.answer
	x.out.Push(sm.Entry[tag]{Data: data, Tag: t})
	if t.failure {
		x.failures++
	}
}

// cork holds the connection back while a burst is put into the queue; uncork lets
// it write all of it.
func (x *session) cork() {
	x.mu.Lock()
	x.corked = true
	x.mu.Unlock()
}

func (x *session) uncork() {
	x.mu.Lock()
	x.corked = false
	x.wake()
	x.mu.Unlock()
}

// holdBack keeps presence and chat states of an inactive client, the newest of
// each sender (XEP-0352 5). It reports false when so much is held already that
// the client may as well have it.
func (x *session) holdBack(data []byte, t tag) bool {
	for i := range x.held {
		if old := &x.held[i]; old.Tag.from == t.from && old.Tag.wait == t.wait {
			x.heldBytes += len(data) - len(old.Data)
			*old = sm.Entry[tag]{Data: data, Tag: t}
			return true
		}
	}
	if len(x.held) >= maxHeld {
		return false
	}
	x.held = append(x.held, sm.Entry[tag]{Data: data, Tag: t})
	x.heldBytes += len(data)
	return true
}

func (x *session) flushHeld() {
	for _, e := range x.held {
		x.push(e.Data, e.Tag)
	}
	x.held, x.heldBytes = nil, 0
}

// SetActive is XEP-0352 4.1.
func (x *session) SetActive(active bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.inactive = !active
	if active {
		x.used = x.hub.cfg.Now()
		x.flushHeld()
	}
	x.wake()
}

// Send queues a complete stanza, waiting while the queue is half full. The
// error is the context's, or ErrEnded.
func (x *session) Send(ctx context.Context, data []byte) error {
	return x.SendAll(ctx, [][]byte{data})
}

// Flush waits until the connection has taken all that is queued, or there is
// none.
func (x *session) Flush(ctx context.Context) error {
	return x.awaitRoom(ctx, func() (done bool, err error) {
		return x.ended || x.transport == nil || x.out.Waiting() == 0, nil
	})
}

// SendAll is Send for several stanzas.
func (x *session) SendAll(ctx context.Context, stanzas [][]byte) error {
	return x.awaitRoom(ctx, func() (done bool, err error) {
		if x.ended || x.overflow {
			return false, ErrEnded
		}
		x.flushHeld()
		for len(stanzas) > 0 && x.hasRoom() {
			x.push(stanzas[0], tag{})
			stanzas = stanzas[1:]
		}
		x.wake()
		if len(stanzas) > 0 && x.claim != nil {
			// A connection waits to resume the session, and nobody reads the queue
			// until it has.
			return false, ErrEnded
		}
		return len(stanzas) == 0, nil
	})
}

// roomForMore waits while the queue is half full.
func (x *session) roomForMore(ctx context.Context) error {
	return x.awaitRoom(ctx, func() (done bool, err error) {
		if x.ended || x.overflow || x.claim != nil {
			return false, ErrEnded
		}
		return x.hasRoom(), nil
	})
}

// awaitRoom calls try, with mu held, at once and whenever the queue has shrunk,
// until it is done. The error is try's or the context's.
func (x *session) awaitRoom(ctx context.Context, try func() (done bool, err error)) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		if done, err := try(); done || err != nil {
			return err
		}
		room := x.room.next()
		x.mu.Unlock()
		select {
		case <-room:
			x.mu.Lock()
		case <-ctx.Done():
			x.mu.Lock()
			return ctx.Err()
		}
	}
}

// hasRoom reports whether the queue is less than half full. mu is held.
func (x *session) hasRoom() bool { return x.out.Bytes() < x.hub.cfg.Limits.OutboxBytes/2 }

// Ask sends an IQ get from the server to the client and waits for the answer.
// Besides what the client answers, the error is resource-constraint for too
// many questions at once, ErrEnded or the context's.
func (x *session) Ask(ctx context.Context, payload string) (*stanza.Stanza, error) {
	id, ch := x.hub.cfg.newID(), make(chan *stanza.Stanza, 1)
	if err := x.question(id, ch); err != nil {
		return nil, err
	}
	defer func() {
		x.mu.Lock()
		delete(x.questions, id)
		x.mu.Unlock()
	}()
	x.deliver(stanza.Build(stanza.IQ, stanza.TypeGet, id, x.jid.DomainJID(), x.jid, payload).AppendTo(nil), tag{})
	select {
	case st, ok := <-ch:
		switch {
		case !ok:
			return nil, ErrEnded
		case st.Type != stanza.TypeError:
			return st, nil
		}
		if e := st.ParseError(); e != nil {
			return nil, e
		}
		return nil, stanza.NewError(stanza.UndefinedCondition, "")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (x *session) question(id string, ch chan *stanza.Stanza) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return ErrEnded
	}
	if len(x.questions) >= maxQuestions {
		return stanza.NewError(stanza.ResourceConstraint, "too many questions to one client")
	}
	if x.questions == nil {
		x.questions = map[string]chan *stanza.Stanza{}
	}
	x.questions[id] = ch
	return nil
}

// answered takes a result or an error from the client as the answer to Ask.
func (x *session) answered(st *stanza.Stanza) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ch := x.questions[st.ID]; ch != nil {
		delete(x.questions, st.ID)
		ch <- st // buffered
	}
}

// giveUp takes what the session is still owed out of its queue; nothing can be
// delivered to it any more. The transport, if it is to be ended, is returned.
func (x *session) giveUp() (Transport, []sm.Entry[tag]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rest := x.out.Drain()
	x.answers = 0
	x.held, x.heldBytes, x.failures = nil, 0, 0
	tr := x.transport
	if x.told {
		tr = nil
	}
	x.transport, x.claim, x.ended = nil, nil, true
	x.ackDue, x.askDue, x.ackAt = false, false, 0
	x.asleep, x.rousing, x.waits = false, false, false
	x.room.ring()
	x.credit.ring()
	for id, ch := range x.questions {
		delete(x.questions, id)
		close(ch)
	}
	return tr, rest
}

// ReadingArchive implements feature.SessionRef.
func (x *session) ReadingArchive() (done func(told bool)) {
	x.mu.Lock()
	x.reading++
	x.mu.Unlock()
	return func(told bool) {
		x.mu.Lock()
		x.reading--
		x.queried = x.queried || told
		x.mu.Unlock()
		if !told {
			x.hub.post(x.jid.Bare(), &archiveUnread{x})
		}
	}
}

// readsArchive reports whether the session has read the archive or is about to.
func (x *session) readsArchive() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.queried || x.reading > 0
}

func (x *session) connID() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.conn
}

// interested and setInterest are the loop's.
func (x *session) interested(space string) bool { return slices.Contains(x.interests, space) }

func (x *session) setInterest(space string) {
	if !x.interested(space) && len(x.interests) < maxInterests {
		x.interests = append(x.interests, space)
	}
}
