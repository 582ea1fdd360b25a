package stream

import (
	"encoding/base64"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// NSSASL2 is the namespace of the extensible SASL profile (XEP-0388).
const NSSASL2 = xep.NSSASL2

// Login is what a client asks for in SASL2's <authenticate/> besides the login
// itself (XEP-0388 2.3). It is granted, if at all, when the client is let in, and
// all at once: see Welcome. What is malformed in one part is an error of this part.
type Login struct {
	Agent    xep.UserAgent
	Fast     *xep.Fast  // XEP-0484: the login is by token; nil otherwise
	TokenFor string     // XEP-0484: the mechanism for which a token is wanted, "" for none
	Upgrades []string   // XEP-0480: tasks
	Version  string     // XEP-0509: of the features that a client has in mind; it is compared before anything else
	Resume   *Resume    // XEP-0198 9.2: nil: nothing to resume
	Bind     *xep.Bind2 // XEP-0386: nil: no resource is wanted
}

// Resume asks for a session to go on (XEP-0198 5).
type Resume struct {
	ID  string // previd
	H   uint32
	Err *stanza.Error // the element was malformed, and this is why
}

// Welcome is what becomes of a Login.
type Welcome struct {
	// Full is the client's address: with the resource that was bound or resumed, or
	// the account's bare one if there is no session yet.
	Full jid.JID

	Resumed bool
	H       uint32        // Resumed: the stanzas that the server has handled
	Failed  *xep.SMFailed // the session that was asked for can't be resumed

	Bound *Bound         // nil if no resource was bound now
	Token *xep.FastToken // a new token; nil for none

	resumeID string
}

// Bound is what belongs to a resource that was bound inline (XEP-0386 3.2).
type Bound struct {
	SM       *xep.SMEnabled // stream management is on
	SMFailed *xep.SMFailed  // or can't be had
	Carbons  bool
	IMNG     bool
	Refused  []string // namespaces of what excludes something that was granted

	// Archive is what the archive holds at this moment (XEP-0313 5); nil: nothing is
	// said.
	Archive *Archive

	// Session answers the parts of XMPP 2.0's request in their order; nil if there
	// was none.
	Session []xep.SessionResult
}

// Archive is the first and last message of an archive, both zero if it is empty.
type Archive struct{ Start, End xep.MAMEdge }

// maxUpgrades bounds the tasks of one login.
const maxUpgrades = 4

// takeAuthenticate begins an exchange of SASL2 (XEP-0388 2.3).
func (s *Server) takeAuthenticate(el xmltree.Element, out []byte) (Event, []byte) {
	n := s.nego
	if ev, ok := s.profile(NSSASL2); !ok {
		return ev, out
	}
	if ev, ok := s.countAuth(); !ok {
		return ev, out
	}
	// XEP-0509 2.2: not a failed login, and nobody but the stream is told of it.
	if version, ok := xep.ParseConfigVersion(el); ok && version != n.version {
		out = append(out, "<failure xmlns='"+NSSASL2+"'><"+string(sasl.Aborted)+" xmlns='"+NSSASL+"'/>"...)
		return Event{}, append(out, xep.ConfigVersionMismatch+"</failure>"...)
	}
	mechanism := el.Attr("mechanism")
	token := slices.Contains(n.offer.Tokens, mechanism)
	if !token && !slices.Contains(n.offer.Mechanisms, mechanism) {
		return Event{}, s.Failure(out, sasl.InvalidMechanism, "")
	}
	login, problem := s.parseLogin(el, token)
	if problem != "" {
		return Event{}, s.Failure(out, sasl.MalformedRequest, problem)
	}
	var data []byte
	initial := el.Child(NSSASL2, "initial-response")
	if !initial.IsZero() {
		var condition sasl.Condition
		if data, condition = sasl2Data(initial); condition != "" {
			return Event{}, s.Failure(out, condition, "")
		}
	}
	n.mechanism, n.login = strings.Clone(mechanism), login
	s.state = stateExchange
	if initial.IsZero() {
		// All our mechanisms begin with the client: ask for what is missing.
		n.empty = true
		return Event{}, append(out, "<challenge xmlns='"+NSSASL2+"'/>"...)
	}
	return Event{Kind: Auth, Name: n.mechanism, Data: data, Login: login}, out
}

// parseLogin reads what stands beside the initial response. Elements that aren't
// known are ignored (XEP-0388 2.3).
func (s *Server) parseLogin(el xmltree.Element, token bool) (_ *Login, problem string) {
	l := &Login{}
	var err error
	if l.Agent, err = xep.ParseUserAgent(el.Child(NSSASL2, "user-agent")); err != nil {
		e, _ := stanza.AsError(err)
		return nil, e.Text
	}
	fast := el.Child(xep.NSFast, "fast")
	switch {
	case token && fast.IsZero():
		return nil, "a token's mechanism without <fast/>" // XEP-0484 3.4
	case !token && !fast.IsZero():
		return nil, "<fast/> without a token's mechanism"
	case token && l.Agent.ID == "":
		return nil, "<fast/> without the user agent's id" // XEP-0484 4.1
	case token:
		f, err := xep.ParseFast(fast)
		if err != nil {
			e, _ := stanza.AsError(err)
			return nil, e.Text
		}
		l.Fast = &f
	}
	// A token that can't be given is not worth losing the login for.
	want := el.Child(xep.NSFast, "request-token").Attr("mechanism")
	if l.Agent.ID != "" && slices.Contains(s.nego.offer.Tokens, want) {
		l.TokenFor = strings.Clone(want)
	}
	for c := range el.Children() {
		if c.Is(xep.NSSASLUpgrade, "upgrade") && len(l.Upgrades) < maxUpgrades {
			task := strings.TrimSpace(c.Text())
			if slices.Contains(s.cfg.Upgrades, task) && !slices.Contains(l.Upgrades, task) {
				l.Upgrades = append(l.Upgrades, strings.Clone(task))
			}
		}
	}
	if r := el.Child(NSSM, "resume"); !r.IsZero() {
		l.Resume = parseResume(r)
	}
	if b := el.Child(xep.NSBind2, "bind"); !b.IsZero() {
		l.Bind = xep.ParseBind2(b)
	}
	return l, ""
}

// parseResume reads <resume/> (XEP-0198 5).
func parseResume(el xmltree.Element) *Resume {
	h, ok := xep.ParseSMCount(el)
	id := el.Attr("previd")
	if !ok || id == "" {
		return &Resume{Err: stanza.NewError(stanza.BadRequest, "")}
	}
	return &Resume{ID: strings.Clone(id), H: h}
}

// sasl2Data decodes what an element of SASL2 carries (XEP-0388 2.2): unlike in
// the classic profile an empty element is empty data. White space around it is
// that of the specification's examples.
func sasl2Data(el xmltree.Element) ([]byte, sasl.Condition) {
	for range el.Children() {
		return nil, sasl.MalformedRequest
	}
	text := strings.Trim(el.Text(), " \t\r\n")
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return nil, sasl.IncorrectEncoding
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, sasl.IncorrectEncoding
	}
	return data, ""
}

