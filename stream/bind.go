package stream

import (
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// takeRegister reads an IQ of a client that isn't authenticated: it may ask for an
// account (XEP-0077 3.1), or show that it is invited (XEP-0445 4), and nothing else.
func (s *Server) takeRegister(el xmltree.Element, out []byte) (Event, []byte) {
	asks := !el.Child(xep.NSRegister, "query").IsZero() && (s.cfg.Register || s.nego.invited)
	if !asks && (!s.cfg.Invited || el.Child(xep.NSPARS, "preauth").IsZero()) {
		return s.refuseStanza(el, out)
	}
	if s.nego.registers++; s.nego.registers > maxRegister {
		return failed(stanza.StreamPolicyViolation, "too many requests for an account"), out
	}
	st, err := stanza.Parse(el)
	if err != nil {
		e, _ := stanza.AsError(err)
		st.From = jid.JID{}
		return Event{}, s.Reply(out, st.ErrorReply(e))
	}
	st.From = jid.JID{} // whoever it is
	if st.Type != stanza.TypeGet && st.Type != stanza.TypeSet {
		return Event{}, out
	}
	return Event{Kind: Register, Stanza: st}, out
}

// Welcomed says that a client's token was good (XEP-0445 4): it may ask for an
// account from now on.
func (s *Server) Welcomed() { s.nego.invited = true }

// Reply appends the answer to Register; nil is none.
func (s *Server) Reply(out []byte, st *stanza.Stanza) []byte {
	if st == nil {
		return out
	}
	return st.AppendTo(out)
}

// takeBind reads an IQ of a client without a resource: there is only one that
// it may send (RFC 6120 7.1).
func (s *Server) takeBind(el xmltree.Element, out []byte) (Event, []byte) {
	bind := el.Child(NSBind, "bind")
	if bind.IsZero() {
		return s.refuseStanza(el, out)
	}
	if s.nego.binds++; s.nego.binds > maxBind {
		return failed(stanza.StreamPolicyViolation, "too many attempts to bind a resource"), out // RFC 6120 7.7.3
	}
	st, err := stanza.Parse(el)
	if err != nil {
		e, _ := stanza.AsError(err)
		s.nego.bindIQ = st
		return Event{}, s.BindFailed(out, e)
	}
	s.nego.bindIQ = st
	if st.Type != stanza.TypeSet {
		return Event{}, s.BindFailed(out, stanza.NewError(stanza.BadRequest, ""))
	}
	resource := bind.Child(NSBind, "resource").Text()
	if resource != "" {
		full, err := s.full.WithResource(resource)
		if err != nil {
			return Event{}, s.BindFailed(out, stanza.NewError(stanza.BadRequest, "not a resource")) // RFC 6120 7.7.2.1
		}
		resource = full.Resource()
	}
	return Event{Kind: Bind, Name: resource}, out
}

// Bound answers the client's request with its full address. From here on its
// stanzas are events.
func (s *Server) Bound(out []byte, full jid.JID) []byte {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(NSBind, "bind").Start(NSBind, "jid").Text(full.String()).End().End()
	st := s.nego.bindIQ
	// RFC 6120 7.6.1: without addresses, which the client doesn't know yet.
	out = stanza.Build(stanza.IQ, stanza.TypeResult, st.ID, jid.JID{}, jid.JID{}, w.String()).AppendTo(out)
	s.bound(full)
	return out
}

func (s *Server) bound(full jid.JID) {
	s.full, s.nego, s.state = full, nil, stateBound
}

// BindFailed refuses the client's resource; it may ask for another one.
func (s *Server) BindFailed(out []byte, e *stanza.Error) []byte {
	st := s.nego.bindIQ
	s.nego.bindIQ = nil
	if st == nil {
		return out
	}
	st.From, st.To = jid.JID{}, jid.JID{}
	if reply := st.ErrorReply(e); reply != nil {
		out = reply.AppendTo(out)
	}
	return out
}

// takeResume reads <resume/> (XEP-0198 5).
func (s *Server) takeResume(el xmltree.Element, out []byte) (Event, []byte) {
	r := parseResume(el)
	if r.Err != nil {
		return Event{}, s.SMFailed(out, r.Err)
	}
	if s.nego.binds++; s.nego.binds > maxBind {
		return failed(stanza.StreamPolicyViolation, "too many attempts to resume"), out
	}
	s.nego.resumeID = r.ID
	return Event{Kind: SMResume, Name: r.ID, H: r.H}, out
}

// refuseSM answers stream management where it may not be used (XEP-0198 3, 6).
func (s *Server) refuseSM(_ xmltree.Element, out []byte) (Event, []byte) {
	return Event{}, s.SMFailed(out, stanza.NewError(stanza.UnexpectedRequest, ""))
}

// Resumed tells the client that full's session goes on, and that the server has
// handled h of its stanzas.
func (s *Server) Resumed(out []byte, full jid.JID, h uint32) []byte {
	out = appendResumed(out, s.nego.resumeID, h)
	s.bound(full)
	s.sm = true
	return out
}

func appendResumed(out []byte, id string, h uint32) []byte {
	out = append(out, "<resumed xmlns='"+NSSM+"' h='"...)
	out = append(strconv.AppendUint(out, uint64(h), 10), '\'')
	return append(appendAttr(out, " previd='", id), "/>"...)
}

// ResumeFailed tells the client that there is nothing to resume; it may bind a
// resource instead. If known, h is how many of the old session's stanzas were
// handled.
func (s *Server) ResumeFailed(out []byte, e *stanza.Error, h uint32, known bool) []byte {
	s.nego.resumeID = ""
	return appendSMFailed(out, e, h, known)
}

// management reads the elements of stream management on a bound stream.
func (s *Server) management(el xmltree.Element, out []byte) (Event, []byte) {
	switch local := el.Local(); {
	case local == "enable":
		e := xep.ParseSMEnable(el)
		if e.Err != nil {
			return Event{}, s.SMFailed(out, e.Err)
		}
		return Event{Kind: SMEnable, Resume: e.Resume, Max: e.Max}, out
	case local == "a" && s.sm:
		h, ok := xep.ParseSMCount(el)
		if !ok {
			return Event{}, s.SMFailed(out, stanza.NewError(stanza.BadRequest, ""))
		}
		return Event{Kind: SMAck, H: h}, out
	case local == "r" && s.sm:
		return Event{Kind: SMRequest}, out
	case local == "a" || local == "r" || local == "resume":
		return s.refuseSM(el, out)
	}
	return failed(stanza.StreamUnsupportedStanzaType, ""), out
}

// Enabled switches stream management on: id is empty where the session can't be
// resumed, max is for how long it can be.
func (s *Server) Enabled(out []byte, id string, resumable bool, max time.Duration) []byte {
	s.sm = true
	return xep.AppendSMEnabled(out, xep.SMEnabled{ID: id, Resume: resumable, Max: max})
}

// SMFailed answers a request of stream management that can't be granted
// (XEP-0198 6).
func (s *Server) SMFailed(out []byte, e *stanza.Error) []byte {
	return appendSMFailed(out, e, 0, false)
}

func appendSMFailed(out []byte, e *stanza.Error, h uint32, known bool) []byte {
	return xep.AppendSMFailed(out, xep.SMFailed{Err: e, H: h, Known: known})
}
