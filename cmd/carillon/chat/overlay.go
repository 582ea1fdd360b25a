package chat

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"

	"carillon.im/client"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// help is the page of keys.
func (m *Model) help() []string {
	rows := [][2]string{
		{"", "Everywhere"},
		{"tab", "conversations and back"},
		{"ctrl+↑ ctrl+↓", "the conversation above, below"},
		{"ctrl+O", "write to somebody new, or enter a room"},
		{"ctrl+N", "begin a new thread"},
		{"ctrl+T", "threads: go on with another one"},
		{"page up, down", "older and newer messages"},
		{"F4 or ctrl+L", "people: who asks something, contacts, whom to block"},
		{"F5 or ctrl+Y", "who is in this room, and inviting somebody"},
		{"F2 or ctrl+D", "devices of this account, and how to end one"},
		{"ctrl+R", "try to connect now"},
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
		for _, l := range m.wrap(r[1], max(10, m.width-helpKeys-4)) {
			text = append(text, "   "+m.fit(r[0], helpKeys)+l)
			r[0] = ""
		}
	}
	return text
}

// helpKeys is how wide the column of keys is.
const helpKeys = 16

// devicesPage is the page of devices.
func (m *Model) devicesPage() []string {
	text := []string{" " + m.style.strong("Devices with access to "+m.cfg.Account.String()), ""}
	var below []string
	if said := m.aboutDevices(); said != "" {
		below = append(below, "")
		for _, l := range m.wrap(said, m.width-2) {
			below = append(below, " "+l)
		}
	}
	room := max(1, m.pageHeight()-len(text)-len(below))
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
		row := m.sides(mark+" "+m.deviceTitle(d), seen+" ", m.width)
		if i == m.deviceLine {
			row = m.style.reverse(row)
		}
		text = append(text, row)
	}
	return append(text, below...)
}

// deviceTitle is what a device is called.
func (m *Model) deviceTitle(d xep.Client) string {
	name := strings.TrimPrefix(m.oneLine(d.Device)+", "+m.oneLine(d.Software), ", ")
	if name = strings.TrimSuffix(name, ", "); name == "" {
		return "unnamed"
	}
	return name
}

// deviceCalled is deviceTitle in a sentence.
func (m *Model) deviceCalled(d xep.Client) string {
	if name := m.oneLine(d.Device); name != "" {
		return name
	}
	return m.deviceTitle(d)
}

// aboutDevices is what is to be said of the devices below their list.
func (m *Model) aboutDevices() string {
	switch {
	case m.devicesErr != nil:
		return m.style.warn(Reason(m.devicesErr))
	case m.question == askPassword || m.question == askPasswordAgain:
		return m.deviceCalled(m.devices[m.deviceLine]) + " knows the account's password: it is kept out by a new one alone. " +
			"All other devices go on, and ask for the new password when they next log in."
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
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return oneLine("there is no server named " + dns.Name)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil {
		why := op.Err
		if call, ok := errors.AsType[*os.SyscallError](why); ok {
			why = call.Err
		}
		return oneLine(op.Addr.String() + ": " + why.Error())
	}
	return oneLine(strings.TrimPrefix(err.Error(), "client: "))
}

// Refused says why somebody's server didn't take a message, by its condition (RFC 6120 8.3.3); "" is none: nobody knows whether it arrived.
func Refused(condition string) string {
	switch stanza.Condition(condition) {
	case "":
		return "the connection was lost"
	case stanza.ServiceUnavailable, stanza.ItemNotFound:
		return "no such account, or refused"
	case stanza.RemoteServerNotFound:
		return "its server was not found"
	case stanza.RemoteServerTimeout:
		return "its server doesn't answer"
	case stanza.RecipientUnavailable:
		return "nobody is there"
	case stanza.Forbidden, stanza.NotAllowed, stanza.NotAcceptable:
		return "it is not allowed"
	case stanza.ResourceConstraint, stanza.PolicyViolation:
		return "the server has reached a limit"
	}
	return oneLine(strings.ReplaceAll(condition, "-", " "))
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
