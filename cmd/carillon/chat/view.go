package chat

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/convo"
	"carillon.im/jid"
)

// The least that a screen can be, and from where on it has a column for the lists.
const (
	minWidth, minHeight = 34, 10
	wideFrom            = 62
	maxTextLines        = 4 // of the text that is being written
	maxTrouble          = 3
)

// resize takes a new size of the terminal.
func (m *Model) resize(w, h int) {
	m.width, m.height = w, h
	m.text.MaxHeight = min(max(1, h-7), maxTextLines)
	m.text.SetWidth(max(8, m.mainWidth()-4))
}

// listWidth is how wide the column of the lists is, 0 where there is none.
func (m *Model) listWidth() int {
	if m.width < wideFrom {
		return 0
	}
	return min(max(m.width*28/100, 20), 34)
}

// mainWidth is how wide the conversation is.
func (m *Model) mainWidth() int {
	if w := m.listWidth(); w > 0 {
		return m.width - w - 1
	}
	return m.width
}

// room is how many lines of the conversation are on the screen: what the title with its rule and the text with its leave.
func (m *Model) room() int { return max(1, m.pageHeight()-3-m.text.Height()) }

// pageHeight is what the header with its rule, what is wrong, and the last line leave.
func (m *Model) pageHeight() int { return m.height - 3 - len(m.trouble()) }

// View is the screen.
func (m *Model) View() tea.View {
	text, cursor := m.screen()
	v := tea.NewView(text)
	v.AltScreen, v.ReportFocus, v.Cursor = true, true, cursor
	v.WindowTitle = "carillon: " + m.cfg.Account.String()
	return v
}

// screen is the screen's text, and where the cursor is in it, nil for nowhere.
func (m *Model) screen() (string, *tea.Cursor) {
	if m.width < minWidth || m.height < minHeight {
		text := m.wrap(fmt.Sprintf("the terminal is too small: %d×%d are needed", minWidth, minHeight), m.width)
		text = text[:min(len(text), max(m.height, 1))]
		for i, l := range text {
			text[i] = m.cut(l, max(m.width, 1))
		}
		return strings.Join(text, "\n"), nil
	}
	rows := append([]string{m.header()}, m.trouble()...)
	above := len(rows)
	var cursor *tea.Cursor
	switch {
	case m.overlay == helpOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		help := m.help()
		rows = append(rows, m.block(help[min(m.page, max(0, len(help)-m.pageHeight())):], m.pageHeight())...)
	case m.overlay == devicesOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.block(m.devicesPage(), m.pageHeight())...)
	case m.overlay == peopleOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.block(m.peoplePage(), m.pageHeight())...)
	case m.overlay == roomOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.block(m.roomPage(), m.pageHeight())...)
	case m.listWidth() == 0 && (m.focus == onList || m.focus == onThreads):
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.lists(m.width, m.pageHeight())...)
	default:
		var body []string
		body, cursor = m.conversation()
		if w := m.listWidth(); w > 0 {
			rows = append(rows, m.style.faint(strings.Repeat("─", w)+"┬"+strings.Repeat("─", m.mainWidth())))
			for i, left := range m.lists(w, len(body)) {
				joint := "│"
				if i == 1 || i == 2+m.room() { // the rules below the title and above the text
					joint = "├"
				}
				body[i] = left + m.style.faint(joint) + body[i]
			}
			if cursor != nil {
				cursor.X += w + 1
			}
		} else {
			rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		}
		if cursor != nil {
			cursor.Y += above + 1
		}
		rows = append(rows, body...)
	}
	return strings.Join(append(rows, m.hint()), "\n"), cursor
}

// header says whose screen this is, and how the connection is.
func (m *Model) header() string {
	name := " " + m.cfg.Account.String()
	if m.cfg.Name != "" {
		name += " · " + m.oneLine(m.cfg.Name)
	}
	state := m.connection() + " "
	if n := len(m.snap.asks); n > 0 && m.width >= wideFrom {
		state = fmt.Sprintf("F4: %d ask · %s", n, state)
	} else if n > 0 {
		state = fmt.Sprintf("F4: %d? %s", n, state)
	}
	left := m.fit(name, m.width-m.wide(state)-1)
	if m.ended != nil || m.status.Final {
		state = m.style.warn(state)
	}
	return m.style.strong(left) + " " + state
}

