package chat

import (
	"strings"
	"time"

	"charm.land/bubbles/v2/key"
	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/xep"
)

// focus is the part of the screen that has the keys.
type focus uint8

const (
	onList focus = iota
	onText
	onMessages
	onThreads
)

// mode is what the text that is being written is for.
type mode uint8

const (
	say         mode = iota
	reply            // to m.about
	correct          // m.about
	branch           // off m.about's thread
	newThread        //
	address          // of a new conversation
	newContact       // address of somebody who is to be one
	contactName      // what m.adding is called
	invitee          // address of who is to be invited into the room
	nickname         // another one, for a room in which somebody has it
)

// addresses reports whether a text is no message to the open conversation.
func (m mode) addresses() bool { return m >= address }

// question is what the next key answers.
type question uint8

const (
	noQuestion question = iota
	askRetract
	askReaction
	askEndDevice
	askLeave
	askPassword // a new one, without which a device that knows the old one can't be ended
	askPasswordAgain
	askRoomPassword
	askRemove // a contact
	askBlock
)

// overlay covers the conversations.
type overlay uint8

const (
	noOverlay overlay = iota
	helpOverlay
	devicesOverlay
	peopleOverlay
	roomOverlay // who is in the room
)

// Bounds of the screen's state.
const (
	pageEntries = 200    // how many entries more are looked at when the person goes back
	maxEntries  = 20_000 // at most
	maxTyped    = 8_000  // characters of a message
	maxSecret   = 256    // of a password
	maxNamed    = 500    // threads that are called by how they begin, the newest
)

// Model is the screen of one device. It is a tea.Model; only the program that runs it uses it.
type Model struct {
	cfg           Config
	width, height int
	style         styles
	cells

	status  account.Status
	ended   error // the device is over
	snap    snapshot
	index   []thread
	threads map[string]int // where a thread is in the index
	called  map[string]int // how many conversations of the list are called so
	looking bool           // a picture is being taken
	stale   bool           // and another is to be
	asked   map[place]bool

	focus    focus
	overlay  overlay
	question question
	notice   string // in the last line until the next key
	away     bool   // the terminal is not the one that has the keys

	open     jid.JID // the conversation; zero: none
	toEnter  jid.JID // it may be a room, and is to be entered; zero: nothing is
	entering jid.JID // it is being entered
	sendThen bool    // what is written is to be sent when it has been
	limit    int     // entries that are looked at
	cursor   int     // in the list
	page     int     // the first line of the help that is shown
	line     int     // in the index of threads
	sel      convo.EntryID
	anchor   convo.EntryID // the last entry on the screen; zero: the newest, whatever comes
	skip     int           // lines of it that are below the screen
	full     map[convo.EntryID]bool

	text   textarea.Model
	mode   mode
	about  convo.EntryID
	drafts map[jid.JID]string

	devices     []xep.Client
	devicesErr  error
	devicesDone string // what was done with one
	deviceLine  int
	asking      bool   // for devices
	secret      []rune // the password that is being typed
	once        string // what was typed the first time
	wrong       bool   // the room's password that was typed before

	people     account.People // as last asked for
	peopleErr  error
	persons    []person // the rows of the page
	personLine int
	aiming     jid.JID            // whom the line is to be on; zero: whom it is on
	adding     jid.JID            // who is to be a contact
	occupant   int                // the line on the page of who is in the room
	declined   []convo.Decline    // who won't come, as was said
	passwords  map[jid.JID]string // of rooms that the person accepted to enter, until the next try
	outside    map[jid.JID]string // why the account is not in a room
}

// New makes the screen of a device.
func New(cfg Config) *Model {
	m := &Model{cfg: cfg, style: newStyles(cfg.NoColor), status: cfg.Status, limit: pageEntries, asked: map[place]bool{}, full: map[convo.EntryID]bool{}, drafts: map[jid.JID]string{},
		passwords: map[jid.JID]string{}, outside: map[jid.JID]string{}}
	m.text = textarea.New()
	m.text.Prompt, m.text.ShowLineNumbers, m.text.CharLimit, m.text.EndOfBufferCharacter = "", false, maxTyped, ' '
	m.text.MaxHeight, m.text.MaxContentHeight, m.text.DynamicHeight = maxTextLines, 500, true
	m.text.KeyMap.InsertNewline = key.NewBinding(key.WithKeys("alt+enter", "shift+enter", "ctrl+j"))
	m.text.KeyMap.Paste.SetEnabled(false) // the terminal pastes
	m.text.SetVirtualCursor(false)
	m.text.SetStyles(textarea.Styles{})
	if !cfg.Contact.IsZero() {
		m.open, m.toEnter = cfg.Contact.Bare(), cfg.Contact.Bare()
		m.focusOn(onText)
	}
	return m
}

