package stanza

import (
	"carillon.im/jid"
	"carillon.im/xmltree"
)

// Namespaces of the core protocol (RFC 6120).
const (
	NSClient       = "jabber:client"
	NSServer       = "jabber:server"
	NSStreams      = "http://etherx.jabber.org/streams"
	NSStanzaErrors = "urn:ietf:params:xml:ns:xmpp-stanzas"
	NSStreamErrors = "urn:ietf:params:xml:ns:xmpp-streams"
)

// ErrorType says what the sender can do about an error (RFC 6120 8.3.2).
type ErrorType string

// The error types of RFC 6120 8.3.2.
const (
	Auth     ErrorType = "auth"     // retry after providing credentials
	Cancel   ErrorType = "cancel"   // do not retry
	Continue ErrorType = "continue" // the condition was only a warning
	Modify   ErrorType = "modify"   // retry after changing the data
	Wait     ErrorType = "wait"     // retry after waiting
)

// Condition is a defined stanza error condition (RFC 6120 8.3.3).
type Condition string

// The stanza error conditions of RFC 6120 8.3.3.
const (
	BadRequest            Condition = "bad-request"
	Conflict              Condition = "conflict"
	FeatureNotImplemented Condition = "feature-not-implemented"
	Forbidden             Condition = "forbidden"
	Gone                  Condition = "gone"
	InternalServerError   Condition = "internal-server-error"
	ItemNotFound          Condition = "item-not-found"
	JIDMalformed          Condition = "jid-malformed"
	NotAcceptable         Condition = "not-acceptable"
	NotAllowed            Condition = "not-allowed"
	NotAuthorized         Condition = "not-authorized"
	PolicyViolation       Condition = "policy-violation"
	RecipientUnavailable  Condition = "recipient-unavailable"
	Redirect              Condition = "redirect"
	RegistrationRequired  Condition = "registration-required"
	RemoteServerNotFound  Condition = "remote-server-not-found"
	RemoteServerTimeout   Condition = "remote-server-timeout"
	ResourceConstraint    Condition = "resource-constraint"
	ServiceUnavailable    Condition = "service-unavailable"
	SubscriptionRequired  Condition = "subscription-required"
	UndefinedCondition    Condition = "undefined-condition"
	UnexpectedRequest     Condition = "unexpected-request"
)

// ParseCondition is the defined condition of a name; false if there is none.
func ParseCondition(name string) (Condition, bool) {
	for _, c := range [...]Condition{
		BadRequest, Conflict, FeatureNotImplemented, Forbidden, Gone, InternalServerError, ItemNotFound, JIDMalformed, NotAcceptable, NotAllowed, NotAuthorized,
		PolicyViolation, RecipientUnavailable, Redirect, RegistrationRequired, RemoteServerNotFound, RemoteServerTimeout, ResourceConstraint, ServiceUnavailable,
		SubscriptionRequired, UndefinedCondition, UnexpectedRequest,
	} {
		if string(c) == name {
			return c, true
		}
	}
	return "", false
}

// Error is a stanza error (RFC 6120 8.3) and a Go error: a function that
// returns one decides what the peer is told. It is immutable; share freely.
type Error struct {
	Type      ErrorType
	Condition Condition
	Text      string  // for people, in English; optional
	By        jid.JID // who reports it; optional
	// App is an application-specific condition, canonical XML in the context
	// of jabber:client; optional (RFC 6120 8.3.4).
	App string
}

// NewError makes a stanza error with the type that RFC 6120 8.3.3 recommends
// for the condition.
func NewError(c Condition, text string) *Error {
	return &Error{Type: recommendedType(c), Condition: c, Text: text}
}

