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

var update = flag.Bool("update", false, "write testdata/truth.golden and docs/routing-table.md")

// truth is the distinct outcomes of the space, and of the inputs that have one
// what they share.
type truth map[outcome]*seen

// outcome is what a session, or an account, gets of a message. Types and
// sessions that behave alike are put together when it is printed.
type outcome struct {
	side   Side
	where  uint8 // index of addresses
	typ    Type
	reason Rule // the intent's
	who    uint8
	gets   [4]uint8 // Line, or the account's part
}

// accountWho is outcome.who of an account; below are the sessions, by role and
// kind.
const accountWho = 0xff

// seen is of all inputs with an outcome.
type seen struct {
	n       int
	every   uint64 // conditions that are there in all of them
	several uint64 // in some of them
}

func (t truth) add(o truth) {
	for k, v := range o {
		if was := t[k]; was != nil {
			was.n, was.every, was.several = was.n+v.n, was.every&v.every, was.several|v.several
		} else {
			t[k] = v
		}
	}
}

type condition struct {
	name string
	in   func(f *Facts, s *set) bool
}

// conditions are what an input has that may decide. The first are marks.
var conditions = [...]condition{
	{"body", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Body) }},
	{"im", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(InstantMessaging) }},
	{"chat-state", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(OnlyChatState) }},
	{"machine", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Machine) }},
	{"private", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Private) }},
	{"no-store", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(NoStore) }},
	{"no-permanent-store", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(NoPermanentStore) }},
	{"muc#user", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(RoomUser) }},
	{"invitation", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Invitation) }},
	{"im-ng", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(ForOne) }},
	{"2.0", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Modern) }},
	{"whose/mine", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Whose | Mine) }},
	{"whose", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Whose) }},
	{"mine", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(Mine) }},
	{"bad-claim", func(f *Facts, _ *set) bool { return f.Message.Marks.Any(BadClaim) }},
	{"known", func(f *Facts, _ *set) bool { return f.Known }},
	{"stranger", func(f *Facts, _ *set) bool { return f.Stranger }},
	{"blocked", func(f *Facts, _ *set) bool { return f.Blocked }},
	{"unknown", func(f *Facts, _ *set) bool { return f.Unknown }},
	{"never-archive", func(f *Facts, _ *set) bool { return f.Unarchived }},
	{"offline-full", func(f *Facts, _ *set) bool { return f.OfflineFull }},
	{"answers-one", func(f *Facts, _ *set) bool { return f.AnswersOne }},
	{"answers-copied", func(f *Facts, _ *set) bool { return f.AnswersCopied }},
	{"again", func(f *Facts, _ *set) bool { return f.Again }},
	{"ng/v2-there", func(_ *Facts, s *set) bool { return s.modern }},
}

func conditionsOf(f *Facts, s *set) (c uint64) {
	for i := range conditions {
		if conditions[i].in(f, s) {
			c |= 1 << i
		}
	}
	return c
}

var addresses = [...]string{"bare", "full", "full, here", "full, gone"}

func placeOf(f *Facts) uint8 {
	switch {
	case !f.Message.Full:
		return 0
	case f.Side == Sending:
		return 1
	case f.Addressed >= 0:
		return 2
	}
	return 3
}

// note records an input's outcomes.
func (t truth) note(f *Facts, d *Decision, s *set) {
	o := outcome{side: f.Side, where: placeOf(f), typ: f.Message.Type, reason: d.IntentRule}
	c := conditionsOf(f, s)
	t.count(accountOutcome(o, d), c)
	if d.Refused() {
		return // nobody gets anything
	}
	for i, l := range d.Lines {
		o.who = uint8(s.kinds[i])
		if i == f.Addressed {
			o.who += 16
		}
		if i == f.Sender {
			o.who += 32
		}
		o.gets = [4]uint8{uint8(l.Form), uint8(l.Tag), uint8(l.Rule)}
		t.count(o, c)
	}
}

func (t truth) count(o outcome, c uint64) {
	e := t[o]
	if e == nil {
		e = &seen{every: ^uint64(0)}
		t[o] = e
	}
	e.n++
	e.every &= c
	e.several |= c
}

