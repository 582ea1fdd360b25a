package room

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// State is one room. Its loop alone uses it.
type State struct {
	cfg  *Config
	jid  jid.JID // bare
	load loadState
	busy []*change // what waits for the store, in order: one change, or messages to all
	wait []*arrive // what came while the room was busy or being read

	id      store.AccountID // of its archive
	lastID  store.ArchiveID // of what is on disk
	givenID store.ArchiveID // the last that nextID made, whatever became of it
	opt     Options
	members map[jid.JID]*membership // who has an affiliation; domains too
	topic   *stanza.Stanza          // the message that set the subject; nil for none
	locked  bool                    // its owner hasn't configured it yet (XEP-0045 10.1)

	occupants []*occupant // in the order in which they came
	nicks     map[string]*occupant
	visits    map[jid.JID]*visit // by real address
	history   []past             // the newest, oldest first
	kept      int                // bytes in it
	forgot    bool               // there were more

	voices     map[jid.JID]role // who was given voice, or had it taken, by user
	applicants map[jid.JID]bool // whose request to register waits for an admin

	requests map[string]request // IQs of occupants to others that wait for an answer
	asked    uint64             // requests so far
	answers  uint64             // those of them that wait no more
	rate     bucket             // messages to all
	rates    map[jid.JID]*bucket
	used     time.Time // when something last happened
}

type loadState uint8

const (
	unread  loadState = iota
	reading           // the store is being asked
	missing           // there is no such room
	ready
)

// membership is somebody's long-lived relation with the room.
type membership struct {
	affiliation  affiliation
	nick, reason string
	like         string // the nick's skeleton, once it is in the room's list
}

// occupant is somebody in the room, with one nick and one or more sessions.
type occupant struct {
	nick   string
	jid    jid.JID // by which others know him
	user   jid.JID // bare
	like   string  // the nick's skeleton
	id     string  // XEP-0421
	role   role
	asked  time.Time // when he last asked for voice
	visits []*visit  // the one whose presence is shown stands last
	forms  [2]*stanza.Stanza
}

// visit is one session of an occupant.
type visit struct {
	jid     jid.JID // full
	who     *occupant
	payload string   // of its presence
	behind  *catchUp // nil: it hears what is said
}

// past is a message that was sent to all.
type past struct {
	id   store.ArchiveID // 0: it isn't archived
	at   time.Time
	from *stanza.Stanza
	size int
}

// change is what the store is asked for. When it is there, or has failed, and so is
// what was asked for before, done goes on. Meanwhile the state hasn't changed in
// anything by which the change was judged.
type change struct {
	talk     bool // it is a message to all, which changes nothing but the history
	done     func(fx *effects, answer any, err error)
	taken    func() // of the stanza that it comes from; may be nil
	answered bool
	answer   any
	err      error
}

// request is an IQ that an occupant sent to another.
type request struct {
	asker, to jid.JID // real addresses
	id        string
	shown     jid.JID // whom the asker asked, by his address in the room
}

// event is something that happened to a room.
type event interface {
	apply(s *State, fx *effects)
}

// arrive is a stanza for the room or one of its occupants. taken, if there is one,
// is called once it has been dealt with: what it says is on disk and on its way,
// or it was answered.
type arrive struct {
	stanza *stanza.Stanza
	taken  func()
}

// loaded is what the store knows of the room.
type loaded struct {
	row  store.RoomRow
	past []store.ArchivedMessage // oldest first
	err  error
}

// done is the store's answer to a change.
type done struct {
	of     *change
	answer any
	err    error
}

// effects is what an event wants done: first stanzas to be sent, in order, then
// tasks, then who waits to be told.
type effects struct {
	now   time.Time
	send  []*stanza.Stanza
	tasks []func(h *Hub) // must not block
	done  []func()
}

func newState(cfg *Config, room jid.JID) *State {
	return &State{cfg: cfg, jid: room, nicks: map[string]*occupant{}, visits: map[jid.JID]*visit{}, members: map[jid.JID]*membership{},
		requests: map[string]request{}, rates: map[jid.JID]*bucket{}}
}

