package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"carillon.im/client"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// ErrNoRoom is Enter's answer for an address that isn't a room's.
var ErrNoRoom = errors.New("account: not a room")

// Bounds of rooms.
const (
	maxRooms  = 256              // that an account is in; more aren't entered
	enterWait = 20 * time.Second // for a room's answer
	reenter   = 10 * time.Second // before who was put out for no fault of his enters again
	untold    = 20               // messages that a room without an archive is asked for
)

// room is a room that the program has entered, or wants to. It is the owner's.
type room struct {
	nick     string
	password string          // of the room; a secret
	facts    convo.RoomFacts // what it offers, and who the account is there
	known    bool            // it has said what it offers, now or to the program before
	then     []func()        // what is done when it has said so, or can't; none: it isn't asked
	in       bool            // in this session
	streams  bool            // entered by the session request, for which it tells what was missed
	again    time.Time       // when it is entered again; zero: with the next session
	answer   chan error      // of who waits for the room's answer; nil: nobody
}

// offers takes what a room offers.
func (r *room) offers(info xep.DiscoInfo) {
	has := func(feature string) bool { return slices.Contains(info.Features, feature) }
	r.known = true
	r.facts = convo.RoomFacts{Archive: has(xep.NSMAM), IDs: has(xep.NSStanzaID), Occupants: has(xep.NSOccupantID), Sync: has(xep.NSMAM) && has(xep.NSXMPP2),
		Mine: has(xep.NSMine), Occupant: r.facts.Occupant}
}

func (r *room) tell(err error) {
	if r.answer != nil {
		r.answer <- err
		r.answer = nil
	}
}

// Enter enters a room under a nickname (XEP-0045 7.2), one that isn't there yet as its owner (10.1.2), and again at the start of each session, until
// Leave. A nickname of "" is the one that the account has there, else its local part. The room's password, "" for none or the one that let it in before, is in memory alone, for as long as the account is in the room. It returns when the room has answered: nil, ErrNoRoom, a *stanza.Error of the room's, or why there was no answer.
func (a *Account) Enter(ctx context.Context, j jid.JID, nick, password string) error {
	ctx, cancel := context.WithTimeout(ctx, enterWait)
	defer cancel()
	j = j.Bare()
	in := false
	if err := a.call(ctx, func() {
		if r := a.rooms[j]; r != nil && nick == "" {
			nick = r.nick
		}
		in = a.rooms[j] != nil && a.rooms[j].in && a.rooms[j].nick == nick
	}); err != nil || in {
		return err
	}
	if nick == "" {
		nick = a.cfg.Client.Account.Local()
	}
	if _, err := j.WithResource(nick); err != nil {
		return fmt.Errorf("account: %q can't be a nickname", nick)
	}
	service, err := a.discover(ctx, j.DomainJID())
	if _, refused := errors.AsType[*stanza.Error](err); refused || err == nil && !slices.Contains(service.Features, xep.NSMUC) {
		return ErrNoRoom
	}
	if err != nil {
		return err
	}
	r := &room{nick: nick, password: password, answer: make(chan error, 1)}
	answer := r.answer
	if info, err := a.discover(ctx, j); err == nil {
		r.offers(info)
	}
	if err := a.call(ctx, func() { a.enter(j, r) }); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// enter is for the owner.
func (a *Account) enter(j jid.JID, r *room) {
	switch old := a.rooms[j]; {
	case old != nil && old.in && old.nick == r.nick:
		r.tell(nil)
		return
	case old != nil:
		old.tell(context.Canceled)
		if r.password == "" {
			r.password = old.password
		}
	case len(a.rooms) >= maxRooms:
		r.tell(fmt.Errorf("account: in %d rooms already", maxRooms))
		return
	}
	a.rooms[j] = r
	a.apply(convo.Entering{JID: j})
	a.join(j, r)
}

// Leave leaves a room (XEP-0045 7.14); what was said in it stays.
func (a *Account) Leave(ctx context.Context, j jid.JID) error {
	return a.call(ctx, func() {
		j := j.Bare()
		if r := a.rooms[j]; r != nil {
			a.toRoom(j, r.nick, stanza.TypeUnavailable, "")
		}
		a.forget(j)
	})
}

// join sends the presence that enters a room. Where it has an archive it needn't tell what was said.
func (a *Account) join(j jid.JID, r *room) {
	history := untold
	if r.facts.Archive {
		history = 0
	}
	r.again, r.streams = time.Time{}, false
	password := ""
	if r.password != "" { // XEP-0045 7.2.5
		password = "<password>" + string(xmltree.AppendText(nil, r.password)) + "</password>"
	}
	a.toRoom(j, r.nick, stanza.TypeAvailable, fmt.Sprintf("<x xmlns='%s'><history maxstanzas='%d'/>%s</x>", xep.NSMUC, history, password))
}

func (a *Account) toRoom(j jid.JID, nick, typ, payload string) {
	to, err := j.WithResource(nick)
	if err != nil {
		return // of a store that somebody has changed
	}
	a.send(convo.Send{Stanza: stanza.Build(stanza.Presence, typ, "", jid.JID{}, to, payload)})
}

// noteRoom remembers how a session request is to enter a room, and from where it is caught up with.
func (a *Account) noteRoom(j jid.JID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.rooms[j]
	if r == nil || !r.facts.Sync || a.cfg.Live {
		delete(a.joinable, j)
		return
	}
	if full, err := j.WithResource(r.nick); err == nil {
		a.joinable[j] = client.Room{JID: j, Nick: full.Resource(), Password: r.password, Sync: a.engine.RoomSync(j)}
	}
}

// forget is that the account isn't in a room any more, nor wants to be.
func (a *Account) forget(j jid.JID) {
	if r := a.rooms[j]; r != nil {
		r.tell(context.Canceled)
	}
	delete(a.rooms, j)
	a.noteRoom(j)
	a.apply(convo.Room{JID: j})
}

// joins are the rooms to enter with the login. It is called by the client's goroutine, which doesn't wait for the owner.
func (a *Account) joins() []client.Room {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.joinable), func(a, b client.Room) int { return strings.Compare(a.JID.String(), b.JID.String()) })
}

