package xep

import (
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSMAM is XEP-0313's namespace; NSMAMExtended the feature for before-id,
// after-id, ids, flipped pages and metadata (7).
const (
	NSMAM         = "urn:xmpp:mam:2"
	NSMAMExtended = "urn:xmpp:mam:2#extended"
)

// NSThread is our namespace of the archive's filter by conversation thread;
// MAMThread is the name of its field, in Clark notation (XEP-0313 4.1.5). Its
// value is compared byte for byte with the text of the first <thread/> of each
// message (RFC 6121 5.2.5).
const (
	NSThread  = "urn:xmpp:tmp:thread:0"
	MAMThread = "{" + NSThread + "}thread"
)

// Bounds of a query. Its id is repeated in every result.
const (
	MaxMAMQueryID = 256 // bytes
	MaxMAMIDs     = 256
	MaxMAMThread  = 1023 // bytes
	MaxMAMPrefs   = 1000 // JIDs in both lists of <prefs/> together
)

// MAMQuery is a query of an archive (XEP-0313 4). Zero values filter nothing.
type MAMQuery struct {
	ID         string // queryid
	With       jid.JID
	Start, End time.Time
	BeforeID   string
	AfterID    string
	Thread     string
	IDs        []string // nil: no such filter
	Page       RSM
	Flip       bool // <flip-page/>: newest first
}

// ParseMAMQuery reads the <query/> of a set. Its errors are bad-request for
// what is malformed, feature-not-implemented for a form field that this server
// doesn't know (4.1.5), policy-violation for too many ids or too long a thread, and item-not-found for a node: an account's archive has
// none (6.1.3).
func ParseMAMQuery(el xmltree.Element) (MAMQuery, error) {
	q := MAMQuery{ID: el.Attr("queryid"), Page: NoRSM()}
	if len(q.ID) > MaxMAMQueryID {
		return MAMQuery{}, badRequest("the queryid is too long")
	}
	if el.Attr("node") != "" {
		return MAMQuery{}, stanza.NewError(stanza.ItemNotFound, "this archive has no nodes")
	}
	var err error
	for c := range el.Children() {
		switch {
		case c.Is(NSForm, "x"):
			if err = q.parseForm(c); err != nil {
				return MAMQuery{}, err
			}
		case c.Is(NSRSM, "set"):
			if q.Page, err = ParseRSM(c); err != nil {
				return MAMQuery{}, err
			}
		case c.Is(NSMAM, "flip-page"):
			q.Flip = true
		}
	}
	return q, nil
}

func (q *MAMQuery) parseForm(el xmltree.Element) error {
	form, err := ParseForm(el)
	if err != nil {
		return err
	}
	if form.Type != "submit" || form.FormType() != NSMAM {
		return badRequest("the form is not a submission of FORM_TYPE " + NSMAM)
	}
	for _, f := range form.Fields {
		if err := q.parseField(f); err != nil {
			return err
		}
	}
	return nil
}

func (q *MAMQuery) parseField(f Field) (err error) {
	var value string
	switch len(f.Values) {
	case 0:
	case 1:
		value = f.Values[0]
	default:
		if f.Var != "ids" {
			return badRequest("a field of the form has more than one value")
		}
	}
	if f.Var == "ids" {
		if len(f.Values) > MaxMAMIDs {
			return stanza.NewError(stanza.PolicyViolation, "too many ids in one query")
		}
		q.IDs = append(make([]string, 0, len(f.Values)), f.Values...)
		return nil
	}
	// A field that is left empty filters nothing: clients submit the form as
	// they got it.
	empty := value == ""
	switch f.Var {
	case formTypeField:
	case "with":
		if !empty {
			if q.With, err = jid.Parse(value); err != nil {
				return badRequest("the field 'with' is not an address")
			}
		}
	case "start":
		if !empty {
			if q.Start, err = ParseDateTime(value); err != nil {
				return badRequest("the field 'start' is not a DateTime")
			}
		}
	case "end":
		if !empty {
			if q.End, err = ParseDateTime(value); err != nil {
				return badRequest("the field 'end' is not a DateTime")
			}
		}
	case "before-id":
		q.BeforeID = value
	case "after-id":
		q.AfterID = value
	case MAMThread:
		if len(value) > MaxMAMThread {
			return stanza.NewError(stanza.PolicyViolation, "the archive cannot be searched for so long a thread")
		}
		q.Thread = value
	default:
		return stanza.NewError(stanza.FeatureNotImplemented, "the form has a field that is not supported") // XEP-0313 4.1.5
	}
	return nil
}

// AppendMAMQuery appends the <query/> that ParseMAMQuery reads.
func AppendMAMQuery(dst []byte, q MAMQuery) []byte {
	dst = appendOptAttr(append(dst, "<query xmlns='"+NSMAM+"'"...), "queryid", q.ID)
	dst = append(dst, "><x xmlns='"+NSForm+"' type='submit'><field var='"+formTypeField+"' type='hidden'><value>"+NSMAM+"</value></field>"...)
	field := func(name string, values ...string) {
		if len(values) == 1 && values[0] == "" {
			return
		}
		dst = append(appendAttr(append(dst, "<field"...), "var", name), '>')
		for _, v := range values {
			dst = appendElement(dst, "", "value", v)
		}
		dst = append(dst, "</field>"...)
	}
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return string(AppendDateTime(nil, t))
	}
	field("with", q.With.String())
	field("start", stamp(q.Start))
	field("end", stamp(q.End))
	field("before-id", q.BeforeID)
	field("after-id", q.AfterID)
	field(MAMThread, q.Thread)
	if q.IDs != nil {
		field("ids", q.IDs...)
	}
	dst = AppendRSMRequest(append(dst, "</x>"...), q.Page)
	if q.Flip {
		dst = append(dst, "<flip-page/>"...)
	}
	return append(dst, "</query>"...)
}

