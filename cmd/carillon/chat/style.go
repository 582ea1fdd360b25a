package chat

import (
	"image/color"

	"charm.land/lipgloss/v2"
)

// styles are how things look. Colours are those of the terminal's own palette, and nothing is said by colour alone.
type styles struct {
	faint, strong, reverse, warn func(string) string
	palette                      []color.Color
}

func newStyles() styles {
	paint := func(s lipgloss.Style) func(string) string {
		return func(text string) string { return s.Render(text) }
	}
	plain := lipgloss.NewStyle().Inline(true)
	return styles{
		faint: paint(plain.Faint(true)), strong: paint(plain.Bold(true)), reverse: paint(plain.Reverse(true)), warn: paint(plain.Foreground(lipgloss.Red)),
		palette: []color.Color{lipgloss.Cyan, lipgloss.Magenta, lipgloss.Yellow, lipgloss.Green, lipgloss.Blue, lipgloss.BrightRed},
	}
}

// thread colours what belongs to a thread below root n.
func (s styles) thread(n int, text string) string {
	return lipgloss.NewStyle().Inline(true).Foreground(s.palette[n%len(s.palette)]).Render(text)
}

// head is the time and name of a message: those of others stand out.
func (s styles) head(own bool, text string) string {
	if own {
		return s.faint(text)
	}
	return s.strong(text)
}