// connection is the state of the connection, in words.
func (m *Model) connection() string {
	s := m.status
	switch {
	case m.ended != nil || s.Final:
		return "✕ stopped"
	case s.Online && s.CatchingUp:
		return "◌ catching up…"
	case s.Online:
		return "● connected"
	case s.Err == nil:
		return "◌ connecting…"
	}
	wait := s.Retry.Sub(m.now())
	if wait < time.Second {
		return "◌ offline, connecting…"
	}
	return fmt.Sprintf("○ offline, next try %s", s.Retry.In(m.now().Location()).Format("15:04:05"))
}

// trouble is what is wrong and what to do about it, in lines below the header.
func (m *Model) trouble() []string {
	s, text := m.status, ""
	switch {
	case m.ended != nil:
		text = m.ended.Error() + ". ^C quits; start again when that is mended"
	case s.Final && s.Err != nil:
		text = Reason(s.Err) + ". ^C quits; start again to log in"
	case !s.Online && s.Err != nil && s.Retry.Sub(m.now()) >= time.Second:
		text = Reason(s.Err) + ". What you write is sent later; ^R tries now"
	default:
		return nil
	}
	lines := m.wrap(m.oneLine(text), m.width-2)
	if len(lines) > maxTrouble {
		lines = append(lines[:maxTrouble-1:maxTrouble-1], m.cut(strings.Join(lines[maxTrouble-1:], " "), m.width-2))
	}
	for i, l := range lines {
		lines[i] = m.style.warn(m.fit(" "+l, m.width))
	}
	return lines
}

// lists is the column with the conversations and the threads of the open one.
func (m *Model) lists(w, h int) []string {
	threads := min(len(m.index), max(0, h-4-min(len(m.snap.list), h/2)))
	top := h
	if threads > 0 {
		top = h - threads - 2
	}
	rows := []string{m.style.faint(m.fit(" Conversations", w))}
	at := window(m.cursor, len(m.snap.list), top-1)
	for i := at; i < len(m.snap.list) && len(rows) < top; i++ {
		rows = append(rows, m.summary(i, w))
	}
	if len(m.snap.list) == 0 {
		rows = append(rows, m.style.faint(m.fit(" none yet", w)))
	}
	for len(rows) < top {
		rows = append(rows, strings.Repeat(" ", w))
	}
	if threads > 0 {
		rows = append(rows, strings.Repeat(" ", w), m.style.faint(m.fit(" Threads", w)))
		current := max(0, m.threadOf(m.snap.view.Current))
		if m.focus == onThreads {
			current = m.line
		}
		at := window(current, len(m.index), threads)
		for i := at; i < at+threads && i < len(m.index); i++ {
			rows = append(rows, m.threadLine(i, w))
		}
	}
	return rows[:h]
}

// window is the first of n lines to show in h so that line at is among them.
func window(at, n, h int) int {
	if h <= 0 || n <= h {
		return 0
	}
	return min(max(0, at-h/2), n-h)
}

// summary is a line of the list of conversations.
func (m *Model) summary(i, w int) string {
	s := m.snap.list[i]
	mark := " "
	switch {
	case m.focus == onList && i == m.cursor:
		mark = "▸"
	case s.JID == m.open:
		mark = "•"
	}
	unread := ""
	switch {
	case s.Unread >= convo.MaxUnread:
		unread = strconv.Itoa(convo.MaxUnread) + "+ "
	case s.Unread > 0:
		unread = strconv.Itoa(s.Unread) + " "
	case len(s.Typing) > 0:
		unread = "… "
	}
	name := m.conversationName(s.JID, s.Name)
	if m.called[name] > 1 {
		name = m.oneLine(s.JID.String())
	}
	text := m.sides(mark+" "+name, unread, w)
	switch {
	case m.focus == onList && i == m.cursor:
		return m.style.reverse(text)
	case s.Unread > 0:
		return m.style.strong(text)
	}
	return text
}

