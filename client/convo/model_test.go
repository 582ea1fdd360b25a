package convo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"pgregory.net/rapid"
)

// archived is a message in the model server's archive.
type archivedMessage struct {
	id   string
	with jid.JID
	xml  string // with from and to, without stanza-id
	text string // what it shows; "" for nothing by itself
	ref  int    // index of what it is about, -1
	how  string // correct, retract, react
	body string
}

// world is a server with one account's archive, and one device whose engine is
// under test. The archive's order is the truth.
type world struct {
	*run
	t        *rapid.T
	archive  []archivedMessage
	queue    []string // live stanzas on their way to the device
	queries  []Query  // not answered yet
	pages    map[string]*page
	void     []*stanza.Stanza // own messages that the connection lost
	online   bool
	resuming bool // the server keeps what it has for the session
	profile  Profile
	bound    int  // sessions
	offline  bool // the server keeps messages for who was offline
	before   int  // so many were archived before the session
	starts   int
	had      map[string]int // in which run of the device it had a message last
	serial   int
	own      map[string]bool // ids of own messages in the archive
	typed    []string        // bodies that the person wrote
}

// page is an answer that is being received.
type page struct {
	results []string
	done    QueryDone
}

func (w *world) event(ev Event) {
	n := len(w.asked)
	sent := len(w.sent)
	loads := len(w.load)
	w.do(ev)
	w.queries = append(w.queries, w.asked[n:]...)
	for _, l := range w.load[loads:] {
		entries, more, _ := w.store.History(l.Conversation, l.Before, l.Max)
		w.event(HistoryLoaded{l.Conversation, entries, more})
	}
	for _, st := range w.sent[sent:] {
		if st.Kind != stanza.Message || st.Child(stanza.NSClient, "body").IsZero() {
			continue
		}
		if !w.online {
			continue
		}
		if len(w.void) > 0 || rapid.IntRange(0, 5).Draw(w.t, "lost") == 0 {
			w.void = append(w.void, st) // doesn't reach the server: the connection is about to break
			continue
		}
		w.arrives(st)
	}
}

// arrives is an own message at the server.
func (w *world) arrives(st *stanza.Stanza) {
	if w.own[st.ID] {
		w.t.Fatalf("%s was sent twice", st.ID)
	}
	w.own[st.ID] = true
	out := *st
	out.From = phone
	body := st.Child(stanza.NSClient, "body").Text()
	w.keep(archivedMessage{with: st.To.Bare(), xml: string(out.AppendTo(nil)), text: body, ref: -1, body: body})
	if rapid.Bool().Draw(w.t, "acknowledged") {
		w.event(Acked{st.ID})
	}
}

func (w *world) receive(xml string) {
	el := parse(w.t, xml)
	for _, m := range w.archive {
		if strings.Contains(xml, "'"+m.id+"'") {
			w.had[m.id] = w.starts
		}
	}
	w.event(Received{el})
}

func parse(t interface{ Fatalf(string, ...any) }, xml string) *stanza.Stanza {
	st, err := stanza.ParseBytes([]byte(xml), limits)
	if err != nil {
		t.Fatalf("%v in %s", err, xml)
	}
	return st
}

// keep archives a message and sends it on its way to the device.
func (w *world) keep(m archivedMessage) {
	m.id = fmt.Sprintf("arc-%x", (len(w.archive)*7919)%10007) // no order
	w.archive = append(w.archive, m)
	if w.online || w.resuming {
		w.queue = append(w.queue, strings.Replace(m.xml, "</message>", stanzaID(m.id)+"</message>", 1))
	}
}

// offline is a message as the server sends it that kept it for who was offline (XEP-0160, XEP-0203).
func offline(m archivedMessage) string {
	return delayed("wonder.example", strings.Replace(m.xml, "</message>", stanzaID(m.id)+"</message>", 1))
}

// delayed is a message that somebody says to have held back (XEP-0203).
func delayed(by, message string) string {
	return strings.Replace(message, "</message>", "<delay xmlns='urn:xmpp:delay' from='"+by+"' stamp='2026-01-01T00:00:00Z'/></message>", 1)
}