// takeNext begins the task that the client was told to do (XEP-0388 2.6.3).
func (s *Server) takeNext(el xmltree.Element, out []byte) (Event, []byte) {
	n := s.nego
	if n.tasking || el.Attr("task") != n.task {
		return Event{Kind: AuthAbort}, s.Failure(out, sasl.MalformedRequest, "another task is to be done")
	}
	n.tasking = true
	return Event{Kind: Task, Name: n.task, Element: el}, out
}

// takeTaskData goes on with a task.
func (s *Server) takeTaskData(el xmltree.Element, out []byte) (Event, []byte) {
	if !s.nego.tasking {
		return Event{Kind: AuthAbort}, s.Failure(out, sasl.MalformedRequest, "no task was begun")
	}
	return Event{Kind: TaskData, Name: s.nego.task, Element: el}, out
}

// refuseSASL2: before TLS, without an exchange, or after one that worked.
func (s *Server) refuseSASL2(el xmltree.Element, out []byte) (Event, []byte) {
	switch s.state {
	case statePlain:
		// XEP-0388 3: under TLS only.
		s.nego.space = NSSASL2
		out = s.Failure(out, sasl.EncryptionRequired, "")
		return failed(stanza.StreamPolicyViolation, "TLS is required"), out
	case stateSecure:
		if ev, ok := s.profile(NSSASL2); !ok {
			return ev, out
		}
		if ev, ok := s.countAuth(); !ok {
			return ev, out
		}
		return Event{}, s.Failure(out, sasl.MalformedRequest, "no exchange is running")
	}
	return failed(stanza.StreamPolicyViolation, "authenticated already"), out // XEP-0388 4.8
}

// Accepts reports whether the stream's header allows a login as account, a bare
// address: it names it or nobody (XEP-0388 2.3). Ask it before Continue and
// Welcome; if not, Failure with invalid-authzid.
func (s *Server) Accepts(account jid.JID) bool {
	return s.nego.from.IsZero() || s.nego.from == account
}

// Continue tells a client of SASL2 that its exchange went well, but that it has a
// task to do yet (XEP-0388 2.6.3). Task and TaskData follow, which are answered
// with TaskData, Failure, Continue or Welcome. The data is the mechanism's last
// message, nil for none, and after another task.
func (s *Server) Continue(out, data []byte, task string) []byte {
	s.state, s.nego.task, s.nego.tasking = stateTask, task, false
	out = append(out, "<continue xmlns='"+NSSASL2+"'>"...)
	out = appendAdditional(out, data)
	out = append(out, "<tasks><task>"...)
	out = xmltree.AppendText(out, task)
	return append(out, "</task></tasks></continue>"...)
}

// TaskData goes on with the client's task; inner is canonical XML for a place in
// XEP-0388's namespace.
func (s *Server) TaskData(out, inner []byte) []byte {
	out = append(append(out, "<task-data xmlns='"+NSSASL2+"'>"...), inner...)
	return append(out, "</task-data>"...)
}

