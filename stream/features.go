package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"

	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// state is how far a server's stream has come.
type state uint8

const (
	statePlain    state = iota // no TLS yet
	stateSecure                // TLS, nobody authenticated
	stateExchange              // SASL2 is running: nothing else may be said (XEP-0388 2.4)
	stateTask                  // SASL2 went well, a task is to be done (XEP-0388 2.6.3)
	stateAuthed                // authenticated, no resource
	stateBound                 // negotiation is over
	stateEnded                 // nothing is read any more
)

// states is a set of state.
type states uint8

func in(list ...state) states {
	var s states
	for _, one := range list {
		s |= 1 << one
	}
	return s
}

func (s states) has(one state) bool { return s&(1<<one) != 0 }

// row is one line of the negotiation: an element that a client may send at the
// first level before a resource is bound.
type row struct {
	space, local string // local "": every element of the namespace

	// legal are the states in which take is called. Where no row of an element is
	// legal, its first one's refuse is.
	legal        states
	take, refuse func(*Server, xmltree.Element, []byte) (Event, []byte)
}

// negotiation are the elements of the negotiation. The classic profile of SASL has
// no state of its own while an exchange runs: its client may say other things in
// between.
var negotiation = [...]row{
	{NSTLS, "starttls", in(statePlain), (*Server).takeStartTLS, (*Server).refuseStartTLS},
	{NSSASL, "auth", in(stateSecure), (*Server).takeAuth, (*Server).refuseAuth},
	{NSSASL, "response", in(stateSecure), (*Server).takeResponse, (*Server).refuseAuth},
	{NSSASL, "abort", in(stateSecure), (*Server).takeAbort, (*Server).refuseAuth},
	{NSSASL2, "authenticate", in(stateSecure), (*Server).takeAuthenticate, (*Server).refuseSASL2},
	{NSSASL2, "response", in(stateExchange), (*Server).takeResponse, (*Server).refuseSASL2},
	{NSSASL2, "abort", in(stateExchange, stateTask), (*Server).takeAbort, (*Server).refuseSASL2},
	{NSSASL2, "next", in(stateTask), (*Server).takeNext, (*Server).refuseSASL2},
	{NSSASL2, "task-data", in(stateTask), (*Server).takeTaskData, (*Server).refuseSASL2},
	{stanza.NSClient, "iq", in(stateSecure), (*Server).takeRegister, (*Server).refuseStanza},
	{NSSM, "resume", in(stateAuthed), (*Server).takeResume, (*Server).refuseSM},
	{NSSM, "", in(), nil, (*Server).refuseSM}, // XEP-0198 3: not before binding
	{stanza.NSClient, "iq", in(stateAuthed), (*Server).takeBind, (*Server).refuseStanza},
	{stanza.NSClient, "message", in(), nil, (*Server).refuseStanza},
	{stanza.NSClient, "presence", in(), nil, (*Server).refuseStanza},
}

// negotiate handles a first-level element before binding.
func (s *Server) negotiate(el xmltree.Element, out []byte) (Event, []byte) {
	var known *row
	for i := range negotiation {
		r := &negotiation[i]
		if r.local != "" && r.local != el.Local() || r.space != el.Space() {
			continue
		}
		if r.legal.has(s.state) {
			return r.take(s, el, out)
		}
		if known == nil {
			known = r
		}
	}
	if s.state == stateExchange || s.state == stateTask {
		return failed(stanza.StreamPolicyViolation, "authentication is in progress"), out // XEP-0388 2.4
	}
	if known != nil {
		return known.refuse(s, el, out)
	}
	return failed(stanza.StreamUnsupportedStanzaType, ""), out // RFC 6120 4.9.3.24
}

// offer is one thing that <stream:features/> says, in the states in which it is
// worth saying.
type offer struct {
	when   states
	append func(*Server, []byte) []byte
}

