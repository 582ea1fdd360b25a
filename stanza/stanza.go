// Package stanza is the three stanzas of XMPP, message, presence and IQ, with
// stanza and stream errors (RFC 6120 8 and 4.9).
//
// A Stanza is a header (the attributes that routing reads and rewrites) over
// an immutable payload, the children as canonical bytes. Changing an address
// copies the header and shares the payload; encoding writes a header and
// copies the payload's bytes. Payload bytes are canonical in the context
// jabber:client: the same bytes stand in a jabber:server stream, whose content
// namespace means the same (RFC 6120 4.8.3).
package stanza

import (
	"errors"
	"iter"
	"strings"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// Kind is which of the three stanzas it is.
type Kind uint8

// The three kinds of stanzas (RFC 6120 8.2).
const (
	Message Kind = iota + 1
	Presence
	IQ
)

// String is the element's name.
func (k Kind) String() string {
	switch k {
	case Message:
		return "message"
	case Presence:
		return "presence"
	case IQ:
		return "iq"
	}
	return "unknown"
}

// Types of messages (RFC 6121 5.2.2), presence (RFC 6121 4.7.1) and IQs (RFC
// 6120 8.2.3). TypeAvailable is the absence of the attribute.
const (
	TypeNormal    = "normal"
	TypeChat      = "chat"
	TypeGroupchat = "groupchat"
	TypeHeadline  = "headline"
	TypeError     = "error"

	TypeAvailable    = ""
	TypeUnavailable  = "unavailable"
	TypeSubscribe    = "subscribe"
	TypeSubscribed   = "subscribed"
	TypeUnsubscribe  = "unsubscribe"
	TypeUnsubscribed = "unsubscribed"
	TypeProbe        = "probe"

	TypeGet    = "get"
	TypeSet    = "set"
	TypeResult = "result"
)

// Stanza is one message, presence or IQ. The payload never changes; the header
// belongs to whoever holds the value: copy the struct to readdress it. A
// *Stanza that was handed on must not be written to.
type Stanza struct {
	Kind Kind
	// Type is the type attribute; a message without or with an unknown one is
	// TypeNormal (RFC 6121 5.2.2).
	Type string
	ID   string
	From jid.JID
	To   jid.JID
	Lang string

	root xmltree.Element
}

// ErrNotStanza is what Parse gives for an element that is no stanza.
var ErrNotStanza = errors.New("stanza: element is not a stanza")

// Parse reads the header of an element in jabber:client or jabber:server. The
// error is ErrNotStanza or a *Error that the sender may be told; with a *Error
// the stanza is returned too, with what could be read of its header, so that
// the error can be addressed.
func Parse(el xmltree.Element) (*Stanza, error) {
	if sp := el.Space(); sp != NSClient && sp != NSServer {
		return nil, ErrNotStanza
	}
	st := &Stanza{Type: el.Attr("type"), ID: el.Attr("id"), root: el}
	switch el.Local() {
	case "message":
		st.Kind = Message
	case "presence":
		st.Kind = Presence
	case "iq":
		st.Kind = IQ
	default:
		return nil, ErrNotStanza
	}
	st.Lang, _ = el.LookupAttr(xmltree.XMLSpace, "lang")
	var err *Error
	if st.From, err = address(el, "from"); err != nil {
		return st, err
	}
	if st.To, err = address(el, "to"); err != nil {
		return st, err
	}
	if err = st.checkType(); err != nil {
		return st, err
	}
	return st, nil
}

func address(el xmltree.Element, attr string) (jid.JID, *Error) {
	s, ok := el.LookupAttr("", attr)
	if !ok || s == "" {
		// An empty address means the same as none: clients write to=''.
		return jid.JID{}, nil
	}
	j, err := jid.Parse(s)
	if err != nil {
		return jid.JID{}, NewError(JIDMalformed, "the attribute '"+attr+"' is not an address")
	}
	return j, nil
}

func (st *Stanza) checkType() *Error {
	switch st.Kind {
	case Message:
		switch st.Type {
		case TypeNormal, TypeChat, TypeGroupchat, TypeHeadline, TypeError:
		default:
			st.Type = TypeNormal // RFC 6121 5.2.2
		}
	case Presence:
		switch st.Type {
		case TypeAvailable, TypeUnavailable, TypeSubscribe, TypeSubscribed,
			TypeUnsubscribe, TypeUnsubscribed, TypeProbe, TypeError:
		default:
			return NewError(BadRequest, "unknown type of presence")
		}
	case IQ:
		switch st.Type {
		case TypeGet, TypeSet:
			if st.PayloadCount() != 1 {
				return NewError(BadRequest, "an IQ of this type carries exactly one child element") // RFC 6120 8.2.3
			}
		case TypeResult:
			if st.PayloadCount() > 1 {
				return NewError(BadRequest, "an IQ result carries at most one child element")
			}
		case TypeError:
		default:
			return NewError(BadRequest, "unknown type of IQ")
		}
		if st.ID == "" {
			return NewError(BadRequest, "an IQ needs an id") // RFC 6120 8.1.3
		}
	}
	return nil
}

// Build makes a stanza from a payload, canonical XML in the context
// jabber:client, such as an xmltree.Writer makes. It panics on a payload that
// isn't: such a payload is a programming error.
func Build(kind Kind, typ, id string, from, to jid.JID, payload string) *Stanza {
	doc := make([]byte, 0, len(payload)+32)
	doc = append(append(append(doc, '<'), kind.String()...), '>')
	doc = append(doc, payload...)
	doc = append(append(append(doc, "</"...), kind.String()...), '>')
	// The limits guard against peers; what the server makes has none.
	el, err := xmltree.Parse(doc, NSClient, xmltree.Limits{MaxBytes: len(doc) + 1, MaxDepth: 1 << 10, MaxAttrs: 1 << 10, MaxChildren: 1 << 24})
	if err != nil {
		panic("stanza: Build with a payload that is not canonical XML: " + err.Error())
	}
	if kind == Message && typ == "" {
		typ = TypeNormal
	}
	return &Stanza{Kind: kind, Type: typ, ID: id, From: from, To: to, root: el}
}

// ParseBytes parses one stored or received stanza whose default namespace is
// jabber:client. Errors are Parse's and the scanner's.
func ParseBytes(b []byte, lim xmltree.Limits) (*Stanza, error) {
	el, err := xmltree.Parse(b, NSClient, lim)
	if err != nil {
		return nil, err
	}
	return Parse(el)
}

// Payloads are the child elements in order.
func (st *Stanza) Payloads() iter.Seq[xmltree.Element] { return st.root.Children() }

// Payload is the first child element that is not an <error/>; for an IQ its
// only one. Zero if there is none.
func (st *Stanza) Payload() xmltree.Element {
	for el := range st.root.Children() {
		if !el.Is(st.root.Space(), "error") {
			return el
		}
	}
	return xmltree.Element{}
}

// PayloadCount is the number of child elements.
func (st *Stanza) PayloadCount() int {
	n := 0
	for range st.root.Children() {
		n++
	}
	return n
}

// Child is the first child with this name; space may be NSClient also for a
// stanza that came over jabber:server.
func (st *Stanza) Child(space, local string) xmltree.Element {
	if space == NSClient {
		space = st.root.Space()
	}
	return st.root.Child(space, local)
}

// Thread is the text of a message's first <thread/>, which names its
// conversation (RFC 6121 5.2.5); "" if it has none. The value is opaque: spaces
// count.
func (st *Stanza) Thread() string { return st.Child(NSClient, "thread").Text() }

// ContentSpace is the namespace of the stanza's own elements as received,
// NSClient or NSServer.
func (st *Stanza) ContentSpace() string { return st.root.Space() }

// Inner is the payload's canonical bytes, in the context jabber:client.
func (st *Stanza) Inner() string { return st.root.Inner() }

// InnerWithout is Inner without the children for which drop is true; it is
// Inner itself, without a copy, where none is.
func (st *Stanza) InnerWithout(drop func(xmltree.Element) bool) string {
	any := false
	for el := range st.root.Children() {
		if drop(el) {
			any = true
			break
		}
	}
	if !any {
		return st.root.Inner()
	}
	var b strings.Builder
	for el := range st.root.Children() {
		if !drop(el) {
			b.WriteString(el.Raw())
		}
	}
	return b.String()
}

// ParseError reads the stanza error of a stanza of type error; nil where there
// is none or it is malformed.
func (st *Stanza) ParseError() *Error {
	el := st.Child(NSClient, "error")
	if el.IsZero() {
		return nil
	}
	e := &Error{Type: ErrorType(el.Attr("type"))}
	e.By, _ = jid.Parse(el.Attr("by"))
	for c := range el.Children() {
		switch {
		case c.Space() != NSStanzaErrors:
			e.App = string(c.AppendTo(nil, NSClient))
		case c.Local() == "text":
			e.Text = c.Text()
		default:
			e.Condition = Condition(c.Local())
		}
	}
	if e.Condition == "" {
		return nil
	}
	return e
}

// AppendTo appends the stanza as it goes into a stream or an archive whose
// default namespace is the content namespace; extra is canonical payload
// added behind the stanza's own.
func (st *Stanza) AppendTo(dst []byte, extra ...string) []byte {
	dst = st.AppendOpen(dst)
	inner := st.root.Inner()
	n := len(inner)
	for _, x := range extra {
		n += len(x)
	}
	return st.appendClose(dst, n, inner, extra)
}

// AppendWith is AppendTo with another payload in place of the stanza's own.
func (st *Stanza) AppendWith(dst []byte, inner string, extra ...string) []byte {
	dst = st.AppendOpen(dst)
	n := len(inner)
	for _, x := range extra {
		n += len(x)
	}
	return st.appendClose(dst, n, inner, extra)
}

// AppendOpen appends the start tag up to, without, its closing '>'.
func (st *Stanza) AppendOpen(dst []byte) []byte {
	return appendOpen(dst, st.Kind, st.Type, st.ID, st.From, st.To, st.Lang)
}

func appendOpen(dst []byte, kind Kind, typ, id string, from, to jid.JID, lang string) []byte {
	dst = append(append(dst, '<'), kind.String()...)
	dst = appendAttr(dst, " from='", from.String())
	dst = appendAttr(dst, " to='", to.String())
	dst = appendAttr(dst, " id='", id)
	if kind != Message || typ != TypeNormal {
		dst = appendAttr(dst, " type='", typ)
	}
	return appendAttr(dst, " xml:lang='", lang)
}

func appendAttr(dst []byte, open, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, open...)
	dst = xmltree.AppendAttrValue(dst, value)
	return append(dst, '\'')
}

