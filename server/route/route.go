// Package route decides who gets a message: one pure function from facts to a
// Decision whose every line names its rule (docs/routing.md).
//
// The model: a message enters an account twice at most, on the side of its
// sender and on the side of its recipient. On each side the account's owner
// states the facts (the message's marks, the account's sessions, its
// preferences) and Decide answers with what each session gets and in which
// form, whether the message is archived, kept for offline delivery, or
// answered with an error. The rules are rows of the tables in rules.go, in
// order, first match wins; a new delivery rule is a row with an id, never code
// elsewhere. Delivery, archive, metrics and explain all read the Decision.
package route

// Profile is how a session wants conversation messages (routing.md section 1).
type Profile uint8

// The profiles.
const (
	Classic Profile = iota // RFC 6121
	Carbons                // XEP-0280
	NG                     // XEP-0409
	V2                     // XMPP 2.0
)

// Modern reports whether a session of the profile gets every conversation
// message of its account, whatever its presence (R-CONV-1, R-SESS-2).
func (p Profile) Modern() bool { return p >= NG }

// String is the profile's name in logs and explain.
func (p Profile) String() string {
	return [...]string{"classic", "carbons", "ng", "v2"}[p]
}

// Type is a message's type (RFC 6121 5.2.2).
type Type uint8

// The types of messages.
const (
	Normal Type = iota
	Chat
	Groupchat
	Headline
	Error
)

// ParseType is the Type for a type attribute; unknown ones are Normal (RFC
// 6121 5.2.2).
func ParseType(s string) Type {
	switch s {
	case "chat":
		return Chat
	case "groupchat":
		return Groupchat
	case "headline":
		return Headline
	case "error":
		return Error
	}
	return Normal
}

// String is the type attribute's value.
func (t Type) String() string {
	return [...]string{"normal", "chat", "groupchat", "headline", "error"}[t]
}

// Message is what routing reads of a message. Inspect makes it, once.
type Message struct {
	Type  Type
	Full  bool // addressed to a full JID
	Marks Marks
}

// Side says whose account decides.
type Side uint8

// The sides. Own is both: a message to the sender's own account.
const (
	Receiving Side = iota
	Sending
	Own
)

// Session is one of the account's sessions, connected or detached but
// resumable (R-SESS-3).
type Session struct {
	Profile   Profile
	Available bool // has sent available presence
	Priority  int8 // of that presence
}

// Facts is all that Decide reads.
type Facts struct {
	Message  Message
	Side     Side
	Sessions []Session
	// Sender is the index of the session that sent the message, -1 on the
	// receiving side.
	Sender int
	// Addressed is the index of the session that bears the resource the
	// message is addressed to, -1 if there is none.
	Addressed int

	Unknown     bool // receiving: there is no such account
	Blocked     bool // the other side is on the account's block list (XEP-0191)
	Known       bool // receiving: the sender may see the account's presence (R-MINE-3)
	Stranger    bool // receiving: the sender may not, and is to learn nothing (R-EXCL-3)
	Unarchived  bool // the account's preference says never for the other side (XEP-0313)
	OfflineFull bool // no room left for another offline message (XEP-0160)

	AnswersOne    bool // type error: it answers an exclusive message of the addressed session (R-FEED-2)
	AnswersCopied bool // type error: it answers a message that XEP-0280 finds eligible
	Again         bool // from the own account: it is in the archive already (R-DUP-1)
}

// Intent is what a message is meant for (routing.md section 2).
type Intent uint8

// The intents.
const (
	Conversation Intent = iota + 1 // for the person: all devices, archived
	Exclusive                      // for one resource: nobody else, no archive
	Feedback                       // type error
	Claim                          // of a message, by one of the account's own sessions (XEP-0259)
)

// String is the intent's name in logs and explain.
func (i Intent) String() string {
	return [...]string{"none", "conversation", "exclusive", "feedback", "claim"}[i]
}

// Form is how a session gets a message.
type Form uint8

// The forms.
const (
	Nothing        Form = iota
	Direct              // as it was addressed
	DirectBare          // with 'to' the bare JID, though it was addressed to another resource (R-CONV-3)
	Reflected           // what one of the account's sessions sent, as it is archived (R-REFL-1)
	CarbonReceived      // XEP-0280 7
	CarbonSent          // XEP-0280 8
)

// Tag is what is added to a message for one session.
type Tag uint8

// The tags.
const (
	NoTag   Tag = iota
	TagIMNG     // <im-ng/> (R-GW-4)
	TagOld      // <xmpp-1/> (R-GW-3)
)

