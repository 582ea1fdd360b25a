package convo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/xep"
	"pgregory.net/rapid"
)

// hallWorld is a room with its archive, whose order is the truth, and one device whose
// engine is under test. All that the room says in a session comes in one order.
type hallWorld struct {
	*run
	t       *rapid.T
	archive []inHall
	stream  []any   // what is on its way to the device: xml, Room or QueryDone
	queries []Query // not answered yet
	online  bool
	here    bool   // the room has let the device in
	nick    string // under which it did last
	serial  int
}

// inHall is what the archive has of a message.
type inHall struct{ id, nick, body, extra string }

func (m inHall) xml(place string) string {
	id := m.nick
	if strings.HasPrefix(m.nick, "al") {
		id = "al"
	}
	return strings.Replace(said(m.nick, m.body, place, m.extra), "'o-"+m.nick+"'", "'o-"+id+"'", 1)
}

// event applies one and takes what the engine asks and sends.
func (w *hallWorld) event(ev Event) {
	asked, sent, loads := len(w.asked), len(w.sent), len(w.load)
	w.do(ev)
	for _, q := range w.asked[asked:] {
		if q.By == hall {
			w.queries = append(w.queries, q)
		} else {
			w.event(QueryDone{Query: q.ID, Complete: true})
		}
	}
	for _, l := range w.load[loads:] {
		entries, more, _ := w.store.History(l.Conversation, l.Before, l.Max)
		w.event(HistoryLoaded{l.Conversation, entries, more})
	}
	for _, st := range w.sent[sent:] {
		if !w.here {
			w.t.Fatalf("sent to a room that the device isn't in: %s", st.AppendTo(nil))
		}
		if w.online && rapid.IntRange(0, 4).Draw(w.t, "lost") > 0 {
			w.keep(inHall{nick: w.nick, body: st.Child(stanza.NSClient, "body").Text(), extra: "<origin-id xmlns='urn:xmpp:sid:0' id='" + xep.OriginID(st) + "'/>"})
		}
	}
}

// keep archives a message and tells it to the device, if it is there.
func (w *hallWorld) keep(m inHall) {
	m.id = fmt.Sprintf("s-%x", (len(w.archive)*7919)%10007) // no order
	w.archive = append(w.archive, m)
	if w.here {
		w.stream = append(w.stream, m.xml(m.id))
	}
}

func (w *hallWorld) find(id string) int {
	return slices.IndexFunc(w.archive, func(m inHall) bool { return m.id == id })
}

// tell puts a part of the archive on its way.
func (w *hallWorld) tell(queryID string, page []inHall) (first, last string) {
	for i, m := range page {
		if w.stream = append(w.stream, kept(queryID, m.id, m.xml(""))); i == 0 {
			first = m.id
		}
		last = m.id
	}
	return first, last
}

// answer answers a query with a page as the archive is now, or not at all.
func (w *hallWorld) answer(q Query, fail bool) {
	if fail {
		w.stream = append(w.stream, QueryDone{Query: q.ID, Failed: true})
		return
	}
	part := w.archive
	if q.Before != "" {
		part = part[:w.find(q.Before)]
	}
	if q.After != "" {
		part = part[w.find(q.After)+1:]
	}
	page := part[:min(q.Max, len(part))]
	if q.Last {
		page = part[max(0, len(part)-q.Max):]
	}
	first, last := w.tell(q.ID, page)
	w.stream = append(w.stream, QueryDone{Query: q.ID, First: first, Last: last, Complete: len(page) == len(part)})
}

// enter lets the device in, by the session request or by presence.
func (w *hallWorld) enter(streamed bool) {
	w.here, w.nick = true, rapid.SampledFrom([]string{"al", "al2"}).Draw(w.t, "nick")
	w.stream = append(w.stream, Room{JID: hall, Nick: w.nick, Joined: true, Streamed: streamed, RoomFacts: facts})
	if !streamed {
		return
	}
	sync := w.e.RoomSync(hall)
	part := w.archive[w.find(sync.After)+1:]
	if sync.After == "" {
		part = w.archive
	}
	page := part[max(0, len(part)-sync.Max):]
	if rapid.IntRange(0, 4).Draw(w.t, "bound") == 0 { // a room of another server's bound
		page = page[len(page)/2:]
	}
	first, last := w.tell(xep.SyncQueryID, page)
	w.stream = append(w.stream, fmt.Sprintf("<message from='hall@rooms.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' room='hall@rooms.example' complete='%t' first='%s' last='%s' count='%d'/></message>",
		len(page) == len(part), first, last, len(page)))
}

func (w *hallWorld) deliver(n int) {
	for ; n > 0 && len(w.stream) > 0; n-- {
		next := w.stream[0]
		w.stream = w.stream[1:]
		switch next := next.(type) {
		case string:
			w.event(Received{parse(w.t, next)})
		case Event:
			w.event(next)
		}
	}
}

func (w *hallWorld) cut() {
	w.online, w.here, w.stream, w.queries = false, false, nil, nil
	w.event(Disconnected{})
}

