package chat

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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

// oneLine is Clean for a place that has one line.
func oneLine(s string) string { return strings.Join(strings.Fields(Clean(s)), " ") }

// width is how many cells text takes.
func width(s string) int { return ansi.StringWidth(s) }

// fit makes text exactly n cells wide.
func fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	w := width(s)
	if w > n {
		s = ansi.Truncate(s, n, "…")
		w = width(s)
	}
	s += strings.Repeat(" ", max(0, n-w))
	for ; w < n && width(s) < n; w++ { // a last letter that takes the space behind it to itself
		s += " "
	}
	return s
}

// cut makes text at most n cells wide.
func cut(s string, n int) string { return strings.TrimRight(fit(s, n), " ") }

// sides puts two texts at the ends of n cells; the right one is kept if not both fit.
func sides(left, right string, n int) string {
	if right == "" {
		return fit(left, n)
	}
	if width(right) > n {
		right = fit(right, n)
	}
	return fit(left, n-width(right)-1) + " " + right
}

// wrap breaks text into lines of at most n cells, between words where that can be.
func wrap(s string, n int) []string {
	n = max(n, 2) // of what is wider than a line, nothing would be left
	var lines []string
	for l := range strings.SplitSeq(ansi.Wrap(strings.TrimRight(s, "\n "), n, ""), "\n") {
		if width(l) > n { // a space and a word as wide as the line
			lines = append(lines, strings.Split(ansi.Hardwrap(l, n, true), "\n")...)
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
