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

// clean makes text harmless for a terminal: no control character, no direction override and no letter under a heap of marks gets through. Line breaks
// stay; oneLine takes them out too. Controls become their pictures, so that one sees that something was there.
func clean(s string) string {
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
		case r >= 0x80 && r < 0xa0, unicode.Is(unicode.Bidi_Control, r), r == 0xfeff, r == 0x00ad, r >= 0xe0000 && r < 0xe1000, r >= 0xfff0 && r < 0xfffd:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// oneLine is clean for a place that has one line.
func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// width is how many cells text takes.
func width(s string) int { return ansi.StringWidth(s) }

// fit makes text exactly n cells wide.
func fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	if w := width(s); w <= n {
		return s + strings.Repeat(" ", n-w)
	}
	s = ansi.Truncate(s, n, "…")
	return s + strings.Repeat(" ", max(0, n-width(s)))
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

// wrap breaks clean text into lines of at most n cells.
func wrap(s string, n int) []string {
	lines := strings.Split(ansi.Wrap(strings.TrimRight(s, "\n "), max(n, 1), ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
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