func (st *Stanza) appendClose(dst []byte, n int, inner string, extra []string) []byte {
	if n == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = append(dst, inner...)
	for _, x := range extra {
		dst = append(dst, x...)
	}
	dst = append(append(dst, "</"...), st.Kind.String()...)
	return append(dst, '>')
}

// Reply is the answer to an IQ (RFC 6120 8.2.3): type result, addresses
// exchanged, payload canonical in the context jabber:client.
func (st *Stanza) Reply(payload string) *Stanza {
	return Build(IQ, TypeResult, st.ID, st.To, st.From, payload)
}

// ErrorReply is the stanza error that answers st, addresses exchanged (RFC
// 6120 8.3.1). The payload of the original isn't returned. It is nil for
// stanzas that must not be answered with an error: errors and IQ results.
func (st *Stanza) ErrorReply(e *Error) *Stanza {
	if st.Type == TypeError || st.Kind == IQ && st.Type == TypeResult {
		return nil
	}
	return Build(st.Kind, TypeError, st.ID, st.To, st.From, string(e.AppendTo(nil)))
}

// AsError is the *Error that a peer is told for err, InternalServerError for
// every error that isn't one; own is false then, and the caller logs err.
func AsError(err error) (e *Error, own bool) {
	if errors.As(err, &e) {
		return e, true
	}
	return NewError(InternalServerError, ""), false
}
