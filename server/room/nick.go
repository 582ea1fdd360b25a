package room

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"carillon.im/stanza"
)

// maxNick bounds a nick, in characters.
const maxNick = 64

// checkNick judges a nick, which is a resource and so has passed RFC 7622's
// OpaqueString already. A nick of nothing to see, or with space at an end, is
// made to be taken for another.
func checkNick(nick string) *stanza.Error {
	switch {
	case strings.TrimSpace(nick) != nick || skeleton(nick) == "":
		return stanza.NewError(stanza.NotAcceptable, "a nick has something to see, and no space at its ends")
	case utf8.RuneCountInString(nick) > maxNick:
		return stanza.NewError(stanza.NotAcceptable, "the nick is too long")
	}
	return nil
}

// skeleton is what two nicks share that people may take for one another: case,
// width, accents that stand alone, space and the letters that look the same in
// Latin, Greek and Cyrillic don't count. Room members that a nick is shown
// to compare no code points.
func skeleton(nick string) string {
	// XEP-0045 13: nicks are compared by the profile Nickname (RFC 8266). What it
	// refuses is compared as it is.
	if key, err := precis.Nickname.CompareKey(nick); err == nil {
		nick = key
	}
	var b strings.Builder
	for _, r := range norm.NFKD.String(nick) {
		switch {
		case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Cf, r), unicode.IsSpace(r), unicode.Is(unicode.Zs, r),
			unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r):
			continue
		}
		r = unicode.ToLower(r)
		if same, ok := lookAlikes[r]; ok {
			r = same
		}
		b.WriteRune(r)
	}
	// Two letters that look like one.
	return strings.NewReplacer("rn", "m", "vv", "w").Replace(b.String())
}

// lookAlikes are letters and digits of which one font or another makes the
// same picture, lower case. It holds the common ones, as Unicode's list of
// confusable characters (UTS 39) names them.
var lookAlikes = map[rune]rune{
	'0': 'o', '1': 'l', 'i': 'l', '|': 'l', 'ı': 'l', 'ǀ': 'l', '5': 's', '!': 'l',
	// Cyrillic
	'а': 'a', 'в': 'b', 'с': 'c', 'ԁ': 'd', 'е': 'e', 'һ': 'h', 'і': 'l', 'ј': 'j', 'к': 'k', 'ӏ': 'l', 'м': 'm', 'н': 'h', 'о': 'o', 'р': 'p',
	'ԛ': 'q', 'г': 'r', 'ѕ': 's', 'т': 't', 'у': 'y', 'ѵ': 'v', 'ԝ': 'w', 'х': 'x', 'ү': 'y', 'ь': 'b', 'з': '3',
	// Greek
	'α': 'a', 'β': 'b', 'ε': 'e', 'η': 'n', 'ι': 'l', 'κ': 'k', 'μ': 'u', 'ν': 'v', 'ο': 'o', 'ρ': 'p', 'σ': 'o', 'τ': 't', 'υ': 'u', 'χ': 'x', 'ζ': 'z', 'γ': 'y',
	'ς': 'c', // also ϲ and Ϲ, by NFKC
	// Armenian, and letters of Latin that are no Latin letter with an accent
	'օ': 'o', 'ս': 'u', 'հ': 'h', 'ո': 'n', 'ɑ': 'a', 'ɡ': 'g', 'ø': 'o', 'ł': 'l',
}
