// Package chat is the terminal client: it shows an account's conversations on a screen and takes a person's keys.
//
// The model: a Model is the screen of one Device, as Bubble Tea wants it: a state, Update for what happened, View for what is to be seen. It holds no
// conversation of its own, only the last picture that it took of the engine (snapshot) and what the person is doing: which part of the screen has the
// keys (focus), what the text that is being written is for (mode), which message is chosen. What others wrote is cleaned of everything that a terminal
// obeys before it is laid out (text.go), and only the lines that fit are laid out. A Pair shows two devices of one account side by side.
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
	"carillon.im/xep"
)

// Device is what the screen shows. *account.Account is one.
type Device interface {
	Do(context.Context, convo.Event) error
	Look(context.Context, func(*convo.Engine)) error
	Changes(context.Context) (account.Changes, error)
	NetworkChanged()
	access
	rooms
	contacts
}

// access is to the account, for programs.
type access interface {
	Devices(context.Context) ([]xep.Client, error)
	EndDevice(ctx context.Context, id string) error
	ChangePassword(ctx context.Context, password string) error
}

// rooms are entered and left, and others are invited.
type rooms interface {
	Enter(ctx context.Context, room jid.JID, nick, password string) error
	Leave(ctx context.Context, room jid.JID) error
	Invite(ctx context.Context, room, whom jid.JID, reason string) error
}

// contacts are the people of the account's.
type contacts interface {
	People(context.Context) (account.People, error)
	AddContact(ctx context.Context, who jid.JID, name string) error
	RemoveContact(ctx context.Context, who jid.JID) error
	Block(ctx context.Context, who jid.JID) error
	Unblock(ctx context.Context, who jid.JID) error
	Answer(ctx context.Context, r convo.Request, yes bool) error
}

// Config says what is shown.
type Config struct {
	Context context.Context // ends what the screen waits for; required
	Device  Device
	Account jid.JID
	Name    string         // of the device, as the person calls it; may be ""
	Status  account.Status // how the connection is at the start
	Contact jid.JID        // whose conversation is opened first, or a room; zero: none
	Nick    string         // in rooms; "" for the account's local part
	NoColor bool           // use none (NO_COLOR)
	Now     time.Time      // for tests, whose clock stands still; zero: the system's, in the local zone
}

// snapshot is a picture of the engine: the list, and one conversation.
type snapshot struct {
	of    jid.JID // the conversation
	list  []convo.Summary
	view  convo.View
	names map[string]convo.Entry // by thread, what it began with
	asks  []convo.Request
	wont  []convo.Decline
	in    []convo.Occupant // of the room
	more  bool             // there are others
	ok    bool
	limit int
	// online is how the connection was: what can be asked for depends on it.
	online bool
}

// still reports whether a picture shows what another one would, of the same conversation with that line in the list.
func (s *snapshot) still(of jid.JID, limit int, online bool, now []convo.Summary) bool {
	if !s.ok || s.of != of || s.limit != limit || s.online != online || s.view.Paging {
		return false
	}
	return slices.ContainsFunc(now, func(n convo.Summary) bool { return n.JID == of && n.Version == s.view.Version })
}

// What Update is told.
type (
	changedMsg struct { // the device is another, or over
		status account.Status
		err    error
	}
	lookedMsg struct {
		snapshot
		err error
	}
	actedMsg struct {
		err  error
		text string // that was to be sent, if it wasn't taken
	}
	enteredMsg struct {
		room   jid.JID
		err    error
		secret bool // a password was given
	}
	devicesMsg struct {
		list []xep.Client
		done string // what was done
		err  error
	}
)

// wait waits for the next change.
func (m *Model) wait() tea.Cmd {
	ctx, device := m.cfg.Context, m.cfg.Device
	return func() tea.Msg {
		c, err := device.Changes(ctx)
		return changedMsg{c.Status, err}
	}
}

// look takes a new picture, one at a time.
func (m *Model) look() tea.Cmd {
	if m.looking {
		m.stale = true
		return nil
	}
	m.looking, m.stale = true, false
	ctx, device, present := m.cfg.Context, m.cfg.Device, m.overlay == roomOverlay
	s, have := snapshot{of: m.open, limit: m.limit, online: m.status.Online, names: map[string]convo.Entry{}}, m.snap
	return func() tea.Msg {
		err := device.Look(ctx, func(e *convo.Engine) {
			s.list, s.asks, s.wont = e.Conversations(), e.Requests(), e.Declines()
			if present {
				s.in, s.more = e.Occupants(s.of)
			}
			if have.still(s.of, s.limit, s.online, s.list) { // of ten thousand messages, a picture takes a while
				s.view, s.ok, s.names = have.view, true, have.names
				return
			}
			if !s.of.IsZero() {
				s.view, s.ok = e.Conversation(s.of, s.limit)
			}
			for _, t := range s.view.Threads[max(0, len(s.view.Threads)-maxNamed):] {
				if first, ok := e.Entry(s.of, t.First); ok {
					s.names[t.ID] = first
				}
			}
		})
		return lookedMsg{s, err}
	}
}

// act has the engine take what the person did.
func (m *Model) act(events ...convo.Event) tea.Cmd {
	ctx, device := m.cfg.Context, m.cfg.Device
	return func() tea.Msg {
		for _, ev := range events {
			if err := device.Do(ctx, ev); err != nil {
				return actedMsg{err: err}
			}
		}
		return actedMsg{}
	}
}

// devicesWait bounds asking the server about devices.
const devicesWait = 15 * time.Second

// askDevices asks for the programs with access to the account.
func (m *Model) askDevices() tea.Cmd { return m.manage("", func(context.Context) error { return nil }) }

