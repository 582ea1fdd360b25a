package convo

import (
	"slices"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// connected begins a session, or goes on with one.
func (e *Engine) connected(ev Connected) {
	e.online = true
	if ev.Resumed && e.stream > 0 {
		e.session.JID, e.session.Profile = ev.JID, ev.Profile
		e.goOn()
		e.pageAgain()
		e.sendWaiting()
		e.askRooms()
		return
	}
	e.session = ev
	e.stream++
	if n := slices.Index(e.account.Own, ev.JID); n >= 0 {
		e.account.Own = slices.Delete(e.account.Own, n, n+1)
	}
	e.account.Own = append(e.account.Own, detach(ev.JID))
	if len(e.account.Own) > maxOwn {
		e.account.Own = slices.Delete(e.account.Own, 0, 1)
	}
	e.record = true
	e.devices = nil
	clear(e.crowds)
	e.forget(func(r Request) bool { return r.Room.IsZero() }) // the server asks again (RFC 6121 3.1.3)
	for _, c := range e.inOrder() {
		e.unlock(c) // a conversation starts unlocked (LOCK-4)
		c.typing, c.states = nil, chatStates{}
		if c.rec.Room {
			e.goesOn(c)
		}
	}
	clear(e.queries)
	clear(e.unacked)
	clear(e.claims.sent)
	for _, c := range e.convs {
		c.paging, c.wanted = "", nil
	}
	switch {
	case ev.Catchup, ev.Facts.Archive:
		e.beginCatchup(ev.Catchup)
	default:
		e.catchup = nil
		e.resendLost(e.covers(&catchup{}), false)
	}
	e.sendWaiting()
}

// inOrder are the conversations in an order that doesn't change from run to run.
func (e *Engine) inOrder() []*conversation {
	list := make([]*conversation, 0, len(e.convs))
	for _, c := range e.convs {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *conversation) int {
		switch s, t := a.rec.JID.String(), b.rec.JID.String(); {
		case s < t:
			return -1
		case s > t:
			return 1
		}
		return 0
	})
	return list
}

func (e *Engine) disconnected() {
	e.online = false
	for i := range e.devices {
		e.devices[i].Online = false
	}
	for _, c := range e.inOrder() {
		if len(c.typing) > 0 {
			c.typing = nil
			e.touch(c, 0)
		}
	}
}

// sendWaiting sends what no session has had yet.
func (e *Engine) sendWaiting() {
	for _, c := range e.inOrder() {
		e.sendWaitingIn(c)
	}
}

func (e *Engine) sendWaitingIn(c *conversation) {
	if !e.inside(c) {
		return
	}
	for _, it := range c.pending {
		if it.stream == 0 && it.Delivery == Pending {
			e.transmit(c, it)
		}
	}
}

// resendLost is called when the archive has told what it has: what an earlier
// session had and the archive hasn't is lost. Without an archive, or where it
// hasn't told everything, nobody knows, and the person decides.
func (e *Engine) resendLost(list []*conversation, told bool) {
	e.claimAgain(list)
	for _, c := range list {
		for _, it := range slices.Clone(c.pending) {
			if !told && it.stream != 0 && !it.Doubt {
				it.Doubt = true
				e.save(c, it)
			}
			switch {
			case it.stream == 0 || it.stream == e.stream || it.Delivery == Failed:
			case it.Delivery == Pending && !it.Doubt:
				e.transmit(c, it)
			case it.Delivery == Sent && told && !c.rec.Room:
				// The server has it and the archive hasn't: this is its place.
				c.pending = slices.DeleteFunc(c.pending, func(x *item) bool { return x == it })
				e.append(c, it)
				e.enterPlaced(c, it)
				e.save(c, it)
			case it.Delivery == Pending, it.Delivery == Sent && told: // the room hasn't got it
				it.Delivery, it.Error = Failed, ""
				e.save(c, it)
			}
		}
	}
}

// acked notes that the server has a message (XEP-0198). Where own messages come
// back with their place they wait for it; elsewhere this is their place.
func (e *Engine) acked(ev Acked) {
	p, ok := e.unacked[ev.ID]
	if !ok {
		return
	}
	delete(e.unacked, ev.ID)
	c, it := p.c, p.i
	n := slices.Index(c.pending, it)
	if n < 0 || it.Delivery != Pending {
		return
	}
	it.Delivery = Sent
	if e.session.Profile < NG && !c.rec.Room {
		c.pending = slices.Delete(c.pending, n, n+1)
		e.append(c, it)
		e.enterPlaced(c, it)
	}
	e.save(c, it)
}

// failed takes an error that came back for an own message (RFC 6120 8.3).
func (e *Engine) failed(st *stanza.Stanza) {
	c := e.convs[st.From]
	if c == nil {
		c = e.convs[st.From.Bare()]
	}
	if c == nil || st.ID == "" {
		return
	}
	e.unlock(c) // whoever it was locked to is no longer there
	it := e.ownByID(c, clip(st.ID, maxID))
	if it == nil || !it.Own {
		return
	}
	if it.stream != e.stream && !e.inside(c) {
		return // the connection repeated it before the room let the device in; it is judged then
	}
	it.Delivery = Failed
	it.Error = string(stanza.UndefinedCondition)
	if err := st.ParseError(); err != nil {
		it.Error = clip(string(err.Condition), maxID)
	}
	e.save(c, it)
}

