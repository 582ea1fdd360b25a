package chat

import (
	"errors"
	"strconv"
	"strings"

	"carillon.im/client"
)

// help is the page of keys.
func (m *Model) help() []string {
	rows := [][2]string{
		{"", "Everywhere"},
		{"tab", "conversations and back"},
		{"ctrl+↑ ctrl+↓", "the conversation above, below"},
		{"ctrl+O", "write to somebody new"},
		{"ctrl+N", "begin a new thread"},
		{"ctrl+T", "threads: go on with another one"},
		{"page up, down", "older and newer messages"},
		{"F2 or ctrl+D", "devices of this account, and how to end one"},
		{"ctrl+C", "quit"},
		{"", "While writing"},
		{"enter", "send; alt+enter or ctrl+J begins a new line"},
		{"↑", "choose a message; esc comes back"},
		{"", "With a message chosen"},
		{"r  b", "reply to it; branch off a thread of its own"},
		{"+  t", "react; take it: other devices see who answers"},
		{"e  x  s", "correct, take back, send again (own messages)"},
		{"enter", "show all of a long message"},
	}
	var text []string
	for _, r := range rows {
		if r[0] == "" {
			text = append(text, " "+m.style.strong(r[1]))
			continue
		}
		text = append(text, "   "+fit(r[0], 16)+r[1])
	}
	return text
}

// devicesPage is the page of devices.
func (m *Model) devicesPage() []string {
	text := []string{" " + m.style.strong("Devices with access to "+m.cfg.Account.String()), ""}
	switch {
	case m.devicesErr != nil:
		return append(text, " "+m.style.warn(cut(Reason(m.devicesErr), m.width-2)))
	case len(m.devices) == 0 && m.asking:
		return append(text, m.style.faint(" asking the server…"))
	case len(m.devices) == 0:
		return append(text, m.style.faint(" the server lists none"))
	}
	room := max(1, m.height-3-len(text))
	at := window(m.deviceLine, len(m.devices), room)
	for i := at; i < len(m.devices) && i < at+room; i++ {
		d := m.devices[i]
		name := strings.TrimPrefix(oneLine(d.Device)+", "+oneLine(d.Software), ", ")
		name = strings.TrimSuffix(name, ", ")
		if name == "" {
			name = "unnamed"
		}
		seen := "last seen " + since(m.now(), d.LastSeen)
		if d.Connected {
			seen = "connected"
		}
		mark := " "
		if i == m.deviceLine {
			mark = "▸"
		}
		row := sides(mark+" "+name, seen+" ", m.width)
		if i == m.deviceLine {
			row = m.style.reverse(row)
		}
		text = append(text, row)
	}
	return text
}

// Reason says why there is no connection, in words that help.
func Reason(err error) string {
	switch refused, ok := errors.AsType[*client.AuthError](err); {
	case ok && refused.Condition == "not-authorized":
		return "the password is wrong, or the access of this device was ended"
	case errors.Is(err, client.ErrNoCredentials):
		return "a password is needed: start again"
	}
	return oneLine(strings.TrimPrefix(err.Error(), "client: "))
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
