package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// enterWait bounds how long somebody's server is asked whether an address is a room's, and lets in or passes an invitation on.
const enterWait = 10 * time.Second

// enter enters the open conversation's room, if it may be one; those in which the account has been are entered again without this.
func (m *Model) enter() tea.Cmd {
	if m.toEnter.IsZero() || !m.status.Online {
		return nil
	}
	j := m.toEnter
	m.toEnter = jid.JID{}
	nick := m.cfg.Nick
	if i := slices.IndexFunc(m.snap.list, func(s convo.Summary) bool { return s.JID == j }); i >= 0 {
		if !m.snap.list[i].Room {
			if m.sendThen {
				m.sendThen = false
				return m.submit()
			}
			return nil
		}
		nick = "" // the one that it has there
	}
	password := m.passwords[j]
	delete(m.passwords, j)
	return m.enterAs(j, nick, password)
}

// enterAs enters a room under a name, with a password if it isn't "".
func (m *Model) enterAs(j jid.JID, nick, password string) tea.Cmd {
	base, device := m.cfg.Context, m.cfg.Device
	m.entering = j
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(base, enterWait)
		defer cancel()
		return enteredMsg{room: j, err: device.Enter(ctx, j, nick, password), secret: password != ""}
	}
}

// entered takes a room's answer.
func (m *Model) entered(msg enteredMsg) tea.Cmd {
	if msg.room != m.entering {
		return nil
	}
	here := m.open == msg.room
	send := m.sendThen && here
	m.entering, m.sendThen = jid.JID{}, false
	delete(m.outside, msg.room)
	refused, _ := errors.AsType[*stanza.Error](msg.err)
	switch {
	case msg.err == nil || errors.Is(msg.err, account.ErrNoRoom):
		if send {
			return m.submit()
		}
	case errors.Is(msg.err, context.DeadlineExceeded):
		if m.notice = m.oneLine(msg.room.Domain()) + " doesn't answer"; send {
			m.notice += ": enter sends it all the same"
		}
	case refused == nil:
		m.notice = "not in the room: " + Reason(msg.err)
	default:
		m.outside[msg.room] = keptOut(refused)
		if here { // where it is shown above the text
			m.another(refused.Condition, msg.secret)
		} else {
			m.notice = "not in the room: " + m.outside[msg.room]
		}
	}
	return nil
}

// keptOut says why a room didn't let the account in, and what to do (XEP-0045 7.2).
func keptOut(refused *stanza.Error) string {
	switch refused.Condition {
	case stanza.Conflict:
		return "somebody there has your name"
	case stanza.NotAcceptable:
		return "it knows you by another name"
	case stanza.JIDMalformed:
		return "it doesn't take that name"
	case stanza.RegistrationRequired:
		return "members only: ask to be invited"
	case stanza.NotAuthorized:
		return "it has a password: ^O tries again"
	case stanza.Forbidden:
		return "you are banned: ask who owns it"
	case stanza.ServiceUnavailable:
		return "it is full: try again later"
	case stanza.ItemNotFound:
		return "it isn't open: ask who owns it"
	case stanza.NotAllowed:
		return "you may make no rooms there"
	case stanza.Gone:
		return "it was closed"
	}
	return Refused(string(refused.Condition))
}

// another asks for what a room wants: a password, or another name.
func (m *Model) another(why stanza.Condition, secret bool) {
	switch why {
	case stanza.NotAuthorized:
		m.notice, m.question, m.secret, m.wrong = "", askRoomPassword, nil, secret
	case stanza.Conflict, stanza.NotAcceptable, stanza.JIDMalformed:
		if m.mode == say {
			m.notice = m.outside[m.open]
			m.begin(nickname, 0, "")
		}
	}
}

// onRoomPassword takes a key of a room's password.
func (m *Model) onRoomPassword(k string, msg tea.KeyPressMsg) tea.Cmd {
	if k != "enter" || len(m.secret) == 0 {
		return m.onSecret(k, msg)
	}
	password := string(m.secret)
	m.question, m.secret = noQuestion, nil
	return m.enterAs(m.open, "", password)
}

// roomPage is the page of who is in the room.
func (m *Model) roomPage() []string {
	title := plural(len(m.snap.in), "person")
	if n := len(m.snap.in); n != 1 {
		title = fmt.Sprintf("%d people", n)
	}
	if m.snap.more {
		title = "more than " + title
	}
	text := []string{" " + m.style.strong(title+" in "+m.oneLine(m.open.String())), ""}
	about := ""
	switch {
	case len(m.snap.in) == 0:
		about = m.style.faint("the room hasn't said who is in it")
	default:
		about = m.aboutOccupant(m.snap.in[m.occupant])
	}
	below := []string{""}
	for _, l := range m.wrap(about, m.width-2) {
		below = append(below, " "+l)
	}
	room := max(1, m.pageHeight()-len(text)-len(below))
	at := window(m.occupant, len(m.snap.in), room)
	for i := at; i < len(m.snap.in) && i < at+room; i++ {
		o := m.snap.in[i]
		name := m.oneLine(o.Nick)
		if o.Own {
			name += " (you)"
		}
		if len(o.Hats) > 0 {
			name += " · " + m.oneLine(strings.Join(o.Hats, ", "))
		}
		text = append(text, m.chosenRow(name, standing(o), i == m.occupant))
	}
	return append(text, below...)
}

