package chat

import (
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/convo"
)

// What a message's lines begin with: thread label, bar, mark, time, name. Where there is little width, time and name have a line of their own.
const (
	labelWidth = 3
	timeWidth  = 5
	minName    = 7
	maxName    = 12
	foldAt     = 8 // lines of a message that are shown unless it is unfolded
	maxLines   = 400
)

// line is one line of the conversation, laid out: exactly as wide as its place.
type line struct {
	text string
	of   int // the entry
}

// lines lay out the entry at i: the day and the gap before it, what it replies to, its text, its reactions.
func (m *Model) lines(i int) []line {
	v := &m.snap.view
	e := v.Entries[i]
	w := m.mainWidth()
	var out []line
	add := func(s string) { out = append(out, line{s, i}) }
	at := e.At.In(m.now().Location())
	if i == 0 || !sameDay(v.Entries[i-1].At.In(at.Location()), at) {
		day := at.Format("Monday 2 January")
		if at.Year() != m.now().Year() {
			day += at.Format(" 2006")
		}
		add(m.style.faint(m.fit(strings.Repeat(" ", max(0, (w-m.wide(day))/2))+day, w)))
	}
	if e.Gap {
		add(m.style.faint(m.fit("    ┄ messages are missing here, and asked for ┄", w)))
	}
	label, paint := m.gutter(i)
	mark := " "
	if e.ID == m.sel && m.sel != 0 {
		mark = m.style.strong("▸")
	}
	head, notes := at.Format("15:04")+" "+m.name(e)+" ", m.notes(e)
	indent := strings.Repeat(" ", timeWidth+1+m.nameWidth()+1)
	if m.listWidth() == 0 { // a line for who and when is worth the width that it saves
		indent = ""
	}
	room := max(w-labelWidth-2-len(indent), 8)
	body := m.content(e, room)
	if indent == "" {
		rest := m.cut(notes, max(0, room-m.wide(head)))
		body = slices.Insert(body, 0, m.style.head(e.Own, m.fit(head, room-m.wide(rest)))+m.style.faint(rest))
	} else if last := len(body) - 1; m.wide(body[last])+2+m.wide(notes) <= room {
		body[last] = m.fit(body[last], room-m.wide(notes)) + m.style.faint(notes)
	} else if notes != "" {
		for _, l := range m.wrap(notes, room) {
			body = append(body, m.style.faint(m.fit("", room-m.wide(l))+l))
		}
	}
	for n, text := range body {
		before := indent
		if n == 0 && indent != "" {
			before = m.style.head(e.Own, head)
		}
		add(paint(label) + paint("│") + mark + before + m.fit(text, room))
		label, mark = strings.Repeat(" ", labelWidth), " "
	}
	return out
}

// content is all that an entry says, in lines: what it replies to, its text, its reactions.
func (m *Model) content(e convo.Entry, room int) []string {
	body, folded := m.body(e, room)
	if quoted := m.quote(e, room); quoted != "" {
		body = slices.Insert(body, 0, m.style.faint(quoted))
	}
	if folded > 0 {
		body = append(body, m.style.faint(m.cut("… "+plural(folded, "more line")+" (↑, enter)", room)))
	}
	if r := m.reacted(e); r != "" {
		body = append(body, m.cut(r, room))
	}
	return body
}

func sameDay(a, b time.Time) bool {
	return a.Year() == b.Year() && a.YearDay() == b.YearDay()
}

// body is an entry's text in lines, and how many more there are.
func (m *Model) body(e convo.Entry, room int) (lines []string, folded int) {
	switch {
	case e.Retracted:
		return []string{m.style.faint("(taken back)")}, 0
	case e.Owner == convo.Elsewhere && e.Body == "":
		return []string{m.style.faint("(for another device)")}, 0
	}
	text := m.clean(e.Body)
	if e.Subject != "" {
		text = "[" + m.oneLine(e.Subject) + "] " + text
	}
	lines = m.wrap(text, room)
	most := foldAt
	if m.full[e.ID] {
		most = maxLines
	}
	if len(lines) > most+1 {
		folded = len(lines) - most
		lines = lines[:most:most]
	}
	return lines, folded
}

// quote says what a reply is to.
func (m *Model) quote(e convo.Entry, room int) string {
	if e.RefID == "" || e.Retracted || e.Kind != convo.Text {
		return ""
	}
	i := m.entryAt(e.ReplyTo)
	if e.ReplyTo == 0 || i < 0 {
		return m.cut("↳ to an older message", room)
	}
	to := m.snap.view.Entries[i]
	text := m.oneLine(to.Body)
	if to.Retracted {
		text = "(taken back)"
	}
	return m.cut("↳ "+strings.TrimSpace(m.name(to))+": "+text, room)
}

// gutter is the thread of an entry: its number where a run of its messages begins, and its colour. Whether the entry is a room's, a single message or
// history makes no difference (THR-20, THR-22, THR-24).
func (m *Model) gutter(i int) (string, func(string) string) {
	e := m.snap.view.Entries[i]
	n := m.threadOf(e.Thread)
	if n < 0 {
		return strings.Repeat(" ", labelWidth), m.style.faint
	}
	t := m.index[n]
	label := ""
	if i == 0 || m.snap.view.Entries[i-1].Thread != e.Thread {
		label = t.label
	}
	label = m.cut(label, labelWidth)
	return strings.Repeat(" ", labelWidth-m.wide(label)) + label, func(s string) string { return m.style.thread(t.root, s) }
}

// nameWidth is how wide the column of names is: in a room there may be anybody.
func (m *Model) nameWidth() int {
	w := m.wide(m.oneLine(m.open.Local()))
	if m.snap.view.Room {
		w = maxName
	}
	return min(max(w, minName), maxName)
}

