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

// room is how many lines of the conversation are on the screen: what the header with its rule, the title with its, the text with its, and the last line
// leave.
func (m *Model) room() int { return max(1, m.height-4-1-m.text.Height()-1) }

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
		return cut(fmt.Sprintf("the terminal is too small: %d×%d are needed", minWidth, minHeight), max(m.width, 1)), nil
	}
	rows := []string{m.header()}
	var cursor *tea.Cursor
	switch {
	case m.overlay == helpOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.block(m.help(), m.height-3)...)
	case m.overlay == devicesOverlay:
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.block(m.devicesPage(), m.height-3)...)
	case m.listWidth() == 0 && (m.focus == onList || m.focus == onThreads):
		rows = append(rows, m.style.faint(strings.Repeat("─", m.width)))
		rows = append(rows, m.lists(m.width, m.height-3)...)
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
			cursor.Y += 2
		}
		rows = append(rows, body...)
	}
	return strings.Join(append(rows, m.hint()), "\n"), cursor
}

// header says whose screen this is, and how the connection is.
func (m *Model) header() string {
	name := " " + m.cfg.Account.String()
	if m.cfg.Name != "" {
		name += " · " + oneLine(m.cfg.Name)
	}
	state := m.connection() + " "
	left := fit(name, m.width-width(state)-1)
	if m.ended != nil || m.status.Final {
		state = m.style.warn(state)
	}
	return m.style.strong(left) + " " + state
}

