package route

// The tables. Each row is a rule with the predicate under which it holds; in
// each table the first match wins. Predicates read facts and nothing else.

// intentRules is routing.md section 2.
var intentRules = [...]struct {
	rule   Rule
	intent Intent
	when   func(*Facts) bool
}{
	{RInt1, Feedback, func(f *Facts) bool { return f.Message.Type == Error }},
	{RMine4, Claim, func(f *Facts) bool { return !f.Message.Full && f.Side == Own && f.Message.Marks.Any(Mine) }},
	{RInt2, Conversation, func(f *Facts) bool { return !f.Message.Full }},
	{RInt3, Exclusive, func(f *Facts) bool { return f.Message.Marks.Any(ForOne) }},
	// X2-3, X2-28.
	{RInt4, Exclusive, func(f *Facts) bool { return f.Message.Marks.Any(Modern) }},
	// X2-23, X2-24.
	{RInt5, Exclusive, func(f *Facts) bool { return f.Message.Type == Groupchat || f.Message.Type == Headline }},
	// X2-18.
	{RInt6, Exclusive, func(f *Facts) bool { return f.Message.Marks.Any(Private | NoCopy) }},
	{RInt7, Exclusive, func(f *Facts) bool { return f.Message.roomPrivate() }},
	// X2-20.
	{RInt8, Exclusive, func(f *Facts) bool { return f.Message.Type == Normal && f.Message.Marks.Any(Machine) }},
	// X2-19, X2-21, IMNG-4.
	{RInt9, Conversation, func(*Facts) bool { return true }},
}

// refusalRules say which messages go no further.
var refusalRules = [...]struct {
	rule  Rule
	reply Reply
	when  func(f *Facts, i Intent) bool
}{
	{RBlock1, NotAcceptable, func(f *Facts, _ Intent) bool { return f.Blocked && f.Side == Sending }},
	// Headlines are dropped, as for an account where nobody is there (RFC 6121
	// 8.5.2.2.1): blocked, unknown and away look the same.
	{RBlock2, Silence, func(f *Facts, _ Intent) bool { return f.blockedIn() && f.Message.droppable() }},
	{RBlock2, ServiceUnavailable, func(f *Facts, _ Intent) bool { return f.blockedIn() }},
	{RAcc1, Silence, func(f *Facts, _ Intent) bool { return f.Unknown && f.Message.droppable() }},
	{RAcc1, ServiceUnavailable, func(f *Facts, _ Intent) bool { return f.Unknown }},
	{RDup1, Silence, func(f *Facts, _ Intent) bool { return f.Again }},
	{RMine3, BadRequest, func(f *Facts, _ Intent) bool { return f.misplacedMine() && (f.Side != Receiving || f.Known) }},
	// To who is not known the account looks like one that doesn't exist.
	{RMine3, Silence, func(f *Facts, _ Intent) bool { return f.misplacedMine() && f.Message.droppable() }},
	{RMine3, ServiceUnavailable, func(f *Facts, _ Intent) bool { return f.misplacedMine() }},
	{RMine4, BadRequest, func(f *Facts, i Intent) bool { return i == Claim && f.Message.Marks.Any(BadClaim) }},
	{RFeed1, Silence, func(f *Facts, i Intent) bool { return i == Feedback && !f.Message.Full && f.Side != Sending }},
	{RConv7, ServiceUnavailable, func(f *Facts, i Intent) bool {
		return i == Conversation && f.Message.Type == Groupchat && f.Side != Sending && !f.anyModern()
	}},
	{RExcl3, ServiceUnavailable, func(f *Facts, i Intent) bool {
		return i == Exclusive && f.Stranger && (f.Message.Type == Chat || f.Message.Type == Normal)
	}},
	{RExcl2, Silence, func(f *Facts, i Intent) bool {
		return i == Exclusive && f.Side != Sending && f.Addressed < 0 && f.Message.droppable()
	}},
	// IMNG-13, X2-5, X2-6.
	{RExcl2, ServiceUnavailable, func(f *Facts, i Intent) bool {
		return i == Exclusive && f.Side != Sending && f.Addressed < 0
	}},
}

// sides is a set of sides.
type sides uint8

const (
	receiving sides = 1<<Receiving | 1<<Own
	sending   sides = 1<<Sending | 1<<Own

	onlyReceiving sides = 1 << Receiving
	onlySending   sides = 1 << Sending
	onlyOwn       sides = 1 << Own
)

func (s sides) has(side Side) bool { return s&(1<<side) != 0 }

