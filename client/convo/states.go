package convo

import (
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// typing is somebody who writes.
type typing struct {
	from jid.JID
	at   time.Time
}

// maxComposing is how long somebody counts as writing without a word of it.
const maxComposing = 60 * time.Second

// chatStates is what of XEP-0085 was said between the two.
type chatStates struct {
	sent   ChatState // the last that the contact was told
	theirs bool      // the contact has told its own: it knows them (XEP-0085 5.1)
}

// early is what was said about a message that isn't known yet.
type early struct {
	key                  refKey
	delivered, displayed bool
}

// lively is what a message says just now, and nothing when read later.
func (e *Engine) lively(m message) {
	c, st := m.c, m.st
	e.listen(m)
	if m.own {
		e.hold(c, st.From)
		return
	}
	for el := range st.Payloads() {
		if el.Space() != xep.NSChatStates {
			continue
		}
		c.states.theirs = true
		if ChatState(el.Local()) == Composing && m.at == e.now {
			e.startTyping(c, st.From)
		} else {
			e.stopTyping(c, st.From)
		}
		return
	}
	if st.Type == stanza.TypeGroupchat && !st.Child(stanza.NSClient, "body").IsZero() {
		e.stopTyping(c, st.From)
	}
}

func (e *Engine) startTyping(c *conversation, from jid.JID) {
	from = c.sender(from)
	for i := range c.typing {
		if c.typing[i].from == from {
			c.typing[i].at = e.now
			return
		}
	}
	if len(c.typing) < maxTyping {
		c.typing = append(c.typing, typing{detach(from), e.now})
		e.touch(c, 0)
	}
}

func (e *Engine) stopTyping(c *conversation, from jid.JID) {
	from = c.sender(from)
	n := len(c.typing)
	c.typing = slices.DeleteFunc(c.typing, func(t typing) bool { return t.from == from })
	if len(c.typing) != n {
		e.touch(c, 0)
	}
}

func (e *Engine) ageTyping(c *conversation) {
	n := len(c.typing)
	c.typing = slices.DeleteFunc(c.typing, func(t typing) bool { return e.now.Sub(t.at) >= maxComposing })
	if len(c.typing) != n {
		e.touch(c, 0)
	}
}

// may reports whether somebody may learn what the person does: contacts that
// see the presence anyway, and whom the person has written to. Rooms don't get
// states of everybody.
func (e *Engine) may(c *conversation) bool {
	return e.online && !e.cfg.Silent && c.rec.Trusted && !c.rec.Room
}

// showState tells the contact about the person's writing, where it changes and
// if the contact has shown that it knows chat states (XEP-0085 5.1, 5.3).
func (e *Engine) showState(c *conversation, s ChatState) {
	switch s {
	case Active, Composing, Paused, Inactive, Gone:
	default:
		return
	}
	if !e.may(c) || !c.states.theirs || c.states.sent == s {
		return
	}
	c.states.sent = s
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSChatStates, string(s)).End()
	writeThread(w, c.rec.Thread, c.rec.Parent)
	e.do(Send{Stanza: stanza.Build(stanza.Message, stanza.TypeChat, e.cfg.NewID(), jid.JID{}, e.address(c, stanza.TypeChat), w.String())})
}

// passed is what is left of every message after its entry: receipts and
// markers in it, an answer where it asks for one, the cursor.
func (e *Engine) passed(m message) {
	c, st := m.c, m.st
	for el := range st.Payloads() {
		switch {
		case el.Is(xep.NSReceipts, "received"):
			e.receipt(c, m, clip(el.Attr("id"), maxID), false)
		case el.Space() == xep.NSMarkers && (el.Local() == "displayed" || el.Local() == "acknowledged"):
			e.receipt(c, m, clip(el.Attr("id"), maxID), true)
		case el.Is(xep.NSReceipts, "request"):
			e.answer(m)
		}
	}
	e.moveCursor(m)
	e.moveRoomCursor(m)
}

