package chat

import (
	"errors"
	"strconv"
	"strings"

	"carillon.im/client"
	"carillon.im/xep"
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
	var below []string
	if said := m.aboutDevices(); said != "" {
		below = append(below, "")
		for _, l := range wrap(said, m.width-2) {
			below = append(below, " "+l)
		}
	}
	room := max(1, m.height-3-len(text)-len(below))
	at, this := window(m.deviceLine, len(m.devices), room), m.thisDevice()
	for i := at; i < len(m.devices) && i < at+room; i++ {
		d := m.devices[i]
		seen := "last seen " + since(m.now(), d.LastSeen)
		switch {
		case i == this:
			seen = "this device"
		case d.Connected:
			seen = "connected"
		}
		mark := " "
		if i == m.deviceLine {
			mark = "▸"
		}
		row := sides(mark+" "+deviceTitle(d), seen+" ", m.width)
		if i == m.deviceLine {
			row = m.style.reverse(row)
		}
		text = append(text, row)
	}
	return append(text, below...)
}

// deviceTitle is what a device is called.
func deviceTitle(d xep.Client) string {
	name := strings.TrimPrefix(oneLine(d.Device)+", "+oneLine(d.Software), ", ")
	if name = strings.TrimSuffix(name, ", "); name == "" {
		return "unnamed"
	}
	return name
}

// aboutDevices is what is to be said of the devices below their list.
func (m *Model) aboutDevices() string {
	switch {
	case m.devicesErr != nil:
		return m.style.warn(Reason(m.devicesErr))
	case m.question == askPassword || m.question == askPasswordAgain:
		return deviceTitle(m.devices[m.deviceLine]) + " knows the account's password: it is kept out by a new one alone. " +
			"This device goes on; all others ask for the new password when they next log in."
	case m.asking:
		return m.style.faint("asking the server…")
	case m.devicesDone != "":
		return m.devicesDone + "."
	case len(m.devices) == 0:
		return m.style.faint("the server lists none")
	}
	return ""
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