// conversationName is what a conversation is called.
func (m *Model) conversationName(j jid.JID, name string) string {
	switch {
	case name != "":
		return m.oneLine(name)
	case j.Resource() != "":
		return m.oneLine(j.Resource())
	case j.Local() != "":
		return m.oneLine(j.Local())
	}
	return m.oneLine(j.String())
}

// threadLine is a line of the index of threads.
func (m *Model) threadLine(i, w int) string {
	t := m.index[i]
	mark := " "
	if t.ID == m.snap.view.Current {
		mark = "•"
	}
	if m.focus == onThreads && i == m.line {
		mark = "▸"
	}
	count := strconv.Itoa(t.Count) + " "
	if t.Unread > 0 {
		count = strconv.Itoa(t.Unread) + " new "
	}
	text := m.sides(mark+strings.Repeat(" ", min(t.Depth, 4)+1)+t.label+" "+m.threadName(t), count, w)
	if m.focus == onThreads && i == m.line {
		return m.style.reverse(text)
	}
	return m.style.thread(t.root, text)
}

// threadName is what a thread is called: how its first message begins.
func (m *Model) threadName(t thread) string {
	e, ok := m.snap.names[t.ID]
	if !ok {
		return "…"
	}
	switch {
	case e.Retracted:
		return "(taken back)"
	case e.Subject != "":
		return m.cut(m.oneLine(e.Subject), 60)
	}
	return m.cut(m.oneLine(m.cut(m.oneLine(e.Body), 60)), 60)
}

// conversation is the open conversation with the text below it, and where the cursor is.
func (m *Model) conversation() ([]string, *tea.Cursor) {
	w := m.mainWidth()
	rows := []string{m.title(w), m.style.faint(strings.Repeat("─", w))}
	lines := m.screenful()
	room := m.room()
	switch {
	case m.open.IsZero() && !m.mode.addresses():
		rows = append(rows, m.welcome(w, room)...)
	default:
		for range max(0, room-len(lines)) {
			rows = append(rows, strings.Repeat(" ", w))
		}
		if v := m.snap.view; len(lines) < room && m.snap.ok {
			text := "the conversation begins here"
			if v.Paging || v.More {
				text = "older messages are being fetched…"
			}
			if len(v.Entries) == 0 && !v.More && !v.Paging {
				text = "nothing was said yet"
			}
			rows[len(rows)-1] = m.style.faint(m.centred(text, w))
		}
		for _, l := range lines {
			rows = append(rows, l.text)
		}
	}
	rows = append(rows, m.rule(w))
	var cursor *tea.Cursor
	if m.focus == onText {
		if cursor = m.text.Cursor(); cursor != nil {
			cursor.X += 3
			cursor.Y += len(rows)
		}
	}
	for i, text := range strings.Split(m.text.View(), "\n") {
		prompt := "   "
		if i == 0 && (!m.open.IsZero() || m.mode.addresses()) {
			prompt = " > "
		}
		rows = append(rows, prompt+m.fit(text, w-3))
	}
	return rows, cursor
}

// title says with whom the conversation is, and which of the own devices have it.
func (m *Model) title(w int) string {
	if m.open.IsZero() {
		return strings.Repeat(" ", w)
	}
	v := m.snap.view
	name := m.conversationName(m.open, v.Name)
	left := " " + name
	if address := m.open.String(); address != name {
		left += " · " + m.oneLine(address)
	}
	if v.Topic != "" {
		left = " " + name + " · " + m.oneLine(v.Topic)
	}
	right := m.alsoOn(true)
	if m.wide(left)+m.wide(right)+1 > w {
		right = m.alsoOn(false)
	}
	if v.Room && v.People > 0 {
		right = strconv.Itoa(v.People) + " here "
	}
	if m.anchor != 0 {
		right = "older messages, esc: newest "
	}
	if m.wide(left)+m.wide(right)+1 > w && v.Topic == "" {
		left = " " + name
	}
	return m.style.strong(m.fit(left, w-m.wide(right))) + m.style.faint(m.cut(right, w)) + strings.Repeat(" ", len(right)-len(strings.TrimRight(right, " ")))
}

