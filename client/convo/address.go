package convo

import (
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// lock is the resource that a conversation is locked to (XEP-0296); zero:
// unlocked, which is how it starts (LOCK-4).
type lock struct {
	to jid.JID
	at time.Time // when something was last said
}

// address says to whom the next message of a conversation goes. In a session
// with IM-NG or 2.0 that is always the person, who has devices and no resources
// that matter (IMNG-22, X2-9, X2-26, X2-27). Elsewhere it is the bare address (LOCK-1,
// LOCK-5) until the contact has answered from somewhere (LOCK-2, LOCK-7).
func (e *Engine) address(c *conversation, typ string) jid.JID {
	if !c.lock.to.IsZero() && typ == stanza.TypeChat && e.session.Profile < NG {
		return c.lock.to
	}
	return c.rec.JID
}

// listen locks a conversation by what its contact sends: a chat message from a
// resource locks to it (LOCK-6), from another one moves the lock there, which is
// unlocking and locking in one (LOCK-8, LOCK-9; LOCK-10 is the other choice). A
// contact that is gone unlocks (LOCK-13). What was held back somewhere tells
// where the contact was, not where it is.
func (e *Engine) listen(m message) {
	st, c := m.st, m.c
	if e.session.Profile >= NG || m.own || st.Type != stanza.TypeChat || c.rec.JID.IsFull() || !m.live || m.at != e.now {
		return
	}
	if !st.Child(xep.NSChatStates, string(Gone)).IsZero() {
		e.unlock(c)
		return
	}
	if st.From.IsFull() && c.lock.to != st.From {
		c.lock.to = detach(st.From)
		e.touch(c, 0)
	}
	c.lock.at = e.now
}

func (e *Engine) unlock(c *conversation) {
	if !c.lock.to.IsZero() {
		c.lock = lock{} // back to the bare address (LOCK-3, LOCK-12)
		e.touch(c, 0)
	}
}

// ChooseProfile says what to activate with a server: the best that it offers,
// and never Carbons beside IM-NG (IMNG-21).
func ChooseProfile(v2, imng, carbons bool) Profile {
	switch {
	case v2:
		return V2
	case imng:
		return NG
	case carbons:
		return Carbons
	}
	return Classic
}

// ForDevice gives the payload to add to a message to a full address that is for
// that device alone: nothing in a 2.0 session, where the address says it (X2-3),
// <im-ng/> with IM-NG (XEP-0409 3.3), and towards a 1.0 server what a border
// would put in (X2-11, as X2-12 and X2-13 have it).
func ForDevice(p Profile) string {
	switch p {
	case V2:
		return ""
	case NG:
		return xep.IMNG
	}
	return "<private xmlns='" + xep.NSCarbons + "'/><no-copy xmlns='" + xep.NSHints + "'/><no-store xmlns='" + xep.NSHints + "'/>"
}
