package stream

import (
	"bytes"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// ServerConfig is what all streams of a server have in common. It isn't
// changed while streams use it.
type ServerConfig struct {
	// Domain returns the address of a domain that is served here, for the 'to'
	// of a stream header, which may be written in any form.
	Domain func(to string) (jid.JID, bool)

	// Fallback is the domain that answers where the client asks for one that
	// isn't served (RFC 6120 4.9.1.3).
	Fallback jid.JID

	// NewID makes stream ids: unpredictable, never repeated, and fit for an XML
	// attribute (RFC 6120 4.7.3).
	NewID func() string

	// EarlyLimits hold until the client is authenticated, Limits afterwards.
	// Both are announced (XEP-0478).
	EarlyLimits, Limits xmltree.Limits

	// EarlySeconds and IdleSeconds are announced as the time without traffic
	// after which a stream may be closed; 0: nothing is said. To enforce them
	// is the business of who has a clock.
	EarlySeconds, IdleSeconds int

	// Features are further stream features for authenticated clients, canonical
	// XML of any number of elements, each with its own xmlns: roster versioning,
	// capabilities, client state indication and the like.
	Features []byte

	// Register offers to make accounts (XEP-0077). Invited offers it to who brings a
	// token (XEP-0445).
	Register, Invited bool

	// BindInline are the features that Bind 2 can begin, by namespace (XEP-0386
	// 3.1), Upgrades the tasks that SASL2 can give (XEP-0480 2.1), in XML's escapes
	// if they need any.
	BindInline, Upgrades []string

	// MaxAuth is how many SASL exchanges a client may begin on a connection;
	// RFC 6120 6.4.5 asks for 3 to 6. 0 stands for 5.
	MaxAuth int
}

const (
	defaultMaxAuth = 5
	maxBind        = 10 // attempts at a resource; RFC 6120 7.7.3
	maxRegister    = 10 // requests of XEP-0077
	maxLang        = 35 // BCP 47 4.4.1
)

// Server is the server's end of a client's stream.
type Server struct {
	cfg     *ServerConfig
	scan    *xmltree.Scanner
	nego    *negotiating // nil when it is over
	full    jid.JID      // with a resource when one is bound
	lang    string       // of the client's stanzas, "" where it is Lang
	state   state
	opened  bool // the client's header was read
	answers bool // our header was written
	ended   bool // our closing tag was written
	sm      bool // stream management is on
}

// negotiating is what a server knows about a stream until a resource is bound.
type negotiating struct {
	domain    jid.JID
	from      jid.JID // the header's 'from', bare
	offer     Offer
	space     string // the profile of SASL that the client uses: NSSASL or NSSASL2
	version   string // of what was offered (XEP-0509)
	mechanism string // of the exchange that is running
	login     *Login // of SASL2's exchange
	task      string // of SASL2, to be done
	tasking   bool   // and begun
	empty     bool   // an empty challenge was sent for want of an initial response
	auths     int
	binds     int
	registers int
	invited   bool           // by a token that was good
	bindIQ    *stanza.Stanza // waits for Bound or BindFailed
	resumeID  string         // waits for Resumed or ResumeFailed
}

// NewServer makes the machine of a new connection without TLS. Where TLS comes
// first (XEP-0368), call Secured before Next.
func NewServer(cfg *ServerConfig) *Server {
	return &Server{cfg: cfg, scan: xmltree.NewScanner(cfg.EarlyLimits), nego: &negotiating{}}
}

// Secured says that the TLS handshake is done, and what the stream under it
// offers. Everything that was said in the clear is forgotten (RFC 6120
// 5.4.3.3).
func (s *Server) Secured(offer Offer) {
	s.nego = &negotiating{offer: offer}
	s.lang = ""
	s.restart(stateSecure)
}

// restart expects a new stream on the same connection (RFC 6120 4.3.3).
func (s *Server) restart(to state) {
	s.scan.Reset()
	s.state, s.opened, s.answers = to, false, false
}

// Account is the authenticated account's bare address, zero before.
func (s *Server) Account() jid.JID { return s.full.Bare() }

// Address is the client's full address once a resource is bound, and Account's
// before.
func (s *Server) Address() jid.JID { return s.full }

// Stage says in a word how far the stream has come, for logs.
func (s *Server) Stage() string {
	return [...]string{"plain", "secure", "authenticating", "task", "authenticated", "bound", "ended"}[s.state]
}

// Domain is the domain that the client asked for; zero before its header was
// read and after binding, when it is the account's.
func (s *Server) Domain() jid.JID {
	if s.nego == nil {
		return s.full.DomainJID()
	}
	return s.nego.domain
}

// Idle reports whether the client is between two elements.
func (s *Server) Idle() bool { return !s.scan.InUnit() }

// Next reads from in up to the first event, and returns it with the number of
// bytes consumed; what it answers itself is appended to out. After Failed and
// Closed all input is consumed and dropped.
func (s *Server) Next(in, out []byte) (Event, int, []byte) {
	if s.state == stateEnded {
		return Event{}, len(in), out
	}
	used := 0
	if !s.opened && s.state != statePlain && s.Idle() {
		// White space here ended the stream before the restart.
		used = len(in) - len(skipSpace(in))
	}
	for used < len(in) {
		tok, n, err := s.scan.Next(in[used:])
		used += n
		if err != nil {
			s.state = stateEnded
			return scanError(err), used, out
		}
		var ev Event
		switch tok.Kind {
		case xmltree.None:
			continue
		case xmltree.StreamStart:
			ev, out = s.open(tok.Element, wrongStream(tok), out)
		case xmltree.StreamEnd:
			ev = Event{Kind: Closed}
		case xmltree.Unit:
			ev, out = s.unit(tok, out)
			if rest := skipSpace(in[used:]); ev.Kind == StartTLS && len(rest) == 0 {
				used = len(in) // there are clients that end their elements with a line feed
			} else if ev.Kind == StartTLS {
				// RFC 6120 5.3.3, 5.4.3.1: nothing may follow before the handshake.
				// Whoever sends something wants it to be taken for TLS-protected.
				out = appendTLSFailure(out[:len(out)-len(proceed)])
				ev = failed(stanza.StreamPolicyViolation, "data behind <starttls/>")
			}
		}
		switch ev.Kind {
		case NeedMore:
			continue
		case Failed, Closed, PeerError:
			s.state = stateEnded
		}
		return ev, used, out
	}
	return Event{}, used, out
}

// skipSpace drops leading white space.
func skipSpace(in []byte) []byte { return bytes.TrimLeft(in, " \t\r\n") }

// unit handles one first-level element.
func (s *Server) unit(tok xmltree.Token, out []byte) (Event, []byte) {
	el := tok.Element
	if s.state == stateBound {
		switch el.Space() {
		case stanza.NSClient:
			return s.stanza(el, tok.Size), out
		case NSSM:
			return s.management(el, out)
		}
	}
	if el.Is(stanza.NSStreams, "error") {
		return Event{Kind: PeerError, Err: parseStreamError(el)}, out
	}
	if s.state != stateBound {
		return s.negotiate(el, out)
	}
	switch el.Space() {
	case NSTLS, NSSASL, NSSASL2, stanza.NSStreams:
		return s.negotiate(el, out) // every row refuses there
	}
	return Event{Kind: Element, Element: el, Size: tok.Size}, out
}

// stanza is the path of everything that a bound client sends.
func (s *Server) stanza(el xmltree.Element, size int) Event {
	st, err := stanza.Parse(el)
	if st == nil {
		return failed(stanza.StreamUnsupportedStanzaType, "")
	}
	// RFC 6120 8.1.2.1; 4.9.3.9: not another account's, nor another resource's.
	if st.From != s.full && (!st.From.IsZero() && st.From != s.full.Bare() || st.From.IsZero() && el.Attr("from") != "") {
		return failed(stanza.StreamInvalidFrom, "")
	}
	st.From = s.full
	if st.Lang == "" {
		st.Lang = s.lang // RFC 6120 4.7.4
	}
	if err != nil {
		e, _ := stanza.AsError(err)
		return Event{Kind: Answered, Stanza: st, Reply: st.ErrorReply(e), Size: size}
	}
	if st.Kind == stanza.IQ && st.Type == stanza.TypeSet && (st.To.IsZero() || st.To == s.full.DomainJID() || st.To == s.full.Bare()) {
		if reply := s.iq(st); reply != nil {
			return Event{Kind: Answered, Stanza: st, Reply: reply, Size: size}
		}
	}
	return Event{Kind: Stanza, Stanza: st, Size: size}
}

// iq answers the requests of bound clients that concern the stream, nil for
// all others.
func (s *Server) iq(st *stanza.Stanza) *stanza.Stanza {
	switch p := st.Payload(); {
	case p.Is(NSSession, "session"):
		return st.Reply("") // RFC 6121 appendix E, RFC 3921 3
	case p.Is(NSBind, "bind"):
		// RFC 6120 7.6.2.2: one resource per stream.
		return st.ErrorReply(stanza.NewError(stanza.NotAllowed, "a resource is bound already"))
	}
	return nil
}

// wrongStream says why a root element can't open a client's stream, nil if it can.
func wrongStream(tok xmltree.Token) *stanza.StreamError {
	switch el := tok.Element; {
	case el.Is(stanza.NSStreams, "stream") && tok.DefaultSpace == stanza.NSClient:
		return nil
	case el.Is(stanza.NSStreams, "stream"):
		return stanza.NewStreamError(stanza.StreamInvalidNamespace, "this port is for "+stanza.NSClient)
	case el.Space() == stanza.NSStreams:
		return stanza.NewStreamError(stanza.StreamBadFormat, "not a stream")
	}
	return stanza.NewStreamError(stanza.StreamInvalidNamespace, "not a stream")
}

// open checks the client's header, which is wrong for what the caller has seen of
// it, nil for nothing, and answers it (RFC 6120 4.7, 4.8).
func (s *Server) open(el xmltree.Element, wrong *stanza.StreamError, out []byte) (Event, []byte) {
	s.opened = true
	domain, known := s.cfg.Domain(el.Attr("to"))
	if s.state == stateAuthed && domain != s.full.DomainJID() {
		known = false
	}
	if known {
		s.nego.domain = domain
	}
	if from, err := jid.Parse(el.Attr("from")); err == nil {
		s.nego.from = from.Bare()
	} else {
		s.nego.from = jid.JID{}
	}
	lang, _ := el.LookupAttr(xmltree.XMLSpace, "lang")
	s.lang = streamLang(lang)
	version, current := parseVersion(el.Attr("version"))
	out = s.appendHeader(out, version)
	switch {
	case wrong != nil:
		return Event{Kind: Failed, Err: wrong}, out
	case !current:
		return failed(stanza.StreamUnsupportedVersion, ""), out
	case !known:
		return failed(stanza.StreamHostUnknown, ""), out
	case s.state == stateAuthed && !s.nego.from.IsZero() && s.nego.from != s.full:
		return failed(stanza.StreamInvalidFrom, ""), out // RFC 6120 6.4.6
	}
	out = s.appendFeatures(out)
	return Event{Kind: Opened, Name: domain.Domain(), From: s.nego.from}, out
}

// appendHeader answers the client's header, or opens a stream only to say why
// it is closed again (RFC 6120 4.9.1.2).
func (s *Server) appendHeader(out []byte, version bool) []byte {
	h := header{from: s.cfg.Fallback.String(), id: s.cfg.NewID(), lang: Lang, version: version}
	if s.nego != nil {
		if !s.nego.domain.IsZero() {
			h.from = s.nego.domain.String()
		}
		h.to = s.nego.from.String() // RFC 6120 4.7.2
	}
	s.answers = true
	return h.append(out)
}

// End ends the stream: with err, or in good order if it is nil. If no header
// was sent yet one is now. Calls after the first append nothing.
func (s *Server) End(out []byte, err *stanza.StreamError) []byte {
	if s.ended {
		return out
	}
	if !s.answers {
		out = s.appendHeader(out, true)
	}
	s.ended, s.state = true, stateEnded
	return AppendEnd(out, err)
}

// parseVersion reads the version attribute (RFC 6120 4.7.5): whether there is
// one, and whether its major number is ours or higher.
func parseVersion(v string) (given, current bool) {
	if v == "" {
		return false, false
	}
	major, minor, ok := strings.Cut(v, ".")
	m, err := strconv.ParseUint(major, 10, 16)
	_, err2 := strconv.ParseUint(minor, 10, 16)
	return true, ok && err == nil && err2 == nil && m >= 1
}

// streamLang is the language to write into the stanzas of a client that gave
// this one in its header: "" for what is the default on all our streams, and for
// what is no language tag.
func streamLang(lang string) string {
	if lang == Lang || len(lang) > maxLang {
		return ""
	}
	for i := range len(lang) {
		c := lang[i]
		if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return ""
		}
	}
	return strings.Clone(lang)
}
