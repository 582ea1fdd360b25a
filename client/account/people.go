package account

import (
	"context"
	"errors"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// People are whom the account knows, and whom it doesn't want to hear of.
type People struct {
	Contacts []xep.RosterItem // by address
	Blocked  []jid.JID
}

// People asks for the account's contacts and its block list, which stays empty where the server keeps none (XEP-0191).
func (a *Account) People(ctx context.Context) (People, error) {
	blocked, err := a.client.BlockList(ctx)
	if _, refused := errors.AsType[*stanza.Error](err); err != nil && !refused {
		return People{}, err
	}
	return People{a.client.Roster(), blocked}, nil
}

// AddContact puts somebody on the roster under a name, "" for none, lets him see the account's presence and asks for his (RFC 6121 2.3, 3.1, 3.4).
func (a *Account) AddContact(ctx context.Context, who jid.JID, name string) error {
	who = who.Bare()
	item := xep.RosterItem{JID: who, Name: name}
	for _, have := range a.client.Roster() {
		if have.JID == who {
			item.Groups = have.Groups
		}
	}
	if err := a.client.SetContact(ctx, item); err != nil {
		return err
	}
	if err := a.Answer(ctx, convo.Request{From: who}, true); err != nil {
		return err
	}
	_, err := a.client.Subscribe(ctx, who)
	return err
}

// RemoveContact takes somebody off the roster; neither sees the other's presence any more (RFC 6121 2.5).
func (a *Account) RemoveContact(ctx context.Context, who jid.JID) error {
	return a.client.RemoveContact(ctx, who.Bare())
}

// Block has the server let nothing of somebody through, and forgets what he asked (XEP-0191 3.3).
func (a *Account) Block(ctx context.Context, who jid.JID) error {
	who = who.Bare()
	if err := a.client.Block(ctx, who); err != nil {
		return err
	}
	return a.call(ctx, func() {
		for _, r := range a.engine.Requests() {
			if r.From.Bare() == who {
				a.apply(convo.Answered{From: r.From, Room: r.Room, Yes: true}) // without a refusal: to him, nobody is there
			}
		}
	})
}

// Unblock takes that back (XEP-0191 3.4).
func (a *Account) Unblock(ctx context.Context, who jid.JID) error {
	return a.client.Unblock(ctx, who.Bare())
}

// Answer answers a request of somebody's. Who is let in sees the account's presence from now on; a room that is accepted is entered with Enter.
func (a *Account) Answer(ctx context.Context, r convo.Request, yes bool) error {
	if r.Room.IsZero() {
		answer := a.client.Deny
		if yes {
			answer = a.client.Approve
		}
		if _, err := answer(ctx, r.From); err != nil {
			return err
		}
	}
	return a.call(ctx, func() { a.apply(convo.Answered{From: r.From, Room: r.Room, Yes: yes}) })
}

// Invite invites somebody into a room that the account is in. It returns when the room has passed the invitation on; a *stanza.Error says that it hasn't.
func (a *Account) Invite(ctx context.Context, room, whom jid.JID, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, enterWait)
	defer cancel()
	id := newID()
	var refused error
	if err := a.call(ctx, func() { a.invited[id] = &refused }); err != nil {
		return err
	}
	_, err := a.client.Send(ctx, convo.Invite(id, room, whom, reason))
	if err == nil {
		err = a.Settle(ctx, room.Bare())
	}
	// Not by ctx: what was noted is to be forgotten in any case.
	if over := a.call(a.ctx, func() { delete(a.invited, id) }); over != nil {
		return over
	}
	return errors.Join(err, refused)
}

// uninvited takes a room's refusal to pass an invitation on.
func (a *Account) uninvited(st *stanza.Stanza) {
	if refused := a.invited[st.ID]; refused != nil && st.Kind == stanza.Message && st.Type == stanza.TypeError {
		*refused = stanza.NewError(stanza.UndefinedCondition, "")
		if e := st.ParseError(); e != nil {
			*refused = e
		}
	}
}