// lately is how long a device that isn't there is named for what it did.
const lately = 24 * time.Hour

// alsoOn says which own devices, besides this one, have the open conversation; also those that aren't connected, if all is set.
func (m *Model) alsoOn(all bool) string {
	var others []string
	for _, there := range []bool{true, false} {
		if !there && !all {
			break
		}
		for _, h := range m.snap.view.Holders {
			name := m.deviceName(h.Resource)
			if h.This || name == "" || h.Online != there || !there && m.now().Sub(h.At) > lately || len(others) >= 3 ||
				slices.ContainsFunc(others, func(o string) bool { return o == name || o == name+away }) {
				continue
			}
			if !there {
				name += away
			}
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "also on " + strings.Join(others, ", ") + " "
}

// away is behind the name of a device that isn't connected.
const away = " (offline)"

// welcome is what is there before a conversation is open.
func (m *Model) welcome(w, h int) []string {
	text := []string{"choose a conversation with ↑ ↓ and press enter", "", "^O  write to somebody new", "F4  contacts, and what is asked", "F1  all keys"}
	switch {
	case len(m.snap.list) > 0:
	case m.status.Online && !m.status.CatchingUp:
		text[0] = "who writes to you will be listed at the left"
	default:
		text[0] = "nothing here yet: connecting to the server…"
	}
	rows := make([]string, h)
	for i := range rows {
		rows[i] = strings.Repeat(" ", w)
		if n := i - max(0, h/2-2); n >= 0 && n < len(text) {
			rows[i] = m.style.faint(m.centred(text[n], w))
		}
	}
	return rows
}

// rule is the line above the text: what the text is for, and who is writing.
func (m *Model) rule(w int) string {
	what := ""
	switch m.mode {
	case address:
		what = "write to whom? bob@example.org, or a room"
	case reply, correct, branch:
		what = map[mode]string{reply: "reply to", correct: "correct", branch: "branch off from"}[m.mode]
		if i := m.entryAt(m.about); i >= 0 {
			e := m.snap.view.Entries[i]
			what += " " + strings.TrimSpace(m.name(e)) + ": " + m.oneLine(e.Body)
		}
	case newThread:
		what = "new thread"
	case newContact:
		what = "add whom? bob@example.org"
	case contactName:
		what = "a name for " + m.oneLine(m.adding.String()) + ", or none"
	case invitee:
		what = "invite whom? bob@example.org"
	case nickname:
		what = "by which name in this room?"
	default:
		if m.open.IsZero() {
			break
		}
		what = "to " + m.conversationName(m.open, m.snap.view.Name)
		if why := m.whyOutside(); why != "" {
			what = "not in the room: " + why
			break
		}
		if to := m.snap.view.LockedTo; !to.IsZero() {
			what += " at " + m.deviceName(to.Resource())
		}
		if n := m.threadOf(m.snap.view.Current); n >= 0 {
			what += " · thread " + m.index[n].label + " " + m.threadName(m.index[n])
		}
	}
	right := ""
	if names := m.snap.view.Typing; len(names) > 0 && m.mode == say {
		who := names[0].Local()
		if m.snap.view.Room {
			who = names[0].Resource()
		}
		right = " " + m.cut(m.oneLine(who), 16) + " is writing… ─"
	}
	left := ""
	if what != "" {
		left = "─ " + m.cut(what, w-4-m.wide(right)) + " "
	}
	if m.mode == say && m.whyOutside() != "" {
		return m.style.warn(left) + m.style.faint(strings.Repeat("─", max(0, w-m.wide(left)-m.wide(right)))+right)
	}
	return m.style.faint(left + strings.Repeat("─", max(0, w-m.wide(left)-m.wide(right))) + right)
}

// block is text as a page: h lines as wide as the screen.
func (m *Model) block(text []string, h int) []string {
	rows := make([]string, h)
	for i := range rows {
		rows[i] = strings.Repeat(" ", m.width)
		if i < len(text) {
			rows[i] = m.fit(text[i], m.width)
		}
	}
	return rows
}
