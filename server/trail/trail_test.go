package trail

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/server/route"
)

var at = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func sample(n int) Record {
	f := route.Facts{Message: route.Message{Type: route.Chat, Marks: route.Body}, Sender: -1, Addressed: -1,
		Sessions: []route.Session{{Profile: route.NG}, {Profile: route.Carbons}, {Profile: route.V2}}}
	var d route.Decision
	route.Decide(&f, &d)
	r := Record{At: at, Account: "juliet@localhost", ID: fmt.Sprint("m", n), ArchiveID: fmt.Sprint("a", n), From: "romeo@localhost/orchard", To: "juliet@localhost"}
	r.Fill(&f, &d)
	for i, name := range []string{"desk", "phone", "tablet"} {
		r.Devices[i].Resource = name
	}
	return r
}

// TestText is what the operator reads.
func TestText(t *testing.T) {
	ring := NewRing(4)
	r := sample(1)
	ref := ring.Add(&r)
	ring.Written(ref.Line(0), at.Add(2*time.Millisecond))
	ring.Acked(ref.Line(0), at.Add(40*time.Millisecond))
	ring.Written(ref.Line(2), at.Add(3*time.Millisecond))
	got := ring.Find(Query{Account: "juliet@localhost"})[0].Text()
	const want = `2026-11-01 12:00:00.000Z  chat message from romeo@localhost/orchard to juliet@localhost, id m1
  juliet@localhost, the recipient's side
    meant as conversation — R-INT-2: a message to a bare JID is for the person
    desk (ng): gets it directly — R-CONV-1: every device that enabled IM-NG gets conversation messages; acknowledged after 40ms
    phone (carbons, no presence): gets a carbon copy of what was received — R-CONV-4: a device with carbons that got nothing directly gets a copy; not written yet
    tablet (v2): gets it directly — R-CONV-1: every device that enabled IM-NG gets conversation messages; <xmpp-1/> is added — R-GW-3: it was sent by the rules of XMPP 1.0, and says so to a device of 2.0; written after 3ms, not acknowledged
    archive: yes, as a1 — R-ARCH-1: a conversation message or claim goes into the archive of every local party
    can be claimed by one device — R-MINE-2: a message from somebody else can be claimed by one device
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

// TestTextOfDevices: which one has sent the message, and what keeps messages from one that isn't of IM-NG.
func TestTextOfDevices(t *testing.T) {
	f := route.Facts{Message: route.Message{Type: route.Chat, Marks: route.Body}, Side: route.Own, Sender: 1, Addressed: -1, Sessions: []route.Session{
		{Profile: route.Classic}, {Profile: route.Classic, Available: true}, {Profile: route.Carbons, Available: true, Priority: -7}, {Profile: route.NG}}}
	var d route.Decision
	route.Decide(&f, &d)
	r := Record{Account: "juliet@localhost"}
	r.Fill(&f, &d)
	for i, name := range []string{"mute", "desk", "car", "phone"} {
		r.Devices[i].Resource = name
	}
	text := r.Text()
	for _, want := range []string{"juliet@localhost, the sender's and the recipient's side\n", "mute (classic, no presence): gets nothing — ", "desk (classic, has sent it): gets it directly — ",
		"car (carbons, priority -7): gets a carbon copy", "phone (ng): gets it as it was archived — "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestOutside: what became of a message that left, for people and for programs.
func TestOutside(t *testing.T) {
	type step struct {
		Step
		after     time.Duration
		condition string
	}
	const ms = time.Millisecond
	for _, tc := range []struct {
		steps      []step
		text, json string
	}{
		{[]step{{Queued, ms, ""}}, "queued after 1ms; not written yet", `{"queued":"2026-11-01T12:00:00.001Z"}`},
		{[]step{{Queued, ms, ""}, {Written, 2 * ms, ""}}, "queued after 1ms; written after 2ms; not acknowledged", ""},
		{[]step{{Queued, ms, ""}, {Written, 2 * ms, ""}, {Written, 9 * ms, ""}, {Acknowledged, 40 * ms, ""}}, "queued after 1ms; written after 9ms; acknowledged after 40ms",
			`{"queued":"2026-11-01T12:00:00.001Z","written":"2026-11-01T12:00:00.009Z","delivered":"2026-11-01T12:00:00.04Z","known_because":"acknowledged"}`},
		{[]step{{Queued, ms, ""}, {Written, ms, ""}, {Answered, 40 * ms, ""}},
			"; read, as its answer to a question behind it says, after 40ms: that server doesn't acknowledge (XEP-0198)", ""},
		{[]step{{Queued, ms, ""}, {Written, ms, ""}, {LivedOn, 30000 * ms, ""}},
			"; taken for delivered after 30s, for the stream has lived on: that server doesn't acknowledge (XEP-0198)", ""},
		{[]step{{Queued, ms, ""}, {Written, ms, ""}, {Closed, 40 * ms, ""}}, "; read to the end of the stream, which was closed in good order after 40ms", ""},
		{[]step{{Queued, ms, ""}, {Returned, 40 * ms, "remote-server-timeout"}}, "queued after 1ms; returned after 40ms with <remote-server-timeout/>",
			`{"queued":"2026-11-01T12:00:00.001Z","returned":"2026-11-01T12:00:00.04Z","returned_with":"remote-server-timeout"}`},
	} {
		ring := NewRing(4)
		r := sample(1)
		r.Devices = nil
		ref := ring.Add(&r)
		for _, s := range tc.steps {
			ring.Left(ref, s.Step, s.condition, at.Add(s.after))
		}
		ring.Left(0, Written, "", at)
		got := ring.Find(Query{Account: "juliet@localhost"})[0]
		if text := got.Text(); !strings.Contains(text, "    leaves for its domain: ") || !strings.Contains(text, tc.text+"\n") {
			t.Errorf("want %s, got\n%s", tc.text, text)
		}
		if b, err := json.Marshal(got.Outside); err != nil || tc.json != "" && string(b) != tc.json {
			t.Errorf("%s, %v", b, err)
		}
	}
}

// TestTextOfErrors: an error says which it is; what isn't one of RFC 6120's doesn't get that far.
func TestTextOfErrors(t *testing.T) {
	f := route.Facts{Message: route.Message{Type: route.Error, Full: true}, Sender: -1, Addressed: -1}
	var d route.Decision
	route.Decide(&f, &d)
	r := Record{From: "a@x.example", To: "b@x.example/r", Condition: "remote-server-not-found"}
	r.Fill(&f, &d)
	if got, _, _ := strings.Cut(r.Text(), "\n"); got != "error message (remote-server-not-found) from a@x.example to b@x.example/r" {
		t.Error(got)
	}
}

// TestTextIsSafe: names from elsewhere don't move the reader's terminal.
func TestTextIsSafe(t *testing.T) {
	r := sample(1)
	r.Seq, r.ID, r.Devices[0].Resource = 1, "\x1b[2J", "a\u202eb"
	if text := r.Text(); strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("%q", text)
	}
}

// TestJSON: the names that programs rely on.
func TestJSON(t *testing.T) {
	r := sample(1)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"at":"2026-11-01T12:00:00Z","account":"juliet@localhost","side":"recipient","id":"m1","archive_id":"a1","from":"romeo@localhost/orchard","to":"juliet@localhost","type":"chat","intent":"conversation","intent_rule":{"rule":"R-INT-2","says":"a message to a bare JID is for the person"},"archived":true,"archive_rule":{"rule":"R-ARCH-1","says":"a conversation message or claim goes into the archive of every local party"},"offline":false,"claimable":true,"devices":[{"resource":"desk","profile":"ng","available":false,"priority":0,"gets":"direct","rule":{"rule":"R-CONV-1","says":"every device that enabled IM-NG gets conversation messages"}},`
	if !strings.HasPrefix(string(b), want) {
		t.Errorf("%s", b)
	}
}

