package route

// The tables. Each row is a rule with the predicate under which it holds; in
// each table the first match wins. Predicates read facts and nothing else.

// intentRules is routing.md section 2. Rules for markers of XEP-0409, XEP-0259
// and XMPP 2.0 are rows of this table.
var intentRules = [...]struct {
	rule   Rule
	intent Intent
	when   func(*Message) bool
}{
	{RInt1, Feedback, func(m *Message) bool { return m.Type == Error }},
	{RInt2, Conversation, func(m *Message) bool { return !m.Full }},
	{RInt5, Exclusive, func(m *Message) bool { return m.Type == Groupchat || m.Type == Headline }},
	{RInt6, Exclusive, func(m *Message) bool { return m.Marks.Any(Private | NoCopy) }},
	{RInt7, Exclusive, func(m *Message) bool { return m.Marks.Any(RoomUser) && !m.Marks.Any(Invitation) }},
	{RInt8, Exclusive, func(m *Message) bool { return m.Type == Normal && m.Marks.Any(Machine) }},
	{RInt9, Conversation, func(*Message) bool { return true }},
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
	{RBlock2, Silence, func(f *Facts, _ Intent) bool { return f.blockedIn() && f.Message.Type == Headline }},
	{RBlock2, ServiceUnavailable, func(f *Facts, _ Intent) bool { return f.blockedIn() }},
	{RAcc1, Silence, func(f *Facts, _ Intent) bool { return f.Unknown && f.Message.Type == Headline }},
	{RAcc1, ServiceUnavailable, func(f *Facts, _ Intent) bool { return f.Unknown }},
	{RFeed1, Silence, func(f *Facts, i Intent) bool { return i == Feedback && !f.Message.Full && f.Side != Sending }},
	{RConv7, ServiceUnavailable, func(f *Facts, i Intent) bool {
		return i == Conversation && f.Message.Type == Groupchat && f.Side != Sending
	}},
	{RExcl3, ServiceUnavailable, func(f *Facts, i Intent) bool {
		return i == Exclusive && f.Stranger && (f.Message.Type == Chat || f.Message.Type == Normal)
	}},
	{RExcl2, Silence, func(f *Facts, i Intent) bool {
		return i == Exclusive && f.Side != Sending && f.Addressed < 0 && f.Message.Type == Headline
	}},
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
	{RExcl1, Exclusive, receiving, Direct, (*Facts).isAddressed},
	{RExcl1, Exclusive, onlyReceiving, Nothing, anyOther},
	{RFeed3, Feedback, receiving, Direct, (*Facts).isAddressed},
	{RFeed3, Feedback, receiving, Nothing, anyOther},
	{RConv3, Conversation, receiving, Direct, (*Facts).isAddressed},
	{RConv2, Conversation, receiving, Direct, func(f *Facts, i int) bool {
		s := &f.Sessions[i]
		return f.Addressed < 0 && s.Available && s.Priority >= 0 && s.Profile <= Carbons
	}},
	{RConv3, Conversation, receiving, CarbonReceived, func(f *Facts, i int) bool {
		return f.Addressed >= 0 && f.copies(i)
	}},
	{RConv4, Conversation, receiving, CarbonReceived, (*Facts).copies},
	{RRefl2, Conversation, sending, CarbonSent, (*Facts).copies},
	{RRefl2, Exclusive, sending, CarbonSent, func(f *Facts, i int) bool {
		// XEP-0280 6.1: a private message to a room's occupant is copied to
		// the sender's other devices, although its recipient is one resource.
		return f.Side == Sending && f.Message.Marks.Any(RoomUser) && f.copies(i)
	}},
	{RExcl1, Exclusive, sending, Nothing, anyOther},
	{RRefl2, Conversation, onlySending, Nothing, anyOther},
	{RFeed3, Feedback, onlySending, Nothing, anyOther},
}

// anyOther: the rows above have said who gets something.
func anyOther(*Facts, int) bool { return true }

// blockedIn: the account doesn't want messages from the sender.
func (f *Facts) blockedIn() bool { return f.Blocked && f.Side == Receiving }

// isAddressed: session i bears the resource that the message is addressed to.
func (f *Facts) isAddressed(i int) bool { return f.Addressed == i }

// copies: session i takes carbons, didn't send the message itself, and
// XEP-0280 6.1 finds the message eligible.
func (f *Facts) copies(i int) bool {
	return f.Sessions[i].Profile == Carbons && i != f.Sender && f.Message.eligible()
}

// eligible is XEP-0280 6.1.
func (m *Message) eligible() bool {
	switch {
	case m.Marks.Any(Private | NoCopy):
		return false
	case m.Type == Groupchat || m.Type == Headline || m.Type == Error:
		return false
	case m.Type == Chat:
		return true
	}
	return m.Marks.Any(Body | Encrypted | InstantMessaging | Invitation)
}

// archiveRules say which messages stay out of the archive (routing.md section
// 4); what matches none is archived by R-ARCH-1.
var archiveRules = [...]struct {
	rule Rule
	when func(f *Facts, d *Decision) bool
}{
	{RArch1, func(_ *Facts, d *Decision) bool { return d.Intent != Conversation || d.Refused() }},
	// What is said in a room is the room's to archive; from one side's messages
	// nobody could read the conversation.
	{RConv7, func(f *Facts, _ *Decision) bool { return f.Message.Type == Groupchat }},
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
