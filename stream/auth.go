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
	n.mechanism, n.empty = "", false
	limit := s.cfg.MaxAuth
	if limit <= 0 {
		limit = defaultMaxAuth
	}
	// Exchanges count, not failures: one that is never finished costs as much.
	if n.auths++; n.auths > limit {
		return failed(stanza.StreamPolicyViolation, "too many attempts to authenticate"), out
	}
	mechanism := el.Attr("mechanism")
	if !slices.Contains(n.mechanisms, mechanism) {
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

func (s *Server) takeResponse(el xmltree.Element, out []byte) (Event, []byte) {
	n := s.nego
	if n.mechanism == "" {
		return Event{}, s.Failure(out, sasl.MalformedRequest, "no exchange is running")
	}
	data, _, condition := saslData(el)
	if condition != "" {
		return Event{Kind: AuthAbort}, s.Failure(out, condition, "")
	}
	if n.empty {
		n.empty = false
		return Event{Kind: Auth, Name: n.mechanism, Data: data}, out
	}
	return Event{Kind: AuthResponse, Data: data}, out
}

// RFC 6120 6.4.4
func (s *Server) takeAbort(_ xmltree.Element, out []byte) (Event, []byte) {
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

// appendSASL writes a SASL element with data; nil is no data.
func appendSASL(out []byte, name string, data []byte) []byte {
	out = append(out, '<')
	out = append(out, name...)
	out = append(out, " xmlns='"+NSSASL+"'"...)
	if data == nil {
		return append(out, "/>"...)
	}
	out = append(out, '>')
	if len(data) == 0 {
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
	return appendSASL(out, "challenge", data)
}

// Failure ends the exchange; the client may begin another (RFC 6120 6.4.5).
func (s *Server) Failure(out []byte, condition sasl.Condition, text string) []byte {
	s.nego.mechanism, s.nego.empty = "", false
	out = append(out, "<failure xmlns='"+NSSASL+"'><"...)
	out = append(out, condition...)
	out = append(out, "/>"...)
	if text != "" {
		out = append(out, "<text xml:lang='"+Lang+"'>"...)
		out = xmltree.AppendText(out, text)
		out = append(out, "</text>"...)
	}
	return append(out, "</failure>"...)
}

// Success lets the client in as account, a bare address, and expects its new
// stream; data is the mechanism's last message, nil for none. The limits of
// authenticated streams hold from here on. A client that claimed another
// account in its stream header is not let in (RFC 6120 6.4.6): then ok is false,
// the failure has been written and the exchange is over.
func (s *Server) Success(out, data []byte, account jid.JID) (_ []byte, ok bool) {
	if from := s.nego.from; !from.IsZero() && from != account {
		return s.Failure(out, sasl.InvalidAuthzid, "the stream's 'from' is another account"), false
	}
	s.full = account
	s.nego = &negotiating{}
	s.restart(stateAuthed)
	s.scan.SetLimits(s.cfg.Limits)
	return appendSASL(out, "success", data), true
}
