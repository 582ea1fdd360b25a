package stream

import (
	"encoding/base64"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const proceed = "<proceed xmlns='" + NSTLS + "'/>"

// RFC 6120 5.4.2.3
func (s *Server) takeStartTLS(_ xmltree.Element, out []byte) (Event, []byte) {
	return Event{Kind: StartTLS}, append(out, proceed...)
}

// refuseStartTLS: what wasn't offered (RFC 6120 5.4.2.2; XEP-0368 3 rule 5).
func (s *Server) refuseStartTLS(_ xmltree.Element, out []byte) (Event, []byte) {
	return failed(stanza.StreamPolicyViolation, "STARTTLS was not offered"), appendTLSFailure(out)
}

func appendTLSFailure(out []byte) []byte {
	return append(out, "<failure xmlns='"+NSTLS+"'/>"...)
}

// refuseStanza: nothing of the kind before a resource is bound (RFC 6120 7.1,
// 4.9.3.12).
func (s *Server) refuseStanza(_ xmltree.Element, out []byte) (Event, []byte) {
	return failed(stanza.StreamNotAuthorized, ""), out
}

// takeAuth begins an exchange; one that is running is forgotten (RFC 6120
// 6.4.2).
func (s *Server) takeAuth(el xmltree.Element, out []byte) (Event, []byte) {
	n := s.nego
	if ev, ok := s.profile(NSSASL); !ok {
		return ev, out
	}
	n.mechanism, n.empty = "", false
	if ev, ok := s.countAuth(); !ok {
		return ev, out
	}
	mechanism := el.Attr("mechanism")
	if !slices.Contains(n.offer.Mechanisms, mechanism) {
		return Event{}, s.Failure(out, sasl.InvalidMechanism, "")
	}
	data, present, condition := saslData(el)
	if condition != "" {
		return Event{}, s.Failure(out, condition, "")
	}
	n.mechanism = strings.Clone(mechanism)
	if !present {
		// All our mechanisms begin with the client: ask for what is missing.
		n.empty = true
		return Event{}, append(out, "<challenge xmlns='"+NSSASL+"'/>"...)
	}
	return Event{Kind: Auth, Name: n.mechanism, Data: data}, out
}

// profile notes which of the two profiles of SASL the client uses. It has to stay
// with it: the downgrade protection of XEP-0474 is for one of them.
func (s *Server) profile(space string) (Event, bool) {
	if s.nego.space == "" {
		s.nego.space = space
	}
	return failed(stanza.StreamPolicyViolation, "two profiles of SASL on one stream"), s.nego.space == space
}

// countAuth counts an exchange. Exchanges count, not failures: one that is never
// finished costs as much.
func (s *Server) countAuth() (Event, bool) {
	limit := s.cfg.MaxAuth
	if limit <= 0 {
		limit = defaultMaxAuth
	}
	s.nego.auths++
	return failed(stanza.StreamPolicyViolation, "too many attempts to authenticate"), s.nego.auths <= limit
}

func (s *Server) takeResponse(el xmltree.Element, out []byte) (Event, []byte) {
	n := s.nego
	var data []byte
	var condition sasl.Condition
	if el.Space() == NSSASL2 {
		data, condition = sasl2Data(el)
	} else if ev, ok := s.profile(NSSASL); !ok {
		return ev, out
	} else if n.mechanism == "" {
		return Event{}, s.Failure(out, sasl.MalformedRequest, "no exchange is running")
	} else {
		data, _, condition = saslData(el)
	}
	if condition != "" {
		return Event{Kind: AuthAbort}, s.Failure(out, condition, "")
	}
	if n.empty {
		n.empty = false
		return Event{Kind: Auth, Name: n.mechanism, Data: data, Login: n.login}, out
	}
	return Event{Kind: AuthResponse, Data: data}, out
}

// RFC 6120 6.4.4, XEP-0388 4.5
func (s *Server) takeAbort(el xmltree.Element, out []byte) (Event, []byte) {
	if ev, ok := s.profile(el.Space()); !ok {
		return ev, out
	}
	return Event{Kind: AuthAbort}, s.Failure(out, sasl.Aborted, "")
}

// refuseAuth: before TLS, or after it worked.
func (s *Server) refuseAuth(_ xmltree.Element, out []byte) (Event, []byte) {
	if s.state == statePlain {
		// RFC 6120 6.5.4, RFC 7590 3.1. The client must not go on in the clear.
		out = s.Failure(out, sasl.EncryptionRequired, "")
		return failed(stanza.StreamPolicyViolation, "TLS is required"), out
	}
	return failed(stanza.StreamPolicyViolation, "authenticated already"), out
}

// saslData decodes what a SASL element carries. RFC 6120 6.4.2: "=" is data of
// no length, an empty element is no data. RFC 6120 6.3.5: base64 without white
// space, with zero padding bits.
func saslData(el xmltree.Element) (data []byte, present bool, condition sasl.Condition) {
	for range el.Children() {
		return nil, false, sasl.MalformedRequest
	}
	text := el.Text()
	switch text {
	case "":
		return nil, false, ""
	case "=":
		return []byte{}, true, ""
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return nil, false, sasl.IncorrectEncoding
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, false, sasl.IncorrectEncoding
	}
	return data, true, ""
}

// appendSASL writes an element of either profile with data; nil is no data.
func appendSASL(out []byte, space, name string, data []byte) []byte {
	out = append(out, '<')
	out = append(out, name...)
	out = appendAttr(out, " xmlns='", space)
	if data == nil {
		return append(out, "/>"...)
	}
	out = append(out, '>')
	if len(data) == 0 && space == NSSASL {
		out = append(out, '=')
	}
	out = base64.StdEncoding.AppendEncode(out, data)
	out = append(out, "</"...)
	out = append(out, name...)
	return append(out, '>')
}

// Challenge goes on with the exchange.
func (s *Server) Challenge(out, data []byte) []byte {
	if len(data) == 0 {
		data = nil // RFC 6120 6.4.3 has no "=" here
	}
	return appendSASL(out, s.nego.space, "challenge", data)
}

// Failure ends the exchange; the client may begin another (RFC 6120 6.4.5).
func (s *Server) Failure(out []byte, condition sasl.Condition, text string) []byte {
	n := s.nego
	n.mechanism, n.empty, n.login, n.task, n.tasking = "", false, nil, "", false
	if n.space == NSSASL2 {
		if s.state != statePlain {
			s.state = stateSecure
		}
		// XEP-0388 2.6.2: its conditions are those of RFC 6120.
		out = append(append(out, "<failure xmlns='"+NSSASL2+"'><"...), condition...)
		out = append(out, " xmlns='"+NSSASL+"'/>"...)
	} else {
		out = append(append(out, "<failure xmlns='"+NSSASL+"'><"...), condition...)
		out = append(out, "/>"...)
	}
	if text != "" {
		out = append(out, "<text xml:lang='"+Lang+"'>"...)
		out = xmltree.AppendText(out, text)
		out = append(out, "</text>"...)
	}
	return append(out, "</failure>"...)
}

// Success lets a client of the classic profile in as account, a bare address, and
// expects its new stream; data is the mechanism's last message, nil for none. The limits of
// authenticated streams hold from here on. A client that claimed another
// account in its stream header is not let in (RFC 6120 6.4.6): then ok is false,
// the failure has been written and the exchange is over.
func (s *Server) Success(out, data []byte, account jid.JID) (_ []byte, ok bool) {
	if !s.Accepts(account) {
		return s.Failure(out, sasl.InvalidAuthzid, "the stream's 'from' is another account"), false
	}
	s.full = account
	s.nego = &negotiating{}
	s.restart(stateAuthed)
	s.scan.SetLimits(s.cfg.Limits)
	return appendSASL(out, NSSASL, "success", data), true
}