func (w *world) write(from, to string, ref int, how string) {
	w.serial++
	body := fmt.Sprintf("w%d", w.serial)
	with := jid.MustParse(from).Bare()
	if with == alice {
		with = jid.MustParse(to)
	}
	m := archivedMessage{with: with, text: body, ref: -1, body: body}
	inner := "<body>" + body + "</body>"
	if ref >= 0 {
		target := parse(w.t, w.archive[ref].xml)
		m.ref, m.how, m.text = ref, how, ""
		switch how {
		case "correct":
			inner += "<replace xmlns='urn:xmpp:message-correct:0' id='" + target.ID + "'/>"
		case "retract":
			inner = "<retract xmlns='urn:xmpp:message-retract:1' id='" + target.ID + "'/>"
		case "react":
			inner = "<reactions xmlns='urn:xmpp:reactions:0' id='" + target.ID + "'><reaction>" + body + "</reaction></reactions>"
		}
	}
	ids := [2]string{fmt.Sprintf(" id='x%d'", w.serial), fmt.Sprintf("<origin-id xmlns='urn:xmpp:sid:0' id='x%d'/>", w.serial)}
	if ref < 0 && with != jid.MustParse(to) && rapid.IntRange(0, 5).Draw(w.t, "nameless") == 0 {
		ids = [2]string{} // the archive's is all it has
	}
	m.xml = fmt.Sprintf("<message from='%s' to='%s'%s type='chat'>%s%s</message>", from, to, ids[0], inner, ids[1])
	w.keep(m)
}

// answer computes the page for a query when the server gets to it.
func (w *world) answer(q Query) {
	var match []archivedMessage
	from, to := 0, len(w.archive)
	for i, m := range w.archive {
		if m.id == q.After {
			from = i + 1
		}
		if m.id == q.Before {
			to = i
		}
	}
	for _, m := range w.archive[from:max(from, to)] {
		if q.With.IsZero() || m.with == q.With {
			match = append(match, m)
		}
	}
	complete := len(match) <= q.Max
	if !complete {
		if q.Last {
			match = match[len(match)-q.Max:]
		} else {
			match = match[:q.Max]
		}
	}
	p := &page{done: QueryDone{Query: q.ID, Complete: complete}}
	for _, m := range match {
		p.results = append(p.results, result(q.ID, m.id, m.xml))
	}
	if len(match) > 0 {
		p.done.First, p.done.Last = match[0].id, match[len(match)-1].id
	}
	w.pages[q.ID] = p
}

func (w *world) step(what string) {
	switch what {
	case "bob":
		w.write(bobPC.String(), alice.String(), -1, "")
	case "carol":
		w.write("carol@wonder.example/x", alice.String(), -1, "")
	case "desk":
		w.write(desk.String(), bob.String(), -1, "")
	case "about":
		if len(w.archive) == 0 {
			return
		}
		ref := rapid.IntRange(0, len(w.archive)-1).Draw(w.t, "ref")
		if m := w.archive[ref]; m.ref < 0 && parse(w.t, m.xml).ID != "" {
			from := parse(w.t, m.xml).From
			to := alice
			if from.Bare() == alice {
				to, from = m.with, desk
			}
			w.write(from.String(), to.String(), ref, rapid.SampledFrom([]string{"correct", "retract", "react"}).Draw(w.t, "how"))
		}
	case "say":
		w.serial++
		body := fmt.Sprintf("mine%d", w.serial)
		w.typed = append(w.typed, body)
		w.event(SendText{Conversation: bob, Body: body})
	case "deliver":
		if w.online && len(w.queue) > 0 {
			xml := w.queue[0]
			w.queue = w.queue[1:]
			w.receive(xml)
		}
	case "kept":
		if w.online && w.offline && w.before > 0 {
			// A part of what was archived before the session, and nothing that may be in the device's store alone.
			m := w.archive[rapid.IntRange(max(0, w.before-8), w.before-1).Draw(w.t, "which")]
			if run, ok := w.had[m.id]; parse(w.t, m.xml).From.Bare() != alice && (!ok || run == w.starts) {
				w.queue = append(w.queue, offline(m))
			}
		}
	case "answer":
		w.answerSome()
	case "fail":
		if w.online && len(w.queries) > 0 { // what came of it stays
			q := w.queries[0]
			w.queries = w.queries[1:]
			done := QueryDone{Query: q.ID, Failed: true}
			if q.After != "" && rapid.Bool().Draw(w.t, "stuck") { // there is more and it gives none
				done = QueryDone{Query: q.ID, First: q.After, Last: q.After}
			}
			w.event(done)
		}
	case "tick":
		w.now = w.now.Add(time.Minute)
		w.event(Tick{})
	case "refuse": // until the engine gives the catch-up up
		for n := 0; n <= 2*maxTries && w.online && w.e.CatchingUp() && w.e.catchup.query != ""; n++ {
			id := w.e.catchup.query
			w.queries = slices.DeleteFunc(w.queries, func(q Query) bool { return q.ID == id })
			w.event(QueryDone{Query: id, Failed: true})
			w.now = w.now.Add(longerRest)
			w.event(Tick{})
		}
	case "page":
		w.event(Page{Conversation: bob})
	case "cut":
		if w.online {
			w.cut()
		}
	case "connect":
		if !w.online {
			w.connect()
		}
	case "resume":
		if w.online {
			w.resume()
		}
	case "missed":
		if w.online {
			w.cut()
			w.step(rapid.SampledFrom([]string{"bob", "carol", "desk"}).Draw(w.t, "missed"))
			w.connect()
			w.step(rapid.SampledFrom([]string{"bob", "carol", "desk"}).Draw(w.t, "live"))
			w.step("deliver")
		}
	case "restart":
		w.cut()
		w.starts++
		tail := w.e.lim.Page + rapid.IntRange(0, 4).Draw(w.t, "tail")
		for _, c := range w.e.convs { // what has no place in the archive is known by its ids only while it is in memory
			if i := slices.IndexFunc(c.items, func(it *item) bool { return it.Archive.ID == "" }); i >= 0 {
				tail = max(tail, len(c.items)-i)
			}
		}
		snap, err := w.store.Load(tail)
		if err != nil {
			w.t.Fatal(err)
		}
		w.e = New(w.e.cfg, snap)
	}
}