// Welcome lets a client of SASL2 in as account, a bare address; data is the
// mechanism's last message, nil for none, and after a task. There is no new
// stream: what the client sends next belongs to its session if w has one, and to
// the classic negotiation of a resource if not.
func (s *Server) Welcome(out, data []byte, account jid.JID, w *Welcome) []byte {
	if w.Resumed {
		w.resumeID = s.nego.login.Resume.ID
	}
	if w.Full.IsZero() {
		w.Full = account
	}
	out = appendAdditional(append(out, "<success xmlns='"+NSSASL2+"'>"...), data)
	out = append(out, "<authorization-identifier>"...)
	out = xmltree.AppendText(out, w.Full.String())
	out = append(out, "</authorization-identifier>"...)
	out = append(w.append(out), "</success>"...)
	s.scan.SetLimits(s.cfg.Limits)
	if w.Full.IsFull() {
		s.bound(w.Full)
		s.sm = w.Resumed || w.Bound != nil && w.Bound.SM != nil
	} else {
		s.full, s.state = account, stateAuthed
		s.nego = &negotiating{domain: s.nego.domain, from: s.nego.from}
	}
	if w.Resumed {
		return out // XEP-0198 9.2: no features
	}
	return s.appendFeatures(out)
}

// appendAdditional writes a mechanism's last message, nil for none.
func appendAdditional(out, data []byte) []byte {
	if data == nil {
		return out
	}
	out = base64.StdEncoding.AppendEncode(append(out, "<additional-data>"...), data)
	return append(out, "</additional-data>"...)
}

// append writes what stands in <success/> besides SASL's.
func (w *Welcome) append(out []byte) []byte {
	if w.Resumed {
		out = appendResumed(out, w.resumeID, w.H)
	} else if w.Failed != nil {
		out = xep.AppendSMFailed(out, *w.Failed)
	}
	if b := w.Bound; b != nil {
		out = append(out, "<bound xmlns='"+xep.NSBind2+"'>"...)
		if b.Archive != nil {
			out = xep.AppendMAMMetadata(out, b.Archive.Start, b.Archive.End)
		}
		switch {
		case b.SM != nil:
			out = xep.AppendSMEnabled(out, *b.SM)
		case b.SMFailed != nil:
			out = xep.AppendSMFailed(out, *b.SMFailed)
		}
		if b.Carbons {
			// XEP-0386 3.2 needs no answer, but Conversations looks for one.
			out = append(out, "<enabled xmlns='"+xep.NSCarbons+"'/>"...)
		}
		if b.IMNG {
			out = append(out, "<enabled xmlns='"+xep.NSIMNG+"'/>"...)
		}
		for _, space := range b.Refused {
			out = appendAttr(append(out, "<failed"...), " xmlns='", space)
			out = append(out, "><"+stanza.Conflict+" xmlns='"+stanza.NSStanzaErrors+"'/></failed>"...)
		}
		if b.Session != nil {
			out = xep.AppendSessionResult(out, b.Session)
		}
		out = append(out, "</bound>"...)
	}
	if w.Token != nil {
		out = xep.AppendFastToken(out, *w.Token)
	}
	return out
}

// offerSASL2 is XEP-0388 2.1 with the inline parts of XEP-0386, XEP-0198 9,
// XEP-0484 3.1 and XEP-0480 2.1. Early data of TLS isn't offered to anybody, and
// so never read (XEP-0388 3, XEP-0484 3.1).
func (s *Server) offerSASL2(out []byte) []byte {
	if len(s.nego.offer.Mechanisms) == 0 {
		return out // XEP-0388 2.1
	}
	out = append(out, "<authentication xmlns='"+NSSASL2+"'>"...)
	out = appendList(out, "mechanism", s.nego.offer.Mechanisms)
	out = append(out, "<inline><bind xmlns='"+xep.NSBind2+"'>"...)
	if len(s.cfg.BindInline) > 0 {
		out = append(out, "<inline>"...)
		for _, space := range s.cfg.BindInline {
			out = append(appendAttr(append(out, "<feature"...), " var='", space), "/>"...)
		}
		out = append(out, "</inline>"...)
	}
	out = append(out, "</bind><sm xmlns='"+NSSM+"'/>"...)
	if len(s.nego.offer.Tokens) > 0 {
		out = append(out, "<fast xmlns='"+xep.NSFast+"'>"...)
		out = append(appendList(out, "mechanism", s.nego.offer.Tokens), "</fast>"...)
	}
	out = append(out, "</inline>"...)
	for _, task := range s.cfg.Upgrades {
		out = append(out, "<upgrade xmlns='"+xep.NSSASLUpgrade+"'>"...)
		out = append(append(out, task...), "</upgrade>"...)
	}
	return append(out, "</authentication>"...)
}

// appendList writes an element for each text.
func appendList(out []byte, name string, texts []string) []byte {
	for _, text := range texts {
		out = append(append(append(out, '<'), name...), '>')
		out = append(append(append(append(out, text...), "</"...), name...), '>')
	}
	return out
}