// rejoin enters the rooms in which a connection doesn't find itself: those that the session request has not entered already.
func (a *Account) rejoin(on *client.Connected) {
	requested := map[jid.JID]bool{}
	for _, part := range on.Session {
		if j, err := jid.Parse(part.Room); err == nil && part.Part == xep.SessionJoin && part.Err == nil {
			requested[j] = true
		}
	}
	for j, r := range a.rooms {
		if on.Resumed && r.in {
			continue
		}
		if r.in, r.again = false, (time.Time{}); !on.Resumed && requested[j] {
			r.streams = true
			continue
		}
		if r.known {
			a.join(j, r)
		} else {
			a.ask(j, r, func() { a.join(j, r) })
		}
	}
}

// ask asks a room what it offers, and does something when that is known, or can't be.
func (a *Account) ask(j jid.JID, r *room, then func()) {
	if r.then = append(r.then, then); len(r.then) > 1 {
		return
	}
	a.wg.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, enterWait)
		defer cancel()
		info, err := a.discover(ctx, j)
		_ = a.call(a.ctx, func() {
			todo := r.then
			if r.then = nil; a.rooms[j] != r {
				return
			}
			if err == nil {
				r.offers(info)
			}
			for _, do := range todo {
				do()
			}
		})
	})
}

// reenter enters rooms again that have put the account out, or couldn't be reached.
func (a *Account) reenter() {
	for j, r := range a.rooms {
		if !r.in && !r.again.IsZero() && !a.now().Before(r.again) && a.Status().Online {
			a.join(j, r)
		}
	}
}