// TestRingIsBounded in records, texts and devices; the latest stay.
func TestRingIsBounded(t *testing.T) {
	ring := NewRing(8)
	var refs []Ref
	for i := range 100 {
		r := sample(i)
		r.To = strings.Repeat("x", 4000)
		r.Devices = append(r.Devices, make([]Device, 200)...)
		refs = append(refs, ring.Add(&r))
	}
	for _, ref := range refs { // the old ones are gone, and nobody else's lines change
		ring.Acked(ref, at)
		ring.Written(ref.Line(500), at)
	}
	got := ring.Find(Query{Account: "juliet@localhost"})
	if len(got) != 8 || got[0].ID != "m92" || got[7].ID != "m99" || got[7].Seq != 100 {
		t.Fatalf("%d records, from %s", len(got), got[0].ID)
	}
	if len(got[0].To) != maxText || len(got[0].Devices) != maxDevices || got[0].Devices[0].Acked != at || !got[0].Devices[1].Acked.IsZero() {
		t.Errorf("%d bytes of text, %d devices", len(got[0].To), len(got[0].Devices))
	}
	for _, q := range []struct {
		Query
		want int
	}{
		{Query{Account: "nobody@localhost"}, 0},
		{Query{Account: "juliet@localhost", Last: 3}, 3},
		{Query{Account: "juliet@localhost", ID: "m95"}, 1},
		{Query{Account: "juliet@localhost", ID: "a95"}, 1},
		{Query{Account: "juliet@localhost", ID: "m5"}, 0},
		{Query{Account: "juliet@localhost", After: 98}, 2},
		{Query{Account: "juliet@localhost", After: 100}, 0},
	} {
		if n := len(ring.Find(q.Query)); n != q.want {
			t.Errorf("%+v: %d", q.Query, n)
		}
	}
	// In bytes: the records of accounts with many devices push out more of the others.
	ring = NewRing(8192)
	large := sample(0)
	large.Devices = make([]Device, maxDevices)
	for i := range large.Devices {
		large.Devices[i].Resource = strings.Repeat("r", 1023)
	}
	for range 3 {
		for i := range 2000 {
			large.ID = fmt.Sprint("m", i)
			refs = append(refs, ring.Add(&large))
		}
		sum := 0
		for i := range ring.list {
			if e := ring.list[i].Load(); e != nil {
				sum += e.cost
			}
		}
		if n := len(ring.Find(Query{Account: "juliet@localhost"})); sum > maxBytes || sum != ring.bytes || n < 100 || n > maxBytes/(1023*maxDevices) {
			t.Errorf("%d records of %d bytes, counted as %d", n, sum, ring.bytes)
		}
	}
	for _, ref := range refs {
		ring.Acked(ref, at) // also those that are gone
	}
	small := sample(1)
	for range 10000 {
		ring.Add(&small)
	}
	if n := len(ring.Find(Query{Account: "juliet@localhost"})); n != 8192 {
		t.Errorf("%d small records", n)
	}
	if ring := NewRing(4); len(ring.Find(Query{})) != 0 {
		t.Error("an empty ring has records")
	}
}