// maxWaiting bounds what waits for one room, maxTalk the messages to all that wait for
// the store together.
const (
	maxWaiting = 1000
	maxTalk    = 256
)

func (ev *arrive) apply(s *State, fx *effects) {
	s.used = fx.now
	switch {
	case len(s.wait) == 0 && s.free(ev.stanza):
		s.begin(ev, fx)
	case len(s.wait) >= maxWaiting:
		s.refuse(ev.stanza, stanza.NewError(stanza.ResourceConstraint, "the room has too much to do"), fx)
		s.finish(ev.taken, len(s.busy), fx)
	default:
		s.wait = append(s.wait, ev)
		if s.load == unread {
			s.load = reading
			room := s.jid
			fx.task(func(h *Hub) { h.readRoom(room) })
		}
	}
}

// free reports whether nothing is in a stanza's way: nothing waits for the store, or
// nothing but messages to all, and this is one more. How the ones are judged doesn't
// depend on the others, and they are told in their order.
func (s *State) free(st *stanza.Stanza) bool {
	return s.load >= missing && (len(s.busy) == 0 || s.busy[0].talk && len(s.busy) < maxTalk && isTalk(st))
}

// isTalk: a message to all that sets no subject and takes nothing back.
func isTalk(st *stanza.Stanza) bool {
	return st.Kind == stanza.Message && st.Type == stanza.TypeGroupchat && !st.To.IsFull() &&
		st.Child(stanza.NSClient, "subject").IsZero() && st.Child(xep.NSRetract, "retract").IsZero()
}

// begin is the turn of what has arrived.
func (s *State) begin(ev *arrive, fx *effects) {
	n := len(s.busy)
	s.handle(ev.stanza, fx)
	s.finish(ev.taken, n, fx)
}

// finish calls taken once what its stanza has begun has come to its end. Of what the
// room is busy with all but n has been begun by it.
func (s *State) finish(taken func(), n int, fx *effects) {
	switch {
	case taken == nil:
	case len(s.busy) > n:
		s.busy[n].taken = taken
	default:
		fx.done = append(fx.done, taken)
	}
}

// next goes on with what has waited.
func (s *State) next(fx *effects) {
	for len(s.wait) > 0 && s.free(s.wait[0].stanza) {
		ev := s.wait[0]
		s.wait[0], s.wait = nil, s.wait[1:]
		s.begin(ev, fx)
	}
	if len(s.wait) == 0 {
		s.wait = nil
	}
}

func (ev *loaded) apply(s *State, fx *effects) {
	switch {
	case s.load != reading: // a bug has put an end to what asked for it
		return
	case errors.Is(ev.err, store.ErrNotFound):
		s.load = missing
	case ev.err != nil:
		s.load = unread
		waiting := s.wait
		s.wait = nil
		for _, w := range waiting {
			s.refuse(w.stanza, storeError(ev.err), fx)
			s.finish(w.taken, len(s.busy), fx)
		}
	default:
		s.fill(ev, fx.now)
	}
	s.next(fx)
}

func (s *State) fill(ev *loaded, now time.Time) {
	s.load, s.id, s.lastID = ready, ev.row.ID, ev.row.LastArchiveID
	var err error
	if s.opt, err = decodeOptions(ev.row.Options, s.cfg.History); err != nil {
		s.cfg.Log.Error("room's options can't be read: it has the default ones", "room", s.jid, "error", err)
		s.opt = defaultOptions(s.cfg.History)
		s.opt.MembersOnly = true // what it was may have been stricter
	}
	for _, m := range ev.row.Members {
		a, _ := parseAffiliation(m.Affiliation)
		s.setMember(m.JID, membership{affiliation: a, nick: m.Nick, reason: m.Reason})
	}
	if len(ev.row.Subject) > 0 {
		s.topic = parseOwn(ev.row.Subject)
	}
	for _, m := range ev.past {
		if st := parseOwn(m.Stanza); st != nil {
			s.remember(st, m.ID, m.ID.Time())
		}
	}
}

