package route

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file anew")

// space yields every input of the model: types, addresses, marks, sides,
// sets of up to three sessions with their presence, and what the account
// knows of the other side. f and d are reused.
func space(yield func(f *Facts, d *Decision)) {
	sessions := []Session{}
	for _, p := range []Profile{Classic, Carbons} {
		sessions = append(sessions, Session{Profile: p}, Session{Profile: p, Available: true, Priority: 1}, Session{Profile: p, Available: true, Priority: -1})
	}
	sets := [][]Session{{}}
	for start, n := 0, 0; n < 3; n++ {
		end := len(sets)
		for _, set := range sets[start:end] {
			for _, s := range sessions {
				sets = append(sets, append(slices.Clone(set), s))
			}
		}
		start = end
	}
	var d Decision
	for _, m := range messages() {
		for _, set := range sets {
			for side := Receiving; side <= Own; side++ {
				for _, who := range places(m, side, len(set)) {
					for flags := range 1 << 5 {
						f := Facts{Message: m, Side: side, Sessions: set, Sender: who[0], Addressed: who[1],
							Unknown: flags&1 != 0, Blocked: flags&2 != 0, Stranger: flags&4 != 0, Unarchived: flags&8 != 0, OfflineFull: flags&16 != 0}
						// What can't be: an unknown account has no sessions, and
						// only the receiving side knows strangers.
						if f.Unknown && (side != Receiving || len(set) > 0 || f.Blocked || f.Stranger || f.Unarchived || f.OfflineFull) ||
							f.Stranger && side != Receiving || f.Blocked && side == Own || f.OfflineFull && side == Sending {
							continue
						}
						Decide(&f, &d)
						yield(&f, &d)
					}
				}
			}
		}
	}
}

// marks are the combinations of marks that rules tell apart.
var marks = []Marks{0, Body, Body | Private, Body | NoCopy, Body | NoStore, Body | NoPermanentStore, Body | RoomUser, Body | RoomUser | Invitation,
	Invitation, Encrypted, InstantMessaging, InstantMessaging | OnlyChatState, Machine, Machine | NoStore, Body | Private | NoStore}

func messages() (list []Message) {
	for t := Normal; t <= Error; t++ {
		for _, full := range []bool{false, true} {
			for _, m := range marks {
				list = append(list, Message{Type: t, Full: full, Marks: m})
			}
		}
	}
	return list
}

// places are who can have sent the message and who can be addressed.
func places(m Message, side Side, n int) (list [][2]int) {
	senders, addressed := []int{-1}, []int{-1}
	if side != Receiving {
		senders = nil
		for i := range n {
			senders = append(senders, i)
		}
	}
	if m.Full && side != Sending {
		for i := range n {
			addressed = append(addressed, i)
		}
	}
	for _, s := range senders {
		for _, a := range addressed {
			list = append(list, [2]int{s, a})
		}
	}
	return list
}

// TestProperties are routing.md section 8, as far as this side of it goes, for
// every input.
func TestProperties(t *testing.T) {
	reached := map[Rule]bool{}
	n := 0
	space(func(f *Facts, d *Decision) {
		n++
		if bad := violated(f, d); bad != "" {
			t.Fatalf("%s:\n%+v\n%+v", bad, *f, *d)
		}
		reached[d.IntentRule], reached[d.ArchiveRule], reached[d.OfflineRule], reached[d.ReplyRule] = true, true, true, true
		for _, l := range d.Lines {
			reached[l.Rule] = true
		}
	})
	for r := RuleNone; r < ruleCount; r++ {
		if !reached[r] && !slices.Contains([]Rule{RInt3, RInt4, RConv1, RConv5, RRefl1, RFeed2, RMine2, RMine3, RMine4, RGW3, RGW4, RDup1}, r) {
			t.Errorf("no input reaches %v", r)
		}
		if r != RuleNone && (r.String() == "" || r.Says() == "") {
			t.Errorf("rule %d has no name or no sentence", r)
		}
	}
	t.Logf("%d inputs", n)
}

