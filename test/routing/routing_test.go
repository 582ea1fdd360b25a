package routing

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

// template is a kind of device that the recipient can have.
type template struct {
	name      string
	profile   profile
	available bool
	priority  int
}

// templates are all of them; every subset is tried.
func templates() []template {
	return []template{
		{"classic", classic, true, 0},
		{"classic-low", classic, true, -1},
		{"carbons", carbons, true, 5},
		{"carbons-low", carbons, true, -1},
		{"ng", ng, false, 0},
		{"v2", v2, false, 0},
	}
}

// senders are the devices of the contact and of the stranger. The first of them may send; the others look on.
func senders() []template {
	return []template{{"classic", classic, true, 0}, {"carbons", carbons, true, 0}, {"ng", ng, true, -1}, {"v2", v2, true, 0}, {"carbons-low", carbons, true, -1}}
}

const onlookers = 1

func (a *account) add(list []template) {
	for _, t := range list {
		a.devices = append(a.devices, &device{kind: t.name, name: t.name, profile: t.profile, available: t.available, priority: t.priority, account: a})
	}
}

// groups is in how many servers the subsets are tried, side by side.
const groups = 4

func TestRouting(t *testing.T) {
	if _, err := identity(); err != nil { // outside of the bubbles: what it starts isn't theirs
		t.Fatal(err)
	}
	every := os.Getenv("CARILLON_ROUTING") == "all"
	bad := newDisagreements()
	t.Run("subsets", func(t *testing.T) {
		for g := range groups {
			t.Run(strconv.Itoa(g), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					defer w.end()
					for set := g; set < 1<<len(templates()); set += groups {
						newRound(w, set, variant{every: every}, bad).run()
						if n := bits.OnesCount(uint(set)); every || n < 2 || n == len(templates()) {
							newRound(w, set, variant{every: every, never: true}, bad).run()
							newRound(w, set, variant{every: every, away: true}, bad).run()
						}
					}
				})
			})
		}
	})
	bad.report(t)
}

// variant is what else differs between rounds.
type variant struct {
	every bool // every sender sends everything
	never bool // the recipient wants no archive
	away  bool // the recipient's devices lost their connections before a batch is sent, and resume after it (R-SESS-3)
}

func (v variant) String() string {
	switch {
	case v.never:
		return "n"
	case v.away:
		return "a"
	}
	return ""
}

// round is one set of devices of the recipient.
type round struct {
	w                           *world
	set                         int
	variant                     variant
	bad                         *disagreements
	recipient, friend, stranger *account
	clients                     map[*device]*xmppclient.Client
	kinds                       []kind
	next                        int // the number of the next message

	sent     map[string]*message
	expected map[*device]map[key]form // of the batch
	archives map[*account]map[key]form
	offline  map[key]form
	ids      map[*account]map[string]string // message to archive id
	whose    map[string]string              // message to its <whose/>
	owners   map[string]string              // and the reverse
	orders   map[*device][]string           // the archive ids in the order in which an IM-NG device got them
}

// newRound makes the accounts of a round and brings their devices online.
func newRound(w *world, set int, v variant, bad *disagreements) *round {
	r := prepareRound(w, set, v, bad)
	r.friend.add(senders())
	r.stranger.add(senders())
	for _, a := range r.accounts() {
		for _, d := range a.devices {
			r.clients[d] = w.login(d, v.away && a == r.recipient)
		}
	}
	if v.never {
		r.recipient.never = true
		w.neverArchive(r.recipient)
	}
	settle()
	for _, c := range r.clients {
		w.forget(c)
	}
	return r
}

// prepareRound makes the accounts, of which the recipient has devices that aren't online yet.
func prepareRound(w *world, set int, v variant, bad *disagreements) *round {
	r := &round{w: w, set: set, variant: v, bad: bad, kinds: kinds(), clients: map[*device]*xmppclient.Client{},
		sent: map[string]*message{}, archives: map[*account]map[key]form{}, offline: map[key]form{}, ids: map[*account]map[string]string{},
		whose: map[string]string{}, owners: map[string]string{}, orders: map[*device][]string{}}
	name := func(role string) string { return fmt.Sprintf("%s%d%s@localhost", role, set, v) }
	r.recipient, r.friend, r.stranger = w.account(name("r")), w.account(name("f")), w.account(name("s"))
	w.befriend(r.recipient, r.friend)
	var list []template
	for i, t := range templates() {
		if set&(1<<i) != 0 {
			list = append(list, t)
		}
	}
	r.recipient.add(list)
	for _, a := range r.accounts() {
		r.archives[a], r.ids[a] = map[key]form{}, map[string]string{}
	}
	return r
}