// chosenRow is a row of a page's list.
func (m *Model) chosenRow(left, right string, chosen bool) string {
	if !chosen {
		return m.sides("  "+left, right+" ", m.width)
	}
	return m.style.reverse(m.sides("▸ "+left, right+" ", m.width))
}

// standing is what an occupant is in the room, in a word; that he takes part goes without saying.
func standing(o convo.Occupant) string {
	switch {
	case o.Affiliation == "owner" || o.Affiliation == "admin":
		return o.Affiliation
	case o.Role == "moderator":
		return o.Role
	case o.Role == "visitor":
		return "listens only"
	case o.Affiliation == "member":
		return o.Affiliation
	}
	return ""
}

// aboutOccupant is all that is known of an occupant.
func (m *Model) aboutOccupant(o convo.Occupant) string {
	text := m.oneLine(o.Nick)
	if !o.JID.IsZero() {
		text += " is " + m.oneLine(o.JID.Bare().String())
	}
	for _, s := range []string{o.Affiliation, o.Role} {
		if s != "" {
			text += " · " + s
		}
	}
	if len(o.Hats) > 0 {
		text += " · wears " + m.oneLine(strings.Join(o.Hats, ", "))
	}
	return text
}

// onRoom takes a key on the page of who is in the room.
func (m *Model) onRoom(k string) tea.Cmd {
	switch k {
	case "esc", "q":
		m.overlay = noOverlay
		return m.attend()
	case "up", "k":
		m.occupant = max(0, m.occupant-1)
	case "down", "j":
		m.occupant = max(0, min(len(m.snap.in)-1, m.occupant+1))
	case "i":
		m.overlay = noOverlay
		m.begin(invitee, 0, "")
	case "enter":
		if m.occupant >= len(m.snap.in) {
			break
		}
		switch who := m.snap.in[m.occupant]; {
		case who.Own:
			m.notice = "that is you"
		case who.JID.IsZero():
			m.notice = "the room doesn't say who that is"
		default:
			m.overlay = noOverlay
			return m.openConversation(who.JID.Bare())
		}
	}
	return nil
}

// invite has the room invite somebody.
func (m *Model) invite(who jid.JID) tea.Cmd {
	base, device, room := m.cfg.Context, m.cfg.Device, m.open
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(base, enterWait)
		defer cancel()
		switch err := device.Invite(ctx, room, who, ""); {
		case err == nil:
			return saidMsg{text: who.String() + " is invited"}
		default:
			refused, ok := errors.AsType[*stanza.Error](err)
			switch {
			case !ok:
				return saidMsg{text: "not invited: " + Reason(err)}
			case refused.Condition == stanza.Forbidden:
				return saidMsg{text: "not invited: only who runs the room may invite"}
			case refused.Condition == stanza.ItemNotFound || refused.Condition == stanza.NotAcceptable:
				return saidMsg{text: "not invited: you are not in the room"}
			}
			return saidMsg{text: "not invited: " + Refused(string(refused.Condition))}
		}
	}
}

// newlyDeclined says who won't come into a room, in the place of what is said there, which may be that he is invited. Nothing is put over a question.
func (m *Model) newlyDeclined(now []convo.Decline) {
	if m.question != noQuestion {
		return
	}
	var said []string
	for _, d := range now {
		if slices.Contains(m.declined, d) {
			continue
		}
		who := m.oneLine(d.From.Bare().String())
		if d.From.Bare() == d.Room {
			who = m.nameThere(d.From)
		}
		text := who + " won't come into " + m.conversationName(d.Room, "")
		if d.Reason != "" {
			text += ": " + m.oneLine(d.Reason)
		}
		said = append(said, text)
	}
	if m.declined = now; len(said) > 0 {
		m.notice = strings.Join(said, "; ")
	}
}

// stayOn keeps the line on the same occupant when others come and go.
func (m *Model) stayOn(now []convo.Occupant) {
	at := -1
	if m.occupant < len(m.snap.in) {
		at = slices.IndexFunc(now, func(o convo.Occupant) bool { return o.Nick == m.snap.in[m.occupant].Nick })
	}
	if at < 0 {
		at = min(m.occupant, max(0, len(now)-1))
	}
	m.occupant = at
}

// whyOutside says why the account isn't in the open room, "" where it is, or where nothing is wrong.
func (m *Model) whyOutside() string {
	if why := m.outside[m.open]; why != "" {
		return why
	}
	exit := m.snap.view.Exit
	why := map[string]string{convo.ExitKicked: "you were put out", convo.ExitBanned: "you were banned", convo.ExitMembers: "members only",
		convo.ExitClosed: "it was closed"}[exit.Why]
	if why != "" && exit.Reason != "" {
		why += ": " + m.oneLine(exit.Reason)
	}
	return why
}
