package feature

import (
	"strings"

	"carillon.im/jid"
)

// Encode is the preferences as they are stored: a word a line, the default first, then + or - and an address.
func (p *ArchivePrefs) Encode() []byte {
	b := []byte(p.Default)
	for _, j := range p.Always {
		b = append(append(b, "\n+"...), j.String()...)
	}
	for _, j := range p.Never {
		b = append(append(b, "\n-"...), j.String()...)
	}
	return b
}

// DecodeArchivePrefs reads what Encode wrote; for what isn't there it is byDefault.
func DecodeArchivePrefs(b []byte, byDefault string) ArchivePrefs {
	p := ArchivePrefs{Default: byDefault}
	lines := strings.Split(string(b), "\n")
	if lines[0] != "" {
		p.Default = lines[0]
	}
	for _, l := range lines[1:] {
		if len(l) < 2 {
			continue
		}
		j, err := jid.Parse(l[1:])
		switch {
		case err != nil: // rules for addresses became stricter since
		case l[0] == '+':
			p.Always = append(p.Always, j)
		default:
			p.Never = append(p.Never, j)
		}
	}
	return p
}