// connection is the state of the connection, in words.
func (m *Model) connection() string {
	s := m.status
	switch {
	case m.ended != nil:
		return cut("✕ stopped: "+oneLine(m.ended.Error()), m.width/2)
	case s.Final && s.Err != nil:
		return cut("✕ "+Reason(s.Err), m.width/2)
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

// lists is the column with the conversations and the threads of the open one.
func (m *Model) lists(w, h int) []string {
	threads := min(len(m.index), max(0, h-4-min(len(m.snap.list), h/2)))
	top := h
	if threads > 0 {
		top = h - threads - 2
	}
	rows := []string{m.style.faint(fit(" Conversations", w))}
	at := window(m.cursor, len(m.snap.list), top-1)
	for i := at; i < len(m.snap.list) && len(rows) < top; i++ {
		rows = append(rows, m.summary(i, w))
	}
	if len(m.snap.list) == 0 {
		rows = append(rows, m.style.faint(fit(" none yet: ^O begins one", w)))
	}
	for len(rows) < top {
		rows = append(rows, strings.Repeat(" ", w))
	}
	if threads > 0 {
		rows = append(rows, strings.Repeat(" ", w), m.style.faint(fit(" Threads", w)))
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
	text := sides(mark+" "+conversationName(s.JID, s.Name), unread, w)
	switch {
	case m.focus == onList && i == m.cursor:
		return m.style.reverse(text)
	case s.Unread > 0:
		return m.style.strong(text)
	}
	return text
}

// conversationName is what a conversation is called.
func conversationName(j jid.JID, name string) string {
	switch {
	case name != "":
		return oneLine(name)
	case j.Resource() != "":
		return oneLine(j.Resource())
	case j.Local() != "":
		return oneLine(j.Local())
	}
	return oneLine(j.String())
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
	text := sides(mark+strings.Repeat(" ", min(t.Depth, 4)+1)+t.label+" "+m.threadName(t), count, w)
	if m.focus == onThreads && i == m.line {
		return m.style.reverse(text)
	}
	return m.style.thread(t.root, text)
}

// threadName is what a thread is called: how its first message begins.
func (m *Model) threadName(t thread) string {
	i := m.entryAt(t.First)
	if i < 0 {
		return "…"
	}
	e := m.snap.view.Entries[i]
	switch {
	case e.Retracted:
		return "(taken back)"
	case e.Subject != "":
		return cut(oneLine(e.Subject), 60)
	}
	return cut(oneLine(cut(oneLine(e.Body), 60)), 60)
}

// conversation is the open conversation with the text below it, and where the cursor is.
func (m *Model) conversation() ([]string, *tea.Cursor) {
	w := m.mainWidth()
	rows := []string{m.title(w), m.style.faint(strings.Repeat("─", w))}
	lines := m.screenful()
	room := m.room()
	switch {
	case m.open.IsZero() && m.mode != address:
		rows = append(rows, m.welcome(w, room)...)
	default:
		for range room - len(lines) {
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
			rows[len(rows)-1] = m.style.faint(centred(text, w))
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
		if i == 0 && (!m.open.IsZero() || m.mode == address) {
			prompt = " > "
		}
		rows = append(rows, prompt+fit(text, w-3))
	}
	return rows, cursor
}

func centred(s string, w int) string { return fit(strings.Repeat(" ", max(0, (w-width(s))/2))+s, w) }

// title says with whom the conversation is, and which of the own devices have it.
func (m *Model) title(w int) string {
	if m.open.IsZero() {
		return strings.Repeat(" ", w)
	}
	v := m.snap.view
	name := conversationName(m.open, v.Name)
	left := " " + name
	if address := m.open.String(); address != name {
		left += " · " + oneLine(address)
	}
	var others []string
	for _, h := range v.Holders {
		if name := deviceName(h.Resource); !h.This && name != "" && !slices.Contains(others, name) && len(others) < 3 {
			others = append(others, name)
		}
	}
	right := ""
	if len(others) > 0 {
		right = "also on " + strings.Join(others, ", ") + " "
	}
	if m.anchor != 0 {
		right = "older messages, esc: newest "
	}
	if width(left)+width(right)+1 > w {
		left = " " + name
	}
	return m.style.strong(fit(left, w-width(right))) + m.style.faint(cut(right, w)) + strings.Repeat(" ", len(right)-len(strings.TrimRight(right, " ")))
}

// welcome is what is there before a conversation is open.
func (m *Model) welcome(w, h int) []string {
	text := []string{"choose a conversation with ↑ ↓ and press enter", "", "^O  write to somebody new", "F1  all keys"}
	rows := make([]string, h)
	for i := range rows {
		rows[i] = strings.Repeat(" ", w)
		if n := i - max(0, h/2-2); n >= 0 && n < len(text) {
			rows[i] = m.style.faint(centred(text[n], w))
		}
	}
	return rows
}

// rule is the line above the text: what the text is for, and who is writing.
func (m *Model) rule(w int) string {
	what := ""
	switch m.mode {
	case address:
		what = "write to whom? an address, such as bob@example.org"
	case reply, correct, branch:
		what = map[mode]string{reply: "reply to", correct: "correct", branch: "branch off from"}[m.mode]
		if i := m.entryAt(m.about); i >= 0 {
			e := m.snap.view.Entries[i]
			what += " " + strings.TrimSpace(m.name(e)) + ": " + oneLine(e.Body)
		}
	case newThread:
		what = "new thread"
	default:
		if m.open.IsZero() {
			break
		}
		what = "to " + conversationName(m.open, m.snap.view.Name)
		if to := m.snap.view.LockedTo; !to.IsZero() {
			what += " at " + deviceName(to.Resource())
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
		right = " " + cut(oneLine(who), 16) + " is writing… ─"
	}
	left := ""
	if what != "" {
		left = "─ " + cut(what, w-4-width(right)) + " "
	}
	return m.style.faint(left + strings.Repeat("─", max(0, w-width(left)-width(right))) + right)
}

// block is text as a page: h lines as wide as the screen.
func (m *Model) block(text []string, h int) []string {
	rows := make([]string, h)
	for i := range rows {
		rows[i] = strings.Repeat(" ", m.width)
		if i < len(text) {
			rows[i] = fit(text[i], m.width)
		}
	}
	return rows
}

// hint is the last line: what to press.
func (m *Model) hint() string {
	text := m.notice
	switch {
	case text != "":
		return m.style.warn(fit(" "+text, m.width))
	case m.question == askRetract:
		text = "take this message back?  y yes  any other key: no"
	case m.question == askEndDevice:
		text = "end its access?  y yes  any other key: no"
	case m.question == askPassword:
		text = "new password: " + strings.Repeat("•", len(m.secret)) + "  enter go on  esc leave it"
	case m.question == askPasswordAgain:
		text = "the same again: " + strings.Repeat("•", len(m.secret)) + "  enter change it and end the device  esc leave it"
	case m.question == askReaction:
		for i, r := range reactions() {
			text += strconv.Itoa(i+1) + " " + r + "  "
		}
		text += "0 none  esc back"
	case m.overlay == helpOverlay:
		text = "esc back"
	case m.overlay == devicesOverlay:
		text = "↑↓ choose  d end this device  esc back"
	case m.listWidth() == 0 && m.focus == onText && m.mode == say:
		text = "enter send  ↑ choose  tab list  F1 keys"
	case m.focus == onList:
		text = "↑↓ choose  enter open  n somebody new  F1 keys  q quit"
	case m.focus == onThreads:
		text = "↑↓ choose  enter go on with this thread  esc back"
	case m.focus == onMessages:
		text = m.messageKeys()
	case m.mode == address:
		text = "enter open  esc back"
	case m.mode != say:
		text = "enter send  esc back"
	default:
		text = "enter send  ↑ messages  tab conversations  ^T threads  ^N new thread  F1 keys"
	}
	if m.question != noQuestion {
		return m.style.strong(fit(" "+text, m.width))
	}
	return m.style.faint(fit(" "+text, m.width))
}

// messageKeys are the keys that mean something for the chosen message.
func (m *Model) messageKeys() string {
	keys := []string{"r reply", "+ react", "b branch off"}
	if e, ok := m.chosen(); ok {
		if e.Owner == convo.Unclaimed {
			keys = append(keys, "t take it")
		}
		if e.Own && !e.Retracted {
			keys = append(keys, "e correct", "x take back")
		}
		if e.Delivery == convo.Failed {
			keys = append(keys, "s send again")
		}
	}
	return strings.Join(append(keys, "esc back"), "  ")
}
