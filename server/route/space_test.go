package route

import (
	"slices"
	"testing"
)

// The space of all inputs, without what can't be. It is walked in two passes
// (TestSpace): every message with sets of up to two sessions, then, with sets
// of three and four, the messages that the first pass told apart.

// kind is an index into kinds.
type kind uint8

// kinds are the sessions that rules can tell apart: profiles and presence.
var kinds = func() (list [12]Session) {
	for p := Classic; p <= V2; p++ {
		list[3*p] = Session{Profile: p}
		list[3*p+1] = Session{Profile: p, Available: true, Priority: 1}
		list[3*p+2] = Session{Profile: p, Available: true, Priority: -1}
	}
	return list
}()

func (k kind) String() string {
	return kinds[k].Profile.String() + [...]string{" away", "+", "-"}[k%3]
}

// set is a multiset of sessions: the order of an account's sessions doesn't
// matter (TestOrder).
type set struct {
	kinds    []kind // ascending
	sessions []Session
	modern   bool
	nobody   []place // no session is addressed, none has sent the message
	one      []place // one session is addressed
	sender   []place // one session has sent the message
	both     []place // one has sent it, one is addressed; they may be the same
}

// place says which sessions have sent a message and are addressed by it.
type place struct{ sender, addressed int }

// sets are the sets of from to to sessions.
func sets(from, to int) (list []*set) {
	var grow func(ks []kind)
	grow = func(ks []kind) {
		if len(ks) >= from {
			list = append(list, newSet(ks))
		}
		if len(ks) == to {
			return
		}
		first := kind(0)
		if len(ks) > 0 {
			first = ks[len(ks)-1]
		}
		for k := first; int(k) < len(kinds); k++ {
			grow(append(slices.Clone(ks), k))
		}
	}
	grow(nil)
	return list
}

func newSet(ks []kind) *set {
	s := &set{kinds: ks, nobody: []place{{-1, -1}}}
	for _, k := range ks {
		s.sessions = append(s.sessions, kinds[k])
		s.modern = s.modern || kinds[k].Profile.Modern()
	}
	for i, k := range ks {
		if i > 0 && ks[i-1] == k {
			continue // one of a kind is like the other
		}
		s.one = append(s.one, place{-1, i})
		s.sender = append(s.sender, place{i, -1})
		s.both = append(s.both, place{i, i})
		for j, other := range ks {
			if j != i && (j == 0 || ks[j-1] != other || j-1 == i) {
				s.both = append(s.both, place{i, j})
			}
		}
	}
	return s
}

// places are the roles that sessions can have with a message.
func (s *set) places(m *Message, side Side) [][]place {
	switch {
	case side == Receiving && m.Full:
		return [][]place{s.nobody, s.one}
	case side == Receiving:
		return [][]place{s.nobody}
	case side == Own && m.Full:
		return [][]place{s.sender, s.both}
	}
	return [][]place{s.sender}
}

// circumstance is what the account knows besides its sessions, as bits.
type circumstance uint8

// The relation to the other side is a number in the lowest bits.
const (
	neither circumstance = iota // sees no presence, but is no stranger: R-EXCL-3 is off, or by directed presence
	known
	stranger
	blocked
	unknown
	relation circumstance = 7

	unarchived circumstance = 1 << (iota - 3)
	offlineFull
	answersOne
	answersCopied
	again
)

// put writes the circumstance into f.
func (c circumstance) put(f *Facts) {
	f.Known, f.Stranger, f.Blocked, f.Unknown = c&relation == known, c&relation == stranger, c&relation == blocked, c&relation == unknown
	f.Unarchived, f.OfflineFull = c&unarchived != 0, c&offlineFull != 0
	f.AnswersOne, f.AnswersCopied, f.Again = c&answersOne != 0, c&answersCopied != 0, c&again != 0
}

// possible says whether the circumstance can be on this side of such a message.
func (c circumstance) possible(t Type, side Side) bool {
	r := c & relation
	switch {
	case r > unknown,
		r == unknown && c != unknown, // who isn't there prefers nothing
		side == Sending && r != neither && r != blocked,
		side == Own && r != neither,
		side == Sending && c&(offlineFull|answersOne|answersCopied) != 0,
		t != Error && c&(answersOne|answersCopied) != 0,
		c&again != 0 && (side == Receiving || t == Error):
		return false
	}
	return true
}

// circumstances are the possible ones, by type and side.
var circumstances = func() (list [Error + 1][Own + 1][]circumstance) {
	for t := Normal; t <= Error; t++ {
		for side := Receiving; side <= Own; side++ {
			for c := range 256 {
				if c := circumstance(c); c.possible(t, side) {
					list[t][side] = append(list[t][side], c)
				}
			}
		}
	}
	return list
}()

// messages are all messages of a type, to bare or full JIDs, with every
// combination of marks that Enter lets through and a rule reads. Marks that
// always stand for each other are there once (TestTwins).
func messages(t Type, full bool) (list []Message) {
	contents := []Marks{0, Body, InstantMessaging, InstantMessaging | OnlyChatState, Machine}
	rooms := []Marks{0, RoomUser, RoomUser | Invitation, Invitation}
	mines := []Marks{0, Whose, Mine, Mine | BadClaim, Whose | Mine | BadClaim}
	for _, hint := range []Marks{0, NoStore, NoPermanentStore} {
		for _, private := range []Marks{0, Private} {
			for _, one := range []Marks{0, ForOne} {
				for _, modern := range []Marks{0, Modern} {
					for _, content := range contents {
						for _, room := range rooms {
							for _, mine := range mines {
								m := Message{Type: t, Full: full, Marks: hint | private | one | modern | content | room | mine}
								if m.possible() {
									list = append(list, m)
								}
							}
						}
					}
				}
			}
		}
	}
	return list
}

// possible: Enter and Inspect make such messages.
func (m *Message) possible() bool {
	switch {
	case m.Marks.Any(OnlyChatState|Machine) && m.Marks.Any(RoomUser|Invitation|Whose|Mine), // nothing else is in it
		m.Marks.Any(ForOne) && !m.Full,
		m.Marks.Any(Whose|Mine) && m.Type == Error,
		m.Marks.Any(Mine) && !m.Marks.Any(BadClaim) && (m.Marks.Any(Body) || m.Type == Groupchat):
		return false
	}
	return true
}

// inputs yields everything that can be with one message and one of the sets;
// f is reused.
func inputs(m Message, sets []*set, yield func(f *Facts, s *set, c circumstance)) {
	f := Facts{Message: m}
	for side := Receiving; side <= Own; side++ {
		f.Side = side
		for _, s := range sets {
			f.Sessions = s.sessions
			for _, places := range s.places(&m, side) {
				for _, p := range places {
					if p.sender >= 0 && (kinds[s.kinds[p.sender]].Profile == V2) != m.Marks.Any(Modern) {
						continue // what one's own session sends is of 2.0 if the session is
					}
					f.Sender, f.Addressed = p.sender, p.addressed
					for _, c := range circumstances[m.Type][side] {
						if c&relation == unknown && len(s.kinds) > 0 {
							continue
						}
						c.put(&f)
						yield(&f, s, c)
					}
				}
			}
		}
	}
}

// skipUnderRace skips an enumeration under the race detector, which would take
// minutes: its goroutines share nothing but a sum.
func skipUnderRace(t *testing.T) {
	if raceDetector {
		t.Skip("an enumeration of pure functions")
	}
}
