package chat

import (
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/convo"
	"carillon.im/jid"
)

// reactions are what a key puts under a message. Each is one code point, which all terminals give the same width.
func reactions() []string { return []string{"👍", "🎉", "😂", "😮", "😢", "🙏"} }

// pressed takes a key.
func (m *Model) pressed(msg tea.KeyPressMsg) tea.Cmd {
	m.notice = ""
	k := msg.String()
	if k == "ctrl+c" || k == "ctrl+q" {
		return tea.Quit
	}
	switch m.question {
	case askPassword, askPasswordAgain:
		return m.onSecret(k, msg)
	case askRoomPassword:
		return m.onRoomPassword(k, msg)
	case askRetract, askReaction, askEndDevice, askLeave, askRemove, askBlock:
		return m.answered(k)
	}
	switch k {
	case "ctrl+r":
		m.cfg.Device.NetworkChanged()
		return nil
	case "f1", "ctrl+g":
		m.page = 0
		m.overlay = toggled(m.overlay, helpOverlay)
		return m.attend()
	case "f2", "ctrl+d":
		if m.overlay = toggled(m.overlay, devicesOverlay); m.overlay == devicesOverlay {
			return m.askDevices()
		}
		return m.attend()
	case "f4", "ctrl+l":
		if m.overlay == peopleOverlay {
			m.overlay = noOverlay
			return m.attend()
		}
		return m.openPeople()
	case "f5", "ctrl+y":
		if m.overlay = toggled(m.overlay, roomOverlay); m.overlay == roomOverlay && !m.snap.view.Room {
			m.overlay, m.notice = noOverlay, "this is no room"
		}
		m.occupant = 0
		return tea.Batch(m.look(), m.attend())
	}
	switch m.overlay {
	case peopleOverlay:
		return m.onPeople(k)
	case roomOverlay:
		return m.onRoom(k)
	case helpOverlay:
		switch k {
		case "esc", "q", "enter":
			m.overlay = noOverlay
		case "up", "k":
			m.page = max(0, m.page-1)
		case "down", "j", "pgdown", "space":
			m.page = min(m.page+1, max(0, len(m.help())-m.pageHeight()))
		}
		return m.attend()
	case devicesOverlay:
		return m.onDevices(k)
	}
	switch k {
	case "ctrl+t":
		if len(m.index) > 0 {
			m.line = max(0, m.threadOf(m.snap.view.Current))
			m.focusOn(onThreads)
		}
		return nil
	case "ctrl+n":
		if !m.open.IsZero() {
			m.begin(newThread, 0, "")
		}
		return nil
	case "ctrl+o":
		m.begin(address, 0, "")
		return nil
	case "pgup":
		return m.scroll(max(1, m.room()-1))
	case "pgdown":
		return m.scroll(-max(1, m.room()-1))
	case "tab", "shift+tab":
		m.swap()
		return nil
	case "ctrl+up", "ctrl+p":
		return m.neighbour(-1)
	case "ctrl+down":
		return m.neighbour(1)
	}
	switch m.focus {
	case onList:
		return m.onListKey(k)
	case onThreads:
		return m.onThreadsKey(k)
	case onMessages:
		return m.onMessagesKey(k)
	}
	return m.onTextKey(k, msg)
}

func toggled(have, o overlay) overlay {
	if have == o {
		return noOverlay
	}
	return o
}

// swap goes from the conversation to the list and back.
func (m *Model) swap() {
	switch {
	case m.focus != onList:
		for i, s := range m.snap.list {
			if s.JID == m.open {
				m.cursor = i
			}
		}
		m.focusOn(onList)
	case !m.open.IsZero():
		m.focusOn(onText)
	}
}

// neighbour opens the next conversation in the list.
func (m *Model) neighbour(by int) tea.Cmd {
	list := m.snap.list
	if len(list) == 0 {
		return nil
	}
	at := -1
	for i, s := range list {
		if s.JID == m.open {
			at = i
		}
	}
	at = min(max(at+by, 0), len(list)-1)
	if list[at].JID == m.open {
		return nil
	}
	m.cursor = at
	return m.openConversation(list[at].JID)
}

func (m *Model) onListKey(k string) tea.Cmd {
	switch k {
	case "up", "k":
		m.cursor = max(0, m.cursor-1)
	case "down", "j":
		m.cursor = min(len(m.snap.list)-1, m.cursor+1)
	case "enter", "right":
		if m.cursor >= 0 && m.cursor < len(m.snap.list) {
			return m.openConversation(m.snap.list[m.cursor].JID)
		}
	case "n":
		m.begin(address, 0, "")
	case "l":
		if m.cursor >= 0 && m.cursor < len(m.snap.list) && m.snap.list[m.cursor].Room {
			m.question = askLeave
		}
	case "esc":
		if !m.open.IsZero() {
			m.focusOn(onText)
		}
	case "q":
		return tea.Quit
	}
	m.cursor = max(0, m.cursor)
	return nil
}

