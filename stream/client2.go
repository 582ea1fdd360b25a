package stream

import (
	"encoding/base64"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Authenticate begins SASL2 (XEP-0388 2.3) with all that the login asks for; a nil
// initial is no initial response. It may be written in one go with Open, before
// the server's features are known, by a client that has seen them before.
// AuthResponse, AuthContinue, AuthSuccess or AuthFailure follow.
func (c *Client) Authenticate(out []byte, mechanism string, initial []byte, l *Login) []byte {
	c.sasl2 = true
	out = appendAttr(append(out, "<authenticate xmlns='"+NSSASL2+"'"...), " mechanism='", mechanism)
	out = append(out, '>')
	if initial != nil {
		out = base64.StdEncoding.AppendEncode(append(out, "<initial-response>"...), initial)
		out = append(out, "</initial-response>"...)
	}
	out = xep.AppendUserAgent(out, l.Agent)
	if l.Fast != nil {
		out = xep.AppendFast(out, *l.Fast)
	}
	if l.TokenFor != "" {
		out = xep.AppendRequestToken(out, l.TokenFor)
	}
	for _, task := range l.Upgrades {
		out = append(out, "<upgrade xmlns='"+xep.NSSASLUpgrade+"'>"...)
		out = append(xmltree.AppendText(out, task), "</upgrade>"...)
	}
	if l.Version != "" {
		out = xep.AppendConfigVersion(out, l.Version)
	}
	if l.Resume != nil {
		out = c.Resume(out, l.Resume.ID, l.Resume.H)
	}
	if l.Bind != nil {
		out = xep.AppendBind2(out, l.Bind)
	}
	return append(out, "</authenticate>"...)
}

// BeginTask takes up one of the tasks of AuthContinue (XEP-0388 2.6.3).
func (c *Client) BeginTask(out []byte, task string) []byte {
	return append(appendAttr(append(out, "<next xmlns='"+NSSASL2+"'"...), " task='", task), "/>"...)
}

// TaskData goes on with the task; inner is canonical XML for a place in XEP-0388's
// namespace.
func (c *Client) TaskData(out, inner []byte) []byte {
	out = append(append(out, "<task-data xmlns='"+NSSASL2+"'>"...), inner...)
	return append(out, "</task-data>"...)
}

// ParseTasks lists the tasks of <continue/>, the Element of AuthContinue.
func ParseTasks(el xmltree.Element) []string {
	var tasks []string
	for t := range el.Child(NSSASL2, "tasks").Children() {
		if t.Is(NSSASL2, "task") && len(tasks) < maxOffered {
			tasks = append(tasks, strings.TrimSpace(t.Text()))
		}
	}
	return tasks
}

// extensible reads what the server says in SASL2.
func (c *Client) extensible(el xmltree.Element) Event {
	ev := c.parseSASL2(el)
	if ev.Kind != Failed {
		ev.Element = el
	}
	return ev
}

func (c *Client) parseSASL2(el xmltree.Element) Event {
	switch el.Local() {
	case "failure":
		return parseSASLFailure(el)
	case "challenge":
		data, condition := sasl2Data(el)
		if condition != "" {
			return failed(stanza.StreamBadFormat, "SASL: "+string(condition))
		}
		return Event{Kind: AuthResponse, Data: data}
	case "task-data":
		return Event{Kind: TaskData}
	case "continue":
		data, ok := additional(el)
		if !ok {
			return failed(stanza.StreamBadFormat, "SASL: additional data")
		}
		return Event{Kind: AuthContinue, Data: data}
	case "success":
		return c.welcome(el)
	}
	return failed(stanza.StreamUnsupportedStanzaType, "")
}

// additional reads a mechanism's last message, nil for none.
func additional(el xmltree.Element) ([]byte, bool) {
	d := el.Child(NSSASL2, "additional-data")
	if d.IsZero() {
		return nil, true
	}
	data, condition := sasl2Data(d)
	if data == nil {
		data = []byte{}
	}
	return data, condition == ""
}

// welcome reads <success/>.
func (c *Client) welcome(el xmltree.Element) Event {
	data, ok := additional(el)
	full, err := jid.Parse(strings.TrimSpace(el.Child(NSSASL2, "authorization-identifier").Text()))
	if !ok || err != nil || full.Local() == "" {
		return failed(stanza.StreamBadFormat, "SASL: not a success")
	}
	w := &Welcome{Full: full}
	if r := el.Child(NSSM, "resumed"); !r.IsZero() {
		if w.H, w.Resumed = xep.ParseSMCount(r); !w.Resumed {
			return failed(stanza.StreamBadFormat, "stream management: <resumed/>")
		}
	}
	if f := el.Child(NSSM, "failed"); !f.IsZero() {
		failure := xep.ParseSMFailed(f)
		w.Failed = &failure
	}
	if b := el.Child(xep.NSBind2, "bound"); !b.IsZero() {
		w.Bound = parseBound(b)
		if !full.IsFull() {
			return failed(stanza.StreamBadFormat, "no address was bound")
		}
	}
	if t := el.Child(xep.NSFast, "token"); !t.IsZero() {
		if token, err := xep.ParseFastToken(t); err == nil { // else there is none
			w.Token = &token
		}
	}
	c.letIn(stateAuthed)
	if w.Resumed || w.Bound != nil {
		c.state = stateBound
	}
	return Event{Kind: AuthSuccess, Data: data, JID: full, Welcome: w}
}

// parseBound reads <bound/> (XEP-0386 3.2).
func parseBound(el xmltree.Element) *Bound {
	b := &Bound{}
	for c := range el.Children() {
		switch {
		case c.Is(NSSM, "enabled"):
			if e, ok := xep.ParseSMEnabled(c); ok {
				b.SM = &e
			}
		case c.Is(NSSM, "failed"):
			f := xep.ParseSMFailed(c)
			b.SMFailed = &f
		case c.Is(xep.NSCarbons, "enabled"):
			b.Carbons = true
		case c.Is(xep.NSIMNG, "enabled"):
			b.IMNG = true
		case c.Local() == "failed" && len(b.Refused) < maxOffered:
			b.Refused = append(b.Refused, strings.Clone(c.Space()))
		case c.Is(xep.NSMAM, "metadata"):
			b.Archive = &Archive{Start: xep.ParseMAMEdge(c.Child(xep.NSMAM, "start")), End: xep.ParseMAMEdge(c.Child(xep.NSMAM, "end"))}
		case c.Is(xep.NSXMPP2, "session"):
			b.Session = xep.ParseSessionResult(c)
		}
	}
	return b
}
