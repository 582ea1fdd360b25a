package route

import (
	"slices"
	"testing"
)

// TestOrder: the order of an account's sessions changes nothing, so that the
// space can be of sets.
func TestOrder(t *testing.T) {
	skipUnderRace(t)
	var a, b Decision
	orders := [][]int{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	n := 0
	for typ := Normal; typ <= Error; typ++ {
		for _, full := range []bool{false, true} {
			for _, marks := range []Marks{0, Body, Body | ForOne, Body | Private, Machine, Mine} {
				m := Message{Type: typ, Full: full, Marks: marks}
				if !m.possible() {
					continue
				}
				inputs(m, sets(3, 3), func(f *Facts, s *set, c circumstance) {
					if c != neither && c != unarchived|offlineFull && c != stranger && c != answersCopied {
						return
					}
					Decide(f, &a)
					for _, order := range orders {
						other := *f
						other.Sessions = nil
						for _, i := range order {
							other.Sessions = append(other.Sessions, f.Sessions[i])
						}
						other.Sender, other.Addressed = slices.Index(order, f.Sender), slices.Index(order, f.Addressed)
						Decide(&other, &b)
						for at, i := range order {
							if b.Lines[at] != a.Lines[i] {
								t.Fatalf("%+v: session %d gets %+v, in the order %v %+v", *f, i, a.Lines[i], order, b.Lines[at])
							}
						}
						if !sameAccount(&a, &b) {
							t.Fatalf("%+v: %+v, in the order %v %+v", *f, a, order, b)
						}
						n++
					}
				})
			}
		}
	}
	t.Logf("%d orders", n)
}

func sameAccount(a, b *Decision) bool {
	x, y := *a, *b
	x.Lines, y.Lines = nil, nil
	return x.Intent == y.Intent && x.IntentRule == y.IntentRule && x.Archive == y.Archive && x.ArchiveRule == y.ArchiveRule && x.Whose == y.Whose &&
		x.Offline == y.Offline && x.OfflineRule == y.OfflineRule && x.Reply == y.Reply && x.ReplyRule == y.ReplyRule
}

// TestTwins: marks that stand for each other in the space do so everywhere.
func TestTwins(t *testing.T) {
	skipUnderRace(t)
	var a, b Decision
	for typ := Normal; typ <= Error; typ++ {
		for _, full := range []bool{false, true} {
			for _, twin := range []struct{ one, other Marks }{
				{Body, Encrypted}, {Body, Body | Encrypted}, {Body, Body | InstantMessaging}, {Private, NoCopy}, {Private, Private | NoCopy},
				{0, Store}, {NoStore, NoStore | Store}, {NoStore, NoStore | NoPermanentStore},
			} {
				for _, with := range []Marks{0, Body, InstantMessaging, RoomUser, Invitation, Machine, ForOne, Private, NoStore} {
					m := Message{Type: typ, Full: full, Marks: twin.one | with}
					headline := typ == Headline && twin.other.Any(Encrypted|InstantMessaging) // which XEP-0280 6.1 copies for that alone
					if !m.possible() || with == Machine && twin.one == Body || headline {
						continue
					}
					inputs(m, sets(0, 2), func(f *Facts, s *set, c circumstance) {
						Decide(f, &a)
						f.Message.Marks = twin.other | with
						Decide(f, &b)
						f.Message.Marks = m.Marks
						if !slices.Equal(a.Lines, b.Lines) || !sameAccount(&a, &b) {
							t.Fatalf("%+v, with %b instead: %+v, not %+v", *f, twin.other, b, a)
						}
					})
				}
			}
		}
	}
}
