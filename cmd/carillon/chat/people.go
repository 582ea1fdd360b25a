package chat

import (
	"context"
	"errors"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// peopleWait bounds asking the server about people.
const peopleWait = 15 * time.Second

// person is a row of the page of people: somebody who asks, a contact, somebody who only wrote, or somebody who is blocked.
type person struct {
	jid     jid.JID
	ask     *convo.Request // what is asked; nil: nothing
	contact *xep.RosterItem
	blocked bool
}

// What Update is told of people.
type (
	peopleMsg struct {
		account.People
		err error
	}
	// saidMsg is how something ended, in words; people may be others since.
	saidMsg struct{ text string }
)

// openPeople shows the page of people, who asks something first.
func (m *Model) openPeople() tea.Cmd {
	m.overlay, m.persons, m.personLine = peopleOverlay, nil, 0
	m.arrange()
	if len(m.snap.asks) == 0 {
		m.personLine = max(0, slices.IndexFunc(m.persons, func(p person) bool { return p.jid == m.open }))
	}
	m.aiming = m.open
	return m.refreshPeople()
}

// refreshPeople asks for the contacts and who is blocked, if that is shown.
func (m *Model) refreshPeople() tea.Cmd {
	if m.overlay != peopleOverlay {
		return nil
	}
	base, device := m.cfg.Context, m.cfg.Device
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(base, peopleWait)
		defer cancel()
		p, err := device.People(ctx)
		return peopleMsg{p, err}
	}
}

// gotPeople takes the answer.
func (m *Model) gotPeople(msg peopleMsg) {
	if m.peopleErr = msg.err; msg.err == nil {
		m.people = msg.People
	}
	m.arrange()
	if i := slices.IndexFunc(m.persons, func(p person) bool { return p.jid == m.aiming && p.ask == nil }); i >= 0 && len(m.snap.asks) == 0 {
		m.personLine = i // the open conversation's, now that there is one
	}
	m.aiming = jid.JID{}
}

// arrange makes the rows of people. The line stays with whom it is on.
func (m *Model) arrange() {
	if m.overlay != peopleOverlay {
		return
	}
	var on person
	if m.personLine < len(m.persons) {
		on = m.persons[m.personLine]
	}
	m.persons = nil
	for i := range m.snap.asks {
		m.persons = append(m.persons, person{jid: m.snap.asks[i].From.Bare(), ask: &m.snap.asks[i]})
	}
	blocked := map[jid.JID]bool{}
	for _, j := range m.people.Blocked {
		blocked[j] = true
	}
	listed := map[jid.JID]bool{}
	for i := range m.people.Contacts {
		c := &m.people.Contacts[i]
		m.persons = append(m.persons, person{jid: c.JID, contact: c, blocked: blocked[c.JID]})
		listed[c.JID] = true
	}
	others := m.snap.list
	if !m.open.IsZero() && !m.snap.view.Room && m.outside[m.open] == "" { // to whom nothing may have been said yet
		others = append(slices.Clip(others), convo.Summary{JID: m.open})
	}
	for _, s := range others {
		if !s.Room && s.JID.IsBare() && !listed[s.JID] && s.JID != m.cfg.Account {
			m.persons = append(m.persons, person{jid: s.JID, blocked: blocked[s.JID]})
			listed[s.JID] = true
		}
	}
	for _, j := range m.people.Blocked {
		if !listed[j] {
			m.persons = append(m.persons, person{jid: j, blocked: true})
		}
	}
	at := slices.IndexFunc(m.persons, func(p person) bool {
		return p.jid == on.jid && (p.ask == nil) == (on.ask == nil) && (p.ask == nil || p.ask.Room == on.ask.Room)
	})
	if at < 0 {
		at = min(m.personLine, max(0, len(m.persons)-1))
	}
	m.personLine = at
}

// newlyAsked says that somebody asks something, where the person looks.
func (m *Model) newlyAsked(asks []convo.Request) {
	for _, r := range asks {
		known := slices.ContainsFunc(m.snap.asks, func(o convo.Request) bool { return o.From == r.From && o.Room == r.Room })
		if !known && m.overlay != peopleOverlay && m.notice == "" && m.question == noQuestion {
			m.notice = m.theAsk(r) + " (F4)"
		}
	}
}