// endDevice ends a device's access, after giving the account another password if there is one.
func (m *Model) endDevice(d xep.Client, password string) tea.Cmd {
	done := m.deviceCalled(d) + " has no access any more"
	if password != "" {
		done += ". The others ask for the new password when they next log in"
	}
	return m.manage(done, func(ctx context.Context) error {
		if password != "" {
			if err := m.cfg.Device.ChangePassword(ctx, password); err != nil {
				return err
			}
		}
		return m.cfg.Device.EndDevice(ctx, d.ID)
	})
}

// manage does something with the devices and asks for them then.
func (m *Model) manage(done string, do func(context.Context) error) tea.Cmd {
	m.asking, m.devicesErr, m.devicesDone = true, nil, ""
	base, device := m.cfg.Context, m.cfg.Device
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(base, devicesWait)
		defer cancel()
		if err := do(ctx); err != nil {
			return devicesMsg{err: err}
		}
		list, err := device.Devices(ctx)
		return devicesMsg{list, done, err}
	}
}

// changed takes a change of the device.
func (m *Model) changed(msg changedMsg) tea.Cmd {
	if msg.err != nil {
		if !errors.Is(msg.err, context.Canceled) {
			m.ended = msg.err
		}
		return nil
	}
	if msg.status.Online != m.status.Online {
		m.asked = map[place]bool{}
	}
	came := msg.status.Online && !m.status.Online
	m.status = msg.status
	if v := m.snap.view; came && v.Room && (v.People > 0 || m.outside[m.open] != "") {
		m.toEnter = m.open // it was there, or would be: that a new session is refused is to be said
	}
	return tea.Batch(m.look(), m.wait(), m.refreshPeople())
}

// looked takes a new picture: what is seen is read, and what is missing on the screen is asked for.
func (m *Model) looked(msg lookedMsg) tea.Cmd {
	m.looking = false
	if msg.err != nil {
		return nil // changed says why
	}
	if m.stale || msg.of != m.open || msg.limit != m.limit {
		return m.look()
	}
	m.newlyAsked(msg.asks)
	m.newlyDeclined(msg.wont)
	m.stayOn(msg.in)
	m.snap = msg.snapshot
	m.arrange()
	m.index = threadIndex(m.snap.view.Threads)
	m.threads = make(map[string]int, len(m.index))
	for i, t := range m.index {
		m.threads[t.ID] = i
	}
	m.called = make(map[string]int, len(m.snap.list))
	for _, s := range m.snap.list {
		m.called[m.conversationName(s.JID, s.Name)]++
	}
	if m.sel != 0 && m.entryAt(m.sel) < 0 {
		m.sel = 0
	}
	if m.anchor != 0 && m.entryAt(m.anchor) < 0 {
		m.anchor, m.skip = 0, 0
	}
	m.cursor = min(m.cursor, max(0, len(m.snap.list)-1))
	if m.anchor == 0 && m.sel == 0 {
		m.limit = pageEntries // who has come back from older messages needn't carry them along
	}
	return tea.Batch(m.enter(), m.attend())
}

// attend says that what is on the screen was seen, and asks for what is missing there.
func (m *Model) attend() tea.Cmd {
	v := m.snap.view
	if !m.snap.ok || m.open.IsZero() {
		return nil
	}
	var events []convo.Event
	if v.Unread > 0 && !m.away && m.anchor == 0 && m.overlay == noOverlay {
		events = append(events, convo.Attention{Conversation: m.open, Act: convo.Seen})
	}
	if ask, ok := m.missing(); ok {
		events = append(events, ask)
	}
	if len(events) == 0 {
		return nil
	}
	return m.act(events...)
}

// place is where something is missing: at the end, before an entry, or before the oldest.
type place struct {
	end    bool
	before convo.EntryID
	oldest bool
}

// missing is the question for what is missing in what the screen shows, asked once for each place and connection.
func (m *Model) missing() (convo.Event, bool) {
	v := m.snap.view
	if v.Paging || !m.status.Online || m.status.CatchingUp {
		return nil, false
	}
	at, found := place{}, false
	first, last := m.visible()
	for i := first; i <= last && i < len(v.Entries) && !found; i++ {
		if e := v.Entries[i]; e.Gap {
			at, found = place{before: e.ID}, true
		}
	}
	switch {
	case v.GapAtEnd && m.anchor == 0:
		at, found = place{end: true}, true
	case !found && first == 0 && v.More && len(v.Entries) < m.limit:
		at, found = place{oldest: true}, true
		if len(v.Entries) > 0 {
			at.before = v.Entries[0].ID
		}
	}
	if !found || m.asked[at] {
		return nil, false
	}
	m.asked[at] = true
	if at.oldest {
		return convo.Page{Conversation: m.open}, true
	}
	return convo.Page{Conversation: m.open, Before: at.before, Newest: at.end}, true
}

// thread is a line of the index, with what it is called.
type thread struct {
	convo.ThreadView
	label string // its number, and its place below its parents: 2, 2.1
	root  int    // which number it is below, from 0: its colour
}

// threadIndex numbers threads: roots 1, 2, 3, their children 1.1, 1.2.
func threadIndex(views []convo.ThreadView) []thread {
	list := make([]thread, 0, len(views))
	var counts []int
	for _, v := range views {
		depth := min(v.Depth, len(counts)) // a child is behind its parent
		counts = append(slices.Clone(counts[:min(depth+1, len(counts))]), make([]int, max(0, depth+1-len(counts)))...)
		counts[depth]++
		list = append(list, thread{v, numbered(counts), counts[0] - 1})
	}
	return list
}

// threadOf finds a thread in the index, -1 where it isn't.
func (m *Model) threadOf(id string) int {
	if i, ok := m.threads[id]; ok {
		return i
	}
	return -1
}
