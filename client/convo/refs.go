package convo

import (
	"slices"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// readPayloads reads into an entry what its message carries.
func (e *Engine) readPayloads(en *Entry, m message) {
	st := m.st
	en.Body = strings.Clone(st.Child(stanza.NSClient, "body").Text())
	en.Subject = strings.Clone(st.Child(stanza.NSClient, "subject").Text())
	for el := range st.Payloads() {
		switch el.Space() {
		case xep.NSCorrect:
			if en.Kind == Correction && el.Local() == "replace" {
				en.RefID = clip(el.Attr("id"), maxID)
			}
		case xep.NSRetract:
			if en.Kind == Retraction && el.Local() == "retract" {
				en.RefID = clip(el.Attr("id"), maxID)
				en.moderated(el, m.c.rec.Room && en.From == m.c.rec.JID)
			}
		case xep.NSReactions:
			if en.Kind == Reaction && el.Local() == "reactions" {
				en.RefID = clip(el.Attr("id"), maxID)
				en.Emoji = emoji(el)
			}
		case xep.NSReply:
			if en.Kind == Text && el.Local() == "reply" {
				en.RefID = clip(el.Attr("id"), maxID)
				en.RefFrom, _ = jid.Parse(strings.Clone(el.Attr("to")))
			}
		case xep.NSMine, xep.NSMineOCR:
			e.readMine(en, el, m)
		case xep.NSMarkers:
			en.Markable = en.Markable || el.Local() == "markable" && !en.Own
		case xep.NSReceipts:
			en.Wanted = en.Wanted || el.Local() == "request" && !en.Own
		}
	}
	if en.Kind == Text && en.RefID != "" {
		en.Body = withoutFallback(st, en.Body, xep.NSReply)
	}
	if en.Kind == Retraction || en.Kind == Reaction {
		en.Body = "" // for clients that know no better (XEP-0424 3.1, XEP-0428)
	}
}

// moderated reads who retracted somebody else's message and why, which the room alone
// may say (XEP-0425 3.1).
func (en *Entry) moderated(el xmltree.Element, byRoom bool) {
	by := el.Child(xep.NSModerate, "moderated")
	if !byRoom {
		return
	}
	if en.Moderator, _ = jid.Parse(strings.Clone(by.Attr("by"))); en.Moderator.IsZero() {
		en.Moderator = en.From.Bare() // which doesn't say who
	}
	en.Reason = clip(el.Child(xep.NSRetract, "reason").Text(), maxReason)
}

// tombstone is what an archive has of a message that was taken back (XEP-0424 4,
// XEP-0425 4); zero for another message, and for one that came live, whose sender may
// write what he likes.
func (m message) tombstone() xmltree.Element {
	if m.way != archive || !m.st.Child(stanza.NSClient, "body").IsZero() {
		return xmltree.Element{}
	}
	return m.st.Child(xep.NSRetract, "retracted")
}

// entomb makes an entry what its archive has of it.
func (en *Entry) entomb(tomb xmltree.Element) {
	en.Retracted = true
	en.blank()
	if !tomb.Child(xep.NSModerate, "moderated").IsZero() {
		en.moderated(tomb, true)
	}
}

// kind says what entry a message makes; false for none.
func (m message) kind() (Kind, bool) {
	if !m.tombstone().IsZero() {
		return Text, true
	}
	return kindOf(m.st)
}

func emoji(el xmltree.Element) []string {
	var list []string
	for c := range el.Children() {
		if c.Is(xep.NSReactions, "reaction") {
			if s := clip(c.Text(), maxEmoji); s != "" && !slices.Contains(list, s) && len(list) < 32 {
				list = append(list, s)
			}
		}
	}
	return list
}

// withoutFallback takes out of a body what stands there for clients that don't
// know the extension (XEP-0428 3): whole, or by positions in code points.
func withoutFallback(st *stanza.Stanza, body, what string) string {
	for el := range st.Payloads() {
		if !el.Is(xep.NSFallback, "fallback") || el.Attr("for") != what {
			continue
		}
		part := el.Child(xep.NSFallback, "body")
		if part.IsZero() {
			return body
		}
		from, err1 := strconv.Atoi(part.Attr("start"))
		to, err2 := strconv.Atoi(part.Attr("end"))
		if part.Attr("start") == "" && part.Attr("end") == "" {
			return ""
		}
		if err1 != nil || err2 != nil || from < 0 || to < from {
			return body
		}
		start, end := offset(body, from), offset(body, to)
		return body[:start] + body[end:]
	}
	return body
}

// offset is where the code point with this number begins, or the end.
func offset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// refersTo is the name by which an entry's target is looked for: corrections
// and retractions count only for the same sender's messages (XEP-0308 5,
// XEP-0424 5).
func (c *conversation) refersTo(it *item) refKey {
	if it.Kind == Correction || it.Kind == Retraction && !c.rec.Room {
		return c.key(it, it.RefID)
	}
	return refKey{id: it.RefID}
}

// target finds the entry that another is about; nil if it isn't known.
func (c *conversation) target(it *item, account jid.JID) *item {
	if it.RefID == "" {
		return nil
	}
	k := c.refersTo(it)
	if k != (refKey{id: it.RefID}) {
		return c.byRef[k]
	}
	if c.rec.Room {
		// The room's own id (XEP-0444 4.1, XEP-0461 4): nobody else can use it up.
		found := c.byRef[refKey{from: c.rec.JID, id: it.RefID}]
		if it.Kind == Retraction && found != nil && !c.retracts(it, found) {
			return nil
		}
		return found
	}
	for _, from := range [...]jid.JID{c.sender(account), it.RefFrom, c.sender(c.rec.JID)} {
		if found := c.byRef[refKey{from: from, id: it.RefID}]; found != nil && found != it {
			return found
		}
	}
	return nil
}

// retracts reports whether a retraction in a room counts: by who said it (XEP-0424
// 5), or by the room itself for a moderator (XEP-0425 3.1). What an occupant says of
// moderation says nothing.
func (c *conversation) retracts(it, of *item) bool {
	return it.From == c.rec.JID || c.key(it, "") == c.key(of, "")
}

// refer brings together an entry and the one that it is about, now or when
// that one comes.
func (e *Engine) refer(c *conversation, it *item) {
	if it.RefID == "" || it.target {
		return
	}
	t := c.target(it, e.cfg.Account)
	if t == nil || t == it {
		e.orphan(c, it)
		return
	}
	it.target = true
	if it.Kind == Text {
		it.ReplyTo = t.ID
		e.save(c, it)
		return
	}
	if len(t.refs) >= e.lim.Refs {
		oldest := slices.MinFunc(t.refs, func(a, b *item) int { return compare(a.Pos, b.Pos) })
		if compare(it.Pos, oldest.Pos) < 0 {
			return
		}
		t.refs[slices.Index(t.refs, oldest)] = it
	} else {
		t.refs = append(t.refs, it)
	}
	for n := 0; t.Kind == Correction && n < 16; n++ { // show what it finally is about
		next := c.target(t, e.cfg.Account)
		if next == nil {
			break
		}
		t = next
	}
	e.touch(c, t.ID)
	t.twins.each(func(it *item) { e.touch(c, it.ID) })
}

// twins are entries of one sender under one id: a server that was killed may have
// taken a message of another domain twice, and somebody may use an id again. What
// is said about the id is kept with the first of the list, the others find it by
// that, and is shown with the one that the archive has first, as it is on every
// device.
type twins struct{ list []*item }

// maxTwins bounds a list: what else has the id stands for itself.
const maxTwins = 16

// pair notes that an entry has the id of another.
func (e *Engine) pair(c *conversation, have, it *item) {
	if it.twins != nil || have.Kind != it.Kind {
		return
	}
	if have.twins == nil {
		have.twins = &twins{[]*item{have}}
	}
	if len(have.twins.list) >= maxTwins {
		return
	}
	it.twins = have.twins
	it.twins.list = append(it.twins.list, it)
	it.twins.each(func(it *item) { e.touch(c, it.ID) })
}

// heir is the one that is to have what is said when the first is gone.
func (t *twins) heir() *item {
	if t == nil || len(t.list) < 2 {
		return nil
	}
	return t.list[1]
}

// unpair takes an entry off the list.
func (it *item) unpair() {
	t := it.twins
	if t == nil {
		return
	}
	if heir := t.heir(); t.list[0] == it && heir != nil {
		heir.refs, it.refs = append(heir.refs, it.refs...), nil
	}
	t.list = slices.DeleteFunc(t.list, func(x *item) bool { return x == it })
	if it.twins = nil; len(t.list) == 1 {
		t.list[0].twins = nil
	}
}

func (t *twins) each(f func(*item)) {
	if t != nil {
		for _, it := range t.list {
			f(it)
		}
	}
}

// about is what is said about an entry.
func (it *item) about() []*item {
	if it.twins == nil {
		return it.refs
	}
	if it != slices.MinFunc(it.twins.list, func(a, b *item) int { return compare(a.Pos, b.Pos) }) {
		return nil
	}
	return it.twins.list[0].refs
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// orphan keeps an entry until what it is about comes.
func (e *Engine) orphan(c *conversation, it *item) {
	if c.orphan >= e.lim.Orphans {
		return
	}
	k := c.refersTo(it)
	if c.rec.Room && k == (refKey{id: it.RefID}) {
		k.from = c.rec.JID
	}
	if c.orphans == nil {
		c.orphans = map[refKey][]*item{}
	}
	c.orphans[k] = append(c.orphans[k], it)
	c.orphan++
}

// shown is an entry with what was said about it worked in. What counts is the
// place in the archive, not what came first.
func (c *conversation) shown(it *item) Entry {
	en := it.Entry
	if len(it.about()) == 0 || en.Retracted { // by its archive: nothing is left to say about it
		return en
	}
	about := gather(nil, it, 0)
	slices.SortFunc(about, func(a, b *item) int { return compare(a.Pos, b.Pos) })
	var reacted []Reacted
	var by []refKey // whose they are
	for _, r := range about {
		if r.Delivery == Failed && r.Archive.ID == "" {
			continue // nobody else has it
		}
		switch r.Kind {
		case Correction:
			en.Body, en.Edited = r.Body, true
		case Retraction:
			en.Retracted, en.Moderator, en.Reason = true, r.Moderator, r.Reason
		case Reaction:
			k := c.key(r, "")
			if n := slices.Index(by, k); n >= 0 {
				reacted, by = slices.Delete(reacted, n, n+1), slices.Delete(by, n, n+1)
			}
			if len(r.Emoji) > 0 {
				reacted, by = append(reacted, Reacted{c.sender(r.From), r.Emoji}), append(by, k)
			}
		}
	}
	en.Reactions = reacted
	if en.Retracted {
		en.blank()
	}
	return en
}

// blank takes out of an entry what was taken back.
func (en *Entry) blank() {
	en.Body, en.Subject, en.Edited, en.Reactions = "", "", false, nil
}

// gather collects what is said about an entry: also about its corrections,
// which some clients name instead of the original.
func gather(list []*item, it *item, depth int) []*item {
	for _, r := range it.about() {
		list = append(list, r)
		if depth < 16 {
			list = gather(list, r, depth+1)
		}
	}
	return list
}