// recommendedType is the table of RFC 6120 8.3.3.
func recommendedType(c Condition) ErrorType {
	switch c {
	case BadRequest, JIDMalformed, NotAcceptable, PolicyViolation, Redirect:
		return Modify
	case Forbidden, NotAuthorized, RegistrationRequired, SubscriptionRequired:
		return Auth
	case RecipientUnavailable, RemoteServerTimeout, ResourceConstraint, UnexpectedRequest:
		return Wait
	default:
		return Cancel
	}
}

// Error makes *Error a Go error.
func (e *Error) Error() string {
	if e.Text == "" {
		return "stanza error " + string(e.Condition)
	}
	return "stanza error " + string(e.Condition) + ": " + e.Text
}

// AppendTo appends the <error/> element, canonical in the context jabber:client.
func (e *Error) AppendTo(dst []byte) []byte {
	w := xmltree.NewWriter(dst, NSClient)
	w.Start(NSClient, "error").Attr("type", string(e.Type))
	w.OptAttr("by", e.By.String())
	w.Start(NSStanzaErrors, string(e.Condition)).End()
	if e.Text != "" {
		w.Start(NSStanzaErrors, "text").Text(e.Text).End()
	}
	w.Inner(e.App)
	w.End()
	return w.Bytes()
}

// StreamError ends a stream (RFC 6120 4.9) and is a Go error.
type StreamError struct {
	Condition string // RFC 6120 4.9.3
	Text      string // optional
	// App is an application-specific condition, canonical XML whose context
	// default namespace is empty; optional.
	App string
}

// The stream error conditions of RFC 6120 4.9.3.
const (
	StreamBadFormat              = "bad-format"
	StreamBadNamespacePrefix     = "bad-namespace-prefix"
	StreamConflict               = "conflict"
	StreamConnectionTimeout      = "connection-timeout"
	StreamHostGone               = "host-gone"
	StreamHostUnknown            = "host-unknown"
	StreamImproperAddressing     = "improper-addressing"
	StreamInternalServerError    = "internal-server-error"
	StreamInvalidFrom            = "invalid-from"
	StreamInvalidNamespace       = "invalid-namespace"
	StreamInvalidXML             = "invalid-xml"
	StreamNotAuthorized          = "not-authorized"
	StreamNotWellFormed          = "not-well-formed"
	StreamPolicyViolation        = "policy-violation"
	StreamRemoteConnectionFailed = "remote-connection-failed"
	StreamReset                  = "reset"
	StreamResourceConstraint     = "resource-constraint"
	StreamRestrictedXML          = "restricted-xml"
	StreamSeeOtherHost           = "see-other-host"
	StreamSystemShutdown         = "system-shutdown"
	StreamUndefinedCondition     = "undefined-condition"
	StreamUnsupportedEncoding    = "unsupported-encoding"
	StreamUnsupportedFeature     = "unsupported-feature"
	StreamUnsupportedStanzaType  = "unsupported-stanza-type"
	StreamUnsupportedVersion     = "unsupported-version"
)

// NewStreamError makes a stream error.
func NewStreamError(condition, text string) *StreamError {
	return &StreamError{Condition: condition, Text: text}
}

// Error makes *StreamError a Go error.
func (e *StreamError) Error() string {
	if e.Text == "" {
		return "stream error " + e.Condition
	}
	return "stream error " + e.Condition + ": " + e.Text
}

// AppendTo appends <stream:error/> for a stream on which the prefix stream is
// bound to NSStreams (TCP, RFC 6120 4.8.5).
func (e *StreamError) AppendTo(dst []byte) []byte {
	dst = append(dst, "<stream:error><"...)
	dst = append(dst, e.Condition...)
	dst = append(dst, " xmlns='"+NSStreamErrors+"'/>"...)
	if e.Text != "" {
		dst = append(dst, "<text xmlns='"+NSStreamErrors+"' xml:lang='en'>"...)
		dst = xmltree.AppendText(dst, e.Text)
		dst = append(dst, "</text>"...)
	}
	dst = append(dst, e.App...)
	return append(dst, "</stream:error>"...)
}