// name is who wrote an entry, in its width.
func (m *Model) name(e convo.Entry) string {
	name := e.From.Local()
	switch {
	case e.Own:
		name = "you"
	case m.snap.view.Room:
		name = e.From.Resource()
	case name == "":
		name = e.From.Domain()
	}
	return m.fit(m.oneLine(name), m.nameWidth())
}

// deviceName is a resource as a person calls the device: what Bind 2 puts behind the name is left out (XEP-0386 3).
func (m *Model) deviceName(resource string) string {
	for _, sep := range []string{"~", "/", "."} {
		if name, _, ok := strings.Cut(resource, sep); ok && name != "" {
			resource = name
			break
		}
	}
	return m.oneLine(resource)
}

// notes are what is to be known of a message beside its text, that another device has taken it above all (MINE-28).
func (m *Model) notes(e convo.Entry) string {
	var notes []string
	if e.Edited && !e.Retracted {
		notes = append(notes, "edited")
	}
	switch e.Owner {
	case convo.Claiming:
		notes = append(notes, "taking…")
	case convo.Mine:
		notes = append(notes, "taken here")
	case convo.Elsewhere:
		notes = append(notes, "taken on "+m.deviceName(e.OwnerRes))
	}
	if e.Own && !e.Retracted {
		if r := e.From.Resource(); r != "" && !m.snap.view.Room && !m.status.JID.IsZero() && e.From != m.status.JID && m.deviceName(r) != m.deviceName(m.status.JID.Resource()) {
			notes = append(notes, "from "+m.deviceName(r))
		}
		switch {
		case e.Delivery == convo.Pending:
			notes = append(notes, "sending…")
		case e.Delivery == convo.Failed:
			notes = append(notes, "not sent: "+Refused(e.Error))
		case e.Displayed:
			notes = append(notes, "seen")
		case e.Delivered:
			notes = append(notes, "delivered")
		default:
			notes = append(notes, "sent")
		}
	}
	return strings.Join(notes, ", ")
}

// reacted are the reactions to an entry, each with how many there are.
func (m *Model) reacted(e convo.Entry) string {
	var order []string
	count := map[string]int{}
	for _, r := range e.Reactions {
		for _, emoji := range r.Emoji {
			emoji = m.cut(m.oneLine(emoji), 8)
			if count[emoji]++; count[emoji] == 1 && emoji != "" {
				order = append(order, emoji)
			}
		}
	}
	for i, emoji := range order {
		if count[emoji] > 1 {
			order[i] += " " + strconv.Itoa(count[emoji])
		}
	}
	return strings.Join(order, "  ")
}

// last is the entry at the bottom of the screen.
func (m *Model) last() int {
	if i := m.entryAt(m.anchor); m.anchor != 0 && i >= 0 {
		return i
	}
	return len(m.snap.view.Entries) - 1
}

// screenful are the lines on the screen, from the bottom up to its top.
func (m *Model) screenful() []line {
	room := m.room()
	var got []line
	for i := m.last(); i >= 0 && len(got) < room+m.skip; i-- {
		lines := m.lines(i)
		slices.Reverse(lines)
		got = append(got, lines...)
	}
	if m.anchor != 0 {
		got = got[min(m.skip, len(got)):]
	}
	got = got[:min(room, len(got))]
	slices.Reverse(got)
	return got
}

// visible are the first and the last entry on the screen; of none, the last is before the first.
func (m *Model) visible() (first, last int) {
	lines := m.screenful()
	if len(lines) == 0 {
		return 0, -1
	}
	return lines[0].of, lines[len(lines)-1].of
}

// scroll moves what is shown by lines, up if it is positive.
func (m *Model) scroll(by int) tea.Cmd {
	entries := m.snap.view.Entries
	if len(entries) == 0 {
		return nil
	}
	at := m.last()
	m.skip += by
	for m.skip < 0 && at < len(entries)-1 {
		at++
		m.skip += len(m.lines(at))
	}
	for at > 0 {
		n := len(m.lines(at))
		if m.skip < n {
			break
		}
		m.skip -= n
		at--
	}
	m.anchor = entries[at].ID
	m.skip = max(0, m.skip)
	if at == len(entries)-1 && m.skip == 0 {
		m.anchor = 0
	}
	// The top of the history is where going up ends.
	for len(m.screenful()) < m.room() && m.anchor != 0 {
		if m.skip > 0 {
			m.skip--
		} else if at++; at < len(entries) {
			m.anchor, m.skip = entries[at].ID, len(m.lines(at))-1
		}
		if at >= len(entries)-1 && m.skip <= 0 {
			m.anchor, m.skip = 0, 0
		}
	}
	if first, _ := m.visible(); by > 0 && first == 0 {
		return m.older()
	}
	return m.attend()
}

// show scrolls so that an entry is on the screen.
func (m *Model) show(id convo.EntryID) {
	at := m.entryAt(id)
	if at < 0 {
		return
	}
	first, last := m.visible()
	tall := len(m.lines(at)) > m.room() // of it the beginning is shown
	switch {
	case !tall && (at > last || at == last && m.skip > 0):
		m.anchor, m.skip = id, 0
		if at == len(m.snap.view.Entries)-1 {
			m.anchor = 0
		}
	case tall || at <= first:
		// Its first line at the top: as many lines below it as the screen has.
		room := m.room() - len(m.lines(at))
		below := at
		for below < len(m.snap.view.Entries)-1 && room > 0 {
			below++
			room -= len(m.lines(below))
		}
		m.anchor, m.skip = m.snap.view.Entries[below].ID, max(0, -room)
		if below == len(m.snap.view.Entries)-1 && m.skip == 0 {
			m.anchor = 0
		}
	}
}