// moveCursor moves the account's cursor behind a live message.
func (e *Engine) moveCursor(m message) {
	if m.live && !m.kept && m.archive.ID != "" && m.archive.By == e.cfg.Account && !e.unheard() {
		if e.catchup != nil {
			e.catchup.live = m.archive.ID
		} else if e.Cursor() != m.archive.ID {
			e.account.Cursors[e.cfg.Account.String()] = m.archive.ID
			e.record = true
		}
	}
}

// unheard reports whether own messages are on their way whose place in the
// archive nobody will tell: without IM-NG they don't come back. The cursor stays
// before them, for the next catch-up is to tell what the server had of them.
func (e *Engine) unheard() bool {
	if e.session.Profile >= NG {
		return false
	}
	for _, c := range e.convs {
		for _, it := range c.pending {
			if it.Delivery == Pending && it.stream == e.stream && !c.rec.Room {
				return true
			}
		}
	}
	return false
}

// receipt notes that the contact has an own message, or has seen it. What the
// own account's other devices tell about the contact's messages is read.
func (e *Engine) receipt(c *conversation, m message, id string, displayed bool) {
	if id == "" {
		return
	}
	if m.own {
		if displayed {
			e.readUpTo(c, c.byRef[refKey{from: c.sender(c.rec.JID), id: id}])
		}
		return
	}
	k := refKey{from: c.sender(e.ownIn(c)), id: id}
	if c.rec.Room {
		k.from = c.rec.JID
	}
	it := c.byRef[k]
	if it == nil {
		e.keepEarly(c, k, displayed)
		return
	}
	e.reached(c, it, displayed)
}

// reached marks an own message as delivered or displayed; who has seen one has
// seen those before it (XEP-0333 4.1).
func (e *Engine) reached(c *conversation, it *item, displayed bool) {
	if !it.Own || it.Kind != Text {
		return
	}
	if !it.Delivered || displayed && !it.Displayed {
		it.Delivered, it.Displayed = true, it.Displayed || displayed
		e.save(c, it)
	}
	if displayed && it.Pos > c.rec.Displayed && it.Pos < WaitingPos {
		c.rec.Displayed = it.Pos
		c.changedAll = true
		e.saveRecord(c)
	}
}

// keepEarly remembers a receipt until its message comes. At the bound the
// oldest goes.
func (e *Engine) keepEarly(c *conversation, k refKey, displayed bool) {
	if n := slices.IndexFunc(c.markers, func(x early) bool { return x.key == k }); n >= 0 {
		c.markers[n].displayed = c.markers[n].displayed || displayed
		return
	}
	if len(c.markers) >= maxEarly {
		c.markers = slices.Delete(c.markers, 0, 1)
	}
	c.markers = append(c.markers, early{key: k, delivered: true, displayed: displayed})
}

const maxEarly = 256

// early gives a message what was said about it before.
func (e *Engine) early(c *conversation, it *item) {
	if !it.Own || len(c.markers) == 0 {
		return
	}
	c.markers = slices.DeleteFunc(c.markers, func(x early) bool {
		if x.key != c.key(it, it.MessageID) && x.key != c.key(it, it.OriginID) {
			return false
		}
		e.reached(c, it, x.displayed)
		return true
	})
}

// answer sends a receipt: for a message that came to this device just so, not
// in a copy and not from an archive, from somebody who may know (XEP-0184 5.4,
// 8; XEP-0280 11).
func (e *Engine) answer(m message) {
	st := m.st
	if m.own || m.way != direct || st.ID == "" || len(st.ID) > maxID || st.Type == stanza.TypeGroupchat || st.Type == stanza.TypeHeadline || !e.may(m.c) {
		return
	}
	to := e.answerTo(m.c, st)
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSReceipts, "received").Attr("id", st.ID).End()
	e.do(Send{Stanza: stanza.Build(stanza.Message, st.Type, e.cfg.NewID(), jid.JID{}, to, w.String())})
}

// answerTo is to whom an answer about a message goes: to the person (X2-27), or
// by the rules of 1.0 to the device that asked.
func (e *Engine) answerTo(c *conversation, st *stanza.Stanza) jid.JID {
	if e.session.Profile >= NG {
		return c.rec.JID
	}
	return st.From
}