func (m *Model) onThreadsKey(k string) tea.Cmd {
	switch k {
	case "up", "k":
		m.line = max(0, m.line-1)
	case "down", "j":
		m.line = min(len(m.index)-1, m.line+1)
	case "enter":
		if m.line < len(m.index) {
			t := m.index[m.line]
			m.focusOn(onText)
			m.show(t.Last)
			return m.act(convo.SelectThread{Conversation: m.open, Thread: t.ID})
		}
	case "esc":
		m.focusOn(onText)
	}
	return nil
}

func (m *Model) onMessagesKey(k string) tea.Cmd {
	e, ok := m.chosen()
	if !ok {
		m.focusOn(onText)
		return nil
	}
	switch k {
	case "up", "k":
		return m.choose(-1)
	case "down", "j":
		return m.choose(1)
	case "esc":
		m.focusOn(onText)
		m.anchor, m.skip = 0, 0
		return m.attend()
	case "enter":
		m.full[e.ID] = !m.full[e.ID]
		m.show(e.ID)
	case "r":
		m.begin(reply, e.ID, "")
	case "b":
		m.begin(branch, e.ID, "")
	case "e":
		if !e.Own || e.Retracted {
			m.notice = "only an own message can be corrected"
			break
		}
		m.begin(correct, e.ID, e.Body)
	case "x", "delete":
		if !e.Own || e.Retracted {
			m.notice = "only an own message can be taken back"
			break
		}
		m.question = askRetract
	case "+":
		m.question = askReaction
	case "t":
		if e.Owner != convo.Unclaimed {
			m.notice = "nobody asks who answers this"
			break
		}
		return m.act(convo.Attention{Conversation: m.open, Act: convo.Accepted, Entries: []convo.EntryID{e.ID}})
	case "s":
		if e.Delivery != convo.Failed {
			m.notice = "only a message that was not sent can be sent again"
			break
		}
		return m.act(convo.Resend{Conversation: m.open, Entry: e.ID})
	}
	return nil
}

// choose chooses the next message up or down; below the last is the text.
func (m *Model) choose(by int) tea.Cmd {
	entries := m.snap.view.Entries
	at := m.entryAt(m.sel)
	if m.sel == 0 {
		_, at = m.visible()
		at++
	}
	switch at += by; {
	case at >= len(entries):
		m.focusOn(onText)
		m.anchor, m.skip = 0, 0
		return m.attend()
	case at < 0:
		return m.older()
	}
	m.focusOn(onMessages)
	m.sel = entries[at].ID
	m.show(m.sel)
	return m.attend()
}

// older looks at more entries, if there are.
func (m *Model) older() tea.Cmd {
	if v := m.snap.view; v.More && len(v.Entries) >= m.limit && m.limit < maxEntries {
		m.limit += pageEntries
		return m.look()
	}
	return m.attend()
}

// answered takes the key that answers a question.
func (m *Model) answered(k string) tea.Cmd {
	asked := m.question
	m.question = noQuestion
	e, ok := m.chosen()
	switch {
	case asked == askLeave:
		if k == "y" && m.cursor < len(m.snap.list) {
			ctx, device, room := m.cfg.Context, m.cfg.Device, m.snap.list[m.cursor].JID
			return func() tea.Msg { return actedMsg{err: device.Leave(ctx, room)} }
		}
	case asked == askRemove || asked == askBlock:
		if k == "y" {
			return m.removeOrBlock(asked)
		}
	case asked == askEndDevice:
		if k == "y" && m.deviceLine < len(m.devices) {
			return m.endDevice(m.devices[m.deviceLine], "")
		}
	case asked == askRetract && ok && k == "y":
		return m.act(convo.Retract{Conversation: m.open, Entry: e.ID})
	case asked == askReaction && ok && len(k) == 1 && k[0] >= '0' && int(k[0]-'0') <= len(reactions()):
		var emoji []string
		if n := int(k[0] - '0'); n > 0 {
			emoji = []string{reactions()[n-1]}
		}
		return m.act(convo.React{Conversation: m.open, Entry: e.ID, Emoji: emoji})
	}
	return nil
}

func (m *Model) onDevices(k string) tea.Cmd {
	switch k {
	case "esc", "q":
		m.overlay = noOverlay
		return m.attend()
	case "up", "k":
		m.deviceLine = max(0, m.deviceLine-1)
	case "down", "j":
		m.deviceLine = max(0, min(len(m.devices)-1, m.deviceLine+1))
	case "d", "delete":
		switch {
		case m.deviceLine >= len(m.devices):
		case m.deviceLine == m.thisDevice():
			m.notice = "this is the device that you are using"
		case m.devices[m.deviceLine].Password:
			m.question, m.secret = askPassword, nil
		default:
			m.question = askEndDevice
		}
	}
	return nil
}