// MAMFin is the end of a query (XEP-0313 4): of the page that was sent, the ids
// of the first and last message, "" for an empty one.
type MAMFin struct {
	Complete    bool // there is no further page
	First, Last string
}

// ParseMAMFin reads <fin/>; ok is false for another element.
func ParseMAMFin(el xmltree.Element) (f MAMFin, ok bool) {
	f.Complete, ok = ParseBool(el.Attr("complete"))
	set := el.Child(NSRSM, "set")
	f.First, f.Last = strings.Clone(set.Child(NSRSM, "first").Text()), strings.Clone(set.Child(NSRSM, "last").Text())
	return f, ok && el.Is(NSMAM, "fin")
}

// MAMForm is the answer to a get: the fields that ParseMAMQuery knows
// (XEP-0313 4.1.5).
const MAMForm = "<query xmlns='" + NSMAM + "'><x xmlns='" + NSForm + "' type='form'>" +
	"<field type='hidden' var='FORM_TYPE'><value>" + NSMAM + "</value></field>" +
	"<field type='jid-single' var='with'/>" +
	"<field type='text-single' var='start'/>" +
	"<field type='text-single' var='end'/>" +
	"<field type='text-single' var='before-id'/>" +
	"<field type='text-single' var='after-id'/>" +
	"<field type='list-multi' var='ids'><validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate></field>" +
	"<field type='text-single' var='" + MAMThread + "'/>" +
	"</x></query>"

// MAMResult writes the results of one query: the part that is the same in all
// of them is made once.
type MAMResult struct{ head string }

// NewMAMResult prepares the results of a query of from's archive by to.
func NewMAMResult(from, to jid.JID, queryID string) MAMResult {
	var b []byte
	b = appendAttr(append(b, "<message"...), "from", from.String())
	b = appendAttr(b, "to", to.String())
	b = append(b, "><result xmlns='"+NSMAM+"'"...)
	b = appendOptAttr(b, "queryid", queryID)
	return MAMResult{string(append(b, " id='"...))}
}

// Append appends the stanza for one archived message (XEP-0313 4.2), which is
// canonical in the context jabber:client. The id is text that needs no escapes.
func (r MAMResult) Append(dst []byte, id []byte, stamp time.Time, message []byte) []byte {
	dst = append(append(dst, r.head...), id...)
	dst = append(dst, "'><forwarded xmlns='"+NSForward+"'><delay xmlns='"+NSDelay+"' stamp='"...)
	dst = AppendDateTime(dst, stamp)
	dst = AppendStanza(append(dst, "'/>"...), message)
	return append(dst, "</forwarded></result></message>"...)
}

