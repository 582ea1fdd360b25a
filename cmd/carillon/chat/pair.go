package chat

import (
	"strings"

	tea "charm.land/bubbletea/v2"
)

// Pair shows two devices of one account side by side, of which one has the keys: a person who has only this terminal sees what each does when the other
// is used.
type Pair struct {
	panes  [2]*Model
	active int
	width  int
}

// NewPair makes the screen of two devices.
func NewPair(left, right *Model) *Pair { return &Pair{panes: [2]*Model{left, right}} }

// paneMsg is a message for one of the two.
type paneMsg struct {
	pane int
	msg  tea.Msg
}

// Init begins both.
func (p *Pair) Init() tea.Cmd {
	return tea.Batch(p.of(0, p.panes[0].Init()), p.of(1, p.panes[1].Init()), p.to(1, tea.BlurMsg{}))
}

// of makes what a command gives a message for its pane.
func (p *Pair) of(pane int, cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() tea.Msg {
		switch msg := cmd().(type) {
		case nil:
			return nil
		case tea.QuitMsg:
			return msg
		case tea.BatchMsg:
			for i, c := range msg {
				msg[i] = p.of(pane, c)
			}
			return msg
		default:
			return paneMsg{pane, msg}
		}
	}
}

// to gives a message to a pane.
func (p *Pair) to(pane int, msg tea.Msg) tea.Cmd { return p.of(pane, p.panes[pane].update(msg)) }

// Update takes what happened: keys are the active pane's.
func (p *Pair) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case paneMsg:
		return p, p.to(msg.pane, msg.msg)
	case tea.WindowSizeMsg:
		p.width = msg.Width
		left := (msg.Width - 1) / 2
		return p, tea.Batch(p.to(0, tea.WindowSizeMsg{Width: left, Height: msg.Height}),
			p.to(1, tea.WindowSizeMsg{Width: msg.Width - 1 - left, Height: msg.Height}))
	case tea.ModeReportMsg:
		return p, tea.Batch(p.to(0, msg), p.to(1, msg))
	case tea.KeyPressMsg:
		if k := msg.String(); k == "ctrl+w" || k == "f3" {
			left := p.to(p.active, tea.BlurMsg{})
			p.active = 1 - p.active
			return p, tea.Batch(left, p.to(p.active, tea.FocusMsg{}))
		}
	}
	return p, p.to(p.active, msg)
}

// View is both screens.
func (p *Pair) View() tea.View {
	text, cursor := p.screen()
	v := tea.NewView(text)
	v.AltScreen, v.ReportFocus, v.Cursor, v.WindowTitle = true, true, cursor, "carillon: two devices of one account"
	return v
}

func (p *Pair) screen() (string, *tea.Cursor) {
	left, cursor := p.panes[0].screen()
	right, other := p.panes[1].screen()
	if p.active == 1 {
		if cursor = other; cursor != nil {
			cursor.X += p.panes[0].width + 1
		}
	}
	a, b := strings.Split(left, "\n"), strings.Split(right, "\n")
	if len(a) != len(b) { // one is too small to be shown
		return left, nil
	}
	m := p.panes[1-p.active]
	idle := m.style.faint(m.fit(" ^W: go to this device", m.width))
	if p.active == 0 {
		b[len(b)-1] = idle
	} else {
		a[len(a)-1] = idle
	}
	for i := range a {
		a[i] += m.style.faint("┃") + b[i]
	}
	return strings.Join(a, "\n"), cursor
}