// Rule is the reason for the tag.
func (t Tag) Rule() Rule { return [...]Rule{RuleNone, RGW4, RGW3}[t] }

// String is the tag's name in logs and explain.
func (t Tag) String() string { return [...]string{"", "im-ng", "xmpp-1"}[t] }

// String is the form's name in logs and explain.
func (f Form) String() string {
	return [...]string{"nothing", "direct", "direct to bare", "reflected", "carbon received", "carbon sent"}[f]
}

// Line is what one session gets and why.
type Line struct {
	Form Form
	Tag  Tag
	Rule Rule
}

// Reply is the error that goes back to the sender.
type Reply uint8

// The replies. Silence is for what must be dropped or was routed.
const (
	Silence            Reply = iota
	ServiceUnavailable       // RFC 6121 8.5
	NotAcceptable            // XEP-0191 3: to somebody whom the sender blocked
	BadRequest               // XEP-0259 4.1
)

// Decision is what happens to a message on one side. Its lines run parallel to
// Facts.Sessions.
type Decision struct {
	Intent     Intent
	IntentRule Rule

	Lines []Line

	Archive     bool
	ArchiveRule Rule

	// Whose says that the message is put up for claiming: all its forms and the
	// archive carry the same <whose/> (R-MINE-2).
	Whose bool

	Offline     bool
	OfflineRule Rule // RuleNone if somebody got it

	Reply     Reply
	ReplyRule Rule // RuleNone if the message is routed
}

// Refused reports whether the message stops here: nobody gets it, nothing is
// kept. On the sending side it then isn't handed to the recipient.
func (d *Decision) Refused() bool { return d.ReplyRule != RuleNone }

// Delivered reports whether a session gets the message in any form.
func (d *Decision) Delivered() bool {
	for _, l := range d.Lines {
		if l.Form != Nothing {
			return true
		}
	}
	return false
}

// Decide answers f in *d, reusing d.Lines. It reads nothing but f; anyone may
// call it concurrently on different d.
func Decide(f *Facts, d *Decision) {
	*d = Decision{Lines: d.Lines[:0]}
	for i := range intentRules {
		if intentRules[i].when(f) {
			d.Intent, d.IntentRule = intentRules[i].intent, intentRules[i].rule
			break
		}
	}
	for i := range refusalRules {
		if r := &refusalRules[i]; r.when(f, d.Intent) {
			d.Reply, d.ReplyRule = r.reply, r.rule
			if f.Message.Type == Error {
				d.Reply = Silence // RFC 6120 8.3.1: errors aren't answered
			}
			break
		}
	}
	for i := range f.Sessions {
		d.Lines = append(d.Lines, f.line(d, i))
	}
	d.ArchiveRule = ruleArchived
	for i := range archiveRules {
		if archiveRules[i].when(f, d) {
			d.ArchiveRule = archiveRules[i].rule
			break
		}
	}
	d.Archive = d.ArchiveRule == ruleArchived
	if f.Side != Sending && !d.Refused() && !d.Delivered() {
		d.decideOffline(f)
	}
	d.Whose = f.Side == Receiving && d.Intent == Conversation && !d.Refused()
}

// line finds what session i gets.
func (f *Facts) line(d *Decision, i int) Line {
	if d.Refused() {
		return Line{Rule: d.ReplyRule}
	}
	for k := range deliveryRules {
		if r := &deliveryRules[k]; r.intent == d.Intent && r.sides.has(f.Side) && r.when(f, i) {
			return Line{Form: r.form, Rule: r.rule, Tag: f.tag(d, r.form, i)}
		}
	}
	return Line{Rule: ruleNotForIt}
}

// tag finds what the border between 2.0 and 1.0 adds to what session i gets
// (routing.md section 6). A carbon is a message of the server's own.
func (f *Facts) tag(d *Decision, form Form, i int) Tag {
	if form == Nothing || form == CarbonReceived || form == CarbonSent {
		return NoTag
	}
	for k := range tagRules {
		if tagRules[k].when(f, d, f.Sessions[i].Profile) {
			return tagRules[k].tag
		}
	}
	return NoTag
}

// decideOffline handles a message that no session got (R-CONV-6).
func (d *Decision) decideOffline(f *Facts) {
	for i := range offlineRules {
		if r := &offlineRules[i]; r.when(f, d) {
			d.OfflineRule, d.Offline = r.rule, r.keep
			if !r.keep && !d.Archive {
				d.Reply, d.ReplyRule = r.reply, r.rule
			}
			return
		}
	}
}