func BenchmarkAdd(b *testing.B) {
	ring, r := NewRing(1024), sample(1)
	b.ReportAllocs()
	for b.Loop() {
		ref := ring.Add(&r)
		for i := range 3 {
			ring.Written(ref.Line(i), at)
			ring.Acked(ref.Line(i), at)
		}
	}
}

// TestPushes: what became of notifications, at the message and later.
func TestPushes(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	ring := NewRing(4)
	push := func(resource string, v route.PushVerdict, r route.Rule) Push {
		return Push{Resource: resource, Service: "push.example", Verdict: v, Rule: r}
	}
	rec := Record{At: at, Account: "a@h", Pushes: []Push{push("phone", route.PushHeld, route.RPush10), push("tablet", route.NoPush, route.RPush5),
		push("watch", route.PushNow, route.RPush12), push("pad", route.PushHeld, route.RPush10)}}
	ref := ring.Add(&rec)
	text := func() string { return ring.Find(Query{Account: "a@h"})[0].Text() }
	for _, want := range []string{"phone is not notified yet, by push.example — R-PUSH-10: ", "tablet is not notified, by push.example — R-PUSH-5: ", "watch is to be notified, by push.example — R-PUSH-12: "} {
		if !strings.Contains(text(), want) {
			t.Errorf("%q is missing:\n%s", want, text())
		}
	}
	later := func(p Push, after time.Duration) { p.At = at.Add(after); ring.Pushed(ref.Line(3), p) }
	later(push("phone", route.PushNow, route.RPush11), 10*time.Second)
	later(push("watch", route.PushNow, route.RPush12), 2*time.Millisecond)
	later(push("pad", route.NoPush, route.RPush6), time.Second)
	later(push("nobody", route.PushNow, route.RPush11), time.Second)
	for _, want := range []string{"phone notified after 10s, by push.example — R-PUSH-11: ", "watch notified after 2ms, by push.example — R-PUSH-12: ",
		"pad needs no notification any more after 1s, by push.example — R-PUSH-6: "} {
		if !strings.Contains(text(), want) {
			t.Errorf("%q is missing:\n%s", want, text())
		}
	}
	if rec.Pushes[0].Verdict != route.PushHeld {
		t.Error("the caller's record was changed")
	}
	b, err := json.Marshal(ring.Find(Query{Account: "a@h"})[0])
	if err != nil || !strings.Contains(string(b), `"pushes":[{"resource":"phone","service":"push.example","verdict":"pushed","rule":{"rule":"R-PUSH-11","says":`) {
		t.Errorf("%s: %v", b, err)
	}
	ring.Pushed(0, push("phone", route.NoPush, route.RPush1))
}