func (r *round) accounts() []*account { return []*account{r.recipient, r.friend, r.stranger} }

func (r *round) run() {
	for _, a := range r.accounts() {
		from := a.devices
		switch {
		case a != r.recipient:
			from = from[:len(from)-onlookers]
		case r.variant.away:
			continue // it sends nothing then
		}
		for i, d := range from {
			r.send(d, r.messages(d, i, len(from)))
		}
	}
	if !r.variant.away {
		r.feedback()
	}
	for _, a := range r.accounts() {
		r.checkArchive(a)
	}
	r.checkOffline()
	for _, c := range r.clients {
		c.Cut()
	}
	settle()
}

// messages are what the i-th of n senders sends to the recipient: all, or its share.
func (r *round) messages(from *device, i, n int) []*message {
	var list []*message
	turn := r.set
	for _, typ := range []string{"", "chat", "groupchat", "headline", "error"} {
		for k := range r.kinds {
			targets := append([]*device{nil, nil}, r.recipient.devices...)
			for j, target := range targets {
				turn++
				if !r.variant.every && turn%n != i {
					continue
				}
				list = append(list, &message{typ: typ, from: from, to: r.recipient, addressed: target, absent: j == 1, kind: &r.kinds[k]})
			}
		}
	}
	return list
}

// feedback sends errors that answer messages which the recipient's devices sent: one for a single device, one for all.
func (r *round) feedback() {
	var plain, single *kind
	for i := range r.kinds {
		switch r.kinds[i].name {
		case "body":
			plain = &r.kinds[i]
		case "private":
			single = &r.kinds[i]
		}
	}
	peer := r.friend.devices[0]
	for _, d := range r.recipient.devices {
		one := &message{typ: "chat", from: d, to: r.friend, addressed: peer, kind: single}
		all := &message{typ: "chat", from: d, to: r.friend, kind: plain}
		r.send(d, []*message{one, all})
		answered := eligibleOne
		if d.profile == v2 {
			answered = exclusiveOne
		}
		full := &message{typ: "chat", from: d, to: r.friend, addressed: peer, kind: plain}
		r.send(d, []*message{full})
		r.send(peer, []*message{
			{id: one.id, typ: "error", from: peer, to: r.recipient, addressed: d, kind: plain, answers: exclusiveOne},
			{id: all.id, typ: "error", from: peer, to: r.recipient, addressed: d, kind: plain, answers: eligibleOne},
			{id: full.id, typ: "error", from: peer, to: r.recipient, addressed: d, kind: plain, answers: answered},
		})
	}
}

// batch is how many messages are sent before everybody looks.
const batch = 300

func (r *round) send(from *device, list []*message) {
	for part := range slices.Chunk(list, batch) {
		stanzas := r.expectAll(part)
		r.leave()
		if err := r.clients[from].Send(stanzas...); err != nil {
			r.w.t.Fatal(err)
		}
		settle()
		r.comeBack()
		for d := range r.clients {
			r.check(d, r.received(d))
		}
	}
}

// expectAll gives the messages of a batch their ids, notes what the model says of them, and returns them as they are sent.
func (r *round) expectAll(list []*message) []string {
	r.expected = map[*device]map[key]form{}
	var stanzas []string
	for _, m := range list {
		if m.id == "" {
			m.id = "m" + strconv.Itoa(r.next)
			r.next++
		}
		r.sent[m.id] = m
		r.expect(m)
		stanzas = append(stanzas, m.xml())
	}
	return stanzas
}

// leave breaks the connections of the recipient's devices, in rounds that are about that.
func (r *round) leave() {
	if r.variant.away {
		for _, d := range r.recipient.devices {
			r.clients[d].Cut()
		}
		settle()
	}
}

// comeBack resumes their sessions.
func (r *round) comeBack() {
	if r.variant.away {
		for _, d := range r.recipient.devices {
			c, err := r.w.resume(d, r.clients[d])
			if err != nil {
				r.w.t.Fatalf("%s: %v", d.full(), err)
			}
			r.clients[d] = c
		}
		settle()
	}
}

