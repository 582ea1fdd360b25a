package account

import (
	"context"
	"log/slog"
	"time"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const (
	nsStanzaID = "urn:xmpp:sid:0"
	nsCarbons  = "urn:xmpp:carbons:2"
	nsForward  = "urn:xmpp:forward:0"
	nsDelay    = "urn:xmpp:delay"
	nsBlocking = "urn:xmpp:blocking:errors"
)

// sendMessage is a message from one of the account's sessions: decided on the
// sender's side, handed to the recipient's owner, and acknowledged once both
// archives have it.
func (s *State) sendMessage(ev *inbound, fx *effects) {
	st := ev.stanza
	if st.To.IsZero() {
		// RFC 6121 8.1.1.1: without 'to' it is for the own bare JID.
		st.To = s.jid
	}
	st, msg := route.Enter(s.cfg.unforged(st), ev.session.origin())
	ev.stanza = st
	if st.To.Bare() == s.jid {
		s.ownMessage(ev, msg, fx)
		return
	}
	d := s.decide(s.sendingFacts(st, msg, ev.session, fx.now))
	if d.Refused() {
		s.observe(st, d, 0, fx)
		s.refuse(ev, d, fx)
		return
	}
	if !s.cfg.local(st.To.Domain()) && s.turnedAway(ev, &msg, fx) {
		return
	}
	s.noteSent(st, ev.session, d, fx.now)
	s.seen(st, msg.Marks, fx)
	out := &arrive{stanza: st, msg: msg, intent: d.Intent}
	if s.cfg.keeper(st.To.Domain()) != nil {
		out.taken = s.whenTaken(ev.session, ev.number)
	}
	c := s.newCopy(st, d, fx)
	out.trail = c.trail
	out.ops, _ = s.keep(d, c, nil)
	out.origin = s.hold(fx.now, func(fx *effects) {
		s.deliver(d, c, fx)
		if out.taken == nil {
			fx.handled(ev.session, ev.number)
		}
	})
	out.ops = s.outlive(out.ops, out.origin)
	out.origin.failed = func(fx *effects, err error) {
		s.notSent(ev.stanza, ev.session)
		if out.origin.answered {
			fx.handled(ev.session, ev.number)
			return
		}
		s.tellFailure(ev, err, fx)
	}
	fx.route(out)
}

// ownMessage is a message to the sender's own account: both sides at once
// (R-CONV-5).
func (s *State) ownMessage(ev *inbound, msg route.Message, fx *effects) {
	st := ev.stanza
	d := s.decide(s.ownFacts(st, msg, ev.session, fx.now))
	if d.Refused() {
		s.observe(st, d, 0, fx)
		s.refuse(ev, d, fx)
		return
	}
	s.noteSent(st, ev.session, d, fx.now)
	s.seen(st, msg.Marks, fx)
	c := s.newCopy(st, d, fx)
	ops, undo := s.keep(d, c, nil)
	e := s.hold(fx.now, func(fx *effects) {
		s.deliver(d, c, fx)
		fx.handled(ev.session, ev.number)
	})
	e.failed = func(fx *effects, err error) {
		undo()
		s.notSent(ev.stanza, ev.session)
		s.tellFailure(ev, err, fx)
	}
	s.commit(fx, ops, e, nil)
}

// receiveMessage is a message from elsewhere.
func (s *State) receiveMessage(ev *arrive, fx *effects) {
	st := ev.stanza
	d := s.decide(s.receivingFacts(st, ev.msg))
	ops := ev.ops
	if d.Reply != route.Silence {
		// The answer is on its way before the sender's server acknowledges.
		if ev.origin != nil {
			ev.origin.answered = true
		}
		s.answer(st, replyError(d.Reply), fx)
	}
	if d.Refused() {
		s.observe(st, d, 0, fx)
		fx.commit(ops, ev.origin)
		return
	}
	s.considerPush(st, d, fx.now)
	c := s.copyOf(st, d, fx)
	if ev.many {
		s.cfg.stats.Messages.Add(1)
	} else {
		c.trail = s.observe(st, d, c.id, fx)
	}
	ops, undo := s.keep(d, c, ops)
	ops = s.keepPushes(d, c, ops, fx.now)
	deliver := func(fx *effects) {
		s.deliver(d, c, fx)
		s.pushWhenSure(fx)
	}
	if len(ops) == 0 && ev.origin == nil && s.kept == 0 {
		// What a room says, mostly: nothing of it is kept here.
		s.later(fx, deliver)
		return
	}
	order := s.order
	e := s.hold(fx.now, deliver)
	e.failed = func(fx *effects, err error) {
		undo()
		s.unpush(order)
		if ev.origin == nil { // a local sender's owner answers it
			s.answer(st, storeError(err), fx)
		}
	}
	s.commit(fx, ops, e, ev.origin)
}

// sendingFacts are what is known where a message to somebody else is sent.
func (s *State) sendingFacts(st *stanza.Stanza, msg route.Message, x *session, now time.Time) route.Facts {
	return route.Facts{Message: msg, Side: route.Sending, Sender: s.index(x), Addressed: -1,
		Blocked: s.blocks(st.To), Unarchived: s.unarchived(st.To), Again: s.sentBefore(st, x, now)}
}

// ownFacts are what is known of a message to the sender's own account.
func (s *State) ownFacts(st *stanza.Stanza, msg route.Message, x *session, now time.Time) route.Facts {
	return route.Facts{Message: msg, Side: route.Own, Sender: s.index(x), Addressed: s.addressed(st.To),
		Unarchived: s.unarchived(st.To), OfflineFull: s.offlineFull(), Again: s.sentBefore(st, x, now)}
}

// receivingFacts are what is known where a message from elsewhere arrives.
func (s *State) receivingFacts(st *stanza.Stanza, msg route.Message) route.Facts {
	f := route.Facts{Message: msg, Side: route.Receiving, Sender: -1, Addressed: -1, Unknown: s.unknown()}
	if f.Unknown {
		return f
	}
	f.Addressed = s.addressed(st.To)
	f.Blocked = s.blocks(st.From)
	f.Known = !s.stranger(st.From)
	f.Stranger = s.cfg.RefuseStrangers && !f.Known
	f.Unarchived = s.unarchived(st.From)
	f.OfflineFull = s.offlineFull()
	s.answersSent(st, &f)
	return f
}

// answer returns an error for a stanza to whoever sent it.
func (s *State) answer(st *stanza.Stanza, e *stanza.Error, fx *effects) {
	if r := st.ErrorReply(e); r != nil {
		fx.route(newArrive(r))
	}
}

// keep adds the operations that put a message where the decision wants it.
// undo is for a commit that fails.
func (s *State) keep(d *route.Decision, c *copies, ops []store.Op) (_ []store.Op, undo func()) {
	if d.Archive {
		peer := c.stanza.From
		if peer.Bare() == s.jid {
			peer = c.stanza.To
		}
		ops = append(ops, store.ArchiveAppend{Account: s.id, ID: c.id, Peer: peer, Thread: c.stanza.Thread(), Stanza: c.archivedForm()})
	}
	if !d.Offline {
		return ops, func() {}
	}
	s.offline++
	return append(ops, store.OfflineAppend{Account: s.id, ID: c.id, Stanza: c.form(false, route.NoTag)}), func() { s.offline-- }
}

// decide asks route.Decide about the account's sessions. The decision is valid
// until the next call.
func (s *State) decide(f route.Facts) *route.Decision {
	s.order++
	return s.consider(f)
}

// consider is decide without a place in the account's order.
func (s *State) consider(f route.Facts) *route.Decision {
	f.Sessions, s.verdicts = s.facts.Sessions[:0], s.verdicts[:0]
	for _, x := range s.sessions {
		fact := route.Session{Profile: x.profile, Available: x.available, Priority: x.priority}
		if x.lost {
			fact = route.Session{} // it can't be handed anything
		}
		f.Sessions = append(f.Sessions, fact)
	}
	s.facts = f
	route.Decide(&s.facts, &s.decision)
	return &s.decision
}

func (s *State) index(x *session) int {
	for i, y := range s.sessions {
		if x == y {
			return i
		}
	}
	return -1
}

// addressed is the index of the session with the address's resource. A session
// whose queue was given up can't be handed anything.
func (s *State) addressed(to jid.JID) int {
	if r := to.Resource(); r != "" {
		for i, x := range s.sessions {
			if x.jid.Resource() == r && !x.lost {
				return i
			}
		}
	}
	return -1
}

// stranger: the sender may not see the account's presence, and no session of
// the account has sent it directed presence (R-EXCL-3).
func (s *State) stranger(from jid.JID) bool {
	bare := from.Bare()
	if bare == s.jid || bare.Local() == "" && s.cfg.local(bare.Domain()) {
		return false
	}
	if c := s.roster[bare]; c != nil && c.From {
		return false
	}
	if b := s.cfg.border(bare.Domain()); b != nil && b.Own() {
		return false
	}
	for _, x := range s.sessions {
		for j := range x.directed {
			if j.Bare() == bare {
				return false
			}
		}
	}
	return true
}

func (s *State) offlineFull() bool { return s.offline >= s.cfg.Limits.OfflineMessages }

// deliver turns a decision's lines into deliveries.
func (s *State) deliver(d *route.Decision, c *copies, fx *effects) {
	msg := &s.facts.Message
	other := tag{id: c.id, order: s.order, archived: c.archived}
	if msg.Marks.Any(route.OnlyChatState) {
		other.wait, other.from = waitChatState, c.stanza.From
	}
	direct, carbon := other, other
	switch {
	case msg.Type == route.Error:
		// What a service hasn't kept: its sender hears of it before it is counted.
		direct.failure = s.cfg.keeper(c.stanza.From.Domain()) != nil
	case msg.Type == route.Headline:
	case d.Intent == route.Exclusive:
		direct.kind = tagExclusive
	case d.Intent == route.Conversation && !msg.Marks.Any(route.NoStore|route.OnlyChatState):
		direct.kind, carbon.kind = tagConversation, tagCarbon
	}
	direct.notice = len(s.pushes) > 0 && s.facts.Side == route.Receiving && msg.Noticed()
	carbon.notice = direct.notice
	full := c.stanza.To.IsFull() && s.session(c.stanza.To.Resource()) != nil
	direct.alone, carbon.alone = full, full
	for i, l := range d.Lines {
		x := s.sessions[i]
		direct.trail, carbon.trail, other.trail = c.trail.Line(i), c.trail.Line(i), c.trail.Line(i)
		switch l.Form {
		case route.Direct:
			fx.deliver(x, c.form(false, l.Tag), direct.in(c.archivedAs(false), l.Tag))
		case route.DirectBare:
			bare := direct.in(c.archivedAs(true), l.Tag)
			bare.alone = false
			fx.deliver(x, c.form(true, l.Tag), bare)
		case route.Reflected:
			other.from = c.stanza.To
			fx.deliver(x, c.form(c.toBare, l.Tag), other.in(formArchived, l.Tag))
		case route.CarbonReceived:
			fx.deliver(x, c.carbon(x, "received"), carbon.in(formReceived, route.NoTag))
		case route.CarbonSent:
			other.from = c.stanza.To
			fx.deliver(x, c.carbon(x, "sent"), other.in(formSent, route.NoTag))
		}
	}
}

// in is the tag for a form of the message.
func (t tag) in(f form, mark route.Tag) tag {
	t.form, t.mark = f, mark
	return t
}

// archivedAs is the form of the message as devices get it, seen from the archive.
func (c *copies) archivedAs(toBare bool) form {
	if c.toBare && !toBare {
		return formAddressed
	}
	return formArchived
}

// refuse answers a message of the account's own session that goes no further.
func (s *State) refuse(ev *inbound, d *route.Decision, fx *effects) {
	var data []byte
	if d.Reply != route.Silence {
		if r := ev.stanza.ErrorReply(replyError(d.Reply)); r != nil {
			data = r.AppendTo(nil)
		}
	}
	s.later(fx, func(fx *effects) {
		if data != nil {
			fx.deliver(ev.session, data, tag{})
		}
		fx.handled(ev.session, ev.number)
	})
}

// tellFailure answers a stanza whose commit failed: the error stands in the
// stream before the acknowledgement that counts the stanza, so the sender
// never takes it for kept.
func (s *State) tellFailure(ev *inbound, err error, fx *effects) {
	s.tellError(ev, storeError(err), fx)
	fx.handled(ev.session, ev.number)
}

// tellError answers a stanza of one of the account's sessions with an error,
// at once.
func (s *State) tellError(ev *inbound, e *stanza.Error, fx *effects) {
	if r := ev.stanza.ErrorReply(e); r != nil {
		fx.deliver(ev.session, r.AppendTo(nil), tag{failure: true})
	}
}

// replyError is the stanza error for a decision's reply.
func replyError(r route.Reply) *stanza.Error {
	switch r {
	case route.NotAcceptable:
		return blockedError()
	case route.BadRequest:
		return stanza.NewError(stanza.BadRequest, "this isn't how a message is claimed (XEP-0259)")
	}
	return stanza.NewError(stanza.ServiceUnavailable, "")
}

// copies makes the forms of one message that an account's sessions and archive
// get, each encoded once however many want it.
type copies struct {
	state    *State
	stanza   *stanza.Stanza
	id       store.ArchiveID // its place in this account's order; 0 if it needs none
	archived bool
	whose    bool
	toBare   bool // it is archived with 'to' the bare JID (R-CONV-3)
	trail    trail.Ref
	forms    [2 * tags][]byte
}

// tags is how many values a route.Tag has.
const tags = 3

func (s *State) newCopy(st *stanza.Stanza, d *route.Decision, fx *effects) *copies {
	c := s.copyOf(st, d, fx)
	c.trail = s.observe(st, d, c.id, fx)
	return c
}

// copyOf is newCopy without a note of where the message went.
func (s *State) copyOf(st *stanza.Stanza, d *route.Decision, fx *effects) *copies {
	c := &copies{state: s, stanza: st, archived: d.Archive, whose: d.Whose}
	c.toBare = s.facts.Message.Full && s.facts.Side != route.Sending && d.Intent == route.Conversation
	if d.Archive || d.Offline || d.Whose {
		c.id = s.nextID(fx.now)
	}
	return c
}

// archivedForm is the message as it is archived, and reflected (R-REFL-1).
func (c *copies) archivedForm() []byte { return c.form(c.toBare, route.NoTag) }

// form is the message as devices get it, addressed as it was or to the bare
// JID: with this account's stanza-id if it is in the archive (R-ARCH-4; one
// that claims to be went when the message entered: unforged); with what a claim
// names it by, the same in all forms (R-MINE-2, MINE-11, MINE-13, MINE-15, MINE-52).
func (c *copies) form(toBare bool, t route.Tag) []byte {
	if !c.stanza.To.IsFull() {
		toBare = false // it is
	}
	slot := int(t)
	if toBare {
		slot += tags
	}
	if c.forms[slot] == nil {
		c.forms[slot] = c.encode(toBare, t)
	}
	return c.forms[slot]
}

func (c *copies) encode(toBare bool, t route.Tag) []byte {
	st := *c.stanza
	if toBare {
		st.To = st.To.Bare()
	}
	var extra [7]string
	var id [16]byte
	n := 0
	if c.archived {
		n += copy(extra[n:], []string{c.state.stanzaIDOpen(), string(c.id.Append(id[:0])), "'/>"})
	}
	if c.whose {
		n += copy(extra[n:], []string{c.state.cfg.hub.whoseOpen, string(c.id.Append(id[:0])), "'/>"})
	}
	tag := tagElement(t)
	buf := make([]byte, 0, 256+len(st.Inner())+len(st.From.String())+len(st.To.String())+len(st.ID)+len(c.state.stanzaID))
	return st.AppendTo(buf, append(extra[:n], tag)...)
}

func tagElement(t route.Tag) string { return [tags]string{"", xep.IMNG, xep.XMPP1}[t] }

// stanzaIDOpen is the start of the account's <stanza-id/>, up to the id.
func (s *State) stanzaIDOpen() string {
	if s.stanzaID == "" {
		s.stanzaID = string(xmltree.AppendAttrValue([]byte("<stanza-id xmlns='"+nsStanzaID+"' by='"), s.jid.String())) + "' id='"
	}
	return s.stanzaID
}

// unforged is a message that enters, from a session or from outside, without
// the stanza-ids that only this server may give: whoever finds one of its
// domains in a 'by' can rely on it (R-ARCH-4, XEP-0359 5 rule 2). A 'by' in
// another form of the same address is the same claim.
func (c *Config) unforged(st *stanza.Stanza) *stanza.Stanza {
	inner := st.InnerWithout(func(el xmltree.Element) bool {
		if !el.Is(nsStanzaID, "stanza-id") {
			return false
		}
		by, err := jid.Parse(el.Attr("by"))
		return err == nil && c.local(by.Domain())
	})
	if len(inner) == len(st.Inner()) {
		return st
	}
	out := stanza.Build(st.Kind, st.Type, st.ID, st.From, st.To, inner)
	out.Lang = st.Lang
	return out
}

// carbon wraps the message for a device.
func (c *copies) carbon(x *session, direction string) []byte {
	return carbonOf(c.form(false, route.NoTag), c.stanza.Type, x.jid, direction)
}

// carbonOf wraps an encoded message for a device (XEP-0280 7 and 8).
func carbonOf(inner []byte, typ string, to jid.JID, direction string) []byte {
	wrap := stanza.Stanza{Kind: stanza.Message, Type: typ, From: to.Bare(), To: to}
	dst := wrap.AppendOpen(make([]byte, 0, len(inner)+320))
	dst = append(dst, "><"...)
	dst = append(dst, direction...)
	dst = append(dst, " xmlns='"+nsCarbons+"'><forwarded xmlns='"+nsForward+"'>"...)
	dst = appendMessage(dst, inner)
	dst = append(dst, "</forwarded></"...)
	dst = append(dst, direction...)
	return append(dst, "></message>"...)
}

// appendMessage appends an encoded message into a context that is not
// jabber:client.
func appendMessage(dst, message []byte) []byte {
	const open = "<message"
	dst = append(dst, open+" xmlns='"+stanza.NSClient+"'"...)
	return append(dst, message[len(open):]...)
}

// newArrive makes the event for a stanza of the server's own on its way to an
// account.
func newArrive(st *stanza.Stanza) *arrive {
	a := &arrive{stanza: st}
	if st.Kind == stanza.Message {
		a.msg = route.Inspect(st)
		a.msg.Marks |= route.Modern
		a.intent = route.Feedback
	}
	return a
}

// observe counts a decision, keeps it for who asks where a message went, and, at
// level debug, logs it with its rules.
func (s *State) observe(st *stanza.Stanza, d *route.Decision, id store.ArchiveID, fx *effects) trail.Ref {
	n := s.cfg.stats
	n.Messages.Add(1)
	if d.Refused() {
		n.Refused.Add(1)
	}
	if d.Offline {
		n.Offline.Add(1)
	}
	if fx.record == nil {
		fx.record = &trail.Record{}
	}
	s.describe(fx.record, st, d, id, fx.now)
	if s.cfg.Log.Enabled(context.Background(), slog.LevelDebug) {
		s.log(fx.record)
	}
	return s.cfg.hub.trail.Add(fx.record)
}

// describe puts a decision into words.
func (s *State) describe(r *trail.Record, st *stanza.Stanza, d *route.Decision, id store.ArchiveID, now time.Time) {
	r.At, r.Account, r.ID, r.ArchiveID = now, s.jid.String(), st.ID, ""
	if d.Archive {
		r.ArchiveID = id.String()
	}
	r.From, r.To, r.Condition = st.From.String(), st.To.String(), ""
	if st.Type == stanza.TypeError {
		if e := st.ParseError(); e != nil {
			c, _ := stanza.ParseCondition(string(e.Condition)) // not what a peer made up
			r.Condition = string(c)
		}
	}
	r.Fill(&s.facts, d)
	for i := range r.Devices {
		r.Devices[i].Resource = s.sessions[i].jid.Resource()
	}
	r.Pushes = r.Pushes[:0]
	for i, v := range s.verdicts {
		r.Pushes = append(r.Pushes, trail.Push{Resource: s.pushes[i].Resource, Service: s.pushes[i].Service.String(), Verdict: v.Verdict, Rule: v.Rule})
	}
}

func (s *State) log(r *trail.Record) {
	attrs := []slog.Attr{slog.String("account", r.Account), slog.String("stanza", r.ID), slog.String("intent", r.Intent),
		slog.String("rule", route.Rule(r.Because).String()), slog.Bool("archived", r.Archived), slog.String("archive_rule", route.Rule(r.ArchiveReason).String())}
	if r.OfflineReason != 0 {
		attrs = append(attrs, slog.Bool("offline", r.Offline), slog.String("offline_rule", route.Rule(r.OfflineReason).String()))
	}
	if r.Stopped != 0 {
		attrs = append(attrs, slog.String("refused_rule", route.Rule(r.Stopped).String()))
	}
	for _, d := range r.Devices {
		line := []any{slog.String("form", d.Form.String()), slog.String("rule", d.Rule.String())}
		if d.Tag != route.NoTag {
			line = append(line, slog.String("tag", d.Tag.String()))
		}
		attrs = append(attrs, slog.Group(d.Resource, line...))
	}
	s.cfg.Log.LogAttrs(context.Background(), slog.LevelDebug, "message routed", attrs...)
}
