package xep

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"carillon.im/xmltree"
)

// NSCaps is XEP-0115's namespace.
const NSCaps = "http://jabber.org/protocol/caps"

// Caps is a hint at an entity's disco#info (XEP-0115 4).
type Caps struct {
	Hash string // "sha-1" mostly
	Node string
	Ver  string // hash of the disco#info
}

// Query is the disco node under which the entity tells what Ver stands for
// (XEP-0115 6.2).
func (c Caps) Query() string { return c.Node + "#" + c.Ver }

// ParseCaps reads <c/>. ok is false for another element, for one that lacks an
// attribute, and for the legacy format, which has no hash (XEP-0115 13).
func ParseCaps(el xmltree.Element) (c Caps, ok bool) {
	if !el.Is(NSCaps, "c") {
		return Caps{}, false
	}
	c = Caps{Hash: el.Attr("hash"), Node: el.Attr("node"), Ver: el.Attr("ver")}
	return c, c.Hash != "" && c.Node != "" && c.Ver != ""
}

// AppendCaps appends <c/>, for presence and for <stream:features/> (XEP-0115
// 6.3).
func AppendCaps(dst []byte, c Caps) []byte {
	dst = append(dst, "<c xmlns='"+NSCaps+"'"...)
	dst = appendAttr(dst, "hash", c.Hash)
	dst = appendAttr(dst, "node", c.Node)
	return append(appendAttr(dst, "ver", c.Ver), "/>"...)
}

// CapsVer computes the verification string of info (XEP-0115 5.1). ok is false
// for a hash other than sha-1 and sha-256, and for information that XEP-0115
// 5.4 calls ill-formed: it must not be believed.
func CapsVer(hash string, info DiscoInfo) (ver string, ok bool) {
	s, ok := capsInput(info)
	if !ok {
		return "", false
	}
	switch hash {
	case "sha-1":
		sum := sha1.Sum([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:]), true
	case "sha-256":
		sum := sha256.Sum256([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:]), true
	}
	return "", false
}

// capsInput is S of XEP-0115 5.1.
func capsInput(info DiscoInfo) (s string, ok bool) {
	var b strings.Builder
	// Sorted by category, type and language one after the other: '/' sorts
	// above '-' and '.', so the joined strings would sort differently.
	order := slices.Clone(info.Identities)
	slices.SortFunc(order, func(x, y Identity) int {
		return cmp.Or(cmp.Compare(x.Category, y.Category), cmp.Compare(x.Type, y.Type),
			cmp.Compare(x.Lang, y.Lang), cmp.Compare(x.Name, y.Name))
	})
	identities := make([]string, 0, len(order))
	for _, id := range order {
		identities = append(identities, factor(id.Category)+"/"+factor(id.Type)+"/"+factor(id.Lang)+"/"+factor(id.Name))
	}
	if !writeFactors(&b, identities) {
		return "", false
	}
	features := make([]string, 0, len(info.Features))
	for _, f := range info.Features {
		features = append(features, factor(f))
	}
	slices.Sort(features)
	if !writeFactors(&b, features) {
		return "", false
	}
	forms, ok := capsForms(info.Forms)
	if !ok {
		return "", false
	}
	for _, f := range forms {
		b.WriteString(f.text)
	}
	return b.String(), true
}

// factor is one value as it goes into S: a '<' in it stays escaped, or it
// could stand for the separator (XEP-0115 5.1, note).
func factor(v string) string { return strings.ReplaceAll(v, "<", "&lt;") }

// writeFactors writes sorted factors; it reports false for one that is twice.
func writeFactors(b *strings.Builder, sorted []string) bool {
	for i, f := range sorted {
		if i > 0 && f == sorted[i-1] {
			return false // XEP-0115 5.4, 3.3 and 3.4
		}
		b.WriteString(f)
		b.WriteByte('<')
	}
	return true
}

type capsForm struct{ formType, text string }

// capsForms are the forms' parts of S, sorted.
func capsForms(els []xmltree.Element) (forms []capsForm, ok bool) {
	for _, el := range els {
		f, err := ParseForm(el)
		if err != nil {
			return nil, false
		}
		i := slices.IndexFunc(f.Fields, func(f Field) bool { return f.Var == formTypeField })
		if i < 0 || f.Fields[i].Type != "hidden" || len(f.Fields[i].Values) == 0 {
			continue // 5.4, 3.6: ignored
		}
		values := slices.Compact(slices.Clone(f.Fields[i].Values))
		if len(values) > 1 {
			return nil, false // 5.4, 3.5
		}
		forms = append(forms, capsForm{values[0], capsFields(values[0], f.Fields)})
	}
	slices.SortFunc(forms, func(x, y capsForm) int { return cmp.Compare(x.formType, y.formType) })
	for i := 1; i < len(forms); i++ {
		if forms[i].formType == forms[i-1].formType {
			return nil, false // 5.4, 3.5
		}
	}
	return forms, true
}

func capsFields(formType string, fields []Field) string {
	var b strings.Builder
	b.WriteString(factor(formType) + "<")
	fields = slices.Clone(fields)
	slices.SortFunc(fields, func(x, y Field) int { return cmp.Compare(x.Var, y.Var) })
	for _, f := range fields {
		if f.Var == formTypeField {
			continue
		}
		b.WriteString(factor(f.Var) + "<")
		values := slices.Sorted(slices.Values(f.Values))
		for _, v := range values {
			b.WriteString(factor(v) + "<")
		}
	}
	return b.String()
}