func (ev *done) apply(s *State, fx *effects) {
	if !slices.Contains(s.busy, ev.of) {
		return // a bug has put an end to what asked for it
	}
	ev.of.answered, ev.of.answer, ev.of.err = true, ev.answer, ev.err
	for len(s.busy) > 0 && s.busy[0].answered {
		c := s.busy[0]
		if s.busy[0], s.busy = nil, s.busy[1:]; len(s.busy) == 0 {
			s.busy = nil
		}
		n := len(s.busy)
		c.done(fx, c.answer, c.err)
		s.finish(c.taken, n, fx)
	}
	s.next(fx)
	s.afterLeave(fx) // somebody may have been dropped meanwhile
}

// commit asks for changes to be kept. Nothing else happens to the room until they
// are on disk, and then first, but that messages to all go there together; or until
// they have failed: then st, if there is one, is answered, and all is as it was
// (R-ARCH-3). What needs no keeping is done at once, or behind what was said before.
func (s *State) commit(st *stanza.Stanza, ops []store.Op, fx *effects, then func(fx *effects)) {
	switch {
	case len(ops) > 0:
		s.await(st, fx, func(h *Hub, tell func(any, error)) {
			h.cfg.Store.Submit(store.Unit{Ops: ops, Done: func(err error) { tell(nil, err) }})
		}, func(fx *effects, _ any) { then(fx) })
	case len(s.busy) > 0:
		s.busy = append(s.busy, &change{answered: true, done: func(fx *effects, _ any, _ error) { then(fx) }})
	default:
		then(fx)
	}
}

// await asks the store for something. If it fails, st is answered with an error.
func (s *State) await(st *stanza.Stanza, fx *effects, ask func(h *Hub, tell func(any, error)), then func(fx *effects, answer any)) {
	c := &change{done: func(fx *effects, answer any, err error) {
		if err == nil {
			then(fx, answer)
		} else if st != nil {
			s.refuse(st, storeError(err), fx)
		}
	}}
	s.busy = append(s.busy, c)
	room := s.jid
	fx.task(func(h *Hub) { ask(h, func(answer any, err error) { h.post(room, &done{c, answer, err}) }) })
}

// storeError is what a peer is told of a failing store.
func storeError(err error) *stanza.Error {
	if e, ok := stanza.AsError(err); ok {
		return e
	}
	switch {
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrBusy):
		return stanza.NewError(stanza.ResourceConstraint, "the server can't store this now")
	case errors.Is(err, store.ErrTooBig):
		return stanza.NewError(stanza.ResourceConstraint, "there are too many rooms")
	case errors.Is(err, store.ErrNotFound):
		return stanza.NewError(stanza.ItemNotFound, "")
	}
	return stanza.NewError(stanza.InternalServerError, "")
}

// handle is a stanza for the room, now that nothing is in its way.
func (s *State) handle(st *stanza.Stanza, fx *effects) {
	if st.Type != stanza.TypeError && st.Type != stanza.TypeResult && st.Type != stanza.TypeUnavailable && !s.userMay(st, fx.now) {
		e := stanza.NewError(stanza.PolicyViolation, "this is more than the room takes from one person")
		e.Type = stanza.Wait
		s.refuse(st, e, fx)
		return
	}
	switch st.Kind {
	case stanza.Presence:
		s.presence(st, fx)
	case stanza.Message:
		s.message(st, fx)
	case stanza.IQ:
		s.iq(st, fx)
	}
}