// offers are the stream features in the order in which they are announced.
var offers = [...]offer{
	{in(statePlain), (*Server).offerStartTLS},
	{in(stateSecure), (*Server).offerBindings},
	{in(stateSecure), (*Server).offerSASL2},
	{in(stateSecure), (*Server).offerMechanisms},
	{in(stateSecure), (*Server).offerRegister},
	{in(stateSecure, stateAuthed, stateBound), (*Server).offerLimits},
	{in(stateAuthed), (*Server).offerBind},
	{in(stateBound), (*Server).offerManagement},
	{in(stateAuthed, stateBound), (*Server).offerExtra},
	{in(stateSecure), (*Server).offerVersion}, // the last: it is of all before
}

// appendFeatures writes the features of the state (RFC 6120 4.3.2).
func (s *Server) appendFeatures(out []byte) []byte {
	out = append(out, "<stream:features>"...)
	for i := range offers {
		if offers[i].when.has(s.state) {
			out = offers[i].append(s, out)
		}
	}
	return append(out, "</stream:features>"...)
}

// offerVersion names what was offered, for a client that will log in without
// waiting for it the next time (XEP-0509 2.1).
func (s *Server) offerVersion(out []byte) []byte {
	sum := sha256.Sum256(out[bytes.LastIndex(out, []byte("<stream:features>")):])
	s.nego.version = base64.RawURLEncoding.EncodeToString(sum[:12])
	return xep.AppendConfigVersion(out, s.nego.version)
}

// RFC 7590 3.1: nothing is offered before TLS but TLS.
func (s *Server) offerStartTLS(out []byte) []byte {
	return append(out, "<starttls xmlns='"+NSTLS+"'><required/></starttls>"...)
}

func (s *Server) offerMechanisms(out []byte) []byte {
	out = append(out, "<mechanisms xmlns='"+NSSASL+"'>"...)
	out = appendList(out, "mechanism", s.nego.offer.Mechanisms)
	return append(out, "</mechanisms>"...)
}

// XEP-0440 2
func (s *Server) offerBindings(out []byte) []byte {
	if len(s.nego.offer.Bindings) == 0 {
		return out
	}
	out = append(out, "<sasl-channel-binding xmlns='"+NSSASLCB+"'>"...)
	for _, b := range s.nego.offer.Bindings {
		out = append(out, "<channel-binding type='"...)
		out = append(out, b...)
		out = append(out, "'/>"...)
	}
	return append(out, "</sasl-channel-binding>"...)
}

// XEP-0077 8
func (s *Server) offerRegister(out []byte) []byte {
	if s.cfg.Invited {
		out = append(out, xep.TokenFeature...)
	}
	if s.cfg.Register {
		out = append(out, xep.RegisterFeature...)
	}
	return out
}

// XEP-0478 3.1
func (s *Server) offerLimits(out []byte) []byte {
	max, idle := s.cfg.Limits.MaxBytes, s.cfg.IdleSeconds
	if s.state == stateSecure {
		max, idle = s.cfg.EarlyLimits.MaxBytes, s.cfg.EarlySeconds
	}
	if max <= 0 && idle <= 0 {
		return out
	}
	out = append(out, "<limits xmlns='"+NSLimits+"'>"...)
	if max > 0 {
		out = append(out, "<max-bytes>"...)
		out = strconv.AppendInt(out, int64(max), 10)
		out = append(out, "</max-bytes>"...)
	}
	if idle > 0 {
		out = append(out, "<idle-seconds>"...)
		out = strconv.AppendInt(out, int64(idle), 10)
		out = append(out, "</idle-seconds>"...)
	}
	return append(out, "</limits>"...)
}

// RFC 6120 7.4; the session of RFC 3921 for clients that insist on it, marked
// as something to leave out; XEP-0198 3.
func (s *Server) offerBind(out []byte) []byte {
	return append(out, "<bind xmlns='"+NSBind+"'/><session xmlns='"+NSSession+"'><optional/></session><sm xmlns='"+NSSM+"'/>"...)
}

// offerManagement: a client of Bind 2 that didn't begin stream management with its
// session can do so later.
func (s *Server) offerManagement(out []byte) []byte {
	if s.sm {
		return out
	}
	return append(out, "<sm xmlns='"+NSSM+"'/>"...)
}

func (s *Server) offerExtra(out []byte) []byte { return append(out, s.cfg.Features...) }
