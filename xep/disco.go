package xep

import (
	"carillon.im/jid"
	"carillon.im/xmltree"
)

// The namespaces of XEP-0030.
const (
	NSDiscoInfo  = "http://jabber.org/protocol/disco#info"
	NSDiscoItems = "http://jabber.org/protocol/disco#items"
)

// DiscoInfo is what an entity is and can (XEP-0030 3.1).
type DiscoInfo struct {
	Identities []Identity
	Features   []string
	Forms      []xmltree.Element // <x xmlns='jabber:x:data' type='result'/> (XEP-0128)
}

// Identity is what an entity is.
type Identity struct{ Category, Type, Lang, Name string }

// ParseDiscoInfo reads the <query/> of an answer. Identities without category
// or type and features without var are errors of their sender and make the
// answer bad-request.
func ParseDiscoInfo(el xmltree.Element) (DiscoInfo, error) {
	if !el.Is(NSDiscoInfo, "query") {
		return DiscoInfo{}, badRequest("not an answer of disco#info")
	}
	var info DiscoInfo
	for c := range el.Children() {
		switch {
		case c.Is(NSDiscoInfo, "identity"):
			lang, _ := c.LookupAttr(xmltree.XMLSpace, "lang")
			id := Identity{Category: c.Attr("category"), Type: c.Attr("type"), Lang: lang, Name: c.Attr("name")}
			if id.Category == "" || id.Type == "" {
				return DiscoInfo{}, badRequest("an identity lacks category or type")
			}
			info.Identities = append(info.Identities, id)
		case c.Is(NSDiscoInfo, "feature"):
			v := c.Attr("var")
			if v == "" {
				return DiscoInfo{}, badRequest("a feature lacks var")
			}
			info.Features = append(info.Features, v)
		case c.Is(NSForm, "x"):
			info.Forms = append(info.Forms, c)
		}
	}
	return info, nil
}

// AppendDiscoInfo appends the <query/> of an answer; node is that of the
// question. With an empty info it is the question.
func AppendDiscoInfo(dst []byte, node string, info DiscoInfo) []byte {
	dst = appendOptAttr(append(dst, "<query xmlns='"+NSDiscoInfo+"'"...), "node", node)
	if len(info.Identities)+len(info.Features)+len(info.Forms) == 0 {
		return append(dst, "/>"...) // a question
	}
	dst = append(dst, '>')
	for _, id := range info.Identities {
		dst = append(dst, "<identity"...)
		dst = appendAttr(dst, "category", id.Category)
		dst = appendAttr(dst, "type", id.Type)
		dst = appendOptAttr(dst, "xml:lang", id.Lang)
		dst = append(appendOptAttr(dst, "name", id.Name), "/>"...)
	}
	for _, f := range info.Features {
		dst = append(appendAttr(append(dst, "<feature"...), "var", f), "/>"...)
	}
	for _, f := range info.Forms {
		dst = f.AppendTo(dst, NSDiscoInfo)
	}
	return append(dst, "</query>"...)
}

// DiscoItem is an entity that belongs to another, or a node of one (XEP-0030 4.1).
type DiscoItem struct {
	JID  jid.JID
	Node string
	Name string
}

// AppendDiscoItems appends the <query/> of an answer; node is that of the
// question.
func AppendDiscoItems(dst []byte, node string, items []DiscoItem) []byte {
	return AppendDiscoItemsPage(dst, node, items, "")
}

// AppendDiscoItemsPage is AppendDiscoItems for a part of the items; set is what
// AppendRSM says of it, "" for all of them (XEP-0059).
func AppendDiscoItemsPage(dst []byte, node string, items []DiscoItem, set string) []byte {
	dst = appendOptAttr(append(dst, "<query xmlns='"+NSDiscoItems+"'"...), "node", node)
	if len(items) == 0 && set == "" {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, it := range items {
		dst = appendAttr(append(dst, "<item"...), "jid", it.JID.String())
		dst = appendOptAttr(dst, "node", it.Node)
		dst = append(appendOptAttr(dst, "name", it.Name), "/>"...)
	}
	return append(append(dst, set...), "</query>"...)
}
