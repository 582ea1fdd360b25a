package chat

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// Bounds of what is shown of one text.
const (
	maxText  = 20_000 // bytes; what is behind isn't laid out
	maxMarks = 4      // combining marks on one letter
	tabWidth = 4
)

// Clean makes text harmless for a terminal: no control character, no direction override and no letter under a heap of marks gets through. Line breaks
// stay; oneLine takes them out too. Controls become their pictures, so that one sees that something was there.
func Clean(s string) string {
	if len(s) > maxText {
		cut := maxText
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f || s[i] == '\n'
	}
	if plain {
		return s
	}
	var b strings.Builder
	marks := 0
	for _, r := range s {
		if unicode.In(r, unicode.Mn, unicode.Me) && r != 0xfe0f {
			if marks++; marks > maxMarks {
				continue
			}
		} else {
			marks = 0
		}
		switch {
		case r == '\n', r == 0x2028, r == 0x2029:
			b.WriteByte('\n')
		case r == '\t':
			b.WriteString(strings.Repeat(" ", tabWidth))
		case r == '\r':
		case r < ' ':
			b.WriteRune(0x2400 + r)
		case r == 0x7f:
			b.WriteRune(0x2421)
		case r >= 0x80 && r < 0xa0, unicode.Is(unicode.Cf, r) && r != 0x200c && r != 0x200d: // the joiners are part of scripts and emoji
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cells says how many cells of the terminal text takes. Terminals disagree about letters that are made of several code points, those of Hindi and family
// emoji for instance: one that knows mode 2027 takes the whole for a letter, others add its parts up. Layout goes by the same rule as Bubble Tea's drawing,
// which asks the terminal; where both differ, the end of a line is lost.
type cells struct{ method ansi.Method } // the zero value adds parts up

// learn takes the terminal's answer about a mode.
func (c *cells) learn(msg tea.ModeReportMsg) {
	if msg.Mode == ansi.ModeUnicodeCore && (msg.Value == ansi.ModeSet || msg.Value == ansi.ModeReset || msg.Value == ansi.ModePermanentlySet) {
		c.method = ansi.GraphemeWidth
	}
}

// clean is Clean, and where the terminal adds up the parts of an emoji it gets them one by one: some draw the whole all the same, in fewer cells.
func (c cells) clean(s string) string {
	s = Clean(s)
	if c.method == ansi.GraphemeWidth || strings.IndexFunc(s, joins) < 0 {
		return s
	}
	var b strings.Builder
	emoji := false
	for _, r := range s {
		if r != 0xfe0f && (!emoji || !joins(r)) {
			b.WriteRune(r)
		}
		emoji = r >= 0x203c && unicode.In(r, unicode.So, unicode.Sk, unicode.Sm, unicode.Po) || emoji && joins(r)
	}
	return b.String()
}

// joins reports whether r makes something else of the emoji before it: a joiner, a skin's tone, the sign that it is to be in colour.
func joins(r rune) bool { return r == 0x200d || r == 0xfe0f || r >= 0x1f3fb && r <= 0x1f3ff }

// oneLine is clean for a place that has one line.
func (c cells) oneLine(s string) string { return oneLine(c.clean(s)) }

// oneLine is Clean for what stands in one line.
func oneLine(s string) string { return strings.Join(strings.Fields(Clean(s)), " ") }

// wide is how many cells text takes.
func (c cells) wide(s string) int { return c.method.StringWidth(s) }

// fit makes text exactly n cells wide.
func (c cells) fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	w := c.wide(s)
	if w > n {
		// What is added is behind the cut: without it, Truncate leaves text alone that fits by the other method.
		s = c.method.Truncate(s+strings.Repeat(" ", n+1), n, "…")
		w = c.wide(s)
	}
	s += strings.Repeat(" ", max(0, n-w))
	for ; w < n && c.wide(s) < n; w++ { // a last letter that takes the space behind it to itself
		s += " "
	}
	return s
}

// cut makes text at most n cells wide.
func (c cells) cut(s string, n int) string { return strings.TrimRight(c.fit(s, n), " ") }

// sides puts two texts at the ends of n cells; the right one is kept if not both fit.
func (c cells) sides(left, right string, n int) string {
	if right == "" {
		return c.fit(left, n)
	}
	if c.wide(right) > n {
		right = c.fit(right, n)
	}
	return c.fit(left, n-c.wide(right)-1) + " " + right
}

// centred puts text into the middle of n cells.
func (c cells) centred(s string, n int) string {
	return c.fit(strings.Repeat(" ", max(0, (n-c.wide(s))/2))+s, n)
}

// wrap breaks text into lines of at most n cells, between words where that can be.
func (c cells) wrap(s string, n int) []string {
	n = max(n, 2) // of what is wider than a line, nothing would be left
	var lines []string
	for l := range strings.SplitSeq(c.method.Wrap(strings.TrimRight(s, "\n "), n, ""), "\n") {
		if c.wide(l) > n { // a space and a word as wide as the line
			lines = append(lines, strings.Split(c.method.Hardwrap(l, n, true), "\n")...)
			continue
		}
		lines = append(lines, strings.TrimRight(l, " "))
	}
	return lines
}

// numbered is a path of numbers: 2.1.
func numbered(path []int) string {
	var b strings.Builder
	for i, n := range path {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