// theAsk says in a line what is asked.
func (m *Model) theAsk(r convo.Request) string {
	if r.Room.IsZero() {
		return m.conversationName(r.From.Bare(), "") + " asks to be a contact"
	}
	who := m.conversationName(r.From.Bare(), "")
	if r.From.Bare() == r.Room {
		who = m.nameThere(r.From)
	}
	return who + " invites you into " + m.conversationName(r.Room, "")
}

// nameThere is what somebody is called in a room, if it tells that.
func (m *Model) nameThere(occupant jid.JID) string {
	if occupant.Resource() == "" {
		return "somebody"
	}
	return m.oneLine(occupant.Resource())
}

// peoplePage is the page of people.
func (m *Model) peoplePage() []string {
	text := []string{" " + m.style.strong("People of "+m.cfg.Account.String()), ""}
	below := []string{""}
	for _, l := range m.wrap(m.aboutPerson(), m.width-2) {
		below = append(below, " "+l)
	}
	room := max(1, m.pageHeight()-len(text)-len(below))
	at := window(m.personLine, len(m.persons), room)
	for i := at; i < len(m.persons) && i < at+room; i++ {
		left, right := m.personRow(m.persons[i])
		text = append(text, m.chosenRow(left, right, i == m.personLine))
	}
	return append(text, below...)
}

// personRow is what a row says: who, and what he is to the account.
func (m *Model) personRow(p person) (left, right string) {
	if p.ask != nil {
		return "? " + m.theAsk(*p.ask), since(m.now(), p.ask.At)
	}
	left = m.oneLine(p.jid.String())
	if p.contact != nil && p.contact.Name != "" {
		left = m.oneLine(p.contact.Name) + " · " + left
	}
	switch {
	case p.blocked:
		return left, "blocked"
	case p.contact == nil:
		return left, "no contact"
	case p.contact.Subscription == "both":
		return left, "contact"
	case p.contact.Ask:
		return left, "asked, no answer yet"
	case p.contact.Subscription == "to":
		return left, "isn't shown when you are there"
	case p.contact.Subscription == "from":
		return left, "sees when you are there"
	}
	return left, "listed only"
}

// aboutPerson is what is to be said of the chosen row below the list.
func (m *Model) aboutPerson() string {
	if m.peopleErr != nil {
		return m.style.warn(Reason(m.peopleErr))
	}
	if m.personLine >= len(m.persons) {
		return m.style.faint("nobody yet: a adds a contact")
	}
	p := m.persons[m.personLine]
	if r := p.ask; r != nil {
		text := m.oneLine(r.From.Bare().String()) + " asks to see when you are there, and to be a contact"
		if !r.Room.IsZero() {
			text = m.theAsk(*r) + ", the room " + m.oneLine(r.Room.String())
			if r.From.Bare() != r.Room {
				text = m.oneLine(r.From.Bare().String()) + " invites you into the room " + m.oneLine(r.Room.String())
			}
		}
		if r.Reason != "" {
			text += ": " + m.oneLine(r.Reason)
		}
		return text
	}
	switch {
	case p.blocked:
		return "The server lets nothing of " + m.oneLine(p.jid.String()) + " through."
	case p.contact == nil:
		return m.oneLine(p.jid.String()) + " is no contact: a makes one."
	case p.contact.Subscription == "both":
		return "You see each other when you are there."
	}
	return ""
}

// onPeople takes a key on the page of people.
func (m *Model) onPeople(k string) tea.Cmd {
	switch k {
	case "esc", "q":
		m.overlay = noOverlay
		return m.attend()
	case "up", "k":
		m.personLine = max(0, m.personLine-1)
		return nil
	case "down", "j":
		m.personLine = max(0, min(len(m.persons)-1, m.personLine+1))
		return nil
	}
	var p person
	if m.personLine < len(m.persons) {
		p = m.persons[m.personLine]
	} else if k != "a" {
		return nil
	}
	device, name := m.cfg.Device, m.oneLine(p.jid.String())
	switch k {
	case "a":
		proposed := ""
		if !p.jid.IsZero() && (p.contact == nil || p.contact.Subscription != "both" && p.contact.Subscription != "to") && !p.blocked {
			proposed = p.jid.String()
		}
		m.overlay = noOverlay
		m.begin(newContact, 0, proposed)
	case "enter":
		if p.ask == nil {
			m.overlay = noOverlay
			return m.openConversation(p.jid)
		}
		return m.accept(*p.ask)
	case "d", "delete":
		switch {
		case p.ask != nil:
			r := *p.ask
			return m.arrangeWith("refused", func(ctx context.Context) error { return device.Answer(ctx, r, false) })
		case p.contact != nil:
			m.question = askRemove
		default:
			m.notice = "that is no contact"
		}
	case "b":
		if p.blocked {
			return m.arrangeWith(name+" is let through again", func(ctx context.Context) error { return device.Unblock(ctx, p.jid) })
		}
		m.question = askBlock
	}
	return nil
}

