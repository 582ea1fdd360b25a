package account

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Transport is the connection under a session. Both methods must not block and
// may be called from any goroutine.
type Transport interface {
	// Wake says that Session.Next has something to write.
	Wake()
	// End writes what is queued as far as that goes at once, then the stream
	// error (nil: only the end of the stream), and closes.
	End(*stanza.StreamError)
}

// Session is one bound resource, with or without a connection. Its methods may
// be called concurrently unless they say otherwise.
//
// It has three sides: the connection's reader calls Receive, the connection's
// writer calls Next, and the loop that owns the account delivers. What they
// share is under mu; the fields below "owned by the loop" are the loop's alone.
type Session struct {
	hub     *Hub
	jid     jid.JID
	conn    string
	address netip.AddrPort
	since   time.Time

	mu        sync.Mutex
	transport Transport // nil while detached
	ended     bool
	out       sm.Queue[tag]
	in        sm.Inbound
	control   []byte   // <a/> elements to write before the next stanza
	answers   []uint64 // received counts at which an <r/> came that isn't answered
	smID      string   // "" without stream management
	window    time.Duration
	requested bool // an <r/> of ours is unanswered
	overflow  bool // the queue's bound was passed; the loop is told once
	inactive  bool // XEP-0352
	held      []sm.Entry[tag]
	heldBytes int
	room      chan struct{} // closed and renewed when the queue shrinks; nil if nobody waits
	credit    chan struct{} // likewise for received stanzas being handled
	asked     map[string]chan *stanza.Stanza
	queried   bool // has read the archive

	// Owned by the loop.
	profile    route.Profile
	available  bool
	lost       bool // what it is owed was given up; it can't be resumed
	priority   int8
	presence   presence
	caps       string
	directed   map[jid.JID]struct{}
	interests  []string
	detachedAt time.Time // zero while connected
}

// tag is what the queue remembers of a stanza.
type tag struct {
	kind    tagKind
	idle    bool            // may wait while the client is inactive (XEP-0352)
	id      store.ArchiveID // of a message that is archived
	offline store.ArchiveID // of a message from the offline store
	from    jid.JID         // of presence that may wait: the next replaces it
}

// tagKind says what becomes of a stanza that the client never acknowledged.
type tagKind uint8

const (
	tagOther        tagKind = iota // nothing
	tagConversation                // kept for the next session, if no other got it
	tagExclusive                   // its sender is told (XEP-0198 4, S-5)
	tagRequest                     // an IQ: its sender is told
)

const (
	requestEvery = 16 // stanzas between two <r/>
	maxInFlight  = 256
	maxAsked     = 16
)

// ErrEnded is what a Session's methods give once it has ended.
var ErrEnded = errors.New("account: the session has ended")

// JID is the session's full JID.
func (x *Session) JID() jid.JID { return x.jid }

// Owner is the session's account.
func (x *Session) Owner() feature.AccountRef { return &accountRef{x.hub, x.jid.Bare()} }

// Receive takes one stanza from the client, in order, its from already set to
// the session's full JID; st is the account's from then on. Requests to the
// server and to bare JIDs are answered inside. It blocks while too many of the
// session's stanzas wait for their commit; only the connection's reader may
// call it. The error is a *stanza.StreamError, or the context's.
func (x *Session) Receive(ctx context.Context, st *stanza.Stanza, _ int) error {
	number, err := x.count(ctx)
	if err != nil {
		return err
	}
	if st.Kind == stanza.IQ {
		if scope, own := x.scope(st); own && !(x.isRoster(st) && scope == feature.Account) {
			x.answer(ctx, st, scope)
			x.handled(number)
			return nil
		}
	}
	x.hub.post(x.jid.Bare(), &inbound{session: x, number: number, stanza: st})
	return nil
}

