package route

import (
	"fmt"
	"maps"
	"sync"
	"testing"
)

// TestSpace proves routing.md section 8 for every input, as far as one side of
// a message can show it, and compares the outcomes with testdata/truth.golden.
// With -short accounts have two sessions at most.
func TestSpace(t *testing.T) {
	skipUnderRace(t)
	all := newWalk()
	var mu sync.Mutex
	t.Run("messages", func(t *testing.T) {
		for typ := Normal; typ <= Error; typ++ {
			for _, full := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v,full=%v", typ, full), func(t *testing.T) {
					t.Parallel()
					w := newWalk()
					w.prove(t, messages(typ, full))
					mu.Lock()
					defer mu.Unlock()
					all.add(w)
				})
			}
		}
	})
	for r := RuleNone; r < RPush1; r++ { // TestDecidePush has the rest
		if !all.reached[r] {
			t.Errorf("no input reaches %v", r)
		}
		if r != RuleNone && (r.String() == "" || r.Says() == "") {
			t.Errorf("rule %d has no name or no sentence", r)
		}
	}
	if want := map[change]bool{
		{RConv2, RConv3}:       true, // carbons: the message becomes a carbon
		{RConv2, ruleNotForIt}: true, // classic, or nothing to copy: the message is the addressed one's
		{RFeed3, RFeed3}:       true, // carbons: an error is copied if it has reached whom it was for
	}; !maps.Equal(all.changes, want) {
		t.Errorf("what others get changes with the addressed session: %v, should be %v", all.changes, want)
	}
	t.Logf("%d inputs: %d messages with up to two sessions, of which rules tell apart %d, these with three and four", all.inputs, all.messages, all.classes)
	compareTruth(t, all)
}

// walk is what a walk through the space, or a part of it, has found.
type walk struct {
	inputs, messages, classes int
	reached                   [ruleCount]bool
	truth                     truth
	lines                     lineTable
	// changes are what the addressed session's coming changes for others.
	changes map[change]bool
}

// change is from one rule's form to another's.
type change struct{ from, to Rule }

func newWalk() *walk { return &walk{truth: truth{}, changes: map[change]bool{}} }

func (w *walk) add(o *walk) {
	w.inputs, w.messages, w.classes = w.inputs+o.inputs, w.messages+o.messages, w.classes+o.classes
	for r, yes := range o.reached {
		w.reached[r] = w.reached[r] || yes
	}
	w.truth.add(o.truth)
	maps.Copy(w.changes, o.changes)
}

// prove walks through the inputs with messages of one type and address.
func (w *walk) prove(t *testing.T, list []Message) {
	var d Decision
	small := sets(0, 2)
	// Messages with the same outcomes in every account of two sessions are of a
	// class: the rules don't tell them apart.
	classes := map[uint64][]Message{}
	w.messages = len(list)
	for _, m := range list {
		h := newHash()
		w.lines.clear()
		inputs(m, small, func(f *Facts, s *set, c circumstance) {
			Decide(f, &d)
			w.check(t, f, &d, s, c)
			w.truth.note(f, &d, s)
			h.decision(&d)
		})
		w.presence(t, &m)
		w.noteChanges()
		if m.Marks.Any(Modern) {
			h.byte(1) // there are other inputs with it
		}
		classes[h.sum] = append(classes[h.sum], m)
	}
	w.classes = len(classes)
	if testing.Short() {
		return
	}
	large := sets(3, 4)
	for _, class := range classes {
		// What sessions get with up to two is what they get with more.
		w.lines.clear()
		inputs(class[0], small, func(f *Facts, s *set, c circumstance) {
			Decide(f, &d)
			if bad := w.lines.check(f, &d, s, c); bad != "" {
				t.Fatalf("%s:\n%+v\n%+v", bad, *f, d)
			}
		})
		// The members take turns.
		next := 0
		inputs(class[0], large, func(f *Facts, s *set, c circumstance) {
			if next++; next == len(class) {
				next = 0
			}
			f.Message = class[next]
			Decide(f, &d)
			w.check(t, f, &d, s, c)
		})
		w.presence(t, &class[0])
		w.noteChanges()
	}
}

