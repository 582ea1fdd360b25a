package xmppclient

import (
	"fmt"
	"strings"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
)

// XML is an event as it came over the wire, canonical, in the context
// jabber:client.
func XML(ev *stream.Event) string {
	if !ev.Element.IsZero() {
		return string(ev.Element.AppendTo(nil, stanza.NSClient))
	}
	switch ev.Kind {
	case stream.Stanza, stream.Answered:
		return string(ev.Stanza.AppendTo(nil))
	case stream.PeerError, stream.Failed:
		return strings.Replace(string(ev.Err.AppendTo(nil)), "<stream:error>", "<stream:error xmlns:stream='"+stanza.NSStreams+"'>", 1)
	case stream.Opened:
		return "<opened from='" + ev.Name + "'/>"
	case stream.Closed:
		return "<closed/>"
	case stream.StartTLS:
		return "<proceed xmlns='" + stream.NSTLS + "'/>"
	case stream.AuthFailure:
		return "<failure xmlns='" + stream.NSSASL + "'><" + ev.Name + "/></failure>"
	case stream.AuthResponse:
		return "<challenge xmlns='" + stream.NSSASL + "'/>"
	case stream.AuthSuccess:
		return "<success xmlns='" + stream.NSSASL + "'/>"
	case stream.Bind:
		return "<bound jid='" + ev.JID.String() + "'/>"
	case stream.BindFailure:
		return "<refused>" + string(ev.StanzaErr.AppendTo(nil)) + "</refused>"
	case stream.SMEnabled:
		return fmt.Sprintf("<enabled xmlns='%s' id='%s' resume='%t' max='%d'/>", stream.NSSM, ev.Name, ev.Resume, int(ev.Max/time.Second))
	case stream.SMResumed:
		return fmt.Sprintf("<resumed xmlns='%s' previd='%s' h='%d'/>", stream.NSSM, ev.Name, ev.H)
	case stream.SMAck:
		return fmt.Sprintf("<a xmlns='%s' h='%d'/>", stream.NSSM, ev.H)
	case stream.SMFailed:
		return fmt.Sprintf("<failed xmlns='%s'><%s xmlns='%s'/></failed>", stream.NSSM, ev.StanzaErr.Condition, stanza.NSStanzaErrors)
	}
	return fmt.Sprintf("<event kind='%d'/>", ev.Kind)
}
