// Package room owns the rooms of a server, for conversations of many (XEP-0045).
//
// The model: every room is a State that one loop owns; a loop owns many. A stanza
// for a room, the store's answers and what was read are events; apply changes the
// state and lists effects, which the loop carries out. A room does one thing at a
// time: what must be on disk, a message or a change of who may do what, is decided,
// committed and then told, and what comes meanwhile waits; only messages to all, of
// which none changes how the others are judged, are committed together. So nobody is
// ever told of anything that is not there, a commit that fails leaves all as it was,
// and everybody hears everything in the order of the archive. A room in which nobody
// is, is forgotten; the next who asks for it has it read. See DESIGN.md.
package room

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Config is what a Hub is made of; all of it is needed.
type Config struct {
	Domains []string // of rooms, prepared
	Store   *store.Store
	Log     *slog.Logger
	Now     func() time.Time
	Secret  []byte // of occupant ids; always the same
	// Deliver takes what rooms say, in order, addressed to whomever. It must not
	// block, and is called by many goroutines.
	Deliver func([]*stanza.Stanza)
	// Home reports whether somebody is of this server. To his sessions Stream sends
	// stanzas, complete and in order behind what Deliver took, waiting while much is
	// owed to the session; the error is the context's, or says that it is no more.
	// Both are called concurrently.
	Home   func(jid.JID) bool
	Stream func(ctx context.Context, to jid.JID, stanzas [][]byte) error
	// MayCreate reports whether somebody may make a room.
	MayCreate func(jid.JID) bool
	Limits    Limits
	History   int // messages that who enters gets, where a room's owner says nothing
	Loops     int // that share the rooms
}

// Limits bound what rooms may cost.
type Limits struct {
	Rooms        int // of the server
	RoomsPerUser int // that one person has made
	Occupants    int // of one room
	Affiliations int // of one room, all lists together
	PerUser      int // stanzas a second from one person to one room, with bursts of ten seconds' worth; 0: no limit
	PerRoom      int // messages to all a second, likewise
	Page         int // messages in one answer from an archive
}

// Stats are counters for metrics; read them at any time.
type Stats struct {
	Loaded   atomic.Int64  // rooms in memory now
	Messages atomic.Uint64 // stanzas for rooms
	Sent     atomic.Uint64 // stanzas that rooms have sent
	Refused  atomic.Uint64 // stanzas that found the mailbox full
	Panics   atomic.Uint64 // recovered; each is a bug
}