// violated names the property that a decision breaks.
func violated(f *Facts, d *Decision) string {
	delivered := d.Delivered()
	switch {
	case len(d.Lines) != len(f.Sessions):
		return "not one line per session" // which is also: nobody has two forms
	case d.IntentRule == RuleNone || d.ArchiveRule == RuleNone:
		return "a line without a rule"
	case d.Intent == Exclusive && (d.Archive || d.Offline):
		return "an exclusive message is kept"
	case d.Intent == Feedback && (d.Archive || d.Offline):
		return "an error is kept"
	case d.Refused() && (delivered || d.Archive || d.Offline) && !(d.OfflineRule != RuleNone && !d.Offline):
		return "a refused message goes on"
	case d.Refused() && (delivered || d.Archive || d.Offline):
		return "a message that can't be kept goes on"
	case d.Reply != Silence && d.ReplyRule == RuleNone:
		return "an answer without a rule"
	case d.Reply != Silence && f.Message.Type == Error:
		return "an error is answered"
	case f.Side == Sending && (d.Offline || d.Reply == ServiceUnavailable):
		return "the sender's side decides for the recipient"
	case (d.Offline || d.OfflineRule != RuleNone) && delivered:
		return "kept although somebody has it"
	case f.Unarchived && d.Archive || f.Message.Marks.Any(NoStore|NoPermanentStore) && d.Archive:
		return "archived against the wish"
	}
	exclusive := 0
	for i, l := range d.Lines {
		if l.Rule == RuleNone {
			return "a line without a rule"
		}
		if l.Form != Nothing {
			exclusive++
			if d.Intent == Exclusive && f.Side != Sending && i != f.Addressed {
				return "an exclusive message goes to another"
			}
		}
		if i == f.Sender && f.Side == Sending && l.Form != Nothing {
			return "the sending session gets its message back"
		}
		if l.Form == CarbonSent && f.Side == Receiving || l.Form == CarbonReceived && f.Side == Sending || l.Form == Direct && f.Side == Sending {
			return "a form of the other side"
		}
		if (l.Form == CarbonSent || l.Form == CarbonReceived) && f.Sessions[i].Profile != Carbons {
			return "a carbon for who asked for none"
		}
	}
	if d.Intent == Exclusive && f.Side != Sending && exclusive > 1 {
		return "an exclusive message goes to several"
	}
	if d.Intent == Conversation && f.Side != Sending && !d.Refused() && !delivered {
		if f.Addressed >= 0 {
			return "the addressed session gets nothing"
		}
		for _, s := range f.Sessions {
			if s.Available && s.Priority >= 0 {
				return "nobody gets it though a session could"
			}
		}
	}
	return ""
}

// TestMessageDeliveryRules is table 1 of RFC 6121 8.5.4 for accounts whose
// sessions are all classic. Where the RFC leaves a choice, the choice made is
// behind the slash; where routing.md decides otherwise, behind the arrow: a
// normal message to a full JID that isn't there goes as to the bare JID, as
// chat messages do (R-CONV-3), and machine traffic is answered.
func TestMessageDeliveryRules(t *testing.T) {
	// O offline, E error, S silence, D to the addressed session, A to all that
	// are available and not negative.
	const table = `
	account                to        normal chat groupchat headline
	none                   bare      E      E    E         S
	none                   full      E      E    E         S
	no sessions            bare      O      O    E         S
	no sessions            no-match  O      O    E         S
	negative               bare      O      O    E         S
	negative               match     D      D    D         D
	negative               no-match  O      O    E         S
	one                    bare      A      A    E         A
	one                    match     D      D    D         D
	one                    no-match  A      A    E         S
	several                bare      A      A    E         A
	several                match     D      D    D         D
	several                no-match  A      A    E         S`
	up, down := Session{Available: true, Priority: 3}, Session{Available: true, Priority: -3}
	accounts := map[string][]Session{"none": nil, "no sessions": nil, "negative": {down, down}, "one": {up, down}, "several": {up, {}, up, down}}
	rows := strings.Split(strings.TrimSpace(table), "\n")
	for _, row := range rows[1:] {
		cells := strings.Fields(row)
		account := cells[0]
		if cells[0] == "no" {
			account, cells = "no sessions", cells[1:]
		}
		sessions := accounts[account]
		for i, typ := range []Type{Normal, Chat, Groupchat, Headline} {
			want := cells[2+i]
			f := Facts{Message: Message{Type: typ, Full: cells[1] != "bare", Marks: Body}, Sessions: sessions, Sender: -1, Addressed: -1, Unknown: account == "none"}
			if cells[1] == "match" {
				f.Addressed = len(sessions) - 1
			}
			var d Decision
			Decide(&f, &d)
			if got := outcome(&f, &d); got != want {
				t.Errorf("%s, %s, %v: %s, want %s", account, cells[1], typ, got, want)
			}
		}
	}
}