// deliveryRules say what one session gets (routing.md section 3). For a
// message to the own account the receiving rules stand first, so that nobody
// is handed two forms (R-CONV-5).
var deliveryRules = [...]struct {
	rule   Rule
	intent Intent
	sides  sides
	form   Form
	when   func(f *Facts, i int) bool
}{
	// X2-2, X2-3; to nobody else: X2-4.
	{RExcl1, Exclusive, receiving, Direct, (*Facts).isAddressed},
	{RExcl1, Exclusive, onlyReceiving, Nothing, anyOther},
	{RFeed2, Feedback, receiving, Direct, func(f *Facts, i int) bool { return f.forOne() && f.isAddressed(i) }},
	{RFeed2, Feedback, receiving, Nothing, func(f *Facts, _ int) bool { return f.forOne() }},
	{RFeed3, Feedback, receiving, Direct, (*Facts).isAddressed},
	{RFeed3, Feedback, receiving, DirectBare, (*Facts).isModern},
	{RFeed3, Feedback, receiving, CarbonReceived, func(f *Facts, i int) bool {
		return f.AnswersCopied && f.Addressed >= 0 && f.Sessions[i].Profile == Carbons && i != f.Sender
	}},
	{RFeed3, Feedback, receiving, Nothing, anyOther},
	// MINE-4, MINE-23. To clients that know nothing of XEP-0259 too, since one encoding serves all (R-MINE-7, MINE-47, MINE-48).
	{RMine4, Claim, onlyOwn, Direct, func(f *Facts, i int) bool { return f.isModern(i) || f.takesBare(i) || i == f.Sender }},
	{RMine4, Claim, onlyOwn, Nothing, anyOther},
	{RConv3, Conversation, receiving, Direct, (*Facts).isAddressed},
	{RConv5, Conversation, onlyOwn, Reflected, func(f *Facts, i int) bool { return !f.Message.Full && f.isModern(i) }},
	{RConv7, Conversation, receiving, Nothing, func(f *Facts, i int) bool { return f.Message.Type == Groupchat && !f.isModern(i) }},
	// IMNG-9, X2-1, X2-41.
	{RConv1, Conversation, receiving, DirectBare, func(f *Facts, i int) bool { return f.Message.Full && f.isModern(i) }},
	{RConv1, Conversation, receiving, Direct, (*Facts).isModern},
	// X2-1, X2-17, MINE-2, MINE-3, MINE-14.
	{RConv2, Conversation, receiving, Direct, func(f *Facts, i int) bool { return f.Addressed < 0 && f.takesBare(i) }},
	{RConv3, Conversation, receiving, CarbonReceived, func(f *Facts, i int) bool {
		return f.Addressed >= 0 && f.copies(i)
	}},
	{RConv4, Conversation, receiving, CarbonReceived, (*Facts).copies},
	// What is said in a room comes back from the room.
	{RConv7, Conversation, onlySending, Nothing, func(f *Facts, _ int) bool { return f.Message.Type == Groupchat }},
	// X2-42.
	{RRefl1, Conversation, onlySending, Reflected, (*Facts).isModern},
	{RRefl2, Conversation, sending, CarbonSent, (*Facts).copies},
	{RRefl2, Exclusive, sending, CarbonSent, func(f *Facts, i int) bool {
		// XEP-0280 6.1: a private message to a room's occupant is copied to
		// the sender's other devices, although its recipient is one resource.
		// Not if the sender speaks IM-NG or 2.0: then one resource is one.
		return f.Message.Marks.Any(RoomUser) && f.Message.Type <= Chat && f.Side == Sending && !f.Message.Marks.Any(ForOne|Modern) && f.copies(i)
	}},
	{RExcl1, Exclusive, sending, Nothing, anyOther},
	{RRefl2, Conversation, onlySending, Nothing, anyOther},
	{RFeed3, Feedback, onlySending, Nothing, anyOther},
}

// tagRules is routing.md section 6, towards the account's own sessions.
var tagRules = [...]struct {
	tag  Tag
	when func(f *Facts, d *Decision, p Profile) bool
}{
	{TagIMNG, func(f *Facts, d *Decision, p Profile) bool {
		return p == NG && d.Intent == Exclusive && !f.Message.Marks.Any(ForOne) && !f.Message.toBeRead()
	}},
	// X2-25.
	{TagOld, func(f *Facts, _ *Decision, p Profile) bool { return p == V2 && !f.Message.Marks.Any(Modern) }},
}