// Init begins to wait for the device.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.look(), m.wait()) }

// now is the time, in the zone in which times are shown.
func (m *Model) now() time.Time {
	if !m.cfg.Now.IsZero() {
		return m.cfg.Now
	}
	return time.Now()
}

// Update takes what happened.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) { return m, m.update(msg) }

func (m *Model) update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.resize(msg.Width, msg.Height)
		return m.attend()
	case changedMsg:
		return m.changed(msg)
	case lookedMsg:
		return m.looked(msg)
	case actedMsg:
		if msg.err != nil {
			m.notice = "not done: " + m.oneLine(msg.err.Error())
		}
		if msg.text != "" && m.text.Value() == "" {
			m.text.SetValue(msg.text)
		}
		return nil
	case enteredMsg:
		return m.entered(msg)
	case devicesMsg:
		m.asking, m.devicesErr, m.devicesDone = false, msg.err, msg.done
		if msg.err == nil {
			m.devices = msg.list
			m.deviceLine = min(m.deviceLine, max(0, len(m.devices)-1))
		}
		return nil
	case peopleMsg:
		m.gotPeople(msg)
		return nil
	case saidMsg:
		return m.said(msg)
	case tea.ModeReportMsg:
		m.learn(msg)
		return nil
	case tea.FocusMsg:
		return m.returned()
	case tea.BlurMsg:
		m.away = true
		return nil
	case tea.PasteMsg:
		switch {
		case m.question == askPassword || m.question == askPasswordAgain || m.question == askRoomPassword:
			m.typedSecret(msg.Content)
		case m.focus == onText && m.overlay == noOverlay && m.question == noQuestion:
			return m.typed(msg)
		}
		return nil
	case tea.KeyPressMsg:
		return tea.Batch(m.returned(), m.pressed(msg)) // who presses keys is here, whatever the terminal said
	}
	return nil
}

// returned: the person looks at this terminal again.
func (m *Model) returned() tea.Cmd {
	was := m.away
	m.away = false
	if !was || m.open.IsZero() || m.anchor != 0 {
		return nil
	}
	return m.act(convo.Attention{Conversation: m.open, Act: convo.Focused})
}

// focusOn gives the keys to a part of the screen.
func (m *Model) focusOn(f focus) {
	m.focus = f
	if f == onText {
		_ = m.text.Focus() // its command blinks a cursor that we don't use
	} else {
		m.text.Blur()
	}
	if f != onMessages && !(f == onText && m.mode != say) {
		m.sel = 0
	}
}

// openConversation shows another conversation.
func (m *Model) openConversation(j jid.JID) tea.Cmd {
	if m.mode == say && !m.open.IsZero() {
		m.draft()
	}
	var events []convo.Event
	if !m.open.IsZero() && m.open != j {
		events = append(events, convo.Attention{Conversation: m.open, Act: convo.Closed})
	}
	m.sendThen = false
	m.open, m.toEnter, m.limit, m.sel, m.anchor, m.skip = j, j, pageEntries, 0, 0, 0
	m.snap.view, m.snap.ok, m.index, m.threads = convo.View{}, false, nil, nil
	m.mode = say
	m.text.SetValue(m.drafts[j])
	m.focusOn(onText)
	events = append(events, convo.Attention{Conversation: j, Act: convo.Focused})
	return tea.Batch(m.act(events...), m.look())
}

// draft keeps what was written and not sent.
func (m *Model) draft() {
	if text := m.text.Value(); strings.TrimSpace(text) != "" {
		m.drafts[m.open] = text
	} else {
		delete(m.drafts, m.open)
	}
}

// begin makes the text one for something else than the next message.
func (m *Model) begin(what mode, about convo.EntryID, text string) {
	if m.mode == say && !m.open.IsZero() {
		m.draft()
	}
	m.mode, m.about = what, about
	m.text.SetValue(text)
	m.focusOn(onText)
}

// plain makes the text one for the next message again.
func (m *Model) plain() {
	m.mode, m.about = say, 0
	m.text.SetValue(m.drafts[m.open])
	m.sel = 0
	if m.open.IsZero() {
		m.focusOn(onList)
	}
}

// entryAt is where an entry is in the picture, -1 where it isn't.
func (m *Model) entryAt(id convo.EntryID) int {
	for i := len(m.snap.view.Entries) - 1; i >= 0; i-- {
		if m.snap.view.Entries[i].ID == id {
			return i
		}
	}
	return -1
}

// chosen is the chosen message.
func (m *Model) chosen() (convo.Entry, bool) {
	if i := m.entryAt(m.sel); m.sel != 0 && i >= 0 {
		return m.snap.view.Entries[i], true
	}
	return convo.Entry{}, false
}