// outcome is a decision in the RFC's letters.
func outcome(f *Facts, d *Decision) string {
	var who []int
	all := true
	for i, l := range d.Lines {
		if l.Form == Direct {
			who = append(who, i)
		}
		if (l.Form == Direct) != (f.Sessions[i].Available && f.Sessions[i].Priority >= 0) {
			all = false
		}
	}
	switch {
	case len(who) == 1 && who[0] == f.Addressed:
		return "D"
	case len(who) > 0 && all:
		return "A"
	case len(who) > 0:
		return fmt.Sprint(who)
	case d.Offline:
		return "O"
	case d.Reply == ServiceUnavailable:
		return "E"
	}
	return "S"
}

// TestTruth compares the distinct outcomes of all inputs, condensed, with the
// golden file: a change of a rule shows as a change of lines there.
func TestTruth(t *testing.T) {
	sessions, accounts := map[string]bool{}, map[string]bool{}
	space(func(f *Facts, d *Decision) {
		if len(f.Sessions) > 2 {
			return // three add nothing that two don't show
		}
		what := fmt.Sprintf("%s | %-9v to %-10s | %-12v %-7v", [...]string{"in ", "out", "own"}[f.Side], f.Message.Type, address(f), d.Intent, d.IntentRule)
		accounts[what+" | "+kept(d)] = true
		if d.Refused() {
			return
		}
		for i, l := range d.Lines {
			sessions[fmt.Sprintf("%s | %-16s | %v (%v)", what, kind(f, i), l.Form, l.Rule)] = true
		}
	})
	var b strings.Builder
	b.WriteString("# What happens to a message on one account's side, distinct outcomes of all inputs.\n")
	b.WriteString("\n# side | type and address | meant for, because | session | gets\n")
	section(&b, sessions)
	b.WriteString("\n# side | type and address | meant for, because | archive | offline store, or what becomes of it\n")
	section(&b, accounts)
	const golden = "testdata/truth.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the outcomes are not those of %s; look at the difference after go test -run TestTruth -update", golden)
	}
}

func section(b *strings.Builder, lines map[string]bool) {
	for _, l := range slices.Sorted(maps.Keys(lines)) {
		b.WriteString(strings.TrimRight(l, " ") + "\n")
	}
}

func address(f *Facts) string {
	switch {
	case !f.Message.Full:
		return "bare"
	case f.Side == Sending:
		return "full"
	case f.Addressed >= 0:
		return "full, here"
	}
	return "full, gone"
}

func kind(f *Facts, i int) string {
	s := f.Sessions[i]
	switch {
	case i == f.Addressed:
		return "the addressed"
	case i == f.Sender && f.Side == Sending:
		return "the sending"
	case !s.Available:
		return s.Profile.String() + ", away"
	case s.Priority < 0:
		return s.Profile.String() + ", negative"
	}
	return s.Profile.String()
}

func kept(d *Decision) string {
	archive := "no"
	if d.Archive {
		archive = "yes"
	}
	rest := ""
	switch {
	case d.Refused():
		rest = fmt.Sprintf("%s (%v)", [...]string{"dropped", "service-unavailable", "not-acceptable"}[d.Reply], d.ReplyRule)
	case d.Offline:
		rest = fmt.Sprintf("kept offline (%v)", d.OfflineRule)
	case d.OfflineRule != RuleNone && d.Archive:
		rest = fmt.Sprintf("in the archive alone (%v)", d.OfflineRule)
	case d.OfflineRule != RuleNone:
		rest = fmt.Sprintf("dropped (%v)", d.OfflineRule)
	}
	return fmt.Sprintf("%-3s (%v) | %s", archive, d.ArchiveRule, rest)
}

func BenchmarkDecide(b *testing.B) {
	f := Facts{Message: Message{Type: Chat, Marks: Body}, Sender: -1, Addressed: -1, Sessions: []Session{
		{Profile: Carbons, Available: true}, {Profile: Carbons}, {Available: true, Priority: 1}, {Available: true, Priority: -1}}}
	d := Decision{Lines: make([]Line, 0, 4)}
	b.ReportAllocs()
	for b.Loop() {
		Decide(&f, &d)
	}
}