// accept gives somebody what he asks for.
func (m *Model) accept(r convo.Request) tea.Cmd {
	device, name := m.cfg.Device, m.oneLine(r.From.Bare().String())
	if r.Room.IsZero() {
		// Who is let in is a contact from then on, as he asked to be; a name that he has stays.
		called := ""
		for _, c := range m.people.Contacts {
			if c.JID == r.From {
				called = c.Name
			}
		}
		return m.arrangeWith(name+" is a contact", func(ctx context.Context) error { return device.AddContact(ctx, r.From, called) })
	}
	m.overlay = noOverlay
	if r.Password != "" {
		m.passwords[r.Room] = r.Password
	}
	return tea.Batch(m.openConversation(r.Room), m.arrangeWith("", func(ctx context.Context) error { return device.Answer(ctx, r, true) }))
}

// removeOrBlock does what the person has said yes to, with the chosen row.
func (m *Model) removeOrBlock(asked question) tea.Cmd {
	if m.personLine >= len(m.persons) {
		return nil
	}
	who, device := m.persons[m.personLine].jid, m.cfg.Device
	if asked == askRemove {
		return m.arrangeWith(m.oneLine(who.String())+" is no contact any more", func(ctx context.Context) error { return device.RemoveContact(ctx, who) })
	}
	return m.arrangeWith(m.oneLine(who.String())+" is blocked", func(ctx context.Context) error { return device.Block(ctx, who) })
}

// arrangeWith does something about people, and says what was done.
func (m *Model) arrangeWith(done string, do func(context.Context) error) tea.Cmd {
	base := m.cfg.Context
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(base, peopleWait)
		defer cancel()
		err := do(ctx)
		if err == nil {
			return saidMsg{text: done}
		}
		if refused, ok := errors.AsType[*stanza.Error](err); ok {
			return saidMsg{text: "not done: " + Refused(string(refused.Condition))}
		}
		return saidMsg{text: "not done: " + Reason(err)}
	}
}

// said takes how something ended.
func (m *Model) said(msg saidMsg) tea.Cmd {
	if msg.text != "" {
		m.notice = m.oneLine(msg.text)
	}
	return tea.Batch(m.refreshPeople(), m.look())
}

// submitPeople does what a text about people or rooms is for; ok is false for one that is something else.
func (m *Model) submitPeople(text string) (cmd tea.Cmd, ok bool) {
	switch m.mode {
	case nickname:
		m.plain()
		if text == "" {
			return nil, true
		}
		return m.enterAs(m.open, text, ""), true
	case contactName:
		who, device := m.adding, m.cfg.Device
		m.plain()
		return m.arrangeWith(m.oneLine(who.String())+" is asked", func(ctx context.Context) error { return device.AddContact(ctx, who, text) }), true
	case newContact, invitee:
	default:
		return nil, false
	}
	if text == "" {
		return nil, true
	}
	j, err := jid.Parse(text)
	switch {
	case err != nil || j.Local() == "":
		m.notice = noAddress
	case j.Bare() == m.cfg.Account:
		m.notice = "that is you"
	case m.mode == invitee && slices.ContainsFunc(m.snap.in, func(o convo.Occupant) bool { return o.JID.Bare() == j.Bare() }):
		m.notice = j.Bare().String() + " is in the room"
	case m.mode == invitee:
		m.plain()
		return m.invite(j.Bare()), true
	default:
		m.adding, m.mode = j.Bare(), contactName
		called := ""
		for _, c := range m.people.Contacts {
			if c.JID == m.adding {
				called = c.Name
			}
		}
		m.text.SetValue(called)
	}
	return nil, true
}

// noAddress is said of what isn't one.
const noAddress = "that is no address: one looks like bob@example.org"