// ownByID finds what the person wrote.
func (e *Engine) ownByID(c *conversation, id string) *item {
	if r := e.rooms[c.rec.JID]; r != nil && r.Occupant != "" {
		if it := c.byRef[refKey{occupant: r.Occupant, id: id}]; it != nil {
			return it
		}
	}
	return c.byRef[refKey{from: c.sender(e.ownIn(c)), id: id}]
}

// ownIn is how the person is called in a conversation.
func (e *Engine) ownIn(c *conversation) jid.JID {
	room := e.rooms[c.rec.JID.Bare()]
	if room == nil {
		return e.cfg.Account
	}
	if c.rec.Room {
		if j, err := c.rec.JID.WithResource(room.Nick); err == nil {
			return j
		}
	}
	return e.session.JID
}

// presence notes other own devices, and unlocks the sender's conversation.
func (e *Engine) presence(st *stanza.Stanza) {
	if st.Type != stanza.TypeAvailable && st.Type != stanza.TypeUnavailable {
		e.wants(st)
		return
	}
	e.exit(st)
	if e.occupant(st) {
		return
	}
	if st.From.Bare() == e.cfg.Account {
		if st.From.IsFull() && st.From != e.session.JID {
			e.device(st.From.Resource(), st.Type == stanza.TypeAvailable)
		}
		return
	}
	c := e.convs[st.From.Bare()]
	if c == nil || c.rec.Room {
		return
	}
	e.unlock(c) // LOCK-3, LOCK-11: also unavailable; the thread stays (THR-15, THR-16)
	if st.Type == stanza.TypeUnavailable {
		e.stopTyping(c, st.From)
	}
}

// device notes another device of the account.
func (e *Engine) device(resource string, online bool) {
	for i := range e.devices {
		if d := &e.devices[i]; d.Resource == resource {
			was := d.Online
			d.Online, d.At = online, e.now
			if was != online {
				e.touchHeld(resource)
			}
			return
		}
	}
	defer e.touchHeld(resource)
	if len(e.devices) >= maxDevices {
		oldest := 0
		for i := range e.devices {
			if e.devices[i].At.Before(e.devices[oldest].At) {
				oldest = i
			}
		}
		e.devices = slices.Delete(e.devices, oldest, oldest+1)
	}
	e.devices = append(e.devices, Device{Resource: string([]byte(resource)), Online: online, At: e.now})
}

// touchHeld says that what is shown of an own device's conversations is another.
func (e *Engine) touchHeld(resource string) {
	for _, c := range e.inOrder() {
		if slices.ContainsFunc(c.holders, func(h Holder) bool { return h.Resource == resource }) || c.did(resource) {
			e.touch(c, 0)
		}
	}
}

// maxLook bounds how many entries are looked through for what a device did.
const maxLook = 200

// did reports whether an own device wrote or took one of the newest entries.
func (c *conversation) did(resource string) bool {
	for _, it := range c.items[max(0, len(c.items)-maxLook):] {
		if it.doneBy() == resource {
			return true
		}
	}
	return false
}

// hold notes that an own device did something in a conversation.
func (e *Engine) hold(c *conversation, from jid.JID) {
	if from.Bare() != e.cfg.Account || !from.IsFull() {
		return
	}
	resource := from.Resource()
	c.holders = slices.DeleteFunc(c.holders, func(h Holder) bool { return h.Resource == resource })
	c.holders = slices.Insert(c.holders, 0, Holder{Resource: string([]byte(resource)), At: e.now})
	if len(c.holders) > maxHolders {
		c.holders = c.holders[:maxHolders]
	}
	e.touch(c, 0)
}

func (e *Engine) contact(ev Contact) {
	ev.JID = ev.JID.Bare()
	if len(e.contacts) >= 4*e.lim.Conversations && e.contacts[ev.JID].JID.IsZero() {
		return
	}
	e.contacts[ev.JID] = ev
	if ev.Trusted {
		e.forget(func(r Request) bool { return r.From == ev.JID && r.Room.IsZero() })
	}
	if c := e.convs[ev.JID]; c != nil && (c.rec.Name != ev.Name || c.rec.Trusted != ev.Trusted) {
		c.rec.Name, c.rec.Trusted = ev.Name, ev.Trusted
		e.saveRecord(c)
	}
}

// tick lets time go by: idle conversations unlock, who types stops, and a page that
// failed is asked for again.
func (e *Engine) tick() {
	e.pageAgain()
	for _, c := range e.inOrder() {
		if e.cfg.UnlockAfter > 0 && !c.lock.to.IsZero() && e.now.Sub(c.lock.at) >= e.cfg.UnlockAfter {
			e.unlock(c) // LOCK-15
		}
		e.ageTyping(c)
	}
	e.tickRooms()
}
