package chat

import (
	"image/color"

	"charm.land/lipgloss/v2"
)

// styles are how things look. Colours are those of the terminal's own palette, and nothing is said by colour alone.
type styles struct {
	faint, strong, reverse, warn func(string) string
	palette                      []color.Color // empty: none
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
		s.palette = []color.Color{lipgloss.Cyan, lipgloss.Magenta, lipgloss.Yellow, lipgloss.Green, lipgloss.Blue, lipgloss.BrightRed}
	}
	return s
}

// thread colours what belongs to a thread below root n.
func (s styles) thread(n int, text string) string {
	if len(s.palette) == 0 {
		return text
	}
	return lipgloss.NewStyle().Inline(true).Foreground(s.palette[n%len(s.palette)]).Render(text)
}

// head is the time and name of a message: those of others stand out.
func (s styles) head(own bool, text string) string {
	if own {
		return s.faint(text)
	}
	return s.strong(text)
}
