package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	untold    = 20               // messages that a room without an archive is asked for
)

// room is a room that the program has entered, or wants to. It is the owner's.
type room struct {
	nick     string
	password string     // of the room; a secret
	archive  bool       // it has one, so that it needn't tell what was said
	mine     bool       // it knows XEP-0259 (MINE-32)
	in       bool       // in this session
	answer   chan error // of who waits for the room's answer; nil: nobody
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
		r.archive, r.mine = slices.Contains(info.Features, xep.NSMAM), slices.Contains(info.Features, xep.NSMine)
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
			r.tell(context.Canceled)
			a.toRoom(j, r.nick, stanza.TypeUnavailable, "")
			delete(a.rooms, j)
		}
		a.apply(convo.Room{JID: j})
	})
}

// join sends the presence that enters a room.
func (a *Account) join(j jid.JID, r *room) {
	history := untold
	if r.archive {
		history = 0
	}
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

// rejoin enters all rooms in a new session.
func (a *Account) rejoin() {
	for j, r := range a.rooms {
		r.in = false
		a.join(j, r)
	}
}

// heardRoom takes a room's answers about the own presence (XEP-0045 7.2.2, 7.2.5, 7.14).
func (a *Account) heardRoom(st *stanza.Stanza) {
	j := st.From.Bare()
	r := a.rooms[j]
	if r == nil || st.Kind != stanza.Presence {
		return
	}
	own := func(code string) bool {
		for c := range st.Child(xep.NSMUCUser, "x").Children() {
			if c.Is(xep.NSMUCUser, "status") && c.Attr("code") == code {
				return true
			}
		}
		return false
	}
	switch {
	case st.Type == stanza.TypeError && !r.in:
		err := st.ParseError()
		if err == nil {
			err = stanza.NewError(stanza.UndefinedCondition, "")
		}
		if err.Condition == stanza.NotAuthorized {
			r.password = "" // it is wrong
		}
		r.tell(err)
		if a.engineRoom(j) {
			return // it was in it once: it tries again in the next session
		}
		delete(a.rooms, j)
		a.apply(convo.Room{JID: j})
	case st.Type == stanza.TypeUnavailable && own("110") && !own("303"): // not another name: out
		delete(a.rooms, j)
		a.apply(convo.Room{JID: j})
	case st.Type == stanza.TypeAvailable && own("110"):
		r.in, r.nick = true, st.From.Resource() // the room may have chosen another
		a.apply(convo.Room{JID: j, Nick: r.nick, Joined: true, Mine: r.mine})
		if !own("201") {
			r.tell(nil)
			return
		}
		a.wg.Go(func() {
			err := a.open(j)
			_ = a.call(a.ctx, func() { r.tell(err) })
		})
	}
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
