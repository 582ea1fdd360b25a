package route

import "fmt"

// Property 6 of routing.md section 8: where no session is of ng or v2, what
// happens is RFC 6121, XEP-0280 and XEP-0313. This is written from those, and
// XEP-0160, 0191 and 0334; it uses nothing of rules.go. Where they leave a
// choice, or routing.md decides otherwise, it says so:
//
//   - R-CONV-2: to a bare JID, all with a non-negative priority (RFC 6121
//     8.5.2.1.1 lets a server choose between all and one).
//   - R-CONV-3: type normal to a full JID that isn't there goes the way of the
//     bare JID, as type chat does (the RFC: ignored or bounced).
//   - R-CONV-6: a carbon, too, is a copy that somebody has: then nothing is
//     kept offline.
//   - R-ARCH-1: what is for one resource (no copies wanted, a room's private
//     message, machine traffic) isn't archived.
//   - R-EXCL-3: it is refused to strangers.
//   - R-FEED-2: an error that answers it isn't copied either.

// oldWorld: nothing of the founding documents is in the input.
func oldWorld(f *Facts, s *set) bool {
	return !s.modern && !f.Message.Marks.Any(ForOne|Whose|Mine|Modern) && !f.Again
}

// old is what XMPP 1.0 wants.
type old struct {
	forms   [4]Form // carbons of either direction are CarbonReceived
	stored  bool    // offline
	reply   Reply
	archive answer
}

type answer uint8

const (
	may answer = iota
	must
	mustNot
)

// differs says how a decision is not XMPP 1.0's; "" if it is.
func differs(f *Facts, d *Decision) string {
	w := wanted(f)
	for i, l := range d.Lines {
		form := l.Form
		if form == CarbonSent {
			form = CarbonReceived
			if f.Side == Receiving {
				return "1.0: a sent carbon of a received message"
			}
		} else if form == CarbonReceived && f.Side == Sending {
			return "1.0: a received carbon of a sent message"
		}
		if form != w.forms[i] {
			return fmt.Sprintf("1.0: session %d should get %v", i, w.forms[i])
		}
		if l.Tag != NoTag {
			return "1.0: a tag"
		}
	}
	switch {
	case d.Offline != w.stored:
		return fmt.Sprintf("1.0: stored offline should be %v", w.stored)
	case d.Reply != w.reply:
		return fmt.Sprintf("1.0: reply should be %v", w.reply)
	case w.archive == must && !d.Archive, w.archive == mustNot && d.Archive:
		return "1.0: the archive"
	}
	return ""
}

func wanted(f *Facts) old {
	m := &f.Message
	w := old{archive: archives(m, f.Unarchived)}
	switch {
	case f.Side == Sending && f.Blocked:
		w = old{reply: NotAcceptable, archive: mustNot} // XEP-0191 3.2
		if m.Type == Error {
			w.reply = Silence // RFC 6120 8.3.1
		}
		return w
	case f.Side == Sending:
		for i := range f.Sessions {
			// A headline to a full JID is for one alone (R-INT-5).
			if i != f.Sender && f.Sessions[i].Profile == Carbons && copied(m) && !(m.Type == Headline && m.Full) {
				w.forms[i] = CarbonReceived // XEP-0280 8
			}
		}
	case f.Unknown || f.Blocked: // RFC 6121 8.5.1, XEP-0191 3.2
		return old{reply: bounce(m), archive: mustNot}
	case m.Type == Error:
		errorTo(f, &w)
	case m.Full && f.Addressed >= 0:
		present(f, &w)
	case m.Full:
		absent(f, &w)
	default:
		bare(f, &w)
	}
	if w.reply != Silence {
		w.archive = mustNot
	}
	return w
}

// bounce is the error for who can't be reached; RFC 6121 lets headlines be
// dropped, and forbids to answer errors.
func bounce(m *Message) Reply {
	if m.Type == Headline || m.Type == Error {
		return Silence
	}
	return ServiceUnavailable
}

