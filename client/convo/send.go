package convo

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// person does what the person did.
func (e *Engine) person(ev Event) {
	if e.cfg.RefreshAfter > 0 && e.online && !e.acted.IsZero() && e.now.Sub(e.acted) >= e.cfg.RefreshAfter {
		e.do(RefreshPresence{}) // LOCK-16, LOCK-17
	}
	e.acted = e.now
	switch ev := ev.(type) {
	case SendText:
		e.sendText(ev)
	case Reply:
		e.reply(ev)
	case NewThread:
		if c := e.open(ev.Conversation); c != nil {
			e.write(c, Entry{Body: ev.Body, Subject: ev.Subject, Thread: e.cfg.NewID()})
		}
	case BranchOff:
		e.branchOff(ev)
	case SelectThread:
		if c := e.open(ev.Conversation); c != nil && ev.Thread != c.rec.Thread {
			c.rec.Thread, c.rec.Parent = ev.Thread, ""
			if t := c.threads[ev.Thread]; t != nil {
				c.rec.Parent = t.parentOf()
			}
			e.saveRecord(c)
		}
	case Correct:
		if c, it := e.ownEntry(ev.Conversation, ev.Entry); it != nil {
			e.write(c, Entry{Kind: Correction, Body: ev.Body, RefID: e.nameOf(c, it, false), Thread: wireThread(it), Parent: it.Parent, Type: it.Type})
		}
	case Retract:
		if c, it := e.ownEntry(ev.Conversation, ev.Entry); it != nil {
			e.write(c, Entry{Kind: Retraction, RefID: e.nameOf(c, it, true), Type: it.Type})
		}
	case React:
		e.react(ev)
	case Resend:
		if c, it := e.ownEntry(ev.Conversation, ev.Entry); it != nil && it.Delivery == Failed {
			e.resend(c, it)
		}
	case Attention:
		e.attention(ev)
	case Typing:
		if c := e.convs[ev.Conversation]; c != nil {
			e.showState(c, ev.State)
		}
	case Page:
		e.page(ev)
	}
}

// open is the conversation that the person writes into; nil for an address
// that nobody can have one with.
func (e *Engine) open(j jid.JID) *conversation {
	if j.IsZero() {
		return nil
	}
	if j.IsFull() && e.rooms[j.Bare()] == nil {
		j = j.Bare()
	}
	return e.conversation(j, e.rooms[j] != nil)
}

func (e *Engine) ownEntry(j jid.JID, id EntryID) (*conversation, *item) {
	c := e.convs[j]
	if c == nil {
		return nil, nil
	}
	it := c.byID[id]
	if it == nil || !it.Own || it.Kind != Text {
		return c, nil
	}
	return c, it
}

// sendText goes on in the conversation's thread. The first chat message, and
// each single message, begins one (THR-1, THR-2, THR-5, THR-6, THR-7); headlines are
// in none (THR-3, THR-23).
func (e *Engine) sendText(ev SendText) {
	c := e.open(ev.Conversation)
	if c == nil {
		return
	}
	en := Entry{Body: ev.Body, Subject: ev.Subject, Type: ev.Type}
	switch {
	case ev.Type == stanza.TypeHeadline:
	case ev.Type == stanza.TypeNormal || c.rec.Thread == "":
		en.Thread = e.cfg.NewID() // THR-4
	default:
		en.Thread, en.Parent = c.rec.Thread, c.rec.Parent
	}
	e.write(c, en)
}

// reply answers an entry in its thread (THR-8), and so shows attention to it.
func (e *Engine) reply(ev Reply) {
	c := e.convs[ev.Conversation]
	if c == nil || c.byID[ev.To] == nil {
		return
	}
	to := c.byID[ev.To]
	e.claim(c, []*item{to})
	en := Entry{Body: ev.Body, Thread: to.Thread, Parent: to.Parent, Type: to.Type, RefID: e.nameOf(c, to, true), RefFrom: c.sender(to.From), ReplyTo: to.ID}
	if en.Thread == "" {
		en.Thread = e.cfg.NewID()
	}
	e.write(c, en)
}

// branchOff begins a child: a new id, with the original's as parent (THR-9).
func (e *Engine) branchOff(ev BranchOff) {
	c := e.convs[ev.Conversation]
	if c == nil || c.byID[ev.From] == nil {
		return
	}
	from := c.byID[ev.From]
	e.write(c, Entry{Body: ev.Body, Thread: e.cfg.NewID(), Parent: from.Thread, Type: from.Type})
}

