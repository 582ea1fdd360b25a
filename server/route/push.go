package route

// Push notifications (XEP-0357): whether a device of the recipient's is woken
// for a message. Who gets the message Decide has said before; DecidePush reads
// that answer and what is known of the device. It is asked again whenever
// something has changed for a message that was held back.

// PushFacts is all that DecidePush reads of one message and one device that has
// named a push service.
type PushFacts struct {
	Message Message
	Intent  Intent // as Decide has it
	Own     bool   // the account itself sent it, or a room says again what it sent
	Refused bool   // by Decide
	Found   bool   // the device will find it: it is archived, kept, or in the device's own queue
	Muted   bool   // the person wants no notifications of the conversation (XEP-0492)
	Live    bool   // the device has a stream; one that waits to be resumed is none
	Seen    bool   // another device has claimed, displayed or answered it
	Off     bool   // the push service is switched off
	Busy    bool   // the push service has yet to answer, or is left alone for a while
	Active  bool   // another device of the account is in use
	Waited  bool   // the time for which a push is held back is over
}

// PushVerdict is what happens to one device.
type PushVerdict uint8

// The verdicts.
const (
	NoPush   PushVerdict = iota // nothing, now or later
	PushHeld                    // to be asked again
	PushNow
)

// String is the verdict's name in JSON.
func (v PushVerdict) String() string { return [...]string{"nothing", "held", "pushed"}[v] }

// PushDecision is the verdict with its reason.
type PushDecision struct {
	Verdict PushVerdict
	Rule    Rule
}

// pushRules: the first match wins, as in every table.
var pushRules = [...]struct {
	rule    Rule
	verdict PushVerdict
	when    func(*PushFacts) bool
}{
	{RPush1, NoPush, func(f *PushFacts) bool { return f.Own }},
	{RPush2, NoPush, func(f *PushFacts) bool { return f.Refused || !f.Found }},
	{RPush3, NoPush, func(f *PushFacts) bool { return !f.matters() }},
	{RPush4, NoPush, func(f *PushFacts) bool { return f.Muted }},
	{RPush5, NoPush, func(f *PushFacts) bool { return f.Live }},
	{RPush6, NoPush, func(f *PushFacts) bool { return f.Seen }},
	{RPush7, NoPush, func(f *PushFacts) bool { return f.Off }},
	{RPush8, PushHeld, func(f *PushFacts) bool { return f.Busy }},
	{RPush9, PushNow, func(f *PushFacts) bool { return f.Message.Marks.Any(Call) }},
	{RPush10, PushHeld, func(f *PushFacts) bool { return f.Active && !f.Waited }},
	{RPush11, PushNow, func(f *PushFacts) bool { return f.Active }},
	{RPush12, PushNow, func(*PushFacts) bool { return true }},
}

// DecidePush answers f. It reads nothing else; anyone may call it concurrently.
func DecidePush(f *PushFacts) PushDecision {
	for i := range pushRules {
		if r := &pushRules[i]; r.when(f) {
			return PushDecision{r.verdict, r.rule}
		}
	}
	return PushDecision{}
}

// Noticed reports whether a message is worth waking a device at all: it says
// something to the person. A receipt, a marker or a chat state alone doesn't.
func (m *Message) Noticed() bool {
	return m.Type != Error && m.Type != Headline && m.Marks.Any(Body|Encrypted|Invitation|Call)
}

func (f *PushFacts) matters() bool {
	return (f.Intent == Conversation || f.Intent == Exclusive) && f.Message.Noticed()
}
