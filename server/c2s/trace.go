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
		text = "<resume/> " + ev.Name
	case stream.SMAck:
		text = string(stream.AppendAck(nil, ev.H))
	case stream.SMRequest:
		text = "<r/>"
	case stream.Failed, stream.PeerError:
		text = ev.Err.Error()
	}
	c.log(LevelTrace, "in", slog.String("xml", redact(text)))
}

// secretTags are elements whose text is somebody's secret, wherever they stand:
// XEP-0077, and XEP-0078 of old clients.
var secretTags = [...]string{"<password", "<digest"}

// redact drops the text of elements that hold a secret.
func redact(xml string) string {
	for _, tag := range secretTags {
		end := "</" + tag[1:] + ">"
		for from := 0; ; {
			i := strings.Index(xml[from:], tag)
			if i < 0 {
				break
			}
			i += from + len(tag)
			j := strings.Index(xml[i:], end)
			if j < 0 {
				break
			}
			xml = xml[:i] + ">..." + xml[i+j:]
			from = i + len(">...") + len(end)
		}
	}
	return xml
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