func (w *hallWorld) connect(streamed bool) {
	w.online = true
	w.event(Connected{JID: phone, Profile: NG, Facts: all})
	w.enter(streamed)
}

// settle delivers and answers until nothing is on its way.
func (w *hallWorld) settle() {
	for range 10_000 {
		switch {
		case len(w.stream) > 0:
			w.deliver(len(w.stream))
		case len(w.queries) > 0:
			q := w.queries[0]
			w.queries = w.queries[1:]
			w.answer(q, false)
		case w.view(hall).CatchingUp:
			w.wait(longerRest)
			w.event(Tick{})
		default:
			return
		}
	}
	w.t.Fatal("it doesn't come to an end")
}

// TestRoomHistoryIsTheArchive: whatever comes when, and whatever is lost, in the end a room's history is its archive: all of it, in its order, once.
func TestRoomHistoryIsTheArchive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{Limits: Limits{Page: rapid.IntRange(2, 6).Draw(rt, "page")}}
		r := start(t, cfg, NewMemory())
		w := &hallWorld{run: r, t: rt}
		w.connect(false)
		w.deliver(1) // it is known to be a room
		rt.Repeat(map[string]func(*rapid.T){
			"say": func(*rapid.T) {
				for range rapid.IntRange(1, 4).Draw(rt, "n") {
					w.serial++
					w.keep(inHall{nick: rapid.SampledFrom([]string{"bo", "cy"}).Draw(rt, "who"), body: fmt.Sprint("w", w.serial)})
				}
			},
			"write":   func(*rapid.T) { w.serial++; w.event(SendText{Conversation: hall, Body: fmt.Sprint("o", w.serial)}) },
			"deliver": func(*rapid.T) { w.deliver(rapid.IntRange(1, 6).Draw(rt, "n")) },
			"answer": func(*rapid.T) {
				if len(w.queries) > 0 {
					q := w.queries[0]
					w.queries = w.queries[1:]
					w.answer(q, rapid.IntRange(0, 5).Draw(rt, "fail") == 0)
				}
			},
			"refuse": func(*rapid.T) { // for as long as the device asks
				for w.here && w.e.convs[hall].sync != nil && !w.e.convs[hall].sync.streamed {
					w.deliver(len(w.stream))
					for _, q := range w.queries {
						w.answer(q, true)
					}
					w.queries = nil
					w.deliver(len(w.stream))
					w.wait(longerRest)
					w.event(Tick{})
				}
			},
			"wait": func(*rapid.T) {
				w.wait(time.Duration(rapid.IntRange(1, 200).Draw(rt, "s")) * time.Second)
				w.event(Tick{})
			},
			"page": func(*rapid.T) {
				if v, _ := w.e.Conversation(hall, 0); len(v.Entries) > 0 {
					w.event(Page{Conversation: hall, Before: rapid.SampledFrom(v.Entries).Draw(rt, "entry").ID, Newest: rapid.Bool().Draw(rt, "newest")})
				}
			},
			"cut": func(*rapid.T) {
				if w.online {
					w.cut()
				}
			},
			"connect": func(*rapid.T) {
				if !w.online {
					w.connect(rapid.Bool().Draw(rt, "streamed"))
				}
			},
			"put out": func(*rapid.T) {
				if w.here {
					w.settle()
					w.here = false
					w.event(Room{JID: hall, Nick: w.nick, Joined: true, Away: true, RoomFacts: facts})
					w.enter(false)
				}
			},
			"restart": func(*rapid.T) {
				ids := w.ids
				w.cut()
				r := start(t, cfg, w.store)
				r.now, r.ids = w.now, ids
				w.run = r
			},
			"": func(*rapid.T) { holds(t, w.e) },
		})
		if !w.online {
			w.connect(rapid.Bool().Draw(rt, "streamed"))
		}
		w.settle()
		for range 1000 { // and a person who wants to see all
			v := w.view(hall)
			gap := slices.IndexFunc(v.Entries, func(e Entry) bool { return e.Gap })
			switch {
			case v.GapAtEnd:
				w.event(Page{Conversation: hall, Newest: true})
			case gap >= 0:
				w.event(Page{Conversation: hall, Before: v.Entries[gap].ID})
			case v.More:
				w.event(Page{Conversation: hall})
			}
			if len(w.queries) == 0 && gap <= 0 && !v.GapAtEnd && !v.More {
				break
			}
			w.settle()
		}
		var want, got []string
		for _, m := range w.archive {
			want = append(want, m.body)
		}
		v := w.view(hall)
		for _, en := range v.Entries {
			if en.Own && en.Delivery != Archived {
				continue // lost, and the person's to decide
			}
			if got = append(got, en.Body); en.Own != strings.HasPrefix(en.Body, "o") {
				rt.Errorf("%s is said to be own: %t", en.Body, en.Own)
			}
		}
		if !slices.Equal(got, want) {
			rt.Errorf("shown   %v\narchive %v", got, want)
		}
	})
}
