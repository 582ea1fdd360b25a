package c2s

import (
	"context"
	"log/slog"
	"strings"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// trace writes what the client said into the transcript.
func (c *conn) trace(ev *stream.Event) {
	if !c.srv.cfg.Log.Enabled(context.Background(), LevelTrace) {
		return
	}
	var text string
	switch ev.Kind {
	case stream.NeedMore:
		return
	case stream.Stanza, stream.Answered, stream.Register:
		text = string(appendTraced(nil, ev.Stanza))
	case stream.Element:
		text = ev.Element.Raw()
	case stream.Auth:
		text = "<auth mechanism='" + ev.Name + "'/>"
	case stream.AuthResponse:
		text = "<response/>"
	case stream.AuthAbort:
		text = "<abort/>"
	case stream.Opened:
		text = "<stream:stream to='" + ev.Name + "'>"
	case stream.Closed:
		text = "</stream:stream>"
	case stream.StartTLS:
		text = "<starttls/>"
	case stream.Bind:
		text = "<bind/> " + ev.Name
	case stream.SMEnable:
		text = "<enable/>"
	case stream.SMResume:
		text = "<resume/>"
	case stream.Task:
		text = "<next task='" + ev.Name + "'/>"
	case stream.TaskData:
		text = "<task-data/>"
	case stream.SMAck:
		text = string(stream.AppendAck(nil, ev.H))
	case stream.SMRequest:
		text = "<r/>"
	case stream.Failed, stream.PeerError:
		text = ev.Err.Error()
	}
	c.log(LevelTrace, "in", slog.String("xml", redact(text)))
}

// secrets are what must not be in a log, wherever it stands: the contents of an
// element, or the value of one of its attributes. Elements with a namespace are told
// by their canonical beginning.
var secrets = [...]struct{ tag, attr string }{
	{"<password", ""}, {"<digest", ""}, // XEP-0077, and XEP-0078 of old clients
	{"<query xmlns='" + xep.NSPrivate + "'", ""},
	{"<additional-data", ""},
	{"<enable xmlns='" + xep.NSPush + "'", ""}, // what a push service wants to be told (XEP-0357 5)
	{"<token xmlns='" + xep.NSFast + "'", "token"},
	{"<preauth xmlns='" + xep.NSPARS + "'", "token"}, // an account for who has it (XEP-0445)
	{"<service", "password"},                         // XEP-0215
	// Who has the account's password and this can take over a session.
	{"<enabled xmlns='" + xep.NSSM + "'", "id"},
	{"<resumed xmlns='" + xep.NSSM + "'", "previd"},
}

// redact drops secrets from canonical XML.
func redact(xml string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(xml, '<')
		if i < 0 || i == len(xml)-1 {
			b.WriteString(xml)
			return b.String()
		}
		b.WriteString(xml[:i])
		xml = xml[i:]
		n := tagEnd(xml)
		tag := xml[:n]
		xml = xml[n:]
		content, attr := secretOf(tag)
		if attr != "" {
			tag = withoutValue(tag, attr)
		}
		b.WriteString(tag)
		if content && !strings.HasSuffix(tag, "/>") {
			b.WriteString("...")
			xml = xml[contentEnd(xml):]
		}
	}
}

// secretOf says what is secret of an element with this start tag: its content, or
// the attribute named.
func secretOf(tag string) (content bool, attr string) {
	for _, s := range secrets {
		if rest, ok := strings.CutPrefix(tag, s.tag); ok && (rest == "" || strings.IndexByte(" />", rest[0]) >= 0) {
			return s.attr == "", s.attr
		}
	}
	if !strings.HasPrefix(tag, "<field ") {
		return false, ""
	}
	for _, s := range secretFields {
		if strings.Contains(tag, s) {
			return true, ""
		}
	}
	return false, ""
}

// secretFields are what the start tag of a form's field has in it whose value must not
// be in a log: its type, or its name where a form that is sent back leaves out types.
var secretFields = [...]string{"'text-private'",
	"'muc#roomconfig_roomsecret'",    // XEP-0045 16.5.3
	"var='password",                  // XEP-0133 4.1, 4.6
	"var='uri'", "var='landing-url'", // of an invitation (XEP-0401)
}

// withoutValue replaces an attribute's value.
func withoutValue(tag, attr string) string {
	i := strings.Index(tag, " "+attr+"='")
	if i < 0 {
		return tag
	}
	i += len(attr) + 3
	j := strings.IndexByte(tag[i:], '\'')
	if j < 0 {
		return tag[:i]
	}
	return tag[:i] + "..." + tag[i+j:]
}

// tagEnd is the length of the tag that xml begins with.
func tagEnd(xml string) int {
	quoted := false
	for i := range len(xml) {
		switch xml[i] {
		case '\'':
			quoted = !quoted
		case '>':
			if !quoted {
				return i + 1
			}
		}
	}
	return len(xml)
}

// contentEnd is where the end tag of the element stands whose content xml begins
// with; the end of xml, if there is none.
func contentEnd(xml string) int {
	at, depth := 0, 0
	for {
		i := strings.IndexByte(xml[at:], '<')
		if i < 0 {
			return len(xml)
		}
		at += i
		n := tagEnd(xml[at:])
		switch tag := xml[at : at+n]; {
		case strings.HasPrefix(tag, "</"):
			if depth == 0 {
				return at
			}
			depth--
		case !strings.HasSuffix(tag, "/>"):
			depth++
		}
		at += n
	}
}

// appendTraced writes a stanza without what must not be in a log: XEP-0077's forms
// carry passwords.
func appendTraced(dst []byte, st *stanza.Stanza) []byte {
	if st.Kind == stanza.IQ && st.Payload().Space() == xep.NSRegister {
		return st.AppendWith(dst, "<query xmlns='"+xep.NSRegister+"'/>")
	}
	return st.AppendTo(dst)
}

// traceOut writes what the client is told into the transcript; of what SASL has
// to say only the length.
func (c *conn) traceOut(b []byte, secret bool) {
	switch {
	case !c.srv.cfg.Log.Enabled(context.Background(), LevelTrace):
	case secret:
		c.log(LevelTrace, "out", slog.Int("bytes", len(b)))
	default:
		c.log(LevelTrace, "out", slog.String("xml", redact(string(b))))
	}
}
