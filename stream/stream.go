// Package stream is the XML streams of RFC 6120 as machines without I/O: bytes
// in, events out; actions append the bytes to send. A machine reads no clock,
// no randomness and no socket, and keeps no output: whoever drives it owns the
// buffers.
//
// Server is the side that a client connects to, Client the other one. Both
// work the same way: Next is given what was read and the buffer of what is to
// be written, and returns the first event, how many bytes it consumed, and the
// buffer with what the machine itself had to answer. Events that need a
// decision (a SASL message, a resource to bind, a session to resume) are
// answered with a method of the machine before Next is called again.
//
// Negotiation is a table, features.go: one row per first-level element that
// means something before a resource is bound, with the states in which it is
// legal, how it is announced and what it does. Another feature is another row.
// After binding there is no table on the way: scanner, stanza.Parse, event.
//
// A machine is used by one goroutine at a time.
package stream

import (
	"errors"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Namespaces of what is negotiated on a stream.
const (
	NSTLS     = "urn:ietf:params:xml:ns:xmpp-tls"     // RFC 6120 5
	NSSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"    // RFC 6120 6
	NSBind    = "urn:ietf:params:xml:ns:xmpp-bind"    // RFC 6120 7
	NSSession = "urn:ietf:params:xml:ns:xmpp-session" // RFC 3921 3
	NSSM      = xep.NSSM                              // XEP-0198
	NSSASLCB  = "urn:xmpp:sasl-cb:0"                  // XEP-0440
	NSLimits  = "urn:xmpp:stream-limits:0"            // XEP-0478
)

// Lang is the language of the texts that a server writes, and so the default
// language of its streams (RFC 6120 4.7.4).
const Lang = "en"

// Kind says what an Event is.
type Kind uint8

// The kinds of events. The remarks name the fields that are set besides Kind,
// and the action that has to follow before the next call of Next.
const (
	// NeedMore: everything was consumed, nothing is complete.
	NeedMore Kind = iota
	// Opened: the peer's stream header was accepted. Name is its domain, From
	// its 'from'. A server's answer and features are in the output already.
	Opened
	// Closed: the peer closed its stream. Answer with End(nil).
	Closed
	// Failed: the peer broke the rules, Err says which. Answer with End(Err);
	// nothing more will be read.
	Failed
	// PeerError: the peer ended the stream with the error Err; Name is the host of
	// see-other-host (RFC 6120 4.9.3.19). Answer with End(nil).
	PeerError
	// Stanza: one stanza in Stanza, Size bytes long.
	Stanza
	// Answered: a stanza that the stream itself answers: it was malformed, or
	// asks for something that streams do. It counts as received like any other;
	// Reply is what to send, nil for nothing. Size as for Stanza.
	Answered
	// Element: a first-level element that is neither stanza nor negotiation, in
	// Element, after binding only.
	Element

	// StartTLS: the handshake begins, when the output is written (server), or
	// when the peer was heard (client). Follow with Secured.
	StartTLS
	// Auth: the client begins SASL: Name is the mechanism, one of those offered,
	// Data the initial response. With SASL2 (XEP-0388), Login is set. Follow with
	// Challenge or Failure, with Success if Login is nil, else with Welcome or
	// Continue.
	Auth
	// AuthResponse: Data is the next SASL message, of the client for a server
	// and of the server for a client.
	AuthResponse
	// AuthAbort: the client gave up the exchange, or broke its rules; the failure is
	// in the output.
	AuthAbort
	// Task: a client of SASL2 begins the task Name of Server.Continue; its Element
	// is <next/>. Follow with TaskData, Continue, Welcome or Failure.
	Task
	// TaskData goes on with a task: what was said is in Element. Server: follow as
	// for Task.
	TaskData
	// Register: a client that isn't authenticated asks for an account (XEP-0077
	// 3.1): Stanza is its IQ, to be answered with Reply.
	Register
	// Bind: the client wants the resource Name, "" for any. Follow with Bound
	// or BindFailed. On a client: the server bound JID.
	Bind
	// SMEnable: XEP-0198 <enable/>; Resume and Max, 0 for no wish. Follow with
	// Enabled or SMFailed.
	SMEnable
	// SMResume: XEP-0198 <resume/>: Name is previd, and H. Follow with Resumed or
	// ResumeFailed.
	SMResume
	// SMAck: XEP-0198 <a/> with H.
	SMAck
	// SMRequest: XEP-0198 <r/>.
	SMRequest

	// Features: a client received the server's features, in Element.
	Features
	// AuthSuccess: a client was let in; Data is the server's last SASL message.
	// After Auth the client opens a new stream with Open. After Authenticate the
	// stream goes on, JID and Welcome say how, and Element is <success/> with what
	// this package doesn't know.
	AuthSuccess
	// AuthContinue: the exchange of a client of SASL2 went well, Data is the server's
	// last SASL message, and one of the tasks that ParseTasks finds in Element is to
	// be done before it is let in. Follow with BeginTask or Abort.
	AuthContinue
	// AuthFailure: a client was refused; Name is the SASL condition, Text the
	// server's explanation.
	AuthFailure
	// BindFailure: a client's bind was refused with StanzaErr.
	BindFailure
	// SMEnabled: <enabled/>: Name is the id, Resume and Max.
	SMEnabled
	// SMResumed: <resumed/>: Name is previd, and H.
	SMResumed
	// SMFailed: <failed/> with StanzaErr; Known and H if the server told it.
	SMFailed
)

// Event is one thing that happened on a stream. It is passed by value; which
// fields are set is said at the constants of Kind.
type Event struct {
	Kind      Kind
	Resume    bool
	Known     bool
	Size      int
	H         uint32
	Max       time.Duration
	Stanza    *stanza.Stanza
	Reply     *stanza.Stanza
	Element   xmltree.Element
	Err       *stanza.StreamError
	StanzaErr *stanza.Error
	Name      string
	Text      string
	Data      []byte
	Login     *Login
	Welcome   *Welcome
	From      jid.JID
	JID       jid.JID
}

// failed makes the event that ends a stream.
func failed(condition, text string) Event {
	return Event{Kind: Failed, Err: stanza.NewStreamError(condition, text)}
}

// scanError maps what the scanner refuses to a stream error (RFC 6120 4.9.3).
func scanError(err error) Event {
	var syn *xmltree.SyntaxError
	if !errors.As(err, &syn) {
		return failed(stanza.StreamInternalServerError, "")
	}
	switch syn.Kind {
	case xmltree.InvalidNamespace:
		// RFC 6120 4.9.3.13; invalid-namespace is for the wrong namespace.
		return failed(stanza.StreamNotWellFormed, syn.Msg)
	case xmltree.RestrictedXML:
		return failed(stanza.StreamRestrictedXML, syn.Msg)
	case xmltree.UnsupportedEncoding:
		return failed(stanza.StreamUnsupportedEncoding, syn.Msg)
	case xmltree.BadUTF8:
		// RFC 6120 4.9.3.22, 11.6
		return failed(stanza.StreamUnsupportedEncoding, "not UTF-8")
	case xmltree.StrayText:
		return failed(stanza.StreamBadFormat, "text between stanzas")
	case xmltree.TooLarge, xmltree.TooDeep, xmltree.TooManyAttrs, xmltree.TooManyElements, xmltree.TooManyNamespaces:
		// RFC 6120 13.12: a stanza over the limit costs the stream, for what
		// follows it can't be told from its rest.
		return failed(stanza.StreamPolicyViolation, syn.Kind.String())
	}
	return failed(stanza.StreamNotWellFormed, syn.Msg)
}

// ScanError is the stream error for what an xmltree.Scanner refuses, for streams
// that aren't of clients.
func ScanError(err error) *stanza.StreamError { return scanError(err).Err }

// header is the attributes of a stream's opening tag (RFC 6120 4.7).
type header struct {
	from, to, id, lang string
	version            bool
}

// append writes the header, with the XML declaration that begins each document.
func (h *header) append(out []byte) []byte {
	out = append(out, "<?xml version='1.0'?><stream:stream"...)
	out = appendAttr(out, " from='", h.from)
	out = appendAttr(out, " to='", h.to)
	out = appendAttr(out, " id='", h.id)
	if h.version {
		out = append(out, " version='1.0'"...)
	}
	out = appendAttr(out, " xml:lang='", h.lang)
	return append(out, " xmlns='"+stanza.NSClient+"' xmlns:stream='"+stanza.NSStreams+"'>"...)
}

func appendAttr(out []byte, open, value string) []byte {
	if value == "" {
		return out
	}
	out = append(out, open...)
	out = xmltree.AppendAttrValue(out, value)
	return append(out, '\'')
}

// AppendEnd appends what ends a stream whose header was sent: the error, if
// there is one, and the closing tag (RFC 6120 4.4, 4.9.1.1).
func AppendEnd(out []byte, err *stanza.StreamError) []byte {
	if err != nil {
		out = err.AppendTo(out)
	}
	return append(out, "</stream:stream>"...)
}

// parseStreamError reads a peer's <stream:error/>.
func parseStreamError(el xmltree.Element) *stanza.StreamError {
	e := &stanza.StreamError{Condition: stanza.StreamUndefinedCondition}
	for c := range el.Children() {
		if c.Space() != stanza.NSStreamErrors {
			continue
		}
		if c.Local() == "text" {
			e.Text = c.Text()
		} else {
			e.Condition = c.Local()
		}
	}
	return e
}