func (e *Engine) react(ev React) {
	c := e.convs[ev.Conversation]
	if c == nil || c.byID[ev.Entry] == nil {
		return
	}
	it := c.byID[ev.Entry]
	name := e.nameOf(c, it, true)
	if it.Kind != Text || name == "" {
		return
	}
	var list []string
	for _, s := range ev.Emoji {
		if s != "" && len(s) <= maxEmoji && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	e.write(c, Entry{Kind: Reaction, Emoji: list, RefID: name, Type: it.Type})
}

// nameOf is the id by which others know an entry: in rooms the room's own,
// elsewhere its sender's (XEP-0444 4.1, XEP-0461 4; XEP-0308 5 always names the
// sender's).
func (e *Engine) nameOf(c *conversation, it *item, room bool) string {
	if room && c.rec.Room {
		return it.Archive.ID
	}
	if it.OriginID != "" && room {
		return it.OriginID
	}
	return it.MessageID
}

// wireThread is the thread that an entry has for others too.
func wireThread(it *item) string {
	if it.ThreadMadeUp {
		return ""
	}
	return it.Thread
}

// write makes an own entry, and sends it if it can be sent. It does nothing where
// nothing would be said, or too much waits already.
func (e *Engine) write(c *conversation, en Entry) {
	if en.RefID == "" && en.Kind != Text || en.Kind == Text && en.Body == "" && en.Subject == "" {
		return
	}
	if len(c.pending) >= maxWaiting {
		e.do(Refused{c.rec.JID})
		return
	}
	switch {
	case c.rec.Room:
		en.Type = stanza.TypeGroupchat
	case en.Type == "" || en.Type == stanza.TypeGroupchat:
		en.Type = stanza.TypeChat
	}
	e.account.LastEntry++
	e.record = true
	it := &item{Entry: en}
	it.ID = e.account.LastEntry
	it.Own, it.From, it.At, it.Delivery = true, e.ownIn(c), e.now, Pending
	if r := e.rooms[c.rec.JID]; r != nil && r.Occupants {
		it.Occupant = r.Occupant
	}
	it.MessageID = e.cfg.NewID()
	it.OriginID = it.MessageID
	it.Pos = WaitingPos + int64(it.ID)
	c.pending = append(c.pending, it)
	e.register(c, it)
	e.refer(c, it)
	if it.Kind == Text {
		if it.Type != stanza.TypeNormal && it.Thread != "" && it.Thread != c.rec.Thread {
			c.rec.Thread, c.rec.Parent = it.Thread, it.Parent
		}
		c.rec.Trusted = true // who is written to may know that one is there
		e.shownAt(c, e.now)
		e.saveRecord(c)
		c.states.sent = Active
	}
	if e.inside(c) {
		e.transmit(c, it)
	}
	e.save(c, it)
}

// transmit hands an own entry over to this session.
func (e *Engine) transmit(c *conversation, it *item) {
	it.stream = e.stream
	e.unacked[it.MessageID] = place{c, it}
	e.do(Send{Stanza: e.compose(c, it), Entry: it.ID})
}

// resend tries again, at the end.
func (e *Engine) resend(c *conversation, it *item) {
	if !slices.Contains(c.pending, it) {
		e.remove(c, it)
		it.Pos = WaitingPos + int64(it.ID)
		c.pending = append(c.pending, it)
	}
	it.Delivery, it.Error, it.Doubt = Pending, "", false
	if it.stream = 0; e.inside(c) {
		e.transmit(c, it)
	}
	e.save(c, it)
}

// compose makes the stanza of an own entry.
func (e *Engine) compose(c *conversation, it *item) *stanza.Stanza {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	if it.Subject != "" {
		w.Start(stanza.NSClient, "subject").Text(it.Subject).End()
	}
	quote := e.quote(c, it)
	if it.Body != "" {
		w.Start(stanza.NSClient, "body").Text(quote + it.Body).End()
	}
	writeThread(w, it.Thread, it.Parent)
	w.Start(xep.NSStanzaID, "origin-id").Attr("id", it.OriginID).End()
	switch it.Kind {
	case Correction:
		w.Start(xep.NSCorrect, "replace").Attr("id", it.RefID).End()
	case Retraction:
		w.Start(xep.NSRetract, "retract").Attr("id", it.RefID).End()
		w.Start(xep.NSHints, xep.HintStore).End()
	case Reaction:
		w.Start(xep.NSReactions, "reactions").Attr("id", it.RefID)
		for _, s := range it.Emoji {
			w.Start(xep.NSReactions, "reaction").Text(s).End()
		}
		w.End()
		w.Start(xep.NSHints, xep.HintStore).End()
	default:
		e.composeText(c, it, w, quote)
	}
	return stanza.Build(stanza.Message, it.Type, it.MessageID, jid.JID{}, e.address(c, it.Type), w.String())
}

func (e *Engine) composeText(c *conversation, it *item, w *xmltree.Writer, quote string) {
	if it.RefID != "" {
		w.Start(xep.NSReply, "reply").OptAttr("to", it.RefFrom.String()).Attr("id", it.RefID).End()
	}
	if quote != "" {
		w.Start(xep.NSFallback, "fallback").Attr("for", xep.NSReply)
		w.Start(xep.NSFallback, "body").Attr("start", "0").Attr("end", strconv.Itoa(utf8.RuneCountInString(quote))).End()
		w.End()
	}
	w.Start(xep.NSMarkers, "markable").End()
	if it.Type == stanza.TypeChat {
		w.Start(xep.NSReceipts, "request").End()
		w.Start(xep.NSChatStates, string(Active)).End() // LOCK-14
	}
}

// quote is what a reply shows to clients that don't know replies (XEP-0461 3.2).
func (e *Engine) quote(c *conversation, it *item) string {
	to := c.byID[it.ReplyTo]
	if it.Kind != Text || to == nil {
		return ""
	}
	body := c.shown(to).Body
	if body == "" {
		return ""
	}
	var b strings.Builder
	n := 0
	for line := range strings.Lines(body) {
		if n++; n > 8 || b.Len()+len(line) > 2048 {
			break
		}
		b.WriteString("> " + strings.TrimRight(line, "\r\n") + "\n")
	}
	return b.String()
}