// check holds one decision to everything that must hold.
func (w *walk) check(t *testing.T, f *Facts, d *Decision, s *set, c circumstance) {
	w.inputs++
	w.reached[d.IntentRule], w.reached[d.ArchiveRule], w.reached[d.OfflineRule], w.reached[d.ReplyRule] = true, true, true, true
	for _, l := range d.Lines {
		w.reached[l.Rule], w.reached[l.Tag.Rule()] = true, true
	}
	if d.Whose {
		w.reached[RMine2] = true
	}
	bad := violated(f, d, s)
	if bad == "" {
		bad = w.lines.check(f, d, s, c)
	}
	if bad == "" && oldWorld(f, s) {
		bad = differs(f, d)
	}
	if bad != "" {
		t.Fatalf("%s:\n%+v\n%v\n%+v", bad, *f, s.kinds, *d)
	}
}

// violated names the property of routing.md section 8 that a decision breaks.
func violated(f *Facts, d *Decision, s *set) string {
	m := &f.Message
	refused, delivered := d.Refused(), d.Delivered()
	kept := d.Archive || d.Offline
	personal := d.Intent == Conversation || d.Intent == Claim
	switch {
	// 2 and 5.
	case len(d.Lines) != len(f.Sessions):
		return "not one line per session"
	case d.Intent == 0 || d.IntentRule == RuleNone || d.ArchiveRule == RuleNone || d.Reply != Silence && d.ReplyRule == RuleNone:
		return "something without a rule"
	// 3.
	case !personal && (kept || d.Whose):
		return "what isn't for the person is kept, or up for claiming"
	case refused && (delivered || kept || d.Whose):
		return "what is refused goes on"
	// 4: who isn't told that it failed finds it where it belongs, unless it was
	// not to be kept.
	case personal && !refused && d.Archive != belongs(f):
		return "the archive lacks it, or has what it shouldn't"
	case personal && refused && d.Reply == Silence && m.Type != Headline && !f.Again && !m.Marks.Any(NoStore|OnlyChatState):
		return "lost without a word"
	case f.Unarchived && d.Archive, m.Marks.Any(NoStore|NoPermanentStore) && d.Archive, m.Marks.Any(NoStore) && d.Offline:
		return "kept against a wish"
	case m.Type == Error && d.Reply != Silence:
		return "an error is answered" // RFC 6120 8.3.1
	case f.Side == Sending && (d.Offline || d.Reply == ServiceUnavailable):
		return "the sender's side decides for the recipient"
	case d.OfflineRule != RuleNone && (delivered || refused && d.OfflineRule != d.ReplyRule):
		return "the offline store is asked although it isn't its turn"
	case f.Side != Sending && !refused && !delivered && d.OfflineRule == RuleNone:
		return "nobody has it, and nobody asks why"
	case d.Whose && (f.Side != Receiving || d.Intent != Conversation || m.Marks.Any(Whose|Mine)):
		return "up for claiming, but it isn't from somebody else" // R-MINE-2
	}
	if bad := violatedReply(f, d); bad != "" {
		return bad
	}
	return violatedLines(f, d, s)
}

// belongs is R-ARCH-1 and R-ARCH-2 for what is for the person.
func belongs(f *Facts) bool {
	m := &f.Message
	return !f.Unarchived && !m.Marks.Any(NoStore|NoPermanentStore|OnlyChatState) && !(m.Type == Groupchat && f.Side == Sending)
}

// violatedReply: who is no friend can't tell a refusal from an account that
// doesn't exist (R-MINE-3, XEP-0191 3, R-EXCL-3).
func violatedReply(f *Facts, d *Decision) string {
	m := &f.Message
	nobody := ServiceUnavailable // what is answered where there is no account
	if m.Type == Error || m.Type == Headline && !m.Marks.Any(ForOne) {
		nobody = Silence
	}
	misplaced := m.Marks.Any(Whose|Mine) && !(m.Type == Groupchat && m.Full)
	switch {
	case f.Side == Receiving && (f.Unknown || f.Blocked || misplaced && !f.Known):
		if !d.Refused() || d.Reply != nobody {
			return "to a stranger it doesn't look as if there were no account"
		}
	case f.Stranger && d.Intent == Exclusive && (m.Type == Chat || m.Type == Normal):
		if !d.Refused() || d.Reply != ServiceUnavailable {
			return "a stranger learns of a device"
		}
	case f.Side == Receiving && misplaced && d.Reply != BadRequest,
		f.Side != Receiving && m.Type != Error && !f.Again && !f.Blocked && (m.Marks.Any(Whose) || m.Full && m.Marks.Any(Mine)) && d.Reply != BadRequest,
		d.Intent == Claim && m.Marks.Any(BadClaim) && !f.Again && d.Reply != BadRequest:
		return "a bad request isn't answered as one"
	}
	return ""
}