// thisDevice is the line of the device that shows this, -1 if it can't be told.
func (m *Model) thisDevice() int {
	this := -1
	for i, d := range m.devices {
		if d.Connected && d.Device == m.cfg.Name && m.cfg.Name != "" {
			if this >= 0 {
				return -1
			}
			this = i
		}
	}
	return this
}

// onSecret takes a key of a new password.
func (m *Model) onSecret(k string, msg tea.KeyPressMsg) tea.Cmd {
	switch k {
	case "esc":
		m.question, m.secret, m.once = noQuestion, nil, ""
	case "backspace":
		m.secret = m.secret[:max(0, len(m.secret)-1)]
	case "ctrl+u":
		m.secret = nil
	case "enter":
		typed := string(m.secret)
		if typed == "" {
			return nil
		}
		m.secret = nil
		if m.question == askPassword {
			m.question, m.once = askPasswordAgain, typed
			return nil
		}
		first := m.once
		m.question, m.once = noQuestion, ""
		switch {
		case typed != first:
			m.notice = "the two are different: nothing was changed"
		case m.deviceLine < len(m.devices):
			return m.endDevice(m.devices[m.deviceLine], typed)
		}
	default:
		m.typedSecret(msg.Text)
	}
	return nil
}

// typedSecret adds to a new password.
func (m *Model) typedSecret(text string) {
	for _, r := range text {
		if len(m.secret) < maxSecret && !unicode.IsControl(r) {
			m.secret = append(m.secret, r)
		}
	}
}

func (m *Model) onTextKey(k string, msg tea.KeyPressMsg) tea.Cmd {
	switch k {
	case "enter":
		return m.submit()
	case "esc":
		switch {
		case m.mode != say:
			m.plain()
		case m.anchor != 0:
			m.anchor, m.skip = 0, 0
			return m.attend()
		}
		return nil
	case "up":
		if m.text.Line() == 0 && m.text.LineInfo().RowOffset == 0 && m.mode == say && len(m.snap.view.Entries) > 0 {
			return m.choose(-1)
		}
	}
	return m.typed(msg)
}

// typed gives a key or what was pasted to the text, and tells the contact about it.
func (m *Model) typed(msg tea.Msg) tea.Cmd {
	before := m.text.Value()
	text, cmd := m.text.Update(msg)
	m.text = text
	after := m.text.Value()
	if m.mode.addresses() || m.open.IsZero() || (before == "") == (after == "") {
		return cmd
	}
	if after == "" {
		return tea.Batch(cmd, m.act(convo.Typing{Conversation: m.open, State: convo.Active}))
	}
	return tea.Batch(cmd, m.act(convo.Attention{Conversation: m.open, Act: convo.BeganTyping}, convo.Typing{Conversation: m.open, State: convo.Composing}))
}

// submit does what the text is for.
func (m *Model) submit() tea.Cmd {
	text := strings.TrimSpace(m.text.Value())
	if cmd, ok := m.submitPeople(text); ok {
		return cmd
	}
	if text == "" {
		return nil
	}
	if m.mode == address {
		j, err := jid.Parse(text)
		if err != nil || j.Local() == "" {
			m.notice = noAddress
			return nil
		}
		return m.openConversation(j.Bare())
	}
	if m.open.IsZero() {
		return nil
	}
	if m.open == m.entering || m.open == m.toEnter && m.status.Online {
		m.sendThen = true // a message to a room is another than one to a contact
		return nil
	}
	var ev convo.Event
	switch m.mode {
	case reply:
		ev = convo.Reply{Conversation: m.open, To: m.about, Body: text}
	case correct:
		ev = convo.Correct{Conversation: m.open, Entry: m.about, Body: text}
	case branch:
		ev = convo.BranchOff{Conversation: m.open, From: m.about, Body: text}
	case newThread:
		ev = convo.NewThread{Conversation: m.open, Body: text}
	default:
		ev = convo.SendText{Conversation: m.open, Body: text}
		delete(m.drafts, m.open)
	}
	m.plain()
	m.anchor, m.skip = 0, 0
	do := m.act(ev)
	return func() tea.Msg {
		done := do().(actedMsg)
		if done.err != nil {
			done.text = text
		}
		return done
	}
}

// since is how long ago something was, in a word or two.
func since(now, then time.Time) string {
	switch d := now.Sub(then); {
	case then.IsZero():
		return "never"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour") + " ago"
	}
	return plural(int(now.Sub(then)/(24*time.Hour)), "day") + " ago"
}