// heardRoom takes a room's answers about the own presence (XEP-0045 7.2.2, 7.2.5, 7.14).
func (a *Account) heardRoom(st *stanza.Stanza) {
	j := st.From.Bare()
	r := a.rooms[j]
	if r == nil || st.Kind != stanza.Presence {
		return
	}
	switch {
	case st.Type == stanza.TypeError && !r.in:
		a.shutOut(j, r, st)
	case st.Type == stanza.TypeUnavailable && r.in && hasStatus(st, "110") && !hasStatus(st, "303"): // not another name: out
		if hasStatus(st, "332") || hasStatus(st, "333") { // for the room's sake
			r.in, r.again = false, a.now().Add(reenter)
			a.tellRoom(j, r, true)
			return
		}
		a.forget(j)
	case st.Type == stanza.TypeAvailable && hasStatus(st, "110") && st.From.IsFull():
		r.in, r.nick = true, st.From.Resource() // the room may have chosen another
		if r.facts.Occupants {
			r.facts.Occupant = st.Child(xep.NSOccupantID, "occupant-id").Attr("id")
		}
		a.tellRoom(j, r, false)
		if !hasStatus(st, "201") {
			r.tell(nil)
			return
		}
		a.wg.Go(func() {
			err := a.open(j)
			_ = a.call(a.ctx, func() {
				a.ask(j, r, func() { // it had nothing to offer before it was there
					r.facts.Occupant = st.Child(xep.NSOccupantID, "occupant-id").Attr("id")
					a.tellRoom(j, r, false)
					r.tell(err)
				})
			})
		})
	}
}

// shutOut takes a room's refusal.
func (a *Account) shutOut(j jid.JID, r *room, st *stanza.Stanza) {
	err := st.ParseError()
	if err == nil {
		err = stanza.NewError(stanza.UndefinedCondition, "")
	}
	switch {
	case r.streams && err.Condition == stanza.ItemNotFound: // the session request makes no rooms
		a.join(j, r)
		return
	case err.Condition == stanza.NotAuthorized:
		r.password = "" // it is wrong
		a.noteRoom(j)
	case err.Type == stanza.Wait, err.Condition == stanza.RemoteServerNotFound:
		r.again = a.now().Add(6 * reenter)
	}
	r.tell(err)
	if a.engineRoom(j) {
		return // it was in it once: it tries again in the next session
	}
	a.forget(j)
}

// reconfigured asks a room what it offers when it says that it was changed (XEP-0045 10.2.1).
func (a *Account) reconfigured(st *stanza.Stanza) {
	if r := a.rooms[st.From]; r != nil && r.in && len(r.then) < 2 && st.Type == stanza.TypeGroupchat && hasStatus(st, "104") {
		a.ask(st.From, r, func() { a.tellRoom(st.From, r, false) })
	}
}

// tellRoom tells the engine that the account is in a room, or is put out for a while.
func (a *Account) tellRoom(j jid.JID, r *room, away bool) {
	ev := convo.Room{JID: j, Nick: r.nick, Joined: true, Away: away, Streamed: r.streams, RoomFacts: r.facts}
	if a.cfg.Live {
		ev.Archive, ev.Streamed, ev.IDs = false, false, ev.IDs || ev.Archive
	}
	if !away && !r.in {
		return
	}
	r.streams = false
	a.noteRoom(j)
	a.apply(ev)
}

// hasStatus reports whether a room's stanza has a status code (XEP-0045 15.6).
func hasStatus(st *stanza.Stanza, code string) bool {
	for c := range st.Child(xep.NSMUCUser, "x").Children() {
		if c.Is(xep.NSMUCUser, "status") && c.Attr("code") == code {
			return true
		}
	}
	return false
}

// open opens a room that was made just now, as it is (XEP-0045 10.1.2).
func (a *Account) open(j jid.JID) error {
	submit := "<query xmlns='" + xep.NSMUCOwner + "'><x xmlns='jabber:x:data' type='submit'/></query>"
	_, err := a.client.IQ(a.ctx, stanza.Build(stanza.IQ, stanza.TypeSet, "", jid.JID{}, j, submit))
	return err
}

// engineRoom reports whether the engine knows the account to be in a room.
func (a *Account) engineRoom(j jid.JID) bool {
	return slices.ContainsFunc(a.engine.Conversations(), func(s convo.Summary) bool { return s.Room && s.JID == j })
}