// AppendMAMFin appends the payload that ends a query (XEP-0313 4). First, last
// and count are AppendRSM's.
func AppendMAMFin(dst []byte, complete bool, first, last string, count int) []byte {
	dst = append(dst, "<fin xmlns='"+NSMAM+"'"...)
	if complete {
		dst = append(dst, " complete='true'"...)
	}
	return append(AppendRSM(append(dst, '>'), first, last, count), "</fin>"...)
}

// MAMEdge is the first or last message of an archive.
type MAMEdge struct {
	ID    string
	Stamp time.Time
}

// ParseMAMEdge reads <start/> or <end/> of an archive's metadata; what isn't one is
// the zero MAMEdge.
func ParseMAMEdge(el xmltree.Element) MAMEdge {
	stamp, err := ParseDateTime(el.Attr("timestamp"))
	if err != nil || el.Attr("id") == "" {
		return MAMEdge{}
	}
	return MAMEdge{ID: strings.Clone(el.Attr("id")), Stamp: stamp}
}

// AppendMAMMetadata appends the answer to a request for metadata (XEP-0313 5);
// both edges of an empty archive are zero.
func AppendMAMMetadata(dst []byte, start, end MAMEdge) []byte {
	dst = append(dst, "<metadata xmlns='"+NSMAM+"'"...)
	if start.ID == "" {
		return append(dst, "/>"...)
	}
	dst = appendAttr(append(dst, "><start"...), "id", start.ID)
	dst = AppendDateTime(append(dst, " timestamp='"...), start.Stamp)
	dst = appendAttr(append(dst, "'/><end"...), "id", end.ID)
	dst = AppendDateTime(append(dst, " timestamp='"...), end.Stamp)
	return append(dst, "'/></metadata>"...)
}

// MAMPrefs are an account's archiving preferences (XEP-0441 2.1).
type MAMPrefs struct {
	Default       string // "always", "never" or "roster"
	Always, Never []jid.JID
}

// ParseMAMPrefs reads <prefs/>. Anything but one of the three defaults and
// lists of addresses is bad-request; more than MaxMAMPrefs of them are
// policy-violation.
func ParseMAMPrefs(el xmltree.Element) (MAMPrefs, error) {
	p := MAMPrefs{Default: el.Attr("default")}
	switch p.Default {
	case "always", "never", "roster":
	default:
		return MAMPrefs{}, badRequest("the default is neither always, never nor roster")
	}
	for list := range el.Children() {
		var into *[]jid.JID
		switch {
		case list.Is(NSMAM, "always"):
			into = &p.Always
		case list.Is(NSMAM, "never"):
			into = &p.Never
		default:
			continue
		}
		for c := range list.Children() {
			if !c.Is(NSMAM, "jid") {
				continue
			}
			j, err := jid.Parse(strings.TrimSpace(c.Text()))
			if err != nil {
				return MAMPrefs{}, badRequest("a <jid/> is not an address")
			}
			if *into = append(*into, j); len(p.Always)+len(p.Never) > MaxMAMPrefs {
				return MAMPrefs{}, stanza.NewError(stanza.PolicyViolation, "too many addresses in the preferences")
			}
		}
	}
	return p, nil
}

// AppendMAMPrefs appends <prefs/> with both lists, empty or not (XEP-0441 2.1).
func AppendMAMPrefs(dst []byte, p MAMPrefs) []byte {
	dst = append(dst, "<prefs xmlns='"+NSMAM+"'"...)
	dst = append(appendAttr(dst, "default", p.Default), '>')
	dst = appendJIDs(dst, "always", p.Always)
	dst = appendJIDs(dst, "never", p.Never)
	return append(dst, "</prefs>"...)
}

func appendJIDs(dst []byte, list string, jids []jid.JID) []byte {
	dst = append(append(dst, '<'), list...)
	if len(jids) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, j := range jids {
		dst = appendElement(dst, "", "jid", j.String())
	}
	return append(append(append(dst, "</"...), list...), '>')
}
