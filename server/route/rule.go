package route

import "iter"

// Rule names the reason for a line of a Decision. The ids are those of
// docs/routing.md; R-BLOCK and R-ACC stand for XEP-0191 and RFC 6121 8.5.1,
// R-DUP for a message that comes again after a lost connection, R-PUSH for who
// is woken by it (docs/push.md).
type Rule uint8

// The rules.
const (
	RuleNone Rule = iota
	RInt1
	RInt2
	RInt3
	RInt4
	RInt5
	RInt6
	RInt7
	RInt8
	RInt9
	RConv1
	RConv2
	RConv3
	RConv4
	RConv5
	RConv6
	RConv7
	RRefl1
	RRefl2
	RExcl1
	RExcl2
	RExcl3
	RFeed1
	RFeed2
	RFeed3
	RArch1
	RArch2
	RMine2
	RMine3
	RMine4
	RGW3
	RGW4
	RBlock1
	RBlock2
	RAcc1
	RDup1

	ruleNotForIt // the other side of R-CONV-2 and R-CONV-4
	ruleArchived // the positive reading of R-ARCH-1

	// Of DecidePush.
	RPush1
	RPush2
	RPush3
	RPush4
	RPush5
	RPush6
	RPush7
	RPush8
	RPush9
	RPush10
	RPush11
	RPush12
	ruleCount
)

// rules gives each rule its id and one plain sentence.
var rules = [ruleCount]struct{ id, says string }{
	RInt1:        {"R-INT-1", "a message of type error is feedback"},
	RInt2:        {"R-INT-2", "a message to a bare JID is for the person"},
	RInt3:        {"R-INT-3", "the sender marked it for one device (IM-NG)"},
	RInt4:        {"R-INT-4", "XMPP 2.0: what is sent to a full JID is for that device alone"},
	RInt5:        {"R-INT-5", "a groupchat message or headline to a full JID is for that device alone"},
	RInt6:        {"R-INT-6", "the sender asked that no copies be made"},
	RInt7:        {"R-INT-7", "a room's private message is for that device alone"},
	RInt8:        {"R-INT-8", "traffic between programs is for the addressed device alone"},
	RInt9:        {"R-INT-9", "any other message to a full JID is for the person"},
	RConv1:       {"R-CONV-1", "every device that enabled IM-NG gets conversation messages"},
	RConv2:       {"R-CONV-2", "every available device with a non-negative priority gets a message to the bare JID"},
	RConv3:       {"R-CONV-3", "the addressed device gets the message as it was addressed, devices with carbons a copy"},
	RConv4:       {"R-CONV-4", "a device with carbons that got nothing directly gets a copy"},
	RConv5:       {"R-CONV-5", "a note to oneself is received and reflected, and comes once"},
	RConv6:       {"R-CONV-6", "no device got it: kept for the next one that comes online, if it may be kept"},
	RConv7:       {"R-CONV-7", "a groupchat message is for a room; of an account's devices only those with IM-NG get it"},
	RRefl1:       {"R-REFL-1", "every device of the sender that enabled IM-NG gets the message as it was archived"},
	RRefl2:       {"R-REFL-2", "the sender's other devices with carbons get a copy, if the message is one to copy"},
	RExcl1:       {"R-EXCL-1", "the addressed device alone gets it"},
	RExcl2:       {"R-EXCL-2", "the addressed device is not there"},
	RExcl3:       {"R-EXCL-3", "a stranger learns nothing about single devices"},
	RFeed1:       {"R-FEED-1", "an error to a bare JID answers the server and is dropped"},
	RFeed2:       {"R-FEED-2", "an error that answers a message of one device is for that device alone"},
	RFeed3:       {"R-FEED-3", "an error goes to the addressed device and to those that enabled IM-NG"},
	RArch1:       {"R-ARCH-1", "only conversation messages and claims that are routed go into the archive"},
	RArch2:       {"R-ARCH-2", "a hint, a bare chat state or the user's preference keeps it out of the archive"},
	RMine2:       {"R-MINE-2", "a message from somebody else can be claimed by one device"},
	RMine3:       {"R-MINE-3", "only the server asks who takes a message, and only the own devices may take it"},
	RMine4:       {"R-MINE-4", "a claim, well-formed and to the own account, goes to every device that can have the message"},
	RGW3:         {"R-GW-3", "it was sent by the rules of XMPP 1.0, and says so to a device of 2.0"},
	RGW4:         {"R-GW-4", "a message for one device alone says so to a device with IM-NG"},
	RBlock1:      {"R-BLOCK-1", "the sender has blocked the recipient (XEP-0191)"},
	RBlock2:      {"R-BLOCK-2", "the recipient has blocked the sender (XEP-0191)"},
	RAcc1:        {"R-ACC-1", "there is no such account (RFC 6121 8.5.1)"},
	RDup1:        {"R-DUP-1", "it is in the archive already: the client sent it again after it lost its connection"},
	ruleNotForIt: {"R-CONV-2", "the device is not available, has a negative priority, or takes no copies"},
	ruleArchived: {"R-ARCH-1", "a conversation message or claim goes into the archive of every local party"},
	RPush1:       {"R-PUSH-1", "nobody is told of what he said himself, on whatever device"},
	RPush2:       {"R-PUSH-2", "the device would find nothing: the message stops here, or is kept nowhere"},
	RPush3:       {"R-PUSH-3", "only a text, an encrypted one, an invitation or a call is worth waking a device"},
	RPush4:       {"R-PUSH-4", "the person wants no notifications of this conversation (XEP-0492)"},
	RPush5:       {"R-PUSH-5", "the device has a live stream and gets the message there"},
	RPush6:       {"R-PUSH-6", "another device has claimed the message, displayed it or answered it"},
	RPush7:       {"R-PUSH-7", "the push service is switched off, because it refused what it was sent"},
	RPush8:       {"R-PUSH-8", "the push service has yet to answer, or is left alone for a while after an error"},
	RPush9:       {"R-PUSH-9", "a call waits for nobody"},
	RPush10:      {"R-PUSH-10", "another device is in use: it has a moment to show the message first"},
	RPush11:      {"R-PUSH-11", "another device is in use, and nobody has seen the message there in time"},
	RPush12:      {"R-PUSH-12", "the device has no live stream, and no other device is in use"},
}

// String is the rule's id, such as R-CONV-3.
func (r Rule) String() string { return rules[r].id }

// Says is the rule in one plain sentence, for explain.
func (r Rule) Says() string { return rules[r].says }

// Rules are all rules that a Decision can name.
func Rules() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		for r := RuleNone + 1; r < ruleNotForIt; r++ {
			if !yield(r) {
				return
			}
		}
	}
}

// PushRules are all rules that a PushDecision can name.
func PushRules() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		for r := RPush1; r <= RPush12; r++ {
			if !yield(r) {
				return
			}
		}
	}
}