func accountOutcome(o outcome, d *Decision) outcome {
	o.who = accountWho
	o.gets[0] = uint8(d.ArchiveRule)
	if d.Whose {
		o.gets[1] |= 1
	}
	if d.Offline {
		o.gets[1] |= 2
	}
	if d.Archive {
		o.gets[1] |= 4
	}
	o.gets[2] = uint8(d.Reply)
	o.gets[3] = uint8(d.ReplyRule)
	if !d.Refused() {
		o.gets[3] = uint8(d.OfflineRule)
	}
	return o
}

func (o *outcome) String() string {
	rule := Rule(o.gets[3])
	if o.who != accountWho {
		rule = Rule(o.gets[2])
		form := Form(o.gets[0]).String()
		if tag := Tag(o.gets[1]); tag != NoTag {
			form += " + " + tag.String()
		}
		return fmt.Sprintf("%s (%v)", form, rule)
	}
	what := "not archived"
	if o.gets[1]&4 != 0 {
		what = "archived"
	}
	what += fmt.Sprintf(" (%v)", Rule(o.gets[0]))
	if o.gets[1]&1 != 0 {
		what += ", whose"
	}
	switch {
	case Reply(o.gets[2]) != Silence:
		what += fmt.Sprintf(", %s (%v)", [...]string{"", "service-unavailable", "not-acceptable", "bad-request"}[o.gets[2]], rule)
	case o.gets[1]&2 != 0:
		what += fmt.Sprintf(", kept offline (%v)", rule)
	case rule != RuleNone && o.gets[1]&4 == 0:
		what += fmt.Sprintf(", dropped (%v)", rule)
	case rule != RuleNone:
		what += fmt.Sprintf(", nobody there (%v)", rule)
	}
	return what
}

// whoName is the session's name in the golden file.
func whoName(who uint8) string {
	if who == accountWho {
		return "account"
	}
	name := kind(who & 15).String()
	switch who >> 4 {
	case 1:
		return "addressed " + name
	case 2:
		return "sending " + name
	case 3:
		return "sending=addressed " + name
	}
	return name
}

// row is a line of the golden file in the making.
type row struct {
	side   Side
	typ    string
	where  string
	reason Rule
	who    string
	gets   string
	when   string
}

// rows condenses: of each outcome the conditions that tell it from the others
// in its place, then what differs in nothing else but session, type, or
// address goes on one line.
func (t truth) rows() []row {
	type place struct {
		side   Side
		where  uint8
		typ    Type
		reason Rule
		who    uint8
	}
	in := func(o outcome) place { return place{o.side, o.where, o.typ, o.reason, o.who} }
	every, several := map[place]uint64{}, map[place]uint64{}
	for o, e := range t {
		p := in(o)
		if _, ok := every[p]; !ok {
			every[p] = ^uint64(0)
		}
		every[p] &= e.every
		several[p] |= e.several
	}
	var rows []row
	for o, e := range t {
		p := in(o)
		rows = append(rows, row{o.side, o.typ.String(), addresses[o.where], o.reason, whoName(o.who), o.String(),
			when(e.every&^every[p], several[p]&^e.several)})
	}
	rows = merge(rows, func(r *row) *string { return &r.who }, func(list []string) string { return groupSessions(list) })
	join := func(list []string) string { return strings.Join(list, ",") }
	rows = merge(rows, func(r *row) *string { return &r.typ }, join)
	return merge(rows, func(r *row) *string { return &r.where }, func(list []string) string {
		return strings.ReplaceAll(strings.Join(list, "; "), "full, here; full, gone", "full")
	})
}