func (w *world) answerSome() {
	if !w.online || len(w.queries) == 0 {
		return
	}
	q := w.queries[0]
	p := w.pages[q.ID]
	if p == nil {
		// The server answers behind what it has sent already. Only of the catch-up
		// is more asked: that it doesn't matter, as long as a newest page has all that it overtakes.
		if q.With.IsZero() && (!q.Last || len(w.queue) <= q.Max) || q.Before != "" || len(w.queue) == 0 {
			w.answer(q)
		} else {
			w.step("deliver")
		}
		return
	}
	if len(p.results) > 0 {
		xml := p.results[0]
		p.results = p.results[1:]
		w.receive(xml)
		return
	}
	w.queries = w.queries[1:]
	w.event(p.done)
}

func (w *world) cut() {
	asked := w.queries
	w.online, w.queue, w.queries, w.void = false, nil, nil, nil
	w.event(Disconnected{})
	for _, q := range asked { // as the library says it of what the session was still asked
		w.event(QueryDone{Query: q.ID, Failed: true})
	}
}

// resume is another connection of the same session: nothing is lost (XEP-0198 5).
func (w *world) resume() {
	w.online, w.resuming = false, true
	w.event(Disconnected{})
	if rapid.Bool().Draw(w.t, "written meanwhile") {
		w.step(rapid.SampledFrom([]string{"say", "bob"}).Draw(w.t, "meanwhile"))
	}
	w.online, w.resuming = true, false
	again := w.void
	w.void = nil
	for _, st := range again {
		w.arrives(st)
	}
	w.event(Connected{JID: phone, Profile: w.profile, Facts: all, Resumed: true})
}

func (w *world) connect() {
	w.online = true
	w.bound++
	w.before = len(w.archive)
	if w.profile == V2 {
		w.stream()
	} else if w.offline {
		for range rapid.IntRange(0, 3).Draw(w.t, "kept") {
			w.step("kept")
		}
	}
	w.event(Connected{JID: phone, Profile: w.profile, Facts: all, Catchup: w.profile == V2})
}

// stream is what a session request sends before what is live.
func (w *world) stream() {
	missed, complete := w.archive, w.e.Cursor() != "" || len(w.archive) == 0
	for i, m := range w.archive {
		if m.id == w.e.Cursor() {
			missed = w.archive[i+1:]
		}
	}
	if most := rapid.IntRange(1, 12).Draw(w.t, "most"); len(missed) > most {
		missed, complete = missed[len(missed)-most:], false
	}
	first, last := "", ""
	for _, m := range missed {
		w.queue = append(w.queue, result("session", m.id, m.xml))
		if last = m.id; first == "" {
			first = last
		}
	}
	w.queue = append(w.queue, fmt.Sprintf("<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='%t' first='%s' last='%s' count='%d'/></message>",
		complete, first, last, len(missed)))
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, pages: map[string]*page{}, own: map[string]bool{}, had: map[string]int{}, profile: rapid.SampledFrom([]Profile{NG, V2}).Draw(t, "profile")}
	w.offline = w.profile != V2 && rapid.Bool().Draw(t, "offline")
	w.run = start(nil, Config{Limits: Limits{Page: rapid.IntRange(1, 6).Draw(t, "page")}}, NewMemory())
	w.run.t = fatal{t: t}
	return w
}