// violatedLines looks at each session.
func violatedLines(f *Facts, d *Decision, s *set) string {
	m := &f.Message
	for i, l := range d.Lines {
		k := kinds[s.kinds[i]]
		modern := k.Profile.Modern()
		has := l.Form != Nothing
		switch {
		case l.Rule == RuleNone:
			return "a line without a rule"
		// 1: every ng and v2 session has what is for the person, whatever its
		// presence; what it has is what the archive has. The exception is
		// R-CONV-7 on the sender's side: rooms reflect.
		case modern && !d.Refused() && (d.Intent == Conversation || d.Intent == Claim) && has == (m.Type == Groupchat && f.Side == Sending):
			return "an ng or v2 session lacks a message, or has too much"
		case modern && (l.Form == CarbonReceived || l.Form == CarbonSent):
			return "a carbon to who has no carbons" // IMNG-21
		case !modern && (l.Form == Reflected || l.Form == DirectBare):
			return "a form of 2.0 to a session of 1.0"
		case (l.Form == CarbonReceived || l.Form == CarbonSent) && k.Profile != Carbons:
			return "a carbon to who has no carbons"
		// 2.
		case i == f.Sender && (l.Form == CarbonSent || l.Form == CarbonReceived):
			return "a carbon of its own message"
		case i == f.Sender && f.Side == Sending && has && !modern:
			return "the sender gets its message back"
		case f.Side == Sending && has && l.Form != Reflected && l.Form != CarbonSent,
			f.Side == Receiving && (l.Form == Reflected || l.Form == CarbonSent):
			return "a form of the other side"
		// 3. The exception is R-REFL-2: private messages into a room are copied
		// to the sender's other devices with carbons, if nothing but that they
		// are private (R-INT-7) makes them exclusive.
		case d.Intent == Exclusive && has && f.Side != Sending && i != f.Addressed,
			d.Intent == Exclusive && has && f.Side == Sending && (l.Form != CarbonSent || d.IntentRule != RInt7):
			return "an exclusive message goes to another"
		case d.Intent == Exclusive && !d.Refused() && i == f.Addressed && l.Form != Direct:
			return "an exclusive message isn't as it was"
		case !d.Refused() && d.Intent == Conversation && f.Side != Sending && i == f.Addressed && l.Form != Direct:
			return "the addressed session doesn't get it as it was addressed" // R-CONV-3
		}
		if bad := violatedTag(f, d, l, k.Profile); bad != "" {
			return bad
		}
	}
	return ""
}

// violatedTag is R-GW-3 and R-GW-4.
func violatedTag(f *Facts, d *Decision, l Line, p Profile) string {
	m := &f.Message
	room := m.Type == Groupchat || m.Type == Headline || m.Marks.Any(RoomUser) && !m.Marks.Any(Invitation)
	want := NoTag
	switch {
	case l.Form == Nothing || l.Form == CarbonReceived || l.Form == CarbonSent:
	case p == NG && d.Intent == Exclusive && !m.Marks.Any(ForOne) && !room:
		want = TagIMNG
	case p == V2 && !m.Marks.Any(Modern):
		want = TagOld
	}
	if l.Tag != want {
		return "a tag too many or too few"
	}
	return ""
}

