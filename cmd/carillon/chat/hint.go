package chat

import (
	"strconv"
	"strings"

	"carillon.im/client/convo"
)

// hint is the last line: what to press.
func (m *Model) hint() string {
	if m.notice != "" {
		return m.style.warn(m.fit(" "+m.notice, m.width))
	}
	long, short := m.keysNow()
	if m.wide(long)+1 > m.width {
		long = short
	}
	if m.question != noQuestion {
		return m.style.strong(m.fit(" "+long, m.width))
	}
	return m.style.faint(m.fit(" "+long, m.width))
}

// keysNow are the keys that mean something now, in words and, where those have no room, in fewer.
func (m *Model) keysNow() (long, short string) {
	if m.question != noQuestion {
		return m.asks()
	}
	switch {
	case m.overlay == helpOverlay && len(m.help()) > m.pageHeight():
		return "↑↓ more  esc back", ""
	case m.overlay == helpOverlay:
		return "esc back", ""
	case m.overlay == devicesOverlay:
		return "↑↓ choose  d end this device  esc back", "↑↓  d end it  esc back"
	case m.overlay == peopleOverlay:
		return m.peopleKeys()
	case m.overlay == roomOverlay:
		return "↑↓ choose  enter write in private  i invite somebody  esc back", "enter write  i invite  esc back"
	case m.focus == onList && len(m.snap.list) == 0:
		return "n write to somebody new  F1 keys  q quit", "n new  F1 keys  q quit"
	case m.focus == onList && m.cursor < len(m.snap.list) && m.snap.list[m.cursor].Room:
		return "↑↓ choose  enter open  n somebody new  l leave the room  F1 keys  q quit", "enter open  n new  l leave  F1 keys"
	case m.focus == onList:
		return "↑↓ choose  enter open  n somebody new  F1 keys  q quit", "enter open  n new  F1 keys  q quit"
	case m.focus == onThreads:
		return "↑↓ choose  enter go on with this thread  esc back", "↑↓  enter go on with it  esc back"
	case m.focus == onMessages:
		return m.messageKeys()
	case m.mode == address:
		return "enter open  esc back", ""
	case m.mode.addresses():
		return "enter go on  esc back", ""
	case m.mode != say:
		return "enter send  esc back", ""
	case m.snap.view.Room && m.listWidth() > 0:
		return "enter send  ↑ messages  tab conversations  F5 who is here  ^T threads  F1 keys", "enter send  ↑ messages  tab conversations  F5 who is here  F1 keys"
	case m.listWidth() == 0:
		return "enter send  ↑ choose  tab list  F1 keys", "enter send  ↑  tab list  F1 keys"
	}
	return "enter send  ↑ messages  tab conversations  ^T threads  ^N new thread  F1 keys", "enter send  ↑ messages  tab conversations  ^T threads  F1 keys"
}

// asks is the question that the next keys answer.
func (m *Model) asks() (long, short string) {
	switch m.question {
	case askRetract:
		return "take this message back?  y yes  any other key: no", "take it back?  y yes  n no"
	case askEndDevice:
		return "end its access?  y yes  any other key: no", "end its access?  y yes  n no"
	case askLeave:
		return "leave this room?  y yes  any other key: no", "leave it?  y yes  n no"
	case askRemove:
		return "remove this contact?  y yes  any other key: no", "remove?  y yes  n no"
	case askBlock:
		who := ""
		if m.personLine < len(m.persons) {
			who = m.oneLine(m.persons[m.personLine].jid.String())
		}
		return "let nothing of " + who + " through?  y yes  any other key: no", "block " + m.cut(who, max(8, m.width-22)) + "?  y yes  n no"
	case askRoomPassword:
		what := "the room's password: " + strings.Repeat("•", min(len(m.secret), 16))
		if m.wrong {
			what = "that was wrong; " + what
		}
		return what + "  enter go in  esc leave it", what + "  esc leave it"
	case askPassword, askPasswordAgain:
		what, then := "new password: ", "go on"
		if m.question == askPasswordAgain {
			what, then = "the same again: ", "change it and end the device"
		}
		what += strings.Repeat("•", min(len(m.secret), 16))
		return what + "  enter " + then + "  esc leave it", what + "  esc leave it"
	default:
		for i, r := range reactions() {
			long += strconv.Itoa(i+1) + " " + r + "  "
			short += strconv.Itoa(i+1) + r + " "
		}
		return long + "0 none  esc back", short + "0 none"
	}
}

// messageKeys are the keys that mean something for the chosen message.
func (m *Model) messageKeys() (long, short string) {
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
	for _, k := range keys {
		key, _, _ := strings.Cut(k, " ")
		short += key + " "
	}
	return strings.Join(append(keys, "esc back"), "  "), short + " F1 keys  esc back"
}

// peopleKeys are the keys that mean something for the chosen row of people.
func (m *Model) peopleKeys() (long, short string) {
	if m.personLine >= len(m.persons) {
		return "a add a contact  esc back", ""
	}
	switch p := m.persons[m.personLine]; {
	case p.ask != nil:
		return "↑↓ choose  enter accept  d refuse  b block  a add a contact  esc back", "enter accept  d refuse  b block"
	case p.blocked:
		return "↑↓ choose  b let through again  a add a contact  esc back", "b unblock  a add  esc back"
	case p.contact != nil:
		return "↑↓ choose  enter write  d remove  b block  a add a contact  esc back", "enter write  d remove  b block"
	}
	return "↑↓ choose  enter write  b block  a make a contact  esc back", "enter write  b block  a add"
}