// expected is what a conversation must show: the archive, with what was said
// about its messages worked in, in the archive's order.
func (w *world) expected(with jid.JID) string {
	var list []string
	for i, m := range w.archive {
		if m.with != with || m.ref >= 0 {
			continue
		}
		text, gone := m.text, false
		reactions := ""
		for _, r := range w.archive {
			if r.ref != i {
				continue
			}
			switch r.how {
			case "correct":
				text = r.body
			case "retract":
				gone = true
			case "react":
				reactions = "+" + r.body
			}
		}
		if gone {
			text, reactions = "-", ""
		}
		list = append(list, text+reactions)
	}
	return strings.Join(list, " ")
}

func (w *world) shownAs(with jid.JID) string {
	v, _ := w.e.Conversation(with, 0)
	var list []string
	for _, en := range v.Entries {
		if en.Delivery == Failed {
			continue // the person knows
		}
		text := en.Body
		if en.Retracted {
			text = "-"
		}
		for _, r := range en.Reactions {
			text += "+" + strings.Join(r.Emoji, "")
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

// TestHistoryIsTheArchive: whatever comes live, by catch-up or by paging, in
// whatever interleaving, with failed queries, lost connections and restarts, in
// the end the history is the archive: its order, each message once, nothing
// missing, and no own message is lost or said twice.
func TestHistoryIsTheArchive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"bob", "bob", "carol", "desk", "about", "say", "deliver", "deliver", "deliver",
			"answer", "answer", "answer", "fail", "refuse", "page", "kept", "cut", "resume", "missed", "tick", "connect", "connect", "restart"}), 60, 120).Draw(t, "steps")
		for _, s := range steps {
			w.now = w.now.Add(time.Second)
			w.step(s)
		}
		w.cut() // what was sent into the void is noticed
		w.connect()
		carol := jid.MustParse("carol@wonder.example")
		w.event(Page{Conversation: carol}) // they may be known to nobody but the archive
		w.event(Page{Conversation: bob})
		for n := 0; ; n++ {
			if n > 5000 {
				t.Fatal("never comes to rest")
			}
			switch {
			case len(w.queries) > 0:
				w.answerSome()
			case len(w.queue) > 0:
				w.step("deliver")
			default:
				if !w.pageBack(bob) && !w.pageBack(carol) {
					if w.pendingNow() == 0 {
						w.compare(bob)
						w.compare(carol)
						return
					}
					w.cut()
					w.connect()
				}
			}
		}
	})
}

// pageBack asks for what is missing, and reports whether anything was.
func (w *world) pageBack(j jid.JID) bool {
	v, ok := w.e.Conversation(j, 0)
	if !ok {
		return false
	}
	for _, en := range v.Entries {
		if en.Gap {
			w.event(Page{Conversation: j, Before: en.ID})
			return true
		}
	}
	if v.GapAtEnd {
		w.event(Page{Conversation: j, Newest: true})
		return true
	}
	if v.More {
		w.event(Page{Conversation: j})
		return true
	}
	return false
}

func (w *world) pendingNow() int {
	n := 0
	for _, c := range w.e.convs {
		for _, it := range c.pending {
			if it.Delivery != Failed {
				n++
			}
		}
	}
	return n
}

func (w *world) compare(j jid.JID) {
	if got, want := w.shownAs(j), w.expected(j); got != want {
		w.t.Fatalf("with %v:\nshown   %s\narchive %s", j, got, want)
	}
	if j != bob {
		return
	}
	failed := map[string]bool{}
	for _, it := range w.e.convs[bob].pending {
		failed[it.Body] = it.Delivery == Failed
	}
	for _, body := range w.typed {
		n := 0
		for _, m := range w.archive {
			if m.body == body {
				n++
			}
		}
		if n != 1 && !(n == 0 && failed[body]) {
			w.t.Fatalf("%s is in the archive %d times", body, n)
		}
	}
}