// count gives a received stanza its number, waiting for room.
func (x *Session) count(ctx context.Context) (uint64, error) {
	for {
		x.mu.Lock()
		if x.in.Pending() < maxInFlight {
			n := x.in.Receive()
			x.mu.Unlock()
			return n, nil
		}
		if x.credit == nil {
			x.credit = make(chan struct{})
		}
		wait := x.credit
		x.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// scope sorts an IQ: own is true if this server answers it from its feature
// table (or takes it as an answer) rather than routing it.
func (x *Session) scope(st *stanza.Stanza) (scope feature.Scope, own bool) {
	to := st.To
	switch {
	case to.IsZero() || to == x.jid.Bare():
		return feature.Account, true
	case to.IsDomain() && x.hub.cfg.local(to.Domain()):
		return feature.Server, true
	case to.IsBare() && to.Local() != "" && x.hub.cfg.local(to.Domain()):
		return feature.Contact, true
	}
	return 0, false
}

func (x *Session) isRoster(st *stanza.Stanza) bool {
	return (st.Type == stanza.TypeGet || st.Type == stanza.TypeSet) && (st.To.IsZero() || st.To == x.jid.Bare()) &&
		st.Payload().Is(nsRoster, "query")
}

// answer answers an IQ to the server, or takes it as the answer to Ask.
func (x *Session) answer(ctx context.Context, st *stanza.Stanza, scope feature.Scope) {
	if st.Type == stanza.TypeResult || st.Type == stanza.TypeError {
		x.mu.Lock()
		ch := x.asked[st.ID]
		delete(x.asked, st.ID)
		x.mu.Unlock()
		if ch != nil {
			ch <- st // buffered
		}
		return
	}
	if st.To.IsZero() {
		st.To = x.jid.Bare()
	}
	x.deliver(x.hub.answerIQ(ctx, x, st, scope), tag{})
}

// Element takes a non-stanza element other than stream management's. The error
// is a *stanza.StreamError.
func (x *Session) Element(ctx context.Context, el xmltree.Element) error {
	d, ok := x.hub.features.Element(el.Name())
	if !ok {
		return stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, "")
	}
	d.Handle(ctx, x, el)
	return nil
}

// handled notes that a received stanza is done, and answers the client's
// requests for acknowledgement that waited for it.
func (x *Session) handled(number uint64) {
	x.mu.Lock()
	wake := false
	if x.in.Done(number) {
		wake = x.answerRequests()
		if x.credit != nil {
			close(x.credit)
			x.credit = nil
		}
	}
	t := x.transport
	x.mu.Unlock()
	if wake && t != nil {
		t.Wake()
	}
}

// deliver queues a stanza for the client. A session whose queue is full is
// detached: the loop hears of it once.
func (x *Session) deliver(data []byte, t tag) {
	x.mu.Lock()
	if x.ended {
		x.mu.Unlock()
		return
	}
	if x.inactive && t.idle {
		x.holdBack(data, t)
	} else {
		x.flushHeld()
		x.out.Push(sm.Entry[tag]{Data: data, Tag: t})
	}
	full := x.full() && !x.overflow
	if full {
		x.overflow = true
	}
	tr := x.transport
	x.mu.Unlock()
	if full {
		x.hub.post(x.jid.Bare(), &overflowed{x})
	}
	if tr != nil {
		tr.Wake()
	}
}

func (x *Session) full() bool { return x.out.Bytes()+x.heldBytes > x.hub.cfg.Limits.OutboxBytes }

// holdBack keeps presence and chat states of an inactive client, the newest of
// each sender (XEP-0352 5).
func (x *Session) holdBack(data []byte, t tag) {
	for i := range x.held {
		if !t.from.IsZero() && x.held[i].Tag.from == t.from {
			x.heldBytes += len(data) - len(x.held[i].Data)
			x.held[i] = sm.Entry[tag]{Data: data, Tag: t}
			return
		}
	}
	x.held = append(x.held, sm.Entry[tag]{Data: data, Tag: t})
	x.heldBytes += len(data)
}

func (x *Session) flushHeld() {
	for _, e := range x.held {
		x.out.Push(e)
	}
	x.held, x.heldBytes = nil, 0
}

// SetActive is XEP-0352 4.1.
func (x *Session) SetActive(active bool) {
	x.mu.Lock()
	x.inactive = !active
	if active {
		x.flushHeld()
	}
	tr := x.transport
	x.mu.Unlock()
	if tr != nil {
		tr.Wake()
	}
}

// Send queues complete stanzas, one each, waiting while the queue is more than
// half full.
func (x *Session) Send(ctx context.Context, data []byte) error {
	return x.SendAll(ctx, [][]byte{data})
}

// SendAll is Send for several stanzas.
func (x *Session) SendAll(ctx context.Context, stanzas [][]byte) error {
	for len(stanzas) > 0 {
		x.mu.Lock()
		if x.ended {
			x.mu.Unlock()
			return ErrEnded
		}
		x.flushHeld()
		for len(stanzas) > 0 && x.out.Bytes() < x.hub.cfg.Limits.OutboxBytes/2 {
			x.out.Push(sm.Entry[tag]{Data: stanzas[0]})
			stanzas = stanzas[1:]
		}
		var wait chan struct{}
		if len(stanzas) > 0 {
			if x.room == nil {
				x.room = make(chan struct{})
			}
			wait = x.room
		}
		tr := x.transport
		x.mu.Unlock()
		if tr != nil {
			tr.Wake()
		}
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Ask sends an IQ get from the server to the client and waits for the answer.
func (x *Session) Ask(ctx context.Context, payload string) (*stanza.Stanza, error) {
	id, ch := x.hub.cfg.newID(), make(chan *stanza.Stanza, 1)
	x.mu.Lock()
	if len(x.asked) >= maxAsked {
		x.mu.Unlock()
		return nil, stanza.NewError(stanza.ResourceConstraint, "too many questions to one client")
	}
	if x.asked == nil {
		x.asked = map[string]chan *stanza.Stanza{}
	}
	x.asked[id] = ch
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.asked, id)
		x.mu.Unlock()
	}()
	x.deliver(stanza.Build(stanza.IQ, stanza.TypeGet, id, x.jid.DomainJID(), x.jid, payload).AppendTo(nil), tag{})
	select {
	case st := <-ch:
		if st.Type == stanza.TypeError {
			if e := st.ParseError(); e != nil {
				return nil, e
			}
			return nil, stanza.NewError(stanza.UndefinedCondition, "")
		}
		return st, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// QueriedArchive notes that the client reads the archive (R-CONV-6).
func (x *Session) QueriedArchive() {
	x.mu.Lock()
	x.queried = true
	x.mu.Unlock()
}

func (x *Session) queriedArchive() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.queried
}

// interested and setInterest are the loop's.
func (x *Session) interested(space string) bool {
	for _, i := range x.interests {
		if i == space {
			return true
		}
	}
	return false
}

func (x *Session) setInterest(space string) {
	if !x.interested(space) {
		x.interests = append(x.interests, space)
	}
}