// refuse answers a stanza with an error from where it was addressed to.
func (s *State) refuse(st *stanza.Stanza, e *stanza.Error, fx *effects) {
	if st.Kind == stanza.Presence && st.Type == stanza.TypeUnavailable {
		return
	}
	if e.By.IsZero() {
		by := *e
		by.By = s.jid
		e = &by
	}
	r := st.ErrorReply(e)
	if r == nil {
		return
	}
	if st.Kind == stanza.Presence && !st.Child(xep.NSMUC, "x").IsZero() {
		// XEP-0045's examples have it, and there are clients that look for it.
		r = stanza.Build(r.Kind, r.Type, r.ID, r.From, r.To, "<x xmlns='"+xep.NSMUC+"'/>"+r.Inner())
	}
	fx.send = append(fx.send, r)
}

// fan sends one stanza, whose addresses alone differ, to many.
func (fx *effects) fan(st *stanza.Stanza, to []jid.JID) {
	all := make([]stanza.Stanza, len(to))
	for i, j := range to {
		all[i] = *st
		all[i].To = j
		fx.send = append(fx.send, &all[i])
	}
}

func (fx *effects) task(f func(h *Hub)) { fx.tasks = append(fx.tasks, f) }

func (fx *effects) to(st *stanza.Stanza, to jid.JID) { fx.fan(st, []jid.JID{to}) }

// everybody is the real addresses of all sessions.
func (s *State) everybody() []jid.JID {
	list := make([]jid.JID, 0, len(s.visits))
	for _, o := range s.occupants {
		for _, v := range o.visits {
			list = append(list, v.jid)
		}
	}
	return list
}

// affiliation is what somebody is to the room for long: by his address, else by its
// domain.
func (s *State) affiliation(who jid.JID) affiliation {
	if m := s.members[who.Bare()]; m != nil {
		return m.affiliation
	}
	if m := s.members[who.DomainJID()]; m != nil {
		return m.affiliation
	}
	return none
}

// standing is what somebody is to the room. An admin is a moderator also when he
// isn't there.
func (s *State) standing(who jid.JID) standing {
	st := standing{affiliation: s.affiliation(who)}
	if v := s.visits[who]; v != nil {
		st.role = v.who.role
	} else if st.affiliation >= admin {
		st.role = moderator
	}
	return st
}

// having lists who has an affiliation, by address.
func (s *State) having(a affiliation) []string {
	list := []string{}
	for j, m := range s.members {
		if m.affiliation == a {
			list = append(list, j.String())
		}
	}
	slices.Sort(list)
	return list
}

// occupantID is XEP-0421's: of a person in this room, always the same, and nobody
// else can make it.
func (s *State) occupantID(user jid.JID) string {
	mac := hmac.New(sha256.New, s.cfg.Secret)
	mac.Write([]byte(s.jid.String()))
	mac.Write([]byte{0})
	mac.Write([]byte(user.Bare().String()))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}

// nextID makes the next entry's id.
func (s *State) nextID(now time.Time) store.ArchiveID {
	s.givenID = max(s.lastID+1, s.givenID+1, store.ArchiveID(now.UnixMicro()))
	return s.givenID
}

// idle: nobody is there, and nothing is on its way.
func (s *State) idle() bool {
	return len(s.occupants) == 0 && len(s.busy) == 0 && len(s.wait) == 0 && s.load != reading
}

// kept is an address that outlives the stanza that it came in.
func kept(j jid.JID) jid.JID { return jid.MustParse(strings.Clone(j.String())) }

// build makes a stanza of the room's own, without an address.
func build(kind stanza.Kind, typ, id string, from jid.JID, payload []byte) *stanza.Stanza {
	return stanza.Build(kind, typ, id, from, jid.JID{}, string(payload))
}

// result answers an IQ.
func result(st *stanza.Stanza, payload []byte, fx *effects) {
	fx.send = append(fx.send, st.Reply(string(payload)))
}

// notInRoom is what somebody hears who isn't in the room.
func notInRoom() *stanza.Error {
	return stanza.NewError(stanza.NotAcceptable, "you are not in the room")
}

// roomUser is <x/> of muc#user without an occupant.
func roomUser(extra string, codes ...int) []byte { return xep.AppendMUCUser(nil, nil, extra, codes...) }
