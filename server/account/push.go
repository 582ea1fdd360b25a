package account

import (
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Push notifications (XEP-0357): see DESIGN.md. Who is woken route.DecidePush
// says, when a message is decided and again whenever something has changed; here
// are the facts, what waits, and, in pushsend.go, the requests to push services.
// An account whose devices have named no service does none of this.

// PushConfig is how push notifications are made.
type PushConfig struct {
	Hold   time.Duration // for how long one is held back while another device is in use
	Sender bool          // the push service is told who has sent the last message
	Body   bool          // and what it says, if it isn't encrypted
}

// activeFor is for how long after it was last used a device counts as in use.
const activeFor = 2 * time.Minute

// pushTarget is a push service that one of the account's devices has named.
type pushTarget struct {
	store.PushTarget
	held  []heldPush // what the device has yet to be notified of, in order
	count int        // messages that it was notified of since it was here
	upTo  uint64     // of the account's order: messages that were considered for it
	asked *pushRequest
}

// heldPush is a message of which a device has yet to be notified.
type heldPush struct {
	facts  route.PushFacts // what of them doesn't change
	order  uint64          // its place in the account's order; 0: it was decided before the server's start
	id     store.ArchiveID // in the archive; 0: it isn't there
	kept   bool            // the store knows of it
	since  time.Time
	peer   jid.JID // bare
	names  [2]string
	sender string // what the push service may be told
	body   string
	trail  trail.Ref
}

// uses reports whether a session is the device's that named the service: by the id
// of its program if it has one, so that it outlives the resource.
func (p *pushTarget) uses(x *session) bool {
	if p.Client != "" {
		return x.client == p.Client
	}
	return x.jid.Resource() == p.Resource
}

// considerPush decides of every device with a push service whether it is to be
// woken for a message that was decided just now. The answers are in s.verdicts.
func (s *State) considerPush(st *stanza.Stanza, d *route.Decision, now time.Time) {
	if len(s.pushes) == 0 || d.Refused() || s.facts.Side != route.Receiving {
		return
	}
	f := s.pushFacts(st, s.facts.Message, d.Intent)
	for _, p := range s.pushes {
		g := f
		g.Found = d.Archive || d.Offline
		for i, l := range d.Lines {
			g.Found = g.Found || l.Form != route.Nothing && p.uses(s.sessions[i]) && !s.sessions[i].lost
		}
		s.deviceFacts(p, &g, now)
		s.verdicts = append(s.verdicts, route.DecidePush(&g))
	}
}

// pushFacts states what is so of a message whatever the device.
func (s *State) pushFacts(st *stanza.Stanza, m route.Message, intent route.Intent) route.PushFacts {
	f := route.PushFacts{Message: m, Intent: intent}
	if m.Noticed() {
		nick, own := s.inRoom(st)
		f.Own, f.Muted = own, s.mutes(st, &m, nick)
	}
	return f
}

// mutes reports whether the person wants no notification of a message (XEP-0492). A
// room's private messages are conversations of their own.
func (s *State) mutes(st *stanza.Stanza, m *route.Message, nick string) bool {
	switch s.muted[st.From.Bare()] {
	case xep.NotifyNever:
		return m.Type == route.Groupchat || !m.Marks.Any(route.RoomUser)
	case xep.NotifyOnMention:
		body := strings.ToLower(st.Child(stanza.NSClient, "body").Text())
		return m.Type == route.Groupchat && (nick == "" || !strings.Contains(body, strings.ToLower(nick)))
	}
	return false
}

// deviceFacts states what is so of a device and its push service now.
func (s *State) deviceFacts(p *pushTarget, f *route.PushFacts, now time.Time) {
	f.Off, f.Busy = p.Off, p.asked != nil || p.Retry.After(now)
	for _, x := range s.sessions {
		switch {
		case !x.detachedAt.IsZero() || x.lost:
		case p.uses(x):
			f.Live = true
		case x.inUse(now):
			f.Active = true
		}
	}
}

// inUse: somebody has done something on the device not long ago, and its client
// doesn't say that nobody looks at it (XEP-0352).
func (x *session) inUse(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.inactive && now.Sub(x.used) < activeFor
}

// use notes that the device is in use.
func (x *session) use(now time.Time) {
	x.mu.Lock()
	x.used = now
	x.mu.Unlock()
}

// inRoom tells the account's nick in the room that a message comes from, "" for
// none, and whether the account has said it itself.
func (s *State) inRoom(st *stanza.Stanza) (nick string, own bool) {
	if st.Type != stanza.TypeGroupchat {
		return "", false
	}
	for _, x := range s.sessions {
		for j := range x.directed {
			if j.IsFull() && j.Bare() == st.From.Bare() {
				if nick = j.Resource(); j == st.From {
					return nick, true
				}
			}
		}
	}
	return nick, false
}

// keepPushes takes the verdicts over a message: which devices are to be woken for it
// once it is committed. What has to wait is noted in the message's own unit, if the
// message can be found again.
func (s *State) keepPushes(d *route.Decision, c *copies, ops []store.Op, now time.Time) []store.Op {
	for i, v := range s.verdicts {
		p := s.pushes[i]
		if v.Rule > route.RPush5 { // without a live stream
			p.upTo = s.order
		}
		if v.Verdict == route.NoPush {
			continue
		}
		h := s.heldOf(c.stanza, now)
		h.facts = route.PushFacts{Message: s.facts.Message, Intent: d.Intent, Found: true}
		h.order, h.trail = s.order, c.trail
		if d.Archive {
			h.id = c.id
		}
		if v.Verdict == route.PushHeld {
			s.cfg.stats.PushesHeld.Add(1)
			if h.kept = d.Archive; h.kept {
				ops = append(ops, store.PushHold{PushKey: s.pushKey(p), ID: h.id})
			}
		}
		p.add(h)
	}
	return ops
}

// add puts a message behind those that wait. Beyond the bound the oldest is
// forgotten: the device will hear of a newer one.
func (p *pushTarget) add(h heldPush) {
	if p.held = append(p.held, h); len(p.held) > store.MaxPushHeld {
		p.held = slices.Delete(p.held, 0, 1)
		p.count++
	}
}

// heldOf is what has to be remembered of a message.
func (s *State) heldOf(st *stanza.Stanza, now time.Time) heldPush {
	h := heldPush{since: now, peer: st.From.Bare(), names: [2]string{strings.Clone(st.ID)}}
	for el := range st.Payloads() {
		if xep.IsStanzaIDBy(el, h.peer) { // as a room names its messages
			h.names[1] = strings.Clone(el.Attr("id"))
		}
	}
	if s.cfg.Push.Sender {
		h.sender = strings.Clone(st.From.String())
	}
	if s.cfg.Push.Body && !route.Inspect(st).Marks.Any(route.Encrypted) {
		h.body = clipText(st.Child(stanza.NSClient, "body").Text())
	}
	return h
}

// maxPushBody bounds what of a message a push service is told, in bytes: what they
// pass on is smaller still.
const maxPushBody = 1024

func clipText(s string) string {
	if len(s) > maxPushBody {
		s = s[:maxPushBody]
	}
	return strings.Clone(strings.ToValidUTF8(s, ""))
}

func (s *State) pushKey(p *pushTarget) store.PushKey {
	return store.PushKey{Account: s.id, Service: p.Service, Node: p.Node}
}

// pushesDue: all up to a place in the account's order is committed.
type pushesDue struct{ upTo uint64 }

func (ev *pushesDue) apply(s *State, fx *effects) {
	s.pushSure = max(s.pushSure, ev.upTo)
	s.pushAll(fx)
}

// pushWhenSure has what was decided for push services done once it is committed.
func (s *State) pushWhenSure(fx *effects) {
	if len(s.verdicts) > 0 {
		fx.post(s.jid, &pushesDue{s.order})
	}
}

// unpush forgets what was decided with a message that isn't committed.
func (s *State) unpush(order uint64) {
	for _, p := range s.pushes {
		p.held = slices.DeleteFunc(p.held, func(h heldPush) bool { return h.order == order })
	}
}

// pushWaits reports whether anything is to be done for push services later.
func (s *State) pushWaits() bool {
	return slices.ContainsFunc(s.pushes, func(p *pushTarget) bool { return len(p.held) > 0 || p.asked != nil })
}

// pushAll decides anew of all that waits.
func (s *State) pushAll(fx *effects) {
	for _, p := range s.pushes {
		if len(p.held) > 0 {
			s.pushTo(p, fx)
		}
	}
}

// pushTo decides anew of what waits for one device. Once the device is woken it is
// told of all of it: a second call for the rest would tell it nothing.
func (s *State) pushTo(p *pushTarget, fx *effects) {
	var told, later, dropped []heldPush
	var why route.PushDecision
	for _, h := range p.held {
		f := h.facts
		s.deviceFacts(p, &f, fx.now)
		f.Active = f.Active || h.order == 0 // another one was when it was held, before the server's start
		f.Waited = fx.now.Sub(h.since) >= s.cfg.Push.Hold
		switch v := route.DecidePush(&f); {
		case h.order > s.pushSure:
			later = append(later, h)
		case v.Verdict == route.NoPush:
			s.notePush(p, &h, v, fx.now)
			s.cfg.stats.PushesDropped.Add(1)
			dropped = append(dropped, h)
		case v.Verdict == route.PushNow:
			why = v
			told = append(told, h)
		default:
			told = append(told, h)
		}
	}
	if why.Verdict == route.PushNow {
		p.held = later
		s.request(p, told, dropped, why, fx)
	} else if p.held = append(told, later...); len(dropped) > 0 {
		s.forgetHeld(p, dropped, fx, func(*effects) {}, func(*effects, error) {}) // at worst the device is woken for nothing
	}
}

// notePush puts a verdict where "carillon trace" finds it.
func (s *State) notePush(p *pushTarget, h *heldPush, v route.PushDecision, now time.Time) {
	s.cfg.hub.trail.Pushed(h.trail, trail.Push{Resource: p.Resource, Service: p.Service.String(), Verdict: v.Verdict, Rule: v.Rule, At: now})
}

// forgetHeld has the store forget what no longer waits, and then does something.
func (s *State) forgetHeld(p *pushTarget, gone []heldPush, fx *effects, then func(*effects), failed func(*effects, error)) {
	op := store.PushRelease{PushKey: s.pushKey(p)}
	for _, h := range gone {
		if h.kept {
			op.IDs = append(op.IDs, h.id)
		}
	}
	if len(op.IDs) == 0 {
		then(fx)
		return
	}
	e := s.hold(fx.now, then)
	e.failed = failed
	fx.commit([]store.Op{op}, e)
}

// seen notes what one of the account's own messages says about those of which
// devices have yet to be notified: they were claimed (XEP-0259), displayed
// (XEP-0333), or answered.
func (s *State) seen(st *stanza.Stanza, marks route.Marks, fx *effects) {
	if !s.pushWaits() {
		return
	}
	peer, own := st.To.Bare(), st.To.Bare() == s.jid
	for el := range st.Payloads() {
		switch {
		case own && marks.Any(route.Mine):
			for _, whose := range xep.ParseClaim(el) {
				_, entry, _ := strings.Cut(whose, "-")
				if id, ok := store.ParseArchiveID(entry); ok {
					s.markSeen(func(h *heldPush) bool { return h.id == id })
				}
			}
		case !own && el.Is(xep.NSMarkers, "displayed"):
			s.displayed(peer, el.Attr("id"))
		}
	}
	if !own && marks.Any(route.Body|route.Encrypted) {
		s.markSeen(func(h *heldPush) bool { return h.peer == peer })
	}
	s.pushAll(fx)
}

// displayed: a message of somebody's was seen, and so all before it.
func (s *State) displayed(peer jid.JID, name string) {
	for _, p := range s.pushes {
		i := len(p.held) - 1
		for i >= 0 && (p.held[i].peer != peer || name == "" || !slices.Contains(p.held[i].names[:], name)) {
			i--
		}
		for ; i >= 0; i-- {
			if p.held[i].peer == peer {
				p.held[i].facts.Seen = true
			}
		}
	}
}

func (s *State) markSeen(which func(*heldPush) bool) {
	for _, p := range s.pushes {
		for i := range p.held {
			if which(&p.held[i]) {
				p.held[i].facts.Seen = true
			}
		}
	}
}

// seenEvents is seen for what a device publishes of displayed messages (XEP-0490).
func (s *State) seenEvents(changes []feature.EventChange, fx *effects) {
	if !s.pushWaits() {
		return
	}
	for _, c := range changes {
		if c.Node != xep.NSDisplayed {
			continue
		}
		for _, it := range c.Put {
			peer, err := jid.Parse(it.ID)
			el, bad := xmltree.Parse(it.Payload, "", xmltree.Limits{MaxBytes: len(it.Payload) + 1})
			if err != nil || bad != nil {
				continue
			}
			mark := el.Child(xep.NSStanzaID, "stanza-id")
			if id, ok := store.ParseArchiveID(mark.Attr("id")); ok && mark.Attr("by") == s.jid.String() {
				s.markSeen(func(h *heldPush) bool { return h.peer == peer.Bare() && h.id != 0 && h.id <= id })
			} else {
				s.displayed(peer.Bare(), mark.Attr("id"))
			}
		}
	}
	s.pushAll(fx)
}

// deviceHere: one of the account's devices has a stream (again), so that it hears of
// everything there.
func (s *State) deviceHere(x *session, fx *effects) {
	if len(s.pushes) == 0 {
		return
	}
	x.use(fx.now)
	for _, p := range s.pushes {
		if p.uses(x) {
			p.count = 0
		}
	}
	s.pushAll(fx)
}

// deviceGone: a device's stream has ended, maybe long after the device itself was
// gone. Of what it never acknowledged it is notified as of what comes from now on. At
// the server's stop all streams end, and who is there comes back.
func (s *State) deviceGone(x *session, fx *effects) {
	if s.cfg.hub.closing.Load() {
		return
	}
	var mine []*pushTarget
	for _, p := range s.pushes {
		if p.uses(x) {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return
	}
	for _, e := range x.unread() {
		data := e.Data
		if e.Tag.form == formReceived {
			data = carbonContent(data)
		}
		st := parseOwn(data)
		if st == nil {
			continue
		}
		intent := route.Conversation
		if e.Tag.kind == tagExclusive {
			intent = route.Exclusive
		}
		f := s.pushFacts(st, route.Inspect(st), intent)
		f.Found = true
		for _, p := range mine {
			if e.Tag.order > p.upTo {
				h := s.heldOf(st, fx.now)
				h.facts, h.order, h.trail = f, e.Tag.order, e.Tag.trail
				if e.Tag.archived {
					h.id = e.Tag.id
				}
				p.add(h)
			}
		}
	}
	upTo := s.order
	for _, p := range mine {
		p.upTo = upTo
	}
	s.later(fx, func(fx *effects) { fx.post(s.jid, &pushesDue{upTo}) })
}

// unread are the messages worth a notification that the session's client never
// acknowledged.
func (x *session) unread() (list []sm.Entry[tag]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.out.Entries() {
		if e.Tag.notice {
			list = append(list, e)
		}
	}
	return list
}
