package convo

import (
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// way is how a message came.
type way uint8

const (
	direct  way = iota // from whom it says, or reflected
	carbon             // in a copy (XEP-0280)
	archive            // a result of an archive query (XEP-0313)
)

// message is a received message, unwrapped and sorted out.
type message struct {
	st      *stanza.Stanza
	way     way
	archive ArchiveID
	at      time.Time
	query   *query // of a result

	c        *conversation
	own      bool
	occupant string // who sent it to a room (XEP-0421); "" where it doesn't say
	// atEnd: of a result, it is newer than all that is known.
	atEnd    bool
	strays   bool // of a result, its entry stood where it came
	buffered bool // of a result, it waited until its page was complete
	live     bool // it came as it was sent: states and receipts mean something
	kept     bool // the server had kept it for want of a device (XEP-0160): it says nothing of what came before and after
}

func (e *Engine) received(ev Received) {
	st := ev.Stanza
	if st == nil {
		return
	}
	switch st.Kind {
	case stanza.Presence:
		e.presence(st)
	case stanza.Message:
		if m, ok := e.unwrap(st); ok {
			e.message(m)
		}
	}
}

// fromAccount reports whether a stanza comes from the own account itself.
// Nobody else may wrap messages: what a carbon or a result says about sender
// and time is believed (XEP-0280 11, CVE-2017-5589).
func (e *Engine) fromAccount(st *stanza.Stanza) bool {
	return st.From == e.cfg.Account || st.From.IsZero()
}

// unwrap takes a message out of its carbon or archive result. It gives false
// for what is no message of a conversation, and for wrappings by somebody who
// has no right to them.
func (e *Engine) unwrap(st *stanza.Stanza) (message, bool) {
	for el := range st.Payloads() {
		switch el.Space() {
		case xep.NSCarbons:
			if el.Local() != "sent" && el.Local() != "received" {
				continue
			}
			if !e.fromAccount(st) {
				return message{}, false
			}
			inner, at, ok := e.forwarded(el)
			if !ok || (el.Local() == "sent") != (inner.From.Bare() == e.cfg.Account) && inner.From.Bare() != inner.To.Bare() {
				return message{}, false
			}
			return message{st: inner, way: carbon, at: at}, true
		case xep.NSMAM:
			if el.Local() != "result" {
				continue
			}
			return e.result(st, el)
		case xep.NSXMPP2:
			if el.Local() == "synced" {
				if s, ok := xep.ParseSynced(st); ok {
					e.synced(e.syncedBy(st, s), s)
				}
				return message{}, false
			}
		case xep.NSEvent:
			if e.fromAccount(st) {
				e.displayedElsewhere(el)
			}
			return message{}, false
		}
	}
	m := message{st: st, way: direct, at: e.now}
	for el := range st.Payloads() {
		if by, stamp, ok := xep.ParseDelay(el); ok {
			m.at = e.past(stamp)
			m.kept = st.Type != stanza.TypeGroupchat && (by == e.cfg.Account || by == e.cfg.Account.DomainJID())
			break
		}
	}
	return m, true
}

// forwarded reads the message in a carbon or result (XEP-0297).
func (e *Engine) forwarded(el xmltree.Element) (st *stanza.Stanza, at time.Time, ok bool) {
	st, at, ok = xep.ParseForwarded(el.Child(xep.NSForward, "forwarded"))
	if !ok {
		return nil, at, false
	}
	if st.From.IsZero() {
		st.From = e.cfg.Account
	}
	at = e.past(at)
	return st, at, true
}

// past is when a message says that it was sent, or now for one that says what
// can't be: nobody stays at the top of the list by a stamp in the future.
func (e *Engine) past(stamp time.Time) time.Time {
	if stamp.After(e.now) || stamp.Year() < 1970 {
		return e.now
	}
	return stamp
}

// result takes a message out of an archive result. It counts if this archive
// was asked, or streams what the session missed.
func (e *Engine) result(st *stanza.Stanza, el xmltree.Element) (message, bool) {
	by := st.From.Bare()
	if by.IsZero() {
		by = e.cfg.Account
	}
	id := el.Attr("queryid")
	q := e.queries[id]
	switch {
	case q != nil && q.By == by && (st.From.IsBare() || st.From.IsZero()):
	case q == nil && id == xep.SyncQueryID && e.streams(st, by):
	default:
		return message{}, false
	}
	inner, at, ok := e.forwarded(el)
	if !ok {
		return message{}, false
	}
	archiveID := clip(el.Attr("id"), maxID)
	if archiveID == "" {
		return message{}, false
	}
	return message{st: inner, way: archive, at: at, query: q, archive: ArchiveID{e.intern(by), archiveID}}, true
}

// message sorts an unwrapped message into its conversation.
func (e *Engine) message(m message) {
	st := m.st
	m.own = st.From.Bare() == e.cfg.Account || st.From.IsZero()
	m.live = m.way != archive
	if e.exclusive(m) {
		return
	}
	if st.Type == stanza.TypeError {
		if m.live {
			e.failed(st)
		}
		return
	}
	if by := m.archive.By; m.way == archive && by != e.cfg.Account && (st.Type != stanza.TypeGroupchat || st.From.Bare() != by) {
		return // a room knows what was said there, and nothing else
	}
	if e.invitation(m) {
		return
	}
	key, room := e.conversationOf(&m)
	if key.IsZero() || m.way == archive && m.archive.By != e.assignerOf(key, room) {
		return // nor does the account's archive know rooms
	}
	if m.archive.ID == "" {
		m.archive = e.archiveOf(st, key, room)
	}
	if q := m.query; q != nil && !m.buffered && (q.back || q.Last) {
		if len(q.buffer) < 4*q.Max { // more than was asked for
			m.buffered = true
			q.buffer = append(q.buffer, m)
		}
		return
	}
	if up := e.upOf(key, room); m.way == archive && m.query == nil && !m.buffered && up != nil && up.overlaps && len(up.buffer) < maxStreamed {
		// They may begin before what is known already, and say where it belongs only
		// when they are complete.
		m.buffered = true
		up.buffer = append(up.buffer, m)
		return
	}
	if m.query != nil && m.query.back && key != m.query.conversation {
		return // not what was asked for
	}
	m.c = e.convs[key]
	if m.c == nil {
		_, ok := m.kind()
		// What an archive has of the account's own receipts and markers says that there
		// is a conversation, of which more is to be had; a stranger's begin nothing.
		trace := !ok && m.way == archive && (m.own || !e.contacts[key].JID.IsZero()) && st.Type == stanza.TypeChat && key != e.cfg.Account
		if !ok && !trace {
			return
		}
		m.c = e.conversation(key, room)
		if trace {
			e.shownAt(m.c, m.at)
		}
	}
	if m.live {
		e.lively(m)
	}
	e.take(m)
}

// exclusive reports whether a message is for this device alone. Conversation
// content in it is not shown: no other device has it, and perhaps no archive (IMNG-23, IMNG-25). A 2.0 session
// gets what the rules of 1.0 send to a full address as a conversation too, with
// a tag or a place in the archive; what has neither is for this device alone
// (X2-3).
func (e *Engine) exclusive(m message) bool {
	if m.way == archive || m.own && m.st.From.IsFull() && m.st.From != e.session.JID && m.way == carbon {
		return false
	}
	if m.st.Type == stanza.TypeGroupchat {
		return false // what is said in a room is for everybody there
	}
	if !m.st.Child(xep.NSIMNG, "im-ng").IsZero() && m.st.To.IsFull() {
		return true
	}
	st := m.st
	if e.session.Profile != V2 || !st.To.IsFull() || st.To.Bare() != e.cfg.Account {
		return false
	}
	if st.Type != stanza.TypeChat && st.Type != stanza.TypeNormal || !st.Child(xep.NSMUCUser, "x").IsZero() {
		return false
	}
	modern := st.Child(xep.NSXMPP2, "xmpp-1").IsZero() && e.archiveOf(st, e.cfg.Account, false).ID == ""
	return modern || !st.Child(xep.NSCarbons, "private").IsZero() || xep.HasHint(st, xep.HintNoCopy)
}

// conversationOf says to which conversation a message belongs; zero for none.
func (e *Engine) conversationOf(m *message) (key jid.JID, room bool) {
	st := m.st
	if st.Type == stanza.TypeGroupchat {
		r := e.rooms[st.From.Bare()]
		if r == nil || m.way == carbon { // nobody asked for it; rooms tell each device (XEP-0280 6.1)
			return jid.JID{}, false
		}
		e.inRoom(m, r)
		return r.JID, true
	}
	peer := st.From
	if m.own {
		peer = st.To
	}
	if e.rooms[peer.Bare()] != nil && peer.IsFull() {
		return peer, false // a room's private messages (XEP-0045 7.5)
	}
	if peer.IsZero() {
		return e.cfg.Account, false
	}
	return peer.Bare(), false
}

// archiveOf reads the place in the archive that a message carries, of the one
// archive that may assign it: ids by others say nothing (XEP-0359 6).
func (e *Engine) archiveOf(st *stanza.Stanza, key jid.JID, room bool) ArchiveID {
	by := e.cfg.Account
	if room {
		if r := e.rooms[key]; r == nil || !r.Archive && !r.IDs {
			return ArchiveID{} // it may be anybody's (XEP-0359 6)
		}
		by = key
	} else if !e.session.Facts.Archive {
		return ArchiveID{}
	}
	for el := range st.Payloads() {
		if xep.IsStanzaIDBy(el, by) {
			if id := clip(el.Attr("id"), maxID); id != "" {
				return ArchiveID{e.intern(by), id}
			}
		}
	}
	return ArchiveID{}
}

// kindOf says what entry a message makes; false for none. What has a subject and nothing else is a room's topic (XEP-0045 8.1).
func kindOf(st *stanza.Stanza) (Kind, bool) {
	body := false
	kind, is := Text, false
	for el := range st.Payloads() {
		switch el.Space() {
		case stanza.NSClient, stanza.NSServer:
			body = body || el.Local() == "body" || el.Local() == "subject" && st.Type != stanza.TypeGroupchat
		case xep.NSMine, xep.NSMineOCR:
			if el.Local() == "mine" {
				kind, is = Claim, true
			}
		case xep.NSCorrect:
			if el.Local() == "replace" {
				kind, is = Correction, true
			}
		case xep.NSRetract:
			if el.Local() == "retract" {
				return Retraction, true
			}
		case xep.NSReactions:
			if el.Local() == "reactions" {
				return Reaction, true
			}
		}
	}
	if is && (kind != Claim || !body) {
		return kind, kind != Correction || body
	}
	return Text, body
}

// maxTopic bounds a room's topic, in bytes.
const maxTopic = 1023

// topic notes the topic of a room, which says it to whoever enters.
func (e *Engine) topic(m message) {
	subject := m.st.Child(stanza.NSClient, "subject")
	if m.way != direct || !m.c.rec.Room || subject.IsZero() {
		return
	}
	m.c.topic = clip(subject.Text(), maxTopic)
	e.touch(m.c, 0)
}

// take makes an entry of a message, or merges it with the one that it already
// is, and puts it in its place.
func (e *Engine) take(m message) {
	kind, ok := m.kind()
	if !ok {
		e.topic(m)
		e.passed(m)
		return
	}
	if kind == Claim && !e.claimable(m) {
		return
	}
	if have := e.find(m, kind); have != nil {
		e.merge(m, have)
		return
	}
	it := &item{Entry: e.read(m, kind)}
	if m.own && m.way != archive && m.archive.ID == "" && m.st.From == e.session.JID && e.session.Profile >= NG {
		// A reflection of something that is in no archive.
		it.Delivery = Sent
	}
	e.account.LastEntry++
	it.ID = e.account.LastEntry
	e.record = true
	e.seen(m, it)
	e.makeUp(m, it)
	e.place(m, it)
	e.enter(m.c, it)
	e.save(m.c, it)
	e.trim(m.c)
	e.passed(m)
}

// find finds the entry that a message already is: by its place in the archive,
// else by its sender's id, if one of the two has no place yet.
func (e *Engine) find(m message, kind Kind) *item {
	if m.archive.ID != "" {
		if p, ok := e.archived[m.archive]; ok {
			return p.i
		}
	}
	if have := m.c.known(m, kind); have != nil {
		return have
	}
	for n, id := range [...]string{xep.OriginID(m.st), m.st.ID} {
		if id == "" || len(id) > maxID {
			continue
		}
		have := m.c.byRef[m.c.keyOf(m.st.From, m.occupant, id)]
		if have == nil && m.occupant != "" { // it came before the room told occupants apart
			have = m.c.byRef[m.c.keyOf(m.st.From, "", id)]
		}
		if have == nil || have.Kind != kind || have.Archive.ID != "" && m.archive.ID != "" {
			continue
		}
		// An id attribute may come again; it is the same message with the same text.
		if n == 1 && !have.Own && (have.Body != m.st.Child(stanza.NSClient, "body").Text() || have.OriginID != "") {
			continue
		}
		return have
	}
	return nil
}

// merge adds to an entry what another copy of it says: its place.
func (e *Engine) merge(m message, it *item) {
	c := m.c
	changed := e.identify(c, it, m)
	if tomb := m.tombstone(); !tomb.IsZero() && !it.Retracted {
		it.entomb(tomb)
		changed = true
	}
	if m.archive.ID != "" && it.Archive.ID == "" || it.Astray && m.way == archive {
		m.strays = it.Astray
		it.Archive, it.Astray = m.archive, m.kept
		e.archived[m.archive] = place{c, it}
		if c.rec.Room {
			e.name(c, refKey{from: c.rec.JID, id: m.archive.ID}, it)
		}
		it.At = m.at
		changed = true
		if m.query != nil && m.query.back && c.holds(it) {
			e.remove(c, it) // where it stood was a guess: nothing is known to follow on it
		}
	}
	if n := slices.Index(c.pending, it); n >= 0 {
		c.pending = slices.Delete(c.pending, n, n+1)
		e.place(m, it)
		if m.query == nil || !m.query.back {
			e.enterPlaced(c, it) // settle does it for the others
		}
		changed = true
	} else if m.way == archive {
		changed = e.place(m, it) || changed
	}
	if it.Own && it.Delivery != Archived {
		it.Delivery, it.Error, it.Doubt = Sent, "", false
		if it.Archive.ID != "" {
			it.Delivery = Archived
		}
		changed = true
	}
	if changed {
		e.save(c, it)
	}
	e.seen(m, it)
	e.passed(m)
}

// read makes an entry of a message.
func (e *Engine) read(m message, kind Kind) Entry {
	st := m.st
	en := Entry{
		Kind: kind, From: st.From, Own: m.own, Type: typeOf(st), At: m.at,
		MessageID: clip(st.ID, maxID), OriginID: clip(xep.OriginID(st), maxID), Archive: m.archive, Astray: m.kept,
		Thread: clip(st.Thread(), maxThread), Occupant: m.occupant,
	}
	if en.From.IsZero() {
		en.From = e.cfg.Account
	}
	en.From = e.intern(en.From)
	if en.MessageID == en.OriginID {
		en.OriginID = en.MessageID // one string
	}
	if en.Thread != "" {
		en.Parent = clip(st.Child(stanza.NSClient, "thread").Attr("parent"), maxThread) // THR-9
	}
	if m.own {
		en.Delivery = Sent
		if m.archive.ID != "" {
			en.Delivery = Archived
		}
	}
	e.readPayloads(&en, m)
	if tomb := m.tombstone(); !tomb.IsZero() {
		en.entomb(tomb)
	}
	return en
}

// seen notes what came live while the catch-up is under way.
func (e *Engine) seen(m message, it *item) {
	if m.live && !m.kept && m.archive.ID != "" {
		it.live = e.stream
		if up := e.of(m.c); up != nil {
			up.others = true
		}
	}
}

// typeOf is a message's type, as a constant: the value in the stanza would keep
// all of it in memory.
func typeOf(st *stanza.Stanza) string {
	for _, t := range [...]string{stanza.TypeChat, stanza.TypeGroupchat, stanza.TypeHeadline} {
		if st.Type == t {
			return t
		}
	}
	return stanza.TypeNormal
}
