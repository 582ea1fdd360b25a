package stream

import (
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// ClientConfig is what a client's stream needs to know.
type ClientConfig struct {
	// Domain is the server's domain.
	Domain jid.JID

	// From is the account's bare address, for the header of streams under TLS
	// (RFC 6120 4.7.1); zero: it isn't told.
	From jid.JID

	// Lang is the language of what the client writes; "" stands for Lang.
	Lang string

	// Limits bound what the server may send in one element, EarlyLimits before it
	// has let the client in; the zero EarlyLimits are Limits.
	Limits, EarlyLimits xmltree.Limits
}

// Client is the client's end of a stream. Which feature to negotiate next is
// for the caller to decide upon Features; the machine writes the elements and
// reads the answers. It doesn't check that the server offered what is asked for.
type Client struct {
	cfg    *ClientConfig
	scan   *xmltree.Scanner
	bindID string
	state  state
	opened bool // our header was written
	ended  bool // our closing tag was written
	sasl2  bool // Respond and Abort belong to Authenticate
}

// NewClient makes the machine of a new connection. Begin with Open, under direct
// TLS with Secured and Open.
func NewClient(cfg *ClientConfig) *Client {
	early := cfg.EarlyLimits
	if early == (xmltree.Limits{}) {
		early = cfg.Limits
	}
	return &Client{cfg: cfg, scan: xmltree.NewScanner(early)}
}

// letIn notes that the server is the one that the client wanted.
func (c *Client) letIn(s state) {
	c.state = s
	c.scan.SetLimits(c.cfg.Limits)
}

// Open appends the stream header: at the beginning, after Secured and after
// AuthSuccess.
func (c *Client) Open(out []byte) []byte {
	lang := c.cfg.Lang
	if lang == "" {
		lang = Lang
	}
	h := header{to: c.cfg.Domain.String(), lang: lang, version: true}
	if c.state != statePlain {
		h.from = c.cfg.From.String()
	}
	c.opened = true
	return h.append(out)
}

// Secured says that the TLS handshake is done.
func (c *Client) Secured() {
	c.scan.Reset()
	c.state = stateSecure
}

// StartTLS asks for TLS.
func (c *Client) StartTLS(out []byte) []byte {
	return append(out, "<starttls xmlns='"+NSTLS+"'/>"...)
}

// Auth begins SASL; a nil initial is no initial response.
func (c *Client) Auth(out []byte, mechanism string, initial []byte) []byte {
	c.sasl2 = false
	at := len(out)
	out = appendSASL(out, NSSASL, "auth", initial)
	// The attribute goes behind the namespace of the element just written.
	const lead = "<auth xmlns='" + NSSASL + "'"
	tail := string(out[at+len(lead):])
	out = appendAttr(out[:at+len(lead)], " mechanism='", mechanism)
	return append(out, tail...)
}

// Respond answers a challenge.
func (c *Client) Respond(out, data []byte) []byte {
	if len(data) == 0 {
		data = nil
	}
	return appendSASL(out, c.saslSpace(), "response", data)
}

func (c *Client) saslSpace() string {
	if c.sasl2 {
		return NSSASL2
	}
	return NSSASL
}

// Abort gives up the exchange; AuthFailure follows.
func (c *Client) Abort(out []byte) []byte { return appendSASL(out, c.saslSpace(), "abort", nil) }

// Bind asks for a resource, "" for one that the server makes up. The id is that
// of the request.
func (c *Client) Bind(out []byte, id, resource string) []byte {
	c.bindID = id
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(NSBind, "bind")
	if resource != "" {
		w.Start(NSBind, "resource").Text(resource).End()
	}
	w.End()
	return stanza.Build(stanza.IQ, stanza.TypeSet, id, jid.JID{}, jid.JID{}, w.String()).AppendTo(out)
}

// Enable asks for stream management (XEP-0198 3); max 0 is no wish.
func (c *Client) Enable(out []byte, resume bool, max time.Duration) []byte {
	return xep.AppendSMEnable(out, &xep.SMEnable{Resume: resume, Max: max})
}

// Resume asks for the session id to go on (XEP-0198 5); h is how many of its
// stanzas were handled.
func (c *Client) Resume(out []byte, id string, h uint32) []byte {
	out = append(out, "<resume xmlns='"+NSSM+"'"...)
	out = appendAttr(out, " previd='", id)
	out = appendAttr(out, " h='", strconv.FormatUint(uint64(h), 10))
	return append(out, "/>"...)
}

// AppendAck appends <a/> (XEP-0198 4), for both sides of a stream.
func AppendAck(out []byte, h uint32) []byte {
	out = append(out, "<a xmlns='"+NSSM+"' h='"...)
	out = strconv.AppendUint(out, uint64(h), 10)
	return append(out, "'/>"...)
}

// AppendAckRequest appends <r/> (XEP-0198 4), for both sides of a stream.
func AppendAckRequest(out []byte) []byte { return append(out, "<r xmlns='"+NSSM+"'/>"...) }

// End ends the client's stream: with err, or in good order if it is nil.
func (c *Client) End(out []byte, err *stanza.StreamError) []byte {
	if c.ended || !c.opened {
		return out
	}
	c.ended = true
	return AppendEnd(out, err)
}

// Next is Server.Next for the other side; the client's machine answers nothing
// by itself.
func (c *Client) Next(in []byte) (Event, int) {
	if c.state == stateEnded {
		return Event{}, len(in)
	}
	used := 0
	for used < len(in) {
		tok, n, err := c.scan.Next(in[used:])
		used += n
		var ev Event
		switch {
		case err != nil:
			ev = scanError(err)
		case tok.Kind == xmltree.StreamStart:
			ev = c.open(tok)
		case tok.Kind == xmltree.StreamEnd:
			ev = Event{Kind: Closed}
		case tok.Kind == xmltree.Unit:
			if ev = c.unit(tok); ev.Kind == StartTLS && used < len(in) {
				ev = failed(stanza.StreamPolicyViolation, "data behind <proceed/>") // RFC 6120 5.4.3.3
			}
		}
		switch ev.Kind {
		case NeedMore:
			continue
		case Failed, Closed, PeerError:
			c.state = stateEnded
		}
		return ev, used
	}
	return Event{}, used
}

// open checks the server's header.
func (c *Client) open(tok xmltree.Token) Event {
	el := tok.Element
	_, current := parseVersion(el.Attr("version"))
	switch {
	case !el.Is(stanza.NSStreams, "stream") || tok.DefaultSpace != stanza.NSClient:
		return failed(stanza.StreamInvalidNamespace, "")
	case !current:
		return failed(stanza.StreamUnsupportedVersion, "")
	}
	return Event{Kind: Opened, Name: el.Attr("from")}
}

func (c *Client) unit(tok xmltree.Token) Event {
	el := tok.Element
	switch el.Space() {
	case stanza.NSClient:
		return c.stanza(el, tok.Size)
	case stanza.NSStreams:
		switch el.Local() {
		case "features":
			return Event{Kind: Features, Element: el}
		case "error":
			return Event{Kind: PeerError, Err: parseStreamError(el), Name: el.Child(stanza.NSStreamErrors, stanza.StreamSeeOtherHost).Text()}
		}
	case NSTLS:
		switch el.Local() {
		case "proceed":
			return Event{Kind: StartTLS}
		case "failure":
			return failed(stanza.StreamPolicyViolation, "the server refuses TLS")
		}
	case NSSASL:
		return c.sasl(el)
	case NSSASL2:
		return c.extensible(el)
	case NSSM:
		return c.management(el)
	}
	return Event{Kind: Element, Element: el, Size: tok.Size}
}

func (c *Client) sasl(el xmltree.Element) Event {
	if el.Local() == "failure" {
		return parseSASLFailure(el)
	}
	data, _, condition := saslData(el)
	if condition != "" {
		return failed(stanza.StreamBadFormat, "SASL: "+string(condition))
	}
	switch el.Local() {
	case "challenge":
		return Event{Kind: AuthResponse, Data: data}
	case "success":
		c.scan.Reset()
		c.letIn(stateAuthed)
		return Event{Kind: AuthSuccess, Data: data}
	}
	return failed(stanza.StreamUnsupportedStanzaType, "")
}

// parseSASLFailure reads <failure/> of either profile.
func parseSASLFailure(el xmltree.Element) Event {
	ev := Event{Kind: AuthFailure}
	for e := range el.Children() {
		switch {
		case e.Local() == "text":
			ev.Text = e.Text()
		case e.Space() == NSSASL: // beside it SASL2 may have a condition of another namespace
			ev.Name = e.Local()
		}
	}
	return ev
}

func (c *Client) stanza(el xmltree.Element, size int) Event {
	st, err := stanza.Parse(el)
	if st == nil {
		return Event{Kind: Element, Element: el, Size: size}
	}
	if err != nil {
		e, _ := stanza.AsError(err)
		return Event{Kind: Answered, Stanza: st, Reply: st.ErrorReply(e), Size: size}
	}
	if c.bindID != "" && st.Kind == stanza.IQ && st.ID == c.bindID && st.Type != stanza.TypeGet && st.Type != stanza.TypeSet {
		c.bindID = ""
		if st.Type == stanza.TypeError {
			e := st.ParseError()
			if e == nil {
				e = stanza.NewError(stanza.UndefinedCondition, "")
			}
			return Event{Kind: BindFailure, StanzaErr: e}
		}
		full, err := jid.Parse(st.Child(NSBind, "bind").Child(NSBind, "jid").Text())
		if err != nil || !full.IsFull() {
			return failed(stanza.StreamBadFormat, "no address was bound")
		}
		c.state = stateBound
		return Event{Kind: Bind, JID: full}
	}
	return Event{Kind: Stanza, Stanza: st, Size: size}
}

func (c *Client) management(el xmltree.Element) Event {
	switch el.Local() {
	case "r":
		return Event{Kind: SMRequest}
	case "a":
		if h, ok := xep.ParseSMCount(el); ok {
			return Event{Kind: SMAck, H: h}
		}
	case "enabled":
		if e, ok := xep.ParseSMEnabled(el); ok {
			return Event{Kind: SMEnabled, Name: e.ID, Resume: e.Resume, Max: e.Max}
		}
	case "resumed":
		if h, ok := xep.ParseSMCount(el); ok {
			c.state = stateBound
			return Event{Kind: SMResumed, Name: el.Attr("previd"), H: h}
		}
	case "failed":
		f := xep.ParseSMFailed(el)
		return Event{Kind: SMFailed, StanzaErr: f.Err, H: f.H, Known: f.Known}
	}
	return failed(stanza.StreamBadFormat, "stream management: <"+el.Local()+"/>")
}
