package convo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
	"pgregory.net/rapid"
)

var (
	alice = jid.MustParse("alice@wonder.example")
	phone = jid.MustParse("alice@wonder.example/phone")
	desk  = jid.MustParse("alice@wonder.example/desk")
	bob   = jid.MustParse("bob@wonder.example")
	bobPC = jid.MustParse("bob@wonder.example/pc")
	bobTV = jid.MustParse("bob@wonder.example/tv")
	hall  = jid.MustParse("hall@rooms.example")
)

var all = Facts{Archive: true, Mine: true, Displayed: true}

// run is an engine with a clock, a store and what it wants done.
type run struct {
	t     testing.TB
	e     *Engine
	store *Memory
	now   time.Time
	ids   int
	sent  []*stanza.Stanza
	asked []Query
	load  []LoadHistory
	fresh int // RefreshPresence
}

func newRun(t testing.TB, profile Profile) *run {
	r := start(t, Config{}, NewMemory())
	r.connect(profile)
	return r
}

func start(t testing.TB, cfg Config, store *Memory) *run {
	r := &run{t: t, store: store, now: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)}
	cfg.Account = alice
	cfg.NewID = func() string { r.ids++; return fmt.Sprintf("id%d", r.ids) }
	snap, err := store.Load(1000)
	if err != nil {
		t.Fatal(err)
	}
	r.e = New(cfg, snap)
	return r
}

// restart is another run of the program, with so many entries of each conversation in memory.
func (r *run) restart(tail int) {
	r.t.Helper()
	snap, err := r.store.Load(tail)
	if err != nil {
		r.t.Fatal(err)
	}
	r.e.cfg.Limits.Page = tail
	r.e = New(r.e.cfg, snap)
}

func (r *run) connect(p Profile) {
	r.do(Connected{JID: phone, Profile: p, Facts: all, Catchup: p == V2})
	switch {
	case p == V2:
		r.in(`<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='' last='' count='0'/></message>`)
	case len(r.asked) > 0:
		r.do(QueryDone{Query: r.asked[len(r.asked)-1].ID, Complete: true})
	}
}

func (r *run) do(events ...Event) []Effect {
	r.t.Helper()
	effects := r.e.Apply(r.now, events...)
	for _, f := range effects {
		switch f := f.(type) {
		case Send:
			r.sent = append(r.sent, f.Stanza)
		case Query:
			r.asked = append(r.asked, f)
		case LoadHistory:
			r.load = append(r.load, f)
		case RefreshPresence:
			r.fresh++
		case Persist:
			if err := r.store.Write(f.Writes); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return effects
}

// in is a stanza received.
func (r *run) in(xml string) []Effect {
	r.t.Helper()
	el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		r.t.Fatalf("%v in %s", err, xml)
	}
	st, err := stanza.Parse(el)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(Received{st})
}

func (r *run) view(j jid.JID) View {
	r.t.Helper()
	v, ok := r.e.Conversation(j, 0)
	if !ok {
		r.t.Fatalf("no conversation with %v", j)
	}
	return v
}

// bodies are the shown texts of a conversation in their order.
func (r *run) bodies(j jid.JID) string {
	v, _ := r.e.Conversation(j, 0)
	var list []string
	for _, en := range v.Entries {
		list = append(list, en.Body)
	}
	return strings.Join(list, " ")
}

func (r *run) want(j jid.JID, bodies string) {
	r.t.Helper()
	if got := r.bodies(j); got != bodies {
		r.t.Fatalf("shown %q, want %q", got, bodies)
	}
}

func (r *run) last(j jid.JID) Entry {
	r.t.Helper()
	v := r.view(j)
	if len(v.Entries) == 0 {
		r.t.Fatal("nothing is shown")
	}
	return v.Entries[len(v.Entries)-1]
}

// out is the last stanza sent.
func (r *run) out() *stanza.Stanza {
	r.t.Helper()
	if len(r.sent) == 0 {
		r.t.Fatal("nothing was sent")
	}
	return r.sent[len(r.sent)-1]
}

func (r *run) wait(d time.Duration) { r.now = r.now.Add(d) }

// fromBob is a chat message from bob's computer, archived with an id if it has one.
func fromBob(body, archive, extra string) string {
	if archive != "" {
		extra += stanzaID(archive)
	}
	return fmt.Sprintf("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='m-%s'><body>%s</body>%s</message>", body, body, extra)
}

func stanzaID(id string) string {
	return "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='" + id + "'/>"
}

// result wraps an archived message.
func result(queryID, id, message string) string {
	return "<message from='alice@wonder.example' to='alice@wonder.example/phone'><result xmlns='urn:xmpp:mam:2' queryid='" + queryID + "' id='" + id +
		"'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-11-20T10:00:00Z'/>" +
		strings.Replace(message, "<message", "<message xmlns='jabber:client'", 1) + "</forwarded></result></message>"
}

func TestConversation(t *testing.T) {
	for _, p := range []Profile{Classic, Carbons, NG, V2} {
		r := newRun(t, p)
		r.in(fromBob("hello", "a1", ""))
		r.do(SendText{Conversation: bob, Body: "hi"})
		r.want(bob, "hello hi")
		if en := r.last(bob); en.Delivery != Pending {
			t.Errorf("profile %d: %+v", p, en)
		}
		st := r.out()
		r.do(Acked{st.ID})
		if en := r.last(bob); en.Delivery != Sent {
			t.Errorf("profile %d: acknowledged: %+v", p, en)
		}
		if p >= NG {
			reflected := *st
			reflected.From = phone
			b := reflected.AppendTo(nil, stanzaID("a2"))
			r.in(string(b))
			if en := r.last(bob); en.Delivery != Archived || en.Archive.ID != "a2" {
				t.Errorf("profile %d: reflected: %+v", p, en)
			}
		}
		r.in(fromBob("bye", "a3", ""))
		r.want(bob, "hello hi bye")
	}
}

var limits = xmltree.Limits{}

// fatal lets a rapid test use a run.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f fatal) Helper()                        {}
func (f fatal) Fatal(args ...any)              { f.t.Fatal(args...) }
func (f fatal) Fatalf(format string, a ...any) { f.t.Fatalf(format, a...) }