// anyOther: the rows above have said who gets something.
func anyOther(*Facts, int) bool { return true }

// toBeRead: headlines and what comes out of rooms are exclusive by their kind,
// and what they say is for the person all the same. A client would ignore it if
// it were marked (IMNG-23).
func (m *Message) toBeRead() bool {
	return m.Type == Groupchat || m.Type == Headline || m.roomPrivate()
}

// roomPrivate: a room's private message (R-INT-7).
func (m *Message) roomPrivate() bool {
	return m.Marks.Any(RoomUser) && !m.Marks.Any(Invitation)
}

// droppable: a headline that nobody can have is dropped without a word (R-EXCL-2).
func (m *Message) droppable() bool { return m.Type == Headline && !m.Marks.Any(ForOne) }

// blockedIn: the account doesn't want messages from the sender.
func (f *Facts) blockedIn() bool { return f.Blocked && f.Side == Receiving }

// misplacedMine: one of XEP-0259's elements where it has no business. A room
// asks its occupants, and tells them of claims, with groupchat messages to
// their full JIDs; an occupant claims with one to the room (R-MINE-6).
func (f *Facts) misplacedMine() bool {
	m := &f.Message
	switch {
	case m.Type == Error || !m.Marks.Any(Whose|Mine) || m.Type == Groupchat && m.Full && f.Side == Receiving:
		return false
	case m.Full || f.Side == Receiving:
		return true
	}
	return m.Marks.Any(Whose)
}

// forOne: an error that answers what a single device sent (R-FEED-2).
func (f *Facts) forOne() bool { return f.AnswersOne || f.Message.Marks.Any(ForOne) }

// isModern: session i gets every conversation message.
func (f *Facts) isModern(i int) bool { return f.Sessions[i].Profile.Modern() }

func (f *Facts) anyModern() bool {
	for i := range f.Sessions {
		if f.isModern(i) {
			return true
		}
	}
	return false
}

// takesBare: session i gets messages to the bare JID by RFC 6121 8.5.2.
func (f *Facts) takesBare(i int) bool {
	s := &f.Sessions[i]
	return s.Available && s.Priority >= 0 && !s.Profile.Modern()
}

// isAddressed: session i bears the resource that the message is addressed to.
func (f *Facts) isAddressed(i int) bool { return f.Addressed == i }

// copies: session i takes carbons, didn't send the message itself, and
// XEP-0280 6.1 finds the message eligible.
func (f *Facts) copies(i int) bool {
	return f.Sessions[i].Profile == Carbons && i != f.Sender && f.Message.Copied()
}

// Copied reports whether XEP-0280 6.1 finds the message eligible for carbons.
func (m *Message) Copied() bool {
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

// archiveRules say which messages stay out of the archive (routing.md section
// 4); what matches none is archived by R-ARCH-1.
var archiveRules = [...]struct {
	rule Rule
	when func(f *Facts, d *Decision) bool
}{
	// IMNG-18, IMNG-19, X2-7, X2-22.
	{RArch1, func(_ *Facts, d *Decision) bool { return d.Intent != Conversation && d.Intent != Claim || d.Refused() }},
	// What is said in a room is the room's to archive; from one side's messages
	// nobody could read the conversation.
	{RConv7, func(f *Facts, _ *Decision) bool { return f.Message.Type == Groupchat && f.Side == Sending }},
	{RArch2, func(f *Facts, _ *Decision) bool {
		return f.Unarchived || f.Message.Marks.Any(NoStore|NoPermanentStore) || f.Message.Marks.Any(OnlyChatState)
	}},
}

// offlineRules say what becomes of a message that no session got (R-CONV-6,
// XEP-0160 3). A message that is neither kept nor archived is answered.
var offlineRules = [...]struct {
	rule  Rule
	keep  bool
	reply Reply
	when  func(f *Facts, d *Decision) bool
}{
	{RFeed3, false, Silence, func(_ *Facts, d *Decision) bool { return d.Intent == Feedback }},
	{RConv6, false, Silence, func(f *Facts, _ *Decision) bool {
		// A hint or a bare chat state asks that the message not outlive its
		// moment, and a headline is for who is there (XEP-0160 3).
		return f.Message.Marks.Any(NoStore|OnlyChatState) || f.Message.Type == Headline
	}},
	{RConv6, false, ServiceUnavailable, func(f *Facts, _ *Decision) bool { return f.OfflineFull }},
	{RConv6, true, Silence, func(_ *Facts, _ *Decision) bool { return true }},
}