// attention is what an act of the person's means: what came is read, the
// contact and the other devices may know, and some acts claim.
func (e *Engine) attention(a Attention) {
	c := e.convs[a.Conversation]
	if c == nil {
		return
	}
	if a.Act == Closed {
		e.showState(c, Inactive) // the thread stays (THR-14)
		return
	}
	e.claim(c, e.attend(c, a)) // MINE-17
	if last := c.last(); last != nil {
		e.markRead(c, last)
	}
}

// markRead marks everything up to an entry as read, here and for the others.
func (e *Engine) markRead(c *conversation, last *item) {
	if c.rec.Read < last.Pos {
		c.rec.Read = last.Pos
		e.saveRecord(c)
	}
	var newest *item
	for i := len(c.items) - 1; i >= 0 && c.items[i].Pos > c.notified; i-- {
		if it := c.items[i]; it.Kind == Text && !it.Own {
			newest = it
			break
		}
	}
	if newest == nil || !e.online {
		return
	}
	c.notified = newest.Pos
	if newest.Markable && e.may(c) && newest.MessageID != "" { // XEP-0333 4
		w := xmltree.NewWriter(nil, stanza.NSClient)
		w.Start(xep.NSMarkers, "displayed").Attr("id", newest.MessageID).End()
		writeThread(w, wireThread(newest), "")
		e.do(Send{Stanza: stanza.Build(stanza.Message, newest.Type, e.cfg.NewID(), jid.JID{}, e.address(c, newest.Type), w.String())})
	}
	if e.session.Facts.Displayed && newest.Archive.ID != "" {
		e.publishDisplayed(c, newest.Archive)
	}
}

// publishDisplayed tells the other devices what was read (XEP-0490 3.2).
func (e *Engine) publishDisplayed(c *conversation, at ArchiveID) {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSPubSub, "pubsub")
	w.Start(xep.NSPubSub, "publish").Attr("node", xep.NSDisplayed)
	w.Start(xep.NSPubSub, "item").Attr("id", c.rec.JID.String())
	w.Start(xep.NSDisplayed, "displayed")
	w.Start(xep.NSStanzaID, "stanza-id").Attr("by", at.By.String()).Attr("id", at.ID).End()
	w.End().End().End()
	w.Start(xep.NSPubSub, "publish-options").Start(xep.NSForm, "x").Attr("type", "submit")
	field(w, "FORM_TYPE", xep.NSPubOptions)
	field(w, "pubsub#persist_items", "true")
	field(w, "pubsub#max_items", "max")
	field(w, "pubsub#send_last_published_item", "never")
	field(w, "pubsub#access_model", "whitelist")
	w.End().End().End()
	e.do(Send{Stanza: stanza.Build(stanza.IQ, stanza.TypeSet, e.cfg.NewID(), jid.JID{}, e.cfg.Account, w.String())})
}

// displayedElsewhere takes what another device has shown (XEP-0490 3.3).
func (e *Engine) displayedElsewhere(event xmltree.Element) {
	items := event.Child(xep.NSEvent, "items")
	if items.Attr("node") != xep.NSDisplayed {
		return
	}
	for el := range items.Children() {
		key, err := jid.Parse(el.Attr("id"))
		if err != nil {
			continue
		}
		id := el.Child(xep.NSDisplayed, "displayed").Child(xep.NSStanzaID, "stanza-id")
		by, err := jid.Parse(id.Attr("by"))
		if err != nil {
			continue
		}
		if p, ok := e.archived[ArchiveID{by, id.Attr("id")}]; ok && p.c.rec.JID == key {
			e.readUpTo(p.c, p.i)
		}
	}
}

func (e *Engine) readUpTo(c *conversation, it *item) {
	if it != nil && it.Pos > c.rec.Read && it.Pos < WaitingPos {
		c.rec.Read = it.Pos
		e.saveRecord(c)
	}
}