// Hub is all rooms of a server. Its methods may be called concurrently.
type Hub struct {
	cfg     Config
	domains map[string]bool
	stats   Stats
	loops   []*loop
	seed    maphash.Seed
	reads   chan struct{} // bounds concurrent reads of the store
	names   atomic.Uint64 // unique ones given
	waits   atomic.Int64  // reads that wait for their turn
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New deletes the temporary rooms of an earlier run, makes a Hub and starts its
// loops; Close ends them.
func New(ctx context.Context, cfg Config) (*Hub, error) {
	if err := cfg.Store.RemoveTemporaryRooms(ctx); err != nil {
		return nil, err
	}
	h := &Hub{cfg: cfg, domains: map[string]bool{}, seed: maphash.MakeSeed(), reads: make(chan struct{}, 8)}
	h.ctx, h.stop = context.WithCancel(context.Background())
	for _, d := range cfg.Domains {
		h.domains[d] = true
	}
	for range max(1, cfg.Loops) {
		l := newLoop(h)
		h.loops = append(h.loops, l)
		h.running.Go(l.run)
	}
	return h, nil
}

// Stats are the hub's counters.
func (h *Hub) Stats() *Stats { return &h.stats }

// Has reports whether a domain is one of rooms.
func (h *Hub) Has(domain string) bool { return h.domains[domain] }

// Own reports true: rooms are a service of this server.
func (h *Hub) Own() bool { return true }

// Send takes a stanza for a room, an occupant or the service. It doesn't block. The
// error is nil if it was taken, and otherwise what its sender is to be told: too
// much waits.
func (h *Hub) Send(st *stanza.Stanza) *stanza.Error { return h.send(st, nil) }

// Keep is Send of a message that its sender takes for kept once taken is called: what
// the room makes of it is then on disk, or its sender has been told that nothing
// is (R-ARCH-3). taken isn't called if there is an error.
func (h *Hub) Keep(st *stanza.Stanza, taken func()) *stanza.Error { return h.send(st, taken) }

func (h *Hub) send(st *stanza.Stanza, taken func()) *stanza.Error {
	h.stats.Messages.Add(1)
	if st.To.Local() == "" {
		e := h.service(st)
		if e == nil && taken != nil {
			taken()
		}
		return e
	}
	bare := st.To.Bare()
	if !h.loop(bare).post(bare, &arrive{st, taken}, true) {
		h.stats.Refused.Add(1)
		return crowded()
	}
	return nil
}

func crowded() *stanza.Error {
	return stanza.NewError(stanza.ResourceConstraint, "too much waits for the rooms")
}

// loop finds the loop that owns a room.
func (h *Hub) loop(room jid.JID) *loop {
	return h.loops[maphash.String(h.seed, room.String())%uint64(len(h.loops))]
}

// post hands an event of the room's own to its owner.
func (h *Hub) post(room jid.JID, ev event) { h.loop(room).post(room, ev, false) }

// deliver sends what was made off the loop.
func (h *Hub) deliver(list []*stanza.Stanza) {
	h.stats.Sent.Add(uint64(len(list)))
	h.cfg.Deliver(list)
}

// read runs f off the loop, a few at a time. Each room has at most one going; what
// senders ask for beside goes through answer.
func (h *Hub) read(f func()) {
	h.waits.Add(1)
	h.running.Go(func() {
		select {
		case h.reads <- struct{}{}:
			f()
			<-h.reads
		case <-h.ctx.Done():
		}
		h.waits.Add(-1)
	})
}

// answer makes an answer off the loop, unless too many are being made.
func (h *Hub) answer(st *stanza.Stanza, f func() []*stanza.Stanza) {
	if h.waits.Load() >= maxReads {
		h.deliver([]*stanza.Stanza{st.ErrorReply(crowded())})
		return
	}
	h.read(func() { h.deliver(f()) })
}

// maxReads bounds the requests that wait for the store, of all rooms.
const maxReads = 1024

// readRoom reads a room from the store, with what who enters is shown.
func (h *Hub) readRoom(room jid.JID) {
	h.read(func() {
		ev := &loaded{}
		if ev.row, ev.err = h.cfg.Store.LoadRoom(h.ctx, room); ev.err == nil {
			q := store.ArchiveQuery{Account: ev.row.ID, Max: maxHistory, Backward: true}
			_, ev.err = h.cfg.Store.Archive(h.ctx, q, func(m store.ArchivedMessage) error {
				ev.past = append(ev.past, store.ArchivedMessage{ID: m.ID, Stanza: append([]byte(nil), withoutReal(m.Stanza)...)})
				return nil
			})
		}
		if ev.err != nil && !errors.Is(ev.err, store.ErrNotFound) && h.ctx.Err() == nil {
			h.cfg.Log.Error("room can't be read", "room", room, "error", ev.err)
		}
		h.post(room, ev)
	})
}

// value reads a value that may be absent: then it is nil.
func (h *Hub) value(account store.AccountID, space, key string) ([]byte, error) {
	v, err := h.cfg.Store.KVGet(h.ctx, account, space, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// GoAway tells everybody in every room that the service goes away (XEP-0045 11.2),
// while there is somebody to hear it.
func (h *Hub) GoAway(ctx context.Context) {
	for _, l := range h.loops {
		told := make(chan struct{})
		l.tell(func(l *loop) bool {
			l.goAway()
			close(told)
			return false
		})
		select {
		case <-told:
		case <-ctx.Done():
		}
	}
}

// Close ends the loops, or what is left of them when ctx ends.
func (h *Hub) Close(ctx context.Context) error {
	for _, l := range h.loops {
		l.tell(func(*loop) bool { return true })
	}
	ended := make(chan struct{})
	go func() {
		for _, l := range h.loops {
			<-l.closed
		}
		h.stop()
		h.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		h.stop()
		return context.Cause(ctx)
	}
}

// service is a stanza to a domain of rooms itself.
func (h *Hub) service(st *stanza.Stanza) *stanza.Error {
	switch {
	case st.Kind == stanza.Presence || st.Type == stanza.TypeError || st.Type == stanza.TypeResult:
		return nil
	case st.Kind != stanza.IQ || st.To.Resource() != "" || st.Type != stanza.TypeGet:
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	switch el := st.Payload(); {
	case el.Is(xep.NSPing, "ping"):
		h.deliver([]*stanza.Stanza{st.Reply("")})
	case el.Is(xep.NSDiscoInfo, "query") && el.Attr("node") == "":
		info := xep.DiscoInfo{Identities: []xep.Identity{{Category: "conference", Type: "text", Name: "Rooms"}},
			Features: []string{xep.NSMUC, xep.NSDiscoInfo, xep.NSDiscoItems, xep.NSPing, xep.NSRSM, xep.NSOccupantID, xep.NSMUCStableID, xep.NSMUCUnique,
				xep.NSVCard, xep.NSMAM, xep.NSHats}}
		h.deliver([]*stanza.Stanza{st.Reply(string(xep.AppendDiscoInfo(nil, "", info)))})
	case el.Is(xep.NSDiscoInfo, "query"):
		return stanza.NewError(stanza.ItemNotFound, "there is no such node")
	case el.Is(xep.NSMUCUnique, "unique"):
		h.deliver([]*stanza.Stanza{st.Reply("<unique xmlns='" + xep.NSMUCUnique + "'>" + h.unique() + "</unique>")})
	case el.Is(xep.NSDiscoItems, "query"):
		h.answer(st, func() []*stanza.Stanza { return []*stanza.Stanza{h.list(st)} })
	default:
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return nil
}

// unique is a name that no room has and nobody guesses (XEP-0307).
func (h *Hub) unique() string {
	mac := hmac.New(sha256.New, h.cfg.Secret)
	fmt.Fprint(mac, "unique", h.cfg.Now().UnixNano(), h.names.Add(1))
	return hex.EncodeToString(mac.Sum(nil)[:12])
}

// listPage is how many rooms one answer lists at most.
const listPage = 100

// list is a page of the rooms that are listed (XEP-0045 6.3).
func (h *Hub) list(st *stanza.Stanza) *stanza.Stanza {
	rsm, err := xep.ParseRSM(st.Payload().Child(xep.NSRSM, "set"))
	if err == nil && (rsm.Last || st.Payload().Attr("node") != "") {
		err = stanza.NewError(stanza.FeatureNotImplemented, "rooms are listed from the first on")
	}
	if err != nil {
		return st.ErrorReply(storeError(err))
	}
	size := listPage
	if rsm.Max >= 0 {
		size = min(size, rsm.Max)
	}
	domain := st.To.Domain()
	rooms, err := h.cfg.Store.Rooms(h.ctx, domain, rsm.After, false, size)
	n := 0
	if err == nil {
		n, err = h.cfg.Store.RoomCount(h.ctx, domain, false)
	}
	if err != nil {
		return st.ErrorReply(storeError(err))
	}
	items := make([]xep.DiscoItem, 0, len(rooms))
	first, last := "", ""
	for _, r := range rooms {
		items = append(items, xep.DiscoItem{JID: r.JID, Name: r.Name})
		if last = r.JID.String(); first == "" {
			first = last
		}
	}
	var set []byte
	if n > len(items) || rsm != xep.NoRSM() {
		set = xep.AppendRSM(nil, first, last, n)
	}
	return st.Reply(string(xep.AppendDiscoItemsPage(nil, "", items, string(set))))
}