// when names the conditions that an outcome always has, and those that it
// never has, of those that its place knows; without what follows from the rest.
func when(always, never uint64) string {
	has := map[string]bool{}
	for i, c := range conditions {
		if always&(1<<i) != 0 {
			has[c.name] = true
		}
	}
	var parts []string
	for i, c := range conditions {
		if always&(1<<i) != 0 && !(c.name == "whose/mine" && (has["whose"] || has["mine"])) {
			parts = append(parts, c.name)
		}
	}
	related := has["known"] || has["stranger"] || has["blocked"] || has["unknown"]
	claims := has["whose/mine"] || has["muc#user"] || has["invitation"]
	lacks := func(name string) bool {
		i := slices.IndexFunc(conditions[:], func(c condition) bool { return c.name == name })
		return never&(1<<i) != 0
	}
	for i, c := range conditions {
		switch c.name {
		case "blocked", "unknown", "again": // these come first
			continue
		case "known", "stranger":
			if related {
				continue
			}
		case "machine", "chat-state":
			if claims {
				continue // they are all that is in a message
			}
		case "whose", "mine", "bad-claim":
			if lacks("whose/mine") || c.name == "bad-claim" && lacks("mine") {
				continue
			}
		}
		if never&(1<<i) != 0 && !has["unknown"] {
			parts = append(parts, "!"+c.name)
		}
	}
	return strings.Join(parts, " ")
}

// merge puts rows together that differ in one column.
func merge(rows []row, column func(*row) *string, join func([]string) string) []row {
	groups := map[row][]string{}
	for _, r := range rows {
		at := column(&r)
		value := *at
		*at = ""
		groups[r] = append(groups[r], value)
	}
	var out []row
	for r, values := range groups {
		slices.Sort(values)
		*column(&r) = join(values)
		out = append(out, r)
	}
	return out
}

// groupSessions shortens a list of sessions: all presences of a profile are the
// profile, all profiles are every.
func groupSessions(list []string) string {
	has := map[string]bool{}
	for _, s := range list {
		has[s] = true
	}
	var out []string
	for _, role := range []string{"", "addressed ", "sending ", "sending=addressed "} {
		var names []string
		whole := 0
		for p := Classic; p <= V2; p++ {
			three := []string{role + p.String() + "+", role + p.String() + "-", role + p.String() + " away"}
			if has[three[0]] && has[three[1]] && has[three[2]] {
				names = append(names, role+p.String())
				whole++
				continue
			}
			for _, s := range three {
				if has[s] {
					names = append(names, s)
				}
			}
		}
		if whole == 4 {
			names = []string{role + "any"}
		}
		out = append(out, names...)
	}
	if has["account"] {
		out = append(out, "account")
	}
	return strings.Join(out, ", ")
}

// compareTruth holds the outcomes to the golden file: a change of a rule shows
// as a change of lines there.
func compareTruth(t *testing.T, all *walk) {
	const golden = "testdata/truth.golden"
	got := all.truth.print()
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the outcomes are not those of %s; look at the difference after go generate ./server/route", golden)
	}
}

func (t truth) print() string {
	lines := map[string][]string{}
	for _, r := range t.rows() {
		kind := "sessions"
		if r.who == "account" {
			kind = "account"
		}
		section := fmt.Sprintf("%s, %s", [...]string{"1 Receiving side", "2 Sending side", "3 Own account (both sides)"}[r.side], kind)
		intent := strings.TrimPrefix(r.reason.String(), "R-")
		line := fmt.Sprintf("%-24s | %-6s | %-18s | %s", r.where, intent, r.typ, r.gets)
		if kind == "sessions" {
			line = fmt.Sprintf("%-24s | %-6s | %-18s | %-40s | %s", r.where, intent, r.typ, r.gets, r.who)
		}
		if r.when != "" {
			line += " | " + r.when
		}
		lines[section] = append(lines[section], line)
	}
	var b strings.Builder
	b.WriteString(`What happens to a message on one account's side: the distinct outcomes of all inputs.
Written by go generate ./server/route. Columns: the message's address; the rule that gave it its intent; its type; the
outcome and its rules; for sessions, who has it (profile, presence: + available, - negative priority, away none);
at the end what tells the outcome from the others in its place: always there, or with ! never there. Blocked and unknown
accounts and messages that come again are refused before anything else, and not repeated.
`)
	for _, section := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "\n== %s\n", section[2:])
		slices.Sort(lines[section])
		for _, l := range lines[section] {
			b.WriteString(strings.TrimRight(l, " ") + "\n")
		}
	}
	return b.String()
}