// xml is the message as it is sent.
func (m *message) xml() string {
	typ := ""
	if m.typ != "" {
		typ = " type='" + m.typ + "'"
	}
	payload := strings.ReplaceAll(m.kind.payload, "{bare}", m.to.bare)
	if m.typ == "error" {
		payload += feedbackError
	}
	return "<message to='" + m.address() + "' id='" + m.id + "'" + typ + ">" + payload + "</message>"
}

// expect notes what the model says of a message.
func (r *round) expect(m *message) {
	out := m.outcome()
	note := func(d *device, k key, f form) {
		if r.expected[d] == nil {
			r.expected[d] = map[key]form{}
		}
		r.expected[d][k] = f
	}
	for d, f := range out.forms {
		note(d, key{id: m.id}, f)
	}
	for d, f := range out.errors {
		note(d, key{m.id, true}, f)
	}
	for a, f := range out.archives {
		r.archives[a][key{id: m.id}] = f
	}
	if out.offline != nil {
		r.offline[key{id: m.id}] = *out.offline
	}
}

func (r *round) received(d *device) []xmltree.Element {
	list, err := messages(r.clients[d])
	if err != nil {
		r.w.t.Fatalf("%s: %v", d.full(), err)
	}
	return list
}

// check compares what a device received since the last time with what it should have.
func (r *round) check(d *device, list []xmltree.Element) {
	got := map[key]form{}
	for _, el := range list {
		s, err := see(el, d.account.bare, d.full())
		if err != nil {
			r.bad.note(r, d, s.key, err.Error(), "")
			continue
		}
		if f, twice := got[s.key]; twice {
			r.bad.note(r, d, s.key, "twice: "+f.String()+" and "+s.form.String(), "once")
			continue
		}
		got[s.key] = s.form
		r.remember(d.account, s)
		if d.profile.modern() && s.id != "" {
			r.orders[d] = append(r.orders[d], s.id)
		}
	}
	r.compare(d, got, r.expected[d])
}

// compare notes every difference.
func (r *round) compare(d *device, got, want map[key]form) {
	for k, f := range got {
		if want[k] != f {
			r.bad.differ(r, d, k, f, want[k])
		}
	}
	for k, f := range want {
		if _, ok := got[k]; !ok {
			r.bad.differ(r, d, k, form{}, f)
		}
	}
}

// remember holds the copies of a message to having one archive id per account, one <whose/> and none that was ever given.
func (r *round) remember(a *account, s sighting) {
	if s.id != "" {
		if old := r.ids[a][s.key.id]; old != "" && old != s.id {
			r.bad.note(r, &device{kind: "devices", account: a}, s.key, "archive ids "+old+" and "+s.id, "one")
		}
		r.ids[a][s.key.id] = s.id
	}
	if s.whose != "" {
		old, owner := r.whose[s.key.id], r.owners[s.whose]
		if old != "" && old != s.whose || owner != "" && owner != s.key.id {
			r.bad.note(r, &device{kind: "devices", account: a}, s.key, "whose "+s.whose, old+" of "+owner)
		}
		r.whose[s.key.id], r.owners[s.whose] = s.whose, s.key.id
	}
}

// checkArchive compares an account's archive, and its order with that in which its IM-NG devices got the messages.
func (r *round) checkArchive(a *account) {
	reader := &device{kind: "archive", account: a}
	got := map[key]form{}
	at := map[string]int{}
	for i, el := range r.w.archive(a.bare) {
		s, err := see(el, a.bare, a.bare+"/reader")
		if err != nil {
			r.bad.note(r, reader, s.key, err.Error(), "")
			continue
		}
		if _, twice := got[s.key]; twice {
			r.bad.note(r, reader, s.key, "twice", "once")
		}
		got[s.key], at[s.id] = s.form, i
		r.remember(a, s)
	}
	r.compare(reader, got, r.archives[a])
	for _, d := range a.devices {
		last := -1
		for _, id := range r.orders[d] {
			if i, ok := at[id]; !ok || i <= last {
				r.w.t.Errorf("%s got the archived message %s out of order", d.full(), id)
			} else {
				last = i
			}
		}
	}
}

// checkOffline lets a device come online that was never there.
func (r *round) checkOffline() {
	late := &device{kind: "late", name: "late", profile: classic, available: true, account: r.recipient}
	r.clients[late] = r.w.login(late, false)
	settle()
	r.expected = map[*device]map[key]form{late: r.offline}
	r.check(late, r.received(late))
}