// bare is RFC 6121 8.5.2.
func bare(f *Facts, w *old) {
	m := &f.Message
	if m.Type == Groupchat {
		w.reply = ServiceUnavailable // 8.5.2.1.1
		return
	}
	reached := false
	for i, s := range f.Sessions {
		if s.Available && s.Priority >= 0 {
			w.forms[i], reached = Direct, true
		}
	}
	for i, s := range f.Sessions {
		if w.forms[i] == Nothing && s.Profile == Carbons && i != f.Sender && copied(m) {
			w.forms[i], reached = CarbonReceived, true // XEP-0280 7
		}
	}
	if reached || m.Type == Headline || m.Marks.Any(NoStore|OnlyChatState) {
		return // XEP-0160 3, XEP-0334
	}
	// 8.5.2.2.1: stored or bounced. With the store full, the archive has it, or
	// it is bounced.
	w.stored = !f.OfflineFull
	if f.OfflineFull && w.archive != must && (f.Unarchived || m.Marks.Any(NoPermanentStore)) {
		w.reply = ServiceUnavailable
	}
}

// present is RFC 6121 8.5.3.1.
func present(f *Facts, w *old) {
	if f.Stranger && oneOnly(&f.Message) && f.Message.Type <= Chat {
		w.reply = ServiceUnavailable // R-EXCL-3
		return
	}
	w.forms[f.Addressed] = Direct
	for i, s := range f.Sessions {
		if i != f.Addressed && i != f.Sender && s.Profile == Carbons && copied(&f.Message) && !oneOnly(&f.Message) {
			w.forms[i] = CarbonReceived // XEP-0280 7
		}
	}
}

// absent is RFC 6121 8.5.3.2.
func absent(f *Facts, w *old) {
	m := &f.Message
	if m.Type == Groupchat || m.Type == Headline || oneOnly(m) {
		w.reply = bounce(m)
		w.archive = mustNot
		return
	}
	bare(f, w)
}

// errorTo is what RFC 6121 8.5 says of errors: to a bare JID or to nobody they
// are ignored.
func errorTo(f *Facts, w *old) {
	if !f.Message.Full || f.Addressed < 0 {
		return
	}
	w.forms[f.Addressed] = Direct
	for i, s := range f.Sessions {
		if i != f.Addressed && i != f.Sender && s.Profile == Carbons && f.AnswersCopied && !f.AnswersOne {
			w.forms[i] = CarbonReceived // XEP-0280 6.1
		}
	}
}

// oneOnly: for the addressed resource only.
func oneOnly(m *Message) bool {
	switch {
	case !m.Full:
		return false
	case m.Type == Groupchat || m.Type == Headline || m.Marks.Any(Private|NoCopy):
		return true
	case m.Marks.Any(RoomUser): // XEP-0280 6.1: private messages out of rooms aren't copied, invitations are
		return !m.Marks.Any(Invitation)
	}
	return m.Type == Normal && m.Marks.Any(Machine)
}

// copied is XEP-0280 6.1, the marks that say no first (9, and XEP-0334 4.3).
func copied(m *Message) bool {
	switch {
	case m.Marks.Any(Private | NoCopy):
		return false
	case m.Type == Groupchat || m.Type == Error:
		return false
	case m.Type == Chat || m.Marks.Any(Encrypted|InstantMessaging|Invitation):
		return true
	}
	return m.Type == Normal && m.Marks.Any(Body)
}

// archives is XEP-0313 6.1.1: what has a body and is said to a person; not
// against hints (XEP-0334 4) or the preferences.
func archives(m *Message, never bool) answer {
	switch {
	case never || m.Marks.Any(NoStore|NoPermanentStore):
		return mustNot
	case m.Type == Groupchat || m.Type == Error || oneOnly(m):
		return mustNot
	case m.Type != Headline && m.Marks.Any(Body|Encrypted):
		return must
	}
	return may
}