// lineTable remembers what a session gets, by message and circumstances, but
// without the account's other sessions: whatever they are, it is the same. So
// a session more or less changes nothing for the others. The exceptions:
//
//   - The addressed session being there or not: R-CONV-3 and R-FEED-3 say what
//     the others then get (TestSpace names the changes); R-EXCL-2 is for the
//     sender alone.
//   - Whether there is an ng or v2 session at all decides whether a groupchat
//     message is refused (R-CONV-7); no other session gets it either way.
//   - Whether anybody has got a message decides whether it is kept offline
//     (R-CONV-6), which no session notices.
type lineTable struct {
	lines    [3 * 256 * 2 * len(kinds) * 4]Line
	accounts [3 * 256 * 2 * 2]account
}

// account is the part of a decision that sessions share.
type account struct {
	intent         Intent
	archive, whose bool
	reply          Reply
	rule           Rule
}

func (t *lineTable) clear() { *t = lineTable{} }

func (t *lineTable) check(f *Facts, d *Decision, s *set, c circumstance) string {
	at := (int(f.Side)*256 + int(c)) * 2
	if f.Addressed >= 0 {
		at++
	}
	for i, l := range d.Lines {
		role := 0
		if i == f.Sender {
			role |= 1
		}
		if i == f.Addressed {
			role |= 2
		}
		known := &t.lines[(at*len(kinds)+int(s.kinds[i]))*4+role]
		if known.Rule == RuleNone {
			*known = l
		} else if *known != l {
			return fmt.Sprintf("session %d depends on the others: before, it was %+v", i, *known)
		}
	}
	a := account{d.Intent, d.Archive, d.Whose, d.Reply, d.ReplyRule}
	if d.OfflineRule != RuleNone {
		a.reply, a.rule = Silence, RuleNone // R-CONV-6
		if d.Refused() {
			a.whose = f.Side == Receiving && d.Intent == Conversation
		}
	}
	at *= 2
	if s.modern && f.Message.Type == Groupchat && !f.Message.Full {
		at++ // R-CONV-7
	}
	known := &t.accounts[at]
	if known.intent == 0 {
		*known = a
	} else if *known != a {
		return fmt.Sprintf("the account depends on its sessions: before, it was %+v", *known)
	}
	return ""
}

// presence: to ng and v2 sessions presence is nothing (R-SESS-2).
func (w *walk) presence(t *testing.T, m *Message) {
	of := func(k kind) int { return int(k) * 4 }
	for at := range 3 * 256 * 2 {
		for k := kind(3 * NG); int(k) < len(kinds); k += 3 {
			for role := range 4 {
				line := w.lines.lines[at*len(kinds)*4:]
				if a, b, c := line[of(k)+role], line[of(k+1)+role], line[of(k+2)+role]; a != b || a != c {
					t.Fatalf("presence counts for %v: %+v: %+v, %+v, %+v", kinds[k].Profile, *m, a, b, c)
				}
			}
		}
	}
}

// noteChanges records where other sessions get something else because the
// addressed one is there.
func (w *walk) noteChanges() {
	const n = len(kinds) * 4
	for at := 0; at < 3*256*2; at += 2 {
		gone, here := w.lines.lines[at*n:(at+1)*n], w.lines.lines[(at+1)*n:(at+2)*n]
		for i, was := range gone {
			if is := here[i]; was.Rule != RuleNone && is.Rule != RuleNone && (was.Form != is.Form || was.Tag != is.Tag) {
				w.changes[change{was.Rule, is.Rule}] = true
			}
		}
	}
}

// hash is FNV-1a over decisions.
type hash struct{ sum uint64 }

func newHash() *hash { return &hash{14695981039346656037} }

func (h *hash) byte(b byte) { h.sum = (h.sum ^ uint64(b)) * 1099511628211 }

func (h *hash) decision(d *Decision) {
	flags := byte(0)
	for i, b := range []bool{d.Archive, d.Whose, d.Offline} {
		if b {
			flags |= 1 << i
		}
	}
	for _, b := range []byte{byte(d.Intent), byte(d.IntentRule), byte(d.ArchiveRule), byte(d.OfflineRule), byte(d.Reply), byte(d.ReplyRule), flags} {
		h.byte(b)
	}
	for _, l := range d.Lines {
		h.byte(byte(l.Form)<<4 | byte(l.Tag))
		h.byte(byte(l.Rule))
	}
}
