package chat

import (
	"image/color"

	"charm.land/lipgloss/v2"
)

// styles are how things look. Colours are those of the terminal's own palette, and nothing is said by colour alone.
type styles struct {
	faint, strong, reverse, warn func(string) string
	threads                      []func(string) string // one for each colour; empty: none
}

// newStyles makes them, without any colour if told so (NO_COLOR).
func newStyles(plain bool) styles {
	paint := func(s lipgloss.Style) func(string) string {
		return func(text string) string { return s.Render(text) }
	}
	base := lipgloss.NewStyle().Inline(true)
	s := styles{faint: paint(base.Faint(true)), strong: paint(base.Bold(true)), reverse: paint(base.Reverse(true)), warn: paint(base.Bold(true))}
	if !plain {
		s.warn = paint(base.Foreground(lipgloss.Red))
		for _, c := range []color.Color{lipgloss.Cyan, lipgloss.Magenta, lipgloss.Yellow, lipgloss.Green, lipgloss.Blue, lipgloss.BrightRed} {
			s.threads = append(s.threads, paint(base.Foreground(c)))
		}
	}
	return s
}

// thread colours what belongs to a thread below root n.
func (s styles) thread(n int, text string) string {
	if len(s.threads) == 0 {
		return text
	}
	return s.threads[n%len(s.threads)](text)
}

// head is the time and name of a message: those of others stand out.
func (s styles) head(own bool, text string) string {
	if own {
		return s.faint(text)
	}
	return s.strong(text)
}
